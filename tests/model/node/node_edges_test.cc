// What a node decides at its bounds, and facts that come late, twice or about nobody.
#include <algorithm>
#include <utility>

#include "model/core/digest.h"
#include "tests/model/node/rig.h"

namespace chalk::node {
namespace {

using images::PullLayers;

StartOrder on_gpus(std::uint64_t sandbox, std::uint32_t mask, std::int32_t gpus,
                   std::int32_t millis) {
  StartOrder start = order(sandbox, 5, {.gpus = gpus, .gpu_millis = millis});
  start.gpu_mask = mask;
  return start;
}
StartOrder with_image(std::uint64_t sandbox) {
  StartOrder start = order(sandbox, 5, kOne);
  start.image = {{1}, {{{9}, 10, 20}}};
  return start;
}

TEST(Node, IsFilledToTheLastUnitAndNoFurther) {
  Rig rig;
  rig.give(at(1), order(1, 5, {.cpu_millicores = kShape.cpu_millicores,
                               .memory_bytes = kShape.memory_bytes,
                               .disk_bytes = kShape.disk_bytes}));
  EXPECT_TRUE(rig.reported<RefusedReport>().empty());
  rig.give(at(1), order(2, 5, {.cpu_millicores = 1}));
  rig.give(at(1), order(3, 5, {.memory_bytes = 1}));
  rig.give(at(1), order(4, 5, {.disk_bytes = 1}));
  rig.give(at(1), order(5, 5, {.memory_bytes = -1}));
  rig.give(at(1), order(6, 5, {.disk_bytes = -1}));
  rig.give(at(1), order(7, 5, {.cpu_millicores = -1}));
  EXPECT_EQ(rig.reported<RefusedReport>(),
            (std::vector<RefusedReport>{{{2}, NodeRefusal::cpu, 1, 0},
                                        {{3}, NodeRefusal::memory, 1, 0},
                                        {{4}, NodeRefusal::disk, 1, 0},
                                        {{5}, NodeRefusal::memory, -1, 0},
                                        {{6}, NodeRefusal::disk, -1, 0},
                                        {{7}, NodeRefusal::cpu, -1, 0}}));
  rig.give(at(2), StopOrder{{1}});
  rig.tell(at(2), SandboxKilled{{1}});
  EXPECT_EQ(rig.node.state().use, Use{}) << "all of it came back";
}

TEST(Node, SharesAGpuToItsLastThousandth) {
  Rig rig;
  rig.give(at(1), on_gpus(1, 0b10, 1, 600));
  rig.give(at(1), on_gpus(2, 0b10, 1, 401));
  EXPECT_EQ(rig.reported<RefusedReport>(),
            (std::vector<RefusedReport>{{{2}, NodeRefusal::gpu, 401, 400}}));
  rig.give(at(1), on_gpus(3, 0b10, 1, 400));
  EXPECT_EQ(rig.reported<RefusedReport>().size(), 1u);
  EXPECT_EQ(rig.node.state().use.gpu_millis[0], 0);
  EXPECT_EQ(rig.node.state().use.gpu_millis[1], 1000);
  rig.tell(at(1), SandboxStarted{{1}, true});
  rig.give(at(1), on_gpus(4, 0b01, 1, 1));
  EXPECT_EQ(rig.node.state().use.gpu_millis[0], 1);
}

TEST(Node, CountsNoMoreGpusThanAnyNodeHas) {
  NodeShape shape = kShape;
  shape.gpus = 32;
  Config config;
  Node node(config, {7, 1, 0, {1}, {1}, shape});
  Node::Effects effects;
  node.step(at(0), Welcomed{1, {3}}, effects);
  node.step(at(1), FromControl{{1, 1, 0, on_gpus(1, 1u << kGpusPerNodeMax, 1, 1000)}}, effects);
  EXPECT_TRUE(node.sandboxes().empty());
  node.step(at(1), FromControl{{1, 2, 0, on_gpus(2, 1u << (kGpusPerNodeMax - 1), 1, 1000)}},
            effects);
  EXPECT_EQ(node.sandboxes().size(), 1u);
}

TEST(Node, SaysTheNumbersOfWhatIsTakenAlready) {
  Rig rig;
  for (const std::uint64_t sandbox : {1u, 2u, 3u, 1u}) rig.give(at(1), order(sandbox, 5, {}));
  EXPECT_EQ(rig.reported<RefusedReport>(),
            (std::vector<RefusedReport>{{{3}, NodeRefusal::start_slots, 1, 0},
                                        {{1}, NodeRefusal::duplicate, 1, 0}}));
}

TEST(Node, RefusesGpusThatItHasNotThatAreNoneOrThatAreMiscounted) {
  Rig rig;
  rig.give(at(1), on_gpus(1, 0b100, 1, 1000));
  rig.give(at(1), on_gpus(2, 1u << 31, 1, 1000));
  rig.give(at(1), on_gpus(3, 0b01, 1, 0));
  rig.give(at(1), on_gpus(4, 0b01, 1, -5));
  rig.give(at(1), on_gpus(5, 0b01, 2, 1000));
  rig.give(at(1), on_gpus(6, 0b11, 1, 1000));
  rig.give(at(1), on_gpus(7, 0, 1, 1000));
  EXPECT_EQ(rig.reported<RefusedReport>(),
            (std::vector<RefusedReport>{{{1}, NodeRefusal::gpu, 1000, 0},
                                        {{2}, NodeRefusal::gpu, 1000, 0},
                                        {{3}, NodeRefusal::gpu, 0, 1000},
                                        {{4}, NodeRefusal::gpu, -5, 1000},
                                        {{5}, NodeRefusal::gpu, 2, 1},
                                        {{6}, NodeRefusal::gpu, 1, 2},
                                        {{7}, NodeRefusal::gpu, 1, 0}}));
  rig.give(at(1), on_gpus(8, 0b11, 2, 1000));
  EXPECT_EQ(rig.reported<RefusedReport>().size(), 7u);
}

TEST(Node, HoldsItsMostSandboxesAndNoMore) {
  Rig rig;
  for (std::uint64_t n = 1; n <= 4; ++n) {
    rig.give(at(1), order(n, 5, {}));
    rig.tell(at(1), SandboxStarted{{n}, true});
  }
  rig.give(at(2), order(5, 5, {}));
  EXPECT_EQ(rig.reported<RefusedReport>(),
            (std::vector<RefusedReport>{{{5}, NodeRefusal::sandboxes, 1, 0}}));
}

TEST(Node, AdmitsNoneWhileControlTakesNoReports) {
  Config config;
  config.reports_max = 2;
  Node node(config, {7, 1, 0, {1}, {1}, kShape});
  std::uint64_t sent = 0, received = 0;
  const auto give = [&](NodeOrder one, std::uint64_t acknowledged = 0) {
    Node::Effects effects;
    node.step(at(1), FromControl{{1, ++sent, acknowledged, std::move(one)}}, effects);
    return effects;
  };
  Node::Effects effects;
  node.step(at(0), Welcomed{1, {3}}, effects);
  give(order(1, 5, {.cpu_millicores = 9000}));
  EXPECT_EQ(node.sandboxes().size(), 0u);
  give(order(2, 5, {}));
  EXPECT_EQ(node.sandboxes().size(), 1u) << "one report is on its way";
  give(order(1, 5, {.cpu_millicores = 9000}));
  const auto refused = said<ToControl>(give(order(3, 5, {})));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].envelope.message,
            NodeReport(RefusedReport{{3}, NodeRefusal::draining, 2, 2}));
  received = refused[0].envelope.sequence;
  give(order(4, 5, {}), received);
  EXPECT_EQ(node.sandboxes().size(), 2u) << "control has taken them";
}

TEST(Node, PullsAnImageAheadOfItsSandboxesAndSaysThatItHasIt) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), WarmOrder{{{1}, {{{9}, 10, 20}}}}));
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_TRUE(rig.reported<ImageReport>().empty());
  rig.tell(at(2), images::PullFinished{pulls[0].pull, true});
  EXPECT_EQ(rig.reported<ImageReport>(), (std::vector<ImageReport>{{{1}, true}}));
  EXPECT_EQ(said<StartSandbox>(rig.give(at(3), with_image(1))).size(), 1u) << "nothing to pull";
}

TEST(Node, SaysWhichImagesAnEarlierRegistrationLeft) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), WarmOrder{{{1}, {{{9}, 10, 20}}}}));
  rig.tell(at(2), images::PullFinished{pulls.at(0).pull, true});
  rig.give(at(2), WarmOrder{{{2}, {{{8}, 10, 20}}}});  // its layers are still on their way
  const auto again = said<Register>(rig.tell(at(3), Unknown{1}));
  ASSERT_EQ(again.size(), 1u) << "nothing ran here";
  EXPECT_EQ(again[0].registration.incarnation, 2u);
  rig.reports.clear();
  rig.received = {};
  rig.tell(at(4), Welcomed{2, {4}});
  EXPECT_EQ(rig.reported<ImageReport>(), (std::vector<ImageReport>{{{1}, true}}));
}

TEST(Node, IsWelcomedOnceAndOnlyByWhatItsBootAskedFor) {
  Config config;
  Node node(config, {7, 1, 0, {1}, {1}, kShape});
  const auto tell = [&](Time now, const Event& event) {
    Node::Effects effects;
    node.step(now, event, effects);
    return effects;
  };
  EXPECT_EQ(said<Register>(tell(at(0), Booted{})).size(), 1u);
  EXPECT_TRUE(said<Register>(tell(at(4), Woken{})).empty());
  EXPECT_EQ(said<Register>(tell(at(5), Woken{})).size(), 1u) << "nobody answered";
  tell(at(6), Welcomed{2, {9}});
  EXPECT_FALSE(node.id()) << "of another boot";
  tell(at(6), Welcomed{1, {3}});
  tell(at(6), Welcomed{1, {9}});
  EXPECT_EQ(node.id(), NodeId{3});
}

TEST(Node, BeatsInAPartOfTheIntervalThatItsIdentityGivesAndThenRegularly) {
  const auto first_beat = [](std::uint64_t id) {
    Config config;
    Node node(config, {7, 1, 0, {1}, {1}, kShape});
    Node::Effects effects;
    node.step(at(100), Welcomed{1, {id}}, effects);
    return node.state().beat_at;
  };
  EXPECT_NE(first_beat(1), first_beat(2));
  Time latest{};
  for (std::uint64_t id = 1; id < 50; ++id) {
    EXPECT_GE(first_beat(id), at(100));
    EXPECT_LT(first_beat(id), at(110));
    latest = std::max(latest, first_beat(id));
  }
  EXPECT_GT(latest, at(109)) << "over all of it";
  Rig rig;
  const Time beat = rig.node.state().beat_at;
  EXPECT_TRUE(said<ToControl>(rig.tell({beat.nanos - 1}, Woken{})).empty());
  const auto beats = said<ToControl>(rig.tell(beat, Woken{}));
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].node, NodeId{3});
  EXPECT_FALSE(beats[0].envelope.message);
  EXPECT_EQ(beats[0].envelope.sequence, 0u) << "it is no message, and none is missing before it";
  EXPECT_EQ(rig.node.state().beat_at, beat + seconds(10));
}

TEST(Node, AsksToBeWokenOnlyWhenTheTimeOfItChanges) {
  Rig rig;
  EXPECT_TRUE(said<WakeAt>(rig.give(at(0), order(1, 5, kOne))).empty());
  StartOrder brief = order(2, 5, kOne);
  brief.lifetime = Duration{1};
  rig.give(at(0), brief);
  const auto wakes = said<WakeAt>(rig.tell(at(0), SandboxStarted{{2}, true}));
  ASSERT_EQ(wakes.size(), 1u);
  EXPECT_EQ(wakes[0].at, (Time{1}));
  Rig early;
  const Time beat = early.node.state().beat_at;
  EXPECT_EQ(said<WakeAt>(early.tell({beat.nanos - 1}, Woken{})), (std::vector<WakeAt>{{beat}}))
      << "woken for nothing, it asks again";
}

TEST(Node, KillsWhatRunsOnceWhenControlForgetsIt) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.give(at(1), order(2, 5, kOne));
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.give(at(3), StopOrder{{2}, seconds(3)});
  const auto kills = said<KillSandbox>(rig.tell(at(4), Unknown{1}));
  EXPECT_EQ(kills, (std::vector<KillSandbox>{{{1}, EndReason::terminated, {}}}))
      << "the other is being killed";
  for (const std::uint64_t boot : {1u, 2u}) {
    EXPECT_TRUE(rig.tell(at(5), FromControl{{boot, 1, 0, order(3, 5, kOne)}}).empty())
        << "nobody has welcomed it yet";
  }
  const auto one = rig.tell(at(6), SandboxKilled{{1}});
  EXPECT_TRUE(said<Scrub>(one).empty()) << "the other is still there";
  EXPECT_TRUE(said<ToControl>(one).empty()) << "control would not know what it is about";
  EXPECT_EQ(said<Scrub>(rig.tell(at(7), SandboxKilled{{2}})).size(), 1u);
  EXPECT_TRUE(said<Scrub>(rig.tell(at(20), Woken{})).empty()) << "it is being wiped";
}

TEST(Node, TakesOrdersFromTheFirstAgainAfterItRegisteredAnew) {
  Rig rig;
  rig.give(at(1), order(1, 5, {.cpu_millicores = 9000}));
  rig.tell(at(2), Unknown{1});
  rig.tell(at(3), Welcomed{2, {4}});
  rig.tell(at(4), FromControl{{2, 1, 0, {}}});  // an acknowledgement is no order
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(4), FromControl{{2, 1, 0, order(2, 5, kOne)}})).size(),
            1u);
}

TEST(Node, IsWipedOnceHoweverOftenItIsToldTo) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(1), SandboxStarted{{1}, true});
  rig.tell(at(1), SandboxExited{{1}});
  EXPECT_EQ(rig.node.state().owner, TenantId{5});
  EXPECT_EQ(said<Scrub>(rig.give(at(1), ScrubOrder{})).size(), 1u);
  EXPECT_TRUE(said<Scrub>(rig.give(at(1), ScrubOrder{})).empty());
  rig.tell(at(2), ScrubFinished{});
  rig.tell(at(2), ScrubFinished{});
  EXPECT_EQ(rig.reported<ScrubbedReport>().size(), 1u);
  EXPECT_FALSE(rig.node.state().dirty);
  EXPECT_EQ(rig.node.state().owner, TenantId{});
}

TEST(Node, TakesNoNoticeOfWhatTheRuntimeSaysOfNobodyOrTwice) {
  Rig rig;
  rig.tell(at(1), SandboxStarted{{1}, true});
  rig.tell(at(1), SandboxExited{{1}});
  rig.tell(at(1), SandboxKilled{{1}});
  EXPECT_TRUE(rig.reports.empty());
  rig.give(at(1), order(1, 5, kOne));
  rig.tell(at(1), SandboxKilled{{1}});
  rig.tell(at(1), SandboxExited{{1}});
  EXPECT_TRUE(rig.reports.empty()) << "it has not started, and nobody asked for its end";
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(2), SandboxStarted{{1}, true});
  rig.tell(at(2), SandboxKilled{{1}});
  EXPECT_EQ(rig.reports.size(), 1u);
  EXPECT_EQ(rig.node.state().use.starting, 0);
  rig.tell(at(3), SandboxStarted{{1}, false, "late"});
  EXPECT_EQ(rig.reports.size(), 1u);
}

TEST(Node, EndsWhatWasStoppedWhileItStartedWhenItsStartFails) {
  Rig rig;
  rig.give(at(1), order(1, 5, kOne));
  rig.give(at(1), StopOrder{{1}});
  EXPECT_TRUE(rig.node.sandboxes().at({1}).start_under_way);
  EXPECT_EQ(rig.node.state().use.starting, 1) << "it goes on until the runtime has stopped it";
  rig.tell(at(2), SandboxStarted{{1}, false, "no"});
  EXPECT_EQ(rig.node.state().use.starting, 0);
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::terminated, "no"}}));
  rig.give(at(3), order(2, 5, kOne));
  rig.give(at(3), StopOrder{{2}});
  rig.tell(at(4), SandboxStarted{{2}, true});
  EXPECT_FALSE(rig.node.sandboxes().at({2}).start_under_way);
  EXPECT_EQ(rig.node.state().use.starting, 0);
}

TEST(Node, SaysWhyWhatRanEnded) {
  Rig rig;
  for (std::uint64_t n = 1; n <= 2; ++n) {
    rig.give(at(1), order(n, 5, kOne));
    rig.tell(at(1), SandboxStarted{{n}, true});
  }
  rig.tell(at(2), SandboxExited{{1}, true, "oom"});
  rig.tell(at(2), SandboxExited{{2}, false, "0"});
  rig.give(at(3), order(3, 5, kOne));
  rig.tell(at(3), SandboxStarted{{3}, false, "bad"});
  EXPECT_EQ(rig.reported<EndedReport>(),
            (std::vector<EndedReport>{{{1}, EndReason::out_of_memory, "oom"},
                                      {{2}, EndReason::exited, "0"},
                                      {{3}, EndReason::start_failed, "bad"}}));
}

TEST(Node, LifetimesThatEndAtOnceAllEndAndStoppedOnesAreNotKilledAgain) {
  Rig rig;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    StartOrder start = order(n, 5, {});
    start.lifetime = seconds(n == 3 ? 60 : 30);
    rig.give(at(1), start);
    rig.tell(at(1), SandboxStarted{{n}, true});
  }
  rig.give(at(2), StopOrder{{1}});
  const auto kills = said<KillSandbox>(rig.tell(at(31), Woken{}));
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0].sandbox, SandboxId{2});
  EXPECT_EQ(rig.node.sandboxes().at({3}).phase, Phase::running);
}

TEST(Node, TheLayersOfWhatEndedMayBeEvicted) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), with_image(1)));
  rig.tell(at(2), images::PullFinished{pulls.at(0).pull, true});
  EXPECT_TRUE(rig.node.state().cache.holds.contains(SandboxId{1}));
  rig.tell(at(3), SandboxStarted{{1}, true});
  rig.tell(at(4), SandboxExited{{1}});
  EXPECT_TRUE(rig.node.state().cache.holds.empty());
}

TEST(Node, WhatIsStoppedWhileItsImageComesGivesItsStartSlotBack) {
  Rig rig;
  rig.give(at(1), with_image(1));
  EXPECT_EQ(rig.node.state().use.starting, 1);
  rig.give(at(2), StopOrder{{1}});
  EXPECT_EQ(rig.node.state().use, Use{});
}

TEST(Node, APullThatNoSandboxWaitsForIsStoppedForOneThatDoes) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), with_image(1)));
  rig.give(at(1), with_image(2));
  EXPECT_TRUE(said<images::CancelPull>(rig.give(at(2), StopOrder{{1}})).empty());
  EXPECT_TRUE(said<images::CancelPull>(rig.give(at(3), StopOrder{{2}})).empty());
  std::vector<images::CancelPull> cancelled;
  std::vector<PullLayers> others;
  for (std::uint64_t other = 11; cancelled.empty() && other < 20; ++other) {
    const auto effects = rig.give(at(3), WarmOrder{{{other}, {{{other}, 10, 10}}}});
    cancelled = said<images::CancelPull>(effects);
    others.push_back(said<PullLayers>(effects).at(0));
  }
  ASSERT_EQ(cancelled.size(), 1u);
  EXPECT_EQ(cancelled[0], (images::CancelPull{pulls.at(0).pull, pulls[0].layers}));
  EXPECT_EQ(rig.reported<ImageReport>().back().cached, false) << "nobody is to get it from here";
  EXPECT_TRUE(rig.tell(at(4), images::PullFinished{pulls[0].pull}).empty()) << "it came late";
  EXPECT_TRUE(rig.tell(at(4), images::PullFinished{pulls[0].pull, false, "x", true}).empty());
  EXPECT_TRUE(said<PullLayers>(rig.give(at(5), with_image(3))).empty()) << "the others go on";
  const auto anew = said<PullLayers>(rig.tell(at(6), images::PullFinished{others[0].pull}));
  ASSERT_EQ(anew.size(), 1u);
  EXPECT_EQ(anew[0].layers, pulls[0].layers);
}

TEST(Node, AWarmOrderThatFailsIsTold) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), WarmOrder{{{5}, {{{5}, 10, 10}}}}));
  rig.tell(at(2), images::PullFinished{pulls.at(0).pull, false, "x", true});
  EXPECT_EQ(rig.reported<ImageReport>(), (std::vector<ImageReport>{{{5}, false}}));
}

TEST(Node, APullThatFailedIsTriedAgainExactlyWhenItsPauseEnds) {
  Rig rig;
  const auto pulls = said<PullLayers>(rig.give(at(1), with_image(1)));
  rig.tell(at(2), images::PullFinished{pulls.at(0).pull, false, "x"});
  EXPECT_EQ(rig.node.state().cache_wake, at(3));
  EXPECT_TRUE(said<PullLayers>(rig.tell({at(3).nanos - 1}, Woken{})).empty());
  EXPECT_EQ(said<PullLayers>(rig.tell(at(3), Woken{})).size(), 1u);
  EXPECT_EQ(rig.node.state().cache_wake, kNever);
}

TEST(Node, EvictsWhatIsIdleForWhatIsWanted) {
  Config config;
  config.cache.capacity_bytes = 30;
  Node node(config, {7, 1, 0, {1}, {1}, kShape});
  Node::Effects effects;
  node.step(at(0), Welcomed{1, {3}}, effects);
  node.step(at(1), FromControl{{1, 1, 0, WarmOrder{{{1}, {{{9}, 10, 20}}}}}}, effects);
  node.step(at(2), images::PullFinished{said<PullLayers>(effects).at(0).pull, true}, effects);
  node.step(at(3), FromControl{{1, 2, 0, WarmOrder{{{2}, {{{8}, 10, 20}}}}}}, effects);
  EXPECT_EQ(said<images::EvictLayers>(effects).size(), 1u);
}

TEST(Node, WhatIsStoppedWhileItsNextStartWaitsForASlotIsNotStarted) {
  Rig rig;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    StartOrder start = order(n, 5, {});
    start.restart = true;
    rig.give(at(1), start);
    rig.tell(at(1), SandboxStarted{{n}, true});
  }
  for (std::uint64_t n = 1; n <= 3; ++n) rig.tell(at(2), SandboxExited{{n}});
  EXPECT_EQ(said<StartSandbox>(rig.tell(at(3), Woken{})).size(), 2u) << "as many as it has slots";
  rig.give(at(3), StopOrder{{3}});
  EXPECT_TRUE(said<StartSandbox>(rig.tell(at(4), SandboxStarted{{1}, true})).empty());
  EXPECT_EQ(rig.node.sandboxes().at({3}).phase, Phase::stopping);
  EXPECT_EQ(rig.node.state().use.restarting, 1);
}

TEST(Node, ItsDigestIsOfItsStateAndOfItsCache) {
  Rig rig;
  rig.give(at(1), with_image(1));
  State state = rig.node.state();
  EXPECT_FALSE(state.cache.images.empty());
  const images::CacheState cache = std::exchange(state.cache, {});
  Digest digest;
  digest.add(state);
  digest.add(cache);
  EXPECT_EQ(rig.node.digest(), digest.value());
}

}  // namespace
}  // namespace chalk::node
