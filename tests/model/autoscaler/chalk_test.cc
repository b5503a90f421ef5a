// Our policy around a group whose calls come and end by chance: what it starts, keeps and turns.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>

#include "model/core/random.h"
#include "tests/model/autoscaler/group_world.h"

namespace chalk::autoscaler {
namespace {

GroupPolicy brief() {
  GroupPolicy out;
  out.max_replicas = 100'000;
  out.z_permille = 700;
  out.keep_alive = seconds(10);
  return out;
}

// Calls of a second on average, by chance, in steps of a tenth of one; starts take five seconds.
struct Crowd {
  GroupWorld world{brief()};
  Random random;
  std::deque<Time> starts{};  // that are under way
  std::uint32_t started = 0;  // of those asked for

  explicit Crowd(std::uint64_t key, Config config = {}) : random{key, 0} {
    world.autoscaler = Autoscaler(config);
    world.give(GroupAdded{kGroup, brief()});
  }
  const Group& group() const { return *world.autoscaler.group(kGroup); }
  std::uint32_t chances(std::uint64_t count, std::uint64_t permille) {
    std::uint32_t sum = 0;
    for (std::uint64_t i = 0; i < count; ++i) sum += random.below(1000) < permille;
    return sum;
  }
  void tenth(double rate) {
    world.run_until(world.now + milliseconds(100));
    world.count();
    Demand& totals = world.totals;
    totals.in_flight -= chances(totals.in_flight, 95);  // 1 - exp(-0.1)
    const std::uint32_t came = chances(static_cast<std::uint64_t>(std::lround(rate)) * 10, 10);
    totals.arrivals += came;
    totals.queued += came;
    for (; started < world.starts; ++started) starts.push_back(world.now + seconds(5));
    for (; !starts.empty() && starts.front() <= world.now; starts.pop_front()) {
      world.give(ReplicaStarted{kGroup, seconds(5)});
    }
    const std::uint32_t usable = world.ready() - std::min(world.ready(), world.draining);
    const std::uint32_t free = usable - std::min(usable, totals.in_flight);
    const std::uint32_t begun = std::min(free, totals.queued);
    totals.queued -= begun;
    totals.in_flight += begun;
    totals.peak = std::max(totals.peak, totals.in_flight + totals.queued);
    world.drain();
    const bool tells = totals.queued != 0 || world.now.nanos % seconds(2).nanos == 0;
    if (tells) world.report();
  }
  void run(double from, double to, const std::function<double(double)>& load,
           const std::function<void(double)>& each = [](double) {}) {
    for (double t = from; t < to; t += 0.1) tenth(load(t)), each(t);
  }
};

Config doubts(std::int64_t up, std::int64_t down, std::int64_t turn) {
  Config out;
  out.up_doubts = up;
  out.down_doubts = down;
  out.turn_doubts = turn;
  return out;
}

std::uint32_t turns_under_steady_load(Config config) {
  std::uint32_t sum = 0;
  for (std::uint64_t key = 0; key < 6; ++key) {
    Crowd crowd(key, config);
    crowd.run(0, 300, [](double) { return 50.0; });
    const std::uint32_t before = crowd.group().turns;
    crowd.run(300, 1500, [](double) { return 50.0; });
    sum += crowd.group().turns - before;
  }
  return sum;
}

TEST(Chalk, TurnsAsGoodAsNeverUnderSteadyLoad) {
  EXPECT_EQ(turns_under_steady_load({}), 0u);
  EXPECT_GE(turns_under_steady_load(doubts(0, 0, 0)), 4u);  // where a turn takes no evidence
}

// Replica-seconds over the load, per second of a fall that takes ten minutes.
double kept_in_a_fall(Config config) {
  Crowd crowd(1, config);
  const auto load = [](double t) { return 200 - 150 * std::clamp((t - 200) / 600, 0.0, 1.0); };
  crowd.run(0, 250, load);
  double kept = 0;
  crowd.run(250, 800, load, [&](double t) { kept += (crowd.world.ready() - load(t)) * 0.1; });
  return kept / 550;
}

TEST(Chalk, GoesDownWithAFallOnLightEvidence) {
  EXPECT_LE(kept_in_a_fall({}), 25.0);
  EXPECT_GE(kept_in_a_fall(doubts(3, 6, 6)), 25.0);
}

// What piles up in five seconds is served soon, by what is started for it and for the load.
TEST(Chalk, ServesACrowdAndStartsLittleMoreThanItNeeds) {
  for (std::uint64_t key = 0; key < 5; ++key) {
    Crowd crowd(key);
    crowd.run(0, 300, [](double) { return 20.0; });
    const std::uint32_t turns = crowd.group().turns;
    double gone = 0;
    std::uint32_t most = 0;
    crowd.run(300, 420, [](double) { return 200.0; }, [&](double t) {
      if (crowd.world.totals.queued > 200) gone = t - 300;
      most = std::max(most, crowd.world.ready());
    });
    EXPECT_LE(gone, 20.0);
    EXPECT_LE(most, 310u);
    EXPECT_LE(crowd.world.ready(), 235u);
    EXPECT_LE(crowd.group().turns - turns, 2u);
  }
}

// 100 calls of a second at once, on the replicas for them; then for long a little more comes than
// is served, until so many wait.
struct Started {
  std::uint32_t at_once = 0, later = 0;
};
Started started_for(std::uint32_t queued) {
  GroupWorld world(brief());
  const auto finish = [&] { world.finish_starts(seconds(5)); };
  world.set_queued(100);
  world.report();
  finish();
  world.set_busy(100);
  world.serve_until(at(60));
  finish();
  world.serve_until(at(300));
  finish();
  const std::uint32_t before = world.starts;
  while (world.totals.queued < queued) {
    finish();
    world.totals.arrivals += 1;
    world.totals.queued += 1;
    world.serve_until(world.now + seconds(1));
  }
  Started out{world.starts - before, 0};
  world.serve_until(world.now + seconds(4));  // what was started is under way
  out.later = world.starts - before - out.at_once;
  return out;
}

TEST(Chalk, AQueueThatChanceMakesStartsNothing) {
  EXPECT_EQ(started_for(50).at_once, 0u);  // five times the root of the load
}

// In 99 seconds so many calls of a second, one after the other; now there is none. A start takes so
// long that of those no more are counted on, and what chance adds is left out.
TEST(Chalk, ALoadOfOneReplicaIsWorthOneBetweenItsCallsAndLessIsNot) {
  const auto started_after = [](std::uint64_t calls) {
    GroupPolicy policy = brief();
    policy.z_permille = 0;
    GroupWorld world(policy);
    world.give(ReplicaStarted{kGroup, seconds(1000)});
    world.give(ReplicaEnded{kGroup, true, false});
    world.report();
    world.now = at(99);
    world.totals.arrivals = calls;
    world.totals.busy_ns = world.totals.concurrency_ns = seconds(1).nanos * std::int64_t(calls);
    world.totals.peak = 3;
    world.report();
    return world.starts;
  };
  EXPECT_EQ(started_after(98), 0u) << "its keep-alive decides";
  EXPECT_EQ(started_after(99), 1u);
}

// In 99 seconds 891 calls of a second, 9 at once and 0.42 more or less: 7.7 are sure, 8.6 are not.
TEST(Chalk, OrdersNoMoreThanIsSureToBeNeeded) {
  GroupPolicy policy = brief();
  policy.z_permille = 0;
  GroupWorld world(policy);
  world.give(ReplicaStarted{kGroup, seconds(1000)});
  world.give(ReplicaEnded{kGroup, true, false});
  world.report();
  world.now = at(99);
  world.totals.arrivals = 891;
  world.totals.busy_ns = world.totals.concurrency_ns = seconds(891).nanos;
  world.totals.peak = 30;
  world.report();
  EXPECT_EQ(world.starts, 8u);
}

// A hundred calls at once that take so long each, starts take a second; then 130 are here.
std::uint32_t started_for_a_swing(std::int64_t takes) {
  GroupWorld world(brief());
  const auto finish = [&] { world.finish_starts(seconds(1)); };
  world.set_queued(100);
  for (int s = 0; s < 300; ++s) {
    world.report();
    finish();
    if (s == 2) world.set_busy(100);
    if (s > 2) world.totals.arrivals += static_cast<std::uint64_t>(100 / takes);
    world.run_until(world.now + seconds(1));
  }
  world.report();
  finish();
  const std::uint32_t before = world.starts;
  world.set_busy(130);
  world.report();
  return world.starts - before;
}

// What is started for short calls comes when they have ended: by chance alone there are so many.
TEST(Chalk, ASwingIsFollowedWhereItLastsLongerThanAStartPays) {
  EXPECT_EQ(started_for_a_swing(1), 0u);
  EXPECT_GE(started_for_a_swing(100), 15u);
}

// The plan has come down from 150, so a queue has to be surer than where it goes up: starts take a
// second, and a queue of 8.6 roots of the load is there by chance in one case of exp(6).
TEST(Chalk, AQueueTurnsAPlanOnStrongEvidenceOnly) {
  GroupWorld world(brief());
  const auto finish = [&] { world.finish_starts(seconds(1)); };
  world.set_queued(150);
  world.report();
  finish();
  world.set_busy(150);
  for (int s = 0; s < 300; ++s) {
    world.serve_until(world.now + seconds(1));
    if (s == 60) world.set_busy(100);
    finish();
    world.drain();
  }
  ASSERT_LE(world.ready(), 112u);
  ASSERT_GE(world.ready(), 100u);
  const std::uint32_t before = world.starts;
  const auto wait_for = [&](std::uint32_t calls) {  // one more a second than is served
    for (; world.totals.queued < calls; finish()) {
      ++world.totals.arrivals;
      ++world.totals.queued;
      world.serve_until(world.now + seconds(1));
    }
    return world.starts - before;
  };
  EXPECT_EQ(wait_for(85), 0u);
  EXPECT_GE(wait_for(150), 1u);
}

TEST(Chalk, ALongQueueStartsWhatServesItInThreeStartTimes) {
  const Started started = started_for(400);
  EXPECT_GE(started.at_once, 15u);
  EXPECT_LE(started.at_once, 25u);
  EXPECT_LE(started.later, 1u);
}

}  // namespace
}  // namespace chalk::autoscaler
