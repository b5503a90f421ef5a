// What preemption and defragmentation share: the nodes on which room may be made for an ask, and
// who would have to go on each of them.
#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "model/control/control.h"
#include "model/scheduler/index.h"

namespace chalk::control {

// Whether it is a node of the asker's owner with something on it, and would do if it were empty.
inline bool would_do(const scheduler::NodeInfo& info, const scheduler::PlaceAsked& asked) {
  if (!info.id || info.owner != asked.owner || info.first_reservation == 0) return false;
  const bool in_pool = asked.pool ? info.pool == asked.pool : !info.dedicated;
  const std::int32_t model = info.shape.gpus > 0 ? info.shape.gpu_model : -1;
  return info.usable && !info.cordoned && in_pool && fits(info.shape, asked.ask) &&
         scheduler::model_accepted(asked.ask, model) && !scheduler::could_hold(asked.spare, info);
}

// Of those for which may_go(record) says yes. What is on its way counts as there, whoever it was
// asked for, and what is owed to nominations as gone.
template <class MayGo>
std::optional<scheduler::Victims> Control::victims_on(std::uint32_t slot, const Resources& ask,
                                                      MayGo&& may_go) const {
  const scheduler::State& state = scheduler_.state();
  scheduler::Room room = scheduler::room_of(state, slot);
  std::vector<scheduler::Preemptible> candidates;
  bool any = false;
  sandboxes_.for_each_on(state.infos[slot].id, [&](SandboxId id, const sandbox::Record& record) {
    const scheduler::Reservation& held =
        state.reservations[SlotTable<SandboxId, int>::slot_of(id)];
    if (record.preempted) {
      any = true;
      room.add(held, +1);
      return;
    }
    if (!may_go(record)) return;
    any = true;
    const Duration ran = record.ran ? now_ - record.runs_since : Duration{};
    candidates.push_back({id, record.priority, ran, held});
  });
  if (!any) return std::nullopt;  // nobody here makes way
  const auto owed = state.nominations.find(slot);
  if (owed != state.nominations.end()) {
    for (const scheduler::Nomination& one : owed->second) room.owe(one);
  }
  return scheduler::victims_on(slot, room, std::move(candidates), ask);
}

}  // namespace chalk::control
