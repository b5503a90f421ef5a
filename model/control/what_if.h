// What-ifs of consolidation, decided by the scheduler itself on a fork of its state.
//
// One fork serves all questions of a look. A node is taken away by cordoning it and asking room for
// doubles of its sandboxes, so whose node, which pool and zone, images and GPUs count as they will
// when it is done. A double is released when the answer is no, which leaves the fork as it was;
// that costs the sandboxes of the node and not the size of the fleet.
#pragma once
#include <cstdint>
#include <vector>

#include "model/fleet/fleet.h"
#include "model/sandbox/sandbox.h"
#include "model/scheduler/scheduler.h"
#include "model/tenancy/tenancy.h"

namespace chalk::control {

class WhatIf {
 public:
  WhatIf(const scheduler::Scheduler& scheduler, const sandbox::Sandboxes& sandboxes,
         const tenancy::Tenancy& tenancy, const fleet::Fleet& fleet);

  // Whether all that is on the node fits on others that are in use; then it stands as moved there.
  bool without(NodeId node);
  bool possible(NodeId node);  // the same, and nothing has changed
  // The same with one more node of the pool; afterwards nothing has changed.
  bool replaced(NodeId node, PoolId pool);
  const scheduler::State& fork() const { return fork_.state(); }

 private:
  template <class Event>
  bool step(const Event& event);
  bool move_all(NodeId node);
  void take_back(NodeId node);

  const sandbox::Sandboxes& sandboxes_;
  const tenancy::Tenancy& tenancy_;
  const fleet::Fleet& fleet_;
  scheduler::Scheduler fork_;
  scheduler::Effects effects_;
  std::vector<SandboxId> doubles_;         // of the node in question
  std::vector<std::uint32_t> spare_slots_;  // of doubles that were released
  std::uint32_t next_slot_ = 0;
  std::uint32_t generation_ = 0;
};

}  // namespace chalk::control
