// Events about nodes: joining, leaving, cordons, owners, and the images that they hold.
#include <algorithm>

#include "model/core/invariant.h"
#include "model/scheduler/index.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {
namespace {

// The index of a zone, given when it is first seen; kNone when there are zones_max others.
std::uint32_t zone_index(State& state, ZoneId zone, std::uint32_t zones_max) {
  const auto at = std::find(state.zones.begin(), state.zones.end(), zone);
  if (at != state.zones.end()) return static_cast<std::uint32_t>(at - state.zones.begin());
  if (state.zones.size() >= zones_max) return kNone;
  state.zones.push_back(zone);
  return static_cast<std::uint32_t>(state.zones.size() - 1);
}

void count_in_pool(State& state, const NodeInfo& info, bool joins) {
  std::uint32_t pool = state.pool_index.find(info.pool.value);
  if (pool == kNone) {
    pool = static_cast<std::uint32_t>(state.pools.size());
    state.pools.push_back({info.pool, 0});
    state.pool_index.insert(info.pool.value, pool);
  }
  const std::uint32_t change = joins ? 1 : -1u;
  state.pools[pool].nodes += change;
  if (!info.dedicated) state.shared_pool_nodes += joins ? 1 : -1;
  state.live_nodes += joins ? 1 : -1;
}

}  // namespace

bool sensible(const NodeShape& shape) {
  return shape.cpu_millicores >= 0 && shape.cpu_millicores <= kCpuMillicoresMax &&
         shape.memory_bytes >= 0 && shape.memory_bytes <= kBytesMax && shape.disk_bytes >= 0 &&
         shape.disk_bytes <= kBytesMax && shape.gpus >= 0 && shape.gpus <= kGpusPerNodeMax &&
         shape.gpu_model >= 0 && shape.gpu_model < kGpuModelsMax && shape.start_slots >= 0 &&
         shape.sandboxes_max >= 0;
}

std::uint32_t Scheduler::find_node(NodeId id) const {
  const std::uint32_t slot = slot_of(id);
  return slot < state_.infos.size() && state_.infos[slot].id == id ? slot : kNone;
}

void Scheduler::on(const NodeAdded& event, Effects& effects) {
  const std::uint32_t slot = slot_of(event.node);
  if (slot >= config_.nodes_max) {
    ++state_.ignored.nodes_over_limit;
    return;
  }
  if (!sensible(event.shape)) {
    ++state_.ignored.malformed_nodes;
    return;
  }
  if (slot < state_.infos.size()) {
    if (state_.infos[slot].last >= event.node) {
      ++state_.ignored.duplicate_nodes;  // reported twice, or late, after it was removed
      return;
    }
    if (state_.infos[slot].id) forget_node(slot, effects);  // a newer node in the slot
  }
  const std::uint32_t zone = zone_index(state_, event.zone, config_.zones_max);
  if (zone == kNone) {
    ++state_.ignored.nodes_over_limit;
    return;
  }
  if (slot >= state_.infos.size()) {
    state_.infos.resize(slot + 1);
    state_.nodes.resize(slot + 1);
  }
  NodeInfo& info = state_.infos[slot];
  info.id = info.last = event.node;
  info.pool = event.pool;
  info.owner = event.owner;
  info.shape = event.shape;
  info.zone = zone;
  info.starts_free = event.shape.start_slots;
  info.sandboxes_free = event.shape.sandboxes_max;
  info.dedicated = event.dedicated;
  Node& node = state_.nodes[slot];
  node.cpu = event.shape.cpu_millicores;
  node.memory = event.shape.memory_bytes;
  node.disk = event.shape.disk_bytes;
  if (event.shape.gpus > 0) {
    info.gpu_row = take_index(state_.gpu_rows, state_.vacant_gpu_rows);
    GpuRow& row = state_.gpu_rows[info.gpu_row];
    row.slot = slot;
    row.whole = event.shape.gpus;
    row.most = 1000;
    std::fill_n(row.free.begin(), event.shape.gpus, 1000);
    node.gpus = static_cast<std::int16_t>(event.shape.gpus);
    node.gpu_free = static_cast<std::int16_t>(event.shape.gpus * 1000);
  }
  count_in_pool(state_, info, true);
  join_bucket(state_, slot);
  list_node(state_, slot);
}

void Scheduler::on(const NodeRemoved& event, Effects& effects) {
  const std::uint32_t slot = find_node(event.node);
  if (slot == kNone) {
    ++state_.ignored.unknown_nodes;
    return;
  }
  forget_node(slot, effects);
}

void Scheduler::forget_node(std::uint32_t slot, Effects& effects) {
  drop_nominations(slot, effects);
  unlist_node(state_, slot);
  leave_bucket(state_, slot);
  NodeInfo& info = state_.infos[slot];
  for (std::uint32_t at = info.first_reservation; at != 0;) {
    const std::uint32_t next = state_.links[at - 1].next;
    const std::uint32_t group = state_.reservations[at - 1].group;
    release(at - 1);
    drop_group_member(group, info.zone);
    at = next;
  }
  if (info.gpu_row != kNone) {
    state_.gpu_rows[info.gpu_row] = {};
    state_.vacant_gpu_rows.push_back(info.gpu_row);
  }
  count_in_pool(state_, info, false);
  const NodeId last = info.last;
  info = {};
  info.last = last;
  state_.nodes[slot] = {};
  state_.changes.add(slot);
}

void Scheduler::on(const NodeCordoned& event, Effects& effects) {
  const std::uint32_t slot = find_node(event.node);
  if (slot == kNone) {
    ++state_.ignored.unknown_nodes;
    return;
  }
  if (event.cordoned) drop_nominations(slot, effects);
  unlist_node(state_, slot);
  state_.infos[slot].cordoned = event.cordoned;
  list_node(state_, slot);
}

void Scheduler::on(const NodeOwned& event, Effects& effects) {
  const std::uint32_t slot = find_node(event.node);
  if (slot == kNone) {
    ++state_.ignored.unknown_nodes;
    return;
  }
  NodeInfo& info = state_.infos[slot];
  if (!event.usable || info.owner != event.owner) drop_nominations(slot, effects);
  unlist_node(state_, slot);
  info.usable = event.usable;
  if (info.owner != event.owner) {
    leave_bucket(state_, slot);
    info.owner = event.owner;
    join_bucket(state_, slot);
  }
  list_node(state_, slot);
}

void Scheduler::on(const ImageCached& event, Effects&) {
  const std::uint32_t slot = find_node(event.node);
  if (slot == kNone) {
    ++state_.ignored.unknown_nodes;
    return;
  }
  std::uint32_t index = state_.image_index.find(event.image.value);
  if (index == kNone) {
    if (!event.cached) return;  // said to be gone, and was not known
    index = take_index(state_.images, state_.vacant_images);
    state_.images[index].id = event.image;
    state_.image_index.insert(event.image.value, index);
  }
  auto& nodes = state_.images[index].nodes;
  auto at =
      std::lower_bound(nodes.begin(), nodes.end(), slot,
                       [](NodeId held, std::uint32_t sought) { return slot_of(held) < sought; });
  const bool known = at != nodes.end() && slot_of(*at) == slot;
  if (event.cached && known) {
    *at = event.node;
  } else if (event.cached) {
    nodes.insert(at, event.node);
  } else if (known) {
    nodes.erase(at);
  }
  if (!nodes.empty()) return;
  state_.image_index.erase(event.image.value);
  state_.images[index] = {};
  state_.vacant_images.push_back(index);
}

}  // namespace chalk::scheduler
