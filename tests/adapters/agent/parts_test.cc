// The parts of the agent that need no sandbox.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>


#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "adapters/agent/agent.h"
#include "adapters/agent/alarm.h"
#include "adapters/agent/logs.h"
#include "adapters/agent/options.h"
#include "adapters/agent/sandboxes.h"
#include "adapters/agent/user.h"
#include "adapters/agent/workers.h"
#include "adapters/images/layer_id.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

struct Folder {
  std::string path = testing::TempDir() + "agent_parts_" + std::to_string(getpid());
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
};

void write(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::app) << text;
}

// ---- numbers and names

TEST(LayerNumber, IsOfTheWholeDiffIdAndTheSameEverywhere) {
  // Half of the first sixteen digits of the SHA-256 of nothing, e3b0c44298fc1c14.
  EXPECT_EQ(images::layer_id("").value, 0x71d862214c7e0e0aU);
  const std::string beginning = "sha256:" + std::string(16, 'a');
  EXPECT_NE(images::layer_id(beginning + std::string(48, '0')),
            images::layer_id(beginning + std::string(48, '1')));
}

TEST(SandboxName, IsReadBackAndNothingElseIs) {
  EXPECT_EQ(sandbox_of(name_of({12345678901234ull})).value, 12345678901234ull);
  for (const char* other : {"", "s", "s12x", "x12", "s-1", "s99999999999999999999999"}) {
    EXPECT_FALSE(sandbox_of(other)) << other;
  }
}

// ---- the data directory

// Without a server a start goes no further than to its directory.
TEST(DataDirectory, IsItsOwnersOnlyWhateverTheUmaskAndWhateverItWas) {
  const Folder folder;
  Options options;
  options.data = folder.path + "/data";
  const auto mode = [&] { return fs::status(options.data).permissions(); };
  const mode_t before = umask(0);
  EXPECT_THROW(Agent(options).start(), std::runtime_error);
  umask(before);
  EXPECT_EQ(mode(), fs::perms(0700));
  fs::permissions(options.data, fs::perms(0755));  // as an older version made it
  EXPECT_THROW(Agent(options).start(), std::runtime_error);
  EXPECT_EQ(mode(), fs::perms(0700));
}

// ---- what the host offers

TEST(ImageBytes, AreAQuarterOfWhatIsFreeOrTheirsAndNeverNothing) {
  constexpr std::int64_t kMiB = 1LL << 20, kGiB = 1LL << 30;
  EXPECT_EQ(image_bytes_of(100 * kGiB, 0), 25 * kGiB);
  EXPECT_EQ(image_bytes_of(75 * kGiB, 25 * kGiB), 25 * kGiB) << "a restart changes nothing";
  EXPECT_EQ(image_bytes_of(0, 100 * kGiB), 25 * kGiB) << "a disk that is full";
  EXPECT_EQ(image_bytes_of(4 * kGiB, 0), kGiB);
  EXPECT_EQ(image_bytes_of(4 * kGiB - 1, 0), kGiB);
  EXPECT_EQ(image_bytes_of(kGiB, kGiB / 2), 768 * kMiB);
  EXPECT_EQ(image_bytes_of(0, 0), kMiB) << "0 would be no limit";
  Options options;
  options.data = testing::TempDir();
  EXPECT_GT(host_image_bytes(options, 0), 0);
  options.image_bytes = 5;
  EXPECT_EQ(host_image_bytes(options, 7 * kGiB), 5);
}

// ---- users of images

struct ImageRoot : testing::Test {
  Folder folder;
  void SetUp() override {
    write(folder.path + "/etc/passwd",
          "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:44:w:/srv/web:/bin/sh\n");
    write(folder.path + "/etc/group", "root:x:0:\nextra:x:77:other,web\nlogs:x:88:web\n");
  }
};

TEST_F(ImageRoot, NamesAndNumbersAreFound) {
  const auto root = find_user(folder.path, "");
  ASSERT_TRUE(root);
  EXPECT_EQ(root->uid, 0u);
  EXPECT_EQ(root->home, "/root");
  const auto web = find_user(folder.path, "web");
  ASSERT_TRUE(web);
  EXPECT_EQ(web->uid, 33u);
  EXPECT_EQ(web->gid, 44u);
  EXPECT_EQ(web->groups, (std::vector<std::uint32_t>{77, 88}));
  const auto by_number = find_user(folder.path, "33");
  ASSERT_TRUE(by_number);
  EXPECT_EQ(by_number->gid, 44u);
  const auto unlisted = find_user(folder.path, "4000");
  ASSERT_TRUE(unlisted);
  EXPECT_EQ(unlisted->uid, 4000u);
  EXPECT_EQ(unlisted->gid, 0u);
  const auto with_group = find_user(folder.path, "web:extra");
  ASSERT_TRUE(with_group);
  EXPECT_EQ(with_group->gid, 77u);
  EXPECT_TRUE(with_group->groups.empty());
}

TEST_F(ImageRoot, WhoIsNotThereIsRefusedByName) {
  EXPECT_EQ(find_user(folder.path, "nobody").error().kind, Error::Kind::not_found);
  EXPECT_NE(find_user(folder.path, "web:none").error().message.find("none"), std::string::npos);
  EXPECT_EQ(find_user(folder.path, "-1").error().kind, Error::Kind::not_found);
}

TEST_F(ImageRoot, ALinkDoesNotLeadOutOfTheRoot) {
  fs::remove(folder.path + "/etc/passwd");
  write(folder.path + "/inside", "only:x:5:6::/:\n");
  fs::create_symlink("/inside", folder.path + "/etc/passwd");  // of the image, not of the host
  EXPECT_EQ(find_user(folder.path, "only")->uid, 5u);
  fs::remove(folder.path + "/etc/passwd");
  fs::create_symlink("../../../../../../etc/passwd", folder.path + "/etc/passwd");
  EXPECT_FALSE(find_user(folder.path, "daemon"));
}

// ---- output of main processes

struct Output : testing::Test {
  Folder folder;
  std::string text(const Logs& logs, SandboxId sandbox, std::uint64_t tail = 0,
                   bool follow = false) {
    std::string all;
    const auto done = logs.read(sandbox, follow, tail, [&](int, std::string_view data) {
      all += data;
      return true;
    });
    return done ? all : "none: " + done.error().message;
  }
};

TEST_F(Output, IsKeptAfterTheEndUntilItIsForgotten) {
  Logs logs(folder.path, 1 << 20);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  write(files->output, "out");
  write(files->error, "err");
  EXPECT_EQ(text(logs, {1}), "outerr");
  EXPECT_EQ(text(logs, {1}, 2), "utrr");
  logs.end({1});
  EXPECT_EQ(text(logs, {1}), "outerr");
  logs.forget_ended();
  EXPECT_TRUE(text(logs, {1}).starts_with("none"));
}

TEST_F(Output, GoesOnAfterAPauseAndIsFollowedOverIt) {
  {
    Logs logs(folder.path, 1 << 20);
    const auto files = logs.begin({1});
    ASSERT_TRUE(files);
    write(files->output, "first ");
    logs.pause({1});
    for (std::uint64_t i = 2; i < 2 + 2 * Logs::kEndedMax; ++i) {
      ASSERT_TRUE(logs.begin({i}));
      logs.end({i});
    }
    logs.forget_ended();
    EXPECT_EQ(text(logs, {1}), "first ");
  }
  Logs logs(folder.path, 1 << 20);  // of the next agent
  logs.pause({1});
  logs.keep_only_live();
  std::thread writer([&] {
    const auto files = logs.begin({1}, true);
    ASSERT_TRUE(files);
    write(files->output, "second");
    logs.end({1});
  });
  EXPECT_EQ(text(logs, {1}, 0, true), "first second");
  writer.join();
  EXPECT_EQ(text(logs, {1}), "first second");
}

TEST_F(Output, IsFollowedUntilTheEnd) {
  Logs logs(folder.path, 1 << 20);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  std::thread writer([&] {
    for (int i = 0; i < 5; ++i) {
      write(files->output, std::to_string(i));
      std::this_thread::sleep_for(20ms);
    }
    logs.end({1});
  });
  EXPECT_EQ(text(logs, {1}, 0, true), "01234");
  writer.join();
}

// 6.4 MB, of which no part is like another.
std::string numbered_lines() {
  std::string lines;
  for (int i = 0; i < 800'000; ++i) lines += std::to_string(1'000'000 + i) + "\n";
  return lines;
}

TEST_F(Output, BeyondTheLimitIsGivenBackToTheDisk) {
  constexpr std::size_t kLimit = 1 << 20;
  Logs logs(folder.path, kLimit);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  const std::string lines = numbered_lines();
  write(files->output, lines);
  const auto on_disk = [&] {
    struct stat facts {};
    EXPECT_EQ(stat(logs.files({1}).output.c_str(), &facts), 0);
    return facts.st_blocks * 512;
  };
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (on_disk() > static_cast<std::int64_t>(kLimit) * 5 / 4) {
    ASSERT_LT(std::chrono::steady_clock::now(), until) << on_disk();
    std::this_thread::sleep_for(50ms);
  }
  const std::string kept = text(logs, {1});
  EXPECT_EQ(kept, lines.substr(lines.size() - kLimit));
}

TEST_F(Output, AFollowerThatIsTooSlowIsToldWhatItMissed) {
  constexpr std::size_t kLimit = 1 << 20;
  Logs logs(folder.path, kLimit);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  const std::string lines = numbered_lines();
  write(files->output, lines.substr(0, 100'000));
  std::string seen;
  std::uint64_t dropped = 0;
  const auto sink = [&](int stream, std::string_view data) {
    EXPECT_EQ(data, std::string_view(lines).substr(seen.size() + dropped, data.size()));
    const bool first = seen.empty() && stream == 1;
    seen += data;
    if (first) {  // it takes its time, and meanwhile much more is written
      write(files->output, lines.substr(100'000));
      logs.end({1});
    }
    return true;
  };
  const auto missed = [&](int stream, std::uint64_t bytes) {
    EXPECT_EQ(stream, 1);
    dropped += bytes;
  };
  ASSERT_TRUE(logs.read({1}, true, 0, sink, missed));
  EXPECT_GT(dropped, 0u);
  EXPECT_EQ(seen.size() + dropped, lines.size());
  EXPECT_GE(seen.size(), kLimit);
}

// Who holds the file could take the whole disk with one fallocate().
TEST_F(Output, IsWrittenToAPipeAndNeverToTheFile) {
  Logs logs(folder.path, 1 << 20);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  for (const std::string& name : {files->output, files->error}) {
    EXPECT_TRUE(fs::is_fifo(name)) << name;
    const int pipe = open(name.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(pipe, 0);
    EXPECT_NE(fallocate(pipe, 0, 0, 1 << 30), 0);
    close(pipe);
  }
  logs.end({1});
  EXPECT_FALSE(fs::exists(files->output));
}

TEST_F(Output, GoesOnWithAnotherAgent) {
  int pipe = -1;  // as a sandbox holds it
  {
    Logs logs(folder.path, 1 << 20);
    const auto files = logs.begin({1});
    ASSERT_TRUE(files);
    pipe = open(files->output.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::write(pipe, "one ", 4), 4);
    EXPECT_EQ(text(logs, {1}), "one ");
  }
  ASSERT_EQ(::write(pipe, "two ", 4), 4);
  Logs logs(folder.path, 1 << 20);
  logs.take_over({1});
  logs.keep_only_live();
  ASSERT_EQ(::write(pipe, "three", 5), 5);
  logs.end({1});
  close(pipe);
  EXPECT_EQ(text(logs, {1}), "one two three");
}

TEST_F(Output, OfFewEndedSandboxesIsKept) {
  Logs logs(folder.path, 1 << 20);
  for (std::uint64_t i = 1; i <= Logs::kEndedMax + 5; ++i) {
    ASSERT_TRUE(logs.begin({i}));
    logs.end({i});
  }
  EXPECT_TRUE(text(logs, {1}).starts_with("none"));
  EXPECT_EQ(text(logs, {Logs::kEndedMax + 5}), "");
  logs.begin({500});
  write(folder.path + "/999.out", "of another time");
  logs.keep_only_live();
  EXPECT_FALSE(fs::exists(folder.path + "/999.out"));
  EXPECT_EQ(text(logs, {500}), "");
}

TEST_F(Output, TheFirstByteHasItsTime) {
  Logs logs(folder.path, 1 << 20);
  const auto files = logs.begin({1});
  ASSERT_TRUE(files);
  EXPECT_EQ(logs.first_byte_at({1}), 0);
  write(files->error, "x");
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (logs.first_byte_at({1}) == 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(5ms);
  }
}

// ---- threads

TEST(WorkersTest, WhatWasAskedForIsDoneBeforeTheEnd) {
  std::atomic<int> done = 0;
  {
    Workers workers(3);
    for (int i = 0; i < 100; ++i) workers.run([&] { ++done; });
  }
  EXPECT_EQ(done, 100);
}

TEST(AlarmTest, ThingsAreDoneInTheOrderOfTheirTimes) {
  std::mutex mutex;
  std::string order;
  Alarm alarm;
  const auto note = [&](char c) {
    return [&, c] {
      const std::lock_guard lock(mutex);
      order += c;
    };
  };
  alarm.after(60ms, note('c'));
  alarm.after(1ms, note('a'));
  alarm.after(30ms, note('b'));
  alarm.after(1h, note('x'));
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (true) {
    {
      const std::lock_guard lock(mutex);
      if (order.size() == 3) break;
    }
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_EQ(order, "abc");
}

}  // namespace
}  // namespace chalk::agent
