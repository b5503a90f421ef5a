// What becomes of a wish at its bounds, and facts that come late, twice or about nobody.
#include <gtest/gtest.h>

#include "model/sandbox/sandbox.h"
#include "tests/support/said.h"

namespace chalk::sandbox {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }

Requested wish(std::string key = {}) {
  Requested one;
  one.reply_to = 1;
  one.key = std::move(key);
  one.tenant = {1};
  one.resources = {.cpu_millicores = 1000};
  one.image_known = true;
  return one;
}
SandboxId take(Sandboxes& sandboxes, Time now, const Requested& asked = wish()) {
  const auto all = said<Accepted>(tell(sandboxes, now, asked));
  EXPECT_EQ(all.size(), 1u);
  return all.empty() ? SandboxId{} : all[0].sandbox;
}
SandboxId place(Sandboxes& sandboxes, Time now, NodeId node) {
  const SandboxId id = take(sandboxes, now);
  EXPECT_EQ(said<SendStart>(tell(sandboxes, now, Placed{id, node, 0})),
            (std::vector<SendStart>{{node, id}}));
  return id;
}
SandboxId run(Sandboxes& sandboxes, Time now, NodeId node) {
  const SandboxId id = place(sandboxes, now, node);
  EXPECT_EQ(said<StartSettled>(tell(sandboxes, now, Started{id, node})),
            (std::vector<StartSettled>{{id}}));
  return id;
}

TEST(Sandboxes, TakeEveryAmountThatMeansSomethingAndNoOther) {
  const auto refused = [](Resources resources) {
    Sandboxes sandboxes(Config{});
    Requested asked = wish();
    asked.resources = resources;
    const auto no = said<Refused>(tell(sandboxes, at(0), asked));
    return !no.empty() && no[0].rule == Refusal::no_resources;
  };
  EXPECT_FALSE(refused({}));
  EXPECT_TRUE(refused({.cpu_millicores = -1}));
  EXPECT_TRUE(refused({.memory_bytes = -1}));
  EXPECT_TRUE(refused({.disk_bytes = -1}));
  EXPECT_TRUE(refused({.gpus = -1}));
  EXPECT_FALSE(refused({.gpus = 1, .gpu_millis = 1}));
  EXPECT_FALSE(refused({.gpus = 1, .gpu_millis = 1000}));
  EXPECT_TRUE(refused({.gpus = 1, .gpu_millis = 0}));
  EXPECT_TRUE(refused({.gpus = 1, .gpu_millis = 1001}));
  EXPECT_FALSE(refused({.gpus = 2, .gpu_millis = 1000}));
  EXPECT_TRUE(refused({.gpus = 2, .gpu_millis = 999}));
  EXPECT_FALSE(refused({.gpus = 0, .gpu_millis = -7})) << "no GPU: nothing is asked of one";
  Sandboxes sandboxes(Config{});
  Requested asked = wish();
  asked.resources.gpus = 3;
  asked.resources.gpu_millis = 7;
  EXPECT_EQ(said<Refused>(tell(sandboxes, at(0), asked)),
            (std::vector<Refused>{{1, {}, {}, Refusal::no_resources, 0, 7, 3, 1000}}));
}

TEST(Sandboxes, SayTheNumbersBehindEachRefusal) {
  Config config;
  config.keys_max = 1;
  config.lifetime_max = seconds(60);
  Sandboxes sandboxes(config);
  Requested asked = wish();
  asked.lifetime = seconds(60);
  take(sandboxes, at(0), asked);
  asked.lifetime = Duration{-1};
  EXPECT_EQ(said<Refused>(tell(sandboxes, at(0), asked)),
            (std::vector<Refused>{{1, {}, {}, Refusal::lifetime_too_long, 0, -1, 0,
                                   seconds(60).nanos}}));
  asked = wish();
  asked.image = {4};
  asked.image_known = false;
  EXPECT_EQ(said<Refused>(tell(sandboxes, at(0), asked)),
            (std::vector<Refused>{{1, {}, {}, Refusal::unknown_image, 0, 4, 0, 0}}));
  asked = wish();
  asked.fits = false;
  EXPECT_EQ(said<Refused>(tell(sandboxes, at(0), asked)),
            (std::vector<Refused>{{1, {}, {}, Refusal::never_fits, 0, 1000, 0, 0}}));
  take(sandboxes, at(0), wish("a"));
  EXPECT_EQ(said<Refused>(tell(sandboxes, at(0), wish("b"))),
            (std::vector<Refused>{{1, {}, {}, Refusal::keys_limit, 0, 1, 1, 1}}));
  take(sandboxes, at(0));  // one without a key needs none
}

TEST(Sandboxes, KeepWhatWasAskedFor) {
  Sandboxes sandboxes(Config{});
  Requested asked = wish("k");
  asked.group = {5};
  asked.image = {6};
  asked.pool = {7};
  asked.lifetime = seconds(8);
  asked.restart = true;
  const auto effects = tell(sandboxes, at(3), asked);
  const SandboxId id = said<Accepted>(effects).at(0).sandbox;
  EXPECT_FALSE(said<Accepted>(effects)[0].repeated);
  EXPECT_EQ(said<AskAdmission>(effects),
            (std::vector<AskAdmission>{{id, {1}, {.cpu_millicores = 1000}}}));
  tell(sandboxes, at(4), Placed{id, {2}, 0b101});
  const Record& record = *sandboxes.find(id);
  EXPECT_EQ(record.reply_to, 1u);
  EXPECT_EQ(record.tenant, TenantId{1});
  EXPECT_EQ(record.group, GroupId{5});
  EXPECT_EQ(record.image, ImageId{6});
  EXPECT_EQ(record.pool, PoolId{7});
  EXPECT_EQ(record.lifetime, seconds(8));
  EXPECT_TRUE(record.restart);
  EXPECT_EQ(record.requested, at(3));
  EXPECT_EQ(record.key, "k");
  EXPECT_EQ(record.node, NodeId{2});
  EXPECT_EQ(record.gpu_mask, 0b101u);
  EXPECT_EQ(record.attempts, 1u);
  EXPECT_EQ(said<Running>(tell(sandboxes, at(9), Started{id, {2}, "note"})),
            (std::vector<Running>{{1, id, {2}, {5}, seconds(6), "note"}}));
  EXPECT_EQ(record.start_deadline, kNever);
  EXPECT_TRUE(said<Accepted>(tell(sandboxes, at(9), asked)).at(0).repeated);
}

TEST(Sandboxes, TakeNoAnswerToWhatIsNotAsked) {
  Sandboxes sandboxes(Config{});
  EXPECT_TRUE(tell(sandboxes, at(0), AdmissionRefused{{9}, 1, 1, 1, 1}).empty());
  EXPECT_TRUE(tell(sandboxes, at(0), Placed{{9}, {1}, 0}).empty());
  EXPECT_TRUE(tell(sandboxes, at(0), NodeRefused{{9}, {1}, NodeRefusal::cpu}).empty());
  EXPECT_TRUE(tell(sandboxes, at(0), Ended{{9}, {1}, EndReason::exited}).empty());
  EXPECT_TRUE(tell(sandboxes, at(0), TerminateRequested{{9}}).empty());
  EXPECT_TRUE(tell(sandboxes, at(0), NodeLost{{9}}).empty());
  const SandboxId id = run(sandboxes, at(1), {1});
  EXPECT_TRUE(tell(sandboxes, at(2), AdmissionRefused{id, 1, 1, 1, 1}).empty());
  EXPECT_TRUE(tell(sandboxes, at(2), Placed{id, {2}, 0}).empty());
  EXPECT_TRUE(tell(sandboxes, at(2), Started{id, {1}}).empty()) << "repeated";
  EXPECT_TRUE(tell(sandboxes, at(2), NodeRefused{id, {1}, NodeRefusal::cpu}).empty())
      << "it has run there";
  EXPECT_TRUE(tell(sandboxes, at(2), Ended{id, {2}, EndReason::exited}).empty());
  EXPECT_EQ(sandboxes.find(id)->node, NodeId{1});
  const SandboxId waiting = take(sandboxes, at(3));
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(3), Started{waiting, {}})).size(), 1u)
      << "it is on no node";
}

TEST(Sandboxes, WhatEndsAnswersToItsStopAlone) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = place(sandboxes, at(1), {1});
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(2), TerminateRequested{id, seconds(4)})),
            (std::vector<SendStop>{{{1}, id, seconds(4)}}));
  EXPECT_EQ(sandboxes.find(id)->start_deadline, kNever);
  EXPECT_TRUE(tell(sandboxes, at(3), Started{id, {1}}).empty());
  const auto gone = tell(sandboxes, at(4), NodeRefused{id, {1}, NodeRefusal::cpu});
  EXPECT_TRUE(said<AskAdmission>(gone).empty());
  EXPECT_EQ(said<Gone>(gone),
            (std::vector<Gone>{{1, id, {}, EndReason::start_failed, false, true, {}}}));
}

TEST(Sandboxes, PlaceAnewUntilTheirAttemptsAreUsedUp) {
  Config config;
  config.start_attempts = 3;
  Sandboxes sandboxes(config);
  const SandboxId id = take(sandboxes, at(0));
  for (std::uint64_t attempt = 1; attempt <= 3; ++attempt) {
    tell(sandboxes, at(1), Placed{id, {attempt}, 0b1});
    const auto failed = tell(sandboxes, at(2), Ended{id, {attempt}, EndReason::pull_failed, "x"});
    EXPECT_EQ(said<Unplace>(failed), (std::vector<Unplace>{{id, {attempt}}}));
    EXPECT_EQ(said<AskAdmission>(failed).size(), attempt < 3 ? 1u : 0u);
    if (attempt == 3) {
      EXPECT_EQ(said<Gone>(failed),
                (std::vector<Gone>{{1, id, {}, EndReason::pull_failed, false, false, "x"}}));
      break;
    }
    const Record& record = *sandboxes.find(id);
    EXPECT_EQ(record.phase, Phase::accepted);
    EXPECT_EQ(record.start_deadline, kNever);
    EXPECT_FALSE(record.node);
    EXPECT_EQ(record.gpu_mask, 0u);
  }
}

TEST(Sandboxes, LeaveTheListOfTheirNodeFromAnyPlaceInIt) {
  for (const std::size_t first : {0u, 1u, 2u}) {
    for (const std::size_t second : {0u, 1u, 2u}) {
      Sandboxes sandboxes(Config{});
      std::vector<SandboxId> all;
      for (int n = 0; n < 3; ++n) all.push_back(run(sandboxes, at(1), {2}));
      const SandboxId elsewhere = run(sandboxes, at(1), {1});
      std::size_t left = 3;
      for (const std::size_t one : {first, second}) {
        left -= said<Gone>(tell(sandboxes, at(2), Ended{all[one], {2}, EndReason::exited})).size();
      }
      const auto lost = tell(sandboxes, at(3), NodeLost{{2}});
      EXPECT_EQ(said<Gone>(lost).size(), left);
      EXPECT_EQ(said<Unplace>(lost).size(), left);
      EXPECT_NE(sandboxes.find(elsewhere), nullptr);
      EXPECT_EQ(sandboxes.state().sandboxes.size(), 1u);
    }
  }
}

TEST(Sandboxes, AreNotLinkedToTheNeighboursOfAnEarlierNode) {
  Sandboxes sandboxes(Config{});
  const SandboxId moved = place(sandboxes, at(1), {1});
  const SandboxId neighbour = place(sandboxes, at(1), {1});
  tell(sandboxes, at(2), NodeRefused{moved, {1}, NodeRefusal::cpu});
  tell(sandboxes, at(3), Placed{moved, {2}, 0});
  tell(sandboxes, at(4), Started{moved, {2}});
  tell(sandboxes, at(5), Ended{moved, {2}, EndReason::exited});
  EXPECT_TRUE(tell(sandboxes, at(6), NodeLost{{2}}).empty());
  EXPECT_EQ(said<AskAdmission>(tell(sandboxes, at(7), NodeLost{{1}})).size(), 1u);
  EXPECT_NE(sandboxes.find(neighbour), nullptr);
}

TEST(Sandboxes, ALateWordOfAnEarlierRestartIsNoNews) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = run(sandboxes, at(1), {1});
  EXPECT_EQ(tell(sandboxes, at(2), NodeRestarted{id, {1}, 2, false}).size(), 1u);
  EXPECT_TRUE(tell(sandboxes, at(3), NodeRestarted{id, {1}, 1, true}).empty());
  EXPECT_EQ(sandboxes.find(id)->restarts, 2u);
  EXPECT_TRUE(sandboxes.find(id)->waits);
}

TEST(Sandboxes, EndOnALostNodeWhatSomebodyHadAskedToEnd) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = place(sandboxes, at(1), {1});
  tell(sandboxes, at(2), TerminateRequested{id});
  tell(sandboxes, at(2), NodeLost{{std::uint64_t{1} << 32 | 1}});  // another one in its slot
  EXPECT_NE(sandboxes.find(id), nullptr);
  const auto lost = tell(sandboxes, at(3), NodeLost{{1}});
  EXPECT_TRUE(said<AskAdmission>(lost).empty());
  EXPECT_EQ(said<Gone>(lost),
            (std::vector<Gone>{{1, id, {}, EndReason::node_lost, false, true, {}}}));
}

TEST(Sandboxes, AskToBeWokenForTheNextOfTheirTimes) {
  Config config;
  config.start_timeout = seconds(60);
  config.key_retention = seconds(30);
  Sandboxes sandboxes(config);
  const SandboxId slow = take(sandboxes, at(0));
  EXPECT_EQ(said<WakeAt>(tell(sandboxes, at(1), Placed{slow, {1}, 0})),
            (std::vector<WakeAt>{{at(61)}}));
  const SandboxId keyed = take(sandboxes, at(2), wish("k"));
  EXPECT_EQ(said<WakeAt>(tell(sandboxes, at(2), TerminateRequested{keyed})),
            (std::vector<WakeAt>{{at(32)}}));
  EXPECT_TRUE(said<WakeAt>(tell(sandboxes, at(3), Started{slow, {1}})).empty());
  EXPECT_EQ(said<WakeAt>(tell(sandboxes, at(32), Woken{})), (std::vector<WakeAt>{{at(61)}}));
  EXPECT_TRUE(sandboxes.state().keys.empty());
  EXPECT_TRUE(tell(sandboxes, at(61), Woken{}).empty()) << "it started in time";
}

TEST(Sandboxes, ADeadlineOfAnEarlierAttemptStopsNobody) {
  Config config;
  config.start_timeout = seconds(60);
  Sandboxes sandboxes(config);
  const SandboxId id = take(sandboxes, at(0));
  tell(sandboxes, at(0), Placed{id, {1}, 0});
  tell(sandboxes, at(10), NodeRefused{id, {1}, NodeRefusal::cpu});
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(60), Woken{})).empty()) << "it waits";
  const SandboxId other = take(sandboxes, at(60));
  tell(sandboxes, at(60), Placed{other, {1}, 0});
  tell(sandboxes, at(70), NodeRefused{other, {1}, NodeRefusal::cpu});
  tell(sandboxes, at(80), Placed{other, {2}, 0});
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(120), Woken{})).empty());
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(140), Woken{})),
            (std::vector<SendStop>{{{2}, other, {}}}));
  EXPECT_EQ(sandboxes.find(other)->phase, Phase::ending);
}

// ---- making way for others

TEST(Sandboxes, OneThatMakesWayIsStoppedWithGraceAndEndsPreempted) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = run(sandboxes, at(0), {1});
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(1), Preempted{id, seconds(30)})),
            (std::vector<SendStop>{{{1}, id, seconds(30)}}));
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(2), Preempted{id, seconds(30)})).empty());
  const auto effects = tell(sandboxes, at(3), Ended{id, {1}, EndReason::terminated});
  EXPECT_EQ(said<Unplace>(effects), (std::vector<Unplace>{{id, {1}}}));
  const auto gone = said<Gone>(effects);
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::preempted);
  EXPECT_FALSE(gone[0].stop_asked);
}

TEST(Sandboxes, OneThatEndsByItselfBeforeItMakesWayKeepsItsOwnReason) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = run(sandboxes, at(0), {1});
  tell(sandboxes, at(1), Preempted{id, seconds(30)});
  const auto gone = said<Gone>(tell(sandboxes, at(3), Ended{id, {1}, EndReason::exited}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::exited);
}

TEST(Sandboxes, OneThatHasNotRunAsksForAnotherNodeAfterItMadeWay) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = place(sandboxes, at(0), {1});
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(1), Preempted{id, {}})).size(), 1u);
  EXPECT_EQ(said<AskAdmission>(tell(sandboxes, at(2), Ended{id, {1}, EndReason::terminated}))
                .size(),
            1u);
  EXPECT_FALSE(sandboxes.find(id)->preempted);
  EXPECT_EQ(said<SendStart>(tell(sandboxes, at(3), Placed{id, {2}, 0})).size(), 1u);
}

TEST(Sandboxes, OneWhoseNodeRefusedItMeanwhileIsNotTakenForPreempted) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = place(sandboxes, at(0), {1});
  tell(sandboxes, at(1), Preempted{id, {}});
  EXPECT_EQ(said<AskAdmission>(tell(sandboxes, at(2), NodeRefused{id, {1}, NodeRefusal::cpu}))
                .size(),
            1u);
  tell(sandboxes, at(3), Placed{id, {2}, 0});
  tell(sandboxes, at(4), Started{id, {2}});
  const auto gone = said<Gone>(tell(sandboxes, at(5), Ended{id, {2}, EndReason::terminated}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::terminated);
}

TEST(Sandboxes, NothingMakesWayThatIsNotThereOrIsLeavingAnyway) {
  Sandboxes sandboxes(Config{});
  EXPECT_TRUE(tell(sandboxes, at(0), Preempted{{99}, {}}).empty());
  const SandboxId waits = take(sandboxes, at(0));
  EXPECT_TRUE(tell(sandboxes, at(1), Preempted{waits, {}}).empty());
  const SandboxId id = run(sandboxes, at(0), {1});
  tell(sandboxes, at(1), TerminateRequested{id, {}});
  EXPECT_TRUE(tell(sandboxes, at(2), Preempted{id, {}}).empty());
  const auto gone = said<Gone>(tell(sandboxes, at(3), Ended{id, {1}, EndReason::terminated}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::terminated);
}

TEST(Sandboxes, OneThatMakesWayAndLosesItsNodeIsLostWithIt) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = run(sandboxes, at(0), {1});
  tell(sandboxes, at(1), Preempted{id, seconds(30)});
  const auto gone = said<Gone>(tell(sandboxes, at(2), NodeLost{{1}}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::node_lost);
}

// ---- gangs

Requested member(std::uint64_t gang, std::uint32_t size, bool restart = false) {
  Requested one = wish();
  one.gang = {gang, size};
  one.restart = restart;
  return one;
}
// `count` members of gang 5, all of them placed on node 1, 2, ...
std::vector<SandboxId> gang_of(Sandboxes& sandboxes, std::uint32_t count, bool restart = false) {
  std::vector<SandboxId> all;
  for (std::uint32_t i = 0; i < count; ++i)
    all.push_back(take(sandboxes, at(0), member(5, count, restart)));
  for (std::uint32_t i = 0; i < count; ++i) tell(sandboxes, at(0), Placed{all[i], {i + 1}, 0});
  return all;
}

TEST(Sandboxes, AGangHasAsManyMembersAsItsFirstSaidAndNoMoreThanItMay) {
  Config config;
  config.gang_max = 3;
  Sandboxes sandboxes(config);
  const auto refused = [&](const Requested& asked) {
    const auto no = said<Refused>(tell(sandboxes, at(0), asked));
    return no.empty() ? Refused{} : no[0];
  };
  EXPECT_EQ(refused(member(5, 4)).rule, Refusal::gang_size);
  EXPECT_EQ(refused(member(5, 4)).limit, 3);
  take(sandboxes, at(0), member(5, 2));
  EXPECT_EQ(refused(member(5, 3)).rule, Refusal::gang_size) << "another size";
  const SandboxId second = take(sandboxes, at(0), member(5, 2));
  EXPECT_EQ(refused(member(5, 2)).in_use, 2) << "it has all";
  Requested other = member(5, 2);
  other.tenant = {2};
  take(sandboxes, at(0), other);  // ids are a tenant's own
  tell(sandboxes, at(1), TerminateRequested{second, {}});
  EXPECT_EQ(sandboxes.state().gangs.size(), 1u) << "it is gone as a whole";
  take(sandboxes, at(2), member(5, 3));  // so the id may be used again
}

TEST(Sandboxes, AGangThatLosesAMemberEndsAsAWhole) {
  Sandboxes sandboxes(Config{});
  const auto all = gang_of(sandboxes, 3);
  for (std::uint32_t i = 0; i < 3; ++i) tell(sandboxes, at(1), Started{all[i], {i + 1}});
  const auto effects = tell(sandboxes, at(2), NodeLost{{2}});
  EXPECT_EQ(said<Gone>(effects).at(0).reason, EndReason::node_lost);
  EXPECT_EQ(said<SendStop>(effects),
            (std::vector<SendStop>{{{1}, all[0], seconds(30)}, {{3}, all[2], seconds(30)}}));
  const auto gone = said<Gone>(tell(sandboxes, at(3), Ended{all[0], {1}, EndReason::terminated}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, EndReason::gang_ended);
  tell(sandboxes, at(3), Ended{all[2], {3}, EndReason::terminated});
  EXPECT_TRUE(sandboxes.state().gangs.empty());
}

// The slot that comes free may let another in for which it has to go: its end would be told before.
TEST(Sandboxes, RunBeforeTheirSlotIsFree) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = place(sandboxes, at(1), {1});
  const auto effects = tell(sandboxes, at(2), Started{id, {1}});
  ASSERT_EQ(effects.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<Running>(effects[0]));
  EXPECT_TRUE(std::holds_alternative<StartSettled>(effects[1]));
}

// Its last words cross the order to stop it, and Started comes when it counts as ending already.
TEST(Sandboxes, WhatHasRunToItsEndIsNotRunAgain) {
  enum { moved, preempted, late };
  for (const auto why : {moved, preempted, late}) {
    for (const EndReason reason : {EndReason::exited, EndReason::out_of_memory}) {
      Config config;
      config.start_timeout = seconds(60);
      Sandboxes sandboxes(config);
      const SandboxId id = place(sandboxes, at(1), {1});
      if (why == moved) tell(sandboxes, at(61), MoveAsked{id});
      if (why == preempted) tell(sandboxes, at(61), Preempted{id, {}});
      if (why == late) tell(sandboxes, at(61), Woken{});
      ASSERT_EQ(sandboxes.find(id)->phase, Phase::ending);
      tell(sandboxes, at(62), Started{id, {1}});
      const auto effects = tell(sandboxes, at(62), Ended{id, {1}, reason});
      EXPECT_TRUE(said<AskAdmission>(effects).empty());
      const auto gone = said<Gone>(effects);
      ASSERT_EQ(gone.size(), 1u);
      EXPECT_EQ(gone[0].reason, reason);
      EXPECT_TRUE(gone[0].was_running);
    }
  }
}

TEST(Sandboxes, MembersThatHaveDoneTheirWorkLeaveTheOthersToTheirs) {
  Sandboxes sandboxes(Config{});
  const auto all = gang_of(sandboxes, 3);
  for (std::uint32_t i = 0; i < 3; ++i) tell(sandboxes, at(1), Started{all[i], {i + 1}});
  for (const EndReason reason : {EndReason::exited, EndReason::lifetime_reached}) {
    const std::size_t i = reason == EndReason::exited ? 0 : 1;
    EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(2), Ended{all[i], {i + 1}, reason})).empty());
  }
  EXPECT_EQ(sandboxes.find(all[2])->phase, Phase::running);
}

TEST(Sandboxes, WhereOneIsNotStartedTheWholeGangWaitsAgain) {
  Sandboxes sandboxes(Config{});
  const auto all = gang_of(sandboxes, 3);
  const auto effects = tell(sandboxes, at(1), NodeRefused{all[0], {1}, NodeRefusal::cpu});
  EXPECT_EQ(said<AskAdmission>(effects).size(), 1u);
  EXPECT_EQ(said<SendStop>(effects).size(), 2u);
  for (std::uint32_t i = 1; i < 3; ++i) {
    const auto back = tell(sandboxes, at(2), Ended{all[i], {i + 1}, EndReason::terminated});
    EXPECT_EQ(said<AskAdmission>(back).size(), 1u);
    EXPECT_TRUE(said<Gone>(back).empty());
  }
}

// What each had tried was forgotten when it left its node for another's failure: a gang whose
// members failed in turn was placed again for ever.
TEST(Sandboxes, AGangWhoseMembersFailInTurnIsGivenUpAsOneThatFailsAlone) {
  Config config;
  config.start_attempts = 3;
  Sandboxes sandboxes(config);
  const auto all = gang_of(sandboxes, 2);
  for (std::uint32_t attempt = 1;; ++attempt) {
    const std::uint32_t fails = attempt % 2, leaves = 1 - fails;
    const auto failed =
        tell(sandboxes, at(attempt), Ended{all[fails], {fails + 1}, EndReason::start_failed});
    if (attempt == config.start_attempts) {
      EXPECT_EQ(said<Gone>(failed).at(0).reason, EndReason::start_failed);
      break;
    }
    ASSERT_TRUE(said<Gone>(failed).empty());
    tell(sandboxes, at(attempt), Ended{all[leaves], {leaves + 1}, EndReason::terminated});
    for (std::uint32_t i = 0; i < 2; ++i) {
      EXPECT_EQ(sandboxes.find(all[i])->attempts, attempt);
      tell(sandboxes, at(attempt), Placed{all[i], {i + 1}, 0});
    }
  }
}

// What had started, or the rest of a gang that had asked, was not heard while control was away.
TEST(Sandboxes, HaveAllOfTheirTimeAgainAfterControlWasAway) {
  Config config;
  config.start_timeout = seconds(60);
  config.gang_gather = seconds(100);
  Sandboxes sandboxes(config);
  const SandboxId starts = place(sandboxes, at(0), {1});
  const SandboxId runs = run(sandboxes, at(0), {1});
  const SandboxId first = take(sandboxes, at(0), member(5, 2));
  tell(sandboxes, at(500), Resumed{});
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(500), Woken{})).empty());
  EXPECT_EQ(sandboxes.state().wake, at(560));
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(559), Woken{})).empty());
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(560), Woken{})),
            (std::vector<SendStop>{{{1}, starts, {}}}));
  EXPECT_TRUE(said<Gone>(tell(sandboxes, at(599), Woken{})).empty());
  EXPECT_EQ(said<Gone>(tell(sandboxes, at(600), Woken{})).at(0).sandbox, first);
  EXPECT_EQ(sandboxes.find(runs)->phase, Phase::running);
}

TEST(Sandboxes, WhatIsWantedElsewhereIsAsNewAndSoIsItsGang) {
  for (const bool preempted : {false, true}) {
    Sandboxes sandboxes(Config{});
    const auto all = gang_of(sandboxes, 2);
    if (preempted) {
      tell(sandboxes, at(1), Preempted{all[0]});
    } else {
      tell(sandboxes, at(1), MoveAsked{all[0]});
    }
    tell(sandboxes, at(2), Ended{all[0], {1}, EndReason::terminated});
    tell(sandboxes, at(2), Ended{all[1], {2}, EndReason::terminated});
    for (const SandboxId one : all) EXPECT_EQ(sandboxes.find(one)->attempts, 0u) << preempted;
  }
}

TEST(Sandboxes, WhereOneIsNotStartedAndAnotherHasRunTheGangEnds) {
  for (const bool restart : {false, true}) {
    Sandboxes sandboxes(Config{});
    const auto all = gang_of(sandboxes, 2, restart);
    tell(sandboxes, at(1), Started{all[1], {2}});
    const auto effects = tell(sandboxes, at(1), NodeRefused{all[0], {1}, NodeRefusal::cpu});
    EXPECT_EQ(said<AskAdmission>(effects).size(), restart ? 1u : 0u);
    EXPECT_EQ(said<Gone>(effects).size(), restart ? 0u : 1u);
    const auto last = tell(sandboxes, at(2), Ended{all[1], {2}, EndReason::terminated});
    EXPECT_EQ(said<AskAdmission>(last).size(), restart ? 1u : 0u);
    EXPECT_EQ(sandboxes.state().gangs.empty(), !restart);
  }
}

TEST(Sandboxes, WhereAMemberEndsWhileTheOthersWaitAgainTheGangEnds) {
  Sandboxes sandboxes(Config{});
  const auto all = gang_of(sandboxes, 2, true);
  tell(sandboxes, at(1), Started{all[1], {2}});
  tell(sandboxes, at(1), NodeRefused{all[0], {1}, NodeRefusal::cpu});
  const auto gone =
      said<Gone>(tell(sandboxes, at(2), Ended{all[1], {2}, EndReason::lifetime_reached}));
  ASSERT_EQ(gone.size(), 2u);
  EXPECT_EQ(gone[1].reason, EndReason::gang_ended);
}

TEST(Sandboxes, AMemberMovesOnlyWhereAllMay) {
  for (const bool restart : {false, true}) {
    Sandboxes sandboxes(Config{});
    const auto all = gang_of(sandboxes, 2, restart);
    tell(sandboxes, at(1), Started{all[1], {2}});
    tell(sandboxes, at(2), MoveAsked{all[0]});
    EXPECT_EQ(sandboxes.find(all[0])->moving, restart);
  }
}

TEST(Sandboxes, WhereAMemberIsRefusedAllAre) {
  Sandboxes sandboxes(Config{});
  std::vector<SandboxId> all;
  for (int i = 0; i < 3; ++i) all.push_back(take(sandboxes, at(0), member(5, 3)));
  const auto effects = tell(sandboxes, at(1), AdmissionRefused{all[2], 4, 9, 8, 7});
  const auto refused = said<Refused>(effects);
  ASSERT_EQ(refused.size(), 3u);
  for (const Refused& one : refused) {
    EXPECT_EQ(one.rule, Refusal::admission);
    EXPECT_EQ(one.limit, 7);
  }
  EXPECT_EQ(said<Unplace>(effects).size(), 3u);
  EXPECT_EQ(sandboxes.state().sandboxes.size(), 0u);
  EXPECT_TRUE(sandboxes.state().gangs.empty());
}

TEST(Sandboxes, AGangThatIsNotWholeInTimeEnds) {
  Config config;
  config.gang_gather = seconds(100);
  Sandboxes sandboxes(config);
  const auto first = tell(sandboxes, at(0), member(5, 3));
  EXPECT_EQ(said<WakeAt>(first), (std::vector<WakeAt>{{at(100)}}));
  take(sandboxes, at(50), member(5, 3));
  std::vector<SandboxId> whole;
  for (int i = 0; i < 2; ++i) whole.push_back(take(sandboxes, at(50), member(6, 2)));
  EXPECT_TRUE(said<Gone>(tell(sandboxes, at(99), Woken{})).empty());
  const auto effects = tell(sandboxes, at(100), Woken{});
  const auto gone = said<Gone>(effects);
  ASSERT_EQ(gone.size(), 2u);
  EXPECT_EQ(gone[0].reason, EndReason::gang_ended);
  EXPECT_EQ(said<Unplace>(effects).size(), 2u);
  EXPECT_TRUE(said<Gone>(tell(sandboxes, at(150), Woken{})).empty()) << "that one is whole";
  EXPECT_EQ(sandboxes.state().gangs.size(), 1u);
  // The id of one that is gone may be used again, and its old deadline is none of the new one's.
  take(sandboxes, at(160), member(5, 2));
  EXPECT_TRUE(said<Gone>(tell(sandboxes, at(259), Woken{})).empty());
  EXPECT_EQ(said<Gone>(tell(sandboxes, at(260), Woken{})).size(), 1u);
}

TEST(Sandboxes, AGangWhoseNumberIsUsedAgainHasADeadlineOfItsOwn) {
  Config config;
  config.gang_gather = seconds(100);
  Sandboxes sandboxes(config);
  const auto old = gang_of(sandboxes, 2);
  for (std::uint32_t i = 0; i < 2; ++i) tell(sandboxes, at(1), Started{old[i], {i + 1}});
  for (std::uint32_t i = 0; i < 2; ++i) {
    tell(sandboxes, at(2), Ended{old[i], {i + 1}, EndReason::exited});
  }
  ASSERT_TRUE(sandboxes.state().gangs.empty());
  const SandboxId late = take(sandboxes, at(50), member(5, 2));
  EXPECT_TRUE(said<Gone>(tell(sandboxes, at(100), Woken{})).empty());
  EXPECT_EQ(said<Gone>(tell(sandboxes, at(150), Woken{})).at(0).sandbox, late);
}

// Of three that run one is moved and another ends: the third can never be with all of them again.
TEST(Sandboxes, WhereOneEndsWhileAnotherMovesTheRestOfTheGangEnds) {
  Sandboxes sandboxes(Config{});
  const auto all = gang_of(sandboxes, 3, true);
  for (std::uint32_t i = 0; i < 3; ++i) tell(sandboxes, at(1), Started{all[i], {i + 1}});
  tell(sandboxes, at(2), MoveAsked{all[0]});
  const auto effects = tell(sandboxes, at(3), Ended{all[1], {2}, EndReason::exited});
  const auto stops = said<SendStop>(effects);
  EXPECT_TRUE(std::any_of(stops.begin(), stops.end(),
                          [&](const SendStop& one) { return one.sandbox == all[2]; }));
}

TEST(Sandboxes, WhatMovedCountsItsRestartsAndItsWaitFromThere) {
  Sandboxes sandboxes(Config{});
  Requested restarts = wish();
  restarts.restart = true;
  const SandboxId id = take(sandboxes, at(0), restarts);
  tell(sandboxes, at(1), Placed{id, {1}, 0});
  tell(sandboxes, at(2), Started{id, {1}});
  for (const std::uint32_t count : {1u, 2u}) {
    tell(sandboxes, at(3), NodeRestarted{id, {1}, count, true});
  }
  tell(sandboxes, at(10), MoveAsked{id});
  tell(sandboxes, at(20), Ended{id, {1}, EndReason::terminated});
  tell(sandboxes, at(25), Placed{id, {2}, 0});
  const auto running = said<Running>(tell(sandboxes, at(27), Started{id, {2}}));
  ASSERT_EQ(running.size(), 1u);
  EXPECT_EQ(running[0].took, seconds(7));
  EXPECT_EQ(said<Restarted>(tell(sandboxes, at(30), NodeRestarted{id, {2}, 1, true})).size(), 1u);
}

// Control places no gang before it is whole; were one member placed, it would have to stop first.
TEST(Sandboxes, AGangThatEndsTakesNoMoreMembers) {
  Config config;
  config.gang_gather = seconds(100);
  Sandboxes sandboxes(config);
  const SandboxId first = take(sandboxes, at(0), member(5, 3));
  tell(sandboxes, at(1), Placed{first, {1}, 0});
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(100), Woken{})).size(), 1u);
  const auto refused = said<Refused>(tell(sandboxes, at(101), member(5, 3)));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].rule, Refusal::gang_size);
  tell(sandboxes, at(102), Ended{first, {1}, EndReason::terminated});
  take(sandboxes, at(103), member(5, 3));
}

TEST(Sandboxes, AGangOfOneWaitsForNobody) {
  Sandboxes sandboxes(Config{});
  EXPECT_TRUE(said<WakeAt>(tell(sandboxes, at(0), member(5, 1))).empty());
}

TEST(Sandboxes, WhereOneThatWaitsIsTerminatedTheOthersEnd) {
  Sandboxes sandboxes(Config{});
  std::vector<SandboxId> all;
  for (int i = 0; i < 2; ++i) all.push_back(take(sandboxes, at(0), member(5, 3)));
  const auto gone = said<Gone>(tell(sandboxes, at(1), TerminateRequested{all[0], {}}));
  ASSERT_EQ(gone.size(), 2u);
  EXPECT_EQ(gone[0].reason, EndReason::terminated);
  EXPECT_EQ(gone[1].reason, EndReason::gang_ended);
}

}  // namespace
}  // namespace chalk::sandbox
