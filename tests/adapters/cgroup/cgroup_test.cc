// Control groups: a tree of plain files that stands for cgroups v2, and the real ones of this
// machine.
#include "adapters/cgroup/cgroup.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "adapters/process/child.h"
#include "tests/support/machine.h"

namespace chalk::cgroup {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

std::string text_of(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// Plain files where a kernel would have its own. Folders are made, limits are written, nothing
// acts.
class VersionTwo : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("cg" + std::to_string(getpid()));
    fs::create_directories(root_);
    std::ofstream(root_ / "cgroup.controllers") << "cpuset cpu io memory hugetlb pids rdma\n";
    std::ofstream(root_ / "cgroup.subtree_control") << "memory\n";
    std::ofstream(root_ / "mounts") << "22 1 0:20 / /proc rw - proc proc rw\n"
                                    << "31 23 0:28 / " << root_.string()
                                    << " rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    prepare("chalk", {"cgroup.subtree_control"});
  }
  void TearDown() override { fs::remove_all(root_); }
  // The files that the kernel would make with the folder.
  void prepare(const std::string& folder, const std::vector<std::string>& files) {
    fs::create_directories(root_ / folder);
    for (const std::string& file : files) std::ofstream(root_ / folder / file).put('\n');
  }
  void prepare_group(const std::string& id) {
    prepare("chalk/" + id, {"cpu.max", "memory.max", "memory.swap.max", "memory.oom.group",
                            "pids.max", "cgroup.procs"});
  }
  Result<Groups> open() { return Groups::open("chalk", root_ / "mounts"); }

  fs::path root_;
};

TEST_F(VersionTwo, EnablesTheControllersThatAreMissing) {
  const auto groups = open();
  ASSERT_TRUE(groups) << groups.error().message;
  EXPECT_TRUE(groups->version_two());
  EXPECT_EQ(text_of(root_ / "cgroup.subtree_control"), "+cpu +pids");
  EXPECT_EQ(text_of(root_ / "chalk/cgroup.subtree_control"), "+cpu +memory +pids");
}

TEST_F(VersionTwo, WritesEveryLimitAndChangesIt) {
  const auto groups = open();
  ASSERT_TRUE(groups);
  prepare_group("s1");
  ASSERT_TRUE(groups->create("s1", {1500, 256 << 20, 100}));
  const fs::path one = root_ / "chalk/s1";
  EXPECT_EQ(text_of(one / "cpu.max"), "150000 100000");
  EXPECT_EQ(text_of(one / "memory.max"), "268435456");
  EXPECT_EQ(text_of(one / "memory.swap.max"), "0");
  EXPECT_EQ(text_of(one / "memory.oom.group").substr(0, 1), "1");
  EXPECT_EQ(text_of(one / "pids.max"), "100");
  ASSERT_TRUE(groups->create("s1", {1, 512 << 20, 0}));
  EXPECT_EQ(text_of(one / "cpu.max").substr(0, 5), "1000 ") << "the least that the kernel takes";
  EXPECT_EQ(text_of(one / "memory.max"), "536870912");
  EXPECT_EQ(groups->procs_files("s1"), std::vector<std::string>{one / "cgroup.procs"});
  EXPECT_EQ(groups->oci_path("s1"), "/chalk/s1");
}

TEST_F(VersionTwo, ReadsUsageAndKillsForLackOfMemory) {
  const auto groups = open();
  ASSERT_TRUE(groups);
  prepare_group("s1");
  const fs::path one = root_ / "chalk/s1";
  std::ofstream(one / "cpu.stat") << "usage_usec 12345\nuser_usec 1\n";
  std::ofstream(one / "memory.current") << "4096\n";
  std::ofstream(one / "memory.peak") << "8192\n";
  std::ofstream(one / "pids.current") << "7\n";
  std::ofstream(one / "memory.events") << "low 0\nhigh 0\nmax 5\noom 3\noom_kill 2\n";
  const auto usage = groups->usage("s1");
  ASSERT_TRUE(usage) << usage.error().message;
  EXPECT_EQ(usage->cpu_nanos, 12'345'000);
  EXPECT_EQ(usage->memory_bytes, 4096);
  EXPECT_EQ(usage->memory_peak_bytes, 8192);
  EXPECT_EQ(usage->pids, 7);
  EXPECT_EQ(usage->out_of_memory, 2);
  EXPECT_EQ(groups->out_of_memory("gone"), 0);
  EXPECT_EQ(groups->usage("gone").error().kind, Error::Kind::not_found);
}

TEST_F(VersionTwo, ListsWhatIsThereAndRemovesIt) {
  const auto groups = open();
  ASSERT_TRUE(groups);
  prepare("chalk/s1", {});
  prepare("chalk/s2", {});
  EXPECT_EQ(groups->list(), (std::vector<std::string>{"s1", "s2"}));
  EXPECT_TRUE(groups->remove("s1"));
  EXPECT_EQ(groups->list(), std::vector<std::string>{"s2"});
  EXPECT_TRUE(groups->remove("s1")) << "again is fine";
}

TEST_F(VersionTwo, RefusesNamesThatLeaveItsFolder) {
  const auto groups = open();
  ASSERT_TRUE(groups);
  for (const char* bad : {"", "..", "a/b", "../x", "A", "-a"}) {
    EXPECT_EQ(groups->create(bad, {}).error().kind, Error::Kind::invalid) << bad;
    EXPECT_EQ(groups->remove(bad).error().kind, Error::Kind::invalid) << bad;
    EXPECT_FALSE(groups->kill_all(bad)) << bad;
  }
  EXPECT_FALSE(Groups::open("../x", root_ / "mounts"));
  EXPECT_TRUE(fs::exists(root_ / "chalk"));
}

TEST_F(VersionTwo, SaysWhatIsMissing) {
  std::ofstream(root_ / "cgroup.controllers") << "cpu io\n";
  const auto poor = open();
  ASSERT_FALSE(poor);
  EXPECT_EQ(poor.error().kind, Error::Kind::unavailable);
  std::ofstream(root_ / "mounts") << "nonsense\n";
  EXPECT_EQ(open().error().kind, Error::Kind::unavailable);
}

TEST_F(VersionTwo, PrefersVersionOneWhereThatHasTheControllers) {
  std::ofstream mounts(root_ / "mounts");
  for (const char* one : {"cpu,cpuacct", "memory", "pids"}) {
    fs::create_directories(root_ / one);
    mounts << "40 31 0:37 / " << (root_ / one).string() << " rw - cgroup cgroup rw," << one << "\n";
  }
  fs::create_directories(root_ / "systemd");
  mounts << "40 31 0:37 / " << (root_ / "systemd").string()
         << " rw - cgroup cgroup rw,xattr,name=systemd\n"
         << "41 31 0:38 / " << root_.string() << " rw - cgroup2 cgroup2 rw\n";
  mounts.close();
  const auto groups = open();
  ASSERT_TRUE(groups) << groups.error().message;
  EXPECT_FALSE(groups->version_two());
  EXPECT_EQ(groups->procs_files("s1").size(), 3u) << "cpu and cpuacct are one hierarchy";
  // What runsc made in a hierarchy that has no limits goes as well.
  fs::create_directories(root_ / "systemd/chalk/s9");
  EXPECT_EQ(groups->list(), std::vector<std::string>{"s9"});
  EXPECT_TRUE(groups->remove("s9"));
  EXPECT_TRUE(groups->list().empty());
}

// The kernel's own.
class RealGroups : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto lack = test::no_control_groups(); !lack.empty()) GTEST_SKIP() << lack;
    name_ = "cgt" + std::to_string(getpid());
    auto opened = Groups::open(name_);
    ASSERT_TRUE(opened) << opened.error().message;
    groups_ = std::make_unique<Groups>(std::move(*opened));
  }
  void TearDown() override {
    if (!groups_) return;
    for (const std::string& id : groups_->list()) EXPECT_TRUE(groups_->remove(id));
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/sys/fs/cgroup", error)) {
      rmdir((entry.path() / name_).c_str());
    }
    rmdir(("/sys/fs/cgroup/" + name_).c_str());
  }
  Result<process::Child> begin(const std::string& id, const std::string& script) {
    process::Spawn what;
    what.argv = {"/bin/sh", "-c", script};
    what.env = process::current_environment();
    what.cgroup_procs = groups_->procs_files(id);
    return process::spawn(what);
  }

  std::string name_;
  std::unique_ptr<Groups> groups_;
};

TEST_F(RealGroups, HoldWhatIsStartedInThemAndKillAllOfIt) {
  ASSERT_TRUE(groups_->create("a", {500, 64 << 20, 50}));
  auto child = begin("a", "sleep 1000 & sleep 1000 & setsid sleep 1000 & wait");
  ASSERT_TRUE(child) << child.error().message;
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (groups_->members("a")->size() < 4 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const auto members = groups_->members("a");
  ASSERT_TRUE(members) << members.error().message;
  EXPECT_EQ(members->size(), 4u);
  EXPECT_NE(std::find(members->begin(), members->end(), child->pid), members->end());
  EXPECT_EQ(groups_->usage("a")->pids, 4);
  EXPECT_TRUE(groups_->kill_all("a"));
  EXPECT_TRUE(groups_->members("a")->empty());
  EXPECT_EQ(process::wait(*child, seconds(30))->signal, SIGKILL);
  EXPECT_TRUE(groups_->remove("a"));
  EXPECT_TRUE(groups_->list().empty());
}

// Else a kill is told that did not happen, and the room of what runs is given away.
TEST_F(RealGroups, NothingIsGoneWhileNobodyCanLook) {
  ASSERT_TRUE(groups_->create("a", {}));
  auto child = begin("a", "sleep 1000");
  ASSERT_TRUE(child) << child.error().message;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);  // the least that is free: nothing can be opened below it
  close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto members = groups_->members("a");
  const bool killed = groups_->kill_all("a");
  const auto removed = groups_->remove("a");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(members);
  EXPECT_EQ(members.error().kind, Error::Kind::unavailable);
  EXPECT_FALSE(killed);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().kind, Error::Kind::unavailable) << removed.error().message;
  if (!groups_->version_two()) {
    EXPECT_FALSE(process::wait(*child, std::chrono::milliseconds(1))) << "it lives";
  }
  EXPECT_TRUE(groups_->remove("a")) << "later it can be done";
  EXPECT_EQ(process::wait(*child, seconds(30))->signal, SIGKILL);
}

TEST_F(RealGroups, RemoveKillsWhatIsLeft) {
  ASSERT_TRUE(groups_->create("a", {}));
  auto child = begin("a", "sleep 1000");
  ASSERT_TRUE(child) << child.error().message;
  EXPECT_TRUE(groups_->remove("a"));
  EXPECT_EQ(process::wait(*child, seconds(30))->signal, SIGKILL);
}

TEST_F(RealGroups, MemoryIsLimitedAndTheKillIsCounted) {
  ASSERT_TRUE(groups_->create("a", {0, 32 << 20, 0}));
  ASSERT_TRUE(groups_->create("b", {0, 32 << 20, 0}));
  auto hog = begin("a", "exec tail /dev/zero");
  auto neighbour = begin("b", "sleep 1000");
  ASSERT_TRUE(hog && neighbour);
  const auto status = process::wait(*hog, seconds(60));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->signal, SIGKILL);
  EXPECT_GE(groups_->out_of_memory("a"), 1);
  EXPECT_EQ(groups_->out_of_memory("b"), 0);
  EXPECT_FALSE(process::wait(*neighbour, std::chrono::milliseconds(1))) << "it lives";
}

TEST_F(RealGroups, ProcessesAreLimited) {
  ASSERT_TRUE(groups_->create("a", {0, 0, 5}));
  auto child = begin("a", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
  ASSERT_TRUE(child);
  const auto status = process::wait(*child, seconds(60));  // the shell gives up: it cannot fork
  ASSERT_TRUE(status);
  EXPECT_NE(status->exit_code, 0);
  EXPECT_LE(groups_->members("a")->size(), 5u);
}

TEST_F(RealGroups, ProcessorTimeIsLimited) {
  ASSERT_TRUE(groups_->create("a", {100, 0, 0}));
  auto child = begin("a", "while :; do :; done");
  ASSERT_TRUE(child);
  const auto begun = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(seconds(2));
  const auto used = groups_->usage("a")->cpu_nanos;
  const auto passed =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begun)
          .count();
  EXPECT_GT(used, 0);
  EXPECT_LT(used, passed / 4) << "a tenth was allowed";
}

TEST_F(RealGroups, AHogIsHeldToItsShareAndItsNeighbourGetsMore) {
  ASSERT_TRUE(groups_->create("a", {100, 0, 0}));
  ASSERT_TRUE(groups_->create("b", {500, 0, 0}));
  auto neighbour = begin("b", "while :; do :; done");
  auto hog = begin("a", "for i in 1 2 3 4 5 6; do while :; do :; done & done; wait");
  ASSERT_TRUE(hog && neighbour);
  // Until the neighbour has had half a second: no clock says how long that takes on a busy machine.
  const auto until = std::chrono::steady_clock::now() + seconds(60);
  const auto before = groups_->usage("a")->cpu_nanos;
  const auto begun = groups_->usage("b")->cpu_nanos;
  const auto used_by_neighbour = [&] { return groups_->usage("b")->cpu_nanos - begun; };
  while (used_by_neighbour() < 500'000'000 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto used_by_hog = groups_->usage("a")->cpu_nanos - before;
  EXPECT_GT(used_by_hog, 0);
  EXPECT_GE(used_by_neighbour(), 500'000'000) << "the neighbour was starved";
  EXPECT_LT(used_by_hog, used_by_neighbour()) << "six loops with a fifth of the neighbour's share";
}

}  // namespace
}  // namespace chalk::cgroup
