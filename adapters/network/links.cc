#include "adapters/network/links.h"

#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>

namespace chalk::network {
namespace {

constexpr std::uint8_t kRouteProtocol = 196;  // ours, so that our routes are known by it
constexpr std::uint32_t kUnreachableMetric = 1'000'000;

ifinfomsg link_header(int index = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  return header;
}

rtmsg route_header(const Range& to) {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_dst_len = static_cast<unsigned char>(to.bits);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = kRouteProtocol;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  return header;
}

template <class Header>
const Header& header_of(const nlmsghdr& message) {
  return *static_cast<const Header*>(NLMSG_DATA(&message));
}

template <class Header>
Attributes attributes_of(const nlmsghdr& message) {
  const std::size_t offset = NLMSG_SPACE(sizeof(Header));
  const auto* bytes = reinterpret_cast<const char*>(&message);
  if (message.nlmsg_len < offset) return {bytes, 0};
  return {bytes + offset, message.nlmsg_len - offset};
}

Request unreachable(std::uint16_t type, unsigned flags, const Range& range) {
  auto header = route_header(range);
  header.rtm_type = RTN_UNREACHABLE;
  Request request(type, flags, header);
  request.put_address(RTA_DST, range.first);
  request.put_number(RTA_PRIORITY, kUnreachableMetric);
  return request;
}

}  // namespace

HardwareAddress hardware_address(Address address) {
  const auto byte = [&](int shift) { return static_cast<unsigned char>(address >> shift & 255); };
  return {0x02, 0xc4, byte(24), byte(16), byte(8), byte(0)};  // 02: not given by a manufacturer
}

Result<std::vector<Link>> list_links(Netlink& netlink) {
  std::vector<Link> links;
  Request request(RTM_GETLINK, NLM_F_DUMP, link_header());
  const auto done = netlink.dump(
      request, "list links", [&] { links.clear(); },
      [&](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWLINK) return;
        const auto attributes = attributes_of<ifinfomsg>(message);
        Link link{header_of<ifinfomsg>(message).ifi_index,
                  std::string(attributes.text(IFLA_IFNAME)), 0};
        attributes.number(IFLA_MTU, link.mtu);
        links.push_back(std::move(link));
      });
  if (!done) return std::unexpected(done.error());
  return links;
}

Result<std::vector<LinkAddress>> list_addresses(Netlink& netlink) {
  std::vector<LinkAddress> addresses;
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  Request request(RTM_GETADDR, NLM_F_DUMP, header);
  const auto done = netlink.dump(
      request, "list addresses", [&] { addresses.clear(); },
      [&](const nlmsghdr& message) {
        const auto& found = header_of<ifaddrmsg>(message);
        if (message.nlmsg_type != RTM_NEWADDR || found.ifa_family != AF_INET) return;
        const auto attributes = attributes_of<ifaddrmsg>(message);
        LinkAddress address;
        address.link = static_cast<int>(found.ifa_index);
        address.peer.bits = found.ifa_prefixlen > 32 ? 32 : found.ifa_prefixlen;
        attributes.address(IFA_LOCAL, address.local);
        attributes.address(IFA_ADDRESS, address.peer.first);
        address.peer.first &= address.peer.mask();
        addresses.push_back(address);
      });
  if (!done) return std::unexpected(done.error());
  return addresses;
}

Result<std::vector<Route>> list_routes(Netlink& netlink) {
  std::vector<Route> routes;
  rtmsg header{};
  header.rtm_family = AF_INET;
  Request request(RTM_GETROUTE, NLM_F_DUMP, header);
  const auto done = netlink.dump(
      request, "list routes", [&] { routes.clear(); },
      [&](const nlmsghdr& message) {
        const auto& found = header_of<rtmsg>(message);
        if (message.nlmsg_type != RTM_NEWROUTE || found.rtm_family != AF_INET) return;
        const auto attributes = attributes_of<rtmsg>(message);
        Route route;
        route.to.bits = found.rtm_dst_len > 32 ? 32 : found.rtm_dst_len;
        attributes.address(RTA_DST, route.to.first);
        std::uint32_t link = 0;
        if (attributes.number(RTA_OIF, link)) route.link = static_cast<int>(link);
        route.protocol = found.rtm_protocol;
        route.type = found.rtm_type;
        routes.push_back(route);
      });
  if (!done) return std::unexpected(done.error());
  return routes;
}

Result<void> make_pair(Netlink& netlink, const std::string& name, const std::string& peer,
                       int peer_namespace, const HardwareAddress& peer_hardware, std::uint32_t mtu,
                       std::uint32_t group) {
  Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, link_header());
  request.put_text(IFLA_IFNAME, name);
  request.put_number(IFLA_MTU, mtu);
  request.put_number(IFLA_GROUP, group);
  const auto information = request.open(IFLA_LINKINFO);
  request.put_text(IFLA_INFO_KIND, "veth");
  const auto data = request.open(IFLA_INFO_DATA);
  const auto other = request.open(VETH_INFO_PEER);
  request.append_struct(link_header(kPeerIndex));
  request.put_text(IFLA_IFNAME, peer);
  request.put_number(IFLA_MTU, mtu);
  request.put(IFLA_ADDRESS, peer_hardware.data(), peer_hardware.size());
  request.put_number(IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer_namespace));
  request.close(other);
  request.close(data);
  request.close(information);
  return netlink.ask(request, "make link " + name);
}

Result<void> make_bridge(Netlink& netlink, const std::string& name) {
  Request request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE, link_header());
  request.put_text(IFLA_IFNAME, name);
  const auto information = request.open(IFLA_LINKINFO);
  request.put_text(IFLA_INFO_KIND, "bridge");
  request.close(information);
  return netlink.ask(request, "make link " + name);
}

Result<int> link_index(const std::string& name) {
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) return fail(Error::Kind::not_found, "link " + name + ": not there");
  return static_cast<int>(index);
}

Result<void> set_up(Netlink& netlink, int index) {
  auto header = link_header(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, NLM_F_ACK, header);
  return netlink.ask(request, "set link " + std::to_string(index) + " up");
}

Result<void> delete_link(Netlink& netlink, const std::string& name) {
  Request request(RTM_DELLINK, NLM_F_ACK, link_header());
  request.put_text(IFLA_IFNAME, name);
  return netlink.ask(request, "delete link " + name);
}

Result<void> add_address(Netlink& netlink, int index, Address local, Address peer,
                         int bits) {
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = static_cast<unsigned char>(bits);
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  header.ifa_index = static_cast<unsigned>(index);
  Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header);
  request.put_address(IFA_LOCAL, local);
  request.put_address(IFA_ADDRESS, peer);
  return netlink.ask(request, "add address " + text_of(local) + " to link " +
                                  std::to_string(index));
}

Result<void> add_default_route(Netlink& netlink, int index, Address gateway) {
  Request request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, route_header({0, 0}));
  request.put_address(RTA_GATEWAY, gateway);
  request.put_number(RTA_OIF, static_cast<std::uint32_t>(index));
  return netlink.ask(request, "add default route by " + text_of(gateway));
}

Result<void> add_host_route(Netlink& netlink, int index, Address to, Address source) {
  auto header = route_header({to, 32});
  header.rtm_scope = RT_SCOPE_LINK;
  Request request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header);
  request.put_address(RTA_DST, to);
  request.put_address(RTA_PREFSRC, source);
  request.put_number(RTA_OIF, static_cast<std::uint32_t>(index));
  return netlink.ask(request, "add route to " + text_of(to));
}

Result<void> add_neighbour(Netlink& netlink, int index, Address address,
                           const HardwareAddress& hardware) {
  ndmsg header{};
  header.ndm_family = AF_INET;
  header.ndm_ifindex = index;
  header.ndm_state = NUD_PERMANENT;
  Request request(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header);
  request.put_address(NDA_DST, address);
  request.put(NDA_LLADDR, hardware.data(), hardware.size());
  return netlink.ask(request, "add neighbour " + text_of(address));
}

Result<void> add_unreachable(Netlink& netlink, const Range& range) {
  auto request = unreachable(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, range);
  return netlink.ask(request, "add unreachable route " + text_of(range));
}

Result<void> delete_unreachable(Netlink& netlink, const Range& range) {
  auto request = unreachable(RTM_DELROUTE, NLM_F_ACK, range);
  return netlink.ask(request, "delete unreachable route " + text_of(range));
}

bool is_own_unreachable(const Route& route, const Range& range) {
  return route.to == range && route.protocol == kRouteProtocol && route.type == RTN_UNREACHABLE;
}

}  // namespace chalk::network
