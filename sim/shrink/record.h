// What arrives in a run, as a section `kind: list` of a workload.
#pragma once
#include <optional>
#include <string>

#include "sim/shrink/tree.h"

namespace chalk::sim {

// Runs the scenario in a process of its own and takes down each arrival as it comes, so that a run
// that stops half way still tells those before. Nothing where nothing arrived.
std::optional<Tree> recorded_workload(const std::string& name, const std::string& text,
                                      unsigned seconds_max);

}  // namespace chalk::sim
