// Which sandboxes make way for one that found no room: decided on a fork of what each node has
// free, a value of a few words, so nothing of the scheduler's state is copied or changed.
//
// On a node all candidates are taken away; if the ask then fits they are put back as long as it
// still does, those of the highest priority first and of one priority those that ran longest. What
// cannot be put back are the victims, so none of them could have been spared (the "reprieve" of
// kube-scheduler, pkg/scheduler/framework/preemption). Of the nodes the first in this order is
// taken:
//   1. the highest priority of a victim is least, and least of all where there is no victim;
//   2. fewest victims;
//   3. least work lost: the sum of the times that the victims ran;
//   4. lowest slot.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "model/core/time.h"
#include "model/protocol/protocol.h"
#include "model/scheduler/state.h"

namespace chalk::scheduler {

// What is free on a node, apart from start slots: to wait for one of those is shorter.
struct Room {
  std::int64_t cpu = 0, memory = 0, disk = 0;
  std::int32_t sandboxes = 0, starts = 0;
  std::int32_t gpu_count = 0;
  std::array<std::int32_t, kGpusPerNodeMax> gpus{};  // thousandths; below 0 where some is owed
  // Adds `sign` times what a reservation holds.
  void add(const Reservation& held, int sign);
  // Takes away what a nomination still misses: it is owed to it.
  void owe(const Nomination& nomination);
  bool fits(const Resources& ask) const;
  // Of which GPUs, for an ask that fits: for a share the tightest, else the lowest that are free.
  std::uint32_t gpus_for(const Resources& ask) const;
};
Room room_of(const State& state, std::uint32_t slot);

// A sandbox that may be preempted.
struct Preemptible {
  SandboxId sandbox;
  Priority priority = 0;
  Duration ran;  // so far, 0 where it has not started yet
  Reservation held;
};

struct Victims {
  std::vector<SandboxId> sandboxes;
  std::int32_t highest = -1;  // priority; -1: there is none
  bool starts_wait = false;   // all of the node's start slots are taken, perhaps for minutes
  Duration lost;              // of work
  std::uint32_t slot = 0;     // of their node
  std::uint32_t gpu_mask = 0;  // for the one that they make way for
};
// Of two nodes the one where this is less is the better choice.
inline auto order_of(std::int32_t highest, std::size_t sandboxes, bool starts_wait, Duration lost,
                     std::uint32_t slot) {
  return std::tuple(highest, sandboxes, starts_wait, lost, slot);
}

// The victims on one node, or nothing if the ask fits there in no way.
std::optional<Victims> victims_on(std::uint32_t slot, Room room,
                                  std::vector<Preemptible> candidates, const Resources& ask);

}  // namespace chalk::scheduler
