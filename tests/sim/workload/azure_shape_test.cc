// The generated marginals against the published ones; sampling errors are 4 sigma or named.
#include "sim/workload/azure_shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <stdexcept>

#include "tests/sim/workload/trace_files.h"

namespace chalk::sim {
namespace {

constexpr std::uint64_t kSeed = 3;
constexpr std::uint32_t kApps = 40'000;

const AzurePlan& plan() {
  static const AzurePlan kPlan = azure_plan({.apps = kApps, .app_calls_per_day_max = 1e9}, kSeed);
  return kPlan;
}

std::vector<std::uint32_t> functions_per_app() {
  std::vector<std::uint32_t> out(kApps);
  for (const AzureFunction& function : plan().functions) ++out[function.app];
  return out;
}

double app_error(double share) { return 4 * std::sqrt(share * (1 - share) / kApps); }

TEST(AzureShape, FunctionsPerAppHavePublishedShares) {
  std::vector<std::uint32_t> counts = functions_per_app();
  auto share = [&](std::uint32_t most) {
    return std::count_if(counts.begin(), counts.end(), [&](auto n) { return n <= most; }) /
           static_cast<double>(kApps);
  };
  EXPECT_NEAR(share(1), 0.54, app_error(0.54));
  EXPECT_NEAR(share(10), 0.95, app_error(0.95));
  EXPECT_NEAR(1 - share(100), 0.0004, app_error(0.0004));
}

TEST(AzureShape, HalfOfTheCallsComeFromAppsOfAtMostThreeFunctions) {
  std::vector<std::uint32_t> counts = functions_per_app();
  double few = 0, all = 0;
  for (const AzureFunction& f : plan().functions) {
    all += f.calls_per_day;
    if (counts[f.app] <= 3) few += f.calls_per_day;
  }
  // A few hundred apps have nearly all of the calls; the error is theirs.
  EXPECT_NEAR(few / all, 0.50, 0.15);
}

TEST(AzureShape, AppRatesHavePublishedQuantilesOverEightOrdersOfMagnitude) {
  std::map<std::uint32_t, double> rates;
  for (const AzureFunction& f : plan().functions) rates[f.app] = f.app_calls_per_day;
  double hourly = 0, minutely = 0, least = 1e18, most = 0;
  for (const auto& [app, rate] : rates) {
    hourly += rate <= 24;
    minutely += rate <= 1440;
    least = std::min(least, rate);
    most = std::max(most, rate);
  }
  EXPECT_NEAR(hourly / kApps, 0.45, 2.0 / kApps);  // rates are stratified
  EXPECT_NEAR(minutely / kApps, 0.814, 2.0 / kApps);
  EXPECT_GT(most / least, 1e8);
}

TEST(AzureShape, TheMostCalledAppsHaveNearlyAllCalls) {
  double top = 0, all = 0;
  constexpr int kSteps = 1'000'000;
  for (int i = 0; i < kSteps; ++i) {
    double rate = azure_app_calls_per_day((i + 0.5) / kSteps);
    all += rate;
    if (i >= kSteps * 0.814) top += rate;
  }
  EXPECT_NEAR(top / all, 0.996, 0.0005);
}

TEST(AzureShape, TriggersHavePublishedSharesOfFunctionsAndCalls) {
  std::vector<double> functions(kTriggers), calls(kTriggers);
  double slow_timers = 0, all = 0;
  // Shares of calls hang on the few busiest functions: average them over seeds.
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    AzurePlan one = azure_plan({.apps = 20'000, .app_calls_per_day_max = 1e9}, seed);
    for (const AzureFunction& f : one.functions) {
      auto trigger = static_cast<std::size_t>(f.trigger);
      ++functions[trigger];
      calls[trigger] += f.calls_per_day;
      all += f.calls_per_day;
      slow_timers += f.trigger == Trigger::timer && f.calls_per_day <= 1440;
    }
  }
  double count = 0;
  for (double n : functions) count += n;
  const double kFunctions[] = {0.55, 0.152, 0.022, 0.156, 0.069, 0.028, 0.022};
  const double kCalls[] = {0.359, 0.335, 0.247, 0.02, 0.023, 0.007, 0.01};
  for (std::size_t t = 0; t < kTriggers; ++t) {
    EXPECT_NEAR(functions[t] / count, kFunctions[t], 0.005) << kTriggerNames[t];
    EXPECT_NEAR(calls[t] / all, kCalls[t], 0.05) << kTriggerNames[t];
  }
  double timers = functions[static_cast<std::size_t>(Trigger::timer)];
  EXPECT_NEAR(slow_timers / timers, 0.95, 0.02);
}

TEST(AzureShape, ExecutionTimesFollowThePublishedLogNormal) {
  double sum = 0, squares = 0, below_minute = 0;
  double n = static_cast<double>(plan().functions.size());
  for (const AzureFunction& f : plan().functions) {
    double x = std::log(f.service_mean_seconds);
    sum += x;
    squares += x * x;
    below_minute += f.service_mean_seconds < 60;
  }
  double mean = sum / n;
  EXPECT_NEAR(mean, -0.38, 4 * 2.36 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 2.36, 4 * 2.36 / std::sqrt(2 * n));
  EXPECT_NEAR(below_minute / n, 0.96, 0.015);  // what the paper counted, against its own fit
}

TEST(AzureShape, MemoryFollowsThePublishedBurrDistribution) {
  std::map<std::uint32_t, double> megabytes;
  for (const FunctionSpec& f : plan().catalogue.functions) {
    megabytes[f.image] = static_cast<double>(f.memory_bytes) / 1e6;
  }
  std::vector<double> sorted;
  for (const auto& [app, mb] : megabytes) sorted.push_back(mb);
  std::sort(sorted.begin(), sorted.end());
  // Kolmogorov and Smirnov at 1 %: 1.63 / sqrt(n), below the cut.
  double worst = 0;
  for (std::size_t i = 0; i < sorted.size() && sorted[i] < 1600; ++i) {
    double fit = 1 - std::pow(1 + std::pow(sorted[i] / 107.083, 11.652), -0.221);
    worst = std::max(worst, std::abs(fit - (i + 0.5) / kApps));
  }
  EXPECT_LT(worst, 1.63 / std::sqrt(kApps));
  EXPECT_LE(sorted.back(), 1536.0 * 1.048577);
}

TEST(AzureShape, CallsComeAtThePlannedRates) {
  AzureShape shape{.apps = 300, .length = seconds(7 * 86'400), .app_calls_per_day_max = 2'000};
  AzurePlan planned = azure_plan(shape, kSeed);
  auto source = azure_functions_shape(shape, kSeed);
  EXPECT_EQ(source->catalogue(), planned.catalogue);
  std::vector<double> calls(planned.functions.size());
  double total = 0;
  for (const Arrival& a : take(*source, ~std::size_t{0})) {
    ++calls[a.function];
    ++total;
    EXPECT_LE(a.service, seconds(600));
    EXPECT_LT(a.at, Time{} + shape.length);
  }
  EXPECT_TRUE(source->exhausted());
  EXPECT_NEAR(total / planned.calls_expected, 1.0, 0.02);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    double expected = planned.functions[i].calls_per_day * 7;
    double spread = planned.functions[i].pattern == Pattern::bursty ? 9 : 1;  // variance per call
    EXPECT_NEAR(calls[i], expected, 5 * std::sqrt(spread * expected) + 5 * spread) << i;
  }
}

// Coefficients of variation of the inter-arrival times of apps with enough calls to tell.
TEST(AzureShape, InterArrivalTimesHavePublishedVariation) {
  AzureShape shape{.apps = 2'000, .length = seconds(7 * 86'400), .app_calls_per_day_max = 500};
  AzurePlan planned = azure_plan(shape, kSeed);
  struct Gaps {
    double last = -1, count = 0, sum = 0, squares = 0;
  };
  std::vector<Gaps> apps(shape.apps);
  auto source = azure_functions_shape(shape, kSeed);
  for (; const Arrival* next = source->peek(); source->pop()) {
    Gaps& app = apps[planned.functions[next->function].app];
    auto at = static_cast<double>(next->at.nanos) / 1e9;
    if (app.last >= 0) {
      ++app.count;
      app.sum += at - app.last;
      app.squares += (at - app.last) * (at - app.last);
    }
    app.last = at;
  }
  double seen = 0, periodic = 0, above_one = 0;
  for (const Gaps& app : apps) {
    if (app.count < 10) continue;
    double mean = app.sum / app.count;
    double cv = std::sqrt(std::max(0.0, app.squares / app.count - mean * mean)) / mean;
    ++seen;
    periodic += cv < 0.05;
    above_one += cv > 1;
  }
  std::cout << "coefficient of variation: " << periodic / seen << " of apps near 0, "
            << above_one / seen << " above 1\n";
  EXPECT_NEAR(periodic / seen, 0.20, 0.04);
  EXPECT_NEAR(above_one / seen, 0.40, 0.06);
}

TEST(AzureShape, LeastHourHasHalfOfThePeak) {
  AzureShape shape{.apps = 200, .length = seconds(7 * 86'400), .app_calls_per_day_max = 5'000};
  std::vector<double> hours(7 * 24);
  auto source = azure_functions_shape(shape, kSeed);
  AzurePlan planned = azure_plan(shape, kSeed);
  for (; const Arrival* next = source->peek(); source->pop()) {
    if (planned.functions[next->function].pattern == Pattern::periodic) continue;
    ++hours[next->at.nanos / 3'600'000'000'000];
  }
  auto [least, most] = std::minmax_element(hours.begin(), hours.end());
  EXPECT_NEAR(*least / *most, 0.5, 0.07);
}

TEST(AzureShape, OneSeedGivesOneStreamForEver) {
  auto source = azure_functions_shape({.apps = 50}, kSeed);
  EXPECT_EQ(digest_of(take(*source, 20'000)), 11199718214578770461u);
}

TEST(AzureShape, TimersAreScaledToo) {
  const AzurePlan whole = azure_plan({.apps = 2'000, .app_calls_per_day_max = 1e9}, kSeed);
  const AzurePlan least =
      azure_plan({.apps = 2'000, .rate_scale = 1e-3, .app_calls_per_day_max = 1e9}, kSeed);
  ASSERT_EQ(whole.functions.size(), least.functions.size());
  int timers = 0;
  for (std::size_t i = 0; i < whole.functions.size(); ++i) {
    if (whole.functions[i].trigger != Trigger::timer) continue;
    ++timers;
    const double ratio = least.functions[i].calls_per_day / whole.functions[i].calls_per_day;
    EXPECT_GT(ratio, 1e-3 / 8) << "each is the nearest of a list";
    EXPECT_LT(ratio, 1e-3 * 8);
  }
  EXPECT_GT(timers, 500);
}

TEST(AzureShape, RefusesParametersThatMakeNoSense) {
  EXPECT_THROW(azure_plan({.apps = 0}, 1), std::invalid_argument);
  EXPECT_THROW(azure_plan({.length = seconds(0)}, 1), std::invalid_argument);
  EXPECT_THROW(azure_plan({.rate_scale = -1}, 1), std::invalid_argument);
}

}  // namespace
}  // namespace chalk::sim
