// A node in the test's process: the real machine of a node, whose sandboxes are nothing but words.
// What it is ordered it does at once, unless it is held. Thread safe, and never waits, so it may be
// called on the driver's thread.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "model/node/node.h"

namespace chalk::server {

class PretendNode {
 public:
  using Register = std::function<void(const NodeRegistration&)>;
  using Report = std::function<void(NodeId, Envelope<NodeReport>)>;

  explicit PretendNode(std::uint64_t key, std::int64_t cpu_millicores = 8'000)
      : machine_(config_, registration_of(key, cpu_millicores)) {}

  // To whom it speaks from now on; a server that restarted is another one.
  void speaks_to(Register say_hello, Report say) {
    const std::lock_guard lock(mutex_);
    register_ = std::move(say_hello);
    report_ = std::move(say);
  }
  void boot() { step(node::Booted{}); }
  void welcome(std::uint64_t incarnation, NodeId id) { step(node::Welcomed{incarnation, id}); }
  void unknown(std::uint64_t incarnation) { step(node::Unknown{incarnation}); }
  void order(Envelope<NodeOrder> envelope) { step(node::FromControl{std::move(envelope)}); }
  void fail_starts() {
    const std::lock_guard lock(mutex_);
    fails_ = true;
  }
  void beat() { step(Woken{}); }  // an hour later by its clock: everything that is due
  void exit(SandboxId sandbox) { step(node::SandboxExited{sandbox, false, {}}); }

  std::map<SandboxId, StartOrder> running() const {
    const std::lock_guard lock(mutex_);
    return running_;
  }
  std::size_t starts() const {
    const std::lock_guard lock(mutex_);
    return starts_;
  }
  NodeId id() const {
    const std::lock_guard lock(mutex_);
    return machine_.id();
  }
  NodeRegistration registration() const {
    const std::lock_guard lock(mutex_);
    return machine_.state().registration;
  }

 private:
  static NodeRegistration registration_of(std::uint64_t key, std::int64_t cpu_millicores) {
    NodeRegistration out;
    out.key = key;
    out.incarnation = 1;
    out.pool = {1};
    out.zone = {1};
    out.shape.cpu_millicores = cpu_millicores;
    out.shape.memory_bytes = 16LL << 30;
    out.shape.disk_bytes = 16LL << 30;
    out.shape.start_slots = 64;
    return out;
  }

  void step(const node::Event& first) {
    const std::lock_guard lock(mutex_);
    std::vector<node::Event> events{first};
    for (std::size_t i = 0; i < events.size(); ++i) {
      now_ = now_ + seconds(std::holds_alternative<Woken>(events[i]) ? 3600 : 0);
      std::vector<node::Effect> effects;
      machine_.step(now_, events[i], effects);
      for (const node::Effect& effect : effects) obey(effect, events);
    }
  }
  void obey(const node::Effect& effect, std::vector<node::Event>& events) {
    if (const auto* hello = std::get_if<node::Register>(&effect)) {
      if (register_) register_(hello->registration);
    } else if (const auto* say = std::get_if<node::ToControl>(&effect)) {
      if (report_) report_(say->node, say->envelope);
    } else if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
      if (!fails_) running_[start->order.sandbox] = start->order;
      ++starts_;
      events.push_back(node::SandboxStarted{start->order.sandbox, !fails_, "started"});
    } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
      running_.erase(kill->sandbox);
      events.push_back(node::SandboxKilled{kill->sandbox, "killed"});
    } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
      events.push_back(images::PullFinished{pull->pull, true, {}});
    } else if (std::get_if<node::Scrub>(&effect) != nullptr) {
      events.push_back(node::ScrubFinished{});
    }
  }

  const node::Config config_;
  mutable std::mutex mutex_;
  node::Node machine_;
  Register register_;
  Report report_;
  Time now_ = Time{} + seconds(1);
  std::map<SandboxId, StartOrder> running_;
  std::size_t starts_ = 0;
  bool fails_ = false;
};

}  // namespace chalk::server
