// One group of functions in a gateway, and what its tests ask of it.
#pragma once
#include <cstdint>
#include <vector>

#include "model/functions/functions.h"
#include "tests/support/said.h"

namespace chalk::functions {

using test::said;
using test::tell;
using Sandboxes = std::vector<std::uint64_t>;

constexpr GroupId kGroup{1};
constexpr Time at(std::int64_t s) { return Time{seconds(s).nanos}; }

inline GroupRouting routing() {
  GroupRouting out;
  out.group = kGroup;
  out.report_interval = seconds(1);
  return out;
}
inline Functions with(const GroupRouting& how, std::uint64_t replicas = 0, Config config = {}) {
  Functions functions(config);
  tell(functions, at(0), how);
  for (std::uint64_t n = 1; n <= replicas; ++n) tell(functions, at(0), ReplicaReady{kGroup, {n}});
  return functions;
}
// Wakes the machine at everything it asked for, up to `end`.
inline std::vector<Effect> run_until(Functions& functions, Time end) {
  std::vector<Effect> effects;
  while (functions.state().wake <= end) {
    functions.step(functions.state().wake, Woken{}, effects);
  }
  return effects;
}
inline std::vector<std::uint64_t> returned(const std::vector<Effect>& effects) {
  std::vector<std::uint64_t> out;
  for (const auto& one : said<ReturnReplica>(effects)) out.push_back(one.sandbox.value);
  return out;
}

}  // namespace chalk::functions
