// Bounds of what a scheduler takes: nodes and asks that mean nothing, and the last that does.
#include <map>

#include "model/core/random.h"
#include "model/scheduler/trees.h"
#include "tests/model/scheduler/desk.h"

namespace chalk::scheduler {
namespace {

TEST(Scheduler, TakesNodesOfEverySensibleShapeAndNoOthers) {
  const auto taken = [](auto change) {
    Desk desk;
    NodeShape shape = cores(4, 1);
    change(shape);
    desk.add(1, shape);
    EXPECT_EQ(desk.state().ignored.malformed_nodes + desk.state().live_nodes, 1u);
    return desk.state().live_nodes == 1;
  };
  EXPECT_TRUE(taken([](NodeShape&) {}));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape = {}; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.cpu_millicores = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.memory_bytes = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.disk_bytes = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.gpus = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.gpu_model = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.start_slots = -1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.sandboxes_max = -1; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.start_slots = 0; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.sandboxes_max = 0; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.cpu_millicores = kCpuMillicoresMax; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.cpu_millicores = kCpuMillicoresMax + 1; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.memory_bytes = kBytesMax; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.memory_bytes = kBytesMax + 1; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.disk_bytes = kBytesMax; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.disk_bytes = kBytesMax + 1; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.gpus = kGpusPerNodeMax; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.gpus = kGpusPerNodeMax + 1; }));
  EXPECT_TRUE(taken([](NodeShape& shape) { shape.gpu_model = kGpuModelsMax - 1; }));
  EXPECT_FALSE(taken([](NodeShape& shape) { shape.gpu_model = kGpuModelsMax; }));
}

TEST(Scheduler, KnowsAsManyZonesAsItMay) {
  Desk desk(Config{.zones_max = 2});
  desk.add(1, cores(4), 1);
  desk.add(2, cores(4), 2);
  desk.add(3, cores(4), 3);
  EXPECT_EQ(desk.state().ignored.nodes_over_limit, 1u);
  EXPECT_EQ(desk.state().live_nodes, 2u);
  desk.add(4, cores(4), 2);
  EXPECT_EQ(desk.state().live_nodes, 3u);
  EXPECT_EQ(desk.state().infos[3].zone, 1u);
}

TEST(Scheduler, RefusesAsksBelowNothingAndTakesAsksOfNothing) {
  Desk desk;
  desk.add(1, cores(4, kGpusPerNodeMax));
  PlaceAsked asked = one(1, 0);
  asked.ask.memory_bytes = -1;
  EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::limit, -1, 0, 0}));
  asked.ask.memory_bytes = 0;
  asked.ask.disk_bytes = -2;
  EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::limit, -2, 0, 0}));
  asked.ask.disk_bytes = 0;
  EXPECT_EQ(desk.place(asked), 1u);
  EXPECT_EQ(desk.refused(gpu(2, -1, 1000)), (NotPlaced{{2}, Shortage::limit, -1, 16, 0}));
  EXPECT_EQ(desk.refused(gpu(2, 1, 1001)), (NotPlaced{{2}, Shortage::limit, 1001, 1000, 0}));
  EXPECT_EQ(desk.refused(gpu(2, 2, 999)), (NotPlaced{{2}, Shortage::limit, 2, 1, 0}));
  EXPECT_EQ(desk.place(gpu(2, 1, 1)), 1u);
  desk.send(Released{{2}});
  EXPECT_EQ(desk.place(gpu(3, kGpusPerNodeMax, 1000)), 1u);
}

TEST(Scheduler, TakesTheLastNodeAndTheLastSandboxThatItMay) {
  Desk desk(Config{.nodes_max = 2, .sandboxes_max = 2});
  desk.add(2, cores(4));
  EXPECT_EQ(desk.state().live_nodes, 1u);
  desk.add(3, cores(4));
  EXPECT_EQ(desk.state().ignored.nodes_over_limit, 1u);
  EXPECT_EQ(desk.state().live_nodes, 1u);
  EXPECT_EQ(desk.place(one(2)), 2u);
  EXPECT_EQ(desk.refused(one(3)), (NotPlaced{{3}, Shortage::limit, 3, 2, 0}));
}

TEST(Scheduler, ANewerNodeInASlotTakesThePlaceOfTheOld) {
  Desk desk;
  const std::uint64_t newer = std::uint64_t{1} << 32 | 1;
  desk.add(1, cores(4), 1, 0, 3);
  desk.place(one(1));
  desk.add(newer, cores(8, 2), 2, 0, 4);
  EXPECT_EQ(desk.state().live_nodes, 1u);
  EXPECT_EQ(desk.state().live_reservations, 0u);
  desk.add(1, cores(4));
  EXPECT_EQ(desk.state().ignored.duplicate_nodes, 1u) << "the old one comes late";
  PlaceAsked asked = one(2, 8000);
  asked.pool = {4};
  EXPECT_EQ(desk.place(asked), newer);
  desk.send(NodeRemoved{{newer}});
  EXPECT_EQ(desk.state().live_nodes, 0u);
  EXPECT_EQ(desk.state().shared_pool_nodes, 0u);
  EXPECT_EQ(desk.state().vacant_gpu_rows.size(), 1u);
}

TEST(Scheduler, ListsOfANodesReservationsHoldWhateverIsReleased) {
  for (std::uint64_t first = 1; first <= 3; ++first) {
    for (std::uint64_t second = 1; second <= 3; ++second) {
      Desk desk;
      desk.add(1, cores(4));
      for (std::uint64_t sandbox = 1; sandbox <= 3; ++sandbox) desk.place(one(sandbox));
      desk.send(Released{{first}});
      desk.send(Released{{second}});
      const std::uint64_t left = first == second ? 2 : 1;
      EXPECT_EQ(desk.state().live_reservations, left);
      desk.send(NodeRemoved{{1}});
      EXPECT_EQ(desk.state().live_reservations, 0u);
      for (const Reservation& held : desk.state().reservations) EXPECT_EQ(held.node, 0u);
    }
  }
}

TEST(Scheduler, FindsTheNodesOfAGridOnAnyOfItsLevels) {
  for (const std::uint32_t row : {0u, 8u, 63u, 64u, 65u, kRows - 1}) {
    for (const std::uint32_t column : {0u, 1u, 4u, 13u, kColumns - 1}) {
      Desk desk;
      NodeShape shape = cores(1);
      shape.cpu_millicores = CpuScale::lowest(row);
      shape.memory_bytes = MemoryScale::lowest(column);
      for (std::uint64_t node = 1; node <= 256; ++node) desk.add(node, shape);
      ASSERT_NE(desk.state().buckets.at(0).grid, kNone);
      PlaceAsked asked = one(1, shape.cpu_millicores);
      asked.ask.memory_bytes = shape.memory_bytes + 1;
      EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::memory, shape.memory_bytes + 1,
                                                shape.memory_bytes, 256}));
      asked.ask.memory_bytes = shape.memory_bytes;
      asked.ask.cpu_millicores = shape.cpu_millicores + 1;
      EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::cpu, shape.cpu_millicores + 1,
                                                shape.cpu_millicores, 256}));
      asked.ask.cpu_millicores = shape.cpu_millicores;
      EXPECT_EQ(desk.place(asked), 1u);
    }
  }
}

// The bounds of a search are products of what is asked for; the sanitizer would tell.
TEST(Scheduler, WhatNoNodeMayHaveIsRefusedWithoutOverflow) {
  Desk desk;
  NodeShape shape = cores(1);
  shape.cpu_millicores = CpuScale::lowest(kRows - 1);
  for (std::uint64_t node = 1; node <= 256; ++node) desk.add(node, shape);
  for (const std::int64_t amount : {kCpuMillicoresMax, kCpuMillicoresMax + 1, INT64_MAX}) {
    PlaceAsked asked = one(1, shape.cpu_millicores);
    asked.ask.cpu_millicores = amount;
    EXPECT_EQ(desk.refused(asked),
              (NotPlaced{{1}, Shortage::cpu, amount, shape.cpu_millicores, 256}));
  }
  for (const std::int64_t amount : {kBytesMax, kBytesMax + 1, INT64_MAX}) {
    PlaceAsked asked = one(1, shape.cpu_millicores);
    asked.ask.memory_bytes = amount;
    EXPECT_EQ(desk.refused(asked),
              (NotPlaced{{1}, Shortage::memory, amount, shape.memory_bytes, 256}));
  }
}

// Between the two bounds a bucket stays as it is, so that a node that comes and goes does not make a
// grid and take it again each time.
TEST(Scheduler, AGridStaysUntilFewNodesAreLeft) {
  Desk desk;
  for (std::uint64_t node = 1; node <= 256; ++node) {
    desk.add(node, cores(4));
    EXPECT_EQ(desk.state().buckets.at(0).grid != kNone, node == 256);
  }
  for (std::uint64_t node = 1; node <= 192; ++node) {
    desk.send(NodeCordoned{{node}, true});
    EXPECT_EQ(desk.state().buckets.at(0).grid == kNone, node == 192);
  }
  for (std::uint64_t node = 1; node <= 192; ++node) {
    desk.send(NodeCordoned{{node}, false});
    EXPECT_EQ(desk.state().buckets.at(0).grid != kNone, node == 192);
  }
}

// As published for the finaliser of MurmurHash3: the shape of every tree in old logs depends on it.
TEST(Scheduler, APriorityIsTheFinaliserOfMurmur) {
  EXPECT_EQ(treap::priority(0), 0u);
  EXPECT_EQ(treap::priority(1), 0x514E28B7u);
  EXPECT_EQ(treap::priority(0xFFFFFFFFu), 0x81F16F39u);
}

TEST(Scheduler, AKeyIndexFindsWhatAMapDoes) {
  Random random{1, 0};
  KeyIndex index;
  std::map<std::uint64_t, std::uint32_t> naive;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t key = random.below(i < 10'000 ? 400 : 20);
    EXPECT_EQ(index.find(key), naive.contains(key) ? naive[key] : kNone);
    if (naive.erase(key) != 0) {
      index.erase(key);
    } else {
      naive[key] = static_cast<std::uint32_t>(i);
      index.insert(key, static_cast<std::uint32_t>(i));
    }
    ASSERT_EQ(index.size(), naive.size());
  }
  for (const auto& [key, value] : naive) EXPECT_EQ(index.find(key), value);
}

TEST(Scheduler, FindsTheNextBitUpwardsAndDownwards) {
  for (const std::array<std::uint64_t, 2>& bits :
       {std::array<std::uint64_t, 2>{0, 0}, {1, 0}, {0, 1}, {1ULL << 63, 1}, {5, 1ULL << 63},
        {1, 1ULL << 62}}) {
    const auto set = [&](std::uint32_t at) { return (bits[at / 64] >> at % 64 & 1) != 0; };
    for (std::uint32_t from = 0; from < kRows; ++from) {
      std::uint32_t up = from;
      while (up < kRows && !set(up)) ++up;
      EXPECT_EQ(next_bit(bits, from), up);
      std::uint32_t down = from;
      while (down != kNone && !set(down)) down = down == 0 ? kNone : down - 1;
      EXPECT_EQ(previous_bit(bits, from), down);
    }
  }
}

template <class Scale>
void expect_levels_side_by_side(std::uint32_t levels) {
  for (std::uint32_t level = 0; level + 1 < levels; ++level) {
    EXPECT_EQ(Scale::level(Scale::lowest(level)), level);
    EXPECT_EQ(Scale::level(Scale::highest(level)), level);
    EXPECT_EQ(Scale::highest(level) + 1, Scale::lowest(level + 1));
  }
  EXPECT_EQ(Scale::highest(levels - 1), INT64_MAX);
  EXPECT_EQ(Scale::level(INT64_MAX), levels - 1);
}
TEST(Scheduler, ALevelHoldsWhatLiesFromItsLowestToItsHighest) {
  expect_levels_side_by_side<CpuScale>(kRows);
  expect_levels_side_by_side<MemoryScale>(kColumns);
}

TEST(Scheduler, AMixForgetsByHalves) {
  Mix mix;
  const Resources common{.gpus = 1, .gpu_millis = 500}, rare{.gpus = 1, .gpu_millis = 100};
  mix.learn(rare);
  for (std::uint64_t n = 2; n < kHalvedAt; ++n) mix.learn(common);
  ASSERT_EQ(mix.kinds.size(), 2u);
  EXPECT_EQ(mix.kinds[0].count, 1u);
  EXPECT_EQ(mix.kinds[1].count, kHalvedAt - 2);
  EXPECT_EQ(mix.total, kHalvedAt - 1);
  mix.learn(common);
  EXPECT_EQ(mix.kinds[0].count, 0u);
  EXPECT_EQ(mix.kinds[1].count, (kHalvedAt - 1) / 2);
  EXPECT_EQ(mix.total, (kHalvedAt - 1) / 2);
}

TEST(Scheduler, AFullMixLetsTheRarestKindGo) {
  Mix mix;
  const auto kind = [](std::int32_t millis) {
    return Resources{.gpus = 1, .gpu_millis = millis};
  };
  for (int n = 0; n < static_cast<int>(kTypicalMax); ++n) {
    mix.learn(kind(n + 1));
    if (n != 3) mix.learn(kind(n + 1));
  }
  EXPECT_EQ(mix.kinds.size(), kTypicalMax);
  mix.learn(kind(900));
  EXPECT_EQ(mix.kinds.size(), kTypicalMax);
  EXPECT_EQ(mix.kinds[3].ask, kind(900));
  EXPECT_EQ(mix.kinds[3].count, 2u) << "it takes over what its place had";
}

// ---- gangs

TEST(Scheduler, PlacesAGangAsAWholeOrNotAtAll) {
  Desk desk;
  desk.add(1, cores(4));
  desk.add(2, cores(4));
  const State before = desk.state();
  const GangAsked four{{one(1, 2000), one(2, 3000), one(3, 2000), one(4, 2000)}};
  const Effects refused = desk.send(four);
  ASSERT_EQ(refused.size(), 1u);
  const auto& no = std::get<NotPlaced>(refused[0]);
  EXPECT_EQ(no.sandbox, SandboxId{1});
  EXPECT_EQ(no.why, Shortage::cpu);
  EXPECT_EQ(no.needed, 2000);
  EXPECT_EQ(no.best_available, 1000);
  EXPECT_EQ(desk.state().live_reservations, 0u);
  for (int slot = 0; slot < 2; ++slot) {
    EXPECT_EQ(desk.state().infos[slot], before.infos[slot]) << "also its owner and its slots";
    EXPECT_EQ(desk.state().nodes[slot].cpu, before.nodes[slot].cpu);
  }
  // Another owner may claim both of the nodes.
  const Effects placed = desk.send(GangAsked{{one(1, 2000, 8), one(2, 4000, 8), one(3, 2000, 8)}});
  ASSERT_EQ(placed.size(), 3u);
  EXPECT_EQ(std::get<Placed>(placed[0]), (Placed{{2}, {1}, 0, true, false})) << "the largest first";
  EXPECT_EQ(std::get<Placed>(placed[1]), (Placed{{1}, {2}, 0, true, false}));
  EXPECT_EQ(std::get<Placed>(placed[2]), (Placed{{3}, {2}, 0, false, false}));
}

TEST(Scheduler, AGangClaimsNoMoreNodesThanItMay) {
  Desk desk;
  desk.add(1, cores(4), 1, 7);
  desk.add(2, cores(4));
  desk.add(3, cores(4));
  GangAsked gang{{one(1, 4000), one(2, 4000), one(3, 4000)}};
  gang.claims_max = 1;
  const Effects refused = desk.send(gang);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(std::get<NotPlaced>(refused[0]).why, Shortage::cpu) << "on nodes of its own";
  EXPECT_FALSE(desk.state().infos[1].owner) << "and none stays claimed";
  gang.claims_max = 2;
  EXPECT_EQ(desk.send(gang).size(), 3u);
}

TEST(Scheduler, RefusesAGangWithAMemberThatHasANodeOrMeansNothing) {
  Desk desk;
  desk.add(1, cores(8));
  desk.place(one(2, 1000));
  EXPECT_TRUE(desk.send(GangAsked{}).empty());
  PlaceAsked bad = one(4);
  bad.ask.cpu_millicores = -5;
  for (const PlaceAsked& other : {one(2), one(1), bad}) {
    const Effects effects = desk.send(GangAsked{{one(1), other}});
    ASSERT_EQ(effects.size(), 1u);
    EXPECT_EQ(std::get<NotPlaced>(effects[0]).why, Shortage::limit);
  }
  EXPECT_EQ(desk.state().live_reservations, 1u);
}

}  // namespace
}  // namespace chalk::scheduler
