// Which nodes a fleet can do without: pure decisions on a what-if that the root provides.
//
// cluster_autoscaler: nodes less used than a threshold whose sandboxes all fit elsewhere, each on
//   top of the ones before. karpenter: the nodes that are cheapest to disrupt, as many as fit
//   elsewhere; if none does, one that a cheaper node can take the place of. newsvendor: in order of
//   what it saves over what it moves, and only where that is worth it; else the same replacement,
//   first of a pool that is the cheapest for all that runs, and none of another for a node of it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "model/core/ids.h"
#include "model/core/resources.h"
#include "model/fleet/policy.h"

namespace chalk::fleet {

struct NodeLoad {
  NodeId node;
  std::uint32_t pool = 0;           // index
  std::uint32_t used_permille = 0;  // of cpu, memory or GPUs, whichever is most
  std::uint32_t sandboxes = 0;
  std::uint32_t fixed = 0;  // of them, that may not move
  bool owned = false;       // no other owner may use it, so what is free there is no room to lose
};

struct Supply {  // of one pool
  std::int64_t price = 0;
  std::uint32_t above_least = 0;  // nodes that may go or be replaced
  std::uint32_t spare = 0;        // of those that are not owned, how many may go with their room
  std::uint32_t room = 0;         // nodes that may come
  bool reserved = false;
  bool elastic = false;
  bool cheapest_for_all = true;  // see all_that_runs.h
  CHALK_FIELDS(Supply, price, above_least, spare, room, reserved, elastic, cheapest_for_all)
};

struct Removal {
  NodeId node;
  std::uint32_t sandboxes = 0;
  PoolId replacement;  // 0: none is needed
  bool owned = false;
  CHALK_FIELDS(Removal, node, sandboxes, replacement, owned)
};

// What may still be disturbed.
struct Budget {
  std::uint32_t nodes = 0;
  std::uint32_t sandboxes = 0;
  CHALK_FIELDS(Budget, nodes, sandboxes)
};

// Those that the policy would take, in the order in which it asks.
std::vector<NodeLoad> candidates(const Rules& rules, std::vector<NodeLoad> loads,
                                 const std::vector<Supply>& pools);
// Pools whose nodes may take the place of this one, the cheapest first.
std::vector<PoolId> replacements(const Rules& rules, const NodeLoad& load,
                                 const std::vector<Supply>& pools);

// WhatIf is a fork of the schedule in which nodes can be taken away:
//   without(node): whether all that is on it fits on others that are in use; then it stands as
//     moved there, else nothing has changed;
//   replaced(node, pool): the same with one more node of the pool, after which nothing has changed.
template <class WhatIf>
std::vector<Removal> choose_removals(const Rules& rules, std::vector<NodeLoad> loads,
                                     std::vector<Supply> pools, Budget budget, WhatIf& what_if) {
  constexpr std::size_t kReplacementsTried = 100;
  loads = candidates(rules, std::move(loads), pools);
  std::vector<Removal> removals;
  const auto allowed = [&](const NodeLoad& load) {
    return budget.nodes > 0 && load.sandboxes <= budget.sandboxes &&
           pools[load.pool].above_least > 0;
  };
  for (const NodeLoad& load : loads) {
    if (budget.nodes == 0) break;
    Supply& pool = pools[load.pool];
    if (!allowed(load) || (!load.owned && pool.spare == 0)) continue;
    if (!what_if.without(load.node)) continue;
    --budget.nodes;
    budget.sandboxes -= load.sandboxes;
    --pool.above_least;
    if (!load.owned) --pool.spare;
    removals.push_back({load.node, load.sandboxes, {}, load.owned});
  }
  if (!removals.empty() || rules.policy == Policy::cluster_autoscaler) return removals;
  for (std::size_t i = 0; i < std::min(loads.size(), kReplacementsTried); ++i) {
    if (!allowed(loads[i])) continue;
    for (const PoolId other : replacements(rules, loads[i], pools)) {
      if (!what_if.replaced(loads[i].node, other)) continue;
      return {{loads[i].node, loads[i].sandboxes, other, loads[i].owned}};
    }
  }
  return {};
}

}  // namespace chalk::fleet
