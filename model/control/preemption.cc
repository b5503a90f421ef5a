// Preemption: what found no room may have that of less important sandboxes of its own tenant.
//
// A priority orders the work of one tenant and says nothing to others: only the tenant's own
// sandboxes are its victims, so nobody gains room, share or quota from others by naming a high one.
// It is asked only once the order of tenants has let it be tried. Nothing is preempted by an equal.
// The room of the victims is kept for it (nominations.cc), so what they leave goes to nobody else,
// and an ask that comes meanwhile counts them as gone: it takes no others in their place.
#include <algorithm>
#include <numeric>

#include "model/control/make_room.h"

namespace chalk::control {
namespace {

auto may_go(const VictimsSought& sought) {
  return [&](const sandbox::Record& one) {
    const bool stays =
        one.phase == sandbox::Phase::placed || one.phase == sandbox::Phase::running;
    // Of a gang all would have to go for the room of one.
    return stays && one.tenant == sought.tenant && one.priority < sought.priority && !one.gang;
  };
}

}  // namespace

// Whether room is being made for it. Where the tenant has nothing less important placed this is one
// look-up. Else it costs a look at each node and at what is on those of the tenant; asked again for
// the same, at those that have changed (core/changes.h), and a few words for each with victims.
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

// The best of all nodes, though only those are looked at that have changed since the same was last
// sought for the tenant. What a node would take stays as it was until then, but for the work that
// is lost: what runs loses more as time goes on.
std::optional<scheduler::Victims> Control::choose_victims(const scheduler::PlaceAsked& asked) {
  const VictimsSought& sought = seek_victims(asked);
  const auto key = [&](const VictimsSeen& one) {
    const Duration lost = one.lost + (now_ - one.at) * one.running;
    return scheduler::order_of(one.highest, one.sandboxes, one.starts_wait, lost, one.slot);
  };
  const auto best = std::min_element(
      sought.nodes.begin(), sought.nodes.end(),
      [&](const VictimsSeen& a, const VictimsSeen& b) { return key(a) < key(b); });
  if (best == sought.nodes.end()) return std::nullopt;
  return victims_on(best->slot, asked.ask, may_go(sought));
}

const VictimsSought& Control::seek_victims(const scheduler::PlaceAsked& asked) {
  const sandbox::Record& asker = *sandboxes_.find(asked.sandbox);
  const Changes& rooms = scheduler_.state().changes;
  const Changes& records = sandboxes_.state().changes;
  const auto of_use = [&](const VictimsSought& one) {
    return rooms.know(one.rooms) && records.know(one.records);
  };
  scheduler::PlaceAsked what;
  what.owner = asked.owner;
  what.ask = asked.ask;
  what.pool = asked.pool;
  what.spare = asked.spare;
  VictimsSought& sought = routing_.victims_sought[asker.tenant];
  std::vector<std::uint32_t> slots;
  if (sought.tenant && sought.asked == what && sought.priority == asker.priority &&
      of_use(sought)) {
    const auto add = [&](std::uint32_t slot) { slots.push_back(slot); };
    rooms.since(sought.rooms, add);
    records.since(sought.records, add);
    slots.insert(slots.end(), sought.again.begin(), sought.again.end());
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  } else {
    std::erase_if(routing_.victims_sought, [&](const auto& one) {
      return one.first != asker.tenant && !of_use(one.second);
    });
    sought = {std::move(what), asker.tenant, asker.priority, 0, 0, {}, {}};
    slots.resize(scheduler_.state().infos.size());
    std::iota(slots.begin(), slots.end(), 0u);
  }
  sought.again.clear();
  for (const std::uint32_t slot : slots) look_for_victims(sought, slot);
  sought.rooms = rooms.count();
  sought.records = records.count();
  return sought;
}

void Control::look_for_victims(VictimsSought& sought, std::uint32_t slot) const {
  auto at = std::lower_bound(
      sought.nodes.begin(), sought.nodes.end(), slot,
      [](const VictimsSeen& one, std::uint32_t wanted) { return one.slot < wanted; });
  if (at != sought.nodes.end() && at->slot == slot) at = sought.nodes.erase(at);
  const auto& infos = scheduler_.state().infos;
  if (slot >= infos.size() || !would_do(infos[slot], sought.asked)) return;
  // What began to run just now and what has not begun have both lost nothing yet, which is not so
  // any more a moment later.
  bool just_began = false;
  const auto victims = victims_on(slot, sought.asked.ask, [&](const sandbox::Record& one) {
    const bool may = may_go(sought)(one);
    just_began = just_began || (may && one.ran && one.runs_since == now_);
    return may;
  });
  if (just_began) sought.again.push_back(slot);
  if (!victims) return;
  const auto running = std::count_if(
      victims->sandboxes.begin(), victims->sandboxes.end(),
      [&](SandboxId victim) { return sandboxes_.find(victim)->ran; });
  sought.nodes.insert(at, {slot, victims->highest,
                           static_cast<std::uint32_t>(victims->sandboxes.size()),
                           static_cast<std::uint32_t>(running), victims->starts_wait,
                           victims->lost, now_});
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
