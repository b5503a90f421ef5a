#include "model/autoscaler/autoscaler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/model/autoscaler/group_world.h"
#include "tests/support/said.h"

namespace chalk::autoscaler {
namespace {

using test::said;
using test::tell;

Demand demand(Time now, std::uint64_t holds, std::uint32_t queued) {
  Demand out;
  out.group = kGroup;
  out.at = now;
  out.arrivals = out.holds = holds;
  out.queued = out.peak = queued;
  return out;
}
GroupPolicy policy(Kind kind) {
  GroupPolicy out;
  out.kind = kind;
  return out;
}
std::uint32_t started(const std::vector<Effect>& effects) {
  std::uint32_t sum = 0;
  for (const auto& one : said<StartReplicas>(effects)) sum += one.count;
  return sum;
}

TEST(Autoscaler, FixedStartsOneReplicaForEachHeldCall) {
  GroupWorld world(policy(Kind::fixed));
  world.give(DemandReported{demand(world.now, 3, 3)});
  EXPECT_EQ(world.starts, 3u);
  world.give(DemandReported{demand(world.now, 3, 3)});  // repeated
  EXPECT_EQ(world.starts, 3u);
  world.now = at(2);
  world.give(DemandReported{demand(at(2), 5, 5)});
  EXPECT_EQ(world.starts, 5u);
  world.give(DemandReported{demand(at(1), 4, 4)});  // overtaken
  EXPECT_EQ(world.starts, 5u);
}

// A hundred calls at once, long under one policy; then by any other. None is stopped for want of
// samples of its own, and nothing is started for calls that waited under the last one.
TEST(Autoscaler, AnotherPolicyGoesOnFromWhatThereIs) {
  for (const Kind from : {Kind::fixed, Kind::kpa, Kind::chalk, Kind::hpa}) {
    for (const Kind to : {Kind::fixed, Kind::kpa, Kind::chalk, Kind::hpa}) {
      if (from == to) continue;
      GroupPolicy other = policy(from);
      other.min_replicas = 100;
      GroupWorld world(other);
      world.finish_starts(seconds(3));
      world.totals.holds = 5000;  // of them, so far
      world.set_busy(100);
      world.serve_until(at(300));
      const std::uint32_t before = world.starts;
      other = policy(to);
      world.give(GroupAdded{kGroup, other});
      EXPECT_EQ(world.stops, 0u) << static_cast<int>(from) << static_cast<int>(to);
      EXPECT_LE(world.starts, before + 60u) << static_cast<int>(from) << static_cast<int>(to);
      if (to == Kind::fixed) {
        EXPECT_EQ(world.starts, before) << static_cast<int>(from);
      }
    }
  }
}

// What it had in mind when it was in force last is long over when it is again.
TEST(Autoscaler, APolicyThatComesBackBeginsAnew) {
  GroupWorld world(policy(Kind::kpa));
  world.set_queued(40);
  world.report();
  world.finish_starts(seconds(1));
  EXPECT_TRUE(world.autoscaler.group(kGroup)->panic);
  world.give(GroupAdded{kGroup, policy(Kind::fixed)});
  EXPECT_FALSE(world.autoscaler.group(kGroup)->panic);
  world.set_queued(0);
  for (const std::int64_t second : {500, 900}) {
    world.run_until(at(second));
    world.report();
    world.give(GroupAdded{kGroup, policy(Kind::kpa)});
    EXPECT_EQ(world.autoscaler.group(kGroup)->zero_since, at(second)) << "it counts its grace from now";
    world.give(GroupAdded{kGroup, policy(Kind::fixed)});
  }
  for (const std::int64_t second : {1000, 1005}) {
    world.run_until(at(second));
    world.give(GroupAdded{kGroup, policy(Kind::hpa)});
    EXPECT_EQ(world.autoscaler.group(kGroup)->sync_at, at(second + 15));
    world.give(GroupAdded{kGroup, policy(Kind::fixed)});
  }
}

// The gateway expects a call and wants a replica before it: one start, whoever repeats it.
TEST(Autoscaler, FixedStartsOneReplicaForEachCallThatIsExpected) {
  GroupWorld world(policy(Kind::fixed));
  Demand expected = demand(world.now, 0, 0);
  expected.reloads = 1;
  const auto effects = tell(world.autoscaler, world.now, DemandReported{expected});
  ASSERT_EQ(started(effects), 1u);
  EXPECT_EQ(said<StartReplicas>(effects)[0].why, Why::expected_call);
  EXPECT_EQ(started(tell(world.autoscaler, world.now, DemandReported{expected})), 0u);
  expected.at = at(60);
  expected.holds = expected.queued = 1;  // it came before its replica
  EXPECT_EQ(started(tell(world.autoscaler, at(60), DemandReported{expected})), 1u);
}

// Two calls that are held in one nanosecond are two reports of that nanosecond.
TEST(Autoscaler, AReportOvertakenWithinItsNanosecondIsNotANewGateway) {
  GroupWorld world(policy(Kind::fixed));
  world.give(DemandReported{demand(world.now, 2, 2)});
  world.give(DemandReported{demand(world.now, 1, 1)});
  world.give(DemandReported{demand(world.now, 2, 2)});
  EXPECT_EQ(world.starts, 2u);
}

TEST(Autoscaler, AGatewayThatStartedAgainCountsFromZero) {
  GroupWorld world(policy(Kind::fixed));
  world.give(DemandReported{demand(world.now, 5, 5)});
  world.now = at(60);
  world.give(DemandReported{demand(at(60), 1, 1)});
  EXPECT_EQ(world.starts, 6u);
  world.now = at(120);
  Demand busy = demand(at(120), 0, 0);
  busy.arrivals = 9;  // more than before, but its holds say that it began again
  world.give(DemandReported{busy});
  EXPECT_EQ(world.starts, 6u);
}

// One total that is less is enough, whatever the new gateway has seen of the rest.
TEST(Autoscaler, OneTotalThatIsLessTellsOfANewGateway) {
  const std::vector<std::function<void(Demand&)>> less = {
      [](Demand& one) { one.concurrency_ns = 4; },
      [](Demand& one) { one.busy_ns = 4; },
      [](Demand& one) { one.reloads = 1; },
  };
  for (std::size_t i = 0; i < less.size(); ++i) {
    GroupWorld world(policy(Kind::fixed));
    Demand before = demand(world.now, 5, 5);
    before.concurrency_ns = before.busy_ns = 9;
    before.reloads = 2;
    world.give(DemandReported{before});
    ASSERT_EQ(world.starts, 7u);
    world.now = at(60);
    Demand next = demand(at(60), 6, 6);
    next.concurrency_ns = next.busy_ns = 19;
    next.reloads = 3;
    less[i](next);
    world.give(DemandReported{next});
    EXPECT_EQ(world.starts, 7u + 6u + next.reloads) << i;
  }
}

TEST(Autoscaler, FixedStartsAgainForWhoeverWaitsWhenAStartFailed) {
  GroupWorld world(policy(Kind::fixed));
  world.give(DemandReported{demand(world.now, 1, 1)});
  world.fail();
  EXPECT_EQ(world.starts, 1u);  // not at once
  world.run_until(at(10));
  EXPECT_EQ(world.starts, 2u);
}

// One runs, in a call of ten minutes; the starts for two more were refused by a quota that has room
// for one later. Nothing is tried more than once a tick, nor for what an old report says.
TEST(Autoscaler, FixedTriesAgainBesideReplicasThatLive) {
  GroupWorld world(policy(Kind::fixed));
  world.set_queued(1);
  world.report();
  world.finish_starts();
  world.set_busy(1);
  world.now = at(10);
  world.set_queued(2);
  world.report();
  EXPECT_EQ(world.starts, 3u);
  world.fail(), world.fail();
  world.run_until(at(30));
  EXPECT_EQ(world.starts, 3u) << "no report since: they may have been served";
  for (int tenth = 0; tenth < 200; ++tenth) {  // refused for twenty seconds
    world.run_until(world.now + milliseconds(100));
    world.report();
    if (world.starting() != 0) world.fail();
  }
  EXPECT_GE(world.starts, 3u + 9u);
  EXPECT_LE(world.starts, 3u + 11u);
  world.run_until(at(52)), world.report();
  EXPECT_EQ(world.starting(), 1u);
  const std::uint32_t before = world.starts;
  world.set_queued(1);
  for (int s = 53; s <= 80; ++s) world.run_until(at(s)), world.report();
  EXPECT_EQ(world.starts, before) << "one starts and one waits";
}

TEST(Autoscaler, StartsTheMinimumAndNeverMoreThanTheMaximum) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::chalk}) {
    GroupPolicy bounded = policy(kind);
    bounded.min_replicas = 2;
    bounded.max_replicas = 4;
    GroupWorld world(bounded);
    EXPECT_EQ(world.starts, 2u);
    world.give(DemandReported{demand(world.now, 50, 50)});
    EXPECT_EQ(world.starts, 4u);
    world.run_until(at(30));
    EXPECT_EQ(world.starts, 4u);
  }
}

TEST(Autoscaler, RestoresTheMinimumSoonAlsoInAnIdleGroup) {
  GroupPolicy kept = policy(Kind::chalk);
  kept.min_replicas = 2;
  GroupWorld world(kept);
  world.finish_starts();
  world.give(ReplicaStarting{kGroup}), world.give(ReplicaStarted{kGroup, {}});
  world.run_until(at(3));
  EXPECT_GT(world.autoscaler.group(kGroup)->look_at, at(20));  // nothing to do for long
  for (int i = 0; i < 3; ++i) world.give(ReplicaEnded{kGroup, true, false});
  world.run_until(at(6));
  EXPECT_EQ(world.starts, 4u);
}

TEST(Autoscaler, ASlowStartIsNotAnsweredByMoreStarts) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::chalk}) {
    GroupWorld world(policy(kind));
    world.set_queued(10);
    world.report();
    const std::uint32_t first = world.starts;
    EXPECT_GE(first, 10u);
    for (int s = 1; s <= 300; ++s) world.run_until(at(s)), world.report();
    EXPECT_EQ(world.starts, first);
    EXPECT_EQ(world.stops, 0u);
  }
}

TEST(Autoscaler, ChalkScalesToZeroAfterTheWindowAndComesBack) {
  GroupPolicy brief = policy(Kind::chalk);
  brief.keep_alive = seconds(120);
  GroupWorld world(brief);
  world.set_queued(4);
  world.report();
  EXPECT_EQ(world.starts, 4u);  // what is here is known: nothing varies
  world.finish_starts();
  world.set_busy(4);
  for (int s = 1; s <= 20; ++s) world.run_until(at(s)), world.report(), world.finish_starts();
  world.set_busy(0);
  world.report();
  world.run_until(at(120));
  EXPECT_GE(world.ready(), 4u);  // what the window needed is kept
  for (int s = 121; s <= 300; ++s) world.run_until(at(s)), world.drain();
  EXPECT_EQ(world.ready(), 0u);
  EXPECT_EQ(world.autoscaler.state().wake > at(1000), true);
  const std::uint32_t before = world.starts;
  world.set_queued(1);
  world.report();
  EXPECT_GE(world.starts, before + 1);
}

TEST(Autoscaler, ChalkFindsOutHowLongAStartTakesBeforeItAsksForMany) {
  GroupWorld world(policy(Kind::chalk));
  world.set_queued(5000);
  for (int s = 1; s <= 25; ++s) world.run_until(at(s)), world.report();
  EXPECT_EQ(world.starts, 16u);
  while (world.starting() != 0) world.give(ReplicaStarted{kGroup, seconds(25)});
  world.run_until(at(26));
  world.report();
  EXPECT_EQ(world.starts, 16u);  // nor before a call has shown how long it takes
  world.totals.in_flight = 16;
  world.totals.queued -= 16;
  for (int s = 27; s <= 31; ++s) {
    world.now = at(s);
    world.count();
    world.totals.queued -= 16;  // so many have ended
    world.report();
  }
  EXPECT_GT(world.starts, 120u);  // of a second each: so many serve those that wait in 35 s
  EXPECT_LE(world.starts, 340u);  // and what comes, 170 a second
}

// The fault of a window that kept the most calls at once: the wish above them went up and down.
TEST(Autoscaler, ChalkKeepsTheWishOfABurstForTheNext) {
  GroupWorld world(policy(Kind::chalk));
  for (int s = 0; s < 2000; ++s) {
    const std::uint32_t calls = s % 100 < 5 ? 20 : 1;
    world.set_busy(std::min(calls, world.ready()));
    world.set_queued(calls - std::min(calls, world.ready()));
    world.report();
    world.run_until(world.now + seconds(1));
    if (s % 2 == 1) world.finish_starts();
    world.drain();
  }
  EXPECT_EQ(world.autoscaler.group(kGroup)->turns, 0u);
  EXPECT_EQ(world.stops, 0u);
  EXPECT_GE(world.ready(), 20u);
  EXPECT_LE(world.ready(), 26u);
}

// Control is away for a minute, in which calls come again: what was due meanwhile waits for what the
// gateway has to say of it.
TEST(Autoscaler, SilenceInAnAbsenceIsNotIdleness) {
  for (const Kind kind : {Kind::kpa, Kind::chalk}) {
    GroupPolicy brief = policy(kind);
    brief.keep_alive = seconds(60);
    GroupWorld world(brief);
    world.set_queued(8);
    world.report();
    world.finish_starts(seconds(3));
    world.set_busy(8);
    world.serve_until(at(30));
    world.set_busy(0);
    world.report();
    world.run_until(at(31));
    const std::uint32_t stops = world.stops;
    world.now = at(35);  // away since 31, and called since
    world.set_busy(8);
    world.now = at(95);
    world.give(Woken{});
    EXPECT_EQ(world.stops, stops) << static_cast<int>(kind);
    EXPECT_EQ(world.autoscaler.state().wake, at(97));
    world.now = at(96);
    world.totals.arrivals += 8 * 61;
    world.report();
    world.run_until(at(97));
    EXPECT_LE(world.stops, stops + 1) << static_cast<int>(kind);
  }
}

// So does what happens to be due just after it is back.
TEST(Autoscaler, WhatIsDueSoonAfterAnAbsenceWaitsForReports) {
  GroupPolicy kept = policy(Kind::chalk);
  kept.keep_alive = seconds(600);
  GroupWorld world(kept);
  world.set_queued(1);
  world.report();
  world.finish_starts(seconds(3));
  world.set_queued(0);
  world.report();
  while (world.autoscaler.state().wake <= at(599)) world.run_until(world.autoscaler.state().wake);
  const Time due = world.autoscaler.state().wake;
  world.now = due - milliseconds(100);
  world.give(Resumed{});
  EXPECT_EQ(world.autoscaler.group(kGroup)->look_at, world.now + seconds(2));
  world.run_until(due);
  EXPECT_EQ(world.stops, 0u);
  world.run_until(due + seconds(2));
  EXPECT_EQ(world.stops, 1u);
}

TEST(Autoscaler, KpaScalesToZeroAfterItsGraceAndComesBack) {
  GroupWorld world(policy(Kind::kpa));
  world.set_queued(1);
  world.report();
  world.finish_starts();
  world.set_queued(0);
  world.now = at(1);
  world.report();
  world.run_until(at(30));
  EXPECT_GE(world.ready(), 1u);
  for (int s = 31; s <= 200; ++s) world.run_until(at(s)), world.drain();
  EXPECT_EQ(world.ready(), 0u);
  world.set_queued(1);
  world.report();
  EXPECT_GE(world.starting(), 1u);
}

// 7 calls at 70 % need 10 replicas. Panic begins where twice what is ready would be needed.
TEST(Autoscaler, KpaPanicsAtTwiceWhatIsReadyAndDoesNotScaleDownInPanic) {
  GroupPolicy kpa = policy(Kind::kpa);
  kpa.min_replicas = 5;
  GroupWorld world(kpa);
  world.finish_starts();
  world.set_busy(6);
  for (int s = 1; s <= 70; ++s) world.run_until(at(s)), world.report();
  EXPECT_FALSE(world.autoscaler.group(kGroup)->panic);  // ceil(6 / 0.7) = 9 of 5
  EXPECT_EQ(world.ready() + world.starting(), 9u);
  world.set_busy(7);
  for (int s = 71; s <= 80; ++s) world.run_until(at(s)), world.report();
  EXPECT_TRUE(world.autoscaler.group(kGroup)->panic);
  EXPECT_EQ(world.ready() + world.starting(), 10u);
  world.finish_starts();
  world.set_busy(1);
  for (int s = 81; s <= 130; ++s) {
    world.run_until(at(s)), world.report();
    EXPECT_TRUE(world.autoscaler.group(kGroup)->panic);
    EXPECT_EQ(world.stops, 0u);
  }
  const Time edge = world.autoscaler.group(kGroup)->panic_until;
  world.run_until(edge), world.report();
  EXPECT_TRUE(world.autoscaler.group(kGroup)->panic) << "the window is over after it, not at its end";
  for (int s = 1; s <= 60; ++s) {
    world.run_until(edge + seconds(s)), world.report(), world.drain();
  }
  EXPECT_FALSE(world.autoscaler.group(kGroup)->panic);
  EXPECT_EQ(world.ready(), 5u);
}

TEST(Autoscaler, KpaKeepsHalfOfWhatIsReadyInOneLook) {
  GroupWorld world(policy(Kind::kpa));
  world.set_queued(14);
  world.report();
  EXPECT_EQ(world.starts, 20u);
  world.finish_starts();
  world.set_queued(0);
  for (int s = 1; s <= 200 && world.stops == 0; ++s) world.run_until(at(s)), world.report();
  EXPECT_LE(world.stops, 10u);
  EXPECT_GT(world.stops, 0u);
}

// What starts is no use yet: as many as are wanted stay ready, however many are on their way.
TEST(Autoscaler, DoesNotStopReadyReplicasForThoseThatOnlyStart) {
  GroupPolicy brief = policy(Kind::chalk);
  brief.keep_alive = seconds(2);
  brief.z_permille = 0;
  GroupWorld world(brief);
  world.set_queued(10);
  world.report();
  world.finish_starts();
  world.set_busy(10);
  world.serve_until(at(100));
  world.set_queued(40);
  world.report();
  EXPECT_GE(world.starting(), 20u);
  world.set_queued(0);
  world.serve_until(at(300));
  EXPECT_EQ(world.stops, 0u);
  world.finish_starts();
  for (int s = 301; s <= 310; ++s) world.serve_until(at(s)), world.drain();
  EXPECT_EQ(world.ready(), 11u);  // ten, and what is in doubt
}

// The load is gone while its starts are in line: they are wanted no more, but for the least.
TEST(Autoscaler, CancelsWhatIsInLineForALoadThatIsGone) {
  for (const Kind kind : {Kind::kpa, Kind::hpa, Kind::chalk}) {
    GroupPolicy brief = policy(kind);
    brief.keep_alive = seconds(20);
    brief.min_replicas = 2;
    GroupWorld world(brief);
    world.finish_starts();
    for (int s = 1; s <= 30; ++s) {
      world.set_busy(2), world.set_queued(20);
      world.run_until(at(s)), world.report();
    }
    ASSERT_GT(world.starting(), 0u) << static_cast<int>(kind);
    world.in_line = true;
    world.set_queued(0), world.set_busy(0);
    for (int s = 31; s <= 700; ++s) world.run_until(at(s)), world.report();
    EXPECT_EQ(world.starting(), 0u) << static_cast<int>(kind);
    EXPECT_EQ(world.ready(), 2u) << static_cast<int>(kind);
    EXPECT_EQ(world.stops, 0u) << static_cast<int>(kind);
  }
}

TEST(Autoscaler, FixedCancelsAsManyStartsAsCallsWereServedByOthers) {
  GroupPolicy two = policy(Kind::fixed);
  two.min_replicas = 2;
  GroupWorld world(two);
  world.in_line = true;
  Demand report = demand(world.now, 5, 5);
  report.reloads = 1;  // nobody waits for that one, it is for a call to come
  world.give(DemandReported{report});
  EXPECT_EQ(world.starting(), 8u);
  report.queued = 3;
  world.give(DemandReported{report});
  EXPECT_EQ(world.starting(), 6u);
  world.give(ReplicaStarted{kGroup, {}});
  report.queued = 2;
  world.give(DemandReported{report});
  EXPECT_EQ(world.starting(), 5u) << "the one that started took a call";
  report.queued = 0;
  world.give(DemandReported{report});
  EXPECT_EQ(world.starting(), 3u);
  world.finish_starts();
  EXPECT_EQ(world.autoscaler.group(kGroup)->for_calls, 0u);
}

TEST(Autoscaler, FixedCancelsNoneOfTheLeast) {
  GroupPolicy three = policy(Kind::fixed);
  three.min_replicas = 3;
  GroupWorld world(three);
  for (int i = 0; i < 3; ++i) world.fail();
  world.in_line = true;
  world.give(DemandReported{demand(world.now, 4, 4)});
  EXPECT_EQ(world.starting(), 4u);
  world.give(DemandReported{demand(world.now, 4, 0)});
  EXPECT_EQ(world.starting(), 3u);
}

// A report can be on its way while the order to drain is: it says nothing about that order.
TEST(Autoscaler, AReportSentBeforeTheDrainArrivedDoesNotStopAsManyAgain) {
  GroupPolicy brief = policy(Kind::chalk);
  brief.keep_alive = seconds(60);
  GroupWorld world(brief);
  world.set_queued(12);
  world.report();
  EXPECT_EQ(world.starts, 12u);
  world.finish_starts();
  world.set_busy(1);
  int second = 1;
  for (; world.stops == 0; ++second) world.run_until(at(second)), world.report();
  const std::uint32_t asked = world.stops;
  Demand unaware = world.demand();
  unaware.at = world.now = world.now + milliseconds(1);
  unaware.concurrency_ns += milliseconds(1).nanos;
  unaware.ready = 12;
  world.give(DemandReported{unaware});
  EXPECT_EQ(world.stops, asked);
  // One sent long after it does: these replicas were busy and stay, so they may be asked for again.
  world.now = unaware.at = unaware.at + seconds(10);
  unaware.concurrency_ns += seconds(10).nanos;
  world.give(DemandReported{unaware});
  EXPECT_GT(world.stops, asked);
}

// The replica was busy when the order to drain came, and its group fell idle just after: no report
// comes any more to say that the replica stayed.
TEST(Autoscaler, AsksAgainForWhatTheGatewayCouldNotSpareThoughItReportsNoMore) {
  GroupWorld world(policy(Kind::kpa));
  world.set_queued(1);
  world.report();
  world.finish_starts();
  world.set_queued(0);
  world.run_until(at(1));
  world.report();
  while (world.stops == 0) world.run_until(world.now + seconds(1));
  world.draining = 0;  // declined
  world.run_until(world.now + milliseconds(900));
  world.report();
  world.run_until(world.now + seconds(60));
  EXPECT_GT(world.draining, 0u);
  world.drain();
  EXPECT_EQ(world.ready(), 0u);
}

GroupPolicy two_of_three(Kind kind) {
  GroupPolicy two = policy(kind);
  two.min_replicas = 2;
  two.max_replicas = 3;
  return two;
}
void serve_one(GroupWorld& world) {
  world.finish_starts(seconds(1));
  world.set_busy(1);
  world.serve_until(at(20));
}

// Its node is emptied: it ends its calls, and another starts in its place at once, and one only.
TEST(Autoscaler, WhatLeavesIsNoCapacity) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::hpa, Kind::chalk}) {
    GroupWorld world(two_of_three(kind));
    serve_one(world);
    const std::uint32_t before = world.starts;
    world.give(ReplicaLeaves{kGroup});
    ++world.draining;
    EXPECT_EQ(world.starts, before) << "all that leave at once are answered together";
    world.run_until(at(22));
    EXPECT_EQ(world.starts, before + 1) << static_cast<int>(kind);
    world.finish_starts(seconds(1));
    world.serve_until(at(60));
    EXPECT_EQ(world.ready(), 3u) << static_cast<int>(kind);
    EXPECT_EQ(world.autoscaler.group(kGroup)->stopping, 1u);
    world.drain(true);
    EXPECT_EQ(world.autoscaler.group(kGroup)->stopping, 0u);
    world.serve_until(at(100));
    EXPECT_EQ(world.ready() + world.starting(), 2u) << static_cast<int>(kind);
    EXPECT_EQ(world.starts, before + 1) << static_cast<int>(kind);
    EXPECT_EQ(world.stops, 0u) << static_cast<int>(kind);
    for (int i = 0; i < 5; ++i) world.give(ReplicaLeaves{kGroup});
    EXPECT_EQ(world.autoscaler.group(kGroup)->stopping, 2u) << "no more than there are";
  }
}

// Its gateway has not heard of it yet, and says for a while that it is in use.
TEST(Autoscaler, WhatLeavesDoesNotStayByAReportOfBefore) {
  for (const Kind kind : {Kind::chalk, Kind::kpa, Kind::hpa}) {
    GroupWorld world(two_of_three(kind));
    serve_one(world);
    const std::uint32_t before = world.starts;
    world.give(ReplicaLeaves{kGroup});
    world.serve_until(at(60));
    EXPECT_EQ(world.autoscaler.group(kGroup)->stopping, 1u) << static_cast<int>(kind);
    EXPECT_EQ(world.starts, before + 1) << static_cast<int>(kind);
    EXPECT_EQ(world.stops, 0u) << static_cast<int>(kind);
    world.give(ReplicaEnded{kGroup, true, true});
    EXPECT_EQ(world.autoscaler.group(kGroup)->stopping, 0u) << static_cast<int>(kind);
    EXPECT_EQ(world.autoscaler.group(kGroup)->leaving, 0u) << static_cast<int>(kind);
  }
}

// 8 slots in service of 10 at a target of 70 % are more than 10 % off, 7.5 are not.
TEST(Autoscaler, HpaChangesNothingWithinItsTolerance) {
  GroupPolicy hpa = policy(Kind::hpa);
  hpa.min_replicas = 10;
  hpa.concurrency = 2;
  for (const auto& [busy, replicas] : {std::pair{15u, 10u}, {16u, 12u}}) {
    GroupWorld world(hpa);
    world.finish_starts();
    world.set_busy(busy);
    for (int s = 1; s <= 60; ++s) world.run_until(at(s)), world.report(), world.finish_starts();
    EXPECT_EQ(world.ready(), replicas) << busy;
  }
}

TEST(Autoscaler, HpaChangesNothingJustAtItsTolerance) {
  GroupPolicy hpa = policy(Kind::hpa);
  hpa.min_replicas = 10;
  hpa.concurrency = 2;
  hpa.target_permille = 500;
  GroupWorld world(hpa);
  world.finish_starts();
  world.set_busy(11);  // of 10 at the target
  for (int s = 1; s <= 60; ++s) world.run_until(at(s)), world.report(), world.finish_starts();
  EXPECT_EQ(world.ready(), 10u);
}

TEST(Autoscaler, HpaAtMostDoublesInFifteenSecondsAndComesDownAfterFiveMinutes) {
  GroupPolicy hpa = policy(Kind::hpa);
  hpa.min_replicas = 8;
  GroupWorld world(hpa);
  world.finish_starts();
  std::uint32_t before = 8;
  for (int s = 1; s <= 60; ++s) {
    world.set_busy(world.ready());  // always full: 100 % of a target of 70 %
    world.run_until(at(s)), world.report(), world.finish_starts();
    if (s % 15 != 0) continue;
    EXPECT_LE(world.ready(), before * 2);
    EXPECT_GT(world.ready(), before);
    before = world.ready();
  }
  world.set_busy(0);
  for (int s = 61; s <= 350; ++s) world.run_until(at(s)), world.report(), world.drain();
  EXPECT_EQ(world.stops, 0u);
  for (int s = 351; s <= 450; ++s) world.run_until(at(s)), world.report(), world.drain();
  EXPECT_EQ(world.ready(), 8u);
}

TEST(Autoscaler, HpaTakesATargetOfNothingAsTheLeastThereIs) {
  GroupPolicy hpa = policy(Kind::hpa);
  hpa.target_permille = 0;
  hpa.max_replicas = 7;
  GroupWorld world(hpa);
  world.finish_starts();
  for (int s = 1; s <= 60; ++s) {
    world.set_busy(1);
    world.run_until(at(s)), world.report(), world.finish_starts();
  }
  EXPECT_EQ(world.ready(), 7u);
}

TEST(Autoscaler, HpaNeverGoesToZero) {
  GroupWorld world(policy(Kind::hpa));
  world.finish_starts();
  EXPECT_EQ(world.ready(), 1u);
  for (int s = 1; s <= 900; ++s) world.run_until(at(s)), world.report(), world.drain();
  EXPECT_EQ(world.ready(), 1u);
}

TEST(Autoscaler, KnowsAsManyGroupsAsItMay) {
  Config two;
  two.groups_max = 2;
  Autoscaler autoscaler(two);
  GroupPolicy one = policy(Kind::chalk);
  one.min_replicas = 1;
  EXPECT_EQ(started(tell(autoscaler, at(0), GroupAdded{{2}, one})), 1u);
  EXPECT_TRUE(tell(autoscaler, at(0), GroupAdded{{3}, one}).empty());
  EXPECT_EQ(autoscaler.group({3}), nullptr);
}

// ---- gateways that say what cannot be

TEST(Autoscaler, SurvivesAReportThatNoGatewayCanMeanAndGoesByTheNext) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::chalk, Kind::hpa}) {
    GroupWorld world(policy(kind));
    world.run_until(at(1));
    world.set_queued(1);
    world.report();
    Demand absurd = world.demand();
    absurd.arrivals = ~0ULL;  // and by that all but what is here has been served
    absurd.in_flight = absurd.queued = 0;
    for (int s = 3; s <= 6; ++s) {
      world.run_until(at(s));
      absurd.at = world.now;
      world.give(DemandReported{absurd});
    }
    world.run_until(at(10));
    world.set_queued(5);
    world.report();
    EXPECT_EQ(world.autoscaler.group(kGroup)->last, world.totals);
    world.finish_starts();
    world.run_until(at(20));
    world.set_queued(6);
    world.report();
    EXPECT_GE(world.ready() + world.starting(), 1u);
    const std::uint32_t most = world.autoscaler.group(kGroup)->policy.max_replicas;
    EXPECT_LE(world.ready() + world.starting(), most);
  }
}

TEST(Autoscaler, AReportFromTheFutureMakesNoLaterOneLate) {
  for (const Kind kind : {Kind::kpa, Kind::chalk, Kind::hpa}) {
    GroupWorld world(policy(kind));
    world.run_until(at(1));
    Demand early = world.demand();
    early.at = at(1'000'000'000);
    for (int i = 0; i < 20'000; ++i) world.give(DemandReported{early});
    EXPECT_EQ(world.autoscaler.group(kGroup)->last.at, at(1));
    EXPECT_LE(world.autoscaler.group(kGroup)->samples.size(), 1u) << "of one moment";
    world.run_until(at(10));
    world.set_queued(500);
    world.report();
    EXPECT_EQ(world.autoscaler.group(kGroup)->last.queued, 500u);
  }
}

TEST(Autoscaler, KeepsNoMoreOfAWindowThanItMay) {
  GroupWorld world(policy(Kind::kpa));
  world.set_queued(3);
  for (int i = 0; i < 10'000; ++i) {
    world.run_until(world.now + milliseconds(1));
    world.report();
  }
  const Group& group = *world.autoscaler.group(kGroup);
  EXPECT_EQ(group.samples.size(), 4096u);
  EXPECT_EQ(group.samples[4095].at, world.now);
  const auto wish = said<StartReplicas>(tell(world.autoscaler, world.now, GroupAdded{
      kGroup, policy(Kind::kpa)}));
  for (const auto& start : wish) EXPECT_EQ(start.concurrency_milli, 3000);
  EXPECT_EQ(group.desired, 5u) << "three calls at 70 %";
}

TEST(Autoscaler, IgnoresWhatConcernsNoGroup) {
  Autoscaler autoscaler(Config{});
  EXPECT_TRUE(tell(autoscaler, at(1), DemandReported{demand(at(1), 5, 5)}).empty());
  EXPECT_TRUE(tell(autoscaler, at(1), ReplicaEnded{kGroup, true, false}).empty());
  EXPECT_EQ(started(tell(autoscaler, at(1), GroupAdded{{}, policy(Kind::chalk)})), 0u);
}

}  // namespace
}  // namespace chalk::autoscaler
