// Nanoseconds of one step of each machine on the road of a call and of a heartbeat, with the
// running digest over event and effects that every driver keeps.
#include <benchmark/benchmark.h>

#include "model/control/control.h"
#include "model/core/digest.h"
#include "model/functions/functions.h"
#include "model/images/snapshots.h"
#include "model/node/node.h"

namespace chalk {
namespace {

template <class M>
struct Driven {
  M machine;
  std::vector<typename M::Effect> effects{};
  Digest digest{};
  Time now{};

  void step(const typename M::Event& event) {
    effects.clear();
    machine.step(now, event, effects);
    digest.add(event);
    for (const auto& effect : effects) digest.add(effect);
  }
};

// A call that finds an idle replica, and its end.
void FunctionsCall(benchmark::State& state) {
  Driven<functions::Functions> one{functions::Functions(functions::Config{})};
  GroupRouting routing;
  routing.group = {1};
  one.step(routing);
  for (std::uint64_t s = 1; s <= 100; ++s) one.step(ReplicaReady{{1}, {s}});
  std::uint64_t call = 1;
  for (auto _ : state) {
    one.now = one.now + microseconds(10);
    one.step(functions::RequestArrived{{call++}, {1}});
    const auto replica = std::get<functions::Dispatch>(one.effects.front()).replica;
    one.step(functions::RequestFinished{replica});
  }
  state.SetLabel("two steps");
}

// A heartbeat of an idle node, at the node.
void NodeHeartbeat(benchmark::State& state) {
  node::Config config;
  Driven<node::Node> one{node::Node(config, {1, 1, 0, {1}, {1}, {.cpu_millicores = 1000}})};
  one.step(node::Booted{});
  one.step(node::Welcomed{1, {1}});
  for (auto _ : state) {
    one.now = one.now + seconds(10);
    one.step(Woken{});
  }
}

control::Control with_nodes(std::int64_t nodes) {
  control::Control control(control::Config{});
  std::vector<control::Effect> dropped;
  fleet::PoolAdded pool;
  pool.pool = {1};
  pool.policy.shape = {.cpu_millicores = 16'000, .memory_bytes = 64LL << 30};
  control.step({}, pool, dropped);
  tenancy::TenantAdded tenant;
  tenant.tenant = {1};
  control.step({}, tenant, dropped);
  for (std::int64_t i = 1; i <= nodes; ++i) {
    control.step({},
                 NodeRegistration{static_cast<std::uint64_t>(i), 1, 0, {1}, {1}, pool.policy.shape},
                 dropped);
  }
  return control;
}

// The same heartbeat at control, one node after the other. The cost must not grow with the fleet
// but for the caches that it leaves.
void ControlHeartbeat(benchmark::State& state) {
  Driven<control::Control> one{with_nodes(state.range(0))};
  std::uint64_t node = 0;
  for (auto _ : state) {
    one.now = one.now + microseconds(1);
    one.step(control::FromNode{{1 + node++ % static_cast<std::uint64_t>(state.range(0))},
                               {1, 0, 0, {}}});
  }
}

// A sandbox from request to gone, through every machine of control: five steps.
void ControlSandbox(benchmark::State& state) {
  Driven<control::Control> one{with_nodes(state.range(0))};
  std::vector<std::uint64_t> sequence(static_cast<std::size_t>(state.range(0)) + 1);
  for (auto _ : state) {
    one.now = one.now + microseconds(10);
    control::SandboxRequested asked;
    asked.tenant = {1};
    asked.resources = {.cpu_millicores = 1000, .memory_bytes = 1LL << 30};
    one.step(asked);
    SandboxId sandbox;
    NodeId node;
    for (const auto& effect : one.effects) {
      if (const auto* to = std::get_if<control::ToNode>(&effect)) {
        node = to->node;
        sandbox = std::get<StartOrder>(*to->envelope.message).sandbox;
      }
    }
    std::uint64_t& last = sequence[node.value];
    one.step(control::FromNode{node, {1, ++last, last, NodeReport{StartedReport{sandbox}}}});
    one.step(control::FromNode{node, {1, ++last, last, NodeReport{EndedReport{sandbox, {}}}}});
  }
  state.SetLabel("three steps");
}

// What a replica is started from, of as many groups as said, each with a snapshot for three kinds of
// machine.
void SnapshotsStart(benchmark::State& state) {
  Driven<images::Snapshots> one{images::Snapshots(images::SnapshotsConfig{})};
  const auto groups = static_cast<std::uint64_t>(state.range(0));
  for (std::uint64_t node = 1; node <= 3; ++node) one.step(images::MachineSeen{{node}, {node, 1}});
  std::uint64_t sandbox = 0;
  for (std::uint64_t group = 1; group <= groups; ++group) {
    for (std::uint64_t node = 1; node <= 3; ++node) {
      one.step(images::StartAsked{{group}, {++sandbox}, {node}, {1}});
      one.step(images::SnapshotSaid{{node}, {sandbox}, SnapshotNews::saved, 1000});
    }
  }
  for (auto _ : state) {
    ++sandbox;
    one.step(images::StartAsked{{1 + sandbox * 7919 % groups}, {sandbox}, {1 + sandbox % 3}, {1}});
  }
}

BENCHMARK(FunctionsCall);
BENCHMARK(SnapshotsStart)->Arg(100)->Arg(10'000)->Arg(100'000);
BENCHMARK(NodeHeartbeat);
BENCHMARK(ControlHeartbeat)->Arg(100)->Arg(10'000)->Arg(100'000);
BENCHMARK(ControlSandbox)->Arg(100)->Arg(10'000)->Arg(100'000);

}  // namespace
}  // namespace chalk

BENCHMARK_MAIN();
