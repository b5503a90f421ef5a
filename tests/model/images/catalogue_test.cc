#include "model/images/catalogue.h"

#include <gtest/gtest.h>

#include "tests/support/said.h"

namespace chalk::images {
namespace {

using test::said;
using test::tell;

TEST(Catalogue, WarmsAnImageOnTheNodesThereAreAndOnThoseThatJoinLater) {
  Catalogue catalogue(CatalogueConfig{});
  const Time now{};
  tell(catalogue, now, ImageAdded{{{1}, {{{5}, 10, 25}}}});
  tell(catalogue, now, NodeSeen{{1}});
  EXPECT_EQ(said<WarmNode>(tell(catalogue, now, WarmAsked{{1}, true})),
            (std::vector<WarmNode>{{{1}, {1}}}));
  EXPECT_EQ(said<WarmNode>(tell(catalogue, now, NodeSeen{{2}})),
            (std::vector<WarmNode>{{{2}, {1}}}));
  tell(catalogue, now, WarmAsked{{1}, false});
  EXPECT_TRUE(tell(catalogue, now, NodeSeen{{3}}).empty());
}

TEST(Catalogue, SaysOfANodeWhatItLastReportedAndForgetsItWhenItGoes) {
  Catalogue catalogue(CatalogueConfig{});
  const Time now{};
  tell(catalogue, now, ImageAdded{{{1}, {}}});
  tell(catalogue, now, NodeSeen{{1}});
  tell(catalogue, now, ImageCached{{1}, {1}, true});
  EXPECT_TRUE(catalogue.state().images[0].nodes.contains({1}));
  tell(catalogue, now, ImageCached{{1}, {1}, false});
  EXPECT_FALSE(catalogue.state().images[0].nodes.contains({1}));
  tell(catalogue, now, ImageCached{{1}, {1}, true});
  tell(catalogue, now, NodeGone{{1}});
  EXPECT_FALSE(catalogue.state().images[0].nodes.contains({1}));
}

TEST(Catalogue, KnowsOnlyImagesThatWereAddedWithinItsLimits) {
  CatalogueConfig config;
  config.images_max = 2;
  config.layers_per_image_max = 1;
  Catalogue catalogue(config);
  const Time now{};
  tell(catalogue, now, ImageAdded{{{1}, {{{5}, 1, 1}, {{6}, 1, 1}}}});
  tell(catalogue, now, ImageAdded{{{3}, {}}});
  EXPECT_EQ(catalogue.spec({1}), nullptr) << "too many layers";
  EXPECT_EQ(catalogue.spec({3}), nullptr) << "too many images";
  EXPECT_EQ(catalogue.spec({}), nullptr);
  tell(catalogue, now, ImageAdded{{{2}, {{{5}, 1, 1}}}});
  ASSERT_NE(catalogue.spec({2}), nullptr);
  EXPECT_TRUE(tell(catalogue, now, ImageCached{{1}, {9}, true}).empty())
      << "unknown node and image";
}

}  // namespace
}  // namespace chalk::images
