// Defragmentation as the root carries it out: who moves for whom, and who does not.
#include <gtest/gtest.h>

#include <set>

#include "tests/model/control/plane.h"

namespace chalk::control {
namespace {

Config enabled() {
  Config config;
  config.defragmentation.enabled = true;
  config.tenancy.separate_tenants = false;
  config.preemption.enabled = false;
  return config;
}

// Two nodes of four cores: three are used on the first, and `mover` alone on the second.
struct Pieces {
  Plane plane;
  SandboxId stays, mover;
  Pieces(Config config, bool restart, Priority priority = 0, std::uint64_t tenant = 1,
         std::int64_t cores = 1)
      : plane(config) {
    plane.join(4);
    stays = plane.ask(3, 0);
    const SandboxId plug = plane.ask(1, 0);
    plane.join(4);
    const SandboxId filler = plane.ask(4 - cores, 0);
    mover = plane.ask(cores, priority, tenant, restart);
    plane.end(plug);
    plane.end(filler);
  }
  // Whether a sandbox of four cores makes it move.
  bool moves(Priority priority = 0) {
    EXPECT_NE(plane.find(mover)->node, plane.find(stays)->node);
    EXPECT_TRUE(plane.waits(plane.ask(4, priority)));
    EXPECT_LE(plane.stopping().size(), 1u);
    return plane.stopping().contains(mover);
  }
};

TEST(Defragmentation, MovesWhatMayMoveToWhereItFits) {
  Pieces p(enabled(), true);
  const NodeId from = p.plane.find(p.mover)->node;
  const SandboxId large = p.plane.ask(4, 0);
  EXPECT_EQ(p.plane.stopping(), std::set<SandboxId>{p.mover});
  const SandboxId other = p.plane.ask(3, 0);
  EXPECT_TRUE(p.plane.waits(other)) << "the room is kept";
  p.plane.end_stopped();
  ASSERT_TRUE(p.plane.placed(large));
  EXPECT_EQ(p.plane.find(large)->node, from);
  EXPECT_EQ(p.plane.control().sandboxes_moved(), 1u);
  EXPECT_EQ(p.plane.control().sandboxes_preempted(), 0u);
  p.plane.step(sandbox::TerminateRequested{other, {}});
  ASSERT_TRUE(p.plane.placed(p.mover));
  EXPECT_EQ(p.plane.find(p.mover)->node, p.plane.find(p.stays)->node);
}

TEST(Defragmentation, MovesNothingElse) {
  EXPECT_TRUE(Pieces(enabled(), true).moves());
  EXPECT_FALSE(Pieces(enabled(), false).moves()) << "it may not be started again";
  EXPECT_FALSE(Pieces(enabled(), true, 5).moves(4)) << "it is more important";
  EXPECT_TRUE(Pieces(enabled(), true, 5).moves(5));
  EXPECT_FALSE(Pieces(enabled(), true, 0, 2).moves()) << "it is another tenant's";
  EXPECT_FALSE(Pieces(enabled(), true, 0, 1, 2).moves()) << "it fits nowhere else";
}

TEST(Defragmentation, IsOffUnlessTheConfigSaysSo) {
  Config config = enabled();
  config.defragmentation.enabled = false;
  EXPECT_FALSE(Pieces(config, true).moves());
}

TEST(Defragmentation, MovesNoMoreAtOnceThanItMay) {
  Config config = enabled();
  config.defragmentation.moves_max = 0;
  EXPECT_FALSE(Pieces(config, true).moves());
}

TEST(Defragmentation, LooksAtTheFleetOnlyNowAndThen) {
  Pieces p(enabled(), true);
  EXPECT_TRUE(p.plane.waits(p.plane.ask(9, 0))) << "it fits no node: nothing moves";
  EXPECT_FALSE(p.moves(1)) << "the next look is due after 10 s";
  p.plane.at(12);
  EXPECT_TRUE(p.plane.waits(p.plane.ask(4, 2)));
  EXPECT_TRUE(p.plane.stopping().contains(p.mover));
}

// It is the first in line, and would look each time before the other.
TEST(Defragmentation, WhoLooksInVainLetsOthersLook) {
  Pieces p(enabled(), true);
  p.plane.ask(5, 0, 2);  // larger than any node
  const auto round = [&](std::int64_t second) {
    p.plane.at(second);
    p.plane.step(sandbox::TerminateRequested{p.plane.ask(5, 0, 2), {}});
  };
  p.plane.at(5);
  EXPECT_FALSE(p.moves());
  round(12);
  EXPECT_TRUE(p.plane.stopping().contains(p.mover));
  const auto next = [&] { return p.plane.control().state().routing.defragment.at; };
  round(23);
  EXPECT_EQ(next(), Time{seconds(33).nanos}) << "nobody else wants to";
  round(34);
  EXPECT_EQ(next(), Time{seconds(44).nanos});
}

TEST(Defragmentation, WhoLooksInVainLooksAgainWhenOthersAreGone) {
  Plane plane(enabled(), 2);
  plane.join(4);
  plane.ask(5, 0, 1);
  plane.at(5);
  plane.step(sandbox::TerminateRequested{plane.ask(5, 0, 2), {}});  // wanted to, and is gone
  const auto next_after = [&](std::int64_t second) {
    plane.at(second);
    plane.step(sandbox::TerminateRequested{plane.ask(5, 0, 1), {}});
    return plane.control().state().routing.defragment.at;
  };
  EXPECT_EQ(next_after(12), Time{seconds(11).nanos});
  EXPECT_EQ(next_after(21), Time{seconds(31).nanos});
}

}  // namespace
}  // namespace chalk::control
