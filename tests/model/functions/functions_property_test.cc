// Random calls, ends, hang-ups, replicas and time against a naive book of who is where.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "model/functions/functions.h"
#include "tests/support/said.h"

namespace chalk::functions {
namespace {

constexpr GroupId kGroup{1};

struct Book {
  struct Replica {
    SandboxId sandbox;
    std::multiset<std::uint64_t> calls;
    bool draining = false;
  };
  std::vector<std::uint64_t> queue;
  std::map<std::uint64_t, std::uint64_t> since;  // nanoseconds, of all calls
  std::map<std::uint64_t, Replica> replicas;     // by sandbox
  std::set<std::uint64_t> settled;               // dispatched, refused or hung up
  std::uint64_t arrivals = 0;
  std::uint64_t refused = 0;
  std::int64_t level_ns = 0;
  std::int64_t busy_ns = 0;
  std::int64_t peak = 0;

  std::int64_t in_flight() const {
    std::int64_t sum = 0;
    for (const auto& [id, one] : replicas) sum += static_cast<std::int64_t>(one.calls.size());
    return sum;
  }
  std::int64_t level() const { return in_flight() + static_cast<std::int64_t>(queue.size()); }
  std::uint32_t ready() const {
    std::uint32_t count = 0;
    for (const auto& [id, one] : replicas) count += !one.draining;
    return count;
  }
};

// A gateway's worth of random life around one group.
struct World {
  GroupRouting routing;
  Functions functions{Config{}};
  Book book{};
  Time now{};
  Random random;
  std::uint64_t next_call = 1;
  std::uint64_t next_sandbox = 1;

  World(std::uint64_t key, GroupRouting how) : routing(how), random{key, 0} { tell(routing); }

  template <class E>
  void tell(const E& event) {
    hear(test::tell(functions, now, event));
    check();
  }
  void leave_queue(std::uint64_t call, bool must_be_first) {
    const auto found = std::find(book.queue.begin(), book.queue.end(), call);
    RC_ASSERT(found != book.queue.end());
    RC_ASSERT(!must_be_first || found == book.queue.begin());
    book.queue.erase(found);
    RC_ASSERT(book.settled.insert(call).second);
  }
  void hear(const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) {
      std::visit([&](const auto& one) { heard(one); }, effect);
    }
  }
  void heard(const Dispatch& one) {
    const std::uint64_t call = one.request.value;
    const bool just_came = !book.queue.empty() && book.queue.back() == call &&
                           book.since[call] == static_cast<std::uint64_t>(now.nanos);
    leave_queue(call, !just_came || routing.delayed_warm_start);
    const auto replica = book.replicas.find(one.sandbox.value);
    RC_ASSERT(replica != book.replicas.end());
    RC_ASSERT(!replica->second.draining);
    replica->second.calls.insert(one.replica.value);
    RC_ASSERT(replica->second.calls.size() <= routing.concurrency);
    book.peak = std::max(book.peak, book.level());
  }
  void heard(const RefuseRequest& one) {
    ++book.refused;
    leave_queue(one.request.value, false);
    if (one.rule == Rule::queue_full) {
      RC_ASSERT(one.value == routing.queue_max && one.limit == routing.queue_max);
      RC_ASSERT(book.queue.size() == routing.queue_max);
    } else {
      RC_ASSERT(one.rule == Rule::queue_timeout && one.limit == routing.queue_timeout.nanos);
      const auto came = static_cast<std::int64_t>(book.since[one.request.value]);
      RC_ASSERT(one.value == now.nanos - came && one.value >= one.limit);
    }
  }
  void heard(const AbortReplica& one) { RC_ASSERT(one.in_flight == aborted); }
  void heard(const ReturnReplica& one) {
    const auto found = book.replicas.find(one.sandbox.value);
    RC_ASSERT(found != book.replicas.end());
    RC_ASSERT(found->second.calls.empty());
    if (!found->second.draining) RC_ASSERT(book.ready() > routing.min_replicas);
    RC_ASSERT(one.group == kGroup);
    book.replicas.erase(found);
  }
  void heard(const ReportDemand& one) {
    const Demand& demand = one.demand;
    RC_ASSERT(demand.at == now && demand.concurrency_ns == book.level_ns);
    RC_ASSERT(demand.busy_ns == book.busy_ns);
    RC_ASSERT(demand.arrivals == book.arrivals && demand.refused == book.refused);
    RC_ASSERT(demand.in_flight == book.in_flight() && demand.queued == book.queue.size());
    RC_ASSERT(demand.peak == std::max(book.peak, book.level()));
    book.peak = book.level();
  }
  void heard(const WakeAt&) {}
  std::uint32_t aborted = 0;

  void arrive() {
    const std::uint64_t call = next_call++;
    book.since[call] = static_cast<std::uint64_t>(now.nanos);
    book.queue.push_back(call);
    ++book.arrivals;
    if (book.queue.size() <= routing.queue_max) book.peak = std::max(book.peak, book.level());
    tell(RequestArrived{{call}, kGroup});
  }
  void finish() {
    if (book.in_flight() == 0) return;
    auto one = book.replicas.begin();
    for (auto skip = random.below(20); skip > 0 || one->second.calls.empty(); skip -= skip > 0) {
      if (++one == book.replicas.end()) one = book.replicas.begin();
    }
    const ReplicaSlot slot{*one->second.calls.begin()};
    one->second.calls.erase(one->second.calls.begin());
    tell(RequestFinished{slot});
  }
  void hang_up() {
    const std::uint64_t call = 1 + random.below(next_call);
    const auto found = std::find(book.queue.begin(), book.queue.end(), call);
    if (found != book.queue.end()) leave_queue(call, false);
    tell(RequestAbandoned{{call}, kGroup});
  }
  void ready() {
    const std::uint64_t id = next_sandbox++;
    book.replicas[id] = {{id}, {}, false};
    tell(ReplicaReady{kGroup, {id}});
  }
  void gone() {
    const std::uint64_t id = 1 + random.below(next_sandbox);
    const auto found = book.replicas.find(id);
    aborted = 0;
    if (found != book.replicas.end()) {
      aborted = static_cast<std::uint32_t>(found->second.calls.size());
      book.replicas.erase(found);
    }
    tell(ReplicaGone{kGroup, {id}});
  }
  // The machine chooses; the book takes over which it chose and checks how many and what kind.
  void drain() {
    const std::uint32_t count = static_cast<std::uint32_t>(1 + random.below(3));
    const std::uint32_t before = book.ready();
    const auto effects = test::tell(functions, now, DrainReplicas{kGroup, count});
    std::uint32_t free = 0;
    for (const auto& [id, one] : book.replicas) {
      free += !one.draining && one.calls.size() < routing.concurrency;
    }
    const auto& state = functions.state();
    std::uint32_t chosen = 0;
    for (auto& [id, one] : book.replicas) {
      const auto found = state.by_sandbox.find({id});
      const bool drains =
          found == state.by_sandbox.end() || state.replicas.at(found->second).draining;
      chosen += drains && !one.draining;
      one.draining = one.draining || drains;
    }
    const std::uint32_t spare = before - std::min(before, routing.min_replicas);
    RC_ASSERT(chosen == std::min({count, free, spare}));
    hear(effects);
    check();
  }
  // With a fixed time nobody is kept for longer, but for the least that there must be.
  void check_idle() {
    const auto& state = functions.state();
    const Group& group = state.groups[0];
    if (routing.keep_alive_policy != KeepAlive::fixed || routing.keep_alive.nanos <= 0) return;
    if (group.ready <= routing.min_replicas) return;
    state.replicas.for_each([&](ReplicaSlot, const Replica& one) {
      if (one.listed && one.in_flight == 0) RC_ASSERT(now < one.idle_since + routing.keep_alive);
    });
  }
  // Its node goes: also below the least that the group has.
  void drain_one() {
    if (next_sandbox == 1) return;
    const std::uint64_t id = 1 + random.below(next_sandbox);
    const auto found = book.replicas.find(id);
    if (found != book.replicas.end()) found->second.draining = true;
    tell(DrainReplica{kGroup, {id}});
    const auto still = book.replicas.find(id);  // until its calls are done
    RC_ASSERT(still == book.replicas.end() || !still->second.calls.empty());
  }
  void pass(Duration step) {
    const Time end = now + step;
    while (functions.state().wake <= end) {
      const Time wake = std::max(now, functions.state().wake);
      book.level_ns += book.level() * (wake - now).nanos;
      book.busy_ns += book.in_flight() * (wake - now).nanos;
      now = wake;
      tell(Woken{});
      check_idle();
    }
    book.level_ns += book.level() * (end - now).nanos;
    book.busy_ns += book.in_flight() * (end - now).nanos;
    now = end;
  }
  // Everything that State says twice, and every alarm that must be set.
  void check_state() {
    const auto& state = functions.state();
    const Group& group = state.groups[0];
    std::set<std::uint32_t> free, listed;
    std::int64_t pooled = 0;
    bool idle = false;
    state.replicas.for_each([&](ReplicaSlot id, const Replica& one) {
      const std::uint32_t slot = SlotTable<ReplicaSlot, Replica>::slot_of(id);
      RC_ASSERT(state.by_sandbox.at(one.sandbox) == id);
      if (one.listed) free.insert(slot);
      if (!one.listed) RC_ASSERT(one.previous == 0u && one.next == 0u);
      RC_ASSERT(one.listed == (!one.draining && one.in_flight < group.routing.concurrency));
      RC_ASSERT(one.pooled == 0 || (one.in_flight == 0 && !one.draining));
      RC_ASSERT(!one.reloaded || one.in_flight == 0);
      if (one.pooled > 0) RC_ASSERT(one.pooled == std::max<std::int64_t>(1, routing.memory_bytes));
      pooled += one.pooled;
      idle = idle || (one.listed && one.in_flight == 0);
    });
    RC_ASSERT(state.by_sandbox.size() == state.replicas.size());
    RC_ASSERT(state.idle.bytes() == pooled);
    std::uint32_t previous = 0;
    for (std::uint32_t at = group.first; at != 0; at = state.replicas.in_slot(at - 1).next) {
      RC_ASSERT(state.replicas.in_slot(at - 1).previous == previous);
      RC_ASSERT(listed.insert(at - 1).second);
      previous = at;
    }
    RC_ASSERT(group.last == previous && listed == free);
    RC_ASSERT(group.left.size() <= 16u && std::is_sorted(group.left.begin(), group.left.end()));
    const KeepAlive policy = routing.keep_alive_policy;
    const bool learns = policy == KeepAlive::hybrid || policy == KeepAlive::cost;
    RC_ASSERT(learns || group.left.empty());
    if (policy == KeepAlive::fixed) RC_ASSERT(group.frequency == 0u && group.reloads == 0u);
    // Alarms.
    if (group.in_flight + group.queue.size() != 0) RC_ASSERT(group.active);
    if (group.active) RC_ASSERT(group.report_at != kNever);
    for (const Time at : {group.report_at, group.reap_at, group.patience_at, group.reload_at}) {
      RC_ASSERT(state.wake <= at);
    }
    if (!group.queue.empty()) {
      const Time since = group.queue.oldest().since;
      if (routing.queue_timeout.nanos > 0) {
        RC_ASSERT(group.patience_at <= since + routing.queue_timeout);
      }
      if (!routing.delayed_warm_start) RC_ASSERT(group.patience_at != kNever);
    }
    if (policy == KeepAlive::fixed && routing.keep_alive.nanos > 0 && idle &&
        group.ready > routing.min_replicas) {
      RC_ASSERT(group.reap_at <= now + routing.keep_alive);
    }
  }
  void check() {
    check_state();
    const auto& state = functions.state();
    const Group& group = state.groups[0];
    RC_ASSERT(group.queue.size() == book.queue.size() && group.in_flight == book.in_flight());
    RC_ASSERT(group.ready == book.ready() && state.replicas.size() == book.replicas.size());
    RC_ASSERT(book.settled.size() + book.queue.size() == next_call - 1);
    if (!routing.delayed_warm_start || book.queue.empty()) return;
    for (const auto& [id, one] : book.replicas) {  // nobody waits beside a free replica
      RC_ASSERT(one.draining || one.calls.size() == routing.concurrency);
    }
  }
  void act() {
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2: return arrive();
      case 3:
      case 4: return finish();
      case 5: return hang_up();
      case 6: return ready();
      case 7: return random.below(3) == 0 ? gone() : random.below(2) == 0 ? drain() : drain_one();
      case 8: return pass(seconds(1));
      case 9: return pass(nanoseconds(static_cast<std::int64_t>(random.below(7'000'000'000))));
      case 10: return pass(milliseconds(30));
      default: return tell(RequestFinished{{random.below(2) << 40 | 99}});  // nobody's
    }
  }
};

GroupRouting any_routing() {
  GroupRouting out;
  out.group = kGroup;
  out.concurrency = *rc::gen::inRange(1u, 4u);
  out.queue_max = *rc::gen::inRange(0u, 5u);
  out.queue_timeout = seconds(*rc::gen::element(0, 3, 20));
  out.keep_alive = seconds(*rc::gen::element(0, 4, 30));
  out.report_interval = seconds(*rc::gen::element(1, 7));
  out.min_replicas = *rc::gen::inRange(0u, 3u);
  out.delayed_warm_start = *rc::gen::arbitrary<bool>();
  out.keep_alive_policy = *rc::gen::element(KeepAlive::fixed, KeepAlive::hybrid,
                                            KeepAlive::greedy_dual, KeepAlive::cost);
  out.cold_start_worth = seconds(*rc::gen::element(0, 2, 300));
  return out;
}

// Each call is dispatched once, refused once, hung up or still queued; concurrency is never
// exceeded; what is drained or gone gets nothing; demand is the integral of what there was.
RC_GTEST_PROP(Functions, EveryCallHasOneFateAndDemandIsItsIntegral, (std::uint64_t key)) {
  World world(key, any_routing());
  for (int i = 0; i < 120; ++i) {
    world.act();
    if (i % 40 != 0) continue;
    State state;
    RC_ASSERT(decode(encode(world.functions.state()), state));
    RC_ASSERT(state == world.functions.state());
    world.functions = Functions(Config{}, state);
  }
}

// Nobody is stranded: once replicas come and calls end, every call leaves the queue.
RC_GTEST_PROP(Functions, TheQueueEmptiesWhenReplicasComeAndCallsEnd, (std::uint64_t key)) {
  World world(key, any_routing());
  for (int i = 0; i < 80; ++i) world.act();
  while (!world.book.queue.empty() || world.book.in_flight() != 0) {
    RC_ASSERT(world.next_sandbox < 300);
    if (!world.book.queue.empty()) world.ready();
    world.finish();
  }
  world.pass(seconds(100));
  RC_ASSERT(world.book.queue.empty());
  const bool fixed = world.routing.keep_alive_policy == KeepAlive::fixed;
  if (fixed && world.routing.keep_alive.nanos > 0) {
    RC_ASSERT(world.book.ready() <= world.routing.min_replicas);
  }
}

}  // namespace
}  // namespace chalk::functions
