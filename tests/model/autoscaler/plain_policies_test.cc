// The policies against a plain reading of their rules that keeps every report and looks at all of them
// each time: each order, its numbers, and when a group is looked at next; also where the policy changes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "model/autoscaler/autoscaler.h"
#include "model/core/print.h"
#include "model/core/random.h"
#include "tests/model/autoscaler/plain_chalk.h"
#include "tests/support/said.h"

namespace chalk::autoscaler {
namespace {

struct Plain {
  Config config;
  GroupPolicy policy;
  std::vector<Demand> reports{};
  Demand last{};
  std::int64_t ready = 0, starting = 0, stopping = 0, leaving = 0;
  Time stop_asked{}, tried_again{};
  std::uint64_t holds_answered = 0, reloads_answered = 0;  // fixed
  std::int64_t for_calls = 0;  // fixed: starts that a call waits for
  bool panic = false;          // kpa
  Time panic_until{}, zero_since = kNever;
  std::int64_t panic_most = 0;
  Time sync_at{};  // hpa
  std::int64_t plan = 0;  // and chalk
  PlainHighest wishes{};
  PlainChalk chalk{};
  std::int64_t desired_before = 0, turns = 0;
  bool rising = true;
  Time look_at = kNever;

  // The total at a time between reports lies on a straight line; after the last one it grows by what
  // that one said. Before the first there is but what there is now.
  std::int64_t mean(Time now, Duration window, bool in_service) const {
    const std::int64_t level = last.in_flight + (in_service ? 0 : std::int64_t{last.queued});
    if (reports.empty()) return level * 1000;
    const auto total = [&](std::size_t i) {
      return in_service ? reports[i].busy_ns : reports[i].concurrency_ns;
    };
    const Time from = std::max(now - window, reports.front().at);
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

  using Wish = PlainWish;
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
    const std::int64_t slot = std::max<std::int64_t>(1, policy.concurrency * policy.target_permille);
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
    plan = std::max(wish, std::min(plan, wishes.with(now, config.hpa_stabilization, wish)));
    return {plan, wish < plan ? Why::window : Why::utilisation, used};
  }

  // ---- what comes of it

  void settle() { stopping = std::min(stopping, std::max({std::int64_t{0}, ready - last.ready, leaving})); }
  std::vector<Effect> look(Time now) {
    if (now - stop_asked >= config.tick * 5) settle();
    std::vector<Effect> out = policy.kind == Kind::fixed ? answer(now) : scale(now);
    arm(now);
    return out;
  }
  std::vector<Effect> answer(Time now) {
    const std::int64_t have = ready + starting;
    auto waited = static_cast<std::int64_t>(last.holds - holds_answered);
    std::int64_t count = waited + static_cast<std::int64_t>(last.reloads - reloads_answered);
    Why why = count > 0 && last.queued == 0 ? Why::expected_call : Why::held_calls;
    // Who waits though nothing starts for them, as a report says that is newer than what was tried.
    const Time tried = std::max(chalk.starting_since, tried_again);
    const bool anew = (have == 0 ? now : last.at) - tried >= config.tick;
    if (count == 0 && anew && last.queued > starting * policy.concurrency) {
      count = waited = 1;
      tried_again = now;
    }
    const std::int64_t stay = have - stopping;
    if (stay + count < policy.min_replicas) count = policy.min_replicas - stay, why = Why::minimum;
    holds_answered = last.holds;
    reloads_answered = last.reloads;
    count = std::min(count, std::max<std::int64_t>(0, policy.max_replicas - have));
    std::vector<Effect> out;
    if (count > 0) {
      for_calls += std::min(count, waited);
      out.push_back(StartReplicas{{1}, static_cast<std::uint32_t>(count), why, last.queued * 1000LL,
                                  static_cast<std::uint32_t>(have + count)});
    }
    // What no call waits for any more need not start, but for the least that there must be.
    const std::int64_t spare = std::max<std::int64_t>(0, stay + count - policy.min_replicas);
    const std::int64_t idle = std::min({for_calls - last.queued, starting + count, spare});
    if (idle > 0) {
      out.push_back(CancelStarts{{1}, static_cast<std::uint32_t>(idle), Why::served_calls, last.queued * 1000LL,
                                 static_cast<std::uint32_t>(have + count - idle)});
    }
    return out;
  }
  Wish wish(Time now) {
    if (policy.kind == Kind::kpa) return kpa(now);
    if (policy.kind == Kind::hpa) return hpa(now);
    return chalk.wish(now, config, policy, last, ready, starting, rising, plan);
  }
  std::vector<Effect> scale(Time now) {
    Wish wish = this->wish(now);
    const std::int64_t desired = std::clamp<std::int64_t>(wish.replicas, policy.min_replicas,
                                                          policy.max_replicas);
    if (desired > wish.replicas) wish.why = Why::minimum;
    if (desired != desired_before) {
      turns += rising != (desired > desired_before);
      rising = desired > desired_before;
      desired_before = desired;
    }
    const std::int64_t have = ready + starting;
    const std::int64_t staying = std::max<std::int64_t>(0, have - stopping);
    const auto goal = static_cast<std::uint32_t>(desired);
    if (desired > staying) {
      const std::int64_t room = std::max<std::int64_t>(0, policy.max_replicas - have);
      const auto start = static_cast<std::uint32_t>(std::min(desired - staying, room));
      if (start == 0) return {};
      return {StartReplicas{{1}, start, wish.why, wish.number, goal}};
    }
    std::vector<Effect> out;
    const auto unneeded = static_cast<std::uint32_t>(std::min(staying - desired, starting));
    if (unneeded != 0) out.push_back(CancelStarts{{1}, unneeded, wish.why, wish.number, goal});
    const std::int64_t usable = std::max<std::int64_t>(0, ready - stopping);
    if (desired >= usable) return out;
    stopping += usable - desired;
    stop_asked = now;
    out.push_back(StopReplicas{{1}, static_cast<std::uint32_t>(usable - desired), wish.why, wish.number, goal});
    return out;
  }
  void arm(Time now) {
    const std::int64_t have = ready + starting;
    const bool waits = last.queued != 0 || have - stopping < policy.min_replicas;
    const bool spare = policy.kind != Kind::fixed && have > policy.min_replicas;
    Duration later = config.tick;
    if (policy.kind == Kind::chalk && !waits && last.in_flight == 0) {
      later = std::max(later, Duration{policy.keep_alive.nanos / kBuckets});
    }
    if (waits || spare) look_at = std::min(look_at, now + later);
  }

  // ---- what it is told

  std::vector<Effect> change(Time now, const GroupPolicy& to) {
    if (to.kind != policy.kind || to.keep_alive != policy.keep_alive) wishes = chalk.wishes = chalk.caps = {};
    if (to.kind != policy.kind) {  // it begins with what there is
      holds_answered = last.holds;
      reloads_answered = last.reloads;
      for_calls = 0;
      plan = std::max<std::int64_t>(0, ready + starting - stopping);
      panic = false;
      zero_since = kNever;
      sync_at = {};
      reports.clear();
      chalk.history = {};
    }
    policy = to;
    if (policy.concurrency == 0) policy.concurrency = 1;
    if (policy.max_replicas < policy.min_replicas) policy.max_replicas = policy.min_replicas;
    return look(now);
  }
  void begins(Time now) {
    chalk.begins(now, starting);
    ++starting;
  }
  std::vector<Effect> report(Time now, const Demand& next) {
    const bool less = next.arrivals < last.arrivals || next.holds < last.holds ||
                      next.reloads < last.reloads || next.concurrency_ns < last.concurrency_ns ||
                      next.busy_ns < last.busy_ns;
    if (next.at < last.at || (next.at == last.at && less)) return {};
    if (less) {  // another gateway, which counts from nothing
      reports.clear();
      holds_answered = reloads_answered = 0;
      chalk.history.clear();
      chalk.finished = 0;
      last = {};
      last.at = next.at;
    }
    if (policy.kind == Kind::kpa || policy.kind == Kind::hpa) reports.push_back(next);
    const bool keeps = policy.kind == Kind::chalk;
    chalk.learn(now, last, next, keeps, config.memory);
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
    RC_ASSERT(group.plan == plain.plan && group.turns == plain.turns && group.rising == plain.rising);
    RC_ASSERT(machine.state().wake <= plain.look_at);
    for (const Effect& effect : is) {
      const auto* start = std::get_if<StartReplicas>(&effect);
      for (std::uint32_t left = start == nullptr ? 0 : start->count; left > 0; --left) {
        if (random.below(12) == 0) continue;  // no room for it anywhere
        plain.begins(now);
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
  // Calls at a rate and of a length that now and then are others, and what chance or a burst adds.
  std::int64_t rate = 3, service_ms = 1000;
  bool flows = false;
  void flow() {
    const std::int64_t passed = (now - counted).nanos / 1'000'000;
    count();
    const auto about = [&](std::int64_t mean) {
      return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(mean * 2 / 5) + 2)) +
             mean * 4 / 5;
    };
    if (random.below(12) == 0) rate = std::int64_t{1} << random.below(8);
    if (random.below(40) == 0) rate = 0;
    if (random.below(20) == 0) service_ms = 50 << random.below(8);
    const std::int64_t came = about(rate * passed / 1000);
    demand.arrivals += static_cast<std::uint64_t>(came);
    demand.refused += random.below(30) == 0;
    demand.in_flight = static_cast<std::uint32_t>(rate == 0 ? 0 : about(rate * service_ms / 1000));
    const std::uint64_t burst = random.below(5) == 0 ? 400 : random.below(3) == 0 ? 20 : 1;
    demand.queued = static_cast<std::uint32_t>(random.below(burst));
    demand.holds += demand.queued;
    demand.peak = demand.in_flight + demand.queued + static_cast<std::uint32_t>(random.below(9));
    demand.ready = static_cast<std::uint32_t>(random.below(static_cast<std::uint64_t>(plain.ready) + 1));
    if (random.below(150) == 0) demand = {}, demand.at = now;
  }
  void traffic() {
    if (flows) return flow();
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
    const Duration took = milliseconds(static_cast<std::int64_t>(random.below(8000)));
    --plain.starting, ++plain.ready;
    plain.for_calls = std::max<std::int64_t>(0, plain.for_calls - 1);
    plain.chalk.started(now, took);
    plain.arm(now);
    expect(told(ReplicaStarted{{1}, took}), {});
  }
  void change(const GroupPolicy& to) {
    const auto wanted = plain.change(now, to);
    expect(told(GroupAdded{{1}, to}), wanted);
  }
  void ended() {
    const bool ready = random.below(3) != 0;
    std::int64_t& count = ready ? plain.ready : plain.starting;
    count = std::max<std::int64_t>(0, count - 1);
    const bool leaving = ready && plain.leaving > 0 && random.below(2) == 0;
    if (leaving) --plain.leaving;
    plain.leaving = std::min(plain.leaving, plain.ready);
    if (ready && plain.stopping > plain.leaving) --plain.stopping;
    if (!ready) plain.for_calls = std::max<std::int64_t>(0, plain.for_calls - 1);
    plain.arm(now);
    expect(told(ReplicaEnded{{1}, ready, leaving}), {});
  }
  void leaves() {
    if (plain.stopping < plain.ready) ++plain.stopping;
    if (plain.leaving < plain.ready) ++plain.leaving;
    plain.stop_asked = now;
    plain.look_at = std::min(plain.look_at, now + plain.config.tick);
    expect(told(ReplicaLeaves{{1}}), {});
  }
  void resumes() {
    const Time soon = now + plain.config.tick;
    if (plain.look_at != kNever) plain.look_at = std::max(plain.look_at, soon);
    expect(told(Resumed{}), {});
  }
  void pass(Duration step) {
    const Time end = now + step;
    while (machine.state().wake <= end) {
      const Duration late = milliseconds(random.below(4) == 0 ? 700 : random.below(8) == 0 ? 2001 : 0);
      now = std::min(end, std::max(now, machine.state().wake) + late);
      std::vector<Effect> wanted;
      if (now - plain.look_at > plain.config.tick) {  // too late: reports come first
        plain.look_at = now + plain.config.tick;
      } else if (plain.look_at <= now) {
        plain.look_at = kNever;
        wanted = plain.look(now);
      }
      expect(told(Woken{}), wanted);
    }
    now = end;
  }
  void act() {
    switch (random.below(9)) {
      case 0: case 1: case 2: return report();
      case 3: case 4: return started();
      case 5: return ended();
      case 6: return random.below(4) == 0 ? resumes() : random.below(2) == 0 ? leaves() : ended();
      case 7: return pass(milliseconds(static_cast<std::int64_t>(random.below(9000))));
      default: return pass(seconds(static_cast<std::int64_t>(random.below(50))));
    }
  }
};

GroupPolicy any_policy(Random& random, Kind kind) {
  const auto one_of = [&](auto... all) {
    const std::array choice{static_cast<std::int64_t>(all)...};
    return choice[random.below(choice.size())];
  };
  GroupPolicy policy;
  policy.kind = kind;
  policy.min_replicas = static_cast<std::uint32_t>(random.below(3));
  policy.max_replicas = static_cast<std::uint32_t>(one_of(1, 3, 12, 1000, 100'000));
  policy.concurrency = static_cast<std::uint32_t>(one_of(0, 1, 1, 2, 3));
  policy.target_permille = one_of(700, 1000, 333, 0);
  policy.z_permille = one_of(0, 700, 1000, 2500);
  policy.keep_alive = seconds(one_of(0, 10, 60, 600));
  return policy;
}
void follows_its_rules(std::uint64_t key, Kind kind, bool flows, bool changes = false) {
  Config config;
  config.rate_up_permille = *rc::gen::element(1'000'000, 2000);
  config.scale_to_zero_grace = seconds(*rc::gen::element(0, 30));
  config.window_doubts = *rc::gen::element(2, 5);
  config.turn_doubts = *rc::gen::element(3, 6);
  config.memory = seconds(*rc::gen::element(60, 600));
  World world{Random{key, 0}, Plain{config, {}}, Autoscaler(config)};
  world.flows = flows;
  world.change(any_policy(world.random, kind));
  for (int i = 0; i < 250; ++i) {
    world.act();
    if (!changes || world.random.below(20) != 0) continue;
    const Kind to = world.random.below(2) == 0 ? world.plain.policy.kind
                                               : static_cast<Kind>(world.random.below(4));
    world.change(any_policy(world.random, to));
  }
}
RC_GTEST_PROP(PlainPolicies, FixedFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::fixed, false);
}
RC_GTEST_PROP(PlainPolicies, KpaFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::kpa, false);
}
RC_GTEST_PROP(PlainPolicies, HpaFollowsItsRules, (std::uint64_t key)) {
  follows_its_rules(key, Kind::hpa, false);
}
RC_GTEST_PROP(PlainPolicies, OursFollowsItsRules, (std::uint64_t key, bool flows)) {
  follows_its_rules(key, Kind::chalk, flows);
}
RC_GTEST_PROP(PlainPolicies, AnyFollowsItsRulesWhereItFollowsAnother, (std::uint64_t key, bool flows)) {
  follows_its_rules(key, static_cast<Kind>(key % 4), flows, true);
}

// The load of a history of calls that come at one rate after the other, report by report.
RC_GTEST_PROP(PlainPolicies, ALoadIsWhatItsRulesMakeOfItsHistory, (std::uint64_t key)) {
  Random random{key, 0};
  const Duration memory = seconds(*rc::gen::element(20, 100, 600));
  const std::int64_t doubts = *rc::gen::element(1, 2, 5);
  std::vector<Sample> history, plain;
  Sample now;
  std::uint64_t rate = 5, service_ms = 800;
  for (int i = 0; i < 150; ++i) {
    if (random.below(25) == 0) rate = std::uint64_t{1} << random.below(9);
    if (random.below(25) == 0) service_ms = std::uint64_t{20} << random.below(9);
    const std::uint64_t apart = random.below(9) == 0 ? random.below(9000) : 300 + random.below(900);
    const std::uint64_t mean = rate * apart / 1000;
    now.at = now.at + milliseconds(static_cast<std::int64_t>(random.below(40) == 0 ? 0 : apart));
    now.arrivals += mean * 9 / 10 + random.below(mean / 5 + 2);
    const std::uint64_t open = std::min<std::uint64_t>(now.arrivals, random.below(rate + 1));
    now.finished = std::max(now.finished, now.arrivals - open);
    now.busy_ns += milliseconds(static_cast<std::int64_t>(mean * service_ms)).nanos;
    now.queued = static_cast<std::uint32_t>(random.below(3) == 0 ? random.below(2 * rate) : 0);
    remember(history, now, memory);
    plain = plain_history(plain, now, memory);
    RC_ASSERT(history == plain);
    Sample end = now;
    end.at = end.at + milliseconds(static_cast<std::int64_t>(random.below(4) * 700));
    const Load is = load_of(history, end, doubts), wanted = plain_load(plain, end, doubts);
    RC_ASSERT(is.known == wanted.known && is.service == wanted.service && is.seen == wanted.seen);
    RC_ASSERT(is.mean_milli == wanted.mean_milli && is.doubt_milli == wanted.doubt_milli);
    RC_ASSERT(is.rise_milli == wanted.rise_milli && is.window == wanted.window);
  }
}
RC_GTEST_PROP(PlainPolicies, RootsAndSurvivorsAreExact, (std::uint64_t key)) {
  Random random{key, 0};
  for (int i = 0; i < 200; ++i) {
    const auto n = static_cast<std::int64_t>(random.below(std::uint64_t{1} << random.below(63)));
    RC_ASSERT(square_root(n) == plain_root(n) && square_root(-n) == 0);
    const auto root = static_cast<std::int64_t>(plain_root(n));
    RC_ASSERT(square_root(root * root) == root);
    if (root > 1) RC_ASSERT(square_root(root * root - 1) == root - 1);
    const Duration service{static_cast<std::int64_t>(random.below(std::uint64_t{1} << random.below(40)))};
    const Duration later{static_cast<std::int64_t>(random.below(std::uint64_t{1} << random.below(40)))};
    RC_ASSERT(survivors_permille(service, later) == plain_survivors(service.nanos, later.nanos));
    RC_ASSERT(survivors_permille(service, Duration{-later.nanos}) == 1000);
  }
}

}  // namespace
}  // namespace chalk::autoscaler
