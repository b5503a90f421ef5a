// The order of what waits against an oracle that fills progressively: it works everything out anew
// from what is placed and what waits, and looks at all tenants every time.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "model/tenancy/tenancy.h"
#include "tests/support/said.h"

namespace chalk::tenancy {
namespace {

using test::said;
using test::tell;

const Time kNow{seconds(1).nanos};
constexpr std::int64_t kMega = 1 << 20;
__extension__ using Wide = unsigned __int128;

Resources shape(std::int64_t cpu, std::int64_t memory) {
  Resources r;
  r.cpu_millicores = cpu;
  r.memory_bytes = memory * kMega;
  return r;
}

struct Ask {
  std::uint64_t sandbox = 0;
  std::uint64_t tenant = 0;
  Resources resources;
};

// One large node that everybody shares, and the rules in their plainest form.
struct Oracle {
  struct Member {
    TenantAdded said;
    std::deque<Ask> waiting;
    std::vector<Ask> placed;
  };
  std::map<std::uint64_t, Member> tenants;
  std::int64_t cpu = 0, memory = 0;  // of the node

  bool is_family(std::uint64_t id) const {
    return std::any_of(tenants.begin(), tenants.end(),
                       [&](const auto& one) { return one.second.said.parent.value == id; });
  }
  Amounts placed(std::uint64_t id) const {
    Amounts sum;
    for (const Ask& ask : tenants.at(id).placed) sum.add(amounts_of(ask.resources), 1);
    for (const auto& [child, member] : tenants) {
      if (member.said.parent.value == id) sum.add(placed(child), 1);
    }
    return sum;
  }
  Amounts all_placed() const {
    Amounts sum;
    for (const auto& [id, member] : tenants) {
      for (const Ask& ask : member.placed) sum.add(amounts_of(ask.resources), 1);
    }
    return sum;
  }
  bool fits(const Ask& ask) const {
    const Amounts used = all_placed();
    return used.cpu_millicores + ask.resources.cpu_millicores <= cpu &&
           used.memory_bytes + ask.resources.memory_bytes <= memory;
  }
  bool within(std::uint64_t id, const Amounts& more) const {
    const Amounts& g = tenants.at(id).said.guarantee;
    const Amounts p = placed(id);
    if (g == Amounts{}) return false;
    return (g.cpu_millicores == 0 || p.cpu_millicores + more.cpu_millicores <= g.cpu_millicores) &&
           (g.memory_bytes == 0 || p.memory_bytes + more.memory_bytes <= g.memory_bytes) &&
           (g.sandboxes == 0 || p.sandboxes + more.sandboxes <= g.sandboxes);
  }
  bool borrows(const Ask& ask) const {
    for (std::uint64_t id = ask.tenant; id != 0; id = tenants.at(id).said.parent.value) {
      if (within(id, amounts_of(ask.resources))) return false;
    }
    return true;
  }
  bool reclaimed() const {  // somebody waits within his guarantee
    return std::any_of(tenants.begin(), tenants.end(), [&](const auto& one) {
      const Member& member = one.second;
      return !member.waiting.empty() &&
             within(one.first, amounts_of(member.waiting.front().resources));
    });
  }
  std::uint64_t share(std::uint64_t id) const {
    const Amounts p = placed(id);
    const auto part = [&](std::int64_t used, std::int64_t whole) {
      return (static_cast<Wide>(used) << 32) / static_cast<std::uint64_t>(whole);
    };
    const Wide most = std::max<Wide>(part(p.cpu_millicores, cpu), part(p.memory_bytes, memory));
    return static_cast<std::uint64_t>(most) / tenants.at(id).said.weight;
  }
  using Key = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>;
  // The best child of `family` and the tenant it leads to, but for those that failed.
  std::optional<std::pair<Key, std::uint64_t>> best(std::uint64_t family,
                                                    const std::vector<std::uint64_t>& failed) {
    std::optional<std::pair<Key, std::uint64_t>> least;
    for (const auto& [id, member] : tenants) {
      if (member.said.parent.value != family) continue;
      std::optional<std::pair<Key, std::uint64_t>> one;
      if (is_family(id)) {
        if (const auto inner = best(id, failed)) {
          const std::uint32_t first = std::get<0>(inner->first);
          const Ask& head = tenants.at(inner->second).waiting.front();
          const std::uint32_t rank =
              within(id, amounts_of(head.resources)) ? std::min(first, 1u) : first;
          one = {{rank, share(id), id}, inner->second};
        }
      } else if (!member.waiting.empty() && std::ranges::count(failed, id) == 0) {
        const bool own = within(id, amounts_of(member.waiting.front().resources));
        one = {{own ? 0u : 2u, share(id), id}, id};
      }
      if (one && (!least || one->first < least->first)) least = one;
    }
    return least;
  }
  // Everything that can be placed now, in order.
  std::vector<std::uint64_t> fill() {
    std::vector<std::uint64_t> order, failed;
    while (const auto next = best(0, failed)) {
      Member& member = tenants.at(next->second);
      const Ask head = member.waiting.front();
      if ((borrows(head) && reclaimed()) || !fits(head)) {
        failed.push_back(next->second);
        continue;
      }
      member.waiting.pop_front();
      member.placed.push_back(head);
      order.push_back(head.sandbox);
    }
    return order;
  }
};

struct Bench {
  Tenancy tenancy;
  Oracle oracle;
  std::map<std::uint64_t, Ask> asks;
  std::vector<std::uint64_t> placed;  // since it was last looked at

  void hear(const std::vector<Effect>& effects) {
    for (const auto& attempt : said<TryPlace>(effects)) {
      const Ask& ask = asks.at(attempt.sandbox.value);
      if (fits(ask) && !spared(attempt.spare)) {
        placed.push_back(ask.sandbox);
        on_node[ask.sandbox] = ask;
        hear(tell(tenancy, kNow, SandboxPlaced{attempt.sandbox, {}, false}));
      } else {
        hear(tell(tenancy, kNow, NotPlaced{attempt.sandbox}));
      }
    }
  }
  bool spared(const std::vector<Wish>& wishes) const {
    return std::any_of(wishes.begin(), wishes.end(), [&](const Wish& wish) {
      return wish.resources.cpu_millicores <= oracle.cpu &&
             wish.resources.memory_bytes <= oracle.memory;
    });
  }
  bool fits(const Ask& ask) const {
    std::int64_t cpu = ask.resources.cpu_millicores, memory = ask.resources.memory_bytes;
    for (const auto& [id, one] : on_node) {
      cpu += one.resources.cpu_millicores;
      memory += one.resources.memory_bytes;
    }
    return cpu <= oracle.cpu && memory <= oracle.memory;
  }
  void round() {
    hear(tell(tenancy, kNow, CapacityFreed{}));
    while (tenancy.round_open()) hear(tell(tenancy, kNow, NextAttempt{}));
  }
  void add(const TenantAdded& tenant) {
    tell(tenancy, kNow, tenant);
    oracle.tenants[tenant.tenant.value].said = tenant;
  }
  void ask(std::uint64_t tenant, const Resources& resources) {
    const std::uint64_t id = asks.size() + 1;
    const Ask one{id, tenant, resources};
    asks[id] = one;
    hear(tell(tenancy, kNow, SandboxAsked{{id}, {tenant}, resources, {}}));
  }
  void end(std::uint64_t sandbox) {
    on_node.erase(sandbox);
    tell(tenancy, kNow, SandboxEnded{{sandbox}});
  }
  std::map<std::uint64_t, Ask> on_node;
};

Bench bench(std::int64_t cpu, std::int64_t memory, Config config = {}) {
  config.separate_tenants = false;
  Bench out{Tenancy(config), {}, {}, {}, {}};
  out.oracle.cpu = cpu;
  out.oracle.memory = memory * kMega;
  tell(out.tenancy, kNow,
       NodeJoined{{1}, {.cpu_millicores = cpu, .memory_bytes = memory * kMega}, kSharedOwner});
  return out;
}

// Families, weights and guarantees at random; what is asked and what ends at random. Each time the
// machine places the same sandboxes in the same order as the oracle.
RC_GTEST_PROP(Fairness, ServesAsProgressiveFillingDoes, (std::uint64_t key)) {
  Random random{key, 0};
  Config config;
  config.tries_per_event = 1000;
  Bench b = bench(20'000, 20'000, config);
  const auto some = [&](std::uint64_t most) { return static_cast<std::int64_t>(random.below(most)); };
  for (std::uint64_t t = 1; t <= 7; ++t) {
    TenantAdded one{{t}, {}, static_cast<std::uint32_t>(1 + random.below(3)), false, {}};
    if (t == 2) one.parent = {1 * random.below(2)};           // a family in a family
    if (t > 2) one.parent = {random.below(3)};                // tenants of 1, of 2, or of none
    if (t > 2 && random.below(2) == 0) one.guarantee.cpu_millicores = 1000 * (1 + some(4));
    if (t > 2 && random.below(3) == 0) one.guarantee.memory_bytes = 1000 * kMega * (1 + some(4));
    if (t <= 2 && random.below(2) == 0) one.guarantee.sandboxes = 1 + some(8);
    b.add(one);
  }
  for (int i = 0; i < 120; ++i) {
    b.placed.clear();
    std::vector<std::uint64_t> wanted;
    const std::uint64_t tenant = 3 + random.below(5);
    if (random.below(3) != 0 || b.on_node.empty()) {
      const Resources r = shape(500 * (1 + some(6)), 500 * (1 + some(6)));
      Oracle::Member& member = b.oracle.tenants.at(tenant);
      const Ask ask{b.asks.size() + 1, tenant, r};
      const bool goes = member.waiting.empty() && b.oracle.fits(ask) &&
                        !(b.oracle.borrows(ask) && b.oracle.reclaimed());
      (goes ? wanted.push_back(ask.sandbox) : member.waiting.push_back(ask));
      if (goes) member.placed.push_back(ask);
      b.ask(tenant, r);
    } else {
      auto gone = b.on_node.begin();
      std::advance(gone, random.below(b.on_node.size()));
      const Ask ask = gone->second;
      std::erase_if(b.oracle.tenants.at(ask.tenant).placed,
                    [&](const Ask& one) { return one.sandbox == ask.sandbox; });
      b.end(ask.sandbox);
    }
    RC_ASSERT(b.placed == wanted);
    b.placed.clear();
    wanted = b.oracle.fill();
    b.round();
    RC_ASSERT(b.placed == wanted);
    // Work conserving: what waits does not fit, or would borrow what is being reclaimed.
    for (const auto& [id, member] : b.oracle.tenants) {
      if (member.waiting.empty()) continue;
      const Ask& head = member.waiting.front();
      RC_ASSERT(!b.oracle.fits(head) || (b.oracle.borrows(head) && b.oracle.reclaimed()));
    }
    if (i % 40 == 0) {
      State state;
      RC_ASSERT(decode(encode(b.tenancy.state()), state));
      RC_ASSERT(state == b.tenancy.state());
    }
  }
}

// Each of n tenants with endless work has at least 1/n of something, but for the size of an ask: it
// could not do better with a fleet of a 1/n of its own.
RC_GTEST_PROP(Fairness, GivesEverybodyAtLeastAnEqualPart, (std::uint64_t key)) {
  Random random{key, 0};
  Config config;
  config.tries_per_event = 1000;
  Bench b = bench(1'000'000, 1'000'000, config);
  const std::uint64_t n = 2 + random.below(6);
  std::map<std::uint64_t, Resources> shapes;
  double largest = 0;
  for (std::uint64_t t = 1; t <= n; ++t) {
    b.add(TenantAdded{{t}, {}, 1, false, {}});
    const auto cpu = static_cast<std::int64_t>(500 + random.below(4000));
    const auto memory = static_cast<std::int64_t>(500 + random.below(4000));
    shapes[t] = shape(cpu, memory);
    largest = std::max(largest, static_cast<double>(std::max(cpu, memory)) / 1e6);
  }
  // A lid keeps the node full while everybody lines up.
  b.add(TenantAdded{{99}, {}, 1, false, {}});
  b.ask(99, shape(1'000'000, 1'000'000));
  for (int i = 0; i < 300; ++i) {
    for (const auto& [t, r] : shapes) b.ask(t, r);
  }
  b.end(1);
  b.round();
  for (const auto& [t, r] : shapes) {
    double cpu = 0, memory = 0;
    for (const auto& [id, ask] : b.on_node) {
      if (ask.tenant != t) continue;
      cpu += static_cast<double>(ask.resources.cpu_millicores) / 1e6;
      memory += static_cast<double>(ask.resources.memory_bytes) / (1e6 * kMega);
    }
    const double all = 300.0 * std::max(static_cast<double>(r.cpu_millicores) / 1e6,
                                        static_cast<double>(r.memory_bytes) / (1e6 * kMega));
    RC_ASSERT(std::max(cpu, memory) >=
              std::min(all, 1.0 / static_cast<double>(n)) - 2 * largest - 1e-9);
  }
}

TEST(Fairness, TriesEveryHeadWithinAFewRounds) {
  Config config;
  config.tries_per_event = 3;
  Tenancy tenancy(config);
  constexpr std::uint64_t kTenants = 20;
  for (std::uint64_t t = 1; t <= kTenants; ++t) {
    tell(tenancy, kNow, TenantAdded{{t}, {}, 1, false, {}});
    // Each in a pool of its own, so that no failure speaks for another.
    tell(tenancy, kNow, SandboxAsked{{t}, {t}, shape(1000, 1000), {t}});
    tell(tenancy, kNow, NotPlaced{{t}});
  }
  std::map<std::uint64_t, int> last;
  for (int round = 1; round <= 50; ++round) {
    tell(tenancy, kNow, CapacityFreed{});
    int tries = 0;
    while (tenancy.round_open()) {
      for (const auto& attempt : said<TryPlace>(tell(tenancy, kNow, NextAttempt{}))) {
        EXPECT_LE(round - last[attempt.sandbox.value], 2 * 20 / 3 + 1);
        last[attempt.sandbox.value] = round;
        ++tries;
        tell(tenancy, kNow, NotPlaced{attempt.sandbox});
      }
    }
    EXPECT_EQ(tries, 3);
  }
  EXPECT_EQ(last.size(), kTenants);
  for (const auto& [sandbox, round] : last) EXPECT_GE(round, 50 - 14);
}

constexpr std::int64_t kFour = 4000;

// Two tenants of four cores each on eight; the first asks for all of them.
Bench two_halves(Order order) {
  Config config;
  config.order = order;
  Bench b = bench(8000, 80'000, config);
  for (std::uint64_t t = 1; t <= 2; ++t)
    b.add(TenantAdded{{t}, {}, 1, false, {}, {}, {.cpu_millicores = kFour}});
  for (int i = 0; i < 12; ++i) b.ask(1, shape(1000, 1000));
  b.round();
  return b;
}
std::size_t held_by(const Bench& b, std::uint64_t tenant) {
  return static_cast<std::size_t>(std::count_if(
      b.on_node.begin(), b.on_node.end(),
      [&](const auto& one) { return one.second.tenant == tenant; }));
}

TEST(Fairness, LendsAnIdleGuaranteeAndGivesWhatEndsNextToItsOwner) {
  Bench b = two_halves(Order::fair);
  EXPECT_EQ(held_by(b, 1), 8u);
  for (int i = 0; i < 6; ++i) b.ask(2, shape(1000, 1000));
  EXPECT_EQ(held_by(b, 2), 0u);
  for (std::uint64_t ends = 1; ends <= 4; ++ends) {
    b.end(ends);
    b.round();
    EXPECT_EQ(held_by(b, 2), ends);  // every core that falls free, though the first waits longer
  }
  b.end(5);
  b.round();
  EXPECT_EQ(held_by(b, 1), 4u);  // its own again
  EXPECT_EQ(held_by(b, 2), 4u);
}

TEST(Fairness, GivesNobodyMoreBeyondAGuaranteeWhileAnOwnerWaits) {
  Bench b = two_halves(Order::fair);
  b.ask(2, shape(3000, 1000));
  for (const std::uint64_t ends : {1, 2}) {
    b.end(ends);
    b.round();
    EXPECT_EQ(held_by(b, 1) + ends, 8u);  // what fell free gathers
  }
  b.end(3);
  b.round();
  EXPECT_EQ(held_by(b, 2), 1u);
  b.end(4);
  b.round();
  EXPECT_EQ(held_by(b, 1), 5u);  // nothing is reclaimed any more: it may borrow again
}

TEST(Fairness, LetsOthersGoOnWhenTheOwnerThatWaitedIsGone) {
  Bench b = two_halves(Order::fair);
  b.ask(2, shape(4000, 1000));
  b.end(1);
  b.round();
  EXPECT_EQ(held_by(b, 1), 7u);
  tell(b.tenancy, kNow, SandboxCancelled{{b.asks.size()}});
  b.round();
  EXPECT_EQ(held_by(b, 1), 8u);
}

TEST(Fairness, WithQuotasAnIdleGuaranteeStaysIdle) {
  Bench b = two_halves(Order::quotas);
  EXPECT_EQ(held_by(b, 1), 4u);
  const auto refused = said<RefuseSandbox>(
      tell(b.tenancy, kNow, SandboxAsked{{1000}, {2}, shape(5000, 1), {}}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (RefuseSandbox{{1000}, Rule::quota_cpu, 5000, 0, kFour}));
}

TEST(Fairness, FirstComeLetsAFloodGoFirst) {
  Bench b = two_halves(Order::first_come);
  b.ask(2, shape(1000, 1000));
  for (std::uint64_t ends = 1; ends <= 4; ++ends) {
    b.end(ends);
    b.round();
    EXPECT_EQ(held_by(b, 2), 0u);  // four of the first are still before it
  }
  b.end(5);
  b.round();
  EXPECT_EQ(held_by(b, 2), 1u);
}

TEST(Fairness, AFamilyHasOneQuotaForAllItsTenants) {
  Tenancy tenancy(Config{});
  tell(tenancy, kNow, TenantAdded{{1}, {.sandboxes = 3}, 1, false, {}});
  for (std::uint64_t t = 2; t <= 3; ++t)
    tell(tenancy, kNow, TenantAdded{{t}, {}, 1, false, {}, {1}});
  const auto ask = [&](std::uint64_t id, std::uint64_t tenant) {
    return said<RefuseSandbox>(
        tell(tenancy, kNow, SandboxAsked{{id}, {tenant}, shape(1000, 1000), {}}));
  };
  EXPECT_TRUE(ask(1, 2).empty() && ask(2, 3).empty() && ask(3, 2).empty());
  ASSERT_EQ(ask(4, 3).size(), 1u);
  EXPECT_EQ(ask(4, 3)[0], (RefuseSandbox{{4}, Rule::quota_sandboxes, 1, 3, 3}));
  EXPECT_EQ(ask(5, 1)[0].rule, Rule::unknown_tenant);  // a family runs nothing itself
  tell(tenancy, kNow, SandboxCancelled{{1}});
  EXPECT_TRUE(ask(6, 3).empty());
  EXPECT_EQ(tenancy.in_use({1}), Amounts{});
}

}  // namespace
}  // namespace chalk::tenancy
