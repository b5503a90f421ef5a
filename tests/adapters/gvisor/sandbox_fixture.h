// Real sandboxes by the pinned runsc, of a root folder with busybox in it. Each test has a folder
// and a name for control groups of its own, and removes both, and those that killed runs have left.
#pragma once
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "adapters/gvisor/runtime.h"
#include "tests/support/machine.h"

namespace chalk::gvisor {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::runsc;

inline std::string busybox() {
  for (const char* path : {"/bin/busybox", "/usr/bin/busybox"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return {};
}

// An answer that comes from another thread. Copies share it, so that a late one meets no dead
// object.
template <class T>
class Later {
 public:
  void set(T value) const {
    const std::lock_guard lock(shared_->mutex);
    shared_->value = value;
    ++shared_->times;
    shared_->came.notify_all();
  }
  std::optional<T> get(milliseconds timeout = seconds(90)) const {
    std::unique_lock lock(shared_->mutex);
    shared_->came.wait_for(lock, timeout, [&] { return shared_->value.has_value(); });
    return shared_->value;
  }
  int times() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->times;
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable came;
    std::optional<T> value;
    int times = 0;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// Waits for a condition; false when it did not come.
inline bool eventually(const std::function<bool()>& condition, seconds timeout = seconds(60),
                       milliseconds between = milliseconds(20)) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(between);
  }
  return true;
}

// Removes what sandboxes of one test have left: its control groups in every hierarchy, its folder.
inline void clean(const std::string& name, const fs::path& folder) {
  if (auto groups = cgroup::Groups::open(name)) {
    for (const std::string& id : groups->list()) (void)groups->remove(id);
  }
  for (const char* hierarchy : {"", "cpu/", "cpuacct/", "cpuset/", "memory/", "pids/", "devices/",
                                "freezer/", "blkio/", "systemd/", "unified/"}) {
    rmdir(("/sys/fs/cgroup/" + std::string(hierarchy) + name).c_str());
  }
  umount2((folder / "state/run/null-netns").c_str(), MNT_DETACH);
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

class RuntimeTest : public testing::Test {
 protected:
  // Folders are named after the process, "gv123Test"; what is not ours and has no process was
  // killed.
  static void SetUpTestSuite() {
    if (getuid() != 0) return;
    std::vector<fs::path> left;
    for (const auto& entry : fs::directory_iterator(fs::temp_directory_path())) {
      const std::string name = entry.path().filename();
      if (name.starts_with("gv") && std::isdigit(static_cast<unsigned char>(name[2]))) {
        left.push_back(entry.path());
      }
    }
    for (const fs::path& folder : left) {
      const int pid = std::atoi(folder.filename().c_str() + 2);
      if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) {
        clean("gv" + std::to_string(pid), folder);
      }
    }
  }
  void SetUp() override {
    if (const auto lack = test::no_control_groups(); !lack.empty()) GTEST_SKIP() << lack;
    if (access(runsc().c_str(), X_OK) != 0) GTEST_SKIP() << "no runsc; run ci/tools";
    if (busybox().empty()) GTEST_SKIP() << "no static busybox; run ci/setup";
    process::become_subreaper();
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    name_ = "gv" + std::to_string(getpid());
    folder_ = fs::temp_directory_path() / (name_ + test->name());
    make_root();
    make_runtime();
  }
  void TearDown() override {
    if (runtime_) {
      for (const std::string& id : runtime_->list()) (void)runtime_->remove(id);
    }
    runtime_.reset();
    reaper_.reset();
    if (!folder_.empty()) clean(name_, folder_);
  }
  void make_root() {
    fs::create_directories(folder_ / "rootfs/bin");
    fs::copy_file(busybox(), folder_ / "rootfs/bin/busybox");
    for (const char* applet : {"sh", "cat", "echo", "sleep", "dd", "nproc", "stty", "hostname",
                               "id", "pwd", "head", "tail", "true", "env", "kill", "mkdir", "ls"}) {
      fs::create_symlink("busybox", folder_ / "rootfs/bin" / applet);
    }
    for (const char* made : {"proc", "dev", "sys", "tmp", "etc"}) {
      fs::create_directories(folder_ / "rootfs" / made);
    }
  }
  // As after a restart of the agent: a runtime and a reaper that know of nothing.
  void make_runtime() {
    runtime_.reset();
    reaper_ = std::make_unique<process::Reaper>();
    auto groups = cgroup::Groups::open(name_);
    ASSERT_TRUE(groups) << groups.error().message;
    RuntimeOptions options;
    options.runsc = runsc();
    options.state = folder_ / "state";
    runtime_ = std::make_unique<Runtime>(options, *groups, *reaper_);
  }
  SandboxSpec spec(const std::string& id, const std::string& script) {
    SandboxSpec out;
    out.id = id;
    out.rootfs = folder_ / "rootfs";
    out.argv = {"/bin/sh", "-c", script};
    out.env = {"PATH=/bin", "COLOUR=blue"};
    out.hostname = "box-" + id;
    out.memory_bytes = 256 << 20;
    out.disk_bytes = 64 << 20;
    out.stdout_file = folder_ / (id + ".out");
    out.stderr_file = folder_ / (id + ".err");
    return out;
  }
  // This program again, which starts one in our folder: DISABLED_StartsOneAndGoesAway.
  process::Spawn another_process() {
    process::Spawn other;
    other.argv = {"/proc/self/exe", "--gtest_also_run_disabled_tests",
                  "--gtest_filter=*DISABLED_StartsOneAndGoesAway"};
    other.env = process::current_environment();
    other.env.push_back("CHALK_TEST_FOLDER=" + folder_.string());
    other.env.push_back("CHALK_TEST_NAME=" + name_);
    return other;
  }
  std::string output(const std::string& id, const char* which = ".out") {
    std::ifstream in(folder_ / (id + which));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // Runs it to its end.
  Ended end_of(const SandboxSpec& what) {
    Later<Ended> ended;
    const auto started = runtime_->start(what, [ended](Ended e) { ended.set(e); });
    EXPECT_TRUE(started) << started.error().message;
    if (!started) return {};
    const auto end = ended.get();
    EXPECT_TRUE(end.has_value()) << "it did not end";
    return end.value_or(Ended{});
  }
  std::string read_all(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, got);
    return text;
  }

  std::unique_ptr<process::Reaper> reaper_;
  fs::path folder_;
  std::string name_;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace chalk::gvisor
