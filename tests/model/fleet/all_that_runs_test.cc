// Which pool is bought from goes by all that runs, not by the little that waits.
#include "model/fleet/all_that_runs.h"

#include <gtest/gtest.h>

#include "model/fleet/fleet.h"
#include "tests/support/said.h"

namespace chalk::fleet {
namespace {

using test::said;
using test::tell;

constexpr std::int64_t kGi = std::int64_t{1} << 30;

Time at(std::int64_t s) { return {seconds(s).nanos}; }

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
  return {{owner}, {pool}, {cores * 1000, gi * kGi, 0, 0, cores}};
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

TEST(AllThatRuns, SomethingElseIsComparedWithNothing) {
  Offer reserved = roomy(), graphics = roomy();
  reserved.reserved = true;
  graphics.shape.gpus = 8;
  for (const Offer& other : {reserved, graphics}) {
    const std::vector<Offer> offers{lean(), other};
    const std::vector<Running> running{runs(1, 1, 40, 160)};
    EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[0]));
    EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[1]));
  }
  Offer older = graphics, newer = graphics;
  newer.pool = {3};
  newer.price = 500;
  EXPECT_FALSE(AllThatRuns({older, newer}, {}).cheapest(older));
  newer.shape.gpu_model = 1;
  EXPECT_TRUE(AllThatRuns({older, newer}, {}).cheapest(older));
}

TEST(AllThatRuns, OfPoolsThatAreAlikeOneIsTheCheapestAsLongAsThereIsMore) {
  std::vector<Offer> offers{lean(), roomy()};
  const std::vector<Running> running{runs(1, 1, 20, 80), runs(0, 2, 20, 80)};
  EXPECT_FALSE(AllThatRuns(offers, running).cheapest(offers[0]));
  EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[1]));
  offers[1].room = 0;
  EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[0]));
  EXPECT_TRUE(AllThatRuns(offers, {}).cheapest(offers[0])) << "nothing runs";
  offers[0].price = offers[1].price;
  offers[0].shape = offers[1].shape;
  offers[1].room = 10;
  EXPECT_TRUE(AllThatRuns(offers, running).cheapest(offers[0]) &&
              AllThatRuns(offers, running).cheapest(offers[1]))
      << "as cheap as each other";
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
    PoolPolicy policy;
    policy.nodes_max = 20;
    policy.elastic = true;
    policy.boot = seconds(10);
    policy.zones = {{1}};
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
