// Defragmentation: room that is there but in pieces is put together for one that waits for it, by
// moving sandboxes of its tenant that may be moved to other nodes.
//
// What moves says `restart` (it loses what it has in memory), is no more important than what it
// moves for, and finds room elsewhere by a fork of the scheduler. No other tenant notices. Bounds:
// one look at the fleet in `every`, and `moves_max` sandboxes. The room is kept as in preemption.
#include <algorithm>
#include <tuple>
#include <vector>

#include "model/control/make_room.h"

namespace chalk::control {
namespace {

// Those where least would have to move first, each on a fork of its own.
constexpr std::size_t kNodesTried = 8;

bool before(const scheduler::Victims& a, const scheduler::Victims& b) {
  return std::tuple(a.sandboxes.size(), a.lost, a.slot) <
         std::tuple(b.sandboxes.size(), b.lost, b.slot);
}

}  // namespace

// Whether the tenant may look now. Of those that want to, who has looked in vain goes last: else
// one that cannot be helped would take every turn.
bool Control::takes_turn(TenantId tenant) {
  DefragmentTurns& turns = routing_.defragment;
  const Duration every = config_.defragmentation.every;
  const bool had = turns.in_vain.contains(tenant);
  const bool yields = had && turns.wanted && now_ < turns.at + every;
  if (now_ < turns.at || yields) {
    turns.wanted = turns.wanted || !had;
    return false;
  }
  if (had) turns.in_vain.clear();  // nobody else wants one
  turns.in_vain.insert(tenant);    // until it is helped
  turns.wanted = false;
  turns.at = now_ + every;
  return true;
}

bool Control::defragment(const scheduler::NotPlaced& not_placed) {
  const DefragmentationConfig& config = config_.defragmentation;
  if (!config.enabled) return false;
  const sandbox::Record& record = *sandboxes_.find(not_placed.sandbox);
  if (record.gang || not_placed.why == scheduler::Shortage::limit ||
      not_placed.why == scheduler::Shortage::start_slots || !takes_turn(record.tenant)) {
    return false;
  }
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
    routing_.defragment.in_vain.erase(record.tenant);
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
