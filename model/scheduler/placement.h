// The two answers to an ask: the best node, or the reason why there is none.
#pragma once
#include <cstdint>
#include <optional>

#include "model/scheduler/index.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {

struct Pick {
  std::uint32_t slot = kNone;  // of the node; kNone: it fits nowhere
  std::uint32_t gpu_mask = 0;
};
// By the policy of Config, elsewhere than on the nodes to avoid where that can be. Some policies
// learn from the ask.
Pick choose(const Config& config, State& state, const PlaceAsked& asked);

// The node (slot) that the order of scheduler.h puts first, or kNone.
std::uint32_t choose_node(const Config& config, const State& state, const PlaceAsked& asked);
// Which GPUs of that node: for a share the tightest, else the lowest that are wholly free.
std::uint32_t choose_gpus(const State& state, std::uint32_t slot, const Resources& ask);

// For an ask that no node could take whatever it has: the refusal. Nothing for a sensible ask.
std::optional<NotPlaced> refuse_meaningless(const PlaceAsked& asked);
// For an ask that fits nowhere.
NotPlaced explain_refusal(const State& state, const PlaceAsked& asked);

}  // namespace chalk::scheduler
