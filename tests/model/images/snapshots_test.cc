#include "model/images/snapshots.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "tests/support/said.h"

namespace chalk::images {
namespace {

using test::said;
using test::tell;

constexpr MachineKind kPlain{1, 0b01}, kRich{1, 0b11}, kOther{2, 0b11};
constexpr GroupId kGroup{5};
constexpr ImageId kImage{3};

// Nodes 1, 2 and 3 of those kinds.
Snapshots three(SnapshotsConfig config = {}) {
  Snapshots who(config);
  tell(who, {}, MachineSeen{{1}, kPlain});
  tell(who, {}, MachineSeen{{2}, kRich});
  tell(who, {}, MachineSeen{{3}, kOther});
  return who;
}
StartChosen ask(Snapshots& who, std::uint64_t node, std::uint64_t sandbox, ImageId image = kImage,
                GroupId group = kGroup) {
  return said<StartChosen>(tell(who, {}, StartAsked{group, {sandbox}, {node}, image})).at(0);
}
// Its saver says so; where there is none any more, node 1.
void say(Snapshots& who, SnapshotId snapshot, SnapshotNews news, std::int64_t bytes = 100) {
  NodeId by{1};
  for (const auto& [group, all] : who.state().groups) {
    for (const Snapshot& one : all.snapshots) {
      if (one.id == snapshot) by = one.saver;
    }
  }
  tell(who, {}, SnapshotSaid{by, snapshot, news, bytes});
}
// The snapshot of a replica on that node, saved.
SnapshotId save(Snapshots& who, std::uint64_t node, std::uint64_t sandbox) {
  const SnapshotId made = ask(who, node, sandbox).save;
  say(who, made, SnapshotNews::saved);
  return made;
}

TEST(Snapshots, TheFirstReplicaIsSavedAndTheNextRestored) {
  Snapshots who = three();
  const StartChosen first = ask(who, 1, 10);
  EXPECT_TRUE(first.save);
  EXPECT_FALSE(first.restore);
  EXPECT_TRUE(who.saves({10}));
  const StartChosen meanwhile = ask(who, 1, 11);
  EXPECT_FALSE(meanwhile.save) << "one is enough";
  EXPECT_FALSE(meanwhile.restore) << "it is not there yet";
  EXPECT_EQ(who.usual_image(kGroup), ImageId{}) << "so no node holds it";
  say(who, first.save, SnapshotNews::saved, 4096);
  EXPECT_FALSE(who.saves({10}));
  const StartChosen next = ask(who, 1, 12);
  EXPECT_EQ(next.restore, (Restore{first.save, kPlain, 4096}));
  EXPECT_FALSE(next.save);
  EXPECT_EQ(who.usual_image(kGroup), restore_image_id(first.save));
}

TEST(Snapshots, OnlyWhoIsToSaveOneSaysThatItIsSaved) {
  Snapshots who = three();
  const SnapshotId saved = ask(who, 1, 10).save;
  for (const auto news : {SnapshotNews::saved, SnapshotNews::not_saved}) {
    tell(who, {}, SnapshotSaid{{2}, saved, news, 5});
    EXPECT_TRUE(who.saves({10})) << "a node that was never asked";
  }
  tell(who, {}, SnapshotSaid{{1}, saved, SnapshotNews::saved, -1});
  EXPECT_FALSE(who.saves({10}));
  const SnapshotId next = ask(who, 1, 11).save;
  EXPECT_TRUE(next) << "nothing is that small";
  tell(who, {}, SnapshotSaid{{1}, next, SnapshotNews::saved, (1LL << 50) + 1});
  const SnapshotId last = ask(who, 1, 12).save;
  EXPECT_TRUE(last) << "nor that large";
  say(who, last, SnapshotNews::saved);
  tell(who, {}, SnapshotSaid{{1}, last, SnapshotNews::not_saved, 0});
  EXPECT_EQ(ask(who, 1, 13).restore.snapshot, last) << "it has said that it is";
}

TEST(Snapshots, OneOfNoBytesIsOneToo) {
  Snapshots who = three();
  const SnapshotId saved = ask(who, 1, 10).save;
  say(who, saved, SnapshotNews::saved, 0);
  EXPECT_FALSE(who.saves({10}));
  EXPECT_EQ(ask(who, 1, 11).restore, (Restore{saved, kPlain, 0}));
}

TEST(Snapshots, OneIsRestoredOnlyWhereItRuns) {
  Snapshots who = three();
  const SnapshotId rich = save(who, 2, 10);
  EXPECT_EQ(ask(who, 2, 11).restore.snapshot, rich);
  EXPECT_FALSE(ask(who, 3, 12).restore) << "another runtime";
  const StartChosen plain = ask(who, 1, 13);
  EXPECT_FALSE(plain.restore) << "a feature that it may use is missing";
  EXPECT_TRUE(plain.save) << "so this kind gets its own";
  EXPECT_EQ(ask(who, 2, 14).restore.snapshot, rich);
  say(who, plain.save, SnapshotNews::saved);
  EXPECT_EQ(ask(who, 2, 15).restore.snapshot, plain.save) << "which all of this runtime can use";
  EXPECT_EQ(who.usual_image(kGroup), restore_image_id(plain.save));
  save(who, 3, 16);
  EXPECT_EQ(who.usual_image(kGroup), restore_image_id(plain.save)) << "the other has more features";
}

// So what nodes have in their caches is used again, whatever was saved since.
TEST(Snapshots, OfTwoWithAsManyFeaturesTheOlderIsRestored) {
  Snapshots who = three();
  tell(who, {}, MachineSeen{{4}, {1, 0b10}});
  const SnapshotId older = save(who, 1, 10);
  const SnapshotId newer = save(who, 4, 11);
  EXPECT_TRUE(newer);
  EXPECT_EQ(ask(who, 2, 12).restore.snapshot, older);
  EXPECT_EQ(who.usual_image(kGroup), restore_image_id(older));
}

TEST(Snapshots, NothingIsSavedOrRestoredOnWhatNobodyKnows) {
  Snapshots who = three();
  tell(who, {}, MachineSeen{{4}, {}});
  for (const std::uint64_t node : {4u, 9u}) {
    EXPECT_FALSE(ask(who, node, 10).save);
    EXPECT_FALSE(ask(who, node, 10).restore);
  }
  EXPECT_FALSE(ask(who, 1, 10, kImage, {}).save) << "of no group";
  tell(who, {}, MachineGone{{1}});
  EXPECT_FALSE(ask(who, 1, 10).save);
  EXPECT_TRUE(who.state().groups.empty());
  EXPECT_EQ(who.usual_image(kGroup), ImageId{});
}

TEST(Snapshots, OneOfAnotherImageIsNeverChosen) {
  Snapshots who = three();
  const SnapshotId old = save(who, 1, 10);
  const StartChosen next = ask(who, 1, 11, {4});
  EXPECT_FALSE(next.restore);
  EXPECT_TRUE(next.save);
  EXPECT_NE(next.save, old);
  say(who, next.save, SnapshotNews::saved);
  EXPECT_EQ(ask(who, 1, 12, {4}).restore.snapshot, next.save);
  say(who, old, SnapshotNews::not_restored);
  EXPECT_EQ(ask(who, 1, 12, {4}).restore.snapshot, next.save) << "news of what was dropped";
  EXPECT_EQ(who.state().group_of.size(), 1u);
}

TEST(Snapshots, WhereTheSavedOneIsLostAnotherIsSaved) {
  Snapshots who = three();
  const SnapshotId first = ask(who, 1, 10).save;
  tell(who, {}, ReplicaLost{{11}});
  EXPECT_FALSE(ask(who, 1, 12).save);
  tell(who, {}, ReplicaLost{{10}});
  EXPECT_FALSE(who.saves({10}));
  const SnapshotId second = ask(who, 1, 13).save;
  EXPECT_TRUE(second);
  EXPECT_NE(second, first);
  say(who, first, SnapshotNews::saved);
  EXPECT_FALSE(ask(who, 1, 14).restore) << "late news of the first";
}

TEST(Snapshots, AfterThreeFailuresOfAKindNoMoreAreTriedThere) {
  Snapshots who = three();
  say(who, ask(who, 1, 10).save, SnapshotNews::not_saved);
  say(who, ask(who, 1, 11).save, SnapshotNews::not_saved);
  EXPECT_TRUE(ask(who, 1, 12).save);
  say(who, {3}, SnapshotNews::not_saved);
  const StartChosen given_up = ask(who, 1, 13);
  EXPECT_FALSE(given_up.save);
  EXPECT_FALSE(given_up.restore);
  EXPECT_TRUE(ask(who, 2, 14).save) << "another kind may do better";
  EXPECT_TRUE(ask(who, 1, 15, {4}).save) << "and another image";
}

TEST(Snapshots, AnImageThatWasGivenUpSaysNothingOfTheNextOne) {
  Snapshots who = three({.failures_max = 1});
  say(who, ask(who, 1, 10).save, SnapshotNews::not_saved);
  EXPECT_FALSE(ask(who, 1, 11).save) << "and there is no snapshot of it";
  EXPECT_TRUE(ask(who, 1, 12, {4}).save);
  say(who, {2}, SnapshotNews::not_saved);
  EXPECT_FALSE(ask(who, 1, 13, {4}).save);
}

TEST(Snapshots, OneThatMostlyFailsIsDroppedAndOneThatSometimesDoesIsKept) {
  Snapshots who = three();
  const SnapshotId bad = save(who, 1, 10);
  for (const auto news : {SnapshotNews::not_restored, SnapshotNews::not_fetched}) {
    EXPECT_EQ(ask(who, 1, 11).restore.snapshot, bad);
    say(who, bad, news);
  }
  EXPECT_EQ(ask(who, 1, 12).restore.snapshot, bad) << "two may be chance";
  say(who, bad, SnapshotNews::not_restored);
  const StartChosen next = ask(who, 1, 13);
  EXPECT_FALSE(next.restore);
  EXPECT_TRUE(next.save);
  say(who, next.save, SnapshotNews::saved);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(ask(who, 1, 14).restore.snapshot, next.save);
    if (i % 2 == 1) say(who, next.save, SnapshotNews::not_restored);
  }
  EXPECT_EQ(ask(who, 1, 15).restore.snapshot, next.save) << "half of 40";
  for (int i = 0; i < 2; ++i) say(who, next.save, SnapshotNews::not_restored);
  EXPECT_TRUE(ask(who, 1, 16).save);
}

TEST(Snapshots, TheirNumberIsBounded) {
  Snapshots who({.per_group_max = 2, .failures_max = 1});
  for (std::uint64_t node = 1; node <= 3; ++node) tell(who, {}, MachineSeen{{node}, {node, 0}});
  EXPECT_TRUE(ask(who, 1, 10).save);
  EXPECT_TRUE(ask(who, 2, 11).save);
  EXPECT_FALSE(ask(who, 3, 12).save);
  say(who, {1}, SnapshotNews::not_saved);
  say(who, {2}, SnapshotNews::not_saved);
  EXPECT_FALSE(ask(who, 3, 13).save) << "what failed is remembered of so many kinds, and no more";
  EXPECT_EQ(who.state().groups.at(kGroup).failures.size(), 2u);
}

// The third began when one failure was known, and ends when two are.
TEST(Snapshots, WhatFailsWhileEnoughIsRememberedIsNot) {
  Snapshots who({.per_group_max = 2, .failures_max = 2});
  for (std::uint64_t node = 1; node <= 3; ++node) tell(who, {}, MachineSeen{{node}, {node, 0}});
  const SnapshotId first = ask(who, 1, 10).save, second = ask(who, 2, 11).save;
  say(who, first, SnapshotNews::not_saved);
  const SnapshotId third = ask(who, 3, 12).save;
  EXPECT_TRUE(third);
  say(who, second, SnapshotNews::not_saved);
  say(who, third, SnapshotNews::not_saved);
  EXPECT_FALSE(ask(who, 3, 13).save) << "a kind of which nothing is known";
  EXPECT_TRUE(ask(who, 2, 14).save) << "it has failed once";
}

// Against a plain list of all that was ever saved. What is restored was saved for this group and
// image, on a machine that has no more than this one, and is not known to be bad: of those the
// one that most can use, or the oldest of such. One is saved where there is nothing of the kind and
// nothing on its way; rebuilt from its bytes it chooses the same.
RC_GTEST_PROP(Snapshots, ChooseOnlyWhatRunsHere, (std::uint64_t key)) {
  Random random{key, 0};
  struct Known {
    GroupId group;
    ImageId image;
    MachineKind kind;
    SandboxId sandbox;
    bool there = false, dropped = false;
    std::uint32_t uses = 0, failures = 0;
  };
  Snapshots who({.per_group_max = 3, .failures_max = 2});
  std::map<SnapshotId, Known> known;
  std::map<NodeId, MachineKind> machines;
  std::map<GroupId, ImageId> images;
  std::uint64_t sandboxes = 0;
  for (int step = 0; step < 200; ++step) {
    const NodeId node{1 + random.below(6)};
    const GroupId group{1 + random.below(2)};
    switch (random.below(8)) {
      case 0:
        machines[node] = {random.below(3), random.below(4)};
        tell(who, {}, MachineSeen{node, machines[node]});
        break;
      case 1:
        machines.erase(node);
        tell(who, {}, MachineGone{node});
        break;
      case 2:
        if (random.below(8) == 0) images[group] = {random.below(3)};
        break;
      case 3: {
        // Mostly of one of the newest: it may be awaited.
        const std::uint64_t next = who.state().last + 1;
        const std::uint64_t of = random.below(4) == 0 ? next : std::min<std::uint64_t>(next, 3);
        const SnapshotId one{next - random.below(of)};
        const auto news = static_cast<SnapshotNews>(random.below(4));
        say(who, one, news);
        const auto found = known.find(one);
        if (found == known.end()) break;
        if (news == SnapshotNews::saved) {
          found->second.there = !found->second.dropped;
        } else if (news == SnapshotNews::not_saved) {
          found->second.dropped = found->second.dropped || !found->second.there;
        } else if (2 * ++found->second.failures > found->second.uses + 2) {
          found->second.dropped = true;
        }
        break;
      }
      case 4: {
        const SandboxId lost{1 + random.below(sandboxes + 1)};
        tell(who, {}, ReplicaLost{lost});
        for (auto& [id, one] : known) {
          if (one.sandbox == lost && !one.there) one.dropped = true;
        }
        break;
      }
      default: {
        const SandboxId sandbox{++sandboxes};
        const StartAsked asked{group, sandbox, node, images[group]};
        SnapshotsState copy;
        RC_ASSERT(decode(encode(who.state()), copy));
        Snapshots twin({.per_group_max = 3, .failures_max = 2}, std::move(copy));
        const auto chosen = said<StartChosen>(tell(who, {}, asked));
        RC_ASSERT(chosen.size() == 1u);
        RC_ASSERT(said<StartChosen>(tell(twin, {}, asked)) == chosen);
        RC_ASSERT(chosen[0].sandbox == sandbox);
        RC_ASSERT(!(chosen[0].save && chosen[0].restore));
        RC_ASSERT(machines.contains(node) || (!chosen[0].save && !chosen[0].restore));
        const bool asked_of_one_known = machines.contains(node) && machines[node];
        for (auto& [id, one] : known) {
          if (asked_of_one_known && one.group == group && one.image != images[group]) {
            one.dropped = true;
          }
        }
        for (const auto& [id, one] : known) {
          const bool usable = one.group == group && one.there && !one.dropped &&
                              asked_of_one_known && runs_on(one.kind, machines.at(node));
          if (!usable) continue;
          RC_ASSERT(static_cast<bool>(chosen[0].restore));
          const auto features = [](const MachineKind& kind, SnapshotId which) {
            return std::pair(std::popcount(kind.cpu_features), which);
          };
          const Restore& from = chosen[0].restore;
          RC_ASSERT(features(from.made_on, from.snapshot) <= features(one.kind, id));
        }
        if (chosen[0].restore) {
          RC_ASSERT(known.contains(chosen[0].restore.snapshot));
          Known& from = known[chosen[0].restore.snapshot];
          ++from.uses;
          RC_ASSERT(from.group == group && from.image == images[group]);
          RC_ASSERT(from.there && !from.dropped);
          RC_ASSERT(from.kind == chosen[0].restore.made_on);
          RC_ASSERT(from.kind.runtime != 0 && from.kind.runtime == machines.at(node).runtime);
          RC_ASSERT((from.kind.cpu_features & ~machines.at(node).cpu_features) == 0);
        }
        if (chosen[0].save) {
          for (const auto& [id, one] : known) {
            const bool of_use = one.group == group && !one.dropped &&
                                one.kind.runtime == machines.at(node).runtime &&
                                (one.kind.cpu_features & ~machines.at(node).cpu_features) == 0;
            RC_ASSERT(!of_use);
          }
          known[chosen[0].save] = {group, images[group], machines.at(node), sandbox};
        }
      }
    }
    std::size_t saving = 0, all = 0;
    for (const auto& [id, of] : who.state().groups) {
      RC_ASSERT(of.snapshots.size() <= 3u && of.failures.size() <= 3u);
      all += of.snapshots.size();
      for (const Snapshot& one : of.snapshots) {
        saving += one.saving ? 1 : 0;
        RC_ASSERT(who.state().group_of.at(one.id) == id);
        if (one.saving) RC_ASSERT(who.state().saving.at(one.saving) == one.id);
      }
    }
    RC_ASSERT(who.state().saving.size() == saving);
    RC_ASSERT(who.state().group_of.size() == all);
  }
}

}  // namespace
}  // namespace chalk::images
