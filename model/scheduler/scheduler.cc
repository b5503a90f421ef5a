#include "model/scheduler/scheduler.h"

#include <algorithm>

#include "model/core/invariant.h"
#include "model/scheduler/index.h"
#include "model/scheduler/placement.h"

namespace chalk::scheduler {
namespace {

template <class IdType>
std::uint32_t generation_of(IdType id) {
  return static_cast<std::uint32_t>(id.value >> 32);
}

// Adds `sign` times what a reservation holds to what its node has free.
void give_back(State& state, std::uint32_t slot, const Reservation& held, std::int32_t sign) {
  Node& node = state.nodes[slot];
  NodeInfo& info = state.infos[slot];
  node.cpu += sign * held.cpu;
  node.memory += sign * held.memory;
  node.disk += sign * held.disk;
  info.sandboxes_free += sign;
  if (held.starting) info.starts_free += sign;
  if (held.gpu_mask != 0) {
    GpuRow& row = state.gpu_rows[info.gpu_row];
    for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
      if (held.gpu_mask >> gpu & 1) {
        row.free[gpu] = static_cast<std::int16_t>(row.free[gpu] + sign * held.gpu_millis);
      }
    }
    count_gpus(state, slot);
  }
  const NodeShape& shape = info.shape;
  CHALK_INVARIANT(node.cpu >= 0 && node.cpu <= shape.cpu_millicores);
  CHALK_INVARIANT(node.memory >= 0 && node.memory <= shape.memory_bytes);
  CHALK_INVARIANT(node.disk >= 0 && node.disk <= shape.disk_bytes);
  CHALK_INVARIANT(info.sandboxes_free >= 0 && info.sandboxes_free <= shape.sandboxes_max);
  CHALK_INVARIANT(info.starts_free >= 0 && info.starts_free <= shape.start_slots);
}

}  // namespace

void Scheduler::step(Time, const Event& event, Effects& effects) {
  std::visit([&](const auto& fact) { on(fact, effects); }, event);
}

// Where no node decides: what was asked before, limits, and asks that mean nothing.
bool Scheduler::answer_at_once(const PlaceAsked& asked, Effects& effects) {
  const std::uint32_t sandbox = slot_of(asked.sandbox);
  if (sandbox >= config_.sandboxes_max) {
    effects.push_back(NotPlaced{asked.sandbox, Shortage::limit, std::int64_t{sandbox} + 1,
                                config_.sandboxes_max, 0});
    return true;
  }
  if (sandbox < state_.reservations.size() && state_.reservations[sandbox].node != 0) {
    if (state_.reservations[sandbox].generation == generation_of(asked.sandbox)) {
      ++state_.ignored.duplicate_asks;  // it was answered when it was placed
    } else {
      effects.push_back(NotPlaced{asked.sandbox, Shortage::limit, 1, 0, 0});  // its slot is taken
    }
    return true;
  }
  if (state_.nominated.find(sandbox) != kNone) {
    if (nominates(asked.sandbox)) {
      ++state_.ignored.duplicate_asks;  // it is answered when its node has the room
    } else {
      effects.push_back(NotPlaced{asked.sandbox, Shortage::limit, 1, 0, 0});  // its slot is taken
    }
    return true;
  }
  if (const auto refused = refuse_meaningless(asked)) {
    effects.push_back(*refused);
    return true;
  }
  return false;
}

void Scheduler::on(const PlaceAsked& asked, Effects& effects) {
  if (answer_at_once(asked, effects)) return;
  const auto [slot, gpu_mask] = choose(config_, state_, asked);
  if (slot == kNone) {
    effects.push_back(explain_refusal(state_, asked));
    return;
  }
  const bool claims = state_.infos[slot].owner != asked.owner;
  reserve(slot, gpu_mask, asked);
  effects.push_back(Placed{asked.sandbox, state_.infos[slot].id, gpu_mask, claims});
}

void Scheduler::reserve(std::uint32_t slot, std::uint32_t gpu_mask, const PlaceAsked& asked) {
  const std::uint32_t sandbox = slot_of(asked.sandbox);
  if (sandbox >= state_.reservations.size()) {
    state_.reservations.resize(sandbox + 1);
    state_.links.resize(sandbox + 1);
  }
  const Resources& ask = asked.ask;
  Reservation& held = state_.reservations[sandbox];
  held = {generation_of(asked.sandbox),
          slot + 1,
          ask.cpu_millicores,
          ask.memory_bytes,
          ask.disk_bytes,
          gpu_mask,
          ask.gpus == 0 ? 0 : ask.gpu_millis,
          kNone,
          true};
  unlist_node(state_, slot);
  NodeInfo& info = state_.infos[slot];
  if (info.owner != asked.owner) {
    leave_bucket(state_, slot);
    info.owner = asked.owner;
    join_bucket(state_, slot);
  }
  give_back(state_, slot, held, -1);
  list_node(state_, slot);

  ReservationLink& link = state_.links[sandbox];
  link = {info.first_reservation, 0};
  if (link.next != 0) state_.links[link.next - 1].previous = sandbox + 1;
  info.first_reservation = sandbox + 1;
  ++state_.live_reservations;

  if (!asked.group || !config_.placing.spread_zones()) return;
  std::uint32_t group = state_.group_index.find(asked.group.value);
  if (group == kNone) {
    group = take_index(state_.groups, state_.vacant_groups);
    state_.groups[group].id = asked.group;
    state_.group_zones.resize(state_.groups.size() * config_.zones_max);
    state_.group_index.insert(asked.group.value, group);
  }
  held.group = group;
  ++state_.groups[group].live;
  ++state_.group_zones[std::size_t{group} * config_.zones_max + info.zone];
}

void Scheduler::drop_group_member(std::uint32_t group, std::uint32_t zone) {
  if (group == kNone) return;
  --state_.group_zones[std::size_t{group} * config_.zones_max + zone];
  if (--state_.groups[group].live != 0) return;
  state_.group_index.erase(state_.groups[group].id.value);
  state_.groups[group] = {};
  state_.vacant_groups.push_back(group);
}

std::uint32_t Scheduler::find_reservation(SandboxId id) const {
  const std::uint32_t slot = slot_of(id);
  if (slot >= state_.reservations.size()) return kNone;
  const Reservation& held = state_.reservations[slot];
  return held.node != 0 && held.generation == generation_of(id) ? slot : kNone;
}

void Scheduler::on(const StartFinished& event, Effects& effects) {
  const std::uint32_t sandbox = find_reservation(event.sandbox);
  if (sandbox == kNone) {
    ++state_.ignored.unknown_sandboxes;  // released already, or lost with its node
    return;
  }
  Reservation& held = state_.reservations[sandbox];
  if (!held.starting) {
    ++state_.ignored.repeated_starts;
    return;
  }
  held.starting = false;
  const std::uint32_t slot = held.node - 1;
  NodeInfo& info = state_.infos[slot];
  // Where the node stands in the index depends only on whether a start slot is free.
  const bool relist = info.starts_free == 0;
  if (relist) unlist_node(state_, slot);
  ++info.starts_free;
  if (relist) list_node(state_, slot);
  state_.changes.add(slot);
  serve_nominations(slot, effects);
}

void Scheduler::on(const Released& event, Effects& effects) {
  const std::uint32_t sandbox = find_reservation(event.sandbox);
  if (sandbox == kNone) {
    if (nominates(event.sandbox)) return withdraw(event.sandbox, effects);
    ++state_.ignored.unknown_sandboxes;
    return;
  }
  const std::uint32_t slot = state_.reservations[sandbox].node - 1;
  free_reservation(sandbox);
  serve_nominations(slot, effects);
}

void Scheduler::free_reservation(std::uint32_t sandbox) {
  const Reservation held = state_.reservations[sandbox];
  const std::uint32_t slot = held.node - 1;
  __builtin_prefetch(&state_.infos[slot]);
  __builtin_prefetch(&state_.nodes[slot]);
  __builtin_prefetch(&state_.links[sandbox]);
  unlist_node(state_, slot);
  give_back(state_, slot, held, +1);
  list_node(state_, slot);

  const ReservationLink link = state_.links[sandbox];
  if (link.next != 0) state_.links[link.next - 1].previous = link.previous;
  if (link.previous != 0) {
    state_.links[link.previous - 1].next = link.next;
  } else {
    state_.infos[slot].first_reservation = link.next;
  }
  release(sandbox);
  drop_group_member(held.group, state_.infos[slot].zone);
}

void Scheduler::release(std::uint32_t sandbox_slot) {
  state_.reservations[sandbox_slot] = {};
  state_.links[sandbox_slot] = {};
  --state_.live_reservations;
}

}  // namespace chalk::scheduler
