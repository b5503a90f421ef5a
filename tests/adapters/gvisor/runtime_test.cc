// Real sandboxes by the pinned runsc; skipped where it is not built or this is not root.
#include "adapters/gvisor/runtime.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

namespace chalk::gvisor {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string runsc() {
  const char* given = std::getenv("CHALK_RUNSC");
  return given != nullptr ? given : "build/tools/bin/runsc";
}
std::string busybox() {
  for (const char* path : {"/bin/busybox", "/usr/bin/busybox"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return {};
}

// An answer that comes from another thread.
template <class T>
class Later {
 public:
  void set(T value) {
    const std::lock_guard lock(mutex_);
    value_ = value;
    ++times_;
    came_.notify_all();
  }
  std::optional<T> get(milliseconds timeout = seconds(60)) {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, timeout, [&] { return value_.has_value(); });
    return value_;
  }
  int times() {
    const std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::optional<T> value_;
  int times_ = 0;
};

// Waits for a condition; false when it did not come.
bool eventually(const std::function<bool()>& condition, seconds timeout = seconds(60)) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return true;
}

class RuntimeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (getuid() != 0) GTEST_SKIP() << "sandboxes need root";
    if (access(runsc().c_str(), X_OK) != 0) GTEST_SKIP() << "no runsc; run ci/tools";
    if (busybox().empty()) GTEST_SKIP() << "no static busybox; run ci/setup";
    process::become_subreaper();
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("gv" + std::to_string(getpid()) + test->name());
    name_ = "gv" + std::to_string(getpid());
    fs::create_directories(folder_ / "rootfs/bin");
    fs::copy_file(busybox(), folder_ / "rootfs/bin/busybox");
    for (const char* applet : {"sh", "cat", "echo", "sleep", "dd", "nproc", "stty", "hostname", "id",
                               "pwd", "head", "tail", "true", "env", "kill", "mkdir", "ls"}) {
      fs::create_symlink("busybox", folder_ / "rootfs/bin" / applet);
    }
    for (const char* made : {"proc", "dev", "sys", "tmp", "etc"}) {
      fs::create_directories(folder_ / "rootfs" / made);
    }
    make_runtime();
  }
  void TearDown() override {
    if (runtime_) {
      for (const std::string& id : runtime_->list()) runtime_->remove(id);
      runtime_.reset();
    }
    for (const char* hierarchy : {"", "cpu/", "cpuacct/", "cpuset/", "memory/", "pids/", "devices/",
                                  "freezer/", "blkio/", "systemd/", "unified/"}) {
      rmdir(("/sys/fs/cgroup/" + std::string(hierarchy) + name_).c_str());
    }
    umount2((folder_ / "state/run/null-netns").c_str(), MNT_DETACH);
    fs::remove_all(folder_);
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
  std::string output(const std::string& id, const char* which = ".out") {
    std::ifstream in(folder_ / (id + which));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // Runs it to its end.
  Ended end_of(const SandboxSpec& what) {
    Later<Ended> ended;
    const auto started = runtime_->start(what, [&](Ended e) { ended.set(e); });
    EXPECT_TRUE(started) << started.error().message;
    if (!started) return {};
    const auto end = ended.get(seconds(90));
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

TEST_F(RuntimeTest, RunsInsideGVisorWithItsOwnHostnameEnvironmentAndExitCode) {
  const Ended end = end_of(spec(
      "a", "hostname; echo $COLOUR; cat /proc/version; echo to-stderr >&2; pwd; exit 42"));
  EXPECT_TRUE(end.known);
  EXPECT_EQ(end.exit_code, 42);
  EXPECT_EQ(end.signal, 0);
  EXPECT_FALSE(end.out_of_memory);
  EXPECT_NE(output("a").find("box-a\nblue\n"), std::string::npos) << output("a");
  EXPECT_NE(output("a").find("gvisor"), std::string::npos) << output("a");
  EXPECT_EQ(output("a", ".err"), "to-stderr\n");
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(runtime_->list().empty());
}

TEST_F(RuntimeTest, SaysWhyAStartFailed) {
  SandboxSpec missing = spec("a", "");
  missing.argv = {"/no/such/program"};
  const auto refused = runtime_->start(missing, [](Ended) { FAIL() << "it never started"; });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::not_found) << refused.error().message;
  EXPECT_NE(refused.error().message.find("/no/such/program"), std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(runtime_->list().empty()) << "nothing is left";
  SandboxSpec bad = spec("../x", "true");
  EXPECT_EQ(runtime_->start(bad, [](Ended) {}).error().kind, Error::Kind::invalid);
}

TEST_F(RuntimeTest, TellsASignalFromAnExit) {
  Later<Ended> killed;
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [&](Ended e) { killed.set(e); }));
  ASSERT_TRUE(runtime_->signal("a", SIGKILL));
  ASSERT_TRUE(killed.get());
  EXPECT_EQ(killed.get()->signal, SIGKILL);

  Later<Ended> trapped;
  ASSERT_TRUE(runtime_->start(spec("b", "trap 'exit 7' TERM; echo ready; while true; do sleep 0.1; done"),
                              [&](Ended e) { trapped.set(e); }));
  ASSERT_TRUE(eventually([&] { return !output("b").empty(); }));
  ASSERT_TRUE(runtime_->signal("b", SIGTERM));
  ASSERT_TRUE(trapped.get());
  EXPECT_EQ(trapped.get()->exit_code, 7);
  EXPECT_EQ(trapped.times(), 1);
}

TEST_F(RuntimeTest, HoldsWhatIsWrittenToItsQuota) {
  const Ended end = end_of(spec(
      "a", "dd if=/dev/zero of=/big bs=1M count=200 2>&1 | tail -1; ls -l /big; echo kept >/small || echo full"));
  EXPECT_EQ(end.signal, 0);
  EXPECT_NE(output("a").find("full"), std::string::npos) << output("a");
  EXPECT_FALSE(fs::exists(folder_ / "rootfs/big")) << "the shared root is as it was";
}

TEST_F(RuntimeTest, KillsAMemoryHogAndNotItsNeighbour) {
  Later<Ended> neighbour;
  ASSERT_TRUE(runtime_->start(spec("b", "sleep 5; exit 3"), [&](Ended e) { neighbour.set(e); }));
  // tail keeps the whole "line" in memory.
  const Ended hog = end_of(spec("a", "head -c 2000000000 /dev/zero | tail"));
  EXPECT_TRUE(hog.out_of_memory);
  ASSERT_TRUE(neighbour.get());
  EXPECT_EQ(neighbour.get()->exit_code, 3);
  EXPECT_FALSE(neighbour.get()->out_of_memory);
}

TEST_F(RuntimeTest, ShowsItsLimitsInside) {
  SandboxSpec small = spec("a", "nproc; head -1 /proc/meminfo");
  small.cpu_millicores = 1500;
  end_of(small);
  EXPECT_EQ(output("a").substr(0, 2), "2\n") << output("a");
  EXPECT_NE(output("a").find("262144 kB"), std::string::npos) << output("a");
}

TEST_F(RuntimeTest, ExecutesWithPipesExitCodesAndInput) {
  ASSERT_TRUE(runtime_->start(spec("a", "echo here >/mark; sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "cat; cat /mark; echo $COLOUR $MORE >&2; exit 42"};
  what.env = {"MORE=red"};
  auto exec = runtime_->exec("a", what, [&](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_GT(exec->inner_pid, 1);
  ASSERT_EQ(write(exec->input.get(), "typed\n", 6), 6);
  exec->input.reset();
  EXPECT_EQ(read_all(exec->output.get()), "typed\nhere\n");
  EXPECT_EQ(read_all(exec->error.get()), "blue red\n");
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->exit_code, 42);

  what.argv = {"/no/such/command"};
  const auto missing = runtime_->exec("a", what, [](process::Status) { FAIL(); });
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, Error::Kind::not_found) << missing.error().message;
  EXPECT_FALSE(runtime_->exec("nobody", what, [](process::Status) { FAIL(); }));
}

TEST_F(RuntimeTest, SignalsAnExecutedProcessAlone) {
  Later<Ended> box;
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [&](Ended e) { box.set(e); }));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sleep", "1000"};
  const auto exec = runtime_->exec("a", what, [&](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  ASSERT_TRUE(runtime_->signal("a", SIGTERM, exec->inner_pid));
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGTERM);
  EXPECT_EQ(box.times(), 0) << "the sandbox goes on";
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(box.get()) << "its end is told, however it came";
}

TEST_F(RuntimeTest, GivesATerminalWithAWindow) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/stty", "size"};
  what.terminal = Window{132, 43};
  const auto exec = runtime_->exec("a", what, [&](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_EQ(read_all(exec->output.get()), "43 132\r\n");
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->exit_code, 0);
}

TEST_F(RuntimeTest, IsFoundAgainByANewProcessAndItsEndIsSeen) {
  ASSERT_TRUE(runtime_->start(spec("a", "trap 'exit 7' TERM; echo up; while true; do sleep 0.1; done"),
                              [](Ended) {}));
  ASSERT_TRUE(runtime_->start(spec("b", "true"), [](Ended) {}));
  ASSERT_TRUE(eventually([&] { return !runtime_->alive("b") && output("a") == "up\n"; }));
  make_runtime();  // with a reaper that knows of none of them
  EXPECT_EQ(runtime_->list(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(runtime_->alive("a"));
  EXPECT_FALSE(runtime_->alive("b"));
  ASSERT_TRUE(runtime_->adopt("a", [](Ended) {}));
  make_runtime();
  Later<Ended> ended;
  ASSERT_TRUE(runtime_->adopt("a", [&](Ended e) { ended.set(e); })) << "after a second restart";
  EXPECT_FALSE(runtime_->adopt("b", [](Ended) { FAIL(); }));
  ASSERT_TRUE(runtime_->signal("a", SIGTERM));
  ASSERT_TRUE(ended.get());
  EXPECT_TRUE(ended.get()->known);
  EXPECT_EQ(ended.get()->exit_code, 7);
  EXPECT_EQ(ended.times(), 1);
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(runtime_->remove("b"));
  EXPECT_TRUE(runtime_->list().empty());
}

TEST_F(RuntimeTest, RemovesASandboxWhoseKernelWasKilled) {
  Later<Ended> ended;
  const auto started = runtime_->start(spec("a", "sleep 1000"), [&](Ended e) { ended.set(e); });
  ASSERT_TRUE(started);
  kill(started->pid, SIGKILL);
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGKILL);
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(runtime_->list().empty());
  EXPECT_TRUE(runtime_->remove("a")) << "again is fine";
}

TEST_F(RuntimeTest, PausesAndGoesOn) {
  ASSERT_TRUE(runtime_->start(spec("a", "while true; do echo x; sleep 0.05; done"), [](Ended) {}));
  ASSERT_TRUE(eventually([&] { return !output("a").empty(); }));
  ASSERT_TRUE(runtime_->pause("a"));
  std::this_thread::sleep_for(milliseconds(200));
  const auto before = output("a").size();
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_EQ(output("a").size(), before);
  ASSERT_TRUE(runtime_->resume("a"));
  EXPECT_TRUE(eventually([&] { return output("a").size() > before; }));
}

TEST_F(RuntimeTest, ChoosesAPlatformByRunningIt) {
  std::string tried;
  const auto chosen = Runtime::choose_platform(runsc(), folder_, {"nonsense", "systrap", "ptrace"},
                                               seconds(30), tried);
  ASSERT_TRUE(chosen) << tried;
  EXPECT_NE(*chosen, "nonsense");
  EXPECT_NE(tried.find("nonsense: "), std::string::npos);
}

}  // namespace
}  // namespace chalk::gvisor
