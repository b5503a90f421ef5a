// Reads a scenario file, strictly: unknown keys, wrong units and impossible platforms are errors
// that name the file, the line, what was found and what was expected. docs/scenarios.md has every
// key.
#pragma once
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/world/setup.h"

namespace chalk::sim {

class ScenarioError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// So that the seeds that follow a first one, and sums with one, stay whole numbers of 64 bits.
inline constexpr std::uint64_t kSeedMax = 1ULL << 62;

struct Override {  // --set path=value; elements of lists by number or by their name
  std::string path;
  std::string value;
};

// `trace` ("format:path") replaces the workload. Throws ScenarioError.
Setup load_scenario(const std::string& path, const std::vector<Override>& overrides,
                    const std::optional<std::string>& trace);

// The same of a text; `name` stands for the file in errors and names the scenario.
Setup load_scenario_text(const std::string& name, const std::string& text,
                         const std::vector<Override>& overrides = {},
                         const std::optional<std::string>& trace = {});

// What is allowed but probably not meant.
std::vector<std::string> lint(const Setup& setup);

}  // namespace chalk::sim
