#include "sim/workload/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "sim/workload/distribution.h"

namespace chalk::sim {
namespace {

constexpr std::uint64_t kSeed = 20260101;

TEST(Sampling, UnitStaysStrictlyBetweenZeroAndOne) {
  EXPECT_GT(unit(0), 0.0);
  EXPECT_LT(unit(~std::uint64_t{0}), 1.0);
  EXPECT_DOUBLE_EQ(unit(std::uint64_t{1} << 63), 0.5);
}

TEST(Sampling, LogarithmAgreesWithTheLibrary) {
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    double x = unit(random_at(kSeed, i));
    if (i % 3 == 1) x *= std::ldexp(1.0, static_cast<int>(random_at(kSeed, i) % 1000) - 500);
    if (i % 3 == 2) x = 1 + (x - 0.5) * 1e-3;
    double expected = std::log(x);
    ASSERT_NEAR(portable_log(x), expected, std::abs(expected) * 5e-16 + 1e-17) << x;
  }
  EXPECT_EQ(portable_log(1.0), 0.0);
}

TEST(Sampling, ExponentialAgreesWithTheLibrary) {
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    double x = (unit(random_at(kSeed, i)) - 0.5) * 1300;
    ASSERT_NEAR(portable_exp(x) / std::exp(x), 1.0, 1e-15) << x;
  }
  EXPECT_EQ(portable_exp(0.0), 1.0);
  EXPECT_EQ(portable_exp(-1e9), 0.0);
}

TEST(Sampling, CosineAgreesWithTheLibrary) {
  for (int i = -2000; i <= 2000; ++i) {
    double turns = i / 700.0;
    ASSERT_NEAR(cosine_of_turns(turns), std::cos(turns * 2 * M_PI), 5e-14) << turns;
  }
}

TEST(Sampling, NormalQuantileInvertsTheNormalDistribution) {
  for (double p : {1e-12, 1e-6, 0.001, 0.02, 0.02425, 0.1, 0.3, 0.5, 0.7, 0.97, 0.999, 1 - 1e-9}) {
    double back = 0.5 * std::erfc(-normal_quantile(p) / std::sqrt(2.0));
    EXPECT_NEAR(back / p, 1.0, 1e-7) << p;  // 1.2e-9 of a quantile of 7 moves p by 50 times that
  }
}

TEST(Sampling, WeightedChoiceDrawsEachIndexByItsWeight) {
  WeightedChoice choice({1, 0, 3, 6, 0.5});
  std::vector<double> seen(5);
  constexpr int kDraws = 1'000'000;
  for (int i = 0; i < kDraws; ++i) ++seen[choice.pick(random_at(kSeed, i))];
  constexpr double kWeights[] = {1, 0, 3, 6, 0.5};
  for (int i = 0; i < 5; ++i) {
    double expected = kWeights[i] / 10.5 * kDraws;
    EXPECT_NEAR(seen[i], expected, 5 * std::sqrt(expected) + 1e-9) << i;
  }
}

TEST(Sampling, ZipfFavoursLowNumbersByItsExponent) {
  WeightedChoice zipf = WeightedChoice::zipf(1000, 1.0);
  std::vector<double> seen(1000);
  for (int i = 0; i < 1'000'000; ++i) ++seen[zipf.pick(random_at(kSeed, i))];
  EXPECT_NEAR(seen[0] / seen[1], 2.0, 0.05);
  EXPECT_NEAR(seen[0] / seen[9], 10.0, 0.3);
}

TEST(Sampling, RefusesWeightsThatCannotBeDrawn) {
  EXPECT_THROW(WeightedChoice({}), std::invalid_argument);
  EXPECT_THROW(WeightedChoice({0, 0}), std::invalid_argument);
  EXPECT_THROW(WeightedChoice({1, -1}), std::invalid_argument);
  EXPECT_THROW(WeightedChoice({1, std::nan("")}), std::invalid_argument);
}

double sampled_mean(const Distribution& distribution, int draws = 400'000) {
  double sum = 0;
  for (int i = 0; i < draws; ++i) {
    sum += static_cast<double>(distribution.sample(random_at(kSeed, i)).nanos);
  }
  return sum / draws;
}

TEST(Distribution, SampledMeansMeetTheory) {
  const Distribution kAll[] = {
      Distribution::constant(seconds(3)), Distribution::exponential(seconds(1)),
      Distribution::uniform(seconds(1), seconds(4)), Distribution::lognormal(0, 0.5),
      Distribution::percentiles({{0, 0}, {0.25, 1e6}, {0.5, 4e6}, {0.99, 1e9}, {1, 2e9}})};
  for (const Distribution& d : kAll) {
    EXPECT_NEAR(sampled_mean(d) / d.mean_nanos(), 1.0, 0.01);
  }
}

TEST(Distribution, PercentilesAreMetAtTheirPoints) {
  Distribution d =
      Distribution::percentiles({{0, 10e6}, {0.25, 20e6}, {0.5, 100e6}, {0.75, 100e6}, {1, 9e9}});
  auto at = [&](double u) { return d.sample(static_cast<std::uint64_t>(u * 0x1p64)).nanos; };
  EXPECT_NEAR(at(0.25), 20e6, 2);
  EXPECT_NEAR(at(0.5), 100e6, 2);
  EXPECT_NEAR(at(0.6), 100e6, 2);
  EXPECT_NEAR(at(0.375), std::sqrt(20e6 * 100e6), 10);  // half way in the logarithm
  EXPECT_GE(d.sample(0).nanos, 9'999'999);
  EXPECT_LE(d.sample(~std::uint64_t{0}).nanos, 9'000'000'001);
}

TEST(Distribution, CutsWhatDoesNotFit) {
  EXPECT_EQ(Distribution::lognormal(100, 1, seconds(5)).sample(kSeed), seconds(5));
  EXPECT_EQ(from_nanos(1e300), kDurationMax);
  EXPECT_EQ(from_nanos(-1).nanos, 0);
  EXPECT_EQ(from_nanos(std::nan("")).nanos, 0);
  EXPECT_EQ(from_nanos(1.5).nanos, 2);
}

TEST(Distribution, RefusesParametersThatMakeNoSense) {
  EXPECT_THROW(Distribution::constant(nanoseconds(-1)), std::invalid_argument);
  EXPECT_THROW(Distribution::uniform(seconds(2), seconds(1)), std::invalid_argument);
  EXPECT_THROW(Distribution::lognormal(0, -1), std::invalid_argument);
  EXPECT_THROW(Distribution::percentiles({{0, 1}}), std::invalid_argument);
  EXPECT_THROW(Distribution::percentiles({{0, 5}, {1, 4}}), std::invalid_argument);
  EXPECT_THROW(Distribution::percentiles({{0.1, 5}, {1, 6}}), std::invalid_argument);
}

}  // namespace
}  // namespace chalk::sim
