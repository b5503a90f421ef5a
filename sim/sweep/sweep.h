// A sweep: every combination of values of some keys, each with several seeds.
//
// A point is one combination, a run is one point with one seed. Runs are dealt to shards in turn
// and each finished one is a file of its own that is renamed into place, so a shard that was killed
// goes on where it was, shards need nothing from each other, and they may share a folder or not.
//
//   FOLDER/sweep.json                what was asked
//   FOLDER/runs/POINT-SEED.json      one finished run
//   FOLDER/{table.json, table.csv, report.html}    of all runs: merge.h
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/report/result.h"

namespace chalk::sim {

struct Axis {
  std::string key;  // a.b.c
  std::vector<std::string> values;
};
// "a.b.c=1,2,4"; a comma inside brackets, braces or quotes does not part. Throws
// std::runtime_error.
Axis parse_axis(const std::string& text);

using Configuration = std::vector<std::pair<std::string, std::string>>;  // key, value
std::string to_text(const Configuration& configuration);  // "a.b=1 c=x", or "as it is"

struct SweepQuestion {
  std::string scenario;  // its file
  std::string name;
  std::string shows;
  std::uint64_t scenario_hash = 0;  // of the file with `sets` and `trace`
  std::string trace;                // empty: the scenario's own workload
  std::string traces_digest;        // of the content of all that any point reads; empty: of none
  Configuration sets;               // of every point
  std::vector<Axis> axes;
  std::uint64_t first_seed = 1;
  std::uint32_t seeds = 1;
  std::string commit;
  std::string folder;  // in which it was asked, where relative paths hold

  std::size_t points() const;
  std::size_t runs() const { return points() * seeds; }
  Configuration point(std::size_t index) const;  // the last axis varies fastest
  // The one command that repeats a point with its first seed.
  std::string command(std::size_t point) const;
  // Equal where runs may stand in one table: all of the above but the names of file and folder.
  std::string identity() const;
};
nlohmann::json to_json(const SweepQuestion& question);
// Without what says where its files are: what identity() is of.
nlohmann::json identity_json(const SweepQuestion& question);
SweepQuestion sweep_from_json(const nlohmann::json& json);

struct SweepRun {
  std::size_t point = 0;
  std::uint64_t seed = 0;
  std::string digest;
  std::uint64_t scenario_hash = 0;  // with the point's settings; 0: not known
  std::uint64_t demand = 0;         // Result::demand
  double wall_seconds = 0;
  std::map<std::string, double> metrics;  // each of docs/results.md that was measured
  std::vector<std::string> broken;        // invariants
  std::vector<std::string> not_met;       // assertions
};
SweepRun sweep_run(std::size_t point, const Result& result);

// ---- the folder
// Writes sweep.json, or finds it there. Throws std::runtime_error where the folder holds another
// sweep, and says what differs.
void open_sweep(const std::string& folder, const SweepQuestion& question);
SweepQuestion read_question(const std::string& folder);
// The first part in which `asked` is another question than what is `there`; empty where none is.
std::string difference(const SweepQuestion& there, const SweepQuestion& asked);
void write_run(const std::string& folder, const SweepQuestion& question, const SweepRun& run);
// Those in the folder, by (point, seed). Files that are no finished run of this sweep are an error.
using SweepRuns = std::map<std::pair<std::size_t, std::uint64_t>, SweepRun>;
SweepRuns read_runs(const std::string& folder, const SweepQuestion& question);

// ---- running
struct Shard {
  std::uint32_t index = 0;
  std::uint32_t of = 1;
};
Shard parse_shard(const std::string& text);  // "0/4"; throws std::runtime_error

struct SweepProgress {
  std::size_t done = 0;  // of this shard, with those that were there
  std::size_t whole = 0;
  std::size_t there = 0;  // before this start
};
struct SweepOutcome {
  std::size_t ran = 0;
  std::size_t there = 0;
  bool interrupted = false;
  std::vector<std::string> failed;  // runs that ended with an error, and which
};
// One simulation with a point's settings and a seed; called in a process of its own.
using SweepBody = std::function<Result(const Configuration&, std::uint64_t seed)>;
// Runs what is missing of a shard, `parallel` processes at a time.
SweepOutcome run_shard(const SweepQuestion& question, const Shard& shard, const std::string& folder,
                       unsigned parallel, const SweepBody& body,
                       const std::function<void(const SweepProgress&)>& progress,
                       const std::atomic<bool>* stop);

}  // namespace chalk::sim
