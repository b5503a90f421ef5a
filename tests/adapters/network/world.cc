#include "tests/adapters/network/world.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <thread>

#include "adapters/network/address.h"
#include "adapters/network/links.h"
#include "adapters/network/namespaces.h"
#include "adapters/process/child.h"
#include "tests/support/machine.h"

namespace chalk::network::world {
namespace {

std::string why_missing;
std::string what_broke = "the world was not made";

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

Address address_of(const std::string& text) { return parse_address(text).value(); }

void make_host() {
  auto netlink = must(Netlink::open());
  must(set_up(netlink, kLoopbackIndex));
  must(prepare_namespaces("/run/netns"));
  auto internet = must(make_namespace(kInternet));
  must(make_pair(netlink, "up0", "eth0", internet.descriptor.get(),
                 hardware_address(address_of(kInternetNeighbour)), 1500));
  const int up = must(link_index("up0"));
  must(add_address(netlink, up, address_of(kHostAddress), address_of(kHostAddress), 24));
  must(set_up(netlink, up));
  must(add_address(internet.netlink, kPeerIndex, address_of(kInternetNeighbour),
                   address_of(kInternetNeighbour), 24));
  std::vector<std::string> far{kInternetAddress};
  far.insert(far.end(), std::begin(kMetadataAddresses), std::end(kMetadataAddresses));
  for (const std::string& address : far) {
    must(add_address(internet.netlink, kLoopbackIndex, address_of(address), address_of(address),
                     32));
  }
  must(set_up(internet.netlink, kLoopbackIndex));
  must(set_up(internet.netlink, kPeerIndex));
  must(add_default_route(netlink, up, address_of(kInternetNeighbour)));
  must(make_bridge(netlink, "other0"));
  const int other = must(link_index("other0"));
  must(add_address(netlink, other, address_of(kOtherHostAddress), address_of(kOtherHostAddress),
                   24));
  must(set_up(netlink, other));
}

class World : public testing::Environment {
  void SetUp() override {
    why_missing = test::no_networks();
    if (!why_missing.empty()) return;
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", "/run", "tmpfs", 0, "mode=755") != 0) {
      what_broke = std::string("namespaces of its own: ") + std::strerror(errno);
      return;
    }
    try {
      make_host();
      what_broke.clear();
    } catch (const std::exception& error) {
      what_broke = std::string("the world cannot be made: ") + error.what();
    }
  }
};

const auto* const kWorld = testing::AddGlobalTestEnvironment(new World);

bool wait_for(int socket, short events, std::chrono::milliseconds timeout) {
  pollfd waiting{socket, events, 0};
  return ::poll(&waiting, 1, static_cast<int>(timeout.count())) == 1;
}

Descriptor bound_in(const std::string& space, int type, const std::string& address,
                    std::uint16_t port) {
  Descriptor socket;
  inside(space, [&] { socket = Descriptor(::socket(AF_INET, type | SOCK_CLOEXEC, 0)); });
  const int on = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto local = socket_address(address_of(address), port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    throw std::runtime_error("bind " + address + ":" + std::to_string(port) + ": " +
                             std::strerror(errno));
  }
  return socket;
}

}  // namespace

const std::string& missing() { return why_missing; }
const std::string& broken() { return what_broke; }

Options options(const std::string& name) {
  Options result;
  result.name = name;
  result.spare = 1;
  result.dns = {std::string(kInternetAddress)};
  return result;
}

std::unique_ptr<Network> open(const Options& options) { return must(Network::open(options)); }

void inside(const std::string& space, const std::function<void()>& body) {
  std::string error;
  std::thread([&] {
    // The main thread never leaves the host, so that its way there is always open.
    const Descriptor target(::open(space.c_str(), O_RDONLY | O_CLOEXEC));
    if (!target || ::setns(target.get(), CLONE_NEWNET) != 0) {
      error = "enter " + space + ": " + std::strerror(errno);
      return;
    }
    body();
  }).join();
  if (!error.empty()) throw std::runtime_error(error);
}

Descriptor listen_in(const std::string& space, const std::string& address, std::uint16_t port) {
  auto socket = bound_in(space, SOCK_STREAM, address, port);
  if (::listen(socket.get(), 64) != 0) throw std::runtime_error(std::strerror(errno));
  return socket;
}

Descriptor datagram_in(const std::string& space, const std::string& address, std::uint16_t port) {
  return bound_in(space, SOCK_DGRAM, address, port);
}

Descriptor connect_in(const std::string& space, const std::string& address, std::uint16_t port,
                      std::chrono::milliseconds timeout, int* error) {
  Descriptor socket;
  inside(space, [&] {
    socket = Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  });
  const auto target = socket_address(address_of(address), port);
  int found = 0;
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0) {
    found = errno;
  }
  if (found == EINPROGRESS) {
    socklen_t size = sizeof found;
    if (!wait_for(socket.get(), POLLOUT, timeout)) {
      found = ETIMEDOUT;
    } else {
      found = 0;
      (void)::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &found, &size);
    }
  }
  if (error) *error = found;
  if (found != 0) return {};
  (void)::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
  return socket;
}

Descriptor accept(const Descriptor& listener, std::chrono::milliseconds timeout,
                  std::string* peer) {
  if (!wait_for(listener.get(), POLLIN, timeout)) return {};
  sockaddr_in from{};
  socklen_t size = sizeof from;
  Descriptor socket(
      ::accept4(listener.get(), reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC));
  if (peer) *peer = text_of(ntohl(from.sin_addr.s_addr));
  return socket;
}

bool send_all(const Descriptor& socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

std::string receive(const Descriptor& socket, std::size_t size, std::chrono::milliseconds timeout) {
  std::string bytes(size, '\0');
  std::size_t got = 0;
  while (got < size && wait_for(socket.get(), POLLIN, timeout)) {
    const auto count = ::recv(socket.get(), bytes.data() + got, size - got, 0);
    if (count <= 0) break;
    got += static_cast<std::size_t>(count);
  }
  bytes.resize(got);
  return bytes;
}

std::string receive_all(const Descriptor& socket) {
  std::string all;
  for (;;) {
    auto some = receive(socket, 1 << 20);
    if (some.empty()) return all;
    all += some;
    if (some.size() < 1 << 20) return all;
  }
}

void add_address_in(const std::string& space, const std::string& link, const std::string& address,
                    int bits) {
  inside(space, [&] {
    auto netlink = must(Netlink::open());
    must(add_address(netlink, must(link_index(link)), address_of(address), address_of(address),
                     bits));
  });
}

void add_route_in(const std::string& space, const std::string& range, const std::string& gateway) {
  inside(space, [&] {
    auto netlink = must(Netlink::open());
    const auto to = must(parse_range(range));
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_dst_len = static_cast<unsigned char>(to.bits);
    header.rtm_table = RT_TABLE_MAIN;
    header.rtm_protocol = RTPROT_STATIC;
    header.rtm_type = RTN_UNICAST;
    Request request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header);
    request.put_address(RTA_DST, to.first);
    request.put_address(RTA_GATEWAY, address_of(gateway));
    must(netlink.ask(request, "add route " + range));
  });
}

std::size_t count_links() {
  auto netlink = must(Netlink::open());
  return must(list_links(netlink)).size();
}

std::size_t count_namespaces() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/run/netns")) {
    ++count;
  }
  return count;
}

std::string ruleset() {
  process::Spawn nft;
  nft.argv = {"nft", "list", "ruleset"};
  nft.env = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin"};
  const auto listed = must(process::run(nft, kLong));
  if (listed.status.exit_code != 0) throw std::runtime_error("nft list ruleset: " + listed.err);
  return listed.out;
}

}  // namespace chalk::network::world
