// What the control plane orders of the world.
#include "sim/world/world_body.h"

namespace chalk::sim {
namespace {

const char* refusal_name(const sandbox::Refused& refused) {
  switch (refused.rule) {
    case sandbox::Refusal::unknown_image: return "unknown_image";
    case sandbox::Refusal::sandboxes_limit: return "sandboxes_limit";
    case sandbox::Refusal::keys_limit: return "keys_limit";
    case sandbox::Refusal::lifetime_too_long: return "lifetime_too_long";
    case sandbox::Refusal::no_resources: return "no_resources";
    case sandbox::Refusal::never_fits: return "never_fits";
    case sandbox::Refusal::gang_size: return "gang_size";
    case sandbox::Refusal::admission:
      return tenancy::rule_name(static_cast<tenancy::Rule>(refused.admission_rule));
  }
  return "unknown";
}

const char* end_reason_name(EndReason reason) {
  switch (reason) {
    case EndReason::exited: return "exited";
    case EndReason::terminated: return "terminated";
    case EndReason::lifetime_reached: return "lifetime_reached";
    case EndReason::start_failed: return "start_failed";
    case EndReason::pull_failed: return "pull_failed";
    case EndReason::out_of_memory: return "out_of_memory";
    case EndReason::node_lost: return "node_lost";
    case EndReason::agent_restarted: return "agent_restarted";
    case EndReason::bad_image: return "bad_image";
    case EndReason::preempted: return "preempted";
    case EndReason::gang_ended: return "gang_ended";
  }
  return "unknown";
}

}  // namespace

void World::obey(const control::ToNode& message) {
  const auto slot = SlotTable<NodeId, int>::slot_of(message.node);
  if (slot >= node_of_slot_.size()) return;
  const std::uint32_t index = node_of_slot_[slot];
  const Travel way = travel(!message.envelope.message.has_value());
  if (way.lost) return;
  const Time at = now_ + latency_ + way.later;
  machines_->prefetch_node(nodes_[index].machine, 10);
  for (int copy = 0; copy < (way.twice ? 2 : 1); ++copy) {
    queue_.push(kMessageLane, at, kToNode, index,
                node_mail_.put(node::FromControl{message.envelope, message.node}));
  }
}

void World::obey(const control::ToGateway& message) {
  const auto index = static_cast<std::uint32_t>(message.gateway.value - 1);
  const Travel way = travel(false);
  if (way.lost) return;
  const Time at = now_ + latency_ + way.later;
  for (int copy = 0; copy < (way.twice ? 2 : 1); ++copy) {
    queue_.push(kMessageLane, at, kToGateway, index,
                gateway_mail_.put(gateway::FromControl{message.envelope}));
  }
}

void World::obey(const control::UnknownNode& unknown) {
  const Travel way = travel(false);
  if (way.lost) return;
  // The answer goes back to whoever wrote; the id's slot may be another node's by now.
  queue_.push(kMessageLane, now_ + latency_ + way.later, kToNode, sender_,
              node_mail_.put(node::Unknown{unknown.incarnation}));
}

void World::obey(const fleet::WelcomeNode& welcome) {
  const auto index = static_cast<std::uint32_t>(welcome.key - 1);
  const auto slot = SlotTable<NodeId, int>::slot_of(welcome.node);
  if (node_of_slot_.size() <= slot) node_of_slot_.resize(slot + 1);
  node_of_slot_[slot] = index;
  nodes_[index].id = welcome.node;
  const Travel way = travel(false);
  if (way.lost) return;
  queue_.push(kMessageLane, now_ + latency_ + way.later, kToNode, index,
              node_mail_.put(node::Welcomed{welcome.incarnation, welcome.node}));
}

void World::obey(const fleet::BuyNode& buy) {
  const auto pool = static_cast<std::uint32_t>(buy.pool.value - 1);
  const std::uint32_t zone =
      buy.zone ? static_cast<std::uint32_t>(buy.zone.value - 1) : setup_.pools[pool].zones.front();
  if (const Fault* fault = strikes(Fault::Kind::purchase_failure, pool, zone)) {
    return queue_.push(kHeap, now_ + fault->delay, kToControl, 0,
                       control_mail_.put(fleet::PurchaseFailed{buy.purchase}));
  }
  const std::uint32_t node = add_node(pool, zone, buy.purchase);
  Duration takes = boots_[pool].sample(random_.next());
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
    const Fault& fault = setup_.faults[i];
    if (fault_active_[i] && fault.kind == Fault::Kind::late_supply) takes = takes + fault.delay;
  }
  measure_.node_bought(now_, setup_.pools[pool]);
  if (strikes(Fault::Kind::boot_failure, pool, zone) != nullptr) return;
  queue_.push(kHeap, now_ + takes, kBoot, node, 0);
}

void World::obey(const fleet::CancelPurchase& cancel) {
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    if (node->purchase != cancel.purchase) continue;
    return take_away(static_cast<std::uint32_t>(nodes_.rend() - node) - 1);
  }
}

void World::obey(const fleet::ReleaseNode& release) {
  const auto slot = SlotTable<NodeId, int>::slot_of(release.node);
  if (slot >= node_of_slot_.size()) return;
  if (nodes_[node_of_slot_[slot]].id == release.node) take_away(node_of_slot_[slot]);
}

void World::take_away(std::uint32_t index) {
  TrueNode& node = nodes_[index];
  if (node.released) return;
  const std::vector<SandboxId> live = node.live;
  for (const SandboxId sandbox : live) end_live(index, sandbox);
  node.released = true;
  if (node.purchase != 0 && node.epoch == 0) measure_.node_arrived(now_, setup_.pools[node.pool]);
  ++node.epoch;
  if (!node.up) return;
  measure_.node_down(now_, setup_.pools[node.pool]);
  node.up = false;
  leave_host(index);
}

void World::obey(const sandbox::Accepted& accepted) {
  if (accepted.reply_to == 0) return;
  if (checker_) checker_->accepted(now_, accepted.reply_to, accepted.sandbox);
  Ask* ask = asks_.find(AskId{accepted.reply_to});
  if (ask == nullptr) {
    // A late copy. Of one that was served, whose sandbox is over; or of one that was refused, and
    // now it is nobody's: who asked ends what he sees of it.
    if (accepted.repeated) return;
    control::Event end = sandbox::TerminateRequested{accepted.sandbox, {}};
    return queue_.push(kMessageLane, now_ + latency_, kToControl, 0, control_mail_.put(std::move(end)));
  }
  ask->answered = true;
  const auto place = SlotTable<SandboxId, int>::slot_of(accepted.sandbox);
  if (ask_of_.size() <= place) ask_of_.resize(place + 1);
  ask_of_[place] = {accepted.sandbox, AskId{accepted.reply_to}};
}

void World::obey(const sandbox::Refused& refused) {
  if (refused.reply_to == 0) return;  // a replica; its group goes on with what it has
  if (checker_) checker_->refused(refused.reply_to);
  const Ask* ask = asks_.find(AskId{refused.reply_to});
  if (ask == nullptr) return;
  measure_.refused(refusal_name(refused), ask->asked.tenant);
  const std::uint32_t client = ask->client;
  asks_.erase(AskId{refused.reply_to});
  if (client != kNoClient) source_->finished(client, now_);
}

void World::obey(const sandbox::Running&) {}
void World::obey(const sandbox::Restarted&) {}

void World::obey(const sandbox::Gone& gone) {
  if (gone.reply_to == 0) return;
  const Ask* ask = asks_.find(AskId{gone.reply_to});
  if (ask == nullptr) return;
  if (gone.reason == EndReason::exited || gone.reason == EndReason::lifetime_reached ||
      gone.reason == EndReason::terminated) {
    measure_.call_finished(now_, now_ - ask->arrived, ask->asked.tenant);
  } else if (ask->ran) {
    measure_.call_broken(now_, end_reason_name(gone.reason));
  } else {
    measure_.failed(end_reason_name(gone.reason));
  }
  const std::uint32_t client = ask->client;
  asks_.erase(AskId{gone.reply_to});
  if (client != kNoClient) source_->finished(client, now_);
}

void World::obey(const WakeAt& wake) {
  control_wake_ = std::max(now_, wake.at);
  queue_.push(kHeap, control_wake_, kControlWake, 0, 0);
}

}  // namespace chalk::sim
