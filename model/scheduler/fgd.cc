// Fragmentation gradient descent: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
// Workloads with Fragmentation Gradient Descent", USENIX ATC'23.
//
// For a typical request that a node cannot take, all that is free on its GPUs is a fragment; for
// one that it can, what is free on the GPUs that are each too full for it. The expectation of that
// over the mix is the node's fragmentation. The node, and for a share the GPU, is taken where it
// grows least; lowest slot among equals.
#include <tuple>

#include "model/scheduler/policies.h"

namespace chalk::scheduler {
namespace {

struct Left {
  std::int64_t cpu = 0, memory = 0, disk = 0;
  std::int32_t gpu_model = 0;
  std::array<std::int16_t, kGpusPerNodeMax> gpus{};
};

Left left_on(const State& state, std::uint32_t slot) {
  const Node& node = state.nodes[slot];
  const NodeInfo& info = state.infos[slot];
  return {node.cpu, node.memory, node.disk, info.shape.gpu_model,
          state.gpu_rows[info.gpu_row].free};
}

Left without(Left left, const Resources& ask, std::uint32_t gpu_mask) {
  left.cpu -= ask.cpu_millicores;
  left.memory -= ask.memory_bytes;
  left.disk -= ask.disk_bytes;
  for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (gpu_mask >> gpu & 1) left.gpus[gpu] -= static_cast<std::int16_t>(ask.gpu_millis);
  }
  return left;
}

// Thousandths of GPUs that are a fragment to this request.
std::int64_t fragment(const Left& left, const Resources& ask) {
  std::int32_t all = 0, too_small = 0, enough = 0;
  for (const std::int16_t free : left.gpus) {
    all += free;
    too_small += free < ask.gpu_millis ? free : 0;
    enough += free >= ask.gpu_millis;
  }
  const bool hosts = left.cpu >= ask.cpu_millicores && left.memory >= ask.memory_bytes &&
                     left.disk >= ask.disk_bytes && model_accepted(ask, left.gpu_model) &&
                     enough >= ask.gpus;
  return hosts ? too_small : all;
}

std::int64_t fragmentation(const Mix& mix, const Left& left) {
  std::int64_t sum = 0;
  for (const Typical& kind : mix.kinds) {
    sum += static_cast<std::int64_t>(kind.count) * fragment(left, kind.ask);
  }
  return sum;
}

}  // namespace

// `best_fit`: among equals the node with the fewest GPUs, then with least free on them, then with
// the least residual. Most are equal, and to take the lowest slot leaves 0.1 to 5.6 points more
// GPUs idle (bench/results/placement.md).
Pick least_growth(const State& state, const PlaceAsked& asked, const Candidates& candidates,
                  bool best_fit) {
  const Resources& ask = asked.ask;
  Pick best;
  using Rank = std::tuple<std::int64_t, std::int32_t, std::int32_t, std::int64_t>;
  Rank least{INT64_MAX, 0, 0, 0};
  const auto consider = [&](std::uint32_t slot, std::uint32_t gpu_mask, std::int64_t growth) {
    const Node& node = state.nodes[slot];
    const Rank rank = best_fit ? Rank{growth, node.gpus, node.gpu_free, node.residual()}
                               : Rank{growth, 0, 0, 0};
    if (rank >= least) return;
    least = rank;
    best = {slot, gpu_mask};
  };
  for (const std::uint32_t slot : candidates) {
    if (state.infos[slot].gpu_row == kNone) {
      consider(slot, 0, 0);
      continue;
    }
    const Left left = left_on(state, slot);
    const std::int64_t before = fragmentation(state.mix, left);
    const auto grown = [&](std::uint32_t mask) {
      return fragmentation(state.mix, without(left, ask, mask)) - before;
    };
    if (!is_share(ask)) {
      const std::uint32_t mask = choose_gpus(state, slot, ask);
      consider(slot, mask, grown(mask));
      continue;
    }
    std::int16_t last = -1;  // equal neighbours need only one look
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      if (left.gpus[gpu] < ask.gpu_millis || left.gpus[gpu] == last) continue;
      last = left.gpus[gpu];
      consider(slot, 1u << gpu, grown(1u << gpu));
    }
  }
  return best;
}

}  // namespace chalk::scheduler
