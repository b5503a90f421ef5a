#include <tuple>

#include "model/scheduler/policies.h"

namespace chalk::scheduler {
namespace {

bool fits_on(const State& state, std::uint32_t slot, const PlaceAsked& asked) {
  const NodeInfo& info = state.infos[slot];
  const Node& node = state.nodes[slot];
  const Resources& ask = asked.ask;
  if (!info.id || info.listed != Listed::open) return false;
  if (asked.pool ? info.pool != asked.pool : info.dedicated) return false;
  if (could_hold(asked.spare, info)) return false;
  if ((info.owner || asked.own_only) && info.owner != asked.owner) return false;
  if (node.cpu < ask.cpu_millicores || node.memory < ask.memory_bytes ||
      node.disk < ask.disk_bytes) {
    return false;
  }
  if (ask.gpus == 0) return true;
  if (!model_accepted(ask, info.shape.gpus > 0 ? info.shape.gpu_model : -1)) return false;
  const GpuRow& row = state.gpu_rows[info.gpu_row];
  return is_share(ask) ? row.most >= ask.gpu_millis : row.whole >= ask.gpus;
}

}  // namespace

Candidates candidates_for(const Config& config, const State& state, const PlaceAsked& asked) {
  const std::uint32_t* live = nullptr;  // of the group, by zone
  if (config.placing.spread_zones() && asked.group) {
    const std::uint32_t group = state.group_index.find(asked.group.value);
    if (group != kNone) live = &state.group_zones[std::size_t{group} * config.zones_max];
  }
  Candidates found;
  std::tuple least{true, UINT32_MAX};
  for (std::uint32_t slot = 0; slot < state.infos.size(); ++slot) {
    if (!fits_on(state, slot, asked)) continue;
    const NodeInfo& info = state.infos[slot];
    const std::tuple rank{info.owner != asked.owner, live == nullptr ? 0 : live[info.zone]};
    if (rank < least) {
      least = rank;
      found.clear();
    }
    if (rank == least) found.push_back(slot);
  }
  return found;
}

std::int64_t share_left(const State& state, std::uint32_t slot, const Resources& ask) {
  constexpr std::int64_t kMillion = 1'000'000;
  const Node& node = state.nodes[slot];
  const NodeShape& shape = state.infos[slot].shape;
  // Bytes to megabytes first, so that the product stays within 63 bits.
  const auto of = [&](std::int64_t left, std::int64_t all) {
    return all == 0 ? 0 : left * kMillion / all;
  };
  return (of(node.cpu - ask.cpu_millicores, shape.cpu_millicores) +
          of((node.memory - ask.memory_bytes) >> 20, shape.memory_bytes >> 20)) /
         2;
}

std::int32_t emptiest_gpu(const GpuRow& row, std::int32_t millis) {
  std::int32_t best = -1;
  for (std::int32_t gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (row.free[gpu] < millis) continue;
    if (best < 0 || row.free[gpu] > row.free[best]) best = gpu;
  }
  return best;
}

}  // namespace chalk::scheduler
