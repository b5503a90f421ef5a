#include "model/sandbox/sandbox.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tests/support/said.h"

namespace chalk::sandbox {
namespace {

using test::said;
using test::tell;

Time at(std::int64_t s) { return {seconds(s).nanos}; }

Requested request(std::string key = {}, std::uint64_t reply_to = 1, std::uint64_t tenant = 1) {
  Requested one;
  one.reply_to = reply_to;
  one.key = std::move(key);
  one.tenant = {tenant};
  one.resources = {.cpu_millicores = 1000};
  one.image_known = true;
  return one;
}
SandboxId accepted(const std::vector<Effect>& effects) {
  const auto all = said<Accepted>(effects);
  return all.empty() ? SandboxId{} : all[0].sandbox;
}

TEST(Sandboxes, CountRestartsOnceInWhateverOrderTheyAreTold) {
  Sandboxes sandboxes(Config{});
  Requested wish = request();
  wish.restart = true;
  const SandboxId id = accepted(tell(sandboxes, at(0), wish));
  const NodeId node{3};
  tell(sandboxes, at(0), Placed{id, node, 0});
  const auto told = [&](std::uint32_t count, bool running, NodeId by = {3}) {
    const auto effects =
        tell(sandboxes, at(2), NodeRestarted{id, by, count, running, std::to_string(count)});
    return said<Restarted>(effects).size();
  };
  EXPECT_EQ(told(1, false), 0u) << "before its first start";
  tell(sandboxes, at(1), Started{id, node});
  EXPECT_EQ(told(1, false), 1u);
  EXPECT_EQ(told(1, false), 0u) << "repeated";
  EXPECT_EQ(told(1, true), 1u);
  EXPECT_EQ(told(1, true), 0u);
  EXPECT_EQ(told(1, false), 0u) << "late";
  EXPECT_EQ(told(4, true), 1u) << "some were lost";
  EXPECT_EQ(told(3, true), 0u);
  EXPECT_EQ(told(5, false, {9}), 0u) << "of a node where it is not";
  const Record& record = *sandboxes.find(id);
  EXPECT_EQ(record.phase, Phase::running);
  EXPECT_EQ(record.restarts, 4u);
  const auto stop = said<SendStop>(tell(sandboxes, at(3), NodeRestarted{{999}, node, 1, true}));
  EXPECT_EQ(stop, (std::vector<SendStop>{{node, {999}, {}}}));
}

TEST(Sandboxes, GiveOneSandboxForOneKeyHoweverOftenItIsAsked) {
  Sandboxes sandboxes(Config{});
  const SandboxId first = accepted(tell(sandboxes, at(0), request("a", 1)));
  const auto again = tell(sandboxes, at(1), request("a", 2));
  EXPECT_EQ(said<Accepted>(again), (std::vector<Accepted>{{2, first, true}}));
  EXPECT_TRUE(said<AskAdmission>(again).empty());
  EXPECT_NE(accepted(tell(sandboxes, at(1), request("a", 3, 2))), first) << "another tenant's key";
  EXPECT_NE(accepted(tell(sandboxes, at(1), request("", 4))), first);
}

TEST(Sandboxes, RememberAKeyForAWhileAfterTheSandboxIsGone) {
  Config config;
  config.key_retention = seconds(100);
  Sandboxes sandboxes(config);
  const SandboxId first = accepted(tell(sandboxes, at(0), request("a")));
  tell(sandboxes, at(1), TerminateRequested{first});
  tell(sandboxes, at(100), Woken{});
  EXPECT_EQ(accepted(tell(sandboxes, at(100), request("a"))), first);
  tell(sandboxes, at(101), Woken{});
  EXPECT_NE(accepted(tell(sandboxes, at(101), request("a"))), first);
}

TEST(Sandboxes, ForgetTheKeyOfWhatWasRefused) {
  Sandboxes sandboxes(Config{});
  const SandboxId first = accepted(tell(sandboxes, at(0), request("a")));
  const auto refused = said<Refused>(tell(sandboxes, at(0), AdmissionRefused{first, 2, 10, 5, 12}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (Refused{1, first, {}, Refusal::admission, 2, 10, 5, 12}));
  EXPECT_NE(accepted(tell(sandboxes, at(1), request("a"))), first);
}

TEST(Sandboxes, RefuseWithRuleAndNumbers) {
  Config config;
  config.sandboxes_max = 1;
  config.keys_max = 1;
  config.lifetime_max = seconds(60);
  const auto rule = [&](Requested asked, bool full = false) {
    Sandboxes sandboxes(config);
    if (full) tell(sandboxes, at(0), request("x"));
    const auto refused = said<Refused>(tell(sandboxes, at(0), asked));
    return refused.empty() ? Refused{} : refused[0];
  };
  EXPECT_EQ(rule(request(), true), (Refused{1, {}, {}, Refusal::sandboxes_limit, 0, 1, 1, 1}));
  EXPECT_EQ(rule(request("y"), true).rule, Refusal::keys_limit);
  Requested asked = request();
  asked.lifetime = seconds(61);
  EXPECT_EQ(
      rule(asked),
      (Refused{1, {}, {}, Refusal::lifetime_too_long, 0, seconds(61).nanos, 0, seconds(60).nanos}));
  asked = request();
  asked.image = {4};
  asked.image_known = false;
  EXPECT_EQ(rule(asked).rule, Refusal::unknown_image);
  asked = request();
  asked.resources.memory_bytes = -1;
  EXPECT_EQ(rule(asked).rule, Refusal::no_resources);
  asked = request();
  asked.resources.gpus = 2;
  asked.resources.gpu_millis = 500;
  EXPECT_EQ(rule(asked).rule, Refusal::no_resources) << "a share of several GPUs";
  asked = request();
  asked.fits = false;
  EXPECT_EQ(rule(asked).rule, Refusal::never_fits);
}

TEST(Sandboxes, TryAnotherNodeWhenAStartFailsAndGiveUpAfterSomeAttempts) {
  Config config;
  config.start_attempts = 2;
  Sandboxes sandboxes(config);
  const SandboxId id = accepted(tell(sandboxes, at(0), request()));
  EXPECT_EQ(said<SendStart>(tell(sandboxes, at(1), Placed{id, {1}, 0})).size(), 1u);
  const auto failed = tell(sandboxes, at(2), Ended{id, {1}, EndReason::start_failed});
  EXPECT_EQ(said<Unplace>(failed), (std::vector<Unplace>{{id, {1}}}));
  EXPECT_EQ(said<AskAdmission>(failed).size(), 1u);
  EXPECT_TRUE(said<Running>(tell(sandboxes, at(2), Started{id, {1}})).empty())
      << "late, from there";
  tell(sandboxes, at(3), Placed{id, {2}, 0});
  const auto refused = tell(sandboxes, at(4), NodeRefused{id, {2}, NodeRefusal::memory});
  EXPECT_TRUE(said<AskAdmission>(refused).empty());
  ASSERT_EQ(said<Gone>(refused).size(), 1u);
  EXPECT_EQ(said<Gone>(refused)[0].reason, EndReason::start_failed);
}

TEST(Sandboxes, TryNoOtherNodeWithABadImage) {
  Sandboxes sandboxes(Config{});
  const SandboxId id = accepted(tell(sandboxes, at(0), request()));
  tell(sandboxes, at(1), Placed{id, {1}});
  const auto effects = tell(sandboxes, at(2), Ended{id, {1}, EndReason::bad_image, "no such layer"});
  EXPECT_TRUE(said<AskAdmission>(effects).empty());
  EXPECT_EQ(said<Unplace>(effects), (std::vector<Unplace>{{id, {1}}}));
  EXPECT_EQ(said<Gone>(effects), (std::vector<Gone>{{1, id, {}, EndReason::bad_image, false, false,
                                                     "no such layer"}}));
}

TEST(Sandboxes, TellTheNodeToStopWhatDoesNotStartInTimeAndThenTryAnother) {
  Config config;
  config.start_timeout = seconds(60);
  Sandboxes sandboxes(config);
  const SandboxId id = accepted(tell(sandboxes, at(0), request()));
  tell(sandboxes, at(1), Placed{id, {1}, 0});
  EXPECT_TRUE(said<SendStop>(tell(sandboxes, at(60), Woken{})).empty());
  const auto late = tell(sandboxes, at(61), Woken{});
  EXPECT_EQ(said<SendStop>(late), (std::vector<SendStop>{{{1}, id}}));
  EXPECT_TRUE(said<Unplace>(late).empty()) << "it may be there until the node says that it is not";
  const auto ended = tell(sandboxes, at(62), Ended{id, {1}, EndReason::terminated});
  EXPECT_EQ(said<Unplace>(ended).size(), 1u);
  EXPECT_EQ(said<AskAdmission>(ended).size(), 1u);
}

TEST(Sandboxes, TerminateOnceInEachPhase) {
  Sandboxes sandboxes(Config{});
  const SandboxId waiting = accepted(tell(sandboxes, at(0), request()));
  const auto at_once = tell(sandboxes, at(1), TerminateRequested{waiting});
  EXPECT_EQ(said<Unplace>(at_once), (std::vector<Unplace>{{waiting, {}}}));
  EXPECT_EQ(said<Gone>(at_once).size(), 1u);

  const SandboxId running = accepted(tell(sandboxes, at(0), request()));
  tell(sandboxes, at(1), Placed{running, {1}, 0});
  EXPECT_EQ(said<Running>(tell(sandboxes, at(2), Started{running, {1}})).size(), 1u);
  EXPECT_EQ(said<SendStop>(tell(sandboxes, at(3), TerminateRequested{running})).size(), 1u);
  EXPECT_TRUE(tell(sandboxes, at(3), TerminateRequested{running}).empty());
  const auto gone = said<Gone>(tell(sandboxes, at(4), Ended{running, {1}, EndReason::terminated}));
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_TRUE(gone[0].was_running);
  EXPECT_TRUE(gone[0].stop_asked);
  EXPECT_TRUE(tell(sandboxes, at(5), Ended{running, {1}, EndReason::terminated}).empty());
}

TEST(Sandboxes, EndWhatRanOnALostNodeAndPlaceAnewWhatHadNotBegun) {
  Sandboxes sandboxes(Config{});
  const SandboxId ran = accepted(tell(sandboxes, at(0), request()));
  const SandboxId began = accepted(tell(sandboxes, at(0), request()));
  const SandboxId other = accepted(tell(sandboxes, at(0), request()));
  tell(sandboxes, at(1), Placed{ran, {1}, 0});
  tell(sandboxes, at(1), Placed{began, {1}, 0});
  tell(sandboxes, at(1), Placed{other, {2}, 0});
  tell(sandboxes, at(2), Started{ran, {1}});
  const auto lost = tell(sandboxes, at(3), NodeLost{{1}});
  EXPECT_EQ(said<Unplace>(lost).size(), 2u);
  ASSERT_EQ(said<Gone>(lost).size(), 1u);
  EXPECT_EQ(said<Gone>(lost)[0].sandbox, ran);
  ASSERT_EQ(said<AskAdmission>(lost).size(), 1u);
  EXPECT_EQ(said<AskAdmission>(lost)[0].sandbox, began);
  EXPECT_TRUE(tell(sandboxes, at(4), NodeLost{{1}}).empty());
}

// Invariant 7 and more under any order of facts, true or not: what is placed is given back once,
// each sandbox ends in one Gone or one Refused, and after that nothing about it is ordered.
RC_GTEST_PROP(Sandboxes, GiveBackEveryPlacementOnceAndEndOnce, ()) {
  Config config;
  config.start_timeout = seconds(20);
  Sandboxes sandboxes(config);
  std::map<SandboxId, NodeId> placed;  // as the world saw it
  std::set<SandboxId> live;
  std::set<SandboxId> waiting;  // asked for admission, not answered
  std::vector<SandboxId> all;
  std::int64_t second = 0;
  const auto hear = [&](const std::vector<Effect>& effects) {
    for (const Effect& effect : effects) {
      if (const auto* yes = std::get_if<Accepted>(&effect)) {
        if (yes->repeated) continue;
        RC_ASSERT(live.insert(yes->sandbox).second);
        all.push_back(yes->sandbox);
      } else if (const auto* ask = std::get_if<AskAdmission>(&effect)) {
        RC_ASSERT(live.contains(ask->sandbox) && !placed.contains(ask->sandbox));
        RC_ASSERT(waiting.insert(ask->sandbox).second);
      } else if (const auto* back = std::get_if<Unplace>(&effect)) {
        if (back->node) {
          RC_ASSERT(placed.at(back->sandbox) == back->node);
          placed.erase(back->sandbox);
        } else {
          RC_ASSERT(waiting.erase(back->sandbox) == 1);
        }
      } else if (const auto* start = std::get_if<SendStart>(&effect)) {
        RC_ASSERT(live.contains(start->sandbox));
      } else if (const auto* gone = std::get_if<Gone>(&effect)) {
        RC_ASSERT(live.erase(gone->sandbox) == 1);
        RC_ASSERT(!placed.contains(gone->sandbox) && !waiting.contains(gone->sandbox));
      } else if (const auto* no = std::get_if<Refused>(&effect)) {
        RC_ASSERT(live.erase(no->sandbox) == 1);
      }
    }
  };
  const auto draws = *rc::gen::container<std::vector<int>>(
      rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 100'000)));
  for (const int draw : draws) {
    second += draw / 10 % 3;
    const auto which = static_cast<std::size_t>(draw / 30);
    const NodeId node{1 + which % 3};
    const SandboxId id = all.empty() ? SandboxId{} : all[which % all.size()];
    switch (draw % 10) {
      case 0:
      case 1: hear(tell(sandboxes, at(second), request(std::to_string(which % 20)))); break;
      case 2:
      case 3:
        if (!waiting.empty()) {
          const SandboxId one = *waiting.begin();
          waiting.erase(one);
          placed[one] = node;
          hear(tell(sandboxes, at(second), Placed{one, node, 0}));
        }
        break;
      case 4: hear(tell(sandboxes, at(second), Started{id, node})); break;
      case 5: hear(tell(sandboxes, at(second), Ended{id, node, EndReason::exited})); break;
      case 6: hear(tell(sandboxes, at(second), TerminateRequested{id})); break;
      case 7: hear(tell(sandboxes, at(second), NodeLost{node})); break;
      case 8: hear(tell(sandboxes, at(second), NodeRefused{id, node, NodeRefusal::cpu})); break;
      default:
        if (which % 3 == 0 && !waiting.empty()) {
          const SandboxId one = *waiting.begin();
          waiting.erase(one);
          hear(tell(sandboxes, at(second), AdmissionRefused{one, 1, 1, 1, 1}));
        } else {
          hear(tell(sandboxes, at(second), Woken{}));
        }
    }
  }
  RC_ASSERT(sandboxes.state().sandboxes.size() == live.size());
}

}  // namespace
}  // namespace chalk::sandbox
