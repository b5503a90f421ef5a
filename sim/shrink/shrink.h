// Finds the smallest scenario that still fails as a large one does.
//
// The workload is written out as a list of arrivals; then elements of lists are left out by delta
// debugging (A. Zeller and R. Hildebrandt, Simplifying and isolating failure-inducing input, IEEE
// TSE 28, 2002, complements only), keys are left out from the top down (G. Misherghi and Z. Su,
// HDD: hierarchical delta debugging, ICSE 2006), and numbers are made smaller and rounder, again
// and again until nothing is left that can go. Each candidate is run whole: what fails in another
// way, or is no scenario, does not count; nor, where work left undone is the failure, what could
// not be done in any case.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "sim/shrink/tree.h"
#include "sim/swarm/trial.h"

namespace chalk::sim {

struct ShrinkOptions {
  unsigned parallel = 2;
  double seconds_max = 600;         // of wall time: then what there is by then
  unsigned trial_seconds_max = 60;  // of the first run
};

struct ShrinkSize {
  std::size_t lines = 0;  // of the file
  std::size_t arrivals = 0;
  std::size_t faults = 0;
};
ShrinkSize size_of(const Tree& tree);

struct ShrinkProgress {
  std::string step;
  std::uint64_t runs = 0;
  ShrinkSize size;
};

struct ShrinkResult {
  Failure failure;  // of the shrunk scenario
  Tree tree;
  ShrinkSize before, after;
  std::uint64_t runs = 0;
  bool complete = false;  // nothing more can go; false: time was up, or interrupted
  bool interrupted = false;
  bool listed = false;        // the arrivals stand in the scenario one by one
  bool list_passed = false;   // they do not, since written out so it does not fail
};

// Throws std::runtime_error where the scenario does not fail at all.
ShrinkResult shrink(const std::string& name, const std::string& text, const ShrinkOptions& options,
                    const std::function<void(const ShrinkProgress&)>& progress,
                    const std::atomic<bool>* stop);

}  // namespace chalk::sim
