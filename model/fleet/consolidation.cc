#include "model/fleet/consolidation.h"

#include <algorithm>

namespace chalk::fleet {
namespace {

constexpr std::size_t kReplacementsTried = 100;

__extension__ using Wide = __int128;

// What moving a node's sandboxes costs over what the node costs while it would stay, as a
// comparison without division: a is dearer to move for what it saves than b.
bool dearer(const NodeLoad& a, const NodeLoad& b, const std::vector<Supply>& pools) {
  return Wide(a.sandboxes) * pools[b.pool].price > Wide(b.sandboxes) * pools[a.pool].price;
}

bool worth_moving(const Rules& rules, const NodeLoad& load, std::int64_t saved_permille) {
  return Wide(load.sandboxes) * rules.move_cost.nanos * 1000 <
         Wide(rules.least_life.nanos) * saved_permille;
}

void order(const Rules& rules, std::vector<NodeLoad>& loads, const std::vector<Supply>& pools) {
  std::stable_sort(loads.begin(), loads.end(), [&](const NodeLoad& a, const NodeLoad& b) {
    if (rules.policy == Policy::cluster_autoscaler) return a.used_permille < b.used_permille;
    if (rules.policy == Policy::newsvendor) return dearer(b, a, pools);
    return a.sandboxes < b.sandboxes;
  });
}

// The cheapest pool that is cheaper than the node's own and can take its place.
PoolId cheaper(const NodeLoad& load, const std::vector<Supply>& pools, const Rules& rules,
               WhatIf& what_if) {
  const Supply& own = pools[load.pool];
  if (own.reserved) return {};
  std::vector<std::uint32_t> others;
  for (std::uint32_t i = 0; i < pools.size(); ++i) {
    const Supply& pool = pools[i];
    if (pool.elastic && !pool.reserved && pool.room > 0 && pool.price < own.price) {
      others.push_back(i);
    }
  }
  std::stable_sort(others.begin(), others.end(), [&](std::uint32_t a, std::uint32_t b) {
    return pools[a].price < pools[b].price;
  });
  for (const std::uint32_t other : others) {
    const std::int64_t saved = 1000 - pools[other].price * 1000 / own.price;
    if (rules.policy == Policy::newsvendor && !worth_moving(rules, load, saved)) continue;
    if (what_if.replaced(load.node, PoolId{other + 1ULL})) return PoolId{other + 1ULL};
  }
  return {};
}

}  // namespace

std::vector<Removal> choose_removals(const Rules& rules, std::vector<NodeLoad> loads,
                                     std::vector<Supply> pools, Budget budget, WhatIf& what_if) {
  std::erase_if(loads, [&](const NodeLoad& load) {
    if (load.fixed != 0 || pools[load.pool].spare == 0) return true;
    if (rules.policy == Policy::cluster_autoscaler) {
      return load.used_permille >= rules.used_permille;
    }
    return rules.policy == Policy::newsvendor && !worth_moving(rules, load, 1000);
  });
  order(rules, loads, pools);
  std::vector<Removal> removals;
  const auto allowed = [&](const NodeLoad& load) {
    return budget.nodes > 0 && load.sandboxes <= budget.sandboxes && pools[load.pool].spare > 0;
  };
  for (const NodeLoad& load : loads) {
    if (budget.nodes == 0) break;
    if (!allowed(load) || !what_if.without(load.node)) continue;
    --budget.nodes;
    budget.sandboxes -= load.sandboxes;
    --pools[load.pool].spare;
    removals.push_back({load.node, load.sandboxes, {}});
  }
  if (!removals.empty() || rules.policy == Policy::cluster_autoscaler) return removals;
  for (std::size_t i = 0; i < std::min(loads.size(), kReplacementsTried); ++i) {
    if (!allowed(loads[i])) continue;
    const PoolId other = cheaper(loads[i], pools, rules, what_if);
    if (other) return {{loads[i].node, loads[i].sandboxes, other}};
  }
  return {};
}

}  // namespace chalk::fleet
