// Who serves goes before who is served, and does not hand that on.
#include "adapters/process/precedence.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>

#include "adapters/process/child.h"

namespace chalk::process {
namespace {

// In a process of its own: what is taken cannot be given back to the other tests.
int apart(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int oom_score_adj() {
  int value = 0;
  std::ifstream("/proc/self/oom_score_adj") >> value;
  return value;
}

// "NICE OOM_SCORE_ADJ" of a program that is started now.
std::string of_a_child() {
  Spawn shell;
  shell.argv = {"/bin/sh", "-c", "echo $(nice) $(cat /proc/self/oom_score_adj)"};
  shell.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  const auto ran = run(shell, std::chrono::seconds(60));
  return ran ? ran->out : ran.error().message;
}

TEST(Precedence, IsOursAndNotOurChildrens) {
  if (geteuid() != 0) GTEST_SKIP() << "raising a priority needs root";
  const std::string usual = of_a_child();
  EXPECT_EQ(apart([&] {
              setsid();
              const int before = oom_score_adj();
              const std::string missing = take_precedence();
              if (getpriority(PRIO_PROCESS, 0) != kServingNice) return 1;
              // A container may lack CAP_SYS_RESOURCE: then it is said, and nothing changes.
              const bool refused = missing.starts_with("/proc/self/oom_score_adj: ");
              if (!refused && !missing.empty()) return 2;
              if (oom_score_adj() != (refused ? before : kServingOomScoreAdj)) return 3;
              return of_a_child() == usual ? 0 : 4;
            }),
            0);
}

TEST(Precedence, TakesAllDescriptorsThatThereAreAndGivesChildrenTheUsualNumber) {
  EXPECT_EQ(apart([] {
              rlimit limit{};
              getrlimit(RLIMIT_NOFILE, &limit);
              limit.rlim_cur = 200;
              if (limit.rlim_max < 400 || setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
              take_precedence();
              rlimit now{};
              getrlimit(RLIMIT_NOFILE, &now);
              if (now.rlim_cur != limit.rlim_max || now.rlim_max != limit.rlim_max) return 2;
              // A child of one that has more open than is usual is made all the same.
              for (int i = 0; i < 300; ++i) {
                if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) return 5;
              }
              Spawn shell;
              shell.argv = {"/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"};
              const auto ran = run(shell, std::chrono::seconds(60));
              if (!ran) return 3;
              return ran->out == "200\n" + std::to_string(limit.rlim_max) + "\n" ? 0 : 4;
            }),
            0);
}

TEST(Precedence, LeavesAPriorityThatAnOperatorChose) {
  if (geteuid() != 0) GTEST_SKIP() << "raising a priority needs root";
  EXPECT_EQ(apart([] {
              setsid();
              setpriority(PRIO_PROCESS, 0, 5);
              take_precedence();
              if (getpriority(PRIO_PROCESS, 0) != 5) return 1;
              return of_a_child().starts_with("5 ") ? 0 : 2;
            }),
            0);
}

TEST(Precedence, SaysWhatItCouldNotHave) {
  if (geteuid() != 0) GTEST_SKIP() << "giving up rights needs root";
  EXPECT_EQ(apart([] {
              if (setuid(65534) != 0) return 1;
              const std::string missing = take_precedence();
              return missing.find("priority: ") != std::string::npos &&
                             missing.find("oom_score_adj: ") != std::string::npos
                         ? 0
                         : 2;
            }),
            0);
}

}  // namespace
}  // namespace chalk::process
