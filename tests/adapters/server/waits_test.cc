// What is said of sandboxes that have no node: the rule, and the numbers behind it.
#include "adapters/server/waits.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "adapters/api/ids.h"

namespace chalk::server {
namespace {

constexpr TenantId kRed{1}, kBlue{2}, kGreen{3};

class WaitsTest : public testing::Test {
 protected:
  WaitsTest() : control_(config()) {
    fleet::PoolAdded pool;
    pool.pool = PoolId{1};
    pool.policy.zones = {ZoneId{1}};
    pool.policy.nodes_max = 10;
    step(pool);
    for (const TenantId one : {kRed, kBlue, kGreen}) {
      tenancy::TenantAdded added;
      added.tenant = one;
      step(added);
    }
  }
  static control::Config config() {
    control::Config config;
    config.fleet.heartbeat_timeout = seconds(24 * 3600);
    return config;
  }
  // Of two cores and 4 GiB.
  void add_node() {
    NodeRegistration node;
    node.key = ++keys_;
    node.incarnation = 1;
    node.pool = PoolId{1};
    node.zone = ZoneId{1};
    node.shape.cpu_millicores = 2'000;
    node.shape.memory_bytes = 4LL << 30;
    node.shape.disk_bytes = 16LL << 30;
    node.shape.start_slots = 64;
    step(node);
  }
  SandboxId ask(TenantId tenant, std::int64_t cpu, std::int64_t memory = 1 << 20, Gang gang = {}) {
    control::SandboxRequested asked;
    asked.reply_to = ++replies_;
    asked.tenant = tenant;
    asked.resources.cpu_millicores = cpu;
    asked.resources.memory_bytes = memory;
    asked.gang = gang;
    step(asked);
    for (const control::Effect& effect : effects_) {
      if (const auto* yes = std::get_if<sandbox::Accepted>(&effect)) return yes->sandbox;
    }
    ADD_FAILURE() << "not accepted";
    return {};
  }
  void end(SandboxId sandbox) { step(sandbox::TerminateRequested{sandbox, {}}); }
  void step(const control::Event& event) {
    effects_.clear();
    control_.step(now_, event, effects_);
  }
  std::string why(SandboxId sandbox) const {
    const Waits waits = why_wait(control_, now_, {&sandbox, 1});
    const auto found = waits.find(sandbox);
    return found == waits.end() ? "" : found->second;
  }

  control::Control control_;
  std::vector<control::Effect> effects_;
  Time now_ = Time{} + seconds(1'000);
  std::uint64_t keys_ = 0, replies_ = 0;
};

TEST_F(WaitsTest, WithoutNodesAndWithoutRoom) {
  const SandboxId first = ask(kRed, 1'500);
  EXPECT_EQ(why(first), "it waits for a node: no node has joined");
  add_node();
  EXPECT_EQ(why(first), "") << "it has one now";
  const SandboxId second = ask(kRed, 1'000);
  EXPECT_EQ(why(second),
            "it waits for a node: cpu: it asks for 1000m, and of the node that it may use none has "
            "more than 500m free");
  const SandboxId third = ask(kRed, 100);
  EXPECT_EQ(why(third), "it waits behind sandbox " + api::sandbox_text_id(second) +
                            " of this environment, which waits for a node: cpu: it asks for 1000m, "
                            "and of the node that it may use none has more than 500m free");
  end(second);
  EXPECT_EQ(why(third), "");
  EXPECT_EQ(why(ask(kRed, 100, 4LL << 30)),
            "it waits for a node: memory: it asks for 4Gi, and of the node that it may use none has "
            "more than 4094Mi free");
  EXPECT_EQ(why(SandboxId{999}), "");
}

TEST_F(WaitsTest, WhatIsLeftToAnAskThatHasWaitedForLong) {
  add_node();
  ask(kRed, 200);
  const SandboxId waits = ask(kBlue, 200);
  EXPECT_EQ(why(waits),
            "it waits for a node: none of the nodes is free or of this environment: each is another "
            "environment's, being wiped, drained or lost");
  now_ = now_ + seconds(302);
  end(ask(kGreen, 200));  // a round, in which the other one is found to have waited for too long
  const SandboxId held_up = ask(kRed, 200);
  EXPECT_EQ(why(held_up),
            "it waits for a node: there is room, but it is left to a sandbox of another environment, "
            "which has waited for 5m2s; what has waited for 5m is passed by nobody");
  end(waits);
  EXPECT_EQ(why(held_up), "");
}

TEST_F(WaitsTest, AGangWaitsForItsMembersAndThenForRoomForAll) {
  add_node();
  ask(kRed, 600);
  const Gang gang{1, 3};
  const SandboxId first = ask(kRed, 500, 1 << 20, gang);
  ask(kRed, 500, 1 << 20, gang);
  EXPECT_EQ(why(first), "it waits for its gang: 2 of 3 have asked");
  ask(kRed, 500, 1 << 20, gang);
  EXPECT_EQ(why(first), "it waits for a node: there is no room for all of its gang at one moment");
}

}  // namespace
}  // namespace chalk::server
