// What chalk-node and chalk-server --all-in-one ask of their user about the node, the same for both.
#pragma once
#include <string>
#include <vector>

#include "adapters/agent/options.h"

namespace CLI {
class App;
}

namespace chalk::agent {

struct NodeFlags {
  std::string cpu, memory, disk, image_cache, registries;
  std::vector<std::string> mirrors;
};

// `app` may be an option group. Both must outlive its parsing.
void add_node_flags(CLI::App& app, Options& options, NodeFlags& flags);
// Throws std::runtime_error that names the flag, what was found and what was expected.
void read_node_flags(const NodeFlags& flags, Options& options);

}  // namespace chalk::agent
