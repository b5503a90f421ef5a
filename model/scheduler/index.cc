#include "model/scheduler/index.h"

#include "model/core/invariant.h"
#include "model/scheduler/trees.h"

namespace chalk::scheduler {
namespace {

// A bucket gets a grid when it has this many open nodes and loses it when it has this few.
constexpr std::uint32_t kGridFrom = 256;
constexpr std::uint32_t kGridUntil = 64;

std::uint32_t& cell_root(Grid& grid, const Node& node) {
  return grid.roots[CpuScale::level(node.cpu) * kLevels + MemoryScale::level(node.memory)];
}

void mark_cell(Grid& grid, const Node& node, bool occupied) {
  const std::uint32_t row = CpuScale::level(node.cpu), column = MemoryScale::level(node.memory);
  auto& columns = grid.columns[row];
  const std::uint64_t bit = std::uint64_t{1} << column % 64;
  const std::uint64_t row_bit = std::uint64_t{1} << row % 64;
  if (occupied) {
    columns[column / 64] |= bit;
    grid.rows[row / 64] |= row_bit;
  } else {
    columns[column / 64] &= ~bit;
    if ((columns[0] | columns[1]) == 0) grid.rows[row / 64] &= ~row_bit;
  }
}

void insert_open(State& state, Bucket& bucket, std::uint32_t node) {
  NodeTree tree{state, bucket.gpu_model >= 0};
  if (bucket.grid == kNone) {
    treap::insert(tree, bucket.open_root, node);
    return;
  }
  Grid& grid = state.grids[bucket.grid];
  std::uint32_t& root = cell_root(grid, state.nodes[node - 1]);
  if (root == 0) mark_cell(grid, state.nodes[node - 1], true);
  treap::insert(tree, root, node);
}

void erase_open(State& state, Bucket& bucket, std::uint32_t node) {
  NodeTree tree{state, bucket.gpu_model >= 0};
  if (bucket.grid == kNone) {
    treap::erase(tree, bucket.open_root, node);
    return;
  }
  Grid& grid = state.grids[bucket.grid];
  std::uint32_t& root = cell_root(grid, state.nodes[node - 1]);
  treap::erase(tree, root, node);
  if (root == 0) mark_cell(grid, state.nodes[node - 1], false);
}

void collect(const State& state, std::uint32_t at, std::vector<std::uint32_t>& out) {
  if (at == 0) return;
  collect(state, state.nodes[at - 1].left, out);
  out.push_back(at);
  collect(state, state.nodes[at - 1].right, out);
}

void give_grid(State& state, Bucket& bucket) {
  std::vector<std::uint32_t> nodes;
  collect(state, bucket.open_root, nodes);
  bucket.open_root = 0;
  bucket.grid = take_index(state.grids, state.vacant_grids);
  state.grids[bucket.grid].roots.assign(kLevels * kLevels, 0);
  for (const std::uint32_t node : nodes) insert_open(state, bucket, node);
}

void take_grid(State& state, Bucket& bucket) {
  std::vector<std::uint32_t> nodes;
  for (const std::uint32_t root : state.grids[bucket.grid].roots) collect(state, root, nodes);
  state.grids[bucket.grid] = {};
  state.vacant_grids.push_back(bucket.grid);
  bucket.grid = kNone;
  for (const std::uint32_t node : nodes) insert_open(state, bucket, node);
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

std::uint32_t owner_of(State& state, TenantId id) {
  std::uint32_t index = state.owner_index.find(id.value);
  if (index != kNone) return index;
  index = take_index(state.owners, state.vacant_owners);
  state.owners[index].id = id;
  state.owner_index.insert(id.value, index);
  return index;
}

}  // namespace

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
  if (info.cordoned || !info.usable) return;
  Bucket& bucket = state.buckets[state.nodes[slot].bucket];
  ++bucket.considered;
  if (info.sandboxes_free == 0) return;
  if (info.starts_free == 0) {
    info.listed = Listed::waiting;
    ++bucket.waiting;
    NodeTree tree{state, bucket.gpu_model >= 0};
    treap::insert(tree, bucket.waiting_root, slot + 1);
    return;
  }
  info.listed = Listed::open;
  ++bucket.open;
  insert_open(state, bucket, slot + 1);
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
    NodeTree tree{state, bucket.gpu_model >= 0};
    treap::erase(tree, bucket.waiting_root, slot + 1);
  } else if (info.listed == Listed::open) {
    --bucket.open;
    erase_open(state, bucket, slot + 1);
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
  state.nodes[slot].bucket = index;
}

void leave_bucket(State& state, std::uint32_t slot) {
  const std::uint32_t index = state.nodes[slot].bucket;
  state.nodes[slot].bucket = kNone;
  Bucket& bucket = state.buckets[index];
  if (--bucket.members != 0) return;
  CHALK_INVARIANT(bucket.considered == 0 && bucket.grid == kNone && bucket.share_root == 0);
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
