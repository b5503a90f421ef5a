#include "sim/workload/generate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "tests/sim/workload/trace_files.h"

namespace chalk::sim {
namespace {

constexpr std::uint64_t kSeed = 7;

Requests one_function() {
  Requests mix;
  mix.service = Distribution::exponential(seconds(1));
  return mix;
}

TEST(Generate, PoissonGapsHaveTheMeanAndSpreadOfAnExponential) {
  auto source = open_loop(Poisson{10}, one_function(), kSeed);
  std::vector<Arrival> arrivals = take(*source, 200'000);
  double sum = 0, squares = 0, service = 0;
  for (std::size_t i = 1; i < arrivals.size(); ++i) {
    double gap = static_cast<double>((arrivals[i].at - arrivals[i - 1].at).nanos) / 1e9;
    sum += gap;
    squares += gap * gap;
    service += static_cast<double>(arrivals[i].service.nanos) / 1e9;
  }
  double n = static_cast<double>(arrivals.size() - 1);
  double mean = sum / n;
  EXPECT_NEAR(mean, 0.1, 4 * 0.1 / std::sqrt(n));
  EXPECT_NEAR((squares / n - mean * mean) / (mean * mean), 1.0, 0.03);
  EXPECT_NEAR(service / n, 1.0, 4 / std::sqrt(n));
}

// The bits of a seed are fixed: other machines, optimisation levels and later versions give them.
TEST(Generate, OneSeedGivesOneStreamForEver) {
  Requests mix = one_function();
  mix.functions = 50;
  mix.function_skew = 1;
  mix.tenants = 5;
  mix.service = Distribution::lognormal(-1, 1.5);
  Sandboxes boxes;
  boxes.shapes = {{3, {1000, 1 << 30, 0, 0, 0, 0}}, {1, {4000, 8ll << 30, 0, 0, 0, 0}}};
  boxes.lifetime = Distribution::exponential(seconds(1800));
  boxes.tenants = 4;
  std::vector<std::unique_ptr<Source>> parts;
  parts.push_back(open_loop(Poisson{5}, mix, kSeed));
  parts.push_back(open_loop(Bursts{}, mix, kSeed + 1));
  parts.push_back(open_loop(Rhythm{}, boxes, kSeed + 2));
  auto source = merge(std::move(parts));
  EXPECT_EQ(digest_of(take(*source, 20'000)), 10914614482979380541u);
}

TEST(Generate, DifferentSeedsGiveDifferentStreams) {
  auto a = open_loop(Poisson{10}, one_function(), 1);
  auto b = open_loop(Poisson{10}, one_function(), 2);
  EXPECT_NE(digest_of(take(*a, 100)), digest_of(take(*b, 100)));
}

TEST(Generate, BurstsSpendTheirTimeInBothStates) {
  Bursts bursts{1, 50, seconds(30), seconds(10)};
  auto source = cut(open_loop(bursts, one_function(), kSeed), {.before = {400'000'000'000'000}});
  std::vector<Arrival> arrivals = take(*source, 100'000'000);
  double per_second = static_cast<double>(arrivals.size()) / 400'000;
  EXPECT_NEAR(per_second, (1.0 * 30 + 50.0 * 10) / 40, 0.6);  // the mean rate in the long run
  // Counts of seconds are far more spread than a Poisson's of the same mean.
  std::vector<double> counts(400'000);
  for (const Arrival& a : arrivals) ++counts[a.at.nanos / 1'000'000'000];
  double squares = 0;
  for (double count : counts) squares += count * count;
  double variance = squares / counts.size() - per_second * per_second;
  EXPECT_GT(variance / per_second, 20);
}

TEST(Generate, RhythmFollowsTheDayAndTheWeek) {
  Rhythm rhythm{10, 0.5, seconds(14 * 3600), 0.6};
  constexpr std::int64_t kHour = 3'600'000'000'000;
  auto source = cut(open_loop(rhythm, one_function(), kSeed), {.before = {7 * 24 * kHour}});
  std::vector<double> hours(7 * 24);
  double total = 0;
  while (const Arrival* next = source->peek()) {
    ++hours[next->at.nanos / kHour];
    ++total;
    source->pop();
  }
  EXPECT_NEAR(total / (7 * 24 * 3600), 10, 0.03);
  EXPECT_NEAR(hours[14] / hours[2], 1.5 / 0.5, 0.15);      // Monday's peak and trough
  EXPECT_NEAR(hours[5 * 24 + 14] / hours[14], 0.6, 0.03);  // Saturday against Monday
}

TEST(Generate, WeekUnwarpInvertsTheRate) {
  Week week(0.5, seconds(0), 0.7);
  double done = 0;
  for (std::int64_t minute = 0; minute < 2 * Week::kMinutes; minute += 1) {
    double start = static_cast<double>(minute) * Week::kMinuteNanos;
    ASSERT_NEAR(week.unwarp(done), start, 100) << minute;
    done += week.at_minute(minute) * Week::kMinuteNanos;
  }
}

TEST(Generate, ClosedLoopAsksAgainOnlyAfterTheAnswer) {
  auto source = closed_loop({3, Distribution::constant(seconds(1))}, one_function(), kSeed);
  std::vector<Arrival> first = take(*source, 10);
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(source->peek(), nullptr);
  EXPECT_FALSE(source->exhausted());
  EXPECT_EQ(first[1].client, 1u);
  source->finished(1, Time{} + seconds(5));
  source->finished(1, Time{} + seconds(6));   // a second answer changes nothing
  source->finished(99, Time{} + seconds(6));  // nor one to nobody
  ASSERT_NE(source->peek(), nullptr);
  EXPECT_EQ(source->peek()->client, 1u);
  EXPECT_EQ(source->peek()->at, Time{} + seconds(6));
  source->finished(0, Time{} + seconds(4));  // shown anew: this one comes earlier
  EXPECT_EQ(source->peek()->client, 0u);
  EXPECT_EQ(source->peek()->at, Time{} + seconds(5));
  EXPECT_EQ(take(*source, 10).size(), 2u);
}

TEST(Generate, ClosedLoopContentDoesNotDependOnTheOrderOfAnswers) {
  auto run = [](bool reverse) {
    auto source = closed_loop({2, Distribution::exponential(seconds(1))}, one_function(), kSeed);
    take(*source, 2);
    Time now = Time{} + seconds(100);
    source->finished(reverse ? 1 : 0, now);
    source->finished(reverse ? 0 : 1, now);
    return take(*source, 2);
  };
  EXPECT_EQ(run(false), run(true));
}

TEST(Generate, ClosedLoopDoesNotAskForEverInOneMoment) {
  auto source = closed_loop({1, {}}, one_function(), kSeed);
  EXPECT_EQ(take(*source, 10).size(), 1u);
  source->finished(0, Time{});
  ASSERT_NE(source->peek(), nullptr);
  EXPECT_EQ(source->peek()->at, Time{} + milliseconds(1));
  take(*source, 1);
  source->finished(0, Time{} + milliseconds(1) + nanoseconds(7));
  EXPECT_EQ(source->peek()->at, Time{} + milliseconds(1) + nanoseconds(7)) << "a quick answer";
  auto thinks = closed_loop({1, Distribution::constant(seconds(1))}, one_function(), kSeed);
  take(*thinks, 1);
  thinks->finished(0, Time{} + seconds(1));
  EXPECT_EQ(thinks->peek()->at, Time{} + seconds(2));
}

TEST(Generate, CutEndsAClosedLoopByCountAndByTime) {
  auto by_count = cut(closed_loop({2, {}}, one_function(), kSeed), {.arrivals_max = 3});
  EXPECT_EQ(take(*by_count, 10).size(), 2u);
  EXPECT_FALSE(by_count->exhausted());
  by_count->finished(0, Time{5});
  EXPECT_EQ(take(*by_count, 10).size(), 1u);
  EXPECT_TRUE(by_count->exhausted());
  EXPECT_EQ(by_count->progress(), 1.0);

  auto by_time = cut(closed_loop({2, Distribution::constant(seconds(1))}, one_function(), kSeed),
                     {.before = Time{} + seconds(3)});
  EXPECT_EQ(take(*by_time, 10).size(), 2u);
  by_time->finished(0, Time{} + seconds(2));  // its next ask would be at 3 s
  EXPECT_EQ(by_time->peek(), nullptr);
  EXPECT_FALSE(by_time->exhausted());  // client 1 may still ask before
  by_time->finished(1, Time{} + seconds(2) - nanoseconds(1));
  EXPECT_EQ(take(*by_time, 10).size(), 1u);
  by_time->finished(1, Time{} + seconds(9));
  EXPECT_EQ(by_time->peek(), nullptr);
  EXPECT_TRUE(by_time->exhausted());
}

TEST(Generate, CutOfAnOpenLoopKeepsExactlyWhatLiesBefore) {
  auto whole = open_loop(Poisson{10}, one_function(), kSeed);
  std::vector<Arrival> all = take(*whole, 1000);
  auto source = cut(open_loop(Poisson{10}, one_function(), kSeed), {.before = all[500].at});
  EXPECT_EQ(take(*source, 1000), std::vector(all.begin(), all.begin() + 500));
  EXPECT_TRUE(source->exhausted());
}

TEST(Generate, PopularityFollowsZipfOverFunctionsAndTenants) {
  Requests mix = one_function();
  mix.functions = 100;
  mix.function_skew = 1;
  mix.tenants = 10;
  mix.images = 20;
  auto source = open_loop(Poisson{1000}, mix, kSeed);
  std::vector<double> calls(100);
  for (const Arrival& a : take(*source, 300'000)) ++calls[a.function];
  EXPECT_NEAR(calls[0] / calls[9], 10, 0.7);
  EXPECT_EQ(source->catalogue().tenants.size(), 10u);
  EXPECT_EQ(source->catalogue().images.size(), 20u);
  EXPECT_EQ(source->catalogue().functions[3].name, "function-3");
}

TEST(Generate, SandboxesHaveTheirShapesAndLifetimes) {
  Sandboxes mix;
  mix.shapes = {{3, {1000, 2, 3, 0, 0, 0}}, {1, {8000, 4, 5, 1, 500, 1}}};
  mix.lifetime = Distribution::exponential(seconds(100));
  mix.service = Distribution::constant(seconds(30));
  mix.gpu_models = {"L4"};
  auto source = open_loop(Poisson{10}, mix, kSeed);
  double small = 0, lifetime = 0;
  constexpr int kCount = 100'000;
  for (const Arrival& a : take(*source, kCount)) {
    EXPECT_EQ(a.kind, ArrivalKind::sandbox);
    EXPECT_EQ(a.service, seconds(30));
    small += a.sandbox.resources.cpu_millicores == 1000;
    lifetime += static_cast<double>(a.sandbox.lifetime.nanos) / 1e9;
  }
  EXPECT_NEAR(small / kCount, 0.75, 0.006);
  EXPECT_NEAR(lifetime / kCount, 100, 1.5);
}

TEST(Generate, MergeKeepsOrderAndTranslatesNames) {
  Requests requests = one_function();
  Sandboxes boxes;
  boxes.shapes = {{1, {1000, 1, 0, 1, 1000, 0b10}}};
  boxes.gpu_models = {"T4", "L4"};
  Sandboxes other = boxes;
  other.gpu_models = {"L4", "H100"};
  other.prefix = "x-";
  std::vector<std::unique_ptr<Source>> parts;
  parts.push_back(open_loop(Poisson{10}, requests, 1));
  parts.push_back(open_loop(Poisson{20}, requests, 2));
  parts.push_back(open_loop(Poisson{5}, boxes, 3));
  parts.push_back(open_loop(Poisson{5}, other, 4));
  parts.push_back(closed_loop({2, Distribution::constant(seconds(1))}, requests, 5));
  auto source = merge(std::move(parts));
  const Catalogue& names = source->catalogue();
  ASSERT_EQ(names.functions.size(), 3u);
  EXPECT_EQ(names.functions[1].name, "function-0@1");
  EXPECT_EQ(names.tenants, (std::vector<std::string>{"tenant-0", "x-tenant-0"}));
  EXPECT_EQ(names.gpu_models, (std::vector<std::string>{"T4", "L4", "H100"}));
  double calls[3] = {};
  int asks[2] = {};
  for (const Arrival& a : take(*source, 40'000)) {
    if (a.kind == ArrivalKind::request) {
      ++calls[a.function];
      EXPECT_EQ(a.client == kNoClient, a.function != 2);
    } else {
      ++asks[a.sandbox.tenant];
      EXPECT_EQ(a.sandbox.resources.gpu_models, a.sandbox.tenant == 0 ? 0b010u : 0b100u);
    }
  }
  EXPECT_NEAR(calls[1] / calls[0], 2, 0.1);
  EXPECT_EQ(calls[2], 2);  // nobody answered them
  EXPECT_GT(asks[0], 4'000);
  EXPECT_GT(asks[1], 4'000);
  Time now = source->peek()->at;
  source->finished(0, now);
  bool asked_again = false;
  for (const Arrival& a : take(*source, 200)) asked_again |= a.client == 0 && a.function == 2;
  EXPECT_TRUE(asked_again);
}

TEST(Generate, RefusesParametersThatMakeNoSense) {
  Requests none = one_function();
  none.functions = 0;
  Sandboxes no_shapes;
  no_shapes.shapes = {};
  Sandboxes negative;
  negative.shapes = {{1, {-1, 0, 0, 0, 0, 0}}};
  const std::function<void()> kBad[] = {
      [&] { open_loop(Poisson{0}, one_function(), 1); },
      [&] { open_loop(Poisson{std::nan("")}, one_function(), 1); },
      [&] {
        open_loop(Bursts{1, 2, seconds(0), seconds(1)}, one_function(), 1);
      },
      [&] {
        open_loop(Rhythm{1, 1.5, {}, 1}, one_function(), 1);
      },
      [&] { open_loop(Poisson{1}, none, 1); },
      [&] { open_loop(Poisson{1}, no_shapes, 1); },
      [&] { open_loop(Poisson{1}, negative, 1); },
      [&] {
        closed_loop({0, {}}, one_function(), 1);
      },
      [&] { cut(nullptr, {}); },
  };
  for (const auto& bad : kBad) EXPECT_THROW(bad(), std::invalid_argument);
}

TEST(Generate, TimeEndsInsteadOfOverflowing) {
  auto source = open_loop(Poisson{1e-12}, one_function(), kSeed);
  for (const Arrival& a : take(*source, 1000)) EXPECT_LT(a.at, kNever);
}

}  // namespace
}  // namespace chalk::sim
