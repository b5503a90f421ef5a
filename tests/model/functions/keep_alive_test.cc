// The keep-alive policies in the machine that keeps replicas: what goes, and what is asked for
// before its call.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <utility>

#include "model/functions/functions.h"
#include "tests/support/said.h"

namespace chalk::functions {
namespace {

using test::said;
using test::tell;

// Some groups whose starts all succeed after `start`; calls take no time but what is given.
struct Served {
  explicit Served(Config config = {}) : functions(config) {}
  Functions functions;
  Time now{};
  Duration start{};
  std::multimap<Time, GroupId> starting{};
  std::map<GroupId, std::pair<std::uint64_t, std::uint64_t>> asked{};  // holds, reloads
  std::uint64_t sandboxes = 0;
  std::uint64_t calls = 0;
  std::uint64_t reloads = 0;
  std::multiset<std::uint64_t> there{};  // groups of the replicas that are ready
  std::vector<Dispatch> dispatched{};
  std::map<SandboxId, std::uint64_t> group_of{};

  template <class E>
  void give(const E& event) {
    const auto effects = tell(functions, now, event);
    for (const auto& one : said<Dispatch>(effects)) dispatched.push_back(one);
    for (const auto& one : said<ReturnReplica>(effects)) there.erase(there.find(one.group.value));
    for (const auto& one : said<ReportDemand>(effects)) {
      auto& [holds, before] = asked[one.demand.group];
      const auto more = one.demand.holds + one.demand.reloads - holds - before;
      reloads += one.demand.reloads - before;
      holds = one.demand.holds, before = one.demand.reloads;
      for (std::uint64_t i = 0; i < more; ++i) starting.emplace(now + start, one.demand.group);
    }
  }
  void run_until(Time end) {
    while (true) {
      const Time begun = starting.empty() ? kNever : starting.begin()->first;
      const Time next = std::min(begun, functions.state().wake);
      if (next > end) break;
      now = std::max(now, next);
      if (begun <= now) {
        const GroupId group = starting.begin()->second;
        starting.erase(starting.begin());
        there.insert(group.value);
        give(ReplicaReady{group, {++sandboxes}});
      } else {
        give(Woken{});
      }
    }
    now = end;
  }
  // A call at `at` that takes `service`; true when it had to wait.
  bool call(GroupId group, Time at, Duration service = {}) {
    run_until(at);
    dispatched.clear();
    give(functions::RequestArrived{{++calls}, group});
    const bool cold = dispatched.empty();
    // A report that follows another at once waits for its gap, and the start with it.
    while (dispatched.empty()) {
      run_until(std::min(starting.empty() ? kNever : starting.begin()->first,
                         functions.state().wake));
    }
    const ReplicaSlot replica = dispatched.front().replica;
    run_until(now + service);
    give(RequestFinished{replica});
    return cold;
  }
};

GroupRouting routing(KeepAlive policy, std::uint64_t group = 1) {
  GroupRouting out;
  out.group = {group};
  out.report_interval = seconds(10);
  out.keep_alive_policy = policy;
  out.keep_alive = seconds(600);
  return out;
}
constexpr Time at(std::int64_t s) { return Time{seconds(s).nanos}; }

// An hourly function: once it is known, its replica goes at once, comes back before the next call,
// and is there for less than a quarter of the hour.
TEST(KeepAlive, WhatComesEveryHourIsLoadedBeforeItsCall) {
  for (const KeepAlive policy : {KeepAlive::hybrid, KeepAlive::cost}) {
    Served served;
    served.start = seconds(3);
    served.give(routing(policy));
    for (int hour = 1; hour <= 20; ++hour) served.call({1}, at(3600 * hour), seconds(2));
    served.reloads = 0;
    for (int hour = 21; hour <= 40; ++hour) {
      served.run_until(at(3600 * hour - 1800));
      EXPECT_TRUE(served.there.empty()) << hour;
      served.run_until(at(3600 * hour - 10));
      EXPECT_EQ(served.there.size(), 1u) << hour;
      EXPECT_FALSE(served.call({1}, at(3600 * hour), seconds(2)));
    }
    EXPECT_EQ(served.reloads, 20u);
    served.run_until(at(3600 * 60));  // it is called no more: loaded once, then no longer
    EXPECT_TRUE(served.there.empty());
    EXPECT_EQ(served.reloads, 21u);
  }
}

// A cold start is worth 240 s of a gibibyte: calls every 30 s are worth waiting for, and of a
// function that lives in bursts the replica goes between them.
TEST(KeepAlive, CostKeepsThroughABurstAndLetsGoAfterIt) {
  Served served;
  served.give(routing(KeepAlive::cost));
  int cold = 0;
  Time now = at(100);
  for (int burst = 0; burst < 30; ++burst) {
    for (int i = 0; i < 20; ++i, now = now + seconds(20 + i)) cold += served.call({1}, now);
    served.run_until(now + seconds(1200));
    if (burst > 10) {
      EXPECT_TRUE(served.there.empty());
    }
    now = now + seconds(40'000 + 5'000 * (burst % 5));
  }
  EXPECT_LE(cold, 32);
}

TEST(KeepAlive, GreedyDualKeepsTheFrequentWithinItsMemory) {
  Config config;
  config.idle_bytes_max = 2LL << 30;
  Served served(config);
  served.start = seconds(1);
  for (std::uint64_t group = 1; group <= 10; ++group) {
    served.give(routing(KeepAlive::greedy_dual, group));
  }
  int cold = 0;
  std::int64_t now = 0;
  for (std::uint64_t round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) cold += served.call({1}, at(now += 10));
    served.call({2 + round % 9}, at(now += 10));
    EXPECT_LE(served.there.size(), 2u);
    EXPECT_EQ(served.functions.state().idle.bytes(),
              static_cast<std::int64_t>(served.there.size()) << 30);
  }
  EXPECT_EQ(cold, 1);
  served.run_until(at(1'000'000));  // no time ends a stay
  EXPECT_EQ(served.there.size(), 2u);
}

// What keep_alive_bench counts is what the machine does: with starts that take no time a call is
// cold exactly where the window, drawn from the gaps before, does not contain its gap.
RC_GTEST_PROP(KeepAlive, TheMachineIsColdWhereTheWindowSaysSo, ()) {
  GroupRouting how =
      routing(*rc::gen::element(KeepAlive::fixed, KeepAlive::hybrid, KeepAlive::cost));
  how.cold_start_worth = seconds(*rc::gen::element(10, 240, 5000));
  const KeepAliveRule rule = rule_of(how);
  const auto lengths = *rc::gen::container<std::vector<int>>(
      rc::gen::oneOf(rc::gen::inRange(0, 100'000), rc::gen::inRange(3'000, 3'100),
                     rc::gen::inRange(1, 60)));
  Served served;
  served.give(how);
  Habit habit;
  habit.begin(rule);
  bool first = true;
  Time last{};
  for (const int length : lengths) {
    const Duration gap = seconds(length) + nanoseconds(17);
    const bool cold = served.call({1}, last + gap);
    RC_ASSERT(cold == (first || !habit.window().covers(gap)));
    if (!first) habit.learn(rule, gap);
    first = false;
    last = served.now;
  }
}

// A window is drawn when as much as an eighth of what it was drawn from is new, or 64 gaps are.
RC_GTEST_PROP(KeepAlive, AWindowIsDrawnAnewWhenAnEighthMoreIsKnown, ()) {
  GroupRouting how = routing(*rc::gen::element(KeepAlive::hybrid, KeepAlive::cost));
  how.cold_start_worth = seconds(*rc::gen::element(10, 240));
  const KeepAliveRule rule = rule_of(how);
  Habit habit;
  habit.begin(rule);
  Gaps gaps;
  Hybrid hybrid;
  const auto drawn = [&] {
    return rule.policy == KeepAlive::cost ? gaps.cheapest(rule.worth) : hybrid.window(rule.cuts);
  };
  Window expected = drawn();
  int known = 0, fresh = 0;
  for (int i = 0; i < 900; ++i) {
    RC_ASSERT(habit.window() == expected);
    const Duration gap = seconds(1 + (i / 50) * 131 % 997 + i % 7);
    habit.learn(rule, gap);
    rule.policy == KeepAlive::cost ? gaps.add(gap) : hybrid.add(gap);
    if (++fresh < 64 && fresh * 8 < known) continue;
    known += std::exchange(fresh, 0);
    expected = drawn();
  }
}

TEST(KeepAlive, UnderAnotherRuleAHabitBeginsAnew) {
  const KeepAliveRule rule = rule_of(routing(KeepAlive::cost));
  Habit habit, fresh;
  habit.begin(rule);
  for (int i = 0; i < 200; ++i) habit.learn(rule, seconds(300));
  habit.begin(rule);
  fresh.begin(rule);
  EXPECT_EQ(habit.window(), fresh.window());
  for (Habit* one : {&habit, &fresh}) one->learn(rule, seconds(7));
  EXPECT_EQ(habit.window(), fresh.window());
}

TEST(KeepAlive, AHybridWindowEndsWithTheMinuteThatMakesUpItsShare) {
  const auto until = [](int first, int second) {  // gaps of 10 and of 20 minutes
    Hybrid hybrid;
    for (int i = 0; i < first; ++i) hybrid.add(seconds(630));
    for (int i = 0; i < second; ++i) hybrid.add(seconds(1230));
    return hybrid.window().until;
  };
  EXPECT_EQ(until(99, 1), seconds(66 * 11)) << "99 of a hundred are the share";
  EXPECT_EQ(until(98, 2), seconds(66 * 21));
  EXPECT_EQ(until(1088, 12), seconds(66 * 21)) << "98.9 of a hundred are not";
}

}  // namespace
}  // namespace chalk::functions
