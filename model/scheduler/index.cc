#include "model/scheduler/index.h"

#include <algorithm>

#include "model/core/invariant.h"
#include "model/scheduler/trees.h"

namespace chalk::scheduler {
namespace {

// A bucket gets a grid when it has this many open nodes and loses it when it has this few.
constexpr std::uint32_t kGridFrom = 256;
constexpr std::uint32_t kGridUntil = 64;

// What stands for a node in a list of its bucket.
Item item_of(const State& state, std::uint32_t slot) {
  const Node& node = state.nodes[slot];
  Item item;
  item.key = node.gpus > 0 ? node.scarcity() : node.residual();
  item.cpu = node.cpu;
  item.memory = node.memory;
  item.disk = node.disk;
  item.node = slot + 1;
  if (node.gpus == 0) return item;
  const GpuRow& row = state.gpu_rows[state.infos[slot].gpu_row];
  item.whole = static_cast<std::int16_t>(row.whole);
  item.gpu_most = static_cast<std::int16_t>(row.most);
  return item;
}

std::uint32_t cell_of(const Item& item) {
  return CpuScale::level(item.cpu) * kColumns + MemoryScale::level(item.memory);
}

void insert_open(State& state, Bucket& bucket, std::uint32_t slot) {
  const Item item = item_of(state, slot);
  if (bucket.grid == kNone) return blocks::add(state, bucket.open_root, item);
  Grid& grid = state.grids[bucket.grid];
  const std::uint32_t cell = cell_of(item), row = cell / kColumns;
  blocks::add(state, grid.roots[cell], item);
  grid.least[cell] = std::min(grid.least[cell], item.key);
  grid.cells[row] |= std::uint64_t{1} << cell % kColumns;
  grid.rows[row / 64] |= std::uint64_t{1} << row % 64;
}

void erase_open(State& state, Bucket& bucket, std::uint32_t slot) {
  const Item item = item_of(state, slot);
  if (bucket.grid == kNone) return blocks::remove(state, bucket.open_root, item);
  Grid& grid = state.grids[bucket.grid];
  const std::uint32_t cell = cell_of(item), row = cell / kColumns;
  std::uint32_t& root = grid.roots[cell];
  blocks::remove(state, root, item);
  grid.least[cell] = root == 0 ? INT64_MAX : state.blocks[root - 1].items[0].key;
  if (root != 0) return;
  grid.cells[row] &= ~(std::uint64_t{1} << cell % kColumns);
  if (grid.cells[row] == 0) grid.rows[row / 64] &= ~(std::uint64_t{1} << row % 64);
}

void give_grid(State& state, Bucket& bucket) {
  std::vector<std::uint32_t> nodes;
  blocks::take_all(state, bucket.open_root, nodes);
  bucket.grid = take_index(state.grids, state.vacant_grids);
  state.grids[bucket.grid].roots.assign(kRows * kColumns, 0);
  state.grids[bucket.grid].least.assign(kRows * kColumns, INT64_MAX);
  for (const std::uint32_t node : nodes) insert_open(state, bucket, node - 1);
}

void take_grid(State& state, Bucket& bucket) {
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t& root : state.grids[bucket.grid].roots) blocks::take_all(state, root, nodes);
  state.grids[bucket.grid] = {};
  state.vacant_grids.push_back(bucket.grid);
  bucket.grid = kNone;
  for (const std::uint32_t node : nodes) insert_open(state, bucket, node - 1);
}

void list_shares(State& state, Bucket& bucket, std::uint32_t slot) {
  const std::uint32_t index = state.infos[slot].gpu_row;
  GpuRow& row = state.gpu_rows[index];
  ShareTree tree{state};
  for (std::uint32_t gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (row.free[gpu] == 0 || tightest_gpu(row, row.free[gpu]) != static_cast<std::int32_t>(gpu))
      continue;
    row.shared |= 1u << gpu;
    treap::insert(tree, bucket.share_root, index * kGpusPerNodeMax + gpu + 1);
  }
}

void unlist_shares(State& state, Bucket& bucket, std::uint32_t slot) {
  const std::uint32_t index = state.infos[slot].gpu_row;
  GpuRow& row = state.gpu_rows[index];
  ShareTree tree{state};
  for (; row.shared != 0; row.shared &= row.shared - 1) {
    const auto gpu = static_cast<std::uint32_t>(std::countr_zero(row.shared));
    treap::erase(tree, bucket.share_root, index * kGpusPerNodeMax + gpu + 1);
  }
}

void widen(Bucket& bucket, const NodeShape& shape) {
  const auto both = [](auto& least, auto& most, auto amount) {
    least = std::min(least, amount);
    most = std::max(most, amount);
  };
  NodeShape &least = bucket.least, &most = bucket.most;
  both(least.cpu_millicores, most.cpu_millicores, shape.cpu_millicores);
  both(least.memory_bytes, most.memory_bytes, shape.memory_bytes);
  both(least.disk_bytes, most.disk_bytes, shape.disk_bytes);
  both(least.gpus, most.gpus, shape.gpus);
}

std::uint32_t owner_of(State& state, TenantId id) {
  std::uint32_t index = state.owner_index.find(id.value);
  if (index != kNone) return index;
  index = take_index(state.owners, state.vacant_owners);
  state.owners[index].id = id;
  state.owner_index.insert(id.value, index);
  return index;
}

}  // namespace

bool could_hold(const std::vector<Wish>& wishes, const NodeShape& shape, PoolId pool,
                bool dedicated) {
  return std::any_of(wishes.begin(), wishes.end(), [&](const Wish& wish) {
    return (wish.pool ? wish.pool == pool : !dedicated) && fits(shape, wish.resources);
  });
}

std::int32_t tightest_gpu(const GpuRow& row, std::int32_t millis) {
  std::int32_t best = -1;
  for (std::int32_t gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (row.free[gpu] < millis) continue;
    if (best < 0 || row.free[gpu] < row.free[best]) best = gpu;
  }
  return best;
}

bool holds_image(const ImageNodes& image, NodeId node) {
  const auto slot = static_cast<std::uint32_t>(node.value);
  const auto at = std::lower_bound(image.nodes.begin(), image.nodes.end(), slot,
                                   [](NodeId held, std::uint32_t sought) {
                                     return static_cast<std::uint32_t>(held.value) < sought;
                                   });
  return at != image.nodes.end() && *at == node;
}

void list_node(State& state, std::uint32_t slot) {
  NodeInfo& info = state.infos[slot];
  state.changes.add(slot);
  if (info.cordoned || !info.usable) return;
  Bucket& bucket = state.buckets[state.nodes[slot].bucket];
  ++bucket.considered;
  if (info.sandboxes_free == 0) return;
  if (info.starts_free == 0) {
    info.listed = Listed::waiting;
    ++bucket.waiting;
    return blocks::add(state, bucket.waiting_root, item_of(state, slot));
  }
  info.listed = Listed::open;
  ++bucket.open;
  insert_open(state, bucket, slot);
  if (bucket.gpu_model >= 0) {
    list_shares(state, bucket, slot);
  } else if (bucket.grid == kNone && bucket.open >= kGridFrom) {
    give_grid(state, bucket);
  }
}

void count_gpus(State& state, std::uint32_t slot) {
  Node& node = state.nodes[slot];
  const NodeInfo& info = state.infos[slot];
  GpuRow& row = state.gpu_rows[info.gpu_row];
  row.whole = row.most = 0;
  node.gpu_free = 0;
  for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
    CHALK_INVARIANT(row.free[gpu] >= 0 && row.free[gpu] <= 1000);
    row.whole += row.free[gpu] == 1000;
    row.most = std::max<std::int32_t>(row.most, row.free[gpu]);
    node.gpu_free = static_cast<std::int16_t>(node.gpu_free + row.free[gpu]);
  }
}

void unlist_node(State& state, std::uint32_t slot) {
  NodeInfo& info = state.infos[slot];
  if (info.cordoned || !info.usable) return;
  Bucket& bucket = state.buckets[state.nodes[slot].bucket];
  --bucket.considered;
  if (info.listed == Listed::waiting) {
    --bucket.waiting;
    blocks::remove(state, bucket.waiting_root, item_of(state, slot));
  } else if (info.listed == Listed::open) {
    --bucket.open;
    erase_open(state, bucket, slot);
    if (bucket.gpu_model >= 0) unlist_shares(state, bucket, slot);
    if (bucket.grid != kNone && bucket.open <= kGridUntil) take_grid(state, bucket);
  }
  info.listed = Listed::no;
}

void join_bucket(State& state, std::uint32_t slot) {
  const NodeInfo& info = state.infos[slot];
  const std::int32_t model = info.shape.gpus > 0 ? info.shape.gpu_model : -1;
  Owner& owner = state.owners[owner_of(state, info.owner)];
  for (const std::uint32_t index : owner.buckets) {
    Bucket& bucket = state.buckets[index];
    if (bucket.pool == info.pool && bucket.zone == info.zone && bucket.gpu_model == model &&
        bucket.dedicated == info.dedicated) {
      ++bucket.members;
      widen(bucket, info.shape);
      state.nodes[slot].bucket = index;
      return;
    }
  }
  const std::uint32_t index = take_index(state.buckets, state.vacant_buckets);
  owner.buckets.push_back(index);
  Bucket& bucket = state.buckets[index];
  bucket.owner = info.owner;
  bucket.pool = info.pool;
  bucket.zone = info.zone;
  bucket.gpu_model = model;
  bucket.dedicated = info.dedicated;
  bucket.members = 1;
  bucket.least = bucket.most = info.shape;
  state.nodes[slot].bucket = index;
}

void leave_bucket(State& state, std::uint32_t slot) {
  const std::uint32_t index = state.nodes[slot].bucket;
  state.nodes[slot].bucket = kNone;
  Bucket& bucket = state.buckets[index];
  if (--bucket.members != 0) return;
  CHALK_INVARIANT(bucket.considered == 0 && bucket.grid == kNone && bucket.open_root == 0 &&
                  bucket.waiting_root == 0 && bucket.share_root == 0);
  const std::uint32_t owner_at = state.owner_index.find(bucket.owner.value);
  Owner& owner = state.owners[owner_at];
  std::erase(owner.buckets, index);
  if (owner.buckets.empty()) {
    state.owner_index.erase(owner.id.value);
    owner = {};
    state.vacant_owners.push_back(owner_at);
  }
  bucket = {};
  state.vacant_buckets.push_back(index);
}

}  // namespace chalk::scheduler
