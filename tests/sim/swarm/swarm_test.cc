#include "sim/swarm/swarm.h"

#include <gtest/gtest.h>

#include <set>

#include "sim/scenario/parse.h"
#include "sim/swarm/generate.h"
#include "sim/world/setup.h"

namespace chalk::sim {
namespace {

std::string small(const std::string& more) {
  return "shows: A test.\npools: [{name: p, nodes: 1, node: {cpu: 4, memory: 8Gi}}]\n"
         "workload: [{kind: poisson, per_second: 5, arrivals_max: 20, service: 100ms}]\n" +
         more;
}

TEST(Swarm, MakesScenariosOfEveryKindThatCanBeRead) {
  std::set<Fault::Kind> faults;
  std::set<ScalingPolicy> policies;
  std::set<std::size_t> pools;
  std::set<fleet::Policy> fleets;
  std::set<scheduler::Policy> placements;
  int gpus = 0, images = 0, elastic = 0, restored = 0, shells = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    const std::string text = random_scenario(seed);
    ASSERT_EQ(text, random_scenario(seed));
    try {
      const auto setup = load_scenario_text("swarm.yaml", text);
      for (const Fault& fault : setup.faults) faults.insert(fault.kind);
      policies.insert(setup.group_default.policy);
      pools.insert(setup.pools.size());
      gpus += setup.pools[0].shape.gpus > 0;
      images += !setup.images.empty();
      elastic += setup.pools[0].elastic;
      restored += setup.group_default.start_mode == StartMode::restore;
      shells += setup.pools[0].shells > 0;
      fleets.insert(setup.fleet.policy);
      placements.insert(setup.placement);
    } catch (const ScenarioError& error) {
      FAIL() << "seed " << seed << ": " << error.what() << "\n" << text;
    }
  }
  EXPECT_EQ(faults.size(), static_cast<std::size_t>(Fault::Kind::boot_failure) + 1);
  EXPECT_EQ(policies.size(), 4u);
  EXPECT_EQ(fleets.size(), 4u);
  EXPECT_EQ(placements.size(), 6u);
  EXPECT_EQ(pools.size(), 3u);
  for (const int some : {gpus, images, elastic, restored, shells}) EXPECT_GT(some, 40);
}

TEST(Swarm, BreaksNoPropertyInAHundredWorlds) {
  SwarmQuestion question;
  question.last = 100;
  const SwarmOutcome outcome = swarm(question, random_scenario, {}, nullptr);
  ASSERT_FALSE(outcome.found) << outcome.found->failure.what
                              << "\nrepeat with: build/release/bin/chalk-sim swarm --seeds "
                              << outcome.found->seed << ".." << outcome.found->seed;
  EXPECT_EQ(outcome.done, 100u);
  EXPECT_GT(outcome.events, 100'000u);
}

TEST(Swarm, StopsAtTheLowestSeedThatFails) {
  SwarmQuestion question;
  question.first = 1;
  question.last = 1000;
  question.digests_every = 0;
  const auto scenario = [](std::uint64_t seed) {
    return small(seed == 21 || seed == 18 ? "assert: [requests==0]\n" : "assert: [requests==20]\n");
  };
  const SwarmOutcome outcome = swarm(question, scenario, {}, nullptr);
  ASSERT_TRUE(outcome.found);
  EXPECT_EQ(outcome.found->seed, 18u);
  EXPECT_EQ(outcome.found->failure.kind, "assert requests==0");
  EXPECT_LE(outcome.done, 64u * question.parallel) << "no more than the batch that it is in";
}

TEST(Trial, TellsHowAScenarioFails) {
  std::vector<Trial> trials = {{"good.yaml", small("")},
                               {"text.yaml", small("unknown: 1\n")},
                               {"assert.yaml", small("assert: [wait_p99_ms<0]\n")},
                               {"long.yaml",
                                "shows: A test.\nduration: 10000h\n"
                                "pools: [{name: p, nodes: 1, node: {cpu: 4, memory: 8Gi}}]\n"
                                "workload: [{kind: poisson, per_second: 10000, service: 1ms}]\n"}};
  trials[3].seconds_max = 1;
  const auto results = try_all(trials, 2);
  EXPECT_FALSE(results[0].failure);
  EXPECT_GT(results[0].events, 0u);
  EXPECT_FALSE(results[1].readable);
  ASSERT_TRUE(results[2].failure);
  EXPECT_EQ(results[2].failure->kind, "assert wait_p99_ms<0");
  ASSERT_TRUE(results[3].failure);
  EXPECT_EQ(results[3].failure->kind, "no end");
}

}  // namespace
}  // namespace chalk::sim
