// Preemption as the root carries it out: who makes way for whom, and what becomes of both.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "model/core/random.h"
#include "tests/model/control/plane.h"

namespace chalk::control {
namespace {

TEST(Preemption, ALessImportantSandboxOfTheSameTenantMakesWayAndEndsWithItsReason) {
  Plane plane;
  plane.join(4);
  const SandboxId low = plane.ask(4, 0);
  const SandboxId high = plane.ask(2, 1);
  EXPECT_TRUE(plane.waits(high));
  ASSERT_EQ(plane.stopping(), std::set<SandboxId>{low});
  EXPECT_EQ(plane.grace(low), seconds(30));
  EXPECT_EQ(plane.control().sandboxes_preempted(), 1u);
  plane.end_stopped();
  EXPECT_EQ(plane.ended(low), EndReason::preempted);
  EXPECT_TRUE(plane.placed(high));
}

TEST(Preemption, NothingIsPreemptedByAnEqualOrALess) {
  Plane plane;
  plane.join(4);
  plane.ask(4, 3);
  for (const Priority priority : {0, 2, 3}) EXPECT_TRUE(plane.waits(plane.ask(1, priority)));
  EXPECT_TRUE(plane.stopping().empty());
  EXPECT_TRUE(plane.waits(plane.ask(1, 4)));
  EXPECT_EQ(plane.stopping().size(), 1u);
}

TEST(Preemption, NobodyElsesSandboxMakesWayNotEvenOnASharedNode) {
  Config config;
  config.tenancy.separate_tenants = false;
  Plane plane(config);
  plane.join(4);
  const SandboxId theirs = plane.ask(3, 0, 2);
  const SandboxId mine = plane.ask(1, 0, 1);
  EXPECT_TRUE(plane.waits(plane.ask(2, 900, 1)));
  EXPECT_TRUE(plane.stopping().empty()) << "its own one core is not enough";
  EXPECT_TRUE(plane.waits(plane.ask(1, 901, 1)));
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{mine});
  EXPECT_TRUE(plane.placed(theirs));
}

// What pulls a large image holds its start slot for minutes.
TEST(Preemption, ANodeOnWhichStartsWaitIsChosenLast) {
  scheduler::Victims first, second;
  first.sandboxes = second.sandboxes = {SandboxId{1}};
  first.highest = second.highest = 0;
  first.slot = 0;
  second.slot = 1;
  const auto order = [](const scheduler::Victims& one) {
    return scheduler::order_of(one.highest, one.sandboxes.size(), one.starts_wait, one.lost,
                               one.slot);
  };
  EXPECT_TRUE(order(first) < order(second));
  first.starts_wait = true;
  EXPECT_FALSE(order(first) < order(second));
  second.highest = 1;
  EXPECT_TRUE(order(first) < order(second)) << "who is less important goes first all the same";
}

// The machine under control stood still: what the nodes said meanwhile is heard after the timers.
TEST(Control, WokenMuchTooLateGivesStartsAllOfTheirTimeAgain) {
  for (const bool stands_still : {false, true}) {
    Config config;
    config.sandbox.start_timeout = seconds(300);
    Plane plane(config);
    plane.starts_wait = true;
    const NodeId node = plane.join(4);
    const SandboxId id = plane.ask(2, 0);
    for (std::int64_t second = 2; second <= 302; ++second) {
      if (stands_still && second < 302) continue;
      plane.at(second);
      plane.step(Woken{});
      plane.step(FromNode{node, {1, 0, 1'000'000, {}}});
    }
    EXPECT_EQ(plane.stopping().count(id), stands_still ? 0u : 1u);
  }
}

TEST(Preemption, IsOffWhereTheConfigSaysSo) {
  Config config;
  config.preemption.enabled = false;
  Plane plane(config);
  plane.join(4);
  plane.ask(4, 0);
  EXPECT_TRUE(plane.waits(plane.ask(1, 9)));
  EXPECT_TRUE(plane.stopping().empty());
}

TEST(Preemption, OneThatMayBeStartedAgainWaitsForAnotherNode) {
  Plane plane;
  plane.join(4);
  const SandboxId low = plane.ask(4, 0, 1, true);
  const SandboxId high = plane.ask(4, 1);
  plane.end_stopped();
  EXPECT_TRUE(plane.placed(high));
  EXPECT_TRUE(plane.waits(low));
  EXPECT_FALSE(plane.ended(low));
  EXPECT_FALSE(plane.find(low)->preempted);
  plane.end(high);
  EXPECT_TRUE(plane.placed(low));
}

TEST(Preemption, TheRoomIsKeptForTheOneThatItWasMadeFor) {
  Plane plane;
  plane.join(4);
  const SandboxId first = plane.ask(2, 0);
  const SandboxId second = plane.ask(2, 0);
  const SandboxId high = plane.ask(4, 1);
  EXPECT_EQ(plane.stopping().size(), 2u);
  plane.end(first, EndReason::terminated);
  const SandboxId other = plane.ask(2, 0);
  EXPECT_TRUE(plane.waits(other)) << "the two cores that came free are not its";
  EXPECT_TRUE(plane.waits(high));
  plane.end(second, EndReason::terminated);
  EXPECT_TRUE(plane.placed(high));
  EXPECT_TRUE(plane.waits(other));
}

TEST(Preemption, ASecondAskTakesWhatTheFirstLeavesAndNobodyMore) {
  Plane plane;
  plane.join(4);
  plane.join(4);
  const SandboxId low = plane.ask(4, 0);
  plane.ask(4, 1);
  const SandboxId high = plane.ask(2, 2);
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{low});
  const SandboxId next = plane.ask(2, 2);
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{low}) << "it leaves room for both";
  const SandboxId third = plane.ask(2, 2);
  EXPECT_EQ(plane.stopping().size(), 2u) << "nothing is left for a third: the next lowest goes";
  plane.end_stopped();
  for (const SandboxId id : {high, next, third}) EXPECT_TRUE(plane.placed(id));
}

TEST(Preemption, WhereItsNodeIsLostItWaitsAgainAndIsPlacedElsewhere) {
  Plane plane;
  const NodeId node = plane.join(4);
  plane.ask(4, 0);
  const SandboxId high = plane.ask(4, 1);
  ASSERT_TRUE(plane.control().scheduler().nominates(high));
  plane.step(fleet::DrainAsked{node});
  EXPECT_FALSE(plane.control().scheduler().nominates(high));
  EXPECT_TRUE(plane.waits(high));
  EXPECT_EQ(plane.control().tenancy().pending_count(), 1u);
  plane.join(4);
  EXPECT_TRUE(plane.placed(high));
}

TEST(Preemption, OneThatIsCancelledLeavesTheRoomToOthers) {
  Plane plane;
  plane.join(4);
  plane.ask(4, 0);
  const SandboxId high = plane.ask(4, 1);
  plane.step(sandbox::TerminateRequested{high, {}});
  EXPECT_FALSE(plane.control().scheduler().nominates(high));
  EXPECT_EQ(plane.control().tenancy().pending_count(), 0u);
  plane.end_stopped();
  EXPECT_TRUE(plane.placed(plane.ask(4, 0)));
}

TEST(Preemption, AVictimThatItsOwnerEndsMeanwhileWasTerminated) {
  Plane plane;
  plane.join(4);
  const SandboxId low = plane.ask(4, 0);
  const SandboxId high = plane.ask(4, 1);
  plane.step(sandbox::TerminateRequested{low, {}});
  plane.end_stopped();
  EXPECT_EQ(plane.ended(low), EndReason::terminated);
  EXPECT_TRUE(plane.placed(high));
}

TEST(Preemption, TheYoungestOfEqualsMakesWay) {
  Plane plane;
  plane.join(4);
  plane.at(10);
  const SandboxId old = plane.ask(2, 0);
  plane.at(500);
  const SandboxId young = plane.ask(2, 0);
  plane.at(600);
  plane.ask(2, 5);
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{young});
  EXPECT_TRUE(plane.placed(old));
}

TEST(Preemption, DoesNotTakeAnybodyForAStartSlot) {
  Plane plane;
  NodeShape small = shape(4);
  small.start_slots = 1;
  plane.step(NodeRegistration{77, 1, 0, {1}, {1}, small});
  plane.starts_wait = true;
  plane.ask(1, 0);
  const SandboxId high = plane.ask(1, 9);
  EXPECT_TRUE(plane.waits(high));
  EXPECT_TRUE(plane.stopping().empty());
  plane.start_all();
  EXPECT_TRUE(plane.placed(high));
}

// Whether room is being made, on the node of the victim, for a more important one of its tenant.
bool for_a_more_important_one(const Plane& plane, const sandbox::Record& victim) {
  const scheduler::State& state = plane.control().scheduler().state();
  const auto there =
      state.nominations.find(SlotTable<NodeId, int>::slot_of(victim.node));
  return there != state.nominations.end() &&
         std::any_of(there->second.begin(), there->second.end(), [&](const auto& one) {
           const sandbox::Record* record = plane.find(one.sandbox);
           return record != nullptr && record->tenant == victim.tenant &&
                  record->priority > victim.priority;
         });
}

// Random asks and ends: whatever makes way does so for a more important one of its tenant, and
// whatever waits has its turn in the end.
RC_GTEST_PROP(PreemptionProperty, OnlyTheLessImportantMakeWayAndNobodyIsForgotten,
              (std::uint64_t seed)) {
  Random random{seed, 0};
  Config config;
  config.tenancy.separate_tenants = random.below(2) != 0;
  Plane plane(config, 3);
  const std::uint64_t nodes = 1 + random.below(4);
  for (std::uint64_t i = 0; i < nodes; ++i) {
    plane.join(4 + static_cast<std::int64_t>(random.below(5)));
  }
  std::vector<SandboxId> all;
  for (int i = 0; i < 60; ++i) {
    plane.at(i + 2);
    const std::set<SandboxId> before = plane.stopping();
    if (random.below(3) != 0 || all.empty()) {
      all.push_back(plane.ask(1 + static_cast<std::int64_t>(random.below(4)),
                              static_cast<Priority>(random.below(4)), 1 + random.below(3),
                              random.below(2) != 0));
    } else {
      plane.end(all[random.below(all.size())]);
    }
    for (const SandboxId victim : plane.stopping()) {
      if (before.contains(victim)) continue;
      RC_ASSERT(for_a_more_important_one(plane, *plane.find(victim)));
    }
    if (random.below(4) == 0) plane.end_stopped();
  }
  plane.end_stopped();
  RC_ASSERT(plane.control().scheduler().state().nominations.empty());
  for (int i = 0; i < 500; ++i) {  // everything has its turn once what runs ends
    bool any = false;
    for (const SandboxId id : all) {
      if (!plane.placed(id)) continue;
      any = true;
      plane.end(id);
    }
    plane.end_stopped();
    if (!any) break;
  }
  RC_ASSERT(plane.control().scheduler().state().nominations.empty());
  RC_ASSERT(plane.control().scheduler().state().live_reservations == 0u);
  for (std::uint64_t tenant = 1; tenant <= 3; ++tenant) {
    const auto& state = plane.control().tenancy().state().tenants.at({tenant});
    RC_ASSERT(state.by_priority.empty() && state.waiting.empty());
  }
}

// The second and third look only at what has changed: what ends by itself is no victim any more,
// and what has just begun goes first.
TEST(Preemption, ASearchForTheSameSeesWhatHasChanged) {
  Config config;
  config.tenancy.separate_tenants = false;
  Plane plane(config);
  for (int i = 0; i < 4; ++i) plane.join(4);
  std::vector<SandboxId> low;
  for (std::int64_t i = 0; i < 4; ++i) {
    plane.at(10 * (i + 1));
    low.push_back(plane.ask(4, 0));
  }
  plane.at(100);
  plane.ask(4, 1);
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{low[3]}) << "the youngest";
  plane.step(sandbox::TerminateRequested{low[2], {}});
  const SandboxId second = plane.ask(4, 1);
  EXPECT_EQ(plane.stopping(), (std::set<SandboxId>{low[1], low[2], low[3]}));
  plane.end(low[2]);
  EXPECT_TRUE(plane.waits(second)) << "for its own node";
  const SandboxId young = plane.ask(4, 0);
  EXPECT_TRUE(plane.placed(young));
  plane.at(200);
  plane.ask(4, 1);
  EXPECT_EQ(plane.stopping(), (std::set<SandboxId>{low[1], low[3], young}));
}

// What earlier searches have seen saves looks and changes no decision: a plane that forgets it
// before each step stays the same in all else.
RC_GTEST_PROP(PreemptionProperty, WhatWasSeenChangesNoDecision, (std::uint64_t seed)) {
  Random random{seed, 0};
  Config config;
  config.tenancy.separate_tenants = random.below(3) == 0;
  config.tenancy.scrub_timeout = seconds(3);
  Plane plane(config, 3), other(config, 3);
  other.forgets = true;
  std::vector<NodeId> nodes;
  std::vector<SandboxId> all;
  const auto both = [&](const auto& act) {
    act(plane);
    act(other);
    State with = plane.control().state(), without = other.control().state();
    with.routing.victims_sought.clear();
    without.routing.victims_sought.clear();
    RC_ASSERT(with == without);
    RC_ASSERT(plane.stopping() == other.stopping());
  };
  const auto join = [&](std::int64_t cores) {
    both([&](Plane& one) {
      const NodeId id = one.join(cores);
      if (&one == &plane) nodes.push_back(id);
    });
  };
  for (int i = 0; i < 4; ++i) join(4 + static_cast<std::int64_t>(random.below(3)));
  std::int64_t now = 2;
  for (int i = 0; i < 120; ++i) {
    now += static_cast<std::int64_t>(random.below(2));
    both([&](Plane& one) { one.at(now); });
    const auto any = all.empty() ? SandboxId{} : all[random.below(all.size())];
    switch (random.below(12)) {
      case 0: both([&](Plane& one) { one.end_stopped(); }); break;
      case 1: both([&](Plane& one) { one.end(any); }); break;
      case 2: both([&](Plane& one) { one.step(sandbox::TerminateRequested{any, {}}); }); break;
      case 3: both([&](Plane& one) { one.starts_wait = !one.starts_wait; }); break;
      case 4: {
        const NodeId node = nodes[random.below(nodes.size())];
        both([&](Plane& one) { one.step(fleet::DrainAsked{node}); });
        break;
      }
      case 5: join(4); break;
      case 6: both([&](Plane& one) { one.step(Woken{}); }); break;
      default: {
        // Few kinds, so that the same is sought again.
        const bool low = random.below(2) == 0;
        const std::int64_t cores = low ? 1 + static_cast<std::int64_t>(random.below(4)) : 4;
        const auto priority = static_cast<Priority>(low ? random.below(2) : 2);
        const std::uint64_t tenant = 1 + random.below(2);
        const bool restart = random.below(2) == 0;
        both([&](Plane& one) {
          const SandboxId id = one.ask(cores, priority, tenant, restart);
          if (&one == &plane) all.push_back(id);
        });
      }
    }
  }
}

}  // namespace
}  // namespace chalk::control
