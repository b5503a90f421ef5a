// Who reaches whom. What must not arrive is always sent beside something that must, so that a test
// cannot pass because nothing works.
#include <sys/socket.h>

#include <fstream>

#include "adapters/network/address.h"
#include "adapters/network/rules.h"
#include "adapters/process/child.h"
#include "tests/adapters/network/world.h"

namespace chalk::network {
namespace {

using namespace world;

void send_datagram(const Descriptor& from, const std::string& address, std::uint16_t port,
                   const std::string& text) {
  const auto to = socket_address(parse_address(address).value(), port);
  (void)::sendto(from.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                 sizeof to);
}

bool run_rules(const std::string& commands) {
  process::Spawn spawn;
  spawn.argv = {"nft", "-f", "-"};
  spawn.env = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin"};
  const auto said = process::run(spawn, kLong, commands);
  return said && said->status.exit_code == 0 && said->status.signal == 0;
}

class Isolation : public InWorld {
 protected:
  void SetUp() override {
    InWorld::SetUp();
    if (IsSkipped()) return;
    network = open(options());
    one = network->acquire("one").value();
    two = network->acquire("two").value();
  }
  void TearDown() override {
    if (!network) return;
    const auto removed = network->remove();
    EXPECT_TRUE(removed) << removed.error().message;
  }
  std::unique_ptr<Network> network;
  Endpoint one;
  Endpoint two;
};

TEST_F(Isolation, SandboxReachesTheInternetBehindTheAddressOfTheHost) {
  const auto server = listen_in(kInternet, kInternetAddress, 8080);
  const auto client = connect_in(one.namespace_path, kInternetAddress, 8080, kLong);
  ASSERT_TRUE(client);
  std::string seen;
  const auto accepted = accept(server, kLong, &seen);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(seen, kHostAddress);
  ASSERT_TRUE(send_all(client, "question"));
  EXPECT_EQ(receive(accepted, 8), "question");
  ASSERT_TRUE(send_all(accepted, "answer"));
  EXPECT_EQ(receive(client, 6), "answer");
}

TEST_F(Isolation, TwoSandboxesCannotReachEachOther) {
  const auto server = listen_in(two.namespace_path, "0.0.0.0", 8080);
  EXPECT_FALSE(connect_in(one.namespace_path, two.address, 8080, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
  const auto from_host = network->connect("two", 8080, kLong);
  ASSERT_TRUE(from_host) << from_host.error().message;
  const Descriptor client(*from_host);
  EXPECT_TRUE(accept(server, kLong));
}

TEST_F(Isolation, SandboxReachesNoAddressOfTheHost) {
  const auto server = listen_in(kHost, "0.0.0.0", 8080);
  for (const std::string address :
       {"127.0.0.1", kHostAddress, kOtherHostAddress, one.gateway.c_str()}) {
    SCOPED_TRACE(address);
    EXPECT_FALSE(connect_in(one.namespace_path, address, 8080, kShort));
    EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
    const auto client = connect_in(kHost, address, 8080, kLong);
    EXPECT_TRUE(client);
    EXPECT_TRUE(accept(server, kLong));
  }
}

TEST_F(Isolation, SpoofedSourceIsDropped) {
  const auto server = datagram_in(kInternet, kInternetAddress, 9000);
  for (const std::string source : {"10.66.6.6", two.address.c_str(), kHostAddress}) {
    SCOPED_TRACE(source);
    add_address_in(one.namespace_path, "eth0", source, 32);
    const auto spoofing = datagram_in(one.namespace_path, source, 9001);
    send_datagram(spoofing, kInternetAddress, 9000, "spoofed");
    const auto honest = datagram_in(one.namespace_path, one.address, 9002);
    send_datagram(honest, kInternetAddress, 9000, "honest!");
    EXPECT_EQ(receive(server, 7), "honest!");
  }
  EXPECT_EQ(receive(server, 7, kShort), "");
}

TEST_F(Isolation, MetadataOfCloudsIsNotReached) {
  const auto server = listen_in(kInternet, "0.0.0.0", 8080);
  for (const char* address : kMetadataAddresses) {
    SCOPED_TRACE(address);
    EXPECT_FALSE(connect_in(one.namespace_path, address, 8080, kShort));
    EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
    EXPECT_TRUE(connect_in(kHost, address, 8080, kLong));
    EXPECT_TRUE(accept(server, kLong));
  }
}

TEST_F(Isolation, InternetCannotReachASandbox) {
  add_route_in(kInternet, "10.200.0.0/16", kHostAddress);
  const auto server = listen_in(one.namespace_path, "0.0.0.0", 8080);
  EXPECT_FALSE(connect_in(kInternet, one.address, 8080, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
  EXPECT_FALSE(connect_in(kInternet, one.gateway, 53, kShort));
  EXPECT_TRUE(connect_in(kHost, one.address, 8080, kLong));
}

TEST_F(Isolation, UnusedAddressesOfThePoolDoNotLeaveTheHost) {
  const auto server = listen_in(kInternet, "0.0.0.0", 8080);
  add_address_in(kInternet, "lo", "10.200.77.77", 32);
  EXPECT_FALSE(connect_in(one.namespace_path, "10.200.77.77", 8080, kShort));
  EXPECT_FALSE(connect_in(kHost, "10.200.77.77", 8080, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
}

TEST_F(Isolation, SixthVersionIsOffInside) {
  for (const char* link : {"all", "default", "eth0", "lo"}) {
    const auto path = std::string("/proc/sys/net/ipv6/conf/") + link + "/disable_ipv6";
    int off = -1;
    bool known = false;
    inside(one.namespace_path, [&] {
      std::ifstream file(path);
      known = file.is_open();
      file >> off;
    });
    EXPECT_TRUE(!known || off == 1) << link;
  }
}

// Another node of the same host, its addresses, its published ports and its sandboxes.
TEST_F(Isolation, SandboxReachesNothingOfAnotherNode) {
  auto given = options("u");
  given.pool = "10.201.0.0/16";
  given.listen = "0.0.0.0";
  const auto second = open(given);
  const auto other = second->acquire("one").value();
  const auto server = listen_in(other.namespace_path, "0.0.0.0", 8080);
  const auto published = second->publish("one", 8080);
  ASSERT_TRUE(published) << published.error().message;
  const auto refused = [&] {
    for (const auto& gateway : {one.gateway, other.gateway, std::string(kHostAddress)}) {
      EXPECT_FALSE(connect_in(one.namespace_path, gateway, *published, kShort)) << gateway;
    }
    EXPECT_FALSE(connect_in(one.namespace_path, other.address, 8080, kShort));
    EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
    EXPECT_TRUE(connect_in(kHost, other.gateway, *published, kLong));
    EXPECT_TRUE(accept(server, kLong));
  };
  refused();
  // Nor is it the other node alone that keeps them apart.
  ASSERT_TRUE(remove_rules("u"));
  refused();
  EXPECT_TRUE(second->remove());
}

// The host may publish containers of others by rewriting addresses before the input is looked at.
TEST_F(Isolation, SandboxReachesNothingThatTheHostForwardsToElsewhere) {
  ASSERT_TRUE(run_rules("table ip elsewhere {\n chain arriving {\n"
                        "type nat hook prerouting priority dstnat\n"
                        "fib daddr type local tcp dport 8090 dnat to " +
                        std::string(kInternetAddress) +
                        ":8080\n}\nchain leaving {\ntype nat hook postrouting priority srcnat\n"
                        "tcp dport 8080 masquerade\n}\n}\n"));
  const auto server = listen_in(kInternet, kInternetAddress, 8080);
  for (const std::string address : {kHostAddress, kOtherHostAddress, one.gateway.c_str()}) {
    EXPECT_FALSE(connect_in(one.namespace_path, address, 8090, kShort)) << address;
  }
  EXPECT_TRUE(connect_in(kInternet, kHostAddress, 8090, kLong));
  EXPECT_TRUE(run_rules("delete table ip elsewhere"));
}

TEST_F(InWorld, BlockedRangesAreNotReached) {
  auto given = options();
  given.blocked = {"10.77.0.0/24", "10.0.0.0/9"};
  const auto network = open(given);
  const auto one = network->acquire("one").value();
  const auto server = listen_in(kInternet, "0.0.0.0", 8080);
  EXPECT_FALSE(connect_in(one.namespace_path, kInternetAddress, 8080, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
  EXPECT_TRUE(connect_in(one.namespace_path, kInternetNeighbour, 8080, kLong));
  EXPECT_TRUE(network->remove());
}

TEST_F(InWorld, ABlockedAddressIsNotReachedWhereTheHostGivesItAnother) {
  auto given = options();
  given.blocked = {"10.96.0.0/12"};
  const auto network = open(given);
  const auto one = network->acquire("one").value();
  // As kube-proxy does for the address of a service.
  const std::string services =
      "table ip services {\n chain arriving {\n type nat hook prerouting priority dstnat\n"
      "ip daddr { 10.96.0.1, 10.176.0.1 } tcp dport 80 dnat to " +
      std::string(kInternetAddress) + ":8080\n}\n}\n";
  ASSERT_TRUE(run_rules(services));
  const auto server = listen_in(kInternet, kInternetAddress, 8080);
  EXPECT_FALSE(connect_in(one.namespace_path, "10.96.0.1", 80, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
  EXPECT_TRUE(connect_in(one.namespace_path, "10.176.0.1", 80, kLong));
  EXPECT_TRUE(connect_in(one.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(run_rules("delete table ip services"));
  EXPECT_TRUE(network->remove());
}

TEST_F(InWorld, WhereAllIsBlockedNothingElsewhereIsReached) {
  auto given = options();
  given.blocked = {"0.0.0.0/0"};
  const auto network = open(given);
  const auto one = network->acquire("one").value();
  const auto server = listen_in(kInternet, "0.0.0.0", 8080);
  EXPECT_FALSE(connect_in(one.namespace_path, kInternetAddress, 8080, kShort));
  EXPECT_FALSE(connect_in(one.namespace_path, kInternetNeighbour, 8080, kShort));
  EXPECT_FALSE(accept(server, std::chrono::milliseconds(0)));
  EXPECT_TRUE(connect_in(kHost, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(network->remove());
}

TEST_F(InWorld, FlowsOfOneSandboxHaveALimitAndThoseOfAnotherTheirOwn) {
  auto given = options();
  given.flows_max = 8;
  const auto network = open(given);
  const auto one = network->acquire("one").value();
  const auto two = network->acquire("two").value();
  const auto server = listen_in(kInternet, kInternetAddress, 8080);
  std::vector<Descriptor> kept;
  for (int i = 0; i < 8; ++i) {
    kept.push_back(connect_in(one.namespace_path, kInternetAddress, 8080, kLong));
    ASSERT_TRUE(kept.back()) << i;
  }
  EXPECT_FALSE(connect_in(one.namespace_path, kInternetAddress, 8080, kShort));
  EXPECT_TRUE(connect_in(two.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(network->remove());
}

TEST_F(InWorld, WithAnUplinkSandboxesLeaveByThatLinkOnly) {
  auto given = options();
  given.uplink = "other0";  // leads nowhere
  const auto network = open(given);
  const auto one = network->acquire("one").value();
  const auto server = listen_in(kInternet, "0.0.0.0", 8080);
  EXPECT_FALSE(connect_in(one.namespace_path, kInternetAddress, 8080, kShort));
  EXPECT_TRUE(connect_in(kHost, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(network->remove());
}

}  // namespace
}  // namespace chalk::network
