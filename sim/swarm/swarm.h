// Random worlds, one after the other, until one breaks a property.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "sim/swarm/trial.h"

namespace chalk::sim {

struct SwarmQuestion {
  std::uint64_t first = 1;
  std::uint64_t last = ~0ULL;  // inclusive
  double seconds_max = 0;      // of wall time; 0: until `last`
  unsigned parallel = 2;
  std::uint64_t digests_every = 16;  // of so many seeds one is run for its digests too
};

struct SwarmProgress {
  std::uint64_t seed = 0;  // about where it is
  std::uint64_t done = 0;
  std::uint64_t events = 0;
};

struct SwarmCase {
  std::uint64_t seed = 0;
  std::string text;  // the scenario
  Failure failure;
  bool digests = false;  // it takes the comparison of digests to see it
};

struct SwarmOutcome {
  std::uint64_t done = 0;
  std::uint64_t events = 0;
  bool interrupted = false;
  std::optional<SwarmCase> found;  // of the lowest seed among those that were run
};

// `scenario` makes the text of a seed: random_scenario, or another in tests.
SwarmOutcome swarm(const SwarmQuestion& question,
                   const std::function<std::string(std::uint64_t)>& scenario,
                   const std::function<void(const SwarmProgress&)>& progress,
                   const std::atomic<bool>* stop);

}  // namespace chalk::sim
