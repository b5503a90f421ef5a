// Random demand against bounds that hold whatever it is.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "tests/model/autoscaler/group_world.h"

namespace chalk::autoscaler {
namespace {

GroupPolicy any_policy() {
  GroupPolicy out;
  out.kind = *rc::gen::element(Kind::fixed, Kind::kpa, Kind::chalk, Kind::hpa);
  out.min_replicas = *rc::gen::inRange(0u, 4u);
  out.max_replicas = out.min_replicas + *rc::gen::inRange(1u, 30u);
  out.concurrency = *rc::gen::inRange(1u, 4u);
  out.keep_alive = seconds(*rc::gen::element(0, 10, 600));
  return out;
}

// Random calls, starts that take long or fail, reports that are lost, repeated or overtaken: never
// more than max_replicas, never a stop below min_replicas, and the machine's counts are the truth.
RC_GTEST_PROP(Autoscaler, StaysWithinItsBoundsWhateverIsReported, (std::uint64_t key)) {
  const GroupPolicy policy = any_policy();
  GroupWorld world(policy);
  Random random{key, 0};
  world.in_line = *rc::gen::arbitrary<bool>();
  std::uint32_t starting = world.starts;
  std::uint32_t ready = 0;
  std::vector<Demand> old;
  for (int i = 0; i < 200; ++i) {
    const std::uint32_t starts = world.starts;
    const std::uint32_t stops = world.stops;
    const std::uint32_t cancelled = world.cancelled;
    const std::uint32_t level = static_cast<std::uint32_t>(random.below(40));
    switch (random.below(9)) {
      case 0: world.set_queued(level); break;
      case 1: world.set_busy(std::min(level, ready * policy.concurrency)); break;
      case 2:
        world.report();
        old.push_back(world.totals);
        break;
      case 3:
        if (!old.empty()) world.give(DemandReported{old[random.below(old.size())]});
        break;
      case 4:
        if (starting == 0) break;
        --starting, ++ready;
        world.give(ReplicaStarted{kGroup, {}});
        break;
      case 5:
        if (starting == 0) break;
        --starting;
        world.give(ReplicaEnded{kGroup, false, false});
        break;
      case 6:
        if (ready == 0) break;
        --ready, world.draining -= world.draining > 0;
        world.give(ReplicaEnded{kGroup, true, false});
        break;
      default:
        world.run_until(world.now + milliseconds(static_cast<std::int64_t>(random.below(9000))));
    }
    starting += world.starts - starts;
    starting -= world.cancelled - cancelled;
    if (world.cancelled != cancelled) RC_ASSERT(ready + starting >= policy.min_replicas);
    RC_ASSERT(world.ready() == ready && world.starting() == starting);
    RC_ASSERT(ready + starting <= policy.max_replicas);
    if (world.stops != stops) {
      RC_ASSERT(policy.kind != Kind::fixed);
      RC_ASSERT(world.stops - stops + policy.min_replicas <= ready);
    }
    if (i % 50 != 0) continue;
    State state;
    RC_ASSERT(decode(encode(world.autoscaler.state()), state));
    RC_ASSERT(state == world.autoscaler.state());
    world.autoscaler = Autoscaler(Config{}, state);
  }
  // With no more failures the minimum is there in a few looks.
  world.run_until(world.now + seconds(10));
  RC_ASSERT(world.ready() + world.starting() >= policy.min_replicas);
}

// Totals and times that no gateway can mean, in any order: nothing overflows (the checked build
// says so), nothing grows, the bounds hold, and the first honest report is believed again.
std::uint64_t any_figure(Random& random, std::uint64_t most) {
  const std::uint64_t anything = mix64(random.next());
  switch (random.below(6)) {
    case 0: return 0;
    case 1: return most;
    case 2: return std::min(most, std::uint64_t{1} << 63);
    case 3: return most - random.below(4);
    case 4: return std::min(most, anything >> random.below(64));
    default: return std::min<std::uint64_t>(most, random.below(2000));
  }
}
Time any_time(Random& random, Time now) {
  switch (random.below(6)) {
    case 0: return kNever;
    case 1: return {std::numeric_limits<std::int64_t>::min()};
    case 2: return now + seconds(1'000'000);
    case 3: return now - nanoseconds(1 + static_cast<std::int64_t>(random.below(5'000'000'000)));
    default: return now;
  }
}
Demand any_demand(Random& random, Time now, const Demand& last) {
  constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();
  constexpr std::uint64_t kFew = std::numeric_limits<std::uint32_t>::max();
  Demand out = last;
  out.group = kGroup;
  out.at = any_time(random, now);
  for (std::uint64_t* total : {&out.arrivals, &out.refused, &out.holds, &out.reloads}) {
    if (random.below(2) == 0) *total = any_figure(random, kAny);
  }
  for (std::int64_t* total : {&out.concurrency_ns, &out.busy_ns}) {
    if (random.below(2) == 0) *total = static_cast<std::int64_t>(any_figure(random, kAny));
  }
  for (std::uint32_t* calls : {&out.peak, &out.in_flight, &out.queued, &out.ready}) {
    if (random.below(2) == 0) *calls = static_cast<std::uint32_t>(any_figure(random, kFew));
  }
  return out;
}
RC_GTEST_PROP(Autoscaler, SurvivesWhateverAGatewayClaims, (std::uint64_t key)) {
  const GroupPolicy policy = any_policy();
  GroupWorld world(policy);
  Random random{key, 0};
  if (random.below(2) == 0) world.now = {seconds(1'800'000'000).nanos};  // as on a real clock
  for (int i = 0; i < 100; ++i) {
    const Group& group = *world.autoscaler.group(kGroup);
    world.give(DemandReported{any_demand(random, world.now, group.last)});
    RC_ASSERT(group.ready + group.starting <= policy.max_replicas);
    RC_ASSERT(group.last.at <= world.now);
    RC_ASSERT(group.samples.size() <= static_cast<std::size_t>(i) + 1);
    if (random.below(4) == 0) world.finish_starts(milliseconds(500));
    if (random.below(3) == 0) world.drain();
    const std::uint64_t most = random.below(2) == 0 ? 3 : 9'000'000'000;
    world.run_until(world.now + nanoseconds(static_cast<std::int64_t>(random.below(most))));
  }
  world.run_until(world.now + seconds(1));
  world.set_queued(7);
  world.report();
  RC_ASSERT(world.autoscaler.group(kGroup)->last == world.totals);
}

// Under demand that does not change there is enough for it, and never a step back: not while starts
// are slow, whenever the reports come.
RC_GTEST_PROP(Autoscaler, ChalkNeverTurnsBackUnderConstantDemand, (std::uint64_t key)) {
  Random random{key, 0};
  GroupPolicy policy;
  policy.concurrency = *rc::gen::inRange(1u, 4u);
  policy.max_replicas = 1'000'000;
  const std::uint32_t root = *rc::gen::inRange(1u, 20u);  // squares are where rounding shows
  const std::uint32_t level = *rc::gen::arbitrary<bool>() ? root * root : root * 7;
  GroupWorld world(policy);
  world.give(ReplicaStarting{kGroup});  // how long a start takes is known
  world.give(ReplicaStarted{kGroup, milliseconds(100)});
  world.set_queued(level);
  world.report();
  const std::uint32_t first = world.starts;
  RC_ASSERT((first + 1) * policy.concurrency >= level);
  std::int64_t slack = 0;
  while ((slack + 1) * (slack + 1) <= level) ++slack;
  RC_ASSERT(first <= (level + slack + 1 + policy.concurrency) / policy.concurrency);
  for (int i = 0; i < 200; ++i) {
    const bool soon = random.below(3) == 0;
    const std::uint64_t most = soon ? 3'000 : 3'000'000'000;
    world.run_until(world.now + nanoseconds(1 + static_cast<std::int64_t>(random.below(most))));
    if (random.below(2) == 0) world.report();
    if (random.below(4) == 0 && world.starting() != 0) world.give(ReplicaStarted{kGroup, {}});
  }
  RC_ASSERT(world.starts == first);
  RC_ASSERT(world.stops == 0u);
}

// While demand persists and starts are under way, what is desired does not fall: for all kinds.
RC_GTEST_PROP(Autoscaler, DesiredDoesNotFallWhileDemandAndStartsPersist, (std::uint64_t key)) {
  Random random{key, 0};
  GroupPolicy policy;
  policy.kind = *rc::gen::element(Kind::kpa, Kind::chalk);
  policy.keep_alive = seconds(*rc::gen::element(0, 600));
  GroupWorld world(policy);
  std::uint32_t level = 0;
  for (int i = 0; i < 100; ++i) {
    level += static_cast<std::uint32_t>(random.below(3));  // demand that only grows
    world.set_queued(level);
    world.report();
    world.run_until(world.now + milliseconds(static_cast<std::int64_t>(random.below(2500))));
    if (random.below(8) == 0 && world.starting() > 1) world.give(ReplicaStarted{kGroup, {}});
    RC_ASSERT(world.stops == 0u);
  }
  RC_ASSERT(level == 0 || world.ready() + world.starting() > 0);
}

// However many reports come, the history stays short, in order, and reaches back far enough.
RC_GTEST_PROP(Load, RemembersMuchInFewSamples, (std::uint64_t key)) {
  Random random{key, 0};
  std::vector<Sample> history;
  Sample sample;
  const std::uint64_t apart = 1 + random.below(4'000'000'000);
  for (int i = 0; i < 3000; ++i) {
    sample.at = sample.at + nanoseconds(1 + static_cast<std::int64_t>(random.below(apart)));
    ++sample.arrivals;
    remember(history, sample, seconds(600));
    RC_ASSERT(history.size() <= 150u);
    RC_ASSERT(history.back() == sample);
    for (std::size_t k = 1; k < history.size(); ++k) RC_ASSERT(history[k - 1].at < history[k].at);
  }
  const Duration age = sample.at - history.front().at;
  RC_ASSERT(age >= std::min(seconds(500), Duration{sample.at.nanos / 2}));
}

}  // namespace
}  // namespace chalk::autoscaler
