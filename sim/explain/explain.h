// Why one event of a log had the effects that it had.
//
// The log is replayed up to the event, and the decision is taken once more beside the machines: who
// could have been chosen, by which rule the chosen one comes first, and the numbers. Where the
// second taking does not choose what the machine chose, that is said.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/world/replay.h"

namespace chalk::sim {

struct Decision {
  std::string what;  // "sandbox 4294967297 goes to node 4294967299"
  std::string
      where;  // the machine that decides: scheduler, tenancy, autoscaler, fleet, functions, node
  std::string rule;
  std::vector<std::pair<std::string, std::string>> numbers;
  std::vector<std::string> columns;                  // of the candidates
  std::vector<std::vector<std::string>> candidates;  // the best first
  std::size_t left_out = 0;                          // candidates that are not listed
  std::string note;
};

struct Explanation {
  LogHeader header;
  std::uint64_t number = 0;
  Time at;
  std::string machine;  // "control plane", "gateway 0", "node 3"
  std::string event;
  std::vector<std::string> effects;
  std::vector<Decision> decisions;
  bool same = true;  // this program decides as the log says, up to here
  std::string difference;
};

// Throws LogError where the file is no log, and std::runtime_error where it has no such event.
Explanation explain(const std::string& path, std::uint64_t number,
                    const std::function<void(std::uint64_t)>& progress = {});

// Events whose text, or that of an effect, contains `text`: at most `most`, with their first line.
struct Found {
  std::uint64_t number = 0;
  Time at;
  std::string machine;
  std::string text;
};
std::vector<Found> find_events(const std::string& path, const std::string& text, std::size_t most,
                               const std::function<void(std::uint64_t)>& progress = {});

nlohmann::json to_json(const Explanation& explanation);
std::string summary(const Explanation& explanation);  // for a terminal

// ---- the parts, by machine
inline constexpr std::size_t kCandidatesMax = 20;
std::vector<Decision> explain_placements(const control::Control& before,
                                         const control::Control& after, Time now,
                                         const control::Event& event,
                                         const std::vector<control::Effect>& effects);
std::vector<Decision> explain_scaling(const control::Control& before, Time now,
                                      const control::Event& event);
// What the fleet buys and gives back.
std::vector<Decision> explain_supply(const control::Control& before, const control::Control& after,
                                     Time now, const std::vector<control::Effect>& effects);
// Refusals.
std::vector<Decision> explain_answers(const std::vector<control::Effect>& effects);
std::vector<Decision> explain_calls(const gateway::Gateway& before,
                                    const std::vector<gateway::Effect>& effects);
std::vector<Decision> explain_node(const node::Event& event,
                                   const std::vector<node::Effect>& effects);

}  // namespace chalk::sim
