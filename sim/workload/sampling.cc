#include "sim/workload/sampling.h"

#include <cmath>
#include <stdexcept>

namespace chalk::sim {

double portable_exp(double x) {
  constexpr double kLn2High = 0x1.62e42fee00000p-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kInverseLn2 = 0x1.71547652b82fep+0;
  if (x < -700) return 0;
  if (x > 700) x = 700;
  double k = std::floor(x * kInverseLn2 + 0.5);
  double r = (x - k * kLn2High) - k * kLn2Low;  // |r| < 0.3466
  double sum = 1.0 / 87178291200.0;             // Taylor: r^14 / 14! is below 5e-18
  constexpr double kInverseFactorials[] = {1.0 / 6227020800.0,
                                           1.0 / 479001600.0,
                                           1.0 / 39916800.0,
                                           1.0 / 3628800.0,
                                           1.0 / 362880.0,
                                           1.0 / 40320.0,
                                           1.0 / 5040.0,
                                           1.0 / 720.0,
                                           1.0 / 120.0,
                                           1.0 / 24.0,
                                           1.0 / 6.0,
                                           0.5,
                                           1.0,
                                           1.0};
  for (double term : kInverseFactorials) sum = sum * r + term;
  auto exponent = static_cast<std::int64_t>(k) + 1023;
  return sum * std::bit_cast<double>(static_cast<std::uint64_t>(exponent) << 52);
}

double portable_pow(double x, double exponent) { return portable_exp(exponent * portable_log(x)); }

double cosine_of_turns(double turns) {
  constexpr double kTwoPi = 6.283185307179586;
  double x = turns - std::floor(turns);  // [0, 1)
  if (x > 0.5) x = 1 - x;                // cosine is even
  double y = (0.25 - x) * kTwoPi;        // cos(2 pi x) = sin(y), |y| <= pi / 2
  double square = y * y;
  double sum = 0;
  for (int n = 21; n >= 3; n -= 2) sum = (1 - sum) * square / (n * (n - 1));
  return y * (1 - sum);
}

// P. J. Acklam's rational approximation of the inverse of the normal distribution function.
double normal_quantile(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                          6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                          3.754408661907416e+00};
  constexpr double kTail = 0.02425;
  if (p >= kTail && p <= 1 - kTail) {
    double q = p - 0.5;
    double r = q * q;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  double q = std::sqrt(-2 * portable_log(p < kTail ? p : 1 - p));
  double x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
             ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  return p < kTail ? x : -x;
}

WeightedChoice::WeightedChoice(const std::vector<double>& weights) {
  double sum = 0;
  for (double weight : weights) {
    if (!(weight >= 0)) throw std::invalid_argument("a weight is negative or not a number");
    sum += weight;
  }
  if (!(sum > 0) || !std::isfinite(sum)) throw std::invalid_argument("weights do not sum to > 0");
  auto count = static_cast<std::uint32_t>(weights.size());
  std::vector<double> share(count);
  std::vector<std::uint32_t> small;
  std::vector<std::uint32_t> large;
  for (std::uint32_t i = 0; i < count; ++i) {
    share[i] = weights[i] / sum * count;
    (share[i] < 1 ? small : large).push_back(i);
  }
  constexpr std::uint64_t kWhole = std::uint64_t{1} << 32;
  slots_.resize(count);
  for (std::uint32_t i = 0; i < count; ++i) slots_[i] = {kWhole, i, i};
  while (!small.empty() && !large.empty()) {
    std::uint32_t poor = small.back();
    std::uint32_t rich = large.back();
    small.pop_back();
    slots_[poor] = {static_cast<std::uint64_t>(share[poor] * 0x1p32), poor, rich};
    share[rich] -= 1 - share[poor];
    if (share[rich] < 1) {
      large.pop_back();
      small.push_back(rich);
    }
  }
}

WeightedChoice WeightedChoice::zipf(std::uint32_t count, double exponent) {
  std::vector<double> weights(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    weights[i] = exponent == 0 ? 1 : portable_pow(i + 1.0, -exponent);
  }
  return WeightedChoice(weights);
}

}  // namespace chalk::sim
