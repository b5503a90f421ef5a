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

// On two cores, 60 ms of work each and then 20 ms: eight at once end after 240 + 20 ms, four after
// 120 + 20, one alone after 60 + 20. Three sizes, because two would fit one core as well.
TEST(FitStarts, TellsWorkOnSharedCoresFromDelay) {
  std::vector<MeasuredStart> starts;
  Random random{1, 0};
  for (int round = 0; round < 20; ++round) {
    const Time at = Time{} + seconds(round * 10);
    const auto noise = [&] { return microseconds(static_cast<std::int64_t>(random.below(2000))); };
    for (int i = 0; i < 8; ++i) starts.push_back({at, milliseconds(259) + noise(), 1000});
    for (int i = 0; i < 4; ++i) {
      starts.push_back({at + seconds(3), milliseconds(139) + noise(), 1000});
    }
    starts.push_back({at + seconds(5), milliseconds(79) + noise(), 1000});
  }
  for (const double most : {2.0, 16.0}) {  // 16: it offers more than it has
    const StartFit fit = fit_starts(starts, most);
    EXPECT_NEAR(fit.cores, 2, 0.11);
    EXPECT_NEAR(fit.core_seconds, 0.060, 0.004);
    EXPECT_NEAR(fit.core_seconds + fit.mean_seconds, 0.080, 0.003) << "what one alone takes";
    EXPECT_LT(fit.core_spread, 0.02);
  }
}

TEST(FitStarts, AnswersNothingForNothing) {
  EXPECT_EQ(fit_starts({}, 2).core_seconds, 0);
  EXPECT_EQ(fit_starts({}, 2).mean_seconds, 0);
}

}  // namespace
}  // namespace chalk::sim
