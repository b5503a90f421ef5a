// Mathematics under the generators: uniform numbers from random bits, log, exp, cosine and the
// normal quantile, and draws from a finite set by weight.
//
// They use only +, -, *, / and sqrt of IEEE doubles, in one written order: so a workload is the
// same bits at every -O level and on every machine, which libm does not promise (it picks variants
// by CPU and the compiler folds calls by its own rounding).
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

#include "model/core/random.h"

namespace chalk::sim {

// Uniform in the open interval (0, 1), from the high 52 bits.
constexpr double unit(std::uint64_t bits) {
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

// Natural logarithm of a positive normal number; within 2 units in the last place or 2^-53.
inline double portable_log(double x) {
  constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 33 bits: times any exponent it is exact
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  auto bits = std::bit_cast<std::uint64_t>(x);
  // Splits x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
  std::uint64_t shifted = bits - 0x3FE6A09E667F3BCDULL;
  auto e = static_cast<double>(static_cast<std::int64_t>(shifted) >> 52);
  double m = std::bit_cast<double>((shifted & 0x000FFFFFFFFFFFFFULL) + 0x3FE6A09E667F3BCDULL);
  // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716; odd and even terms run side by side.
  double s = (m - 1) / (m + 1);
  double z = s * s;
  double w = z * z;
  double even = 1.0 / 5 + w * (1.0 / 9 + w * (1.0 / 13 + w * (1.0 / 17 + w * (1.0 / 21))));
  double odd = 1.0 / 3 + w * (1.0 / 7 + w * (1.0 / 11 + w * (1.0 / 15 + w * (1.0 / 19))));
  double tail = z * (odd + z * even);
  return e * kLn2High + (2 * s + (2 * s * tail + e * kLn2Low));
}

double portable_exp(double x);                   // 0 below -700, capped above 700
double portable_pow(double x, double exponent);  // x > 0
double cosine_of_turns(double turns);            // cos(2 pi turns), |turns| < 2^52
double normal_quantile(double p);  // 0 < p < 1; Acklam's approximation, 1.2e-9 relative

// Draws an index with given weights in constant time (the alias method of Walker and Vose).
class WeightedChoice {
 public:
  explicit WeightedChoice(const std::vector<double>& weights);  // non-negative, sum > 0
  static WeightedChoice zipf(std::uint32_t count, double exponent);

  std::uint32_t pick(std::uint64_t bits) const {
    __extension__ using Wide = unsigned __int128;
    Wide scaled = Wide(bits) * slots_.size();
    const Slot& slot = slots_[static_cast<std::size_t>(scaled >> 64)];
    auto rest = static_cast<std::uint64_t>(scaled) >> 32;
    return rest < slot.keep ? slot.self : slot.other;
  }
  std::uint32_t size() const { return static_cast<std::uint32_t>(slots_.size()); }

 private:
  struct Slot {
    std::uint64_t keep;  // of 2^32
    std::uint32_t self;
    std::uint32_t other;
  };
  std::vector<Slot> slots_;
};

}  // namespace chalk::sim
