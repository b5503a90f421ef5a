#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "model/core/codec.h"
#include "tests/model/node/rig.h"

namespace chalk::node {
namespace {

TEST(Node, ChecksEveryDimensionAgainAndSaysWhatWasLeft) {
  const auto refusal = [](Resources ask, std::uint32_t gpu_mask = 0) {
    Rig rig;
    rig.give(
        at(1),
        order(1, 5, {.cpu_millicores = 3000, .memory_bytes = 6 * kGi, .disk_bytes = 15 * kGi}));
    StartOrder second = order(2, 5, ask);
    second.gpu_mask = gpu_mask;
    rig.give(at(1), second);
    const auto refused = rig.reported<RefusedReport>();
    return refused.empty() ? RefusedReport{} : refused[0];
  };
  EXPECT_EQ(refusal(kOne), RefusedReport{}) << "it fits";
  EXPECT_EQ(refusal({.cpu_millicores = 1001}), (RefusedReport{{2}, NodeRefusal::cpu, 1001, 1000}));
  EXPECT_EQ(refusal({.memory_bytes = 3 * kGi}),
            (RefusedReport{{2}, NodeRefusal::memory, 3 * kGi, 2 * kGi}));
  EXPECT_EQ(refusal({.disk_bytes = 6 * kGi}),
            (RefusedReport{{2}, NodeRefusal::disk, 6 * kGi, 5 * kGi}));
  EXPECT_EQ(refusal({.gpus = 1, .gpu_millis = 1000}, 0b100),
            (RefusedReport{{2}, NodeRefusal::gpu, 1000, 0}));
  EXPECT_EQ(refusal({.cpu_millicores = -1}).rule, NodeRefusal::cpu);
}

TEST(Node, RefusesMoreStartsAtOnceThanItHasSlotsAndTheSameSandboxTwice) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.give(at(1), order(2, 5, kOne));
  rig.give(at(1), order(3, 5, kOne));
  rig.give(at(1), order(1, 5, kOne));
  const auto refused = rig.reported<RefusedReport>();
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].rule, NodeRefusal::start_slots);
  EXPECT_EQ(refused[1].rule, NodeRefusal::duplicate);
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.give(at(2), order(4, 5, kOne));
  EXPECT_EQ(rig.reported<RefusedReport>().size(), 2u) << "a slot has come free";
}

TEST(Node, LetsNoOtherOwnerInBeforeItHasBeenScrubbed) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.give(at(1), order(2, 6, kOne));
  ASSERT_EQ(rig.reported<RefusedReport>().size(), 1u);
  EXPECT_EQ(rig.reported<RefusedReport>()[0].rule, NodeRefusal::owner);
  rig.tell(at(2), SandboxStarted{{1}, true});
  EXPECT_TRUE(said<Scrub>(rig.give(at(3), ScrubOrder{})).empty()) << "somebody lives there";
  rig.tell(at(4), SandboxExited{{1}, false});
  rig.give(at(5), order(3, 6, kOne));
  EXPECT_EQ(rig.reported<RefusedReport>().size(), 2u) << "empty, but not clean";
  EXPECT_EQ(said<Scrub>(rig.give(at(6), ScrubOrder{})).size(), 1u);
  rig.give(at(6), order(4, 5, kOne));
  EXPECT_EQ(rig.reported<RefusedReport>().size(), 3u) << "while it is wiped nobody may start";
  rig.tell(at(8), ScrubFinished{});
  EXPECT_EQ(rig.reported<ScrubbedReport>().size(), 1u);
  EXPECT_EQ(said<StartSandbox>(rig.give(at(9), order(5, 6, kOne))).size(), 1u);
}

TEST(Node, EndsALifetimeWithoutAWordFromControl) {
  Rig rig;
  StartOrder start = order(1, 5, kOne);
  start.lifetime = seconds(30);
  rig.give(at(1), start);
  rig.tell(at(2), SandboxStarted{{1}, true});
  EXPECT_TRUE(said<KillSandbox>(rig.tell(at(31), Woken{})).empty());
  const auto kills = said<KillSandbox>(rig.tell(at(32), Woken{}));
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0], (KillSandbox{{1}, EndReason::lifetime_reached, seconds(5)}));
  rig.tell(at(33), SandboxKilled{{1}});
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::lifetime_reached}}));
}

TEST(Node, StopsASandboxInEachPhaseOfItsLife) {
  Rig rig;
  StartOrder pulling = order(1, 5, kOne);
  pulling.image = {{1}, {{{9}, 10, 20}}};
  const auto pulls = said<images::PullLayers>(rig.give(at(1), pulling));
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_TRUE(said<KillSandbox>(rig.give(at(2), StopOrder{{1}})).empty()) << "nothing runs yet";
  EXPECT_EQ(rig.reported<EndedReport>().size(), 1u);
  rig.tell(at(2), images::PullFinished{pulls[0].pull, true});

  rig.give(at(3), order(2, 5, kOne));
  EXPECT_EQ(said<KillSandbox>(rig.give(at(3), StopOrder{{2}})).size(), 1u) << "it is starting";
  EXPECT_TRUE(said<KillSandbox>(rig.give(at(3), StopOrder{{2}})).empty()) << "once is enough";
  rig.tell(at(4), SandboxStarted{{2}, true});
  EXPECT_EQ(rig.reported<StartedReport>().size(), 0u);
  rig.tell(at(4), SandboxKilled{{2}});
  EXPECT_EQ(rig.reported<EndedReport>().size(), 2u);
  rig.give(at(5), StopOrder{{77}});
  EXPECT_EQ(rig.reported<EndedReport>().size(), 2u) << "unknown";
}

TEST(Node, OrdersAgainWhatWasUnderWayWhenItsAgentIsResumed) {
  Rig rig;
  StartOrder pulling = order(1, 5, kOne);
  pulling.image = {{1}, {{{9}, 10, 20}}};
  const auto pulls = said<images::PullLayers>(rig.give(at(1), pulling));
  StartOrder starting = order(2, 5, kOne);
  starting.payload = "what the runtime needs";
  rig.give(at(1), starting);
  const auto again = rig.tell(at(9), Resumed{});
  EXPECT_EQ(said<images::PullLayers>(again), pulls);
  EXPECT_EQ(said<StartSandbox>(again), (std::vector<StartSandbox>{{starting}}));
  EXPECT_TRUE(said<KillSandbox>(again).empty());
  ASSERT_EQ(said<WakeAt>(again).size(), 1u);
  EXPECT_EQ(said<WakeAt>(again)[0].at, at(9)) << "control hears from it at once";

  rig.tell(at(10), SandboxStarted{{2}, true});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(11), Resumed{})).empty()) << "it runs";
  rig.give(at(12), StopOrder{{2}, seconds(3)});
  const auto kills = said<KillSandbox>(rig.tell(at(13), Resumed{}));
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0].why, EndReason::terminated);
  rig.tell(at(14), SandboxKilled{{2}, "how it ended"});
  EXPECT_EQ(rig.reported<EndedReport>().back(),
            (EndedReport{{2}, EndReason::terminated, "how it ended"}));
  EXPECT_TRUE(said<Scrub>(rig.tell(at(15), Resumed{})).empty());
}

TEST(Node, WipesAgainWhenItsAgentWasKilledInTheMiddleOfIt) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(3), SandboxExited{{1}, false});
  EXPECT_EQ(said<Scrub>(rig.give(at(4), ScrubOrder{})).size(), 1u);
  EXPECT_EQ(said<Scrub>(rig.tell(at(5), Resumed{})).size(), 1u);
}

TEST(Node, PassesGraceToTheRuntimeAndNotesToControl) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(2), SandboxStarted{{1}, true, "started"});
  const auto kills = said<KillSandbox>(rig.give(at(3), StopOrder{{1}, seconds(7)}));
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0], (KillSandbox{{1}, EndReason::terminated, seconds(7)}));
  rig.tell(at(4), SandboxExited{{1}, false, "ended"});
  EXPECT_EQ(rig.reported<StartedReport>(), (std::vector<StartedReport>{{{1}, "started"}}));
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::terminated, "ended"}}));

  StartOrder pulling = order(2, 5, kOne);
  pulling.image = {{1}, {{{9}, 10, 20}}};
  for (int second = 10; rig.reported<EndedReport>().size() < 2 && second < 100; second += 10) {
    auto pulls = said<images::PullLayers>(second == 10 ? rig.give(at(second), pulling)
                                                       : rig.tell(at(second), Woken{}));
    for (const auto& pull : pulls) {
      rig.tell(at(second), images::PullFinished{pull.pull, false, "no such layer"});
    }
  }
  EXPECT_EQ(rig.reported<EndedReport>().back(),
            (EndedReport{{2}, EndReason::pull_failed, "no such layer"}));
}

TEST(Node, EndsWhatHasABadImageAfterOnePull) {
  Rig rig;
  StartOrder pulling = order(2, 5, kOne);
  pulling.image = {{1}, {{{9}, 10, 20}}};
  const auto pulls = said<images::PullLayers>(rig.give(at(1), pulling));
  ASSERT_EQ(pulls.size(), 1u);
  const auto after = rig.tell(at(2), images::PullFinished{pulls[0].pull, false, "denied", true});
  EXPECT_TRUE(said<images::PullLayers>(after).empty());
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{2}, EndReason::bad_image, "denied"}}));
}

TEST(Node, TakesEnvelopesOnceAndInOrder) {
  Rig rig;
  EXPECT_TRUE(rig.tell(at(1), FromControl{{1, 2, 0, order(2, 5, kOne)}}).empty())
      << "the first is missing";
  const FromControl first{{1, 1, 0, order(1, 5, kOne)}};
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(1), first)).size(), 1u);
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(1), first)).empty()) << "repeated";
  EXPECT_TRUE(rig.tell(at(1), FromControl{{9, 2, 0, order(3, 5, kOne)}}).empty())
      << "of another boot";
  EXPECT_TRUE(rig.tell(at(1), FromControl{{1, 2, 0, order(2, 5, kOne)}, {7}}).empty())
      << "for who it was to control before its welcome was lost";
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(1), FromControl{{1, 2, 0, order(2, 5, kOne)}, {3}})).size(), 1u);
}

TEST(Node, SendsReportsAgainUntilTheyAreAcknowledged) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(2), SandboxStarted{{1}, true});
  const auto resent = [&](std::int64_t second) {
    std::size_t count = 0;
    for (const auto& message : said<ToControl>(rig.tell(at(second), Woken{}))) {
      count += message.envelope.message.has_value();
    }
    return count;
  };
  EXPECT_EQ(resent(20), 0u) << "it was under way at the last heartbeat";
  EXPECT_EQ(resent(40), 1u);
  EXPECT_EQ(resent(60), 1u);
  rig.tell(at(61), FromControl{{1, 0, 1, {}}});
  EXPECT_EQ(resent(80), 0u);
}

TEST(Node, EndsAndWipesEverythingBeforeItRegistersAnew) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(2), SandboxStarted{{1}, true});
  const auto told = rig.tell(at(3), Unknown{1});
  EXPECT_EQ(said<KillSandbox>(told).size(), 1u);
  EXPECT_TRUE(said<Register>(told).empty());
  const auto killed = rig.tell(at(4), SandboxKilled{{1}});
  EXPECT_EQ(said<Scrub>(killed).size(), 1u);
  EXPECT_TRUE(said<Register>(killed).empty());
  const auto clean = said<Register>(rig.tell(at(5), ScrubFinished{}));
  ASSERT_EQ(clean.size(), 1u);
  EXPECT_EQ(clean[0].registration.incarnation, 2u);
  EXPECT_TRUE(rig.tell(at(6), Unknown{1}).empty()) << "about the earlier boot";
}

// ---- starting again

StartOrder tireless(std::uint64_t sandbox) {
  StartOrder start = order(sandbox, 5, kOne);
  start.restart = true;
  return start;
}

TEST(Node, StartsAgainWhatEndsByItselfAndKeepsWhatWasReserved) {
  Rig rig;
  rig.give(at(1), tireless(1));
  rig.tell(at(2), SandboxStarted{{1}, true, "first"});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(3), SandboxExited{{1}, false, "code 3"})).empty());
  EXPECT_EQ(rig.reported<RestartedReport>(),
            (std::vector<RestartedReport>{{{1}, 1, false, "code 3"}}));
  EXPECT_EQ(rig.node.state().use.cpu_millicores, 1000);
  EXPECT_EQ(rig.node.state().use.starting + rig.node.state().use.restarting, 0)
      << "who waits holds no slot";
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(3), Woken{})).empty());
  const auto again = said<StartSandbox>(rig.tell(at(4), Woken{}));
  EXPECT_EQ(again, (std::vector<StartSandbox>{{tireless(1), 1, "first"}}));
  rig.tell(at(5), SandboxStarted{{1}, true, "second"});
  EXPECT_EQ(rig.reported<RestartedReport>().back(), (RestartedReport{{1}, 1, true, "second"}));
  EXPECT_EQ(rig.reported<StartedReport>().size(), 1u) << "control hears of the first start only";
  EXPECT_TRUE(rig.reported<EndedReport>().empty());
  rig.tell(at(6), SandboxExited{{1}, true, "memory"});
  EXPECT_EQ(rig.reported<RestartedReport>().back(), (RestartedReport{{1}, 2, false, "memory"}));
}

TEST(Node, PausesLongerEachTimeUntilItHasRunForLong) {
  Rig rig;
  rig.give(at(1), tireless(1));
  std::int64_t second = 2;
  rig.tell(at(second), SandboxStarted{{1}, true});
  const auto pause = [&](bool good) {
    const std::int64_t ended = second;
    while (said<StartSandbox>(rig.tell(at(++second), Woken{})).empty()) {
    }
    rig.tell(at(second), SandboxStarted{{1}, good});
    return second - ended;
  };
  std::vector<std::int64_t> pauses;
  for (int round = 0; round < 10; ++round) {
    rig.tell(at(second), SandboxExited{{1}, false});
    pauses.push_back(pause(true));
  }
  EXPECT_EQ(pauses, (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 300}));
  second += 599;
  rig.tell(at(second), SandboxExited{{1}, false});
  EXPECT_EQ(pause(true), 300);
  second += 600;
  rig.tell(at(second), SandboxExited{{1}, false});
  EXPECT_EQ(pause(false), 1) << "it ran for ten minutes";
  EXPECT_EQ(rig.reported<RestartedReport>().back().count, 13u);
  EXPECT_FALSE(rig.reported<RestartedReport>().back().running);
  EXPECT_EQ(pause(true), 2) << "a start that failed is another try";
  EXPECT_TRUE(rig.reported<EndedReport>().empty());
}

TEST(Node, AFirstStartThatFailsIsNotTriedAgainHere) {
  Rig rig;
  rig.give(at(1), tireless(1));
  rig.tell(at(2), SandboxStarted{{1}, false, "no"});
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::start_failed, "no"}}));
}

TEST(Node, CountsTheLifetimeFromTheFirstStart) {
  Rig rig;
  StartOrder start = tireless(1);
  start.lifetime = seconds(30);
  rig.give(at(1), start);
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(20), SandboxExited{{1}, false});
  rig.tell(at(21), Woken{});
  rig.tell(at(22), SandboxStarted{{1}, true});
  EXPECT_TRUE(said<KillSandbox>(rig.tell(at(31), Woken{})).empty());
  EXPECT_EQ(said<KillSandbox>(rig.tell(at(32), Woken{})).size(), 1u);
  rig.tell(at(33), SandboxExited{{1}, false});
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::lifetime_reached}}));
}

TEST(Node, WhatWaitsToStartAgainEndsLikeWhatRuns) {
  const auto waiting = [](Rig& rig) {
    StartOrder start = tireless(1);
    start.lifetime = seconds(30);
    rig.give(at(1), start);
    rig.tell(at(2), SandboxStarted{{1}, true});
    rig.tell(at(31), SandboxExited{{1}, false});
  };
  const auto end = [](Rig& rig) {
    EXPECT_TRUE(said<StartSandbox>(rig.tell(at(40), Woken{})).empty());
    rig.tell(at(41), SandboxKilled{{1}});
    EXPECT_EQ(rig.node.state().use, Use{});
  };
  Rig stopped;
  waiting(stopped);
  EXPECT_EQ(said<KillSandbox>(stopped.give(at(31), StopOrder{{1}})).size(), 1u);
  end(stopped);
  EXPECT_EQ(stopped.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::terminated}}));
  Rig old;
  waiting(old);
  const auto due = old.tell(at(32), Woken{});  // its pause and its lifetime end together
  EXPECT_EQ(said<KillSandbox>(due).size(), 1u);
  EXPECT_TRUE(said<StartSandbox>(due).empty());
  end(old);
  EXPECT_EQ(old.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::lifetime_reached}}));
  Rig unknown;
  waiting(unknown);
  EXPECT_EQ(said<KillSandbox>(unknown.tell(at(31), Unknown{1})).size(), 1u);
  EXPECT_EQ(said<Scrub>(unknown.tell(at(32), SandboxKilled{{1}})).size(), 1u);
}

TEST(Node, WhatWaitsGoesOnWaitingWhenItsAgentIsResumed) {
  Rig rig;
  rig.give(at(1), tireless(1));
  rig.tell(at(2), SandboxStarted{{1}, true, "first"});
  rig.tell(at(3), SandboxExited{{1}, false});
  const auto resumed = rig.tell(at(3), Resumed{});
  EXPECT_TRUE(said<StartSandbox>(resumed).empty());
  EXPECT_TRUE(said<KillSandbox>(resumed).empty());
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(9), Woken{})).size(), 1u);
  const std::vector<StartSandbox> same{{tireless(1), 1, "first"}};
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(10), Resumed{})), same) << "its start was cut off";
}

TEST(Node, RestartsTakeNoSlotThatControlCounts) {
  Rig rig;  // of two slots
  for (std::uint64_t one = 1; one <= 3; ++one) {
    rig.give(at(1), tireless(one));
    rig.tell(at(1), SandboxStarted{{one}, true});
  }
  for (std::uint64_t one = 1; one <= 3; ++one) rig.tell(at(2), SandboxExited{{one}, false});
  const auto begun = [](const std::vector<Effect>& effects) {
    std::vector<std::uint64_t> out;
    for (const auto& start : said<StartSandbox>(effects)) out.push_back(start.order.sandbox.value);
    return out;
  };
  using Numbers = std::vector<std::uint64_t>;
  EXPECT_EQ(begun(rig.tell(at(3), Woken{})), (Numbers{1, 2}));
  EXPECT_EQ(begun(rig.give(at(3), order(4, 5, kOne))), Numbers{4}) << "control has both its slots";
  EXPECT_EQ(begun(rig.tell(at(4), SandboxStarted{{2}, true})), Numbers{3});
  rig.tell(at(5), SandboxExited{{2}, false});
  rig.give(at(5), StopOrder{{1}});
  EXPECT_TRUE(begun(rig.tell(at(7), Woken{})).empty()) << "the start that is killed goes on";
  EXPECT_EQ(rig.node.state().use.restarting, 2);
  EXPECT_EQ(begun(rig.tell(at(8), SandboxStarted{{1}, false, "cut off"})), Numbers{2});
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::terminated, "cut off"}}));
  EXPECT_EQ(rig.node.state().use.restarting, 2);
}

TEST(Node, TheLayersOfWhatWaitsStay) {
  Rig rig;
  rig.config.cache.capacity_bytes = 30;
  rig.node = Node(rig.config, rig.node.state());
  StartOrder start = tireless(1);
  start.image = {{1}, {{{9}, 10, 20}}};
  const auto pulls = said<images::PullLayers>(rig.give(at(1), start));
  ASSERT_EQ(pulls.size(), 1u);
  rig.tell(at(2), images::PullFinished{pulls[0].pull, true});
  rig.tell(at(3), SandboxStarted{{1}, true});
  rig.tell(at(4), SandboxExited{{1}, false});
  StartOrder other = order(2, 5, kOne);
  other.image = {{2}, {{{8}, 10, 20}}};
  EXPECT_TRUE(said<images::EvictLayers>(rig.give(at(4), other)).empty());
  EXPECT_EQ(rig.reported<EndedReport>().back().reason, EndReason::pull_failed) << "no room";
  const auto again = rig.tell(at(5), Woken{});
  EXPECT_EQ(said<StartSandbox>(again).size(), 1u);
  EXPECT_TRUE(said<images::PullLayers>(again).empty());
}

// ---- layers that a loss of power took

StartOrder with_layer(StartOrder start) {
  start.image = {{1}, {{{9}, 10, 20}}};
  return start;
}
images::PullFinished done(const std::vector<Effect>& effects, bool good = true) {
  const auto pulls = said<images::PullLayers>(effects);
  EXPECT_EQ(pulls.size(), 1u);
  return pulls.empty() ? images::PullFinished{} : images::PullFinished{pulls[0].pull, good};
}

TEST(Node, AStartWhoseLayersWereLostWaitsForThemAgain) {
  Rig rig;
  const StartOrder start = with_layer(order(1, 5, kOne));
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(2), done(rig.give(at(1), start)))).size(), 1u);
  const auto lost = rig.tell(at(3), LayersLost{{{9}}});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(3), Resumed{})).empty());
  EXPECT_EQ(rig.node.state().use.starting, 1) << "it keeps its slot";
  const auto back = said<StartSandbox>(rig.tell(at(4), done(lost)));
  EXPECT_EQ(back, (std::vector<StartSandbox>{{start}}));
  rig.tell(at(5), SandboxStarted{{1}, true});
  EXPECT_EQ(rig.reported<StartedReport>().size(), 1u);
  EXPECT_EQ(rig.node.state().use.starting, 0);
}

TEST(Node, WhatIsToBeStartedAgainWaitsForLayersThatWereLost) {
  Rig rig;
  const StartOrder start = with_layer(tireless(1));
  rig.tell(at(2), done(rig.give(at(1), start)));
  rig.tell(at(3), SandboxStarted{{1}, true, "first"});
  rig.tell(at(4), SandboxExited{{1}, false});
  const auto lost = rig.tell(at(4), LayersLost{{{9}}});
  rig.tell(at(4), Resumed{});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(5), Woken{})).empty()) << "its pause is over";
  EXPECT_EQ(rig.node.state().use.restarting, 1);
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(6), done(lost))),
            (std::vector<StartSandbox>{{start, 1, "first"}}));
  rig.tell(at(7), SandboxStarted{{1}, true});
  EXPECT_EQ(rig.node.state().use.restarting, 0);
}

TEST(Node, WhatIsToBeStartedAgainTriesLaterWhereItsLayersDoNotComeBack) {
  Rig rig;
  rig.config.cache.attempts = 1;
  rig.node = Node(rig.config, rig.node.state());
  rig.tell(at(2), done(rig.give(at(1), with_layer(tireless(1)))));
  rig.tell(at(3), SandboxStarted{{1}, true, "first"});
  rig.tell(at(4), SandboxExited{{1}, false});
  const auto lost = rig.tell(at(4), LayersLost{{{9}}});
  rig.tell(at(4), done(lost, false));  // while its pause goes on
  EXPECT_TRUE(rig.reported<EndedReport>().empty());
  const auto second = rig.tell(at(5), Woken{});
  rig.tell(at(6), done(second, false));
  EXPECT_EQ(rig.node.state().use.restarting, 0);
  EXPECT_EQ(rig.reported<RestartedReport>().back().count, 2u);
  const auto third = rig.tell(at(8), Woken{});
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(9), done(third))).size(), 1u);
  rig.tell(at(9), SandboxStarted{{1}, true});
  rig.tell(at(10), SandboxExited{{1}, false});
  rig.tell(at(10), LayersLost{{{9}}});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(20), Woken{})).empty());
  EXPECT_EQ(said<KillSandbox>(rig.give(at(21), StopOrder{{1}})).size(), 1u)
      << "the runtime keeps its output for the next start";
  rig.tell(at(22), SandboxKilled{{1}});
  EXPECT_EQ(rig.reported<EndedReport>(), (std::vector<EndedReport>{{{1}, EndReason::terminated}}));
  EXPECT_EQ(rig.node.state().use, Use{});
}

// Logs name an event by its place.
TEST(Node, EventsKeepTheirPlacesInLogs) {
  EXPECT_EQ(Event{ShellMade{}}.index(), 12u);
  EXPECT_EQ(Event{LayersLost{}}.index(), 13u);
}

TEST(Node, ACrashLoopFillsNoMemoryWhileControlIsAway) {
  Rig rig;
  rig.config.reports_max = 3;
  rig.give(at(1), tireless(1));
  std::int64_t second = 2;
  rig.tell(at(second), SandboxStarted{{1}, true});
  for (int round = 0; round < 5; ++round) {
    rig.tell(at(second), SandboxExited{{1}, false});
    rig.tell(at(second += 400), Woken{});
    rig.tell(at(second), SandboxStarted{{1}, true});
  }
  EXPECT_EQ(rig.node.state().reports.size(), 3u);
  rig.tell(at(second), FromControl{{1, 0, 3, {}}});
  rig.tell(at(second), SandboxExited{{1}, false});
  EXPECT_EQ(rig.reported<RestartedReport>().back().count, 6u) << "the next total says it all";
}

// Random orders and answers of the runtime: what is admitted is the sum of the orders, within the
// shape, of one owner; each admitted sandbox ends in exactly one report, and not by itself where it is
// started again; what runs was ordered to; rebuilt from its bytes at every step it says the same.
RC_GTEST_PROP(Node, AdmitsWithinItsShapeAndReportsEachEndOnce, ()) {
  Rig rig;
  std::map<std::uint64_t, StartOrder> live;  // admitted
  std::map<std::uint64_t, int> ends;
  std::map<std::uint64_t, std::uint32_t> restarts;  // of those that are started again
  std::vector<SandboxId> killing;
  std::vector<SandboxId> starting;
  std::uint64_t next = 1;
  std::int64_t second = 1;
  std::size_t heard = 0;
  const auto hear = [&](const std::vector<Effect>& effects) {
    for (const auto& start : said<StartSandbox>(effects)) starting.push_back(start.order.sandbox);
    for (const auto& kill : said<KillSandbox>(effects)) killing.push_back(kill.sandbox);
    for (; heard < rig.reports.size(); ++heard) {
      if (const auto* ended = std::get_if<EndedReport>(&rig.reports[heard])) {
        RC_ASSERT(live.erase(ended->sandbox.value) == 1);
        RC_ASSERT(++ends[ended->sandbox.value] == 1);
        RC_ASSERT(!restarts.contains(ended->sandbox.value) ||
                  (ended->reason != EndReason::exited && ended->reason != EndReason::out_of_memory));
      }
      if (const auto* again = std::get_if<RestartedReport>(&rig.reports[heard])) {
        auto& known = restarts.at(again->sandbox.value);
        RC_ASSERT(again->count == known + (again->running ? 0 : 1));
        known = again->count;
      }
      if (const auto* refused = std::get_if<RefusedReport>(&rig.reports[heard])) {
        live.erase(refused->sandbox.value);
      }
    }
    Resources sum;
    for (const auto& [id, one] : live) {
      sum.cpu_millicores += one.resources.cpu_millicores;
      sum.memory_bytes += one.resources.memory_bytes;
      RC_ASSERT(one.owner == live.begin()->second.owner);
    }
    RC_ASSERT(sum.cpu_millicores <= kShape.cpu_millicores);
    RC_ASSERT(sum.memory_bytes <= kShape.memory_bytes);
    RC_ASSERT(live.size() <= static_cast<std::size_t>(kShape.sandboxes_max));
    Use phases;
    for (const auto& [id, one] : rig.node.sandboxes()) {
      const bool starts = one.phase == Phase::pulling || one.phase == Phase::starting ||
                          one.start_under_way;
      if (starts) ++(one.restarts > 0 ? phases.restarting : phases.starting);
    }
    RC_ASSERT(rig.node.state().use.starting == phases.starting);
    RC_ASSERT(rig.node.state().use.restarting == phases.restarting);
    RC_ASSERT(phases.starting <= kShape.start_slots && phases.restarting <= kShape.start_slots);
    State copy;
    RC_ASSERT(decode(encode(rig.node.state()), copy));
    rig.node = Node(rig.config, copy);
  };
  const auto pick = [](std::vector<SandboxId>& from, int which) {
    const auto place = from.begin() + which % static_cast<int>(from.size());
    const SandboxId id = *place;
    from.erase(place);
    return id;
  };
  const auto draws = *rc::gen::container<std::vector<int>>(
      rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 10'000)));
  for (const int draw : draws) {
    ++second;
    const int which = draw / 10;
    switch (draw % 10) {
      case 0:
      case 1:
      case 2: {
        StartOrder start =
            order(next, 1 + which % 2,
                  {.cpu_millicores = 500 + which % 2000, .memory_bytes = (1 + which % 4) * kGi});
        start.lifetime = seconds(which % 20);
        start.restart = which % 3 == 0;
        if (start.restart) restarts[next] = 0;
        live[next++] = start;
        hear(rig.give(at(second), start));
        break;
      }
      case 3:
      case 4:
        if (!starting.empty()) {
          hear(rig.tell(at(second), SandboxStarted{pick(starting, which), which % 5 != 0}));
        }
        break;
      case 5: hear(rig.give(at(second), StopOrder{{1 + which % next}})); break;
      case 6:
        if (!killing.empty()) hear(rig.tell(at(second), SandboxKilled{pick(killing, which)}));
        break;
      case 7: hear(rig.tell(at(second), SandboxExited{{1 + which % next}, which % 2 == 0})); break;
      case 8:
        hear(rig.give(at(second), ScrubOrder{}));
        hear(rig.tell(at(second), ScrubFinished{}));
        break;
      default: hear(rig.tell(at(second), Woken{})); break;
    }
  }
}

TEST(Node, EndsNothingThatIsNotThere) {
  Rig rig;
  EXPECT_TRUE(said<KillSandbox>(rig.give(at(1), StopOrder{{9}})).empty());
  StartOrder brief = order(1, 5, kOne);
  brief.lifetime = seconds(10);
  rig.give(at(1), brief);
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(3), SandboxExited{{1}, false});
  EXPECT_TRUE(said<KillSandbox>(rig.tell(at(12), Woken{})).empty()) << "its lifetime outlived it";
}

TEST(Node, AFirstRestartThatFailsIsTriedAgain) {
  Rig rig;
  StartOrder start = order(1, 5, kOne);
  start.restart = true;
  rig.give(at(1), start);
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(3), SandboxExited{{1}, false});
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(4), Woken{})).size(), 1u);
  rig.tell(at(5), SandboxStarted{{1}, false});
  EXPECT_TRUE(rig.reported<EndedReport>().empty());
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(7), Woken{})).size(), 1u);
}

}  // namespace
}  // namespace chalk::node
