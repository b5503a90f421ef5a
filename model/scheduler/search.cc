#include "model/core/invariant.h"
#include "model/scheduler/index.h"
#include "model/scheduler/trees.h"

namespace chalk::scheduler {

void Search::look_at(const Bucket& bucket) {
  if (bucket.open == 0) return;
  // More than any node may have, so that the bounds below stay within 63 bits.
  if (ask_.cpu_millicores > kCpuMillicoresMax || ask_.memory_bytes > kBytesMax) return;
  some_spared_ = false;
  if (!spare_.empty()) {  // mostly the nodes of a bucket are alike, and none or all are spared
    if (could_hold(spare_, bucket.least, bucket.pool, bucket.dedicated)) return;
    some_spared_ = could_hold(spare_, bucket.most, bucket.pool, bucket.dedicated);
  }
  if (is_share(ask_)) {
    first_share(bucket.share_root);
  } else if (bucket.grid == kNone) {
    first_in(bucket.open_root, bucket.gpu_model >= 0);
  } else {
    look_at_grid(state_.grids[bucket.grid]);
  }
}

bool Search::accepts(std::uint32_t node) {
  if (some_spared_ && could_hold(spare_, state_.infos[node - 1])) return false;
  if (image_ == nullptr) return true;
  if (tests_left_ == 0) {
    gave_up_ = true;
    return false;
  }
  --tests_left_;
  return holds_image(*image_, state_.infos[node - 1].id);
}

// Takes the first node in the list's order that fits, if it is better than the best so far. Returns
// whether nothing further in the list can win.
bool Search::first_in(std::uint32_t at, bool gpus) {
  const Block& block = state_.blocks[at - 1];
  for (std::uint32_t i = 0; i < block.count; ++i) {
    const Item& item = block.items[i];
    const Candidate here{gpus ? item.key : 0, gpus ? 0 : item.key, item.node};
    if (!(here < best)) return true;
    if (!may_fit(item)) continue;
    if (item.below != 0) {
      if (first_in(item.below, gpus)) return true;
    } else if (accepts(item.node)) {
      best = here;
      return true;
    } else if (gave_up_) {
      return true;
    }
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

// Rows upwards, until their lower bound on the residual is beaten.
void Search::look_at_grid(const Grid& grid) {
  const std::int64_t cpu = ask_.cpu_millicores, memory = ask_.memory_bytes;
  const std::uint64_t enough = ~std::uint64_t{0} << MemoryScale::level(memory);
  for (std::uint32_t row = next_bit(grid.rows, CpuScale::level(cpu)); row < kRows;
       row = row + 1 < kRows ? next_bit(grid.rows, row + 1) : kRows) {
    const std::int64_t least = std::max(CpuScale::lowest(row), cpu) * kBytesPerMillicore + memory;
    // A node with nothing scarce left ties with this bucket and is beaten on the residual alone.
    if (best.scarcity == 0 && least > best.residual) return;
    for (std::uint64_t left = grid.cells[row] & enough; left != 0; left &= left - 1) {
      const std::uint32_t cell =
          row * kColumns + static_cast<std::uint32_t>(std::countr_zero(left));
      if (best.scarcity == 0 && grid.least[cell] > best.residual) continue;
      first_in(grid.roots[cell], false);
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

// Backwards, since the most is likely there.
void Most::look_at_list(std::uint32_t at) {
  if (at == 0) return;
  const Block& block = state_.blocks[at - 1];
  for (std::uint32_t i = block.count; i-- > 0;) {
    const Item& item = block.items[i];
    const std::int64_t gpu = ask_.gpus == 0     ? 0
                             : is_share(ask_) ? item.gpu_most
                                              : item.whole * std::int64_t{1000};
    if (!passes(gpu, item.cpu, item.memory, item.disk)) continue;
    const std::int64_t here = amount(gpu, item.cpu, item.memory, item.disk);
    if (here <= most) continue;
    if (item.below == 0) {
      most = here;
    } else {
      look_at_list(item.below);
    }
  }
}

// Rows and columns downwards, so that the first cells already hold nearly the most.
void Most::look_at_grid(const Grid& grid) {
  const std::uint32_t least = filter_ > Filter::cpu ? CpuScale::level(ask_.cpu_millicores) : 0;
  const std::uint64_t enough =
      ~std::uint64_t{0} << (filter_ > Filter::memory ? MemoryScale::level(ask_.memory_bytes) : 0);
  for (std::uint32_t row = previous_bit(grid.rows, kRows - 1); row != kNone && row >= least;
       row = row > 0 ? previous_bit(grid.rows, row - 1) : kNone) {
    if (filter_ == Filter::cpu && CpuScale::highest(row) <= most) return;
    for (std::uint64_t left = grid.cells[row] & enough; left != 0;) {
      const auto column = static_cast<std::uint32_t>(std::bit_width(left)) - 1;
      if (filter_ == Filter::memory && MemoryScale::highest(column) <= most) break;
      look_at_list(grid.roots[row * kColumns + column]);
      left &= ~(std::uint64_t{1} << column);
    }
  }
}

void Most::look_at(const Bucket& bucket) {
  look_at_list(bucket.waiting_root);
  if (bucket.grid == kNone) {
    look_at_list(bucket.open_root);
  } else {
    look_at_grid(state_.grids[bucket.grid]);
  }
}

}  // namespace chalk::scheduler
