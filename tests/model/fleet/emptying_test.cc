// The policies that look at the whole fleet, step by step: what a look buys and gives back, and how
// a node is emptied, replaced and asked back.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/model/fleet/rig.h"

namespace chalk::fleet {
namespace {

// Two elastic pools, whose nodes need not beat; those of the first are there and busy.
struct Planned {
  explicit Planned(Rules rules, std::uint64_t count, PoolPolicy policy = elastic(0, 10))
      : fleet(config(rules)) {
    tell(fleet, at(0), PoolAdded{{1}, policy});
    tell(fleet, at(0), PoolAdded{{2}, elastic(0, 10)});
    for (std::uint64_t key = 1; key <= count; ++key) join(0, key);
    for (const NodeId node : nodes) tell(fleet, at(0), NodeBusy{node});
  }
  static Config config(Rules rules) {
    Config config;
    config.heartbeat_timeout = seconds(1'000'000);
    config.rules = rules;
    return config;
  }
  void join(std::int64_t s, std::uint64_t key, std::uint64_t purchase = 0, std::uint64_t pool = 1) {
    NodeRegistration asks = registration(key, 1, purchase);
    asks.pool = {pool};
    said_last = tell(fleet, at(s), NodeRegistered{asks});
    nodes.push_back(joined(said_last));
  }
  std::vector<Effect> found(std::int64_t s, std::vector<Removal> removals) {
    return tell(fleet, at(s), RemovalsFound{std::move(removals)});
  }
  // What is emptied of those found.
  std::vector<EmptyNode> emptied(std::int64_t s, std::vector<Removal> removals) {
    return said<EmptyNode>(found(s, std::move(removals)));
  }
  // What a scan says, of which the answer is `seen`.
  std::vector<Effect> scan(std::int64_t s, const WaitingSeen& seen = {}) {
    auto effects = tell(fleet, at(s), Woken{});
    EXPECT_EQ(said<AskWaiting>(effects).size(), 1u) << s;
    for (const Effect& one : tell(fleet, at(s), seen)) effects.push_back(one);
    return effects;
  }
  const PoolState& pool() const { return fleet.state().pools[0]; }

  Fleet fleet;
  std::vector<NodeId> nodes;
  std::vector<Effect> said_last;
};

Rules at_once(Policy policy) {
  Rules rules = rules_of(policy);
  rules.unneeded = {};
  return rules;
}
std::vector<EmptyNode> just(NodeId node) { return {{node}}; }

// ---- batches

TEST(PlannedEdges, EachPolicyWaitsForMoreInItsOwnWay) {
  using Looks = std::vector<std::int64_t>;
  const auto looks = [](Policy policy) {
    Rules rules = rules_of(policy);
    rules.scan = seconds(1000);
    rules.batch = seconds(2);
    Planned world(rules, 0);
    world.scan(0);
    Looks out;
    std::int64_t count = 0;
    for (std::int64_t s = 1; s < 60; ++s) {
      if (!said<AskWaiting>(tell(world.fleet, at(s), Woken{})).empty()) out.push_back(s);
      const bool more = s == 1 || s == 2 || s == 20 || (s >= 30 && s <= 45);
      if (more) tell(world.fleet, at(s), PendingDemand{{1}, ++count});
      if (s == 25) tell(world.fleet, at(s), PendingDemand{{1}, --count});
    }
    return out;
  };
  EXPECT_EQ(looks(Policy::cluster_autoscaler), Looks{});
  EXPECT_EQ(looks(Policy::karpenter), (Looks{4, 22, 40, 47}));
  EXPECT_EQ(looks(Policy::newsvendor), (Looks{3, 22, 32, 34, 36, 38, 40, 42, 44, 46}));
}

// ---- what a look buys and gives back

TEST(PlannedEdges, ALookBuysForWhatWaitsAndForTheBuffer) {
  PoolPolicy policy = elastic(0, 10);
  policy.buffer_nodes = 1;
  Planned world(rules_of(Policy::karpenter), 1, policy);
  world.join(0, 9);
  WaitingSeen seen;
  seen.waiting = {{{1}, {1}, {.cpu_millicores = 4000}, 2}};
  EXPECT_EQ(said<BuyNode>(world.scan(0, seen)),
            (std::vector<BuyNode>{{{1}, 1, {2}, 2, 1, 1, 1}, {{1}, 2, {2}, 2, 1, 1, 2}}));
}

TEST(PlannedEdges, TheClusterAutoscalerWastesLittleAndTheOthersSpendLittle) {
  for (const Policy policy : {Policy::cluster_autoscaler, Policy::karpenter, Policy::newsvendor}) {
    PoolPolicy small = elastic(0, 10), large = elastic(0, 10);
    small.price_micros = 1000;
    large.price_micros = 100;
    large.shape.cpu_millicores = 8000;
    Planned world(rules_of(policy), 0, small);
    tell(world.fleet, at(0), PoolAdded{{2}, large});
    WaitingSeen seen;
    seen.waiting = {{{1}, {}, {.cpu_millicores = 4000, .memory_bytes = 16LL << 30}, 1}};
    const auto bought = said<BuyNode>(world.scan(0, seen));
    ASSERT_EQ(bought.size(), 1u);
    EXPECT_EQ(bought[0].pool, policy == Policy::cluster_autoscaler ? PoolId{1} : PoolId{2});
  }
}

// A share of the busy nodes is counted at scans only.
TEST(PlannedEdges, ABufferIsAShareOfWhatIsBusy) {
  Rules rules = rules_of(Policy::karpenter);
  PoolPolicy policy = elastic(0, 10);
  policy.buffer_permille = 1;
  Planned world(rules, 1, policy);
  EXPECT_EQ(said<BuyNode>(tell(world.fleet, at(0), WaitingSeen{})).size(), 0u);
  EXPECT_EQ(said<BuyNode>(world.scan(0)).size(), 1u);
  EXPECT_EQ(said<BuyNode>(world.scan(10)).size(), 0u) << "it is on its way";
  Planned idle(rules, 0, policy);
  EXPECT_EQ(said<BuyNode>(idle.scan(0)).size(), 0u);
}

TEST(PlannedEdges, APoolIsBoughtUpToItsLeastAndNeverBeyondItsMost) {
  Planned least(rules_of(Policy::karpenter), 1, elastic(3, 10));
  tell(least.fleet, at(0), DrainAsked{least.nodes[0]});
  EXPECT_EQ(said<BuyNode>(least.scan(0)).size(), 3u) << "what is drained is none of it";
  EXPECT_EQ(said<BuyNode>(least.scan(10)).size(), 0u);
  Planned most(rules_of(Policy::karpenter), 1, elastic(0, 3));
  WaitingSeen seen;
  seen.waiting = {{{1}, {1}, {.cpu_millicores = 4000}, 9}};
  EXPECT_EQ(said<BuyNode>(most.scan(0, seen)).size(), 2u);
  tell(most.fleet, at(1), PoolAdded{{1}, elastic(0, 2)});
  EXPECT_EQ(said<BuyNode>(most.scan(10, seen)).size(), 0u);
}

TEST(PlannedEdges, WhatIdlesGoesTenAtALookAndNotTheBuffer) {
  PoolPolicy policy = elastic(0, 20);
  policy.buffer_nodes = 1;
  Planned world(rules_of(Policy::karpenter), 0, policy);
  for (std::uint64_t key = 1; key <= 13; ++key) world.join(5, key);
  std::map<std::int64_t, std::size_t> gone;
  for (std::int64_t s = 0; s <= 60; s += 10) {
    if (s == 20) tell(world.fleet, at(s), PendingDemand{{1}, 1});
    if (s == 30) tell(world.fleet, at(s), PendingDemand{{1}, 0});
    for (const auto& one : said<ReleaseNode>(world.scan(s))) {
      ++gone[s];
      EXPECT_EQ(one.idle, seconds(s - 5));
    }
  }
  EXPECT_EQ(gone, (std::map<std::int64_t, std::size_t>{{30, 10}, {40, 2}}));
}

// Also to the instant.
TEST(PlannedEdges, WhatIdlesGoesOnceItHasForLongEnough) {
  Planned world(rules_of(Policy::karpenter), 0);
  world.join(5, 1);
  EXPECT_TRUE(said<ReleaseNode>(world.scan(10)).empty());
  EXPECT_EQ(said<ReleaseNode>(world.scan(20)).size(), 1u);
}

TEST(PlannedEdges, NothingGoesSoonAfterAPurchaseOfTheClusterAutoscaler) {
  Rules rules = at_once(Policy::cluster_autoscaler);
  rules.after_purchase = seconds(30);
  Planned world(rules, 2);
  world.join(0, 9);
  tell(world.fleet, at(0), Woken{});
  WaitingSeen seen;
  seen.waiting = {{{1}, {1}, {.cpu_millicores = 4000}, 2}};
  EXPECT_EQ(said<BuyNode>(tell(world.fleet, at(0), seen)).size(), 1u);
  EXPECT_TRUE(world.emptied(29, {{world.nodes[0], 1, {}, false}}).empty());
  EXPECT_EQ(world.emptied(30, {{world.nodes[0], 1, {}, false}}), just(world.nodes[0]));
  for (std::int64_t s = 10; s <= 30; s += 10) {
    EXPECT_EQ(said<ReleaseNode>(world.scan(s)).size(), s == 30 ? 1u : 0u) << s;
  }
}

// ---- what may go

TEST(PlannedEdges, AsksOfEachPoolWhatMayGoAndWhatMayCome) {
  PoolPolicy policy = elastic(1, 4);
  policy.price_micros = 700;
  Rules rules = rules_of(Policy::karpenter);
  rules.nodes_at_once = 1;
  rules.sandboxes_at_once = 7;
  Planned world(rules, 3, policy);
  const auto asked = [&](std::int64_t s) { return said<AskRemovals>(world.scan(s)); };
  const Supply second{.room = 10, .elastic = true};
  AskRemovals expected{world.nodes, {{700, 2, 2, 1, false, true, false}, second}, {1, 7}};
  EXPECT_EQ(asked(0), std::vector{expected});
  tell(world.fleet, at(1), PoolAdded{{1}, elastic(1, 2)});
  expected.pools[0] = {0, 2, 2, 0, false, true};
  EXPECT_EQ(asked(10), std::vector{expected}) << "there are more than may be";
  tell(world.fleet, at(11), NodeIdle{world.nodes[0]});
  tell(world.fleet, at(11), DrainAsked{world.nodes[1]});
  expected = {{world.nodes[2]}, {{0, 1, 1, 0, false, true}, second}, {1, 7}};
  EXPECT_EQ(asked(20), std::vector{expected});
  policy = elastic(1, 2);
  policy.buffer_nodes = 2;
  tell(world.fleet, at(21), PoolAdded{{1}, policy});
  EXPECT_TRUE(asked(30).empty()) << "emptied it would only be a node of the buffer";
  policy.buffer_nodes = 1;
  tell(world.fleet, at(31), PoolAdded{{1}, policy});
  EXPECT_EQ(asked(40).size(), 1u);
  tell(world.fleet, at(41), PendingDemand{{1}, 1});
  EXPECT_TRUE(asked(50).empty()) << "something waits";
}

TEST(PlannedEdges, TheClusterAutoscalerMustKnowAllThatIsUnneeded) {
  Planned world(rules_of(Policy::cluster_autoscaler), 1);
  const auto asked = said<AskRemovals>(world.scan(0));
  ASSERT_EQ(asked.size(), 1u);
  const Config config;
  EXPECT_EQ(asked[0].budget, (Budget{config.nodes_max, 100 * config.nodes_max}));
}

TEST(PlannedEdges, WhatIsFoundAtEachLookForLongIsEmptied) {
  Planned world(rules_of(Policy::karpenter), 2);
  const Removal first{world.nodes[0], 1, {}, false}, second{world.nodes[1], 1, {}, false};
  EXPECT_TRUE(world.emptied(10, {{{99}, 1, {}, false}, first, second}).empty());
  EXPECT_TRUE(world.emptied(24, {first}).empty());
  const auto effects = world.found(25, {first, second});
  EXPECT_EQ(said<EmptyNode>(effects), just(world.nodes[0]));
  EXPECT_EQ(said<CordonNode>(effects), (std::vector<CordonNode>{{world.nodes[0], true}}));
  EXPECT_EQ(world.pool().draining, 1u);
  EXPECT_TRUE(world.emptied(39, {first, second}).empty()) << "the one is, the other began anew";
  EXPECT_EQ(world.emptied(40, {second}), just(world.nodes[1]));
  EXPECT_EQ(world.fleet.state().nodes_emptied, 2u);
}

TEST(PlannedEdges, SoManyNodesAndSandboxesAreMovedAtOnce) {
  Rules rules = at_once(Policy::karpenter);
  rules.nodes_at_once = 2;
  rules.sandboxes_at_once = 5;
  Planned world(rules, 4);
  const auto removal = [&](std::size_t at, std::uint32_t sandboxes) {
    return Removal{world.nodes[at], sandboxes, {}, false};
  };
  EXPECT_EQ(world.emptied(1, {removal(0, 6), removal(1, 5), removal(2, 1)}), just(world.nodes[1]));
  EXPECT_TRUE(world.emptied(2, {removal(2, 1)}).empty()) << "five are on their way";
  EXPECT_EQ(world.emptied(3, {removal(2, 0), removal(3, 0)}), just(world.nodes[2])) << "two nodes";
  EXPECT_TRUE(world.emptied(4, {removal(3, 0)}).empty());
  tell(world.fleet, at(5), NodeIdle{world.nodes[1]});
  EXPECT_EQ(world.emptied(5, {removal(3, 5)}), just(world.nodes[3]));
}

TEST(PlannedEdges, NoneGoesBelowThePoolsLeast) {
  Planned world(at_once(Policy::karpenter), 3, elastic(2, 10));
  EXPECT_EQ(world.emptied(1, {{world.nodes[0], 1, {}, false}, {world.nodes[1], 1, {}, false}}),
            just(world.nodes[0]));
  EXPECT_TRUE(said<BuyNode>(world.found(2, {{world.nodes[1], 1, {2}, false}})).empty())
      << "its replacement would be another pool's";
}

TEST(PlannedEdges, WhatIsNotFoundOnceBeginsAnew) {
  Planned world(rules_of(Policy::karpenter), 1);
  const Removal removal{world.nodes[0], 1, {}, false};
  EXPECT_TRUE(world.emptied(10, {removal}).empty());
  EXPECT_TRUE(world.emptied(20, {}).empty());
  EXPECT_TRUE(world.emptied(26, {removal}).empty());
  EXPECT_EQ(world.emptied(41, {removal}), just(world.nodes[0]));
}

TEST(PlannedEdges, WhatIsEmptyAlreadyGoesAtOnce) {
  Planned world(at_once(Policy::karpenter), 1);
  tell(world.fleet, at(3), NodeIdle{world.nodes[0]});
  const auto effects = world.found(5, {{world.nodes[0], 0, {}, false}});
  EXPECT_EQ(said<ReleaseNode>(effects),
            (std::vector<ReleaseNode>{{world.nodes[0], 0, seconds(2)}}));
  EXPECT_TRUE(said<EmptyNode>(effects).empty());
  EXPECT_EQ(world.pool().draining, 0u);
}

TEST(PlannedEdges, WhatDoesNotBecomeEmptyInTimeIsUsedAgainForAWhile) {
  Rules rules = at_once(Policy::karpenter);
  rules.empty_within = seconds(30);
  Planned world(rules, 1);
  const Removal removal{world.nodes[0], 1, {}, false};
  EXPECT_EQ(world.emptied(10, {removal}), just(world.nodes[0]));
  EXPECT_TRUE(said<CordonNode>(world.scan(30)).empty());
  EXPECT_EQ(said<CordonNode>(world.scan(40)),
            (std::vector<CordonNode>{{world.nodes[0], false}}));
  EXPECT_EQ(world.pool().draining, 0u);
  EXPECT_TRUE(world.fleet.state().emptying.empty());
  EXPECT_TRUE(world.emptied(69, {removal}).empty());
  EXPECT_EQ(world.emptied(70, {removal}), just(world.nodes[0]));
}

TEST(PlannedEdges, WhatIsUsedAgainIsNoLongerEmptiedByOurChoice) {
  Rules rules = at_once(Policy::karpenter);
  rules.empty_within = seconds(30);
  Planned world(rules, 1);
  EXPECT_EQ(world.emptied(10, {{world.nodes[0], 1, {}, false}}), just(world.nodes[0]));
  EXPECT_EQ(said<CordonNode>(world.scan(40)).size(), 1u);
  tell(world.fleet, at(41), DrainAsked{world.nodes[0]});
  EXPECT_TRUE(said<ReleaseNode>(tell(world.fleet, at(42), NodeIdle{world.nodes[0]})).empty())
      << "a machine of our own that an operator drains stays";
}

// ---- replacements

TEST(PlannedEdges, AReplacedNodeIsEmptiedWhenTheOtherHasCome) {
  Rules rules = at_once(Policy::karpenter);
  rules.sandboxes_at_once = 3;
  rules.empty_within = seconds(30);
  Planned world(rules, 2);
  const auto effects = world.found(1, {{world.nodes[0], 3, {2}, false}});
  EXPECT_EQ(said<BuyNode>(effects), (std::vector<BuyNode>{{{2}, 1, {1}, 1, 0, 0, 1}}));
  EXPECT_TRUE(said<CordonNode>(effects).empty());
  EXPECT_TRUE(world.emptied(2, {{world.nodes[1], 1, {}, false}}).empty()) << "those three count";
  EXPECT_EQ(said<AskRemovals>(world.scan(2)).at(0).nodes, (std::vector<NodeId>{world.nodes[1]}));
  world.join(10, 9, 1, 2);
  EXPECT_EQ(said<EmptyNode>(world.said_last), just(world.nodes[0]));
  EXPECT_TRUE(world.fleet.state().replaces.empty());
  EXPECT_EQ(said<ReleaseNode>(tell(world.fleet, at(11), NodeIdle{world.nodes[0]})).size(), 1u);
  std::vector<std::int64_t> gone;
  for (std::int64_t s = 20; s <= 60; s += 10) {
    if (!said<ReleaseNode>(world.scan(s)).empty()) gone.push_back(s);
  }
  EXPECT_EQ(gone, std::vector<std::int64_t>{40}) << "its work is on its way until then";
}

// Its replacement came, and something did not leave it in time: it may be found dispensable again.
TEST(PlannedEdges, AReplacedNodeThatIsUsedAgainIsAskedForAgain) {
  Rules rules = at_once(Policy::karpenter);
  rules.empty_within = seconds(30);
  Planned world(rules, 1);
  world.found(1, {{world.nodes[0], 3, {2}, false}});
  world.join(10, 9, 1, 2);
  EXPECT_EQ(said<CordonNode>(world.scan(40)), (std::vector<CordonNode>{{world.nodes[0], false}}));
  EXPECT_EQ(said<AskRemovals>(world.scan(50)).at(0).nodes.size(), 1u);
}

TEST(PlannedEdges, WhatReplacesANodeIsNoRoom) {
  Planned world(at_once(Policy::newsvendor), 1);
  EXPECT_EQ(said<BuyNode>(world.found(1, {{world.nodes[0], 1, {2}, false}})).size(), 1u);
  world.scan(1);
  EXPECT_EQ(world.fleet.state().pools[1].free, 0) << "another goes when it comes";
}

TEST(PlannedEdges, ANodeWhoseReplacementFailsStays) {
  Rules rules = at_once(Policy::karpenter);
  rules.nodes_at_once = 1;
  Planned world(rules, 1);
  const Removal removal{world.nodes[0], 3, {2}, false};
  EXPECT_EQ(said<BuyNode>(world.found(1, {removal})).size(), 1u);
  EXPECT_TRUE(said<BuyNode>(world.found(2, {removal})).empty());
  EXPECT_TRUE(tell(world.fleet, at(3), PurchaseFailed{1}).empty());
  EXPECT_EQ(said<AskRemovals>(world.scan(3)).at(0).nodes, world.nodes) << "it may be found again";
  EXPECT_EQ(said<BuyNode>(world.found(4, {removal})).size(), 1u);
  world.join(10, 8, 1, 2);
  EXPECT_TRUE(said<EmptyNode>(world.said_last).empty()) << "not the one that was said to fail";
  world.join(11, 9, 2, 2);
  EXPECT_EQ(said<EmptyNode>(world.said_last), just(world.nodes[0]));
}

// ---- an operator beside our own choice

TEST(PlannedEdges, ADrainOfWhatIsBeingEmptiedIsNotTakenBackByUs) {
  Rules rules = at_once(Policy::karpenter);
  rules.empty_within = seconds(30);
  for (const bool undrained : {false, true}) {
    Planned world(rules, 1);
    EXPECT_EQ(world.emptied(1, {{world.nodes[0], 1, {}, false}}), just(world.nodes[0]));
    EXPECT_TRUE(tell(world.fleet, at(2), DrainAsked{world.nodes[0], true}).empty());
    EXPECT_TRUE(world.fleet.state().emptying.empty());
    if (undrained) {
      EXPECT_TRUE(tell(world.fleet, at(3), UndrainAsked{1}).empty()) << "our own choice stands";
    }
    const auto used_again = said<CordonNode>(world.scan(40));
    EXPECT_EQ(used_again.size(), undrained ? 1u : 0u);
  }
}

TEST(PlannedEdges, WhatIsTakenBackIsJudgedAnew) {
  Planned world(rules_of(Policy::karpenter), 1);
  const Removal removal{world.nodes[0], 1, {}, false};
  EXPECT_TRUE(world.emptied(10, {removal}).empty());
  tell(world.fleet, at(11), DrainAsked{world.nodes[0], true});
  EXPECT_TRUE(world.emptied(30, {removal}).empty());
  tell(world.fleet, at(31), UndrainAsked{1});
  EXPECT_TRUE(world.emptied(32, {removal}).empty());
  EXPECT_EQ(world.emptied(47, {removal}), just(world.nodes[0]));
}

TEST(PlannedEdges, WhatIsDrainedWhileItsReplacementFailsIsNoLongerOursToEmpty) {
  for (const bool fails : {false, true}) {
    Planned world(at_once(Policy::karpenter), 1);
    world.found(1, {{world.nodes[0], 3, {2}, false}});
    tell(world.fleet, at(2), DrainAsked{world.nodes[0], true});
    if (fails) tell(world.fleet, at(3), PurchaseFailed{1});
    tell(world.fleet, at(4), UndrainAsked{1});
    EXPECT_EQ(world.fleet.state().emptying.empty(), fails);
  }
}

// What is on nodes that are nobody's to buy stays there, and is no reason to buy of one pool or another.
TEST(PlannedEdges, WhatRunsOnAPoolThatIsNotElasticDecidesNothing) {
  PoolPolicy lean = elastic(0, 10), roomy = elastic(0, 10), fixed = elastic(0, 10);
  lean.price_micros = 100;
  roomy.price_micros = 150;
  roomy.shape.memory_bytes *= 4;
  fixed.shape = roomy.shape;
  fixed.elastic = false;
  Planned world(rules_of(Policy::newsvendor), 0, lean);
  tell(world.fleet, at(0), PoolAdded{{2}, roomy});
  tell(world.fleet, at(0), PoolAdded{{3}, fixed});
  WaitingSeen seen;
  seen.waiting = {{{1}, {}, {.cpu_millicores = 1000, .memory_bytes = 4LL << 30}, 1}};
  Running heavy{{1}, {3}, {}, {.cpu_millicores = 1000, .memory_bytes = 16LL << 30}, 10, 1};
  heavy.amounts.cpu_millicores = 40'000;
  heavy.amounts.memory_bytes = 640LL << 30;
  seen.running = {heavy};
  const auto bought = said<BuyNode>(world.scan(0, seen));
  ASSERT_FALSE(bought.empty());
  EXPECT_EQ(bought[0].pool, PoolId{1});
  // Were it on nodes of the lean pool, the roomy one would be the cheaper.
  seen.running[0].pool = {1};
  seen.waiting[0].count = 8;
  const auto then = said<BuyNode>(world.scan(10, seen));
  EXPECT_FALSE(then.empty());
  for (const BuyNode& one : then) EXPECT_EQ(one.pool, PoolId{2});
}

// ---- purchases that fail

// What the cheap pool cannot give is bought of the dear one, and of the cheap one again when it can.
TEST(PlannedEdges, WhatAPoolCannotGiveIsBoughtOfAnother) {
  for (const Policy policy : {Policy::cluster_autoscaler, Policy::karpenter, Policy::newsvendor}) {
    PoolPolicy cheap = elastic(0, 10), dear = elastic(0, 10);
    cheap.price_micros = 100;
    cheap.zones = {{1}};
    dear.price_micros = 1000;
    dear.shape.memory_bytes *= 2;
    Planned world(rules_of(policy), 0, cheap);
    tell(world.fleet, at(0), PoolAdded{{2}, dear});
    WaitingSeen seen;
    seen.waiting = {{{1}, {}, {.cpu_millicores = 4000, .memory_bytes = 16LL << 30}, 1}};
    const auto bought = said<BuyNode>(world.scan(0, seen));
    ASSERT_EQ(bought.size(), 1u);
    ASSERT_EQ(bought[0].pool, PoolId{1}) << static_cast<int>(policy);
    tell(world.fleet, at(5), PurchaseFailed{bought[0].purchase});
    const auto other = said<BuyNode>(world.scan(10, seen));
    ASSERT_EQ(other.size(), 1u);
    EXPECT_EQ(other[0].pool, PoolId{2});
    seen.waiting[0].count = 2;  // the second one is to be bought for when the first pool may be tried
    const std::int64_t retry = 5 + rules_of(policy).retry.nanos / seconds(1).nanos;
    const auto again = said<BuyNode>(world.scan((retry + 9) / 10 * 10, seen));
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].pool, PoolId{1});
  }
}

TEST(PlannedEdges, NoNodeIsReplacedByOneThatCannotBeHad) {
  for (const bool fails : {false, true}) {
    Planned world(at_once(Policy::karpenter), 2);
    ASSERT_EQ(said<BuyNode>(world.found(1, {{world.nodes[0], 3, {2}, false}})).size(), 1u);
    if (fails) {
      tell(world.fleet, at(2), PurchaseFailed{1});  // in zone 1
      ASSERT_EQ(said<BuyNode>(world.found(3, {{world.nodes[0], 3, {2}, false}})).size(), 1u);
      tell(world.fleet, at(4), PurchaseFailed{2});  // in zone 2
    }
    EXPECT_EQ(said<BuyNode>(world.found(5, {{world.nodes[1], 3, {2}, false}})).size(), fails ? 0u : 1u);
    EXPECT_EQ(world.fleet.state().emptying.size(), fails ? 0u : 2u);
  }
}

// The room for what a supplier asks back is tried for again, in another zone, until half of the notice.
TEST(PlannedEdges, RoomForWhatIsAskedBackIsTriedForAgain) {
  Planned world(rules_of(Policy::newsvendor), 1);
  const auto first = said<BuyNode>(tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(120)}));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].zone, ZoneId{2}) << "the node itself is in the other";
  world.scan(0);
  tell(world.fleet, at(4), PurchaseFailed{first[0].purchase});
  const auto second = said<BuyNode>(world.scan(10));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].zone, ZoneId{1});
  EXPECT_TRUE(said<BuyNode>(world.scan(20)).empty()) << "it is on its way";
}

// ---- asked back

TEST(PlannedEdges, OursWaitsForRoomForHalfOfTheNoticeWhereThatIsLongerThanAScan) {
  for (const std::int64_t notice : {20, 22}) {
    Planned world(rules_of(Policy::newsvendor), 1);
    const auto effects = tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(notice)});
    EXPECT_EQ(said<CordonNode>(effects), (std::vector<CordonNode>{{world.nodes[0], true}}));
    EXPECT_EQ(said<EmptyNode>(effects).size(), notice == 20 ? 1u : 0u);
    EXPECT_EQ(said<BuyNode>(effects).size(), notice == 20 ? 0u : 1u);
  }
}

TEST(PlannedEdges, WhatIsAskedBackIsEmptiedInTimeAndOnlyThen) {
  Planned world(rules_of(Policy::newsvendor), 1);
  tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(100)});
  EXPECT_TRUE(tell(world.fleet, at(1), UndrainAsked{1}).empty()) << "it goes anyway";
  EXPECT_TRUE(tell(world.fleet, at(1), ReclaimNoticed{world.nodes[0], at(9)}).empty());
  std::vector<std::int64_t> emptied;
  for (std::int64_t s = 10; s <= 60; s += 10) {
    for (const auto& one : said<EmptyNode>(tell(world.fleet, at(s), Woken{}))) {
      EXPECT_EQ(one.node, world.nodes[0]);
      emptied.push_back(s);
    }
  }
  EXPECT_EQ(emptied, std::vector<std::int64_t>{40}) << "at the last scan before half of it";
}

TEST(PlannedEdges, WhatIsAskedBackIsEmptiedWhenRoomHasCome) {
  Planned world(rules_of(Policy::newsvendor), 1);
  tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(1000)});
  world.join(20, 9, 1);
  EXPECT_EQ(said<EmptyNode>(world.said_last), just(world.nodes[0]));
  EXPECT_TRUE(world.fleet.state().emptying.empty()) << "it counts for no budget";
}

TEST(PlannedEdges, WhatIsAskedBackIsEmptiedAtOnceWhereNothingIsToBeWaitedFor) {
  const auto at_once_emptied = [](Policy policy, bool room, bool replaced) {
    Planned world(at_once(policy), 1);
    if (room) world.join(0, 9);
    if (replaced) world.found(1, {{world.nodes[0], 3, {2}, false}});
    return said<EmptyNode>(tell(world.fleet, at(2), ReclaimNoticed{world.nodes[0], at(1000)}))
               .size() == 1;
  };
  EXPECT_FALSE(at_once_emptied(Policy::newsvendor, false, false));
  EXPECT_TRUE(at_once_emptied(Policy::newsvendor, true, false));
  EXPECT_TRUE(at_once_emptied(Policy::newsvendor, false, true)) << "one is on its way";
  EXPECT_TRUE(at_once_emptied(Policy::karpenter, false, false));
  EXPECT_TRUE(at_once_emptied(Policy::cluster_autoscaler, false, false));
}

TEST(PlannedEdges, WhatIsEmptyAndAskedBackWaitsForNothing) {
  Planned world(rules_of(Policy::newsvendor), 0);
  world.join(0, 1);
  tell(world.fleet, at(1), DrainAsked{world.nodes[0]});
  const auto effects = tell(world.fleet, at(2), ReclaimNoticed{world.nodes[0], at(1000)});
  EXPECT_EQ(said<ReleaseNode>(effects).size(), 1u);
  EXPECT_TRUE(said<BuyNode>(effects).empty());
}

TEST(PlannedEdges, NothingIsBoughtForWhatIsAskedBackWhereThePoolIsFull) {
  Planned world(rules_of(Policy::newsvendor), 1, elastic(0, 1));
  const auto effects = tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(1000)});
  EXPECT_TRUE(said<BuyNode>(effects).empty());
  EXPECT_TRUE(said<EmptyNode>(effects).empty());
}

TEST(PlannedEdges, WhatIsAskedBackIsNeverUsedAgain) {
  Rules rules = rules_of(Policy::karpenter);
  rules.empty_within = seconds(30);
  Planned world(rules, 1);
  tell(world.fleet, at(0), ReclaimNoticed{world.nodes[0], at(1000)});
  tell(world.fleet, at(1), UndrainAsked{1});
  for (std::int64_t s = 10; s <= 60; s += 10) {
    EXPECT_TRUE(said<CordonNode>(world.scan(s)).empty());
  }
}

// ---- newsvendor

// To the nearest node, and more of it the more nodes there are.
TEST(PlannedEdges, RoomThatIsMissingIsBoughtToTheNearestNode) {
  const auto bought = [](std::uint32_t used) {
    Planned world(rules_of(Policy::newsvendor), 3);
    WaitingSeen seen;
    seen.used_permille = {used};
    return said<BuyNode>(world.scan(0, seen)).size();
  };
  EXPECT_EQ(bought(3499), 0u);
  EXPECT_EQ(bought(3500), 1u);
  EXPECT_EQ(bought(4500), 2u);
}

TEST(PlannedEdges, RoomIsGivenBackByWholeNodes) {
  const auto gone = [](std::uint32_t used, bool one_boots) {
    PoolPolicy policy = elastic(0, 10);
    policy.boot = seconds(5);
    Planned world(rules_of(Policy::newsvendor), 1, policy);
    for (std::uint64_t key = 2; key <= 4; ++key) world.join(0, key);
    WaitingSeen seen;
    seen.used_permille = {1000};
    if (one_boots) seen.waiting = {{{1}, {1}, {.cpu_millicores = 4000}, 4}};
    EXPECT_EQ(said<BuyNode>(world.scan(0, seen)).size(), one_boots ? 1u : 0u);
    seen = {};
    seen.used_permille = {used};
    return said<ReleaseNode>(world.scan(10, seen)).size();
  };
  for (const bool one_boots : {false, true}) {  // it is none of those that may go
    EXPECT_EQ(gone(1000, one_boots), 3u);
    EXPECT_EQ(gone(1001, one_boots), 2u);
    EXPECT_EQ(gone(2000, one_boots), 2u);
    EXPECT_EQ(gone(2001, one_boots), 1u);
  }
}

// Once growth was seen, nodes that are in use go only as far as there is room beyond what is kept.
TEST(PlannedEdges, NodesInUseGoAsFarAsThereIsRoomBeyondWhatIsKept) {
  Rules rules = at_once(Policy::newsvendor);
  PoolPolicy policy = elastic(0, 10);
  policy.boot = seconds(10);
  Planned world(rules, 5, policy);
  WaitingSeen seen;
  for (const std::uint32_t used : {1000, 1000, 2000, 1000}) {
    seen.used_permille = {used};
    world.scan(static_cast<std::int64_t>(world.fleet.state().scan_at.nanos / seconds(1).nanos),
               seen);
  }
  ASSERT_EQ(world.pool().room.most, 1000u);
  ASSERT_EQ(world.pool().surplus, 3000u);
  std::vector<Removal> removals;
  for (const NodeId node : world.nodes) removals.push_back({node, 1, {}, false});
  EXPECT_EQ(world.emptied(40, removals).size(), 3u);
}

// ---- an operator's drain of what waits for its replacement

// It kept its place in the budget for as long as it was drained, and with a budget of one node
// nothing was emptied any more.
TEST(PlannedEdges, WhatAnOperatorDrainsHasNoPlaceInTheBudget) {
  for (const bool comes : {true, false}) {
    Rules rules = at_once(Policy::cluster_autoscaler);
    rules.after_purchase = {};
    Planned world(rules, 2);
    const auto bought = said<BuyNode>(world.found(1, {{world.nodes[0], 1, {2}}}));
    ASSERT_EQ(bought.size(), 1u);
    EXPECT_TRUE(world.emptied(2, {{world.nodes[1], 1, {}}}).empty()) << "one node at once";
    tell(world.fleet, at(3), DrainAsked{world.nodes[0], true});
    EXPECT_EQ(world.emptied(4, {{world.nodes[1], 1, {}}}), just(world.nodes[1]));
    if (comes) {
      world.join(5, 9, bought[0].purchase, 2);
    } else {
      tell(world.fleet, at(5), PurchaseFailed{bought[0].purchase});
    }
    tell(world.fleet, at(6), NodeIdle{world.nodes[0]});
    EXPECT_FALSE(world.fleet.state().emptying.contains(world.nodes[0]));
  }
}

TEST(PlannedEdges, WhatIsTakenBackWhileItsReplacementIsOnItsWayIsEmptiedAsWasPlanned) {
  Rules rules = at_once(Policy::cluster_autoscaler);
  rules.after_purchase = {};
  Planned world(rules, 2);
  const auto bought = said<BuyNode>(world.found(1, {{world.nodes[0], 1, {2}}}));
  ASSERT_EQ(bought.size(), 1u);
  tell(world.fleet, at(2), DrainAsked{world.nodes[0], true});
  tell(world.fleet, at(3), UndrainAsked{1});
  EXPECT_TRUE(world.emptied(4, {{world.nodes[1], 1, {}}}).empty()) << "it has its place in the budget again";
  world.join(5, 9, bought[0].purchase, 2);
  EXPECT_EQ(said<EmptyNode>(world.said_last), just(world.nodes[0]));
}

}  // namespace
}  // namespace chalk::fleet
