// The life of sandboxes.
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/adapters/gvisor/sandbox_fixture.h"

namespace chalk::gvisor {
namespace {

TEST_F(RuntimeTest, RunsInsideGVisorWithItsOwnHostnameEnvironmentAndExitCode) {
  const Ended end = end_of(
      spec("a", "hostname; echo $COLOUR; cat /proc/version; echo to-stderr >&2; pwd; exit 42"));
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
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [killed](Ended e) { killed.set(e); }));
  ASSERT_TRUE(runtime_->signal("a", SIGKILL));
  ASSERT_TRUE(killed.get());
  EXPECT_EQ(killed.get()->signal, SIGKILL);

  Later<Ended> trapped;
  ASSERT_TRUE(
      runtime_->start(spec("b", "trap 'exit 7' TERM; echo ready; while true; do sleep 0.1; done"),
                      [trapped](Ended e) { trapped.set(e); }));
  ASSERT_TRUE(eventually([&] { return !output("b").empty(); }));
  ASSERT_TRUE(runtime_->signal("b", SIGTERM));
  ASSERT_TRUE(trapped.get());
  EXPECT_EQ(trapped.get()->exit_code, 7);
  EXPECT_EQ(trapped.times(), 1);
}

TEST_F(RuntimeTest, HoldsWhatIsWrittenToItsQuota) {
  const Ended end = end_of(spec("a",
                                "dd if=/dev/zero of=/big bs=1M count=200 2>&1 | tail -1; ls -l "
                                "/big; echo kept >/small || echo full"));
  EXPECT_EQ(end.signal, 0);
  EXPECT_NE(output("a").find("full"), std::string::npos) << output("a");
  EXPECT_FALSE(fs::exists(folder_ / "rootfs/big")) << "the shared root is as it was";
}

TEST_F(RuntimeTest, KeepsTmpOnTheDiskAndNotInMemory) {
  SandboxSpec small =
      spec("a", "dd if=/dev/zero of=/tmp/big bs=1M count=150 2>/dev/null && echo kept");
  small.memory_bytes = 96 << 20;
  small.disk_bytes = 200 << 20;
  const Ended end = end_of(small);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_FALSE(end.out_of_memory);
  EXPECT_EQ(output("a"), "kept\n");
}

TEST_F(RuntimeTest, KillsAMemoryHogAndNotItsNeighbour) {
  Later<Ended> neighbour;
  ASSERT_TRUE(
      runtime_->start(spec("b", "trap 'exit 3' TERM; echo up; while true; do sleep 0.1; done"),
                      [neighbour](Ended e) { neighbour.set(e); }));
  // tail keeps the whole "line" in memory.
  SandboxSpec small = spec("a", "head -c 1000000000 /dev/zero | tail; sleep 1000");
  small.memory_bytes = 128 << 20;
  const Ended hog = end_of(small);
  EXPECT_TRUE(hog.out_of_memory);
  EXPECT_EQ(hog.signal, SIGKILL);
  EXPECT_GE(runtime_->groups().out_of_memory("a"), 1);
  EXPECT_EQ(neighbour.times(), 0);
  ASSERT_TRUE(eventually([&] { return output("b") == "up\n"; }));
  ASSERT_TRUE(runtime_->signal("b", SIGTERM));
  ASSERT_TRUE(neighbour.get());
  EXPECT_EQ(neighbour.get()->exit_code, 3);
  EXPECT_FALSE(neighbour.get()->out_of_memory);
}

TEST_F(RuntimeTest, AForkBombEndsOnlyItsOwnSandbox) {
  Later<Ended> bomb, neighbour;
  ASSERT_TRUE(runtime_->start(spec("b", "sleep 1000"), [neighbour](Ended e) { neighbour.set(e); }));
  SandboxSpec small = spec("a", "b() { b | b & }; while true; do b; done");
  small.pids = 150;
  ASSERT_TRUE(runtime_->start(small, [bomb](Ended e) { bomb.set(e); }));
  std::int64_t most = 0;
  for (int i = 0; i < 30; ++i) {
    most = std::max(most, runtime_->groups().usage("a")->pids);
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_GT(most, 20);
  EXPECT_LE(most, 150);
  EXPECT_TRUE(runtime_->remove("a"));
  ASSERT_TRUE(bomb.get());
  EXPECT_EQ(neighbour.times(), 0);
  EXPECT_TRUE(runtime_->alive("b"));
}

TEST_F(RuntimeTest, HoldsItToItsShareOfTheProcessorOnceItRuns) {
  SandboxSpec small = spec("a", "while true; do true; done");
  small.cpu_millicores = 100;
  ASSERT_TRUE(runtime_->start(small, [](Ended) {}));
  const auto begun = std::chrono::steady_clock::now();
  const auto before = runtime_->groups().usage("a")->cpu_nanos;
  std::this_thread::sleep_for(seconds(3));
  const auto used = runtime_->groups().usage("a")->cpu_nanos - before;
  const auto passed = std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count();
  EXPECT_GT(used, 0);
  EXPECT_LT(used, passed / 3) << "a tenth was allowed";
}

TEST_F(RuntimeTest, ShowsItsLimitsInside) {
  SandboxSpec small = spec("a", "nproc; head -1 /proc/meminfo");
  small.cpu_millicores = 1500;
  end_of(small);
  EXPECT_EQ(output("a").substr(0, 2), "2\n") << output("a");
  EXPECT_NE(output("a").find("262144 kB"), std::string::npos) << output("a");
}

TEST_F(RuntimeTest, IsFoundAgainByANewProcessAndItsEndIsSeen) {
  ASSERT_TRUE(runtime_->start(
      spec("a", "trap 'exit 7' TERM; echo up; while true; do sleep 0.1; done"), [](Ended) {}));
  ASSERT_TRUE(runtime_->start(spec("b", "true"), [](Ended) {}));
  ASSERT_TRUE(eventually([&] { return !runtime_->alive("b") && output("a") == "up\n"; }));
  make_runtime();  // with a reaper that knows of none of them
  EXPECT_EQ(runtime_->list(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(runtime_->alive("a"));
  EXPECT_FALSE(runtime_->alive("b"));
  ASSERT_TRUE(runtime_->adopt("a", [](Ended) {}));
  make_runtime();
  Later<Ended> ended;
  ASSERT_TRUE(runtime_->adopt("a", [ended](Ended e) { ended.set(e); })) << "after a second restart";
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

// Begun by a process that is gone they would stay for ever, since nobody knows of them.
TEST(Runtime, WhatExecBeganIsToldWhateverProcessesCallThemselves) {
  const std::string head = "UID  PID  PPID  C  TTY  STIME  TIME  CMD\n";
  const auto row = [](int pid, int parent, const std::string& name) {
    return "0  " + std::to_string(pid) + "  " + std::to_string(parent) + "  0  ?  21:00  0s  " +
           name + "\n";
  };
  const std::string usual = head + row(1, 0, "sleep") + row(2, 1, "of the main one") +
                            row(7, 0, "sh") + row(8, 7, "of sh") + row(9, 8, "of that");
  EXPECT_EQ(begun_by_exec(usual), (std::vector<pid_t>{7, 8, 9}));
  // Circles, the main process, nobody, a pid once more, and no numbers.
  EXPECT_EQ(begun_by_exec(usual + row(10, 1, "x\n0 98 98") +
                          row(11, 1, "x\n0 97 96\n0 96 97") +
                          row(12, 1, "x\n0 1 0\n0 0 0\n0 -5 0\n0 7 2\n0 x")),
            (std::vector<pid_t>{7, 8, 9}));
  EXPECT_TRUE(begun_by_exec("").empty());
}

TEST_F(RuntimeTest, WhatExecHadBegunEndsWithARestartAndTheRestGoesOn) {
  ASSERT_TRUE(runtime_->start(
      spec("a", "(sleep 1001; true) & echo up; while true; do sleep 0.1; done"), [](Ended) {}));
  ASSERT_TRUE(eventually([&] { return output("a") == "up\n"; }));
  ExecSpec shell, plain;
  shell.argv = {"sh", "-c", "sleep 1002; true"};
  plain.argv = {"sleep", "1003"};
  const auto begun_1 = runtime_->exec("a", shell, [](process::Status) {});
  const auto begun_2 = runtime_->exec("a", plain, [](process::Status) {});
  ASSERT_TRUE(begun_1 && begun_2);
  const auto there = [&](const std::string& command) {
    ExecSpec look;
    look.argv = {"sh", "-c", "ps | grep -v grep | grep -q '" + command + "'"};
    Later<process::Status> said;
    EXPECT_TRUE(runtime_->exec("a", look, [said](process::Status s) { said.set(s); }));
    return said.get() && said.get()->exit_code == 0;
  };
  for (const char* one : {"sleep 1001", "sleep 1002", "sleep 1003"}) {
    ASSERT_TRUE(eventually([&] { return there(one); })) << one;
  }
  make_runtime();
  Later<Ended> ended;
  ASSERT_TRUE(runtime_->adopt("a", [ended](Ended e) { ended.set(e); }));
  for (const char* one : {"sleep 1002", "sleep 1003"}) {
    EXPECT_TRUE(eventually([&] { return !there(one); })) << one;
  }
  EXPECT_TRUE(there("sleep 1001")) << "what the main process began goes on";
  EXPECT_EQ(ended.times(), 0);
}

// Run by the test below in a process of its own.
TEST_F(RuntimeTest, DISABLED_StartsOneAndGoesAway) {
  const char* folder = std::getenv("CHALK_TEST_FOLDER");
  ASSERT_NE(folder, nullptr);
  clean(name_, folder_);
  folder_ = folder;
  name_ = std::getenv("CHALK_TEST_NAME");
  make_runtime();
  SandboxSpec half = spec("a", "trap 'exit 7' TERM; echo up; while true; do sleep 0.1; done");
  half.cpu_millicores = 500;
  ASSERT_TRUE(runtime_->start(half, [](Ended) {}));
  _exit(0);  // nothing is cleaned up
}

TEST_F(RuntimeTest, TellsTheExitCodeOfOneThatIsNoChildOfOurs) {
  prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);  // so that it is not inherited
  const auto went = process::run(another_process(), seconds(90));
  ASSERT_TRUE(went) << went.error().message;
  ASSERT_EQ(went->status.exit_code, 0) << went->out;
  ASSERT_TRUE(eventually([&] { return output("a") == "up\n"; }));
  Later<Ended> ended;
  ASSERT_TRUE(runtime_->adopt("a", [ended](Ended e) { ended.set(e); }));
  ASSERT_TRUE(runtime_->signal("a", SIGTERM));
  ASSERT_TRUE(ended.get());
  EXPECT_TRUE(ended.get()->known);
  EXPECT_EQ(ended.get()->exit_code, 7);
}

TEST_F(RuntimeTest, AStartGoesOnWhenItsStarterIsKilled) {
  prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  auto other = process::spawn(another_process());
  ASSERT_TRUE(other) << other.error().message;
  // runsc has joined the group to make the sandbox, and has not said its number yet.
  ASSERT_TRUE(eventually([&] { return !runtime_->groups().members("a")->empty(); }, seconds(60),
                         milliseconds(0)));
  kill(other->pid, SIGKILL);
  ASSERT_TRUE(process::wait(*other, seconds(60)));
  EXPECT_TRUE(eventually([&] { return output("a") == "up\n"; }));
  EXPECT_TRUE(runtime_->alive("a"));
  // Nobody has told the kernel its share yet: one that starts may use a whole processor.
  Later<Ended> ended;
  ASSERT_TRUE(runtime_->adopt("a", [ended](Ended e) { ended.set(e); }));
  if (!runtime_->groups().version_two()) {
    std::ifstream quota("/sys/fs/cgroup/cpu/" + name_ + "/a/cpu.cfs_quota_us");
    int micros = 0;
    quota >> micros;
    EXPECT_EQ(micros, 50'000);
  }
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(ended.get());
  EXPECT_TRUE(runtime_->list().empty());
}

TEST_F(RuntimeTest, ANameThatBeginsAnothersReachesOnlyItself) {
  Later<Ended> longer;
  ASSERT_TRUE(runtime_->start(spec("box-1", "sleep 1000"), [longer](Ended e) { longer.set(e); }));
  ASSERT_TRUE(runtime_->start(spec("box", "sleep 1000"), [](Ended) {}));
  EXPECT_TRUE(runtime_->remove("box"));
  ExecSpec what;
  what.argv = {"/bin/true"};
  EXPECT_EQ(runtime_->signal("box", SIGKILL).error().kind, Error::Kind::not_found);
  EXPECT_EQ(runtime_->exec("box", what, [](process::Status) {}).error().kind,
            Error::Kind::not_found);
  EXPECT_TRUE(runtime_->remove("box"));
  EXPECT_EQ(longer.times(), 0);
  EXPECT_TRUE(runtime_->alive("box-1"));
}

TEST_F(RuntimeTest, LeavesNoProcessBehind) {
  for (int i = 0; i < 3; ++i) end_of(spec("a" + std::to_string(i), "true"));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(runtime_->remove("a" + std::to_string(i)));
  // Sandboxes and gofers are inherited by us; without a reaper for them these stay as zombies.
  EXPECT_TRUE(eventually(
      [] {
        siginfo_t info{};
        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD;
      },
      seconds(30)));
}

TEST_F(RuntimeTest, RemovesASandboxWhoseKernelWasKilled) {
  Later<Ended> ended;
  const auto started = runtime_->start(spec("a", "sleep 1000"), [ended](Ended e) { ended.set(e); });
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

}  // namespace
}  // namespace chalk::gvisor
