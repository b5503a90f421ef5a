// Finds the least value of one setting that meets a condition, over several seeds.
//
// The search doubles its step upwards from the low end until the condition holds, then halves the
// gap (both assume that more does not harm; the points around the answer are then run as well and a
// point that contradicts this is reported). A value meets the condition when every seed does,
// breaks no invariant, meets the scenario's own assertions and measured something.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/report/result.h"

namespace chalk::sim {

struct PlanQuestion {
  std::string knob;  // a.b.c
  std::int64_t low = 1;
  std::int64_t high = 1;
  std::string condition;  // "wait_p99_ms<=500"
  std::vector<std::uint64_t> seeds;
  std::uint32_t parallel = 2;  // runs at once, each in a process of its own
};

// Runs one value with one seed; called in parallel processes. Its Result comes back as JSON.
using PlanRun = std::function<Result(std::int64_t value, std::uint64_t seed)>;
// Told before each value: how many runs are done, and about how many there will be.
using PlanProgress =
    std::function<void(std::size_t done, std::size_t expected, std::int64_t value)>;

PlanResult plan(const PlanQuestion& question, const PlanRun& run, const PlanProgress& progress,
                const std::atomic<bool>* stop);

}  // namespace chalk::sim
