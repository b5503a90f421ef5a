#include "sim/statistics/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

namespace chalk::sim {
namespace {

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double variance(const std::vector<double>& values) {
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return sum / static_cast<double>(values.size() - 1);
}

bool all_same(const std::vector<double>& values) {
  return std::ranges::all_of(values, [&](double value) { return value == values[0]; });
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

// What sums and differences of values as large as `scale` may be off by: equal values have a mean
// that is not quite theirs, and so a variance.
double rounding(double scale) { return 1e-12 * scale; }

// `error` is the standard deviation of the mean. `signs`: of how many values that agree p is, where
// nothing varied. `scale`: of the values that all was reckoned from.
Estimate student(double mean, double error, double freedom, std::size_t count, std::size_t signs,
                 double scale, double confidence) {
  Estimate out{mean, 0, 1, count};
  if (error <= rounding(scale)) {
    if (std::abs(mean) <= rounding(scale)) {
      out.mean = 0;
    } else {
      out.p = std::exp2(1 - static_cast<double>(signs));
    }
    return out;
  }
  const boost::math::students_t t(freedom);
  out.half = error * boost::math::quantile(boost::math::complement(t, (1 - confidence) / 2));
  out.p = 2 * boost::math::cdf(boost::math::complement(t, std::abs(mean) / error));
  return out;
}

Estimate mean_of_scale(const std::vector<double>& values, double scale, double confidence) {
  if (values.empty()) return {};
  if (values.size() < 2) return {values[0], 0, 1, 1};
  const auto n = static_cast<double>(values.size());
  return student(mean(values), std::sqrt(variance(values) / n), n - 1, values.size(),
                 values.size(), scale, confidence);
}

}  // namespace

Estimate mean_of(const std::vector<double>& values, double confidence) {
  return mean_of_scale(values, largest(values), confidence);
}

Estimate paired_difference(const std::vector<double>& a, const std::vector<double>& b,
                           double confidence) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) differences.push_back(b[i] - a[i]);
  Estimate out = mean_of_scale(differences, std::max(largest(a), largest(b)), confidence);
  const bool one_each = a.size() >= 2 && all_same(a) && all_same(b);
  if (one_each && out.mean != 0) out.p = std::exp2(1 - static_cast<double>(a.size() + b.size()));
  return out;
}

Estimate welch_difference(const std::vector<double>& a, const std::vector<double>& b,
                          double confidence) {
  const std::size_t count = std::min(a.size(), b.size());
  if (count == 0) return {};
  const double difference = mean(b) - mean(a);
  if (count < 2) return {difference, 0, 1, count};
  const double of_a = variance(a) / static_cast<double>(a.size());
  const double of_b = variance(b) / static_cast<double>(b.size());
  const double both = of_a + of_b;
  const double freedom = both == 0 ? 1
                                   : both * both /
                                         (of_a * of_a / static_cast<double>(a.size() - 1) +
                                          of_b * of_b / static_cast<double>(b.size() - 1));
  return student(difference, std::sqrt(both), freedom, count, a.size() + b.size(),
                 std::max(largest(a), largest(b)), confidence);
}

std::vector<double> holm_adjusted(const std::vector<double>& p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double most = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    most = std::max(most, p[order[rank]] * static_cast<double>(p.size() - rank));
    adjusted[order[rank]] = std::min(1.0, most);
  }
  return adjusted;
}

}  // namespace chalk::sim
