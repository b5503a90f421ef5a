// The sessions of all sandboxes on this node. A session goes on when its client's stream breaks; an
// ended one is kept for a while so that the client can still read its end. Numbers are bounded.
#pragma once
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "adapters/agent/process.h"
#include "adapters/agent/pump.h"
#include "adapters/agent/session.h"
#include "adapters/agent/workers.h"

namespace chalk::agent {

class Sessions {
 public:
  struct Options {
    std::size_t record_bytes_max = 4u << 20;  // per session; see Session
    std::size_t running_max = 512;
    std::size_t of_sandbox_max = 64;  // that run in one sandbox, so that one leaves room for others
    std::size_t ended_max = 512;
    std::chrono::seconds keep_ended{300};
    std::chrono::milliseconds end_patience{3'000};  // of a process whose sandbox has ended
  };
  Sessions(StartProcess start, Options options);
  ~Sessions();

  // The session is there at once, its first event says so, and its process may fail later: then the
  // last event says why. `listed`: others can find it. exhausted: too many run on this node, or in
  // this sandbox.
  Result<std::shared_ptr<Session>> open(SandboxId sandbox, Command command, bool listed = true);
  // Starts the process of a session just opened, and kills it after `timeout` (0: never). Blocks;
  // failures go to the session's record.
  void start(const std::shared_ptr<Session>& session, std::chrono::milliseconds timeout);
  // In its place, where it cannot be started.
  void give_up(const std::shared_ptr<Session>& session, Error why);

  Result<std::shared_ptr<Session>> find(SandboxId sandbox, const std::string& id);
  std::vector<std::shared_ptr<Session>> list(SandboxId sandbox);
  // Kills the process, without waiting for its end.
  void kill(const std::shared_ptr<Session>& session);
  // Nothing runs in it any more: sessions end with what their processes ended with, or as failed.
  void sandbox_ended(SandboxId sandbox);
  std::size_t running();

 private:
  void purge();  // with mutex_

  const StartProcess start_;
  const Options options_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;  // listed or not, by id
  std::map<std::string, bool> listed_;
  Workers killers_{2};
  std::unique_ptr<Pump> pump_;
};

}  // namespace chalk::agent
