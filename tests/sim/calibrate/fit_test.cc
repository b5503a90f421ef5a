#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

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

// What has no end in a trace holds its room for ever.
TEST(Calibration, LeavesOutWhatNeverRanAndEndsWhatStillRan) {
  Calibration calibration;
  const auto ask = [](int at, Duration took, Duration ran, bool ended) {
    RecordedAsk one;
    one.at = Time{} + seconds(at);
    one.start_took = took;
    one.ran = ran;
    one.ended = ended;
    return one;
  };
  calibration.asks = {ask(1, milliseconds(100), seconds(5), true), ask(2, {}, {}, true),
                      ask(3, milliseconds(100), seconds(7), false)};
  const std::string folder = testing::TempDir() + "calibration";
  write_calibration(folder, calibration);
  std::ifstream in(folder + "/workload.jsonl");
  std::vector<std::int64_t> services;
  for (std::string line; std::getline(in, line);) {
    if (line.find("at_ns") == std::string::npos) continue;
    services.push_back(nlohmann::json::parse(line).value("service_ns", std::int64_t{0}));
  }
  EXPECT_EQ(services, (std::vector<std::int64_t>{seconds(5).nanos, seconds(7).nanos}));
}

TEST(FitStarts, AnswersNothingForNothing) {
  EXPECT_EQ(fit_starts({}, 2).core_seconds, 0);
  EXPECT_EQ(fit_starts({}, 2).mean_seconds, 0);
}

}  // namespace
}  // namespace chalk::sim
