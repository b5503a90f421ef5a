#include "model/core/invariant.h"
#include "model/scheduler/index.h"
#include "model/scheduler/trees.h"

namespace chalk::scheduler {

void Search::look_at(const Bucket& bucket) {
  if (bucket.open == 0) return;
  if (is_share(ask_)) {
    first_share(bucket.share_root);
  } else if (bucket.gpu_model >= 0) {
    first_in_tree<true>(bucket.open_root);
  } else if (bucket.grid == kNone) {
    first_in_tree<false>(bucket.open_root);
  } else {
    look_at_grid(state_.grids[bucket.grid]);
  }
}

bool Search::accepts(std::uint32_t node) {
  if (image_ == nullptr) return true;
  if (tests_left_ == 0) {
    gave_up_ = true;
    return false;
  }
  --tests_left_;
  return holds_image(*image_, state_.infos[node - 1].id);
}

// Takes the first node in the tree's order that fits, if it is better than the best so far.
template <bool kGpus>
bool Search::first_in_tree(std::uint32_t at) {
  while (at != 0) {
    const Node& node = state_.nodes[at - 1];
    if (node.cpu_max < ask_.cpu_millicores || node.memory_max < ask_.memory_bytes ||
        node.disk_max < ask_.disk_bytes) {
      return false;
    }
    const GpuRow* row = kGpus ? &state_.gpu_rows[state_.infos[at - 1].gpu_row] : nullptr;
    if (kGpus && row->whole_max < ask_.gpus) return false;
    if (node.left != 0 && first_in_tree<kGpus>(node.left)) return true;
    const Candidate here{node.scarcity(), kGpus ? 0 : node.residual(), at};
    if (gave_up_ || !(here < best)) return false;
    if (node.cpu >= ask_.cpu_millicores && node.memory >= ask_.memory_bytes &&
        node.disk >= ask_.disk_bytes && (!kGpus || row->whole >= ask_.gpus) && accepts(at)) {
      best = here;
      return true;
    }
    at = node.right;
  }
  return false;
}

bool Search::first_share(std::uint32_t at) {
  while (at != 0) {
    const GpuRow& row = state_.gpu_rows[ShareTree::row_of(at)];
    const std::uint32_t gpu = ShareTree::gpu_of(at);
    const Share& share = row.shares[gpu];
    if (share.cpu_max < ask_.cpu_millicores || share.memory_max < ask_.memory_bytes ||
        share.disk_max < ask_.disk_bytes) {
      return false;
    }
    const bool enough = row.free[gpu] >= ask_.gpu_millis;
    if (enough && share.left != 0 && first_share(share.left)) return true;
    const Node& node = state_.nodes[row.slot];
    const Candidate here{scarcity_of(node, ask_, row.free[gpu]), node.residual(), row.slot + 1};
    if (gave_up_ || !(here < best)) return false;
    if (enough && node.cpu >= ask_.cpu_millicores && node.memory >= ask_.memory_bytes &&
        node.disk >= ask_.disk_bytes && accepts(row.slot + 1)) {
      best = here;
      return true;
    }
    at = share.right;
  }
  return false;
}

// Rows and columns upwards, each until its lower bound on the residual is beaten.
void Search::look_at_grid(const Grid& grid) {
  const std::int64_t cpu = ask_.cpu_millicores, memory = ask_.memory_bytes;
  // A node with nothing scarce left ties with this bucket and is beaten on the residual alone.
  const auto beaten = [&](std::int64_t residual) {
    return best.scarcity == 0 && residual > best.residual;
  };
  for (std::uint32_t row = next_bit(grid.rows, CpuScale::level(cpu)); row < kLevels;
       row = row + 1 < kLevels ? next_bit(grid.rows, row + 1) : kLevels) {
    const std::int64_t row_least = std::max(CpuScale::lowest(row), cpu) * kBytesPerMillicore;
    if (beaten(row_least + memory)) return;
    const auto& columns = grid.columns[row];
    for (std::uint32_t column = next_bit(columns, MemoryScale::level(memory)); column < kLevels;
         column = column + 1 < kLevels ? next_bit(columns, column + 1) : kLevels) {
      if (beaten(row_least + std::max(MemoryScale::lowest(column), memory))) break;
      first_in_tree<false>(grid.roots[row * kLevels + column]);
      if (gave_up_) return;
    }
  }
}

bool Most::passes(std::int64_t gpu, std::int64_t cpu, std::int64_t memory,
                  std::int64_t disk) const {
  const auto after = [&](Filter filter) { return filter_ > filter; };
  return (!after(Filter::gpu) || gpu >= std::int64_t{ask_.gpus} * ask_.gpu_millis) &&
         (!after(Filter::cpu) || cpu >= ask_.cpu_millicores) &&
         (!after(Filter::memory) || memory >= ask_.memory_bytes) &&
         (!after(Filter::disk) || disk >= ask_.disk_bytes);
}

std::int64_t Most::amount(std::int64_t gpu, std::int64_t cpu, std::int64_t memory,
                          std::int64_t disk) const {
  switch (filter_) {
    case Filter::gpu: return gpu;
    case Filter::cpu: return cpu;
    case Filter::memory: return memory;
    case Filter::disk: return disk;
    case Filter::start_slots: return 0;
  }
  return 0;
}

void Most::look_at_tree(std::uint32_t at, bool gpus) {
  if (at == 0) return;
  const Node& node = state_.nodes[at - 1];
  std::int64_t gpu = 0, gpu_below = 0;
  if (gpus && ask_.gpus > 0) {
    const GpuRow& row = state_.gpu_rows[state_.infos[at - 1].gpu_row];
    gpu = is_share(ask_) ? row.most : row.whole * 1000;
    gpu_below = is_share(ask_) ? row.most_max : row.whole_max * 1000;
  }
  if (!passes(gpu_below, node.cpu_max, node.memory_max, node.disk_max)) return;
  if (amount(gpu_below, node.cpu_max, node.memory_max, node.disk_max) <= most) return;
  if (passes(gpu, node.cpu, node.memory, node.disk)) {
    most = std::max(most, amount(gpu, node.cpu, node.memory, node.disk));
  }
  look_at_tree(node.left, gpus);
  look_at_tree(node.right, gpus);
}

// Rows and columns downwards, so that the first cells already hold nearly the most.
void Most::look_at_grid(const Grid& grid) {
  const std::uint32_t row_least = filter_ > Filter::cpu ? CpuScale::level(ask_.cpu_millicores) : 0;
  const std::uint32_t column_least =
      filter_ > Filter::memory ? MemoryScale::level(ask_.memory_bytes) : 0;
  for (std::uint32_t row = previous_bit(grid.rows, kLevels - 1); row != kNone && row >= row_least;
       row = row > 0 ? previous_bit(grid.rows, row - 1) : kNone) {
    if (filter_ == Filter::cpu && CpuScale::highest(row) <= most) return;
    const auto& columns = grid.columns[row];
    for (std::uint32_t column = previous_bit(columns, kLevels - 1);
         column != kNone && column >= column_least;
         column = column > 0 ? previous_bit(columns, column - 1) : kNone) {
      if (filter_ == Filter::memory && MemoryScale::highest(column) <= most) break;
      look_at_tree(grid.roots[row * kLevels + column], false);
    }
  }
}

void Most::look_at(const Bucket& bucket) {
  const bool gpus = bucket.gpu_model >= 0;
  look_at_tree(bucket.waiting_root, gpus);
  if (bucket.grid == kNone) {
    look_at_tree(bucket.open_root, gpus);
  } else {
    look_at_grid(state_.grids[bucket.grid]);
  }
}

}  // namespace chalk::scheduler
