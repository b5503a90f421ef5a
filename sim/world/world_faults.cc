// What goes wrong: faults come from the scenario as data, chances from the run's seed.
#include <algorithm>
#include <utility>

#include "model/core/codec.h"
#include "sim/world/deploy.h"
#include "sim/world/world_body.h"

namespace chalk::sim {

std::int32_t World::permille_of(Fault::Kind kind, std::uint32_t node) const {
  if (faults_active_ == 0) return 0;
  std::int32_t highest = 0;
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
    if (!fault_active_[i] || setup_.faults[i].kind != kind) continue;
    const auto& only = fault_nodes_[i];
    if (!only || std::find(only->begin(), only->end(), node) != only->end()) {
      highest = std::max(highest, setup_.faults[i].permille);
    }
  }
  return highest;
}

// The fault that happens to one purchase, if any does.
const Fault* World::strikes(Fault::Kind kind, std::uint32_t pool, std::uint32_t zone) {
  if (faults_active_ == 0) return nullptr;
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
    const Fault& fault = setup_.faults[i];
    if (!fault_active_[i] || fault.kind != kind) continue;
    if (fault.pool >= 0 && pool != static_cast<std::uint32_t>(fault.pool)) continue;
    if (fault.zone >= 0 && zone != static_cast<std::uint32_t>(fault.zone)) continue;
    if (random_.below(1000) < static_cast<std::uint64_t>(fault.permille)) return &fault;
  }
  return nullptr;
}

World::Travel World::travel(bool heartbeat) {
  Travel way;
  if (faults_active_ == 0) return way;
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
    if (!fault_active_[i]) continue;
    const Fault& fault = setup_.faults[i];
    const auto strikes = [&] {
      return random_.below(1000) < static_cast<std::uint64_t>(fault.permille);
    };
    switch (fault.kind) {
      case Fault::Kind::message_loss: way.lost = strikes() || way.lost; break;
      case Fault::Kind::message_duplicate: way.twice = strikes() || way.twice; break;
      case Fault::Kind::message_delay:
        if (strikes()) {
          const auto most = static_cast<std::uint64_t>(fault.delay.nanos) + 1;
          way.later = way.later + Duration{static_cast<std::int64_t>(random_.below(most))};
        }
        break;
      case Fault::Kind::heartbeat_lag:
        if (heartbeat) way.later = way.later + fault.delay;
        break;
      default: break;
    }
  }
  return way;
}

void World::post_control(control::Event&& event, bool heartbeat, std::uint32_t sender) {
  const Travel way = travel(heartbeat);
  if (way.lost) return;
  const Time at = now_ + latency_ + way.later;
  if (way.twice)
    queue_.push(kMessageLane, at, kToControl, sender, control_mail_.put(control::Event(event)));
  queue_.push(kMessageLane, at, kToControl, sender, control_mail_.put(std::move(event)));
}

// What an operator does is said to control itself, who is asked again when it is back.
bool World::asked_again(const Fault& fault) const {
  return fault.kind == Fault::Kind::node_drain && control_down_;
}

void World::fault_begins(std::size_t index) {
  const Fault& fault = setup_.faults[index];
  if (asked_again(fault)) return queue_.push(kHeap, now_ + seconds(1), kFaultBegins, 0, index);
  fault_active_[index] = true;
  ++faults_active_;
  switch (fault.kind) {
    case Fault::Kind::node_crash:
    case Fault::Kind::zone_loss:
      for (const std::uint32_t node : struck(fault)) {
        crash(node);
        if (fault.lasts.nanos != 0) queue_.push(kHeap, now_ + fault.lasts, kBoot, node, 0);
      }
      break;
    case Fault::Kind::agent_restart:
      for (const std::uint32_t node : struck(fault)) {
        if (!nodes_[node].agent_up) continue;
        agent_goes(node);
        queue_.push(kHeap, now_ + fault.lasts, kAgentBack, node, nodes_[node].agent);
      }
      break;
    case Fault::Kind::node_drain:
      fault_nodes_[index] = struck(fault);
      for (const std::uint32_t node : *fault_nodes_[index]) {
        if (nodes_[node].id) step_control(fleet::DrainAsked{nodes_[node].id, true});
      }
      break;
    case Fault::Kind::slow_registry: set_registries(); break;
    case Fault::Kind::control_restart: control_down_ = true; break;
    case Fault::Kind::start_failure:
      if (fault.count != 0) fault_nodes_[index] = struck(fault);
      break;
    default: break;
  }
  if (fault.lasts.nanos != 0) queue_.push(kHeap, now_ + fault.lasts, kFaultEnds, 0, index);
}

void World::fault_ends(std::size_t index) {
  const Fault& fault = setup_.faults[index];
  if (!fault_active_[index]) return;
  if (asked_again(fault)) return queue_.push(kHeap, now_ + seconds(1), kFaultEnds, 0, index);
  fault_active_[index] = false;
  --faults_active_;
  if (fault.kind == Fault::Kind::slow_registry) set_registries();
  if (fault.kind == Fault::Kind::node_drain) {
    for (const std::uint32_t node : *fault_nodes_[index]) step_control(fleet::UndrainAsked{node + 1});
  }
  if (fault.kind != Fault::Kind::control_restart) return;
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {  // down until the last of them is over
    if (fault_active_[i] && setup_.faults[i].kind == Fault::Kind::control_restart) return;
  }
  restore_control();
}

// Each is as slow as the worst of its faults says.
void World::set_registries() {
  if (!model_) return;
  for (std::uint32_t zone = 0; zone < setup_.zones.size(); ++zone) {
    std::int32_t slowest = 1000;
    for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
      const Fault& fault = setup_.faults[i];
      if (!fault_active_[i] || fault.kind != Fault::Kind::slow_registry) continue;
      const bool there = fault.zone < 0 || zone == static_cast<std::uint32_t>(fault.zone);
      if (there) slowest = std::min(slowest, fault.permille);
    }
    model_->set_registry_speed(zone, now_, slowest);
  }
}

// The nodes that a fault happens to: those of its zone, the first `count` of a random order.
std::vector<std::uint32_t> World::struck(const Fault& fault) {
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
    const bool there = fault.zone < 0 || nodes_[i].zone == static_cast<std::uint32_t>(fault.zone);
    if (nodes_[i].up && there) nodes.push_back(i);
  }
  std::size_t count = nodes.size();
  if (fault.kind != Fault::Kind::zone_loss) {
    count = std::min<std::size_t>(count, static_cast<std::size_t>(std::max(1, fault.count)));
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(nodes[i], nodes[i + random_.below(nodes.size() - i)]);
  }
  nodes.resize(count);
  return nodes;
}

void World::crash(std::uint32_t index) {
  TrueNode& node = nodes_[index];
  const std::vector<SandboxId> live = node.live;
  for (const SandboxId sandbox : live) end_live(index, sandbox);
  measure_.node_down(now_, setup_.pools[node.pool]);
  node.up = false;
  ++node.epoch;
  ++node.agent;
  node.last_owner = {};  // a machine that boots has empty memory and a fresh disk
  leave_host(index);
}

// ---- nodes that their supplier wants back

// Drawn for each boot by itself, so that pools without such nodes draw nothing.
void World::plan_reclaim(std::uint32_t index) {
  const TrueNode& node = nodes_[index];
  const Pool& pool = setup_.pools[node.pool];
  if (pool.spot_life.nanos == 0) return;
  const std::uint64_t draw =
      random_at(mix64(options_.seed ^ 0x73706f74), std::uint64_t{index} << 16 | node.epoch);
  const Duration life =
      to_distribution(Delay{Delay::Kind::exponential, pool.spot_life, 0}).sample(draw);
  queue_.push(kHeap, now_ + life, kReclaimNoticed, index, node.epoch);
}

void World::reclaim_noticed(std::uint32_t index) {
  const TrueNode& node = nodes_[index];
  const Time at = now_ + setup_.pools[node.pool].spot_notice;
  queue_.push(kHeap, at, kReclaimed, index, node.epoch);
  if (node.id) post_control(fleet::ReclaimNoticed{node.id, at}, false, 0);
}

void World::reclaimed(std::uint32_t index) {
  crash(index);
  nodes_[index].released = true;
}

// The agent's process is gone and with it all that it had under way: starts are cut off, pulls, kills
// and scrubs are forgotten. What runs goes on.
void World::agent_goes(std::uint32_t index) {
  TrueNode& node = nodes_[index];
  node.agent_up = false;
  ++node.agent;
  const std::vector<SandboxId> live = node.live;
  for (const SandboxId sandbox : live) {
    if (truth_.find(index, sandbox)->running == kNever) end_live(index, sandbox);
  }
  stop_serving(index);
  stop_all_fetching(index);
}

// The next one over the same log.
void World::agent_returns(std::uint32_t index) {
  TrueNode& node = nodes_[index];
  if (!node.up) return;
  node.agent_up = true;
  machines_->restore_node(node.machine);
  if (node.wake < now_) obey_node_wake(index, WakeAt{now_});  // it came due meanwhile
  const std::vector<SandboxId> exited = std::exchange(node.exited, {});
  for (const SandboxId sandbox : exited) step_node(index, node::SandboxExited{sandbox});
  step_node(index, node::Resumed{});
}

// ---- the control plane's own log, kept where a scenario restarts it

void World::journal(const control::Event& event) {
  if (control_checkpoint_.empty() || control_journal_.size() >= 10'000) {
    control_checkpoint_ = encode(machines_->control().state());
    control_journal_.clear();
  }
  control_journal_.emplace_back(now_, encode(event));
}

// As a server starts: the last snapshot, then the log after it, with every effect dropped. It must
// arrive at the State that the old process had.
void World::restore_control() {
  control_down_ = false;
  control::State state;
  CHALK_INVARIANT(decode(control_checkpoint_, state));
  control::Control restored(machines_->control_config(), std::move(state));
  std::vector<control::Effect> dropped;
  for (const auto& [at, bytes] : control_journal_) {
    control::Event event;
    CHALK_INVARIANT(decode(bytes, event));
    dropped.clear();
    restored.step(at, event, dropped);
  }
  CHALK_INVARIANT(restored.digest() == machines_->control().digest());
  machines_->restore_control(restored.state());
  // Timers that came due meanwhile fire now; the rest keep their time.
  control_wake_ = std::max(now_, control_wake_);
  if (control_wake_ != kNever) queue_.push(kHeap, control_wake_, kControlWake, 0, 0);
  step_control(fleet::Resumed{});
}

}  // namespace chalk::sim
