// What the node asks of links, addresses and routes, in words. All calls speak of the namespace
// that the Netlink socket was opened in.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/netlink.h"

namespace chalk::network {

struct Link {
  int index = 0;
  std::string name;
  std::uint32_t mtu = 0;
  bool operator==(const Link&) const = default;
};

struct LinkAddress {
  int link = 0;
  Address local = 0;
  Range peer;  // what is reached over the link by this address
};

struct Route {
  Range to;
  int link = 0;  // 0: none, as for an unreachable route
  std::uint8_t protocol = 0;
  std::uint8_t type = 0;
};

Result<std::vector<Link>> list_links(Netlink& netlink);
Result<std::vector<LinkAddress>> list_addresses(Netlink& netlink);
Result<std::vector<Route>> list_routes(Netlink& netlink);

// The hardware address of a sandbox's link, told by its address.
using HardwareAddress = std::array<unsigned char, 6>;
HardwareAddress hardware_address(Address address);

constexpr std::uint32_t kLinkGroup = 196;  // of the links to sandboxes, of whatever node

// A pair of links: `name` here, `peer` in the namespace of that descriptor, as its link kPeerIndex.
constexpr int kLoopbackIndex = 1;
constexpr int kPeerIndex = 2;
Result<void> make_pair(Netlink& netlink, const std::string& name, const std::string& peer,
                       int peer_namespace, const HardwareAddress& peer_hardware, std::uint32_t mtu,
                       std::uint32_t group = 0);
Result<void> make_bridge(Netlink& netlink, const std::string& name);
Result<int> link_index(const std::string& name);  // in the namespace of this thread
Result<void> set_up(Netlink& netlink, int index);
Result<void> delete_link(Netlink& netlink, const std::string& name);

// Repeated it is no error. The link leads to the range that `peer` and the mask of `bits` name;
// where there is no single peer it is `local` itself.
Result<void> add_address(Netlink& netlink, int index, Address local, Address peer, int bits);
Result<void> add_default_route(Netlink& netlink, int index, Address gateway);

// To one address over this link; what the host itself sends there comes from `source`.
Result<void> add_host_route(Netlink& netlink, int index, Address to, Address source);

// Who has this address on this link, for good: it is never asked for, so nobody can answer falsely,
// and the question shows no other address of the host.
Result<void> add_neighbour(Netlink& netlink, int index, Address address,
                           const HardwareAddress& hardware);

// What no other route takes below `range` ends here, and does not leave by the default route.
Result<void> add_unreachable(Netlink& netlink, const Range& range);
Result<void> delete_unreachable(Netlink& netlink, const Range& range);
bool is_own_unreachable(const Route& route, const Range& range);

}  // namespace chalk::network
