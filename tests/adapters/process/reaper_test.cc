// Ends are told once, statuses are right, and nothing that is inherited stays a zombie.
#include "adapters/process/reaper.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace chalk::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Spawn shell(const std::string& script) {
  Spawn out;
  out.argv = {"/bin/sh", "-c", script};
  out.env = {"PATH=/usr/bin:/bin"};
  return out;
}

// What was told, by any thread.
class Heard {
 public:
  void hear(int who, Status status) {
    const std::lock_guard lock(mutex_);
    statuses_[who] = status;
    ++times_[who];
    changed_.notify_all();
  }
  bool all(std::size_t count, seconds timeout = seconds(60)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [&] { return statuses_.size() >= count; });
  }
  Status of(int who) {
    const std::lock_guard lock(mutex_);
    return statuses_[who];
  }
  int times(int who) {
    const std::lock_guard lock(mutex_);
    return times_[who];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Status> statuses_;
  std::map<int, int> times_;
};

bool eventually(const std::function<bool()>& condition, seconds timeout = seconds(30)) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return true;
}

bool no_children() {
  siginfo_t info{};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == -1 && errno == ECHILD;
}

TEST(Reaper, TellsEachEndOnceWithItsStatus) {
  Heard heard;
  Reaper reaper;
  for (int i = 0; i < 20; ++i) {
    auto child = spawn(shell("exit " + std::to_string(i)));
    ASSERT_TRUE(child) << child.error().message;
    ASSERT_TRUE(
        reaper.watch(child->pid, std::move(child->pidfd), [&, i](Status s) { heard.hear(i, s); }));
  }
  auto killed = spawn(shell("exec sleep 1000"));
  ASSERT_TRUE(killed);
  kill(killed->pid, SIGKILL);
  ASSERT_TRUE(
      reaper.watch(killed->pid, std::move(killed->pidfd), [&](Status s) { heard.hear(20, s); }));
  ASSERT_TRUE(heard.all(21));
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(heard.of(i).known);
    EXPECT_EQ(heard.of(i).exit_code, i);
    EXPECT_EQ(heard.times(i), 1);
  }
  EXPECT_EQ(heard.of(20).signal, SIGKILL);
}

TEST(Reaper, TellsTheEndOfAProcessThatIsNoChildOfOurs) {
  prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  const auto made = run(shell("setsid sleep 1000 >/dev/null 2>&1 & echo $!"), seconds(60));
  ASSERT_TRUE(made) << made.error().message;
  const pid_t pid = std::atoi(made->out.c_str());
  ASSERT_GT(pid, 0);
  Heard heard;
  Reaper reaper;
  ASSERT_TRUE(reaper.watch(pid, [&](Status s) { heard.hear(0, s); }));
  EXPECT_EQ(heard.times(0), 0);
  kill(pid, SIGKILL);
  ASSERT_TRUE(heard.all(1));
  EXPECT_FALSE(heard.of(0).known);
  auto gone = spawn(shell("true"));
  ASSERT_TRUE(gone && wait(*gone, seconds(60)));
  const auto refused = reaper.watch(gone->pid, [](Status) { FAIL(); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::not_found);
}

TEST(Reaper, KnowsTheStatusOfAnInheritedProcess) {
  become_subreaper();
  Heard heard;
  Reaper reaper;
  const auto made = run(shell("(sleep 1; exit 9) >/dev/null 2>&1 & echo $!"), seconds(60));
  ASSERT_TRUE(made) << made.error().message;
  const pid_t pid = std::atoi(made->out.c_str());
  ASSERT_TRUE(reaper.watch(pid, [&](Status s) { heard.hear(0, s); }));
  ASSERT_TRUE(heard.all(1));
  EXPECT_TRUE(heard.of(0).known);
  EXPECT_EQ(heard.of(0).exit_code, 9);
}

TEST(Reaper, TakesOrphansAtOnceAndLeavesWhatIsClaimed) {
  become_subreaper();
  Reaper reaper;
  auto own = spawn(shell("exit 5"));  // ended, and not waited for yet
  ASSERT_TRUE(own);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, own->pid, &info, WEXITED | WNOWAIT), 0);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(run(shell("(sleep 0.2) >/dev/null 2>&1 & true"), seconds(60)));
  }
  // The oldest zombie is claimed, so the others wait; it still has its status after that.
  std::this_thread::sleep_for(seconds(6));
  const auto status = wait(*own, seconds(60));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->known);
  EXPECT_EQ(status->exit_code, 5);
  EXPECT_TRUE(eventually(no_children));
}

TEST(Reaper, TakesAChildThatNobodyWaitsFor) {
  become_subreaper();
  Reaper reaper;
  ASSERT_TRUE(spawn(shell("exit 5")));  // forgotten at once
  EXPECT_TRUE(eventually(no_children));
}

TEST(Reaper, LeavesOtherPeoplesChildrenAlone) {
  Reaper reaper;
  const pid_t pid = fork();
  if (pid == 0) _exit(6);
  std::this_thread::sleep_for(seconds(6));  // more than one round
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid) << "its status was taken";
  EXPECT_EQ(WEXITSTATUS(status), 6);
}

TEST(Reaper, SaysWhatItCannotWatch) {
  Reaper reaper;
  for (const char* what : {"/etc/passwd", "/nowhere"}) {  // epoll takes no files, and nothing else
    const auto refused =
        reaper.watch(1, Fd(open(what, O_RDONLY | O_CLOEXEC)), [](Status) { FAIL(); });
    ASSERT_FALSE(refused) << what;
    EXPECT_EQ(refused.error().kind, Error::Kind::exhausted);
  }
}

TEST(Reaper, TellsNobodyAfterItIsGone) {
  auto child = spawn(shell("exec sleep 1000"));
  ASSERT_TRUE(child);
  const pid_t pid = child->pid;
  {
    Reaper reaper;
    ASSERT_TRUE(reaper.watch(pid, [](Status) { FAIL(); }));
  }
  kill(pid, SIGKILL);
  EXPECT_EQ(wait(*child, seconds(60))->signal, SIGKILL);
}

}  // namespace
}  // namespace chalk::process
