// What other decisions would have made of the demand that a log holds.
//
// The scenario of the log is run again, and with changed settings, on the arrivals of the log: the
// same calls and sandboxes at the same times with the same work. What is chance and no demand (how
// long starts and boots take, whom faults strike) varies over seeds, the same for both sides, so
// the differences are judged seed by seed (sim/compare).
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sim/compare/compare.h"
#include "sim/scenario/parse.h"

namespace chalk::sim {

struct WhatIfQuestion {
  std::string log;
  std::string commit;    // of this program
  std::string node_log;  // of a real node: then `log` is a real control plane's
  std::string scenario;  // empty: scenario.yaml beside the log, as `run --out` leaves it
  std::string trace;     // as for run, where the log was made with one
  std::vector<Override> sets;
  std::uint32_t seeds = 5;
  unsigned parallel = 2;
  CompareOptions compare;
};

struct WhatIfResult {
  Comparison comparison;
  std::string scenario;
  std::uint64_t seed = 0;  // of the log
  std::uint64_t arrivals = 0;
  bool same_as_log = false;  // the first run decides as the log says, event by event
  bool differs = false;      // it does not, and why stands in the notes; neither: nobody can know
  std::optional<double> log_ends_seconds;  // where the log is of a run that was interrupted
  std::vector<std::string> notes;
};

// `done` of `whole` runs. Throws LogError, ScenarioError, and std::runtime_error where a setting
// would change the demand, the log was changed or is another scenario's, or a run fails.
WhatIfResult what_if(const WhatIfQuestion& question,
                     const std::function<void(std::size_t done, std::size_t whole)>& progress,
                     const std::atomic<bool>* stop);

}  // namespace chalk::sim
