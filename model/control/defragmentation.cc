// Defragmentation: room that is there but in pieces is put together for one that waits for it, by
// moving sandboxes of its tenant that may be moved to other nodes.
//
// What moves says `restart` (it loses what it has in memory), is no more important than what it
// moves for, and finds room elsewhere by a fork of the scheduler. No other tenant notices. Bounds:
// one decision in `every`, and `moves_max` sandboxes. The room is kept as in preemption.
#include <algorithm>
#include <tuple>
#include <vector>

#include "model/control/make_room.h"

namespace chalk::control {
namespace {

constexpr std::size_t kNodesTried = 8;  // on the fork, those where least would have to move first

bool before(const scheduler::Victims& a, const scheduler::Victims& b) {
  return std::tuple(a.sandboxes.size(), a.lost, a.slot) <
         std::tuple(b.sandboxes.size(), b.lost, b.slot);
}

}  // namespace

bool Control::defragment(const scheduler::NotPlaced& not_placed) {
  const DefragmentationConfig& config = config_.defragmentation;
  if (!config.enabled || now_ < routing_.defragment_at) return false;
  const sandbox::Record& record = *sandboxes_.find(not_placed.sandbox);
  if (record.gang || not_placed.why == scheduler::Shortage::limit ||
      not_placed.why == scheduler::Shortage::start_slots) {
    return false;
  }
  routing_.defragment_at = now_ + config.every;
  const scheduler::PlaceAsked asked = room_asked(not_placed.sandbox);
  const auto may_move = [&](const sandbox::Record& one) {
    return one.tenant == record.tenant && one.priority <= record.priority && one.restart &&
           one.phase == sandbox::Phase::running && !one.gang;
  };
  std::vector<scheduler::Victims> all;
  const auto& infos = scheduler_.state().infos;
  for (std::uint32_t slot = 0; slot < infos.size(); ++slot) {
    if (!would_do(infos[slot], asked)) continue;
    auto movers = victims_on(slot, asked.ask, may_move);
    if (movers && movers->sandboxes.size() <= config.moves_max) all.push_back(std::move(*movers));
  }
  std::sort(all.begin(), all.end(), before);
  if (all.size() > kNodesTried) all.resize(kNodesTried);
  for (const scheduler::Victims& movers : all) {
    if (!fits_elsewhere(movers)) continue;
    routing_.moved += movers.sandboxes.size();
    nominate(asked, movers);
    for (const SandboxId mover : movers.sandboxes) {
      drive(sandboxes_, sandbox_scratch_, sandbox::Preempted{mover, config_.preemption.grace});
    }
    return true;
  }
  return false;
}

// Whether all of them find room on other nodes, one after the other, the largest first.
bool Control::fits_elsewhere(const scheduler::Victims& movers) const {
  scheduler::Scheduler fork = scheduler_;
  scheduler::Effects said;
  fork.step(now_, scheduler::NodeCordoned{scheduler_.state().infos[movers.slot].id, true}, said);
  scheduler::GangAsked others;
  for (const SandboxId mover : movers.sandboxes) {
    fork.step(now_, scheduler::Released{mover}, said);
    const tenancy::Held& held = *tenancy_.state().held.find(mover);
    const tenancy::TryPlace again = tenancy_.attempt(now_, mover, held);
    others.members.push_back(place_asked(mover, again.owner_key));
    others.members.back().own_only = again.own_only;
    others.members.back().spare = again.spare;
    others.claims_max = again.claims_max;
  }
  said.clear();
  fork.step(now_, others, said);
  return said.empty() || std::holds_alternative<scheduler::Placed>(said.front());
}

}  // namespace chalk::control
