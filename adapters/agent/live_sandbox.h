// One sandbox as the agent knows it. Internal to Sandboxes; guarded by its mutex but for what only
// the thread that starts or ends it touches.
#pragma once
#include <optional>
#include <string>

#include "adapters/agent/sandboxes.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {

struct Sandboxes::Live {
  StartOrder order;
  std::uint32_t restarts = 0;
  std::string last_started;  // the note of its last start, for a restart
  std::string name;
  node::v1::SandboxPayload payload;
  node::v1::SandboxNote note;

  Phase phase = Phase::starting;
  bool kill_wanted = false;
  std::optional<MainEnd> end;
  std::int64_t ended_at = 0;
};

std::int64_t wall_nanos();

}  // namespace chalk::agent
