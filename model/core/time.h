// Integer time. Nanoseconds since the log began; enters the model only as an argument of step.
#pragma once
#include <compare>
#include <cstdint>
#include <limits>

#include "model/core/fields.h"

namespace chalk {

struct Duration {
  std::int64_t nanos = 0;
  auto operator<=>(const Duration&) const = default;
  CHALK_FIELDS(Duration, nanos)
};

struct Time {
  std::int64_t nanos = 0;
  auto operator<=>(const Time&) const = default;
  CHALK_FIELDS(Time, nanos)
};

inline constexpr Time kNever{std::numeric_limits<std::int64_t>::max()};

constexpr Duration nanoseconds(std::int64_t n) { return {n}; }
constexpr Duration microseconds(std::int64_t n) { return {n * 1'000}; }
constexpr Duration milliseconds(std::int64_t n) { return {n * 1'000'000}; }
constexpr Duration seconds(std::int64_t n) { return {n * 1'000'000'000}; }

constexpr Duration operator+(Duration a, Duration b) { return {a.nanos + b.nanos}; }
constexpr Duration operator-(Duration a, Duration b) { return {a.nanos - b.nanos}; }
constexpr Duration operator*(Duration a, std::int64_t times) { return {a.nanos * times}; }
constexpr Duration operator-(Time a, Time b) { return {a.nanos - b.nanos}; }
// Saturates at kNever: an absurd lifetime is "never", not a time in the past.
constexpr Time operator+(Time a, Duration b) {
  if (b.nanos > 0 && a.nanos > kNever.nanos - b.nanos) return kNever;
  return {a.nanos + b.nanos};
}
constexpr Time operator-(Time a, Duration b) { return {a.nanos - b.nanos}; }

}  // namespace chalk
