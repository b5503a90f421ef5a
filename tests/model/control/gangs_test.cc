// Gangs as the root places and ends them: all of their members, or none.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "model/core/random.h"
#include "tests/model/control/plane.h"

namespace chalk::control {
namespace {

std::vector<SandboxId> gang_of(Plane& plane, std::uint32_t size, std::int64_t cores,
                               std::uint64_t id = 1, bool restart = false) {
  std::vector<SandboxId> all;
  for (std::uint32_t i = 0; i < size; ++i) {
    all.push_back(plane.ask(cores, 0, 1, restart, {id, size}));
  }
  return all;
}
int placed(const Plane& plane, const std::vector<SandboxId>& all) {
  int count = 0;
  for (const SandboxId id : all) count += plane.placed(id);
  return count;
}

TEST(Gangs, NothingIsPlacedUntilAllFitAtOneMoment) {
  Plane plane;
  plane.join(4);
  const auto gang = gang_of(plane, 3, 2);
  EXPECT_EQ(placed(plane, gang), 0);
  const SandboxId one = plane.ask(4, 0);
  EXPECT_TRUE(plane.waits(one)) << "it came later than the gang, to the same tenant's line";
  EXPECT_EQ(plane.control().scheduler().state().live_reservations, 0u);
  plane.join(4);
  EXPECT_EQ(placed(plane, gang), 3);
}

TEST(Gangs, ThatAreNotWholeHoldUpNobodyAndHoldNoRoom) {
  Plane plane;
  plane.join(4);
  std::vector<SandboxId> gang;
  for (int i = 0; i < 2; ++i) gang.push_back(plane.ask(1, 0, 1, false, {1, 3}));
  const SandboxId one = plane.ask(4, 0);
  EXPECT_TRUE(plane.placed(one));
  gang.push_back(plane.ask(1, 0, 1, false, {1, 3}));
  EXPECT_EQ(placed(plane, gang), 0);
  plane.end(one);
  EXPECT_EQ(placed(plane, gang), 3);
}

TEST(Gangs, ThatCanNeverFitAreRefusedWithHowManyTheirPoolsHold) {
  Plane plane({}, 2, 2);  // two nodes of 64 cores at most, 8 start slots each
  plane.join(64);
  gang_of(plane, 3, 40);
  ASSERT_EQ(plane.refused().size(), 3u);
  for (const sandbox::Refused& one : plane.refused()) {
    EXPECT_EQ(one.rule, sandbox::Refusal::admission);
    EXPECT_EQ(static_cast<tenancy::Rule>(one.admission_rule), tenancy::Rule::gang_never_fits);
    EXPECT_EQ(one.needed, 3);
    EXPECT_EQ(one.limit, 2);
  }
  EXPECT_EQ(plane.control().tenancy().in_use({1}), tenancy::Amounts{});
  gang_of(plane, 17, 1, 2);
  ASSERT_EQ(plane.refused().size(), 20u) << "more than may be starting at once";
  EXPECT_EQ(plane.refused().back().limit, 16);
  EXPECT_EQ(placed(plane, gang_of(plane, 16, 4, 3)), 0) << "a second node may come yet";
  EXPECT_EQ(plane.refused().size(), 20u);
}

TEST(Gangs, EndAsAWholeWhenAMembersNodeIsLost) {
  Plane plane;
  plane.join(4);
  plane.join(4);
  const auto gang = gang_of(plane, 2, 3);
  ASSERT_EQ(placed(plane, gang), 2);
  plane.end(gang[0], EndReason::out_of_memory);
  EXPECT_EQ(plane.stopping(), std::set<SandboxId>{gang[1]});
  plane.end_stopped();
  EXPECT_EQ(plane.ended(gang[0]), EndReason::out_of_memory);
  EXPECT_EQ(plane.ended(gang[1]), EndReason::gang_ended);
  EXPECT_EQ(plane.control().scheduler().state().live_reservations, 0u);
}

TEST(Gangs, AreNobodysVictimsAndMakeNone) {
  Plane plane;
  plane.join(4);
  const auto gang = gang_of(plane, 2, 2);
  EXPECT_TRUE(plane.waits(plane.ask(1, 9)));
  EXPECT_TRUE(plane.stopping().empty());
  EXPECT_EQ(placed(plane, gang), 2);
  Plane other;
  other.join(4);
  other.ask(4, 0);
  for (int i = 0; i < 2; ++i) other.ask(1, 9, 1, false, {1, 2});
  EXPECT_TRUE(other.stopping().empty());
}

// Its nodes are lost while it starts, and its tenant has as much in line as may be: what was
// admitted once is refused no more, of a gang or alone.
TEST(Gangs, WaitAgainWhenTheirNodeIsLostHoweverMuchWaits) {
  Config config;
  config.tenancy.pending_per_tenant_max = 3;
  Plane plane(config);
  plane.starts_wait = true;
  plane.join(4);
  const auto gang = gang_of(plane, 2, 1);
  const SandboxId alone = plane.ask(1, 0);
  ASSERT_EQ(placed(plane, gang), 2);
  ASSERT_TRUE(plane.placed(alone));
  for (int i = 0; i < 3; ++i) plane.ask(64, 0);
  for (int second = 2; second <= 60; ++second) {
    plane.at(second);
    plane.step(Woken{});
  }
  EXPECT_TRUE(plane.refused().empty());
  EXPECT_TRUE(plane.waits(alone) && plane.waits(gang[0]) && plane.waits(gang[1]));
  EXPECT_EQ(plane.control().tenancy().in_use({1}).sandboxes, 6);
  plane.ask(1, 0);
  EXPECT_EQ(plane.refused().size(), 1u) << "what is new";
  plane.join(64);
  for (const SandboxId id : {alone, gang[0], gang[1]}) plane.step(sandbox::TerminateRequested{id, {}});
  EXPECT_EQ(plane.control().tenancy().in_use({1}).sandboxes, 3);
}

// At rest every gang has a node for all of its members that live, or for none; nothing is lost.
RC_GTEST_PROP(GangsProperty, AreNeverPartlyPlacedAtRest, (std::uint64_t seed)) {
  Random random{seed, 0};
  Config config;
  config.tenancy.separate_tenants = random.below(2) != 0;
  Plane plane(config, 2);
  for (std::uint64_t i = 0; i < 2 + random.below(3); ++i) {
    plane.join(4 + static_cast<std::int64_t>(random.below(4)));
  }
  std::vector<SandboxId> all;
  Gang gang;
  std::uint32_t left = 0;  // members of it still to ask
  const auto settle = [&] {
    plane.start_all();
    plane.end_stopped();
    for (const auto& [key, one] : plane.control().sandboxes().state().gangs) {
      std::size_t on_nodes = 0;
      for (const SandboxId id : one.members) on_nodes += plane.placed(id);
      RC_ASSERT(on_nodes == 0 || on_nodes == one.members.size());
      RC_ASSERT(on_nodes == 0 || one.came == one.size);
    }
  };
  for (int i = 0; i < 60; ++i) {
    plane.at(i + 2);
    plane.starts_wait = random.below(2) != 0;
    const auto kind = random.below(10);
    if (kind < 6) {
      if (left == 0) {
        gang = {gang.id + 1, static_cast<std::uint32_t>(1 + random.below(4))};
        left = gang.size;
      }
      --left;
      all.push_back(plane.ask(1 + static_cast<std::int64_t>(random.below(2)), 0, 1,
                              random.below(2) != 0, gang));
    } else if (kind < 7) {
      all.push_back(plane.ask(1 + static_cast<std::int64_t>(random.below(4)), 0,
                              1 + random.below(2)));
    } else if (!all.empty()) {
      const SandboxId id = all[random.below(all.size())];
      const sandbox::Record* record = plane.find(id);
      if (record == nullptr) continue;
      if (record->node && !record->ran && random.below(2)) {
        plane.report(record->node, RefusedReport{id, NodeRefusal::cpu, 0, 0});
      } else if (random.below(3) == 0) {
        plane.step(sandbox::TerminateRequested{id, {}});
      } else {
        const EndReason reasons[] = {EndReason::exited, EndReason::out_of_memory,
                                     EndReason::lifetime_reached};
        plane.end(id, reasons[random.below(3)]);
      }
    }
    if (random.below(3) == 0) settle();
  }
  plane.starts_wait = false;
  settle();
  for (int i = 0; i < 300; ++i) {  // what runs ends, so what waits has its turn
    bool any = false;
    for (const SandboxId id : all) {
      if (!plane.placed(id)) continue;
      any = true;
      plane.end(id);
    }
    settle();
    if (!any) break;
  }
  RC_ASSERT(plane.control().scheduler().state().live_reservations == 0u);
  RC_ASSERT(plane.control().tenancy().pending_count() == 0u);
  // What is left are gangs whose members did not all ask, or asked after others had been ended.
  std::size_t members = 0;
  for (const auto& [key, one] : plane.control().sandboxes().state().gangs) {
    members += one.members.size();
    RC_ASSERT(one.came < one.size);
  }
  RC_ASSERT(plane.control().sandboxes().state().sandboxes.size() == members);
}

}  // namespace
}  // namespace chalk::control
