#include "tests/conformance/driven_node.h"

#include <utility>

#include "model/core/codec.h"

namespace chalk::conformance {
namespace {

node::Config config_of_a_node() {
  node::Config config;
  config.heartbeat = seconds(1'000'000);  // nobody listens
  config.cache.retry = milliseconds(20);
  config.restart_pause = milliseconds(200);
  return config;
}

NodeRegistration registration_of_a_node() {
  NodeRegistration out;
  out.key = 1;
  out.incarnation = 1;
  out.pool = {1};
  out.zone = {1};
  out.shape.cpu_millicores = 16'000;
  out.shape.memory_bytes = 16LL << 30;
  out.shape.disk_bytes = 16LL << 30;
  return out;
}

std::string name_of(const node::Effect& effect) {
  static constexpr const char* kNames[] = {"WakeAt",     "ToControl",   "StartSandbox",
                                           "KillSandbox", "PullLayers", "EvictLayers",
                                           "Register",   "Scrub",      "SaveSnapshot",
                                           "MakeShell",  "CancelPull"};
  return kNames[effect.index()];
}
std::string name_of(const node::Event& event) {
  if (const auto* one = std::get_if<node::SandboxStarted>(&event)) {
    return "SandboxStarted " + std::to_string(one->sandbox.value) + (one->good ? "" : " badly");
  }
  static constexpr const char* kNames[] = {"Woken",        "FromControl",   "SandboxStarted",
                                           "SandboxExited", "SandboxKilled", "PullFinished",
                                           "Booted",       "Welcomed",      "Unknown",
                                           "ScrubFinished", "Resumed",       "SnapshotSaved",
                                           "ShellMade",    "LayersLost"};
  return kNames[event.index()];
}

}  // namespace

DrivenNode::DrivenNode(Arm& arm, bool twice)
    : arm_(arm),
      twice_(twice),
      config_(config_of_a_node()),
      machine_(config_, registration_of_a_node()) {
  step(node::Booted{});
  step(node::Welcomed{1, {1}});
}

void DrivenNode::step(const node::Event& event) {
  trail_ += name_of(event) + "; ";
  std::vector<node::Effect> effects;
  machine_.step(arm_.now(), event, effects);
  for (const node::Effect& effect : effects) {
    ++ordered_[name_of(effect)];
    if (const auto* wake = std::get_if<WakeAt>(&effect)) {
      wake_ = wake->at;
    } else if (const auto* say = std::get_if<node::ToControl>(&effect)) {
      // Nobody acknowledges, so a heartbeat says all of them again.
      const auto& envelope = say->envelope;
      if (envelope.message && envelope.sequence > reported_) {
        reported_ = envelope.sequence;
        reports_.push_back(*envelope.message);
      }
    } else if (!std::holds_alternative<node::Register>(effect)) {
      trail_ += "[" + name_of(effect) + "] ";
      for (int i = 0; i < (twice_ ? 2 : 1); ++i) arm_.obey(effect);
    }
  }
}

void DrivenNode::order(NodeOrder order) {
  if (const auto* start = std::get_if<StartOrder>(&order)) arm_.accepted(*start);
  orders_.push_back(order);
  step(node::FromControl{{1, ++sequence_, 0, std::move(order)}});
}
void DrivenNode::lose(NodeOrder order) {
  orders_.push_back(std::move(order));
  if (lost_ == 0) lost_ = sequence_ + 1;
  ++sequence_;
}
void DrivenNode::send_lost_again() {
  for (std::uint64_t number = std::exchange(lost_, 0); number <= sequence_; ++number) {
    const NodeOrder& order = orders_[number - 1];
    if (const auto* start = std::get_if<StartOrder>(&order)) arm_.accepted(*start);
    step(node::FromControl{{1, number, 0, order}});
  }
}

// One thing more; false when nothing came until then.
bool DrivenNode::pump(Time until) {
  const Time now = arm_.now();
  if (wake_ <= now) {
    wake_ = kNever;
    step(Woken{});
    return true;
  }
  if (until <= now) return false;
  if (const auto event = arm_.next(std::min(until, wake_) - now)) {
    step(*event);
    return true;
  }
  return arm_.now() < until;
}

bool DrivenNode::await(const std::function<bool()>& holds) {
  const Time until = arm_.now() + arm_.patience;
  while (!holds()) {
    if (!pump(until)) return holds();
  }
  return true;
}
bool DrivenNode::await_started(std::uint64_t number) {
  return await([&] { return started(number) > 0 || !ended(number).empty(); }) &&
         started(number) == 1;
}
bool DrivenNode::await_restarted(std::uint64_t number, std::uint32_t count, bool running) {
  return await([&] {
    const RestartedReport last = restarted(number);
    return last.count > count || (last.count == count && last.running == running);
  });
}
bool DrivenNode::await_ended(std::uint64_t number) {
  return await([&] { return !ended(number).empty(); });
}
void DrivenNode::go_on(Duration wait) {
  const Time until = arm_.now() + wait;
  while (pump(until)) {
  }
}

void DrivenNode::restart_agent(const std::function<void()>& meanwhile) {
  trail_ += "agent goes; ";
  arm_.agent_goes();
  if (meanwhile) meanwhile();
  node::State state;
  CHALK_INVARIANT(decode(encode(machine_.state()), state));  // what its log says
  arm_.agent_returns(state);
  machine_ = node::Node(config_, std::move(state));
  // Resumed comes behind what was found.
  const Time until = arm_.now() + arm_.patience;
  while (const auto event = arm_.next(until - arm_.now())) {
    step(*event);
    if (std::holds_alternative<node::Resumed>(*event)) return;
  }
}

std::size_t DrivenNode::started(std::uint64_t number) const {
  std::size_t count = 0;
  for (const NodeReport& report : reports_) {
    const auto* one = std::get_if<StartedReport>(&report);
    count += one != nullptr && one->sandbox.value == number;
  }
  return count;
}
RestartedReport DrivenNode::restarted(std::uint64_t number) const {
  RestartedReport last;
  for (const NodeReport& report : reports_) {
    const auto* one = std::get_if<RestartedReport>(&report);
    if (one != nullptr && one->sandbox.value == number) last = *one;
  }
  return last;
}
std::vector<EndedReport> DrivenNode::ended(std::uint64_t number) const {
  std::vector<EndedReport> out;
  for (const NodeReport& report : reports_) {
    const auto* one = std::get_if<EndedReport>(&report);
    if (one != nullptr && one->sandbox.value == number) out.push_back(*one);
  }
  return out;
}
std::size_t DrivenNode::scrubbed() const {
  std::size_t count = 0;
  for (const NodeReport& report : reports_) {
    count += std::holds_alternative<ScrubbedReport>(report);
  }
  return count;
}
std::vector<RefusedReport> DrivenNode::refused() const {
  std::vector<RefusedReport> out;
  for (const NodeReport& report : reports_) {
    if (const auto* one = std::get_if<RefusedReport>(&report)) out.push_back(*one);
  }
  return out;
}
std::size_t DrivenNode::ordered(const std::string& effect) const {
  const auto found = ordered_.find(effect);
  return found == ordered_.end() ? 0 : found->second;
}

}  // namespace chalk::conformance
