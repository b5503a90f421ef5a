// The typical requests for GPUs, learnt from those that came: the most frequent and how often.
//
// When there is no room for a new kind it takes the place of the rarest and its count (Metwally,
// Agrawal and El Abbadi, "Space-Saving", ICDT'05), so what is frequent now is never missed. Counts
// are halved now and then, so what was frequent once fades.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/resources.h"

namespace chalk::scheduler {

inline constexpr std::size_t kTypicalMax = 64;
inline constexpr std::uint64_t kHalvedAt = 1 << 16;  // requests

struct Typical {
  Resources ask;
  std::uint64_t count = 0;
  CHALK_FIELDS(Typical, ask, count)
};

struct Mix {
  std::vector<Typical> kinds;
  std::uint64_t total = 0;  // of the counts
  CHALK_FIELDS(Mix, kinds, total)

  void learn(const Resources& ask);
};

}  // namespace chalk::scheduler
