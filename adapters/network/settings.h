// The options as checked values, and what was found of the host when they were.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/netlink.h"
#include "adapters/network/network.h"
#include "adapters/network/resolvers.h"
#include "adapters/network/supply.h"

namespace chalk::network {

struct Settings {
  Options options;
  Range pool;
  Address gateway = 0;
  Address listen = 0;
  std::vector<Range> blocked;
  std::vector<Resolver> resolvers;
  std::uint32_t mtu = 0;
  std::string gateway_link;
};

// All that can be told without the host.
Result<Settings> check(const Options& options);

// That the pool overlaps nothing of the host but what is ours, and the size of packets.
Result<void> check_host(Settings& settings, Netlink& netlink);

// The slots that an earlier process left something of, among these names of links, namespaces and
// records.
std::optional<Slot> slot_of(const std::string& network, std::string_view name);
std::set<Slot> slots_of(const std::string& network, const std::set<std::string>& names);

}  // namespace chalk::network
