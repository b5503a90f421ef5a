// Takes off this host what a node agent leaves on it for its successor: ends the sandboxes and removes
// their control groups, namespaces, links, packet rules and mounts. The data directory stays: an
// agent that is started over it again finds its sandboxes gone, and reports that.
#pragma once
#include <cstddef>

#include "adapters/agent/options.h"

namespace chalk::agent {

struct Cleared {
  std::size_t sandboxes = 0;  // that were ended, or had left a control group
  std::size_t mounts = 0;
};

// Of the options it takes data, network_prefix and network_pool. Error::unavailable while an agent
// with this prefix runs. Can be repeated.
Result<Cleared> clear_host(const Options& options);

// The same as a command of chalk-node and chalk-server. Throws std::runtime_error.
inline constexpr const char* kClearHelp =
    "end the sandboxes of a stopped node and remove its groups, networks and mounts from this host";
int clear_command(const Options& options);

}  // namespace chalk::agent
