// What a gateway's functions do at their bounds, and facts that come late, twice or about nobody.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "model/core/codec.h"
#include "model/functions/functions.h"
#include "rig.h"

namespace chalk::functions {
namespace {


std::vector<Dispatch> arrive(Functions& functions, Time now, std::uint64_t call) {
  return said<Dispatch>(tell(functions, now, RequestArrived{{call}, kGroup}));
}
const Group& group(const Functions& functions) { return functions.state().groups.at(0); }

TEST(Functions, EachRefusalHasAName) {
  EXPECT_EQ(rule_name(Rule::unknown_group), std::string_view("unknown_group"));
  EXPECT_EQ(rule_name(Rule::queue_full), std::string_view("queue_full"));
  EXPECT_EQ(rule_name(Rule::queue_timeout), std::string_view("queue_timeout"));
}

TEST(Functions, KnowNoGroupBeyondTheirMost) {
  Config config;
  config.groups_max = 2;
  Functions functions(config);
  GroupRouting how = routing();
  how.group = {};
  tell(functions, at(0), how);
  how.group = {3};
  tell(functions, at(0), how);
  EXPECT_TRUE(functions.state().groups.empty());
  how.group = {2};
  how.concurrency = 0;
  tell(functions, at(0), how);
  ASSERT_EQ(functions.state().groups.size(), 2u);
  EXPECT_EQ(functions.state().groups[1].routing.concurrency, 1u);
  EXPECT_FALSE(functions.state().groups[0].known);
}

TEST(Functions, WhatIsSaidOfAnUnknownGroupChangesNothing) {
  Functions functions(Config{});
  GroupRouting how = routing();
  how.group = {2};
  tell(functions, at(0), how);
  for (const std::uint64_t unknown : {0u, 1u, 3u}) {
    const State before = functions.state();
    EXPECT_TRUE(tell(functions, at(1), ReplicaReady{{unknown}, {5}}).empty());
    EXPECT_TRUE(tell(functions, at(1), DrainReplicas{{unknown}, 1}).empty());
    EXPECT_TRUE(tell(functions, at(1), RequestAbandoned{{1}, {unknown}}).empty());
    EXPECT_TRUE(tell(functions, at(1), ReplicaGone{{unknown}, {5}}).empty());
    EXPECT_TRUE(functions.state() == before);
  }
}

TEST(Functions, TheHighestConcurrencyWinsWhileReplicasLive) {
  GroupRouting how = routing();
  how.concurrency = 2;
  Functions functions = with(how);
  how.concurrency = 5;
  tell(functions, at(0), how);
  EXPECT_EQ(group(functions).routing.concurrency, 5u);
  how.concurrency = 3;
  tell(functions, at(0), how);
  EXPECT_EQ(group(functions).routing.concurrency, 5u);
}

// One that was full has slots from then on, for those that wait and for those that come.
TEST(Functions, AHigherConcurrencyCountsForReplicasThatAreThere) {
  Functions functions = with(routing(), 1);
  ASSERT_EQ(arrive(functions, at(1), 1).size(), 1u);
  EXPECT_TRUE(arrive(functions, at(2), 2).empty());
  GroupRouting how = routing();
  how.concurrency = 3;
  const auto served = said<Dispatch>(tell(functions, at(3), how));
  ASSERT_EQ(served.size(), 1u);
  EXPECT_EQ(served[0].request, RequestId{2});
  EXPECT_EQ(arrive(functions, at(4), 3).size(), 1u);
  EXPECT_TRUE(arrive(functions, at(4), 4).empty());
}

TEST(Functions, AHigherConcurrencyIsOfItsOwnGroup) {
  Functions functions = with(routing(), 1);
  GroupRouting other = routing();
  other.group = {2};
  tell(functions, at(0), other);
  tell(functions, at(0), ReplicaReady{{2}, {7}});
  ASSERT_EQ(said<Dispatch>(tell(functions, at(1), RequestArrived{{1}, {2}})).size(), 1u);
  ASSERT_EQ(arrive(functions, at(1), 2).size(), 1u);
  GroupRouting how = routing();
  how.concurrency = 2;
  tell(functions, at(2), how);
  EXPECT_TRUE(said<Dispatch>(tell(functions, at(3), RequestArrived{{3}, {2}})).empty());
  EXPECT_EQ(arrive(functions, at(3), 4).at(0).sandbox, SandboxId{1});
  EXPECT_TRUE(arrive(functions, at(3), 5).empty());
}

// A call that waited until the rule was another has been in service since then, not before.
TEST(Functions, ACallThatARuleLetsInIsInServiceFromThenOn) {
  GroupRouting how = routing();
  how.delayed_warm_start = false;
  Functions functions = with(how, 1);
  const auto first = arrive(functions, at(0), 1);
  arrive(functions, at(0), 2);
  tell(functions, at(10), RequestFinished{first.at(0).replica});
  how.delayed_warm_start = true;
  run_until(functions, at(20) - nanoseconds(1));
  EXPECT_EQ(said<Dispatch>(tell(functions, at(20), how)).size(), 1u);
  const auto reports = said<ReportDemand>(run_until(functions, at(30)));
  ASSERT_FALSE(reports.empty());
  const Demand& last = reports.back().demand;
  EXPECT_EQ(last.busy_ns, seconds(10).nanos + (last.at - at(20)).nanos);
}

TEST(Functions, TotalsSayWhatCameWasRefusedWaitedAndPeaked) {
  GroupRouting how = routing();
  how.concurrency = 2;
  how.queue_max = 1;
  Functions functions = with(how, 1);
  for (std::uint64_t call = 1; call <= 4; ++call) arrive(functions, at(1), call);
  EXPECT_EQ(group(functions).arrivals, 4u);
  EXPECT_EQ(group(functions).holds, 1u);
  EXPECT_EQ(group(functions).refused, 1u);
  EXPECT_EQ(group(functions).in_flight, 2u);
  EXPECT_EQ(group(functions).queue.size(), 1u);
  const auto reports = said<ReportDemand>(run_until(functions, at(2)));
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().demand.in_flight + reports.back().demand.queued, 3u);
  tell(functions, at(3), ReplicaGone{kGroup, {1}});
  const auto after = said<ReportDemand>(run_until(functions, at(4)));
  ASSERT_FALSE(after.empty());
  EXPECT_EQ(after.back().demand.in_flight, 0u);
  EXPECT_EQ(after.back().demand.ready, 0u);
  EXPECT_EQ(after.back().demand.concurrency_ns, seconds(2 * 3 + 1).nanos);
}

TEST(Functions, APeakIsOfTheTimeSinceTheLastReport) {
  GroupRouting how = routing();
  how.concurrency = 3;
  Functions functions = with(how, 1);
  run_until(functions, at(10));
  const auto a = arrive(functions, at(10), 1), b = arrive(functions, at(10), 2);
  tell(functions, at(10), RequestFinished{a.at(0).replica});
  const auto first = said<ReportDemand>(run_until(functions, at(11)));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].demand.peak, 2u);
  const auto second = said<ReportDemand>(run_until(functions, at(12)));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].demand.peak, 1u);
}

TEST(Functions, AReplicaThatDrainsMayGoAndCountsOnce) {
  GroupRouting how = routing();
  how.concurrency = 2;
  Functions functions = with(how, 2);
  arrive(functions, at(1), 1);
  EXPECT_EQ(returned(tell(functions, at(1), DrainReplicas{kGroup, 1})), Sandboxes{1});
  tell(functions, at(1), DrainReplicas{kGroup, 1});
  EXPECT_EQ(group(functions).ready, 0u);
  const auto gone = tell(functions, at(2), ReplicaGone{kGroup, {2}});
  EXPECT_EQ(said<AbortReplica>(gone).size(), 1u);
  EXPECT_EQ(group(functions).ready, 0u);
  EXPECT_EQ(group(functions).in_flight, 0u);
  EXPECT_EQ(functions.state().replicas.size(), 0u);
}

TEST(Functions, TheListOfFreeReplicasHoldsFromAnyEnd) {
  for (std::uint64_t gone = 1; gone <= 3; ++gone) {
    for (std::uint64_t second = 1; second <= 3; ++second) {
      Functions functions = with(routing(), 3);
      tell(functions, at(1), ReplicaGone{kGroup, {gone}});
      tell(functions, at(1), ReplicaGone{kGroup, {second}});
      std::multiset<std::uint64_t> served;
      for (std::uint64_t call = 1; call <= 3; ++call) {
        for (const auto& one : arrive(functions, at(2), call)) served.insert(one.sandbox.value);
      }
      std::multiset<std::uint64_t> left{1, 2, 3};
      left.erase(gone);
      left.erase(second);
      EXPECT_EQ(served, left);
      EXPECT_EQ(group(functions).ready, left.size());
    }
  }
}

// However long it lives: what has left makes room for what comes.
TEST(Functions, AQueueIsNoLargerThanWhatEverWaitedAtOnce) {
  for (const QueueOrder order : {QueueOrder::fifo, QueueOrder::drr}) {
    CallQueue queue;
    queue.set_order(order);
    std::size_t bytes = 0;
    for (std::uint64_t round = 0; round < 100; ++round) {
      for (std::uint64_t n = 1; n <= 4; ++n) queue.push({{n}, {n % 3}, at(0)});
      if (round == 0) bytes = encode(queue).size();
      EXPECT_EQ(encode(queue).size(), bytes) << round;
      for (std::uint64_t n = 1; n <= 4; ++n) round % 2 == 0 ? queue.pop() : queue.pop_oldest();
    }
  }
}

TEST(Functions, WhoeverHungUpIsPassedOverAtEveryTurn) {
  GroupRouting how = routing();
  how.queue_timeout = seconds(5);
  Functions functions = with(how);
  for (std::uint64_t call = 1; call <= 4; ++call) arrive(functions, at(1), call);
  tell(functions, at(2), RequestAbandoned{{1}, kGroup});
  tell(functions, at(2), RequestAbandoned{{1}, kGroup});
  tell(functions, at(2), RequestAbandoned{{3}, kGroup});
  EXPECT_EQ(group(functions).queue.size(), 2u);
  const auto refused = said<RefuseRequest>(run_until(functions, at(6)));
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].request, RequestId{2});
  EXPECT_EQ(refused[1].request, RequestId{4});
  EXPECT_EQ(group(functions).queue.size(), 0u);
  EXPECT_EQ(group(functions).refused, 2u);
  EXPECT_EQ(group(functions).queue.size(), 0u);
}

TEST(Functions, PatienceIsLookedAtAgainAsLongAsNoReplicaIsFree) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  Config config;
  config.patience = seconds(10);
  Functions functions = with(strict, 0, config);
  arrive(functions, at(1), 1);
  EXPECT_EQ(group(functions).patience_at, at(11));
  run_until(functions, at(11));
  EXPECT_EQ(group(functions).patience_at, at(21));
  run_until(functions, at(35));
  EXPECT_EQ(group(functions).patience_at, at(41));
  EXPECT_EQ(group(functions).queue.size(), 1u);
}

TEST(Functions, ACallThatTimesOutBeforeItsPatienceIsRefused) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  strict.queue_timeout = seconds(5);
  Config config;
  config.patience = seconds(10);
  Functions functions = with(strict, 1, config);
  const auto running = arrive(functions, at(0), 1);
  arrive(functions, at(1), 2);
  tell(functions, at(2), RequestFinished{running.at(0).replica});
  const auto effects = run_until(functions, at(6));
  EXPECT_EQ(said<RefuseRequest>(effects).size(), 1u);
  EXPECT_TRUE(said<Dispatch>(effects).empty());
}

TEST(Functions, EveryCallThatStartsAReplicaIsToldAtOnceWhereNoneIsShared) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  Functions functions = with(strict);
  for (std::uint64_t call = 1; call <= 3; ++call) {
    const auto reports =
        said<ReportDemand>(tell(functions, at(10), RequestArrived{{call}, kGroup}));
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].demand.holds, call);
  }
}

TEST(Functions, ReplicasReturnAtTheirOwnTimes) {
  GroupRouting kept = routing();
  kept.keep_alive = seconds(60);
  Functions functions = with(kept);
  for (std::uint64_t n = 1; n <= 3; ++n) {
    tell(functions, at(10 * static_cast<std::int64_t>(n)), ReplicaReady{kGroup, {n}});
  }
  EXPECT_EQ(returned(run_until(functions, at(70))), Sandboxes{1});
  EXPECT_EQ(returned(run_until(functions, at(80))), Sandboxes{2});
  EXPECT_EQ(returned(run_until(functions, at(90) - nanoseconds(1))), Sandboxes{});
  EXPECT_EQ(returned(run_until(functions, at(90))), Sandboxes{3});
  EXPECT_EQ(functions.state().replicas.size(), 0u);
}

TEST(Functions, BusyReplicasAtTheEndOfTheListDoNotHideIdleOnes) {
  GroupRouting kept = routing();
  kept.keep_alive = seconds(60);
  kept.concurrency = 2;
  Functions functions = with(kept, 2);
  const auto a = arrive(functions, at(1), 1);  // on 2, which has a slot left
  ASSERT_EQ(a.at(0).sandbox, SandboxId{2});
  EXPECT_EQ(returned(run_until(functions, at(59))), Sandboxes{});
  EXPECT_EQ(returned(run_until(functions, at(60))), Sandboxes{1});
  EXPECT_EQ(returned(run_until(functions, at(500))), Sandboxes{});
  tell(functions, at(500), RequestFinished{a.at(0).replica});
  EXPECT_EQ(returned(run_until(functions, at(560))), Sandboxes{2});
}

TEST(Functions, AReplicaThatReturnsIsReportedWithTheNextReport) {
  GroupRouting kept = routing();
  kept.keep_alive = milliseconds(500);
  Functions functions = with(kept);
  run_until(functions, at(100));
  tell(functions, at(100), ReplicaReady{kGroup, {1}});
  const auto half = run_until(functions, at(100) + milliseconds(500));
  EXPECT_EQ(returned(half), Sandboxes{1});
  EXPECT_TRUE(said<ReportDemand>(half).empty());
  EXPECT_EQ(said<ReportDemand>(run_until(functions, at(101))).size(), 1u);
}

TEST(Functions, ANewReplicaIsReported) {
  Functions functions = with(routing());
  run_until(functions, at(100));
  tell(functions, at(100), ReplicaReady{kGroup, {1}});
  const auto reports = said<ReportDemand>(run_until(functions, at(101)));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].demand.ready, 1u);
  EXPECT_EQ(reports[0].demand.at, at(101));
}

TEST(Functions, TheShortestQueueTimeoutIsATimeout) {
  GroupRouting brief = routing();
  brief.queue_timeout = Duration{1};
  Functions functions = with(brief);
  arrive(functions, at(1), 1);
  EXPECT_EQ(group(functions).patience_at, at(1) + Duration{1});
  EXPECT_EQ(said<RefuseRequest>(run_until(functions, at(2))).size(), 1u);
}

TEST(Functions, AWaitingCallIsReportedWhenItsReplicaGoes) {
  Functions functions = with(routing(), 1);
  run_until(functions, at(10));
  arrive(functions, at(10), 1);
  arrive(functions, at(10), 2);
  const auto gone = said<ReportDemand>(tell(functions, at(11), ReplicaGone{kGroup, {1}}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].demand.queued, 1u);
  EXPECT_EQ(gone[0].demand.ready, 0u);
}

// A group that is to report nothing by itself still tells of calls that wait, each crowd once.
TEST(Functions, WithoutAnIntervalACrowdIsToldOnce) {
  GroupRouting quiet = routing();
  quiet.report_interval = {};
  Functions functions = with(quiet);
  EXPECT_EQ(said<ReportDemand>(tell(functions, at(1), RequestArrived{{1}, kGroup})).size(), 1u);
  EXPECT_TRUE(said<ReportDemand>(tell(functions, at(1), RequestArrived{{2}, kGroup})).empty());
  const auto reports = said<ReportDemand>(run_until(functions, at(50)));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].demand.queued, 2u);
}

// ---- keeping

GroupRouting greedy(std::uint64_t of_group, std::uint32_t least = 0) {
  GroupRouting how = routing();
  how.group = {of_group};
  how.keep_alive_policy = KeepAlive::greedy_dual;
  how.min_replicas = least;
  return how;
}

TEST(KeepAlive, GreedyDualLeavesTheMinimumOutOfItsBudget) {
  Config config;
  config.idle_bytes_max = 1LL << 30;
  Functions functions(config);
  tell(functions, at(0), greedy(1, 1));
  tell(functions, at(0), greedy(2));
  tell(functions, at(1), ReplicaReady{{1}, {1}});
  EXPECT_EQ(returned(tell(functions, at(2), ReplicaReady{{2}, {2}})), Sandboxes{});
  EXPECT_EQ(functions.state().idle.bytes(), 1LL << 30) << "the one that must stay counts no more";
  EXPECT_EQ(functions.state().replicas.size(), 2u);
  EXPECT_EQ(returned(tell(functions, at(3), ReplicaReady{{2}, {3}})).size(), 1u);
  EXPECT_EQ(functions.state().idle.bytes(), 1LL << 30);
}

// Frequency is of the time since a group last had none: one of two that goes does not end it.
TEST(KeepAlive, GreedyDualForgetsHowOftenWhenTheLastHasGone) {
  for (const std::uint64_t had : {1u, 2u}) {
    Config config;
    config.idle_bytes_max = static_cast<std::int64_t>(had);  // each counts as a byte
    Functions functions(config);
    for (const std::uint64_t id : {1u, 2u}) {
      GroupRouting how = greedy(id);
      how.memory_bytes = 0;
      tell(functions, at(0), how);
    }
    const auto serve = [&](std::uint64_t id, int times) {
      for (int i = 0; i < times; ++i) {
        const auto call = said<Dispatch>(tell(functions, at(1), RequestArrived{{9}, {id}}));
        ASSERT_EQ(call.size(), 1u);
        tell(functions, at(1), RequestFinished{call[0].replica});
      }
    };
    for (std::uint64_t n = 1; n <= had; ++n) tell(functions, at(0), ReplicaReady{{1}, {n}});
    serve(1, 3);
    EXPECT_EQ(functions.state().groups[0].frequency, 3u);
    for (std::uint64_t call = 1; call <= 5; ++call) tell(functions, at(1), RequestArrived{{call}, {2}});
    tell(functions, at(1), ReplicaReady{{2}, {7}});
    std::vector<std::uint64_t> went;
    for (int i = 0; i < 5; ++i) {
      const auto done = tell(functions, at(2), RequestFinished{functions.state().by_sandbox.at({7})});
      for (const std::uint64_t one : returned(done)) went.push_back(one);
    }
    EXPECT_EQ(went.size(), 1u);
    EXPECT_EQ(functions.state().groups[0].ready, had - 1);
    EXPECT_EQ(functions.state().groups[0].frequency, had == 1 ? 0u : 3u);
    EXPECT_EQ(functions.state().groups[1].frequency, 5u);
    tell(functions, at(3), DrainReplicas{{2}, 1});
    EXPECT_EQ(functions.state().groups[1].frequency, 5u) << "only memory makes it forget";
  }
}

TEST(KeepAlive, GreedyDualFillsItsBudgetToTheLastByte) {
  Config config;
  config.idle_bytes_max = 3LL << 30;
  Functions functions(config);
  tell(functions, at(0), greedy(1));
  for (std::uint64_t n = 1; n <= 3; ++n) {
    EXPECT_TRUE(returned(tell(functions, at(1), ReplicaReady{{1}, {n}})).empty());
  }
  EXPECT_EQ(returned(tell(functions, at(1), ReplicaReady{{1}, {4}})).size(), 1u);
  EXPECT_EQ(functions.state().idle.bytes(), 3LL << 30);
  const auto taken = said<Dispatch>(tell(functions, at(2), RequestArrived{{1}, {1}}));
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(functions.state().idle.bytes(), 2LL << 30) << "a busy replica is not idle memory";
  tell(functions, at(3), ReplicaGone{{1}, taken[0].sandbox});
  EXPECT_EQ(functions.state().idle.bytes(), 2LL << 30);
}

TEST(KeepAlive, GreedyDualNeverTakesAReplicaThatIsInACallByAnotherPolicy) {
  Config config;
  config.idle_bytes_max = 1LL << 30;
  Functions functions(config);
  tell(functions, at(0), greedy(1));
  tell(functions, at(0), greedy(2));
  tell(functions, at(1), ReplicaReady{{1}, {1}});
  GroupRouting fixed = greedy(1);
  fixed.keep_alive_policy = KeepAlive::fixed;
  tell(functions, at(2), fixed);
  EXPECT_EQ(functions.state().idle.bytes(), 0) << "it is kept by another rule now";
  const auto call = said<Dispatch>(tell(functions, at(3), RequestArrived{{1}, {1}}));
  ASSERT_EQ(call.size(), 1u);
  tell(functions, at(4), ReplicaReady{{2}, {2}});
  EXPECT_TRUE(returned(tell(functions, at(4), ReplicaReady{{2}, {3}})) != Sandboxes{1});
  EXPECT_EQ(functions.state().groups[0].in_flight, 1u);
  tell(functions, at(5), RequestFinished{call[0].replica});
  EXPECT_EQ(functions.state().groups[0].in_flight, 0u);
  EXPECT_EQ(functions.state().groups[0].ready, 1u);
}

TEST(KeepAlive, WhatLiesIdleComesUnderGreedyDualWithItsPolicyAndWithASmallerMinimum) {
  Config config;
  config.idle_bytes_max = 1LL << 30;
  Functions functions(config);
  GroupRouting before = greedy(1);
  before.keep_alive_policy = KeepAlive::fixed;
  tell(functions, at(0), before);
  for (std::uint64_t n = 1; n <= 3; ++n) tell(functions, at(1), ReplicaReady{{1}, {n}});
  EXPECT_EQ(returned(tell(functions, at(2), greedy(1, 2))).size(), 1u);
  EXPECT_EQ(returned(tell(functions, at(3), greedy(1))).size(), 1u);
  EXPECT_EQ(functions.state().idle.bytes(), 1LL << 30);
}

TEST(KeepAlive, PriorityGrowsWithFrequencyAndCostAndFallsWithSize) {
  const GreedyDual pool;
  const auto priority = [&](std::uint64_t frequency, std::int64_t cost, std::int64_t mebibytes) {
    return pool.priority(frequency, seconds(cost), mebibytes << 20);
  };
  EXPECT_EQ(priority(0, 1, 1), 0);
  EXPECT_EQ(priority(1, 1, 0), 1'000'001);
  EXPECT_EQ(priority(2, 1, 1), 1'000'001);
  EXPECT_EQ(priority(1, 2, 1), 1'000'000);
  EXPECT_GT(priority(2, 3, 4), priority(1, 3, 4));
  EXPECT_LT(priority(2, 3, 8), priority(2, 3, 4));
  GreedyDual used;
  used.idle(5, 1, 100);
  used.idle(3, 2, 10);
  EXPECT_TRUE(used.over(109));
  EXPECT_FALSE(used.over(110));
  EXPECT_EQ(used.next(), 2u);
  used.taken(3, 2, 10);
  used.taken(3, 2, 10);  // twice
  EXPECT_EQ(used.bytes(), 100);
  EXPECT_EQ(used.priority(0, seconds(1), 1), 3) << "the clock is that of the last that went";
  used.taken(5, 1, 100);
  EXPECT_FALSE(used.over(-1)) << "there is none to go";
}

TEST(KeepAlive, TheHybridHistogramWaitsForTheMiddleOfItsGaps) {
  const auto minutes = [](std::int64_t n) { return seconds(60 * n); };
  Hybrid seldom;
  EXPECT_EQ(seldom.window(), (Window{minutes(240), {}, {}})) << "nothing is known";
  for (int i = 0; i < 100; ++i) seldom.add(minutes(100) + seconds(30));
  EXPECT_EQ(seldom.window(), (Window{{}, minutes(90), Duration{minutes(101).nanos / 10 * 11}}));
  Hybrid often;
  for (int i = 0; i < 100; ++i) often.add(seconds(59));
  EXPECT_EQ(often.window(), (Window{Duration{minutes(1).nanos / 10 * 11}, {}, {}}));
  Hybrid tails;
  for (int i = 0; i < 4; ++i) tails.add(minutes(10));
  for (int i = 0; i < 94; ++i) tails.add(minutes(50));
  for (int i = 0; i < 2; ++i) tails.add(minutes(200));
  EXPECT_EQ(tails.window(), (Window{{}, minutes(45), minutes(201) + Duration{minutes(201).nanos / 10}}));
  tails.add(minutes(10));
  tails.add(minutes(10));
  EXPECT_EQ(tails.window().reload, minutes(9)) << "five in a hundred";
  Hybrid exact;
  for (int i = 0; i < 5; ++i) exact.add(minutes(10));
  for (int i = 0; i < 93; ++i) exact.add(minutes(50));
  for (int i = 0; i < 2; ++i) exact.add(minutes(200));
  EXPECT_EQ(exact.window().reload, minutes(9)) << "the head is five in a hundred, and no more";
  Hybrid two;
  for (int i = 0; i < 50; ++i) two.add(seconds(1)), two.add(minutes(20));
  EXPECT_EQ(two.window(), (Window{Duration{minutes(21).nanos / 10 * 11}, {}, {}}));
  Hybrid long_ones;
  for (int i = 0; i < 100; ++i) long_ones.add(minutes(239) + seconds(59));
  EXPECT_EQ(long_ones.window().until, minutes(240)) << "never beyond the range";
  for (int i = 0; i < 99; ++i) long_ones.add(minutes(240));
  EXPECT_TRUE(long_ones.window().reloads());
  long_ones.add(minutes(240));
  EXPECT_FALSE(long_ones.window().reloads()) << "half of them are beyond it";
  Hybrid flat;
  for (int i = 0; i < 240; ++i) flat.add(minutes(i));
  EXPECT_FALSE(flat.window().reloads()) << "all lengths alike tell nothing";
}

TEST(KeepAlive, AWindowHoldsFromItsBeginningAndEndsBeforeItsEnd) {
  const Window window{seconds(10), seconds(20), seconds(30)};
  const auto covers = [&](std::int64_t nanos_more, std::int64_t s) {
    return window.covers(Duration{seconds(s).nanos + nanos_more});
  };
  EXPECT_TRUE(covers(-1, 10));
  EXPECT_FALSE(covers(0, 10));
  EXPECT_FALSE(covers(-1, 20));
  EXPECT_TRUE(covers(0, 20));
  EXPECT_TRUE(covers(-1, 30));
  EXPECT_FALSE(covers(0, 30));
}

TEST(KeepAlive, OnlyWhatHadACallTellsHowLongItShouldHaveStayed) {
  for (const bool used : {false, true}) {
    GroupRouting how = routing();
    how.keep_alive_policy = KeepAlive::hybrid;
    Functions functions = with(how, 1);
    if (used) {
      const auto call = arrive(functions, at(1), 1);
      tell(functions, at(2), RequestFinished{call.at(0).replica});
    }
    EXPECT_EQ(returned(tell(functions, at(3), DrainReplicas{kGroup, 1})), Sandboxes{1});
    EXPECT_EQ(group(functions).left, used ? std::vector<Time>{at(2)} : std::vector<Time>{});
  }
}

TEST(KeepAlive, OfThoseThatWentTheNewestAreRemembered) {
  GroupRouting how = routing();
  how.keep_alive_policy = KeepAlive::cost;
  Functions functions = with(how, 20);
  std::vector<Dispatch> calls;
  for (std::uint64_t call = 1; call <= 20; ++call) {
    calls.push_back(arrive(functions, at(1), call).at(0));
  }
  for (std::size_t n = 0; n < calls.size(); ++n) {
    tell(functions, at(2 + static_cast<std::int64_t>(n)), RequestFinished{calls[n].replica});
  }
  tell(functions, at(30), DrainReplicas{kGroup, 20});
  const auto& left = group(functions).left;
  ASSERT_EQ(left.size(), 16u);
  EXPECT_TRUE(std::is_sorted(left.begin(), left.end()));
  EXPECT_EQ(left.front(), at(6));
  EXPECT_EQ(left.back(), at(21));
}

TEST(KeepAlive, ARuleIsWorthMoreTheSmallerTheReplica) {
  GroupRouting how = routing();
  how.cold_start_worth = seconds(240);
  how.memory_bytes = 1LL << 30;
  EXPECT_EQ(rule_of(how).worth.cold, seconds(240));
  how.memory_bytes = 1LL << 29;
  EXPECT_EQ(rule_of(how).worth.cold, seconds(480));
  how.memory_bytes = 0;
  EXPECT_EQ(rule_of(how).worth.cold.nanos, seconds(240).nanos * 1024);
  how.cold_start_worth = seconds(2'000'000);
  EXPECT_EQ(rule_of(how).worth.cold, seconds(1'000'000));
  how.memory_bytes = 1LL << 30;
  EXPECT_EQ(rule_of(how).worth.cold, seconds(1'000'000));
}

// The only one of a group that keeps at least one falls idle; a second comes and is busy at once.
TEST(Functions, OneThatIsNoLongerAmongTheLeastGoesWhenItsTimeIsOver) {
  Functions functions(Config{});
  GroupRouting routing;
  routing.group = {1};
  routing.min_replicas = 1;
  routing.keep_alive = seconds(10);
  routing.delayed_warm_start = false;
  const auto at = [](std::int64_t s) { return Time{seconds(s).nanos}; };
  test::tell(functions, at(0), routing);
  test::tell(functions, at(0), ReplicaReady{{1}, {1}});
  test::tell(functions, at(0), RequestArrived{{1}, {1}});
  test::tell(functions, at(0), RequestArrived{{2}, {1}});  // waits for a start of its own
  test::tell(functions, at(1), RequestFinished{functions.state().by_sandbox.at({1})});
  test::tell(functions, at(5), ReplicaReady{{1}, {2}});
  EXPECT_TRUE(test::said<ReturnReplica>(test::tell(functions, at(10), Woken{})).empty());
  EXPECT_LE(functions.state().wake, at(11));
  const auto back = test::said<ReturnReplica>(test::tell(functions, at(11), Woken{}));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].sandbox, SandboxId{1});
}

// A thousand calls at once for two months, and for two months more.
TEST(Functions, TotalsBeginAgainBeforeTheyAreFull) {
  Functions functions = with(routing());
  for (std::uint64_t call = 1; call <= 1000; ++call) tell(functions, at(0), RequestArrived{{call}, kGroup});
  Time now = at(0);
  for (int again = 0; again < 3; ++again) {
    now = now + Duration{5'000'000'000'000'000};
    const auto full = said<ReportDemand>(tell(functions, now, Woken{}));
    ASSERT_EQ(full.size(), 1u);
    EXPECT_GE(full[0].demand.concurrency_ns, 5'000'000'000'000'000'000) << "it is told before it is gone";
    now = now + seconds(1);
    const auto next = said<ReportDemand>(tell(functions, now, Woken{}));
    ASSERT_EQ(next.size(), 1u);
    EXPECT_EQ(next[0].demand.concurrency_ns, seconds(1000).nanos);
    EXPECT_EQ(next[0].demand.arrivals, 1000u);
    EXPECT_EQ(next[0].demand.holds, 0u);
    EXPECT_EQ(next[0].demand.queued, 1000u);
  }
}

// The one that was kept has been idle for longer than its time when a second comes: it goes now.
TEST(Functions, NoAlarmIsSetForThePast) {
  GroupRouting kept = routing();
  kept.min_replicas = 1;
  kept.keep_alive = seconds(60);
  Functions functions = with(kept, 1);
  tell(functions, at(200), RequestArrived{{1}, kGroup});
  tell(functions, at(205), RequestArrived{{2}, kGroup});  // a second replica is ordered for it
  const ReplicaSlot first = functions.state().by_sandbox.at({1});
  tell(functions, at(210), RequestFinished{first});
  tell(functions, at(220), RequestFinished{first});
  run_until(functions, at(354));
  tell(functions, at(355), ReplicaReady{kGroup, {2}});
  EXPECT_GE(functions.state().wake, at(355));
  EXPECT_EQ(returned(tell(functions, at(355), Woken{})), Sandboxes{1});

  // The same of what has waited for longer than its new timeout.
  tell(functions, at(400), ReplicaGone{kGroup, {2}});
  tell(functions, at(400), RequestArrived{{3}, kGroup});
  kept.queue_timeout = seconds(1);
  run_until(functions, at(499));
  tell(functions, at(500), kept);
  EXPECT_GE(functions.state().wake, at(500));
  EXPECT_EQ(said<RefuseRequest>(tell(functions, at(500), Woken{})).size(), 1u);
}

}  // namespace
}  // namespace chalk::functions
