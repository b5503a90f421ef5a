// How much a pool's demand grows while a node boots, and the buffer that follows: the newsvendor.
//
// A node too many costs its price for a boot's time; a node too few costs `worth` of a node's time.
// So the best buffer is the quantile worth / (worth + boot) of the growth (Arrow, Harris and
// Marschak, "Optimal Inventory Policy", 1951), taken from what was seen in the last while.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/time.h"

namespace chalk::fleet {

class Growth {
 public:
  // Demand in nodes, once per `every`; `boot` is how long a new node takes.
  void learn(std::uint32_t demand, Duration every, Duration boot) {
    const auto lead = static_cast<std::size_t>(
        std::clamp<std::int64_t>((boot.nanos + every.nanos - 1) / every.nanos, 1, kLeadMax));
    recent_.push_back(demand);
    if (recent_.size() <= lead) return;
    const std::uint32_t most = *std::max_element(recent_.end() - static_cast<std::ptrdiff_t>(lead),
                                                 recent_.end());
    const std::uint32_t before = *(recent_.end() - static_cast<std::ptrdiff_t>(lead) - 1);
    recent_.erase(recent_.begin(), recent_.end() - static_cast<std::ptrdiff_t>(lead));
    const std::uint32_t grown = most > before ? most - before : 0;
    if (seen_.size() < kSeenMax) {
      seen_.push_back(grown);
    } else {
      seen_[next_] = grown;
    }
    next_ = (next_ + 1) % kSeenMax;
  }

  std::uint32_t buffer(Duration worth, Duration boot) const {
    if (seen_.empty() || worth.nanos <= 0) return 0;
    __extension__ using Wide = __int128;
    const auto size = static_cast<Wide>(seen_.size());
    const Wide all = Wide(worth.nanos) + std::max<std::int64_t>(boot.nanos, 1);
    // The least growth that at least worth / (worth + boot) of the samples do not exceed.
    const auto rank = static_cast<std::size_t>((size * worth.nanos + all - 1) / all) - 1;
    std::vector<std::uint32_t> sorted = seen_;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rank),
                     sorted.end());
    return sorted[rank];
  }

 private:
  static constexpr std::int64_t kLeadMax = 360;
  static constexpr std::size_t kSeenMax = 720;  // two hours of looks every 10 s

  std::vector<std::uint32_t> recent_;
  std::vector<std::uint32_t> seen_;
  std::size_t next_ = 0;

 public:
  CHALK_FIELDS(Growth, recent_, seen_, next_)
};

}  // namespace chalk::fleet
