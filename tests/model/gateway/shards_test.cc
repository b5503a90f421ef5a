#include "model/gateway/shards.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace chalk::gateway {
namespace {

RC_GTEST_PROP(Shards, EachTenantHasSoManyDifferentGateways, (std::uint64_t tenant)) {
  const auto gateways = *rc::gen::inRange<std::uint32_t>(1, 40);
  const auto count = *rc::gen::inRange<std::uint32_t>(1, 50);
  const Shards shards{Sharding::shuffle, gateways, count};
  const auto own = gateways_of(shards, {tenant});
  RC_ASSERT(own.size() == std::min(count, gateways));
  RC_ASSERT(std::set<std::uint32_t>(own.begin(), own.end()).size() == own.size());
  RC_ASSERT(std::is_sorted(own.begin(), own.end()) && own.back() < gateways);
  std::set<std::uint32_t> used;  // every one of them, and no other
  for (std::uint64_t f = 0; f < own.size(); ++f) used.insert(gateway_for(shards, {tenant}, f));
  RC_ASSERT(used == std::set<std::uint32_t>(own.begin(), own.end()));
  // One more gateway takes a place or none, and moves nobody between the others.
  const auto more = gateways_of({Sharding::shuffle, gateways + 1, count}, {tenant});
  for (const std::uint32_t one : more) {
    RC_ASSERT(one == gateways || std::ranges::count(own, one) == 1);
  }
}

TEST(Shards, AllMeansTheGatewaysInTurn) {
  const Shards shards{Sharding::all, 4, 2};
  EXPECT_EQ(gateways_of(shards, {9}).size(), 4u);
  for (std::uint64_t f = 0; f < 9; ++f) EXPECT_EQ(gateway_for(shards, {9}, f), f % 4);
}

// Of 8 gateways two there are 28 pairs: as many tenants in each, within what chance allows.
TEST(Shards, PairsAreAsFrequentAsChanceSays) {
  std::map<std::vector<std::uint32_t>, int> pairs;
  constexpr int kTenants = 28'000;
  for (std::uint64_t t = 1; t <= kTenants; ++t)
    ++pairs[gateways_of({Sharding::shuffle, 8, 2}, {t})];
  EXPECT_EQ(pairs.size(), 28u);
  for (const auto& [pair, count] : pairs) EXPECT_NEAR(count, 1000, 160);  // five deviations
}

}  // namespace
}  // namespace chalk::gateway
