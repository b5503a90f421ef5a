#include "model/autoscaler/load.h"

#include <gtest/gtest.h>

#include <algorithm>
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
  // They come, `served` a second are, and the others wait.
  void wait(std::uint64_t rate, int for_seconds, std::uint64_t served) {
    for (int s = 0; s < for_seconds; s += 2) {
      total.at = total.at + seconds(2);
      total.arrivals += rate * 2;
      const std::uint64_t begun = std::min<std::uint64_t>(served * 2, total.queued + rate * 2);
      total.queued += static_cast<std::uint32_t>(rate * 2 - begun);
      total.finished += begun;
      total.busy_ns += seconds(static_cast<std::int64_t>(begun)).nanos;
      remember(history, total, seconds(600));
    }
  }
  // Two seconds of calls that end by chance, after one on average, in steps of 20 ms.
  std::uint64_t here = 0;
  void serve(std::uint64_t rate, bool told) {
    for (int step = 0; step < 100; ++step) {
      total.busy_ns += milliseconds(20).nanos * static_cast<std::int64_t>(here);
      std::uint64_t ended = 0;
      for (std::uint64_t i = 0; i < here; ++i) ended += random.below(50) == 0;
      total.finished += ended;
      here -= ended;
      for (std::uint64_t i = 0; i < rate; ++i) {
        const bool comes = random.below(50) == 0;
        total.arrivals += comes;
        here += comes;
      }
    }
    total.at = total.at + seconds(2);
    if (told) remember(history, total, seconds(600));
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

// Nor is the work of serving them afterwards, when all replicas are busy.
TEST(Load, ServingWhatHadPiledUpIsNotLoad) {
  Calls calls;
  calls.come(10, 300);
  calls.wait(10, 30, 0);
  calls.wait(10, 30, 20);
  ASSERT_EQ(calls.total.queued, 0u);
  EXPECT_LE(calls.load().mean_milli, 12'000);
}

// Calls that take three times as long from one moment on: their arrivals do not say so.
TEST(Load, CallsThatTakeLongerThanTheyDidAreMoreLoad) {
  Calls calls;
  calls.come(20, 300);
  for (int s = 0; s < 30; s += 2) {
    calls.total.busy_ns += seconds(80).nanos;  // 40 more in service than arrivals bring
    calls.wait(20, 2, 20);
  }
  EXPECT_GE(calls.load().mean_milli, 50'000);
}

// Exponential times, as they are: what is told is off by about as much as it says.
TEST(Load, IsAsFarOffAsItSays) {
  double off = 0;
  int far = 0;
  constexpr int kTimes = 200;
  for (int i = 0; i < kTimes; ++i) {
    Calls calls;
    calls.random = Random{static_cast<std::uint64_t>(i), 0};
    for (int s = 0; s < 120; s += 2) calls.serve(25, s >= 10);
    const Load load = calls.load();
    const double by = std::abs(static_cast<double>(load.mean_milli) - 25'000) /
                      static_cast<double>(load.doubt_milli);
    off += by / kTimes;
    far += by > 3;
  }
  EXPECT_GT(off, 0.55);  // 0.8 of a normal figure
  EXPECT_LT(off, 1.05);
  EXPECT_LE(far, 4);
}

TEST(Load, IsNotKnownBeforeACallHasShownHowLongItTakes) {
  std::vector<Sample> history(1);
  Sample sample;
  sample.at = Time{seconds(10).nanos};
  sample.arrivals = 3000;
  const Load load = load_of(history, sample, 5);
  EXPECT_EQ(load.mean_milli, 300'000);  // of a second each, as is guessed
  EXPECT_GE(load.doubt_milli, load.mean_milli);
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
