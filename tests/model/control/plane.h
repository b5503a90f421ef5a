// A control plane for tests whose nodes obey when the test says.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "model/control/control.h"
#include "tests/support/said.h"

namespace chalk::control {

inline constexpr std::int64_t kGi = 1LL << 30;
inline NodeShape shape(std::int64_t cores) {
  return {.cpu_millicores = cores * 1000, .memory_bytes = cores * 4 * kGi, .disk_bytes = kGi};
}

// A control plane whose nodes start at once what they are told to, and stop it when the test says.
class Plane {
 public:
  explicit Plane(Config config = {}, std::uint64_t tenants = 2, std::uint32_t nodes_max = 100)
      : config_(config), control_(config) {
    fleet::PoolAdded pool{{1}, {}};
    pool.policy.shape = shape(64);
    pool.policy.zones = {{1}};
    pool.policy.nodes_max = nodes_max;
    step(pool);
    for (std::uint64_t id = 1; id <= tenants; ++id) {
      tenancy::TenantAdded one;
      one.tenant = {id};
      step(one);
    }
    step(GatewayJoined{{1}, 1});
  }
  NodeId join(std::int64_t cores) {
    step(NodeRegistration{++keys_, 1, 0, {1}, {1}, shape(cores)});
    return joined_;
  }
  SandboxId ask(std::int64_t cores, Priority priority, std::uint64_t tenant = 1,
                bool restart = false, Gang gang = {}) {
    SandboxRequested asked;
    asked.reply_to = ++asks_;
    asked.tenant = {tenant};
    asked.resources = {.cpu_millicores = cores * 1000, .memory_bytes = cores * kGi};
    asked.priority = priority;
    asked.restart = restart;
    asked.gang = gang;
    step(asked);
    return accepted_;
  }
  void end(SandboxId id, EndReason reason = EndReason::exited) {
    stopping_.erase(id);
    const sandbox::Record* record = find(id);
    if (record == nullptr || !record->node) return;
    report(record->node, EndedReport{id, reason});
  }
  // The nodes end what they were told to stop.
  void end_stopped() {
    while (!stopping_.empty()) end(*stopping_.begin(), EndReason::terminated);
  }
  void at(std::int64_t second) { now_ = second; }
  template <class Event>
  void step(const Event& event) {
    if (forgets) {
      State state = control_.state();
      state.routing.victims_sought.clear();
      control_ = Control(config_, std::move(state));
    }
    for (const Effect& effect : test::tell(control_, Time{seconds(now_).nanos}, event)) {
      std::visit([&](const auto& one) { obey(one); }, effect);
    }
    if (!starts_wait) start_all();
  }
  void start_all() {
    for (auto reports = std::exchange(due_, {}); const auto& [node, one] : reports) {
      report(node, one);
    }
  }
  void report(NodeId node, NodeReport one) {
    step(FromNode{node, {1, ++sent_[node], 1'000'000, std::move(one)}});
  }
  bool placed(SandboxId id) const { return find(id) != nullptr && find(id)->node; }
  bool waits(SandboxId id) const { return find(id) != nullptr && !find(id)->node; }
  const sandbox::Record* find(SandboxId id) const { return control_.sandboxes().find(id); }
  const Control& control() const { return control_; }
  const std::set<SandboxId>& stopping() const { return stopping_; }
  std::optional<EndReason> ended(SandboxId id) const {
    const auto found = ended_.find(id);
    return found == ended_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::vector<sandbox::Refused>& refused() const { return refused_; }
  Duration grace(SandboxId id) const { return graces_.at(id); }

  bool starts_wait = false;  // until start_all
  bool forgets = false;      // before each step what earlier searches for victims have seen

 private:
  void obey(const ToNode& message) {
    if (!message.envelope.message) return;
    std::visit([&](const auto& order) { obey_order(message.node, order); },
               *message.envelope.message);
  }
  void obey_order(NodeId node, const StartOrder& start) {
    due_.emplace_back(node, StartedReport{start.sandbox});
  }
  void obey_order(NodeId, const StopOrder& stop) {
    stopping_.insert(stop.sandbox);
    graces_[stop.sandbox] = stop.grace;
  }
  void obey_order(NodeId node, const ScrubOrder&) { due_.emplace_back(node, ScrubbedReport{}); }
  void obey_order(NodeId, const WarmOrder&) {}
  void obey(const fleet::WelcomeNode& welcome) { joined_ = welcome.node; }
  void obey(const sandbox::Accepted& accepted) { accepted_ = accepted.sandbox; }
  void obey(const sandbox::Refused& refused) { refused_.push_back(refused); }
  void obey(const sandbox::Gone& gone) { ended_[gone.sandbox] = gone.reason; }
  template <class Other>
  void obey(const Other&) {}

  Config config_;
  Control control_;
  std::int64_t now_ = 1;
  std::uint64_t keys_ = 0, asks_ = 0;
  NodeId joined_;
  SandboxId accepted_;
  std::map<NodeId, std::uint64_t> sent_;
  std::vector<std::pair<NodeId, NodeReport>> due_;
  std::set<SandboxId> stopping_;
  std::map<SandboxId, Duration> graces_;
  std::map<SandboxId, EndReason> ended_;
  std::vector<sandbox::Refused> refused_;
};

}  // namespace chalk::control
