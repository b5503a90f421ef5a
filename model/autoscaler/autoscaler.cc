#include "model/autoscaler/autoscaler.h"

#include <algorithm>

namespace chalk::autoscaler {
namespace {

__extension__ using Wide = __int128;  // for products of nanoseconds

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Largest r with r * r <= n.
std::int64_t square_root(std::int64_t n) {
  if (n <= 0) return 0;
  std::int64_t r = std::int64_t{1}
                   << ((64 - __builtin_clzll(static_cast<std::uint64_t>(n)) + 1) / 2);
  while (true) {
    const std::int64_t next = (r + n / r) / 2;
    if (next >= r) return r;
    r = next;
  }
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
  group.policy = added.policy;
  group.policy.concurrency = std::max(1u, added.policy.concurrency);
  group.policy.max_replicas = std::max(added.policy.max_replicas, added.policy.min_replicas);
  group.known = true;
  look(now, added.group, group, effects);
}

void Autoscaler::on(Time now, const DemandReported& report, Effects& effects) {
  const Demand& demand = report.demand;
  Group* group = find(demand.group);
  if (group == nullptr) return;
  const Demand& last = group->last;
  const bool fewer = demand.arrivals < last.arrivals || demand.holds < last.holds ||
                     demand.reloads < last.reloads ||
                     demand.concurrency_ns < last.concurrency_ns;
  // Late: a newer one has been seen. Two of one nanosecond differ by their totals.
  if (demand.at < last.at || (demand.at == last.at && fewer)) return;
  if (fewer) {  // a gateway that started again counts from zero
    group->samples = {};
    group->holds_answered = 0;
  }
  group->last = demand;
  // A report that may be older than the order's arrival says nothing about it.
  if (demand.at >= group->stop_asked + config_.tick) settle_stops(*group);
  if (group->policy.kind != Kind::fixed) {
    const Time from = now - config_.stable_window;
    while (group->samples.size() > 1 && group->samples[1].at <= from) group->samples.pop_front();
    group->samples.push_back({demand.at, demand.concurrency_ns});
    turn_buckets(now, *group);
    std::uint32_t& peak = group->peaks[static_cast<std::size_t>(group->bucket % kBuckets)];
    peak = std::max(peak, demand.peak);
  }
  look(now, demand.group, *group, effects);
}

void Autoscaler::on(Time, const ReplicaStarting& starting, Effects&) {
  if (Group* group = find(starting.group)) ++group->starting;
}

void Autoscaler::on(Time now, const ReplicaStarted& started, Effects&) {
  Group* group = find(started.group);
  if (group == nullptr) return;
  if (group->starting > 0) --group->starting;
  ++group->ready;
  arm(now, started.group, *group);
}

// Never answered at once by a new start: a start that fails at once would be tried for ever.
void Autoscaler::on(Time now, const ReplicaEnded& ended, Effects&) {
  Group* group = find(ended.group);
  if (group == nullptr) return;
  std::uint32_t& count = ended.was_ready ? group->ready : group->starting;
  if (count > 0) --count;
  if (group->stopping > 0 && ended.was_ready) --group->stopping;
  arm(now, ended.group, *group);
}

void Autoscaler::on(Time now, const Woken&, Effects& effects) {
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    Group* group = find(timer.key);
    if (group == nullptr || group->look_at != timer.at) continue;
    group->look_at = kNever;
    look(now, timer.key, *group, effects);
  }
}

// Of those asked to stop only what the gateway has taken out of use is still on its way.
void Autoscaler::settle_stops(Group& group) const {
  const std::uint32_t out_of_use = group.ready - std::min(group.ready, group.last.ready);
  group.stopping = std::min(group.stopping, out_of_use);
}

void Autoscaler::look(Time now, GroupId id, Group& group, Effects& effects) {
  // An idle gateway reports no more, also not that it had nothing to spare.
  if (now >= group.stop_asked + config_.tick * 5) settle_stops(group);
  switch (group.policy.kind) {
    case Kind::fixed: answer_holds(id, group, effects); break;
    case Kind::kpa: scale(now, id, group, wish_of_kpa(now, group), effects); break;
    case Kind::chalk: scale(now, id, group, wish_of_chalk(now, group), effects); break;
  }
  arm(now, id, group);
}

// A group is looked at again while it has anything to stop or to wait for.
void Autoscaler::arm(Time now, GroupId id, Group& group) {
  const std::uint32_t have = group.ready + group.starting;
  const bool waits = group.last.queued != 0 || have < group.policy.min_replicas;
  const bool may_stop = group.policy.kind != Kind::fixed && have > group.policy.min_replicas;
  if (!waits && !may_stop) return;
  Duration later = config_.tick;
  if (!waits && group.policy.kind == Kind::chalk && group.last.in_flight == 0) {
    // Idle: nothing can change before a part of the trailing window has passed.
    later = std::max(later, Duration{group.policy.keep_alive.nanos / kBuckets});
  }
  if (group.look_at <= now + later) return;
  group.look_at = now + later;
  state_.timers.arm(group.look_at, id);
}

void Autoscaler::answer_holds(GroupId id, Group& group, Effects& effects) {
  const std::uint32_t have = group.ready + group.starting;
  std::uint64_t count = group.last.holds + group.last.reloads - group.holds_answered;
  Why why = count != 0 && group.last.queued == 0 ? Why::expected_call : Why::held_calls;
  if (count == 0 && group.last.queued > group.starting * group.policy.concurrency && have == 0) {
    count = 1;  // its start failed: somebody still waits
  }
  if (have + count < group.policy.min_replicas) {
    count = group.policy.min_replicas - have;
    why = Why::minimum;
  }
  group.holds_answered = group.last.holds + group.last.reloads;
  const std::uint32_t room =
      group.policy.max_replicas > have ? group.policy.max_replicas - have : 0;
  const auto start = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, room));
  if (start == 0) return;
  effects.push_back(StartReplicas{id, start, why, group.last.queued * 1000LL, have + start});
}

// ---- Knative's rules

Autoscaler::Wish Autoscaler::wish_of_kpa(Time now, Group& group) const {
  const std::int64_t per_replica =
      std::max<std::int64_t>(1, group.policy.concurrency * group.policy.target_permille);
  const std::int64_t stable = average_milli(now, group, config_.stable_window);
  const std::int64_t panic = average_milli(now, group, config_.panic_window);
  const std::int64_t ready = std::max<std::int64_t>(1, group.ready);
  const std::int64_t most = std::max<std::int64_t>(1, ready * config_.rate_up_permille / 1000);
  const std::int64_t least = ready * config_.rate_down_permille / 1000;
  const auto within = [&](std::int64_t wish) {
    return std::clamp(wish, std::min(least, most), most);
  };
  const std::int64_t wish_stable = within(ceil_div(stable, per_replica));
  const std::int64_t wish_panic = within(ceil_div(panic, per_replica));

  if (wish_panic * 1000 >= ready * config_.panic_permille) {
    if (!group.panic) group.panic_desired = 0;
    group.panic = true;
    group.panic_until = now + config_.stable_window;
  } else if (group.panic && now > group.panic_until) {
    group.panic = false;
  }
  Wish wish{static_cast<std::uint32_t>(wish_stable), Why::stable_average, stable};
  if (group.panic) {
    group.panic_desired = std::max(group.panic_desired, static_cast<std::uint32_t>(wish_panic));
    wish = {std::max(group.panic_desired, wish.replicas), Why::panic_average, panic};
  }
  const bool demand = group.last.in_flight + group.last.queued != 0 || stable > 0;
  if (demand) {
    group.zero_since = kNever;
    wish.replicas = std::max(wish.replicas, 1u);
  } else {
    if (group.zero_since == kNever) group.zero_since = now;
    const bool grace_over = group.zero_since + config_.scale_to_zero_grace <= now;
    // The last one goes after the grace; the others went before, at their rate and out of panic.
    wish.replicas = grace_over && wish.replicas <= 1 ? 0 : std::max(1u, wish.replicas);
  }
  return wish;
}

// ---- ours

Autoscaler::Wish Autoscaler::wish_of_chalk(Time now, Group& group) const {
  const std::int64_t level = (std::int64_t{group.last.in_flight} + group.last.queued) * 1000;
  const std::int64_t short_term = average_milli(now, group, config_.panic_window);
  const std::int64_t long_term = average_milli(now, group, config_.stable_window);
  const std::int64_t mean = std::max(short_term, long_term);
  // In thousandths: the root of m/1000 is root(m * 1000) / 1000.
  const std::int64_t slack = group.policy.z_permille * square_root(mean * 1000) / 1000;
  const std::int64_t concurrency = group.policy.concurrency;
  Wish wish{static_cast<std::uint32_t>(ceil_div(mean > 0 ? mean + slack : 0, concurrency * 1000)),
            Why::forecast, mean};
  const auto now_needed = static_cast<std::uint32_t>(ceil_div(level, concurrency * 1000));
  if (now_needed > wish.replicas) wish = {now_needed, Why::held_calls, level};
  turn_buckets(now, group);
  const std::uint32_t peak = *std::max_element(group.peaks.begin(), group.peaks.end());
  const auto ran = static_cast<std::uint32_t>(ceil_div(peak, concurrency));
  // The window keeps what there is; it starts nothing by itself.
  const std::uint32_t kept = std::min(ran, group.ready + group.starting);
  if (kept > wish.replicas) wish = {kept, Why::window, std::int64_t{peak} * 1000};
  return wish;
}

void Autoscaler::turn_buckets(Time now, Group& group) const {
  const std::int64_t width =
      std::max<std::int64_t>(1, group.policy.keep_alive.nanos / (kBuckets - 1));
  const std::int64_t bucket = now.nanos / width;
  const std::int64_t turns = std::min<std::int64_t>(bucket - group.bucket, kBuckets);
  for (std::int64_t i = 0; i < turns; ++i) {
    group.peaks[static_cast<std::size_t>((bucket - i) % kBuckets)] = 0;
  }
  if (turns > 0) {
    // What runs now goes on into the new part.
    group.peaks[static_cast<std::size_t>(bucket % kBuckets)] =
        group.last.in_flight + group.last.queued;
    group.bucket = bucket;
  }
}

// Mean concurrency in thousandths over the window, exact at the reports' times. After the last
// report demand is what that report said.
std::int64_t Autoscaler::average_milli(Time now, const Group& group, Duration window) const {
  if (group.samples.empty()) return 0;
  const Time from = now - window;
  const Sample* begin = &group.samples[0];
  for (std::size_t i = group.samples.size(); i-- > 0;) {
    if (group.samples[i].at <= from) {
      begin = &group.samples[i];
      break;
    }
  }
  const Sample& end = group.samples[group.samples.size() - 1];
  const std::int64_t level = std::int64_t{group.last.in_flight} + group.last.queued;
  const std::int64_t since = (now - end.at).nanos;
  Wide total = Wide{end.concurrency_ns - begin->concurrency_ns} + Wide{level} * since;
  std::int64_t span = (now - begin->at).nanos;
  if (begin->at < from && end.at >= from && end.at > begin->at) {
    // The part of the first interval that lies before the window, at that interval's mean.
    std::size_t next = 0;
    while (group.samples[next].at <= from) ++next;
    const Sample& after = group.samples[next];
    const std::int64_t interval = (after.at - begin->at).nanos;
    const std::int64_t before = (from - begin->at).nanos;
    total -= Wide{after.concurrency_ns - begin->concurrency_ns} * before / interval;
    span -= before;
  } else if (end.at < from) {
    total = Wide{level} * window.nanos;
    span = window.nanos;
  }
  if (span <= 0) return level * 1000;
  return static_cast<std::int64_t>(std::max<Wide>(0, total * 1000 / span));
}

// ---- acting

void Autoscaler::scale(Time now, GroupId id, Group& group, Wish wish, Effects& effects) {
  const std::uint32_t desired =
      std::clamp(wish.replicas, group.policy.min_replicas, group.policy.max_replicas);
  if (desired > wish.replicas) wish.why = Why::minimum;
  const std::uint32_t have = group.ready + group.starting;
  const std::uint32_t staying = have - std::min(group.stopping, have);
  if (desired > staying) {
    const std::uint32_t room =
        group.policy.max_replicas > have ? group.policy.max_replicas - have : 0;
    const std::uint32_t start = std::min(desired - staying, room);
    if (start != 0) {
      effects.push_back(StartReplicas{id, start, wish.why, wish.concurrency_milli, desired});
    }
    return;
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

Group* Autoscaler::find(GroupId id) {
  if (!id || id.value > state_.groups.size()) return nullptr;
  Group& group = state_.groups[id.value - 1];
  return group.known ? &group : nullptr;
}

}  // namespace chalk::autoscaler
