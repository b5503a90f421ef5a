#include "model/fleet/consolidation.h"

#include <algorithm>

namespace chalk::fleet {
namespace {

__extension__ using Wide = __int128;

// What moving a node's sandboxes costs over what the node costs while it would stay, as a
// comparison without division: a is dearer to move for what it saves than b.
bool dearer(const NodeLoad& a, const NodeLoad& b, const std::vector<Supply>& pools) {
  return Wide(a.sandboxes) * pools[b.pool].price > Wide(b.sandboxes) * pools[a.pool].price;
}

bool worth_moving(const Rules& rules, const NodeLoad& load, std::int64_t saved_permille) {
  return Wide(load.sandboxes) * rules.move_cost.nanos * 1000 <
         Wide(rules.pays_back.nanos) * saved_permille;
}

void order(const Rules& rules, std::vector<NodeLoad>& loads, const std::vector<Supply>& pools) {
  std::stable_sort(loads.begin(), loads.end(), [&](const NodeLoad& a, const NodeLoad& b) {
    if (rules.policy == Policy::cluster_autoscaler) return a.used_permille < b.used_permille;
    if (rules.policy == Policy::newsvendor) return dearer(b, a, pools);
    return a.sandboxes < b.sandboxes;
  });
}

}  // namespace

std::vector<NodeLoad> candidates(const Rules& rules, std::vector<NodeLoad> loads,
                                 const std::vector<Supply>& pools) {
  std::erase_if(loads, [&](const NodeLoad& load) {
    if (load.fixed != 0 || pools[load.pool].above_least == 0) return true;
    if (rules.policy == Policy::cluster_autoscaler) {
      return load.used_permille >= rules.used_permille;
    }
    return rules.policy == Policy::newsvendor && !worth_moving(rules, load, 1000);
  });
  order(rules, loads, pools);
  return loads;
}

std::vector<PoolId> replacements(const Rules& rules, const NodeLoad& load,
                                 const std::vector<Supply>& pools) {
  const Supply& own = pools[load.pool];
  if (own.reserved) return {};
  std::vector<PoolId> others;
  for (std::uint32_t i = 0; i < pools.size(); ++i) {
    const Supply& pool = pools[i];
    if (!pool.elastic || pool.reserved || pool.room == 0 || pool.price >= own.price) continue;
    if (rules.policy == Policy::newsvendor) {
      const std::int64_t saved = 1000 - pool.price * 1000 / own.price;
      if (own.cheapest_for_all && !pool.cheapest_for_all) continue;
      if (!worth_moving(rules, load, saved)) continue;
    }
    others.push_back(PoolId{i + 1ULL});
  }
  const bool for_all = rules.policy == Policy::newsvendor;
  std::stable_sort(others.begin(), others.end(), [&](PoolId a, PoolId b) {
    const Supply &one = pools[a.value - 1], &other = pools[b.value - 1];
    if (for_all && one.cheapest_for_all != other.cheapest_for_all) return one.cheapest_for_all;
    return one.price < other.price;
  });
  return others;
}

}  // namespace chalk::fleet
