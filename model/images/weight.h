// A positive number that may grow without end, in 64 bits: a mantissa of 32 bits and an exponent.
// Numbers compare as their bits do. A sum in which older parts fade is kept by letting newer parts
// grow instead ("forward decay", Cormode et al., ICDE 2009): two such sums compare as the faded
// ones would, at any time, so an order of them never has to be made anew.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>

#include "model/core/fields.h"

namespace chalk::images {

class Weight {
 public:
  constexpr Weight() = default;  // nothing
  static constexpr Weight of(std::uint64_t number) {
    if (number == 0) return {};
    const int above = static_cast<int>(std::bit_width(number)) - 32;
    return made(above >= 0 ? number >> above : number << -above, above);
  }
  // 2 to the power of `age` / 65536; between whole powers on a straight line.
  static constexpr Weight power(std::uint64_t age) {
    const std::uint64_t mantissa = (1ULL << 31) + ((age & 0xffff) << 15);
    return made(mantissa, static_cast<std::int64_t>(age >> 16) - 31);
  }
  constexpr Weight plus(Weight other) const {
    const Weight high = std::max(*this, other), low = std::min(*this, other);
    const std::int64_t apart = high.exponent() - low.exponent();
    if (low.bits_ == 0 || apart > 31) return high;
    const std::uint64_t sum = high.mantissa() + (low.mantissa() >> apart);
    const int carry = static_cast<int>(sum >> 32);
    return made(sum >> carry, high.exponent() + carry);
  }
  constexpr Weight times(std::uint64_t number) const {
    const Weight other = of(number);
    if (bits_ == 0 || other.bits_ == 0) return {};
    const std::uint64_t product = mantissa() * other.mantissa();
    const int above = static_cast<int>(std::bit_width(product)) - 32;
    return made(product >> above, exponent() + other.exponent() + above);
  }
  constexpr Weight over(std::uint64_t number) const {  // not 0
    const Weight other = of(number);
    if (bits_ == 0) return {};
    const std::uint64_t quotient = (mantissa() << 31) / other.mantissa();
    const int below = 32 - static_cast<int>(std::bit_width(quotient));
    return made(quotient << below, exponent() - other.exponent() - 31 - below);
  }
  constexpr std::uint64_t bits() const { return bits_; }
  constexpr auto operator<=>(const Weight&) const = default;

 private:
  static constexpr std::int64_t kBias = 1 << 20;
  static constexpr Weight made(std::uint64_t mantissa, std::int64_t exponent) {
    Weight out;
    out.bits_ = static_cast<std::uint64_t>(exponent + kBias) << 32 | mantissa;
    return out;
  }
  constexpr std::uint64_t mantissa() const { return bits_ & 0xffff'ffff; }
  constexpr std::int64_t exponent() const {
    return static_cast<std::int64_t>(bits_ >> 32) - kBias;
  }
  std::uint64_t bits_ = 0;

 public:
  CHALK_FIELDS(Weight, bits_)
};

}  // namespace chalk::images
