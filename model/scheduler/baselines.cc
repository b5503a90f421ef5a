// least_allocated, first_fit and power_of_two.
#include <algorithm>

#include "model/core/random.h"
#include "model/scheduler/policies.h"

namespace chalk::scheduler {
namespace {

std::uint32_t emptiest_gpus(const State& state, std::uint32_t slot, const Resources& ask) {
  if (!is_share(ask)) return choose_gpus(state, slot, ask);
  return 1u << emptiest_gpu(state.gpu_rows[state.infos[slot].gpu_row], ask.gpu_millis);
}

// kube-scheduler's numFeasibleNodesToFind with its default percentageOfNodesToScore, 0: half of the
// nodes, less a percent for each 125, but at least 5 percent and at least 100 nodes.
std::size_t kube_sample(std::uint64_t nodes) {
  const std::uint64_t percent = nodes / 125 < 45 ? 50 - nodes / 125 : 5;
  return std::max<std::uint64_t>(nodes * percent / 100, 100);
}

}  // namespace

// NodeResourcesFit with LeastAllocated on cpu and memory, the default. A scan begins where the last
// one ended. kube draws among equal scores; here the first is taken.
Pick least_allocated(State& state, const PlaceAsked& asked, const Candidates& candidates) {
  const auto start = std::lower_bound(candidates.begin(), candidates.end(), state.next_start) -
                     candidates.begin();
  const std::size_t looked_at = std::min(kube_sample(state.live_nodes), candidates.size());
  Pick best;
  std::int64_t most = -1;
  std::uint32_t slot = 0;
  for (std::size_t i = 0; i < looked_at; ++i) {
    slot = candidates[(static_cast<std::size_t>(start) + i) % candidates.size()];
    const std::int64_t left = share_left(state, slot, asked.ask);
    if (left <= most) continue;
    most = left;
    best.slot = slot;
  }
  state.next_start = slot + 1;
  best.gpu_mask = emptiest_gpus(state, best.slot, asked.ask);
  return best;
}

Pick first_fit(const State& state, const PlaceAsked& asked, const Candidates& candidates) {
  const std::uint32_t slot = candidates.front();
  if (!is_share(asked.ask)) return {slot, choose_gpus(state, slot, asked.ask)};
  const GpuRow& row = state.gpu_rows[state.infos[slot].gpu_row];
  for (std::uint32_t gpu = 0;; ++gpu) {
    if (row.free[gpu] >= asked.ask.gpu_millis) return {slot, 1u << gpu};
  }
}

// The draws depend on the sandbox alone.
Pick power_of_two(const State& state, const PlaceAsked& asked, const Candidates& candidates) {
  Random random{mix64(asked.sandbox.value), 0};
  const std::uint32_t one = candidates[random.below(candidates.size())];
  const std::uint32_t two = candidates[random.below(candidates.size())];
  const bool second = share_left(state, two, asked.ask) > share_left(state, one, asked.ask);
  const std::uint32_t slot = second ? two : one;
  return {slot, emptiest_gpus(state, slot, asked.ask)};
}

}  // namespace chalk::scheduler
