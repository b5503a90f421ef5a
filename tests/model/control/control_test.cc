// The root as its driver sees it: requests and envelopes in, envelopes and replies out.
#include "model/control/control.h"

#include <gtest/gtest.h>

#include "model/core/codec.h"
#include "model/gateway/gateway.h"
#include "tests/model/control/rig.h"

namespace chalk::control {
namespace {

SandboxRequested request(std::uint64_t reply_to, std::int64_t millicores = 1000) {
  SandboxRequested one;
  one.reply_to = reply_to;
  one.tenant = {1};
  one.resources = {.cpu_millicores = millicores};
  return one;
}
template <class Order>
std::vector<Order> orders(const std::vector<Effect>& effects) {
  std::vector<Order> out;
  for (const auto& message : said<ToNode>(effects)) {
    if (!message.envelope.message) continue;
    if (const auto* one = std::get_if<Order>(&*message.envelope.message)) out.push_back(*one);
  }
  return out;
}

// A control plane with one pool, one tenant and a gateway; nodes answer in sequence.
struct Rig {
  Control control;
  std::map<NodeId, std::uint64_t> sent{};

  explicit Rig(const Config& config = {}) : control(config) {
    fleet::PoolAdded pool;
    pool.pool = {1};
    pool.policy.shape = kShape;
    pool.policy.zones = {{1}};
    tell(control, at(0), pool);
    tenancy::TenantAdded tenant;
    tenant.tenant = {1};
    tenant.quota.cpu_millicores = 6000;
    tell(control, at(0), tenant);
    tell(control, at(0), GatewayJoined{{1}, 1});
  }
  NodeId join(std::int64_t second, std::uint64_t key) {
    return said<fleet::WelcomeNode>(tell(control, at(second), registration(key)))[0].node;
  }
  std::vector<Effect> report(std::int64_t second, NodeId node, NodeReport one) {
    return tell(control, at(second), FromNode{node, {1, ++sent[node], 0, std::move(one)}});
  }
};

TEST(Control, PassesTheWishToBeStartedAgainAndWhatBecameOfIt) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  SandboxRequested wish = request(11);
  wish.restart = true;
  const auto starts = orders<StartOrder>(tell(rig.control, at(2), wish));
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_TRUE(starts[0].restart);
  const SandboxId id = starts[0].sandbox;
  rig.report(3, node, StartedReport{id});
  EXPECT_EQ(said<sandbox::Restarted>(rig.report(4, node, RestartedReport{id, 1, false, "code 3"})),
            (std::vector<sandbox::Restarted>{{11, id, 1, false, "code 3"}}));
  const auto stopped = rig.report(5, node, RestartedReport{{777}, 1, true});
  EXPECT_EQ(orders<StopOrder>(stopped).size(), 1u) << "nobody here knows what its node starts again";
  const auto gone = said<sandbox::Gone>(rig.report(6, node, EndedReport{id, EndReason::lifetime_reached}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::lifetime_reached);
  EXPECT_FALSE(orders<StartOrder>(tell(rig.control, at(7), request(12)))[0].restart);
}

TEST(Control, TakesASandboxFromItsRequestToItsEnd) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  const auto asked = tell(rig.control, at(2), request(11));
  ASSERT_EQ(said<sandbox::Accepted>(asked).size(), 1u);
  const SandboxId id = said<sandbox::Accepted>(asked)[0].sandbox;
  const auto starts = orders<StartOrder>(asked);
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0].sandbox, id);
  EXPECT_EQ(starts[0].owner, TenantId{1});
  const auto running = said<sandbox::Running>(rig.report(3, node, StartedReport{id}));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].reply_to, 11u);
  EXPECT_EQ(running[0].took, seconds(1));
  EXPECT_EQ(orders<StopOrder>(tell(rig.control, at(4), sandbox::TerminateRequested{id})).size(),
            1u);
  const auto gone =
      said<sandbox::Gone>(rig.report(5, node, EndedReport{id, EndReason::terminated}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(rig.control.tenancy().in_use({1}), tenancy::Amounts{});
}

TEST(Control, RefusesWithTheRuleWhatIsBeyondAQuotaOrFitsNoNode) {
  Rig rig;
  rig.join(1, 7);
  const auto huge = said<sandbox::Refused>(tell(rig.control, at(1), request(1, 5000)));
  ASSERT_EQ(huge.size(), 1u);
  EXPECT_EQ(huge[0].rule, sandbox::Refusal::never_fits);
  tell(rig.control, at(1), request(2, 4000));
  const auto beyond = said<sandbox::Refused>(tell(rig.control, at(1), request(3, 3000)));
  ASSERT_EQ(beyond.size(), 1u);
  EXPECT_EQ(beyond[0].rule, sandbox::Refusal::admission);
  EXPECT_EQ(beyond[0].admission_rule, static_cast<std::uint8_t>(tenancy::Rule::quota_cpu));
  EXPECT_EQ(beyond[0].in_use, 4000);
  EXPECT_EQ(beyond[0].limit, 6000);
}

// What was counted for a pool is taken back from it, whatever has changed since.
TEST(Control, CountsWhatWaitsForOnePoolUntilItIsPlaced) {
  Control control{Config{}};
  const auto pool = [&](std::uint64_t id, bool elastic) {
    fleet::PoolAdded one{{id}, {}};
    one.policy.shape = kShape;
    one.policy.zones = {{1}};
    one.policy.elastic = elastic;
    one.policy.nodes_max = 1;
    tell(control, at(1), one);
  };
  const auto waits = [&](std::uint64_t id) {
    return control.fleet().state().pools[id - 1].pending.count;
  };
  pool(1, true);
  pool(2, true);
  tenancy::TenantAdded tenant{{1}, {}, 1, true, {}};
  tell(control, at(1), tenant);
  tell(control, at(1), request(1));
  tell(control, at(1), request(2));
  EXPECT_EQ(waits(1), 2);
  tenant.dedicated_pool = {2};
  tell(control, at(2), tenant);
  NodeRegistration joins = registration(7);
  joins.pool = {2};
  const auto said_then = tell(control, at(3), joins);
  EXPECT_EQ(orders<StartOrder>(said_then).size(), 2u);
  EXPECT_EQ(waits(1), 0);
  EXPECT_EQ(waits(2), 0);
}

TEST(Control, BuysForWhatWaitedBeforeItsPoolBecameElastic) {
  Control control{Config{}};
  fleet::PoolAdded pool{{1}, {}};
  pool.policy.shape = kShape;
  pool.policy.zones = {{1}};
  pool.policy.nodes_max = 4;
  tell(control, at(1), pool);
  tell(control, at(1), tenancy::TenantAdded{{1}, {}, 1, true, {}});
  SandboxRequested asked = request(1);
  asked.pool = {1};
  tell(control, at(1), asked);
  EXPECT_EQ(control.fleet().state().pools[0].pending.count, 0) << "it buys nothing";
  pool.policy.elastic = true;
  const auto bought = said<fleet::BuyNode>(tell(control, at(2), pool));
  EXPECT_EQ(control.fleet().state().pools[0].pending.count, 1);
  EXPECT_EQ(bought.size(), 1u);
}

// What the first pool cannot give is bought of the second one, also for who waits already; what names
// a pool waits for that. After a while the first pool is tried again.
TEST(Control, WhatAPoolCannotGiveIsBoughtOfTheNextThatFits) {
  Control control{Config{}};
  for (const std::uint64_t id : {1, 2, 3}) {
    fleet::PoolAdded pool{{id}, {}};
    pool.policy.shape = kShape;
    if (id == 2) pool.policy.shape.cpu_millicores = 1;  // nothing fits there
    pool.policy.zones = {{1}};
    pool.policy.nodes_max = 4;
    pool.policy.elastic = true;
    tell(control, at(1), pool);
  }
  tell(control, at(1), tenancy::TenantAdded{{1}, {}, 1, true, {}});
  const auto bought = [](const std::vector<Effect>& effects) {
    std::vector<std::uint64_t> pools;
    for (const auto& one : said<fleet::BuyNode>(effects)) pools.push_back(one.pool.value);
    return pools;
  };
  const auto waits = [&](std::size_t pool) {
    return control.fleet().state().pools[pool - 1].pending.count;
  };
  using Pools = std::vector<std::uint64_t>;
  EXPECT_EQ(bought(tell(control, at(2), request(1))), Pools{1});
  SandboxRequested named = request(2);
  named.pool = {1};
  tell(control, at(2), named);
  EXPECT_EQ(bought(tell(control, at(5), fleet::PurchaseFailed{1})), Pools{3});
  EXPECT_EQ(waits(1), 1) << "what names it";
  EXPECT_EQ(waits(3), 1);
  tell(control, at(6), request(3));
  EXPECT_EQ(waits(3), 2);
  EXPECT_EQ(bought(tell(control, at(7), fleet::PurchaseFailed{2})), Pools{}) << "all are sold out";
  EXPECT_EQ(waits(1), 3) << "so it waits for the first";
  EXPECT_EQ(bought(tell(control, at(66), Woken{})), Pools{1});
  EXPECT_EQ(bought(tell(control, at(70), fleet::PurchaseFailed{3})), Pools{3}) << "after a minute";
  EXPECT_EQ(waits(1), 1);
  EXPECT_EQ(waits(3), 2);
}

// It is no node at all: what it says of itself would count as capacity that nothing can use.
TEST(Control, IgnoresANodeOfAnImpossibleShape) {
  Rig rig;
  for (const int what : {0, 1, 2, 3}) {
    NodeRegistration wrong = registration(7);
    if (what == 0) wrong.shape.cpu_millicores = INT64_MAX;
    if (what == 1) wrong.shape.memory_bytes = -1;
    if (what == 2) wrong.shape.gpus = kGpusPerNodeMax + 1;
    if (what == 3) wrong.shape.gpu_model = kGpuModelsMax;
    EXPECT_TRUE(said<fleet::WelcomeNode>(tell(rig.control, at(1), wrong)).empty()) << what;
  }
  EXPECT_EQ(rig.control.tenancy().state().capacity, tenancy::Amounts{});
  rig.join(2, 7);
}

// One that beats and acknowledges nothing gets no more than is already its own.
TEST(Control, DrainsANodeThatObeysNoOrders) {
  Config config;
  config.orders_per_node_max = 10;
  Rig rig;
  rig.control = Control(config, rig.control.state());
  const NodeId node = rig.join(1, 7);
  std::size_t orders_given = 0;
  for (std::uint64_t id = 1; id <= 40; ++id) {
    const auto asked = tell(rig.control, at(2), request(id, 10));
    orders_given += orders<StartOrder>(asked).size();
    for (const auto& accepted : said<sandbox::Accepted>(asked)) {
      tell(rig.control, at(2), sandbox::TerminateRequested{accepted.sandbox});
      rig.report(2, node, EndedReport{accepted.sandbox, EndReason::terminated});
    }
  }
  EXPECT_GE(orders_given, 5u);
  EXPECT_LE(orders_given, 11u);
  EXPECT_TRUE(rig.control.fleet().state().nodes.find(node)->draining);
}

// Its new gateway is told what runs, and the old one that it is no longer its own.
TEST(Control, TellsTheNewGatewayOfAGroupWhatRuns) {
  Rig rig;
  tell(rig.control, at(0), GatewayJoined{{2}, 1});
  const NodeId node = rig.join(1, 7);
  GroupDeployed deployed;
  deployed.spec.group = {1};
  deployed.spec.tenant = {1};
  deployed.spec.gateway = {1};
  deployed.spec.resources = {.cpu_millicores = 100};
  deployed.spec.policy.min_replicas = 1;
  const auto starts = orders<StartOrder>(tell(rig.control, at(2), deployed));
  ASSERT_EQ(starts.size(), 1u);
  rig.report(3, node, StartedReport{starts[0].sandbox});
  deployed.spec.gateway = {2};
  int ready = 0, gone = 0;
  for (const auto& message : said<ToGateway>(tell(rig.control, at(4), deployed))) {
    if (!message.envelope.message) continue;
    const auto* one = std::get_if<ReplicaReady>(&*message.envelope.message);
    const auto* other = std::get_if<ReplicaGone>(&*message.envelope.message);
    if (one != nullptr && message.gateway == GatewayId{2}) ready += one->sandbox == starts[0].sandbox;
    if (other != nullptr && message.gateway == GatewayId{1}) gone += other->sandbox == starts[0].sandbox;
  }
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(gone, 1);
  // What the old one has still to say of it is not believed.
  Demand demand;
  demand.group = {1};
  demand.arrivals = demand.queued = demand.peak = 50;
  for (std::uint64_t second = 5; second < 8; ++second) {
    demand.at = at(second);
    EXPECT_TRUE(orders<StartOrder>(tell(rig.control, at(second),
                                        FromGateway{{1}, {1, second - 4, 0, demand}})).empty());
  }
  tell(rig.control, at(8), FromGateway{{1}, {1, 4, 0, ReplicaReturned{{1}, starts[0].sandbox}}});
  EXPECT_FALSE(rig.control.sandboxes().find(starts[0].sandbox)->stop_asked);
  tell(rig.control, at(9), FromGateway{{2}, {1, 1, 0, ReplicaReturned{{1}, starts[0].sandbox}}});
  EXPECT_TRUE(rig.control.sandboxes().find(starts[0].sandbox)->stop_asked);
}

// A call that waits at the old gateway is refused there by a rule, and so is one that comes late.
TEST(Control, NoCallWaitsAtTheGatewayThatAGroupHasLeft) {
  Rig rig;
  tell(rig.control, at(0), GatewayJoined{{2}, 1});
  GroupDeployed deployed;
  deployed.spec.group = {1};
  deployed.spec.tenant = {1};
  deployed.spec.gateway = {1};
  deployed.spec.routing.group = {1};
  gateway::Config config;
  config.gateway = {1};
  gateway::Gateway old(config);
  const auto obey = [&](std::int64_t second, const GroupDeployed& said_now) {
    for (const auto& message : said<ToGateway>(tell(rig.control, at(second), said_now))) {
      if (message.gateway == GatewayId{1}) tell(old, at(second), gateway::FromControl{message.envelope});
    }
  };
  obey(1, deployed);
  EXPECT_TRUE(said<functions::RefuseRequest>(tell(old, at(2), functions::RequestArrived{{1}, {1}})).empty());
  deployed.spec.gateway = {2};
  obey(5, deployed);
  const auto refused = said<functions::RefuseRequest>(tell(old, at(5), Woken{}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].rule, functions::Rule::queue_timeout);
  EXPECT_EQ(refused[0].value, seconds(3).nanos);
  const auto late = said<functions::RefuseRequest>(tell(old, at(6), functions::RequestArrived{{2}, {1}}));
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0].rule, functions::Rule::queue_full);
  deployed.spec.gateway = {1};
  obey(7, deployed);
  EXPECT_TRUE(said<functions::RefuseRequest>(tell(old, at(8), functions::RequestArrived{{3}, {1}})).empty());
}

TEST(Control, PlacesWhatAnOwnerHeldUpWhenTheOwnerGivesUp) {
  Rig rig;
  tell(rig.control, at(0), tenancy::TenantAdded{{1}, {}, 1, true, {}});
  tell(rig.control, at(0),
       tenancy::TenantAdded{{2}, {}, 1, true, {}, {}, {.cpu_millicores = 4000}});
  const NodeId node = rig.join(1, 7);
  const auto first = orders<StartOrder>(tell(rig.control, at(2), request(1, 3000)));
  ASSERT_EQ(first.size(), 1u);
  rig.report(3, node, StartedReport{first[0].sandbox});
  SandboxRequested owner = request(2, 2000);
  owner.tenant = {2};
  const auto asked = tell(rig.control, at(4), owner);
  EXPECT_TRUE(orders<StartOrder>(asked).empty()) << "one core is left";
  EXPECT_TRUE(orders<StartOrder>(tell(rig.control, at(5), request(3, 1000))).empty())
      << "it would borrow what the owner waits for";
  const SandboxId waits = said<sandbox::Accepted>(asked)[0].sandbox;
  const auto after = tell(rig.control, at(6), sandbox::TerminateRequested{waits});
  EXPECT_EQ(orders<StartOrder>(after).size(), 1u);
}

TEST(Control, PlacesWhatWaitsWhenRoomComesFree) {
  Rig rig;
  const auto asked = tell(rig.control, at(1), request(1, 3000));
  EXPECT_TRUE(orders<StartOrder>(asked).empty()) << "there is no node yet";
  EXPECT_EQ(orders<StartOrder>(tell(rig.control, at(2), registration(7))).size(), 1u);
  const NodeId node{1};
  const SandboxId first = said<sandbox::Accepted>(asked)[0].sandbox;
  EXPECT_TRUE(orders<StartOrder>(tell(rig.control, at(3), request(2, 3000))).empty());
  rig.report(3, node, StartedReport{first});
  EXPECT_EQ(orders<StartOrder>(rig.report(4, node, EndedReport{first, EndReason::exited})).size(),
            1u);
}

TEST(Control, TriesTheStartElsewhereWhenANodeFallsSilent) {
  Rig rig;
  const NodeId first = rig.join(1, 7);
  const auto asked = tell(rig.control, at(2), request(1));
  const SandboxId id = said<sandbox::Accepted>(asked)[0].sandbox;
  tell(rig.control, at(21), Woken{});  // it takes nothing new
  const NodeId second = rig.join(30, 8);
  const auto silent = tell(rig.control, at(41), Woken{});
  const auto starts = orders<StartOrder>(silent);
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0].sandbox, id);
  EXPECT_EQ(said<ToNode>(silent)[0].node, second);
  const auto late = rig.report(42, first, StartedReport{id});
  EXPECT_EQ(said<UnknownNode>(late).size(), 1u) << "it is told to end everything and come back";
  EXPECT_TRUE(said<sandbox::Running>(late).empty());
}

// The node that fails all starts is the emptiest of the tenant's, and would be the best each time.
TEST(Control, TriesTheStartOnAnotherNodeThanTheOneThatFailedIt) {
  Rig rig;
  const NodeId bad = rig.join(1, 7);
  const auto asked = tell(rig.control, at(2), request(1));
  const SandboxId id = said<sandbox::Accepted>(asked)[0].sandbox;
  const NodeId good = rig.join(3, 8);
  const auto failed = rig.report(4, bad, EndedReport{id, EndReason::start_failed});
  ASSERT_EQ(orders<StartOrder>(failed).size(), 1u);
  EXPECT_EQ(said<ToNode>(failed).back().node, good);
  const auto refused = rig.report(5, good, RefusedReport{id, NodeRefusal::disk});
  ASSERT_EQ(orders<StartOrder>(refused).size(), 1u) << "both have failed it: it is tried all the same";
  const auto last = rig.report(6, said<ToNode>(refused).back().node,
                               EndedReport{id, EndReason::start_failed});
  EXPECT_EQ(said<sandbox::Gone>(last).size(), 1u);
}

TEST(Control, SendsNobodyForAnImageToANodeThatRefusedTheStart) {
  for (const bool another : {false, true}) {
    Config config;
    config.distribution.spreading = images::Spreading::tree;
    Rig rig(config);
    tell(rig.control, at(1), ImageSpec{{1}, {{{9}, 10, 20}}});
    const NodeId first = rig.join(1, 7);
    SandboxRequested wish = request(1);
    wish.image = {1};
    const SandboxId id = said<sandbox::Accepted>(tell(rig.control, at(2), wish))[0].sandbox;
    if (another) tell(rig.control, at(2), wish);
    rig.join(3, 8);
    const auto refused = rig.report(4, first, RefusedReport{id, NodeRefusal::disk});
    const auto starts = orders<StartOrder>(refused);
    ASSERT_EQ(starts.size(), 1u);
    EXPECT_EQ(starts[0].sources, another ? std::vector<NodeId>{first} : std::vector<NodeId>{})
        << "it gets the image only where another start there needs it";
  }
}

TEST(Control, TakesAReportOnceHoweverOftenItCame) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  const SandboxId id = said<sandbox::Accepted>(tell(rig.control, at(2), request(1)))[0].sandbox;
  rig.report(3, node, StartedReport{id});
  const FromNode again{node, {1, 1, 0, NodeReport{StartedReport{id}}}};
  EXPECT_TRUE(said<sandbox::Running>(tell(rig.control, at(4), again)).empty());
  const FromNode early{node, {1, 3, 0, NodeReport{EndedReport{id, EndReason::exited}}}};
  EXPECT_TRUE(said<sandbox::Gone>(tell(rig.control, at(4), early)).empty())
      << "report 2 is missing";
}

TEST(Control, SendsAnOrderAgainUntilTheNodeHasIt) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  tell(rig.control, at(2), request(1));
  const auto beat = [&](std::int64_t second, std::uint64_t acknowledged) {
    return orders<StartOrder>(
        tell(rig.control, at(second), FromNode{node, {1, 0, acknowledged, {}}}));
  };
  EXPECT_TRUE(beat(3, 0).empty()) << "it may still be on its way";
  EXPECT_EQ(beat(13, 0).size(), 1u);
  EXPECT_TRUE(beat(23, 1).empty());
}

TEST(Control, KeepsTheMinimumOfAGroupAndTellsItsGateway) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  GroupSpec spec;
  spec.group = {1};
  spec.tenant = {1};
  spec.resources = {.cpu_millicores = 1000};
  spec.gateway = {1};
  spec.routing.group = {1};
  spec.policy.min_replicas = 2;
  const auto deployed = tell(rig.control, at(2), GroupDeployed{spec});
  const auto starts = orders<StartOrder>(deployed);
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_EQ(starts[0].group, GroupId{1});
  const auto ready = said<ToGateway>(rig.report(3, node, StartedReport{starts[0].sandbox}));
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<ReplicaReady>(*ready[0].envelope.message));
  const auto ended = rig.report(4, node, EndedReport{starts[0].sandbox, EndReason::exited});
  EXPECT_TRUE(std::holds_alternative<ReplicaGone>(*said<ToGateway>(ended)[0].envelope.message));
  EXPECT_EQ(orders<StartOrder>(tell(rig.control, at(6), Woken{})).size(), 1u)
      << "replaced at the next look";
}

GroupSpec one_replica() {
  GroupSpec spec;
  spec.group = {1};
  spec.tenant = {1};
  spec.resources = {.cpu_millicores = 1000};
  spec.gateway = {1};
  spec.routing.group = {1};
  spec.policy.min_replicas = 1;
  return spec;
}

TEST(Control, ReplacesAReplicaThatSomebodyTerminated) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  const auto starts = orders<StartOrder>(tell(rig.control, at(2), GroupDeployed{one_replica()}));
  ASSERT_EQ(starts.size(), 1u);
  rig.report(3, node, StartedReport{starts[0].sandbox});
  tell(rig.control, at(4), sandbox::TerminateRequested{starts[0].sandbox});
  rig.report(5, node, EndedReport{starts[0].sandbox, EndReason::terminated});
  EXPECT_EQ(rig.control.autoscaler().group({1})->ready, 0u);
  for (std::int64_t s = 6; s <= 12; ++s) tell(rig.control, at(s), Woken{});
  EXPECT_EQ(rig.control.sandboxes().state().sandboxes.size(), 1u);
}

template <class Order>
std::vector<Order> to_gateway(const std::vector<Effect>& effects, GatewayId gateway = {1}) {
  std::vector<Order> out;
  for (const auto& message : said<ToGateway>(effects)) {
    if (message.gateway != gateway || !message.envelope.message) continue;
    if (const auto* one = std::get_if<Order>(&*message.envelope.message)) out.push_back(*one);
  }
  return out;
}

// A replica in a long call on a node that is to be empty: another starts beside it, also where control
// starts again meanwhile. A gateway that starts again is told of it, too.
TEST(Control, ReplacesAReplicaThatIsToLeaveBeforeItHasLeft) {
  Rig rig;
  const NodeId first = rig.join(1, 7);
  const auto starts = orders<StartOrder>(tell(rig.control, at(2), GroupDeployed{one_replica()}));
  ASSERT_EQ(starts.size(), 1u);
  const SandboxId busy = starts[0].sandbox;
  rig.report(3, first, StartedReport{busy});
  const NodeId second = rig.join(4, 8);
  const std::vector<DrainReplica> drained{{{1}, busy}};
  EXPECT_EQ(to_gateway<DrainReplica>(tell(rig.control, at(5), fleet::ReclaimNoticed{first, at(2000)})), drained);
  State restored;
  ASSERT_TRUE(decode(encode(rig.control.state()), restored));
  rig.control = Control(Config{}, restored);
  std::vector<StartOrder> others;
  for (std::int64_t s = 6; s <= 30; ++s) {
    for (const auto& one : orders<StartOrder>(tell(rig.control, at(s), Woken{}))) others.push_back(one);
    tell(rig.control, at(s), FromNode{first, {1, 0, 1'000, {}}});
    tell(rig.control, at(s), FromNode{second, {1, 0, 1'000, {}}});
  }
  ASSERT_EQ(others.size(), 1u);
  rig.report(31, second, StartedReport{others[0].sandbox});
  EXPECT_EQ(rig.control.autoscaler().group({1})->ready, 2u);

  const auto joined = tell(rig.control, at(32), GatewayJoined{{1}, 2});
  EXPECT_EQ(to_gateway<ReplicaReady>(joined).size(), 2u);
  EXPECT_EQ(to_gateway<DrainReplica>(joined), drained) << "also one that has just started";

  tell(rig.control, at(33), FromGateway{{1}, {2, 1, 1'000, ReplicaReturned{{1}, busy}}});
  rig.report(34, first, EndedReport{busy, EndReason::terminated});
  EXPECT_EQ(rig.control.autoscaler().group({1})->ready, 1u);
  EXPECT_EQ(rig.control.autoscaler().group({1})->stopping, 0u);
  EXPECT_TRUE(rig.control.state().routing.leaving.empty());
}

// The link to a gateway is cut for a minute. It obeys all that it gets then, so it gets one.
TEST(Control, TellsAGatewayToDrainAgainOnlyWhenItHasHeardOfTheLast) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  GroupSpec spec = one_replica();
  spec.policy.min_replicas = 4;
  for (const auto& start : orders<StartOrder>(tell(rig.control, at(2), GroupDeployed{spec}))) {
    rig.report(3, node, StartedReport{start.sandbox});
  }
  Demand all_ready;
  all_ready.group = {1};
  all_ready.at = at(3);
  all_ready.ready = 4;
  tell(rig.control, at(3), FromGateway{{1}, {1, 1, 0, all_ready}});
  spec.policy.min_replicas = 0;
  spec.policy.keep_alive = seconds(1);
  std::vector<DrainReplicas> drains = to_gateway<DrainReplicas>(tell(rig.control, at(4), GroupDeployed{spec}));
  const auto run = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t s = from; s <= to; ++s) {
      tell(rig.control, at(s), FromNode{node, {1, 0, 1'000'000, {}}});
      for (const auto& one : to_gateway<DrainReplicas>(tell(rig.control, at(s), Woken{}))) drains.push_back(one);
    }
  };
  run(5, 64);
  ASSERT_EQ(drains.size(), 1u);
  EXPECT_EQ(drains[0].count, 4u);
  tell(rig.control, at(65), FromGateway{{1}, {1, 0, 1'000, {}}});  // it has all that was said
  run(65, 90);
  EXPECT_GE(drains.size(), 2u) << "it has given none back";
}

// Eight calls wait, and a node has room for four: the other four starts stand in line.
struct Line {
  Rig rig;
  NodeId node = rig.join(1, 7);
  std::vector<StartOrder> starts;
  std::uint64_t reports = 0;

  Line() {
    fleet::PoolAdded elastic;
    elastic.pool = {1};
    elastic.policy.elastic = true;
    elastic.policy.shape = kShape;
    elastic.policy.zones = {{1}};
    tell(rig.control, at(1), elastic);
    tenancy::TenantAdded unbounded;
    unbounded.tenant = {1};
    tell(rig.control, at(1), unbounded);
    GroupSpec spec = one_replica();
    spec.policy.kind = autoscaler::Kind::fixed;
    spec.policy.min_replicas = 0;
    tell(rig.control, at(2), GroupDeployed{spec});
    starts = orders<StartOrder>(demand(2, 8));
  }
  std::vector<Effect> demand(std::int64_t second, std::uint32_t queued) {
    Demand said;
    said.group = {1};
    said.at = at(second);
    said.arrivals = said.holds = 8;
    said.queued = queued;
    return tell(rig.control, at(second), FromGateway{{1}, {1, ++reports, 1'000'000, said}});
  }
  std::vector<SandboxId> waiting() const {
    std::vector<SandboxId> out;
    const auto& sandboxes = rig.control.sandboxes().state().sandboxes;
    sandboxes.for_each([&](SandboxId id, const sandbox::Record& one) {
      if (!one.node) out.push_back(id);
    });
    return out;
  }
  fleet::PendingDemand pending() const {
    return rig.control.state().routing.pools[0].demand;
  }
};

TEST(Control, TakesStartsOutOfTheLineThatNobodyWaitsFor) {
  Line line;
  ASSERT_EQ(line.starts.size(), 4u);
  const std::vector<SandboxId> waiting = line.waiting();
  ASSERT_EQ(waiting.size(), 4u);
  EXPECT_EQ(line.pending().count, 4);
  const auto three_less = line.demand(3, 5);
  EXPECT_EQ(said<sandbox::Gone>(three_less).size(), 3u);
  EXPECT_EQ(line.waiting(), std::vector{waiting[0]}) << "the first to come stays";
  EXPECT_EQ(line.pending().count, 1);
  EXPECT_EQ(line.rig.control.autoscaler().group({1})->starting, 5u);
  EXPECT_EQ(said<sandbox::Gone>(line.demand(4, 5)).size(), 0u);
  EXPECT_EQ(said<sandbox::Gone>(line.demand(5, 0)).size(), 1u);
  EXPECT_EQ(line.rig.control.autoscaler().group({1})->starting, 4u) << "what has a node goes on";
  EXPECT_EQ(said<ToNode>(line.demand(6, 0)).size(), 0u);
  EXPECT_EQ(line.pending().count, 0) << "so no node is bought for them";
}

// One that is in line again has lost its node: it is the last that came.
TEST(Control, TakesAStartOutOfTheLineThatLostItsNode) {
  Line line;
  line.demand(3, 4);
  EXPECT_TRUE(line.waiting().empty());
  for (const std::int64_t second : {22, 42}) {  // silent for long, then for too long
    tell(line.rig.control, at(second), Woken{});
  }
  EXPECT_EQ(line.waiting().size(), 4u);
  EXPECT_EQ(said<sandbox::Gone>(line.demand(43, 1)).size(), 3u);
  EXPECT_EQ(line.waiting().size(), 1u);
  EXPECT_EQ(line.rig.control.autoscaler().group({1})->starting, 1u);
}

TEST(Control, IgnoresAGatewayThatJoinsLateFromAnEarlierBoot) {
  Rig rig;
  tell(rig.control, at(1), GatewayJoined{{1}, 3});
  EXPECT_TRUE(tell(rig.control, at(2), GatewayJoined{{1}, 2}).empty());
  const FromGateway beat{{1}, {3, 0, 0, {}}};
  EXPECT_EQ(said<ToGateway>(tell(rig.control, at(3), beat)).size(), 1u) << "still the one it knows";
}

// Where the operator gave no shape, the largest node that ever came says what can be had.
TEST(Control, RefusesWhatNoNodeOfAPoolCouldEverHold) {
  Rig rig;
  fleet::PoolAdded pool;
  pool.pool = {1};
  pool.policy.zones = {{1}};
  tell(rig.control, at(0), pool);
  SandboxRequested gpu = request(1);
  gpu.resources.gpus = 1;
  gpu.resources.gpu_millis = 1000;
  EXPECT_TRUE(said<sandbox::Refused>(tell(rig.control, at(1), gpu)).empty())
      << "no node has come yet: it waits";
  rig.join(2, 7);
  gpu.reply_to = 2;
  const auto refused = said<sandbox::Refused>(tell(rig.control, at(3), gpu));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].rule, sandbox::Refusal::never_fits);
  EXPECT_TRUE(said<sandbox::Refused>(tell(rig.control, at(3), request(3, 4000))).empty());
  EXPECT_EQ(said<sandbox::Refused>(tell(rig.control, at(3), request(4, 4001))).size(), 1u);
}

// It could never be placed there, and would in time hold the owner off its own nodes.
TEST(Control, RefusesWhatNamesAnotherTenantsOwnPool) {
  for (const bool separate : {true, false}) {
    Config config;
    config.tenancy.separate_tenants = separate;
    Control control{config};
    for (const std::uint64_t id : {1, 2}) {
      fleet::PoolAdded pool{{id}, {}};
      pool.policy.shape = kShape;
      pool.policy.zones = {{1}};
      tell(control, at(0), pool);
      tenancy::TenantAdded tenant{{id}, {}, 1, false, {}};
      if (id == 1) tenant.dedicated_pool = {1};
      tell(control, at(0), tenant);
    }
    SandboxRequested asked = request(1);
    const auto refused = [&](std::uint64_t tenant, std::uint64_t pool) {
      ++asked.reply_to;
      asked.tenant = {tenant};
      asked.pool = {pool};
      return said<sandbox::Refused>(tell(control, at(1), asked)).size();
    };
    EXPECT_EQ(refused(1, 1), 0u);
    EXPECT_EQ(refused(1, 0), 0u);
    EXPECT_EQ(refused(2, 2), 0u);
    EXPECT_EQ(refused(2, 1), separate ? 1u : 0u) << "where all share, it may";
  }
}

TEST(Control, PassesGraceDownAndNotesUp) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  const SandboxId id = said<sandbox::Accepted>(tell(rig.control, at(2), request(1)))[0].sandbox;
  const auto running = said<sandbox::Running>(rig.report(3, node, StartedReport{id, "started"}));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].note, "started");
  const auto stops =
      orders<StopOrder>(tell(rig.control, at(4), sandbox::TerminateRequested{id, seconds(9)}));
  EXPECT_EQ(stops, (std::vector<StopOrder>{{id, seconds(9)}}));
  const auto gone =
      said<sandbox::Gone>(rig.report(5, node, EndedReport{id, EndReason::terminated, "ended"}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].note, "ended");
}

TEST(Control, DecidesTheSameFromItsSnapshot) {
  Rig rig;
  const NodeId node = rig.join(1, 7);
  const SandboxId id = said<sandbox::Accepted>(tell(rig.control, at(2), request(1)))[0].sandbox;
  tell(rig.control, at(2), request(2, 4000));
  State state;
  ASSERT_TRUE(decode(encode(rig.control.state()), state));
  Control restored(Config{}, std::move(state));
  EXPECT_EQ(restored.digest(), rig.control.digest());
  const FromNode ended{node, {1, 1, 0, NodeReport{EndedReport{id, EndReason::start_failed}}}};
  EXPECT_EQ(tell(restored, at(3), ended), tell(rig.control, at(3), ended));
  EXPECT_EQ(restored.digest(), rig.control.digest());
}

}  // namespace
}  // namespace chalk::control
