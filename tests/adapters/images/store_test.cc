#include "adapters/images/store.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "adapters/images/digest.h"
#include "tests/adapters/images/docker_registry.h"
#include "tests/adapters/images/served_image.h"
#include "tests/adapters/images/tree_listing.h"

namespace {
std::atomic<int> syncs_that_fail = 0;
std::atomic<bool> syncs_wait = false;
std::atomic<int> syncs_waiting = 0;
std::function<void()> after_install;  // right after a layer has got its place
}  // namespace
// Of this whole program.
extern "C" int syncfs(int descriptor) noexcept {
  if (syncs_that_fail == 0) {
    ++syncs_waiting;
    while (syncs_wait) usleep(1'000);
    --syncs_waiting;
    return static_cast<int>(syscall(SYS_syncfs, descriptor));
  }
  --syncs_that_fail;
  errno = EIO;
  return -1;
}
extern "C" int renameat(int from_folder, const char* from, int to_folder,
                        const char* to) noexcept {
  const auto done = static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, 0));
  const bool install = std::strlen(to) == 64;  // the digits of a digest
  if (done == 0 && install && after_install) after_install();
  return done;
}

namespace chalk::images {
namespace {

using namespace testing;
namespace fs = std::filesystem;

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: owners and whiteouts";
  }
  std::unique_ptr<Store> open_store() {
    StoreOptions options;
    options.root = scratch_.path() + "/store";
    options.keep_free_bytes = 0;
    auto store = Store::open(options);
    EXPECT_TRUE(store) << store.error().message;
    return store ? std::move(*store) : nullptr;
  }
  std::size_t count_in(const std::string& folder) const {
    return static_cast<std::size_t>(std::distance(
        fs::directory_iterator(scratch_.path() + "/store/" + folder), fs::directory_iterator()));
  }
  bool is_cleaned() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (count_in("tmp") != 0) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
  }
  Scratch scratch_;
};

const Blob kBase = make_layer({directory("etc"), file("etc/name", "base"), file("x", "1")});
const Blob kTop = make_layer({file("etc/name", "top"), file(".wh.x", "")}, Compression::zstd);
const Published kImage = publish({kBase, kTop});

TEST_F(StoreTest, PullsAnImageFromARealRegistryAndKeepsItOverARestart) {
  std::string why;
  const auto docker = DockerRegistry::start(scratch_, why);
  if (!docker) GTEST_SKIP() << why;
  docker->push("library/app", "1", kImage);
  Registries configuration = plain({});
  configuration.registries["docker.io"] = {{{docker->host(), true}}, false, false};
  const Registry registry(configuration);
  const auto image = registry.resolve(*parse_reference("app:1"));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->manifest_digest, sha256_digest(kImage.manifest));
  auto store = open_store();
  EXPECT_FALSE(store->has(*image));
  Progress last;
  const auto pulled = store->pull(registry, *image, [&](const Progress& now) { last = now; });
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(last.layers_done, 2u);
  EXPECT_EQ(last.bytes_received, transfer_bytes(*image));
  EXPECT_TRUE(store->has(*image));
  EXPECT_EQ(list_tree(store->layer_path(kBase.layer.diff_id))["etc/name"], "file 644 0:0 base");
  EXPECT_EQ(*store->bytes(kBase.layer.diff_id), 3 * 4096);
  const auto top = store->find(kTop.layer.diff_id);
  ASSERT_TRUE(top);
  EXPECT_EQ(top->whiteouts, 1);
  EXPECT_EQ(count_in("tmp"), 0u);
  store.reset();
  store = open_store();
  EXPECT_EQ(store->list().size(), 2u);
  EXPECT_EQ(*store->bytes(kBase.layer.diff_id), 3 * 4096);
}

TEST_F(StoreTest, ConcurrentPullsOfOneLayerDownloadItOnce) {
  std::atomic<int> downloads = 0;
  std::atomic<bool> go = false;
  Server server([&](const Asked& asked) {
    ++downloads;
    while (!go) std::this_thread::yield();
    return serve_image(kImage, "app", asked);
  });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  std::vector<std::thread> threads;
  std::atomic<int> worked = 0;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      if (store->pull_layer(registry, reference_to(server), kBase.layer)) ++worked;
    });
  while (downloads == 0) std::this_thread::yield();
  go = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(worked, 8);
  EXPECT_EQ(downloads, 1);
}

TEST_F(StoreTest, WhoJoinedAPullGoesOnWhenItsStarterIsStopped) {
  std::stop_source stop;
  std::atomic<int> downloads = 0;
  Server server([&](const Asked& asked) {
    Answer answer = serve_image(kImage, "app", asked);
    if (++downloads == 1) answer.stall_after = 10;
    return answer;
  });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  std::thread first([&] {
    const auto pulled =
        store->pull_layer(registry, reference_to(server), kBase.layer, {}, stop.get_token());
    EXPECT_FALSE(pulled);
  });
  while (downloads == 0) std::this_thread::yield();
  std::thread second([&] {
    const auto pulled = store->pull_layer(registry, reference_to(server), kBase.layer);
    EXPECT_TRUE(pulled) << pulled.error().message;
  });
  stop.request_stop();
  first.join();
  second.join();
  EXPECT_TRUE(store->has(kBase.layer.diff_id));
}

TEST_F(StoreTest, AFailedPullLeavesNothing) {
  Server server([&](const Asked& asked) {
    Answer answer = serve_image(kImage, "app", asked);
    if (asked.path.find(kTop.layer.digest) != std::string::npos) answer.body[3] ^= 1;
    return answer;
  });
  Registries configuration = plain({server.host()});
  configuration.attempts = 1;
  const Registry registry(configuration);
  const auto image = registry.resolve(reference_to(server));
  ASSERT_TRUE(image);
  const auto store = open_store();
  const auto pulled = store->pull(registry, *image);
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().kind, Error::Kind::corrupt) << pulled.error().message;
  EXPECT_FALSE(store->has(kTop.layer.diff_id));
  EXPECT_EQ(count_in("tmp"), 0u);
  EXPECT_EQ(count_in("layers"), store->list().size());
}

TEST_F(StoreTest, ALayerWhoseDiffIdLiesIsNotStored) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  Layer layer = kBase.layer;
  layer.diff_id = sha256_digest("other");
  EXPECT_EQ(store->pull_layer(registry, reference_to(server), layer).error().kind,
            Error::Kind::corrupt);
  layer.diff_id = "sha256:../../etc";
  EXPECT_EQ(store->pull_layer(registry, reference_to(server), layer).error().kind,
            Error::Kind::invalid);
  EXPECT_EQ(count_in("layers"), 0u);
  EXPECT_EQ(count_in("tmp"), 0u);
}

TEST_F(StoreTest, WhatACrashLeftIsRemovedAtTheNextStart) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  auto store = open_store();
  ASSERT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  store.reset();
  const std::string root = scratch_.path() + "/store";
  fs::create_directories(root + "/tmp/7/fs/deep/er");
  std::ofstream(root + "/tmp/7/blob") << "half";
  fs::create_directories(root + "/layers/" + std::string(64, 'a') + "/fs");  // without its record
  fs::create_directories(root + "/layers/strange");
  std::ofstream(root + "/layers/file") << "x";
  fs::create_symlink("/etc", root + "/layers/" + std::string(64, 'b'));
  store = open_store();
  ASSERT_TRUE(store);
  EXPECT_EQ(store->list().size(), 1u);
  EXPECT_EQ(count_in("layers"), 1u);
  EXPECT_TRUE(is_cleaned());
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kTop.layer));
  EXPECT_TRUE(fs::exists("/etc/passwd"));
}

TEST_F(StoreTest, ALayerThatMayNotHaveReachedTheDiskDoesNotOutliveTheMachine) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  auto store = open_store();
  ASSERT_TRUE(store->pull(registry, *registry.resolve(reference_to(server))));
  const auto folder = [&](const Blob& blob) {
    return fs::path(store->layer_path(blob.layer.diff_id)).parent_path();
  };
  const fs::path base = folder(kBase), top = folder(kTop);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!(fs::exists(base / "synced") && fs::exists(top / "synced")) &&
         std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_TRUE(fs::exists(base / "synced"));
  store.reset();
  // As if the machine had ended between the rename and the sync of the upper layer.
  const auto other_boot = [](const fs::path& layer) {
    std::string text;
    std::getline(std::ifstream(layer / "layer.json"), text);
    const auto at = text.find("\"boot\":\"");
    ASSERT_NE(at, std::string::npos);
    text[at + 8] = text[at + 8] == '0' ? '1' : '0';
    std::ofstream(layer / "layer.json") << text;
  };
  other_boot(base);
  other_boot(top);
  fs::remove(top / "synced");
  store = open_store();
  EXPECT_TRUE(store->has(kBase.layer.diff_id));
  EXPECT_FALSE(store->has(kTop.layer.diff_id));
  EXPECT_FALSE(fs::exists(top));
}

bool is_soon_synced(const fs::path& layer) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!fs::exists(layer / "synced") && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return fs::exists(layer / "synced");
}

// Who was killed before its sync: a failure that was told to others meanwhile is told to no other sync.
TEST_F(StoreTest, ALayerThatAnotherProcessHasNotSyncedIsNeverTakenForSynced) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  auto store = open_store();
  ASSERT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  const auto folder = [&](const Blob& blob) {
    return fs::path(store->layer_path(blob.layer.diff_id)).parent_path();
  };
  const fs::path base = folder(kBase), top = folder(kTop);
  ASSERT_TRUE(is_soon_synced(base));
  store.reset();
  fs::remove(base / "synced");
  store = open_store();
  EXPECT_TRUE(store->has(kBase.layer.diff_id)) << "the machine has not been started anew since";
  ASSERT_TRUE(store->pull_layer(registry, reference_to(server), kTop.layer));
  ASSERT_TRUE(is_soon_synced(top));
  EXPECT_FALSE(fs::exists(base / "synced"));
  store.reset();
  std::string text;
  std::getline(std::ifstream(base / "layer.json"), text);
  text.replace(text.find("\"boot\":\"") + 8, 1, "x");
  std::ofstream(base / "layer.json") << text;
  store = open_store();
  EXPECT_FALSE(store->has(kBase.layer.diff_id));
}

// The failure of the first is told once; the second had written by then and is synced after it.
TEST_F(StoreTest, ALayerThatWasUnpackedWhenASyncFailedIsNotSyncedByTheNext) {
  const Blob last = make_layer({file("last", "z")});
  const Published published = publish({kBase, kTop, last});
  std::atomic<bool> asked_top = false, open = false;
  Server server([&](const Asked& asked) { return serve_image(published, "app", asked); });
  Server slow_server([&](const Asked& asked) {
    asked_top = true;
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return serve_image(published, "app", asked);
  });
  const Registry registry(plain({server.host(), slow_server.host()}));
  const auto store = open_store();
  const auto folder = [&](const Blob& blob) {
    return fs::path(store->layer_path(blob.layer.diff_id)).parent_path();
  };
  std::thread slow(
      [&] { EXPECT_TRUE(store->pull_layer(registry, reference_to(slow_server), kTop.layer)); });
  while (!asked_top) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  syncs_that_fail = 1;
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  while (syncs_that_fail > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  open = true;
  slow.join();
  ASSERT_TRUE(store->pull_layer(registry, reference_to(server), last.layer));
  EXPECT_TRUE(is_soon_synced(folder(last)));
  EXPECT_FALSE(fs::exists(folder(kTop) / "synced"));
  EXPECT_FALSE(fs::exists(folder(kBase) / "synced"));
  EXPECT_TRUE(store->has(kTop.layer.diff_id)) << "as long as the machine runs";
}

// A sync that began for the layer that was there before says nothing of the one that came after it.
TEST_F(StoreTest, ALayerThatComesAgainDuringASyncIsNotTakenForSynced) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  const fs::path folder = fs::path(store->layer_path(kBase.layer.diff_id)).parent_path();
  syncs_wait = true;
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  while (syncs_waiting == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(store->remove(kBase.layer.diff_id));
  after_install = [] {
    syncs_that_fail = 1;  // the next one, which is its own
    syncs_wait = false;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  };
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  after_install = {};
  while (syncs_that_fail > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_FALSE(fs::exists(folder / "synced"));
}

TEST_F(StoreTest, OneProcessHoldsARoot) {
  const auto store = open_store();
  StoreOptions options;
  options.root = store->root();
  const auto second = Store::open(options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Error::Kind::unavailable);
}

TEST_F(StoreTest, ALayerInUseCannotBeRemoved) {
  Server server([&](const Asked& asked) { return serve_image(kImage, "app", asked); });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  const std::string diff_id = kBase.layer.diff_id;
  ASSERT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
  ASSERT_TRUE(store->pin(diff_id));
  ASSERT_TRUE(store->pin(diff_id));
  store->unpin(diff_id);
  EXPECT_TRUE(store->find(diff_id)->in_use);
  EXPECT_EQ(store->remove(diff_id).error().kind, Error::Kind::denied);
  store->unpin(diff_id);
  EXPECT_TRUE(store->remove(diff_id));
  EXPECT_FALSE(store->has(diff_id));
  EXPECT_EQ(store->remove(diff_id).error().kind, Error::Kind::not_found);
  EXPECT_EQ(store->pin(diff_id).error().kind, Error::Kind::not_found);
  EXPECT_FALSE(fs::exists(store->layer_path(diff_id)));
  EXPECT_TRUE(is_cleaned());
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer)) << "and back again";
}

TEST_F(StoreTest, AFullDiskIsExhaustedAndLeavesNothing) {
  const std::string disk = scratch_.folder("store");
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  // Compresses well: the estimate lets it begin, then the disk ends.
  const Blob big = make_layer({file("zeros", std::string(8 << 20, '\0'))});
  const Blob small = make_layer({file("a", "x")});
  std::string noise(2 << 20, 'x');
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<char>(i * i >> 7);
  const Blob incompressible = make_layer({file("noise", noise)}, Compression::none);
  const Published published = publish({big, small, incompressible});
  Server server([&](const Asked& asked) { return serve_image(published, "app", asked); });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  ASSERT_TRUE(store);
  for (const Blob* blob : {&big, &incompressible}) {
    const auto pulled = store->pull_layer(registry, reference_to(server), blob->layer);
    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().kind, Error::Kind::exhausted) << pulled.error().message;
    EXPECT_EQ(count_in("tmp"), 0u);
    EXPECT_EQ(count_in("layers"), 0u);
  }
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), small.layer));
}

TEST_F(StoreTest, ADiskWithoutInodesIsExhaustedBeforeTheLastOneGoes) {
  const std::string disk = scratch_.folder("store");
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64m,nr_inodes=1000") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  std::vector<Item> items;
  for (int i = 0; i < 2000; ++i) items.push_back(file(std::to_string(i), ""));
  const Blob many = make_layer(items);
  const Published published = publish({many, kBase});
  std::uint64_t least = 1000;
  const auto free_files = [&] {
    struct statvfs about {};
    EXPECT_EQ(statvfs(disk.c_str(), &about), 0);
    return static_cast<std::uint64_t>(about.f_favail);
  };
  Server server([&](const Asked& asked) { return serve_image(published, "app", asked); });
  const Registry registry(plain({server.host()}));
  const auto store = open_store();
  std::atomic<bool> over = false;
  std::thread watch([&] {
    while (!over) least = std::min(least, free_files());
  });
  const auto pulled = store->pull_layer(registry, reference_to(server), many.layer);
  over = true;
  watch.join();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().kind, Error::Kind::exhausted) << pulled.error().message;
  EXPECT_GE(least, 90u) << "a tenth is left to others";
  EXPECT_TRUE(store->pull_layer(registry, reference_to(server), kBase.layer));
}

// Each alone has room, both have not.
TEST_F(StoreTest, PullsThatRunTogetherDoNotTakeTheSameRoom) {
  const std::string disk = scratch_.folder("store");
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64m") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  const Blob one = make_layer({file("zeros", std::string(24 << 20, '\0'))});
  const Blob two = make_layer({file("nulls", std::string(24 << 20, '\0'))});
  const Published published = publish({one, two});
  Server server([&](const Asked& asked) { return serve_image(published, "app", asked); });
  const Registry registry(plain({server.host()}));
  StoreOptions options;
  options.root = disk;
  options.keep_free_bytes = 32 << 20;
  auto store = Store::open(options);
  ASSERT_TRUE(store) << store.error().message;
  std::atomic<int> worked = 0;
  std::atomic<bool> over = false;
  std::uint64_t least = 64 << 20;
  std::thread watch([&] {
    while (!over) {
      struct statvfs about {};
      if (statvfs(disk.c_str(), &about) == 0)
        least = std::min<std::uint64_t>(least, about.f_bavail * about.f_frsize);
    }
  });
  std::vector<std::thread> threads;
  for (const Blob* blob : {&one, &two})
    threads.emplace_back([&, blob] {
      if ((*store)->pull_layer(registry, reference_to(server), blob->layer)) ++worked;
    });
  for (std::thread& thread : threads) thread.join();
  over = true;
  watch.join();
  EXPECT_LE(worked, 1);
  EXPECT_GE(least, std::uint64_t{31} << 20);
}

}  // namespace
}  // namespace chalk::images
