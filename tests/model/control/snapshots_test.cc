// Control and snapshots: who is told to save, who is told to restore, and where they are sought.
#include <gtest/gtest.h>

#include "tests/model/control/plane.h"

namespace chalk::control {
namespace {

constexpr MachineKind kOld{1, 0b11}, kNew{2, 0b11};

// Group 1 of tenant 1, of one cpu, with snapshots, and nodes that do what the test says.
struct Saving {
  Control control{shared()};
  std::uint64_t keys = 0;
  std::map<NodeId, std::uint64_t> sent;
  NodeId joined;
  std::vector<std::pair<NodeId, StartOrder>> starts;

  static Config shared() {
    Config config;
    config.tenancy.separate_tenants = false;
    return config;
  }
  explicit Saving(bool snapshots = true) {
    step(fleet::PoolAdded{{1}, {}});
    tenancy::TenantAdded tenant;
    tenant.tenant = {1};
    step(tenant);
    step(ImageSpec{{1}, {{{9}, 10, 20}}});
    step(GatewayJoined{{1}, 1});
    GroupSpec spec;
    spec.group = {1};
    spec.tenant = {1};
    spec.resources = {.cpu_millicores = 1000, .memory_bytes = kGi};
    spec.image = {1};
    spec.gateway = {1};
    spec.policy.min_replicas = 1;
    spec.policy.max_replicas = 100;
    spec.snapshots = snapshots;
    step(GroupDeployed{spec});
  }
  template <class Event>
  void step(const Event& event) {
    for (const Effect& effect : test::tell(control, Time{seconds(1).nanos}, event)) {
      if (const auto* welcome = std::get_if<fleet::WelcomeNode>(&effect)) joined = welcome->node;
      const auto* order = std::get_if<ToNode>(&effect);
      if (order == nullptr || !order->envelope.message) continue;
      if (const auto* start = std::get_if<StartOrder>(&*order->envelope.message)) {
        starts.emplace_back(order->node, *start);
      }
    }
  }
  NodeId join(MachineKind kind, std::int64_t cores = 4) {
    step(NodeRegistration{++keys, 1, 0, {1}, {1}, shape(cores), kind});
    return joined;
  }
  void report(NodeId node, NodeReport one) {
    step(FromNode{node, {1, ++sent[node], 1'000'000, std::move(one)}});
  }
  // One more replica, wanted by so many calls that wait.
  StartOrder& more() {
    const std::size_t before = starts.size();
    for (std::uint64_t n = 1; n < 20 && starts.size() == before; ++n) {
      Demand demand;
      demand.group = {1};
      demand.at = Time{seconds(1).nanos};
      demand.arrivals = 10 * ++asked;
      demand.in_flight = static_cast<std::uint32_t>(before);
      demand.queued = static_cast<std::uint32_t>(before + 1);
      demand.peak = demand.in_flight + demand.queued;
      step(FromGateway{{1}, {1, asked, 1'000'000, demand}});
    }
    EXPECT_GT(starts.size(), before);
    return starts.back().second;
  }
  std::uint64_t asked = 0;
};

TEST(ControlSnapshots, TheFirstIsToldToSaveAndWhoFollowsToRestore) {
  Saving world;
  const NodeId node = world.join(kOld);
  ASSERT_EQ(world.starts.size(), 1u) << "the least of the group";
  const StartOrder first = world.starts[0].second;
  EXPECT_TRUE(first.save);
  EXPECT_FALSE(first.restore);
  world.report(node, SnapshotReport{first.save, SnapshotNews::saved, 777});
  world.report(node, StartedReport{first.sandbox});
  const StartOrder next = world.more();
  EXPECT_EQ(next.restore, (Restore{first.save, kOld, 777}));
  EXPECT_EQ(next.image.image, ImageId{1}) << "its node adds the snapshot";
  EXPECT_FALSE(next.save);
}

TEST(ControlSnapshots, AGroupWithoutThemHasNone) {
  Saving world(false);
  world.join(kOld);
  ASSERT_EQ(world.starts.size(), 1u);
  EXPECT_FALSE(world.starts[0].second.save);
  EXPECT_TRUE(world.control.snapshots().state().groups.empty());
}

TEST(ControlSnapshots, AnotherKindOfMachineSavesItsOwn) {
  Saving world;
  const NodeId old = world.join(kOld, 1);  // has room for one
  const SnapshotId first = world.starts.at(0).second.save;
  world.report(old, SnapshotReport{first, SnapshotNews::saved, 777});
  world.report(old, StartedReport{world.starts[0].second.sandbox});
  world.join(kNew);
  if (world.starts.size() == 1) world.more();
  const StartOrder other = world.starts.at(1).second;
  EXPECT_FALSE(other.restore);
  EXPECT_TRUE(other.save);
  EXPECT_NE(other.save, first);
}

TEST(ControlSnapshots, ANodeThatIsLostWhileItSavesLeavesThatToAnother) {
  Saving world;
  world.join(kOld, 1);
  const StartOrder first = world.starts.at(0).second;
  EXPECT_TRUE(world.control.snapshots().saves(first.sandbox));
  // It boots again: what it had is gone, and is started anew.
  world.step(NodeRegistration{1, 2, 0, {1}, {1}, shape(1), kOld});
  ASSERT_EQ(world.starts.size(), 2u);
  EXPECT_TRUE(world.starts[1].second.save);
  EXPECT_NE(world.starts[1].second.save, first.save);
}

TEST(ControlSnapshots, ReplicasGoWhereTheirSnapshotIs) {
  Saving world;
  const NodeId first = world.join(kOld, 8);
  const SnapshotId saved = world.starts.at(0).second.save;
  world.report(first, SnapshotReport{saved, SnapshotNews::saved, 1LL << 30});
  world.report(first, StartedReport{world.starts[0].second.sandbox});
  const NodeId second = world.join(kOld, 8);
  world.report(second, ImageReport{images::restore_image_id(saved), true});
  world.more();
  EXPECT_EQ(world.starts.back().first, second);
}

}  // namespace
}  // namespace chalk::control
