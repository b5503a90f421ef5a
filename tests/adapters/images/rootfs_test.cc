#include "adapters/images/rootfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "adapters/images/tree.h"
#include "tests/adapters/images/scratch.h"
#include "tests/adapters/images/served_image.h"
#include "tests/adapters/images/tree_listing.h"

namespace chalk::images {
namespace {

using namespace testing;
namespace fs = std::filesystem;

// A store with layers in it, without a registry's whole protocol.
class Layers {
 public:
  Layers()
      : server_([this](const Asked& asked) { return serve_image(published_, "app", asked); }),
        registry_(plain({server_.host()})) {
    reopen();
  }
  std::string add(const std::vector<Item>& items) {
    const Blob blob = make_layer(items, Compression::none);
    published_.blobs[blob.layer.digest] = blob.bytes;
    const auto pulled = store->pull_layer(registry_, reference_to(server_), blob.layer);
    if (!pulled) throw std::runtime_error(pulled.error().message);
    return blob.layer.diff_id;
  }
  // As after a restart of the process.
  void reopen() {
    rootfs.reset();
    store.reset();
    StoreOptions options;
    options.root = scratch_.path() + "/store";
    options.keep_free_bytes = 0;
    store = std::move(Store::open(options).value());
    rootfs = std::move(Rootfs::open(*store).value());
  }
  std::size_t mounts() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(store->root() + "/mounts"))
      count += entry.is_directory();
    return count;
  }

 private:
  Scratch scratch_;
  Published published_;
  Server server_;
  Registry registry_;

 public:
  std::unique_ptr<Store> store;
  std::unique_ptr<Rootfs> rootfs;
};

class RootfsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!can_mount_overlay()) GTEST_SKIP() << "needs root and overlayfs";
  }
};

TEST_F(RootfsTest, OneLayerIsItsDirectoryItself) {
  Layers layers;
  const std::string only = layers.add({file("a", "x")});
  const auto path = layers.rootfs->acquire("s1", std::vector{only});
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(*path, layers.store->layer_path(only));
  EXPECT_EQ(layers.store->remove(only).error().kind, Error::Kind::denied);
  ASSERT_TRUE(layers.rootfs->release("s1"));
  EXPECT_TRUE(layers.store->remove(only));
}

TEST_F(RootfsTest, SeveralLayersAreOneSharedReadOnlyMount) {
  Layers layers;
  const std::vector<std::string> image = {
      layers.add({directory("d"), file("d/gone", "1"), file("d/kept", "2"), file("a", "old")}),
      layers.add({directory("d"), file("d/.wh.gone", ""), file("a", "new")})};
  const auto first = layers.rootfs->acquire("s1", image);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(list_tree(*first), (Listing{{"", "directory 755 0:0"},
                                        {"d", "directory 755 0:0"},
                                        {"d/kept", "file 644 0:0 2"},
                                        {"a", "file 644 0:0 new"}}));
  EXPECT_LT(open((*first + "/x").c_str(), O_WRONLY | O_CREAT, 0600), 0);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(layers.rootfs->acquire("s2", image).value(), *first);
  EXPECT_EQ(layers.rootfs->acquire("s2", image).value(), *first) << "asked again";
  EXPECT_EQ(layers.mounts(), 1u);
  EXPECT_EQ(layers.rootfs->acquire("s2", std::vector{image[0]}).error().kind, Error::Kind::invalid);
  ASSERT_TRUE(layers.rootfs->release("s1"));
  ASSERT_TRUE(layers.rootfs->release("s1")) << "asked again";
  EXPECT_TRUE(fs::exists(*first + "/a")) << "s2 still has it";
  EXPECT_FALSE(layers.store->remove(image[1]));
  ASSERT_TRUE(layers.rootfs->release("s2"));
  EXPECT_EQ(layers.mounts(), 0u);
  EXPECT_TRUE(layers.store->remove(image[1]));
}

TEST_F(RootfsTest, NobodyElseOnTheHostReachesSetuidProgramsOfImages) {
  Layers layers;
  const std::string only = layers.add({file("su", "x", 04755)});
  ASSERT_TRUE(layers.rootfs->acquire("s1", std::vector{only}));
  for (const char* folder : {"/layers", "/tmp", "/mounts"})
    EXPECT_EQ(fs::status(layers.store->root() + folder).permissions(), fs::perms::owner_all)
        << folder;
}

TEST_F(RootfsTest, MountsOutliveARestart) {
  Layers layers;
  const std::vector<std::string> kept = {layers.add({file("a", "1")}),
                                         layers.add({file("b", "2")})};
  const std::vector<std::string> unheld = {kept[0], layers.add({file("c", "3")})};
  const auto path = layers.rootfs->acquire("s1", kept);
  ASSERT_TRUE(path) << path.error().message;
  ASSERT_TRUE(layers.rootfs->acquire("s2", unheld));
  const File open_file(open((*path + "/a").c_str(), O_RDONLY));
  layers.reopen();
  EXPECT_EQ(layers.mounts(), 2u);
  EXPECT_FALSE(layers.store->remove(unheld[1])) << "still mounted";
  EXPECT_EQ(layers.rootfs->acquire("s1", kept).value(), *path);
  ASSERT_TRUE(layers.rootfs->unmount_unheld());
  EXPECT_EQ(layers.mounts(), 1u);
  EXPECT_TRUE(fs::exists(*path + "/b"));
  EXPECT_TRUE(layers.store->remove(unheld[1]));
}

TEST_F(RootfsTest, AMountWithOpenFilesStaysUntilTheyAreClosed) {
  Layers layers;
  const std::vector<std::string> image = {layers.add({file("a", "1")}),
                                          layers.add({file("b", "2")})};
  const auto path = layers.rootfs->acquire("s1", image);
  ASSERT_TRUE(path);
  File user(open((*path + "/a").c_str(), O_RDONLY));
  ASSERT_TRUE(user);
  const auto released = layers.rootfs->release("s1");
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().kind, Error::Kind::unavailable);
  EXPECT_FALSE(layers.store->remove(image[0]));
  user = File();
  EXPECT_TRUE(layers.rootfs->unmount_unheld());
  EXPECT_TRUE(layers.store->remove(image[0]));
}

TEST_F(RootfsTest, AMountOfUnknownLayersIsTakenDownAtStart) {
  Layers layers;
  const std::vector<std::string> image = {layers.add({file("a", "1")}),
                                          layers.add({file("b", "2")})};
  const auto path = layers.rootfs->acquire("s1", image);
  ASSERT_TRUE(path);
  fs::remove(*path + ".layers");
  layers.reopen();
  EXPECT_EQ(layers.mounts(), 0u);
  EXPECT_FALSE(fs::exists(*path));
}

TEST_F(RootfsTest, AsManyLayersAsAnImageMayHaveCanBeMounted) {
  Layers layers;
  std::vector<std::string> image;
  for (std::size_t i = 0; i < kMaxLayers; ++i)
    image.push_back(layers.add({file("f" + std::to_string(i), std::to_string(i))}));
  const auto path = layers.rootfs->acquire("s1", image);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(list_tree(*path).size(), kMaxLayers + 1);
  image.push_back(image[0]);
  EXPECT_EQ(layers.rootfs->acquire("s2", image).error().kind, Error::Kind::invalid);
  EXPECT_TRUE(layers.rootfs->release("s1"));
}

TEST_F(RootfsTest, WhatIsNotInTheStoreCannotBeMounted) {
  Layers layers;
  const std::string unknown = "sha256:" + std::string(64, 'a');
  EXPECT_EQ(layers.rootfs->acquire("s1", std::vector{unknown}).error().kind,
            Error::Kind::not_found);
  EXPECT_FALSE(layers.rootfs->acquire("s1", std::vector<std::string>{"../../etc"}));
  EXPECT_FALSE(layers.rootfs->acquire("s1", std::vector<std::string>{}));
}

TEST_F(RootfsTest, ALayerWithWhiteoutsAloneShowsNone) {
  Layers layers;
  const std::string only = layers.add({file(".wh.x", ""), file("a", "1")});
  const auto path = layers.rootfs->acquire("s1", std::vector{only});
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(list_tree(*path), (Listing{{"", "directory 755 0:0"}, {"a", "file 644 0:0 1"}}));
  EXPECT_TRUE(layers.rootfs->release("s1"));
}

// ---- random layers: the mount shows what a naive merge computes
// -----------------------------------

struct Step {
  std::string path;
  int what;  // 0 and 1: file, 2: directory, 3: symlink, 4: whiteout, 5: opaque directory
};

Listing::iterator erase_below(Listing& tree, const std::string& path) {
  const auto first = tree.lower_bound(path + "/");
  return tree.erase(first, tree.lower_bound(path + "0"));  // '0' follows '/'
}

// A layer's own tree first (each path once, parents are directories), then over what is below.
using Made = std::map<std::string, int>;

Made to_layer(const std::vector<Step>& steps) {
  Made layer;
  for (const Step& step : steps) {
    bool fits = !layer.contains(step.path);
    for (auto slash = step.path.find('/'); slash != std::string::npos && fits;
         slash = step.path.find('/', slash + 1)) {
      const auto parent = layer.find(step.path.substr(0, slash));
      if (parent == layer.end())
        layer[step.path.substr(0, slash)] = 2;
      else if (parent->second != 2 && parent->second != 5)
        fits = false;
    }
    if (fits) layer[step.path] = step.what;
  }
  return layer;
}

std::vector<Item> to_items(const Made& layer, const std::string& content) {
  std::vector<Item> items;
  for (const auto& [path, what] : layer) {
    const auto slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
    const std::string name = path.substr(folder.size());
    if (what <= 1) items.push_back(file(path, content));
    if (what == 2 || what == 5) items.push_back(directory(path, what == 5 ? 0700 : 0755));
    if (what == 3) items.push_back(symlink(path, content));
    if (what == 4) items.push_back(file(folder + ".wh." + name, ""));
    if (what == 5) items.push_back(file(path + "/.wh..wh..opq", ""));
  }
  return items;
}

void merge(const Made& layer, const std::string& content, Listing& tree) {
  for (const auto& [path, what] : layer) {
    const auto below = tree.find(path);
    const bool was_directory = below != tree.end() && below->second.starts_with("directory");
    if (what != 2 || !was_directory) erase_below(tree, path);
    if (what <= 1) tree[path] = "file 644 0:0 " + content;
    if (what == 2) tree[path] = "directory 755 0:0";
    if (what == 3) tree[path] = "symlink " + content;
    if (what == 4) tree.erase(path);
    if (what == 5) tree[path] = "directory 700 0:0";
  }
}

TEST_F(RootfsTest, RandomLayersShowWhatANaiveMergeComputes) {
  Layers layers;
  int number = 0;
  const auto holds =
      rc::check([&](const std::vector<std::vector<std::pair<std::uint8_t, std::uint8_t>>>& plan) {
        std::vector<std::string> image;
        Listing expected{{"", "directory 755 0:0"}};
        for (const auto& steps : plan) {
          if (image.size() == 5) break;
          std::vector<Step> made;
          for (const auto& [place, what] : steps) {
            // Few names, so that layers meet: a, a/b, a/b/c, ... up to three deep.
            std::string path(1, static_cast<char>('a' + place % 3));
            for (int rest = place / 3, deep = 0; rest > 0 && deep < 2; rest /= 4, ++deep)
              if (rest % 4) path += std::string("/") + static_cast<char>('a' + rest % 4 - 1);
            made.push_back({path, what % 6});
          }
          const Made layer = to_layer(made);
          const std::string content = std::to_string(image.size());
          image.push_back(layers.add(to_items(layer, content)));
          merge(layer, content, expected);
        }
        if (image.empty()) image.push_back(layers.add({}));
        const std::string holder = std::to_string(++number);
        const auto path = layers.rootfs->acquire(holder, image);
        RC_ASSERT(path.has_value());
        const Listing found = list_tree(*path);
        RC_ASSERT(layers.rootfs->release(holder).has_value());
        Listing plain;
        for (auto [name, what] : found) {
          if (what.ends_with(" opaque")) what.resize(what.size() - 7);
          plain[name] = what;
        }
        RC_ASSERT(plain == expected);
      });
  EXPECT_TRUE(holds);
}

TEST_F(RootfsTest, AnOpaqueRootHidesEverythingBelow) {
  Layers layers;
  const std::vector<std::string> image = {layers.add({file("low", "1")}),
                                          layers.add({file(".wh..wh..opq", ""), file("mid", "2")}),
                                          layers.add({file("top", "3")})};
  const auto path = layers.rootfs->acquire("s1", image);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(
      list_tree(*path),
      (Listing{{"", "directory 755 0:0"}, {"mid", "file 644 0:0 2"}, {"top", "file 644 0:0 3"}}));
  EXPECT_TRUE(layers.rootfs->release("s1"));
}

TEST_F(RootfsTest, ALayerThatIsThereTwiceCountsOnceAtTheTop) {
  Layers layers;
  const std::string a = layers.add({file("x", "a"), directory("d"), file("d/.wh.y", "")});
  const std::string b = layers.add({file("x", "b"), file("d/y", "b"), file("d/z", "b")});
  const auto path = layers.rootfs->acquire("s1", std::vector{a, b, a});
  ASSERT_TRUE(path) << path.error().message;
  const Listing found = list_tree(*path);
  EXPECT_EQ(found.at("x"), "file 644 0:0 a");
  EXPECT_FALSE(found.contains("d/y"));
  EXPECT_TRUE(found.contains("d/z"));
  EXPECT_TRUE(layers.rootfs->release("s1"));
}

}  // namespace
}  // namespace chalk::images
