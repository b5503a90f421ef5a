#include "model/images/cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>

#include "rig.h"

namespace chalk::images {
namespace {

PullFinished done(const PullLayers& pull, bool good = true) { return {pull.pull, good}; }
PullFinished bad(const PullLayers& pull) { return {pull.pull, false, "no such layer", true}; }

TEST(Cache, PullsWhatIsMissingAndAnswersEveryWaiter) {
  Cache cache(CacheConfig{});
  const auto pulls = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}));
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_EQ(pulls[0].bytes, 20);
  EXPECT_EQ(pulls[0].unpacked_bytes, 50);
  EXPECT_TRUE(tell(cache, at(1), Wanted{image(1, {1, 2}), {8}}).empty()) << "it is on its way";
  const auto arrived = tell(cache, at(2), done(pulls[0]));
  const std::vector<ImageReady> both{{{1}, {7}, false}, {{1}, {8}, false}};
  EXPECT_EQ(said<ImageReady>(arrived), both);
  EXPECT_EQ(said<ImageChanged>(arrived).size(), 1u);
  const auto third = said<ImageReady>(tell(cache, at(3), Wanted{image(1, {1, 2}), {9}}));
  EXPECT_EQ(third, (std::vector<ImageReady>{{{1}, {9}, true}}));
}

TEST(Cache, PullsASharedLayerOnce) {
  Cache cache(CacheConfig{});
  const auto first = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}));
  const auto second = said<PullLayers>(tell(cache, at(0), Wanted{image(2, {1, 3}), {8}}));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].layers, (std::vector<LayerId>{{3}}));
  EXPECT_TRUE(said<ImageReady>(tell(cache, at(1), done(second[0]))).empty())
      << "layer 1 is not here yet";
  EXPECT_EQ(said<ImageReady>(tell(cache, at(2), done(first[0]))).size(), 2u);
}

TEST(Cache, RunsNoMorePullsAtOnceThanAllowed) {
  CacheConfig config;
  config.pulls_at_once = 1;
  Cache cache(config);
  const auto first = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_TRUE(said<PullLayers>(tell(cache, at(0), Wanted{image(2, {2}), {8}})).empty());
  EXPECT_EQ(said<PullLayers>(tell(cache, at(1), done(first[0]))).size(), 1u);
}

TEST(Cache, CountsWhatLayersTookInsteadOfWhatWasGuessed) {
  CacheConfig config;
  config.capacity_bytes = 100;
  Cache cache(config);
  auto first = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}));
  PullFinished finished = done(first.at(0));
  finished.took = {40, 50};
  tell(cache, at(1), finished);
  EXPECT_EQ(cache.state().bytes, 90);
  const auto refused = said<ImageUnavailable>(tell(cache, at(2), Wanted{image(2, {3}), {8}}));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].rule, Unavailable::no_room);
  tell(cache, at(3), LetGo{{7}});
  const auto effects = tell(cache, at(4), Wanted{image(2, {3}), {9}});
  EXPECT_EQ(said<EvictLayers>(effects), (std::vector<EvictLayers>{{40, {{1}}}}));
  EXPECT_EQ(said<PullLayers>(effects).size(), 1u);
}

TEST(Cache, EvictsWhatCameTooLargeAsSoonAsNobodyUsesIt) {
  CacheConfig config;
  config.capacity_bytes = 100;
  Cache cache(config);
  const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  PullFinished finished = done(pull.at(0));
  finished.took = {1000};
  EXPECT_EQ(said<ImageReady>(tell(cache, at(1), finished)).size(), 1u);
  EXPECT_EQ(cache.state().bytes, 1000);
  const auto effects = tell(cache, at(2), LetGo{{7}});
  EXPECT_EQ(said<EvictLayers>(effects), (std::vector<EvictLayers>{{1000, {{1}}}}));
  EXPECT_EQ(said<ImageChanged>(effects), (std::vector<ImageChanged>{{{1}, false}}));
  EXPECT_EQ(cache.state().bytes, 0);
}

TEST(Cache, EvictsWhatIsIdleWhereTheDiskIsFull) {
  Cache cache(CacheConfig{});  // no limit of its own
  for (std::uint64_t one : {1, 2}) {
    const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(one, {one}), {one}}));
    tell(cache, at(1), done(pull.at(0)));
    tell(cache, at(2), LetGo{{one}});
  }
  const auto pull = said<PullLayers>(tell(cache, at(3), Wanted{image(3, {3}), {3}}));
  PullFinished full = done(pull.at(0), false);
  full.full = true;
  const auto effects = tell(cache, at(4), full);
  EXPECT_EQ(said<EvictLayers>(effects), (std::vector<EvictLayers>{{25, {{1}}}}));
  EXPECT_EQ(said<PullLayers>(tell(cache, at(5), Woken{})).size(), 1u) << "and tries again";
}

TEST(Cache, GivesUpAtOnceWhatIsWrongWithTheImageItself) {
  Cache cache(CacheConfig{});
  const auto pulls = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  tell(cache, at(0), Wanted{image(1, {1}), {8}});
  const auto effects = tell(cache, at(1), bad(pulls[0]));
  EXPECT_EQ(said<ImageUnavailable>(effects),
            (std::vector<ImageUnavailable>{
                {{1}, {7}, Unavailable::bad_image, 1, 3, "no such layer"},
                {{1}, {8}, Unavailable::bad_image, 1, 3, "no such layer"}}));
  EXPECT_TRUE(said<PullLayers>(tell(cache, at(100), Woken{})).empty());
  EXPECT_TRUE(cache.state().pulls.empty());
  EXPECT_EQ(cache.state().bytes, 0);
  EXPECT_EQ(said<PullLayers>(tell(cache, at(101), Wanted{image(1, {1}), {9}})).size(), 1u)
      << "who asks for it later may find it mended";
}

TEST(Cache, DoesNotBlameAnImageForAnotherOneThatSharesALayer) {
  Cache cache(CacheConfig{});
  const auto evil = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}));
  const auto good = said<PullLayers>(tell(cache, at(0), Wanted{image(2, {1, 3}), {8}}));
  ASSERT_EQ(good[0].layers, (std::vector<LayerId>{{3}})) << "it counts on the other's pull";
  const auto refused = said<ImageUnavailable>(tell(cache, at(1), bad(evil[0])));
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].rule, Unavailable::bad_image);
  EXPECT_EQ(refused[1], (ImageUnavailable{{2}, {8}, Unavailable::pull_failed, 1, 3, "no such layer"}));
}

TEST(Cache, TriesAPullAgainLaterAndLaterAndThenGivesUpWithTheNumbers) {
  CacheConfig config;
  config.attempts = 3;
  config.retry = seconds(1);
  Cache cache(config);
  auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  ASSERT_EQ(said<WakeAt>(tell(cache, at(0), done(pull[0], false))), (std::vector<WakeAt>{{at(1)}}));
  pull = said<PullLayers>(tell(cache, at(1), Woken{}));
  ASSERT_EQ(said<WakeAt>(tell(cache, at(1), done(pull[0], false))), (std::vector<WakeAt>{{at(3)}}));
  pull = said<PullLayers>(tell(cache, at(3), Woken{}));
  const auto refused = said<ImageUnavailable>(tell(cache, at(3), done(pull[0], false)));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0], (ImageUnavailable{{1}, {7}, Unavailable::pull_failed, 3, 3}));
  EXPECT_EQ(cache.state().bytes, 0);
  EXPECT_EQ(said<PullLayers>(tell(cache, at(9), Wanted{image(1, {1}), {8}})).size(), 1u)
      << "planned anew";
}

TEST(Cache, EvictsWhatWasUsedLongestAgoAndNothingThatIsInUse) {
  CacheConfig config;
  config.capacity_bytes = 75;
  config.eviction.policy = CachePolicy::lru;
  Cache cache(config);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(i, {i}), {i}}))[0]));
  }
  tell(cache, at(1), LetGo{{2}});
  tell(cache, at(2), LetGo{{1}});
  const auto wanted = tell(cache, at(3), Wanted{image(4, {4}), {4}});
  EXPECT_EQ(said<EvictLayers>(wanted), (std::vector<EvictLayers>{{25, {{2}}}}));
  EXPECT_EQ(said<ImageChanged>(wanted), (std::vector<ImageChanged>{{{2}, false}}));
  const auto too_much = said<ImageUnavailable>(tell(cache, at(4), Wanted{image(5, {5, 6}), {5}}));
  ASSERT_EQ(too_much.size(), 1u) << "image 3 is in use and image 4 on its way";
  EXPECT_EQ(too_much[0].rule, Unavailable::no_room);
  EXPECT_EQ(too_much[0].needed, 50);
}

TEST(Cache, HasNoRoomForWhatIsLargerThanAnything) {
  CacheConfig config;
  config.capacity_bytes = 75;
  Cache cache(config);
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {1}}))[0]));
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  const auto wanted = tell(cache, at(1), Wanted{{{2}, {{{2}, 10, huge}}}, {2}});
  EXPECT_EQ(said<ImageUnavailable>(wanted),
            (std::vector<ImageUnavailable>{{{2}, {2}, Unavailable::no_room, huge, 50}}));
  EXPECT_EQ(cache.state().bytes, 25);
}

TEST(Cache, KeepsALayerThatAnImageListsTwiceWhileAnotherImageHoldsIt) {
  CacheConfig config;
  config.capacity_bytes = 50;
  Cache cache(config);
  const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 1}), {1}}));
  tell(cache, at(0), done(pull[0]));
  tell(cache, at(1), Wanted{image(2, {1}), {2}});
  tell(cache, at(2), LetGo{{1}});
  const auto wanted = tell(cache, at(3), Wanted{image(3, {2, 3}), {3}});
  EXPECT_TRUE(said<EvictLayers>(wanted).empty());
  EXPECT_EQ(said<ImageUnavailable>(wanted).size(), 1u);
}

TEST(Cache, TriesEachPeerOnceAndThenTheRegistry) {
  CacheConfig config;
  config.peer_patience = seconds(10);
  Cache cache(config);
  auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}, {{4}, {5}}}));
  EXPECT_EQ(pull.at(0).source, NodeId{4});
  const auto late = pull[0];
  pull = said<PullLayers>(tell(cache, at(1), bad(pull[0])));
  EXPECT_EQ(pull.at(0).source, NodeId{5}) << "also what a peer calls bad for ever";
  EXPECT_EQ(said<PullLayers>(tell(cache, at(2), Resumed{})), pull);
  EXPECT_TRUE(said<PullLayers>(tell(cache, at(10), Woken{})).empty());
  const auto left = tell(cache, at(11), Woken{});
  EXPECT_EQ(said<CancelPull>(left), (std::vector<CancelPull>{{pull.at(0).pull, {{1}}}}));
  pull = said<PullLayers>(left);
  EXPECT_EQ(pull.at(0).source, NodeId{}) << "it was silent for ten seconds";
  EXPECT_TRUE(tell(cache, at(12), done(late)).empty()) << "nobody waits for it any more";
  EXPECT_EQ(said<ImageReady>(tell(cache, at(13), done(pull[0]))).size(), 1u);
}

TEST(Cache, StopsAPullThatNobodyWaitsForAndGivesItsPlaceToWhoDoes) {
  Cache cache(CacheConfig{});  // three at once
  std::vector<PullLayers> slow;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    slow.push_back(said<PullLayers>(tell(cache, at(1), Wanted{image(n, {n}), {n}})).at(0));
  }
  EXPECT_TRUE(said<PullLayers>(tell(cache, at(2), Wanted{image(9, {9}), {9}})).empty());
  const auto effects = tell(cache, at(300), LetGo{{1}});
  EXPECT_EQ(said<CancelPull>(effects), (std::vector<CancelPull>{{slow[0].pull, {{1}}}}));
  EXPECT_EQ(said<ImageChanged>(effects), (std::vector<ImageChanged>{{{1}, false}}));
  EXPECT_EQ(said<PullLayers>(effects).at(0).image, ImageId{9});
  EXPECT_EQ(cache.state().pulling, 3u);
  EXPECT_EQ(cache.state().bytes, 75);
  EXPECT_TRUE(tell(cache, at(301), done(slow[0])).empty()) << "it had come before it was stopped";
  EXPECT_TRUE(tell(cache, at(301), bad(slow[0])).empty());
  tell(cache, at(302), LetGo{{2}});
  const auto again = said<PullLayers>(tell(cache, at(303), Wanted{image(1, {1}), {10}}));
  ASSERT_EQ(again.size(), 1u) << "pulled anew";
  EXPECT_GT(again[0].pull, slow[2].pull) << "no number stands for two pulls";
}

TEST(Cache, APullThatNobodyWaitsForGoesOnWhileNobodyNeedsItsPlace) {
  CacheConfig config;
  config.pulls_at_once = 1;
  Cache cache(config);
  const auto slow = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  EXPECT_TRUE(tell(cache, at(300), LetGo{{7}}).empty());
  EXPECT_TRUE(tell(cache, at(301), Wanted{image(1, {1}), {8}}).empty()) << "it is on its way";
  const auto ready = said<ImageReady>(tell(cache, at(600), done(slow[0])));
  EXPECT_EQ(ready, (std::vector<ImageReady>{{{1}, {8}, false}}));
  const auto other = said<PullLayers>(tell(cache, at(601), Wanted{image(2, {2}), {9}}));
  tell(cache, at(602), LetGo{{9}});
  const auto third = tell(cache, at(603), Wanted{image(3, {3}), {10}});
  EXPECT_EQ(said<CancelPull>(third), (std::vector<CancelPull>{{other[0].pull, {{2}}}}));
  EXPECT_EQ(said<PullLayers>(third).size(), 1u);
}

TEST(Cache, APullThatNobodyWaitsForMakesRoom) {
  CacheConfig config;
  config.capacity_bytes = 40;
  Cache cache(config);
  const auto slow = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  tell(cache, at(1), LetGo{{7}});
  EXPECT_TRUE(said<CancelPull>(tell(cache, at(2), Wanted{image(3, {3, 4}), {9}})).empty())
      << "it would not do";
  const auto effects = tell(cache, at(2), Wanted{image(2, {2}), {8}});
  EXPECT_EQ(said<CancelPull>(effects), (std::vector<CancelPull>{{slow[0].pull, {{1}}}}));
  EXPECT_EQ(said<PullLayers>(effects).size(), 1u);
}

TEST(Cache, APullGoesOnAsLongAsAnybodyWaitsForOneOfItsLayers) {
  CacheConfig config;
  config.pulls_at_once = 1;
  Cache cache(config);
  const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}));
  tell(cache, at(0), Wanted{image(1, {1, 2}), {8}});
  tell(cache, at(0), Wanted{image(2, {2}), {9}});
  EXPECT_TRUE(tell(cache, at(1), LetGo{{7}}).empty());
  EXPECT_TRUE(tell(cache, at(1), LetGo{{8}}).empty()) << "image 2 has a layer of it";
  tell(cache, at(1), Wanted{image(4, {4}), {10}});
  const auto last = tell(cache, at(2), LetGo{{9}});
  EXPECT_EQ(said<CancelPull>(last), (std::vector<CancelPull>{{pull[0].pull, {{1}, {2}}}}));
  EXPECT_EQ(said<ImageChanged>(last).size(), 2u);
  EXPECT_EQ(said<PullLayers>(last).at(0).image, ImageId{4});
  EXPECT_EQ(cache.state().pulls.size(), 1u);
  EXPECT_EQ(cache.state().layers.size(), 1u);
  EXPECT_EQ(cache.state().images.size(), 1u);
  EXPECT_EQ(cache.state().bytes, 25);
}

TEST(Cache, AWarmOrderWaitsAlsoForWhatASandboxPulls) {
  Cache cache(CacheConfig{});
  const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  EXPECT_TRUE(tell(cache, at(0), Wanted{image(1, {1}), {}}).empty());
  EXPECT_TRUE(tell(cache, at(0), Wanted{image(1, {1}), {}}).empty()) << "said again";
  EXPECT_TRUE(tell(cache, at(1), LetGo{{7}}).empty());
  const auto effects = tell(cache, at(2), done(pull[0]));
  EXPECT_EQ(said<ImageChanged>(effects), (std::vector<ImageChanged>{{{1}, true}}));
  EXPECT_EQ(cache.state().layers.at({1}).uses, 0u);
}

TEST(Cache, APullInLineIsForgottenAndWhatAFailedOneBroughtIsRemoved) {
  CacheConfig config;
  config.pulls_at_once = 1;
  Cache cache(config);
  const auto first = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  tell(cache, at(0), Wanted{image(2, {2}), {8}});
  EXPECT_TRUE(said<CancelPull>(tell(cache, at(1), LetGo{{8}})).empty()) << "it was in line";
  tell(cache, at(2), done(first[0], false));
  EXPECT_TRUE(said<CancelPull>(tell(cache, at(2), LetGo{{7}})).empty()) << "it paused";
  const auto due = tell(cache, at(9), Woken{});
  EXPECT_TRUE(said<PullLayers>(due).empty());
  EXPECT_EQ(said<CancelPull>(due), (std::vector<CancelPull>{{first[0].pull, {{1}}}}));
  EXPECT_TRUE(cache.state().pulls.empty() && cache.state().line.empty());
  EXPECT_EQ(cache.state().pulling, 0u);
}

TEST(Cache, WhoIsRefusedWaitsForNothingElseEither) {
  CacheConfig config;
  config.pulls_at_once = 2;
  Cache cache(config);
  const auto first = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}));
  const auto rest = said<PullLayers>(tell(cache, at(0), Wanted{image(2, {1, 2}), {8}}));
  EXPECT_EQ(said<ImageUnavailable>(tell(cache, at(1), bad(first[0]))).size(), 2u);
  EXPECT_EQ(cache.state().pulling, 1u) << "the rest of image 2, which nobody needs";
  tell(cache, at(2), Wanted{image(3, {3}), {9}});
  const auto effects = tell(cache, at(2), Wanted{image(4, {4}), {10}});
  EXPECT_EQ(said<CancelPull>(effects), (std::vector<CancelPull>{{rest[0].pull, {{2}}}}));
  EXPECT_EQ(cache.state().pulling, 2u);
}

TEST(Cache, KeepsAWarmImageWithoutAnybodyThatHoldsIt) {
  Cache cache(CacheConfig{});
  const auto pull = said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {}}));
  tell(cache, at(1), done(pull[0]));
  EXPECT_TRUE(tell(cache, at(2), Wanted{image(1, {1}), {}}).empty());
  EXPECT_TRUE(said<ImageReady>(tell(cache, at(3), Wanted{image(1, {1}), {5}}))[0].hit);
}

TEST(Cache, PullsAgainWhatWasLostForThoseWhoHoldItAndForgetsTheRest) {
  Cache cache(CacheConfig{});
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}))[0]));
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(2, {3}), {8}}))[0]));
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(3, {4}), {9}}))[0]));
  tell(cache, at(1), LetGo{{8}});
  EXPECT_TRUE(cache.is_ready({7}));
  const auto lost = tell(cache, at(2), LayersLost{{{2}, {3}, {3}, {99}}});
  const std::vector<ImageChanged> gone{{{1}, false}, {{2}, false}};
  EXPECT_EQ(said<ImageChanged>(lost), gone);
  const auto pulls = said<PullLayers>(lost);
  ASSERT_EQ(pulls.size(), 1u) << "nobody holds image 2";
  EXPECT_EQ(pulls[0].layers, (std::vector<LayerId>{{2}})) << "layer 1 is here";
  EXPECT_TRUE(said<ImageReady>(lost).empty());
  EXPECT_FALSE(cache.is_ready({7}));
  EXPECT_TRUE(cache.is_ready({9})) << "it lost nothing";
  EXPECT_EQ(cache.state().bytes, 75);
  const auto back = tell(cache, at(3), done(pulls[0]));
  EXPECT_EQ(said<ImageReady>(back), (std::vector<ImageReady>{{{1}, {7}, false}}));
  EXPECT_TRUE(cache.is_ready({7}));
  tell(cache, at(4), LetGo{{7}});
  EXPECT_TRUE(said<ImageReady>(tell(cache, at(5), Wanted{image(1, {1, 2}), {10}}))[0].hit);
  EXPECT_EQ(said<PullLayers>(tell(cache, at(6), Wanted{image(2, {3}), {11}})).size(), 1u);
}

// What it did not lose is held once, however often the rest is lost.
TEST(Cache, WhatWasPlannedAnewGivesWayOnceItIsLetGo) {
  CacheConfig config;
  config.capacity_bytes = 50;
  Cache cache(config);
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1, 2}), {7}}))[0]));
  tell(cache, at(1), done(said<PullLayers>(tell(cache, at(1), LayersLost{{{1}}})).at(0)));
  EXPECT_TRUE(cache.is_ready({7}));
  tell(cache, at(2), LetGo{{7}});
  EXPECT_EQ(said<PullLayers>(tell(cache, at(3), Wanted{image(2, {3, 4}), {8}})).size(), 1u);
}

TEST(Cache, PlansAnewWhatWasBeingPulledOntoALayerThatIsLost) {
  Cache cache(CacheConfig{});
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}))[0]));
  const auto rest = said<PullLayers>(tell(cache, at(1), Wanted{image(2, {1, 2}), {8}}));
  ASSERT_EQ(rest.at(0).layers, (std::vector<LayerId>{{2}}));
  const auto again = said<PullLayers>(tell(cache, at(2), LayersLost{{{1}}}));
  ASSERT_EQ(again.size(), 1u) << "layer 2 is on its way";
  EXPECT_EQ(again[0].layers, (std::vector<LayerId>{{1}}));
  EXPECT_TRUE(said<ImageReady>(tell(cache, at(3), done(rest[0]))).empty());
  EXPECT_EQ(said<ImageReady>(tell(cache, at(4), done(again[0]))).size(), 2u);
}

TEST(Cache, WhatWasLostAndCannotBePulledAgainIsRefusedOnce) {
  CacheConfig config;
  config.attempts = 1;
  Cache cache(config);
  tell(cache, at(0), done(said<PullLayers>(tell(cache, at(0), Wanted{image(1, {1}), {7}}))[0]));
  const auto pull = said<PullLayers>(tell(cache, at(1), LayersLost{{{1}}}));
  const auto refused = said<ImageUnavailable>(tell(cache, at(2), done(pull.at(0), false)));
  EXPECT_EQ(refused, (std::vector<ImageUnavailable>{{{1}, {7}, Unavailable::pull_failed, 1, 1}}));
  EXPECT_TRUE(tell(cache, at(3), LetGo{{7}}).empty());
  EXPECT_EQ(cache.state().bytes, 0);
}

// Whatever comes in whatever order: bytes stay within the capacity and equal what the layers say,
// nobody is answered twice but after a loss, nobody is in line while what nobody waits for is pulled, and once all pulls have ended
// everybody who still holds was answered.
RC_GTEST_PROP(Cache, AnswersEverybodyOnceWithinItsCapacity, ()) {
  CacheConfig config;
  config.capacity_bytes = *rc::gen::inRange(25, 150);
  config.pulls_at_once = *rc::gen::inRange(1u, 3u);
  config.attempts = 2;
  Cache cache(config);
  std::map<SandboxId, int> answers;  // of those that want and have not let go
  std::map<SandboxId, std::uint64_t> image_of;  // its layers are its bits
  std::set<std::uint64_t> warm;                 // wished, and not answered yet
  std::map<PullId, std::int64_t> running;
  std::uint64_t next_sandbox = 1;
  std::int64_t second = 0;
  const auto hear = [&](const std::vector<CacheEffect>& effects) {
    for (const CacheEffect& effect : effects) {
      if (const auto* pull = std::get_if<PullLayers>(&effect)) running[pull->pull] = pull->bytes;
      if (const auto* gone = std::get_if<CancelPull>(&effect)) {
        running.erase(gone->pull);  // or it paused after a failure
      }
    }
    for (const auto& ready : said<ImageReady>(effects)) {
      if (ready.sandbox) RC_ASSERT(++answers.at(ready.sandbox) == 1);
      if (!ready.sandbox) RC_ASSERT(warm.erase(ready.image.value) == 1u);
    }
    for (const auto& missing : said<ImageUnavailable>(effects)) {
      if (missing.sandbox) RC_ASSERT(++answers.at(missing.sandbox) == 1);
      if (!missing.sandbox) RC_ASSERT(warm.erase(missing.image.value) == 1u);
    }
    std::int64_t bytes = 0;
    for (const auto& [id, layer] : cache.state().layers) bytes += layer.unpacked_bytes;
    RC_ASSERT(bytes == cache.state().bytes);
    RC_ASSERT(bytes <= config.capacity_bytes || cache.state().eviction.idle_bytes() == 0);
    RC_ASSERT(running.size() <= config.pulls_at_once);
    RC_ASSERT(running.size() == cache.state().pulling);
    std::uint64_t waited_for = 0;
    for (const std::uint64_t one : warm) waited_for |= one;
    for (const auto& [sandbox, count] : answers) {
      if (count == 0) waited_for |= image_of.at(sandbox);
    }
    for (const auto& [number, pull] : cache.state().pulls) {
      // One in line that nobody waits for goes when its turn comes.
      if (cache.state().line.empty() || !pull.running) continue;
      RC_ASSERT(std::any_of(pull.layers.begin(), pull.layers.end(), [&](LayerId layer) {
        return (waited_for >> (layer.value - 1) & 1) != 0;
      }));
    }
  };
  const auto finish = [&](PullId pull, bool good) {
    running.erase(pull);
    PullFinished finished{pull, good};
    finished.full = !good && second % 3 == 0;
    const auto known = cache.state().pulls.find(pull);
    if (good && known != cache.state().pulls.end() && second % 2 == 0) {
      for (const LayerId layer : known->second.layers) {
        finished.took.push_back(static_cast<std::int64_t>(layer.value % 3) * 20);
      }
    }
    hear(tell(cache, at(second), finished));
  };
  for (const int draw : *rc::gen::container<std::vector<int>>(
           rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 10'000)))) {
    ++second;
    const int what = draw % 10;
    const int which = draw / 10;
    if (what < 4) {
      std::vector<std::uint64_t> layers;
      for (std::uint64_t layer = 1; layer <= 5; ++layer) {
        if ((which % 31 + 1) >> (layer - 1) & 1) layers.push_back(layer);
      }
      const auto bits = static_cast<std::uint64_t>(which % 31 + 1);
      const SandboxId sandbox{which % 9 == 0 ? 0 : next_sandbox++};
      if (sandbox) {
        answers[sandbox] = 0;
        image_of[sandbox] = bits;
      } else {
        const auto known = cache.state().images.find({bits});
        const bool whole = known != cache.state().images.end() && known->second.missing == 0;
        if (!whole) warm.insert(bits);
      }
      const std::vector<NodeId> peers(static_cast<std::size_t>(which % 3), NodeId{9});
      hear(tell(cache, at(second), Wanted{image(bits, layers), sandbox, peers}));
    } else if (what < 7 && !running.empty()) {
      auto pull = running.begin();
      std::advance(pull, which % static_cast<int>(running.size()));
      finish(pull->first, what != 6);
    } else if (what == 7 && !answers.empty()) {
      auto gone = answers.begin();
      std::advance(gone, which % static_cast<int>(answers.size()));
      const SandboxId sandbox = gone->first;
      answers.erase(gone);
      hear(tell(cache, at(second), LetGo{sandbox}));
    } else if (what == 8) {
      finish({static_cast<std::uint64_t>(which)}, true);  // mostly of nobody
    } else if (which % 4 == 0) {
      LayersLost lost;
      for (std::uint64_t layer = 1; layer <= 5; ++layer) {
        if ((which / 4 % 31 + 1) >> (layer - 1) & 1) lost.layers.push_back({layer});
      }
      for (const LayerId id : lost.layers) {
        const auto layer = cache.state().layers.find(id);
        if (layer == cache.state().layers.end() || layer->second.phase != LayerPhase::present) {
          continue;
        }
        for (auto& [sandbox, count] : answers) {
          const auto held = cache.state().holds.find(sandbox);
          if (held == cache.state().holds.end()) continue;
          if (layer->second.images.contains(held->second)) count = 0;
        }
      }
      hear(tell(cache, at(second), lost));
    } else {
      hear(tell(cache, at(second), Woken{}));
    }
  }
  for (int turn = 0; turn < 1000 && !cache.state().pulls.empty(); ++turn) {
    second += 10;
    hear(tell(cache, at(second), Woken{}));
    if (!running.empty()) finish(running.begin()->first, true);
  }
  for (const auto& [sandbox, count] : answers) RC_ASSERT(count == 1);
  RC_ASSERT(warm.empty());
}

}  // namespace
}  // namespace chalk::images
