// Which nodes a fleet can do without: pure decisions on a what-if that the root provides.
//
// cluster_autoscaler: nodes less used than a threshold whose sandboxes all fit elsewhere, each on
//   top of the ones before. karpenter: the nodes that are cheapest to disrupt, as many as fit
//   elsewhere; if none does, one that a cheaper node can take the place of. newsvendor: in order of
//   what it saves over what it moves, and only where that is worth it; else the same replacement.
#pragma once
#include <cstdint>
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
};

// A fork of the schedule in which nodes can be taken away.
class WhatIf {
 public:
  virtual ~WhatIf() = default;
  // Whether all that is on the node fits on others that are in use; then it stands as moved there.
  // If not nothing has changed.
  virtual bool without(NodeId node) = 0;
  // The same with one more node of the pool. Afterwards nothing has changed.
  virtual bool replaced(NodeId node, PoolId pool) = 0;
};

struct Supply {  // of one pool
  std::int64_t price = 0;
  std::uint32_t spare = 0;  // nodes that may go
  std::uint32_t room = 0;   // nodes that may come
  bool reserved = false;
  bool elastic = false;
  CHALK_FIELDS(Supply, price, spare, room, reserved, elastic)
};

struct Removal {
  NodeId node;
  std::uint32_t sandboxes = 0;
  PoolId replacement;  // 0: none is needed
  CHALK_FIELDS(Removal, node, sandboxes, replacement)
};

// What may still be disturbed.
struct Budget {
  std::uint32_t nodes = 0;
  std::uint32_t sandboxes = 0;
  CHALK_FIELDS(Budget, nodes, sandboxes)
};

std::vector<Removal> choose_removals(const Rules& rules, std::vector<NodeLoad> loads,
                                     std::vector<Supply> pools, Budget budget, WhatIf& what_if);

}  // namespace chalk::fleet
