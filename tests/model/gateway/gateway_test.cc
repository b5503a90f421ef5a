#include "model/gateway/gateway.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "tests/support/said.h"

namespace chalk::gateway {
namespace {

using test::said;
using test::tell;

constexpr GroupId kGroup{1};
constexpr Time at(std::int64_t s) { return Time{seconds(s).nanos}; }

GroupRouting routing(GroupId group = kGroup) {
  GroupRouting out;
  out.group = group;
  out.report_interval = seconds(1);
  return out;
}
FromControl order(std::uint64_t sequence, GatewayOrder message, std::uint64_t acknowledged = 0) {
  return {{1, sequence, acknowledged, std::move(message)}};
}
functions::RequestArrived call(std::uint64_t n, GroupId group = kGroup) { return {{n}, group}; }

std::vector<std::uint64_t> sequences(const std::vector<Effect>& effects) {
  std::vector<std::uint64_t> out;
  for (const auto& one : said<ToControl>(effects)) out.push_back(one.envelope.sequence);
  return out;
}
using Sequences = std::vector<std::uint64_t>;

TEST(Gateway, TakesOrdersOnceAndInOrder) {
  Gateway gateway(Config{});
  tell(gateway, at(0), order(2, ReplicaReady{kGroup, {1}}));  // too early: the group comes first
  tell(gateway, at(0), order(1, routing()));
  tell(gateway, at(0), order(2, ReplicaReady{kGroup, {1}}));
  tell(gateway, at(0), order(3, ReplicaReady{kGroup, {2}}));
  tell(gateway, at(1), order(4, DrainReplicas{kGroup, 1}));
  tell(gateway, at(1), order(4, DrainReplicas{kGroup, 1}));   // repeated
  tell(gateway, at(1), order(2, ReplicaReady{kGroup, {1}}));  // 1 has been returned
  tell(gateway, at(1), order(6, DrainReplicas{kGroup, 1}));   // 5 is missing
  EXPECT_EQ(gateway.functions().state().groups[0].ready, 1u);
  EXPECT_EQ(gateway.state().orders.received, 4u);
}

TEST(Gateway, IgnoresWhatWasMeantForWhoItWasBeforeARestart) {
  Config config;
  config.incarnation = 2;
  Gateway gateway(config);
  tell(gateway, at(0), order(1, routing()));
  EXPECT_EQ(gateway.state().orders.received, 0u);
  EXPECT_EQ(said<functions::RefuseRequest>(tell(gateway, at(0), call(1))).size(), 1u);
  tell(gateway, at(0), FromControl{{2, 1, 0, routing()}});
  EXPECT_EQ(said<functions::RefuseRequest>(tell(gateway, at(0), call(2))).size(), 0u);
}

TEST(Gateway, SaysWhereItIsInEveryEnvelope) {
  Config config;
  config.incarnation = 1;
  Gateway gateway(config);
  tell(gateway, at(0), order(1, routing()));
  tell(gateway, at(0), order(2, ReplicaReady{kGroup, {1}}));
  const auto beat = said<ToControl>(tell(gateway, at(0), Woken{}));
  ASSERT_EQ(beat.size(), 1u);
  EXPECT_EQ(beat[0].envelope, (Envelope<GatewayReport>{1, 0, 2, {}}));
  tell(gateway, at(0), call(1));
  const auto held = said<ToControl>(tell(gateway, at(0), call(2)));
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].envelope.sequence, 1u);
  EXPECT_EQ(held[0].envelope.acknowledged, 2u);
  EXPECT_EQ(std::get<Demand>(*held[0].envelope.message).queued, 1u);
}

TEST(Gateway, SendsAgainAtEachHeartbeatWhatIsNotAcknowledged) {
  Gateway gateway(Config{});
  tell(gateway, at(0), Woken{});
  tell(gateway, at(0), order(1, routing()));
  for (std::uint64_t n = 1; n <= 3; ++n) {
    tell(gateway, at(0), order(1 + n, ReplicaReady{kGroup, {n}}));
  }
  EXPECT_EQ(sequences(tell(gateway, at(0), order(5, DrainReplicas{kGroup, 3}))),
            (Sequences{1, 2, 3}));
  // What went out since the last heartbeat may still arrive; from the next on it goes again.
  gateway = Gateway(gateway.config(), gateway.state());
  Sequences beat = sequences(tell(gateway, at(1), Woken{}));
  EXPECT_EQ(std::count(beat.begin(), beat.end(), 1), 0);
  const auto again = said<ToControl>(tell(gateway, at(2), Woken{}));
  ASSERT_GE(again.size(), 3u);
  EXPECT_EQ(std::get<ReplicaReturned>(*again[1].envelope.message), (ReplicaReturned{kGroup, {2}}));
  tell(gateway, at(2), FromControl{{1, 0, 2, {}}});
  beat = sequences(tell(gateway, at(3), Woken{}));
  EXPECT_EQ(beat.front(), 3u);
  tell(gateway, at(3), FromControl{{1, 0, 99, {}}});
  EXPECT_TRUE(gateway.state().reports.empty());
}

std::vector<Demand> demands(const std::vector<Effect>& effects) {
  std::vector<Demand> out;
  for (const auto& message : said<ToControl>(effects)) {
    if (!message.envelope.message) continue;
    if (const auto* one = std::get_if<Demand>(&*message.envelope.message)) out.push_back(*one);
  }
  return out;
}

// Control is away for an hour: what is kept is bounded, and it then hears the newest of each group.
TEST(Gateway, KeepsOnlyTheNewestDemandOfAGroupWhileControlIsAway) {
  Config config;
  config.reports_max = 4;
  Gateway gateway(config);
  for (std::uint64_t group = 1; group <= 3; ++group) {
    tell(gateway, at(0), order(group, routing({group})));
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

TEST(Gateway, AsksToBeWokenForTheEarlierOfItsHeartbeatAndItsFunctions) {
  Gateway gateway(Config{});
  tell(gateway, at(0), Woken{});
  GroupRouting timed = routing();
  timed.queue_timeout = milliseconds(300);
  tell(gateway, at(0), order(1, timed));
  const auto wake = said<WakeAt>(tell(gateway, at(0), call(1)));
  ASSERT_EQ(wake.size(), 1u);
  EXPECT_EQ(wake[0].at, at(0) + milliseconds(300));
  const auto due = tell(gateway, wake[0].at, Woken{});
  EXPECT_EQ(said<functions::RefuseRequest>(due).size(), 1u);
  ASSERT_EQ(said<WakeAt>(due).size(), 1u);
  EXPECT_EQ(said<WakeAt>(due)[0].at, at(1));
}

// Every second a call is held and reported, and one report is lost: without going back all the way
// each later report would come before the one that it must follow, and be dropped, for ever.
TEST(Gateway, CatchesUpAfterALossThoughNewReportsKeepComing) {
  Gateway gateway(Config{});
  Inbox control;
  std::uint64_t said_so_far = 0;
  tell(gateway, at(0), order(1, routing()));
  for (int second = 0; second < 6; ++second) {
    auto effects = tell(gateway, at(second), Woken{});
    gateway.step(at(second) + milliseconds(500), call(1), effects);
    for (const auto& one : said<ToControl>(effects)) {
      said_so_far = std::max(said_so_far, one.envelope.sequence);
      if (second != 0 && one.envelope.sequence != 0) control.accept(one.envelope.sequence);
    }
    tell(gateway, at(second) + milliseconds(501), FromControl{{1, 0, control.received, {}}});
  }
  EXPECT_EQ(control.received, said_so_far);
}

// Control at the other end of a network that loses, repeats and reorders: a plain Outbox and Inbox.
struct Wire {
  Gateway gateway{Config{}};
  Random random;
  Time now{};
  Outbox<GatewayOrder> orders{};
  Inbox reports{};
  std::vector<Envelope<GatewayOrder>> down{};
  std::vector<Envelope<GatewayReport>> up{};
  std::uint64_t loss = 3;  // of ten
  std::vector<GatewayOrder> sent{};
  std::map<SandboxId, int> returned{};
  std::map<GroupId, Demand> newest{};
  std::map<GroupId, Demand> said_last{};
  std::uint64_t said = 0;

  void hear(const std::vector<Effect>& effects) {
    for (const auto& one : test::said<ToControl>(effects)) {
      if (one.envelope.sequence > said) {  // not one that is sent again
        said = one.envelope.sequence;
        const auto* demand = std::get_if<Demand>(&*one.envelope.message);
        if (demand != nullptr) said_last[demand->group] = *demand;
      }
      for (auto copies = random.below(2) + 1; copies > 0; --copies) {
        if (random.below(10) >= loss) up.push_back(one.envelope);
      }
    }
  }
  template <class E>
  void give(const E& event) {
    hear(tell(gateway, now, event));
  }
  void order(const GatewayOrder& message) {
    sent.push_back(message);
    post({1, orders.push(message), reports.received, message});
  }
  void post(const Envelope<GatewayOrder>& envelope) {
    for (auto copies = random.below(2) + 1; copies > 0; --copies) {
      if (random.below(10) >= loss) down.push_back(envelope);
    }
  }
  template <class T>
  T draw(std::vector<T>& from) {
    const std::size_t index = loss == 0 ? 0 : random.below(from.size());
    T out = from[index];
    from.erase(from.begin() + static_cast<std::ptrdiff_t>(index));
    return out;
  }
  void deliver() {
    if (!down.empty()) give(FromControl{draw(down)});
    if (up.empty()) return;
    const auto envelope = draw(up);
    orders.acknowledge(envelope.acknowledged);
    if (!envelope.message || !reports.accept(envelope.sequence)) return;
    const auto* back = std::get_if<ReplicaReturned>(&*envelope.message);
    if (back != nullptr) ++returned[back->sandbox];
    if (const auto* demand = std::get_if<Demand>(&*envelope.message)) {
      RC_ASSERT(demand->at >= newest[demand->group].at);
      newest[demand->group] = *demand;
    }
  }
  void second() {
    const Time end = now + seconds(1);
    while (gateway.state().wake <= end) {
      now = std::max(now, gateway.state().wake);
      give(Woken{});
    }
    now = end;
    orders.resend([&](std::uint64_t sequence, const GatewayOrder& message) {
      post({1, sequence, reports.received, message});
    });
    post({1, 0, reports.received, {}});
  }
  void settle() {  // the network is well again: nothing is lost or overtaken
    loss = 0;
    for (int i = 0; i < 8; ++i) {
      second();
      while (!down.empty() || !up.empty()) deliver();
    }
  }
};

// Through any network: the orders of control have the effect that they would have had over a
// perfect one, each replica given back is heard of once, and control ends with the newest demand.
RC_GTEST_PROP(Gateway, IsTheSameOverABadNetworkAsOverAPerfectOne, (std::uint64_t key)) {
  Wire wire;
  wire.random = Random{key, 0};
  wire.order(routing({1}));
  wire.order(routing({2}));
  std::uint64_t sandboxes = 0;
  for (int i = 0; i < 60; ++i) {
    const GroupId group{1 + wire.random.below(2)};
    switch (wire.random.below(8)) {
      case 0: wire.order(ReplicaReady{group, {++sandboxes}}); break;
      case 1: wire.order(ReplicaGone{group, {1 + wire.random.below(sandboxes + 1)}}); break;
      case 2: wire.order(DrainReplicas{group, 1}); break;
      case 3: wire.second(); break;
      case 4: wire.give(call(1000 + static_cast<std::uint64_t>(i), {2})); break;
      default: wire.deliver();
    }
    if (i % 20 == 0) {
      State state;
      RC_ASSERT(decode(encode(wire.gateway.state()), state));
      RC_ASSERT(state == wire.gateway.state());
      wire.gateway = Gateway(wire.gateway.config(), state);
    }
  }
  wire.settle();
  RC_ASSERT(wire.gateway.state().orders.received == wire.sent.size());
  RC_ASSERT(wire.orders.empty());
  RC_ASSERT(wire.newest == wire.said_last);
  // Group 1 has no calls, so what happens to it depends on the order of the orders alone.
  functions::Functions perfect{functions::Config{}};
  std::map<SandboxId, int> given_back;
  for (const GatewayOrder& one : wire.sent) {
    std::vector<functions::Effect> effects;
    std::visit([&](const auto& order) { perfect.step(at(0), order, effects); }, one);
    for (const auto& back : said<functions::ReturnReplica>(effects)) {
      if (back.group == kGroup) ++given_back[back.sandbox];
    }
  }
  std::map<SandboxId, int> heard;
  for (const auto& [sandbox, times] : wire.returned) {
    RC_ASSERT(times == 1);
    for (const GatewayOrder& one : wire.sent) {
      const auto* ready = std::get_if<ReplicaReady>(&one);
      if (ready != nullptr && *ready == ReplicaReady{kGroup, sandbox}) heard[sandbox] = times;
    }
  }
  RC_ASSERT(heard == given_back);
}

}  // namespace
}  // namespace chalk::gateway
