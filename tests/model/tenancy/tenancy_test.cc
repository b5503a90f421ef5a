#include "model/tenancy/tenancy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "tests/support/said.h"

namespace chalk::tenancy {
namespace {

using test::said;
using test::tell;

constexpr Resources kOne{.cpu_millicores = 1000, .memory_bytes = 1 << 30};
const Time kNow{seconds(1).nanos};

SandboxId sandbox(std::uint64_t n) { return {n}; }

Tenancy with_tenants(std::uint64_t count, Config config = {}) {
  Tenancy tenancy(config);
  for (std::uint64_t t = 1; t <= count; ++t)
    tell(tenancy, kNow, TenantAdded{{t}, {}, 1, false, {}});
  return tenancy;
}

TEST(Tenancy, RefusesWithRuleAndNumbersBeyondAQuota) {
  Tenancy tenancy(Config{});
  tell(tenancy, kNow, TenantAdded{{1}, {.cpu_millicores = 1500}, 1, false, {}});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, kNow, SandboxAsked{sandbox(1), {1}, kOne, {}})).size(),
            1u);
  const auto refused =
      said<RefuseSandbox>(tell(tenancy, kNow, SandboxAsked{sandbox(2), {1}, kOne, {}}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (RefuseSandbox{sandbox(2), Rule::quota_cpu, 1000, 1000, 1500}));
  const auto unknown =
      said<RefuseSandbox>(tell(tenancy, kNow, SandboxAsked{sandbox(3), {9}, kOne, {}}));
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0].rule, Rule::unknown_tenant);
}

TEST(Tenancy, ReleasesAQuotaOnceHoweverOftenTheEndIsTold) {
  Tenancy tenancy = with_tenants(1);
  tell(tenancy, kNow, SandboxAsked{sandbox(1), {1}, kOne, {}});
  tell(tenancy, kNow, SandboxPlaced{sandbox(1), {}, false});
  EXPECT_EQ(tenancy.in_use({1}).sandboxes, 1);
  for (int i = 0; i < 3; ++i) tell(tenancy, kNow, SandboxEnded{sandbox(1)});
  tell(tenancy, kNow, SandboxCancelled{sandbox(1)});
  EXPECT_EQ(tenancy.in_use({1}), Amounts{});
}

TEST(Tenancy, ScrubsANodeBetweenTwoOwners) {
  Config config;
  config.owner_linger = seconds(10);
  Tenancy tenancy = with_tenants(2, config);
  const NodeId node{1};
  tell(tenancy, kNow, NodeJoined{node, {.cpu_millicores = 4000, .memory_bytes = 8LL << 30}, {}});
  tell(tenancy, kNow, SandboxAsked{sandbox(1), {1}, kOne, {}});
  tell(tenancy, kNow, SandboxPlaced{sandbox(1), node, true});
  tell(tenancy, kNow, SandboxEnded{sandbox(1)});
  const auto scrub = tell(tenancy, kNow + seconds(10), Woken{});
  ASSERT_EQ(said<ScrubNode>(scrub).size(), 1u);
  EXPECT_EQ(said<SetOwner>(scrub)[0], (SetOwner{node, {1}, false}));
  const auto free = said<SetOwner>(tell(tenancy, kNow + seconds(12), NodeScrubbed{node}));
  ASSERT_EQ(free.size(), 1u);
  EXPECT_EQ(free[0], (SetOwner{node, {}, true}));
  EXPECT_TRUE(said<SetOwner>(tell(tenancy, kNow + seconds(13), NodeScrubbed{node})).empty());
}

TEST(Tenancy, OrdersAScrubAgainThatDoesNotFinish) {
  Config config;
  config.owner_linger = {};
  config.scrub_timeout = seconds(100);
  Tenancy tenancy = with_tenants(1, config);
  tell(tenancy, kNow, NodeJoined{{1}, {.cpu_millicores = 4000, .memory_bytes = 8LL << 30}, {}});
  tell(tenancy, kNow, SandboxAsked{sandbox(1), {1}, kOne, {}});
  tell(tenancy, kNow, SandboxPlaced{sandbox(1), {1}, true});
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, kNow, SandboxEnded{sandbox(1)})).size(), 1u);
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, kNow + seconds(100), Woken{})).size(), 1u);
}

TEST(Tenancy, ScrubsAnEmptiedNodeEarlyWhenAnotherOwnerWaits) {
  Config config;
  config.owner_linger = seconds(1000);
  Tenancy tenancy = with_tenants(2, config);
  tell(tenancy, kNow, NodeJoined{{1}, {.cpu_millicores = 4000, .memory_bytes = 8LL << 30}, {}});
  tell(tenancy, kNow, SandboxAsked{sandbox(1), {1}, kOne, {}});
  tell(tenancy, kNow, SandboxPlaced{sandbox(1), {1}, true});
  tell(tenancy, kNow, SandboxEnded{sandbox(1)});
  tell(tenancy, kNow, SandboxAsked{sandbox(2), {2}, kOne, {}});
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, kNow, NotPlaced{sandbox(2)})).size(), 1u);
}

// A cluster that holds `room` sandboxes, asked through the machine's own words.
struct Cluster {
  Tenancy tenancy;
  std::uint64_t room = 0;
  std::vector<SandboxId> placed{};

  void hear(const std::vector<Effect>& effects) {
    for (const auto& attempt : said<TryPlace>(effects)) {
      if (room > 0) {
        --room;
        placed.push_back(attempt.sandbox);
        hear(tell(tenancy, kNow, SandboxPlaced{attempt.sandbox, {}, false}));
      } else {
        hear(tell(tenancy, kNow, NotPlaced{attempt.sandbox}));
      }
    }
  }
  void free(std::uint64_t more) {
    room += more;
    hear(tell(tenancy, kNow, CapacityFreed{}));
    while (tenancy.round_open()) hear(tell(tenancy, kNow, NextAttempt{}));
  }
};

// In each round one that needs less fails before it, so it is never tried itself.
TEST(Tenancy, WhatFailsWithASmallerOneAgesToo) {
  Config config;
  config.separate_tenants = false;
  Tenancy tenancy = with_tenants(3, config);
  const auto at = [](std::int64_t s) { return kNow + seconds(s); };
  for (std::uint64_t id = 1; id <= 2; ++id) {
    tell(tenancy, at(0),
         SandboxAsked{sandbox(id), {id}, {.cpu_millicores = id == 1 ? 2000 : 8000}, {}});
    tell(tenancy, at(0), NotPlaced{sandbox(id)});
  }
  const auto round = [&](std::int64_t s) {
    tell(tenancy, at(s), CapacityFreed{});
    const auto attempts = said<TryPlace>(tell(tenancy, at(s), NextAttempt{}));
    ASSERT_EQ(attempts.size(), 1u);
    EXPECT_EQ(attempts[0].sandbox, sandbox(1));
    tell(tenancy, at(s), NotPlaced{sandbox(1)});
    EXPECT_TRUE(said<TryPlace>(tell(tenancy, at(s), NextAttempt{})).empty());
    EXPECT_FALSE(tenancy.round_open());
  };
  round(299);
  EXPECT_TRUE(tenancy.state().aged.empty());
  tell(tenancy, at(299), SandboxCancelled{sandbox(1)});
  tell(tenancy, at(299), SandboxAsked{sandbox(1), {1}, {.cpu_millicores = 2000}, {}});
  tell(tenancy, at(299), NotPlaced{sandbox(1)});
  round(300);
  EXPECT_EQ(tenancy.state().aged, std::vector<SandboxId>{sandbox(2)});
  const auto small = said<TryPlace>(tell(tenancy, at(301), SandboxAsked{sandbox(3), {3}, kOne, {}}));
  ASSERT_EQ(small.size(), 1u);
  EXPECT_EQ(small[0].spare, (std::vector<Wish>{{{.cpu_millicores = 8000}, {}}}));
}

// Two cores of four are free again and again: without a bound the small asks of the equal tenant
// would take them for ever, and the whole node would never be empty.
TEST(Tenancy, LetsNobodyPassALargeAskThatHasWaitedLong) {
  Config config;
  config.bypass_max = seconds(60);
  Tenancy tenancy = with_tenants(2, config);
  const auto at = [](std::int64_t s) { return kNow + seconds(s); };
  tell(tenancy, at(0), SandboxAsked{sandbox(1), {1}, {.cpu_millicores = 4000}, {}});
  tell(tenancy, at(0), NotPlaced{sandbox(1)});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(30), SandboxAsked{sandbox(2), {2}, kOne, {}})).size(),
            1u);
  tell(tenancy, at(30), SandboxPlaced{sandbox(2), {}, false});
  tell(tenancy, at(61), CapacityFreed{});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(61), NextAttempt{})).at(0).sandbox, sandbox(1));
  tell(tenancy, at(61), NotPlaced{sandbox(1)});
  tell(tenancy, at(61), NextAttempt{});
  EXPECT_FALSE(tenancy.round_open());
  const auto small = said<TryPlace>(tell(tenancy, at(62), SandboxAsked{sandbox(3), {2}, kOne, {}}));
  ASSERT_EQ(small.size(), 1u);
  EXPECT_EQ(small[0].spare, (std::vector<Wish>{{{.cpu_millicores = 4000}, {}}}))
      << "on smaller nodes only";
  tell(tenancy, at(62), NotPlaced{sandbox(3)});
  tell(tenancy, at(63), SandboxEnded{sandbox(2)});
  tell(tenancy, at(63), CapacityFreed{});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(63), NextAttempt{})).at(0).sandbox, sandbox(1));
  tell(tenancy, at(63), SandboxPlaced{sandbox(1), {}, false});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(63), NextAttempt{})).at(0).sandbox, sandbox(3));
}

// Capacity is given one by one; each goes to the tenant with the least dominant share, and within a
// tenant to the first in line. The oracle looks at all tenants every time.
RC_GTEST_PROP(Tenancy, ServesTheLeastDominantShareFirst, ()) {
  Cluster cluster{with_tenants(4)};
  tell(cluster.tenancy, kNow,
       NodeJoined{{1}, {.cpu_millicores = 1'000'000, .memory_bytes = 1LL << 40}, {}});
  std::map<std::uint64_t, std::vector<std::uint64_t>> waiting;
  std::map<std::uint64_t, std::uint64_t> held;
  std::uint64_t next = 1;
  for (const auto tenant :
       *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(1, 5))) {
    waiting[tenant].push_back(next);
    cluster.hear(tell(cluster.tenancy, kNow, SandboxAsked{sandbox(next++), {tenant}, kOne, {}}));
  }
  while (cluster.tenancy.pending_count() != 0) {
    std::uint64_t poorest = 0;
    for (const auto& [tenant, line] : waiting) {
      if (!line.empty() && (poorest == 0 || held[tenant] < held[poorest])) poorest = tenant;
    }
    cluster.placed.clear();
    cluster.free(1);
    RC_ASSERT(cluster.placed.size() == 1u);
    RC_ASSERT(cluster.placed[0] == sandbox(waiting[poorest].front()));
    waiting[poorest].erase(waiting[poorest].begin());
    ++held[poorest];
  }
  for (const auto& [tenant, line] : waiting) RC_ASSERT(line.empty());
}

// Whatever happens in whatever order: what is counted is what was asked and has not ended, never
// beyond a quota, and a machine rebuilt from its bytes says the same.
RC_GTEST_PROP(Tenancy, CountsWhatIsHeldAndNothingElse, (std::uint64_t key)) {
  Config config;
  config.pending_per_tenant_max = 5;
  Tenancy tenancy(config);
  constexpr std::int64_t kQuota = 6;
  for (std::uint64_t t = 1; t <= 3; ++t) {
    tell(tenancy, kNow,
         TenantAdded{{t}, {.sandboxes = kQuota}, static_cast<std::uint32_t>(t), t == 3, {}});
  }
  std::map<std::uint64_t, std::uint64_t> tenant_of;
  Random random{key, 0};
  std::uint64_t next = 1;
  for (int i = 0; i < 300; ++i) {
    std::vector<Effect> effects;
    const SandboxId some = sandbox(1 + random.below(next));
    switch (random.below(6)) {
      case 0:
      case 1: {
        const std::uint64_t tenant = 1 + random.below(3);
        effects = tell(tenancy, kNow, SandboxAsked{sandbox(next), {tenant}, kOne, {}});
        if (said<RefuseSandbox>(effects).empty()) tenant_of[next] = tenant;
        ++next;
        break;
      }
      case 2: effects = tell(tenancy, kNow, SandboxEnded{some}), tenant_of.erase(some.value); break;
      case 3:
        effects = tell(tenancy, kNow, SandboxCancelled{some}), tenant_of.erase(some.value);
        break;
      case 4: effects = tell(tenancy, kNow, CapacityFreed{}); break;
      default: effects = tell(tenancy, kNow, NextAttempt{});
    }
    for (const auto& attempt : said<TryPlace>(effects)) {
      if (random.below(2) == 0)
        tell(tenancy, kNow, NotPlaced{attempt.sandbox});
      else
        tell(tenancy, kNow, SandboxPlaced{attempt.sandbox, {}, false});
    }
    for (std::uint64_t t = 1; t <= 3; ++t) {
      const auto count = std::count_if(tenant_of.begin(), tenant_of.end(),
                                       [&](const auto& one) { return one.second == t; });
      RC_ASSERT(tenancy.in_use({t}).sandboxes == count);
      RC_ASSERT(count <= kQuota);
    }
    if (i % 50 == 0) {
      State state;
      RC_ASSERT(decode(encode(tenancy.state()), state));
      RC_ASSERT(state == tenancy.state());
      tenancy = Tenancy(config, state);
    }
  }
}

}  // namespace
}  // namespace chalk::tenancy
