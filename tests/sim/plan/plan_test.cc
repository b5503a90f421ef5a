#include "sim/plan/plan.h"

#include <gtest/gtest.h>

#include <csignal>

#include "sim/report/html.h"

namespace chalk::sim {
namespace {

std::atomic<bool> stop = false;
void on_signal(int) { stop = true; }

// Cut short in its first value a run has good figures: its queue has not grown yet.
TEST(Plan, TakesNothingFromRunsThatWereInterrupted) {
  stop = false;
  struct sigaction ours {}, before {};
  ours.sa_handler = on_signal;
  sigaction(SIGTERM, &ours, &before);
  PlanQuestion question;
  question.knob = "pools.0.nodes";
  question.low = 1;
  question.high = 8;
  question.condition = "failed<=0";
  question.seeds = {1, 2};
  const pid_t parent = getpid();
  const auto run = [parent](std::int64_t value, std::uint64_t seed) {
    Result result;
    result.seed = seed;
    result.completed = result.requests = 1;
    if (value < 4) {
      result.failed["lost"] = 1;
    } else {
      if (seed == 1) kill(parent, SIGTERM);
      while (!stop) usleep(1000);
      result.interrupted = true;
    }
    return result;
  };
  const PlanResult plan = chalk::sim::plan(question, run, {}, &stop);
  sigaction(SIGTERM, &before, nullptr);
  EXPECT_TRUE(plan.interrupted);
  EXPECT_FALSE(plan.found);
  ASSERT_EQ(plan.points.size(), 2u) << "1 and 2; 4 was cut short";
  EXPECT_EQ(plan.points[1].value, 2);
  EXPECT_TRUE(to_json(plan)["value"].is_null());
  EXPECT_TRUE(to_json(plan)["reference"].is_null());
  const std::string page = html_page(plan);
  EXPECT_EQ(page.find("The run with"), std::string::npos) << "8 was never run";
  EXPECT_NE(page.find("There is no answer yet"), std::string::npos);
}

// The figure was met with 1 already: what the scenario asserts decided, and the answer says so.
TEST(Plan, SaysThatTheScenariosOwnAssertionsDecided) {
  PlanQuestion question;
  question.knob = "pools.0.nodes";
  question.low = 1;
  question.high = 4;
  question.condition = "wait_p99_ms<=500";
  question.seeds = {1, 2};
  bool asserts = true;
  const auto run = [&](std::int64_t value, std::uint64_t seed) {
    Result result;
    result.seed = seed;
    result.wait_ms.count = 1;
    result.wait_ms.p99 = 70;
    if (asserts) result.assertions.push_back({"refused==0", 0, value >= 3, true});
    return result;
  };
  const PlanResult plan = chalk::sim::plan(question, run, {}, nullptr);
  EXPECT_EQ(plan.chosen, 3);
  const std::string text = plan_summary(plan);
  EXPECT_NE(text.find("pools.0.nodes = 3 is the least that meets wait_p99_ms<=500 and is fit"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("the scenario's assertion refused==0 fails"), std::string::npos) << text;
  EXPECT_NE(text.find("With pools.0.nodes = 3, wait_p99_ms lies between 70 and 70."),
            std::string::npos)
      << text;
  // Where the figure fails as well it is no matter what else does.
  question.condition = "wait_p99_ms<=50";
  EXPECT_EQ(plan_summary(chalk::sim::plan(question, run, {}, nullptr)).find("does not count"),
            std::string::npos);
  question.condition = "wait_p99_ms<=500";
  asserts = false;
  EXPECT_NE(plan_summary(chalk::sim::plan(question, run, {}, nullptr))
                .find("= 1 is the least that meets wait_p99_ms<=500."),
            std::string::npos);
}

}  // namespace
}  // namespace chalk::sim
