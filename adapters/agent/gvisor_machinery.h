// The Machinery by runsc.
#pragma once
#include <memory>
#include <string>

#include "adapters/agent/machinery.h"
#include "adapters/agent/options.h"

namespace chalk::agent {

struct OpenedRuntime {
  std::unique_ptr<Machinery> machinery;
  std::string words;  // version and platform, for people
};
// Finds runsc and a platform that a canary runs on.
Result<OpenedRuntime> open_gvisor(const Options& options);

}  // namespace chalk::agent
