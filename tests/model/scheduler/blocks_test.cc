// Lists in blocks against a sorted set: whatever is added and taken away, in whatever order.
#include "model/scheduler/blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "model/core/random.h"
#include "model/scheduler/state.h"
#include "tests/model/scheduler/whole.h"

namespace chalk::scheduler {
namespace {

Item item(std::int64_t key, std::uint32_t node) {
  Item one;
  one.key = key;
  one.node = node;
  one.cpu = node * 7 % 100;
  one.memory = node * 13 % 100;
  one.disk = node * 29 % 100;
  one.whole = static_cast<std::int16_t>(node % 9);
  one.gpu_most = static_cast<std::int16_t>(node % 1001);
  return one;
}

struct Less {
  bool operator()(const Item& a, const Item& b) const { return a.order() < b.order(); }
};

struct List {
  State state;
  std::uint32_t root = 0;
  std::set<Item, Less> naive;

  void add(const Item& one) {
    naive.insert(one);
    blocks::add(state, root, one);
  }
  void remove(Item one) {
    naive.erase(one);
    blocks::remove(state, root, one);
  }
  // The nodes below, in order. Every item that stands for a block is what its nodes make it, all
  // nodes are at the same depth, and behind the last item is nothing.
  std::vector<Item> below(std::uint32_t at, int levels) const {
    std::vector<Item> all;
    const Block& block = state.blocks[at - 1];
    EXPECT_GT(block.count, 0u);
    for (std::uint32_t i = block.count; i < kBlockItems; ++i) EXPECT_EQ(block.items[i], Item{});
    for (std::uint32_t i = 0; i < block.count; ++i) {
      EXPECT_EQ(block.items[i].below == 0, levels == 1);
      if (block.items[i].below == 0) {
        all.push_back(block.items[i]);
        continue;
      }
      const std::vector<Item> more = below(block.items[i].below, levels - 1);
      EXPECT_EQ(block.items[i], sum_of(more, block.items[i].below));
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }
  int levels() const {
    int count = 0;
    for (std::uint32_t at = root; at != 0; at = state.blocks[at - 1].items[0].below) ++count;
    return count;
  }
  std::size_t used() const { return state.blocks.size() - state.vacant_blocks.size(); }
  void check() const {
    const std::vector<Item> all = root == 0 ? std::vector<Item>{} : below(root, levels());
    EXPECT_TRUE(std::equal(all.begin(), all.end(), naive.begin(), naive.end()));
  }
};

TEST(Blocks, HoldWhatASortedSetDoes) {
  Random random{1, 0};
  for (const std::uint64_t keys : {1ull, 5ull, 1'000'000ull}) {
    List list;
    const auto toggle = [&](std::uint64_t of) {
      const auto node = static_cast<std::uint32_t>(1 + random.below(of));
      const Item one = item(static_cast<std::int64_t>(mix64(node) % keys), node);
      if (list.naive.contains(one)) {
        list.remove(one);
      } else {
        list.add(one);
      }
    };
    // Grows to some 1,000 and stays.
    for (int step = 0; step < 5000; ++step) {
      toggle(2000);
      if (step % 50 == 0) list.check();
    }
    EXPECT_GT(list.naive.size(), 900u);
    // Shrinks from either end and in between, while others come.
    for (int step = 0; list.naive.size() > 10; ++step) {
      list.remove(step % 2 == 0 ? *list.naive.begin() : *list.naive.rbegin());
      if (step % 3 == 0) toggle(2000);
      if (step % 50 == 0) list.check();
    }
    list.check();
    while (!list.naive.empty()) list.remove(*list.naive.rbegin());
    EXPECT_EQ(list.root, 0u);
    EXPECT_EQ(list.used(), 0u);
  }
}

// However it came to be, a list has no more blocks and levels than its length asks for.
TEST(Blocks, AreNotLeftNearlyEmpty) {
  constexpr std::uint32_t kNodes = 10'000;
  for (const std::uint32_t keep : {7u, 16u, 100u}) {
    for (const bool full : {false, true}) {
      for (const bool backwards : {false, true}) {
        List list;
        // In order, each block is left half full; those between fill them up.
        for (std::uint32_t node = 2; node <= kNodes; node += 2) list.add(item(node, node));
        EXPECT_LE(list.used(), kNodes / 2 / (kBlockItems / 2) * 5 / 4);
        for (std::uint32_t node = 1; full && node <= kNodes; node += 2) list.add(item(node, node));
        if (full) {
          EXPECT_LE(list.used(), kNodes / kBlockItems * 5 / 4);
        }
        for (std::uint32_t i = 1; i <= kNodes; ++i) {
          const std::uint32_t node = backwards ? kNodes + 1 - i : i;
          const Item one = item(node, node);
          if (node % keep != 0 && list.naive.contains(one)) list.remove(one);
        }
        list.check();
        // Of two neighbours at least one has more than a quarter.
        EXPECT_LE(list.used(), 2 * list.naive.size() / (kBlockItems / 4 + 2) * 5 / 4 + 2);
        for (const Item& one : std::set(list.naive)) {
          if (one.node > 40) list.remove(one);
        }
        list.check();
        EXPECT_LE(list.levels(), 2);
      }
    }
  }
}

TEST(Blocks, GiveAllTheirNodesInOrder) {
  List list;
  for (std::uint32_t node = 1; node <= 500; ++node) list.add(item(node * 37 % 101, node));
  std::vector<std::uint32_t> nodes{9}, expected{9};
  for (const Item& one : list.naive) expected.push_back(one.node);
  blocks::take_all(list.state, list.root, nodes);
  EXPECT_EQ(nodes, expected);
  EXPECT_EQ(list.root, 0u);
  EXPECT_EQ(list.used(), 0u);
  for (const Block& block : list.state.blocks) EXPECT_EQ(block, Block{});
}

}  // namespace
}  // namespace chalk::scheduler
