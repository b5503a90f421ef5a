// Who makes way, against an oracle that counts everything anew; and the room kept for nominations.
#include "model/scheduler/preemption.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "model/core/print.h"
#include "model/core/random.h"
#include "tests/model/scheduler/desk.h"

namespace chalk::scheduler {
namespace {

Preemptible low(std::uint64_t id, std::int64_t millicores, Priority priority, std::int64_t ran_s) {
  Preemptible one;
  one.sandbox = {id};
  one.priority = priority;
  one.ran = seconds(ran_s);
  one.held.cpu = millicores;
  return one;
}
Resources cpu(std::int64_t millicores) {
  Resources ask;
  ask.cpu_millicores = millicores;
  return ask;
}
Room room(std::int64_t cpu) {
  Room free;
  free.cpu = cpu;
  free.sandboxes = 8;
  return free;
}
std::vector<SandboxId> ids(std::initializer_list<std::uint64_t> values) {
  std::vector<SandboxId> out;
  for (const std::uint64_t value : values) out.push_back({value});
  return out;
}

TEST(Preemption, TakesNobodyWhereItFitsAnyway) {
  const auto victims = victims_on(3, room(1000), {low(1, 1000, 0, 5)}, cpu(1000));
  ASSERT_TRUE(victims);
  EXPECT_TRUE(victims->sandboxes.empty());
  EXPECT_EQ(victims->highest, -1);
  EXPECT_EQ(victims->slot, 3u);
}

TEST(Preemption, TakesNobodyWhereAllTogetherAreNotEnough) {
  EXPECT_FALSE(victims_on(0, room(500), {low(1, 1000, 0, 5)}, cpu(1600)));
  Room full = room(4000);
  full.sandboxes = 0;
  EXPECT_FALSE(victims_on(0, full, {}, cpu(1)));
  ASSERT_TRUE(victims_on(0, full, {low(1, 0, 0, 5)}, cpu(1)));
  EXPECT_EQ(victims_on(0, full, {low(1, 0, 0, 5)}, cpu(1))->sandboxes, ids({1}));
}

TEST(Preemption, SparesTheMostImportantAndOfEqualsThoseThatRanLongest) {
  const auto victims = victims_on(
      0, room(0), {low(1, 1000, 2, 5), low(2, 1000, 1, 50), low(3, 1000, 1, 7)}, cpu(1000));
  ASSERT_TRUE(victims);
  EXPECT_EQ(victims->sandboxes, ids({3}));
  EXPECT_EQ(victims->highest, 1);
  EXPECT_EQ(victims->lost, seconds(7));
}

TEST(Preemption, AsksForNoMoreThanItNeeds) {
  // The large one alone is enough; the small ones are put back after it could not be.
  const auto victims = victims_on(
      0, room(0), {low(1, 4000, 0, 9), low(2, 1000, 0, 1), low(3, 1000, 0, 2)}, cpu(3000));
  ASSERT_TRUE(victims);
  EXPECT_EQ(victims->sandboxes, ids({1}));
}

TEST(Preemption, TakesTheNodeWithTheLeastImportantThenFewestThenYoungestThenLowest) {
  const auto of = [](std::int32_t highest, std::size_t count, std::int64_t lost,
                     std::uint32_t slot) {
    Victims one;
    one.highest = highest;
    one.sandboxes.resize(count);
    one.lost = seconds(lost);
    one.slot = slot;
    return one;
  };
  const auto order = [](const Victims& one) {
    return order_of(one.highest, one.sandboxes.size(), one.starts_wait, one.lost, one.slot);
  };
  const auto better = [&](const Victims& a, const Victims& b) { return order(a) < order(b); };
  EXPECT_TRUE(better(of(-1, 0, 0, 9), of(0, 1, 0, 1)));
  EXPECT_TRUE(better(of(1, 9, 90, 9), of(2, 1, 1, 1)));
  EXPECT_TRUE(better(of(1, 1, 90, 9), of(1, 2, 1, 1)));
  EXPECT_TRUE(better(of(1, 2, 3, 9), of(1, 2, 4, 1)));
  EXPECT_TRUE(better(of(1, 2, 3, 1), of(1, 2, 3, 2)));
  EXPECT_FALSE(better(of(1, 2, 3, 1), of(1, 2, 3, 1)));
}

TEST(Preemption, FreesTheGpusOfOneVictimForAShareOrAWholeOne) {
  Room free = room(8000);
  free.gpu_count = 2;
  free.gpus = {200, 0};
  Preemptible share = low(1, 0, 0, 9), whole = low(2, 0, 0, 1);
  share.held.gpu_mask = 1;
  share.held.gpu_millis = 800;
  whole.held.gpu_mask = 2;
  whole.held.gpu_millis = 1000;
  Resources ask;
  ask.gpus = 1;
  ask.gpu_millis = 1000;
  auto victims = victims_on(0, free, {share, whole}, ask);
  ASSERT_TRUE(victims);
  EXPECT_EQ(victims->sandboxes, ids({2}));
  EXPECT_EQ(victims->gpu_mask, 2u);
  ask.gpu_millis = 500;
  victims = victims_on(0, free, {share}, ask);
  ASSERT_TRUE(victims);
  EXPECT_EQ(victims->gpu_mask, 1u);
  ask.gpus = 2;
  ask.gpu_millis = 1000;
  victims = victims_on(0, free, {share, whole}, ask);
  ASSERT_TRUE(victims);
  EXPECT_EQ(victims->sandboxes.size(), 2u);
  EXPECT_EQ(victims->gpu_mask, 3u);
  free.gpus = {700, 400};
  ask.gpus = 1;
  ask.gpu_millis = 300;
  EXPECT_EQ(free.gpus_for(ask), 2u) << "a share goes to the tightest";
}

TEST(Preemption, CountsWhatIsOwedToANomination) {
  Nomination one;
  one.ask = cpu(3000);
  one.hold.cpu = 1000;
  Room free = room(5000);
  free.owe(one);
  EXPECT_EQ(free.cpu, 3000);
  EXPECT_EQ(free.sandboxes, 7);
}

// ---- the oracle

bool fits_with(const Room& free, const std::vector<Preemptible>& all,
               const std::set<SandboxId>& gone, const Resources& ask) {
  Room now = free;
  for (const Preemptible& one : all) {
    if (!gone.contains(one.sandbox)) continue;
    now.cpu += one.held.cpu;
    now.memory += one.held.memory;
    now.disk += one.held.disk;
    now.sandboxes += 1;
    for (int gpu = 0; gpu < now.gpu_count; ++gpu) {
      if (one.held.gpu_mask >> gpu & 1) now.gpus[gpu] += one.held.gpu_millis;
    }
  }
  int gpus = 0;
  for (int gpu = 0; gpu < now.gpu_count; ++gpu) gpus += now.gpus[gpu] >= ask.gpu_millis;
  return now.cpu >= ask.cpu_millicores && now.memory >= ask.memory_bytes &&
         now.disk >= ask.disk_bytes && now.sandboxes > 0 &&
         (ask.gpus == 0 || gpus >= ask.gpus);
}

struct Case {
  Room free;
  std::vector<Preemptible> candidates;
  Resources ask;
};
Case random_case(std::uint64_t seed) {
  Random random{seed, 0};
  Case c;
  c.free.cpu = 500 * static_cast<std::int64_t>(random.below(4));
  c.free.memory = static_cast<std::int64_t>(random.below(4));
  c.free.disk = static_cast<std::int64_t>(random.below(4));
  c.free.sandboxes = static_cast<std::int32_t>(random.below(3));
  c.free.gpu_count = random.below(2) ? 3 : 0;
  for (int gpu = 0; gpu < c.free.gpu_count; ++gpu) c.free.gpus[gpu] = 1000;
  const auto count = random.below(8);
  for (std::uint64_t id = 1; id <= count; ++id) {
    Preemptible one = low(id, 500 * static_cast<std::int64_t>(random.below(5)),
                          static_cast<Priority>(random.below(4)),
                          static_cast<std::int64_t>(random.below(5)));
    one.held.memory = static_cast<std::int64_t>(random.below(4));
    one.held.disk = static_cast<std::int64_t>(random.below(4));
    if (c.free.gpu_count > 0 && random.below(2)) {
      const auto gpu = random.below(3);
      const std::int32_t millis = random.below(2) ? 500 : 1000;
      if (c.free.gpus[gpu] >= millis) {
        c.free.gpus[gpu] -= millis;
        one.held.gpu_mask = 1u << gpu;
        one.held.gpu_millis = millis;
      }
    }
    c.candidates.push_back(one);
  }
  c.ask = cpu(500 * static_cast<std::int64_t>(random.below(8)));
  c.ask.memory_bytes = static_cast<std::int64_t>(random.below(8));
  if (random.below(2)) c.ask.disk_bytes = static_cast<std::int64_t>(random.below(8));
  if (c.free.gpu_count > 0 && random.below(2)) {
    c.ask.gpus = 1 + static_cast<std::int32_t>(random.below(3));
    c.ask.gpu_millis = c.ask.gpus == 1 && random.below(2) ? 500 : 1000;
  }
  return c;
}

RC_GTEST_PROP(PreemptionProperty, VictimsMakeRoomAndNoneOfThemCouldBeSpared, (std::uint64_t seed)) {
  const Case c = random_case(seed);
  std::set<SandboxId> all;
  for (const Preemptible& one : c.candidates) all.insert(one.sandbox);
  const auto victims = victims_on(0, c.free, c.candidates, c.ask);
  RC_ASSERT(victims.has_value() == fits_with(c.free, c.candidates, all, c.ask));
  if (!victims) return;
  const std::set<SandboxId> gone(victims->sandboxes.begin(), victims->sandboxes.end());
  RC_ASSERT(gone.size() == victims->sandboxes.size());
  RC_ASSERT(fits_with(c.free, c.candidates, gone, c.ask));
  std::int32_t highest = -1;
  Duration lost;
  for (const Preemptible& one : c.candidates) {
    if (!gone.contains(one.sandbox)) continue;
    highest = std::max<std::int32_t>(highest, one.priority);
    lost = lost + one.ran;
    std::set<SandboxId> without = gone;
    without.erase(one.sandbox);
    RC_ASSERT(!fits_with(c.free, c.candidates, without, c.ask));
  }
  RC_ASSERT(highest == victims->highest);
  RC_ASSERT(lost == victims->lost);
  // No choice at all gets by with less important victims.
  std::set<SandboxId> lesser;
  for (const Preemptible& one : c.candidates) {
    if (one.priority < highest) lesser.insert(one.sandbox);
  }
  if (highest >= 0) RC_ASSERT(!fits_with(c.free, c.candidates, lesser, c.ask));
  // The GPUs that it is told are the tightest once they are gone, the lowest of those alike.
  std::vector<std::pair<std::int32_t, int>> left;
  for (int gpu = 0; gpu < c.free.gpu_count; ++gpu) {
    std::int32_t free = c.free.gpus[gpu];
    for (const Preemptible& one : c.candidates) {
      if (gone.contains(one.sandbox) && (one.held.gpu_mask >> gpu & 1)) free += one.held.gpu_millis;
    }
    if (free >= c.ask.gpu_millis) left.emplace_back(free, gpu);
  }
  std::sort(left.begin(), left.end());
  std::uint32_t mask = 0;
  for (int given = 0; given < c.ask.gpus; ++given) mask |= 1u << left.at(given).second;
  RC_ASSERT(victims->gpu_mask == mask);
}

// What is owed and what is held on a node by its books, dimension by dimension.
TEST(Preemption, KnowsTheRoomOfANodeInEveryDimension) {
  Desk desk;
  NodeShape shape = cores(8, 3);
  shape.sandboxes_max = 5;
  desk.add(1, shape);
  PlaceAsked asked = gpu(1, 1, 400);
  asked.ask.disk_bytes = 7 * kGi;
  desk.place(asked);
  const Room room = room_of(desk.state(), 0);
  EXPECT_EQ(room.cpu, 7000);
  EXPECT_EQ(room.memory, 32 * kGi - asked.ask.memory_bytes);
  EXPECT_EQ(room.disk, 93 * kGi);
  EXPECT_EQ(room.sandboxes, 4);
  EXPECT_EQ(room.gpu_count, 3);
  EXPECT_EQ(room.gpus[0], 600);
  EXPECT_EQ(room.gpus[2], 1000);

  Nomination owed;
  owed.ask = {.cpu_millicores = 50, .memory_bytes = 60, .disk_bytes = 70, .gpus = 1, .gpu_millis = 300};
  owed.gpu_mask = 2;
  owed.hold.cpu = 5, owed.hold.memory = 6, owed.hold.disk = 7, owed.hold.gpus[1] = 100;
  Room less = room;
  less.owe(owed);
  EXPECT_EQ(room.cpu - less.cpu, 45);
  EXPECT_EQ(room.memory - less.memory, 54);
  EXPECT_EQ(room.disk - less.disk, 63);
  EXPECT_EQ(room.sandboxes - less.sandboxes, 1);
  EXPECT_EQ(less.gpus[0], 600);
  EXPECT_EQ(less.gpus[1], 800);
  owed.hold.sandbox = true;
  less = room;
  less.owe(owed);
  EXPECT_EQ(room.sandboxes, less.sandboxes);
}

TEST(PreemptionProperty, RandomCasesReachEveryAnswer) {
  int none = 0, nobody = 0, some = 0, several = 0, gpus = 0;
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    const Case c = random_case(seed);
    const auto victims = victims_on(0, c.free, c.candidates, c.ask);
    none += !victims;
    nobody += victims && victims->sandboxes.empty();
    some += victims && !victims->sandboxes.empty();
    several += victims && victims->sandboxes.size() > 1;
    gpus += victims && !victims->sandboxes.empty() && c.ask.gpus > 0;
  }
  for (const int count : {none, nobody, some, several, gpus}) EXPECT_GE(count, 100);
}

// ---- nominations

Reservation const& held_by(const Desk& desk, std::uint64_t sandbox) {
  return desk.state().reservations.at(sandbox - 1);
}

TEST(Nomination, IsPlacedOnceWhatItMissesHasBeenReleased) {
  Desk desk;
  desk.add(1, cores(4));
  EXPECT_EQ(desk.place(one(1, 2000)), 1u);
  EXPECT_EQ(desk.place(one(2, 2000)), 1u);
  EXPECT_TRUE(desk.send(Nominated{one(3, 3000), {1}, 0}).empty());
  EXPECT_TRUE(desk.send(Released{{1}}).empty()) << "2000 of 3000 are not enough";
  EXPECT_EQ(desk.refused(one(4, 1000)).best_available, 0) << "what came free is kept";
  EXPECT_EQ(desk.send(Released{{2}}), (Effects{Placed{{3}, {1}, 0, false, true}}));
  EXPECT_EQ(held_by(desk, 3).cpu, 3000);
  EXPECT_EQ(desk.place(one(4, 1000)), 1u) << "and no more than it asked for";
  EXPECT_TRUE(desk.state().nominations.empty());
}

TEST(Nomination, AreServedInTheirOrder) {
  Desk desk;
  desk.add(1, cores(4));
  desk.place(one(1, 2000));
  desk.place(one(2, 2000));
  desk.send(Nominated{one(3, 2000), {1}, 0});
  desk.send(Nominated{one(4, 2000), {1}, 0});
  EXPECT_EQ(desk.send(Released{{2}}), (Effects{Placed{{3}, {1}, 0, false, true}}));
  EXPECT_EQ(desk.send(Released{{1}}), (Effects{Placed{{4}, {1}, 0, false, true}}));
}

TEST(Nomination, WaitsForAStartSlotToo) {
  Desk desk;
  NodeShape shape = cores(4);
  shape.start_slots = 1;
  desk.add(1, shape);
  desk.place(one(1, 1000));
  EXPECT_TRUE(desk.send(Nominated{one(2, 1000), {1}, 0}).empty());
  EXPECT_EQ(desk.send(StartFinished{{1}}), (Effects{Placed{{2}, {1}, 0, false, true}}));
}

TEST(Nomination, IsLostWithItsNodeItsOwnerOrACordon) {
  const auto lost = [](const Event& event) {
    Desk desk;
    desk.add(1, cores(4));
    desk.place(one(1, 4000));
    desk.send(Nominated{one(2, 1000), {1}, 0});
    const Effects effects = desk.send(event);
    EXPECT_TRUE(desk.state().nominations.empty());
    return effects;
  };
  const Effects expected{NominationLost{{2}}};
  EXPECT_EQ(lost(NodeRemoved{{1}}), expected);
  EXPECT_EQ(lost(NodeCordoned{{1}, true}), expected);
  EXPECT_EQ(lost(NodeOwned{{1}, {9}, true}), expected);
  EXPECT_EQ(lost(NodeOwned{{1}, {7}, false}), expected);
  NodeAdded newer{{(std::uint64_t{1} << 32) | 1}, cores(4), {1}, {1}, {}, false};
  EXPECT_EQ(lost(newer), expected);
}

TEST(Nomination, GivesBackAllWhenItIsWithdrawn) {
  Desk desk;
  desk.add(1, cores(4));
  desk.place(one(1, 3000));
  desk.send(Nominated{one(2, 2000), {1}, 0});
  EXPECT_EQ(desk.refused(one(3, 500)).best_available, 0);
  EXPECT_TRUE(desk.send(Released{{2}}).empty());
  EXPECT_EQ(desk.place(one(3, 1000)), 1u);
}

TEST(Nomination, IsRefusedWhereItsNodeCannotHaveIt) {
  Desk desk;
  desk.add(1, cores(4, 1));
  desk.place(one(1, 1000));
  const auto lost = [&](Nominated event) {
    return desk.send(event) == Effects{NominationLost{event.asked.sandbox}};
  };
  EXPECT_TRUE(lost({one(2, 5000), {1}, 0})) << "larger than the node";
  EXPECT_TRUE(lost({one(2, 1000, 8), {1}, 0})) << "another owner's node";
  EXPECT_TRUE(lost({one(2, 1000), {5}, 0})) << "no such node";
  desk.add(9, cores(4));
  EXPECT_TRUE(lost({one(2, 1000, 0), {9}, 0})) << "a node without an owner may be claimed by any";
  desk.send(NodeRemoved{{9}});
  EXPECT_TRUE(lost({one(2, 1000), {1}, 1})) << "a GPU that it did not ask for";
  EXPECT_TRUE(lost({gpu(2, 1, 1000), {1}, 2})) << "a GPU that is not there";
  EXPECT_TRUE(lost({gpu(2, 1, 1000, 2), {1}, 1})) << "a GPU of another model";
  EXPECT_TRUE(lost({one((std::uint64_t{1} << 32) | 1, 1000), {1}, 0})) << "its slot is taken";
  EXPECT_TRUE(lost({gpu(2, 1, 1000), {1}, 0})) << "no GPU for one that asks for it";
  EXPECT_TRUE(lost({one(4'000'001, 1000), {1}, 0})) << "more sandboxes than there may be";
  EXPECT_TRUE(desk.send(Nominated{one(1, 1000), {1}, 0}).empty()) << "it is placed";
  EXPECT_EQ(desk.state().ignored.duplicate_asks, 1u);
  EXPECT_EQ(desk.state().nominations.size(), 0u);
  NodeShape shape = cores(4);
  std::uint64_t node = 2;
  for (int* none : {&shape.start_slots, &shape.sandboxes_max}) {
    const int was = std::exchange(*none, 0);
    desk.add(node, shape, 1, 7);
    EXPECT_TRUE(lost({one(3, 1000), {node}, 0})) << "it never starts any";
    *none = was;
    ++node;
  }
  shape.sandboxes_max = 1;
  desk.add(node, shape, 1, 7);
  EXPECT_FALSE(lost({one(3, 1000), {node}, 0})) << "one is enough";
  desk.place(one(5, 3000));
  desk.send(Nominated{one(2, 1000), {1}, 0});
  EXPECT_TRUE(lost({one((std::uint64_t{1} << 32) | 2, 1000), {1}, 0})) << "its slot is nominated";
  EXPECT_TRUE(desk.send(Nominated{one(2, 1000), {1}, 0}).empty()) << "it is nominated";
  EXPECT_EQ(desk.state().ignored.duplicate_asks, 2u);
}

TEST(Nomination, WhatOneLetsGoIsTheNexts) {
  Desk desk;
  desk.add(1, cores(4));
  desk.place(one(1, 3000));
  desk.send(Nominated{one(2, 2000), {1}, 0});
  desk.send(Nominated{one(3, 1000), {1}, 0});
  EXPECT_EQ(desk.send(Released{{2}}), (Effects{Placed{{3}, {1}, 0, false, true}}));
}

TEST(Nomination, AnswersARepeatedAskWithNothingUntilItIsPlaced) {
  Desk desk;
  desk.add(1, cores(4));
  desk.place(one(1, 4000));
  desk.send(Nominated{one(2, 1000), {1}, 0});
  desk.add(2, cores(4));
  EXPECT_TRUE(desk.send(one(2, 1000)).empty());
  EXPECT_TRUE(desk.send(Nominated{one(2, 1000), {1}, 0}).empty());
  EXPECT_EQ(desk.refused(one((std::uint64_t{1} << 32) | 2)).why, Shortage::limit);
}

}  // namespace
}  // namespace chalk::scheduler
