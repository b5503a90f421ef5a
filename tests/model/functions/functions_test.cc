#include "model/functions/functions.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/support/said.h"

namespace chalk::functions {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }
Time ms(std::int64_t m) { return {milliseconds(m).nanos}; }
constexpr GroupId kGroup{1};

GroupRouting routing(std::uint32_t concurrency = 1) {
  GroupRouting one;
  one.group = kGroup;
  one.concurrency = concurrency;
  one.report_interval = seconds(2);
  return one;
}

TEST(Functions, QueuesACallUntilAReplicaIsReadyAndSaysSoAtOnce) {
  Functions functions(Config{});
  tell(functions, at(0), routing());
  const auto arrived = tell(functions, at(1), RequestArrived{{1}, kGroup});
  ASSERT_EQ(said<ReportDemand>(arrived).size(), 1u);
  EXPECT_EQ(said<ReportDemand>(arrived)[0].demand.queued, 1u);
  EXPECT_TRUE(said<Dispatch>(arrived).empty());
  const auto ready = said<Dispatch>(tell(functions, at(2), ReplicaReady{kGroup, {9}}));
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_TRUE(ready[0].cold);
  EXPECT_EQ(ready[0].sandbox, SandboxId{9});
}

TEST(Functions, GivesACallToTheReplicaThatWasUsedLast) {
  Functions functions(Config{});
  tell(functions, at(0), routing());
  for (std::uint64_t s = 1; s <= 3; ++s) tell(functions, at(1), ReplicaReady{kGroup, {s}});
  const auto first = said<Dispatch>(tell(functions, at(2), RequestArrived{{1}, kGroup}));
  const auto second = said<Dispatch>(tell(functions, at(2), RequestArrived{{2}, kGroup}));
  ASSERT_EQ(first.size() + second.size(), 2u);
  EXPECT_NE(first[0].sandbox, second[0].sandbox);
  tell(functions, at(3), RequestFinished{second[0].replica});
  tell(functions, at(4), RequestFinished{first[0].replica});
  const auto third = said<Dispatch>(tell(functions, at(5), RequestArrived{{3}, kGroup}));
  EXPECT_EQ(third[0].sandbox, first[0].sandbox);
  EXPECT_FALSE(third[0].cold);
}

TEST(Functions, RefusesWithTheNumbers) {
  Functions functions(Config{});
  GroupRouting one = routing();
  one.queue_max = 1;
  one.queue_timeout = seconds(5);
  tell(functions, at(0), one);
  tell(functions, at(1), RequestArrived{{1}, kGroup});
  EXPECT_EQ(said<RefuseRequest>(tell(functions, at(2), RequestArrived{{2}, kGroup})),
            (std::vector<RefuseRequest>{{{2}, kGroup, Rule::queue_full, 1, 1}}));
  EXPECT_TRUE(said<RefuseRequest>(tell(functions, ms(5'999), Woken{})).empty());
  EXPECT_EQ(said<RefuseRequest>(tell(functions, at(6), Woken{})),
            (std::vector<RefuseRequest>{
                {{1}, kGroup, Rule::queue_timeout, seconds(5).nanos, seconds(5).nanos}}));
  EXPECT_EQ(said<RefuseRequest>(tell(functions, at(7), RequestArrived{{3}, {8}}))[0].rule,
            Rule::unknown_group);
}

TEST(Functions, WithoutDelayedWarmStartsACallWaitsForAStartOfItsOwnButNotForEver) {
  Config config;
  config.patience = seconds(10);
  Functions functions(config);
  GroupRouting one = routing();
  one.delayed_warm_start = false;
  tell(functions, at(0), one);
  tell(functions, at(0), ReplicaReady{kGroup, {1}});
  const auto busy = said<Dispatch>(tell(functions, at(1), RequestArrived{{1}, kGroup}));
  tell(functions, at(1), RequestArrived{{2}, kGroup});
  EXPECT_TRUE(said<Dispatch>(tell(functions, at(2), RequestFinished{busy[0].replica})).empty());
  const auto patience = said<Dispatch>(tell(functions, at(11), Woken{}));
  ASSERT_EQ(patience.size(), 1u) << "its start never came";
  EXPECT_EQ(patience[0].request, RequestId{2});

  one.delayed_warm_start = true;
  Functions delayed(config);
  tell(delayed, at(0), one);
  tell(delayed, at(0), ReplicaReady{kGroup, {1}});
  const auto first = said<Dispatch>(tell(delayed, at(1), RequestArrived{{1}, kGroup}));
  tell(delayed, at(1), RequestArrived{{2}, kGroup});
  EXPECT_EQ(said<Dispatch>(tell(delayed, at(2), RequestFinished{first[0].replica})).size(), 1u);
}

TEST(Functions, ReturnsIdleReplicasAfterKeepAliveButNotBelowTheMinimum) {
  Functions functions(Config{});
  GroupRouting one = routing();
  one.keep_alive = seconds(60);
  one.min_replicas = 1;
  tell(functions, at(0), one);
  tell(functions, at(0), ReplicaReady{kGroup, {1}});
  tell(functions, at(10), ReplicaReady{kGroup, {2}});
  EXPECT_TRUE(said<ReturnReplica>(tell(functions, at(59), Woken{})).empty());
  EXPECT_EQ(said<ReturnReplica>(tell(functions, at(60), Woken{})),
            (std::vector<ReturnReplica>{{kGroup, {1}}}));
  EXPECT_TRUE(said<ReturnReplica>(tell(functions, at(500), Woken{})).empty());
}

TEST(Functions, DrainsIdleReplicasFirstAndLetsTheOthersFinish) {
  Functions functions(Config{});
  tell(functions, at(0), routing(2));
  tell(functions, at(0), ReplicaReady{kGroup, {1}});
  const auto call = said<Dispatch>(tell(functions, at(1), RequestArrived{{1}, kGroup}));
  tell(functions, at(2), ReplicaReady{kGroup, {2}});
  const auto drained = said<ReturnReplica>(tell(functions, at(3), DrainReplicas{kGroup, 2}));
  EXPECT_EQ(drained, (std::vector<ReturnReplica>{{kGroup, {2}}}));
  EXPECT_TRUE(said<Dispatch>(tell(functions, at(4), RequestArrived{{2}, kGroup})).empty());
  EXPECT_EQ(said<ReturnReplica>(tell(functions, at(5), RequestFinished{call[0].replica})),
            (std::vector<ReturnReplica>{{kGroup, {1}}}));
}

TEST(Functions, TellsHowManyCallsALostReplicaHad) {
  Functions functions(Config{});
  tell(functions, at(0), routing(3));
  tell(functions, at(0), ReplicaReady{kGroup, {1}});
  const auto call = said<Dispatch>(tell(functions, at(1), RequestArrived{{1}, kGroup}));
  tell(functions, at(1), RequestArrived{{2}, kGroup});
  const auto gone = said<AbortReplica>(tell(functions, at(2), ReplicaGone{kGroup, {1}}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].in_flight, 2u);
  EXPECT_TRUE(tell(functions, at(3), RequestFinished{call[0].replica}).empty()) << "late";
  EXPECT_TRUE(tell(functions, at(3), ReplicaGone{kGroup, {1}}).empty()) << "repeated";
}

// Random calls, ends, hang-ups and replicas that come and go: every call is dispatched once,
// refused once or still queued; no replica has more than `concurrency`, none gets a call after its
// drain; the totals that are reported are those that a naive count gives.
RC_GTEST_PROP(Functions, ServesEveryCallOnceWithinConcurrency, ()) {
  Config config;
  config.patience = seconds(5);
  Functions functions(config);
  GroupRouting one = routing(*rc::gen::inRange(1u, 4u));
  one.queue_max = *rc::gen::inRange(0u, 6u);
  one.queue_timeout = seconds(*rc::gen::inRange(0, 10));
  one.keep_alive = seconds(*rc::gen::inRange(0, 10));
  one.delayed_warm_start = *rc::gen::arbitrary<bool>();
  tell(functions, ms(0), one);
  struct Replica {
    std::multiset<ReplicaSlot> calls;
    bool draining = false;
  };
  std::map<SandboxId, Replica> replicas;
  std::set<RequestId> queued;
  std::uint64_t next_call = 1;
  std::uint64_t next_sandbox = 1;
  std::uint64_t arrivals = 0;
  std::uint64_t refusals = 0;
  std::int64_t now = 0;
  std::int64_t area = 0;  // calls open x milliseconds
  const auto open = [&] {
    std::size_t calls = queued.size();
    for (const auto& [id, replica] : replicas) calls += replica.calls.size();
    return static_cast<std::int64_t>(calls);
  };
  const auto hear = [&](const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) {
      if (const auto* gone = std::get_if<AbortReplica>(&effect)) {
        RC_ASSERT(gone->in_flight == replicas.at(gone->sandbox).calls.size());
      } else if (const auto* dispatch = std::get_if<Dispatch>(&effect)) {
        RC_ASSERT(queued.erase(dispatch->request) == 1);
        Replica& replica = replicas.at(dispatch->sandbox);
        RC_ASSERT(!replica.draining);
        replica.calls.insert(dispatch->replica);
        RC_ASSERT(replica.calls.size() <= one.concurrency);
      } else if (const auto* refused = std::get_if<RefuseRequest>(&effect)) {
        RC_ASSERT(queued.erase(refused->request) == 1);
        ++refusals;
      } else if (const auto* back = std::get_if<ReturnReplica>(&effect)) {
        RC_ASSERT(replicas.at(back->sandbox).calls.empty());
        replicas.erase(back->sandbox);
      } else if (const auto* report = std::get_if<ReportDemand>(&effect)) {
        RC_ASSERT(report->demand.arrivals == arrivals);
        RC_ASSERT(report->demand.refused == refusals);
        RC_ASSERT(report->demand.queued == queued.size());
        RC_ASSERT(report->demand.in_flight + report->demand.queued ==
                  static_cast<std::size_t>(open()));
        RC_ASSERT(report->demand.concurrency_ns == area * 1'000'000);
      }
    }
  };
  const auto draws = *rc::gen::container<std::vector<int>>(
      rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 10'000)));
  for (const int draw : draws) {
    const int which = draw / 10;
    const std::int64_t later = which % 7 * 250;
    area += open() * later;
    now += later;
    switch (draw % 10) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const RequestId call{next_call++};
        queued.insert(call);
        ++arrivals;
        hear(tell(functions, ms(now), RequestArrived{call, kGroup}));
        break;
      }
      case 4:
      case 5:
        for (auto& [id, replica] : replicas) {
          if (replica.calls.empty()) continue;
          const ReplicaSlot slot = *replica.calls.begin();
          replica.calls.erase(replica.calls.begin());
          hear(tell(functions, ms(now), RequestFinished{slot}));
          break;
        }
        break;
      case 6: {
        const SandboxId sandbox{next_sandbox++};
        replicas[sandbox];
        hear(tell(functions, ms(now), ReplicaReady{kGroup, sandbox}));
        break;
      }
      case 7:
        if (!replicas.empty()) {
          auto gone = replicas.begin();
          std::advance(gone, which % static_cast<int>(replicas.size()));
          const SandboxId sandbox = gone->first;
          const auto effects = tell(functions, ms(now), ReplicaGone{kGroup, sandbox});
          RC_ASSERT(said<AbortReplica>(effects).size() == (gone->second.calls.empty() ? 0u : 1u));
          if (!gone->second.calls.empty()) {
            RC_ASSERT(said<AbortReplica>(effects)[0].in_flight == gone->second.calls.size());
          }
          replicas.erase(gone);
        }
        break;
      case 8: hear(tell(functions, ms(now), Woken{})); break;
      default:
        if (which % 2 == 0 && !queued.empty()) {
          const RequestId call = *queued.begin();
          queued.erase(call);
          hear(tell(functions, ms(now), RequestAbandoned{call, kGroup}));
        } else {
          hear(tell(functions, ms(now), DrainReplicas{kGroup, 1}));
          for (const auto& [id, slot] : functions.state().by_sandbox) {
            replicas.at(id).draining = functions.state().replicas.at(slot).draining;
          }
        }
    }
  }
  RC_ASSERT(functions.state().groups[0].queued == queued.size());
}

}  // namespace
}  // namespace chalk::functions
