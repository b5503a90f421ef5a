#include "model/autoscaler/load.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/core/random.h"

namespace chalk::autoscaler {
namespace {

// Calls of one second each that come by chance, `rate` a second, told every two seconds.
struct Calls {
  std::vector<Sample> history;
  Sample total;
  Random random{7, 0};
  void come(std::int64_t rate, int for_seconds) {
    for (int s = 0; s < for_seconds; s += 2) {
      std::uint64_t came = 0;  // binomial of many small chances
      for (int i = 0; i < 2000; ++i) came += random.below(1000) < static_cast<std::uint64_t>(rate);
      total.at = total.at + seconds(2);
      total.arrivals += came;
      total.finished += came;
      total.busy_ns += seconds(static_cast<std::int64_t>(came)).nanos;
      remember(history, total, seconds(600));
    }
  }
  Load load() const { return load_of(history, total, 4); }
};

TEST(Load, IsKnownToAFewPercentUnderSteadyLoad) {
  Calls calls;
  calls.come(100, 900);
  const Load load = calls.load();
  EXPECT_GE(load.window, seconds(400));
  EXPECT_NEAR(static_cast<double>(load.mean_milli), 100'000, 2'000);
  EXPECT_LE(load.doubt_milli, 1000);
}

TEST(Load, ForgetsWhatWasBeforeAStepWithinTwoReports) {
  Calls calls;
  calls.come(20, 600);
  calls.come(200, 4);
  EXPECT_LE(calls.load().window, seconds(6));
  EXPECT_NEAR(static_cast<double>(calls.load().mean_milli), 200'000, 40'000);
  calls.come(20, 10);
  EXPECT_LE(calls.load().mean_milli, 40'000);
}

// Arrivals and service times are the load; a queue is not.
TEST(Load, CallsThatPileUpAreNotLoad) {
  Calls calls;
  calls.come(10, 60);
  const Sample before = calls.total;
  for (int s = 0; s < 30; s += 2) {  // they go on coming, none is begun
    calls.total.at = calls.total.at + seconds(2);
    calls.total.arrivals += 20;
    remember(calls.history, calls.total, seconds(600));
  }
  EXPECT_EQ(calls.total.busy_ns, before.busy_ns);
  EXPECT_LE(calls.load().mean_milli, 12'000);
}

// Two reports of one nanosecond are one moment, of which the later holds.
TEST(Load, TwoReportsOfOneMomentAreOne) {
  std::vector<Sample> history;
  Sample sample;
  for (int i = 0; i < 3; ++i) {
    ++sample.arrivals;
    remember(history, sample, seconds(600));
  }
  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].arrivals, 3u);
  sample.at = Time{seconds(5).nanos};
  EXPECT_EQ(load_of(history, sample, 3).mean_milli, 0);
}

TEST(Load, SurvivorsFallAsTheExponentialDoes) {
  for (const int tenths : {0, 1, 5, 10, 20, 40}) {
    const double exact = 1000 * std::exp(-tenths / 10.0);
    EXPECT_NEAR(static_cast<double>(survivors_permille(seconds(10), seconds(tenths))), exact, 20);
  }
  EXPECT_EQ(survivors_permille({}, seconds(10)), 0);
}

}  // namespace
}  // namespace chalk::autoscaler
