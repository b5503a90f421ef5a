#include "adapters/network/settings.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "adapters/network/links.h"

namespace chalk::network {
namespace {

constexpr std::size_t kBlockedMax = 1024;
constexpr int kSpareMax = 64;
constexpr std::uint32_t kMtuMin = 1280;
constexpr std::uint32_t kMtuMax = 65535;
constexpr std::uint32_t kMtuUsual = 1500;

std::unexpected<Error> wrong(const std::string& what, const std::string& found,
                             const std::string& expected) {
  return fail(Error::Kind::invalid, "network option " + what + ": found '" + found.substr(0, 64) +
                                        "', expected " + expected);
}

bool is_name(const std::string& text) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !text.empty() && text.size() <= 8 && is_letter(text[0]) &&
         std::ranges::all_of(text, [&](char c) { return is_letter(c) || is_digit(c); });
}

bool is_link_name(const std::string& text) {
  return text.size() <= 15 && std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_' || c == '@';
         });
}

Result<void> check_pool(Settings& settings) {
  const auto& text = settings.options.pool;
  const auto pool = parse_range(text);
  if (!pool) return std::unexpected(pool.error());
  if (pool->bits < 16 || pool->bits > 29) return wrong("pool", text, "a mask of /16 to /29");
  for (const Range& special : {Range{0, 8}, Range{0x7f000000, 8}, Range{0xa9fe0000, 16},
                               Range{0xe0000000, 3}}) {
    if (pool->overlaps(special)) {
      return wrong("pool", text, "no address of the reserved " + text_of(special));
    }
  }
  settings.pool = *pool;
  settings.gateway = pool->first + 1;
  return {};
}

Result<void> check_lists(Settings& settings) {
  const auto& options = settings.options;
  if (options.blocked.size() > kBlockedMax) {
    return wrong("blocked", std::to_string(options.blocked.size()), "at most 1024 ranges");
  }
  for (const auto& text : options.blocked) {
    const auto range = parse_range(text);
    if (!range) return std::unexpected(range.error());
    settings.blocked.push_back(*range);
  }
  if (options.dns.size() > Resolvers::kMax) {
    return wrong("dns", std::to_string(options.dns.size()), "at most 3 resolvers");
  }
  for (const auto& text : options.dns) {
    const auto resolver = parse_resolver(text);
    if (!resolver) return std::unexpected(resolver.error());
    if (resolver->address == settings.gateway) {
      return wrong("dns", text, "another address than the gateway, which is the forwarder itself");
    }
    settings.resolvers.push_back(*resolver);
  }
  return {};
}

std::string name_of(int index, const std::vector<Link>& links) {
  for (const auto& link : links) {
    if (link.index == index) return link.name;
  }
  return {};
}

}  // namespace

Result<Settings> check(const Options& options) {
  Settings settings;
  settings.options = options;
  if (!is_name(options.name)) {
    return wrong("name", options.name, "1 to 8 of a-z and 0-9, a letter first");
  }
  if (auto checked = check_pool(settings); !checked) return std::unexpected(checked.error());
  if (!is_link_name(options.uplink)) return wrong("uplink", options.uplink, "the name of a link");
  if (options.mtu != 0 && (options.mtu < kMtuMin || options.mtu > kMtuMax)) {
    return wrong("mtu", std::to_string(options.mtu), "0, or 1280 to 65535");
  }
  if (options.spare < 0 || options.spare > kSpareMax) {
    return wrong("spare", std::to_string(options.spare), "0 to 64");
  }
  if (options.flows_max == 0) return wrong("flows_max", "0", "at least 1");
  const auto listen = parse_address(options.listen);
  if (!listen) return wrong("listen", options.listen, "an IPv4 address");
  settings.listen = *listen;
  if (options.port_first == 0 || options.port_first > options.port_last) {
    return wrong("ports",
                 std::to_string(options.port_first) + ".." + std::to_string(options.port_last),
                 "a range that begins above 0");
  }
  if (options.connections_max == 0 || options.connections_max_per_port == 0) {
    return wrong("connections", "0", "at least 1");
  }
  if (options.connect_timeout.count() <= 0) {
    return wrong("connect_timeout", std::to_string(options.connect_timeout.count()), "above 0 ms");
  }
  for (const auto& folder : {options.namespaces, options.records}) {
    if (!folder.starts_with('/')) return wrong("folder", folder, "an absolute path");
  }
  if (auto checked = check_lists(settings); !checked) return std::unexpected(checked.error());
  settings.gateway_link = options.name + "-gw";
  return settings;
}

Result<void> check_host(Settings& settings, Netlink& netlink) {
  const auto links = list_links(netlink);
  if (!links) return std::unexpected(links.error());
  const auto addresses = list_addresses(netlink);
  if (!addresses) return std::unexpected(addresses.error());
  const auto routes = list_routes(netlink);
  if (!routes) return std::unexpected(routes.error());
  const auto prefix = settings.options.name + '-';
  const auto is_ours = [&](int link) { return name_of(link, *links).starts_with(prefix); };
  const auto overlap = [&](const std::string& what) {
    return wrong("pool", settings.options.pool, "a range apart from the host's " + what);
  };
  for (const auto& address : *addresses) {
    if (is_ours(address.link)) continue;
    if (settings.pool.contains(address.local) || settings.pool.overlaps(address.peer)) {
      return overlap("address " + text_of(address.local) + '/' + std::to_string(address.peer.bits) +
                     " of " + name_of(address.link, *links));
    }
  }
  int way_out = 0;
  for (const auto& route : *routes) {
    if (route.to.bits == 0) {
      if (way_out == 0) way_out = route.link;
      continue;
    }
    if (is_ours(route.link) || is_own_unreachable(route, settings.pool)) continue;
    if (settings.pool.overlaps(route.to)) return overlap("route to " + text_of(route.to));
  }
  const auto& uplink = settings.options.uplink;
  settings.mtu = settings.options.mtu;
  bool found = uplink.empty();
  for (const auto& link : *links) {
    const bool is_way_out = uplink.empty() ? link.index == way_out : link.name == uplink;
    if (!is_way_out) continue;
    found = true;
    if (settings.mtu == 0) settings.mtu = std::clamp(link.mtu, kMtuMin, kMtuMax);
  }
  if (!found) return wrong("uplink", uplink, "a link of this host");
  if (settings.mtu == 0) settings.mtu = kMtuUsual;
  return {};
}

std::optional<Slot> slot_of(const std::string& network, std::string_view name) {
  const auto prefix = network + '-';
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  if (name.size() != 4) return std::nullopt;
  Slot slot = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), slot, 16);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  if (name.find_first_of("ABCDEF") != std::string_view::npos) return std::nullopt;
  return slot;
}

std::set<Slot> slots_of(const std::string& network, const std::set<std::string>& names) {
  std::set<Slot> slots;
  for (const auto& name : names) {
    if (const auto slot = slot_of(network, name)) slots.insert(*slot);
  }
  return slots;
}

}  // namespace chalk::network
