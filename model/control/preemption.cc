// Preemption: what found no room may have that of less important sandboxes of its own tenant.
//
// A priority orders the work of one tenant and says nothing to others: only the tenant's own
// sandboxes are its victims, so nobody gains room, share or quota from others by naming a high one.
// It is asked only once the order of tenants has let it be tried. Nothing is preempted by an equal.
// The room of the victims is kept for it (nominations.cc), so what they leave goes to nobody else,
// and an ask that comes meanwhile counts them as gone: it takes no others in their place.
#include <algorithm>

#include "model/control/control.h"
#include "model/scheduler/index.h"

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
  const scheduler::PlaceAsked asked =
      place_asked(not_placed.sandbox, tenancy_.owner_key(record.tenant));
  const std::optional<scheduler::Victims> victims = choose_victims(asked);
  if (!victims) return false;
  count_pending(record, -1);  // no node is bought for it
  drive(tenancy_, tenancy_scratch_, tenancy::SandboxNominated{asked.sandbox});
  drive(scheduler_, scheduler_scratch_,
        scheduler::Nominated{asked, scheduler_.state().infos[victims->slot].id,
                             victims->gpu_mask});
  for (const SandboxId victim : victims->sandboxes) make_way(victim);
  return true;
}

std::optional<scheduler::Victims> Control::choose_victims(
    const scheduler::PlaceAsked& asked) const {
  const scheduler::State& state = scheduler_.state();
  const sandbox::Record& record = *sandboxes_.find(asked.sandbox);
  std::optional<scheduler::Victims> best;
  for (std::uint32_t slot = 0; slot < state.infos.size(); ++slot) {
    const scheduler::NodeInfo& info = state.infos[slot];
    if (!info.id || info.owner != asked.owner || info.first_reservation == 0) continue;
    const bool in_pool = asked.pool ? info.pool == asked.pool : !info.dedicated;
    const std::int32_t model = info.shape.gpus > 0 ? info.shape.gpu_model : -1;
    if (!info.usable || info.cordoned || !in_pool || !fits(info.shape, asked.ask) ||
        !scheduler::model_accepted(asked.ask, model)) {
      continue;
    }
    auto victims = victims_on(slot, record, asked.ask);
    if (victims && (!best || scheduler::better(*victims, *best))) best = std::move(victims);
  }
  return best;
}

std::optional<scheduler::Victims> Control::victims_on(std::uint32_t slot,
                                                      const sandbox::Record& asker,
                                                      const Resources& ask) const {
  const scheduler::State& state = scheduler_.state();
  scheduler::Room room = scheduler::room_of(state, slot);
  for (const scheduler::Nomination& one : state.nominations) {
    if (one.slot == slot) room.owe(one);
  }
  std::vector<scheduler::Preemptible> candidates;
  bool any = false;
  sandboxes_.for_each_on(state.infos[slot].id, [&](SandboxId id, const sandbox::Record& record) {
    const scheduler::Reservation& held =
        state.reservations[SlotTable<SandboxId, int>::slot_of(id)];
    if (record.preempted) {
      any = true;
      room.add(held, +1);  // its room is on the way, whoever it was asked for
      return;
    }
    const bool stays = record.phase == sandbox::Phase::placed ||
                       record.phase == sandbox::Phase::running;
    if (!stays || record.tenant != asker.tenant || record.priority >= asker.priority) return;
    if (record.gang) return;  // all of it would have to go for the room of one
    any = true;
    const Duration ran = record.ran ? now_ - record.runs_since : Duration{};
    candidates.push_back({id, record.priority, ran, held});
  });
  if (!any) return std::nullopt;  // nobody here makes way
  return scheduler::victims_on(slot, room, std::move(candidates), ask);
}

void Control::make_way(SandboxId victim) {
  const sandbox::Record& record = *sandboxes_.find(victim);
  ++routing_.preempted;
  // A replica gets no more calls; those that it has may end within the grace.
  const GroupSpec* spec = group(record.group);
  if (spec != nullptr && record.phase == sandbox::Phase::running) {
    send(spec->gateway, DrainReplica{spec->group, victim});
  }
  drive(sandboxes_, sandbox_scratch_, sandbox::Preempted{victim, config_.preemption.grace});
}

void Control::handle(const scheduler::NominationLost& lost) {
  const sandbox::Record* record = sandboxes_.find(lost.sandbox);
  if (record == nullptr) return;
  count_pending(*record, +1);
  drive(tenancy_, tenancy_scratch_, tenancy::NominationLost{lost.sandbox});
}

}  // namespace chalk::control
