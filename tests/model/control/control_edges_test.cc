// The root at its bounds: who may speak to it, what it counts of what waits, and what it says when.
#include <gtest/gtest.h>

#include "tests/model/control/rig.h"

namespace chalk::control {
namespace {

Control with_a_pool(bool elastic = false, NodeShape shape = kShape) {
  Control control{Config{}};
  fleet::PoolAdded pool{{1}, {}};
  pool.policy.shape = shape;
  pool.policy.zones = {{1}};
  pool.policy.elastic = elastic;
  tell(control, at(0), pool);
  tell(control, at(0), tenancy::TenantAdded{{1}, {}, 1, false, {}});
  return control;
}
SandboxRequested request(std::uint64_t reply_to, Resources resources) {
  SandboxRequested one;
  one.reply_to = reply_to;
  one.tenant = {1};
  one.resources = resources;
  return one;
}

TEST(ControlEdges, OnlyGatewaysAndGroupsWithinTheBoundsAreKnown) {
  Config config;
  config.gateways_max = config.groups_max = 2;
  Control control{config};
  for (const std::uint64_t id : {0, 3}) {
    EXPECT_TRUE(tell(control, at(0), GatewayJoined{{id}, 1}).empty());
    GroupDeployed deployed;
    deployed.spec.group = {id};
    EXPECT_TRUE(tell(control, at(0), deployed).empty());
  }
  EXPECT_TRUE(control.state().routing.gateways.empty());
  EXPECT_TRUE(control.state().routing.groups.empty());
  tell(control, at(0), GatewayJoined{{2}, 5});
  const auto answers = [&](std::uint64_t gateway, std::uint64_t incarnation) {
    return tell(control, at(1), FromGateway{{gateway}, {incarnation, 0, 0, {}}}).size();
  };
  EXPECT_EQ(answers(2, 5), 1u);
  EXPECT_EQ(answers(2, 4), 0u) << "from before its restart";
  EXPECT_EQ(answers(1, 0), 0u) << "it has not joined";
  EXPECT_EQ(answers(0, 0) + answers(3, 0), 0u);
}

// Not of what belongs to no group, nor of another gateway's.
TEST(ControlEdges, AGatewayThatJoinsIsToldOfItsOwnReplicas) {
  Control control = with_a_pool();
  for (const std::uint64_t id : {1, 2}) {
    tell(control, at(0), GatewayJoined{{id}, 1});
    GroupDeployed deployed;
    deployed.spec.group = {id};
    deployed.spec.tenant = {1};
    deployed.spec.gateway = {id};
    deployed.spec.resources = {.cpu_millicores = 100};
    deployed.spec.policy.min_replicas = 1;
    tell(control, at(0), deployed);
  }
  tell(control, at(0), request(1, {.cpu_millicores = 100}));
  const auto joined = tell(control, at(1), registration(7));
  const NodeId node = said<fleet::WelcomeNode>(joined).at(0).node;
  std::uint64_t reports = 0;
  for (const ToNode& one : said<ToNode>(joined)) {
    const auto& start = std::get<StartOrder>(*one.envelope.message);
    tell(control, at(2), FromNode{node, {1, ++reports, 0, NodeReport{StartedReport{start.sandbox}}}});
  }
  EXPECT_EQ(reports, 3u);
  std::size_t ready = 0;
  for (const ToGateway& one : said<ToGateway>(tell(control, at(3), GatewayJoined{{2}, 2}))) {
    ready += one.envelope.message && std::holds_alternative<ReplicaReady>(*one.envelope.message);
  }
  EXPECT_EQ(ready, 1u);
}

TEST(ControlEdges, ATenantKeepsThePoolThatItHad) {
  Control control = with_a_pool();
  tenancy::TenantAdded tenant{{1}, {}, 1, false, {1}};
  tell(control, at(1), tenant);
  tenant.dedicated_pool = {};
  tell(control, at(2), tenant);
  EXPECT_TRUE(control.tenancy().state().tenants.at({1}).dedicated);
}

TEST(ControlEdges, WhatANodeSaidIsAcknowledgedOnce) {
  Control control = with_a_pool();
  const NodeId node = said<fleet::WelcomeNode>(
      tell(control, at(1), registration(7)))[0].node;
  const FromNode beat{node, {1, 0, 0, {}}};
  EXPECT_TRUE(said<ToNode>(tell(control, at(2), beat)).empty());
  const FromNode report{node, {1, 1, 0, NodeReport{ScrubbedReport{}}}};
  for (int twice = 0; twice < 2; ++twice) {
    tell(control, at(3), report);  // also where the acknowledgement was lost
    EXPECT_EQ(said<ToNode>(tell(control, at(4), beat)),
              (std::vector<ToNode>{{node, {1, 0, 1, {}}}}));
    EXPECT_TRUE(said<ToNode>(tell(control, at(5), beat)).empty());
  }
  EXPECT_EQ(said<UnknownNode>(tell(control, at(6), FromNode{node, {2, 0, 0, {}}})),
            (std::vector<UnknownNode>{{node, 2}}));
}

// Where the operator gave no shape: of each amount the most that a node ever had.
TEST(ControlEdges, WhatCouldFitIsJudgedByTheLargestOfEachAmount) {
  Control control = with_a_pool(false, {});
  const NodeShape small{.cpu_millicores = 1000, .memory_bytes = 1000, .disk_bytes = 1000};
  NodeShape cpu = small, memory = small, disk = small, gpus = small, fewer = small;
  cpu.cpu_millicores = 8000;
  memory.memory_bytes = 8000;
  disk.disk_bytes = 8000;
  gpus.gpus = 2;
  gpus.gpu_model = 1;
  fewer.gpus = 1;
  NodeShape others = gpus;
  others.gpu_model = 2;
  std::uint64_t key = 0;
  for (const NodeShape& shape : {cpu, memory, disk, gpus, fewer, others}) {
    tell(control, at(1), NodeRegistration{++key, 1, 0, {1}, {1}, shape});
  }
  Resources all{.cpu_millicores = 8000, .memory_bytes = 8000, .disk_bytes = 8000, .gpus = 2,
                .gpu_millis = 1000};
  all.gpu_models = 1u << 1;
  std::uint64_t asks = 0;
  const auto refused = [&](const Resources& one) {
    return said<sandbox::Refused>(tell(control, at(2), request(++asks, one))).size();
  };
  EXPECT_EQ(refused(all), 0u);
  Resources more = all;
  more.cpu_millicores += 1;
  EXPECT_EQ(refused(more), 1u);
  more = all;
  more.memory_bytes += 1;
  EXPECT_EQ(refused(more), 1u);
  more = all;
  more.disk_bytes += 1;
  EXPECT_EQ(refused(more), 1u);
  more = all;
  more.gpus += 1;
  EXPECT_EQ(refused(more), 1u);
}

TEST(ControlEdges, CountsAllThatWaitsAndTakesAllOfItBack) {
  Control control = with_a_pool(true);
  const Resources asks{.cpu_millicores = 1000, .memory_bytes = 20, .disk_bytes = 30};
  const auto pending = [&] { return control.fleet().state().pools[0].pending; };
  const auto id = [](const std::vector<Effect>& effects) {
    return said<sandbox::Accepted>(effects).at(0).sandbox;
  };
  const SandboxId first = id(tell(control, at(1), request(1, asks)));
  const SandboxId second = id(tell(control, at(1), request(2, asks)));
  EXPECT_EQ(pending(), (fleet::PendingDemand{{1}, 2, 2000, 40, 60, 0, 1}));
  tell(control, at(2), sandbox::TerminateRequested{first});
  EXPECT_EQ(pending(), (fleet::PendingDemand{{1}, 1, 1000, 20, 30, 0, 1}));
  tell(control, at(3), sandbox::TerminateRequested{second});
  EXPECT_EQ(pending(), fleet::PendingDemand{{1}});
}

}  // namespace
}  // namespace chalk::control
