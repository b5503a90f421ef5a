// A distribution of durations, sampled by inversion: one 64-bit random value gives one duration.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/time.h"

namespace chalk::sim {

// Longer durations than this are cut to it; ten years.
inline constexpr Duration kDurationMax = seconds(315'360'000);

// The nearest nanosecond, within [0, kDurationMax].
constexpr Duration from_nanos(double nanos) {
  if (!(nanos > 0)) return {0};
  if (nanos >= static_cast<double>(kDurationMax.nanos)) return kDurationMax;
  return {static_cast<std::int64_t>(nanos + 0.5)};
}

class Distribution {
 public:
  struct Point {
    double probability;  // 0..1
    double nanos;
  };

  Distribution() = default;  // constant zero
  static Distribution constant(Duration value);
  static Distribution exponential(Duration mean);
  static Distribution uniform(Duration low, Duration high);
  // exp(N(log_mean, log_sigma^2)) seconds, never more than `cap`.
  static Distribution lognormal(double log_mean, double log_sigma, Duration cap = kDurationMax);
  // Percentiles, both columns non-decreasing, from probability 0 to 1; between two of them the
  // value is interpolated in its logarithm, or linearly where the lower one is zero.
  static Distribution percentiles(const std::vector<Point>& points);

  Duration sample(std::uint64_t bits) const;
  double mean_nanos() const;  // what theory says, before the cut at kDurationMax or `cap`

 private:
  enum class Kind : std::uint8_t { constant, exponential, uniform, lognormal, percentiles };
  struct Segment {
    double from;  // probability
    double inverse_width;
    double low;   // nanos, or its logarithm
    double rise;  // of the same
    bool in_logarithm;
  };

  double sample_percentiles(double u) const;

  Kind kind_ = Kind::constant;
  double first_ = 0;
  double second_ = 0;
  std::vector<Segment> segments_;
};

}  // namespace chalk::sim
