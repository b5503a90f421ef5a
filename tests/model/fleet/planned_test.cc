// The policies that look at the whole fleet, in a small fleet whose sandboxes are slots on nodes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "model/core/random.h"
#include "model/fleet/fleet.h"
#include "tests/support/said.h"

namespace chalk::fleet {
namespace {

using test::said;
using test::tell;

constexpr std::int64_t kSlots = 4;  // sandboxes of one core on a node of four

Time at(std::int64_t s) { return {seconds(s).nanos}; }
NodeShape shape(std::int64_t cores) {
  return {.cpu_millicores = cores * 1000, .memory_bytes = cores << 32};
}
Resources cores(std::int64_t count) {
  return {.cpu_millicores = count * 1000, .memory_bytes = count << 32};
}

// ---- packing

TEST(Packing, BuysTheVolumeOfWhatWaitsAndTakesWhatIsThereFirst) {
  const std::vector<Waiting> waiting{{{1}, {}, cores(1), 10}};
  const Offer offer{{1}, shape(4), 100, false, 1, 10};
  EXPECT_EQ(nodes_needed(waiting, {offer}, Expander::cheapest), (std::vector<Need>{{1, 2, 2500}}));
}

TEST(Packing, GivesEachOwnerNodesOfItsOwn) {
  const std::vector<Waiting> waiting{{{1}, {}, cores(1), 1}, {{2}, {}, cores(1), 1}};
  const Offer offer{{1}, shape(4), 100, false, 0, 10};
  EXPECT_EQ(nodes_needed(waiting, {offer}, Expander::cheapest), (std::vector<Need>{{0, 2, 500}}));
}

TEST(Packing, AnOwnersNodesCountAsWholes) {
  Waiting mine{{1}, {}, cores(1), 5}, theirs{{2}, {}, cores(1), 1};
  mine.owned = theirs.owned = true;
  const Offer offer{{1}, shape(4), 100, false, 0, 10};
  EXPECT_EQ(nodes_needed({mine, theirs}, {offer}, Expander::cheapest),
            (std::vector<Need>{{0, 3, 3000}}));
}

TEST(Packing, OfAllAmountsTheOneThatIsTakenMostCounts) {
  NodeShape all = shape(8);
  all.disk_bytes = 100;
  all.gpus = 2;
  all.sandboxes_max = 16;
  const Amounts none{8000, 8LL << 32, 100, 2000, 16};
  EXPECT_EQ(taken_permille(none, all), 0u);
  const auto with = [&](std::int64_t Amounts::* amount, std::int64_t left) {
    Amounts one = none;
    one.*amount = left;
    return taken_permille(one, all);
  };
  EXPECT_EQ(with(&Amounts::cpu_millicores, 2000), 750u);
  EXPECT_EQ(with(&Amounts::memory_bytes, 2LL << 32), 750u);
  EXPECT_EQ(with(&Amounts::disk_bytes, 25), 750u);
  EXPECT_EQ(with(&Amounts::gpu_millis, 500), 750u);
  EXPECT_EQ(with(&Amounts::sandboxes, 4), 750u);
  EXPECT_EQ(with(&Amounts::sandboxes, 0), 1000u);
}

TEST(Packing, PutsNoMoreMembersOfGangsOnANodeThanItStartsAtOnce) {
  NodeShape slow = shape(4);
  slow.start_slots = 2;
  const Offer offer{{1}, slow, 100, false, 0, 10};
  EXPECT_EQ(nodes_needed({{{1}, {}, cores(1), 8, true}}, {offer}, Expander::cheapest),
            (std::vector<Need>{{0, 4, 2000}}));
  EXPECT_EQ(nodes_needed({{{1}, {}, cores(1), 8, false}}, {offer}, Expander::cheapest),
            (std::vector<Need>{{0, 2, 2000}}));
}

TEST(Packing, TheCheapestAndTheLeastWastefulPoolAreNotTheSame) {
  const std::vector<Waiting> waiting{{{1}, {}, cores(3), 1}};
  const Offer snug{{1}, shape(3), 500, false, 0, 10}, cheap{{2}, shape(8), 400, false, 0, 10};
  EXPECT_EQ(nodes_needed(waiting, {snug, cheap}, Expander::cheapest),
            (std::vector<Need>{{0, 0, 0}, {0, 1, 375}}));
  EXPECT_EQ(nodes_needed(waiting, {snug, cheap}, Expander::least_waste),
            (std::vector<Need>{{0, 1, 1000}, {0, 0, 0}}));
}

TEST(Packing, LeavesAReservedPoolToThoseWhoNameIt) {
  const Offer spot{{1}, shape(4), 1, true, 5, 10};
  EXPECT_EQ(nodes_needed({{{1}, {}, cores(1), 1}}, {spot}, Expander::cheapest),
            (std::vector<Need>{{0, 0}}));
  EXPECT_EQ(nodes_needed({{{1}, {1}, cores(1), 1}}, {spot}, Expander::cheapest),
            (std::vector<Need>{{1, 0, 250}}));
}

// ---- the newsvendor's room

TEST(Growth, TheRoomIsTheQuantileThatTheCostsAskFor) {
  Growth growth;
  // Demand jumps by two nodes in one of every ten looks and falls again.
  for (int look = 0; look < 500; ++look) {
    growth.learn(look % 10 == 0 ? 7000 : 5000, seconds(10), seconds(10));
  }
  const auto least = [&](std::int64_t worth) {
    return growth.room(seconds(worth), seconds(10), 0).least;
  };
  EXPECT_EQ(least(40), 0u) << "4 in 5 looks see no growth";
  EXPECT_EQ(least(190), 2000u) << "but not 19 in 20";
  EXPECT_EQ(least(0), 0u);
}

TEST(Growth, WhatIsThereIsKeptForABootLonger) {
  Growth growth;
  // It jumps after a third of the looks without a rise: too rare to buy, not to keep.
  for (int look = 0; look < 500; ++look) {
    growth.learn(look % 4 == 0 ? 7000 : 5000, seconds(10), seconds(10));
  }
  const Room room = growth.room(seconds(15), seconds(10), 0);
  EXPECT_EQ(room.least, 0u);
  EXPECT_EQ(room.most, 2000u);
}

TEST(Growth, IsSettledOnceItHasSeenAsMuchAsItRemembers) {
  Growth growth;
  for (int look = 0; look < 720 + 3; ++look) growth.learn(0, seconds(10), seconds(30));
  EXPECT_FALSE(growth.settled());
  growth.learn(0, seconds(10), seconds(30));
  EXPECT_TRUE(growth.settled());
}

TEST(Growth, ALongerBootSeesMoreGrowth) {
  Growth slow, fast;
  for (std::uint32_t look = 0; look < 400; ++look) {
    slow.learn(look * 250, seconds(10), seconds(120));
    fast.learn(look * 250, seconds(10), seconds(20));
  }
  EXPECT_EQ(slow.room(seconds(3600), seconds(120), 0).least, 3000u);
  EXPECT_EQ(fast.room(seconds(3600), seconds(20), 0).least, 500u);
}

// Every hundredth look begins a burst of three looks, of which nothing is left two looks later.
TEST(Growth, ABurstThatHasBegunIsBoughtForAsAWhole) {
  Growth growth;
  const auto demand = [](int look) {
    const int into = look % 100;
    return static_cast<std::uint32_t>(into < 3 ? 1000 * (into + 1) : into < 5 ? 3000 : 0);
  };
  for (int look = 0; look < 700; ++look) growth.learn(demand(look), seconds(10), seconds(30));
  const Room calm = growth.room(seconds(120), seconds(30), 0);
  EXPECT_EQ(calm.least, 0u) << "more than 4 in 5 calm looks see no burst";
  const Room burst = growth.room(seconds(120), seconds(30), 1000);
  EXPECT_EQ(burst.least, 2000u) << "at most two more nodes follow";
}

// Two hours of quiet with one burst of eight nodes in them.
TEST(Growth, LessThanHalfANodeIsNoBurst) {
  Growth growth;
  for (int look = 0; look < 700; ++look) {
    growth.learn(look == 300 ? 3000u : look == 301 ? 8000u : 0u, seconds(10), seconds(30));
  }
  EXPECT_EQ(growth.room(seconds(3600), seconds(30), 499).least, 0u);
  EXPECT_EQ(growth.room(seconds(3600), seconds(30), 500).least, 5000u);
}

TEST(Growth, LearnsFromTheLookBefore) {
  Growth growth;
  EXPECT_EQ(growth.rise(500, false), 0u);
  growth.learn(500, seconds(10), seconds(30));
  EXPECT_EQ(growth.rise(500, true), 0u) << "there was none before";
  EXPECT_EQ(growth.rise(700, false), 200u);
  growth.learn(800, seconds(10), seconds(30));
  EXPECT_EQ(growth.rise(800, true), 300u);
  EXPECT_EQ(growth.rise(700, false), 0u);
}

// ---- consolidation

// Nodes that fit elsewhere are told, and what was asked is kept.
class Told {
 public:
  explicit Told(std::set<std::uint64_t> fit, std::set<std::uint64_t> replaceable = {})
      : fit_(std::move(fit)), replaceable_(std::move(replaceable)) {}
  bool without(NodeId node) { return fit_.contains(node.value); }
  bool replaced(NodeId node, PoolId) { return replaceable_.contains(node.value); }

 private:
  std::set<std::uint64_t> fit_, replaceable_;
};
NodeLoad load(std::uint64_t node, std::uint32_t used, std::uint32_t sandboxes,
              std::uint32_t fixed = 0) {
  return {{node}, 0, used, sandboxes, fixed};
}
Supply supply(std::int64_t price) { return {price, 10, 10, 10, false, true}; }
std::vector<std::uint64_t> nodes_of(const std::vector<Removal>& removals) {
  std::vector<std::uint64_t> out;
  for (const Removal& one : removals) out.push_back(one.node.value);
  return out;
}

TEST(Consolidation, EachPolicyHasItsOrderAndNoneTakesWhatMayNotMove) {
  const std::vector<NodeLoad> loads{load(1, 400, 30), load(2, 700, 2), load(3, 100, 4, 1),
                                    load(4, 300, 10)};
  const auto with = [&](Policy policy) {
    Told all({1, 2, 3, 4});
    return nodes_of(choose_removals(rules_of(policy), loads, {supply(100)}, {9, 99}, all));
  };
  EXPECT_EQ(with(Policy::cluster_autoscaler), (std::vector<std::uint64_t>{4, 1}));
  EXPECT_EQ(with(Policy::karpenter), (std::vector<std::uint64_t>{2, 4, 1}));
  EXPECT_EQ(with(Policy::newsvendor), (std::vector<std::uint64_t>{2, 4}))
      << "thirty moves cost more than ten minutes of a node";
}

TEST(Consolidation, KeepsToItsBudgetAndToThePoolsLeast) {
  const std::vector<NodeLoad> loads{load(1, 100, 5), load(2, 100, 6), load(3, 100, 7)};
  Told all({1, 2, 3});
  const Rules rules = rules_of(Policy::karpenter);
  EXPECT_EQ(nodes_of(choose_removals(rules, loads, {supply(1)}, {2, 99}, all)),
            (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(nodes_of(choose_removals(rules, loads, {supply(1)}, {9, 11}, all)),
            (std::vector<std::uint64_t>{1, 2}));
  Supply scarce = supply(1);
  scarce.above_least = 1;
  EXPECT_EQ(nodes_of(choose_removals(rules, loads, {scarce}, {9, 99}, all)),
            (std::vector<std::uint64_t>{1}));
}

TEST(Consolidation, RoomThatIsKeptHoldsSharedNodesAndNeitherOwnedOnesNorReplacements) {
  std::vector<NodeLoad> loads{load(1, 100, 5), load(2, 100, 6), load(3, 100, 7)};
  Told all({1, 2, 3}, {1});
  const Rules rules = rules_of(Policy::newsvendor);
  Supply kept = supply(400);
  kept.spare = 1;
  EXPECT_EQ(nodes_of(choose_removals(rules, loads, {kept}, {9, 99}, all)),
            (std::vector<std::uint64_t>{1}));
  kept.spare = 0;
  const auto replaced = choose_removals(rules, loads, {kept, supply(100)}, {9, 99}, all);
  ASSERT_EQ(nodes_of(replaced), (std::vector<std::uint64_t>{1}));
  EXPECT_EQ(replaced[0].replacement, PoolId{2});
  loads[1].owned = loads[2].owned = true;
  const auto gone = choose_removals(rules, loads, {kept, supply(100)}, {9, 99}, all);
  ASSERT_EQ(nodes_of(gone), (std::vector<std::uint64_t>{2, 3}));
  EXPECT_TRUE(gone[0].owned && !gone[0].replacement);
}

TEST(Consolidation, ReplacesANodeByACheaperOneOnlyIfNoneCanSimplyGo) {
  const std::vector<NodeLoad> loads{load(1, 300, 3), load(2, 300, 4)};
  Told one({2}, {1}), none({}, {1});
  for (const Policy policy : {Policy::karpenter, Policy::newsvendor}) {
    const Rules rules = rules_of(policy);
    const std::vector<Supply> pools{supply(400), supply(100)};
    EXPECT_EQ(nodes_of(choose_removals(rules, loads, pools, {9, 99}, one)),
              (std::vector<std::uint64_t>{2}));
    const auto replaced = choose_removals(rules, loads, pools, {9, 99}, none);
    ASSERT_EQ(replaced.size(), 1u);
    EXPECT_EQ(replaced[0].replacement, PoolId{2});
    EXPECT_TRUE(choose_removals(rules, loads, {supply(100), supply(400)}, {9, 99}, none).empty())
        << "a dearer one is no gain";
  }
}

// It holds what is there, and is the wrong shape for what comes: newsvendor would buy the other again.
TEST(Consolidation, NewsvendorReplacesWhatIsCheapestForAllByNothingElse) {
  const std::vector<NodeLoad> loads{load(1, 300, 3)};
  Told replaceable({}, {1});
  const auto with = [&](Policy policy, bool own, std::vector<bool> others) {
    std::vector<Supply> pools{supply(400)};
    pools[0].cheapest_for_all = own;
    for (const bool cheapest : others) {
      pools.push_back(supply(100 + static_cast<std::int64_t>(pools.size())));
      pools.back().cheapest_for_all = cheapest;
    }
    const auto removals = choose_removals(rules_of(policy), loads, pools, {9, 99}, replaceable);
    return removals.empty() ? PoolId{} : removals[0].replacement;
  };
  EXPECT_EQ(with(Policy::newsvendor, true, {false}), PoolId{});
  EXPECT_EQ(with(Policy::newsvendor, true, {false, true}), PoolId{3});
  EXPECT_EQ(with(Policy::newsvendor, false, {false}), PoolId{2}) << "both are wrong, this one costs less";
  EXPECT_EQ(with(Policy::newsvendor, false, {false, true}), PoolId{3});
  EXPECT_EQ(with(Policy::karpenter, true, {false, true}), PoolId{2});
}

// ---- a whole fleet

struct Sandbox {
  std::uint64_t node = 0;  // 0: waits
  bool fixed = false;
  std::int64_t until = 0;
};
struct TrueNode {
  std::uint64_t purchase = 0;
  std::int64_t since = 0;
  bool cordoned = false;
  bool leaves = false;  // but for its silence
  bool emptying = false;
  std::int64_t empty_by = 0;
  std::size_t told_to_move = 0;
  std::int64_t noticed = -1, reclaimed = -1;
  std::int64_t heard = 0, quiet_until = 0;
};

// What fits elsewhere, by slots, as a fleet's root would find it.
class Slots {
 public:
  Slots(std::map<std::uint64_t, std::int64_t> used, std::set<std::uint64_t> closed)
      : used_(std::move(used)), closed_(std::move(closed)) {}
  bool without(NodeId node) {
    std::int64_t room = 0;
    for (const auto& [other, used] : used_) {
      if (other != node.value && used > 0 && !closed_.contains(other)) room += kSlots - used;
    }
    std::int64_t left = used_[node.value];
    if (room < left) return false;
    closed_.insert(node.value);
    for (auto& [other, used] : used_) {
      if (used == 0 || closed_.contains(other)) continue;
      const std::int64_t moved = std::min(left, kSlots - used);
      used += moved;
      left -= moved;
    }
    used_[node.value] = 0;
    return true;
  }
  bool replaced(NodeId, PoolId) { return false; }

 private:
  std::map<std::uint64_t, std::int64_t> used_;
  std::set<std::uint64_t> closed_;
};

// Drives the machine as the root does, and holds every property at every step.
class World {
 public:
  World(const Rules& rules, std::uint32_t least, std::uint32_t most, std::uint64_t key)
      : rules_(rules), least_(least), most_(most), random_{key, 0}, fleet_(config(rules)) {
    PoolAdded pool{{1}, {}};
    pool.policy.shape = shape(kSlots);
    pool.policy.zones = {{1}};
    pool.policy.elastic = true;
    pool.policy.nodes_min = least;
    pool.policy.nodes_max = most;
    pool.policy.price_micros = 1000;
    pool.policy.boot = seconds(30);
    hear(pool);
    hear(Woken{});
  }

  // From now on so many of a thousand purchases fail, and as many never come.
  void supply_fails(std::uint64_t permille) { fails_ = permille; }
  void ask(bool fixed, std::int64_t lives) {
    sandboxes_.push_back({0, fixed, now_ + lives});
    place();
  }
  void reclaim(std::int64_t notice) {
    for (auto& [id, node] : nodes_) {
      if (node.noticed >= 0) continue;
      node.noticed = now_;
      node.reclaimed = now_ + notice;
      hear(ReclaimNoticed{{id}, at(now_ + notice)});
      return;
    }
  }
  // Some node is not heard for a while, and not for so long that it is lost.
  void hush() {
    if (nodes_.empty()) return;
    auto node = nodes_.begin();
    std::advance(node, static_cast<std::ptrdiff_t>(random_.below(nodes_.size())));
    if (node->second.quiet_until > now_) return;
    node->second.quiet_until = now_ + 15 + static_cast<std::int64_t>(random_.below(20));
  }
  void second() {
    ++now_;
    for (auto& [until, purchase] : std::exchange(booting_, {})) {
      if (until > now_) {
        booting_.emplace_back(until, purchase);
        continue;
      }
      failures_ = 0;
      retry_at_ = 0;
      hear(NodeRegistered{{purchase, 1, purchase, {1}, {1}, shape(kSlots)}});
    }
    for (auto& [until, purchase] : std::exchange(failing_, {})) {
      if (until > now_) {
        failing_.emplace_back(until, purchase);
        continue;
      }
      failed();
      hear(PurchaseFailed{purchase});
    }
    for (Sandbox& one : sandboxes_) {
      if (one.node != 0 && one.until <= now_) leave(one);
    }
    std::erase_if(sandboxes_, [&](const Sandbox& one) { return one.until <= now_; });
    take_reclaimed();
    for (const auto& [id, node] : std::map(nodes_)) {
      if (node.quiet_until > now_) continue;
      nodes_.at(id).heard = now_;
      hear(HeartbeatSeen{{id}});
    }
    if (wake_ <= at(now_)) hear(Woken{});
    place();
    check();
  }
  std::int64_t now() const { return now_; }
  std::size_t nodes() const { return nodes_.size(); }
  int bought() const { return bought_; }
  int emptied() const { return emptied_; }
  int lost() const { return lost_; }
  std::size_t live() const { return sandboxes_.size(); }

 private:
  static Config config(const Rules& rules) {
    Config config;
    config.rules = rules;
    return config;
  }
  std::int64_t used(std::uint64_t node) const {
    return std::count_if(sandboxes_.begin(), sandboxes_.end(),
                         [&](const Sandbox& one) { return one.node == node; });
  }
  std::int64_t fixed(std::uint64_t node) const {
    return std::count_if(sandboxes_.begin(), sandboxes_.end(), [&](const Sandbox& one) {
      return one.node == node && one.fixed;
    });
  }
  void leave(Sandbox& one) {
    const std::uint64_t node = std::exchange(one.node, 0);
    if (used(node) == 0) hear(NodeIdle{{node}});
  }
  // The fullest node that has room; what finds none waits.
  void place() {
    std::int64_t waiting = 0;
    for (Sandbox& one : sandboxes_) {
      if (one.node != 0) continue;
      std::uint64_t best = 0;
      std::int64_t most = -1;
      for (const auto& [id, node] : nodes_) {
        const std::int64_t here = used(id);
        if (node.cordoned || here == kSlots || here <= most) continue;
        best = id;
        most = here;
      }
      if (best == 0) {
        ++waiting;
        continue;
      }
      one.node = best;
      if (most == 0) hear(NodeBusy{{best}});
    }
    if (waiting == waiting_) return;
    waiting_ = waiting;
    hear(PendingDemand{{1}, waiting, waiting * 1000, 0, 0, 0, waiting > 0 ? 1 : 0});
  }
  void take_reclaimed() {
    for (auto& [id, node] : std::map(nodes_)) {
      if (node.reclaimed != now_) continue;
      const std::uint64_t gone = id;
      for (Sandbox& one : sandboxes_) {
        if (one.node != gone) continue;
        if (!one.fixed) ++lost_;
        one.until = 0;
        one.node = 0;
      }
      hear(NodeIdle{{gone}});  // and with that it is given back
    }
    std::erase_if(sandboxes_, [](const Sandbox& one) { return one.until == 0; });
  }

  template <class Event>
  void hear(const Event& event) {
    for (const Effect& effect : tell(fleet_, at(now_), event)) {
      std::visit([&](const auto& one) { obey(one); }, effect);
    }
  }
  void obey(const WelcomeNode&) {}
  void obey(const NodeJoined& one) {
    nodes_[one.node.value] = {one.registration.purchase, now_};
    nodes_[one.node.value].heard = now_;
  }
  void obey(const NodeLost& one) { nodes_.erase(one.node.value); }
  void obey(const WakeAt& one) { wake_ = one.at; }
  // Twice as long each time in a row; what was ordered before the first of them counts with it.
  void failed() {
    if (now_ < retry_at_) return;
    if (now_ > retry_at_ + rules_.retry_max.nanos / seconds(1).nanos) failures_ = 0;
    const auto wait = rules_.retry.nanos / seconds(1).nanos << failures_++;
    retry_at_ = now_ + std::min(wait, rules_.retry_max.nanos / seconds(1).nanos);
  }
  void obey(const CancelPurchase& one) {
    ASSERT_TRUE(lost_purchases_.contains(one.purchase));
    EXPECT_GE(one.waited, std::max(rules_.arrives_within, seconds(90)));
    lost_purchases_.erase(one.purchase);
    failed();
  }
  void obey(const BuyNode& one) {
    ++bought_;
    EXPECT_GE(now_, retry_at_) << "bought where the last purchase has just failed";
    if (random_.below(1000) < fails_) {
      return failing_.emplace_back(now_ + 1 + static_cast<std::int64_t>(random_.below(20)), one.purchase), void();
    }
    if (random_.below(1000) < fails_) {
      lost_purchases_[one.purchase] = now_;
      return;
    }
    booting_.emplace_back(now_ + 20 + static_cast<std::int64_t>(random_.below(20)), one.purchase);
  }
  void obey(const ReleaseNode& one) {
    const TrueNode node = nodes_.at(one.node.value);
    EXPECT_EQ(used(one.node.value), 0) << "a busy node was given back";
    nodes_.erase(one.node.value);
    if (node.noticed < 0 && !node.leaves) {
      EXPECT_GE(staying(), least_) << "below the pool's least";
    }
  }
  void obey(const CordonNode& one) {
    TrueNode& node = nodes_.at(one.node.value);
    EXPECT_NE(node.cordoned, one.cordoned) << "said though nothing changed";
    node.cordoned = one.cordoned;
    if (!one.cordoned) node.emptying = false;
    node.leaves = one.cordoned && !silent(node);
    if (node.noticed < 0 && node.leaves) {
      EXPECT_GE(staying(), least_) << "below the pool's least";
    }
  }
  bool silent(const TrueNode& node) const { return now_ - node.heard >= 20; }
  std::size_t staying() const {
    return static_cast<std::size_t>(std::count_if(
        nodes_.begin(), nodes_.end(), [](const auto& one) { return !one.second.leaves; }));
  }
  void obey(const EmptyNode& one) {
    TrueNode& node = nodes_.at(one.node.value);
    EXPECT_TRUE(node.cordoned);
    if (node.noticed < 0) {
      EXPECT_EQ(fixed(one.node.value), 0) << "something there may not move";
      node.emptying = node.leaves = true;
      node.empty_by = now_ + rules_.empty_within.nanos / seconds(1).nanos;
      node.told_to_move = static_cast<std::size_t>(used(one.node.value));
      ++emptied_;
    } else {
      EXPECT_LE(2 * (now_ - node.noticed), node.reclaimed - node.noticed) << "too late";
    }
    for (Sandbox& moved : sandboxes_) {
      if (moved.node == one.node.value && !moved.fixed) leave(moved);
    }
  }
  void obey(const AskWaiting&) {
    WaitingSeen seen;
    if (waiting_ > 0) seen.waiting.push_back({{1}, {}, cores(1), waiting_});
    seen.used_permille.push_back(static_cast<std::uint32_t>(
        (static_cast<std::int64_t>(sandboxes_.size()) - waiting_) * 1000 / kSlots));
    hear(seen);
  }
  void obey(const AskRemovals& ask) {
    std::map<std::uint64_t, std::int64_t> here;
    std::set<std::uint64_t> closed;
    for (const auto& [id, node] : nodes_) {
      here[id] = used(id);
      if (node.cordoned) closed.insert(id);
    }
    std::vector<NodeLoad> loads;
    for (const NodeId id : ask.nodes) {
      loads.push_back({id, 0, static_cast<std::uint32_t>(here[id.value] * 1000 / kSlots),
                       static_cast<std::uint32_t>(here[id.value]),
                       static_cast<std::uint32_t>(fixed(id.value))});
    }
    Slots slots(here, closed);
    hear(RemovalsFound{choose_removals(rules_, loads, ask.pools, ask.budget, slots)});
  }

  void check() const {
    EXPECT_LE(nodes_.size() + booting_.size() + failing_.size() + lost_purchases_.size(), most_);
    const std::int64_t within = std::max(rules_.arrives_within, seconds(90)).nanos / seconds(1).nanos;
    for (const auto& [purchase, since] : lost_purchases_) {
      EXPECT_LE(now_ - since, within + rules_.scan.nanos / seconds(1).nanos) << "waited for for ever";
    }
    std::size_t emptying = 0, moving = 0;
    for (const auto& [id, node] : nodes_) {
      EXPECT_EQ(node.cordoned, silent(node) || node.leaves || node.noticed >= 0) << id;
      if (!node.emptying || now_ >= node.empty_by) continue;
      ++emptying;
      moving += node.told_to_move;
    }
    EXPECT_LE(emptying, rules_.nodes_at_once);
    EXPECT_LE(moving, rules_.sandboxes_at_once);
  }

  Rules rules_;
  std::size_t least_, most_;
  Random random_;
  Fleet fleet_;
  std::int64_t now_ = 0;
  Time wake_ = kNever;
  std::vector<std::pair<std::int64_t, std::uint64_t>> booting_, failing_;
  std::map<std::uint64_t, std::int64_t> lost_purchases_;  // since when
  std::uint64_t fails_ = 0;
  std::int64_t failures_ = 0, retry_at_ = 0;
  std::map<std::uint64_t, TrueNode> nodes_;
  std::vector<Sandbox> sandboxes_;
  std::int64_t waiting_ = 0;
  int bought_ = 0, emptied_ = 0, lost_ = 0;
};

RC_GTEST_PROP(PlannedFleet, KeepsItsBoundsWhateverComes, (std::uint64_t key)) {
  Random random{key, 0};
  const auto policy = static_cast<Policy>(1 + random.below(3));
  Rules rules = rules_of(policy);
  rules.nodes_at_once = 1 + static_cast<std::uint32_t>(random.below(3));
  rules.sandboxes_at_once = 2 + static_cast<std::uint32_t>(random.below(8));
  rules.unneeded = seconds(10 + static_cast<std::int64_t>(random.below(60)));
  rules.after_purchase = seconds(60);
  rules.pays_back = seconds(120);
  const auto least = static_cast<std::uint32_t>(random.below(3));
  if (random.below(2) == 0) rules.empty_within = seconds(30);
  if (random.below(2) == 0) rules.arrives_within = seconds(100);
  rules.retry = seconds(10);
  rules.retry_max = seconds(60);
  World world(rules, least, least + 3 + static_cast<std::uint32_t>(random.below(10)), key);
  if (random.below(2) == 0) world.supply_fails(300);
  const std::uint64_t load = 2 + random.below(12);
  for (int second = 0; second < 1500; ++second) {
    const bool busy = second % 600 < 300;
    if (random.below(busy ? load : 10 * load) == 0) {
      world.ask(random.below(5) == 0, 10 + static_cast<std::int64_t>(random.below(300)));
    }
    if (random.below(50) == 0) world.hush();
    if (random.below(200) == 0) world.reclaim(40 + static_cast<std::int64_t>(random.below(120)));
    world.second();
    RC_ASSERT(!::testing::Test::HasFailure());
  }
  RC_ASSERT(world.lost() == 0);
}

// To be silent and to be emptied are two reasons for one cordon, which goes with the last of them.
TEST(PlannedFleet, ANodeThatIsUsedAgainTakesNothingWhileItIsSilent) {
  Config config;
  config.heartbeat_timeout = seconds(40);
  config.rules = rules_of(Policy::karpenter);
  config.rules.unneeded = {};
  config.rules.empty_within = seconds(30);
  for (const std::int64_t heard : {37, 50}) {
    Fleet fleet(config);
    PoolAdded pool{{1}, {}};
    pool.policy.elastic = true;
    pool.policy.nodes_max = 1;
    tell(fleet, at(0), pool);
    tell(fleet, at(0), NodeRegistered{{1, 1, 0, {1}, {1}, shape(kSlots)}});
    const NodeId node = fleet.state().by_key.at(1);
    tell(fleet, at(0), NodeBusy{node});
    std::map<std::int64_t, bool> cordons;
    const auto hear = [&](std::int64_t s, const auto& event) {
      for (const auto& one : said<CordonNode>(tell(fleet, at(s), event))) cordons[s] = one.cordoned;
    };
    for (std::int64_t s = 0; s <= 50; ++s) {
      hear(s, Woken{});
      if (s == 5) hear(s, RemovalsFound{{{node, 1, {}, false}}});
      if (s == 15 || s == heard) hear(s, HeartbeatSeen{node});
    }
    // Emptied from 5 to 40, silent from 35.
    const std::int64_t until = heard == 37 ? 40 : 50;
    EXPECT_EQ(cordons, (std::map<std::int64_t, bool>{{5, true}, {until, false}}));
  }
}

TEST(PlannedFleet, EachPolicyFindsTheNodesThatAPeakLeavesBehind) {
  for (const Policy policy : {Policy::cluster_autoscaler, Policy::karpenter, Policy::newsvendor}) {
    World world(rules_of(policy), 0, 40, 7);
    // Forty sandboxes, of which every fourth stays: ten nodes where three would do.
    for (int i = 0; i < 40; ++i) world.ask(false, i % 4 == 0 ? 40'000 : 900);
    for (int s = 0; s < 800; ++s) world.second();
    EXPECT_GE(world.nodes(), 10u);
    for (int s = 0; s < 9'000; ++s) world.second();
    EXPECT_GT(world.emptied(), 0) << static_cast<int>(policy);
    EXPECT_LE(world.nodes(), 4u) << static_cast<int>(policy);
    EXPECT_EQ(world.live(), 10u);
  }
}

TEST(PlannedFleet, UnderASteadyLoadHardlyAnythingIsBoughtAfterTheStart) {
  World world(rules_of(Policy::newsvendor), 0, 40, 7);
  int before = 0;
  for (int s = 0; s < 4 * 3600; ++s) {
    if (s % 10 == 0) world.ask(false, 300);  // thirty alive at any time, without noise
    world.second();
    if (s == 3600) before = world.bought();
  }
  EXPECT_EQ(world.bought(), before);
}

TEST(PlannedFleet, WhileLittleWasSeenANodeIdlesForAsLongAsABootTakes) {
  World world(rules_of(Policy::newsvendor), 0, 40, 7);
  world.ask(false, 100);
  while (world.live() != 0) world.second();
  for (int s = 0; s < 29; ++s) world.second();
  EXPECT_EQ(world.nodes(), 1u);
  for (int s = 0; s < 11; ++s) world.second();
  EXPECT_EQ(world.nodes(), 0u);
}

// Demand that once jumped by whole nodes and then stays as it is, at any part of a node: what is
// kept for jumps is not bought and given back for ever.
TEST(PlannedFleet, WhatIsHalfANodeTooMuchIsNotBoughtAndGivenBackForEver) {
  for (int steady = 10; steady < 18; ++steady) {
    World world(rules_of(Policy::newsvendor), 0, 40, 7);
    for (int i = 0; i < steady; ++i) world.ask(false, 100'000);
    for (int s = 0; s < 7200; ++s) {
      for (int i = 0; s % 120 == 0 && i < 4; ++i) world.ask(false, 60);
      world.second();
    }
    for (int s = 0; s < 300; ++s) world.second();
    const int before = world.bought();
    for (int s = 0; s < 7200; ++s) world.second();
    EXPECT_LE(world.bought(), before + 1) << steady;
    EXPECT_LE(world.nodes(), 5u) << steady;
  }
}

}  // namespace
}  // namespace chalk::fleet
