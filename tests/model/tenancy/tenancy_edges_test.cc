// Quotas at their bounds, the line at its turns, and facts that come late, twice or about nobody.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "model/tenancy/tenancy.h"
#include "tests/support/said.h"

namespace chalk::tenancy {
namespace {

using test::said;
using test::tell;

constexpr Resources kOne{.cpu_millicores = 1000, .memory_bytes = 1 << 30};
constexpr NodeShape kShape{.cpu_millicores = 4000, .memory_bytes = 8LL << 30, .gpus = 2};
Time at(std::int64_t s) { return {seconds(s).nanos}; }

Tenancy with_tenants(std::uint64_t count, Config config = {}) {
  Tenancy tenancy(config);
  for (std::uint64_t t = 1; t <= count; ++t) {
    tell(tenancy, at(0), TenantAdded{{t}, {}, 1, false, {}});
  }
  return tenancy;
}
std::size_t tried(const std::vector<Effect>& effects) { return said<TryPlace>(effects).size(); }
std::size_t ask(Tenancy& tenancy, std::uint64_t sandbox, std::uint64_t tenant,
                Resources resources = kOne, PoolId pool = {}, Time now = at(0)) {
  return tried(tell(tenancy, now, SandboxAsked{{sandbox}, {tenant}, resources, pool}));
}
// What it must spare, when it is tried at once and finds no room.
std::vector<Wish> spared(Tenancy& tenancy, std::uint64_t sandbox, std::uint64_t tenant,
                         Resources resources, PoolId pool, Time now) {
  const auto effects = tell(tenancy, now, SandboxAsked{{sandbox}, {tenant}, resources, pool});
  const auto attempts = said<TryPlace>(effects);
  EXPECT_EQ(attempts.size(), 1u);
  tell(tenancy, now, NotPlaced{{sandbox}});
  return attempts.empty() ? std::vector<Wish>{} : attempts[0].spare;
}
void place(Tenancy& tenancy, std::uint64_t sandbox, std::uint64_t tenant, NodeId node = {}) {
  EXPECT_EQ(ask(tenancy, sandbox, tenant), 1u);
  tell(tenancy, at(0), SandboxPlaced{{sandbox}, node, true});
}
void make_wait(Tenancy& tenancy, std::uint64_t sandbox, std::uint64_t tenant,
               Resources resources = kOne, PoolId pool = {}) {
  if (ask(tenancy, sandbox, tenant, resources, pool) == 1) {
    tell(tenancy, at(0), NotPlaced{{sandbox}});
  }
}
// One round in which nothing finds room: who was tried, in order.
std::vector<std::uint64_t> fruitless_round(Tenancy& tenancy, Time now = at(0),
                                           bool goes_on = false) {
  std::vector<std::uint64_t> out;
  tell(tenancy, now, CapacityFreed{goes_on});
  while (tenancy.round_open()) {
    for (const auto& attempt : said<TryPlace>(tell(tenancy, now, NextAttempt{}))) {
      out.push_back(attempt.sandbox.value);
      tell(tenancy, now, NotPlaced{attempt.sandbox});
    }
  }
  return out;
}
using Tried = std::vector<std::uint64_t>;

TEST(Tenancy, EachQuotaIsUsedToItsLastUnit) {
  const auto refusal = [](Amounts quota, Resources second) {
    Tenancy tenancy(Config{});
    tell(tenancy, at(0), TenantAdded{{1}, quota, 1, false, {}});
    EXPECT_EQ(ask(tenancy, 1, 1,
                  {.cpu_millicores = 10, .memory_bytes = 20, .gpus = 2, .gpu_millis = 1000}), 1u);
    const auto no = said<RefuseSandbox>(
        tell(tenancy, at(0), SandboxAsked{{2}, {1}, second, {}}));
    return no.empty() ? RefuseSandbox{} : no[0];
  };
  const Resources fits{.cpu_millicores = 5, .memory_bytes = 6, .gpus = 1, .gpu_millis = 700};
  EXPECT_EQ(refusal({15, 26, 2700, 2}, fits), RefuseSandbox{});
  EXPECT_EQ(refusal({14, 26, 2700, 2}, fits), (RefuseSandbox{{2}, Rule::quota_cpu, 5, 10, 14}));
  EXPECT_EQ(refusal({15, 25, 2700, 2}, fits), (RefuseSandbox{{2}, Rule::quota_memory, 6, 20, 25}));
  EXPECT_EQ(refusal({15, 26, 2699, 2}, fits),
            (RefuseSandbox{{2}, Rule::quota_gpu, 700, 2000, 2699}));
  EXPECT_EQ(refusal({15, 26, 2700, 1}, fits), (RefuseSandbox{{2}, Rule::quota_sandboxes, 1, 1, 1}));
}

TEST(Tenancy, AllOfAQuotaComesBack) {
  Tenancy tenancy = with_tenants(1);
  const Resources all{.cpu_millicores = 10, .memory_bytes = 20, .gpus = 2, .gpu_millis = 300};
  ask(tenancy, 1, 1, all);
  EXPECT_EQ(tenancy.in_use({1}), (Amounts{10, 20, 600, 1}));
  EXPECT_EQ(ask(tenancy, 1, 1, all), 0u) << "repeated";
  EXPECT_EQ(tenancy.in_use({1}).sandboxes, 1);
  tell(tenancy, at(0), SandboxPlaced{{1}, {}, false});
  EXPECT_EQ(tenancy.state().tenants.at({1}).placed, (Amounts{10, 20, 600, 1}));
  tell(tenancy, at(0), SandboxPlaced{{1}, {}, false});
  EXPECT_EQ(tenancy.state().tenants.at({1}).placed.sandboxes, 1) << "repeated";
  tell(tenancy, at(1), SandboxEnded{{1}});
  EXPECT_EQ(tenancy.in_use({1}), Amounts{});
  EXPECT_EQ(tenancy.state().tenants.at({1}).placed, Amounts{});
  EXPECT_EQ(tenancy.in_use({9}), Amounts{});
}

TEST(Tenancy, AsManyWaitAsMayAndNoMore) {
  Config config;
  config.pending_max = 3;
  config.pending_per_tenant_max = 2;
  Tenancy tenancy = with_tenants(2, config);
  make_wait(tenancy, 1, 1);
  make_wait(tenancy, 2, 1);
  const auto refused = [&](std::uint64_t sandbox, std::uint64_t tenant) {
    const auto no = said<RefuseSandbox>(
        tell(tenancy, at(0), SandboxAsked{{sandbox}, {tenant}, kOne, {}}));
    return no.empty() ? RefuseSandbox{} : no[0];
  };
  EXPECT_EQ(refused(3, 1), (RefuseSandbox{{3}, Rule::pending_limit_of_tenant, 1, 2, 2}));
  make_wait(tenancy, 4, 2);
  EXPECT_EQ(refused(5, 2), (RefuseSandbox{{5}, Rule::pending_limit, 1, 3, 3}));
  tell(tenancy, at(1), SandboxCancelled{{1}});
  EXPECT_EQ(tenancy.state().pending_count, 2u);
  EXPECT_EQ(refused(6, 2), RefuseSandbox{});
}

// Also what is not in line: members of gangs, and what room is being made for.
TEST(Tenancy, AllThatHasNoNodeCountsAsWaiting) {
  for (const bool of_tenant : {true, false}) {
    Config config;
    (of_tenant ? config.pending_per_tenant_max : config.pending_max) = 4;
    Tenancy tenancy = with_tenants(2, config);
    SandboxAsked member{{1}, {1}, kOne, {}};
    member.gang = {1, 9};
    for (std::uint64_t id = 1; id <= 3; ++id) {
      member.sandbox = {id};
      EXPECT_TRUE(tell(tenancy, at(0), member).empty());
    }
    EXPECT_EQ(ask(tenancy, 4, 1), 1u);
    tell(tenancy, at(0), SandboxNominated{{4}});
    const Rule rule = of_tenant ? Rule::pending_limit_of_tenant : Rule::pending_limit;
    member.sandbox = {5};
    EXPECT_EQ(said<RefuseSandbox>(tell(tenancy, at(0), member)),
              (std::vector<RefuseSandbox>{{{5}, rule, 1, 4, 4}}));
    EXPECT_EQ(ask(tenancy, 6, 2), of_tenant ? 1u : 0u);
    tell(tenancy, at(0), SandboxPlaced{{4}, {}, false});
    EXPECT_TRUE(tell(tenancy, at(0), member).empty()) << "what has a node waits no more";
  }
}

TEST(Tenancy, WhatWasAdmittedBeforeIsNotRefused) {
  for (const Order order : {Order::fair, Order::quotas}) {
    Config config;
    config.order = order;
    config.pending_per_tenant_max = 1;
    Tenancy tenancy(config);
    tell(tenancy, at(0), TenantAdded{{1}, {.sandboxes = 1}, 1, false, {}, {}, {.sandboxes = 1}});
    make_wait(tenancy, 1, 1);
    SandboxAsked asked{{2}, {1}, kOne, {}};
    EXPECT_EQ(said<RefuseSandbox>(tell(tenancy, at(0), asked)).size(), 1u);
    asked.again = true;
    EXPECT_TRUE(said<RefuseSandbox>(tell(tenancy, at(0), asked)).empty());
    EXPECT_EQ(tenancy.in_use({1}).sandboxes, 2);
  }
}

TEST(Tenancy, ATenantIsKnownOnceWithAWeightOfAtLeastOne) {
  Config config;
  config.tenants_max = 2;
  Tenancy tenancy(config);
  tell(tenancy, at(0), TenantAdded{{}, {}, 1, false, {}});
  EXPECT_TRUE(tenancy.state().tenants.empty());
  tell(tenancy, at(0), TenantAdded{{1}, {}, 0, false, {}});
  EXPECT_EQ(tenancy.state().tenants.at({1}).weight, 1u);
  tell(tenancy, at(0), TenantAdded{{2}, {}, 3, true, {}});
  EXPECT_EQ(tenancy.state().tenants.at({2}).weight, 3u);
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}});
  EXPECT_EQ(tenancy.state().tenants.size(), 2u);
  tell(tenancy, at(0), TenantAdded{{2}, {}, 5, false, {}});
  EXPECT_EQ(tenancy.state().tenants.at({2}).weight, 5u) << "one that is known may always change";
}

TEST(Tenancy, NobodyIsTheFirstToBorrowWhatAnotherWaitsForWithinItsGuarantee) {
  Tenancy tenancy(Config{});
  for (std::uint64_t id = 1; id <= 2; ++id) {
    tell(tenancy, at(0), TenantAdded{{id}, {}, 1, false, {}, {}, {.sandboxes = 2}});
  }
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}});
  place(tenancy, 1, 1);
  EXPECT_TRUE(spared(tenancy, 2, 3, kOne, {}, at(0)).empty());
  tell(tenancy, at(0), SandboxCancelled{{2}});
  make_wait(tenancy, 3, 2);
  EXPECT_TRUE(spared(tenancy, 4, 1, kOne, {}, at(0)).empty()) << "it is within its own";
  EXPECT_EQ(spared(tenancy, 5, 3, kOne, {}, at(0)), (std::vector<Wish>{{kOne, {}}}));
}

TEST(Tenancy, WhoSharesIsSettledWhileItHasAnything) {
  Tenancy tenancy = with_tenants(1);
  EXPECT_EQ(tenancy.owner_key({1}), TenantId{1});
  ask(tenancy, 1, 1);
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, true, {}});
  EXPECT_EQ(tenancy.owner_key({1}), TenantId{1});
  tell(tenancy, at(0), SandboxCancelled{{1}});
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, true, {}});
  EXPECT_EQ(tenancy.owner_key({1}), kSharedOwner);
  EXPECT_EQ(tenancy.owner_key({9}), TenantId{9});
  Config together;
  together.separate_tenants = false;
  EXPECT_EQ(with_tenants(1, together).owner_key({1}), kSharedOwner);
}

TEST(Tenancy, AnswersOfNobodyChangeNothing) {
  Tenancy tenancy = with_tenants(1);
  const State before = tenancy.state();
  tell(tenancy, at(0), SandboxPlaced{{9}, {1}, true});
  tell(tenancy, at(0), NotPlaced{{9}});
  tell(tenancy, at(0), SandboxEnded{{9}});
  tell(tenancy, at(0), NodeGone{{9}});
  tell(tenancy, at(0), NodeScrubbed{{9}});
  tell(tenancy, at(0), CapacityFreed{});
  tell(tenancy, at(0), NextAttempt{});
  tell(tenancy, at(0), Woken{});
  EXPECT_TRUE(tenancy.state() == before);
  make_wait(tenancy, 1, 1);
  tell(tenancy, at(0), NotPlaced{{1}});
  EXPECT_EQ(tenancy.state().pending_count, 1u) << "it was not being tried";
}

TEST(Tenancy, TheFleetIsWhatJoinedAndHasNotGone) {
  Tenancy tenancy = with_tenants(1);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, {}});
  tell(tenancy, at(0), NodeJoined{{2}, kShape, {}});
  const Amounts one{4000, 8LL << 30, 2000, kShape.sandboxes_max};
  tell(tenancy, at(0), NodeGone{{1}});
  EXPECT_EQ(tenancy.state().capacity, one);
  tell(tenancy, at(0), NodeGone{{1}});
  EXPECT_EQ(tenancy.state().capacity, one);
  EXPECT_EQ(tenancy.state().nodes.size(), 1u);
}

TEST(Tenancy, AnEmptiedNodeStaysWithItsOwnerForAWhile) {
  Config config;
  config.owner_linger = seconds(10);
  config.scrub_timeout = seconds(100);
  Tenancy tenancy = with_tenants(1, config);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, {}});
  place(tenancy, 1, 1, {1});
  place(tenancy, 2, 1, {1});
  tell(tenancy, at(0), SandboxEnded{{1}});
  EXPECT_TRUE(tenancy.state().lingering.empty()) << "one lives there";
  EXPECT_EQ(said<WakeAt>(tell(tenancy, at(1), SandboxEnded{{2}})),
            (std::vector<WakeAt>{{at(11)}}));
  EXPECT_TRUE(tell(tenancy, at(10), Woken{}).empty());
  place(tenancy, 3, 1, {1});
  EXPECT_TRUE(tenancy.state().lingering.empty());
  EXPECT_TRUE(said<ScrubNode>(tell(tenancy, at(11), Woken{})).empty()) << "its owner came back";
  tell(tenancy, at(20), SandboxEnded{{3}});
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(30), Woken{})),
            (std::vector<ScrubNode>{{{1}}}));
  EXPECT_TRUE(tenancy.state().lingering.empty());
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(130), Woken{})).size(), 1u) << "ordered again";
  EXPECT_EQ(said<SetOwner>(tell(tenancy, at(131), NodeScrubbed{{1}})),
            (std::vector<SetOwner>{{{1}, {}, true}}));
  EXPECT_TRUE(said<ScrubNode>(tell(tenancy, at(230), Woken{})).empty());
}

TEST(Tenancy, WhatTakesNothingIsNotScrubbedForAnother) {
  Tenancy tenancy = with_tenants(2);
  for (std::uint64_t n = 1; n <= 2; ++n) {
    tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
    place(tenancy, n, 1, {n});
  }
  tell(tenancy, at(1), SandboxEnded{{1}});
  tell(tenancy, at(2), SandboxEnded{{2}});
  tell(tenancy, at(2), NodeCordoned{{1}, true});
  EXPECT_EQ(ask(tenancy, 3, 2, kOne, {}, at(3)), 1u);
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(3), NotPlaced{{3}})),
            (std::vector<ScrubNode>{{{2}}}));
}

TEST(Tenancy, ANodeThatGoesWhileItLingersIsNotScrubbedForAnother) {
  Tenancy tenancy = with_tenants(2);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, {}});
  place(tenancy, 1, 1, {1});
  tell(tenancy, at(0), SandboxEnded{{1}});
  EXPECT_EQ(tenancy.state().lingering.size(), 1u);
  tell(tenancy, at(0), NodeGone{{1}});
  EXPECT_TRUE(tenancy.state().lingering.empty());
  make_wait(tenancy, 2, 2);
  EXPECT_TRUE(said<ScrubNode>(tell(tenancy, at(60), Woken{})).empty());
}

TEST(Tenancy, AnOwnersOwnLingeringNodeIsNotScrubbedForIt) {
  Tenancy tenancy = with_tenants(2);
  for (std::uint64_t n = 1; n <= 2; ++n) {
    tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
    place(tenancy, n, n, {n});
    tell(tenancy, at(0), SandboxEnded{{n}});
  }
  ask(tenancy, 3, 1);
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(0), NotPlaced{{3}})),
            (std::vector<ScrubNode>{{{2}}}))
      << "of the two only the other's";
  ask(tenancy, 4, 2);
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(0), NotPlaced{{4}})),
            (std::vector<ScrubNode>{{{1}}}));
}

TEST(Tenancy, DedicatedNodesAndSharedFleetsAreNeverScrubbed) {
  Config together;
  together.separate_tenants = false;
  for (Tenancy tenancy : {with_tenants(1), with_tenants(1, together)}) {
    const bool separate = tenancy.owner_key({1}) == TenantId{1};
    tell(tenancy, at(0), NodeJoined{{1}, kShape, separate ? TenantId{1} : TenantId{}});
    place(tenancy, 1, 1, {1});
    const auto ended = tell(tenancy, at(0), SandboxEnded{{1}});
    EXPECT_TRUE(said<ScrubNode>(ended).empty());
    EXPECT_TRUE(tenancy.state().lingering.empty());
  }
}

TEST(Tenancy, ThePoorerGoFirstAndAWeightMakesPoorer) {
  Tenancy tenancy(Config{});
  tell(tenancy, at(0), NodeJoined{{7}, {.cpu_millicores = 100'000, .memory_bytes = 100LL << 30,
                                        .gpus = 8}, {}});
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 4, false, {}});
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}});
  place(tenancy, 1, 1);
  place(tenancy, 2, 2);
  place(tenancy, 3, 2);
  const Resources with_gpu{.cpu_millicores = 1, .memory_bytes = 1, .gpus = 1, .gpu_millis = 800};
  ask(tenancy, 4, 3, with_gpu);
  tell(tenancy, at(0), SandboxPlaced{{4}, {}, false});
  const auto& tenants = tenancy.state().tenants;
  EXPECT_EQ(tenants.at({1}).share, (1ULL << 32) / 100);
  EXPECT_EQ(tenants.at({2}).share, (2ULL << 32) / 100 / 4);
  EXPECT_EQ(tenants.at({3}).share, (1ULL << 32) / 10) << "of its GPUs, the scarcest to it";
  for (std::uint64_t t = 1; t <= 3; ++t) {
    make_wait(tenancy, 10 + t, t,
              {.cpu_millicores = 100 - static_cast<std::int64_t>(t), .memory_bytes = 1});
  }
  EXPECT_EQ(fruitless_round(tenancy), (Tried{12, 11, 13}));
  tell(tenancy, at(0), SandboxEnded{{4}});
  EXPECT_EQ(tenants.at({3}).share, 0u);
  EXPECT_EQ(fruitless_round(tenancy), (Tried{13, 12, 11}));
}

// What was placed on a small fleet is little of a large one.
TEST(Tenancy, SharesAreOfTheFleetThatThereIs) {
  Tenancy tenancy = with_tenants(2);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, {}});
  tell(tenancy, at(0), SandboxAsked{{1}, {1}, {.cpu_millicores = 4000}, {}});
  tell(tenancy, at(0), SandboxPlaced{{1}, {}, false});  // all of it
  make_wait(tenancy, 2, 1);
  for (std::uint64_t node = 2; node <= 10; ++node) {
    tell(tenancy, at(0), NodeJoined{{node}, kShape, {}});
  }
  tell(tenancy, at(0), SandboxAsked{{3}, {2}, {.cpu_millicores = 8000}, {}});
  tell(tenancy, at(0), SandboxPlaced{{3}, {}, false});
  make_wait(tenancy, 4, 2);
  const auto share = [&](std::uint64_t id) { return tenancy.state().tenants.at({id}).share; };
  EXPECT_EQ(share(1), (1ULL << 32) / 10);
  EXPECT_EQ(share(2), (2ULL << 32) / 10);
  EXPECT_EQ(fruitless_round(tenancy).front(), 2u) << "the poorer, though that was all there was";
  for (std::uint64_t node = 3; node <= 10; ++node) tell(tenancy, at(0), NodeGone{{node}});
  EXPECT_EQ(share(1), (1ULL << 32) / 2) << "and back";
}

TEST(Tenancy, SharesAreCountedAnewOnceAFleetHasChangedByASixteenth) {
  Tenancy tenancy = with_tenants(1);
  const auto join = [&](std::uint64_t node) {
    tell(tenancy, at(0), NodeJoined{{node}, {.cpu_millicores = 1000}, {}});
  };
  for (std::uint64_t node = 1; node <= 32; ++node) join(node);
  place(tenancy, 1, 1);
  const std::uint64_t& share = tenancy.state().tenants.at({1}).share;
  join(33), join(34);
  EXPECT_EQ(share, (1ULL << 32) / 32);
  join(35);
  EXPECT_EQ(share, (1ULL << 32) / 35);
}

TEST(Tenancy, AFleetThatHasChangedByJustASixteenthIsTheSame) {
  for (const bool more : {false, true}) {
    Tenancy tenancy = with_tenants(1);
    tell(tenancy, at(0), NodeJoined{{1}, {.cpu_millicores = 15'000}, {}});
    place(tenancy, 1, 1);
    tell(tenancy, at(0), NodeJoined{{2}, {.cpu_millicores = more ? 1'001 : 1'000}, {}});
    EXPECT_EQ(tenancy.state().tenants.at({1}).share,
              (1000ULL << 32) / (more ? 16'001 : 15'000));
  }
}

TEST(Tenancy, ARoundTriesNothingThatTakesAsMuchAsWhatHasFailed) {
  const auto tries_second = [](Resources first, Resources second, PoolId pool = {}) {
    Config config;
    config.separate_tenants = false;
    Tenancy tenancy = with_tenants(2, config);
    make_wait(tenancy, 1, 1, first);
    make_wait(tenancy, 2, 2, second, pool);
    return fruitless_round(tenancy).size() == 2;
  };
  const Resources one{.cpu_millicores = 10, .memory_bytes = 10, .disk_bytes = 10};
  EXPECT_FALSE(tries_second(one, one));
  EXPECT_TRUE(tries_second(one, one, {3})) << "in another pool there may be room";
  Resources less = one;
  less.cpu_millicores = 9;
  EXPECT_TRUE(tries_second(one, less));
  EXPECT_FALSE(tries_second(less, one));
  less = one;
  less.memory_bytes = 9;
  EXPECT_TRUE(tries_second(one, less));
  less = one;
  less.disk_bytes = 9;
  EXPECT_TRUE(tries_second(one, less));
  Resources gpus = one;
  gpus.gpus = 2;
  gpus.gpu_millis = 1000;
  EXPECT_TRUE(tries_second(one, gpus)) << "those go elsewhere";
  EXPECT_TRUE(tries_second(gpus, one));
  EXPECT_FALSE(tries_second(gpus, gpus));
  Resources fewer = gpus;
  fewer.gpus = 1;
  EXPECT_TRUE(tries_second(gpus, fewer));
  fewer = gpus;
  fewer.gpu_millis = 500;
  EXPECT_TRUE(tries_second(gpus, fewer));
  Resources other = gpus;
  other.gpu_models = 2;
  EXPECT_TRUE(tries_second(gpus, other));
  EXPECT_FALSE(tries_second(other, other));
}

TEST(Tenancy, WhatFailedForOneOwnerIsStillTriedForAnother) {
  Tenancy tenancy = with_tenants(2);
  make_wait(tenancy, 1, 1);
  make_wait(tenancy, 2, 2);
  EXPECT_EQ(fruitless_round(tenancy), (Tried{1, 2}));
}

TEST(Tenancy, ARoundEndsAfterSomeFailuresAndTheNextGoesOnPastThem) {
  Config config;
  config.tries_per_event = 2;
  Tenancy tenancy = with_tenants(5, config);
  for (std::uint64_t t = 1; t <= 5; ++t) make_wait(tenancy, t, t);
  EXPECT_EQ(fruitless_round(tenancy), (Tried{1, 2}));
  EXPECT_EQ(fruitless_round(tenancy), (Tried{3, 4}));
  EXPECT_EQ(fruitless_round(tenancy), (Tried{5, 1})) << "round the end of the line";
  std::map<std::uint64_t, int> last;  // each is met again within twice the length of the line
  for (int round = 0; round < 60; ++round) {
    const Tried tried = fruitless_round(tenancy);
    ASSERT_EQ(tried.size(), 2u);
    for (const std::uint64_t one : tried) last[one] = round;
    for (std::uint64_t t = 1; t <= 5; ++t) ASSERT_LE(round - (last.contains(t) ? last[t] : 0), 5);
  }
}

TEST(Tenancy, ARoundThatWentRoundTheEndOfTheLineEnds) {
  Config config;
  config.separate_tenants = false;
  config.tries_per_event = 2;
  Tenancy tenancy = with_tenants(4, config);
  std::uint64_t tenant = 0;
  for (const std::int64_t cpu : {10, 9, 20, 20}) {
    ++tenant;
    make_wait(tenancy, tenant, tenant, {.cpu_millicores = cpu});
  }
  EXPECT_EQ(fruitless_round(tenancy), (Tried{1, 2}));
  EXPECT_EQ(fruitless_round(tenancy), (Tried{3, 1})) << "the last takes as much as the third";
}

TEST(Tenancy, AnUnknownTenantIsRefused) {
  Tenancy tenancy(Config{});
  EXPECT_EQ(said<RefuseSandbox>(tell(tenancy, at(0), SandboxAsked{{3}, {9}, kOne, {}})),
            (std::vector<RefuseSandbox>{{{3}, Rule::unknown_tenant, 1, 0, 0}}));
}

TEST(Tenancy, ARoundGoesOnPastWhatFindsRoom) {
  Tenancy tenancy = with_tenants(2);
  make_wait(tenancy, 1, 1);
  make_wait(tenancy, 2, 1);
  make_wait(tenancy, 3, 2);
  tell(tenancy, at(1), CapacityFreed{});
  std::multiset<std::uint64_t> placed;
  while (tenancy.round_open()) {
    tell(tenancy, at(1), CapacityFreed{});  // while a round is open it begins no other
    for (const auto& attempt : said<TryPlace>(tell(tenancy, at(1), NextAttempt{}))) {
      placed.insert(attempt.sandbox.value);
      tell(tenancy, at(1), SandboxPlaced{attempt.sandbox, {}, false});
    }
  }
  EXPECT_EQ(placed, (std::multiset<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(tenancy.state().pending_count, 0u);
  EXPECT_TRUE(tenancy.state().line.empty());
}

TEST(Tenancy, WhatHasWaitedLongIsPassedByNobodyRicherInItsPool) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_tenants(2, config);
  make_wait(tenancy, 1, 1);
  EXPECT_EQ(fruitless_round(tenancy, at(99)), (Tried{1}));
  EXPECT_TRUE(tenancy.state().aged.empty());
  EXPECT_EQ(fruitless_round(tenancy, at(100)), (Tried{1}));
  EXPECT_EQ(tenancy.state().aged.size(), 1u);
  const std::vector<Wish> one{{kOne, {}}};
  EXPECT_EQ(spared(tenancy, 2, 2, kOne, {}, at(101)), one) << "as poor: not where that could run";
  EXPECT_EQ(ask(tenancy, 3, 2, kOne, {4}, at(101)), 0u) << "behind its own";
  EXPECT_EQ(fruitless_round(tenancy, at(102)), (Tried{1, 2}));
  tell(tenancy, at(103), SandboxCancelled{{2}});
  EXPECT_EQ(fruitless_round(tenancy, at(104)), (Tried{1, 3})) << "another pool";
  tell(tenancy, at(105), SandboxCancelled{{1}});
  EXPECT_TRUE(tenancy.state().aged.empty());
  EXPECT_EQ(spared(tenancy, 5, 1, kOne, {}, at(106)), std::vector<Wish>{});
}

// Only what could run on the same nodes gives way: a pool of its own, or one that must go elsewhere,
// is in nobody's way, and of two that have aged the first goes first.
TEST(Tenancy, WhatHasAgedHoldsOthersOffTheNodesThatCouldHoldIt) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_tenants(4, config);
  Resources gpu = kOne, large = kOne;
  gpu.gpus = 1;
  gpu.gpu_millis = 1000;
  large.cpu_millicores = 16'000;
  make_wait(tenancy, 1, 1, gpu);
  make_wait(tenancy, 2, 2, large);
  make_wait(tenancy, 3, 3, large, {4});
  fruitless_round(tenancy, at(100));
  EXPECT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{1}, {2}, {3}}));
  const Wish of_gpu{gpu, {}}, of_large{large, {}}, in_pool{large, {4}};
  EXPECT_EQ(spared(tenancy, 4, 4, kOne, {}, at(101)),
            (std::vector<Wish>{of_gpu, of_large, in_pool}));
  tell(tenancy, at(101), SandboxCancelled{{4}});
  EXPECT_EQ(spared(tenancy, 5, 4, kOne, {4}, at(102)),
            (std::vector<Wish>{of_gpu, of_large, in_pool}));
  tell(tenancy, at(102), SandboxCancelled{{5}});
  EXPECT_EQ(spared(tenancy, 6, 4, kOne, {5}, at(103)), (std::vector<Wish>{of_gpu, of_large}));
  tell(tenancy, at(103), SandboxCancelled{{6}});
  std::map<std::uint64_t, std::size_t> gives_way;
  tell(tenancy, at(104), CapacityFreed{});
  while (tenancy.round_open()) {
    for (const TryPlace& one : said<TryPlace>(tell(tenancy, at(104), NextAttempt{}))) {
      gives_way[one.sandbox.value] = one.spare.size();
      tell(tenancy, at(104), NotPlaced{one.sandbox});
    }
  }
  EXPECT_EQ(gives_way, (std::map<std::uint64_t, std::size_t>{{1, 0}, {2, 1}, {3, 2}}));
}

TEST(Tenancy, WhatNeedsNoLessThanTheAgedIsSparedWithIt) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_tenants(3, config);
  Resources large = kOne;
  large.cpu_millicores = 16'000;
  make_wait(tenancy, 1, 1);
  make_wait(tenancy, 2, 2, large);
  fruitless_round(tenancy, at(100));
  EXPECT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{1}}));
  tell(tenancy, at(101), SandboxCancelled{{1}});
  fruitless_round(tenancy, at(102));
  EXPECT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{2}}));
}

// One who is easier to pass does not stand for one who is not: who passes the first would pass both.
TEST(Tenancy, WhatHasAgedStandsOnlyForWhoIsPassedByNoFewer) {
  Config config;
  config.bypass_max = seconds(100);
  config.separate_tenants = false;
  Tenancy tenancy = with_tenants(3, config);
  NodeShape shape = kShape;
  shape.cpu_millicores = 100'000;
  tell(tenancy, at(0), NodeJoined{{1}, shape, kSharedOwner});
  place(tenancy, 1, 1);  // the rich one
  Resources large = kOne;
  large.cpu_millicores = 8000;
  make_wait(tenancy, 2, 1);
  make_wait(tenancy, 3, 2, large);
  fruitless_round(tenancy, at(100));
  EXPECT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{3}, {2}})) << "the poor one first";
  for (std::uint64_t id = 4; id < 20; ++id) {  // no more than eight, and not of the richest
    Resources asks = kOne;
    asks.memory_bytes += static_cast<std::int64_t>(100 - id);
    asks.cpu_millicores += static_cast<std::int64_t>(id);
    tell(tenancy, at(100), TenantAdded{{id}, {}, 1, false, {}});
    make_wait(tenancy, id, id, asks);
  }
  fruitless_round(tenancy, at(300));
  EXPECT_EQ(tenancy.state().aged.size(), 8u);
  EXPECT_EQ(std::count(tenancy.state().aged.begin(), tenancy.state().aged.end(), SandboxId{2}), 0);
}

TEST(Tenancy, OfThoseThatAreAsPoorTheFirstThatAgedStay) {
  Config config;
  config.bypass_max = seconds(100);
  config.tries_per_event = 100;
  Tenancy tenancy = with_tenants(9, config);
  std::vector<SandboxId> first;
  for (std::uint64_t id = 1; id <= 9; ++id) {  // none needs as much as another of both
    Resources asks = kOne;
    asks.cpu_millicores += static_cast<std::int64_t>(id);
    asks.memory_bytes -= static_cast<std::int64_t>(id);
    make_wait(tenancy, id, id, asks);
    if (id < 9) first.push_back({id});
  }
  EXPECT_EQ(fruitless_round(tenancy, at(100)).size(), 9u);
  EXPECT_EQ(tenancy.state().aged, first);
}

// One that stands behind another of its tenant, or may get no more, is in nobody's way.
TEST(Tenancy, WhatHasAgedCountsWhileItIsTheNextOfItsTenant) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_tenants(2, config);
  make_wait(tenancy, 1, 1);
  fruitless_round(tenancy, at(100));
  EXPECT_EQ(spared(tenancy, 2, 2, kOne, {}, at(101)).size(), 1u);
  tell(tenancy, at(101), SandboxCancelled{{2}});
  Resources gpu = kOne;
  gpu.gpus = 1;
  gpu.gpu_millis = 1000;
  SandboxAsked ahead{{3}, {1}, gpu, {}};
  ahead.priority = 5;
  tell(tenancy, at(102), ahead);
  tell(tenancy, at(102), NotPlaced{{3}});
  EXPECT_TRUE(spared(tenancy, 4, 2, kOne, {}, at(103)).empty());
}

// However many wait within their guarantees, what they wait for is told apart by what it needs.
TEST(Tenancy, ManyWhoReclaimTheSameHoldNobodyOffTheRest) {
  Tenancy tenancy = with_tenants(2);
  place(tenancy, 1, 1);
  Resources gpu = kOne;
  gpu.gpus = 1;
  gpu.gpu_millis = 1000;
  for (std::uint64_t id = 3; id < 100; ++id) {
    tell(tenancy, at(0), TenantAdded{{id}, {}, 1, false, {}, {}, {.gpu_millis = 1000}});
    make_wait(tenancy, id, id, gpu);
  }
  EXPECT_EQ(tenancy.state().reclaimers.size(), 97u);
  EXPECT_EQ(spared(tenancy, 2, 2, kOne, {}, at(1)), (std::vector<Wish>{{gpu, {}}}));
}

// A node that could hold the larger could hold the smaller.
TEST(Tenancy, WhatIsSparedForTheSmallerIsSparedForTheLarger) {
  Tenancy tenancy = with_tenants(1);
  for (const std::uint64_t id : {2, 3}) {
    tell(tenancy, at(0), TenantAdded{{id}, {}, 1, false, {}, {}, {.cpu_millicores = 8000}});
  }
  make_wait(tenancy, 2, 2, {.cpu_millicores = 8000});
  make_wait(tenancy, 3, 3, {.cpu_millicores = 4000});
  EXPECT_EQ(spared(tenancy, 1, 1, kOne, {}, at(1)),
            (std::vector<Wish>{{{.cpu_millicores = 4000}, {}}}));
}

// Guarantees hold between asks for different pools as long as both could use one.
TEST(Tenancy, WhatIsReclaimedIsReclaimedFromWhoCouldUseTheSameNodes) {
  Tenancy tenancy = with_tenants(2);
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}, {}, {.cpu_millicores = 8000}});
  place(tenancy, 1, 1);
  Resources eight = kOne;
  eight.cpu_millicores = 8000;
  make_wait(tenancy, 2, 3, eight);
  EXPECT_EQ(spared(tenancy, 3, 2, kOne, {7}, at(1)), (std::vector<Wish>{{eight, {}}}));
  tell(tenancy, at(1), SandboxCancelled{{2}});
  EXPECT_TRUE(tenancy.state().reclaimers.empty());
}

TEST(Tenancy, WhatFailsOnAllNodesFailsWhereSomeAreSpared) {
  Config config;
  config.bypass_max = seconds(100);
  config.separate_tenants = false;
  Tenancy tenancy = with_tenants(3, config);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, kSharedOwner});
  place(tenancy, 1, 2);
  place(tenancy, 2, 1);
  make_wait(tenancy, 3, 1);
  fruitless_round(tenancy, at(100));
  ASSERT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{3}}));
  make_wait(tenancy, 4, 2);
  make_wait(tenancy, 5, 3);
  tell(tenancy, at(101), SandboxEnded{{2}});  // 1 is the poorest, then 3 beside it
  EXPECT_EQ(fruitless_round(tenancy, at(101)), (Tried{3}));
}

// Eight fail, and nothing more is freed: the ninth has its turn all the same, and nobody a second.
TEST(Tenancy, ARoundThatStoppedAtItsFailuresGoesOnUntilAllHaveBeenTried) {
  Config config;
  config.tries_per_event = 8;
  Tenancy tenancy = with_tenants(20, config);
  for (std::uint64_t id = 1; id <= 20; ++id) make_wait(tenancy, id, id);
  Tried all = fruitless_round(tenancy, at(1));
  EXPECT_EQ(all.size(), 8u);
  int rounds = 1;
  Time now = at(1);
  while (tenancy.state().round_at != kNever) {
    ASSERT_LT(++rounds, 10);
    EXPECT_EQ(tenancy.state().round_at, now + config.round_pause);
    now = tenancy.state().wake;
    const auto due = said<RoundDue>(tell(tenancy, now, Woken{}));
    ASSERT_EQ(due, (std::vector<RoundDue>{{true}}));
    const Tried more = fruitless_round(tenancy, now, true);
    all.insert(all.end(), more.begin(), more.end());
  }
  EXPECT_EQ(rounds, 3);
  EXPECT_EQ(std::set(all.begin(), all.end()).size(), 20u);
  EXPECT_EQ(all.size(), 20u);
  EXPECT_EQ(fruitless_round(tenancy, at(9)).size(), 8u) << "once something is freed all begins anew";
}

// However often something ends meanwhile: else a busy fleet would put it off for ever.
TEST(Tenancy, ARoundThatIsToGoOnIsNotPutOffByAnother) {
  Config config;
  config.tries_per_event = 1;
  Tenancy tenancy = with_tenants(3, config);
  for (std::uint64_t id = 1; id <= 3; ++id) make_wait(tenancy, id, id);
  EXPECT_EQ(fruitless_round(tenancy, at(1)), Tried{1});
  const Time goes_on = at(1) + config.round_pause;
  EXPECT_EQ(fruitless_round(tenancy, at(1) + Duration{1}), Tried{2});
  EXPECT_EQ(tenancy.state().round_at, goes_on);
  EXPECT_EQ(said<RoundDue>(tell(tenancy, goes_on, Woken{})), (std::vector<RoundDue>{{true}}));
}

// Woken late, when a round is to go on and a warm node is to be scrubbed: what is tried next must
// not find the node as it was.
TEST(Tenancy, ANodeIsTakenAwayBeforeARoundGoesOn) {
  Tenancy tenancy = with_tenants(20);
  tell(tenancy, at(0), NodeJoined{{1}, kShape, {}, false, {4}});
  place(tenancy, 1, 1, {1});
  tell(tenancy, at(0), SandboxEnded{{1}});
  Resources large = kOne;
  large.cpu_millicores = kShape.cpu_millicores + 1;
  for (std::uint64_t id = 1; id <= 20; ++id) make_wait(tenancy, 100 + id, id, large, {});
  fruitless_round(tenancy, at(1));
  ASSERT_NE(tenancy.state().round_at, kNever);
  ASSERT_EQ(tenancy.state().lingering.size(), 1u);
  const auto effects = tell(tenancy, at(3'600), Woken{});
  const auto is_round = [](const Effect& one) { return std::holds_alternative<RoundDue>(one); };
  const auto tried = std::find_if(effects.begin(), effects.end(), is_round);
  const std::vector<Effect> before(effects.begin(), tried);
  ASSERT_NE(tried, effects.end());
  EXPECT_EQ(said<ScrubNode>(before).size(), 1u);
}

// Somebody else's warm node is scrubbed only for one that it could hold.
TEST(Tenancy, WhatWaitsHasNoNodeScrubbedThatIsOfNoUseToIt) {
  for (const bool use : {false, true}) {
    for (const int why : {0, 1, 2}) {
      Tenancy tenancy = with_tenants(2);
      tell(tenancy, at(0), NodeJoined{{1}, kShape, {}, why == 2 && !use, {4}});
      place(tenancy, 1, 1, {1});
      tell(tenancy, at(0), SandboxEnded{{1}});
      ASSERT_EQ(tenancy.state().lingering.size(), 1u);
      Resources asks = kOne;
      if (why == 0) asks.cpu_millicores = kShape.cpu_millicores + (use ? 0 : 1);
      const PoolId pool{why != 1 ? 0ULL : use ? 4ULL : 5ULL};
      make_wait(tenancy, 2, 2, asks, pool);
      EXPECT_EQ(tenancy.state().lingering.size(), use ? 0u : 1u) << why;
    }
  }
}

// However often it is tried while it is on its way.
TEST(Tenancy, OneNodeIsScrubbedForOneThatWaits) {
  Tenancy tenancy = with_tenants(3);
  for (std::uint64_t n = 1; n <= 4; ++n) {
    tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
    place(tenancy, n, 1, {n});
    tell(tenancy, at(static_cast<std::int64_t>(n)), SandboxEnded{{n}});
  }
  const auto left = [&] { return tenancy.state().lingering.size(); };
  ask(tenancy, 5, 2, kOne, {}, at(5));
  tell(tenancy, at(5), NotPlaced{{5}});
  EXPECT_EQ(left(), 3u);
  fruitless_round(tenancy, at(6));
  EXPECT_EQ(left(), 3u);
  ask(tenancy, 6, 3, kOne, {}, at(6));
  tell(tenancy, at(6), NotPlaced{{6}});
  EXPECT_EQ(left(), 2u) << "another waits too";
  tell(tenancy, at(7), NodeCordoned{{1}, true});
  fruitless_round(tenancy, at(7));
  EXPECT_EQ(left(), 1u) << "that one takes nothing when it is clean";
  tell(tenancy, at(8), NodeGone{{3}});
  tell(tenancy, at(8), NodeScrubbed{{2}});
  fruitless_round(tenancy, at(8));
  EXPECT_EQ(left(), 0u) << "or somebody else had it";
}

TEST(Tenancy, AsManyNodesAreScrubbedForAGangAsItHasMembers) {
  Tenancy tenancy = with_tenants(2);
  for (std::uint64_t n = 1; n <= 4; ++n) {
    tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
    place(tenancy, n, 1, {n});
    tell(tenancy, at(1), SandboxEnded{{n}});
  }
  for (const std::uint64_t id : {5, 6}) {
    SandboxAsked one{{id}, {2}, kOne, {}};
    one.gang = {1, 2};
    tell(tenancy, at(2), one);
  }
  tell(tenancy, at(2), NotPlaced{{6}});
  for (int i = 0; i < 3; ++i) fruitless_round(tenancy, at(3));
  EXPECT_EQ(tenancy.state().lingering.size(), 2u);
}

// What has been scrubbed for it and is free waits with it for the rest.
TEST(Tenancy, NoMoreNodesAreScrubbedForAGangWhenSomeHaveCome) {
  Tenancy tenancy = with_tenants(3);
  for (std::uint64_t n = 1; n <= 5; ++n) {
    tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
    place(tenancy, n, 1, {n});
    tell(tenancy, at(static_cast<std::int64_t>(n)), SandboxEnded{{n}});
  }
  for (const std::uint64_t id : {6, 7}) {
    SandboxAsked one{{id}, {2}, kOne, {}};
    one.gang = {1, 2};
    tell(tenancy, at(6), one);
  }
  tell(tenancy, at(6), NotPlaced{{7}});
  fruitless_round(tenancy, at(7));
  ASSERT_EQ(tenancy.state().lingering.size(), 3u);
  tell(tenancy, at(8), NodeScrubbed{{1}});
  fruitless_round(tenancy, at(8));
  EXPECT_EQ(tenancy.state().lingering.size(), 3u) << "one has come, the other is on its way";
  EXPECT_EQ(ask(tenancy, 8, 3, kOne, {}, at(9)), 1u);
  tell(tenancy, at(9), SandboxPlaced{{8}, {1}, true});
  fruitless_round(tenancy, at(9));
  EXPECT_EQ(tenancy.state().lingering.size(), 2u) << "somebody else had it";
  tell(tenancy, at(10), NodeScrubbed{{2}});
  tell(tenancy, at(10), NodeScrubbed{{3}});
  fruitless_round(tenancy, at(10));
  EXPECT_EQ(tenancy.state().lingering.size(), 1u) << "both have come and are not enough";
  fruitless_round(tenancy, at(11));
  EXPECT_EQ(tenancy.state().lingering.size(), 1u);
}

TEST(Tenancy, EachRefusalHasAName) {
  std::set<std::string_view> names;
  for (int rule = 0; rule <= static_cast<int>(Rule::pending_limit_of_tenant); ++rule) {
    names.insert(rule_name(static_cast<Rule>(rule)));
  }
  EXPECT_EQ(names.size(), 7u);
  EXPECT_EQ(rule_name(Rule::quota_gpu), std::string_view("quota_gpu"));
}

// ---- priorities

SandboxAsked important(std::uint64_t sandbox, std::uint64_t tenant, Priority priority) {
  SandboxAsked asked{{sandbox}, {tenant}, {.cpu_millicores = 1000}, {}};
  asked.priority = priority;
  return asked;
}
// The sandboxes of the attempts of one round in which nothing finds room.
std::vector<std::uint64_t> round_of(Tenancy& tenancy, bool room) {
  std::vector<std::uint64_t> order;
  tell(tenancy, at(1), CapacityFreed{});
  while (tenancy.round_open()) {
    for (const auto& attempt : said<TryPlace>(tell(tenancy, at(1), NextAttempt{}))) {
      order.push_back(attempt.sandbox.value);
      if (room) {
        tell(tenancy, at(1), SandboxPlaced{attempt.sandbox, {1}, false});
      } else {
        tell(tenancy, at(1), NotPlaced{attempt.sandbox});
      }
    }
  }
  return order;
}

TEST(Tenancy, ServesATenantsOwnByPriorityThenByTheirComing) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  for (const auto& [id, priority] :
       std::vector<std::pair<std::uint64_t, Priority>>{{1, 0}, {2, 5}, {3, 0}, {4, 5}, {5, 7}}) {
    for (const auto& attempt : said<TryPlace>(tell(tenancy, at(0), important(id, 1, priority))))
      tell(tenancy, at(0), NotPlaced{attempt.sandbox});
  }
  EXPECT_EQ(round_of(tenancy, true), (std::vector<std::uint64_t>{5, 2, 4, 1, 3}));
}

TEST(Tenancy, AnAskIsTriedAtOnceWhereItIsMoreImportantThanWhatWaits) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  tell(tenancy, at(0), important(1, 1, 3));
  tell(tenancy, at(0), NotPlaced{{1}});
  EXPECT_EQ(tried(tell(tenancy, at(0), important(2, 1, 3))), 0u);
  EXPECT_EQ(tried(tell(tenancy, at(0), important(3, 1, 4))), 1u);
}

TEST(Tenancy, APriorityDoesNotMoveATenantBeforeAnother) {
  for (const Order order : {Order::fair, Order::first_come}) {
    const auto served = [&](Priority priority) {
      Tenancy tenancy{Config{.order = order}};
      tell(tenancy, at(0), NodeJoined{{9}, {.cpu_millicores = 8000}, {}});
      for (std::uint64_t tenant : {1, 2}) {
        tell(tenancy, at(0), TenantAdded{{tenant}, {}, 1, false, {}});
      }
      for (std::uint64_t id = 1; id <= 6; ++id) {
        const std::uint64_t tenant = 1 + id % 2;
        const auto asked = important(id, tenant, tenant == 2 ? priority : 0);
        for (const auto& attempt : said<TryPlace>(tell(tenancy, at(0), asked)))
          tell(tenancy, at(0), NotPlaced{attempt.sandbox});
      }
      return round_of(tenancy, true);
    };
    EXPECT_EQ(served(0), served(kPriorityMax));
  }
}

TEST(Tenancy, WhatFailedSaysNothingOfTheMoreImportantWhichMayFindVictims) {
  Tenancy tenancy{Config{}};
  for (std::uint64_t tenant : {1, 2}) {
    tell(tenancy, at(0), TenantAdded{{tenant}, {}, 1, true, {}});
  }
  for (const SandboxAsked& asked : {important(1, 1, 0), important(2, 2, 3)}) {
    tell(tenancy, at(0), asked);
    tell(tenancy, at(0), NotPlaced{asked.sandbox});
  }
  EXPECT_EQ(round_of(tenancy, false), (std::vector<std::uint64_t>{1, 2}));
}

TEST(Tenancy, TheAgedDoNotHoldUpTheMoreImportantOfTheirOwnTenant) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  tell(tenancy, at(0), important(1, 1, 0));
  tell(tenancy, at(0), NotPlaced{{1}});
  tell(tenancy, at(400), CapacityFreed{});
  tell(tenancy, at(400), NextAttempt{});
  tell(tenancy, at(400), NotPlaced{{1}});  // it has waited longer than bypass_max
  ASSERT_FALSE(tenancy.state().aged.empty());
  EXPECT_EQ(tried(tell(tenancy, at(401), important(2, 1, 0))), 0u);
  const auto attempts = said<TryPlace>(tell(tenancy, at(401), important(3, 1, 1)));
  ASSERT_EQ(attempts.size(), 1u);
  EXPECT_TRUE(attempts[0].spare.empty());
}

// Nothing ends, so nothing else would have the others tried.
TEST(Tenancy, WhoWasHeldOffIsTriedOnceNothingIsInTheWay) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {}, {.cpu_millicores = 8000}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}});
  make_wait(tenancy, 1, 1, {.cpu_millicores = 8000});
  make_wait(tenancy, 2, 2);
  SandboxAsked beyond = important(3, 1, 9);
  beyond.resources.cpu_millicores = 9000;
  EXPECT_TRUE(said<RoundDue>(tell(tenancy, at(0), beyond)).empty());
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(0), NotPlaced{{3}})), std::vector<RoundDue>{{}})
      << "its head reclaims nothing";
  tell(tenancy, at(1), SandboxCancelled{{3}});
  EXPECT_EQ(fruitless_round(tenancy, at(400)), (Tried{1, 2}));
  ASSERT_EQ(tenancy.state().aged.size(), 2u);
  tell(tenancy, at(400), important(4, 2, 9));
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(400), NotPlaced{{4}})), std::vector<RoundDue>{{}})
      << "what has aged stands behind it";
  EXPECT_TRUE(tell(tenancy, at(400), important(5, 2, 9)).empty()) << "nothing changes";
}

TEST(Tenancy, WhatWaitsIsTriedWhenATenantIsToldAnew) {
  Tenancy tenancy = with_tenants(2);
  EXPECT_TRUE(tell(tenancy, at(0), TenantAdded{{1}, {}, 2, false, {}}).empty());
  make_wait(tenancy, 1, 2);
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(0), TenantAdded{{1}, {}, 3, false, {}})),
            std::vector<RoundDue>{{}});
  EXPECT_TRUE(tell(tenancy, at(0), TenantAdded{{3}, {}, 3, false, {}}).empty()) << "new";
}

TEST(Tenancy, KnowsWhetherATenantHasAnythingLessImportantPlaced) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  EXPECT_FALSE(tenancy.has_placed_below({1}, 9));
  for (const auto& [id, priority] :
       std::vector<std::pair<std::uint64_t, Priority>>{{1, 4}, {2, 2}, {3, 4}, {4, 2}}) {
    tell(tenancy, at(0), important(id, 1, priority));
    tell(tenancy, at(0), SandboxPlaced{{id}, {1}, false});
  }
  EXPECT_FALSE(tenancy.has_placed_below({1}, 0));
  EXPECT_FALSE(tenancy.has_placed_below({1}, 2));
  EXPECT_TRUE(tenancy.has_placed_below({1}, 3));
  EXPECT_FALSE(tenancy.has_placed_below({2}, 3));
  tell(tenancy, at(1), SandboxEnded{{2}});
  EXPECT_TRUE(tenancy.has_placed_below({1}, 3));
  tell(tenancy, at(1), SandboxEnded{{4}});
  EXPECT_FALSE(tenancy.has_placed_below({1}, 4));
  EXPECT_TRUE(tenancy.has_placed_below({1}, 5));
}

TEST(Tenancy, OneThatIsNominatedIsNotTriedAgainUntilItsNominationIsLost) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  tell(tenancy, at(0), important(1, 1, 5));
  tell(tenancy, at(0), SandboxNominated{{1}});
  EXPECT_EQ(tenancy.pending_count(), 0u);
  EXPECT_EQ(tried(tell(tenancy, at(0), important(2, 1, 0))), 1u) << "it holds up nobody";
  tell(tenancy, at(0), SandboxNominated{{7}});  // unknown
  tell(tenancy, at(0), NominationLost{{2}});    // tried, not nominated
  tell(tenancy, at(0), NotPlaced{{2}});
  tell(tenancy, at(1), NominationLost{{1}});
  EXPECT_EQ(tenancy.pending_count(), 2u);
  EXPECT_EQ(round_of(tenancy, true), (std::vector<std::uint64_t>{1, 2}));
}

// ---- gangs

SandboxAsked in_gang(std::uint64_t sandbox, std::uint32_t size, std::uint64_t tenant = 1) {
  SandboxAsked asked = important(sandbox, tenant, 0);
  asked.gang = {5, size};
  return asked;
}

TEST(Tenancy, AGangIsTriedOnceAllHaveAskedAndInTheNameOfTheLast) {
  Tenancy tenancy{Config{}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  EXPECT_EQ(tried(tell(tenancy, at(0), in_gang(1, 3))), 0u);
  EXPECT_EQ(tried(tell(tenancy, at(0), in_gang(2, 3))), 0u);
  EXPECT_EQ(tenancy.pending_count(), 0u);
  EXPECT_EQ(tried(tell(tenancy, at(0), important(7, 1, 0))), 1u) << "it holds up nobody";
  tell(tenancy, at(0), SandboxPlaced{{7}, {1}, false});
  const auto attempts = said<TryPlace>(tell(tenancy, at(0), in_gang(3, 3)));
  ASSERT_EQ(attempts.size(), 1u);
  EXPECT_EQ(attempts[0].sandbox, SandboxId{3});
  ASSERT_NE(tenancy.gathering({1}, {5, 3}), nullptr);
  EXPECT_EQ(tenancy.gathering({1}, {5, 3})->members.size(), 3u);
  tell(tenancy, at(0), NotPlaced{{3}});
  EXPECT_EQ(tenancy.pending_count(), 1u);
  EXPECT_EQ(round_of(tenancy, false), (std::vector<std::uint64_t>{3}));
  tell(tenancy, at(1), CapacityFreed{});
  tell(tenancy, at(1), NextAttempt{});
  for (std::uint64_t id : {1, 2, 3}) tell(tenancy, at(1), SandboxPlaced{{id}, {1}, false});
  EXPECT_EQ(tenancy.gathering({1}, {5, 3}), nullptr);
  EXPECT_EQ(tenancy.pending_count(), 0u);
  EXPECT_EQ(tenancy.state().tenants.at({1}).placed.sandboxes, 4);
}

TEST(Tenancy, AGangThatLosesAMemberWaitsForAnother) {
  for (std::uint64_t leaves : {1, 2}) {
    Tenancy tenancy{Config{}};
    tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
    tell(tenancy, at(0), in_gang(1, 2));
    tell(tenancy, at(0), in_gang(2, 2));
    tell(tenancy, at(0), NotPlaced{{2}});
    tell(tenancy, at(0), SandboxCancelled{{leaves}});
    EXPECT_EQ(tenancy.pending_count(), 0u);
    EXPECT_TRUE(round_of(tenancy, true).empty());
    const auto attempts = said<TryPlace>(tell(tenancy, at(1), in_gang(3, 2)));
    ASSERT_EQ(attempts.size(), 1u);
    EXPECT_EQ(attempts[0].sandbox, SandboxId{3});
  }
}

TEST(Tenancy, AGangBorrowsAsAWhole) {
  Tenancy tenancy{Config{.order = Order::quotas}};
  TenantAdded added{{1}, {}, 1, false, {}};
  added.guarantee.cpu_millicores = 2000;
  tell(tenancy, at(0), added);
  tell(tenancy, at(0), important(9, 1, 0));
  tell(tenancy, at(0), SandboxPlaced{{9}, {1}, false});
  tell(tenancy, at(0), in_gang(1, 2));
  EXPECT_EQ(tried(tell(tenancy, at(0), in_gang(2, 2))), 0u) << "two beside one are three of two";
  tell(tenancy, at(1), SandboxEnded{{9}});
  EXPECT_EQ(round_of(tenancy, false), (std::vector<std::uint64_t>{2}));
  SandboxAsked third = in_gang(3, 3);
  third.gang.id = 6;
  tell(tenancy, at(1), third);
  third.sandbox = {4};
  tell(tenancy, at(1), third);
  third.sandbox = {5};
  const auto refused = said<RefuseSandbox>(tell(tenancy, at(1), third));
  ASSERT_EQ(refused.size(), 1u) << "three are more than the whole guarantee";
  EXPECT_EQ(refused[0].rule, Rule::quota_cpu);
  EXPECT_EQ(tenancy.in_use({1}).sandboxes, 4) << "what is refused is not held";
}

TEST(Tenancy, WhatFailsForAGangMayDoForOne) {
  Tenancy tenancy{Config{}};
  for (std::uint64_t tenant : {1, 2}) tell(tenancy, at(0), TenantAdded{{tenant}, {}, 1, true, {}});
  tell(tenancy, at(0), in_gang(1, 2));
  tell(tenancy, at(0), in_gang(2, 2));
  tell(tenancy, at(0), NotPlaced{{2}});
  tell(tenancy, at(0), important(3, 2, 0));
  tell(tenancy, at(0), NotPlaced{{3}});
  EXPECT_EQ(round_of(tenancy, false), (std::vector<std::uint64_t>{2, 3}));
}

// One that has waited too long is passed by nobody who came later, where the order is of coming; and
// it stays so while others of its pool come and go.
TEST(Tenancy, WhatHasAgedIsNotPassedInTheOrderOfComing) {
  Config config;
  config.order = Order::first_come;
  config.bypass_max = seconds(10);
  Tenancy tenancy = with_tenants(3, config);
  place(tenancy, 1, 3);
  make_wait(tenancy, 2, 1);
  make_wait(tenancy, 3, 2);
  EXPECT_EQ(fruitless_round(tenancy, at(20)), (Tried{2, 3}));
  EXPECT_EQ(tenancy.state().aged, (std::vector<SandboxId>{{2}})) << "3 needs no less";
  tell(tenancy, at(20), SandboxEnded{{1}});
  tell(tenancy, at(20), SandboxCancelled{{3}});
  ASSERT_EQ(tenancy.state().aged.size(), 1u) << "others that end change nothing";
  EXPECT_EQ(spared(tenancy, 4, 3, kOne, {}, at(21)), (std::vector<Wish>{{kOne, {}}}))
      << "it came later";
  EXPECT_EQ(ask(tenancy, 5, 3, kOne, {7}, at(21)), 0u) << "behind its own";
  EXPECT_EQ(ask(tenancy, 6, 2, kOne, {7}, at(21)), 1u) << "in another pool";
  tell(tenancy, at(21), SandboxPlaced{{6}, {}, false});
  tell(tenancy, at(21), SandboxCancelled{{2}});
  EXPECT_TRUE(tenancy.state().aged.empty());
}

// A failure speaks for a more important ask only where that finds no victims either.
TEST(Tenancy, AFailureSpeaksForWhatFindsNoMoreVictims) {
  struct Case {
    std::uint64_t tenant;
    Priority priority;
    bool tried;
  };
  for (const Case& c : {Case{2, 0, false}, Case{2, 1, true}, Case{2, 3, true}}) {
    Config config;
    config.separate_tenants = false;
    Tenancy tenancy = with_tenants(3, config);
    const auto waits = [&](std::uint64_t id, std::uint64_t tenant, Priority priority) {
      for (const auto& one :
           said<TryPlace>(tell(tenancy, at(0), SandboxAsked{{id}, {tenant}, kOne, {}, priority}))) {
        tell(tenancy, at(0), NotPlaced{one.sandbox});
      }
    };
    waits(1, 1, 2);
    waits(2, c.tenant, c.priority);
    const Tried tried = fruitless_round(tenancy);
    ASSERT_FALSE(tried.empty());
    EXPECT_EQ(tried.size(), c.tried ? 2u : 1u) << int{c.priority};
  }
}

// One set aside by the round before asks while the next is open: it fails again, and when its tenant is
// brought back in the same round that says all of what is no more important.
TEST(Tenancy, AFailureSpeaksForItsTenantsOwnThatIsNoMoreImportant) {
  struct Case {
    std::uint64_t tenant;
    Priority failed, head;
    bool tried;
  };
  for (const Case& c : {Case{1, 3, 3, false}, Case{1, 3, 2, false}, Case{1, 3, 4, true}, Case{2, 3, 2, true}}) {
    Config config;
    config.separate_tenants = false;
    config.tries_per_event = 2;
    Tenancy tenancy = with_tenants(3, config);
    const auto asks = [&](std::uint64_t id, std::uint64_t tenant, Priority priority) {
      SandboxAsked asked{{id}, {tenant}, kOne, {}};
      asked.priority = priority;
      return said<TryPlace>(tell(tenancy, at(0), asked));
    };
    const auto fails = [&](std::uint64_t id) { tell(tenancy, at(0), NotPlaced{{id}}); };
    ASSERT_EQ(asks(1, 1, 1).size(), 1u);
    fails(1);
    tell(tenancy, at(0), CapacityFreed{});
    tell(tenancy, at(0), NextAttempt{});
    fails(1);  // tenant 1 is set aside
    ASSERT_EQ(asks(2, c.tenant, c.failed).size(), 1u);
    fails(2);
    tell(tenancy, at(0), NextAttempt{});  // two have failed: the round is over
    ASSERT_FALSE(tenancy.round_open());
    tell(tenancy, at(0), SandboxCancelled{{2}});
    tell(tenancy, at(0), CapacityFreed{});
    // In this round the failure is of 3 or of 2 again, and the head of tenant 1 is `head`.
    ASSERT_EQ(asks(3, c.tenant, c.failed).size(), 1u);
    fails(3);
    EXPECT_EQ(tenancy.state().aside.size(), c.tenant) << "each tenant is aside once";
    tell(tenancy, at(0), SandboxCancelled{{3}});
    if (c.head > 1) {
      for (const auto& one : asks(4, 1, c.head)) tell(tenancy, at(0), SandboxNominated{one.sandbox});
      tell(tenancy, at(0), NominationLost{{4}});
    }
    const auto tried = said<TryPlace>(tell(tenancy, at(0), NextAttempt{}));
    EXPECT_EQ(!tried.empty() && tried[0].sandbox == SandboxId{4}, c.tried)
        << c.tenant << " " << int{c.failed} << " " << int{c.head};
  }
}

// In the order `quotas` a guarantee is a bound; who has none waits for its turn only.
TEST(Tenancy, WithoutAGuaranteeTheOrderOfQuotasHoldsNobodyBack) {
  Tenancy tenancy{Config{.order = Order::quotas}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  TenantAdded bounded{{2}, {}, 1, false, {}};
  bounded.guarantee.cpu_millicores = 1500;
  tell(tenancy, at(0), bounded);
  place(tenancy, 1, 1);
  place(tenancy, 2, 1);
  make_wait(tenancy, 3, 1);
  place(tenancy, 4, 2);
  EXPECT_EQ(ask(tenancy, 5, 2), 0u) << "2000 of 1500";
  EXPECT_EQ(fruitless_round(tenancy), Tried{3});
  tell(tenancy, at(1), SandboxEnded{{4}});
  EXPECT_EQ(fruitless_round(tenancy), (Tried{3, 5}));
}

// It was admitted under a larger one, waiting or to start again: else it would wait for ever, and
// what is behind it too.
TEST(Tenancy, WithQuotasWhatIsMoreThanALoweredGuaranteeGoesAlone) {
  for (const bool again : {false, true}) {
    Tenancy tenancy{Config{.order = Order::quotas}};
    TenantAdded bounded{{1}, {}, 1, false, {}};
    bounded.guarantee.cpu_millicores = 4000;
    tell(tenancy, at(0), bounded);
    const Resources large{.cpu_millicores = 4000};
    if (!again) make_wait(tenancy, 2, 1, large);
    bounded.guarantee.cpu_millicores = 2000;
    tell(tenancy, at(0), bounded);
    if (again) {
      place(tenancy, 1, 1);
      SandboxAsked asked{{2}, {1}, large, {}};
      asked.again = true;
      EXPECT_EQ(tried(tell(tenancy, at(0), asked)), 0u) << "beside another";
      EXPECT_EQ(fruitless_round(tenancy), Tried{});
      tell(tenancy, at(1), SandboxEnded{{1}});
    }
    EXPECT_EQ(fruitless_round(tenancy), Tried{2});
    EXPECT_EQ(ask(tenancy, 3, 1), 0u) << "behind its own";
    tell(tenancy, at(2), SandboxPlaced{{2}, {}, false});
    EXPECT_EQ(fruitless_round(tenancy), Tried{}) << "nothing beside it";
    tell(tenancy, at(3), SandboxEnded{{2}});
    EXPECT_EQ(fruitless_round(tenancy), Tried{3});
    const auto refused = said<RefuseSandbox>(
        tell(tenancy, at(3), SandboxAsked{{4}, {1}, large, {}}));
    EXPECT_EQ(refused.size(), 1u) << "nothing new does";
  }
}

TEST(Tenancy, AGuaranteeSaysNothingOfWhatAsksForNoneOfIt) {
  Resources gpu = kOne;
  gpu.gpus = 1;
  gpu.gpu_millis = 1000;
  Tenancy tenancy = with_tenants(2);
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {}, {.gpu_millis = 1000}});
  make_wait(tenancy, 1, 1);
  EXPECT_TRUE(tenancy.state().reclaimers.empty()) << "cores alone are lent to it";
  tell(tenancy, at(0), SandboxCancelled{{1}});
  make_wait(tenancy, 2, 1, gpu);
  EXPECT_EQ(tenancy.state().reclaimers, std::set<TenantId>{{1}});
  tell(tenancy, at(0), SandboxCancelled{{2}});
  // Two GPUs of one are in use, and cores are guaranteed too.
  for (const std::uint64_t id : {3, 4}) {
    ASSERT_EQ(ask(tenancy, id, 1, gpu), 1u);
    tell(tenancy, at(0), SandboxPlaced{{id}, {}, false});
  }
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {},
                                   {.cpu_millicores = 4000, .gpu_millis = 1000}});
  make_wait(tenancy, 5, 1, gpu);
  EXPECT_TRUE(tenancy.state().reclaimers.empty());
  tell(tenancy, at(0), SandboxCancelled{{5}});
  make_wait(tenancy, 6, 1);
  EXPECT_EQ(tenancy.state().reclaimers, std::set<TenantId>{{1}}) << "its cores are left";
}

TEST(Tenancy, WithQuotasAGuaranteeOfGpusDoesNotBoundCores) {
  Tenancy tenancy{Config{.order = Order::quotas}};
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {}, {.gpu_millis = 1000}});
  place(tenancy, 1, 1);
  place(tenancy, 2, 1);
}

// Room may come for it before those that make way have ended.
TEST(Tenancy, WithQuotasWhatIsNominatedCountsAsPlaced) {
  Tenancy tenancy{Config{.order = Order::quotas}};
  TenantAdded bounded{{1}, {}, 1, false, {}};
  bounded.guarantee.cpu_millicores = 5000;
  tell(tenancy, at(0), bounded);
  const Resources large{.cpu_millicores = 4000};
  place(tenancy, 1, 1);
  EXPECT_EQ(ask(tenancy, 2, 1, large), 1u);
  tell(tenancy, at(0), SandboxNominated{{2}});
  EXPECT_EQ(ask(tenancy, 3, 1, large), 0u) << "9000 of 5000";
  EXPECT_EQ(fruitless_round(tenancy), Tried{});
  tell(tenancy, at(1), SandboxPlaced{{2}, {}, false});
  EXPECT_EQ(fruitless_round(tenancy), Tried{}) << "it counts once";
  tell(tenancy, at(2), SandboxEnded{{1}});
  tell(tenancy, at(2), SandboxEnded{{2}});
  EXPECT_EQ(fruitless_round(tenancy), Tried{3});
  for (const bool lost : {true, false}) {
    const std::uint64_t id = lost ? 4 : 5;
    tell(tenancy, at(3), SandboxCancelled{{3}});
    EXPECT_EQ(ask(tenancy, id, 1, large), 1u) << "nothing is left of the one before";
    tell(tenancy, at(3), SandboxNominated{{id}});
    if (lost) tell(tenancy, at(3), NominationLost{{id}});
    tell(tenancy, at(3), SandboxCancelled{{id}});
    EXPECT_EQ(tenancy.state().tenants.at({1}).nominated, Amounts{});
  }
}

// One that waits and is placed without having been tried leaves the line.
TEST(Tenancy, WhatWaitsMayBePlacedUnasked) {
  Tenancy tenancy = with_tenants(1);
  make_wait(tenancy, 1, 1);
  tell(tenancy, at(0), SandboxPlaced{{1}, {}, false});
  EXPECT_EQ(tenancy.pending_count(), 0u);
  EXPECT_TRUE(tenancy.state().line.empty());
  EXPECT_TRUE(fruitless_round(tenancy).empty());
}

TEST(Tenancy, AFamilyStaysWhereItIs) {
  Tenancy tenancy = with_tenants(0);
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}});
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}, {2}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}, {1}});
  EXPECT_EQ(tenancy.state().tenants.at({2}).parent, TenantId{});
  EXPECT_EQ(tenancy.state().tenants.at({1}).children, 0u);
  tell(tenancy, at(0), TenantAdded{{3}, {}, 1, false, {}, {1}});
  EXPECT_EQ(tenancy.state().tenants.at({2}).children, 0u);
  EXPECT_EQ(tenancy.state().tenants.at({1}).children, 1u);
}

// What a family counts is its members': more may join while they have anything.
TEST(Tenancy, AFamilyWhoseMembersHaveSomethingTakesMore) {
  Tenancy tenancy = with_tenants(2);
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}, {1}});
  place(tenancy, 1, 2);
  tell(tenancy, at(1), TenantAdded{{3}, {}, 1, false, {}, {1}});
  EXPECT_EQ(tenancy.state().tenants.at({3}).parent, TenantId{1});
  EXPECT_EQ(tenancy.state().tenants.at({1}).children, 2u);
  tell(tenancy, at(1), TenantAdded{{4}, {}, 1, false, {}, {2}});
  EXPECT_EQ(tenancy.state().tenants.at({4}).parent, TenantId{}) << "who has something is no family";
}

// A family whose guarantee has no room for what its next asks for, in any one dimension, stands as
// its members do.
TEST(Tenancy, AFamilyWithoutRoomInItsGuaranteeBorrows) {
  struct Case {
    Amounts guarantee;
    Rank rank;
  };
  for (const Case& c : {Case{{.cpu_millicores = 1999}, kBorrowing},
                        Case{{.cpu_millicores = 2000}, kFamilyGuarantee},
                        Case{{.memory_bytes = (2LL << 30) - 1}, kBorrowing},
                        Case{{.memory_bytes = 2LL << 30}, kFamilyGuarantee},
                        Case{{.sandboxes = 1}, kBorrowing}, Case{{.sandboxes = 2}, kFamilyGuarantee}}) {
    Tenancy tenancy(Config{});
    tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {}, c.guarantee});
    tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}, {1}});
    place(tenancy, 1, 2);
    make_wait(tenancy, 2, 2);
    EXPECT_EQ(tenancy.state().tenants.at({1}).place.rank, c.rank);
  }
}

// Also one in a family: what counts is the one that would be tried.
TEST(Tenancy, AFamilyStandsWhereTheNextOfItsLineIs) {
  Tenancy tenancy(Config{});
  tell(tenancy, at(0), TenantAdded{{1}, {}, 1, false, {}, {}, {.cpu_millicores = 4000}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}, {1}});
  for (std::uint64_t id : {3, 4}) tell(tenancy, at(0), TenantAdded{{id}, {}, 1, false, {}, {2}});
  const auto rank = [&] { return tenancy.state().tenants.at({1}).place.rank; };
  make_wait(tenancy, 1, 4, {.cpu_millicores = 4000});
  EXPECT_EQ(rank(), kFamilyGuarantee);
  make_wait(tenancy, 2, 3, {.cpu_millicores = 4001});
  EXPECT_EQ(rank(), kBorrowing);
  tell(tenancy, at(1), SandboxCancelled{{2}});
  EXPECT_EQ(rank(), kFamilyGuarantee);
}

// ---- a first node for each guarantee

constexpr Amounts kFour{.cpu_millicores = 4000};

// Tenant 1 has no guarantee, the others have one each; `nodes` are free.
Tenancy with_guarantees(std::uint64_t tenants, std::uint64_t nodes, Config config = {}) {
  Tenancy tenancy = with_tenants(1, config);
  for (std::uint64_t t = 2; t <= tenants; ++t)
    tell(tenancy, at(0), TenantAdded{{t}, {}, 1, false, {}, {}, kFour});
  for (std::uint64_t n = 1; n <= nodes; ++n) tell(tenancy, at(0), NodeJoined{{n}, kShape, {}});
  return tenancy;
}
// How an ask is tried; it finds no room.
bool may_claim(Tenancy& tenancy, std::uint64_t sandbox, std::uint64_t tenant, Time now = at(0),
               PoolId pool = {}) {
  const auto attempts =
      said<TryPlace>(tell(tenancy, now, SandboxAsked{{sandbox}, {tenant}, kOne, pool}));
  EXPECT_EQ(attempts.size(), 1u);
  tell(tenancy, now, NotPlaced{{sandbox}});
  tell(tenancy, now, SandboxCancelled{{sandbox}});
  return attempts.size() == 1 && !attempts[0].own_only;
}

TEST(Tenancy, KeepsAFirstNodeForEachGuarantee) {
  Tenancy tenancy = with_guarantees(3, 3);
  EXPECT_TRUE(may_claim(tenancy, 1, 1));
  place(tenancy, 1, 1, {1});
  EXPECT_FALSE(may_claim(tenancy, 2, 1)) << "two are free, for two that have none";
  EXPECT_TRUE(may_claim(tenancy, 3, 2)) << "within its guarantee";
  place(tenancy, 3, 2, {2});
  EXPECT_FALSE(may_claim(tenancy, 4, 1));
  tell(tenancy, at(0), NodeJoined{{4}, kShape, {}});
  EXPECT_TRUE(may_claim(tenancy, 5, 1)) << "one is free beside the one that is kept";
  tell(tenancy, at(0), NodeGone{{4}});
  EXPECT_FALSE(may_claim(tenancy, 6, 1));
  tell(tenancy, at(0), NodeGone{{2}});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{2, 1, 0, 2, 2})) << "who lost its node has none";
  tell(tenancy, at(0), SandboxEnded{{1}});
  tell(tenancy, at(60), Woken{});
  EXPECT_TRUE(may_claim(tenancy, 7, 1, at(60))) << "a first one is for everybody";
  tell(tenancy, at(61), NodeScrubbed{{1}});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{2, 2, 0, 2, 2}));
}

// Also those that share, who own nodes together.
TEST(Tenancy, WhoWaitsAndLosesItsLastNodeIsTriedAnew) {
  for (const bool shares : {false, true}) {
    Tenancy tenancy = with_guarantees(2, 3);
    tell(tenancy, at(0), TenantAdded{{4}, {}, 1, shares, {}});
    for (const std::uint64_t id : {1, 2}) place(tenancy, id, 4, {id});
    make_wait(tenancy, 3, 4, {.cpu_millicores = 100'000});
    tell(tenancy, at(0), SandboxEnded{{1}});
    EXPECT_TRUE(said<RoundDue>(tell(tenancy, at(60), Woken{})).empty()) << "it has another";
    tell(tenancy, at(61), SandboxEnded{{2}});
    EXPECT_EQ(said<RoundDue>(tell(tenancy, at(121), Woken{})).size(), 1u) << "its node is scrubbed";
    tell(tenancy, at(122), SandboxCancelled{{3}});
    tell(tenancy, at(122), NodeScrubbed{{1}});
    place(tenancy, 4, 4, {1});
    tell(tenancy, at(123), SandboxEnded{{4}});
    EXPECT_TRUE(said<RoundDue>(tell(tenancy, at(183), Woken{})).empty()) << "nobody waits";
  }
}

TEST(Tenancy, AGangClaimsNoNodeThatIsKeptForAnother) {
  const auto claims = [](Tenancy& tenancy, std::uint64_t tenant) {
    std::vector<TryPlace> attempts;
    for (const std::uint64_t id : {101, 102, 103}) {
      SandboxAsked one{{id}, {tenant}, kOne, {}};
      one.gang = {tenant, 3};
      for (auto& tried : said<TryPlace>(tell(tenancy, at(0), one))) attempts.push_back(tried);
    }
    EXPECT_EQ(attempts.size(), 1u);
    tell(tenancy, at(0), NotPlaced{attempts.at(0).sandbox});
    for (const std::uint64_t id : {101, 102, 103}) tell(tenancy, at(0), SandboxCancelled{{id}});
    return attempts.at(0).claims_max;
  };
  Tenancy tenancy = with_guarantees(3, 5);
  EXPECT_EQ(claims(tenancy, 1), 3u) << "two of five are kept";
  EXPECT_EQ(tenancy.state().claims_at, kNever);
  place(tenancy, 1, 1, {1});
  EXPECT_EQ(claims(tenancy, 1), 2u);
  EXPECT_EQ(tenancy.state().claims_at, at(300)) << "when it may claim any number";
  EXPECT_EQ(claims(tenancy, 2), kAnyNumber) << "within its guarantee";
  for (const std::uint64_t node : {3, 4, 5}) tell(tenancy, at(0), NodeGone{{node}});
  tell(tenancy, at(0), TenantAdded{{2}, {}, 1, false, {}, {}, {.cpu_millicores = 2000}});
  EXPECT_EQ(claims(tenancy, 2), 1u) << "beyond it: its own first one";
  EXPECT_EQ(claims(tenancy, 1), 0u);
  tell(tenancy, at(0), NodeGone{{2}});
  EXPECT_EQ(claims(tenancy, 2), kAnyNumber) << "there is no node for each";
}

TEST(Tenancy, ANodeThatTakesNothingIsNotKeptAndServesNobody) {
  Tenancy tenancy = with_guarantees(3, 4);
  place(tenancy, 1, 1, {1});
  place(tenancy, 2, 2, {2});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{4, 2, 0, 2, 1}));
  EXPECT_TRUE(may_claim(tenancy, 3, 1)) << "two are free, for one that has none";
  for (int twice = 0; twice < 2; ++twice) tell(tenancy, at(0), NodeCordoned{{3}, true});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{3, 1, 0, 2, 1}));
  EXPECT_FALSE(may_claim(tenancy, 4, 1)) << "one that takes anything";
  tell(tenancy, at(0), NodeCordoned{{2}, true});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{2, 1, 0, 2, 2})) << "who has only it has none";
  tell(tenancy, at(0), NodeCordoned{{2}, false});
  tell(tenancy, at(0), NodeCordoned{{3}, false});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{4, 2, 0, 2, 1}));
  tell(tenancy, at(0), NodeCordoned{{3}, true});
  tell(tenancy, at(0), NodeGone{{3}});
  tell(tenancy, at(0), NodeCordoned{{3}, false});
  EXPECT_EQ(tenancy.state().keeping, (Keeping{3, 1, 0, 2, 1}));
}

TEST(Tenancy, AFamilyThatHasNoneLeftIsATenantLikeOthers) {
  Tenancy tenancy = with_guarantees(3, 4);
  EXPECT_EQ(tenancy.state().keeping.tenants, 2u);
  tell(tenancy, at(0), TenantAdded{{4}, {}, 1, false, {}, {2}, {}});
  EXPECT_EQ(tenancy.state().keeping.tenants, 1u);
  tell(tenancy, at(0), TenantAdded{{4}, {}, 1, false, {}, {}, {}});
  EXPECT_EQ(tenancy.state().keeping.tenants, 2u);
}

TEST(Tenancy, WhoHasGotNothingForLongMayClaimWhatIsKept) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_guarantees(3, 3, config);
  place(tenancy, 1, 1, {1});
  EXPECT_FALSE(may_claim(tenancy, 2, 1, at(150))) << "it has not waited itself";
  EXPECT_EQ(ask(tenancy, 3, 1, kOne, {}, at(150)), 1u);
  const auto refused = tell(tenancy, at(150), NotPlaced{{3}});
  EXPECT_TRUE(said<WakeAt>(refused).empty()) << "one was asked for at 250 already";
  EXPECT_TRUE(said<RoundDue>(tell(tenancy, at(249), Woken{})).empty());
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(250), Woken{})).size(), 1u) << "nothing else happens";
  tell(tenancy, at(250), CapacityFreed{});
  const auto again = said<TryPlace>(tell(tenancy, at(250), NextAttempt{}));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_FALSE(again[0].own_only);
  tell(tenancy, at(250), SandboxPlaced{{3}, {1}, false});
  EXPECT_EQ(ask(tenancy, 4, 1, kOne, {}, at(250)), 1u);
  EXPECT_EQ(said<WakeAt>(tell(tenancy, at(250), NotPlaced{{4}})), (std::vector<WakeAt>{{at(350)}}));
  EXPECT_EQ(ask(tenancy, 5, 2, kOne, {}, at(300)), 1u);
  tell(tenancy, at(300), SandboxPlaced{{5}, {2}, true});
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(350), Woken{})).size(), 1u);
  EXPECT_TRUE(said<RoundDue>(tell(tenancy, at(351), Woken{})).empty()) << "once";
}

TEST(Tenancy, KeepsNoNodeWhereItWouldHelpNobody) {
  Config off, shared, quotas;
  off.keep_first_node = false;
  shared.separate_tenants = false;
  quotas.order = Order::quotas;
  for (const Config& config : {off, shared, quotas}) {
    Tenancy tenancy = with_guarantees(3, 3, config);
    place(tenancy, 1, 1, {1});
    EXPECT_TRUE(may_claim(tenancy, 2, 1));
  }
  Tenancy many = with_guarantees(5, 3);
  place(many, 1, 1, {1});
  EXPECT_TRUE(may_claim(many, 2, 1)) << "four guarantees cannot have a node each";
  tell(many, at(0), TenantAdded{{5}, {}, 1, false, {}, {}, {}});
  EXPECT_FALSE(may_claim(many, 3, 1)) << "three can";
  EXPECT_TRUE(may_claim(many, 4, 1, at(0), {7})) << "more of an elastic pool are bought";
  tell(many, at(0), TenantAdded{{3}, {}, 1, true, {}, {}, kFour});
  tell(many, at(0), TenantAdded{{4}, {}, 1, false, {9}, {}, kFour});
  EXPECT_EQ(many.state().keeping.tenants, 1u) << "who shares, or has a pool of its own, needs none";
  tell(many, at(0), TenantAdded{{6}, {}, 1, false, {}, {2}, {}});
  EXPECT_EQ(many.state().keeping.tenants, 0u) << "nor does a family";
  tell(many, at(0), NodeJoined{{8}, kShape, {}, true});
  tell(many, at(0), NodeJoined{{9}, kShape, {4}});
  EXPECT_EQ(many.state().keeping.nodes, 3u) << "which not everybody may claim";
}

TEST(Tenancy, ThoseThatShareHaveAFirstNodeTogether) {
  Tenancy tenancy = with_guarantees(3, 3);
  for (std::uint64_t t = 4; t <= 5; ++t)
    tell(tenancy, at(0), TenantAdded{{t}, {}, 1, true, {}});
  place(tenancy, 1, 4, {1});
  EXPECT_FALSE(may_claim(tenancy, 2, 5)) << "it has room where the other is";
  tell(tenancy, at(0), NodeGone{{1}});
  EXPECT_TRUE(may_claim(tenancy, 3, 5));
}

TEST(Tenancy, WhatFailsWithAnotherIsTriedOnceItMayClaim) {
  Config config;
  config.bypass_max = seconds(100);
  Tenancy tenancy = with_guarantees(3, 3, config);
  for (std::uint64_t id : {4, 5}) tell(tenancy, at(0), TenantAdded{{id}, {}, 1, true, {}});
  place(tenancy, 1, 5, {1});
  EXPECT_EQ(ask(tenancy, 2, 4, kOne, {}, at(50)), 1u);
  tell(tenancy, at(50), NotPlaced{{2}});
  SandboxAsked large{{3}, {5}, {.cpu_millicores = 2000, .memory_bytes = kOne.memory_bytes}, {}};
  EXPECT_EQ(tried(tell(tenancy, at(60), large)), 1u);
  tell(tenancy, at(60), NotPlaced{{3}});
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(150), Woken{})).size(), 1u);
  EXPECT_EQ(fruitless_round(tenancy, at(150)), Tried{2}) << "which speaks for the large one";
  EXPECT_EQ(said<RoundDue>(tell(tenancy, at(160), Woken{})).size(), 1u);
}

// It would not get the node.
TEST(Tenancy, NothingIsScrubbedForWhoMayNotClaim) {
  Tenancy tenancy = with_guarantees(3, 3);
  place(tenancy, 1, 1, {1});
  place(tenancy, 2, 2, {2});
  tell(tenancy, at(0), SandboxEnded{{2}});
  EXPECT_EQ(ask(tenancy, 3, 1), 1u);
  EXPECT_TRUE(said<ScrubNode>(tell(tenancy, at(0), NotPlaced{{3}})).empty());
  EXPECT_EQ(ask(tenancy, 4, 3), 1u);
  EXPECT_EQ(said<ScrubNode>(tell(tenancy, at(0), NotPlaced{{4}})),
            (std::vector<ScrubNode>{{{2}}}));
}

// In one round: that one could not be placed on nodes of its own says nothing of one that may claim.
TEST(Tenancy, AFailureOnOwnNodesSpeaksOnlyForOthersThatMayClaimNone) {
  Tenancy tenancy = with_guarantees(3, 3);
  tell(tenancy, at(0), TenantAdded{{4}, {}, 1, true, {}});
  tell(tenancy, at(0), TenantAdded{{5}, {}, 1, true, {}});
  place(tenancy, 1, 5, {1});
  make_wait(tenancy, 2, 4);
  make_wait(tenancy, 3, 5);
  tell(tenancy, at(0), CapacityFreed{});
  const auto first = said<TryPlace>(tell(tenancy, at(0), NextAttempt{}));
  EXPECT_EQ(first, (std::vector<TryPlace>{{{2}, kSharedOwner, true, {}, 0}}));
  tell(tenancy, at(0), NotPlaced{{2}});
  EXPECT_TRUE(said<TryPlace>(tell(tenancy, at(0), NextAttempt{})).empty()) << "nor does the other";

  tell(tenancy, at(0), SandboxCancelled{{2}});
  EXPECT_EQ(ask(tenancy, 4, 4, kOne, {}, at(400)), 1u);
  tell(tenancy, at(400), NotPlaced{{4}});
  tell(tenancy, at(400), CapacityFreed{});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(400), NextAttempt{})),
            (std::vector<TryPlace>{{{4}, kSharedOwner, true, {}, 0}}));
  tell(tenancy, at(400), NotPlaced{{4}});
  EXPECT_EQ(said<TryPlace>(tell(tenancy, at(400), NextAttempt{})),
            (std::vector<TryPlace>{{{3}, kSharedOwner, false}}))
      << "it has waited for long, so it may claim what the one before it might not";
}

TEST(Tenancy, FamiliesAreSoDeepAndNoDeeper) {
  Tenancy tenancy(Config{});
  for (std::uint64_t level = 1; level <= kDepthMax + 1; ++level) {
    tell(tenancy, at(0), TenantAdded{{level}, {}, 1, false, {}, {level - 1}});
    const std::uint64_t parent = level <= kDepthMax ? level - 1 : 0;
    EXPECT_EQ(tenancy.state().tenants.at({level}).parent, TenantId{parent});
  }
}

}  // namespace
}  // namespace chalk::tenancy
