// The sandboxes of this node and what is done to them: started on a bounded number of threads,
// asked to end and killed, cleaned up after, taken over after a restart. Every order is answered by
// one event for the machine (a start that is cut short by a kill: by that of the start).
// Thread safe.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "adapters/agent/alarm.h"
#include "adapters/agent/logs.h"
#include "adapters/agent/machinery.h"
#include "adapters/agent/options.h"
#include "adapters/agent/readiness.h"
#include "adapters/agent/sessions.h"
#include "adapters/agent/workers.h"
#include "adapters/images/image.h"
#include "adapters/images/rootfs.h"
#include "adapters/network/network.h"
#include "model/node/node.h"

namespace chalk::agent {

// The runtime's and the network's name of a sandbox, and back; 0 for what is no such name.
std::string name_of(SandboxId sandbox);
SandboxId sandbox_of(const std::string& name);

class Sandboxes {
 public:
  using Post = std::function<void(node::Event)>;
  struct Parts {
    Machinery& machinery;
    images::Rootfs& rootfs;
    network::Network& network;
    Logs& logs;
    Sessions& sessions;
    Alarm& alarm;
  };
  Sandboxes(const Options& options, Parts parts, Post post);
  ~Sandboxes();

  // ---- orders; each returns at once
  void accepted(SandboxId sandbox);  // the order came in: for the note
  void start(node::StartSandbox what);
  void kill(SandboxId sandbox, EndReason why, Duration grace);
  void scrub();

  // ---- after a restart, before any order; each blocks
  // Watches a sandbox that runs. After an error it is as good as gone.
  Result<void> adopt(const StartOrder& order);
  // Of one that was not taken over and could not be taken away: its end is told once it is gone.
  void end_when_gone(const StartOrder& order, const MainEnd& end);
  // Keeps the output of a sandbox that is to be started again.
  void keep_output(SandboxId sandbox);
  // Takes away what nobody owns. False while its processes may go on.
  bool reap(const std::string& name);

  // What its readiness probe was answered; none where it has none or does not run.
  std::optional<Readiness::State> readiness(SandboxId sandbox) const;
  Result<void> running(SandboxId sandbox) const;  // or why a process cannot be started in it
  std::size_t count() const;
  std::size_t starts_waiting() const { return workers_.waiting(); }
  void stop();  // no more starts are begun; waits for those under way

 private:
  enum class Phase : std::uint8_t { starting, running, ending };
  struct Live;
  using Hold = std::shared_ptr<Live>;

  void begin(const Hold& live);
  Result<void> bring_up(const Hold& live);
  Result<void> launch(const Hold& live, const images::Image& image);
  Result<void> await_startup(Live& live);
  void publish(Live& live);
  void watch(const Live& live);
  void started(const Hold& live);
  void start_failed(const Hold& live, const Error& error);
  void on_end(const Hold& live, MainEnd end);
  Ended ender(const Hold& live);  // tells the end of this life
  void finish(const Hold& live);
  bool clean_up(Live& live);
  void end_later(std::function<void()> end);
  void try_scrub();
  bool wanted(const Live& live) const;  // still to be started
  bool goes_on(const Live& live) const;  // to be started again, as the machine will order
  void hard_kill(const Hold& live);
  std::string note(Live& live) const;
  Hold find(SandboxId sandbox) const;  // with mutex_
  bool lives(const Hold& live) const;  // with mutex_; has not ended, and is the one of now

  const Options& options_;
  const Parts parts_;
  const Post post_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<SandboxId, Hold> live_;
  std::map<SandboxId, std::int64_t> accepted_;
  bool stopping_ = false;
  Readiness readiness_;
  Workers enders_;    // before workers_: starts that fail end here
  Workers retriers_;  // one: each try may take 10 s, and what never ends is in nobody's way
  Workers workers_;
};

}  // namespace chalk::agent
