// What a run or a plan found, and how it is written down. Names are stable: docs/results.md.
#pragma once
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/report/histogram.h"
#include "sim/report/series.h"

namespace chalk::sim {

struct Times {  // milliseconds
  std::uint64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, p999 = 0, min = 0, max = 0;
  std::vector<std::pair<double, double>> cumulative;  // (ms, share)
};
Times times_of(const Histogram& histogram);

struct Share {  // of one tenant or zone
  std::string name;
  double core_hours = 0;
  std::uint64_t sandboxes = 0;
};

struct Assertion {
  std::string text;
  double value = 0;
  bool passed = false;
  bool measured = true;  // false: there was nothing to measure, and it has not passed
};

struct Result {
  std::string scenario;
  std::string shows;
  std::uint64_t seed = 0;
  std::string commit;
  std::uint64_t scenario_hash = 0;
  std::uint64_t digest = 0;
  std::uint64_t demand = 0;  // a digest of all that arrived; 0 where clients wait for answers
  bool interrupted = false;

  std::uint64_t requests = 0;  // calls and bare sandboxes that arrived
  std::uint64_t completed = 0;
  std::uint64_t not_begun = 0;  // at the end of the run: they waited at least so long
  std::map<std::string, std::uint64_t> refused;  // by rule
  std::map<std::string, std::uint64_t> failed;   // by reason
  std::uint64_t cold_starts = 0;     // requests that waited for a start and were first on it
  std::uint64_t replica_starts = 0;  // sandboxes started on nodes
  std::uint64_t shell_starts = 0;    // of them: in a shell that was ready
  std::uint64_t restored_starts = 0;  // from a snapshot
  std::uint64_t snapshots_saved = 0;
  Times wait_ms;                     // from arrival to the beginning of service
  Times total_ms;                    // from arrival to the end of service
  Times watched_wait_ms;             // the same of the watched tenants; all zero where none is
  Times watched_total_ms;
  std::uint64_t watched_refused = 0;
  std::uint64_t scaling_turns = 0;  // changes of direction of what autoscalers desire
  double replicas_max = 0;          // sandboxes on nodes
  double replicas_mean = 0;  // sandboxes on nodes, starting or running; over the arrivals' window
  double starting_mean = 0;
  double busy_mean = 0;  // requests in service
  double nodes_mean = 0;
  double nodes_max = 0;
  double node_hours = 0;
  double cost = 0;       // of nodes that run
  double boot_cost = 0;  // what a supplier that bills from the purchase on asks beside it
  double arrivals_seconds = 0;  // until the last arrival: those above are of this time
  double node_hours_total = 0;  // of the whole run, with what is done after the last arrival
  double cost_total = 0;
  double boot_cost_total = 0;
  std::uint64_t nodes_bought = 0;     // while it ran
  std::uint64_t purchases_failed = 0;  // of these
  std::uint64_t nodes_reclaimed = 0;  // that their supplier asked back
  std::uint64_t sandboxes_moved = 0;  // told to leave their node for another
  std::uint64_t sandboxes_preempted = 0;  // told to make way for more important ones
  std::map<std::string, double> utilisation;  // cpu, memory, disk, gpu: share of capacity allocated
  double gpu_allocated_mean = 0;              // GPUs
  double image_bytes_pulled = 0;      // from registries
  double image_bytes_from_peers = 0;  // asked of other nodes
  double image_hit_ratio = 1;  // sandboxes whose image was on the node
  double simulated_seconds = 0;
  double wall_seconds = 0;
  double requests_per_second = 0;  // of wall time
  double events_per_second = 0;
  std::uint64_t events = 0;
  std::int64_t peak_memory_bytes = 0;

  std::vector<Share> tenants;  // by use, the largest first; the rest summed as "(others)"
  std::vector<Share> zones;
  Series series;
  std::vector<Assertion> assertions;
  std::vector<std::string> broken;  // what checkers found
  std::vector<std::string> notes;
  std::string no_log;  // why the event log that was asked for is not there; empty where it is
};

nlohmann::json to_json(const Result& result);
Result result_from_json(const std::string& text);

// Every flat number by name: "wait_p99_ms", "cold_start_ratio", "refused", "cost", ...
std::optional<double> lookup_metric(const Result& result, const std::string& name);
std::vector<std::string> metric_names();
// Whether anything was measured for a name of these: a time of no call is 0 and says nothing.
bool has_samples(const Result& result, const std::string& name);

struct Condition {
  std::string metric;
  std::string comparison;  // <=, <, >=, >, ==
  double bound = 0;
  bool holds(double value) const;
};
// The error says what was found, what was expected, and the closest name.
std::expected<Condition, std::string> parse_condition(const std::string& text);

struct PlanPoint {
  double value = 0;
  std::vector<double> metrics;  // by seed, of those that measured something
  std::size_t satisfied = 0;    // seeds in which the condition holds
  // Why it does not count in some seed, whatever the condition says: an invariant is broken, an
  // assertion of the scenario fails, or nothing was measured.
  std::vector<std::string> unfit;
  std::uint64_t not_begun = 0;  // most in any seed
};
struct PlanResult {
  std::string knob;
  std::string condition;
  std::vector<std::uint64_t> seeds;
  double low = 0, high = 0;
  bool found = false;
  double chosen = 0;
  bool interrupted = false;
  std::vector<PlanPoint> points;  // by value
  Result reference;               // of the chosen value, with the first seed
  std::vector<std::string> notes;
};
nlohmann::json to_json(const PlanResult& plan);
// "14 of 14 ...": what the seeds say about the next one.
std::string confidence_text(const PlanResult& plan);
// The metric of its condition; its name ends with its unit.
std::string measured(const PlanResult& plan);

// For a terminal.
std::string summary(const Result& result);
std::string plan_summary(const PlanResult& plan);
// A few sentences that answer the question; used on the page and on the terminal.
std::vector<std::string> answer(const Result& result);
std::vector<std::string> answer(const PlanResult& plan);

// result.json, series.csv, wait.csv and report.html (and plan.json), each complete or not there;
// result.json and plan.json come last. Throws std::runtime_error that names the file.
void write_result(const std::string& folder, const Result& result);
void write_plan(const std::string& folder, const PlanResult& plan);

// Removes what an earlier run or plan left, before a new one writes: one that is killed has no
// result, and none lies beside another's.
void clear_result(const std::string& folder);
// Throws where the folder holds one of these files: what another command wrote there, which would
// be taken for a part of this one's.
void refuse_others(const std::string& folder, std::initializer_list<const char*> files);

// What goes to files and to programs; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& json);
std::string hex_text(std::uint64_t digest);
std::string number_text(double value);
std::string shell_word(const std::string& word);  // in quotes where a shell needs them

}  // namespace chalk::sim
