#include "model/functions/functions.h"

#include <algorithm>

namespace chalk::functions {
namespace {

// Half of what there is room for: a thousand calls at once for 53 days. Then all totals begin again,
// as where the gateway has started again; once all that they said has been reported.
constexpr std::int64_t kTotalMost = 1LL << 62;

}  // namespace

const char* rule_name(Rule rule) {
  switch (rule) {
    case Rule::unknown_group: return "unknown_group";
    case Rule::queue_full: return "queue_full";
    case Rule::queue_timeout: return "queue_timeout";
  }
  return "unknown";
}

void Functions::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { take(now, one, effects); }, event);
}

// ---- the road of a call

void Functions::on(Time now, const RequestArrived& arrived, Effects& effects) {
  Group* group = find(arrived.group);
  if (group == nullptr) {
    effects.push_back(RefuseRequest{arrived.request, arrived.group, Rule::unknown_group, 0, 0});
    return;
  }
  const auto index = static_cast<std::uint32_t>(arrived.group.value - 1);
  changed(now, *group, index);
  ++group->arrivals;
  if (group->first != 0 && (group->queue.empty() || !group->routing.delayed_warm_start)) {
    return dispatch(now, arrived.request, *group, group->first - 1, false, effects);
  }
  if (!enqueue(now, arrived, *group, effects)) return;
  missed(now, *group);
  arm_patience(now, *group, index);
  report_hold(now, *group, index, effects);
}

// False when there is no room for it.
bool Functions::enqueue(Time now, const RequestArrived& arrived, Group& group, Effects& effects) {
  const std::uint32_t most = group.routing.queue_max;
  if (group.queue.size() >= most) {
    const std::optional<Queued> out = group.queue.make_room_for(arrived.caller);
    const RequestId refused = out ? out->request : arrived.request;
    ++group.refused;
    effects.push_back(RefuseRequest{refused, arrived.group, Rule::queue_full, most, most});
    if (!out) return false;
  }
  group.queue.push({arrived.request, arrived.caller, now});
  ++group.holds;
  group.peak = std::max(group.peak, group.in_flight + group.queue.size());
  return true;
}

void Functions::on(Time now, const RequestFinished& finished, Effects& effects) {
  Replica* replica = state_.replicas.find(finished.replica);
  if (replica == nullptr) return;       // gone meanwhile; its calls were aborted
  if (replica->in_flight == 0) return;  // said twice
  const std::uint32_t slot = SlotTable<ReplicaSlot, Replica>::slot_of(finished.replica);
  Group& group = state_.groups[replica->group];
  changed(now, group, replica->group);
  CHALK_INVARIANT(group.in_flight > 0);
  --replica->in_flight;
  --group.in_flight;
  group.queue.learn(finished.caller, finished.took);
  settle(now, slot, effects);
}

// A replica has a free slot: it takes a waiting call, ends its drain, or waits for the next call.
void Functions::settle(Time now, std::uint32_t slot, Effects& effects) {
  Replica& replica = state_.replicas.in_slot(slot);
  Group& group = state_.groups[replica.group];
  if (replica.draining) {
    if (replica.in_flight == 0) give_back(slot, effects);
    return;
  }
  if (!group.queue.empty() && group.routing.delayed_warm_start) {
    return take_queued(now, group, slot, false, effects);
  }
  if (replica.in_flight == 0) replica.idle_since = now;
  if (group.first != slot + 1) {
    if (replica.listed) unlist(group, slot);
    list_first(group, slot);
  }
  if (replica.in_flight != 0) return;
  falls_idle(slot, effects);
  arm_reap(now, group, static_cast<std::uint32_t>(group.routing.group.value - 1));
}

void Functions::dispatch(Time now, RequestId request, Group& group, std::uint32_t slot, bool cold,
                         Effects& effects) {
  Replica& replica = state_.replicas.in_slot(slot);
  if (replica.in_flight == 0) taken(now, group, slot);
  ++replica.in_flight;
  ++group.in_flight;
  group.peak = std::max(group.peak, group.in_flight + group.queue.size());
  CHALK_INVARIANT(replica.in_flight <= group.routing.concurrency && !replica.draining);
  if (replica.in_flight == group.routing.concurrency && replica.listed) unlist(group, slot);
  effects.push_back(Dispatch{request, state_.replicas.id_at(slot), replica.sandbox, cold});
}

void Functions::take_queued(Time now, Group& group, std::uint32_t slot, bool cold,
                            Effects& effects) {
  dispatch(now, group.queue.pop().request, group, slot, cold, effects);
}

void Functions::on(Time now, const RequestAbandoned& abandoned, Effects&) {
  Group* group = find(abandoned.group);
  if (group == nullptr || !abandoned.request) return;
  const std::uint32_t waits = group->queue.find(abandoned.request);
  if (waits == 0) return;
  changed(now, *group, static_cast<std::uint32_t>(abandoned.group.value - 1));
  group->queue.take(waits);
}

// ---- what control says

void Functions::on(Time now, const GroupRouting& routing, Effects& effects) {
  if (!routing.group || routing.group.value > config_.groups_max) return;
  const auto index = static_cast<std::uint32_t>(routing.group.value - 1);
  if (state_.groups.size() <= index) state_.groups.resize(index + 1);
  Group& group = state_.groups[index];
  const std::uint32_t concurrency_before = group.routing.concurrency;
  const bool other_habit = rule_of(routing) != rule_of(group.routing);
  const bool other_policy = routing.keep_alive_policy != group.routing.keep_alive_policy;
  group.routing = routing;
  group.routing.concurrency = std::max(1u, routing.concurrency);
  group.queue.set_order(routing.queue_order);
  if (group.known && group.routing.concurrency < concurrency_before) {
    group.routing.concurrency = concurrency_before;  // lowering it needs new replicas
  }
  if (!group.known) group.changed = now;
  group.known = true;
  if (group.routing.concurrency > concurrency_before) list_all(group, index);
  if (group.routing.delayed_warm_start && group.first != 0 && !group.queue.empty()) {
    changed(now, group, index);  // who waited for a start of its own need not any more
    while (group.first != 0 && !group.queue.empty())
      take_queued(now, group, group.first - 1, false, effects);
  }
  if (other_habit) group.habit.begin(rule_of(group.routing));
  if (other_policy) keep_otherwise(group);
  pool_idle(group, effects);
  group.reap_at = group.patience_at = kNever;  // what was armed may be too late for the new times
  arm_reap(now, group, index);
  arm_patience(now, group, index);
}

void Functions::on(Time now, const ReplicaReady& ready, Effects& effects) {
  Group* group = find(ready.group);
  if (group == nullptr || state_.by_sandbox.contains(ready.sandbox)) return;
  const auto index = static_cast<std::uint32_t>(ready.group.value - 1);
  if (state_.replicas.size() >= config_.replicas_max) {
    effects.push_back(ReturnReplica{ready.group, ready.sandbox});
    return;
  }
  changed(now, *group, index);
  Replica replica;
  replica.sandbox = ready.sandbox;
  replica.group = index;
  replica.idle_since = now;
  stands_in(now, *group, replica);
  const ReplicaSlot id = state_.replicas.insert(replica);
  state_.by_sandbox.emplace(ready.sandbox, id);
  const std::uint32_t slot = SlotTable<ReplicaSlot, Replica>::slot_of(id);
  ++group->ready;
  bool cold = true;
  while (state_.replicas.in_slot(slot).in_flight < group->routing.concurrency &&
         !group->queue.empty()) {
    take_queued(now, *group, slot, cold, effects);
    cold = false;
  }
  if (state_.replicas.in_slot(slot).in_flight < group->routing.concurrency) {
    list_first(*group, slot);
    if (state_.replicas.in_slot(slot).in_flight == 0) falls_idle(slot, effects);
  }
  arm_reap(now, *group, index);  // also of another that was one of the least until now
}

void Functions::on(Time now, const ReplicaGone& gone, Effects& effects) {
  const auto found = state_.by_sandbox.find(gone.sandbox);
  if (found == state_.by_sandbox.end()) return;  // given back before
  const ReplicaSlot id = found->second;
  Replica& replica = state_.replicas.at(id);
  Group& group = state_.groups[replica.group];
  changed(now, group, replica.group);
  leaves(SlotTable<ReplicaSlot, Replica>::slot_of(id));
  if (replica.listed) unlist(group, SlotTable<ReplicaSlot, Replica>::slot_of(id));
  if (!replica.draining) --group.ready;
  group.in_flight -= replica.in_flight;
  if (replica.in_flight != 0) effects.push_back(AbortReplica{id, gone.sandbox, replica.in_flight});
  state_.by_sandbox.erase(found);
  state_.replicas.erase(id);
  if (!group.queue.empty()) report(now, group, effects);
}

// Idle replicas first, the least recently used of them first; then those that use a slot least
// recently, which finish their calls. Replicas at full concurrency stay.
void Functions::on(Time now, const DrainReplicas& drain, Effects& effects) {
  Group* group = find(drain.group);
  if (group == nullptr) return;
  changed(now, *group, static_cast<std::uint32_t>(drain.group.value - 1));
  std::uint32_t left = drain.count;
  for (const bool idle_only : {true, false}) {
    std::uint32_t at = group->last;
    while (at != 0 && left != 0 && group->ready > group->routing.min_replicas) {
      const std::uint32_t slot = at - 1;
      Replica& replica = state_.replicas.in_slot(slot);
      at = replica.previous;
      if (idle_only && replica.in_flight != 0) continue;
      unlist(*group, slot);
      --group->ready;
      replica.draining = true;
      --left;
      if (replica.in_flight == 0) give_back(slot, effects);
    }
  }
}

// Whatever the group's least is: its node goes, and the autoscaler sees to another replica.
void Functions::on(Time now, const DrainReplica& drain, Effects& effects) {
  const auto found = state_.by_sandbox.find(drain.sandbox);
  if (found == state_.by_sandbox.end()) return;  // given back before
  const std::uint32_t slot = SlotTable<ReplicaSlot, Replica>::slot_of(found->second);
  Replica& replica = state_.replicas.in_slot(slot);
  if (replica.draining) return;
  Group& group = state_.groups[replica.group];
  changed(now, group, replica.group);
  if (replica.listed) unlist(group, slot);
  --group.ready;
  replica.draining = true;
  if (replica.in_flight == 0) give_back(slot, effects);
}

void Functions::take_out(Group& group, std::uint32_t slot, Effects& effects) {
  unlist(group, slot);
  --group.ready;
  state_.replicas.in_slot(slot).draining = true;
  give_back(slot, effects);
}

void Functions::give_back(std::uint32_t slot, Effects& effects) {
  const Replica& replica = state_.replicas.in_slot(slot);
  gives_back(state_.groups[replica.group], slot);
  effects.push_back(ReturnReplica{GroupId{replica.group + 1ULL}, replica.sandbox});
  state_.by_sandbox.erase(replica.sandbox);
  state_.replicas.erase(state_.replicas.id_at(slot));
}

// ---- time

void Functions::on(Time now, const Woken&, Effects& effects) {
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    Group& group = state_.groups[timer.key.group];
    Time* armed = nullptr;
    switch (timer.key.alarm) {
      case Alarm::report: armed = &group.report_at; break;
      case Alarm::reap: armed = &group.reap_at; break;
      case Alarm::patience: armed = &group.patience_at; break;
      case Alarm::reload: armed = &group.reload_at; break;
    }
    if (*armed != timer.at) continue;
    *armed = kNever;
    if (timer.key.alarm == Alarm::reap) reap(now, timer.key.group, effects);
    if (timer.key.alarm == Alarm::patience) look_at_queue(now, timer.key.group, effects);
    if (timer.key.alarm == Alarm::reload) reload(now, group, timer.key.group, effects);
    if (timer.key.alarm == Alarm::report && group.active) {
      changed(now, group, timer.key.group);
      group.active = group.in_flight + group.queue.size() != 0;
      report(now, group, effects);
      if (!group.active || group.routing.report_interval.nanos <= 0) continue;  // of zero: the last
      group.report_at = now + group.routing.report_interval;
      state_.timers.arm(group.report_at, timer.key);
    }
  }
}

// Gives back the replicas whose time is over. They stand last in the list, but for one that was
// loaded again: it is kept by another measure.
void Functions::reap(Time now, std::uint32_t index, Effects& effects) {
  Group& group = state_.groups[index];
  std::uint32_t at = group.last;
  while (at != 0 && group.ready > group.routing.min_replicas) {
    const std::uint32_t slot = at - 1;
    const Replica& replica = state_.replicas.in_slot(slot);
    at = replica.previous;
    if (replica.in_flight != 0) continue;
    if (idle_until(group, replica) <= now) {
      take_out(group, slot, effects);
    } else if (!replica.reloaded) {
      break;
    }
  }
  arm_reap(now, group, index);
  arm_reload(now, group, index);
}

void Functions::arm_reap(Time now, Group& group, std::uint32_t index) {
  const bool fixed = group.routing.keep_alive_policy == KeepAlive::fixed;
  if (group.last == 0 || group.ready <= group.routing.min_replicas) return;
  if (fixed && (group.routing.keep_alive.nanos <= 0 || group.reap_at != kNever)) return;
  Time first = kNever;
  for (std::uint32_t at = group.last; at != 0;) {
    const Replica& replica = state_.replicas.in_slot(at - 1);
    at = replica.previous;
    if (replica.in_flight != 0) continue;
    first = std::min(first, idle_until(group, replica));
    if (!replica.reloaded) break;
  }
  // None idle: armed again when one falls idle. A window that has grown shorter comes sooner.
  if (first >= group.reap_at) return;
  group.reap_at = std::max(now, first);  // it may have been one of the least until now
  state_.timers.arm(group.reap_at, {index, Alarm::reap});
}

// Refuses what has waited too long, and without delayed warm starts lets what has lost patience
// take any free replica.
void Functions::look_at_queue(Time now, std::uint32_t index, Effects& effects) {
  Group& group = state_.groups[index];
  changed(now, group, index);
  const Duration timeout = group.routing.queue_timeout;
  while (!group.queue.empty()) {
    const Queued oldest = group.queue.oldest();
    if (timeout.nanos > 0 && oldest.since + timeout <= now) {
      group.queue.pop_oldest();
      ++group.refused;
      effects.push_back(RefuseRequest{oldest.request, group.routing.group, Rule::queue_timeout,
                                      (now - oldest.since).nanos, timeout.nanos});
    } else if (group.first != 0 && oldest.since + config_.patience <= now) {
      group.queue.pop_oldest();
      dispatch(now, oldest.request, group, group.first - 1, false, effects);
    } else {
      break;
    }
  }
  if (!group.queue.empty()) report(now, group, effects);
  arm_patience(now, group, index);
}

void Functions::arm_patience(Time now, Group& group, std::uint32_t index) {
  if (group.queue.empty() || group.patience_at != kNever) return;
  const Time since = group.queue.oldest().since;
  Time at = kNever;
  if (group.routing.queue_timeout.nanos > 0) at = since + group.routing.queue_timeout;
  if (!group.routing.delayed_warm_start) {
    Time patience = since + config_.patience;
    // A head that has lost patience and found no replica is looked at again after as long.
    while (patience <= group.changed) patience = patience + config_.patience;
    at = std::min(at, patience);
  }
  group.patience_at = std::max(now, at);
  state_.timers.arm(group.patience_at, {index, Alarm::patience});
}

// ---- small parts

Group* Functions::find(GroupId id) {
  if (!id || id.value > state_.groups.size()) return nullptr;
  Group& group = state_.groups[id.value - 1];
  return group.known ? &group : nullptr;
}

// Called before every change of a group: brings its totals up to now and makes sure of a report.
void Functions::changed(Time now, Group& group, std::uint32_t index) {
  const std::int64_t level = std::int64_t{group.in_flight} + group.queue.size();
  group.concurrency_ns += level * (now - group.changed).nanos;
  group.busy_ns += std::int64_t{group.in_flight} * (now - group.changed).nanos;
  group.changed = now;
  group.active = true;
  if (group.report_at == kNever && group.routing.report_interval.nanos > 0) {
    group.report_at = now + group.routing.report_interval;
    state_.timers.arm(group.report_at, {index, Alarm::report});
  }
}

// Control starts replicas for calls that wait, so it hears of them at once; in a crowd, of all that
// came since within report_gap. Where each call waits for a start of its own, of every one.
void Functions::report_hold(Time now, Group& group, std::uint32_t index, Effects& effects) {
  const Time next = group.reported + config_.report_gap;
  if (!group.routing.delayed_warm_start || next <= now) return report(now, group, effects);
  if (group.report_at <= next) return;
  group.report_at = next;
  state_.timers.arm(next, {index, Alarm::report});
}

void Functions::report(Time now, Group& group, Effects& effects) {
  group.reported = now;
  effects.push_back(
      ReportDemand{{group.routing.group, now, group.concurrency_ns, group.arrivals, group.refused,
                    group.holds, group.peak, group.in_flight, group.queue.size(), group.ready,
                    group.reloads, group.busy_ns}});
  group.peak = group.in_flight + group.queue.size();
  if (group.concurrency_ns < kTotalMost) return;
  group.concurrency_ns = group.busy_ns = 0;
  group.arrivals = group.peak;  // whoever has not ended counts as having come
  group.refused = group.holds = group.reloads = 0;
}

void Functions::list_first(Group& group, std::uint32_t slot) {
  Replica& replica = state_.replicas.in_slot(slot);
  replica.listed = true;
  replica.previous = 0;
  replica.next = group.first;
  if (group.first != 0) state_.replicas.in_slot(group.first - 1).previous = slot + 1;
  if (group.last == 0) group.last = slot + 1;
  group.first = slot + 1;
}

// After more calls at once are allowed: those that were full have a free slot.
void Functions::list_all(Group& group, std::uint32_t index) {
  for (const auto& [sandbox, id] : state_.by_sandbox) {
    const std::uint32_t slot = SlotTable<ReplicaSlot, Replica>::slot_of(id);
    const Replica& replica = state_.replicas.in_slot(slot);
    if (replica.group == index && !replica.listed && !replica.draining) list_first(group, slot);
  }
}

void Functions::unlist(Group& group, std::uint32_t slot) {
  Replica& replica = state_.replicas.in_slot(slot);
  (replica.previous != 0 ? state_.replicas.in_slot(replica.previous - 1).next : group.first) =
      replica.next;
  (replica.next != 0 ? state_.replicas.in_slot(replica.next - 1).previous : group.last) =
      replica.previous;
  replica.previous = replica.next = 0;
  replica.listed = false;
}

void Functions::tell_wake(Effects& effects) {
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

}  // namespace chalk::functions
