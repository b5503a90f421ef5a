// Replays an event log: builds the machines that it names, feeds them its events, and compares.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "sim/world/event_log.h"

namespace chalk::sim {

struct ReplayReport {
  LogHeader header;
  std::uint64_t events = 0;
  std::uint64_t checkpoints = 0;  // whose whole State was compared
  std::uint64_t running_digest = 0;
  bool finished = false;  // the log ends with its closing record
  bool same = true;
  std::string difference;  // the first one: record, event, what differs
};

// Throws LogError where the file is not a log. With `check_states` the whole State is digested at
// every checkpoint; without it only the running digest, which covers every event and effect.
ReplayReport replay(const std::string& path, bool check_states,
                    const std::function<void(std::uint64_t events)>& progress = {});

}  // namespace chalk::sim
