// Which pool is bought from goes by all that runs, not by the little that waits.
#include "model/fleet/all_that_runs.h"

#include <gtest/gtest.h>

#include "tests/model/fleet/rig.h"

namespace chalk::fleet {
namespace {

constexpr std::int64_t kGi = std::int64_t{1} << 30;

NodeShape shape(std::int64_t cores, std::int64_t gi) {
  return {.cpu_millicores = cores * 1000, .memory_bytes = gi * kGi};
}
// Two shapes of sixteen cores: the lean one is cheaper, the roomy one cheaper for its memory.
Offer lean() { return {{1}, shape(16, 32), 680, false, 0, 10}; }
Offer roomy() { return {{2}, shape(16, 64), 768, false, 0, 10}; }
std::vector<Waiting> one_core(std::uint64_t owner) {
  return {{{owner}, {}, {.cpu_millicores = 1000, .memory_bytes = 2 * kGi}, 1}};
}
Running runs(std::uint64_t owner, std::uint64_t pool, std::int64_t cores, std::int64_t gi) {
  return {{owner}, {pool}, {cores * 1000, gi * kGi, 0, 0, cores}, {1000, 2 * kGi}, 1000, 1};
}
Running in_pieces_of(Running runs, std::int64_t cores, std::int64_t gi) {
  runs.largest = {cores * 1000, gi * kGi};
  return runs;
}
// The pool that one more core of owner 1 is bought in.
std::uint64_t bought_in(const std::vector<Offer>& offers, const std::vector<Running>& running) {
  const auto needs = nodes_needed(one_core(1), offers, Expander::cheapest_for_all, running);
  for (std::size_t i = 0; i < needs.size(); ++i) {
    if (needs[i].buy != 0) return offers[i].pool.value;
  }
  return 0;
}

TEST(AllThatRuns, APoolIsBoughtFromForWhatItsOwnersRun) {
  const std::vector<Offer> offers{lean(), roomy()};
  EXPECT_EQ(bought_in(offers, {}), 1u) << "one node either way, so the cheaper";
  EXPECT_EQ(bought_in(offers, {runs(1, 1, 40, 160)}), 2u);
  EXPECT_EQ(bought_in(offers, {runs(1, 1, 40, 80)}), 1u) << "two GiB a core is what the lean have";
  EXPECT_EQ(bought_in(offers, {runs(2, 1, 40, 160)}), 1u) << "that is another owner's";
  EXPECT_EQ(bought_in(offers, {runs(1, 3, 40, 160)}), 1u) << "that runs where nothing is bought";
}

// What goes to nodes that are on their way runs soon.
TEST(AllThatRuns, WhatFillsNodesThatAreOnTheirWayCounts) {
  std::vector<Offer> offers{lean(), roomy()};
  offers[0].ready = 5;
  const std::vector<Waiting> waiting{
      {{1}, {}, {.cpu_millicores = 1000, .memory_bytes = 4 * kGi}, 41}};
  EXPECT_EQ(nodes_needed(waiting, offers, Expander::cheapest_for_all),
            (std::vector<Need>{{5, 0, 5000}, {0, 1, 62}}));
  EXPECT_EQ(nodes_needed(waiting, offers, Expander::cheapest),
            (std::vector<Need>{{5, 1, 5125}, {0, 0, 0}}));
}

TEST(AllThatRuns, LargeNodesAreForWhoNeedsSeveral) {
  const Offer small{{1}, shape(16, 64), 1000, false, 0, 10};
  Offer large{{2}, shape(64, 256), 4000, false, 0, 10};
  const auto with = [&](std::int64_t cores) {
    return bought_in({large, small}, {runs(1, 1, cores, cores * 4)});
  };
  EXPECT_EQ(with(1), 1u);
  EXPECT_EQ(with(2000), 1u) << "nothing is gained by the large ones";
  large.price = 3600;
  EXPECT_EQ(with(100), 1u) << "half a large one costs more than is gained";
  EXPECT_EQ(with(400), 2u);
}

// Of what waits now nothing would be left over, so only what runs besides has half a node.
TEST(AllThatRuns, WhatFillsANodeHasNoHalfOneBeside) {
  const Offer small{{1}, shape(16, 64), 768, false, 0, 10}, large{{2}, shape(64, 256), 2460, false, 0, 10};
  const std::vector<Waiting> gang{
      {{1}, {}, {.cpu_millicores = 16'000, .memory_bytes = 64 * kGi}, 4, true}};
  EXPECT_EQ(nodes_needed(gang, {small, large}, Expander::cheapest_for_all),
            (std::vector<Need>{{0, 0, 0}, {0, 1, 1000}}));
}

// What does not fit on the nodes of one says nothing about which is better for what does.
TEST(AllThatRuns, WhatFitsInOneAloneDoesNotCount) {
  const std::vector<Offer> offers{lean(), roomy()};
  const Running large = in_pieces_of(runs(1, 2, 40, 400), 4, 40);
  EXPECT_EQ(bought_in(offers, {large}), 1u);
  EXPECT_EQ(bought_in(offers, {large, runs(1, 1, 40, 160)}), 2u);
  EXPECT_TRUE(AllThatRuns(offers, {large}).cheapest_for_its_own(offers[1]));
  EXPECT_TRUE(AllThatRuns(offers, {large}).cheapest(offers[0]));
}

TEST(AllThatRuns, GpusAreNotBoughtForWorkWithout) {
  Offer graphics{{2}, shape(16, 64), 1900, false, 0, 10};
  graphics.shape.gpus = 4;
  Running heavy = runs(1, 2, 40, 160);
  heavy.amounts.gpu_millis = 40'000;
  EXPECT_EQ(bought_in({graphics, roomy()}, {heavy, runs(1, 1, 1, 4)}), 2u) << "the roomy one";
  EXPECT_EQ(bought_in({roomy(), graphics}, {heavy}), 2u);
}

TEST(AllThatRuns, SomethingElseIsComparedWithNothing) {
  Offer reserved = lean(), graphics = lean();
  reserved.pool = graphics.pool = {3};
  reserved.reserved = true;
  graphics.shape.gpus = 8;
  for (Offer other : {reserved, graphics}) {
    other.price = 1;
    const std::vector<Offer> offers{roomy(), other};
    const std::vector<Running> running{runs(1, 2, 40, 160)};
    EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[0]));
    EXPECT_TRUE(AllThatRuns(offers, running).cheapest_for_its_own(offers[0]));
  }
  Offer older = graphics, newer = graphics;
  newer.pool = {4};
  newer.price = 500;
  std::vector<Offer> offers{older, newer};
  EXPECT_FALSE(AllThatRuns(offers, {}).cheapest(older));
  offers[1].shape.gpu_model = 1;
  EXPECT_TRUE(AllThatRuns(offers, {}).cheapest(older));
}

TEST(AllThatRuns, OfPoolsThatAreAlikeOneIsTheCheapestAsLongAsThereIsMore) {
  std::vector<Offer> offers{lean(), roomy()};
  const std::vector<Running> running{runs(1, 1, 20, 80), runs(0, 2, 20, 80)};
  const auto cheapest = [&](std::size_t i) { return AllThatRuns(offers, running).cheapest(offers[i]); };
  const auto for_its_own = [&](std::size_t i) {
    return AllThatRuns(offers, running).cheapest_for_its_own(offers[i]);
  };
  EXPECT_FALSE(cheapest(0) || for_its_own(0));
  EXPECT_TRUE(cheapest(1) && for_its_own(1));
  EXPECT_TRUE(AllThatRuns(offers, {}).cheapest(offers[0])) << "nothing runs";
  EXPECT_FALSE(AllThatRuns(offers, {}).cheapest(offers[1]));
  EXPECT_TRUE(AllThatRuns(offers, {}).cheapest_for_its_own(offers[1]));
  offers[1].room = 0;
  EXPECT_TRUE(cheapest(0) && for_its_own(0));
  offers[0].price = offers[1].price;
  offers[0].shape = offers[1].shape;
  offers[1].room = 10;
  EXPECT_TRUE(cheapest(0) && cheapest(1)) << "as cheap as each other";
}

// Ten owners with a core each need ten nodes, however large.
TEST(AllThatRuns, OwnersWithNodesOfTheirOwnNeedHalfOfOneEach) {
  const Offer small{{1}, shape(4, 16), 200, false, 0, 10}, large{{2}, shape(64, 256), 2900, false, 0, 10};
  const std::vector<Offer> offers{small, large};
  Running many = runs(0, 1, 600, 2400);
  EXPECT_FALSE(AllThatRuns(offers, {many}).cheapest_for_its_own(small));
  many.owners = 300;
  EXPECT_TRUE(AllThatRuns(offers, {many}).cheapest_for_its_own(small));
  EXPECT_TRUE(AllThatRuns(offers, {many}).cheapest(small));
}

// Gangs that fill large nodes need no half a node more.
TEST(AllThatRuns, WhereItIsItMayBePackedBetterThanOnAverage) {
  const Offer small{{1}, shape(16, 64), 768, false, 0, 10}, large{{2}, shape(64, 256), 2460, false, 0, 10};
  const std::vector<Offer> offers{small, large};
  Running full = runs(0, 2, 64, 256);
  EXPECT_FALSE(AllThatRuns(offers, {full}).cheapest_for_its_own(large));
  full.nodes = 1;
  EXPECT_TRUE(AllThatRuns(offers, {full}).cheapest_for_its_own(large));
}

TEST(AllThatRuns, AmountsDoNotOverflow) {
  Amounts all{1 << 20, std::int64_t{1} << 61, 0, 7, 1};
  for (int i = 0; i < 5; ++i) all += all;
  EXPECT_EQ(all.memory_bytes, std::int64_t{1} << 62);
  EXPECT_EQ(all.cpu_millicores, std::int64_t{1} << 25);
  EXPECT_EQ(all.gpu_millis, 7 << 5);
  EXPECT_EQ(weight(all), (Wide(1) << 25) + (Wide(1) << 40) + 16 * (7 << 5));
}

// Demand swings by three nodes in the lean pool, so room is kept there, until it shows to be the dearer one.
TEST(AllThatRuns, RoomIsBoughtInTheCheapestPoolAlone) {
  for (const std::int64_t gi : {60, 160}) {
    Config config;
    config.rules.policy = Policy::newsvendor;
    Fleet fleet(config);
    PoolPolicy policy = elastic(0, 20);
    policy.boot = seconds(10);
    policy.shape = lean().shape;
    policy.price_micros = lean().price;
    tell(fleet, at(0), PoolAdded{{1}, policy});
    policy.shape = roomy().shape;
    policy.price_micros = roomy().price;
    tell(fleet, at(0), PoolAdded{{2}, policy});
    std::size_t bought = 0;
    for (std::int64_t s = 0; s < 600; s += 10) {
      if (said<AskWaiting>(tell(fleet, at(s), Woken{})).empty()) continue;
      WaitingSeen seen;
      seen.used_permille = {s / 10 % 2 == 0 ? 4000u : 1000u, 0};
      seen.running = {runs(0, 1, 40, gi)};
      for (const BuyNode& one : said<BuyNode>(tell(fleet, at(s), seen))) {
        EXPECT_EQ(one.pool, PoolId{1});
        ++bought;
      }
    }
    EXPECT_EQ(bought != 0, gi == 60) << gi;
  }
}

}  // namespace
}  // namespace chalk::fleet
