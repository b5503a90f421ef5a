#include "sim/simgrid/isolated.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

namespace chalk::sim {
namespace {

TEST(Isolated, ReturnsTheBytesOfTheBodyHoweverMany) {
  const std::string many(3'000'000, '\0');
  EXPECT_EQ(run_isolated([&] { return many + "end"; }), many + "end");
  EXPECT_EQ(run_isolated([] { return std::string(); }), "");
}

TEST(Isolated, LeavesThisProcessAsItWas) {
  int value = 1;
  EXPECT_EQ(run_isolated([&] { return std::to_string(++value); }), "2");
  EXPECT_EQ(value, 1);
}

TEST(Isolated, TurnsExceptionsSignalsAndEarlyEndsIntoErrors) {
  EXPECT_EQ(run_isolated([]() -> std::string { throw std::runtime_error("no fuel"); }).error(),
            "exception: no fuel");
  EXPECT_EQ(run_isolated([]() -> std::string {
              raise(SIGKILL);
              return "";
            }).error(),
            "killed by signal 9 (Killed)");
  EXPECT_EQ(run_isolated([]() -> std::string { _exit(0); }).error(),
            "ended with status 0 before its result was complete");
}

TEST(Isolated, KeepsTheOrderOfTheBodiesAndRunsThemTogether) {
  std::vector<IsolatedBody> bodies;
  for (int i = 0; i < 9; ++i) {
    bodies.push_back([i]() -> std::string {
      std::this_thread::sleep_for(std::chrono::milliseconds(100 - 10 * i));
      if (i == 4) std::abort();
      return std::to_string(i);
    });
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto results = run_isolated_all(bodies, 9);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(450));
  for (int i = 0; i < 9; ++i) {
    if (i == 4) {
      EXPECT_EQ(results[i].error(), "killed by signal 6 (Aborted)");
    } else {
      EXPECT_EQ(results[i], std::to_string(i));
    }
  }
}

volatile sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

TEST(Isolated, AnInterruptReachesTheBodyWhichMayStillDeliver) {
  struct sigaction ours = {}, before = {};
  ours.sa_handler = on_interrupt;
  sigaction(SIGINT, &ours, &before);
  interrupted = 0;
  const pid_t parent = getpid();
  const IsolatedBody waits = [] {
    while (!interrupted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return std::string("what there is");
  };
  const IsolatedBody interrupts = [&] {
    kill(parent, SIGINT);
    return waits();
  };
  const auto results = run_isolated_all({waits, interrupts, waits}, 2);
  EXPECT_EQ(results[0], "what there is");
  EXPECT_EQ(results[1], "what there is");
  EXPECT_EQ(results[2].error(), "interrupted before it started");
  EXPECT_EQ(interrupted, 1) << "the handler of this process was called too";
  sigaction(SIGINT, &before, nullptr);
}

TEST(Isolated, WithoutAHandlerAnInterruptEndsTheChildrenAndThenTheProcess) {
  const IsolatedResult result = run_isolated([]() -> std::string {
    signal(SIGINT, SIG_DFL);  // SimGrid leaves a handler behind where a test has used its engine
    const pid_t self = getpid();
    const auto inner = run_isolated([self]() -> std::string {
      kill(self, SIGINT);
      std::this_thread::sleep_for(std::chrono::seconds(20));
      return "";
    });
    return inner ? *inner : inner.error();
  });
  EXPECT_EQ(result.error(), "killed by signal 2 (Interrupt)");
}

}  // namespace
}  // namespace chalk::sim
