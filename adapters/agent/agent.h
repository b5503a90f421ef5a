// The node agent: the node machine under its driver, with its own log, bound to runsc, the network,
// registries and the server. It decides nothing: the machine orders, the agent carries out, and says
// what became of it.
//
// Promises: every order is carried out at most once at a time and can be given again; sandboxes go
// on when the agent ends or is killed, and the next one over the same data directory takes them
// over, with their published ports; what runs and is in no log is ended.
// One agent holds a data directory at a time.
#pragma once
#include <memory>

#include "adapters/agent/options.h"

namespace chalk::agent {

class Agent {
 public:
  explicit Agent(Options options);
  ~Agent();  // stops
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Recovers, takes over what runs, connects. Blocks while it joins (about a minute at most) and
  // while a canary finds out the platform. Throws std::runtime_error with what to do; then nothing
  // is left of it.
  void start();
  // Orderly: nothing new is begun, starts under way are cut off (and begun again by the next
  // agent), sandboxes go on.
  void stop();

  struct Status {
    bool connected = false;
    std::uint64_t node = 0;  // NodeId; 0 until welcomed
    std::size_t sandboxes = 0, sessions = 0, channels = 0;
    std::size_t starts_waiting = 0;
  };
  Status status();

 private:
  struct Parts;
  Options options_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace chalk::agent
