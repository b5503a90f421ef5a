// Fits a platform to what a real control plane and its node logged, so that the simulator predicts
// that machine: how long messages, pulls, starts and stops take, and how much of a start is work
// that shares the node's cores.
//
// In: the files that `chalk-server export-log` wrote. Both clocks must be one (a node on the same
// host, as all-in-one is). Out: a scenario, the recorded workload as a trace, and what was measured.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/core/resources.h"
#include "model/protocol/protocol.h"

namespace chalk::sim {

// Of one start on the node: when it was ordered of the runtime, how long it took.
struct MeasuredStart {
  Time at;
  Duration took;
  std::int64_t cpu_millicores = 0;
};

// A start costs core_seconds of work on cores that it shares with the starts beside it, and then a
// delay. What cannot be explained is taken for a spread of the work, or of the delay if that is all.
struct StartFit {
  double core_seconds = 0;    // the mean
  double core_spread = 0;     // sigma of its logarithm
  double cores = 1;           // that they share; a node may offer more cpu than its machine has, and
                              // starts get into each other's way
  double mean_seconds = 0;    // of the delay
  double spread = 0;          // sigma of its logarithm
  double error_seconds = 0;   // mean absolute, of the fit
};
// What a start may use at once, however small its share: the agent lends it a core meanwhile.
constexpr std::int64_t kStartCpuMin = 1000;
// Least absolute error over work and cores, of which there are at most cores_max.
StartFit fit_starts(const std::vector<MeasuredStart>& starts, double cores_max);

struct RecordedAsk {
  Time at;
  std::uint64_t tenant = 0;
  std::uint64_t image = 0;
  Resources resources;
  Duration lifetime;
  Duration start_took;  // until control knew that it runs; 0: it never ran
  Duration ran;         // from then until its end, or to the end of the log
  Priority priority = 0;
  bool ended = false;
  // As by an image that does not start, or ended by its client while it waited.
  bool never_ran() const { return ended && start_took.nanos == 0; }
};

struct Calibration {
  NodeShape node;
  std::vector<ImageSpec> images;
  std::vector<RecordedAsk> asks;
  std::vector<MeasuredStart> starts;
  StartFit start;
  Duration to_node, to_control, stop;     // medians
  double pull_bytes_per_second = 0;       // median over pulls; 0: nothing was pulled
  Duration heartbeat;
  std::int64_t image_cache_bytes = 0;
  bool separate_tenants = true;
  std::vector<std::string> notes;
};

// Throws LogError where a file is no log, or holds no sandbox that ran.
Calibration calibrate(const std::string& control_log, const std::string& node_log);

// platform.yaml, workload.jsonl and measured.json in `folder`.
void write_calibration(const std::string& folder, const Calibration& calibration);
// For a terminal.
std::string summary(const Calibration& calibration);

}  // namespace chalk::sim
