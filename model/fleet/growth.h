// How much the demand of a pool grows while a node boots, and the free room that follows from it:
// the newsvendor, in thousandths of a node.
//
// Room too much costs its price for a boot's time; room too little costs `worth` of its time. So
// the best is the quantile worth / (worth + boot) of the growth (Arrow, Harris and Marschak,
// "Optimal Inventory Policy", 1951), taken from what was seen in the last while. What is there
// already is worth a boot more, since to have it back would cost one: it goes only above that
// higher quantile.
//
// A burst that has begun goes on: what followed the strongest rises is a sample of its own. In
// calm the room need not hold a burst, and once there is one it is bought for as a whole.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/time.h"

namespace chalk::fleet {

struct Room {
  std::uint32_t least = 0;  // with less, more is bought
  std::uint32_t most = 0;   // with more, some is given back
  CHALK_FIELDS(Room, least, most)
};

class Growth {
 public:
  // The demand, once per `every`; `boot` is how long a new node takes.
  void learn(std::uint32_t demand, Duration every, Duration boot) {
    const auto lead = static_cast<std::size_t>(
        std::clamp<std::int64_t>((boot.nanos + every.nanos - 1) / every.nanos, 1, kLeadMax));
    recent_.push_back(demand);
    const std::size_t size = recent_.size();
    if (size <= lead + 1) return;
    const std::size_t then = size - lead - 1;
    const std::uint32_t most = *std::max_element(recent_.end() - static_cast<std::ptrdiff_t>(lead),
                                                 recent_.end());
    const Seen one{over(recent_[then], recent_[then - 1]), over(most, recent_[then])};
    recent_.erase(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(then));
    if (seen_.size() < kSeenMax) {
      seen_.push_back(one);
    } else {
      seen_[next_] = one;
    }
    next_ = (next_ + 1) % kSeenMax;
  }

  // Whether it has seen as much as it remembers.
  bool settled() const { return seen_.size() == kSeenMax; }

  // How much the demand has risen since the look before, or since the last one.
  std::uint32_t rise(std::uint32_t demand, bool learnt) const {
    const std::size_t back = learnt ? 2 : 1;
    return recent_.size() < back ? 0 : over(demand, recent_[recent_.size() - back]);
  }

  Room room(Duration worth, Duration boot, std::uint32_t rise) const {
    if (seen_.empty()) return {};
    const std::uint32_t strong = strong_rise();
    std::vector<std::uint32_t> grown;
    for (const Seen& one : seen_) {
      if ((one.rise >= strong) == (rise >= strong)) grown.push_back(one.grown);
    }
    if (grown.empty()) {  // none was like it yet
      for (const Seen& one : seen_) grown.push_back(one.grown);
    }
    const std::int64_t each = std::max<std::int64_t>(boot.nanos, 1);
    Room room;
    if (worth.nanos > 0) room.least = quantile(grown, worth.nanos, each);
    room.most = quantile(grown, worth.nanos + each, each);
    return room;
  }

 private:
  static constexpr std::int64_t kLeadMax = 360;
  static constexpr std::size_t kSeenMax = 720;  // two hours of looks every 10 s
  static constexpr std::size_t kStrong = 40;    // one rise in so many, or more with ties, is strong

  struct Seen {
    std::uint32_t rise = 0;   // from the look before
    std::uint32_t grown = 0;  // at most within the boot after it
    CHALK_FIELDS(Seen, rise, grown)
  };

  static std::uint32_t over(std::uint32_t a, std::uint32_t b) { return a > b ? a - b : 0; }

  // Less than half a node is never strong.
  std::uint32_t strong_rise() const {
    std::vector<std::uint32_t> rises;
    for (const Seen& one : seen_) rises.push_back(one.rise);
    const auto at = static_cast<std::ptrdiff_t>(rises.size() - 1 - rises.size() / kStrong);
    std::nth_element(rises.begin(), rises.begin() + at, rises.end());
    return std::max(500u, rises[static_cast<std::size_t>(at)]);
  }

  // The least growth that at least worth / (worth + boot) of the samples do not exceed.
  static std::uint32_t quantile(std::vector<std::uint32_t>& grown, std::int64_t worth,
                                std::int64_t boot) {
    __extension__ using Wide = __int128;
    const auto size = static_cast<Wide>(grown.size());
    const Wide all = Wide(worth) + boot;
    const auto rank = static_cast<std::size_t>((size * worth + all - 1) / all) - 1;
    std::nth_element(grown.begin(), grown.begin() + static_cast<std::ptrdiff_t>(rank),
                     grown.end());
    return grown[rank];
  }

  std::vector<std::uint32_t> recent_;
  std::vector<Seen> seen_;
  std::size_t next_ = 0;

 public:
  CHALK_FIELDS(Growth, recent_, seen_, next_)
};

}  // namespace chalk::fleet
