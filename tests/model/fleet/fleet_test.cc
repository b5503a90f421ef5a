#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>

#include "model/core/random.h"
#include "tests/model/fleet/rig.h"

namespace chalk::fleet {
namespace {

// One pool that is not elastic, whose nodes are lost after 40 s.
Fleet with_a_pool() {
  Config config;
  config.heartbeat_timeout = seconds(40);
  Fleet fleet(config);
  tell(fleet, at(0), PoolAdded{{1}, {}});
  return fleet;
}

TEST(Fleet, WelcomesANodeOnceAndAgainWhenTheAnswerWasLost) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, {}});
  const auto first = tell(fleet, at(0), NodeRegistered{registration(7)});
  ASSERT_EQ(said<WelcomeNode>(first).size(), 1u);
  EXPECT_EQ(said<NodeJoined>(first).size(), 1u);
  const auto again = tell(fleet, at(1), NodeRegistered{registration(7)});
  EXPECT_EQ(said<WelcomeNode>(again), said<WelcomeNode>(first));
  EXPECT_TRUE(said<NodeJoined>(again).empty());
}

TEST(Fleet, TakesANewBootOfANodeForTheLossOfTheOldOne) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, {}});
  const NodeId old =
      said<WelcomeNode>(tell(fleet, at(0), NodeRegistered{registration(7, 1)}))[0].node;
  const auto second = tell(fleet, at(5), NodeRegistered{registration(7, 2)});
  ASSERT_EQ(said<NodeLost>(second).size(), 1u);
  EXPECT_EQ(said<NodeLost>(second)[0].node, old);
  EXPECT_FALSE(fleet.known(old, 1));
  EXPECT_TRUE(tell(fleet, at(6), NodeRegistered{registration(7, 1)}).empty())
      << "late, from the old boot";
}

TEST(Fleet, BuysForGangsTheNodesThatTheirMembersTake) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  PendingDemand gang = cores(3000);  // by volume one node
  gang.gang_millionths = 3 * 1'000'000;
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(1), gang)).size(), 3u);
}

TEST(Fleet, BuysWhatPendingWorkNeedsAndNothingTwice) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(1), cores(9000))).size(), 3u);
  EXPECT_TRUE(said<BuyNode>(tell(fleet, at(2), cores(9000))).empty()) << "three are on their way";
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(3), cores(1'000'000))).size(), 7u)
      << "never beyond nodes_max";
  const auto more = said<BuyNode>(tell(fleet, at(4), PurchaseFailed{1}));
  EXPECT_TRUE(more.empty());
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(5), cores(1'000'000))).size(), 1u)
      << "the one that failed";
}

// Twice as long each time; in another zone at once, and there as long as that does not fail as well.
TEST(Fleet, WhereAPurchaseFailedNothingIsBoughtForAWhile) {
  Config config;
  config.rules.retry = seconds(60);
  config.rules.retry_max = seconds(150);
  Fleet fleet(config);
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  tell(fleet, at(0), cores(4000));
  std::map<std::int64_t, std::uint64_t> zones;  // when bought
  const auto fails_until = [&](std::int64_t from, std::int64_t until) {
    for (std::int64_t s = from; s < until; s += 10) {
      for (const auto& buy : said<BuyNode>(tell(fleet, at(s), Woken{}))) {
        zones[s] = buy.zone.value;
        if (s + 10 < until) tell(fleet, at(s + 1), PurchaseFailed{buy.purchase});
      }
    }
  };
  tell(fleet, at(1), PurchaseFailed{1});  // in zone 1
  fails_until(10, 630);
  const std::map<std::int64_t, std::uint64_t> expected = {
      {10, 2},  {70, 1},  {80, 2},  // 60 s after 1 and 11
      {200, 1}, {210, 2},           // 120 s after 71 and 81
      {360, 1}, {370, 2},           // 150 s after 201 and 211, and so on
      {520, 1}, {530, 2}};
  EXPECT_EQ(zones, expected);
  EXPECT_EQ(fleet.state().purchases_failed, 10u);
  // One that comes ends it, there.
  zones.clear();
  fails_until(680, 690);
  ASSERT_EQ(zones, (std::map<std::int64_t, std::uint64_t>{{680, 1}}));
  tell(fleet, at(690), NodeRegistered{registration(7, 1, fleet.state().purchases)});
  EXPECT_FALSE(fleet.state().pools[0].shortages.contains({1}));
  EXPECT_TRUE(fleet.state().pools[0].shortages.contains({2}));
}

// What was ordered at one moment fails once, however many that were.
TEST(Fleet, ThePurchasesOfOneMomentFailTogether) {
  Config config;
  Fleet fleet(config);
  PoolPolicy policy = elastic(0, 10);
  policy.zones = {};
  tell(fleet, at(0), PoolAdded{{1}, policy});
  ASSERT_EQ(said<BuyNode>(tell(fleet, at(0), cores(20'000))).size(), 5u);
  for (std::uint64_t p = 1; p <= 5; ++p) tell(fleet, at(5 + static_cast<std::int64_t>(p)), PurchaseFailed{p});
  EXPECT_TRUE(said<BuyNode>(tell(fleet, at(65), cores(20'001))).empty());
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(66), cores(20'000))).size(), 5u);
  for (std::uint64_t p = 6; p <= 10; ++p) tell(fleet, at(70), PurchaseFailed{p});
  EXPECT_EQ(fleet.state().pools[0].shortages.at({}).until, at(70 + 120));
  // Long after that it is the first failure again.
  ASSERT_EQ(said<BuyNode>(tell(fleet, at(900), cores(4'000))).size(), 1u);
  tell(fleet, at(900), PurchaseFailed{11});
  EXPECT_EQ(fleet.state().pools[0].shortages.at({}).until, at(960));
}

// Else its work would wait for it for ever: what is on its way is not bought again.
TEST(Fleet, GivesUpAPurchaseThatNeverComes) {
  for (const std::int64_t boot : {100, 400}) {
    const std::int64_t within = boot == 100 ? 900 : 1200;  // or three boots
    Fleet fleet(Config{});
    PoolPolicy policy = elastic(0, 1);
    policy.boot = seconds(boot);
    tell(fleet, at(0), PoolAdded{{1}, policy});
    ASSERT_EQ(said<BuyNode>(tell(fleet, at(0), cores(4'000))).size(), 1u);
    for (std::int64_t s = 0; s < within; s += 10) {
      const auto effects = tell(fleet, at(s), Woken{});
      EXPECT_TRUE(said<BuyNode>(effects).empty());
      EXPECT_TRUE(said<CancelPurchase>(effects).empty());
    }
    const auto effects = tell(fleet, at(within), Woken{});
    EXPECT_EQ(said<CancelPurchase>(effects),
              (std::vector<CancelPurchase>{{{1}, 1, seconds(within)}}));
    const auto anew = said<BuyNode>(effects);
    ASSERT_EQ(anew.size(), 1u);
    EXPECT_EQ(anew[0].zone, ZoneId{2});
    // It comes all the same, and is taken.
    EXPECT_EQ(said<NodeJoined>(tell(fleet, at(within + 1), NodeRegistered{registration(7, 1, 1)})).size(), 1u);
    EXPECT_TRUE(fleet.state().pools[0].booting.contains(2));
  }
}

// Three times as much is no number of nanoseconds.
TEST(Fleet, APoolWhoseNodesBootForAHundredYearsIsWaitedFor) {
  Fleet fleet(Config{});
  PoolPolicy policy = elastic(0, 1);
  policy.boot = seconds(100LL * 365 * 86'400);
  tell(fleet, at(0), PoolAdded{{1}, policy});
  ASSERT_EQ(said<BuyNode>(tell(fleet, at(0), cores(4'000))).size(), 1u);
  EXPECT_TRUE(said<CancelPurchase>(tell(fleet, at(1'000'000), Woken{})).empty());
}

TEST(Fleet, APurchaseMayComeForAsLongAgainAfterControlWasAway) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 1)});
  ASSERT_EQ(said<BuyNode>(tell(fleet, at(0), cores(4'000))).size(), 1u);
  tell(fleet, at(2000), Resumed{});  // nobody could register
  EXPECT_TRUE(said<CancelPurchase>(tell(fleet, at(2000), Woken{})).empty());
  EXPECT_TRUE(said<CancelPurchase>(tell(fleet, at(2890), Woken{})).empty());
  EXPECT_EQ(said<CancelPurchase>(tell(fleet, at(2900), Woken{})).size(), 1u);
}

TEST(Fleet, SpreadsPurchasesOverZones) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  std::map<ZoneId, int> zones;
  for (const auto& buy : said<BuyNode>(tell(fleet, at(1), cores(16'000)))) ++zones[buy.zone];
  EXPECT_EQ(zones[{1}], 2);
  EXPECT_EQ(zones[{2}], 2);
}

// A supplier that had the node in another zone only: the zone that it was bought for is free again.
TEST(Fleet, ANodeCountsInTheZoneWhereItIs) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  const auto bought = said<BuyNode>(tell(fleet, at(1), cores(8'000)));
  ASSERT_EQ(bought.size(), 2u);
  EXPECT_EQ(bought[1].zone, ZoneId{2});
  for (const BuyNode& one : bought) {  // both of them in zone 1
    tell(fleet, at(2), NodeRegistered{registration(one.purchase, 1, one.purchase)});
  }
  using Zones = std::map<ZoneId, std::uint32_t>;
  EXPECT_EQ(fleet.state().pools[0].in_zone, (Zones{{{1}, 2}}));
  std::map<ZoneId, int> next;
  for (const auto& buy : said<BuyNode>(tell(fleet, at(3), cores(16'000)))) ++next[buy.zone];
  EXPECT_EQ(next[{2}], 2) << "the other zone catches up";
  for (const NodeId node : {NodeId{1}, NodeId{2}}) tell(fleet, at(4), DrainAsked{node});
  EXPECT_EQ(fleet.state().pools[0].in_zone, (Zones{{{2}, 2}}));
}

TEST(Fleet, GivesBackWhatIsIdleButNothingThatIsBusyOrNeeded) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(1, 10)});
  tell(fleet, at(0), cores(12'000));
  std::vector<NodeId> nodes;
  for (std::uint64_t p = 1; p <= 3; ++p) {
    nodes.push_back(
        said<WelcomeNode>(tell(fleet, at(1), NodeRegistered{registration(p, 1, p)}))[0].node);
  }
  tell(fleet, at(2), NodeBusy{nodes[0]});
  tell(fleet, at(2), cores(0));
  std::vector<NodeId> released;
  for (std::int64_t s = 10; s <= 300; s += 10) {
    for (const NodeId node : nodes) tell(fleet, at(s), HeartbeatSeen{node});
    for (const auto& release : said<ReleaseNode>(tell(fleet, at(s), Woken{})))
      released.push_back(release.node);
  }
  EXPECT_EQ(released.size(), 2u);
  EXPECT_EQ(std::count(released.begin(), released.end(), nodes[0]), 0);
}

// Else growth would learn of one instant twice, and nodes be given back twice.
TEST(Fleet, AScanAndABatchAtOneInstantAreOneLook) {
  for (const bool batch_first : {false, true}) {
    Config config;
    config.rules.policy = Policy::newsvendor;
    config.rules.batch = batch_first ? seconds(10) : seconds(1);
    Fleet fleet(config);
    tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
    if (batch_first) tell(fleet, at(0), cores(4000));
    EXPECT_EQ(said<AskWaiting>(tell(fleet, at(0), Woken{})).size(), 1u);
    tell(fleet, at(0), WaitingSeen{});
    if (!batch_first) tell(fleet, at(9), cores(4000));
    EXPECT_EQ(said<AskWaiting>(tell(fleet, at(10), Woken{})).size(), 1u);
    EXPECT_EQ(said<AskWaiting>(tell(fleet, at(10), Woken{})).size(), 0u);
  }
}

// More was needed, and two nodes are on their way when it no longer is. Until they have come,
// nothing that is ready goes in their stead.
TEST(Fleet, WhatBootsIsNoSurplus) {
  Config config;
  config.rules.policy = Policy::newsvendor;
  config.rules.unneeded = seconds(20);
  Fleet fleet(config);
  PoolPolicy policy = elastic(0, 10);
  policy.boot = seconds(30);
  tell(fleet, at(0), PoolAdded{{1}, policy});
  std::vector<NodeId> nodes;
  const auto join = [&](std::int64_t s, std::uint64_t key, std::uint64_t purchase) {
    nodes.push_back(
        said<WelcomeNode>(tell(fleet, at(s), NodeRegistered{registration(key, 1, purchase)}))[0]
            .node);
  };
  for (std::uint64_t key = 1; key <= 3; ++key) join(0, key, 0);
  tell(fleet, at(0), NodeBusy{nodes[0]});
  WaitingSeen much, little;
  much.waiting = {{{1}, {}, {.cpu_millicores = 4000}, 4}};
  much.used_permille = {1000};
  little.used_permille = {2500};
  std::size_t bought = 0, released = 0;
  for (std::int64_t s = 0; s <= 200; s += 10) {
    for (const NodeId node : nodes) tell(fleet, at(s), HeartbeatSeen{node});
    if (s == 100) {
      EXPECT_EQ(bought, 2u);
      EXPECT_EQ(released, 0u);
      join(s, 4, 1);
      join(s, 5, 2);
    }
    if (said<AskWaiting>(tell(fleet, at(s), Woken{})).empty()) continue;
    const auto effects = tell(fleet, at(s), s == 10 ? much : little);
    bought += said<BuyNode>(effects).size();
    released += said<ReleaseNode>(effects).size();
  }
  EXPECT_EQ(bought, 2u);
  EXPECT_EQ(released, 2u);
}

TEST(Fleet, TakesNoSilenceOfItsOwnForALoss) {
  Fleet fleet = with_a_pool();
  tell(fleet, at(0), NodeRegistered{registration(1)});
  tell(fleet, at(100), Resumed{});
  EXPECT_TRUE(said<NodeLost>(tell(fleet, at(100), Woken{})).empty());
  EXPECT_TRUE(said<NodeLost>(tell(fleet, at(120), Woken{})).empty());
  EXPECT_EQ(said<NodeLost>(tell(fleet, at(140), Woken{})).size(), 1u);
}

// Control stood still, and nobody said so: the check of silence comes much too late, and before the
// heartbeats that wait. What it was late by is the point: a little late it gives up as ever.
TEST(Fleet, TakesACheckThatComesMuchTooLateForASilenceOfItsOwn) {
  Config config;
  config.heartbeat_timeout = seconds(40);
  for (const std::int64_t late : {10, 11}) {
    Fleet fleet(config);
    tell(fleet, at(0), PoolAdded{{1}, {}});
    const auto node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
    EXPECT_EQ(said<CordonNode>(tell(fleet, at(20), Woken{})),
              (std::vector<CordonNode>{{node, true}}));
    const auto woken = tell(fleet, at(40 + late), Woken{});
    EXPECT_EQ(said<NodeLost>(woken).size(), late == 10 ? 1u : 0u);
    if (late == 10) continue;
    EXPECT_EQ(said<CordonNode>(woken), (std::vector<CordonNode>{{node, false}}));
    EXPECT_EQ(said<WakeAt>(woken), (std::vector<WakeAt>{{at(51 + 20)}}));
    EXPECT_EQ(said<CordonNode>(tell(fleet, at(71), Woken{})).size(), 1u);
    EXPECT_TRUE(said<NodeLost>(tell(fleet, at(90), Woken{})).empty());
    EXPECT_EQ(said<NodeLost>(tell(fleet, at(91), Woken{})).size(), 1u);
  }
}

// Whenever control stands still and for however long: a node that beats gets its heartbeats in
// again before it is given up.
TEST(Fleet, GivesNobodyUpForStandingStillAtAnyMoment) {
  Config config;
  config.heartbeat_timeout = seconds(40);
  for (std::int64_t from = 0; from < 60; ++from) {
    for (std::int64_t lasts = 1; lasts < 100; ++lasts) {
      Fleet fleet(config);
      tell(fleet, at(0), PoolAdded{{1}, {}});
      const auto node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
      Time wake = at(20);
      for (std::int64_t s = 1; s < from + lasts + 50; ++s) {
        if (s >= from && s < from + lasts) continue;
        std::vector<Effect> effects;
        if (wake <= at(s)) effects = tell(fleet, at(s), Woken{});
        for (const auto& one : said<WakeAt>(effects)) wake = one.at;
        ASSERT_TRUE(said<NodeLost>(effects).empty()) << from << " " << lasts;
        if (s % 3 == 0) tell(fleet, at(s), HeartbeatSeen{node});
      }
    }
  }
}

TEST(Fleet, ASilentNodeTakesNothingUntilItIsHeard) {
  Fleet fleet = with_a_pool();
  const auto quiet = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  const auto drained = joined(tell(fleet, at(0), NodeRegistered{registration(2)}));
  const auto loud = joined(tell(fleet, at(0), NodeRegistered{registration(3)}));
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(5), DrainAsked{drained})).size(), 1u);
  tell(fleet, at(10), HeartbeatSeen{loud});
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(20), Woken{})),
            (std::vector<CordonNode>{{quiet, true}})) << "what drains is cordoned already";
  EXPECT_TRUE(tell(fleet, at(21), HeartbeatSeen{drained}).empty()) << "and stays so";
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(30), Woken{})),
            (std::vector<CordonNode>{{loud, true}}));
  EXPECT_TRUE(tell(fleet, at(31), DrainAsked{loud}).empty());
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(32), HeartbeatSeen{quiet})),
            (std::vector<CordonNode>{{quiet, false}}));
  EXPECT_TRUE(tell(fleet, at(33), HeartbeatSeen{loud}).empty());
  EXPECT_TRUE(said<NodeLost>(tell(fleet, at(52), Woken{})).empty());
}

TEST(Fleet, WhatAnOperatorDrainsStaysDrainedUntilItIsTakenBack) {
  Fleet fleet = with_a_pool();
  NodeId node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(1), DrainAsked{node, true})),
            (std::vector<CordonNode>{{node, true}}));
  const auto booted = tell(fleet, at(2), NodeRegistered{registration(1, 2)});
  EXPECT_TRUE(said<NodeJoined>(booted).at(0).cordoned);
  tell(fleet, at(22), Woken{});
  EXPECT_EQ(said<NodeLost>(tell(fleet, at(42), Woken{})).size(), 1u);
  node = joined(tell(fleet, at(90), NodeRegistered{registration(1, 3)}));
  EXPECT_EQ(fleet.state().pools[0].draining, 1u);
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(91), UndrainAsked{1})),
            (std::vector<CordonNode>{{node, false}}));
  EXPECT_EQ(fleet.state().pools[0].draining, 0u);
  EXPECT_TRUE(tell(fleet, at(92), UndrainAsked{1}).empty());
  EXPECT_FALSE(said<NodeJoined>(tell(fleet, at(93), NodeRegistered{registration(1, 4)}))[0].cordoned);
}

TEST(Fleet, ADrainIsTakenBackWhileItsNodeIsAway) {
  Fleet fleet = with_a_pool();
  const NodeId node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  tell(fleet, at(1), DrainAsked{node, true});
  tell(fleet, at(20), Woken{});
  EXPECT_EQ(said<NodeLost>(tell(fleet, at(40), Woken{})).size(), 1u);
  EXPECT_TRUE(tell(fleet, at(41), UndrainAsked{1}).empty());
  EXPECT_FALSE(said<NodeJoined>(tell(fleet, at(42), NodeRegistered{registration(1, 2)}))[0].cordoned);
}

// Control drains whom it can tell nothing: a boot sets that right.
TEST(Fleet, OtherDrainsEndWithTheNode) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, {}});
  const NodeId node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  tell(fleet, at(1), DrainAsked{node});
  EXPECT_FALSE(said<NodeJoined>(tell(fleet, at(2), NodeRegistered{registration(1, 2)}))[0].cordoned);
}

// Nothing is bought in the place of one that is taken back, and it may go when it has idled.
TEST(Fleet, AnElasticPoolCountsWhatIsTakenBack) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  const auto bought = said<BuyNode>(tell(fleet, at(1), cores(4'000)));
  ASSERT_EQ(bought.size(), 1u);
  const NodeId node = joined(tell(fleet, at(2), NodeRegistered{registration(9, 1, bought[0].purchase)}));
  tell(fleet, at(3), NodeBusy{node});
  tell(fleet, at(3), cores(0));
  tell(fleet, at(4), DrainAsked{node, true});
  tell(fleet, at(5), UndrainAsked{9});
  EXPECT_TRUE(said<ReleaseNode>(tell(fleet, at(6), NodeIdle{node})).empty()) << "it stays, then";
  EXPECT_EQ(fleet.state().pools[0].idle.size(), 1u);
  tell(fleet, at(7), DrainAsked{node, true});
  EXPECT_EQ(fleet.state().nodes.size(), 0u);
  EXPECT_TRUE(fleet.state().drained.empty()) << "what is given back does not come again";
}

TEST(Fleet, ABoughtMachineThatBootsAnewWhileItIsDrainedIsGivenBack) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  const auto bought = said<BuyNode>(tell(fleet, at(1), cores(4'000)));
  ASSERT_EQ(bought.size(), 1u);
  const std::uint64_t purchase = bought[0].purchase;
  const NodeId node = joined(tell(fleet, at(2), NodeRegistered{registration(9, 1, purchase)}));
  tell(fleet, at(3), NodeBusy{node});
  tell(fleet, at(3), cores(0));
  tell(fleet, at(4), DrainAsked{node, true});
  const auto booted = tell(fleet, at(5), NodeRegistered{registration(9, 2, purchase)});
  EXPECT_TRUE(said<NodeJoined>(booted).at(0).cordoned);
  EXPECT_EQ(said<ReleaseNode>(booted).at(0).purchase, purchase);
  EXPECT_EQ(fleet.state().nodes.size(), 0u);
  EXPECT_TRUE(fleet.state().drained.empty());
}

TEST(Fleet, WhatIsDrainedIsNoneOfTheLeastThatAPoolKeeps) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(1, 10)});
  const auto bought = said<BuyNode>(tell(fleet, at(0), Woken{}));
  ASSERT_EQ(bought.size(), 1u);
  const NodeId node =
      joined(tell(fleet, at(1), NodeRegistered{registration(9, 1, bought[0].purchase)}));
  tell(fleet, at(1), NodeBusy{node});
  tell(fleet, at(2), DrainAsked{node, true});
  std::size_t more = 0;
  for (std::int64_t s = 10; s <= 40; s += 10) {
    tell(fleet, at(s), HeartbeatSeen{node});
    more += said<BuyNode>(tell(fleet, at(s), Woken{})).size();
  }
  EXPECT_EQ(more, 1u);
}

// A zone that goes at once: all of it is marked before the first of its nodes is given up.
TEST(Fleet, MarksAllThatFellSilentTogetherBeforeItGivesOneUp) {
  Fleet fleet = with_a_pool();
  for (std::uint64_t key = 1; key <= 9; ++key) tell(fleet, at(0), NodeRegistered{registration(key)});
  EXPECT_EQ(said<CordonNode>(tell(fleet, at(20), Woken{})).size(), 9u);
  const auto woken = tell(fleet, at(40), Woken{});
  EXPECT_EQ(said<NodeLost>(woken).size(), 9u);
  EXPECT_TRUE(said<CordonNode>(woken).empty());
}

// Lives at random, held against a plain reading of when each node was heard last and whether it is
// to leave: it is cordoned while it was silent for half of the timeout or leaves, and that is said
// only when it changes; it is lost once, with the whole timeout. Control may say that it was away,
// or be woken too late.
class PlainReading {
 public:
  explicit PlainReading(std::uint64_t key) : random_{key, 0}, fleet_(config()) {
    hear(PoolAdded{{1}, {}});
  }

  void second() {
    ++now_;
    if (random_.below(40) == 0) now_ += static_cast<std::int64_t>(random_.below(45));  // a stall
    if (wake_ <= at(now_)) {
      if (at(now_) - wake_ > seconds(10)) heard_all();
      wake_ = kNever;
      hear(Woken{});
    } else if (random_.below(60) == 0) {
      heard_all();
      hear(Resumed{});
    }
    for (const auto& [id, node] : nodes_) {
      RC_ASSERT(now_ - node.heard < 40);
      RC_ASSERT(node.cordoned == (node.leaves || now_ - node.heard >= 20));
    }
    if (random_.below(8) == 0) join(next_key_++, 1);
    if (random_.below(100) == 0) hush_ = now_ + 10 + static_cast<std::int64_t>(random_.below(50));
    for (const auto& [id, node] : std::map(nodes_)) something(id, node);
    RC_ASSERT(nodes_.size() == fleet_.state().nodes.size());
  }

 private:
  struct Plain {
    std::uint64_t key = 0, incarnation = 0;
    bool bought = false, busy = false, leaves = false, reclaimed = false;
    std::int64_t heard = 0;
    bool cordoned = false;  // as was said
  };
  static Config config() {
    Config config;
    config.heartbeat_timeout = seconds(40);
    return config;
  }
  void heard_all() {
    for (auto& [id, node] : nodes_) node.heard = now_;
  }
  void join(std::uint64_t key, std::uint64_t incarnation) {
    const bool bought = key % 2 == 0;
    hear(NodeRegistered{registration(key, incarnation, bought ? key : 0)});
  }
  void something(NodeId id, const Plain& node) {
    const bool hushed = now_ < hush_ && node.key % 3 != 0;
    const std::uint64_t what = random_.below(hushed ? 25 : 10);
    if (what == 0) {
      nodes_.at(id).heard = now_;
      hear(HeartbeatSeen{id});
      return;
    }
    switch (random_.below(150)) {
      case 0:
        if (!node.bought || node.busy) nodes_.at(id).leaves = true;
        hear(DrainAsked{id});
        break;
      case 6:
        if (!node.bought || node.busy) nodes_.at(id).leaves = true;
        if (!node.bought || node.busy) drained_.insert(node.key);
        hear(DrainAsked{id, true});
        break;
      case 7:
        drained_.erase(node.key);
        nodes_.at(id).leaves = node.reclaimed;
        hear(UndrainAsked{node.key});
        break;
      case 1:
        nodes_.at(id).leaves = nodes_.at(id).reclaimed = true;
        hear(ReclaimNoticed{id, at(now_ + 60)});
        break;
      case 2: join(node.key, node.incarnation + 1); break;
      case 3:
      case 4:
      case 5:
        nodes_.at(id).busy = !node.busy;
        node.busy ? hear(NodeIdle{id}) : hear(NodeBusy{id});
        break;
      default: break;
    }
  }

  template <class Event>
  void hear(const Event& event) {
    for (const Effect& effect : tell(fleet_, at(now_), event)) {
      std::visit([&](const auto& one) { obey(one); }, effect);
    }
  }
  void obey(const NodeJoined& one) {
    const NodeRegistration& hello = one.registration;
    const bool drained = drained_.contains(hello.key);
    RC_ASSERT(one.cordoned == drained);
    nodes_[one.node] = {.key = hello.key,
                        .incarnation = hello.incarnation,
                        .bought = hello.purchase != 0,
                        .leaves = drained,
                        .heard = now_,
                        .cordoned = drained};
  }
  void obey(const NodeLost& one) {
    const Plain& node = nodes_.at(one.node);
    RC_ASSERT(one.silent == Duration{} || now_ - node.heard >= 40);
    nodes_.erase(one.node);
  }
  void obey(const ReleaseNode& one) {
    if (nodes_.at(one.node).bought) drained_.erase(nodes_.at(one.node).key);
    nodes_.erase(one.node);
  }
  void obey(const CordonNode& one) {
    Plain& node = nodes_.at(one.node);
    RC_ASSERT(node.cordoned != one.cordoned);
    node.cordoned = one.cordoned;
  }
  void obey(const WakeAt& one) { wake_ = one.at; }
  template <class Other>
  void obey(const Other&) {}

  Random random_;
  Fleet fleet_;
  std::map<NodeId, Plain> nodes_;
  std::set<std::uint64_t> drained_;  // keys
  std::int64_t now_ = 0, hush_ = 0;
  std::uint64_t next_key_ = 1;
  Time wake_ = kNever;
};

RC_GTEST_PROP(Fleet, CordonsAndLosesTheSilentAsAPlainReadingWould, (std::uint64_t key)) {
  PlainReading reading(key);
  for (int second = 0; second < 600; ++second) reading.second();
}

// Heartbeats in any order: each silent node is declared lost once, not before its time, and not
// later than the wake-up that was asked for. The oracle keeps every node's last heartbeat.
RC_GTEST_PROP(Fleet, DeclaresASilentNodeLostOnceAndInTime, (std::uint64_t key)) {
  Config config;
  config.heartbeat_timeout = seconds(40);
  Fleet fleet(config);
  Random random{key, 0};
  tell(fleet, at(0), PoolAdded{{1}, {}});
  std::map<NodeId, std::int64_t> seen;
  std::uint64_t next_key = 1;
  Time wake = kNever;
  for (std::int64_t s = 1; s < 400; ++s) {
    std::vector<Effect> effects;
    const auto hear = [&](const auto& event) {
      for (const Effect& effect : tell(fleet, at(s), event)) effects.push_back(effect);
    };
    if (wake <= at(s)) {
      wake = kNever;
      hear(Woken{});
    }
    for (const auto& lost : said<NodeLost>(effects)) {
      RC_ASSERT(seen.contains(lost.node));
      RC_ASSERT(s - seen[lost.node] >= 40);
      RC_ASSERT(s - seen[lost.node] <= 41);
      seen.erase(lost.node);
    }
    for (const auto& [node, last] : seen) RC_ASSERT(s - last <= 41);
    if (random.below(10) == 0) {
      const auto effects_of_join = tell(fleet, at(s), NodeRegistered{registration(next_key++)});
      seen[said<WelcomeNode>(effects_of_join)[0].node] = s;
      for (const auto& one : said<WakeAt>(effects_of_join)) wake = one.at;
    }
    for (auto& [node, last] : seen) {
      if (random.below(25) != 0) continue;
      hear(HeartbeatSeen{node});
      last = s;
    }
    for (const auto& one : said<WakeAt>(effects)) wake = one.at;
  }
}

}  // namespace
}  // namespace chalk::fleet
