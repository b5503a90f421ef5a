// A fleet at its bounds, and what is said of it twice, late or about nobody.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/model/fleet/rig.h"

namespace chalk::fleet {
namespace {

// Whose nodes need not beat.
Config patient() {
  Config config;
  config.heartbeat_timeout = seconds(1'000'000);
  return config;
}
std::size_t bought(const std::vector<Effect>& effects) { return said<BuyNode>(effects).size(); }
// By the second at which each was given back, looked at every ten seconds.
std::map<std::int64_t, NodeId> released(Fleet& fleet, std::int64_t from, std::int64_t to) {
  std::map<std::int64_t, NodeId> out;
  for (std::int64_t s = from; s <= to; s += 10) {
    for (const auto& one : said<ReleaseNode>(tell(fleet, at(s), Woken{}))) out[s] = one.node;
  }
  return out;
}

TEST(FleetEdges, ANodeOfNobodysPoolIsNotWelcomed) {
  Fleet fleet(Config{});
  EXPECT_TRUE(tell(fleet, at(0), PoolAdded{{}, elastic(1, 2)}).empty());
  EXPECT_TRUE(fleet.state().pools.empty());
  tell(fleet, at(0), PoolAdded{{2}, {}});
  for (const std::uint64_t pool : {0, 1, 2, 3}) {
    NodeRegistration asks = registration(pool + 1);
    asks.pool = {pool};
    EXPECT_EQ(said<WelcomeNode>(tell(fleet, at(0), NodeRegistered{asks})).size(),
              pool == 2 ? 1u : 0u);
    EXPECT_TRUE(tell(fleet, at(0), PendingDemand{{pool}, 1}).empty());
  }
}

TEST(FleetEdges, NoMoreNodesJoinThanMay) {
  Config config;
  config.nodes_max = 2;
  Fleet fleet(config);
  tell(fleet, at(0), PoolAdded{{1}, {}});
  for (std::uint64_t key = 1; key <= 3; ++key) {
    EXPECT_EQ(tell(fleet, at(0), NodeRegistered{registration(key)}).empty(), key == 3);
  }
  EXPECT_EQ(said<NodeJoined>(tell(fleet, at(1), NodeRegistered{registration(2, 2)})).size(), 1u)
      << "one that boots anew takes its own place";
  EXPECT_EQ(fleet.state().nodes.size(), 2u);
}

TEST(FleetEdges, ABusyNodeThatIsLostIsBusyNoMore) {
  Fleet fleet(patient());
  tell(fleet, at(0), PoolAdded{{1}, {}});
  tell(fleet, at(0), NodeBusy{joined(tell(fleet, at(0), NodeRegistered{registration(1)}))});
  EXPECT_EQ(fleet.state().pools[0].busy, 1u);
  tell(fleet, at(1), NodeRegistered{registration(1, 2)});
  EXPECT_EQ(fleet.state().pools[0].busy, 0u);
}

// Whatever a demand leaves out, a node is needed for it; and what nodes have none of asks for nothing.
TEST(FleetEdges, ADemandOfNothingKnownIsForOneNode) {
  for (const std::int64_t disk : {0, 5}) {
    Fleet fleet(patient());
    tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
    PendingDemand demand{{1}, 1};
    demand.disk_bytes = disk;
    EXPECT_EQ(bought(tell(fleet, at(1), demand)), 1u);
  }
}

TEST(FleetEdges, WhatIsSaidTwiceCountsOnce) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, {}});
  const NodeId node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  const PoolState& pool = fleet.state().pools[0];
  for (int i = 0; i < 2; ++i) tell(fleet, at(1), NodeBusy{node});
  EXPECT_EQ(pool.busy, 1u);
  for (int i = 0; i < 2; ++i) tell(fleet, at(2), NodeIdle{node});
  EXPECT_EQ(pool.busy, 0u);
  for (int i = 0; i < 2; ++i) tell(fleet, at(3), DrainAsked{node});
  EXPECT_EQ(pool.draining, 1u);
  for (int i = 0; i < 2; ++i) tell(fleet, at(4), UndrainAsked{1});
  EXPECT_EQ(pool.draining, 0u);
  for (int i = 0; i < 2; ++i) tell(fleet, at(5), ReclaimNoticed{node, at(100)});
  EXPECT_EQ(fleet.state().nodes_reclaimed, 1u);
}

TEST(FleetEdges, WhatIsSaidOfNobodyChangesNothing) {
  Fleet fleet(Config{});
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  tell(fleet, at(0), NodeRegistered{registration(1)});
  const State before = fleet.state();
  tell(fleet, at(1), HeartbeatSeen{{99}});
  tell(fleet, at(1), NodeBusy{{99}});
  tell(fleet, at(1), NodeIdle{{99}});
  tell(fleet, at(1), DrainAsked{{99}, true});
  tell(fleet, at(1), UndrainAsked{99});
  tell(fleet, at(1), PurchaseFailed{99});
  tell(fleet, at(1), ReclaimNoticed{{99}, at(50)});
  EXPECT_TRUE(fleet.state() == before);
}

TEST(FleetEdges, APoolThatIsToldAnewIsLookedAtAsBefore) {
  for (const Policy policy : {Policy::idle, Policy::karpenter}) {
    Config config = patient();
    config.rules = rules_of(policy);
    Fleet fleet(config);
    EXPECT_TRUE(tell(fleet, at(0), PoolAdded{{1}, {}}).empty()) << "nothing is bought there";
    EXPECT_EQ(said<WakeAt>(tell(fleet, at(0), PoolAdded{{1}, elastic(0, 1)})),
              (std::vector<WakeAt>{{at(0)}}));
    tell(fleet, at(0), Woken{});
    EXPECT_TRUE(tell(fleet, at(5), PoolAdded{{1}, elastic(0, 2)}).empty());
    EXPECT_TRUE(tell(fleet, at(5), Woken{}).empty());
  }
}

// In each amount to the last of a node's.
TEST(FleetEdges, BuysForTheAmountThatNeedsMost) {
  const auto needed = [](const PendingDemand& demand, const NodeShape& shape) {
    Fleet fleet(Config{});
    PoolPolicy policy = elastic(0, 10);
    policy.shape = shape;
    tell(fleet, at(0), PoolAdded{{1}, policy});
    return bought(tell(fleet, at(1), demand));
  };
  const NodeShape shape{.cpu_millicores = 4000, .memory_bytes = 500, .disk_bytes = 60, .gpus = 2,
                        .sandboxes_max = 5};
  const PendingDemand one{.pool = {1}, .count = 1, .cpu_millicores = 4000, .memory_bytes = 500,
                          .disk_bytes = 60, .gpu_millis = 2000, .owners = 1,
                          .gang_millionths = 1'000'000};
  EXPECT_EQ(needed({{1}, 0, 0, 0, 0, 0, 3}, shape), 0u) << "nothing waits";
  EXPECT_EQ(needed({{1}, 1}, {}), 1u);
  EXPECT_EQ(needed(one, shape), 1u);
  using Amount = std::int64_t PendingDemand::*;
  for (const Amount amount : {&PendingDemand::cpu_millicores, &PendingDemand::memory_bytes,
                              &PendingDemand::disk_bytes, &PendingDemand::gpu_millis,
                              &PendingDemand::owners, &PendingDemand::gang_millionths}) {
    PendingDemand more = one;
    more.*amount += 1;
    EXPECT_EQ(needed(more, shape), 2u);
  }
  EXPECT_EQ(needed({{1}, 5}, shape), 1u);
  EXPECT_EQ(needed({{1}, 6}, shape), 2u);
  NodeShape single = shape;
  single.sandboxes_max = 1;
  EXPECT_EQ(needed({{1}, 3}, single), 3u);
}

TEST(FleetEdges, APurchaseSaysWhatItIsFor) {
  Fleet fleet(Config{});
  PoolPolicy policy = elastic(0, 10);
  policy.buffer_nodes = 1;
  tell(fleet, at(0), PoolAdded{{1}, policy});
  tell(fleet, at(0), NodeRegistered{registration(1)});
  EXPECT_EQ(said<BuyNode>(tell(fleet, at(1), cores(8000))),
            (std::vector<BuyNode>{{{1}, 1, {2}, 2, 1, 1, 1}, {{1}, 2, {1}, 2, 1, 1, 2}}));
}

TEST(FleetEdges, APoolStaysBetweenItsLeastAndItsMost) {
  Fleet fleet(patient());
  tell(fleet, at(0), PoolAdded{{1}, elastic(2, 3)});
  EXPECT_EQ(bought(tell(fleet, at(0), Woken{})), 2u);
  EXPECT_EQ(bought(tell(fleet, at(1), cores(1'000'000))), 1u);
  for (std::uint64_t key = 1; key <= 3; ++key) {
    tell(fleet, at(2), NodeRegistered{registration(key, 1, key)});
  }
  tell(fleet, at(3), cores(0));
  EXPECT_EQ(released(fleet, 10, 300).size(), 1u);
}

// The longest idle first, one at a look, as soon as it has idled for so long.
TEST(FleetEdges, NodesAreGivenBackWhenTheyHaveIdledAndNothingWaits) {
  Fleet fleet(patient());
  tell(fleet, at(0), PoolAdded{{1}, elastic(1, 10)});
  tell(fleet, at(0), Woken{});
  std::vector<NodeId> nodes;
  for (std::uint64_t key = 1; key <= 3; ++key) {
    nodes.push_back(joined(tell(fleet, at(1), NodeRegistered{registration(key)})));
    tell(fleet, at(2), NodeBusy{nodes.back()});
  }
  tell(fleet, at(9), NodeIdle{nodes[2]});
  tell(fleet, at(10), NodeIdle{nodes[1]});
  tell(fleet, at(11), NodeIdle{nodes[0]});
  tell(fleet, at(12), cores(1000));
  EXPECT_TRUE(released(fleet, 20, 100).empty()) << "something waits";
  tell(fleet, at(101), cores(0));
  using Released = std::map<std::int64_t, NodeId>;
  EXPECT_EQ(released(fleet, 110, 200), (Released{{110, nodes[2]}, {120, nodes[1]}}));
  tell(fleet, at(201), PoolAdded{{1}, elastic(0, 10)});
  EXPECT_EQ(released(fleet, 210, 220), (Released{{210, nodes[0]}}));
  const NodeId last = joined(tell(fleet, at(230), NodeRegistered{registration(4, 1, 7)}));
  EXPECT_EQ(released(fleet, 230, 280), Released{});
  EXPECT_EQ(said<ReleaseNode>(tell(fleet, at(290), Woken{})),
            (std::vector<ReleaseNode>{{last, 7, seconds(60)}}));
}

TEST(FleetEdges, SomeNodesStayFreeForWhatComesNext) {
  for (const bool by_busy : {false, true}) {
    Fleet fleet(patient());
    PoolPolicy policy = elastic(0, 10);
    (by_busy ? policy.buffer_permille : policy.buffer_nodes) = 1;
    tell(fleet, at(0), PoolAdded{{1}, policy});
    EXPECT_EQ(bought(tell(fleet, at(0), Woken{})), by_busy ? 0u : 1u);
    std::vector<NodeId> nodes;
    for (std::uint64_t key = 1; key <= 3; ++key) {
      nodes.push_back(
          joined(tell(fleet, at(1), NodeRegistered{registration(key, 1, key == 1 ? 1 : 0)})));
    }
    tell(fleet, at(1), NodeBusy{nodes[0]});
    EXPECT_EQ(released(fleet, 10, 300).size(), 1u);
    tell(fleet, at(301), NodeBusy{nodes[2]});
    EXPECT_EQ(bought(tell(fleet, at(310), Woken{})), 1u);
  }
}

TEST(FleetEdges, WhatIsDrainedWhileItIdlesGoesAtOnce) {
  Fleet fleet(patient());
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  const NodeId rented = joined(tell(fleet, at(2), NodeRegistered{registration(1, 1, 5)}));
  EXPECT_EQ(said<ReleaseNode>(tell(fleet, at(7), DrainAsked{rented})),
            (std::vector<ReleaseNode>{{rented, 5, seconds(5)}}));
  const NodeId own = joined(tell(fleet, at(10), NodeRegistered{registration(2)}));
  EXPECT_TRUE(said<ReleaseNode>(tell(fleet, at(20), DrainAsked{own})).empty());
  EXPECT_TRUE(released(fleet, 20, 200).empty());
  tell(fleet, at(205), UndrainAsked{2});
  EXPECT_EQ(released(fleet, 210, 300), (std::map<std::int64_t, NodeId>{{270, own}}))
      << "it idles anew";
}

TEST(FleetEdges, WhatIsTakenBackWhileItIsBusyDoesNotIdle) {
  Fleet fleet(patient());
  tell(fleet, at(0), PoolAdded{{1}, elastic(0, 10)});
  const NodeId node = joined(tell(fleet, at(0), NodeRegistered{registration(1)}));
  tell(fleet, at(1), NodeBusy{node});
  tell(fleet, at(2), DrainAsked{node, true});
  tell(fleet, at(3), UndrainAsked{1});
  EXPECT_TRUE(fleet.state().pools[0].idle.empty());
  Fleet still(Config{});
  tell(still, at(0), PoolAdded{{1}, {}});
  const NodeId other = joined(tell(still, at(0), NodeRegistered{registration(1)}));
  tell(still, at(2), DrainAsked{other, true});
  tell(still, at(3), UndrainAsked{1});
  EXPECT_TRUE(still.state().pools[0].idle.empty()) << "of a pool that gives nothing back";
}

}  // namespace
}  // namespace chalk::fleet
