// The image cache and the catalogue at their bounds, and facts that come late, twice or about nobody.
#include <gtest/gtest.h>

#include "model/images/cache.h"
#include "model/images/catalogue.h"
#include "rig.h"

namespace chalk::images {
namespace {

std::vector<PullLayers> want(Cache& cache, Time now, const ImageSpec& spec, SandboxId sandbox) {
  return said<PullLayers>(tell(cache, now, Wanted{spec, sandbox}));
}
void bring(Cache& cache, Time now, const ImageSpec& spec, SandboxId sandbox) {
  for (const auto& pull : want(cache, now, spec, sandbox)) tell(cache, now, PullFinished{pull.pull});
}

TEST(Cache, ALayerListedTwiceIsPulledOnce) {
  Cache cache(CacheConfig{});
  const auto pulls = want(cache, at(0), image(1, {1, 2, 1}), {7});
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_EQ(pulls[0].layers, (std::vector<LayerId>{{1}, {2}}));
  EXPECT_EQ(pulls[0].bytes, 20);
  EXPECT_EQ(cache.state().bytes, 50);
  EXPECT_EQ(said<ImageReady>(tell(cache, at(1), PullFinished{pulls[0].pull})),
            (std::vector<ImageReady>{{{1}, {7}, false}}));
}

TEST(Cache, WarmsAnImageOnceAndHoldsItForNobody) {
  Cache cache(CacheConfig{});
  const auto pulls = want(cache, at(0), image(1, {1}), {});
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_TRUE(tell(cache, at(0), Wanted{image(1, {1}), {}}).empty()) << "it is on its way";
  const auto effects = tell(cache, at(1), PullFinished{pulls[0].pull});
  EXPECT_EQ(said<ImageChanged>(effects), (std::vector<ImageChanged>{{{1}, true}}));
  EXPECT_TRUE(tell(cache, at(1), Wanted{image(1, {1}), {}}).empty()) << "it is here";
  EXPECT_EQ(cache.state().layers.at({1}).uses, 0u);
  EXPECT_TRUE(cache.state().holds.empty());
  const auto shared = tell(cache, at(2), Wanted{image(2, {1}), {}});
  EXPECT_EQ(said<ImageChanged>(shared), (std::vector<ImageChanged>{{{2}, true}}))
      << "all its layers are another's";
  EXPECT_EQ(cache.state().layers.at({1}).uses, 0u);
}

TEST(Cache, ASandboxHoldsItsImageOnceUntilItLetsGo) {
  Cache cache(CacheConfig{});
  bring(cache, at(0), image(1, {1}), {7});
  EXPECT_TRUE(tell(cache, at(1), Wanted{image(1, {1}), {7}}).empty()) << "repeated";
  EXPECT_TRUE(tell(cache, at(1), LetGo{{9}}).empty());
  EXPECT_EQ(cache.state().layers.at({1}).uses, 1u);
  tell(cache, at(2), LetGo{{7}});
  tell(cache, at(2), LetGo{{7}});
  EXPECT_EQ(cache.state().layers.at({1}).uses, 0u);
  EXPECT_EQ(cache.state().images.at({1}).holders, 0u);
}

TEST(Cache, WhoLetsGoBeforeItsImageIsHereIsNotAnswered) {
  Cache cache(CacheConfig{});
  const auto pulls = want(cache, at(0), image(1, {1}), {7});
  tell(cache, at(0), Wanted{image(1, {1}), {8}});
  tell(cache, at(1), LetGo{{7}});
  EXPECT_EQ(said<ImageReady>(tell(cache, at(2), PullFinished{pulls.at(0).pull})),
            (std::vector<ImageReady>{{{1}, {8}, false}}));
  EXPECT_EQ(cache.state().layers.at({1}).uses, 1u);
}

TEST(Cache, IsFilledToItsLastByteAndEvictsNoMoreThanItMust) {
  CacheConfig config;
  config.capacity_bytes = 75;
  Cache cache(config);
  for (std::uint64_t n = 1; n <= 3; ++n) {
    bring(cache, at(0), image(n, {n}), {n});
    EXPECT_TRUE(cache.state().images.contains({n}));
  }
  const auto full = tell(cache, at(1), Wanted{image(4, {4}), {4}});
  EXPECT_EQ(said<ImageUnavailable>(full),
            (std::vector<ImageUnavailable>{{{4}, {4}, Unavailable::no_room, 25, 0, {}}}));
  EXPECT_TRUE(said<EvictLayers>(full).empty());
  EXPECT_EQ(cache.state().bytes, 75);
  tell(cache, at(2), LetGo{{2}});
  const auto two = tell(cache, at(3), Wanted{image(5, {5, 6}), {5}});
  EXPECT_EQ(said<ImageUnavailable>(two).size(), 1u) << "what is idle is not enough";
  EXPECT_TRUE(said<EvictLayers>(two).empty());
  const auto one = tell(cache, at(4), Wanted{image(4, {4}), {4}});
  EXPECT_EQ(said<EvictLayers>(one), (std::vector<EvictLayers>{{25, {{2}}}}));
  EXPECT_EQ(said<ImageChanged>(one), (std::vector<ImageChanged>{{{2}, false}}));
  EXPECT_EQ(said<PullLayers>(one).size(), 1u);
  EXPECT_EQ(cache.state().bytes, 75);
  EXPECT_FALSE(cache.state().images.contains({2}));
}

TEST(Cache, WhatWasRefusedHoldsNothing) {
  CacheConfig config;
  config.capacity_bytes = 25;
  Cache cache(config);
  bring(cache, at(0), image(1, {1}), {1});
  tell(cache, at(1), LetGo{{1}});
  const auto no = tell(cache, at(2), Wanted{image(2, {1, 2}), {2}});
  EXPECT_EQ(said<ImageUnavailable>(no).size(), 1u) << "its own layer is in the way";
  EXPECT_EQ(cache.state().layers.at({1}).uses, 0u);
  EXPECT_EQ(said<EvictLayers>(tell(cache, at(3), Wanted{image(3, {3}), {3}})),
            (std::vector<EvictLayers>{{25, {{1}}}}));
}

// Control takes a node that is getting an image for a source of it until it hears that it is not.
TEST(Cache, SaysThatAnImageDoesNotComeAlsoWhereNobodyWaits) {
  const std::vector<ImageChanged> gone{{{1}, false}};
  Cache warm(CacheConfig{});
  const auto pulls = want(warm, at(0), image(1, {1}), {});
  EXPECT_EQ(said<ImageChanged>(tell(warm, at(1), PullFinished{pulls.at(0).pull, false, "x", true})),
            gone);
  Cache left(CacheConfig{});  // by its sandbox, while another image needs the pull
  const auto shared = want(left, at(0), image(1, {1}), {7});
  want(left, at(0), image(2, {1}), {8});
  EXPECT_TRUE(tell(left, at(1), LetGo{{7}}).empty());
  const auto failed = tell(left, at(2), PullFinished{shared.at(0).pull, false, "x", true});
  EXPECT_EQ(said<ImageUnavailable>(failed).size(), 1u);
  EXPECT_EQ(said<ImageChanged>(failed), (std::vector<ImageChanged>{{{1}, false}, {{2}, false}}));
  CacheConfig small;
  small.capacity_bytes = 24;
  Cache full(small);
  EXPECT_EQ(said<ImageChanged>(tell(full, at(0), Wanted{image(1, {1}), {7}})), gone);
}

TEST(Cache, WhoIsAnsweredWaitsNoMoreAndAPullThatIsDoneIsForgotten) {
  Cache cache(CacheConfig{});
  bring(cache, at(0), image(1, {1}), {1});
  EXPECT_TRUE(cache.state().pulls.empty());
  tell(cache, at(1), Wanted{image(1, {1}), {2}});
  EXPECT_TRUE(cache.state().images.at({1}).waiting.empty());
}

TEST(Cache, APullIsTriedAgainAfterPausesThatDouble) {
  CacheConfig config;
  config.attempts = 4;
  config.retry = seconds(1);
  Cache cache(config);
  auto pulls = want(cache, at(0), image(1, {1}), {7});
  std::int64_t now = 0;
  for (const std::int64_t pause : {1, 2, 4}) {
    ASSERT_EQ(pulls.size(), 1u);
    const auto failed = tell(cache, at(now), PullFinished{pulls[0].pull, false, "x"});
    EXPECT_EQ(said<WakeAt>(failed), (std::vector<WakeAt>{{at(now + pause)}}));
    EXPECT_TRUE(tell(cache, at(now), PullFinished{pulls[0].pull, false, "x"}).empty())
        << "repeated";
    EXPECT_TRUE(said<PullLayers>(tell(cache, at(now), Resumed{})).empty()) << "it pauses";
    EXPECT_EQ(cache.state().pulling, 0u);
    EXPECT_TRUE(said<PullLayers>(
                    tell(cache, Time{at(now + pause).nanos - 1}, Woken{})).empty());
    now += pause;
    pulls = said<PullLayers>(tell(cache, at(now), Woken{}));
    EXPECT_EQ(cache.state().pulling, 1u);
  }
  ASSERT_EQ(pulls.size(), 1u);
  EXPECT_EQ(said<PullLayers>(tell(cache, at(now), Resumed{})), pulls) << "it is under way";
  EXPECT_EQ(said<ImageUnavailable>(tell(cache, at(now), PullFinished{pulls[0].pull, false, "x"})),
            (std::vector<ImageUnavailable>{{{1}, {7}, Unavailable::pull_failed, 4, 4, "x"}}));
  EXPECT_TRUE(cache.state().holds.empty());
  EXPECT_TRUE(cache.state().images.empty());
  EXPECT_TRUE(cache.state().layers.empty());
  EXPECT_EQ(cache.state().bytes, 0);
  EXPECT_TRUE(tell(cache, at(now), PullFinished{pulls[0].pull}).empty());
}

TEST(Cache, WhoeverCountsOnALayerOnItsWayIsCountedWithIt) {
  Cache cache(CacheConfig{});
  const auto first = want(cache, at(0), image(1, {1, 2}), {7});
  EXPECT_TRUE(want(cache, at(0), image(2, {1}), {8}).empty());
  EXPECT_EQ(cache.state().images.at({2}).missing, 1u);
  const auto arrived = tell(cache, at(1), PullFinished{first.at(0).pull});
  EXPECT_EQ(said<ImageReady>(arrived).size(), 2u);
  EXPECT_EQ(said<ImageChanged>(arrived).size(), 2u);
  EXPECT_EQ(cache.state().layers.at({1}).uses, 2u);
  EXPECT_EQ(cache.state().layers.at({2}).uses, 1u);
}

TEST(Catalogue, KnowsTheLastImageThatItMayAndTheFirstWordOfEach) {
  CatalogueConfig config;
  config.images_max = 2;
  config.layers_per_image_max = 1;
  Catalogue catalogue(config);
  tell(catalogue, at(0), ImageAdded{{{}, {}}});
  EXPECT_TRUE(catalogue.state().images.empty());
  tell(catalogue, at(0), ImageAdded{image(2, {5})});
  tell(catalogue, at(0), ImageAdded{image(2, {6})});
  EXPECT_EQ(catalogue.spec({1}), nullptr);
  ASSERT_NE(catalogue.spec({2}), nullptr);
  EXPECT_EQ(catalogue.spec({2})->layers.at(0).layer, LayerId{5});
  EXPECT_EQ(catalogue.spec({3}), nullptr);
  tell(catalogue, at(0), ImageAdded{image(1, {7})});
  EXPECT_EQ(catalogue.spec({1})->layers.at(0).layer, LayerId{7});
  EXPECT_EQ(catalogue.spec({2})->layers.at(0).layer, LayerId{5});
}

TEST(Catalogue, WarmsOnlyTheNodesThatHaveNotGotTheImage) {
  Catalogue catalogue(CatalogueConfig{});
  tell(catalogue, at(0), ImageAdded{image(1, {5})});
  tell(catalogue, at(0), ImageCached{{1}, {1}, true});  // before the node was seen
  tell(catalogue, at(0), NodeSeen{{2}});
  tell(catalogue, at(0), ImageCached{{2}, {1}, true});
  tell(catalogue, at(0), ImageCached{{2}, {1}, false});
  EXPECT_TRUE(tell(catalogue, at(0), WarmAsked{{2}, true}).empty()) << "no such image";
  EXPECT_EQ(said<WarmNode>(tell(catalogue, at(0), WarmAsked{{1}, true})),
            (std::vector<WarmNode>{{{2}, {1}}}));
  tell(catalogue, at(0), NodeGone{{1}});
  tell(catalogue, at(0), NodeGone{{1}});
  EXPECT_TRUE(catalogue.state().images[0].nodes.empty());
  EXPECT_TRUE(catalogue.state().images[0].everywhere);
  tell(catalogue, at(0), NodeGone{{2}});
  EXPECT_TRUE(tell(catalogue, at(0), WarmAsked{{1}, true}).empty()) << "no node is left";
}

}  // namespace
}  // namespace chalk::images
