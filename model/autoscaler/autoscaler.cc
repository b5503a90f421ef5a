#include "model/autoscaler/autoscaler.h"

#include <algorithm>

namespace chalk::autoscaler {
namespace {

// Far above what there ever is, and so low that no sum or product of them overflows.
constexpr std::uint32_t kCallsMost = 500'000'000;    // at once
constexpr std::uint64_t kTotalMost = 1ULL << 62;     // ever
constexpr std::size_t kSamplesMost = 4096;           // kpa, hpa: of one window

// A gateway is believed as far as what it says may be true: it stands in the log before anybody
// looks at it, so whatever it says must be survived.
Demand bounded(Time now, Demand demand) {
  demand.at = std::min(demand.at, now);  // else all that is true comes too late
  for (std::int64_t* total : {&demand.concurrency_ns, &demand.busy_ns}) {
    *total = std::max<std::int64_t>(0, *total);
  }
  for (std::uint64_t* total :
       {&demand.arrivals, &demand.refused, &demand.holds, &demand.reloads}) {
    *total = std::min(*total, kTotalMost);
  }
  for (std::uint32_t* calls : {&demand.in_flight, &demand.queued, &demand.ready}) {
    *calls = std::min(*calls, kCallsMost);
  }
  demand.peak = std::min(demand.peak, 2 * kCallsMost);
  return demand;
}

}  // namespace

void Autoscaler::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  if (state_.timers.next() == state_.wake) return;
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

void Autoscaler::on(Time now, const GroupAdded& added, Effects& effects) {
  if (!added.group || added.group.value > config_.groups_max) return;
  if (state_.groups.size() < added.group.value) state_.groups.resize(added.group.value);
  Group& group = state_.groups[added.group.value - 1];
  const bool other_kind = group.policy.kind != added.policy.kind;
  const bool other_window = other_kind || group.policy.keep_alive != added.policy.keep_alive;
  if (other_window) group.wishes = group.caps = {};  // their parts have another length
  if (other_kind) begin_otherwise(group);
  group.policy = added.policy;
  group.policy.concurrency = std::max(1u, added.policy.concurrency);
  group.policy.max_replicas = std::max(added.policy.max_replicas, added.policy.min_replicas);
  group.known = true;
  look(now, added.group, group, effects);
}

// By another policy from now on, which begins with the replicas that there are: what the last one
// had in mind is nothing to it, and the calls that waited so far were the last one's to answer.
void Autoscaler::begin_otherwise(Group& group) {
  group.holds_answered = group.last.holds;
  group.reloads_answered = group.last.reloads;
  group.for_calls = 0;
  group.plan = staying_of(group);
  group.panic = false;
  group.zero_since = kNever;
  group.sync_at = {};
  group.samples = {};
  group.history = {};
}

void Autoscaler::on(Time now, const DemandReported& report, Effects& effects) {
  const Demand demand = bounded(now, report.demand);
  Group* group = find(demand.group);
  if (group == nullptr) return;
  const Demand& last = group->last;
  const bool fewer = demand.arrivals < last.arrivals || demand.holds < last.holds ||
                     demand.reloads < last.reloads ||
                     demand.concurrency_ns < last.concurrency_ns || demand.busy_ns < last.busy_ns;
  // Late: a newer one has been seen. Two of one nanosecond differ by their totals.
  if (demand.at < last.at || (demand.at == last.at && fewer)) return;
  if (fewer) {  // a gateway that started again counts from zero
    group->samples = {};
    group->history = {};
    group->holds_answered = group->reloads_answered = 0;
    group->finished = 0;
    group->last = {};
  }
  learn(now, *group, demand);
  group->last = demand;
  // A report that may be older than the order's arrival says nothing about it.
  if (demand.at >= group->stop_asked + config_.tick) settle_stops(*group);
  look(now, demand.group, *group, effects);
}

// Of a report: what the policies remember of it, or others that may follow them.
void Autoscaler::learn(Time now, Group& group, const Demand& next) {
  const Demand& last = group.last;
  group.most = std::max({group.most, next.peak, next.in_flight + next.queued});
  const std::uint64_t open = next.refused + next.in_flight + next.queued;
  group.finished = std::max(group.finished, next.arrivals - std::min(next.arrivals, open));
  if (next.arrivals != last.arrivals || next.in_flight + next.queued != 0) group.called = now;
  if (group.policy.kind == Kind::fixed) return;
  const Sample sample{next.at, next.concurrency_ns, next.busy_ns, next.arrivals, group.finished,
                      next.queued};
  if (group.policy.kind == Kind::chalk) {
    remember(group.history, sample, config_.memory);
    return;
  }
  const Time from = now - config_.stable_window;
  while (group.samples.size() > 1 && group.samples[1].at <= from) group.samples.pop_front();
  // Of one moment the last word; and of more than there can be, less is kept of the newest.
  const std::size_t have = group.samples.size();
  if (have != 0 && (have == kSamplesMost || group.samples[have - 1].at == sample.at)) {
    group.samples[have - 1] = sample;
  } else {
    group.samples.push_back(sample);
  }
}

void Autoscaler::on(Time now, const ReplicaStarting& starting, Effects&) {
  Group* group = find(starting.group);
  if (group == nullptr) return;
  if (group->starting == 0) group->starting_since = now;
  ++group->starting;
}

void Autoscaler::on(Time now, const ReplicaStarted& started, Effects&) {
  Group* group = find(started.group);
  if (group == nullptr) return;
  if (group->starting > 0) --group->starting;
  if (group->for_calls > 0) --group->for_calls;
  ++group->ready;
  group->starting_since = now;
  const std::int64_t before = group->start_took.nanos;
  const std::int64_t took = std::max<std::int64_t>(1, started.took.nanos);
  group->start_took.nanos = before == 0 ? took : (before * 3 + took) / 4;
  arm(now, started.group, *group);
}

// Never answered at once by a new start: a start that fails at once would be tried for ever.
void Autoscaler::on(Time now, const ReplicaEnded& ended, Effects&) {
  Group* group = find(ended.group);
  if (group == nullptr) return;
  std::uint32_t& count = ended.was_ready ? group->ready : group->starting;
  if (count > 0) --count;
  if (ended.was_leaving && group->leaving > 0) --group->leaving;
  group->leaving = std::min(group->leaving, group->ready);
  if (ended.was_ready && group->stopping > group->leaving) --group->stopping;
  if (group->for_calls > 0 && !ended.was_ready) --group->for_calls;
  arm(now, ended.group, *group);
}

// It serves its calls and gets no more, so another is wanted in its place; at the next look, when all
// that leave with it are known.
void Autoscaler::on(Time now, const ReplicaLeaves& leaves, Effects&) {
  Group* group = find(leaves.group);
  if (group == nullptr) return;
  if (group->leaving < group->ready) ++group->leaving;
  if (group->stopping < group->ready) ++group->stopping;
  group->stop_asked = now;
  look_within(now, config_.tick, leaves.group, *group);
}

// What gateways have to say of the time before comes within a tick; nothing is decided without it.
void Autoscaler::on(Time now, const Resumed&, Effects&) {
  for (std::size_t i = 0; i < state_.groups.size(); ++i) {
    Group& group = state_.groups[i];
    if (group.look_at >= now + config_.tick) continue;
    group.look_at = kNever;
    look_within(now, config_.tick, GroupId{i + 1}, group);
  }
}

void Autoscaler::on(Time now, const Woken&, Effects& effects) {
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    Group* group = find(timer.key);
    if (group == nullptr || group->look_at != timer.at) continue;
    group->look_at = kNever;
    // Woken so much too late, control was away, if only for its disk: as in Resumed.
    if (now - timer.at > config_.tick) {
      look_within(now, config_.tick, timer.key, *group);
      continue;
    }
    look(now, timer.key, *group, effects);
  }
}

// Replicas that are here and not on their way out.
std::uint32_t Autoscaler::staying_of(const Group& group) {
  const std::uint32_t have = group.ready + group.starting;
  return have - std::min(group.stopping, have);
}

// Of those asked to stop only what the gateway has taken out of use is still on its way; and what
// leaves with its node, which the gateway may not have heard yet.
void Autoscaler::settle_stops(Group& group) const {
  const std::uint32_t out_of_use = group.ready - std::min(group.ready, group.last.ready);
  group.stopping = std::min(group.stopping, std::max(out_of_use, group.leaving));
}

void Autoscaler::look(Time now, GroupId id, Group& group, Effects& effects) {
  // An idle gateway reports no more, also not that it had nothing to spare.
  if (now >= group.stop_asked + config_.tick * 5) settle_stops(group);
  switch (group.policy.kind) {
    case Kind::fixed: answer_holds(now, id, group, effects); break;
    case Kind::kpa: scale(now, id, group, wish_of_kpa(now, group), effects); break;
    case Kind::hpa: scale(now, id, group, wish_of_hpa(now, group), effects); break;
    case Kind::chalk: scale(now, id, group, wish_of_chalk(now, group), effects); break;
  }
  arm(now, id, group);
}

// A group is looked at again while it has anything to stop or to wait for.
void Autoscaler::arm(Time now, GroupId id, Group& group) {
  const std::uint32_t have = group.ready + group.starting;
  const bool waits = group.last.queued != 0 || staying_of(group) < group.policy.min_replicas;
  const bool may_stop = group.policy.kind != Kind::fixed && have > group.policy.min_replicas;
  if (!waits && !may_stop) return;
  Duration later = config_.tick;
  if (!waits && group.policy.kind == Kind::chalk && group.last.in_flight == 0) {
    // Idle: nothing can change before a part of the trailing window has passed.
    later = std::max(later, Duration{group.policy.keep_alive.nanos / kBuckets});
  }
  look_within(now, later, id, group);
}

void Autoscaler::look_within(Time now, Duration later, GroupId id, Group& group) {
  if (group.look_at <= now + later) return;
  group.look_at = now + later;
  state_.timers.arm(group.look_at, id);
}

void Autoscaler::answer_holds(Time now, GroupId id, Group& group, Effects& effects) {
  const std::uint32_t have = group.ready + group.starting;
  std::uint64_t held = group.last.holds - group.holds_answered;
  std::uint64_t count = held + group.last.reloads - group.reloads_answered;
  Why why = group.last.queued == 0 ? Why::expected_call : Why::held_calls;
  if (count == 0 && waits_for_no_start(now, group)) {
    held = count = 1;
    group.tried_again = now;
  }
  const std::uint32_t staying = staying_of(group);
  if (staying + count < group.policy.min_replicas) {
    count = group.policy.min_replicas - staying;
    why = Why::minimum;
  }
  group.holds_answered = group.last.holds;
  group.reloads_answered = group.last.reloads;
  const std::uint32_t room =
      group.policy.max_replicas > have ? group.policy.max_replicas - have : 0;
  const auto start = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, room));
  if (start != 0) {
    group.for_calls += static_cast<std::uint32_t>(std::min<std::uint64_t>(start, held));
    effects.push_back(StartReplicas{id, start, why, group.last.queued * 1000LL, have + start});
  }
  cancel_served(id, group, start, effects);
}

// Somebody's start was refused or has failed, also where others run: one is tried again for all who
// wait so, at most once a tick. Where replicas live only a report that is newer than what was
// started last is believed: the calls may be in them by now.
bool Autoscaler::waits_for_no_start(Time now, const Group& group) const {
  if (group.last.queued <= std::uint64_t{group.starting} * group.policy.concurrency) return false;
  const bool none = group.ready + group.starting == 0;
  const Time tried = std::max(group.starting_since, group.tried_again);
  return (none ? now : group.last.at) >= tried + config_.tick;
}

// Of the starts that were ordered for calls as many as others have served since.
void Autoscaler::cancel_served(GroupId id, const Group& group, std::uint32_t ordered,
                               Effects& effects) {
  const std::uint32_t starting = group.starting + ordered;
  const std::uint32_t have = group.ready + starting;
  const std::uint32_t staying = staying_of(group) + ordered;
  const std::uint32_t spare = staying - std::min(staying, group.policy.min_replicas);
  const std::uint32_t served = group.for_calls - std::min(group.for_calls, group.last.queued);
  const std::uint32_t count = std::min({served, starting, spare});
  if (count == 0) return;
  effects.push_back(
      CancelStarts{id, count, Why::served_calls, group.last.queued * 1000LL, have - count});
}

// ---- acting

void Autoscaler::scale(Time now, GroupId id, Group& group, Wish wish, Effects& effects) {
  const std::uint32_t desired =
      std::clamp(wish.replicas, group.policy.min_replicas, group.policy.max_replicas);
  if (desired > wish.replicas) wish.why = Why::minimum;
  if (desired != group.desired) {
    const bool rising = desired > group.desired;
    if (rising != group.rising) ++group.turns;
    group.rising = rising;
    group.desired = desired;
  }
  const std::uint32_t have = group.ready + group.starting;
  const std::uint32_t staying = staying_of(group);
  if (desired > staying) {
    const std::uint32_t room =
        group.policy.max_replicas > have ? group.policy.max_replicas - have : 0;
    const std::uint32_t start = std::min(desired - staying, room);
    if (start != 0) {
      effects.push_back(StartReplicas{id, start, wish.why, wish.concurrency_milli, desired});
    }
    return;
  }
  const std::uint32_t unneeded = std::min(staying - desired, group.starting);
  if (unneeded != 0) {
    effects.push_back(CancelStarts{id, unneeded, wish.why, wish.concurrency_milli, desired});
  }
  // What only starts is no use yet: as many as are wanted stay ready until it has started.
  const std::uint32_t usable = group.ready - std::min(group.stopping, group.ready);
  if (desired < usable) {
    const std::uint32_t stop = usable - desired;
    group.stopping += stop;
    group.stop_asked = now;
    effects.push_back(StopReplicas{id, stop, wish.why, wish.concurrency_milli, desired});
  }
}

void Highest::add(Time now, Duration window, std::uint32_t figure) {
  const std::int64_t width = std::max<std::int64_t>(1, window.nanos / (kBuckets - 1));
  const std::int64_t now_part = now.nanos / width;
  const std::int64_t turned = std::min<std::int64_t>(now_part - part, kBuckets);
  for (std::int64_t i = 0; i < turned; ++i) {
    parts[static_cast<std::size_t>((now_part - i) % kBuckets)] = 0;
  }
  part = std::max(part, now_part);
  std::uint32_t& most = parts[static_cast<std::size_t>(part % kBuckets)];
  most = std::max(most, figure);
}

std::uint32_t Highest::value() const { return *std::max_element(parts.begin(), parts.end()); }

Group* Autoscaler::find(GroupId id) {
  if (!id || id.value > state_.groups.size()) return nullptr;
  Group& group = state_.groups[id.value - 1];
  return group.known ? &group : nullptr;
}

}  // namespace chalk::autoscaler
