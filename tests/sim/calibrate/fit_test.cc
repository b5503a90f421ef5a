#include <gtest/gtest.h>

#include "model/core/random.h"
#include "sim/calibrate/calibrate.h"

namespace chalk::sim {
namespace {

// Starts one after another, each alone: nothing tells work from delay, the sum must be right.
TEST(FitStarts, FindsTheTimeOfStartsThatNeverMeet) {
  std::vector<MeasuredStart> starts;
  for (int i = 0; i < 50; ++i) starts.push_back({Time{} + seconds(i), milliseconds(100), 1000});
  const StartFit fit = fit_starts(starts, 2);
  EXPECT_NEAR(fit.core_seconds + fit.mean_seconds, 0.1, 0.002);
  EXPECT_LT(fit.error_seconds, 1e-6);
}

// Eight at once on two cores, 60 ms of work each and then 20 ms: all end after 240 + 20 ms. One
// alone ends after 80 ms.
TEST(FitStarts, TellsWorkOnSharedCoresFromDelay) {
  std::vector<MeasuredStart> starts;
  Random random{1, 0};
  for (int round = 0; round < 20; ++round) {
    const Time at = Time{} + seconds(round * 10);
    for (int i = 0; i < 8; ++i) {
      const auto noise = microseconds(static_cast<std::int64_t>(random.below(2000)));
      starts.push_back({at, milliseconds(259) + noise, 1000});
    }
    starts.push_back({at + seconds(5), milliseconds(80), 1000});
  }
  const StartFit fit = fit_starts(starts, 2);
  EXPECT_NEAR(fit.core_seconds, 0.060, 0.012);
  EXPECT_NEAR(fit.core_seconds + fit.mean_seconds, 0.080, 0.010) << "what one alone takes";
}

TEST(FitStarts, AnswersNothingForNothing) {
  EXPECT_EQ(fit_starts({}, 2).core_seconds, 0);
  EXPECT_EQ(fit_starts({}, 2).mean_seconds, 0);
}

}  // namespace
}  // namespace chalk::sim
