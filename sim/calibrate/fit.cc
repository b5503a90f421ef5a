// How much of a start is work on shared cores.
#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "sim/calibrate/calibrate.h"

namespace chalk::sim {
namespace {

double seconds_of(Duration duration) { return static_cast<double>(duration.nanos) * 1e-9; }

// When each start is done if it needs work[i] on cores that those under way share: each is capped at
// its own share, and cores that are short are shared in proportion to the caps, as SimGrid does.
std::vector<double> shared_durations(const std::vector<MeasuredStart>& starts, double cores,
                                     const std::vector<double>& work) {
  struct Running {
    std::size_t index;
    double left, cap;
  };
  std::vector<double> took(starts.size(), 0);
  std::vector<Running> running;
  double now = 0;
  const Time begin = starts.empty() ? Time{} : starts.front().at;
  const auto advance = [&](double until) {
    while (!running.empty() && now < until) {
      double caps = 0;
      for (const Running& one : running) caps += one.cap;
      const double scale = std::min(1.0, cores / caps);
      double step = until - now;
      for (const Running& one : running) step = std::min(step, one.left / (one.cap * scale));
      now += step;
      for (Running& one : running) one.left -= one.cap * scale * step;
      std::erase_if(running, [&](const Running& one) {
        if (one.left > 1e-12) return false;
        took[one.index] = now - seconds_of(starts[one.index].at - begin);
        return true;
      });
    }
    now = std::max(now, until);
  };
  for (std::size_t i = 0; i < starts.size(); ++i) {
    advance(seconds_of(starts[i].at - begin));
    const double cap =
        std::min(
        static_cast<double>(std::max(starts[i].cpu_millicores, kStartCpuMin)) * 1e-3, cores);
    running.push_back({i, work[i], cap});
  }
  advance(1e18);
  return took;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

namespace {

constexpr int kSteps = 60;  // of the work, up to the median start

// Of a logarithm, around its mean; and that mean.
std::pair<double, double> log_spread(const std::vector<double>& values) {
  double logs = 0, squares = 0;
  for (const double value : values) {
    const double one = std::log(value);
    logs += one;
    squares += one * one;
  }
  const double count = static_cast<double>(values.size());
  const double mean = logs / count;
  return {std::sqrt(std::max(0.0, squares / count - mean * mean)), mean};
}

// Starts that share cores wait for each other's work, so that durations differ less than the work
// does: the spread of work with which they differ by `wanted`, the sigma of their logarithm. By halving.
double work_spread(const std::vector<MeasuredStart>& starts, const StartFit& fit,
                   const std::vector<double>& shared, double delay, double wanted) {
  const auto simulated = [&](double sigma) {
    constexpr std::uint64_t kRounds = 8;
    double total = 0;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      std::mt19937_64 random(round);
      std::lognormal_distribution<double> factor(0, sigma);  // the fit is one of medians
      std::vector<double> work;
      for (std::size_t i = 0; i < starts.size(); ++i) work.push_back(fit.core_seconds * factor(random));
      std::vector<double> ratios = shared_durations(starts, fit.cores, work);
      for (std::size_t i = 0; i < ratios.size(); ++i) {
        ratios[i] = (ratios[i] + delay) / (shared[i] + delay);
      }
      total += log_spread(ratios).first;
    }
    return total / kRounds;
  };
  double low = 0, high = 2;
  for (int step = 0; step < 16; ++step) {
    const double middle = (low + high) / 2;
    (simulated(middle) < wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

StartFit fit_starts(const std::vector<MeasuredStart>& unsorted, double cores_max) {
  std::vector<MeasuredStart> starts = unsorted;
  std::sort(starts.begin(), starts.end(),
            [](const auto& a, const auto& b) { return a.at < b.at; });
  StartFit best;
  best.cores = cores_max;
  if (starts.empty()) return best;
  std::vector<double> all;
  for (const MeasuredStart& start : starts) all.push_back(seconds_of(start.took));
  const double most = median(all);
  double delay = most;
  std::vector<double> best_shared(starts.size(), 0);
  best.error_seconds = -1;
  const auto try_cores = [&](double cores) {
    for (int step = 0; step < kSteps; ++step) {
      const double work = most * step / kSteps;
      std::vector<double> shared(starts.size(), 0);
      if (work > 0) {
        shared = shared_durations(starts, cores, std::vector<double>(starts.size(), work));
      }
      std::vector<double> rest;
      for (std::size_t i = 0; i < starts.size(); ++i) rest.push_back(all[i] - shared[i]);
      const double middle = median(rest);
      if (middle <= 0) break;  // more work than the starts have room for
      double error = 0;
      for (const double one : rest) error += std::abs(one - middle);
      error /= static_cast<double>(rest.size());
      if (best.error_seconds >= 0 && error >= best.error_seconds) continue;
      best.core_seconds = work;
      best.cores = cores;
      best.error_seconds = error;
      best_shared = std::move(shared);
      delay = middle;
    }
  };
  // From many cores down: starts that never met say nothing of them. Then closer around the best.
  for (double cores = cores_max; cores >= 1; cores -= 1) try_cores(cores);
  const double coarse = best.cores;
  for (int tenth = 9; tenth >= -9 && best.core_seconds > 0; --tenth) {
    if (coarse + tenth * 0.1 <= cores_max) try_cores(std::max(1.0, coarse + tenth * 0.1));
  }
  std::vector<double> ratios;
  for (std::size_t i = 0; i < all.size(); ++i) {
    ratios.push_back(std::max(all[i], most / 100) / (best_shared[i] + delay));
  }
  const auto [spread, mean] = log_spread(ratios);
  best.mean_seconds = delay;
  if (best.core_seconds > 0) {
    best.core_spread = work_spread(starts, best, best_shared, delay, spread);
    best.core_seconds *= std::exp(best.core_spread * best.core_spread / 2);
  } else {
    best.spread = spread;
    best.mean_seconds = delay * std::exp(mean + spread * spread / 2);
  }
  return best;
}

}  // namespace chalk::sim
