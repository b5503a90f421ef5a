// Two sets of runs side by side: what got better and what worse, beyond what seeds make of it.
//
// Runs of one scenario and configuration are a case. Where both sides have the same seeds the
// differences seed by seed are judged (paired t), else the means (Welch's t); both with Holm's
// adjustment over all questions of the comparison: statistics.h has the sources. A change counts
// when it is beyond noise and at least `at_least` of the mean of A, so that a difference that is
// certain but does not matter is none. Rows that are equal in every seed are no question, and where
// one seed of two scenarios of a name asks for other work there is none either: what differs then is
// no decision's doing.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/report/sense.h"
#include "sim/statistics/statistics.h"

namespace chalk::sim {

using Metrics = std::map<std::string, double>;
struct MeasuredRun {
  Metrics metrics;
  std::uint64_t scenario_hash = 0;  // 0: not known
  std::uint64_t demand = 0;         // of what arrived; 0: not known, or it follows from decisions
};
using MeasuredRuns = std::map<std::uint64_t, MeasuredRun>;  // by seed
// By case: "scenario" or "scenario a.b=1 c=x".
using Measured = std::map<std::string, MeasuredRuns>;

// Every result.json (`run --out`) and every sweep at or below the folder. Throws std::runtime_error
// where there is none, or where one case has a seed twice with different figures.
Measured read_measured(const std::string& folder);

struct CompareOptions {
  std::vector<std::string> metrics;  // empty: headline_metrics()
  double confidence = kConfidence;
  double at_least = 0.01;
  bool show_equal = false;  // also the rows that are equal in every seed
  bool no_chance = false;   // the one seed stands for all: they do not differ
};
// Those that say how a fleet does: waits, refusals, failures, what is used and paid.
std::vector<std::string> headline_metrics();

// too_small: beyond noise, but a change that does not count (CompareOptions::at_least).
// unmeasured: one side has no sample of it, such as a time of calls that were all refused.
// other_demand: the two sides were not asked for the same.
enum class Verdict {
  equal,
  within_noise,
  too_small,
  better,
  worse,
  changed,
  one_seed,
  unmeasured,
  other_demand
};
const char* to_text(Verdict verdict);

struct CompareRow {
  std::string of;  // the case
  std::string metric;
  double a = 0, b = 0;  // means
  Estimate difference;  // b - a
  bool paired = false;
  double adjusted = 1;  // Holm's p
  Verdict verdict = Verdict::equal;
  bool unmeasured_a = false;  // unmeasured: A is the side without samples, else B
  double relative(double value) const;  // as a share of a; of 1 where a is 0
};

struct Comparison {
  std::string name_a, name_b;
  CompareOptions options;
  std::vector<CompareRow> rows;             // worse first, then better, changed, the rest
  std::vector<std::string> only_a, only_b;  // cases
  std::vector<std::string> broken;          // cases in which B breaks an invariant and A does not
  std::vector<std::string> other_demand;    // cases that are not judged
  std::vector<std::string> other_settings;  // cases of two scenarios that ask for the same
  std::vector<std::string> unknown_demand;  // likewise, but they do not say what is asked for
  std::size_t count(Verdict verdict) const;
};

// Throws std::runtime_error where the two have no case in common, or none that can be judged, or for
// an unknown metric.
Comparison compare(const std::string& name_a, const Measured& a, const std::string& name_b,
                   const Measured& b, const CompareOptions& options);

nlohmann::json to_json(const Comparison& comparison);
std::string summary(const Comparison& comparison);  // for a terminal
std::string html_page(const Comparison& comparison);
// compare.json and report.html, each complete or not there.
void write_comparison(const std::string& folder, const Comparison& comparison);

}  // namespace chalk::sim
