// What a node's orders are answered with: one body for each, run on the simulated and on the real arm.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/conformance/driven_node.h"

namespace chalk::conformance {
namespace {

std::string repeat_command() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  return "repeat with: " + std::filesystem::read_symlink("/proc/self/exe").string() +
         " --gtest_filter=" + test->test_suite_name() + "." + test->name();
}

class NodeOrders : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { make(false); }
  void make(bool small_disk) {
    arm_.reset();
    Made made = real() ? real_arm(small_disk) : simulated_arm();
    if (!made.arm) GTEST_SKIP() << made.why_not;
    arm_ = std::move(made.arm);
  }
  void TearDown() override {
    if (!HasFailure() || !node_) return;
    std::cerr << GetParam() << " arm; the machine was told, and [ordered]: " << node_->trail()
              << "\n" << repeat_command() << "\n";
  }
  bool real() const { return GetParam() == "real"; }
  DrivenNode& node(bool twice = false) {
    node_ = std::make_unique<DrivenNode>(*arm_, twice);
    return *node_;
  }
  StartOrder order(std::uint64_t number, Program program = Program::runs) {
    return arm_->order(number, program);
  }
  StartOrder tireless(std::uint64_t number, Program program = Program::runs) {
    StartOrder start = arm_->order(number, program);
    start.restart = true;
    return start;
  }
  // It ended once, for this reason, and the arm has nothing left of it.
  void expect_one_end(std::uint64_t number, EndReason reason) {
    ASSERT_TRUE(node_->await_ended(number));
    node_->go_on(milliseconds(300));  // a second end would come now
    const auto ends = node_->ended(number);
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].reason, reason);
    EXPECT_FALSE(arm_->living().contains({number}));
    EXPECT_FALSE(node_->machine().sandboxes().contains({number}));
  }
  void stop(std::uint64_t number, Duration grace = {}) {
    node_->order(StopOrder{{number}, grace});
  }

  std::unique_ptr<Arm> arm_;
  std::unique_ptr<DrivenNode> node_;
};

// ---- starts

TEST_P(NodeOrders, AStartIsAnsweredOnceAndThenItLives) {
  DrivenNode& one = node();
  one.order(order(1));
  ASSERT_TRUE(one.await_started(1));
  EXPECT_EQ(arm_->living(), std::set<SandboxId>{{1}});
  EXPECT_EQ(one.ordered("PullLayers"), 1u);
  one.order(order(2));  // its image is there
  ASSERT_TRUE(one.await_started(2));
  EXPECT_EQ(one.ordered("PullLayers"), 1u);
  EXPECT_TRUE(one.ended(1).empty() && one.ended(2).empty());
  stop(1);
  expect_one_end(1, EndReason::terminated);
  stop(2, seconds(1));
  expect_one_end(2, EndReason::terminated);
}

TEST_P(NodeOrders, AStartThatTheRuntimeRefusesEndsAsSuch) {
  DrivenNode& one = node();
  one.order(order(1, Program::cannot_start));
  expect_one_end(1, EndReason::start_failed);
  EXPECT_EQ(one.started(1), 0u);
  one.order(order(2));  // and the next is not touched by it
  ASSERT_TRUE(one.await_started(2));
}

TEST_P(NodeOrders, WhatEndsByItselfEndsOnce) {
  DrivenNode& one = node();
  one.order(order(1, Program::ends));
  expect_one_end(1, EndReason::exited);
  EXPECT_EQ(one.started(1), 1u);
}

// ---- starts after an end

TEST_P(NodeOrders, WhatEndsByItselfIsStartedAgainWhereItsOrderSaysSo) {
  DrivenNode& one = node(true);
  one.order(tireless(1));
  ASSERT_TRUE(one.await_started(1));
  for (std::uint32_t count = 1; count <= 2; ++count) {
    arm_->end({1});
    ASSERT_TRUE(one.await_restarted(1, count, true));
    EXPECT_EQ(one.restarted(1).count, count);
    EXPECT_EQ(arm_->living(), std::set<SandboxId>{{1}});
  }
  EXPECT_EQ(one.started(1), 1u);
  EXPECT_EQ(one.ordered("PullLayers"), 1u);
  stop(1);
  expect_one_end(1, EndReason::terminated);
}

TEST_P(NodeOrders, ACrashLoopIsEndedByAStopWhereverItMeetsIt) {
  DrivenNode& one = node();
  for (std::uint64_t number = 1; number <= 3; ++number) {
    one.order(tireless(number, Program::ends));
    ASSERT_TRUE(one.await_restarted(number, 2, false));
    one.go_on(milliseconds(150 * static_cast<std::int64_t>(number)));
    stop(number);
    expect_one_end(number, EndReason::terminated);
  }
  EXPECT_TRUE(arm_->living().empty());
}

TEST_P(NodeOrders, AnAgentThatDiesStartsAgainWhatEndedAndWhatWaited) {
  DrivenNode& one = node();
  for (std::uint64_t number = 1; number <= 3; ++number) {
    one.order(tireless(number));
    ASSERT_TRUE(one.await_started(number));
  }
  arm_->end({1});
  ASSERT_TRUE(one.await_restarted(1, 1, false));
  one.restart_agent([&] { arm_->end({2}); });
  ASSERT_TRUE(one.await_restarted(1, 1, true));
  ASSERT_TRUE(one.await_restarted(2, 1, true));
  EXPECT_EQ(arm_->living(), (std::set<SandboxId>{{1}, {2}, {3}}));
  EXPECT_EQ(one.restarted(3).count, 0u);
  arm_->end({3});
  ASSERT_TRUE(one.await_restarted(3, 1, false));
  stop(3);
  expect_one_end(3, EndReason::terminated);
}

// ---- kills

TEST_P(NodeOrders, AKillDuringTheStartGivesOneEndWhereverItMeetsIt) {
  DrivenNode& one = node();
  one.order(order(100));
  ASSERT_TRUE(one.await_started(100));  // the image is there now
  for (std::uint64_t number = 1; number <= 5; ++number) {
    one.order(order(number));
    one.go_on(milliseconds(70 * (static_cast<std::int64_t>(number) - 1)));
    stop(number);
    expect_one_end(number, EndReason::terminated);
    EXPECT_LE(one.started(number), 1u);
  }
  EXPECT_EQ(arm_->living(), std::set<SandboxId>{{100}});
}

TEST_P(NodeOrders, AnEndBeforeTheKillArrivesIsNotASecondOne) {
  DrivenNode& one = node();
  one.order(order(1));
  ASSERT_TRUE(one.await_started(1));
  arm_->end({1});
  stop(1);  // the machine has not heard of the end
  expect_one_end(1, EndReason::terminated);
}

TEST_P(NodeOrders, AKillWithGraceIsOnlyForTheLifeThatItWasOrderedFor) {
  DrivenNode& one = node();
  one.order(order(1));
  ASSERT_TRUE(one.await_started(1));
  stop(1, seconds(3));  // it ends when it is asked to, long before that
  expect_one_end(1, EndReason::terminated);
  one.order(order(1));  // it was moved, and comes back
  ASSERT_TRUE(one.await([&] { return one.started(1) == 2; }));
  one.go_on(seconds(4));
  EXPECT_EQ(arm_->living(), std::set<SandboxId>{{1}});
  EXPECT_EQ(one.ended(1).size(), 1u);
}

TEST_P(NodeOrders, AKillOfWhatIsNotThereIsAnswered) {
  arm_->obey(node::KillSandbox{{77}, EndReason::terminated, {}});
  const auto answer = arm_->next(arm_->patience);
  ASSERT_TRUE(answer);
  const auto* killed = std::get_if<node::SandboxKilled>(&*answer);
  ASSERT_NE(killed, nullptr) << answer->index();
  EXPECT_EQ(killed->sandbox.value, 77u);
}

TEST_P(NodeOrders, EveryOrderMayBeGivenTwice) {
  DrivenNode& one = node(true);
  for (std::uint64_t number = 1; number <= 3; ++number) one.order(order(number));
  for (std::uint64_t number = 1; number <= 3; ++number) ASSERT_TRUE(one.await_started(number));
  one.order(order(4, Program::ends));
  EXPECT_EQ(arm_->living().contains({1}), true);
  expect_one_end(4, EndReason::exited);
  for (std::uint64_t number = 1; number <= 3; ++number) {
    EXPECT_EQ(one.started(number), 1u);
    stop(number, number == 2 ? milliseconds(200) : Duration{});
  }
  for (std::uint64_t number = 1; number <= 3; ++number) {
    expect_one_end(number, EndReason::terminated);
  }
  one.order(ScrubOrder{});
  ASSERT_TRUE(one.await([&] { return one.scrubbed() > 0; }));
  one.go_on(milliseconds(300));
  EXPECT_EQ(one.scrubbed(), 1u);
}

// ---- images

TEST_P(NodeOrders, AnImageWhoseRegistryIsGoneIsTriedAgainAndThenGivenUp) {
  DrivenNode& one = node();
  arm_->break_registry(true);
  one.order(order(1));
  expect_one_end(1, EndReason::pull_failed);
  EXPECT_EQ(one.ordered("PullLayers"), one.machine().config().cache.attempts);
  EXPECT_EQ(one.started(1), 0u);
  if (real()) {
    EXPECT_NE(one.ended(1)[0].note.find("127.0.0.1:1"), std::string::npos)
        << one.ended(1)[0].note;
  }
  arm_->break_registry(false);
  one.order(order(2));
  ASSERT_TRUE(one.await_started(2));
}

TEST_P(NodeOrders, ASlowRegistryIsWaitedForAndNotAskedAgain) {
  DrivenNode& one = node();
  const StartOrder first = order(1), second = order(2);
  arm_->slow_registry(true);
  one.order(first);
  one.order(second);
  one.go_on(milliseconds(400));
  EXPECT_EQ(one.started(1) + one.started(2), 0u);
  stop(2);
  expect_one_end(2, EndReason::terminated);  // at once: it waits for nobody
  arm_->slow_registry(false);
  ASSERT_TRUE(one.await_started(1));
  EXPECT_EQ(one.ordered("PullLayers"), 1u) << "two sandboxes share one pull";
}

TEST_P(NodeOrders, AnOrderThatIsLostIsDoneOnceWhenItComes) {
  DrivenNode& one = node();
  one.lose(order(1));
  one.order(order(2));  // overtakes it: not taken before its turn
  one.go_on(milliseconds(200));
  EXPECT_EQ(one.started(1) + one.started(2), 0u);
  one.send_lost_again();
  ASSERT_TRUE(one.await_started(1) && one.await_started(2));
  one.lose(StopOrder{{1}, {}});
  one.go_on(milliseconds(100));
  EXPECT_EQ(arm_->living().size(), 2u);
  one.send_lost_again();
  expect_one_end(1, EndReason::terminated);
  EXPECT_EQ(one.ordered("StartSandbox"), 2u);
  EXPECT_EQ(one.ordered("KillSandbox"), 1u);
}

TEST_P(NodeOrders, AKillDuringThePullEndsItAtOnceAndThePullGoesOn) {
  DrivenNode& one = node();
  one.order(order(1));
  stop(1);
  expect_one_end(1, EndReason::terminated);
  EXPECT_EQ(one.ordered("KillSandbox"), 0u);  // there was nothing to kill
  one.order(order(2));
  ASSERT_TRUE(one.await_started(2));
}

TEST_P(NodeOrders, AFullDiskIsAPullThatFails) {
  make(true);
  if (!arm_) return;
  if (!real()) arm_->break_registry(true);  // the world's disks fail as its registries do
  DrivenNode& one = node();
  one.order(order(1));
  expect_one_end(1, EndReason::pull_failed);
  if (real()) {
    EXPECT_NE(one.ended(1)[0].note.find("room for"), std::string::npos)
        << one.ended(1)[0].note;
  }
}

TEST_P(NodeOrders, LayersThatWereEvictedArePulledAgain) {
  const StartOrder first = order(1);
  std::vector<LayerId> layers;
  for (const LayerSpec& layer : first.image.layers) layers.push_back(layer.layer);
  arm_->accepted(first);
  for (std::uint64_t pull = 1; pull <= 2; ++pull) {
    images::PullLayers order{};
    order.pull = {pull};
    order.image = first.image.image;
    order.layers = layers;
    for (const LayerSpec& layer : first.image.layers) {
      order.bytes += layer.bytes;
      order.unpacked_bytes += layer.unpacked_bytes;
    }
    arm_->obey(order);
    const auto answer = arm_->next(arm_->patience);
    ASSERT_TRUE(answer);
    const auto* finished = std::get_if<images::PullFinished>(&*answer);
    ASSERT_NE(finished, nullptr);
    EXPECT_TRUE(finished->good) << finished->note;
    EXPECT_EQ(finished->pull.value, pull);
    arm_->obey(images::EvictLayers{order.unpacked_bytes, layers});
  }
}

// ---- owners

TEST_P(NodeOrders, AScrubLetsTheNextOwnerIn) {
  DrivenNode& one = node();
  one.order(order(1));
  ASSERT_TRUE(one.await_started(1));
  StartOrder stranger = order(2);
  stranger.owner = {2};
  one.order(stranger);
  ASSERT_EQ(one.refused().size(), 1u);
  EXPECT_EQ(one.refused()[0].rule, NodeRefusal::owner);
  stop(1);
  expect_one_end(1, EndReason::terminated);
  one.order(ScrubOrder{});
  ASSERT_TRUE(one.await([&] { return one.scrubbed() == 1; }));
  EXPECT_TRUE(arm_->living().empty());
  StartOrder again = order(3);
  again.owner = {2};
  one.order(again);
  ASSERT_TRUE(one.await_started(3));
}

// ---- the agent dies

TEST_P(NodeOrders, AnAgentThatDiesFindsWhatRuns) {
  DrivenNode& one = node();
  one.order(order(1));
  one.order(order(2));
  ASSERT_TRUE(one.await_started(1) && one.await_started(2));
  one.restart_agent([&] { arm_->end({2}); });
  EXPECT_EQ(arm_->living(), std::set<SandboxId>{{1}});
  expect_one_end(2, EndReason::exited);
  EXPECT_EQ(one.started(1), 1u);
  EXPECT_TRUE(one.ended(1).empty());
  stop(1);
  expect_one_end(1, EndReason::terminated);
}

TEST_P(NodeOrders, AnAgentThatDiesAnywhereStartsEachOnce) {
  DrivenNode& one = node();
  for (std::uint64_t number = 1; number <= 4; ++number) {
    one.order(order(number));
    one.go_on(milliseconds(60 * static_cast<std::int64_t>(number)));  // into pulls and starts
    one.restart_agent();
  }
  for (std::uint64_t number = 1; number <= 4; ++number) {
    ASSERT_TRUE(one.await([&] { return one.started(number) > 0; })) << number;
  }
  one.go_on(milliseconds(300));
  EXPECT_EQ(arm_->living().size(), 4u);
  for (std::uint64_t number = 1; number <= 4; ++number) {
    EXPECT_EQ(one.started(number), 1u);
    EXPECT_TRUE(one.ended(number).empty());
  }
}

TEST_P(NodeOrders, AnAgentThatDiesBetweenAKillAndItsEndKillsAgain) {
  DrivenNode& one = node();
  one.order(order(1));
  one.order(order(2));
  ASSERT_TRUE(one.await_started(1) && one.await_started(2));
  stop(1);
  one.order(order(3));
  one.go_on(milliseconds(5));
  stop(3);  // while it starts
  one.restart_agent();
  expect_one_end(1, EndReason::terminated);
  expect_one_end(3, EndReason::terminated);
  EXPECT_EQ(arm_->living(), std::set<SandboxId>{{2}});
}

TEST_P(NodeOrders, AnAgentThatDiesDuringAScrubScrubsAgain) {
  DrivenNode& one = node();
  one.order(order(1));
  ASSERT_TRUE(one.await_started(1));
  stop(1);
  expect_one_end(1, EndReason::terminated);
  one.order(ScrubOrder{});
  one.restart_agent();
  ASSERT_TRUE(one.await([&] { return one.scrubbed() > 0; }));
  EXPECT_EQ(one.scrubbed(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Arms, NodeOrders, testing::Values("simulated", "real"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace chalk::conformance
