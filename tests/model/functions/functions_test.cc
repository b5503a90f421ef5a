#include "model/functions/functions.h"

#include <gtest/gtest.h>

#include "rig.h"

namespace chalk::functions {
namespace {

RequestId call(std::uint64_t n) { return {n}; }
SandboxId sandbox(std::uint64_t n) { return {n}; }

std::vector<Effect> arrive(Functions& functions, Time now, std::uint64_t n) {
  return tell(functions, now, RequestArrived{call(n), kGroup});
}
// The call must be dispatched at once.
Dispatch serve(Functions& functions, Time now, std::uint64_t n) {
  const auto dispatched = said<Dispatch>(arrive(functions, now, n));
  EXPECT_EQ(dispatched.size(), 1u);
  return dispatched.empty() ? Dispatch{} : dispatched[0];
}
std::vector<Effect> finish(Functions& functions, Time now, const Dispatch& dispatched) {
  return tell(functions, now, RequestFinished{dispatched.replica});
}

TEST(Functions, ChoosesTheReplicaUsedMostRecently) {
  Functions functions = with(routing(), 3);
  const Dispatch a = serve(functions, at(1), 1);
  const Dispatch b = serve(functions, at(1), 2);
  EXPECT_EQ(a.sandbox, sandbox(3));
  EXPECT_EQ(b.sandbox, sandbox(2));
  EXPECT_FALSE(a.cold);
  finish(functions, at(2), a);
  finish(functions, at(3), b);
  EXPECT_EQ(serve(functions, at(4), 3).sandbox, sandbox(2));
  EXPECT_EQ(serve(functions, at(4), 4).sandbox, sandbox(3));
  EXPECT_EQ(serve(functions, at(4), 5).sandbox, sandbox(1));
}

TEST(Functions, FillsOneReplicaToItsConcurrencyBeforeTheNext) {
  GroupRouting two = routing();
  two.concurrency = 2;
  Functions functions = with(two, 2);
  EXPECT_EQ(serve(functions, at(1), 1).sandbox, sandbox(2));
  EXPECT_EQ(serve(functions, at(1), 2).sandbox, sandbox(2));
  EXPECT_EQ(serve(functions, at(1), 3).sandbox, sandbox(1));
  EXPECT_EQ(serve(functions, at(1), 4).sandbox, sandbox(1));
  EXPECT_TRUE(said<Dispatch>(arrive(functions, at(1), 5)).empty());
}

TEST(Functions, TakesTheEndOfACallOnce) {
  Functions functions = with(routing(), 1);
  const Dispatch call = serve(functions, at(1), 1);
  finish(functions, at(2), call);
  EXPECT_TRUE(finish(functions, at(3), call).empty());
  EXPECT_EQ(serve(functions, at(4), 2).replica, call.replica);
}

TEST(Functions, DoesNotLowerTheConcurrencyOfRunningReplicas) {
  GroupRouting two = routing();
  two.concurrency = 2;
  Functions functions = with(two, 1);
  two.concurrency = 1;
  tell(functions, at(1), two);
  serve(functions, at(1), 1);
  serve(functions, at(1), 2);
}

TEST(Functions, RefusesAnUnknownGroup) {
  Functions functions = with(routing());
  for (const std::uint64_t group : {0u, 2u}) {
    const auto said_so =
        said<RefuseRequest>(tell(functions, at(1), RequestArrived{call(7), {group}}));
    ASSERT_EQ(said_so.size(), 1u);
    EXPECT_EQ(said_so[0], (RefuseRequest{call(7), {group}, Rule::unknown_group, 0, 0}));
  }
}

TEST(Functions, RefusesBeyondTheQueueWithItsNumbers) {
  GroupRouting small = routing();
  small.queue_max = 2;
  Functions functions = with(small);
  EXPECT_TRUE(said<RefuseRequest>(arrive(functions, at(1), 1)).empty());
  EXPECT_TRUE(said<RefuseRequest>(arrive(functions, at(1), 2)).empty());
  const auto refused = said<RefuseRequest>(arrive(functions, at(1), 3));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (RefuseRequest{call(3), kGroup, Rule::queue_full, 2, 2}));
  tell(functions, at(1), RequestAbandoned{call(1), kGroup});
  EXPECT_TRUE(said<RefuseRequest>(arrive(functions, at(1), 4)).empty());
}

TEST(Functions, RefusesWhatHasWaitedTooLongWithItsNumbers) {
  GroupRouting timed = routing();
  timed.queue_timeout = seconds(5);
  Functions functions = with(timed);
  arrive(functions, at(1), 1);
  arrive(functions, at(3), 2);
  EXPECT_TRUE(said<RefuseRequest>(run_until(functions, at(6) - nanoseconds(1))).empty());
  const auto first = said<RefuseRequest>(run_until(functions, at(6)));
  ASSERT_EQ(first.size(), 1u);
  const std::int64_t limit = seconds(5).nanos;
  EXPECT_EQ(first[0], (RefuseRequest{call(1), kGroup, Rule::queue_timeout, limit, limit}));
  const auto second = said<RefuseRequest>(run_until(functions, at(8)));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].request, call(2));
  EXPECT_TRUE(said<Dispatch>(tell(functions, at(9), ReplicaReady{kGroup, sandbox(1)})).empty());
}

TEST(Functions, GivesANewReplicaToTheFirstInLineAndCallsItCold) {
  GroupRouting two = routing();
  two.concurrency = 2;
  Functions functions = with(two);
  for (std::uint64_t n = 1; n <= 4; ++n) arrive(functions, at(1), n);
  tell(functions, at(2), RequestAbandoned{call(2), kGroup});
  const auto taken = said<Dispatch>(tell(functions, at(3), ReplicaReady{kGroup, sandbox(1)}));
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].request, call(1));
  EXPECT_TRUE(taken[0].cold);
  EXPECT_EQ(taken[1].request, call(3));
  EXPECT_FALSE(taken[1].cold);
  EXPECT_TRUE(tell(functions, at(3), ReplicaReady{kGroup, sandbox(1)}).empty());  // said twice
}

TEST(Functions, WithDelayedWarmStartAWaitingCallTakesTheFirstReplicaThatFallsFree) {
  Functions functions = with(routing(), 1);
  const Dispatch running = serve(functions, at(1), 1);
  arrive(functions, at(2), 2);
  const auto next = said<Dispatch>(finish(functions, at(3), running));
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].request, call(2));
  EXPECT_FALSE(next[0].cold);
}

TEST(Functions, WithoutDelayedWarmStartAWaitingCallWaitsForItsOwnStart) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  Functions functions = with(strict, 1);
  const Dispatch running = serve(functions, at(1), 1);
  arrive(functions, at(2), 2);
  EXPECT_TRUE(said<Dispatch>(finish(functions, at(3), running)).empty());
  EXPECT_EQ(serve(functions, at(4), 3).sandbox, sandbox(1));  // a new call takes the free replica
  const auto own = said<Dispatch>(tell(functions, at(5), ReplicaReady{kGroup, sandbox(2)}));
  ASSERT_EQ(own.size(), 1u);
  EXPECT_EQ(own[0].request, call(2));
  EXPECT_TRUE(own[0].cold);
}

TEST(Functions, ACallThatHasLostPatienceTakesAnyReplica) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  Config config;
  config.patience = seconds(10);
  Functions functions = with(strict, 1, config);
  const Dispatch running = serve(functions, at(1), 1);
  arrive(functions, at(2), 2);
  arrive(functions, at(3), 3);
  EXPECT_TRUE(said<Dispatch>(run_until(functions, at(12))).empty());  // no replica is free
  finish(functions, at(13), running);
  EXPECT_TRUE(said<Dispatch>(run_until(functions, at(22) - nanoseconds(1))).empty());
  const auto taken = said<Dispatch>(run_until(functions, at(22)));
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].request, call(2));
}

TEST(Functions, ADrainedReplicaGetsNothingAndIsReturnedWhenIdle) {
  GroupRouting two = routing();
  two.concurrency = 2;
  Functions functions = with(two, 1);
  const Dispatch running = serve(functions, at(1), 1);
  EXPECT_TRUE(returned(tell(functions, at(2), DrainReplicas{kGroup, 1})).empty());
  EXPECT_TRUE(said<Dispatch>(arrive(functions, at(3), 2)).empty());
  const auto last = finish(functions, at(4), running);
  EXPECT_EQ(returned(last), Sandboxes{1});
  EXPECT_TRUE(said<Dispatch>(last).empty());
  EXPECT_TRUE(tell(functions, at(5), ReplicaGone{kGroup, sandbox(1)}).empty());
}

TEST(Functions, DrainsTheIdleAndLeastRecentlyUsedFirstAndLeavesTheFull) {
  GroupRouting two = routing();
  two.concurrency = 2;
  Functions functions = with(two, 4);
  serve(functions, at(1), 1), serve(functions, at(1), 2);  // 4 is full
  serve(functions, at(1), 3);                              // 3 has one call
  EXPECT_EQ(returned(tell(functions, at(2), DrainReplicas{kGroup, 1})), Sandboxes{1});
  EXPECT_EQ(returned(tell(functions, at(2), DrainReplicas{kGroup, 9})), Sandboxes{2});
  const auto& state = functions.state();
  EXPECT_EQ(state.groups[0].ready, 1u);
  EXPECT_TRUE(state.replicas.at(state.by_sandbox.at(sandbox(3))).draining);
  EXPECT_FALSE(state.replicas.at(state.by_sandbox.at(sandbox(4))).draining);
}

TEST(Functions, NeverDrainsBelowTheMinimum) {
  GroupRouting kept = routing();
  kept.min_replicas = 2;
  Functions functions = with(kept, 3);
  EXPECT_EQ(returned(tell(functions, at(1), DrainReplicas{kGroup, 3})), Sandboxes{1});
}

TEST(Functions, ReturnsReplicasIdleForKeepAliveButNotBelowTheMinimum) {
  GroupRouting kept = routing();
  kept.keep_alive = seconds(60);
  kept.min_replicas = 1;
  Functions functions = with(kept, 3);
  const Dispatch used = serve(functions, at(30), 1);
  EXPECT_EQ(used.sandbox, sandbox(3));
  finish(functions, at(40), used);
  EXPECT_EQ(returned(run_until(functions, at(60) - nanoseconds(1))), Sandboxes{});
  EXPECT_EQ(returned(run_until(functions, at(60))), (Sandboxes{1, 2}));
  EXPECT_EQ(returned(run_until(functions, at(1000))), Sandboxes{});
  EXPECT_EQ(serve(functions, at(1000), 2).sandbox, sandbox(3));
}

TEST(Functions, DoesNotReturnABusyReplicaHoweverLongItsCall) {
  GroupRouting kept = routing();
  kept.keep_alive = seconds(60);
  Functions functions = with(kept, 1);
  const Dispatch used = serve(functions, at(1), 1);
  EXPECT_EQ(returned(run_until(functions, at(500))), Sandboxes{});
  finish(functions, at(500), used);
  EXPECT_EQ(returned(run_until(functions, at(560) - nanoseconds(1))), Sandboxes{});
  EXPECT_EQ(returned(run_until(functions, at(560))), Sandboxes{1});
}

TEST(Functions, AbortsTheCallsOfAReplicaThatIsGoneAndCountsThem) {
  GroupRouting three = routing();
  three.concurrency = 3;
  Functions functions = with(three, 1);
  const Dispatch running = serve(functions, at(1), 1);
  serve(functions, at(1), 2);
  const auto gone = said<AbortReplica>(tell(functions, at(2), ReplicaGone{kGroup, sandbox(1)}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0], (AbortReplica{running.replica, sandbox(1), 2}));
  EXPECT_TRUE(said<Dispatch>(finish(functions, at(3), running)).empty());  // late
  EXPECT_TRUE(tell(functions, at(3), ReplicaGone{kGroup, sandbox(1)}).empty());
  tell(functions, at(4), ReplicaReady{kGroup, sandbox(2)});
  EXPECT_TRUE(said<AbortReplica>(tell(functions, at(5), ReplicaGone{kGroup, sandbox(2)})).empty());
}

TEST(Functions, ReportsAtOnceWhenACallWaitsAndZeroWhenAllIsDone) {
  Functions functions = with(routing(), 1);
  run_until(functions, at(100));
  const Dispatch running = serve(functions, at(100), 1);
  const auto held = said<ReportDemand>(arrive(functions, at(100), 2));
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].demand, (Demand{kGroup, at(100), 0, 2, 0, 1, 2, 1, 1, 1}));
  EXPECT_TRUE(said<ReportDemand>(arrive(functions, at(100), 3)).empty());  // a crowd: soon, not now
  const auto crowd = said<ReportDemand>(run_until(functions, at(100) + milliseconds(100)));
  ASSERT_EQ(crowd.size(), 1u);
  EXPECT_EQ(crowd[0].demand.holds, 2u);
  finish(functions, at(102), running);
  finish(functions, at(103), running);
  finish(functions, at(104), running);
  const auto last = said<ReportDemand>(run_until(functions, at(200)));
  ASSERT_FALSE(last.empty());
  // Three calls for two seconds, two for one, one for one.
  EXPECT_EQ(last.back().demand.concurrency_ns, seconds(3 * 2 + 2 + 1).nanos);
  EXPECT_EQ(last.back().demand.busy_ns, seconds(2 + 1 + 1).nanos);  // one at once
  EXPECT_EQ(last.back().demand.in_flight + last.back().demand.queued, 0u);
  EXPECT_TRUE(said<ReportDemand>(run_until(functions, at(300))).empty());
}

TEST(Functions, ReturnsAReplicaThatItHasNoRoomFor) {
  Config config;
  config.replicas_max = 1;
  Functions functions = with(routing(), 1, config);
  EXPECT_EQ(returned(tell(functions, at(1), ReplicaReady{kGroup, sandbox(2)})), Sandboxes{2});
}

TEST(Functions, AChangedKeepAliveHoldsForReplicasThatAreIdleAlready) {
  Functions functions = with(routing(), 1);  // control decides
  GroupRouting kept = routing();
  kept.keep_alive = seconds(60);
  tell(functions, at(10), kept);
  EXPECT_EQ(returned(run_until(functions, at(60))), Sandboxes{1});
}

TEST(Functions, AChangedQueueTimeoutHoldsForCallsThatWaitAlready) {
  Functions functions = with(routing());
  arrive(functions, at(1), 1);
  GroupRouting timed = routing();
  timed.queue_timeout = seconds(5);
  tell(functions, at(2), timed);
  EXPECT_EQ(said<RefuseRequest>(run_until(functions, at(6))).size(), 1u);
}

TEST(Functions, NobodyWaitsBesideAFreeReplicaWhenDelayedWarmStartIsTurnedOn) {
  GroupRouting strict = routing();
  strict.delayed_warm_start = false;
  Functions functions = with(strict, 1);
  const Dispatch running = serve(functions, at(1), 1);
  arrive(functions, at(2), 2);
  finish(functions, at(3), running);
  const auto taken = said<Dispatch>(tell(functions, at(4), routing()));
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].request, call(2));
}

TEST(Functions, AHangUpOfNobodyChangesNothing) {
  Functions functions = with(routing());
  arrive(functions, at(1), 1);
  tell(functions, at(2), RequestAbandoned{call(1), kGroup});
  for (const std::uint64_t n : {0u, 1u, 9u}) tell(functions, at(2), RequestAbandoned{{n}, kGroup});
  EXPECT_EQ(functions.state().groups[0].queue.size(), 0u);
}

}  // namespace
}  // namespace chalk::functions
