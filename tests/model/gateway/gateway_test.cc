#include "model/gateway/gateway.h"

#include <gtest/gtest.h>

#include "tests/support/said.h"

namespace chalk::gateway {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }

FromControl order(std::uint64_t sequence, GatewayOrder one, std::uint64_t acknowledged = 0) {
  return {{1, sequence, acknowledged, std::move(one)}};
}
GroupRouting routing(std::uint64_t group) {
  GroupRouting one;
  one.group = {group};
  one.report_interval = seconds(2);
  return one;
}
std::vector<Demand> demands(const std::vector<Effect>& effects) {
  std::vector<Demand> out;
  for (const auto& message : said<ToControl>(effects)) {
    if (!message.envelope.message) continue;
    if (const auto* one = std::get_if<Demand>(&*message.envelope.message)) out.push_back(*one);
  }
  return out;
}

TEST(Gateway, TakesOrdersOnceAndInOrder) {
  Gateway gateway(Config{});
  tell(gateway, at(0), order(2, ReplicaReady{{1}, {5}}));
  tell(gateway, at(0), order(1, routing(1)));
  EXPECT_TRUE(
      said<functions::Dispatch>(tell(gateway, at(1), functions::RequestArrived{{1}, {1}})).empty())
      << "the replica came before its group and waits for a resend";
  EXPECT_EQ(
      said<functions::Dispatch>(tell(gateway, at(2), order(2, ReplicaReady{{1}, {5}}))).size(), 1u);
  EXPECT_TRUE(tell(gateway, at(3), order(2, ReplicaReady{{1}, {6}})).empty()) << "repeated";
  EXPECT_TRUE(tell(gateway, at(3), FromControl{{7, 3, 0, ReplicaReady{{1}, {6}}}}).empty())
      << "for who it was before a restart";
}

TEST(Gateway, SendsReportsAgainUntilTheyAreAcknowledged) {
  Gateway gateway(Config{});
  tell(gateway, at(0), order(1, routing(1)));
  EXPECT_EQ(demands(tell(gateway, at(1), functions::RequestArrived{{1}, {1}})).size(), 1u);
  tell(gateway, at(1), Woken{});
  EXPECT_EQ(demands(tell(gateway, at(2), Woken{})).size(), 1u);
  tell(gateway, at(2), FromControl{{1, 0, 1, {}}});
  for (const Demand& demand : demands(tell(gateway, at(3), Woken{}))) EXPECT_EQ(demand.at, at(3));
}

// Control is away for an hour: what is kept is bounded, and it then hears the newest of each group.
TEST(Gateway, KeepsOnlyTheNewestDemandOfAGroupWhileControlIsAway) {
  Config config;
  config.reports_max = 4;
  Gateway gateway(config);
  for (std::uint64_t group = 1; group <= 3; ++group) {
    tell(gateway, at(0), order(group, routing(group)));
    tell(gateway, at(1), functions::RequestArrived{{group}, {group}});
  }
  for (std::int64_t second = 2; second <= 3600; ++second) {
    EXPECT_LE(demands(tell(gateway, at(second), Woken{})).size(), 4u);
  }
  EXPECT_LE(gateway.state().reports.size() + gateway.state().late.size(), 7u);
  const auto rest = demands(tell(gateway, at(3601), FromControl{{1, 0, 4, {}}}));
  ASSERT_EQ(rest.size(), 3u);
  for (const Demand& demand : rest) {
    EXPECT_GE(demand.at, at(3598));
    EXPECT_EQ(demand.queued, 1u);
    EXPECT_EQ(demand.peak, 1u);
  }
  EXPECT_TRUE(gateway.state().late.empty());
}

}  // namespace
}  // namespace chalk::gateway
