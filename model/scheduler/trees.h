// The order in which shares of GPUs stand, for treap.h; and the quantisation of a grid.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <tuple>

#include "model/scheduler/state.h"
#include "model/scheduler/treap.h"

namespace chalk::scheduler {

// Shares by (thousandths free on the GPU, scarcity of its node, residual, slot). A node has one
// share for each distinct amount, so no two are equal.
struct ShareTree {
  State& state;

  static constexpr std::uint32_t row_of(std::uint32_t i) { return (i - 1) / kGpusPerNodeMax; }
  static constexpr std::uint32_t gpu_of(std::uint32_t i) { return (i - 1) % kGpusPerNodeMax; }
  Share& share(std::uint32_t i) { return state.gpu_rows[row_of(i)].shares[gpu_of(i)]; }
  std::uint32_t& left(std::uint32_t i) { return share(i).left; }
  std::uint32_t& right(std::uint32_t i) { return share(i).right; }
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

// One dimension of a grid: some linear levels, then as many to the octave.
template <int kUnitShift, int kPerOctaveShift, std::uint32_t kLevels>
struct Scale {
  static constexpr std::uint64_t kLinear = std::uint64_t{1} << kPerOctaveShift;
  static constexpr std::uint32_t level(std::int64_t amount) {
    const std::uint64_t units = static_cast<std::uint64_t>(amount) >> kUnitShift;
    if (units < kLinear) return static_cast<std::uint32_t>(units);
    const int shift = std::bit_width(units) - 1 - kPerOctaveShift;
    const std::uint64_t level = (static_cast<std::uint64_t>(shift) << kPerOctaveShift) +
                                (units >> shift);
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(level, kLevels - 1));
  }
  static constexpr std::int64_t lowest(std::uint32_t level) {
    if (level < kLinear) return std::int64_t{level} << kUnitShift;
    const auto shift = static_cast<int>((level >> kPerOctaveShift) - 1);
    return static_cast<std::int64_t>(kLinear + level % kLinear) << (shift + kUnitShift);
  }
  static constexpr std::int64_t highest(std::uint32_t level) {
    return level == kLevels - 1 ? INT64_MAX : lowest(level + 1) - 1;
  }
};
// From 16 millicores, by eighths of an octave, and from 64 MiB, by quarters. Only in the one cell in
// which both of an ask's amounts lie may nodes miss either, so that a search must look at many; so
// cells are narrow.
using CpuScale = Scale<4, 3, kRows>;
using MemoryScale = Scale<26, 2, kColumns>;

static_assert(CpuScale::level(16'000) == 63 && CpuScale::lowest(63) == 15 << 10);
static_assert(MemoryScale::level(std::int64_t{7} << 30) == 23 &&
              MemoryScale::lowest(23) == std::int64_t{7} << 30);

// The least set bit at or above `from`, or kRows; the greatest at or below, or kNone.
constexpr std::uint32_t next_bit(const std::array<std::uint64_t, 2>& bits, std::uint32_t from) {
  for (std::uint32_t word = from / 64; word < 2; ++word) {
    const std::uint64_t rest =
        bits[word] & (word == from / 64 ? ~std::uint64_t{0} << from % 64 : ~std::uint64_t{0});
    if (rest != 0) return word * 64 + static_cast<std::uint32_t>(std::countr_zero(rest));
  }
  return kRows;
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
