// Nodes that the fleet does without: asked of a fork, then carried out by the root.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <optional>

#include "model/control/control.h"
#include "model/control/what_if.h"
#include "tests/support/said.h"

namespace chalk::control {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }
constexpr std::int64_t kGi = 1LL << 30;
constexpr std::int64_t kForEver = 1'000'000;
NodeShape shape(std::int64_t cores) {
  return {.cpu_millicores = cores * 1000, .memory_bytes = cores * 4 * kGi, .disk_bytes = kGi};
}

// A control plane whose nodes obey at once: what is started runs, what is stopped ends.
class Plane {
 public:
  explicit Plane(fleet::Policy policy, bool separate = false)
      : Plane(fleet::rules_of(policy), separate) {}
  explicit Plane(const fleet::Rules& rules, bool separate = false)
      : control_(config(rules, separate)) {
    for (std::uint64_t pool = 1; pool <= 2; ++pool) {
      fleet::PoolAdded added{{pool}, {}};
      added.policy.shape = shape(pool == 1 ? 8 : 4);
      added.policy.zones = {{1}};
      added.policy.elastic = true;
      added.policy.nodes_max = 100;
      added.policy.price_micros = pool == 1 ? 800 : 400;
      step(added);
    }
    for (std::uint64_t tenant = 1; tenant <= 3; ++tenant) {
      tenancy::TenantAdded one;
      one.tenant = {tenant};
      step(one);
    }
  }
  NodeId join(std::uint64_t pool, std::uint64_t purchase = 0) {
    step(NodeRegistration{++keys_, 1, purchase, {pool}, {1}, shape(pool == 1 ? 8 : 4)});
    return joined_;
  }
  std::optional<SandboxId> ask(std::int64_t cores, bool restart, std::uint64_t tenant = 1,
                               Duration lifetime = {}) {
    SandboxRequested asked;
    asked.reply_to = ++asks_;
    asked.tenant = {tenant};
    asked.resources = {.cpu_millicores = cores * 1000, .memory_bytes = cores * 4 * kGi};
    asked.restart = restart;
    asked.lifetime = lifetime;
    accepted_.reset();
    step(asked);
    return accepted_;
  }
  void end(SandboxId sandbox) {
    const sandbox::Record* record = control_.sandboxes().find(sandbox);
    if (record != nullptr && record->node) {
      report(record->node, EndedReport{sandbox, EndReason::exited});
    }
  }
  void end_those_with(Duration lifetime) {
    for (const auto& [id, has] : std::map(lifetimes)) {
      if (has == lifetime) end(id);
    }
  }
  void second() { pass(1); }
  void pass(std::int64_t time) {
    now_ += time;
    control_.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node&) {
      beats_.push_back(id);
    });
    for (const NodeId id : std::exchange(beats_, {})) step(FromNode{id, {1, 0, 1'000'000, {}}});
    while (!later_.empty() && later_.begin()->first <= now_) {
      const Later one = later_.extract(later_.begin()).mapped();
      if (const auto* buy = std::get_if<fleet::BuyNode>(&one)) join(buy->pool.value, buy->purchase);
      if (const auto* stop = std::get_if<Stop>(&one)) {
        report(stop->first, EndedReport{stop->second, EndReason::terminated});
      }
    }
    if (wake_ <= at(now_)) step(Woken{});
  }
  template <class Event>
  void step(const Event& event) {
    for (const Effect& effect : tell(control_, at(now_), event)) {
      std::visit([&](const auto& one) { obey(one); }, effect);
    }
  }
  const Control& control() const { return control_; }
  const fleet::PoolState& pool() const { return control_.fleet().state().pools[0]; }
  std::uint32_t busy_nodes() const { return pool().busy; }
  int bought() const { return bought_; }
  const sandbox::Record* find(SandboxId id) const { return control_.sandboxes().find(id); }
  std::map<SandboxId, int> starts, stops;
  std::map<SandboxId, Duration> lifetimes;  // as the last order said
  std::int64_t takes = 0;  // seconds, what stops and what boots
  std::int64_t now_ = 0;

 private:
  static Config config(const fleet::Rules& rules, bool separate) {
    Config config;
    config.fleet.rules = rules;
    config.tenancy.separate_tenants = separate;
    return config;
  }
  void report(NodeId node, const NodeReport& one) {
    step(FromNode{node, {1, ++sent_[node], 1'000'000, one}});
  }
  template <class Other>
  void obey(const Other&) {}
  void obey(const WakeAt& wake) { wake_ = wake.at; }
  void obey(const fleet::WelcomeNode& welcome) { joined_ = welcome.node; }
  void obey(const fleet::BuyNode& buy) {
    ++bought_;
    if (takes == 0) {
      join(buy.pool.value, buy.purchase);
    } else {
      later_.emplace(now_ + takes, buy);
    }
  }
  void obey(const sandbox::Accepted& accepted) { accepted_ = accepted.sandbox; }
  void obey(const ToNode& message) {
    if (!message.envelope.message) return;
    if (const auto* start = std::get_if<StartOrder>(&*message.envelope.message)) {
      ++starts[start->sandbox];
      lifetimes[start->sandbox] = start->lifetime;
      report(message.node, StartedReport{start->sandbox});
    } else if (const auto* stop = std::get_if<StopOrder>(&*message.envelope.message)) {
      ++stops[stop->sandbox];
      if (takes == 0) {
        report(message.node, EndedReport{stop->sandbox, EndReason::terminated});
      } else {
        later_.emplace(now_ + takes, std::pair(message.node, stop->sandbox));
      }
    } else if (std::holds_alternative<ScrubOrder>(*message.envelope.message)) {
      report(message.node, ScrubbedReport{});
    }
  }

  using Stop = std::pair<NodeId, SandboxId>;
  using Later = std::variant<fleet::BuyNode, Stop>;
  Control control_;
  std::map<NodeId, std::uint64_t> sent_;
  std::multimap<std::int64_t, Later> later_;
  std::vector<NodeId> beats_;
  std::uint64_t keys_ = 0, asks_ = 0;
  int bought_ = 0;
  NodeId joined_;
  std::optional<SandboxId> accepted_;
  Time wake_ = kNever;
};

// Two half-empty nodes: the sandboxes of one fit on the other.
TEST(Consolidation, MovesWhatMayBeStartedAgainWithTheRestOfItsLifetime) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId first = plane.join(1), second = plane.join(1);
  const auto big = plane.ask(8, true);
  const auto stays = plane.ask(2, true, 1, seconds(7200));
  plane.end(*big);
  const auto later = plane.ask(7, true);
  plane.end(*later);
  const auto other = plane.ask(7, true, 1, seconds(7200));
  ASSERT_TRUE(stays && other);
  const NodeId from = plane.find(*stays)->node;
  ASSERT_NE(from, plane.find(*other)->node) << "nine cores on two nodes of eight";
  plane.end(*other);
  const auto small = plane.ask(6, true, 1, seconds(7200));
  static_cast<void>(small);
  for (int s = 0; s < 900; ++s) plane.second();
  int nodes = 0;
  plane.control().fleet().state().nodes.for_each([&](NodeId, const fleet::Node&) { ++nodes; });
  EXPECT_EQ(nodes, 1);
  static_cast<void>(first);
  static_cast<void>(second);
  ASSERT_NE(plane.find(*stays), nullptr);
  EXPECT_EQ(plane.find(*stays)->phase, sandbox::Phase::running);
  EXPECT_LE(plane.lifetimes[*stays], seconds(7200));
}

TEST(Consolidation, AMoveKeepsTheSandboxAndWhatIsLeftOfItsLifetime) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId from = plane.join(1);
  const auto moves = plane.ask(2, true, 1, seconds(1000));
  const auto stays = plane.ask(2, false);
  ASSERT_TRUE(moves && stays);
  for (int s = 0; s < 100; ++s) plane.second();
  plane.join(1);
  plane.step(fleet::ReclaimNoticed{from, at(plane.now_ + 120)});
  EXPECT_EQ(plane.starts[*moves], 2);
  EXPECT_EQ(plane.stops[*moves], 1);
  EXPECT_EQ(plane.lifetimes[*moves], seconds(900));
  ASSERT_NE(plane.find(*moves), nullptr);
  EXPECT_NE(plane.find(*moves)->node, from);
  EXPECT_EQ(plane.stops[*stays], 0) << "it may not move, and runs for as long as its node does";
  EXPECT_EQ(plane.find(*stays)->node, from);
  EXPECT_EQ(plane.control().sandboxes_moved(), 1u);
}

TEST(Consolidation, OursWaitsForTheReplacementAndForHalfOfTheNoticeAtMost) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId from = plane.join(1);
  const auto moves = plane.ask(2, true);
  for (int s = 0; s < 30; ++s) plane.second();
  plane.step(fleet::ReclaimNoticed{from, at(plane.now_ + 120)});
  EXPECT_EQ(plane.starts[*moves], 2) << "in this plane a node that is bought comes at once";
  EXPECT_NE(plane.find(*moves)->node, from);
}

TEST(Consolidation, NeverPutsTwoOwnersTogether) {
  Plane plane(fleet::Policy::newsvendor, true);
  plane.join(1);
  plane.join(1);
  const auto mine = plane.ask(2, true, 1), theirs = plane.ask(2, true, 2);
  ASSERT_TRUE(mine && theirs);
  WhatIf what_if(plane.control().scheduler(), plane.control().sandboxes(),
                 plane.control().tenancy(), plane.control().fleet());
  EXPECT_FALSE(what_if.possible(plane.find(*mine)->node));
  const auto more = plane.ask(7, true, 1);
  ASSERT_TRUE(more);
  WhatIf again(plane.control().scheduler(), plane.control().sandboxes(),
               plane.control().tenancy(), plane.control().fleet());
  EXPECT_FALSE(again.possible(plane.find(*theirs)->node));
}

// The room that the first goes to would else be promised to the second as well, which then goes nowhere.
TEST(Consolidation, TheRoomOfWhatHasYetToLeaveIsNobodyElses) {
  Plane plane(fleet::Policy::cluster_autoscaler);
  const auto on_its_own = [&](std::int64_t cores, bool moves) {
    plane.join(1);
    const auto one = plane.ask(cores, moves);
    const auto filler = plane.ask(8 - cores, false);
    EXPECT_EQ(plane.find(*one)->node, plane.find(*filler)->node);
    return std::pair{*one, *filler};
  };
  const auto stays = on_its_own(5, false), first = on_its_own(3, true), second = on_its_own(3, true);
  for (const SandboxId filler : {stays.second, first.second, second.second}) plane.end(filler);
  plane.takes = 100'000;  // nothing leaves meanwhile
  const auto emptied = [&] { return plane.control().fleet().state().emptying.size(); };
  for (int s = 0; s < 2000 && emptied() == 0; ++s) plane.second();
  ASSERT_EQ(emptied(), 1u);
  const NodeId leaves = *plane.control().fleet().state().emptying.begin();
  const NodeId other = plane.find(leaves == plane.find(first.first)->node ? second.first : first.first)->node;
  WhatIf what_if(plane.control().scheduler(), plane.control().sandboxes(),
                 plane.control().tenancy(), plane.control().fleet());
  EXPECT_FALSE(what_if.possible(other));
}

// What is free on a pool's nodes, as the newsvendor sees it at its next look.
TEST(Consolidation, OnlyWhatOthersMayUseIsFreeRoom) {
  const auto seen = [](Plane& plane) {
    for (int s = 0; s < 11; ++s) plane.second();
    return plane.pool().surplus;
  };
  Plane shared(fleet::Policy::newsvendor);
  shared.join(1);
  ASSERT_TRUE(shared.ask(2, false));
  EXPECT_EQ(seen(shared), 750u);
  ASSERT_TRUE(shared.ask(5, false));
  EXPECT_EQ(seen(shared), 0u) << "one core, where sandboxes have three and a half";
  Plane separate(fleet::Policy::newsvendor, true);
  separate.join(1);
  ASSERT_TRUE(separate.ask(2, false));
  EXPECT_EQ(seen(separate), 0u);
  tenancy::TenantAdded alone;
  alone.tenant = {4};
  alone.dedicated_pool = {1};
  Plane dedicated(fleet::Policy::newsvendor, true);
  dedicated.step(alone);
  dedicated.join(1);
  ASSERT_TRUE(dedicated.ask(2, false, 4));
  EXPECT_EQ(seen(dedicated), 750u) << "who has the pool has its room";
}

// While it is on its way, what moves looks for room on shared nodes, and not beside its owner's own.
TEST(Consolidation, WhatIsBeingMovedNeedsNoMoreThanTheRoomItGoesTo) {
  Plane shared(fleet::Policy::newsvendor);
  shared.takes = kForEver;
  for (int node = 0; node < 4; ++node) shared.join(1);
  std::vector<SandboxId> from;
  for (int i = 0; i < 2; ++i) {  // three and three cores of eight, with no room for a third
    for (int j = 0; j < 2; ++j) from.push_back(*shared.ask(3, true));
    ASSERT_TRUE(shared.ask(2, false, 1, seconds(5)));
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(shared.ask(2, false));
    ASSERT_TRUE(shared.ask(6, false, 1, seconds(5)));
  }
  ASSERT_EQ(shared.busy_nodes(), 4u);
  shared.end_those_with(seconds(5));
  for (int s = 0; s < 60; ++s) shared.second();
  for (const SandboxId id : from) EXPECT_EQ(shared.stops[id], 1) << "of " << id.value;
  EXPECT_EQ(shared.bought(), 0);

  Plane separate(fleet::Policy::newsvendor, true);
  separate.takes = kForEver;
  for (int node = 0; node < 2; ++node) separate.join(1);
  const auto moves = separate.ask(3, true), gone = separate.ask(5, false, 1, seconds(5));
  ASSERT_TRUE(moves && gone && separate.ask(3, false));
  ASSERT_EQ(separate.busy_nodes(), 2u);
  separate.end_those_with(seconds(5));
  for (int s = 0; s < 60; ++s) separate.second();
  EXPECT_EQ(separate.stops[*moves], 1);
  EXPECT_EQ(separate.bought(), 0);
}

// Three cores are told to leave one of two nodes for the other, where five are taken.
void begin_a_move_that_does_not_end(Plane& plane) {
  plane.takes = kForEver;
  for (int node = 0; node < 2; ++node) plane.join(1);
  const auto moves = plane.ask(3, true);
  ASSERT_TRUE(moves && plane.ask(5, false, 1, seconds(5)) && plane.ask(5, false));
  plane.end_those_with(seconds(5));
  for (int s = 0; s < 60 && plane.stops[*moves] == 0; ++s) plane.second();
  ASSERT_EQ(plane.stops[*moves], 1);
}

// What was to move did not, so the node is used again; what waited meanwhile is tried at once.
TEST(Consolidation, ANodeThatIsUsedAgainIsTriedByWhatWaits) {
  Plane plane(fleet::Policy::newsvendor);
  ASSERT_NO_FATAL_FAILURE(begin_a_move_that_does_not_end(plane));
  const auto waits = plane.ask(4, false);
  ASSERT_TRUE(waits);
  for (int s = 0; s < 620; ++s) plane.second();
  EXPECT_EQ(plane.starts[*waits], 1);
}

// What came in the second before is placed first, and nothing is bought for it.
TEST(Consolidation, NothingIsBoughtForWhatFitsANodeThatIsUsedAgain) {
  fleet::Rules rules = fleet::rules_of(fleet::Policy::newsvendor);
  rules.late_worth = {};  // no room is kept
  int bought = -1;
  for (int used_again = 550;; ++used_again) {
    ASSERT_LT(used_again, 700);
    Plane plane(rules);
    ASSERT_NO_FATAL_FAILURE(begin_a_move_that_does_not_end(plane));
    for (int s = 0; s < used_again; ++s) plane.second();
    const auto asked = plane.ask(4, false);
    if (plane.starts[*asked] == 1) break;
    plane.second();
    plane.second();
    bought = plane.bought();
  }
  EXPECT_EQ(bought, 0);
}

// They fit exactly, onto nodes that have no room for one of average size.
TEST(Consolidation, WhatMovesOntoTheLastOfTheRoomBuysNothing) {
  Plane plane(fleet::Policy::newsvendor);
  plane.takes = kForEver;
  for (int node = 0; node < 4; ++node) plane.join(1);
  std::vector<SandboxId> moves;
  for (int i = 0; i < 2; ++i) {
    moves.push_back(*plane.ask(2, true));
    ASSERT_TRUE(plane.ask(6, false, 1, seconds(5)));
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(plane.ask(6, false));
    ASSERT_TRUE(plane.ask(2, false, 1, seconds(5)));
  }
  ASSERT_EQ(plane.busy_nodes(), 4u);
  plane.end_those_with(seconds(5));
  for (int s = 0; s < 60; ++s) plane.second();
  for (const SandboxId id : moves) EXPECT_EQ(plane.stops[id], 1);
  EXPECT_EQ(plane.bought(), 0);
}

// The cheaper node came, and what it was bought for is still on its way.
TEST(Consolidation, AReplacementWaitsForItsWorkAndNothingElseIsBought) {
  fleet::Rules rules = fleet::rules_of(fleet::Policy::newsvendor);
  rules.late_worth = {};  // no room is kept
  Plane plane(rules);
  const NodeId dear = plane.join(1);
  const auto moves = plane.ask(3, true);
  ASSERT_TRUE(moves);
  for (int s = 0; s < 9; ++s) plane.second();
  plane.takes = 100;
  for (int s = 0; s < 400; ++s) plane.second();
  EXPECT_EQ(plane.stops[*moves], 1);
  EXPECT_NE(plane.find(*moves)->node, dear);
  EXPECT_EQ(plane.bought(), 1);
  EXPECT_EQ(plane.pool().nodes, 0u);
  EXPECT_EQ(plane.control().fleet().state().pools[1].nodes, 1u);
}

// The supplier asks a node back every half an hour: so many are bought, whatever takes how long.
TEST(Consolidation, ForEachNodeThatIsAskedBackOneIsBought) {
  for (const std::int64_t takes : {0, 5, 40, 70, 100}) {
    Plane plane(fleet::Policy::newsvendor);
    for (int node = 0; node < 3; ++node) plane.join(1);
    std::vector<SandboxId> all;
    for (int i = 0; i < 6; ++i) all.push_back(*plane.ask(4, true));
    plane.takes = takes;
    for (int reclaim = 1; reclaim <= 6; ++reclaim) {
      for (int s = 0; s < 1800; ++s) plane.second();
      const NodeId node = plane.find(all[0])->node;
      ASSERT_TRUE(node);
      plane.step(fleet::ReclaimNoticed{node, at(plane.now_ + 120)});
      EXPECT_LE(plane.bought(), reclaim) << takes;
    }
    for (int s = 0; s < 1800; ++s) plane.second();
    EXPECT_EQ(plane.bought(), 6) << takes;
    EXPECT_EQ(plane.pool().nodes, 3u) << takes;
  }
}

// No growth is expected, and the room that what moves was promised was taken by another.
TEST(Consolidation, ANodeThatIdlesWaitsForWhatIsBeingMoved) {
  Plane plane(fleet::Policy::newsvendor);
  ASSERT_NO_FATAL_FAILURE(begin_a_move_that_does_not_end(plane));
  ASSERT_TRUE(plane.ask(3, false));
  plane.join(1);
  for (int s = 0; s < 300; ++s) plane.second();
  EXPECT_EQ(plane.pool().nodes, 3u);
  EXPECT_EQ(plane.pool().room.most, 0u);
}

TEST(Consolidation, ANodeThatWasOrderedForAnOwnerIsNoRoomForOthers) {
  Plane plane(fleet::Policy::newsvendor, true);
  plane.takes = kForEver;
  plane.ask(1, false);
  for (int s = 0; s < 11; ++s) plane.second();
  EXPECT_EQ(plane.bought(), 1);
  EXPECT_EQ(plane.pool().surplus, 0u);
}

TEST(Consolidation, WithNoGrowthToBeExpectedItIsEnoughThatAllFitsInAnotherPool) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId large = plane.join(1);
  const auto moves = plane.ask(2, true);
  ASSERT_TRUE(moves && plane.find(*moves)->node == large);
  ASSERT_TRUE(plane.ask(6, false, 1, seconds(5)));
  plane.join(2);
  ASSERT_TRUE(plane.ask(2, false));
  plane.end_those_with(seconds(5));
  for (int s = 0; s < 60; ++s) plane.second();
  EXPECT_NE(plane.find(*moves)->node, large);
  EXPECT_EQ(plane.pool().nodes, 0u);
}

// Jumps by whole nodes were seen, so room is kept for them; it is no reason to leave one tenant's
// sandboxes on two nodes.
TEST(Consolidation, ATenantsNodesAreEmptiedThoughRoomIsKept) {
  Plane plane(fleet::Policy::newsvendor, true);
  for (int s = 0; s < 7200; ++s) {
    for (std::uint64_t tenant = 2; s % 300 == 0 && tenant <= 3; ++tenant) {
      plane.ask(8, false, tenant);
    }
    plane.second();
  }
  const auto a = plane.ask(5, true, 1), b = plane.ask(5, true, 1);
  ASSERT_TRUE(a && b);
  for (int s = 0; s < 10; ++s) plane.second();
  ASSERT_TRUE(plane.find(*a) && plane.find(*b));
  ASSERT_NE(plane.find(*a)->node, plane.find(*b)->node);
  const auto c = plane.ask(3, true, 1), d = plane.ask(3, true, 1);
  plane.end(*a);
  plane.end(*b);
  ASSERT_NE(plane.find(*c)->node, plane.find(*d)->node);
  for (int s = 0; s < 60; ++s) plane.second();
  EXPECT_GT(plane.pool().room.most, 0u);
  EXPECT_EQ(plane.find(*c)->node, plane.find(*d)->node);
  EXPECT_EQ(plane.control().sandboxes_moved(), 1u);
}

// Whatever happened before: where nothing more happens, the fleet comes to rest.
RC_GTEST_PROP(Consolidation, WhereNothingHappensNothingIsBought, (std::uint64_t key)) {
  Random random{key, 0};
  Plane plane(fleet::Policy::newsvendor, random.below(2) == 0);
  plane.takes = static_cast<std::int64_t>(random.below(3) * random.below(60));
  const std::uint64_t rate = 3 + random.below(20);
  std::vector<SandboxId> live;
  for (int look = 0; look < 400; ++look) {
    for (std::uint64_t i = random.below(9); look % rate == 0 && i > 0; --i) {
      const auto id = plane.ask(1 + static_cast<std::int64_t>(random.below(4)),
                                random.below(4) != 0, 1 + random.below(3));
      if (id) live.push_back(*id);
    }
    for (std::uint64_t i = random.below(8); look % rate == rate / 2 && i > 0; --i) {
      if (live.empty()) break;
      std::swap(live[random.below(live.size())], live.back());
      plane.end(live.back());
      live.pop_back();
    }
    plane.pass(10);
  }
  // What was seen is forgotten in two hours, and moves from pool to pool are growth once more.
  const int before = plane.bought();
  for (int look = 0; look < 3 * 720; ++look) plane.pass(10);
  RC_ASSERT(plane.bought() <= before + 60);
  const int rested = plane.bought();
  const std::uint64_t moved = plane.control().sandboxes_moved();
  for (int look = 0; look < 360; ++look) plane.pass(10);
  RC_ASSERT(plane.bought() == rested);
  RC_ASSERT(plane.control().sandboxes_moved() == moved);
}

// A fork that has answered no is as good as a new one: all questions on one fork have the answers
// that a fork for each of them gives.
RC_GTEST_PROP(Consolidation, OneForkAnswersLikeANewOneForEachQuestion, (std::uint64_t key)) {
  Random random{key, 0};
  Plane plane(fleet::Policy::newsvendor, random.below(2) == 0);
  std::vector<NodeId> nodes;
  for (std::uint64_t i = 3 + random.below(5); i > 0; --i) nodes.push_back(plane.join(1));
  std::vector<SandboxId> live;
  for (int i = 0; i < 40; ++i) {
    const auto id = plane.ask(1 + static_cast<std::int64_t>(random.below(4)), true,
                              1 + random.below(3));
    if (id) live.push_back(*id);
  }
  for (const SandboxId id : live) {
    if (random.below(2) == 0) plane.end(id);
  }
  const Control& c = plane.control();
  WhatIf one(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
  for (const NodeId node : nodes) {
    WhatIf fresh(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
    RC_ASSERT(one.possible(node) == fresh.possible(node));
    WhatIf other(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
    RC_ASSERT(one.replaced(node, {2}) == other.replaced(node, {2}));
  }
}

}  // namespace
}  // namespace chalk::control
