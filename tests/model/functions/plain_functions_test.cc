// Functions against a plain reading of its rules for one group: lists that are searched, and every
// alarm on a list of its own. All that is said must be the same, and when.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <list>
#include <tuple>
#include <vector>

#include "model/core/print.h"
#include "model/core/random.h"
#include "rig.h"

namespace chalk::functions {
namespace {

struct Plain {
  struct One {
    SandboxId sandbox;
    std::uint32_t calls = 0;
    Time idle_since{};
    bool draining = false, used = false, reloaded = false;
    std::uint32_t slot = 0;  // the machine's: of equal priorities the lowest goes
    std::int64_t priority = 0, pooled = 0;
  };
  using Place = std::list<One>::iterator;
  Config config;
  GroupRouting routing{};
  bool known = false;
  CallQueue queue{};
  std::list<One> free{};    // with a slot, the most recently used first
  std::list<One> others{};  // full, or draining
  Time now{}, counted{};
  std::int64_t level_ns = 0, busy_ns = 0;
  std::uint64_t arrivals = 0, refused = 0, holds = 0, reloads = 0;
  std::uint32_t peak = 0;
  bool active = false;
  Time reported{-seconds(1000).nanos};
  // Of each alarm when it is to go off, and all that were ever set.
  Time set_for[4] = {kNever, kNever, kNever, kNever};
  std::vector<std::tuple<Time, int, Alarm>> alarms{};
  int alarms_set = 0;
  // What keeping has learned.
  Habit habit{};
  std::vector<Time> left{};
  Time start_asked = kNever;
  Duration start_took{};
  bool reloading = false;
  // Greedy-Dual.
  std::uint64_t frequency = 0;
  std::int64_t clock = 0;
  std::uint32_t next_slot = 0;
  std::vector<Effect> said{};

  // ---- small parts

  bool learns() const {
    return routing.keep_alive_policy == KeepAlive::hybrid || routing.keep_alive_policy == KeepAlive::cost;
  }
  bool fixed() const { return routing.keep_alive_policy == KeepAlive::fixed; }
  bool greedy() const { return routing.keep_alive_policy == KeepAlive::greedy_dual; }
  std::uint32_t in_flight() const {
    std::uint32_t sum = 0;
    for (const One& one : free) sum += one.calls;
    for (const One& one : others) sum += one.calls;
    return sum;
  }
  std::uint32_t here() const { return in_flight() + queue.size(); }
  std::uint32_t ready() const {
    const auto full = std::count_if(others.begin(), others.end(), [](const One& one) { return !one.draining; });
    return static_cast<std::uint32_t>(free.size()) + static_cast<std::uint32_t>(full);
  }
  Time& alarm(Alarm which) { return set_for[static_cast<int>(which)]; }
  void set(Alarm which, Time at) {
    alarm(which) = at;
    if (at != kNever) alarms.emplace_back(at, alarms_set++, which);
  }
  void count() {
    level_ns += here() * (now - counted).nanos;
    busy_ns += in_flight() * (now - counted).nanos;
    counted = now;
    active = true;
    if (alarm(Alarm::report) == kNever && routing.report_interval.nanos > 0) {
      set(Alarm::report, now + routing.report_interval);
    }
  }
  void report() {
    reported = now;
    said.push_back(ReportDemand{{kGroup, now, level_ns, arrivals, refused, holds, peak, in_flight(),
                                 queue.size(), ready(), reloads, busy_ns}});
    peak = here();
    if (level_ns < std::int64_t{1} << 62) return;
    level_ns = busy_ns = 0;  // all begin again
    arrivals = here();
    refused = holds = reloads = 0;
  }
  // The replica takes a call.
  void serve(Place one, RequestId call, bool cold) {
    if (one->calls++ == 0) {
      one->pooled = 0, one->reloaded = false;
      if (learns() && one->used) habit.learn(rule_of(routing), now - one->idle_since);
      if (!fixed()) one->used = true, ++frequency;
    }
    peak = std::max(peak, here());
    said.push_back(Dispatch{call, {}, one->sandbox, cold});
    if (one->calls == routing.concurrency) others.splice(others.end(), free, one);
  }
  void leave(std::list<One>& from, Place one) {
    if (learns() && one->used) {
      left.push_back(one->idle_since);
      std::sort(left.begin(), left.end());
      // The oldest makes room before the new one is in.
      if (left.size() > 16) {
        left.erase(left.begin() + (left.front() == one->idle_since && left[1] != one->idle_since));
      }
    }
    said.push_back(ReturnReplica{kGroup, one->sandbox});
    from.erase(one);
  }
  // ---- Greedy-Dual: what is idle is in the pool, and above the budget the least of it goes.
  void pool(One& one) const {
    if (!greedy() || one.calls != 0 || one.pooled != 0) return;
    const std::int64_t mebibytes = routing.memory_bytes / (1 << 20) + 1;
    const auto worth = static_cast<std::int64_t>(frequency) * (start_took.nanos / 1000 + 1);
    one.priority = clock + worth / mebibytes;
    one.pooled = std::max<std::int64_t>(1, routing.memory_bytes);
  }
  std::int64_t pooled() const {
    std::int64_t sum = 0;
    for (const One& one : free) sum += one.pooled;
    return sum;
  }
  void shrink() {
    while (pooled() > config.idle_bytes_max) {
      Place least = free.end();
      for (Place one = free.begin(); one != free.end(); ++one) {
        const auto rank = [](Place any) { return std::pair(any->priority, any->slot); };
        if (one->pooled != 0 && (least == free.end() || rank(one) < rank(least))) least = one;
      }
      clock = least->priority;
      least->pooled = 0;
      if (ready() <= routing.min_replicas) continue;
      leave(free, least);
      if (ready() == 0) frequency = 0;
    }
  }
  Time goes_at(const One& one) const {
    if (greedy()) return kNever;
    if (fixed()) return one.idle_since + routing.keep_alive;
    const Window& window = habit.window();
    return one.idle_since + (one.reloaded ? window.until : window.hold);
  }
  // Idle ones, from the least recently used on, up to the first that was not loaded again.
  std::vector<Place> those_to_look_at() {
    std::vector<Place> out;
    for (auto one = free.end(); one != free.begin();) {
      if ((--one)->calls != 0) continue;
      out.push_back(one);
      if (!one->reloaded) break;
    }
    return out;
  }
  void arm_reap() {
    if (free.empty() || ready() <= routing.min_replicas) return;
    if (fixed() && (routing.keep_alive.nanos <= 0 || alarm(Alarm::reap) != kNever)) return;
    Time first = kNever;
    for (const Place one : those_to_look_at()) first = std::min(first, goes_at(*one));
    if (first < alarm(Alarm::reap)) set(Alarm::reap, std::max(now, first));
  }
  void arm_patience() {
    if (queue.empty() || alarm(Alarm::patience) != kNever) return;
    const Time since = queue.oldest().since;
    Time at = routing.queue_timeout.nanos > 0 ? since + routing.queue_timeout : kNever;
    if (!routing.delayed_warm_start) {
      Time again = since + config.patience;
      while (again <= counted) again = again + config.patience;
      at = std::min(at, again);
    }
    set(Alarm::patience, std::max(now, at));
  }

  // ---- what happens

  void on(const GroupRouting& to) {
    const std::uint32_t before = routing.concurrency;
    const bool anew = !known || rule_of(to) != rule_of(routing);
    const bool other = to.keep_alive_policy != routing.keep_alive_policy;
    routing = to;
    routing.concurrency = std::max({1u, to.concurrency, known ? before : 1u});
    queue.set_order(to.queue_order);
    if (!known) counted = now;
    known = true;
    if (routing.concurrency > before) {  // those that were full are not any more
      others.sort([](const One& a, const One& b) { return a.sandbox < b.sandbox; });
      for (auto one = others.begin(); one != others.end();) {
        const Place next = std::next(one);
        if (!one->draining) free.splice(free.begin(), others, one);
        one = next;
      }
    }
    if (routing.delayed_warm_start && !free.empty() && !queue.empty()) count();
    while (routing.delayed_warm_start && !free.empty() && !queue.empty()) {
      serve(free.begin(), queue.pop().request, false);
    }
    if (anew) habit.begin(rule_of(routing));
    if (other) {
      left.clear();
      reloading = false, frequency = 0;
      alarm(Alarm::reload) = kNever;
      for (One& one : free) one.pooled = 0;
    }
    for (One& one : free) pool(one);
    shrink();
    alarm(Alarm::reap) = alarm(Alarm::patience) = kNever;
    arm_reap();
    arm_patience();
  }
  void on(const RequestArrived& call) {
    count();
    ++arrivals;
    if (!free.empty() && (queue.empty() || !routing.delayed_warm_start)) {
      return serve(free.begin(), call.request, false);
    }
    if (queue.size() >= routing.queue_max) {
      const auto out = queue.make_room_for(call.caller);
      ++refused;
      const std::int64_t most = routing.queue_max;
      said.push_back(RefuseRequest{out ? out->request : call.request, kGroup, Rule::queue_full, most, most});
      if (!out) return;
    }
    queue.push({call.request, call.caller, now});
    ++holds;
    peak = std::max(peak, here());
    if (!fixed()) {
      start_asked = std::min(start_asked, now);
      reloading = false;
      if (!left.empty()) {
        habit.learn(rule_of(routing), now - left.back());
        left.pop_back();
      }
    }
    arm_patience();
    const Time next = reported + config.report_gap;
    if (!routing.delayed_warm_start || next <= now) {
      report();
    } else if (next < alarm(Alarm::report)) {
      set(Alarm::report, next);
    }
  }
  void finish(SandboxId sandbox, TenantId caller, Duration took) {
    std::list<One>& where = listed(sandbox) ? free : others;
    const Place one = find(where, sandbox);
    if (one->calls == 0) return;
    count();
    --one->calls;
    queue.learn(caller, took);
    if (one->draining) {
      if (one->calls == 0) leave(others, one);
      return;
    }
    free.splice(free.begin(), where, one);
    if (!queue.empty() && routing.delayed_warm_start) return serve(one, queue.pop().request, false);
    if (one->calls != 0) return;
    one->idle_since = now;
    pool(*one);
    shrink();
    arm_reap();
  }
  void on(const RequestAbandoned& call) {
    const std::uint32_t entry = queue.find(call.request);
    if (entry == 0) return;
    count();
    queue.take(entry);
  }
  void on(const ReplicaReady& is) {
    if (has(is.sandbox)) return;
    if (free.size() + others.size() >= config.replicas_max) return said.push_back(ReturnReplica{kGroup, is.sandbox});
    count();
    free.push_front({is.sandbox, 0, now});
    free.front().slot = next_slot;
    if (start_asked != kNever) start_took = now - start_asked;
    start_asked = kNever;
    if (reloading && queue.empty() && !left.empty()) {
      free.front().idle_since = left.back();
      free.front().used = free.front().reloaded = true;
      left.pop_back();
    }
    reloading = false;
    bool cold = true;
    const Place one = free.begin();
    for (; !queue.empty() && one->calls < routing.concurrency; cold = false) {
      serve(one, queue.pop().request, cold);
    }
    pool(*one);
    shrink();
    arm_reap();
  }
  void on(const ReplicaGone& is) {
    if (!has(is.sandbox)) return;
    count();
    std::list<One>& where = listed(is.sandbox) ? free : others;
    const Place one = find(where, is.sandbox);
    if (one->calls != 0) said.push_back(AbortReplica{{}, is.sandbox, one->calls});
    where.erase(one);
    if (!queue.empty()) report();
  }
  void drain(std::list<One>& from, Place one) {
    one->draining = true;
    if (one->calls == 0) return leave(from, one);
    if (&from == &free) others.splice(others.end(), free, one);
  }
  void on(const DrainReplicas& is) {
    count();
    for (std::uint32_t left_to = is.count; left_to > 0 && ready() > routing.min_replicas; --left_to) {
      auto one = std::find_if(free.rbegin(), free.rend(), [](const One& any) { return any.calls == 0; });
      if (one == free.rend()) one = free.rbegin();
      if (one == free.rend()) return;
      drain(free, std::prev(one.base()));
    }
  }
  void on(const DrainReplica& is) {
    if (!has(is.sandbox)) return;
    std::list<One>& where = listed(is.sandbox) ? free : others;
    const Place one = find(where, is.sandbox);
    if (one->draining) return;
    count();
    drain(where, one);
  }
  void on(const Woken&) {
    while (!alarms.empty()) {
      const auto first = std::min_element(alarms.begin(), alarms.end());
      const auto [at, turn, which] = *first;
      if (at > now) return;
      alarms.erase(first);
      if (alarm(which) != at) continue;
      alarm(which) = kNever;
      switch (which) {
        case Alarm::report: tell_again(); break;
        case Alarm::reap: reap(); break;
        case Alarm::patience: look_at_queue(); break;
        case Alarm::reload: reload(); break;
      }
    }
  }
  void tell_again() {
    if (!active) return;
    count();
    active = here() != 0;
    report();
    const bool goes_on = active && routing.report_interval.nanos > 0;
    if (goes_on) set(Alarm::report, now + routing.report_interval);
  }
  void reap() {
    for (auto one = free.end(); one != free.begin() && ready() > routing.min_replicas;) {
      if ((--one)->calls != 0) continue;
      if (goes_at(*one) <= now) {
        leave(free, one++);
      } else if (!one->reloaded) {
        break;
      }
    }
    arm_reap();
    const Window& window = habit.window();
    if (!learns() || !window.reloads() || ready() != 0 || !queue.empty() || left.empty()) return;
    if (now - left.back() >= window.until) return;
    set(Alarm::reload, std::max(now, left.back() + window.reload - start_took));
  }
  void reload() {
    if (ready() != 0 || !queue.empty() || left.empty()) return;
    if (now - left.back() >= habit.window().until) return;
    count();
    reloading = true;
    start_asked = now;
    ++reloads;
    report();
  }
  void look_at_queue() {
    count();
    while (!queue.empty()) {
      const Queued oldest = queue.oldest();
      const Duration waited = now - oldest.since;
      const bool over = routing.queue_timeout.nanos > 0 && waited >= routing.queue_timeout;
      if (!over && (free.empty() || waited < config.patience)) break;
      queue.pop_oldest();
      if (!over) {
        serve(free.begin(), oldest.request, false);
        continue;
      }
      ++refused;
      said.push_back(RefuseRequest{oldest.request, kGroup, Rule::queue_timeout, waited.nanos,
                                   routing.queue_timeout.nanos});
    }
    if (!queue.empty()) report();
    arm_patience();
  }

  static Place find(std::list<One>& where, SandboxId sandbox) {
    return std::find_if(where.begin(), where.end(), [&](const One& one) { return one.sandbox == sandbox; });
  }
  bool listed(SandboxId sandbox) { return find(free, sandbox) != free.end(); }
  bool has(SandboxId sandbox) { return listed(sandbox) || find(others, sandbox) != others.end(); }
};

struct World {
  Random random;
  Plain plain;
  Functions machine;
  std::vector<std::pair<SandboxId, ReplicaSlot>> running{};  // of each call
  std::uint64_t calls = 0, sandboxes = 0;
  std::int64_t apart = 0;  // of calls that come like a clock

  void same(std::vector<Effect> is) {
    std::erase_if(is, [](const Effect& one) { return std::holds_alternative<WakeAt>(one); });
    for (Effect& effect : is) {
      if (auto* one = std::get_if<Dispatch>(&effect)) {
        running.emplace_back(one->sandbox, std::exchange(one->replica, {}));
      }
      if (auto* one = std::get_if<AbortReplica>(&effect)) {
        one->replica = {};
        std::erase_if(running, [&](const auto& call) { return call.first == one->sandbox; });
      }
    }
    if (is != plain.said) {
      RC_LOG() << "machine: " << to_text(is) << "\nplain: " << to_text(plain.said);
      RC_FAIL("the machine and its rules differ");
    }
    plain.said.clear();
    const Group& group = machine.state().groups.at(0);
    RC_ASSERT(group.report_at == plain.alarm(Alarm::report) && group.reap_at == plain.alarm(Alarm::reap));
    RC_ASSERT(group.patience_at == plain.alarm(Alarm::patience));
    RC_ASSERT(group.reload_at == plain.alarm(Alarm::reload) && group.left == plain.left);
    RC_ASSERT(group.reloading == plain.reloading && group.start_took == plain.start_took);
    RC_ASSERT(group.frequency == plain.frequency);
    RC_ASSERT(machine.state().idle.bytes() == plain.pooled());
    const auto& alarms = plain.alarms;
    const auto next = std::min_element(alarms.begin(), alarms.end());
    RC_ASSERT(machine.state().wake == (next == alarms.end() ? kNever : std::get<0>(*next)));
  }
  template <class E>
  void give(const E& event) {
    plain.on(event);
    same(tell(machine, plain.now, event));
  }
  void pass(Duration step) {
    const Time end = plain.now + step;
    while (machine.state().wake <= end) {
      const Duration late = milliseconds(random.below(6) == 0 ? 400 : 0);
      plain.now = std::min(end, std::max(plain.now, machine.state().wake) + late);
      give(Woken{});
    }
    plain.now = end;
  }
  void finish(std::size_t which) {
    const auto [sandbox, slot] = running.at(which);
    const TenantId caller{random.below(4)};
    const Duration took = milliseconds(static_cast<std::int64_t>(random.below(3000)));
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
    plain.finish(sandbox, caller, took);
    same(tell(machine, plain.now, RequestFinished{slot, caller, took}));
  }
  void arrive() { give(RequestArrived{{++calls}, kGroup, {random.below(4)}}); }
  void begin() {
    auto replicas = machine.state().replicas;
    plain.next_slot = SlotTable<ReplicaSlot, Replica>::slot_of(replicas.insert({}));
    give(ReplicaReady{kGroup, {random.below(20) == 0 ? 1 : ++sandboxes}});
  }
  SandboxId some() { return {1 + random.below(sandboxes + 1)}; }
  // One call as by a clock, with all that it takes: what is not there is started.
  void tick_of_a_clock() {
    pass(seconds(apart + static_cast<std::int64_t>(random.below(5))));
    arrive();
    if (!plain.queue.empty()) {
      pass(milliseconds(static_cast<std::int64_t>(random.below(3000))));
      begin();
    }
    pass(milliseconds(500));
    while (!running.empty()) finish(0);
    const Time next = plain.now + seconds(apart - 2);
    for (const std::uint64_t had = plain.reloads; plain.now < next;) {
      pass(std::min(seconds(apart / 7 + 1), next - plain.now));
      if (plain.reloads != had && plain.reloading && random.below(3) != 0) begin();
    }
  }
  void act() {
    if (apart != 0 && random.below(3) == 0) return tick_of_a_clock();
    switch (random.below(14)) {
      case 0: case 1: case 2: return arrive();
      case 3: case 4: return running.empty() ? arrive() : finish(random.below(running.size()));
      case 5: return give(RequestAbandoned{{1 + random.below(calls + 1)}, kGroup});
      case 6: case 7: return begin();
      case 8: return give(ReplicaGone{kGroup, some()});
      case 9: return give(DrainReplicas{kGroup, static_cast<std::uint32_t>(random.below(4))});
      case 10: return give(DrainReplica{kGroup, some()});
      case 11: return pass(milliseconds(static_cast<std::int64_t>(random.below(120))));
      case 12: return pass(seconds(static_cast<std::int64_t>(random.below(9))));
      default: return pass(nanoseconds(static_cast<std::int64_t>(random.below(80'000'000'000))));
    }
  }
};

GroupRouting any_routing(Random& random) {
  const auto one_of = [&](std::initializer_list<std::int64_t> all) {
    return *(all.begin() + random.below(all.size()));
  };
  GroupRouting out = routing();
  out.concurrency = static_cast<std::uint32_t>(random.below(4));
  out.queue_max = static_cast<std::uint32_t>(one_of({0, 1, 4, 1000}));
  out.queue_timeout = {one_of({0, 1, seconds(3).nanos, seconds(100).nanos})};
  out.keep_alive = {one_of({0, 1, seconds(4).nanos, seconds(60).nanos})};
  out.report_interval = seconds(one_of({0, 1, 7}));
  out.min_replicas = static_cast<std::uint32_t>(one_of({0, 0, 1, 2}));
  out.delayed_warm_start = random.below(3) != 0;
  out.keep_alive_policy = static_cast<KeepAlive>(
      one_of({static_cast<int>(KeepAlive::fixed), static_cast<int>(KeepAlive::hybrid),
              static_cast<int>(KeepAlive::cost), static_cast<int>(KeepAlive::greedy_dual)}));
  out.memory_bytes = one_of({0, 1 << 20, 100 << 20});
  out.cold_start_worth = seconds(one_of({0, 2, 240, 3000}));
  out.queue_order = random.below(2) == 0 ? QueueOrder::fifo : QueueOrder::drr;
  return out;
}
void follows_its_rules(std::uint64_t key, bool changes, std::int64_t apart) {
  Config config;
  config.replicas_max = *rc::gen::element(3u, 100u);
  config.patience = seconds(*rc::gen::element(5, 60));
  config.idle_bytes_max = *rc::gen::element(0LL, 1LL, 250LL << 20, 8LL << 30);
  World world{Random{key, 0}, Plain{config}, Functions(config)};
  world.apart = apart;
  GroupRouting how = any_routing(world.random);
  if (apart != 0) how.min_replicas = 0, how.queue_timeout = {};
  world.give(how);
  for (int i = 0; i < (apart != 0 ? 120 : 250); ++i) {
    world.act();
    if (!changes || world.random.below(20) != 0) continue;
    how = any_routing(world.random);
    world.give(how);
  }
}
RC_GTEST_PROP(PlainFunctions, AGroupFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, false, 0);
}
RC_GTEST_PROP(PlainFunctions, AGroupFollowsItsRulesAsTheyChange, (std::uint64_t key)) {
  follows_its_rules(key, true, 0);
}
RC_GTEST_PROP(PlainFunctions, CallsAsByAClockAreExpected, (std::uint64_t key)) {
  follows_its_rules(key, false, *rc::gen::element(300, 1000, 4000));
}

}  // namespace
}  // namespace chalk::functions
