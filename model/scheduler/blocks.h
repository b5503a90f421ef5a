// Ordered lists of nodes, kept in blocks: B+-trees inside an array of State.
//
// An item of a block is a node, or stands for all of a block one level down: then it has the order
// of its first node and the most of every amount, so that a block in which nobody has enough is
// passed over unseen. A node moves within the index by touching a few blocks that lie in one piece
// each, where a binary tree would touch a dozen places.
//
// References to blocks are index + 1, zero is none. Blocks are split when they are full, and joined
// only when one has become nearly empty (compare Johnson and Shasha, "B-trees with inserts and
// deletes: why free-at-empty is better than merge-at-half", 1993), so their shape depends on the
// order of changes; what they hold, and so every decision, does not.
#pragma once
#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include "model/core/fields.h"

namespace chalk::scheduler {

struct State;

struct Item {
  std::int64_t key = 0;
  std::int64_t cpu = 0, memory = 0, disk = 0;  // free
  std::uint32_t node = 0;   // slot + 1
  std::uint32_t below = 0;  // the block that it stands for; none: it is a node
  std::int16_t whole = 0, gpu_most = 0;  // GPUs wholly free, and most thousandths free on one
  CHALK_FIELDS(Item, key, cpu, memory, disk, node, below, whole, gpu_most)
  auto order() const { return std::tuple(key, node); }
};

static_assert(sizeof(Item) == 48);

inline constexpr std::uint32_t kBlockItems = 16;
struct Block {
  std::uint32_t count = 0;  // 0: the block is vacant
  std::array<Item, kBlockItems> items{};
  CHALK_FIELDS(Block, count, items)
};

namespace blocks {

// `item` must not be in the list yet, and for remove it must be.
void add(State& state, std::uint32_t& root, const Item& item);
void remove(State& state, std::uint32_t& root, const Item& item);
// Empties the list and appends its nodes, in order.
void take_all(State& state, std::uint32_t& root, std::vector<std::uint32_t>& nodes);

}  // namespace blocks
}  // namespace chalk::scheduler
