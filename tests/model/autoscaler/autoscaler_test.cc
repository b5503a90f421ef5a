#include "model/autoscaler/autoscaler.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tests/support/said.h"

namespace chalk::autoscaler {
namespace {

using test::said;

Time at(std::int64_t s) { return {seconds(s).nanos}; }
constexpr GroupId kGroup{1};

// A group under demand given second by second. Replicas start after `start` seconds and serve at
// once; those that are asked to stop end at the next second.
struct Rig {
  Autoscaler scaler{Config{}};
  std::int64_t start = 1;
  std::int64_t second = 0;
  std::uint32_t ready = 0;
  std::vector<std::int64_t> starting{};  // when each will be ready
  std::uint32_t ordered = 0;             // starts, in all
  std::uint32_t stopped = 0;
  std::uint32_t most = 0;  // ready and starting
  Demand demand{};

  explicit Rig(GroupPolicy policy) {
    demand.group = kGroup;
    tell(GroupAdded{kGroup, policy});
  }
  void tell(const Event& event) {
    std::vector<Effect> effects;
    scaler.step(at(second), event, effects);
    for (const Effect& effect : effects) {
      if (const auto* more = std::get_if<StartReplicas>(&effect)) {
        for (std::uint32_t i = 0; i < more->count; ++i) {
          starting.push_back(second + start);
          ++ordered;
          tell(ReplicaStarting{kGroup});
        }
      } else if (const auto* less = std::get_if<StopReplicas>(&effect)) {
        for (std::uint32_t i = 0; i < less->count; ++i) {
          --ready;
          ++stopped;
          tell(ReplicaEnded{kGroup, true});
        }
      }
    }
    most = std::max(most, replicas());
  }
  std::uint32_t replicas() const { return ready + static_cast<std::uint32_t>(starting.size()); }
  // One second with so many calls open the whole time.
  void pass(std::uint32_t open) {
    ++second;
    for (auto one = starting.begin(); one != starting.end();) {
      if (*one > second) {
        ++one;
        continue;
      }
      one = starting.erase(one);
      ++ready;
      tell(ReplicaStarted{kGroup, seconds(start)});
    }
    demand.at = at(second);
    demand.concurrency_ns += std::int64_t{open} * seconds(1).nanos;
    const std::uint32_t served = std::min(open, ready);
    if (open > demand.in_flight + demand.queued) {
      demand.arrivals += open - (demand.in_flight + demand.queued);
      demand.holds += open > ready ? open - std::max(ready, demand.in_flight + demand.queued) : 0;
    }
    demand.in_flight = served;
    demand.queued = open - served;
    demand.peak = open;
    demand.ready = ready;
    tell(DemandReported{demand});
    tell(Woken{});
  }
};

GroupPolicy policy(Kind kind, std::uint32_t min = 0, std::uint32_t max = 1000) {
  GroupPolicy one;
  one.kind = kind;
  one.min_replicas = min;
  one.max_replicas = max;
  one.keep_alive = seconds(60);
  return one;
}

TEST(Autoscaler, KeepsTheMinimumWithoutAnyDemand) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::chalk}) {
    Rig rig(policy(kind, 2));
    for (int i = 0; i < 300; ++i) rig.pass(0);
    EXPECT_EQ(rig.replicas(), 2u);
    EXPECT_EQ(rig.ordered, 2u);
  }
}

TEST(Autoscaler, NeverOrdersBeyondTheMaximum) {
  for (const Kind kind : {Kind::fixed, Kind::kpa, Kind::chalk}) {
    Rig rig(policy(kind, 0, 5));
    rig.start = 30;
    for (std::uint32_t i = 0; i < 200; ++i) rig.pass(i % 90);
    EXPECT_EQ(rig.most, 5u);
  }
}

// Knative serving #3153, #6743: with constant load there is nothing to decide.
TEST(Autoscaler, ChangesNothingUnderConstantLoad) {
  Rig rig(policy(Kind::chalk));
  for (int i = 0; i < 120; ++i) rig.pass(10);
  const auto ordered = rig.ordered;
  EXPECT_GE(rig.ready, 10u);
  for (int i = 0; i < 1800; ++i) rig.pass(10);
  EXPECT_EQ(rig.ordered, ordered);
  EXPECT_EQ(rig.stopped, 0u);
}

// Knative serving #9121, #10275: replicas that take long to start are ordered once.
TEST(Autoscaler, DoesNotOrderAgainWhatIsStillStarting) {
  Rig slow(policy(Kind::chalk));
  slow.start = 120;
  for (int i = 0; i < 119; ++i) slow.pass(10);
  EXPECT_GE(slow.replicas(), 10u);
  EXPECT_LE(slow.replicas(), 14u) << "10 and their root, not one more order with every report";
  EXPECT_EQ(slow.stopped, 0u);
}

// Knative serving #13284: what demand of the window needed stays, also when calls come in bursts.
TEST(Autoscaler, KeepsWhatTheTrailingWindowNeededAndLetsItGoAfterwards) {
  Rig rig(policy(Kind::chalk));
  for (int i = 0; i < 10; ++i) rig.pass(20);
  for (int i = 0; i < 50; ++i) {
    rig.pass(0);
    EXPECT_GE(rig.ready, 20u) << "second " << rig.second;
  }
  for (int i = 0; i < 120; ++i) rig.pass(0);
  EXPECT_EQ(rig.replicas(), 0u);
}

TEST(Autoscaler, FixedAnswersEachHeldCallWithOneStart) {
  Rig rig(policy(Kind::fixed));
  rig.pass(3);
  EXPECT_EQ(rig.ordered, 3u);
  for (int i = 0; i < 20; ++i) rig.pass(3);
  EXPECT_EQ(rig.ordered, 3u);
  rig.pass(5);
  EXPECT_EQ(rig.ordered, 5u);
}

TEST(Autoscaler, KpaPanicsAtTwiceWhatIsReadyAndStopsNothingInPanic) {
  Rig rig(policy(Kind::kpa));
  for (int i = 0; i < 100; ++i) rig.pass(7);
  EXPECT_EQ(rig.ready, 10u) << "7 calls at 70 %";
  EXPECT_FALSE(rig.scaler.state().groups[0].panic);
  for (int i = 0; i < 7; ++i) rig.pass(21);
  EXPECT_TRUE(rig.scaler.state().groups[0].panic);
  EXPECT_GE(rig.replicas(), 30u) << "the average of 6 s, not of 60";
  const auto stopped = rig.stopped;
  for (int i = 0; i < 50; ++i) rig.pass(1);
  EXPECT_EQ(rig.stopped, stopped) << "no scaling down in panic";
  for (int i = 0; i < 200; ++i) rig.pass(1);
  EXPECT_LE(rig.ready, 2u);
}

TEST(Autoscaler, KpaGoesToZeroOnlyAfterTheGrace) {
  Rig rig(policy(Kind::kpa));
  for (int i = 0; i < 70; ++i) rig.pass(1);
  for (int i = 0; i < 80; ++i) {
    rig.pass(0);
    EXPECT_GE(rig.ready, 1u) << "60 s of average and 30 s of grace";
  }
  for (int i = 0; i < 60; ++i) rig.pass(0);
  EXPECT_EQ(rig.ready, 0u);
}

TEST(Autoscaler, IgnoresReportsThatAreRepeatedOrLate) {
  Rig rig(policy(Kind::chalk));
  for (int i = 0; i < 30; ++i) rig.pass(4);
  const auto before = rig.scaler.state().groups[0].last;
  const auto ordered = rig.ordered;
  Demand late = rig.demand;
  late.at = at(3);
  late.queued = 500;
  rig.tell(DemandReported{late});
  EXPECT_EQ(rig.scaler.state().groups[0].last, before);
  rig.tell(DemandReported{rig.demand});
  EXPECT_EQ(rig.ordered, ordered);
}

// Invariants 2 and 6 under any demand, start time and limit: never beyond the maximum, no order
// while what is there and starting covers what calls ever needed, and no stop while calls wait.
RC_GTEST_PROP(Autoscaler, NeverOrdersMoreThanCallsEverNeededNorStopsWhileSomeWait, ()) {
  const auto max = *rc::gen::inRange(1u, 40u);
  Rig rig(policy(Kind::chalk, 0, max));
  rig.start = *rc::gen::inRange(1, 60);
  std::uint32_t peak = 0;
  const auto steps = *rc::gen::container<std::vector<std::pair<std::uint32_t, int>>>(
      rc::gen::pair(rc::gen::inRange(0u, 30u), rc::gen::inRange(1, 40)));
  for (const auto& [open, lasts] : steps) {
    peak = std::max(peak, open);
    for (int i = 0; i < lasts; ++i) {
      const std::uint32_t waited = rig.demand.queued;
      const std::uint32_t stopped = rig.stopped;
      rig.pass(open);
      RC_ASSERT(rig.replicas() <= max);
      std::uint32_t root = 0;
      while (root * root < peak) ++root;
      RC_ASSERT(rig.replicas() <= peak + root + 1);
      if (waited != 0 && rig.demand.queued != 0) RC_ASSERT(rig.stopped == stopped);
    }
  }
}

}  // namespace
}  // namespace chalk::autoscaler
