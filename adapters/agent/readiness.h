// Asks sandboxes again and again whether they are ready, each at its own period. One thread carries
// all connections, requests and answers side by side and waits for none of them; gRPC's own threads
// wait for its answers. Thread safe.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "adapters/error.h"
#include "model/core/ids.h"

namespace chalk::node::v1 {
class Probe;
}

namespace chalk::agent {

class Readiness {
 public:
  // A non-blocking connection to the sandbox, maybe still under way; it is closed here.
  using Dial = std::function<Result<int>()>;
  // Told of each change, one at a time, never after forget(); it must not wait and not call back.
  using Changed = std::function<void(bool ready)>;

  Readiness();
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // From now on; anew where it is watched already. It is not ready until it has answered well, and
  // not any more after as many failures in a row as the probe says. Until it first is ready it is
  // asked more often than its period.
  void watch(SandboxId sandbox, const node::v1::Probe& what, Dial dial, Changed changed);
  void forget(SandboxId sandbox);

  struct State {
    bool ready = false;
    std::int64_t since = 0;  // nanoseconds since 1970
    std::string words;       // of the last answer; empty before the first
  };
  std::optional<State> state(SandboxId sandbox) const;  // none: it is not watched

 private:
  using Clock = std::chrono::steady_clock;
  struct Watch;
  struct Call;
  struct Answered {  // by gRPC
    std::shared_ptr<Call> call;
    Result<std::string> answer;
  };

  void run();
  static Result<void> begin(Watch& watch, Clock::time_point now);  // with mutex_, as all below
  void go_on(SandboxId sandbox, Watch& watch, Clock::time_point now);
  Result<std::optional<std::string>> advance(SandboxId sandbox, Watch& watch);
  void call_health(SandboxId sandbox, Watch& watch);
  static void take(Watch& watch, const Result<std::string>& answer, Clock::time_point now);
  void wake() const;

  const int wake_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;
  std::map<SandboxId, Watch> watches_;
  std::vector<Answered> answers_;
  std::size_t calls_ = 0;  // of gRPC, under way
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace chalk::agent
