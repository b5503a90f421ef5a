// fixed, KPA and HPA against a plain reading of their rules that keeps every report and looks at all
// of them each time: each order, its numbers, and when a group is looked at next.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <vector>

#include "model/autoscaler/autoscaler.h"
#include "model/core/print.h"
#include "model/core/random.h"
#include "tests/support/said.h"

namespace chalk::autoscaler {
namespace {

__extension__ using Wide = __int128;

struct Plain {
  Config config;
  GroupPolicy policy;
  std::vector<Demand> reports{};
  Demand last{};
  std::int64_t ready = 0, starting = 0, stopping = 0;
  Time stop_asked{};
  std::uint64_t answered = 0;  // fixed
  bool panic = false;          // kpa
  Time panic_until{}, zero_since = kNever;
  std::int64_t panic_most = 0;
  Time sync_at{};  // hpa
  std::int64_t plan = 0;
  std::vector<std::pair<Time, std::int64_t>> wishes{};
  Time look_at = kNever;

  // The total at a time between reports lies on a straight line; after the last one it grows by what
  // that one said. Before the first nothing is known.
  std::int64_t mean(Time now, Duration window, bool in_service) const {
    if (reports.empty()) return 0;
    const auto total = [&](std::size_t i) {
      return in_service ? reports[i].busy_ns : reports[i].concurrency_ns;
    };
    const Time from = std::max(now - window, reports.front().at);
    const std::int64_t level = last.in_flight + (in_service ? 0 : std::int64_t{last.queued});
    if (now - from == Duration{}) return level * 1000;
    std::size_t i = reports.size() - 1;
    while (i > 0 && reports[i].at > from) --i;
    Wide before = total(i);
    if (i + 1 < reports.size() && reports[i + 1].at > reports[i].at) {
      before += Wide{total(i + 1) - total(i)} * (from - reports[i].at).nanos /
                (reports[i + 1].at - reports[i].at).nanos;
    } else {
      before += Wide{level} * (from - reports[i].at).nanos;
    }
    const Wide after = total(reports.size() - 1) + Wide{level} * (now - reports.back().at).nanos;
    return static_cast<std::int64_t>(std::max<Wide>(0, (after - before) * 1000 / (now - from).nanos));
  }

  // ---- what each wants: replicas, why, and the number behind it

  struct Wish {
    std::int64_t replicas;
    Why why;
    std::int64_t number;
  };
  Wish kpa(Time now) {
    const std::int64_t target = std::max<std::int64_t>(1, policy.concurrency * policy.target_permille);
    const std::int64_t stable = mean(now, config.stable_window, false);
    const std::int64_t lately = mean(now, config.panic_window, false);
    const std::int64_t has = std::max<std::int64_t>(1, ready);
    const auto wanted = [&](std::int64_t average) {
      const std::int64_t wish = average / target + (average % target != 0);
      const std::int64_t most = std::max<std::int64_t>(1, has * config.rate_up_permille / 1000);
      return std::min(most, std::max(wish, std::min(most, has * config.rate_down_permille / 1000)));
    };
    Wish wish{wanted(stable), Why::stable_average, stable};
    if (wanted(lately) * 1000 >= has * config.panic_permille) {
      if (!panic) panic_most = 0;
      panic = true;
      panic_until = now + config.stable_window;
    } else if (now > panic_until) {
      panic = false;
    }
    if (panic) {
      panic_most = std::max(panic_most, wanted(lately));
      wish = {std::max(panic_most, wish.replicas), Why::panic_average, lately};
    }
    if (last.in_flight + last.queued != 0 || stable > 0) {
      zero_since = kNever;
      wish.replicas = std::max<std::int64_t>(wish.replicas, 1);
      return wish;
    }
    if (zero_since == kNever) zero_since = now;
    const bool last_goes = now - zero_since >= config.scale_to_zero_grace && wish.replicas <= 1;
    wish.replicas = last_goes ? 0 : std::max<std::int64_t>(1, wish.replicas);
    return wish;
  }
  Wish hpa(Time now) {
    const std::int64_t used = mean(now, config.hpa_sync, true);
    const std::int64_t least = std::max<std::int64_t>(1, policy.min_replicas);
    const std::int64_t before = std::max(plan, least);
    if (now < sync_at) return {before, Why::utilisation, used};
    sync_at = now + config.hpa_sync;
    const std::int64_t slot = policy.concurrency * policy.target_permille;
    // Of so many replicas: used more than the target and its tolerance allow, or less.
    const auto off = [&](std::int64_t replicas) {
      const Wide difference = Wide{used - replicas * slot} * 1000;
      const Wide tolerated = Wide{replicas * slot} * config.hpa_tolerance_permille;
      return difference > tolerated ? 1 : -difference > tolerated ? -1 : 0;
    };
    std::int64_t wish = before;
    const bool up = off(ready) > 0 && off(ready + starting) > 0;
    if (ready > 0 && (up || off(ready) < 0)) wish = used / slot + (used % slot != 0);
    wish = std::min({wish, std::max(before * 2, before + 4), std::int64_t{policy.max_replicas}});
    wish = std::max(wish, least);
    wishes.emplace_back(now, wish);
    const std::int64_t part = std::max<std::int64_t>(1, config.hpa_stabilization.nanos / (kBuckets - 1));
    std::int64_t highest = 0;
    for (const auto& [at, one] : wishes) {
      if (at.nanos / part > now.nanos / part - kBuckets) highest = std::max(highest, one);
    }
    plan = std::max(wish, std::min(plan, highest));
    return {plan, wish < plan ? Why::window : Why::utilisation, used};
  }

  // ---- what comes of it

  void settle() { stopping = std::min(stopping, std::max<std::int64_t>(0, ready - last.ready)); }
  std::vector<Effect> look(Time now) {
    if (now - stop_asked >= config.tick * 5) settle();
    std::vector<Effect> out = policy.kind == Kind::fixed ? answer() : scale(now);
    arm(now);
    return out;
  }
  std::vector<Effect> answer() {
    const std::int64_t have = ready + starting;
    const std::uint64_t asked = last.holds + last.reloads;
    auto count = static_cast<std::int64_t>(asked - answered);
    Why why = count > 0 && last.queued == 0 ? Why::expected_call : Why::held_calls;
    if (count == 0 && have == 0 && last.queued > 0) count = 1;
    if (have + count < policy.min_replicas) count = policy.min_replicas - have, why = Why::minimum;
    answered = asked;
    count = std::min(count, std::max<std::int64_t>(0, policy.max_replicas - have));
    if (count == 0) return {};
    return {StartReplicas{{1}, static_cast<std::uint32_t>(count), why, last.queued * 1000LL,
                          static_cast<std::uint32_t>(have + count)}};
  }
  std::vector<Effect> scale(Time now) {
    Wish wish = policy.kind == Kind::kpa ? kpa(now) : hpa(now);
    const std::int64_t desired = std::clamp<std::int64_t>(wish.replicas, policy.min_replicas,
                                                          policy.max_replicas);
    if (desired > wish.replicas) wish.why = Why::minimum;
    const std::int64_t have = ready + starting;
    const std::int64_t staying = std::max<std::int64_t>(0, have - stopping);
    const auto goal = static_cast<std::uint32_t>(desired);
    if (desired > staying) {
      const std::int64_t room = std::max<std::int64_t>(0, policy.max_replicas - have);
      const auto start = static_cast<std::uint32_t>(std::min(desired - staying, room));
      if (start == 0) return {};
      return {StartReplicas{{1}, start, wish.why, wish.number, goal}};
    }
    const std::int64_t usable = std::max<std::int64_t>(0, ready - stopping);
    if (desired >= usable) return {};
    stopping += usable - desired;
    stop_asked = now;
    return {StopReplicas{{1}, static_cast<std::uint32_t>(usable - desired), wish.why, wish.number, goal}};
  }
  void arm(Time now) {
    const std::int64_t have = ready + starting;
    const bool waits = last.queued != 0 || have < policy.min_replicas;
    const bool spare = policy.kind != Kind::fixed && have > policy.min_replicas;
    if (waits || spare) look_at = std::min(look_at, now + config.tick);
  }

  // ---- what it is told

  std::vector<Effect> report(Time now, const Demand& next) {
    const bool less = next.arrivals < last.arrivals || next.holds < last.holds ||
                      next.reloads < last.reloads || next.concurrency_ns < last.concurrency_ns ||
                      next.busy_ns < last.busy_ns;
    if (next.at < last.at || (next.at == last.at && less)) return {};
    if (less) {  // another gateway, which counts from nothing
      reports.clear();
      answered = 0;
      last = {};
      last.at = next.at;
    }
    if (policy.kind != Kind::fixed) reports.push_back(next);
    last = next;
    if (next.at >= stop_asked + config.tick) settle();
    return look(now);
  }
};

struct World {
  Random random;
  Plain plain;
  Autoscaler machine;
  Time now{seconds(1).nanos};
  Demand demand{};      // what the gateway would say now
  Time counted = now;   // its total is right until then

  template <class E>
  std::vector<Effect> told(const E& event) {
    auto effects = test::tell(machine, now, event);
    std::erase_if(effects, [](const Effect& one) { return std::holds_alternative<WakeAt>(one); });
    return effects;
  }
  void expect(const std::vector<Effect>& is, const std::vector<Effect>& wanted) {
    if (is != wanted) {
      RC_LOG() << "machine: " << to_text(is) << "\nplain: " << to_text(wanted);
      RC_FAIL("the machine and its rules differ");
    }
    const Group& group = *machine.group({1});
    RC_ASSERT(group.ready == plain.ready && group.starting == plain.starting);
    RC_ASSERT(group.stopping == plain.stopping && group.look_at == plain.look_at);
    RC_ASSERT(machine.state().wake <= plain.look_at);
    for (const Effect& effect : is) {
      const auto* start = std::get_if<StartReplicas>(&effect);
      for (std::uint32_t left = start == nullptr ? 0 : start->count; left > 0; --left) {
        if (random.below(12) == 0) continue;  // no room for it anywhere
        ++plain.starting;
        expect(told(ReplicaStarting{{1}}), {});
      }
    }
  }
  void count() {
    demand.concurrency_ns += (std::int64_t{demand.in_flight} + demand.queued) * (now - counted).nanos;
    demand.busy_ns += std::int64_t{demand.in_flight} * (now - counted).nanos;
    counted = now;
    demand.at = now;
  }
  void traffic() {
    count();
    const std::uint32_t most = random.below(4) == 0 ? 40 : 6;
    const bool quiet = random.below(3) == 0;
    demand.in_flight = quiet ? 0 : static_cast<std::uint32_t>(random.below(most));
    demand.queued = quiet || random.below(2) == 0 ? 0 : static_cast<std::uint32_t>(random.below(most));
    demand.arrivals += random.below(5);
    if (demand.queued != 0) demand.holds += random.below(3);
    demand.reloads += random.below(20) == 0;
    demand.ready = static_cast<std::uint32_t>(random.below(static_cast<std::uint64_t>(plain.ready) + 1));
    if (random.below(40) == 0) {
      demand = {};
      demand.at = now;
    }
  }
  void report() {
    if (random.below(3) != 0) traffic();
    count();
    Demand said = demand;
    said.group = {1};
    if (random.below(20) == 0 && plain.last.at > now - seconds(3)) {
      said.at = now - seconds(3);  // one that comes late
    }
    const auto wanted = plain.report(now, said);
    expect(told(DemandReported{said}), wanted);
  }
  void started() {
    if (plain.starting == 0) return;
    --plain.starting, ++plain.ready;
    plain.arm(now);
    expect(told(ReplicaStarted{{1}, seconds(2)}), {});
  }
  void ended() {
    const bool ready = random.below(3) != 0;
    std::int64_t& count = ready ? plain.ready : plain.starting;
    count = std::max<std::int64_t>(0, count - 1);
    if (ready) plain.stopping = std::max<std::int64_t>(0, plain.stopping - 1);
    plain.arm(now);
    expect(told(ReplicaEnded{{1}, ready}), {});
  }
  void pass(Duration step) {
    const Time end = now + step;
    while (machine.state().wake <= end) {
      now = std::max(now, machine.state().wake);
      std::vector<Effect> wanted;
      if (plain.look_at <= now) {
        plain.look_at = kNever;
        wanted = plain.look(now);
      }
      expect(told(Woken{}), wanted);
    }
    now = end;
  }
  void act() {
    switch (random.below(8)) {
      case 0: case 1: case 2: return report();
      case 3: case 4: return started();
      case 5: return ended();
      case 6: return pass(milliseconds(static_cast<std::int64_t>(random.below(9000))));
      default: return pass(seconds(static_cast<std::int64_t>(random.below(50))));
    }
  }
};

GroupPolicy any_policy(Kind kind) {
  GroupPolicy policy;
  policy.kind = kind;
  policy.min_replicas = *rc::gen::inRange(0u, 3u);
  policy.max_replicas = *rc::gen::element(3u, 12u, 1000u);
  policy.concurrency = *rc::gen::inRange(1u, 4u);
  policy.target_permille = *rc::gen::element(700, 1000, 333);
  return policy;
}
void follows_its_rules(std::uint64_t key, Kind kind) {
  Config config;
  config.rate_up_permille = *rc::gen::element(1'000'000, 2000);
  config.scale_to_zero_grace = seconds(*rc::gen::element(0, 30));
  const GroupPolicy policy = any_policy(kind);
  World world{Random{key, 0}, Plain{config, policy}, Autoscaler(config)};
  const auto wanted = world.plain.look(world.now);
  world.expect(world.told(GroupAdded{{1}, policy}), wanted);
  for (int i = 0; i < 250; ++i) world.act();
}
RC_GTEST_PROP(PlainPolicies, FixedFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::fixed);
}
RC_GTEST_PROP(PlainPolicies, KpaFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::kpa);
}
RC_GTEST_PROP(PlainPolicies, HpaFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::hpa);
}

}  // namespace
}  // namespace chalk::autoscaler
