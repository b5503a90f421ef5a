// Nodes that the fleet does without: asked of a fork, then carried out by the root.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <optional>

#include "model/control/control.h"
#include "model/control/what_if.h"
#include "tests/support/said.h"

namespace chalk::control {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }
constexpr std::int64_t kGi = 1LL << 30;
NodeShape shape(std::int64_t cores) {
  return {.cpu_millicores = cores * 1000, .memory_bytes = cores * 4 * kGi, .disk_bytes = kGi};
}

// A control plane whose nodes obey at once: what is started runs, what is stopped ends.
class Plane {
 public:
  explicit Plane(fleet::Policy policy, bool separate = false) : control_(config(policy, separate)) {
    for (std::uint64_t pool = 1; pool <= 2; ++pool) {
      fleet::PoolAdded added{{pool}, {}};
      added.policy.shape = shape(pool == 1 ? 8 : 4);
      added.policy.zones = {{1}};
      added.policy.elastic = true;
      added.policy.nodes_max = 100;
      added.policy.price_micros = pool == 1 ? 800 : 400;
      step(added);
    }
    for (std::uint64_t tenant = 1; tenant <= 3; ++tenant) {
      tenancy::TenantAdded one;
      one.tenant = {tenant};
      step(one);
    }
  }
  NodeId join(std::uint64_t pool, std::uint64_t purchase = 0) {
    step(NodeRegistration{++keys_, 1, purchase, {pool}, {1}, shape(pool == 1 ? 8 : 4)});
    return joined_;
  }
  std::optional<SandboxId> ask(std::int64_t cores, bool restart, std::uint64_t tenant = 1,
                               Duration lifetime = {}) {
    SandboxRequested asked;
    asked.reply_to = ++asks_;
    asked.tenant = {tenant};
    asked.resources = {.cpu_millicores = cores * 1000, .memory_bytes = cores * 4 * kGi};
    asked.restart = restart;
    asked.lifetime = lifetime;
    accepted_.reset();
    step(asked);
    return accepted_;
  }
  void end(SandboxId sandbox) {
    const sandbox::Record* record = control_.sandboxes().find(sandbox);
    if (record != nullptr && record->node) {
      report(record->node, EndedReport{sandbox, EndReason::exited});
    }
  }
  void second() {
    ++now_;
    control_.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node&) {
      beats_.push_back(id);
    });
    for (const NodeId id : std::exchange(beats_, {})) step(FromNode{id, {1, 0, 1'000'000, {}}});
    if (wake_ <= at(now_)) step(Woken{});
  }
  template <class Event>
  void step(const Event& event) {
    for (const Effect& effect : tell(control_, at(now_), event)) {
      std::visit([&](const auto& one) { obey(one); }, effect);
    }
  }
  const Control& control() const { return control_; }
  const sandbox::Record* find(SandboxId id) const { return control_.sandboxes().find(id); }
  std::map<SandboxId, int> starts, stops;
  std::map<SandboxId, Duration> lifetimes;  // as the last order said
  std::int64_t now_ = 0;

 private:
  static Config config(fleet::Policy policy, bool separate) {
    Config config;
    config.fleet.rules = fleet::rules_of(policy);
    config.tenancy.separate_tenants = separate;
    return config;
  }
  void report(NodeId node, const NodeReport& one) {
    step(FromNode{node, {1, ++sent_[node], 1'000'000, one}});
  }
  template <class Other>
  void obey(const Other&) {}
  void obey(const WakeAt& wake) { wake_ = wake.at; }
  void obey(const fleet::WelcomeNode& welcome) { joined_ = welcome.node; }
  void obey(const fleet::BuyNode& buy) { join(buy.pool.value, buy.purchase); }
  void obey(const sandbox::Accepted& accepted) { accepted_ = accepted.sandbox; }
  void obey(const ToNode& message) {
    if (!message.envelope.message) return;
    if (const auto* start = std::get_if<StartOrder>(&*message.envelope.message)) {
      ++starts[start->sandbox];
      lifetimes[start->sandbox] = start->lifetime;
      report(message.node, StartedReport{start->sandbox});
    } else if (const auto* stop = std::get_if<StopOrder>(&*message.envelope.message)) {
      ++stops[stop->sandbox];
      report(message.node, EndedReport{stop->sandbox, EndReason::terminated});
    } else if (std::holds_alternative<ScrubOrder>(*message.envelope.message)) {
      report(message.node, ScrubbedReport{});
    }
  }

  Control control_;
  std::map<NodeId, std::uint64_t> sent_;
  std::vector<NodeId> beats_;
  std::uint64_t keys_ = 0, asks_ = 0;
  NodeId joined_;
  std::optional<SandboxId> accepted_;
  Time wake_ = kNever;
};

// Two half-empty nodes: the sandboxes of one fit on the other.
TEST(Consolidation, MovesWhatMayBeStartedAgainWithTheRestOfItsLifetime) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId first = plane.join(1), second = plane.join(1);
  const auto big = plane.ask(8, true);
  const auto stays = plane.ask(2, true, 1, seconds(7200));
  plane.end(*big);
  const auto later = plane.ask(7, true);
  plane.end(*later);
  const auto other = plane.ask(7, true, 1, seconds(7200));
  ASSERT_TRUE(stays && other);
  const NodeId from = plane.find(*stays)->node;
  ASSERT_NE(from, plane.find(*other)->node) << "nine cores on two nodes of eight";
  plane.end(*other);
  const auto small = plane.ask(6, true, 1, seconds(7200));
  static_cast<void>(small);
  for (int s = 0; s < 900; ++s) plane.second();
  int nodes = 0;
  plane.control().fleet().state().nodes.for_each([&](NodeId, const fleet::Node&) { ++nodes; });
  EXPECT_EQ(nodes, 1);
  static_cast<void>(first);
  static_cast<void>(second);
  ASSERT_NE(plane.find(*stays), nullptr);
  EXPECT_EQ(plane.find(*stays)->phase, sandbox::Phase::running);
  EXPECT_LE(plane.lifetimes[*stays], seconds(7200));
}

TEST(Consolidation, AMoveKeepsTheSandboxAndWhatIsLeftOfItsLifetime) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId from = plane.join(1);
  const auto moves = plane.ask(2, true, 1, seconds(1000));
  const auto stays = plane.ask(2, false);
  ASSERT_TRUE(moves && stays);
  for (int s = 0; s < 100; ++s) plane.second();
  plane.join(1);
  plane.step(fleet::ReclaimNoticed{from, at(plane.now_ + 120)});
  EXPECT_EQ(plane.starts[*moves], 2);
  EXPECT_EQ(plane.stops[*moves], 1);
  EXPECT_EQ(plane.lifetimes[*moves], seconds(900));
  ASSERT_NE(plane.find(*moves), nullptr);
  EXPECT_NE(plane.find(*moves)->node, from);
  EXPECT_EQ(plane.stops[*stays], 0) << "it may not move, and runs for as long as its node does";
  EXPECT_EQ(plane.find(*stays)->node, from);
  EXPECT_EQ(plane.control().sandboxes_moved(), 1u);
}

TEST(Consolidation, OursWaitsForTheReplacementAndForHalfOfTheNoticeAtMost) {
  Plane plane(fleet::Policy::newsvendor);
  const NodeId from = plane.join(1);
  const auto moves = plane.ask(2, true);
  for (int s = 0; s < 30; ++s) plane.second();
  plane.step(fleet::ReclaimNoticed{from, at(plane.now_ + 120)});
  EXPECT_EQ(plane.starts[*moves], 2) << "in this plane a node that is bought comes at once";
  EXPECT_NE(plane.find(*moves)->node, from);
}

TEST(Consolidation, NeverPutsTwoOwnersTogether) {
  Plane plane(fleet::Policy::newsvendor, true);
  plane.join(1);
  plane.join(1);
  const auto mine = plane.ask(2, true, 1), theirs = plane.ask(2, true, 2);
  ASSERT_TRUE(mine && theirs);
  WhatIf what_if(plane.control().scheduler(), plane.control().sandboxes(),
                 plane.control().tenancy(), plane.control().fleet());
  EXPECT_FALSE(what_if.possible(plane.find(*mine)->node));
  const auto more = plane.ask(7, true, 1);
  ASSERT_TRUE(more);
  WhatIf again(plane.control().scheduler(), plane.control().sandboxes(),
               plane.control().tenancy(), plane.control().fleet());
  EXPECT_FALSE(again.possible(plane.find(*theirs)->node));
}

// A fork that has answered no is as good as a new one: all questions on one fork have the answers
// that a fork for each of them gives.
RC_GTEST_PROP(Consolidation, OneForkAnswersLikeANewOneForEachQuestion, (std::uint64_t key)) {
  Random random{key, 0};
  Plane plane(fleet::Policy::newsvendor, random.below(2) == 0);
  std::vector<NodeId> nodes;
  for (std::uint64_t i = 3 + random.below(5); i > 0; --i) nodes.push_back(plane.join(1));
  std::vector<SandboxId> live;
  for (int i = 0; i < 40; ++i) {
    const auto id = plane.ask(1 + static_cast<std::int64_t>(random.below(4)), true,
                              1 + random.below(3));
    if (id) live.push_back(*id);
  }
  for (const SandboxId id : live) {
    if (random.below(2) == 0) plane.end(id);
  }
  const Control& c = plane.control();
  WhatIf one(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
  for (const NodeId node : nodes) {
    WhatIf fresh(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
    RC_ASSERT(one.possible(node) == fresh.possible(node));
    WhatIf other(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
    RC_ASSERT(one.replaced(node, {2}) == other.replaced(node, {2}));
  }
}

}  // namespace
}  // namespace chalk::control
