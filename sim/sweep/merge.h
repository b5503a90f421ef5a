// The table of a sweep: each point over its seeds, and which points no other beats.
#pragma once
#include <string>
#include <vector>

#include "sim/statistics/statistics.h"
#include "sim/sweep/sweep.h"

namespace chalk::sim {

struct SweepPoint {
  std::size_t point = 0;
  Configuration configuration;
  std::string command;
  std::vector<SweepRun> runs;  // by seed
  Estimate x, y;
  bool on_front = false;    // no other point is at least as good in both and better in one
  bool near = false;        // not on it, but no point of it is better beyond the noise of the seeds
  bool broken = false;      // an invariant; such a point is never on the front
  std::size_t not_met = 0;  // runs in which an assertion does not hold
};

struct SweepTable {
  SweepQuestion question;
  std::string x_metric = "cost";
  std::string y_metric = "wait_p99_ms";
  std::vector<SweepPoint> points;    // those with runs
  std::vector<std::string> missing;  // runs that nobody has finished
  Estimate metric(const SweepPoint& point, const std::string& name) const;
  // The axis for which there is no front, since it is neither good nor bad by itself; else empty.
  std::string no_front() const;
};

// All runs of folders of one sweep. Throws std::runtime_error where they are of different sweeps,
// or where one run has two digests.
SweepQuestion merge_runs(const std::vector<std::string>& folders, SweepRuns& runs);
// Throws std::runtime_error for a metric that docs/results.md does not have.
SweepTable sweep_table(const SweepQuestion& question, const SweepRuns& runs,
                       const std::string& x_metric, const std::string& y_metric);

nlohmann::json to_json(const SweepTable& table);
std::string to_csv(const SweepTable& table);     // a row for each run
std::string summary(const SweepTable& table);    // for a terminal
std::string html_page(const SweepTable& table);  // sim/report's page, with the front drawn
void write_table(const std::string& folder, const SweepTable& table);

}  // namespace chalk::sim
