#include "sim/compare/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "sim/report/closest.h"
#include "sim/report/files.h"
#include "sim/report/result.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

std::vector<double> values_of(const MeasuredRuns& runs, const std::string& metric) {
  std::vector<double> out;
  for (const auto& [seed, run] : runs) {
    if (const auto found = run.metrics.find(metric); found != run.metrics.end()) {
      out.push_back(found->second);
    }
  }
  return out;
}

CompareRow row_of(const std::string& of, const std::string& metric,
                  const MeasuredRuns& a, const MeasuredRuns& b, double confidence) {
  CompareRow row;
  row.of = of;
  row.metric = metric;
  std::vector<double> both_a, both_b;
  for (const auto& [seed, run] : a) {
    const auto other = b.find(seed);
    if (other == b.end()) continue;
    const auto in_a = run.metrics.find(metric);
    const auto in_b = other->second.metrics.find(metric);
    if (in_a == run.metrics.end() || in_b == other->second.metrics.end()) continue;
    both_a.push_back(in_a->second);
    both_b.push_back(in_b->second);
  }
  row.paired = both_a.size() >= 2 || (!both_a.empty() && a.size() == 1 && b.size() == 1);
  if (!row.paired) {
    both_a = values_of(a, metric);
    both_b = values_of(b, metric);
  }
  if (both_a.empty() != both_b.empty()) {
    row.verdict = Verdict::unmeasured;
    row.unmeasured_a = both_a.empty();
    return row;
  }
  row.a = mean_of(both_a).mean;
  row.b = mean_of(both_b).mean;
  row.difference = row.paired ? paired_difference(both_a, both_b, confidence)
                              : welch_difference(both_a, both_b, confidence);
  if (row.difference.mean == 0 && row.difference.half == 0) {
    row.verdict = Verdict::equal;
  } else {
    row.verdict = row.difference.has_interval() ? Verdict::within_noise : Verdict::one_seed;
  }
  return row;
}

enum class Kinship { same, other_settings, unknown_demand, other_demand };

// Two files may have one name. Of one scenario two programs are compared, whatever they make
// arrive; of two the work that one seed asks for says whether they differ in what is decided alone.
Kinship kinship(const MeasuredRuns& a, const MeasuredRuns& b) {
  Kinship found = Kinship::same;
  for (const auto& [seed, run] : a) {
    const auto other = b.find(seed);
    if (other == b.end() || run.scenario_hash == 0 || other->second.scenario_hash == 0) continue;
    if (run.scenario_hash == other->second.scenario_hash) continue;
    if (run.demand == 0 || other->second.demand == 0) {
      found = Kinship::unknown_demand;
    } else if (run.demand != other->second.demand) {
      return Kinship::other_demand;
    } else if (found == Kinship::same) {
      found = Kinship::other_settings;
    }
  }
  return found;
}

void judge(std::vector<CompareRow>& rows, const CompareOptions& options) {
  std::vector<double> p;
  std::vector<CompareRow*> asked;
  for (CompareRow& row : rows) {
    if (row.verdict != Verdict::within_noise) continue;
    asked.push_back(&row);
    p.push_back(row.difference.p);
  }
  const std::vector<double> adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    CompareRow& row = *asked[i];
    row.adjusted = adjusted[i];
    const bool matters = std::abs(row.relative(row.difference.mean)) >= options.at_least;
    if (adjusted[i] >= 1 - options.confidence) continue;
    if (!matters) {
      row.verdict = Verdict::too_small;
      continue;
    }
    const Better better = better_of(row.metric);
    if (better == Better::neither) {
      row.verdict = Verdict::changed;
    } else {
      const bool up = row.difference.mean > 0;
      row.verdict = up == (better == Better::more) ? Verdict::better : Verdict::worse;
    }
  }
}

int rank(Verdict verdict) {
  switch (verdict) {
    case Verdict::worse: return 0;
    case Verdict::better: return 1;
    case Verdict::changed: return 2;
    case Verdict::one_seed: return 3;
    case Verdict::too_small: return 4;
    case Verdict::within_noise: return 5;
    case Verdict::unmeasured: return 6;
    case Verdict::other_demand: return 7;
    case Verdict::equal: return 8;
  }
  return 9;
}

void known_metrics(const std::vector<std::string>& metrics) {
  const auto names = metric_names();
  for (const std::string& metric : metrics) {
    if (std::find(names.begin(), names.end(), metric) != names.end()) continue;
    throw std::runtime_error(
        fmt::format("--metrics: found \"{}\", expected names of docs/results.md; the closest is "
                    "\"{}\"",
                    metric, closest(metric, {names.begin(), names.end()})));
  }
}

}  // namespace

std::vector<std::string> headline_metrics() {
  return {"wait_mean_ms",   "wait_p50_ms", "wait_p99_ms", "total_mean_ms", "total_p99_ms",
          "refused",        "failed",      "unfinished",  "cold_starts",   "replica_starts",
          "replicas_mean",  "nodes_mean",  "nodes_max",   "cost",          "image_bytes_pulled",
          "image_hit_ratio"};
}

const char* to_text(Verdict verdict) {
  switch (verdict) {
    case Verdict::equal: return "equal";
    case Verdict::within_noise: return "within noise";
    case Verdict::too_small: return "too small";
    case Verdict::better: return "better";
    case Verdict::worse: return "WORSE";
    case Verdict::changed: return "changed";
    case Verdict::one_seed: return "one seed";
    case Verdict::unmeasured: return "not measured";
    case Verdict::other_demand: return "other demand";
  }
  return "";
}

double CompareRow::relative(double value) const { return a == 0 ? value : value / std::abs(a); }

std::size_t Comparison::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::count_if(
      rows.begin(), rows.end(), [&](const CompareRow& row) { return row.verdict == verdict; }));
}

Comparison compare(const std::string& name_a, const Measured& a, const std::string& name_b,
                   const Measured& b, const CompareOptions& options) {
  Comparison out{name_a, name_b, options, {}, {}, {}, {}, {}, {}, {}};
  if (out.options.metrics.empty()) out.options.metrics = headline_metrics();
  known_metrics(out.options.metrics);
  for (const auto& [of, runs] : a) {
    const auto other = b.find(of);
    if (other == b.end()) {
      out.only_a.push_back(of);
      continue;
    }
    const Kinship kin = kinship(runs, other->second);
    if (kin == Kinship::other_settings) out.other_settings.push_back(of);
    if (kin == Kinship::unknown_demand) out.unknown_demand.push_back(of);
    if (kin == Kinship::other_demand) out.other_demand.push_back(of);
    for (const std::string& metric : out.options.metrics) {
      out.rows.push_back(row_of(of, metric, runs, other->second, options.confidence));
      if (kin == Kinship::other_demand) out.rows.back().verdict = Verdict::other_demand;
    }
    const auto breaks = [](const auto& all) {
      const auto values = values_of(all, "invariants_broken");
      return std::any_of(values.begin(), values.end(), [](double n) { return n > 0; });
    };
    if (breaks(other->second) && !breaks(runs)) out.broken.push_back(of);
  }
  for (const auto& [of, runs] : b) {
    if (!a.contains(of)) out.only_b.push_back(of);
  }
  if (out.rows.empty()) {
    throw std::runtime_error(
        fmt::format("{} and {}: found no scenario that both have", name_a, name_b));
  }
  if (out.count(Verdict::other_demand) == out.rows.size()) {
    throw std::runtime_error(fmt::format(
        "{} and {}: found other arrivals for the same seed in {}, expected one demand: they are not "
        "runs of one scenario, or of its decisions alone",
        name_a, name_b, out.other_demand[0]));
  }
  judge(out.rows, out.options);
  std::stable_sort(out.rows.begin(), out.rows.end(),
                   [](const auto& x, const auto& y) { return rank(x.verdict) < rank(y.verdict); });
  return out;
}

json to_json(const Comparison& c) {
  json rows = json::array();
  for (const CompareRow& row : c.rows) {
    rows.push_back({{"case", row.of},
                    {"metric", row.metric},
                    {"a", row.a},
                    {"b", row.b},
                    {"difference", row.difference.mean},
                    {"half", row.difference.half},
                    {"relative", row.relative(row.difference.mean)},
                    {"relative_half", row.relative(row.difference.half)},
                    {"runs", row.difference.count},
                    {"paired", row.paired},
                    {"p", row.difference.p},
                    {"p_adjusted", row.adjusted},
                    {"verdict", to_text(row.verdict)}});
  }
  return {{"a", c.name_a},
          {"b", c.name_b},
          {"confidence", c.options.confidence},
          {"at_least", c.options.at_least},
          {"worse", c.count(Verdict::worse)},
          {"better", c.count(Verdict::better)},
          {"rows", rows},
          {"only_a", c.only_a},
          {"only_b", c.only_b},
          {"broken", c.broken},
          {"other_demand", c.other_demand},
          {"other_settings", c.other_settings},
          {"unknown_demand", c.unknown_demand}};
}

void write_comparison(const std::string& folder, const Comparison& comparison) {
  write_file(folder + "/compare.json", json_text(to_json(comparison)));
  write_file(folder + "/report.html", html_page(comparison));
}

}  // namespace chalk::sim
