// Which call of a gateway's queue is next, and what it promises to those who call.
#include "model/functions/call_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "model/functions/functions.h"
#include "tests/support/said.h"

namespace chalk::functions {
namespace {

const Time kNow{seconds(1).nanos};

CallQueue queue(QueueOrder order) {
  CallQueue out;
  out.set_order(order);
  return out;
}
Queued call(std::uint64_t n, std::uint64_t caller) {
  return {{n}, {caller}, Time{static_cast<std::int64_t>(n)}};
}

TEST(CallQueue, WithOneCallerBothOrdersAreFirstComeFirstServed) {
  for (const QueueOrder order : {QueueOrder::fifo, QueueOrder::drr}) {
    CallQueue q = queue(order);
    for (std::uint64_t n = 1; n <= 5; ++n) q.push(call(n, 7));
    q.learn({7}, seconds(3));
    for (std::uint64_t n = 1; n <= 5; ++n) EXPECT_EQ(q.pop().request.value, n);
    EXPECT_TRUE(q.empty());
  }
}

TEST(CallQueue, AQuietCallerWaitsForOneTurnOfAFloodAndNotForAllOfIt) {
  CallQueue q = queue(QueueOrder::drr);
  for (std::uint64_t n = 1; n <= 1000; ++n) q.push(call(n, 1));
  q.push(call(2000, 2));
  int before = 0;
  while (q.pop().request.value != 2000) ++before;
  EXPECT_LE(before, 1);
  CallQueue fifo = queue(QueueOrder::fifo);
  for (std::uint64_t n = 1; n <= 1000; ++n) fifo.push(call(n, 1));
  fifo.push(call(2000, 2));
  for (before = 0; fifo.pop().request.value != 2000;) ++before;
  EXPECT_EQ(before, 1000);
}

TEST(CallQueue, WhoMakesLongCallsIsServedFewerOfThem) {
  CallQueue q = queue(QueueOrder::drr);
  for (std::uint64_t n = 0; n < 400; ++n) q.push(call(2 * n + 1, 1)), q.push(call(2 * n + 2, 2));
  for (int i = 0; i < 100; ++i) {
    q.learn({1}, milliseconds(100));
    q.learn({2}, milliseconds(400));
  }
  std::map<std::uint64_t, int> served;
  for (int i = 0; i < 250; ++i) ++served[q.pop().caller.value];
  EXPECT_NEAR(served[1], 200, 5);
  EXPECT_NEAR(served[2], 50, 5);
}

TEST(CallQueue, WhereRoomIsShortTheCallerWithMostWaitingLosesItsNewest) {
  CallQueue q = queue(QueueOrder::drr);
  for (std::uint64_t n = 1; n <= 10; ++n) q.push(call(n, 1));
  EXPECT_FALSE(q.make_room_for({1}).has_value());
  const auto out = q.make_room_for({2});
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->request.value, 10u);
  EXPECT_EQ(q.size(), 9u);
  CallQueue fifo = queue(QueueOrder::fifo);
  fifo.push(call(1, 1));
  EXPECT_FALSE(fifo.make_room_for({2}).has_value());
}

TEST(CallQueue, AFloodIsRefusedAndItsNeighbourIsNot) {
  Functions functions(Config{});
  GroupRouting routing;
  routing.group = {1};
  routing.queue_max = 5;
  test::tell(functions, kNow, routing);
  for (std::uint64_t n = 1; n <= 5; ++n)
    test::tell(functions, kNow, RequestArrived{{n}, {1}, {1}});
  const auto refused = test::said<RefuseRequest>(
      test::tell(functions, kNow, RequestArrived{{6}, {1}, {2}}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (RefuseRequest{{5}, {1}, Rule::queue_full, 5, 5}));
  EXPECT_EQ(functions.state().groups[0].queue.size(), 5u);
}

// Whatever comes and goes: each call is there once, a caller's calls stay in order, somebody is
// always served while anybody waits, and no deficit leaves its bounds.
RC_GTEST_PROP(CallQueue, KeepsEveryCallOnceAndEachCallersInOrder, (std::uint64_t key)) {
  Random random{key, 0};
  CallQueue q = queue(QueueOrder::drr);
  std::map<std::uint64_t, std::deque<std::uint64_t>> waiting;
  std::deque<std::uint64_t> by_age;
  std::map<std::uint64_t, std::uint64_t> caller_of;
  const auto gone = [&](const Queued& out, bool front) {
    auto& line = waiting[caller_of.at(out.request.value)];
    RC_ASSERT(out.caller.value == caller_of.at(out.request.value));
    RC_ASSERT(!front || line.front() == out.request.value);
    std::erase(line, out.request.value);
    std::erase(by_age, out.request.value);
  };
  std::uint64_t next = 1;
  for (int i = 0; i < 600; ++i) {
    const std::uint64_t caller = 1 + random.below(6) * random.below(6);
    switch (random.below(9)) {
      case 0:
      case 1:
      case 2:
      case 3:
        caller_of[next] = caller;
        waiting[caller].push_back(next);
        by_age.push_back(next);
        q.push(call(next++, caller));
        break;
      case 4:
      case 5:
        if (!q.empty()) {
          const Queued out = q.pop();
          RC_ASSERT(q.order() == QueueOrder::drr || out.request.value == by_age.front());
          gone(out, true);
        }
        break;
      case 6: q.learn({caller}, milliseconds(static_cast<std::int64_t>(random.below(5000)))); break;
      case 7:
        if (const std::uint32_t at = q.find({1 + random.below(next)})) gone(q.take(at), false);
        break;
      default:
        if (random.below(8) == 0) {
          q.set_order(random.below(4) == 0 ? QueueOrder::fifo : QueueOrder::drr);
        } else if (const auto out = q.make_room_for({caller})) {
          std::size_t most = 0;
          for (const auto& [id, line] : waiting) most = std::max(most, line.size());
          RC_ASSERT(waiting[out->caller.value].size() == most);
          RC_ASSERT(waiting[out->caller.value].back() == out->request.value);
          gone(*out, false);
        }
    }
    RC_ASSERT(q.size() == by_age.size());
    if (!q.empty()) RC_ASSERT(q.oldest().request.value == by_age.front());
    for (const CallerLine& line : q.lines()) {
      RC_ASSERT(line.deficit >= 0 && line.deficit < 2 * q.quantum());
      RC_ASSERT(line.length == 0 || line.length == waiting[line.caller.value].size());
      RC_ASSERT(line.cost <= q.quantum());
    }
  }
  CallQueue copy;
  RC_ASSERT(decode(encode(q), copy));
  RC_ASSERT(copy == q);
}

// Deficit round robin with nothing but lists.
struct Plain {
  struct Line {
    std::uint64_t caller = 0;
    std::deque<Queued> calls{};
    std::int64_t deficit = 0, cost = 0;
    bool granted = false;
    std::uint64_t reached = 0;  // when it got the length that it has
  };
  std::deque<Line> turns{};
  std::vector<Queued> by_age{};
  QueueOrder order = QueueOrder::fifo;
  std::int64_t usual = 1'000'000'000, quantum = 1;
  std::uint64_t clock = 0;

  auto line_of(std::uint64_t caller) {
    return std::find_if(turns.begin(), turns.end(),
                        [&](const Line& line) { return line.caller == caller; });
  }
  void push(const Queued& call) {
    by_age.push_back(call);
    if (order == QueueOrder::fifo) return;
    auto line = line_of(call.caller.value);
    if (line == turns.end()) {
      quantum = turns.empty() ? usual : std::max(quantum, usual);
      turns.push_back({call.caller.value, {}, 0, usual});
      line = turns.end() - 1;
    }
    line->calls.push_back(call);
    line->reached = ++clock;
  }
  void last_turn() {
    turns.front().granted = false;
    turns.push_back(turns.front());
    turns.pop_front();
  }
  Queued take(RequestId request) {
    const auto found = std::find_if(by_age.begin(), by_age.end(), [&](const Queued& one) {
      return one.request == request;
    });
    const Queued out = *found;
    by_age.erase(found);
    const auto line = line_of(out.caller.value);
    if (line == turns.end()) return out;
    std::erase_if(line->calls, [&](const Queued& one) { return one.request == request; });
    line->reached = ++clock;
    if (line->calls.empty()) turns.erase(line);
    return out;
  }
  Queued pop() {
    if (order == QueueOrder::fifo) return take(by_age.front().request);
    while (true) {
      Line& line = turns.front();
      if (!line.granted) line.deficit += quantum;
      line.granted = true;
      if (line.deficit < line.cost) {
        last_turn();
        continue;
      }
      line.deficit -= line.cost;
      const bool over = line.calls.size() > 1 && line.deficit < line.cost;
      const Queued out = take(line.calls.front().request);
      if (over) last_turn();
      return out;
    }
  }
  std::optional<Queued> make_room_for(std::uint64_t caller) {
    if (turns.empty()) return {};
    const auto longest = std::max_element(turns.begin(), turns.end(), [](const Line& a, const Line& b) {
      return std::pair(a.calls.size(), a.reached) < std::pair(b.calls.size(), b.reached);
    });
    const auto own = line_of(caller);
    if (longest->calls.size() <= (own == turns.end() ? 1 : own->calls.size() + 1)) return {};
    return take(longest->calls.back().request);
  }
  void learn(std::uint64_t caller, std::int64_t took) {
    if (order == QueueOrder::fifo || took <= 0) return;
    usual = std::max<std::int64_t>(1, usual + (took - usual) / 64);
    const auto line = line_of(caller);
    if (line == turns.end()) return;
    line->cost = std::max<std::int64_t>(1, line->cost + (took - line->cost) / 8);
    quantum = std::max(quantum, line->cost);
  }
  void set_order(QueueOrder now) {
    if (order == now) return;
    const auto calls = std::exchange(by_age, {});
    turns.clear();
    order = now;
    for (const Queued& one : calls) push(one);
  }
};

// Call for call, and every cost and deficit, many callers or few.
RC_GTEST_PROP(CallQueue, ServesExactlyAsAPlainRoundRobinDoes, (std::uint64_t key)) {
  Random random{key, 0};
  CallQueue q;
  Plain plain;
  const std::uint64_t callers = random.below(2) == 0 ? 5 : 60;
  const auto set = [&](QueueOrder order) {
    q.set_order(order);
    plain.set_order(order);
  };
  set(QueueOrder::drr);
  std::uint64_t next = 1;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t caller = 1 + random.below(1 + random.below(callers));
    switch (random.below(12)) {
      case 0: case 1: case 2: case 3: case 4:
        q.push(call(next, caller));
        plain.push(call(next++, caller));
        break;
      case 5: case 6: case 7:
        if (!q.empty()) RC_ASSERT(q.pop() == plain.pop());
        break;
      case 8: case 9: {
        const auto took = static_cast<std::int64_t>(random.below(3) * random.below(4'000'000'000));
        q.learn({caller}, nanoseconds(took));
        plain.learn(caller, took);
        break;
      }
      case 10: {
        const RequestId wanted{1 + random.below(next)};
        const std::uint32_t at = q.find(wanted);
        RC_ASSERT((at != 0) == std::ranges::any_of(plain.by_age, [&](const Queued& one) {
                    return one.request == wanted;
                  }));
        if (at != 0) RC_ASSERT(q.take(at) == plain.take(wanted));
        break;
      }
      default:
        if (random.below(10) == 0) {
          set(random.below(3) == 0 ? QueueOrder::fifo : QueueOrder::drr);
        } else {
          RC_ASSERT(q.make_room_for({caller}) == plain.make_room_for(caller));
        }
    }
    RC_ASSERT(q.size() == plain.by_age.size());
    if (!q.empty()) RC_ASSERT(q.oldest() == plain.by_age.front());
    if (!plain.turns.empty()) RC_ASSERT(q.quantum() == plain.quantum);
    std::size_t in_use = 0;
    for (const CallerLine& line : q.lines()) {
      if (line.length == 0) continue;
      ++in_use;
      const auto same = plain.line_of(line.caller.value);
      RC_ASSERT(same != plain.turns.end() && same->calls.size() == line.length);
      RC_ASSERT(same->cost == line.cost && same->deficit == line.deficit);
      RC_ASSERT(same->granted == line.granted);
    }
    RC_ASSERT(in_use == plain.turns.size());
  }
  // What was used and is free is used again: no more slots than calls that ever waited at once.
  while (!q.empty()) RC_ASSERT(q.pop() == plain.pop());
  const std::size_t lines = q.lines().size();
  set(QueueOrder::drr);
  for (std::uint64_t c = 1; c <= lines; ++c) q.push(call(next++, c));
  RC_ASSERT(q.lines().size() == lines);
}

// The paper's measure: over any time in which two callers both have something waiting, what they
// are served differs by no more than three times the dearest call.
RC_GTEST_PROP(CallQueue, ServesThoseWhoWaitEquallyButForAFewCalls, (std::uint64_t key)) {
  Random random{key, 0};
  CallQueue q = queue(QueueOrder::drr);
  const std::uint64_t callers = 2 + random.below(5);
  std::uint64_t next = 1;
  for (std::uint64_t c = 1; c <= callers; ++c) {
    for (int i = 0; i < 400; ++i) q.push(call(next++, c));
    const auto took = milliseconds(10 + static_cast<std::int64_t>(random.below(2000)));
    for (int i = 0; i < 200; ++i) q.learn({c}, took);
  }
  std::map<std::uint64_t, std::int64_t> served;
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t caller = q.pop().caller.value;
    for (const CallerLine& line : q.lines()) {
      if (line.caller.value == caller && line.length != 0) served[caller] += line.cost;
    }
    std::int64_t least = INT64_MAX, most = 0;
    for (std::uint64_t c = 1; c <= callers; ++c) {
      least = std::min(least, served[c]);
      most = std::max(most, served[c]);
    }
    RC_ASSERT(most - least <= 3 * q.quantum());
  }
}

}  // namespace
}  // namespace chalk::functions
