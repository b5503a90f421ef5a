// Preemption: what found no room may have that of less important sandboxes of its own tenant.
//
// A priority orders the work of one tenant and says nothing to others: only the tenant's own
// sandboxes are its victims, so nobody gains room, share or quota from others by naming a high one.
// It is asked only once the order of tenants has let it be tried. Nothing is preempted by an equal.
// The room of the victims is kept for it (nominations.cc), so what they leave goes to nobody else,
// and an ask that comes meanwhile counts them as gone: it takes no others in their place.
#include <algorithm>

#include "model/control/make_room.h"

namespace chalk::control {

// Whether room is being made for it. Where the tenant has nothing less important placed this is one
// look-up; else it costs a look at each node and at what is on those of the tenant.
bool Control::preempt(const scheduler::NotPlaced& not_placed) {
  const sandbox::Record& record = *sandboxes_.find(not_placed.sandbox);
  const bool helps = not_placed.why != scheduler::Shortage::limit &&
                     not_placed.why != scheduler::Shortage::start_slots;
  if (!config_.preemption.enabled || !helps || record.gang ||
      !tenancy_.has_placed_below(record.tenant, record.priority)) {
    return false;
  }
  const scheduler::PlaceAsked asked = room_asked(not_placed.sandbox);
  const std::optional<scheduler::Victims> victims = choose_victims(asked);
  if (!victims) return false;
  nominate(asked, *victims);
  for (const SandboxId victim : victims->sandboxes) make_way(victim);
  return true;
}

std::optional<scheduler::Victims> Control::choose_victims(
    const scheduler::PlaceAsked& asked) const {
  const sandbox::Record& asker = *sandboxes_.find(asked.sandbox);
  const auto may_go = [&](const sandbox::Record& one) {
    const bool stays =
        one.phase == sandbox::Phase::placed || one.phase == sandbox::Phase::running;
    // Of a gang all would have to go for the room of one.
    return stays && one.tenant == asker.tenant && one.priority < asker.priority && !one.gang;
  };
  std::optional<scheduler::Victims> best;
  for_each_node_of(asked, [&](std::uint32_t slot) {
    auto victims = victims_on(slot, asked.ask, may_go);
    if (victims && (!best || scheduler::better(*victims, *best))) best = std::move(victims);
  });
  return best;
}

// Keeps the room that they leave for the one that waits.
void Control::nominate(const scheduler::PlaceAsked& asked, const scheduler::Victims& victims) {
  count_waiting(asked.sandbox, -1);  // no node is bought for it
  drive(tenancy_, tenancy_scratch_, tenancy::SandboxNominated{asked.sandbox});
  const NodeId node = scheduler_.state().infos[victims.slot].id;
  drive(scheduler_, scheduler_scratch_, scheduler::Nominated{asked, node, victims.gpu_mask});
}

void Control::make_way(SandboxId victim) {
  const sandbox::Record& record = *sandboxes_.find(victim);
  ++routing_.preempted;
  // A replica gets no more calls; those that it has may end within the grace.
  const GroupSpec* spec = group(record.group);
  if (spec != nullptr && record.phase == sandbox::Phase::running) {
    drain_replica(*spec, victim);
  }
  drive(sandboxes_, sandbox_scratch_, sandbox::Preempted{victim, config_.preemption.grace});
}

void Control::handle(const scheduler::NominationLost& lost) {
  if (sandboxes_.find(lost.sandbox) == nullptr) return;
  count_waiting(lost.sandbox, +1);
  drive(tenancy_, tenancy_scratch_, tenancy::NominationLost{lost.sandbox});
}

}  // namespace chalk::control
