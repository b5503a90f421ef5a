#include "model/control/what_if.h"

namespace chalk::control {
namespace {

template <class IdType>
IdType id_of(std::uint32_t slot, std::uint32_t generation) {
  return IdType{std::uint64_t{generation} << 32 | (slot + 1ULL)};
}

// Whether the node takes anything: one that does not idles or is leaving, and is no question.
bool takes_any(const scheduler::State& state, NodeId node) {
  const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(node);
  return slot < state.infos.size() && state.infos[slot].id == node && !state.infos[slot].cordoned;
}

}  // namespace

WhatIf::WhatIf(const scheduler::Scheduler& scheduler, const sandbox::Sandboxes& sandboxes,
               const tenancy::Tenancy& tenancy, const fleet::Fleet& fleet)
    : sandboxes_(sandboxes),
      tenancy_(tenancy),
      fleet_(fleet),
      fork_(scheduler),
      next_slot_(static_cast<std::uint32_t>(scheduler.state().reservations.size())) {
  // Nodes that idle and may be given back are no room: to move there saves nothing.
  for (const fleet::PoolState& pool : fleet.state().pools) {
    for (const auto& [since, node] : pool.idle) step(scheduler::NodeCordoned{node, true});
  }
  // What has yet to leave the nodes that are being emptied has its room elsewhere, and nobody else's.
  // Where a replacement is on its way it goes there, and its node is no room for others.
  for (const NodeId node : fleet.state().emptying) {
    const fleet::Node& one = fleet.state().nodes.at(node);
    if (one.reclaimed_at != kNever) continue;
    if (one.draining) {
      move_all(node);
    } else {
      step(scheduler::NodeCordoned{node, true});
    }
  }
}

// Whether it was placed, for asks.
template <class Event>
bool WhatIf::step(const Event& event) {
  effects_.clear();
  fork_.step({}, scheduler::Event{event}, effects_);
  return !effects_.empty() && std::holds_alternative<scheduler::Placed>(effects_.front());
}

bool WhatIf::move_all(NodeId node) {
  doubles_.clear();
  step(scheduler::NodeCordoned{node, true});
  const scheduler::NodeInfo& info =
      fork_.state().infos[SlotTable<NodeId, int>::slot_of(node)];
  const PoolId own = info.dedicated ? info.pool : PoolId{};
  bool all = true;
  sandboxes_.for_each_on(node, [&](SandboxId, const sandbox::Record& record) {
    if (!all) return;
    std::uint32_t slot = next_slot_;
    if (spare_slots_.empty()) {
      ++next_slot_;
    } else {
      slot = spare_slots_.back();
      spare_slots_.pop_back();
    }
    const auto twin = id_of<SandboxId>(slot, ++generation_);
    doubles_.push_back(twin);
    all = step(scheduler::PlaceAsked{twin, tenancy_.owner_key(record.tenant), record.resources,
                                     record.pool ? record.pool : own, record.image,
                                     record.group});
    if (all) step(scheduler::StartFinished{twin});
  });
  return all;
}

void WhatIf::take_back(NodeId node) {
  for (const SandboxId twin : doubles_) {
    step(scheduler::Released{twin});
    spare_slots_.push_back(SlotTable<SandboxId, int>::slot_of(twin));
  }
  step(scheduler::NodeCordoned{node, false});
}

bool WhatIf::without(NodeId node) {
  if (!takes_any(fork_.state(), node)) return false;
  const bool all = move_all(node);
  if (!all) take_back(node);
  return all;
}

bool WhatIf::possible(NodeId node) {
  if (!takes_any(fork_.state(), node)) return false;
  const bool all = move_all(node);
  take_back(node);
  return all;
}

bool WhatIf::replaced(NodeId node, PoolId pool) {
  const std::size_t index = pool.value - 1;
  const auto& pools = fleet_.state().pools;
  if (index >= pools.size() || !takes_any(fork_.state(), node)) return false;
  const fleet::PoolPolicy& policy = pools[index].policy;
  const auto extra = id_of<NodeId>(static_cast<std::uint32_t>(fork_.state().infos.size()), 0);
  const scheduler::NodeInfo& info =
      fork_.state().infos[SlotTable<NodeId, int>::slot_of(node)];
  const TenantId owner = info.owner;
  step(scheduler::NodeAdded{extra, policy.shape, pool,
                            policy.zones.empty() ? ZoneId{1} : policy.zones.front(), owner, false});
  const bool all = possible(node);
  step(scheduler::NodeRemoved{extra});
  return all;
}

}  // namespace chalk::control
