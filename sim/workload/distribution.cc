#include "sim/workload/distribution.h"

#include <cmath>
#include <stdexcept>

#include "sim/workload/sampling.h"

namespace chalk::sim {
namespace {

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace

Duration Distribution::sample(std::uint64_t bits) const {
  switch (kind_) {
    case Kind::constant: return from_nanos(first_);
    case Kind::exponential: return from_nanos(-first_ * portable_log(unit(bits)));
    case Kind::uniform: return from_nanos(first_ + (second_ - first_) * unit(bits));
    case Kind::lognormal: {
      double nanos = portable_exp(first_ + second_ * normal_quantile(unit(bits)));
      Duration cap = from_nanos(segments_[0].low);
      Duration drawn = from_nanos(nanos);
      return drawn < cap ? drawn : cap;
    }
    case Kind::percentiles: return from_nanos(sample_percentiles(unit(bits)));
  }
  return {0};
}

double Distribution::mean_nanos() const {
  switch (kind_) {
    case Kind::constant:
    case Kind::exponential: return first_;
    case Kind::uniform: return (first_ + second_) / 2;
    case Kind::lognormal: return portable_exp(first_ + second_ * second_ / 2);
    case Kind::percentiles: {
      double sum = 0;
      for (const Segment& s : segments_) {
        double area = s.low + s.rise / 2;
        if (s.in_logarithm) {
          double low = portable_exp(s.low);
          area = s.rise < 1e-9 ? low : (portable_exp(s.low + s.rise) - low) / s.rise;
        }
        sum += area / s.inverse_width;
      }
      return sum;
    }
  }
  return 0;
}

double Distribution::sample_percentiles(double u) const {
  std::size_t i = segments_.size() - 1;
  while (i > 0 && u < segments_[i].from) --i;
  const Segment& s = segments_[i];
  double value = s.low + s.rise * ((u - s.from) * s.inverse_width);
  return s.in_logarithm ? portable_exp(value) : value;
}

Distribution Distribution::constant(Duration value) {
  require(value.nanos >= 0, "a constant duration is negative");
  Distribution d;
  d.first_ = static_cast<double>(value.nanos);
  return d;
}

Distribution Distribution::exponential(Duration mean) {
  Distribution d = constant(mean);
  d.kind_ = Kind::exponential;
  return d;
}

Distribution Distribution::uniform(Duration low, Duration high) {
  require(low <= high, "the low end of a uniform duration is above the high one");
  Distribution d = constant(low);
  d.kind_ = Kind::uniform;
  d.second_ = static_cast<double>(high.nanos);
  return d;
}

Distribution Distribution::lognormal(double log_mean, double log_sigma, Duration cap) {
  require(std::isfinite(log_mean) && std::isfinite(log_sigma) && log_sigma >= 0,
          "a lognormal duration has a negative or endless parameter");
  require(cap.nanos > 0, "the cap of a lognormal duration is not above zero");
  constexpr double kLogNanosPerSecond = 20.72326583694641;  // ln 1e9
  Distribution d;
  d.kind_ = Kind::lognormal;
  d.first_ = log_mean + kLogNanosPerSecond;
  d.second_ = log_sigma;
  d.segments_ = {{0, 1, static_cast<double>(cap.nanos), 0, false}};
  return d;
}

Distribution Distribution::percentiles(const std::vector<Point>& points) {
  require(points.size() >= 2, "a percentile table has fewer than two points");
  require(points.front().probability == 0 && points.back().probability == 1,
          "a percentile table does not run from 0 to 1");
  Distribution d;
  d.kind_ = Kind::percentiles;
  require(points.front().nanos >= 0, "a percentile is negative");
  for (std::size_t i = 1; i < points.size(); ++i) {
    const Point& low = points[i - 1];
    const Point& high = points[i];
    require(high.probability >= low.probability && high.nanos >= low.nanos && high.nanos < 1e300,
            "a percentile table decreases");
    if (high.probability == low.probability) continue;
    Segment s{low.probability, 1 / (high.probability - low.probability), low.nanos,
              high.nanos - low.nanos, low.nanos >= 1};
    if (s.in_logarithm) {
      s.low = portable_log(low.nanos);
      s.rise = portable_log(high.nanos) - s.low;
    }
    d.segments_.push_back(s);
  }
  return d;
}

}  // namespace chalk::sim
