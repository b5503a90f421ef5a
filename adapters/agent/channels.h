// The pieces of work that clients wait for: for each the agent opens a Channel stream to the server
// and obeys what comes first on it: a session, a command, the guest helper, logs, a list. One thread
// reads a stream, one writes it; their number is bounded on the node and of one sandbox, so that one
// leaves room for others. One too many is refused in words.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "adapters/agent/logs.h"
#include "adapters/agent/readiness.h"
#include "adapters/agent/sessions.h"

namespace grpc {
class Channel;
}

namespace chalk::agent {

class Channels {
 public:
  struct Sources {
    std::function<std::shared_ptr<grpc::Channel>()> server;
    std::function<Result<void>(SandboxId)> running;  // or why not
    bool guest = false;                              // sandboxes have the helper
    std::function<std::optional<Readiness::State>(SandboxId)> readiness;
  };
  struct Limits {
    std::size_t of_node = 0;
    std::size_t of_sandbox = 0;
  };
  Channels(Sources sources, Sessions& sessions, const Logs& logs, Limits limits);
  ~Channels();

  // Opens the stream of that name and serves it on threads of its own.
  void open(const std::string& channel);
  void stop();  // cuts all streams; processes of sessions go on
  std::size_t count() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace chalk::agent
