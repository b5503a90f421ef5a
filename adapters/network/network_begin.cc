// How a Network begins, takes over what an earlier process left, and goes for good.
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "adapters/network/links.h"
#include "adapters/network/namespaces.h"
#include "adapters/network/parts.h"
#include "adapters/network/rules.h"

namespace chalk::network {
namespace {

constexpr const char* kForwarding = "/proc/sys/net/ipv4/ip_forward";
constexpr std::chrono::minutes kRemoveTimeout{5};

// An abstract socket: seen in this network namespace only, and gone with the process.
Result<Descriptor> claim_name(const std::string& name) {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::Kind::exhausted, std::string("socket: ") + std::strerror(errno));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = "chalk-network-" + name;
  text.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return fail(Error::Kind::unavailable,
                "network " + name + ": " +
                    (errno == EADDRINUSE ? "another process on this host has this name"
                                         : std::strerror(errno)));
  }
  return socket;
}

Result<void> make_gateway(const Settings& settings, Netlink& netlink) {
  const auto& name = settings.gateway_link;
  const auto addresses = list_addresses(netlink);
  if (!addresses) return std::unexpected(addresses.error());
  const auto before = link_index(name);
  for (const auto& address : *addresses) {
    if (!before || address.link != *before || address.local == settings.gateway) continue;
    if (auto deleted = delete_link(netlink, name); !deleted) return deleted;  // of another pool
    break;
  }
  auto done = make_bridge(netlink, name);
  if (!done) return done;
  const auto index = link_index(name);
  if (!index) return std::unexpected(index.error());
  done = write_setting("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6", "1", true);
  if (done) done = add_address(netlink, *index, settings.gateway, settings.gateway, 32);
  if (done) done = set_up(netlink, *index);
  if (done) done = add_unreachable(netlink, settings.pool);
  return done;
}

Result<void> set_forwarding() {
  char now = '0';
  std::ifstream(kForwarding) >> now;
  if (now == '1') return {};
  return write_setting(kForwarding, "1");
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    found.insert(entry->path().filename());
  }
  return found;
}

Result<std::set<Slot>> find_leftovers(const Settings& settings, const Records& records,
                                      Netlink& netlink) {
  auto names = records.names();
  names.merge(names_in(settings.options.namespaces));
  const auto links = list_links(netlink);
  if (!links) return std::unexpected(links.error());
  for (const auto& link : *links) names.insert(link.name);
  return slots_of(settings.options.name, names);
}

}  // namespace

Result<std::unique_ptr<Network>> Network::open(Options options) {
  const auto where = "network " + options.name.substr(0, 16) + ": ";
  try {
    return begin(std::move(options));
  } catch (const std::exception& error) {  // no memory, or no thread
    return fail(Error::Kind::exhausted, where + error.what());
  }
}

Result<std::unique_ptr<Network>> Network::begin(Options options) {
  auto settings = check(options);
  if (!settings) return std::unexpected(settings.error());
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  auto flows = Netlink::open(NETLINK_NETFILTER);
  if (!flows) return std::unexpected(flows.error());
  auto claim = claim_name(options.name);
  if (!claim) return std::unexpected(claim.error());
  if (auto checked = check_host(*settings, *netlink); !checked) {
    return std::unexpected(checked.error());
  }
  auto records = Records::open(options.records + '/' + options.name);
  if (!records) return std::unexpected(records.error());
  auto parts = std::make_unique<Parts>(std::move(*settings), std::move(*records));
  parts->claim = std::move(*claim);
  const auto& checked = parts->settings;
  Result<void> done = prepare_namespaces(options.namespaces);
  // The rules before the way: no packet passes that they have not seen.
  if (done) {
    done = apply({options.name, checked.pool, checked.gateway, options.uplink, options.flows_max,
                  checked.blocked});
  }
  if (done) done = make_gateway(checked, *netlink);
  if (done) done = set_forwarding();
  if (!done) return std::unexpected(done.error());
  auto leftovers = find_leftovers(checked, parts->records, *netlink);
  if (!leftovers) return std::unexpected(leftovers.error());
  parts->leftovers = std::move(*leftovers);

  auto proxy = Proxy::open({checked.listen, options.port_first, options.port_last,
                            options.connections_max, options.connections_max_per_port,
                            options.connect_timeout});
  if (!proxy) return std::unexpected(proxy.error());
  parts->proxy = std::move(*proxy);
  auto names = Names::open(checked.gateway, checked.pool,
                           Resolvers(checked.resolvers, options.resolver_file, checked.gateway));
  if (!names) return std::unexpected(names.error());
  parts->names = std::move(*names);
  parts->supply = std::make_unique<Supply>(
      SupplyOptions{options.name, checked.pool, checked.gateway, options.namespaces, checked.mtu,
                    static_cast<std::size_t>(options.spare)},
      std::move(*netlink), std::move(*flows), parts->leftovers);
  return std::unique_ptr<Network>(new Network(std::move(parts)));
}

Result<Recovered> Network::recover(std::span<const std::string> alive,
                                   std::span<const std::string> closed) {
  auto& parts = *parts_;
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  const auto routes = list_routes(*netlink);
  if (!routes) return std::unexpected(routes.error());
  const std::lock_guard lock(parts.mutex);
  std::set<std::string> missing(alive.begin(), alive.end());
  for (const auto& [id, sandbox] : parts.sandboxes) missing.erase(id);
  Recovered recovered;
  for (const Slot slot : parts.leftovers) {
    const auto name = parts.supply->name_of(slot);
    const auto record = parts.records.read(name);
    const auto index = link_index(name);
    // It must be just as make() left it, with the pool that there is now.
    const Range way{parts.supply->address_of(slot), 32};
    const bool whole = index && is_namespace(parts.supply->path_of(slot)) &&
                       std::ranges::any_of(*routes, [&](const Route& route) {
                         return route.link == *index && route.to == way;
                       });
    if (whole && record && record->address == way.first && missing.erase(record->sandbox) == 1) {
      const bool open = std::ranges::find(closed, record->sandbox) == closed.end();
      parts.adopt(slot, *record, open, recovered);
    } else {
      parts.records.remove(name);
      parts.supply->destroy(slot);
      ++recovered.destroyed;
    }
  }
  parts.leftovers.clear();
  recovered.lost.assign(missing.begin(), missing.end());
  return recovered;
}

void Network::Parts::adopt(Slot slot, const Record& record, bool open, Recovered& recovered) {
  Sandbox sandbox;
  sandbox.ready = true;
  sandbox.slot = slot;
  for (const auto& [container, host] : record.published) {
    const Published one{record.sandbox, container, host};
    if (proxy->publish(supply->address_of(slot), container, host, open)) {
      sandbox.published.emplace(container, host);
      recovered.published.push_back(one);
    } else {
      recovered.unpublished.push_back(one);
    }
  }
  // The record that lies there says the same or too many ports; that is tried again next time.
  (void)write_record(record.sandbox, sandbox);
  recovered.kept.push_back(endpoint(record.sandbox, slot));
  sandboxes.emplace(record.sandbox, std::move(sandbox));
}

Result<void> Network::remove() {
  auto& parts = *parts_;
  {
    const std::lock_guard lock(parts.mutex);
    for (auto next = parts.sandboxes.begin(); next != parts.sandboxes.end();) {
      const auto sandbox = next++;
      if (sandbox->second.ready) parts.give_up(sandbox);
    }
    for (const Slot slot : parts.leftovers) {
      parts.records.remove(parts.supply->name_of(slot));
      parts.supply->destroy(slot);
    }
    parts.leftovers.clear();
  }
  if (!parts.supply->drain(kRemoveTimeout)) {
    return fail(Error::Kind::timeout, parts.where() + "not all namespaces could be destroyed, " +
                                          "last failure: " + parts.supply->counts().last_failure);
  }
  parts.names.reset();
  parts.records.remove_folder();
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  const auto gone = [](Result<void> done) {
    return done || done.error().kind == Error::Kind::not_found ? Result<void>{} : done;
  };
  auto done = gone(delete_link(*netlink, parts.settings.gateway_link));
  if (done) done = gone(delete_unreachable(*netlink, parts.settings.pool));
  if (done) done = remove_rules(parts.settings.options.name);
  return done;
}

}  // namespace chalk::network
