// A random scenario: sizes, policies, workloads and every kind of fault that the simulator knows.
#pragma once
#include <cstdint>
#include <string>

namespace chalk::sim {

// The text of a scenario file, a pure function of the seed. Every one can finish: what may be asked
// for fits on a pool that everybody may use, faults end, and what keeps a node for ever is left
// out, so that work left undone is a broken property and not an unlucky draw.
std::string random_scenario(std::uint64_t seed);

}  // namespace chalk::sim
