// Counter-based random numbers: a value is a pure function of (key, counter), so it can be drawn in
// any order, forked and replayed. The function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
// read at an index instead of iterated.
#pragma once
#include <cstdint>

#include "model/core/fields.h"

namespace chalk {

constexpr std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
  return z ^ z >> 31;
}

constexpr std::uint64_t random_at(std::uint64_t key, std::uint64_t counter) {
  return mix64(key + (counter + 1) * 0x9E3779B97F4A7C15ULL);
}

// A stream of draws held in State: its key and how many have been drawn.
struct Random {
  std::uint64_t key = 0;
  std::uint64_t drawn = 0;
  CHALK_FIELDS(Random, key, drawn)

  constexpr std::uint64_t next() { return random_at(key, drawn++); }
  // Uniform in [0, bound) for bound > 0: multiply-shift, with a bias below 2^-32 for bounds in use.
  constexpr std::uint64_t below(std::uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>(Wide(next()) * bound >> 64);
  }
  // An independent stream for `purpose`.
  constexpr Random stream(std::uint64_t purpose) const { return {mix64(key ^ mix64(purpose)), 0}; }
};

}  // namespace chalk
