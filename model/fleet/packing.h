// How many nodes what waits needs, and of which pools: first fit decreasing on what is free or on
// its way, then new nodes of the pool that an expander prefers (cluster-autoscaler's word).
//
// An estimate, cheap because equal asks are packed together: GPUs of a node count as one amount,
// and what does not come out right is bought at the next look.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/ids.h"
#include "model/core/resources.h"
#include "model/fleet/all_that_runs.h"

namespace chalk::fleet {

struct Waiting {  // equal asks of one owner
  TenantId owner;
  PoolId pool;  // the only one it may use; 0: any that is not reserved
  Resources ask;
  std::int64_t count = 0;
  bool gangs = false;  // members of gangs, which start at once
  bool owned = false;  // on nodes that no other owner may use
  CHALK_FIELDS(Waiting, owner, pool, ask, count, gangs, owned)
};

enum class Expander : std::uint8_t {
  least_waste,  // the least share of cpu and memory left over, as cluster-autoscaler's
  cheapest,     // the least price for what it holds, as Karpenter's
  cheapest_for_all  // the least price for that and all that runs, see all_that_runs.h
};

struct Need {
  std::uint32_t ready = 0;  // of the nodes that are there already
  std::uint32_t buy = 0;
  // What goes there, in thousandths of a node; an owner's nodes count as wholes, as they will.
  std::uint32_t permille = 0;
  auto operator<=>(const Need&) const = default;
};

// By offer, in their order. `running`, on the pools of the offers, is for cheapest_for_all.
std::vector<Need> nodes_needed(std::vector<Waiting> waiting, const std::vector<Offer>& offers,
                               Expander expander, const std::vector<Running>& running = {});

}  // namespace chalk::fleet
