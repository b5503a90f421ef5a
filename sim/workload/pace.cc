#include "sim/workload/pace.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <type_traits>

#include "sim/workload/sampling.h"

namespace chalk::sim {
namespace {

constexpr double kTimeMaxNanos = 9.2e18;

double mean_gap_nanos(double per_second) {
  if (!(per_second > 0) || !std::isfinite(per_second)) {
    throw std::invalid_argument("a rate is not above zero");
  }
  return 1e9 / per_second;
}

// A clock that is advanced by fractions of a nanosecond and never loses them.
struct ExactClock {
  std::int64_t nanos = 0;
  double fraction = 0;

  void advance(double by) {
    by += fraction;
    if (by > kTimeMaxNanos - static_cast<double>(nanos)) {
      nanos = kNever.nanos - 1;  // the end of time: everything later happens there
      return;
    }
    auto whole = static_cast<std::int64_t>(by);
    nanos += whole;
    fraction = by - static_cast<double>(whole);
  }
};

class PoissonTimes : public ArrivalTimes {
 public:
  PoissonTimes(double per_second, std::uint64_t seed)
      : gap_(mean_gap_nanos(per_second)), random_{seed} {}
  void fill(std::span<Time> out) override {
    // Gaps first: they do not depend on each other, so the compiler can draw them side by side.
    std::array<double, 64> gaps;
    while (!out.empty()) {
      std::size_t count = std::min(out.size(), gaps.size());
      for (std::size_t i = 0; i < count; ++i)
        gaps[i] = unit(random_at(random_.key, random_.drawn + i));
      for (std::size_t i = 0; i < count; ++i) gaps[i] = -gap_ * portable_log(gaps[i]);
      random_.drawn += count;
      for (std::size_t i = 0; i < count; ++i) {
        clock_.advance(gaps[i]);
        out[i] = {clock_.nanos};
      }
      out = out.subspan(count);
    }
  }

 private:
  double gap_;
  Random random_;
  ExactClock clock_;
};

class BurstTimes : public ArrivalTimes {
 public:
  BurstTimes(const Bursts& bursts, std::uint64_t seed)
      : gap_{mean_gap_nanos(bursts.calm_per_second), mean_gap_nanos(bursts.burst_per_second)},
        stay_{static_cast<double>(bursts.calm_mean.nanos),
              static_cast<double>(bursts.burst_mean.nanos)},
        random_{seed} {
    if (stay_[0] <= 0 || stay_[1] <= 0) throw std::invalid_argument("a burst state has no length");
    left_ = exponential(stay_[0]);
  }
  void fill(std::span<Time> out) override {
    for (Time& time : out) {
      // Memoryless: a gap that a change of state cuts short is drawn anew at the new rate.
      double gap = exponential(gap_[state_]);
      while (gap > left_) {
        clock_.advance(left_);
        state_ = 1 - state_;
        left_ = exponential(stay_[state_]);
        gap = exponential(gap_[state_]);
      }
      left_ -= gap;
      clock_.advance(gap);
      time = {clock_.nanos};
    }
  }

 private:
  double exponential(double mean) { return -mean * portable_log(unit(random_.next())); }

  double gap_[2];
  double stay_[2];
  Random random_;
  ExactClock clock_;
  int state_ = 0;
  double left_ = 0;
};

// Thinning (Lewis and Shedler): candidates at the highest rate, kept with the share of the minute.
class RhythmTimes : public ArrivalTimes {
 public:
  RhythmTimes(const Rhythm& rhythm, std::uint64_t seed)
      : week_(rhythm.swing, rhythm.peak_at, rhythm.weekend),
        gap_(mean_gap_nanos(rhythm.mean_per_second * week_.highest())),
        random_{seed} {}
  void fill(std::span<Time> out) override {
    for (Time& time : out) {
      do {
        clock_.advance(-gap_ * portable_log(unit(random_.next())));
      } while (unit(random_.next()) * week_.highest() >=
               week_.at_minute(clock_.nanos / Week::kMinuteNanos));
      time = {clock_.nanos};
    }
  }

 private:
  Week week_;
  double gap_;
  Random random_;
  ExactClock clock_;
};

}  // namespace

Week::Week(double swing, Duration peak_at, double weekend) : rate_(kMinutes), done_(kMinutes + 1) {
  if (!(swing >= 0 && swing <= 1)) throw std::invalid_argument("a swing is not within 0..1");
  if (!(weekend > 0) || !std::isfinite(weekend)) {
    throw std::invalid_argument("a weekend's share is not above zero");
  }
  constexpr std::int64_t kDayMinutes = 24 * 60;
  double sum = 0;
  for (std::int64_t minute = 0; minute < kMinutes; ++minute) {
    double of_day = (static_cast<double>(minute % kDayMinutes) + 0.5) / kDayMinutes -
                    static_cast<double>(peak_at.nanos) / (kDayMinutes * kMinuteNanos);
    double rate = 1 + swing * cosine_of_turns(of_day);
    rate_[minute] = minute >= 5 * kDayMinutes ? rate * weekend : rate;
    sum += rate_[minute];
  }
  highest_ = 0;
  for (std::int64_t minute = 0; minute < kMinutes; ++minute) {
    rate_[minute] *= kMinutes / sum;
    highest_ = std::max(highest_, rate_[minute]);
    done_[minute + 1] = done_[minute] + rate_[minute] * kMinuteNanos;
  }
}

double Week::unwarp(double nanos) const {
  constexpr double kWeekNanos = 1.0 * kMinutes * kMinuteNanos;
  double weeks = std::floor(nanos / kWeekNanos);
  double rest = nanos - weeks * kWeekNanos;
  auto after = std::upper_bound(done_.begin() + 1, done_.end() - 1, rest);
  auto minute = (after - done_.begin()) - 1;
  double within = rate_[minute] > 0 ? (rest - done_[minute]) / rate_[minute] : 0;
  within = std::min(within, 1.0 * kMinuteNanos);
  return weeks * kWeekNanos + static_cast<double>(minute) * kMinuteNanos + within;
}

std::unique_ptr<ArrivalTimes> arrival_times(const Pace& pace, std::uint64_t seed) {
  return std::visit(
      [&](const auto& p) -> std::unique_ptr<ArrivalTimes> {
        using P = std::remove_cvref_t<decltype(p)>;
        if constexpr (std::is_same_v<P, Poisson>) {
          return std::make_unique<PoissonTimes>(p.per_second, seed);
        } else if constexpr (std::is_same_v<P, Bursts>) {
          return std::make_unique<BurstTimes>(p, seed);
        } else {
          return std::make_unique<RhythmTimes>(p, seed);
        }
      },
      pace);
}

}  // namespace chalk::sim
