#include "model/functions/hybrid.h"

#include <algorithm>

namespace chalk::functions {
namespace {

constexpr Duration kBin = seconds(60);
constexpr Duration kRange = kBin * kHybridBins;
constexpr std::uint64_t kVariation = 2;  // least coefficient of the bins' counts

}  // namespace

void Hybrid::add(Duration gap) {
  if (gap >= kRange) {
    ++beyond_;
    return;
  }
  if (bins_.empty()) bins_.resize(kHybridBins);
  std::uint32_t& bin = bins_[static_cast<std::size_t>(gap.nanos / kBin.nanos)];
  squares_ += 2 * std::uint64_t{bin} + 1;
  ++bin;
  ++within_;
}

// variance / mean^2 >= kVariation^2, with variance = squares/n - (within/n)^2.
bool Hybrid::representative() const {
  if (beyond_ >= within_) return false;
  const std::uint64_t part = squares_ * kHybridBins / within_;  // squares <= within^2
  return part >= within_ * (kVariation * kVariation + 1);
}

Window Hybrid::window(const HybridCuts& cuts) const {
  if (!representative()) return {kRange, {}, {}};
  const auto all = static_cast<std::int64_t>(within_);
  std::int64_t below = 0;
  int head = -1, tail = -1;
  for (int i = 0; i < kHybridBins && tail < 0; ++i) {
    below += bins_[static_cast<std::size_t>(i)];
    if (head < 0 && below * 1000 >= all * cuts.head) head = i;
    if (below * 1000 >= all * cuts.tail) tail = i;
  }
  const Duration reload{kBin.nanos * head / 10 * 9};
  const Duration until = std::min(kRange, Duration{kBin.nanos * (tail + 1) / 10 * 11});
  if (reload.nanos == 0) return {until, {}, {}};
  return {{}, reload, until};
}

}  // namespace chalk::functions
