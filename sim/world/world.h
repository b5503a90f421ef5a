// The simulated world: it makes the machines of model/ believe that they run a fleet.
//
// One loop takes the earliest of: the queue, the workload's next arrival, and the next completion
// of SimGrid's activities. It steps the machine that the event is for and carries out what the
// machine orders: messages travel (and are lost, repeated, delayed by faults), images are pulled,
// sandboxes start, calls run. It also knows the truth (what really lives on which node), which the
// checkers compare with what the machines believe.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "sim/check/checker.h"
#include "sim/report/result.h"
#include "sim/simgrid/resource_model.h"
#include "sim/workload/distribution.h"
#include "sim/workload/source.h"
#include "sim/world/machines.h"
#include "sim/world/measure.h"
#include "sim/world/queue.h"
#include "sim/world/setup.h"

namespace chalk::sim {

struct Progress {
  double simulated_seconds = 0;
  double share_done = 0;  // 0..1, 0 when the end is not known
  double wall_seconds = 0;
  std::uint64_t events = 0;
  std::uint64_t requests = 0;
};

struct RunOptions {
  std::uint64_t seed = 1;
  std::string log_path;  // empty: no event log
  std::string commit;
  std::uint64_t restore_each = 0;  // events between restores of a machine; 0: never
  bool check = true;               // run the checkers
  bool compare_each_step = false;  // truth and belief at every step of control, not now and then
  std::function<void(const Progress&)> progress;  // about twice a second of wall time
  const std::atomic<bool>* stop = nullptr;        // ends the run cleanly with what there is
};

// One run from its start to its end. Throws InputError for a malformed trace and LogError for a
// log that cannot be made; one that cannot be written to its end stands in Result::no_log.
Result run_world(const Setup& setup, const RunOptions& options);

}  // namespace chalk::sim
