// Pulls over a real store, from registries that a test makes slow or ignorant.
#include "adapters/agent/pulls.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "adapters/images/layer_id.h"
#include "tests/adapters/images/scratch.h"
#include "tests/adapters/images/served_image.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
using namespace images::testing;

const Blob kBase = make_layer({file("base", "1")});
const Blob kTop = make_layer({file("top", "2")});
const Blob kOther = make_layer({file("other", "3")});

LayerId id_of(const Blob& blob) { return images::layer_id(blob.layer.diff_id); }
bool is_good(const images::PullFinished& finished, std::uint64_t pull) {
  return finished.pull == images::PullId{pull} && finished.good;
}
images::PullLayers order(std::uint64_t pull, std::uint64_t image, std::vector<LayerId> layers) {
  images::PullLayers out;
  out.pull = {pull};
  out.image = {image};
  out.layers = std::move(layers);
  return out;
}

class PullsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: owners";
    images::StoreOptions where;
    where.root = scratch_.path() + "/store";
    where.keep_free_bytes = 0;
    auto store = images::Store::open(where);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }
  // One pull at a time.
  void open(const std::vector<std::string>& hosts) {
    registry_ = std::make_unique<images::Registry>(plain(hosts));
    const auto finished = [this](images::PullFinished one) {
      const std::lock_guard lock(mutex_);
      said_.push_back(std::move(one));
      came_.notify_all();
    };
    pulls_ = std::make_unique<Pulls>(*store_, *registry_, 1, finished, metrics_);
  }
  images::Image resolved(const Server& server, const std::string& name = "app:1") {
    const auto image = registry_->resolve(reference_to(server, name));
    EXPECT_TRUE(image) << image.error().message;
    return image ? *image : images::Image{};
  }
  images::PullFinished finished(std::size_t which = 0) {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, 30s, [&] { return said_.size() > which; })) return {};
    return said_[which];
  }
  static bool soon(const std::function<bool()>& holds) {
    const auto until = std::chrono::steady_clock::now() + 30s;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }

  Scratch scratch_;
  Metrics metrics_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<images::PullFinished> said_;
  std::unique_ptr<images::Store> store_;
  std::unique_ptr<images::Registry> registry_;
  std::unique_ptr<Pulls> pulls_;
};

// A registry of one image whose top layer stops in the middle for as long as it is told to.
struct Trickling {
  std::atomic<bool> slow = true;
  std::atomic<bool> asked = false;  // for the top layer
  Published image = publish({kBase, kTop});
  Server server{[this](const Asked& one) {
    Answer answer = serve_image(image, "app", one);
    if (one.path.ends_with(kTop.layer.digest)) {
      if (slow) answer.stall_after = 5;
      asked = true;
    }
    return answer;
  }};
};

TEST_F(PullsTest, APullThatIsCancelledGivesItsThreadBackAndLeavesNothing) {
  Trickling registry;
  open({registry.server.host()});
  pulls_->learn({1}, resolved(registry.server));
  const std::vector<LayerId> layers{id_of(kBase), id_of(kTop)};
  pulls_->pull(order(1, 1, layers));
  ASSERT_TRUE(soon([&] { return registry.asked && store_->has(kBase.layer.diff_id); }));
  registry.slow = false;
  pulls_->cancel({{1}, layers});
  pulls_->cancel({{1}, layers});  // twice does no harm
  pulls_->pull(order(2, 1, layers));
  EXPECT_TRUE(is_good(finished(), 2));
  EXPECT_TRUE(store_->has(kBase.layer.diff_id) && store_->has(kTop.layer.diff_id));
  pulls_->cancel({{2}, layers});  // it had come before that was known
  EXPECT_TRUE(soon([&] { return store_->list().empty(); }));
  EXPECT_EQ(said_.size(), 1u) << "of the first nothing is said";
}

TEST_F(PullsTest, WhatIsCancelledWhileItWaitsIsNotPulled) {
  Trickling registry;
  open({registry.server.host()});
  pulls_->learn({1}, resolved(registry.server));
  pulls_->pull(order(1, 1, {id_of(kTop)}));
  ASSERT_TRUE(soon([&] { return registry.asked.load(); }));
  pulls_->pull(order(2, 1, {id_of(kBase)}));
  pulls_->cancel({{2}, {id_of(kBase)}});
  pulls_->cancel({{1}, {id_of(kTop)}});
  pulls_->pull(order(3, 1, {id_of(kBase)}));
  EXPECT_TRUE(is_good(finished(), 3));
  EXPECT_TRUE(store_->has(kBase.layer.diff_id));
  EXPECT_EQ(said_.size(), 1u);
}

TEST_F(PullsTest, TheEndOfAPullSaysWhatEachOfItsLayersTakes) {
  const Blob large = make_layer({file("zeros", std::string(1 << 20, '\0'))});
  const Published image = publish({large, kTop});
  Server server([&](const Asked& asked) { return serve_image(image, "app", asked); });
  open({server.host()});
  pulls_->learn({1}, resolved(server));
  pulls_->pull(order(1, 1, {id_of(kTop), id_of(large)}));
  const auto said = finished();
  EXPECT_TRUE(is_good(said, 1));
  ASSERT_EQ(said.took.size(), 2u);
  EXPECT_EQ(said.took[0], 4096);
  EXPECT_GE(said.took[1], 1 << 20) << "and its blob has " << large.bytes.size() << " bytes";
}

// An image's configuration may list any diff id: that its layers have it is seen only later.
TEST_F(PullsTest, AnImageThatImitatesADiffIdKeepsNoLayerFromGoing) {
  Trickling registry;
  registry.slow = false;
  open({registry.server.host()});
  images::Image image = resolved(registry.server);
  pulls_->learn({1}, image);
  pulls_->pull(order(1, 1, {id_of(kBase)}));
  EXPECT_TRUE(is_good(finished(), 1));
  for (images::Layer& layer : image.layers) {
    layer.diff_id = layer.diff_id.substr(0, 7 + 16) + std::string(48, '0');
    EXPECT_NE(images::layer_id(layer.diff_id), id_of(kBase));
  }
  pulls_->learn({2}, image);
  pulls_->evict({0, {id_of(kBase)}});
  EXPECT_TRUE(soon([&] { return store_->list().empty(); }));
}

// Two registries with an image each, which have their first layer in common.
struct Two {
  Published first = publish({kBase, kTop});
  Published second = publish({kBase, kOther});
  Server one{[this](const Asked& asked) { return serve_image(first, "app", asked); }};
  Server other{[this](const Asked& asked) { return serve_image(second, "app", asked); }};
};

TEST_F(PullsTest, AnImageIsAskedOfItsOwnRegistryWhoeverNamedItsLayersLast) {
  Two registries;
  open({registries.one.host(), registries.other.host()});
  pulls_->learn({1}, resolved(registries.one));
  pulls_->learn({2}, resolved(registries.other));
  pulls_->pull(order(1, 1, {id_of(kBase), id_of(kTop)}));  // it stood in line meanwhile
  EXPECT_TRUE(is_good(finished(), 1));
  for (const Asked& asked : registries.other.asked()) {
    EXPECT_EQ(asked.path.find("/blobs/" + kBase.layer.digest), std::string::npos);
  }
}

TEST_F(PullsTest, WhatIsWrongIsSaidForEverOnlyOfTheImageItself) {
  Two registries;
  open({registries.one.host(), registries.other.host()});
  const images::Image first = resolved(registries.one);
  images::Image elsewhere = first;  // as if it had been there when it was named
  elsewhere.reference = reference_to(registries.other);
  pulls_->learn({1}, elsewhere);
  pulls_->pull(order(1, 1, {id_of(kTop)}));
  EXPECT_TRUE(!finished(0).good && finished(0).permanent);
  pulls_->pull(order(2, 7, {id_of(kTop)}));  // of an image that no order has named
  EXPECT_TRUE(!finished(1).good && !finished(1).permanent);
  pulls_->learn({1}, first);
  pulls_->pull(order(3, 1, {id_of(kTop)}));
  EXPECT_TRUE(finished(2).good);
  pulls_->learn({1}, elsewhere);
  pulls_->pull(order(4, 1, {id_of(kBase), id_of(kOther)}));
  EXPECT_TRUE(!finished(3).good && !finished(3).permanent) << "a layer that nobody named";
  registries.second.blobs.clear();
  pulls_->pull(order(5, 1, {id_of(kBase)}));
  EXPECT_TRUE(!finished(4).good && !finished(4).permanent) << "the other registry may have it";
}

}  // namespace
}  // namespace chalk::agent
