// Pools and machines for the tests of the fleet.
#pragma once
#include <cstdint>
#include <vector>

#include "model/fleet/fleet.h"
#include "tests/support/said.h"

namespace chalk::fleet {

using test::said;
using test::tell;

inline Time at(std::int64_t s) { return {seconds(s).nanos}; }

inline PoolPolicy elastic(std::uint32_t least, std::uint32_t most) {
  PoolPolicy policy;
  policy.shape = {.cpu_millicores = 4000, .memory_bytes = 16LL << 30};
  policy.zones = {{1}, {2}};
  policy.nodes_min = least;
  policy.nodes_max = most;
  policy.elastic = true;
  policy.idle_before_release = seconds(60);
  return policy;
}

inline NodeRegistration registration(std::uint64_t key, std::uint64_t incarnation = 1,
                                     std::uint64_t purchase = 0) {
  return {key, incarnation, purchase,
          {1}, {1},         {.cpu_millicores = 4000, .memory_bytes = 16LL << 30}};
}

inline PendingDemand cores(std::int64_t millicores) {
  return {{1}, millicores / 1000, millicores, 0, 0, 0, 1};
}

inline NodeId joined(const std::vector<Effect>& effects) {
  return said<WelcomeNode>(effects).at(0).node;
}

}  // namespace chalk::fleet
