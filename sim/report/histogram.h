// How long things took: a histogram of nanoseconds in bounded memory.
//
// Buckets are powers of two cut in 128 equal parts, as in HdrHistogram: a quantile is at most 0.4 %
// off; count, mean, least and most are exact.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace chalk::sim {

class Histogram {
 public:
  void add(std::int64_t nanos) {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(nanos, 0));
    const std::size_t bucket = bucket_of(value);
    if (bucket >= counts_.size()) counts_.resize(bucket + 1);
    ++counts_[bucket];
    ++count_;
    sum_ += static_cast<double>(value);
    least_ = count_ == 1 ? value : std::min(least_, value);
    most_ = std::max(most_, value);
  }
  std::uint64_t count() const { return count_; }
  double mean_nanos() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  double least_nanos() const { return static_cast<double>(least_); }
  double most_nanos() const { return static_cast<double>(most_); }
  // The smallest value that at least a share q of all does not exceed; the middle of its bucket.
  double quantile_nanos(double q) const {
    if (count_ == 0) return 0;
    const double exact = q * static_cast<double>(count_);
    auto rank = static_cast<std::uint64_t>(exact);
    if (static_cast<double>(rank) < exact) ++rank;
    rank = std::clamp<std::uint64_t>(rank, 1, count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen < rank) continue;
      const double middle = (lower(i) + lower(i + 1) - 1) / 2;
      return std::clamp(middle, static_cast<double>(least_), static_cast<double>(most_));
    }
    return static_cast<double>(most_);
  }
  // (value in nanoseconds, share of all that do not exceed it), at most `points`.
  std::vector<std::pair<double, double>> cumulative(std::size_t points) const {
    std::vector<std::pair<double, double>> out;
    std::uint64_t seen = 0;
    double told = -1;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] == 0) continue;
      seen += counts_[i];
      const double share = static_cast<double>(seen) / static_cast<double>(count_);
      if (out.empty() || share - told >= 1.0 / static_cast<double>(points) || seen == count_) {
        out.emplace_back(std::min(lower(i + 1) - 1, static_cast<double>(most_)), share);
        told = share;
      }
    }
    return out;
  }

 private:
  static constexpr int kBits = 7;  // 128 parts
  static std::size_t bucket_of(std::uint64_t value) {
    if (value < (1u << (kBits + 1))) return static_cast<std::size_t>(value);
    const int shift = 63 - std::countl_zero(value) - kBits;
    return (static_cast<std::size_t>(shift) << kBits) + static_cast<std::size_t>(value >> shift);
  }
  static double lower(std::size_t bucket) {
    if (bucket < (2u << kBits)) return static_cast<double>(bucket);
    const std::size_t shift = (bucket >> kBits) - 1;
    const std::size_t part = bucket - (shift << kBits);
    return static_cast<double>(part) * static_cast<double>(1ULL << shift);
  }

  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
  std::uint64_t least_ = 0;
  std::uint64_t most_ = 0;
};

}  // namespace chalk::sim
