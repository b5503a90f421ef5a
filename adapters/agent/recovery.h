// After a restart: what the machine's State says is compared with what the host has. Sandboxes that
// run in both are taken over; what runs in State only is told as ended; what the host has and State
// does not know as running is ended and taken away, remains of a cut-off start among it.
#pragma once
#include <cstddef>
#include <map>
#include <vector>

#include "adapters/agent/machinery.h"
#include "adapters/agent/sandboxes.h"
#include "adapters/network/network.h"
#include "model/node/node.h"

namespace chalk::agent {

struct Recovery {
  std::size_t adopted = 0;
  std::size_t reaped = 0;
  std::vector<node::SandboxExited> gone;  // for the machine, before it is told that it resumed
};

// Before any order. Blocks.
Recovery recover(const std::map<SandboxId, node::Sandbox>& state, Machinery& machinery,
                 network::Network& network, Sandboxes& sandboxes);

}  // namespace chalk::agent
