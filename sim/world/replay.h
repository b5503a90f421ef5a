// Replays an event log: builds the machines that it names, feeds them its events, and compares.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "sim/world/event_log.h"
#include "sim/world/machines.h"

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

// One event of a replay, before its machine takes it and after.
struct ReplayEvent {
  std::uint64_t number = 0;  // from 1
  Time at;
  Root root{};
  std::uint32_t index = 0;  // of the gateway or node
  std::variant<const control::Event*, const gateway::Event*, const node::Event*> event;
};
using ReplayEffects =
    std::variant<const std::vector<control::Effect>*, const std::vector<gateway::Effect>*,
                 const std::vector<node::Effect>*>;
class ReplayWatcher {
 public:
  virtual ~ReplayWatcher() = default;
  virtual void before(const ReplayEvent& event, const Machines& machines) = 0;
  // False: the replay may end here.
  virtual bool after(const ReplayEvent& event, const Machines& machines,
                     const ReplayEffects& effects) = 0;
};

// Throws LogError where the file is not a log. With `check_states` the whole State is digested at
// every checkpoint; without it only the running digest, which covers every event and effect.
ReplayReport replay(const std::string& path, bool check_states,
                    const std::function<void(std::uint64_t events)>& progress = {},
                    ReplayWatcher* watcher = nullptr);

}  // namespace chalk::sim
