// What a handful of seeds says about a mean, and about the difference of two.
//
// Runs with different seeds are independent and of one distribution, so the mean over them is close
// to normal even where a run's own figure (a p99) is not, and Student's t holds for the mean:
//   A. M. Law, Simulation Modeling and Analysis, 5th edition, 2015: section 4.5 (one mean), 10.2.1
//   (paired t: two systems under the same random numbers, seed by seed), 10.2.2 (Welch);
//   B. L. Welch, The generalization of "Student's" problem when several different population
//   variances are involved, Biometrika 34, 1947;
//   S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
//   Statistics 6, 1979.
// The t distribution is Boost.Math's.
//
// Where nothing varied t says nothing: a spread of 0 in a few values, above all of counts, is often
// chance itself, and p would be 0 for two seeds that happen to agree. Then p is the most that so
// few values can show, by signs and by counting:
//   - n differences, all the same: each had the other sign with the same chance, were there no
//     difference, so p is 2^(1-n) (the sign test);
//   - each side is one value in all of its runs, m and n of them: of figures that have no difference
//     and take two values, each as often (any others are seen so more seldom), p is 2^(1-m-n).
// So two seeds never give a verdict by agreeing; five do for what does not depend on the seed.
#pragma once
#include <cstddef>
#include <vector>

namespace chalk::sim {

struct Estimate {
  double mean = 0;
  double half = 0;  // of the interval: mean - half to mean + half; 0 with fewer than two values
  double p = 1;     // of seeing a mean at least so far from 0 if it is 0; 1 with fewer than two
  std::size_t count = 0;
  bool has_interval() const { return count >= 2; }
};

inline constexpr double kConfidence = 0.95;

Estimate mean_of(const std::vector<double>& values, double confidence = kConfidence);
// Of b - a, element by element; both have the same size.
Estimate paired_difference(const std::vector<double>& a, const std::vector<double>& b,
                           double confidence = kConfidence);
// Of mean(b) - mean(a), where nothing ties an element of one to one of the other. `count` is that
// of the smaller.
Estimate welch_difference(const std::vector<double>& a, const std::vector<double>& b,
                          double confidence = kConfidence);

// Adjusts the p of several questions asked at once: the chance that any answer below `alpha` is
// chance is at most `alpha`.
std::vector<double> holm_adjusted(const std::vector<double>& p);

}  // namespace chalk::sim
