// When things arrive in an open loop: Poisson, two-state bursts (MMPP-2), and a daily and weekly
// rhythm. A pace yields times in order, in batches; it never ends.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "model/core/random.h"
#include "model/core/time.h"

namespace chalk::sim {

struct Poisson {
  double per_second = 1;
};

// A Markov-modulated Poisson process with two states; it starts calm. Sojourns are exponential.
struct Bursts {
  double calm_per_second = 1;
  double burst_per_second = 10;
  Duration calm_mean = seconds(60);
  Duration burst_mean = seconds(10);
};

// A Poisson process whose rate follows the day: 1 + swing * cosine, highest at `peak_at` after
// midnight (time 0 is a Monday's midnight), and on Saturday and Sunday times `weekend`. The rate is
// constant within a minute and its mean over a week is `mean_per_second`.
struct Rhythm {
  double mean_per_second = 1;
  double swing = 0.5;  // 0..1
  Duration peak_at = seconds(14 * 3600);
  double weekend = 1;  // > 0
};

using Pace = std::variant<Poisson, Bursts, Rhythm>;

// The relative rate at each minute of a week, its mean 1, and the time warp that follows from it.
class Week {
 public:
  static constexpr std::int64_t kMinutes = 7 * 24 * 60;
  static constexpr std::int64_t kMinuteNanos = 60'000'000'000;

  Week(double swing, Duration peak_at, double weekend);
  double at_minute(std::int64_t minute) const { return rate_[minute % kMinutes]; }
  double highest() const { return highest_; }
  // The time at which the rhythm has done `nanos` of even-rate time since time 0.
  double unwarp(double nanos) const;

 private:
  std::vector<double> rate_;
  std::vector<double> done_;  // even-rate nanos before each minute; one more than minutes
  double highest_ = 1;
};

class ArrivalTimes {
 public:
  virtual ~ArrivalTimes() = default;
  virtual void fill(std::span<Time> out) = 0;
};

// Throws std::invalid_argument for rates that are not positive and finite.
std::unique_ptr<ArrivalTimes> arrival_times(const Pace& pace, std::uint64_t seed);

}  // namespace chalk::sim
