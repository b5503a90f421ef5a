// How a node starts what it was ordered to: from nothing, in a shell, from a snapshot.
#include <algorithm>
#include <deque>
#include <map>

#include "model/core/random.h"
#include "tests/model/node/rig.h"

#include <rapidcheck/gtest.h>

namespace chalk::node {
namespace {

using images::PullLayers;

constexpr MachineKind kHere{2, 0b011};

// A node of a machine of that kind, welcomed.
struct Machine {
  Config config;
  Node node;
  std::uint64_t sent = 0;
  std::vector<NodeReport> reports{};

  explicit Machine(std::int32_t shells = 0, MachineKind kind = kHere)
      : config(with(shells)), node(config, {7, 1, 0, {1}, {1}, kShape, kind}) {
    tell(at(0), Booted{});
    first = tell(at(0), Welcomed{1, {3}});
  }
  static Config with(std::int32_t shells) {
    Config config;
    config.shells = shells;
    config.cache.attempts = 1;
    return config;
  }
  std::vector<Effect> tell(Time now, const Event& event) {
    std::vector<Effect> effects;
    node.step(now, event, effects);
    for (const auto& message : said<ToControl>(effects)) {
      if (message.envelope.message) reports.push_back(*message.envelope.message);
    }
    return effects;
  }
  std::vector<Effect> give(Time now, NodeOrder one) {
    return tell(now, FromControl{{1, ++sent, 0, std::move(one)}});
  }
  template <class T>
  std::vector<T> reported() const {
    return said<T>(reports);
  }
  std::vector<Effect> first{};
};

StartOrder replica(std::uint64_t sandbox, Restore restore, SnapshotId save = {}) {
  StartOrder start = order(sandbox, 5, kOne);
  start.group = {1};
  start.restore = restore;
  start.save = save;
  return start;
}
StartMode mode_of(const std::vector<Effect>& effects) {
  return said<StartSandbox>(effects).at(0).mode;
}
using News = std::vector<SnapshotReport>;

TEST(StartModes, ASnapshotIsFetchedAsOneMoreLayerAndRestored) {
  Machine one;
  StartOrder start = replica(1, {{4}, kHere, 1000});
  start.image = {{1}, {{{9}, 10, 20}}};
  const auto pulls = said<PullLayers>(one.give(at(1), start));
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_EQ(pulls[0].image, images::restore_image_id({4}));
  EXPECT_EQ(pulls[0].bytes, 1010);
  EXPECT_EQ(pulls[0].layers.size(), 2u);
  EXPECT_EQ(mode_of(one.tell(at(2), images::PullFinished{pulls[0].pull, true})),
            StartMode::restore);
  one.tell(at(3), SandboxStarted{{1}, true, "restored"});
  EXPECT_EQ(one.reported<StartedReport>(), (std::vector<StartedReport>{{{1}, "restored"}}));
  EXPECT_TRUE(one.reported<SnapshotReport>().empty());
  EXPECT_EQ(one.node.state().use.starting, 0);
  one.give(at(4), StopOrder{{1}});
  one.tell(at(4), SandboxKilled{{1}});
  EXPECT_TRUE(one.node.state().cache.holds.empty()) << "also of the snapshot";
}

TEST(StartModes, WhatControlThinksOfThisMachineIsCheckedAgain) {
  const auto started_as = [](MachineKind made_on) {
    Machine one;
    return mode_of(one.give(at(1), replica(1, {{4}, made_on, 0})));
  };
  const auto pulled = [](MachineKind made_on) {
    Machine one;
    return said<PullLayers>(one.give(at(1), replica(1, {{4}, made_on, 10}))).size();
  };
  EXPECT_EQ(pulled({2, 0b011}), 1u);
  EXPECT_EQ(pulled({2, 0b001}), 1u) << "more features than it was saved with do no harm";
  EXPECT_EQ(pulled({2, 0}), 1u);
  EXPECT_EQ(started_as({1, 0b011}), StartMode::cold) << "another release of the runtime";
  EXPECT_EQ(started_as({3, 0b011}), StartMode::cold);
  EXPECT_EQ(started_as({2, 0b111}), StartMode::cold) << "a feature that is not here";
  EXPECT_EQ(started_as({2, 0b100}), StartMode::cold);
  EXPECT_EQ(started_as({0, 0}), StartMode::cold);
  Machine unknown(0, {});
  EXPECT_EQ(mode_of(unknown.give(at(1), replica(1, {{4}, {0, 0}, 10}))), StartMode::cold)
      << "of two machines that nobody knows nothing is known to be alike";
}

TEST(StartModes, ARestoreThatFailsIsFollowedByAStartFromNothing) {
  Machine one(1);
  one.tell(at(0), ShellMade{});
  StartOrder start = replica(1, {{4}, kHere, 10});
  const auto pulls = said<PullLayers>(one.give(at(1), start));
  one.tell(at(2), images::PullFinished{pulls.at(0).pull, true});
  EXPECT_EQ(mode_of(one.tell(at(3), SandboxStarted{{1}, false, "no"})), StartMode::shell);
  EXPECT_EQ(one.reported<SnapshotReport>(), (News{{{4}, SnapshotNews::not_restored, 0}}));
  EXPECT_TRUE(one.reported<EndedReport>().empty());
  EXPECT_EQ(one.node.state().use.starting, 1) << "it still has its slot";
  one.tell(at(4), SandboxStarted{{1}, true});
  EXPECT_EQ(one.reported<StartedReport>().size(), 1u);
  Machine twice;
  const auto again = said<PullLayers>(twice.give(at(1), start));
  twice.tell(at(2), images::PullFinished{again.at(0).pull, true});
  EXPECT_EQ(mode_of(twice.tell(at(3), SandboxStarted{{1}, false})), StartMode::cold);
  twice.tell(at(4), SandboxStarted{{1}, false});
  EXPECT_EQ(twice.reported<EndedReport>().at(0).reason, EndReason::start_failed);
  EXPECT_EQ(twice.reported<SnapshotReport>().size(), 1u);
}

TEST(StartModes, ASnapshotThatCannotBeFetchedIsDoneWithout) {
  Machine one;
  StartOrder start = replica(1, {{4}, kHere, 10});
  start.image = {{1}, {{{9}, 10, 20}}};
  start.sources = {{8}};
  auto pulls = said<PullLayers>(one.give(at(1), start));
  EXPECT_EQ(pulls.at(0).source, NodeId{8});
  pulls = said<PullLayers>(one.tell(at(2), images::PullFinished{pulls.at(0).pull, false}));
  EXPECT_EQ(pulls.at(0).source, NodeId{});
  const auto effects = one.tell(at(3), images::PullFinished{pulls.at(0).pull, false});
  EXPECT_EQ(one.reported<SnapshotReport>(), (News{{{4}, SnapshotNews::not_fetched, 0}}));
  pulls = said<PullLayers>(effects);
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_EQ(pulls[0].image, ImageId{1});
  EXPECT_EQ(mode_of(one.tell(at(4), images::PullFinished{pulls[0].pull, true})), StartMode::cold);
  Machine bare;  // without an image there is nothing else to wait for
  const auto snapshot = said<PullLayers>(bare.give(at(1), replica(1, {{4}, kHere, 10})));
  EXPECT_EQ(mode_of(bare.tell(at(2), images::PullFinished{snapshot.at(0).pull, false})),
            StartMode::cold);
  EXPECT_TRUE(bare.reported<EndedReport>().empty());
}

TEST(StartModes, WhatAFailedRestoreFallsBackToIsStillOnItsWay) {
  Machine one;
  StartOrder plain = order(1, 5, kOne);
  plain.image = {{1}, {{{9}, 10, 20}}};
  const auto first = said<PullLayers>(one.give(at(1), plain));
  StartOrder start = replica(2, {{4}, kHere, 10});
  start.image = plain.image;
  const auto snapshot = said<PullLayers>(one.give(at(1), start));
  one.give(at(2), StopOrder{{1}});  // only the replica waits for layer 9 now
  const auto effects = one.tell(at(3), images::PullFinished{snapshot.at(0).pull, false});
  EXPECT_TRUE(said<images::CancelPull>(effects).empty());
  EXPECT_TRUE(said<PullLayers>(effects).empty());
  EXPECT_EQ(said<StartSandbox>(one.tell(at(4), images::PullFinished{first.at(0).pull})).size(), 1u);
}

// Nobody can tell a shell that was ready from what was left behind.
TEST(StartModes, AnAgentThatIsResumedMakesItsShellsAnew) {
  for (const bool ready : {true, false}) {
    Machine one(1);
    if (ready) one.tell(at(0), ShellMade{});
    EXPECT_EQ(said<MakeShell>(one.tell(at(1), Resumed{})).size(), 1u) << ready;
    EXPECT_EQ(mode_of(one.give(at(2), replica(1, {}))), StartMode::cold) << ready;
  }
}

TEST(StartModes, OneIsSavedWhenItIsReadyAndBeforeItIsSaidToRun) {
  Machine one;
  one.give(at(1), replica(1, {}, {6}));
  const auto save = said<SaveSnapshot>(one.tell(at(2), SandboxStarted{{1}, true, "ready"}));
  EXPECT_EQ(save, (std::vector<SaveSnapshot>{{{1}, {6}}}));
  EXPECT_TRUE(one.reported<StartedReport>().empty());
  EXPECT_EQ(one.node.state().use.starting, 1);
  EXPECT_EQ(said<SaveSnapshot>(one.tell(at(3), Resumed{})), save) << "its agent was restarted";
  EXPECT_TRUE(said<SaveSnapshot>(one.tell(at(3), SandboxStarted{{1}, true})).empty());
  one.tell(at(4), SnapshotSaved{{1}, {6}, true, 500});
  EXPECT_EQ(one.reported<SnapshotReport>(), (News{{{6}, SnapshotNews::saved, 500}}));
  EXPECT_EQ(one.reported<StartedReport>(), (std::vector<StartedReport>{{{1}, "ready"}}));
  EXPECT_EQ(one.node.state().use.starting, 0);
  one.tell(at(5), SnapshotSaved{{1}, {6}, true, 500});
  EXPECT_EQ(one.reported<SnapshotReport>().size(), 1u) << "said twice";
  one.give(at(6), replica(2, {}, {7}));
  one.tell(at(7), SandboxStarted{{2}, true});
  one.tell(at(8), SnapshotSaved{{2}, {7}, false, 0});
  EXPECT_EQ(one.reported<SnapshotReport>().back(),
            (SnapshotReport{{7}, SnapshotNews::not_saved, 0}));
  EXPECT_EQ(one.reported<StartedReport>().size(), 2u) << "it runs all the same";
}

// It was: what nobody had saved was then restored.
TEST(StartModes, WhatIsSavedOfAnEarlierStartIsNotTakenForThatOfThisOne) {
  Machine one;
  one.give(at(1), replica(1, {}, {6}));
  one.tell(at(2), SandboxStarted{{1}, true});
  one.give(at(3), StopOrder{{1}});
  one.tell(at(4), SandboxKilled{{1}});
  one.give(at(5), replica(1, {}, {8}));
  one.tell(at(6), SandboxStarted{{1}, true});
  one.tell(at(7), SnapshotSaved{{1}, {6}, true, 500});
  EXPECT_TRUE(one.reported<SnapshotReport>().empty());
  one.tell(at(8), SnapshotSaved{{1}, {8}, true, 600});
  EXPECT_EQ(one.reported<SnapshotReport>(), (News{{{8}, SnapshotNews::saved, 600}}));
}

TEST(StartModes, WhatEndsWhileItIsSavedLeavesNothingBehind) {
  Machine exits;
  exits.give(at(1), replica(1, {}, {6}));
  exits.tell(at(2), SandboxStarted{{1}, true});
  exits.tell(at(3), SandboxExited{{1}, true});
  EXPECT_EQ(exits.reported<EndedReport>().at(0).reason, EndReason::out_of_memory);
  exits.tell(at(4), SnapshotSaved{{1}, {6}, true, 500});
  EXPECT_TRUE(exits.reported<SnapshotReport>().empty());
  EXPECT_EQ(exits.node.state().use, Use{});
  Machine again;
  StartOrder start = replica(1, {}, {6});
  start.restart = true;
  again.give(at(1), start);
  again.tell(at(2), SandboxStarted{{1}, true});
  again.tell(at(3), SandboxExited{{1}, false});
  EXPECT_TRUE(again.reported<EndedReport>().empty());
  EXPECT_EQ(again.node.state().use.starting, 0) << "what starts it again takes no slot of control";
  for (const bool told_before_the_kill : {true, false}) {
    Machine stopped;
    stopped.give(at(1), replica(1, {}, {6}));
    stopped.tell(at(2), SandboxStarted{{1}, true});
    EXPECT_EQ(said<KillSandbox>(stopped.give(at(3), StopOrder{{1}})).size(), 1u);
    if (told_before_the_kill) {
      stopped.tell(at(4), SnapshotSaved{{1}, {6}, true, 500});
      EXPECT_EQ(stopped.reported<SnapshotReport>().size(), 1u) << "it is good for others";
      EXPECT_TRUE(stopped.reported<StartedReport>().empty());
      EXPECT_EQ(stopped.node.state().use.starting, 0);
    }
    stopped.tell(at(5), SandboxKilled{{1}});
    EXPECT_EQ(stopped.reported<EndedReport>().size(), 1u);
    EXPECT_EQ(stopped.node.state().use, Use{});
  }
}

TEST(StartModes, ShellsAreMadeOneAtATimeAndWhileNothingElseStarts) {
  Machine one(2);
  EXPECT_EQ(said<MakeShell>(one.first).size(), 1u) << "as soon as it is welcomed";
  EXPECT_TRUE(said<MakeShell>(one.tell(at(1), Woken{})).empty());
  EXPECT_EQ(said<MakeShell>(one.tell(at(2), ShellMade{})).size(), 1u);
  EXPECT_TRUE(said<MakeShell>(one.tell(at(3), ShellMade{})).empty()) << "that is all";
  EXPECT_EQ(one.node.state().shells, 2);
  auto effects = one.give(at(4), order(1, 5, kOne));
  EXPECT_EQ(mode_of(effects), StartMode::shell);
  EXPECT_TRUE(said<MakeShell>(effects).empty()) << "the start goes first";
  EXPECT_EQ(mode_of(one.give(at(4), order(2, 5, kOne))), StartMode::shell);
  EXPECT_TRUE(said<MakeShell>(one.tell(at(5), SandboxStarted{{1}, true})).empty());
  EXPECT_EQ(mode_of(one.give(at(5), order(3, 5, kOne))), StartMode::cold) << "none is left";
  one.tell(at(6), SandboxStarted{{2}, true});
  EXPECT_EQ(said<MakeShell>(one.tell(at(6), SandboxStarted{{3}, true})).size(), 1u);
  EXPECT_TRUE(said<MakeShell>(one.tell(at(7), ShellMade{false})).empty()) << "not at once again";
  EXPECT_TRUE(said<MakeShell>(one.tell(at(16), Woken{})).empty());
  EXPECT_EQ(said<MakeShell>(one.tell(at(17), Woken{})).size(), 1u);
  EXPECT_EQ(one.node.state().shells, 0);
  one.tell(at(18), Resumed{});
  EXPECT_EQ(one.node.state().shells, 0) << "nobody can tell them from what was left behind";
  EXPECT_TRUE(one.node.state().making_shell);
  Machine none;
  EXPECT_TRUE(said<MakeShell>(none.first).empty());
  none.tell(at(1), ShellMade{});
  EXPECT_EQ(none.node.state().shells, 0) << "of an agent that is no more";
}

// Whatever is ordered and answered: nothing is restored where it does not run, every slot comes back,
// every replica ends or runs, and each saving is answered by one report.
RC_GTEST_PROP(StartModes, WhateverHappensSlotsComeBackAndNothingRunsWhereItCannot,
              (std::uint64_t key)) {
  Random random{key, 0};
  const MachineKind here{1 + random.below(2), random.below(4)};
  Machine one(static_cast<std::int32_t>(random.below(3)), here);
  std::deque<Event> open;
  std::map<SandboxId, int> saves, told;
  std::uint64_t ordered = 0, finished = 0;
  std::size_t heard = 0;
  std::int64_t second = 1;
  const auto hear = [&](const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) {
      if (const auto* start = std::get_if<StartSandbox>(&effect)) {
        if (start->mode == StartMode::restore) {
          RC_ASSERT(start->order.restore.made_on.runtime == here.runtime);
          RC_ASSERT((start->order.restore.made_on.cpu_features | here.cpu_features) ==
                    here.cpu_features);
        }
        open.push_back(SandboxStarted{start->order.sandbox, random.below(3) != 0});
      } else if (const auto* pull = std::get_if<PullLayers>(&effect)) {
        open.push_back(images::PullFinished{pull->pull, random.below(3) != 0});
      } else if (const auto* save = std::get_if<SaveSnapshot>(&effect)) {
        ++saves[save->sandbox];
        open.push_back(SnapshotSaved{save->sandbox, save->snapshot, random.below(2) != 0, 5});
      } else if (const auto* kill = std::get_if<KillSandbox>(&effect)) {
        open.push_back(SandboxKilled{kill->sandbox});
      } else if (std::holds_alternative<MakeShell>(effect)) {
        open.push_back(ShellMade{random.below(3) != 0});
      }
    }
    for (; heard < one.reports.size(); ++heard) {
      finished += std::holds_alternative<EndedReport>(one.reports[heard]) ||
                  std::holds_alternative<RefusedReport>(one.reports[heard]);
    }
    RC_ASSERT(one.node.state().shells >= 0 && one.node.state().shells <= one.config.shells);
  };
  for (int step = 0; step < 80; ++step) {
    second += static_cast<std::int64_t>(random.below(3));
    switch (random.below(4)) {
      case 0: {
        const MachineKind made_on{random.below(3), random.below(4)};
        const std::uint64_t number = ++ordered;
        StartOrder start = random.below(2) == 0
                               ? replica(number, {{1 + random.below(3)}, made_on, 10})
                               : replica(number, {}, {random.below(3)});
        if (random.below(2) == 0) start.image = {{1}, {{{9}, 10, 20}}};
        hear(one.give(at(second), start));
        break;
      }
      case 1:
        if (ordered != 0) hear(one.give(at(second), StopOrder{{1 + random.below(ordered)}}));
        break;
      default: {
        if (open.empty()) break;
        const Event event = open.front();
        open.pop_front();
        // A kill ends what was under way for it.
        if (const auto* killed = std::get_if<SandboxKilled>(&event)) {
          std::erase_if(open, [&](const Event& other) {
            const auto* started = std::get_if<SandboxStarted>(&other);
            const auto* saved = std::get_if<SnapshotSaved>(&other);
            return (started != nullptr && started->sandbox == killed->sandbox) ||
                   (saved != nullptr && saved->sandbox == killed->sandbox);
          });
        }
        hear(one.tell(at(second), event));
      }
    }
  }
  for (std::uint64_t number = 1; number <= ordered; ++number) {
    hear(one.give(at(second), StopOrder{{number}}));
  }
  while (!open.empty()) {
    const Event event = open.front();
    open.pop_front();
    hear(one.tell(++second > 0 ? at(second) : at(0), event));
    if (second > 10'000) break;  // shells that fail for ever
  }
  RC_ASSERT(finished == ordered);
  RC_ASSERT(one.node.state().use == Use{});
  RC_ASSERT(one.node.state().cache.holds.empty());
  for (const auto& [sandbox, count] : saves) RC_ASSERT(count == 1);
}

}  // namespace
}  // namespace chalk::node
