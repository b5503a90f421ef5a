// Nominations: the room that is kept on a node for a sandbox while others make way for it.
#include <algorithm>
#include <bit>

#include "model/scheduler/index.h"
#include "model/scheduler/placement.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {
namespace {

// Moves to the hold what it misses of what is free on its node.
void take_free(State& state, Nomination& one) {
  Node& node = state.nodes[one.slot];
  NodeInfo& info = state.infos[one.slot];
  Hold& hold = one.hold;
  const auto take = [](auto& free, auto& held, auto wanted) {
    const auto more = std::min<std::int64_t>(free, std::int64_t{wanted} - held);
    free = static_cast<std::remove_reference_t<decltype(free)>>(free - more);
    held = static_cast<std::remove_reference_t<decltype(held)>>(held + more);
  };
  take(node.cpu, hold.cpu, one.ask.cpu_millicores);
  take(node.memory, hold.memory, one.ask.memory_bytes);
  take(node.disk, hold.disk, one.ask.disk_bytes);
  if (!hold.sandbox && info.sandboxes_free > 0) {
    hold.sandbox = true;
    --info.sandboxes_free;
  }
  if (!hold.start && info.starts_free > 0) {
    hold.start = true;
    --info.starts_free;
  }
  if (one.gpu_mask == 0) return;
  GpuRow& row = state.gpu_rows[info.gpu_row];
  for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
    if (one.gpu_mask >> gpu & 1) take(row.free[gpu], hold.gpus[gpu], one.ask.gpu_millis);
  }
  count_gpus(state, one.slot);
}

void give_back(State& state, const Nomination& one) {
  Node& node = state.nodes[one.slot];
  NodeInfo& info = state.infos[one.slot];
  const Hold& hold = one.hold;
  node.cpu += hold.cpu;
  node.memory += hold.memory;
  node.disk += hold.disk;
  info.sandboxes_free += hold.sandbox ? 1 : 0;
  info.starts_free += hold.start ? 1 : 0;
  if (one.gpu_mask == 0) return;
  GpuRow& row = state.gpu_rows[info.gpu_row];
  for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
    row.free[gpu] = static_cast<std::int16_t>(row.free[gpu] + hold.gpus[gpu]);
  }
  count_gpus(state, one.slot);
}

bool is_whole(const Nomination& one) {
  const Hold& hold = one.hold;
  for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if ((one.gpu_mask >> gpu & 1) && hold.gpus[gpu] != one.ask.gpu_millis) return false;
  }
  return hold.cpu == one.ask.cpu_millicores && hold.memory == one.ask.memory_bytes &&
         hold.disk == one.ask.disk_bytes && hold.sandbox && hold.start;
}

}  // namespace

bool Scheduler::nominates(SandboxId sandbox) const {
  const std::uint32_t slot = state_.nominated.find(slot_of(sandbox));
  if (slot == kNone) return false;
  const std::vector<Nomination>& there = state_.nominations.at(slot);
  return std::any_of(there.begin(), there.end(),
                     [&](const Nomination& one) { return one.sandbox == sandbox; });
}

void Scheduler::on(const Nominated& event, Effects& effects) {
  const PlaceAsked& asked = event.asked;
  const SandboxId sandbox = asked.sandbox;
  if (nominates(sandbox) || find_reservation(sandbox) != kNone) {
    ++state_.ignored.duplicate_asks;
    return;
  }
  const std::uint32_t slot = find_node(event.node);
  const std::uint32_t place = slot_of(sandbox);
  const bool taken = place >= config_.sandboxes_max || state_.nominated.find(place) != kNone ||
                     (place < state_.reservations.size() && state_.reservations[place].node != 0);
  if (slot == kNone || taken || refuse_meaningless(asked)) {
    effects.push_back(NominationLost{sandbox});
    return;
  }
  const NodeInfo& info = state_.infos[slot];
  const bool has_gpus =
      asked.ask.gpus == 0 ? event.gpu_mask == 0
                          : std::popcount(event.gpu_mask) == asked.ask.gpus &&
                                event.gpu_mask >> info.shape.gpus == 0 &&
                                model_accepted(asked.ask, info.shape.gpu_model);
  // One without an owner could be claimed while it waits.
  if (info.cordoned || !info.usable || !asked.owner || info.owner != asked.owner || !has_gpus ||
      !fits(info.shape, asked.ask) || info.shape.start_slots == 0 ||
      info.shape.sandboxes_max == 0) {
    effects.push_back(NominationLost{sandbox});
    return;
  }
  state_.nominations[slot].push_back(
      {sandbox, asked.owner, asked.group, asked.ask, slot, event.gpu_mask, {}});
  state_.nominated.insert(place, slot);
  serve_nominations(slot, effects);
}

// Called whenever something has come free on the node.
void Scheduler::serve_nominations(std::uint32_t slot, Effects& effects) {
  const auto found = state_.nominations.find(slot);
  if (found == state_.nominations.end()) return;
  std::vector<Nomination>& there = found->second;
  for (std::size_t i = 0; i < there.size();) {
    unlist_node(state_, slot);
    take_free(state_, there[i]);
    if (!is_whole(there[i])) {
      list_node(state_, slot);
      ++i;
      continue;
    }
    const Nomination one = there[i];
    there.erase(there.begin() + static_cast<std::ptrdiff_t>(i));
    state_.nominated.erase(slot_of(one.sandbox));
    give_back(state_, one);
    list_node(state_, slot);
    PlaceAsked asked;
    asked.sandbox = one.sandbox;
    asked.owner = one.owner;
    asked.ask = one.ask;
    asked.group = one.group;
    reserve(slot, one.gpu_mask, asked);
    effects.push_back(Placed{one.sandbox, state_.infos[slot].id, one.gpu_mask, false, true});
  }
  if (there.empty()) state_.nominations.erase(found);
}

// All of a node that takes nothing more.
void Scheduler::drop_nominations(std::uint32_t slot, Effects& effects) {
  const auto found = state_.nominations.find(slot);
  if (found == state_.nominations.end()) return;
  unlist_node(state_, slot);
  for (const Nomination& one : found->second) {
    give_back(state_, one);
    state_.nominated.erase(slot_of(one.sandbox));
    effects.push_back(NominationLost{one.sandbox});
  }
  state_.nominations.erase(found);
  list_node(state_, slot);
}

// One that is no longer wanted: what it held goes to the others of its node.
void Scheduler::withdraw(SandboxId sandbox, Effects& effects) {
  const std::uint32_t slot = state_.nominated.find(slot_of(sandbox));
  std::vector<Nomination>& there = state_.nominations.at(slot);
  const auto one = std::find_if(there.begin(), there.end(),
                                [&](const Nomination& it) { return it.sandbox == sandbox; });
  unlist_node(state_, slot);
  give_back(state_, *one);
  there.erase(one);
  state_.nominated.erase(slot_of(sandbox));
  list_node(state_, slot);
  serve_nominations(slot, effects);
}

}  // namespace chalk::scheduler
