#include "model/scheduler/blocks.h"

#include <algorithm>

#include "model/core/invariant.h"
#include "model/scheduler/state.h"

namespace chalk::scheduler::blocks {
namespace {

// A block with at most this many items is joined with a neighbour, if so many places are left then.
constexpr std::uint32_t kFew = kBlockItems / 4;

Block& block_of(State& state, std::uint32_t at) { return state.blocks[at - 1]; }

std::uint32_t new_block(State& state) { return take_index(state.blocks, state.vacant_blocks) + 1; }
void vacate(State& state, std::uint32_t at) { state.vacant_blocks.push_back(at - 1); }

void widen(Item& all, const Item& item) {
  all.cpu = std::max(all.cpu, item.cpu);
  all.memory = std::max(all.memory, item.memory);
  all.disk = std::max(all.disk, item.disk);
  all.whole = std::max(all.whole, item.whole);
  all.gpu_most = std::max(all.gpu_most, item.gpu_most);
}

// What stands for the block in the one above it.
Item summary_of(const Block& block, std::uint32_t at) {
  Item all = block.items[0];
  for (std::uint32_t i = 1; i < block.count; ++i) widen(all, block.items[i]);
  all.below = at;
  return all;
}

// How many items are at or before `item`.
std::uint32_t place_behind(const Block& block, const Item& item) {
  std::uint32_t place = 0;
  while (place < block.count && block.items[place].order() <= item.order()) ++place;
  return place;
}

void insert_at(Block& block, std::uint32_t place, const Item& item) {
  std::move_backward(block.items.begin() + place, block.items.begin() + block.count,
                     block.items.begin() + block.count + 1);
  block.items[place] = item;
  ++block.count;
}
void erase_at(Block& block, std::uint32_t place) {
  std::move(block.items.begin() + place + 1, block.items.begin() + block.count,
            block.items.begin() + place);
  block.items[--block.count] = {};
}
// Appends to `to` all items of `from` from `first` on.
void move_items(Block& from, std::uint32_t first, Block& to) {
  for (std::uint32_t i = first; i < from.count; ++i) {
    to.items[to.count++] = from.items[i];
    from.items[i] = {};
  }
  from.count = first;
}

// Puts `item` into a block or below it. Returns the block that was split off behind it, or zero.
std::uint32_t add_below(State& state, std::uint32_t at, const Item& item) {
  std::uint32_t place = place_behind(block_of(state, at), item);
  Item added = item;
  if (block_of(state, at).items[0].below != 0) {
    if (place > 0) --place;
    const std::uint32_t below = block_of(state, at).items[place].below;
    const std::uint32_t split = add_below(state, below, item);
    Item& one = block_of(state, at).items[place];
    if (split == 0) {
      if (item.order() < one.order()) std::tie(one.key, one.node) = item.order();
      widen(one, item);
      return 0;
    }
    one = summary_of(block_of(state, below), below);
    added = summary_of(block_of(state, split), split);
    ++place;
  }
  if (block_of(state, at).count < kBlockItems) {
    insert_at(block_of(state, at), place, added);
    return 0;
  }
  const std::uint32_t behind = new_block(state);
  constexpr std::uint32_t kHalf = kBlockItems / 2;
  move_items(block_of(state, at), kHalf, block_of(state, behind));
  if (place <= kHalf) {
    insert_at(block_of(state, at), place, added);
  } else {
    insert_at(block_of(state, behind), place - kHalf, added);
  }
  return behind;
}

// Joins the block of `place` with the one behind it. False: there is none, or too little room.
bool join(State& state, Block& block, std::uint32_t place) {
  if (place + 1 >= block.count) return false;
  Block& front = block_of(state, block.items[place].below);
  Block& back = block_of(state, block.items[place + 1].below);
  if (front.count + back.count > kBlockItems - kFew) return false;
  move_items(back, 0, front);
  vacate(state, block.items[place + 1].below);
  erase_at(block, place + 1);
  block.items[place] = summary_of(front, block.items[place].below);
  return true;
}

void remove_below(State& state, std::uint32_t at, const Item& item) {
  Block& block = block_of(state, at);
  const std::uint32_t place = place_behind(block, item) - 1;
  CHALK_INVARIANT(place < block.count);
  const std::uint32_t below = block.items[place].below;
  if (below == 0) {
    CHALK_INVARIANT(block.items[place].order() == item.order());
    return erase_at(block, place);
  }
  remove_below(state, below, item);
  const Block& changed = block_of(state, below);
  if (changed.count == 0) {
    vacate(state, below);
    return erase_at(block, place);
  }
  block.items[place] = summary_of(changed, below);
  if (changed.count > kFew || join(state, block, place)) return;
  if (place > 0) join(state, block, place - 1);
}

}  // namespace

void add(State& state, std::uint32_t& root, const Item& item) {
  if (root == 0) {
    root = new_block(state);
    insert_at(block_of(state, root), 0, item);
    return;
  }
  const std::uint32_t behind = add_below(state, root, item);
  if (behind == 0) return;
  const std::uint32_t above = new_block(state);
  Block& block = block_of(state, above);
  insert_at(block, 0, summary_of(block_of(state, root), root));
  insert_at(block, 1, summary_of(block_of(state, behind), behind));
  root = above;
}

void remove(State& state, std::uint32_t& root, const Item& item) {
  CHALK_INVARIANT(root != 0);
  remove_below(state, root, item);
  // Where nothing is left, or the one block below can take its place.
  while (root != 0) {
    Block& block = block_of(state, root);
    if (block.count > 1 || (block.count == 1 && block.items[0].below == 0)) return;
    vacate(state, root);
    root = block.items[0].below;
    block = {};
  }
}

void take_all(State& state, std::uint32_t& root, std::vector<std::uint32_t>& nodes) {
  if (root == 0) return;
  Block& block = block_of(state, root);
  for (std::uint32_t i = 0; i < block.count; ++i) {
    Item& item = block.items[i];
    if (item.below == 0) {
      nodes.push_back(item.node);
    } else {
      take_all(state, item.below, nodes);
    }
  }
  block = {};
  vacate(state, root);
  root = 0;
}

}  // namespace chalk::scheduler::blocks
