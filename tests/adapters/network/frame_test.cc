// What a sandbox can do that writes whole frames to its link, as gVisor does: no kernel of ours
// stands between it and the host's end of the link.
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "adapters/network/address.h"
#include "tests/adapters/network/world.h"

namespace chalk::network {
namespace {

using namespace world;

constexpr unsigned char kMac[6] = {2, 0, 0, 0, 0, 9};

std::string header(std::uint16_t protocol) {
  ethhdr ethernet{};
  std::memset(ethernet.h_dest, 0xff, sizeof ethernet.h_dest);  // to whoever is at the other end
  std::memcpy(ethernet.h_source, kMac, sizeof kMac);
  ethernet.h_proto = htons(protocol);
  return {reinterpret_cast<const char*>(&ethernet), sizeof ethernet};
}

std::string datagram(const std::string& from, const std::string& to, std::uint16_t port,
                     const std::string& text) {
  iphdr ip{};
  ip.version = 4;
  ip.ihl = 5;
  ip.ttl = 64;
  ip.protocol = IPPROTO_UDP;
  ip.tot_len = htons(static_cast<std::uint16_t>(sizeof ip + sizeof(udphdr) + text.size()));
  ip.saddr = htonl(parse_address(from).value());
  ip.daddr = htonl(parse_address(to).value());
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < sizeof ip; i += 2) {
    std::uint16_t word;
    std::memcpy(&word, reinterpret_cast<const char*>(&ip) + i, 2);
    sum += word;
  }
  sum = (sum & 0xffff) + (sum >> 16);
  ip.check = static_cast<std::uint16_t>(~(sum + (sum >> 16)));
  udphdr udp{};
  udp.source = htons(7777);
  udp.dest = htons(port);
  udp.len = htons(static_cast<std::uint16_t>(sizeof udp + text.size()));
  return header(ETH_P_IP) + std::string(reinterpret_cast<const char*>(&ip), sizeof ip) +
         std::string(reinterpret_cast<const char*>(&udp), sizeof udp) + text;
}

struct Arp {
  arphdr header;
  unsigned char sender_mac[6];
  unsigned char sender[4];
  unsigned char target_mac[6];
  unsigned char target[4];
} __attribute__((packed));

std::string who_has(const std::string& target, const std::string& asker) {
  Arp arp{};
  arp.header.ar_hrd = htons(ARPHRD_ETHER);
  arp.header.ar_pro = htons(ETH_P_IP);
  arp.header.ar_hln = 6;
  arp.header.ar_pln = 4;
  arp.header.ar_op = htons(ARPOP_REQUEST);
  std::memcpy(arp.sender_mac, kMac, sizeof kMac);
  const auto from = htonl(parse_address(asker).value());
  const auto to = htonl(parse_address(target).value());
  std::memcpy(arp.sender, &from, 4);
  std::memcpy(arp.target, &to, 4);
  return header(ETH_P_ARP) + std::string(reinterpret_cast<const char*>(&arp), sizeof arp);
}

class Frames : public InWorld {
 protected:
  void SetUp() override {
    InWorld::SetUp();
    if (IsSkipped()) return;
    network = open(options());
    one = network->acquire("one").value();
    inside(one.namespace_path, [&] {
      link = Descriptor(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ARP)));
      sockaddr_ll local{};
      local.sll_family = AF_PACKET;
      local.sll_protocol = htons(ETH_P_ARP);
      local.sll_ifindex = static_cast<int>(::if_nametoindex("eth0"));
      ASSERT_EQ(::bind(link.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local), 0);
    });
  }
  void TearDown() override {
    if (!network) return;
    const auto removed = network->remove();
    EXPECT_TRUE(removed) << removed.error().message;
  }
  // True where the host says that it has the address.
  bool has(const std::string& target, const std::string& asker, std::chrono::milliseconds timeout) {
    EXPECT_TRUE(send_all(link, who_has(target, asker)));
    const auto wanted = htonl(parse_address(target).value());
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < deadline) {
      const auto frame = receive(link, sizeof(ethhdr) + sizeof(Arp), timeout);
      if (frame.size() < sizeof(ethhdr) + sizeof(Arp)) continue;
      Arp arp;
      std::memcpy(&arp, frame.data() + sizeof(ethhdr), sizeof arp);
      if (arp.header.ar_op == htons(ARPOP_REPLY) && std::memcmp(arp.sender, &wanted, 4) == 0) {
        return true;
      }
    }
    return false;
  }
  std::unique_ptr<Network> network;
  Endpoint one;
  Descriptor link;
};

TEST_F(Frames, TheHostSaysThatItHasTheGatewayAndNothingElse) {
  EXPECT_FALSE(has(kOtherHostAddress, one.address, kShort));
  EXPECT_FALSE(has(kHostAddress, one.address, kShort));
  EXPECT_TRUE(has(one.gateway, one.address, kLong));
}

TEST_F(Frames, TheHostNeverAsksWhoHasTheAddressOfASandbox) {
  // Asking would show an address of the host, and the answer would be the sandbox's word.
  const auto server = listen_in(one.namespace_path, "0.0.0.0", 8080);
  const auto connected = network->connect("one", 8080, kLong);
  ASSERT_TRUE(connected) << connected.error().message;
  const Descriptor client(*connected);
  const auto deadline = std::chrono::steady_clock::now() + kShort;
  while (std::chrono::steady_clock::now() < deadline) {
    const auto frame = receive(link, sizeof(ethhdr) + sizeof(Arp), kShort);
    if (frame.size() < sizeof(ethhdr) + sizeof(Arp)) continue;
    Arp arp;
    std::memcpy(&arp, frame.data() + sizeof(ethhdr), sizeof arp);
    const auto mine = htonl(parse_address(one.address).value());
    EXPECT_FALSE(arp.header.ar_op == htons(ARPOP_REQUEST) && std::memcmp(arp.target, &mine, 4) == 0);
  }
}

TEST_F(Frames, TheHostLearnsNoNeighbourFromAForgedQuestion) {
  EXPECT_FALSE(has(one.gateway, "10.200.9.9", kShort));
  EXPECT_FALSE(has(one.gateway, "10.1.2.3", kShort));
  EXPECT_TRUE(has(one.gateway, one.address, kLong));
}

TEST_F(Frames, LoopbackAndOtherAddressesOfTheHostGetNoDatagram) {
  const auto server = datagram_in(kHost, "0.0.0.0", 9000);
  for (const std::string to : {"127.0.0.1", kHostAddress, kOtherHostAddress, one.gateway.c_str()}) {
    ASSERT_TRUE(send_all(link, datagram(one.address, to, 9000, "for the host")));
  }
  // The same kind of frame does arrive where it may.
  const std::string query("\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", 19);
  ASSERT_TRUE(send_all(link, datagram(one.address, one.gateway, 53, query)));
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (network->statistics().dns_queries == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(network->statistics().dns_queries, 1u);
  EXPECT_EQ(receive(server, 12, kShort), "");
}

}  // namespace
}  // namespace chalk::network
