// The two orders in which nodes stand, for treap.h: nodes of a bucket, and shares of their GPUs;
// and the quantisation of a grid.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <tuple>

#include "model/scheduler/state.h"
#include "model/scheduler/treap.h"

namespace chalk::scheduler {

// Nodes by (scarcity, residual where there are no GPUs, slot).
struct NodeTree {
  State& state;
  bool gpus;  // of a bucket with GPUs

  std::uint32_t& left(std::uint32_t i) { return state.nodes[i - 1].left; }
  std::uint32_t& right(std::uint32_t i) { return state.nodes[i - 1].right; }
  void fetch(std::uint32_t i) const {
    const Node& node = state.nodes[i - 1];
    if (node.left != 0) __builtin_prefetch(&state.nodes[node.left - 1]);
    if (node.right != 0) __builtin_prefetch(&state.nodes[node.right - 1]);
  }
  bool less(std::uint32_t a, std::uint32_t b) const {
    const Node& x = state.nodes[a - 1];
    const Node& y = state.nodes[b - 1];
    if (gpus) return std::tuple(x.scarcity(), a) < std::tuple(y.scarcity(), b);
    return std::tuple(x.residual(), a) < std::tuple(y.residual(), b);
  }
  void pull(std::uint32_t i) {
    Node& node = state.nodes[i - 1];
    std::int64_t cpu = node.cpu, memory = node.memory, disk = node.disk;
    for (const std::uint32_t child : {node.left, node.right}) {
      if (child == 0) continue;
      const Node& below = state.nodes[child - 1];
      cpu = std::max(cpu, below.cpu_max);
      memory = std::max(memory, below.memory_max);
      disk = std::max(disk, below.disk_max);
    }
    node.cpu_max = cpu;
    node.memory_max = memory;
    node.disk_max = disk;
    if (gpus) pull_gpus(i);
  }
  GpuRow& row(std::uint32_t i) { return state.gpu_rows[state.infos[i - 1].gpu_row]; }
  void pull_gpus(std::uint32_t i) {
    const Node& node = state.nodes[i - 1];
    GpuRow& own = row(i);
    own.whole_max = own.whole;
    own.most_max = own.most;
    for (const std::uint32_t child : {node.left, node.right}) {
      if (child == 0) continue;
      own.whole_max = std::max(own.whole_max, row(child).whole_max);
      own.most_max = std::max(own.most_max, row(child).most_max);
    }
  }
};

// Shares by (thousandths free on the GPU, scarcity of its node, residual, slot). A node has one
// share for each distinct amount, so no two are equal.
struct ShareTree {
  State& state;

  static constexpr std::uint32_t row_of(std::uint32_t i) { return (i - 1) / kGpusPerNodeMax; }
  static constexpr std::uint32_t gpu_of(std::uint32_t i) { return (i - 1) % kGpusPerNodeMax; }
  Share& share(std::uint32_t i) { return state.gpu_rows[row_of(i)].shares[gpu_of(i)]; }
  std::uint32_t& left(std::uint32_t i) { return share(i).left; }
  std::uint32_t& right(std::uint32_t i) { return share(i).right; }
  void fetch(std::uint32_t) const {}
  auto key(std::uint32_t i) const {
    const GpuRow& row = state.gpu_rows[row_of(i)];
    const Node& node = state.nodes[row.slot];
    return std::tuple(row.free[gpu_of(i)], node.scarcity(), node.residual(), row.slot);
  }
  bool less(std::uint32_t a, std::uint32_t b) const { return key(a) < key(b); }
  void pull(std::uint32_t i) {
    Share& own = share(i);
    const Node& node = state.nodes[state.gpu_rows[row_of(i)].slot];
    own.cpu_max = node.cpu;
    own.memory_max = node.memory;
    own.disk_max = node.disk;
    for (const std::uint32_t child : {own.left, own.right}) {
      if (child == 0) continue;
      const Share& below = share(child);
      own.cpu_max = std::max(own.cpu_max, below.cpu_max);
      own.memory_max = std::max(own.memory_max, below.memory_max);
      own.disk_max = std::max(own.disk_max, below.disk_max);
    }
  }
};

// Levels: 8 linear ones, then 8 to the octave, so a level is at most an eighth wide.
constexpr std::uint32_t level_of(std::uint64_t units) {
  if (units < 8) return static_cast<std::uint32_t>(units);
  const std::uint32_t octave = static_cast<std::uint32_t>(std::bit_width(units)) - 1;
  const auto level = (octave - 2) * 8 + static_cast<std::uint32_t>(units >> (octave - 3) & 7);
  return std::min(level, kLevels - 1);
}
constexpr std::int64_t lowest_units(std::uint32_t level) {
  if (level < 8) return level;
  return std::int64_t{8 + level % 8} << (level / 8 - 1);
}

// One dimension of a grid; kShift makes its unit.
template <int kShift>
struct Scale {
  static constexpr std::uint32_t level(std::int64_t amount) {
    return level_of(static_cast<std::uint64_t>(amount) >> kShift);
  }
  static constexpr std::int64_t lowest(std::uint32_t level) {
    return lowest_units(level) << kShift;
  }
  static constexpr std::int64_t highest(std::uint32_t level) {
    return level == kLevels - 1 ? INT64_MAX : lowest(level + 1) - 1;
  }
};
using CpuScale = Scale<4>;      // 16 millicores
using MemoryScale = Scale<26>;  // 64 MiB

static_assert(level_of(8) == 8 && lowest_units(8) == 8 && lowest_units(level_of(1000)) == 960);

// The least set bit at or above `from`, or kLevels; the greatest at or below, or kNone.
constexpr std::uint32_t next_bit(const std::array<std::uint64_t, 2>& bits, std::uint32_t from) {
  for (std::uint32_t word = from / 64; word < 2; ++word) {
    const std::uint64_t rest =
        bits[word] & (word == from / 64 ? ~std::uint64_t{0} << from % 64 : ~std::uint64_t{0});
    if (rest != 0) return word * 64 + static_cast<std::uint32_t>(std::countr_zero(rest));
  }
  return kLevels;
}
constexpr std::uint32_t previous_bit(const std::array<std::uint64_t, 2>& bits, std::uint32_t from) {
  for (std::uint32_t word = from / 64; word < 2; --word) {
    const std::uint64_t rest =
        bits[word] &
        (word == from / 64 ? ~std::uint64_t{0} >> (63 - from % 64) : ~std::uint64_t{0});
    if (rest != 0) return word * 64 + 63 - static_cast<std::uint32_t>(std::countl_zero(rest));
  }
  return kNone;
}

}  // namespace chalk::scheduler
