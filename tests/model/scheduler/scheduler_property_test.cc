// The index against the scan, over random events. A failure prints the seed of RapidCheck; the same
// RC_PARAMS="seed=..." repeats it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <string>
#include <variant>

#include "model/core/codec.h"
#include "model/core/print.h"
#include "model/scheduler/scheduler.h"
#include "tests/model/scheduler/random_events.h"
#include "tests/model/scheduler/whole.h"
#include "tests/property/oracle/scheduler_scan.h"

namespace chalk::scheduler {
namespace {

static_assert(Machine<Scheduler>);

// Both answer `event`; equal effects, else the property fails with the event.
void step_both(Scheduler& machine, oracle::SchedulerScan& scan, const Event& event) {
  Effects effects;
  machine.step({}, event, effects);
  const Effects expected = scan.step(event);
  if (effects != expected) {
    RC_LOG() << to_text(event) << "\nindex: " << to_text(effects)
             << "\nscan:  " << to_text(expected);
    RC_FAIL("the index and the scan differ");
  }
}

// What is free by the machine's books equals the scan's, node by node.
void expect_equal_books(const Scheduler& machine, const oracle::SchedulerScan& scan) {
  const State& state = machine.state();
  std::uint64_t live = 0;
  for (std::size_t slot = 0; slot < scan.nodes().size(); ++slot) {
    const auto& expected = scan.nodes()[slot];
    if (!expected.id) continue;
    ++live;
    RC_ASSERT(state.infos[slot].id == expected.id);
    RC_ASSERT(state.infos[slot].owner == expected.owner);
    RC_ASSERT(state.nodes[slot].cpu == expected.cpu);
    RC_ASSERT(state.nodes[slot].memory == expected.memory);
    RC_ASSERT(state.nodes[slot].disk == expected.disk);
    RC_ASSERT(state.infos[slot].starts_free == expected.starts);
    RC_ASSERT(state.infos[slot].sandboxes_free == expected.sandboxes);
    for (int gpu = 0; gpu < expected.shape.gpus; ++gpu) {
      RC_ASSERT(state.gpu_rows[state.infos[slot].gpu_row].free[gpu] == expected.gpus[gpu]);
    }
  }
  RC_ASSERT(state.live_nodes == live);
  RC_ASSERT(state.live_reservations == scan.held().size());
  RC_ASSERT(state.nominated.size() == scan.nominees().size());
}

void expect_whole(const Scheduler& machine) {
  const std::string fault = fault_of(machine.state(), machine.config().zones_max);
  if (!fault.empty()) RC_FAIL(fault);
}

void release_all(Scheduler& machine, oracle::SchedulerScan& scan) {
  while (!scan.nominees().empty()) {
    step_both(machine, scan, Released{scan.nominees().front().event.asked.sandbox});
  }
  while (!scan.held().empty()) step_both(machine, scan, Released{scan.held().begin()->first});
  const State& state = machine.state();
  for (const NodeInfo& info : state.infos) {
    if (!info.id) continue;
    const Node& node = state.nodes[&info - state.infos.data()];
    RC_ASSERT(node.cpu == info.shape.cpu_millicores && node.memory == info.shape.memory_bytes);
    RC_ASSERT(node.disk == info.shape.disk_bytes && node.gpu_free == info.shape.gpus * 1000);
    RC_ASSERT(info.starts_free == info.shape.start_slots);
    RC_ASSERT(info.sandboxes_free == info.shape.sandboxes_max && info.first_reservation == 0);
  }
  RC_ASSERT(state.group_index.size() == 0u);
  expect_whole(machine);
}

void index_equals_scan(std::uint64_t seed, Events mix, int steps, Placing placing = {}) {
  const Config config{.sandboxes_max = mix.sandboxes - 1, .placing = placing};
  RandomEvents events(seed, mix);
  Scheduler machine(config);
  oracle::SchedulerScan scan(config);
  for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
    step_both(machine, scan, events.node_added(slot));
  }
  for (int i = 0; i < steps; ++i) step_both(machine, scan, events.next());
  expect_whole(machine);
  expect_equal_books(machine, scan);
  release_all(machine, scan);
}

// Guards the properties below against random events that reach too little.
TEST(SchedulerProperty, RandomEventsReachEveryAnswer) {
  std::map<Shortage, int> refused;
  int placed = 0, claims = 0, shares = 0, whole = 0, gridded = 0;
  int lost = 0, served_late = 0, gangs_placed = 0, gangs_refused = 0;
  const auto run = [&](Events mix, int steps) {
    RandomEvents events(7, mix);
    Scheduler machine(Config{.sandboxes_max = mix.sandboxes - 1});
    Effects effects;
    for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
      machine.step({}, events.node_added(slot), effects);
    }
    for (int i = 0; i < steps; ++i) {
      effects.clear();
      const Event event = events.next();
      machine.step({}, event, effects);
      if (effects.empty()) continue;
      if (const auto* gang = std::get_if<GangAsked>(&event)) {
        const bool all = std::holds_alternative<Placed>(effects.front());
        EXPECT_EQ(effects.size(), all ? gang->members.size() : 1u);
        if (gang->members.size() > 1) ++(all ? gangs_placed : gangs_refused);
        continue;
      }
      if (const auto* no = std::get_if<NotPlaced>(&effects.front())) {
        ++refused[no->why];
        continue;
      }
      if (std::holds_alternative<NominationLost>(effects.front())) {
        lost += !std::holds_alternative<Nominated>(event);
        continue;
      }
      if (!std::holds_alternative<PlaceAsked>(event)) {
        served_late += !std::holds_alternative<Nominated>(event);
        continue;
      }
      const auto& yes = std::get<Placed>(effects.front());
      const Resources& ask = std::get<PlaceAsked>(event).ask;
      ++placed;
      claims += yes.claims;
      shares += ask.gpus == 1 && ask.gpu_millis < 1000;
      whole += ask.gpus > 0 && ask.gpu_millis == 1000;
    }
    gridded += !machine.state().grids.empty();
  };
  run({}, 120'000);
  run({.nodes = 700, .sandboxes = 3000, .zones = 1, .pools = 1, .owners = 1, .gpus = false},
      10'000);
  for (int why = 0; why <= static_cast<int>(Shortage::spared); ++why) {
    EXPECT_GE(refused[static_cast<Shortage>(why)], 20) << "shortage " << why;
  }
  EXPECT_GE(placed, 5000);
  EXPECT_GE(claims, 500);
  EXPECT_GE(shares, 200);
  EXPECT_GE(whole, 200);
  EXPECT_EQ(gridded, 1);
  EXPECT_GE(lost, 20);
  EXPECT_GE(gangs_placed, 50);
  EXPECT_GE(gangs_refused, 50);
  EXPECT_GE(served_late, 20);
}

RC_GTEST_PROP(SchedulerProperty, IndexChoosesAndRefusesAsTheScanDoesOnFewNodes,
              (std::uint64_t seed)) {
  Events mix;
  mix.nodes = *rc::gen::inRange(1u, 12u);
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  index_equals_scan(seed, mix, *rc::gen::inRange(1, 400));
}

// After every event all that the index derives is what it would be if it were derived anew.
RC_GTEST_PROP(SchedulerProperty, WhatTheIndexDerivesStaysRight, (std::uint64_t seed)) {
  Events mix;
  mix.nodes = *rc::gen::inRange(1u, 12u);
  mix.sandboxes = *rc::gen::inRange(5u, 40u);
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  RandomEvents events(seed, mix);
  Scheduler machine(Config{
      .sandboxes_max = mix.sandboxes, .zones_max = 3, .placing = {Policy::best_fit, true}});
  Effects effects;
  for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
    machine.step({}, events.node_added(slot), effects);
  }
  const int steps = *rc::gen::inRange(1, 200);
  for (int i = 0; i < steps; ++i) {
    effects.clear();
    machine.step({}, events.next(), effects);
    expect_whole(machine);
  }
}

// The same on so many nodes that blocks are split and joined, and buckets get grids.
RC_GTEST_PROP(SchedulerProperty, WhatTheIndexDerivesStaysRightOnManyNodes, (std::uint64_t seed)) {
  if (*rc::gen::inRange(0, 4) != 0) return;
  Events mix{.sandboxes = 1000, .zones = 1, .pools = 1, .owners = 1};
  mix.nodes = *rc::gen::element(50u, 200u, 700u);
  mix.gpus = *rc::gen::arbitrary<bool>();
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  mix.idle_shapes = *rc::gen::arbitrary<bool>();
  RandomEvents events(seed, mix);
  Scheduler machine(Config{.sandboxes_max = mix.sandboxes, .zones_max = 3});
  Effects effects;
  for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
    machine.step({}, events.node_added(slot), effects);
  }
  for (int i = 0; i < 2000; ++i) {
    effects.clear();
    machine.step({}, events.next(), effects);
    if (i % 100 == 0) expect_whole(machine);
  }
  // Until nothing is left in any list.
  for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
    const NodeId id = machine.state().infos.at(slot).id;
    if (id) machine.step({}, NodeRemoved{id}, effects);
    if (slot % 20 == 0) expect_whole(machine);
  }
  expect_whole(machine);
  RC_ASSERT(machine.state().vacant_blocks.size() == machine.state().blocks.size());
}

// Enough alike nodes that buckets get grids, and lose them again.
RC_GTEST_PROP(SchedulerProperty, IndexChoosesAndRefusesAsTheScanDoesInGrids, (std::uint64_t seed)) {
  if (*rc::gen::inRange(0, 10) != 0) return;  // one in ten: each is a thousand times a small one
  Events mix{.nodes = 700, .sandboxes = 3000, .zones = 1, .pools = 1, .owners = 1, .gpus = false};
  mix.zones = *rc::gen::inRange(1, 3);
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  mix.idle_shapes = *rc::gen::arbitrary<bool>();
  index_equals_scan(seed, mix, 4000);
}

RC_GTEST_PROP(SchedulerProperty, IndexChoosesAndRefusesAsTheScanDoesOnManyGpuNodes,
              (std::uint64_t seed)) {
  if (*rc::gen::inRange(0, 10) != 0) return;
  Events mix{.nodes = 600, .sandboxes = 2000, .zones = 1, .pools = 1, .owners = 1};
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  index_equals_scan(seed, mix, 3000);
}

// The other policies: each chooses as the scan does, on nodes that it may use.
void policy_equals_scan(std::uint64_t seed, Policy policy) {
  Events mix;
  mix.nodes = *rc::gen::inRange(1u, 12u);
  mix.fine_amounts = *rc::gen::arbitrary<bool>();
  index_equals_scan(seed, mix, *rc::gen::inRange(1, 400), {policy, *rc::gen::arbitrary<bool>()});
  if (*rc::gen::inRange(0, 10) != 0) return;
  // More nodes than kube's sample.
  index_equals_scan(seed, {.nodes = 260, .sandboxes = 1000, .zones = 1, .pools = 1, .owners = 2},
                    1500, policy);
}
RC_GTEST_PROP(SchedulerProperty, LeastAllocatedChoosesAsTheScanDoes, (std::uint64_t seed)) {
  policy_equals_scan(seed, Policy::least_allocated);
}
RC_GTEST_PROP(SchedulerProperty, FirstFitChoosesAsTheScanDoes, (std::uint64_t seed)) {
  policy_equals_scan(seed, Policy::first_fit);
}
RC_GTEST_PROP(SchedulerProperty, PowerOfTwoChoosesAsTheScanDoes, (std::uint64_t seed)) {
  policy_equals_scan(seed, Policy::power_of_two);
}
RC_GTEST_PROP(SchedulerProperty, FgdChoosesAsTheScanDoes, (std::uint64_t seed)) {
  policy_equals_scan(seed, Policy::fgd);
}
RC_GTEST_PROP(SchedulerProperty, FragFitChoosesAsTheScanDoes, (std::uint64_t seed)) {
  policy_equals_scan(seed, Policy::frag_fit);
}

RC_GTEST_PROP(SchedulerProperty, ACopyAndADecodedStateGoOnAsTheOriginal, (std::uint64_t seed)) {
  Events mix;
  const Config config{.sandboxes_max = mix.sandboxes,
                      .placing = static_cast<Policy>(*rc::gen::inRange(0, 6))};
  RandomEvents events(seed, mix);
  Scheduler original(config);
  Effects effects;
  for (std::uint32_t slot = 0; slot < mix.nodes; ++slot) {
    original.step({}, events.node_added(slot), effects);
  }
  const int before = *rc::gen::inRange(0, 200);
  for (int i = 0; i < before; ++i) original.step({}, events.next(), effects);

  Scheduler fork = original;
  State decoded;
  RC_ASSERT(decode(encode(original.state()), decoded));
  RC_ASSERT(decoded == original.state());
  Scheduler restored(config, decoded);
  for (int i = 0; i < 200; ++i) {
    const Event event = events.next();
    Effects one, two, three;
    original.step({}, event, one);
    fork.step({}, event, two);
    restored.step({}, event, three);
    RC_ASSERT(one == two);
    RC_ASSERT(one == three);
  }
  RC_ASSERT(digest_of(original.state()) == digest_of(fork.state()));
  RC_ASSERT(digest_of(original.state()) == digest_of(restored.state()));
}

}  // namespace
}  // namespace chalk::scheduler
