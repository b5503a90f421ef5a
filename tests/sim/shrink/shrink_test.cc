#include "sim/shrink/shrink.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "sim/scenario/parse.h"
#include "sim/scenario/reader.h"
#include "sim/shrink/record.h"
#include "sim/shrink/simpler.h"
#include "sim/swarm/generate.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

Result run(const Setup& setup) {
  RunOptions options;
  options.seed = setup.seed;
  return run_world(setup, options);
}

TEST(Shrink, ATreeIsTheScenarioThatItWasMadeOf) {
  std::size_t files = 0;
  for (const char* folder : {"scenarios/fast", "scenarios/rare", "scenarios/capacity"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string path = entry.path();
      const std::string again = to_yaml(tree_of(path, read_scenario_file(path)));
      EXPECT_EQ(load_scenario(path, {}, {}).scenario_hash,
                load_scenario_text(path, again).scenario_hash)
          << again;
      ++files;
    }
  }
  EXPECT_GT(files, 15u);
}

// The arrivals of a run, written out, are the same run.
TEST(Shrink, AListOfArrivalsIsDecidedAsTheGeneratorsWere) {
  int listed = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const std::string text = random_scenario(seed);
    if (text.contains("closed_loop")) continue;  // its clients wait for answers, a list does not
    Tree tree = tree_of("a.yaml", text);
    const auto workload = recorded_workload("a.yaml", text, 60);
    ASSERT_TRUE(workload);
    tree["workload"] = *workload;
    const Result a = run(load_scenario_text("a.yaml", text));
    const Result b = run(load_scenario_text("a.yaml", to_yaml(tree)));
    EXPECT_EQ(a.requests, b.requests);
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    ++listed;
  }
  EXPECT_GT(listed, 20);
}

TEST(Shrink, FindsTheOneThingThatMatters) {
  // Of 400 arrivals those of tenant-1 are refused, and of three faults none matters.
  const std::string text = R"(shows: A test.
seed: 3
zones: [{name: a}, {name: b}]
pools:
  - {name: p, nodes: 3, node: {cpu: 16, memory: 64Gi}}
  - {name: q, nodes_max: 5, node: {cpu: 8, memory: 16Gi}}
tenants: {tenant-1: {quota: {cpu: 100m}}}
workload:
  - {kind: poisson, of: sandboxes, per_second: 10, arrivals_max: 400, tenants: 4, runs: {distribution: exponential, mean: 3s}}
faults:
  - {kind: message_loss, permille: 20, from: 1s, lasts: 10s}
  - {kind: node_crash, count: 1, from: 5s, lasts: 10s}
  - {kind: heartbeat_lag, delay: 2s, from: 3s, lasts: 4s}
assert: [refused==0]
)";
  const ShrinkResult result = shrink("a.yaml", text, {}, {}, nullptr);
  EXPECT_EQ(result.failure.kind, "assert refused==0");
  EXPECT_TRUE(result.complete);
  EXPECT_TRUE(result.listed);
  EXPECT_EQ(result.before.arrivals, 400u);
  EXPECT_EQ(result.after.arrivals, 1u) << to_yaml(result.tree);
  EXPECT_EQ(result.after.faults, 0u);
  EXPECT_LE(result.after.lines, 12u) << to_yaml(result.tree);
  const auto failure = try_all({{"b.yaml", to_yaml(result.tree)}}, 1)[0].failure;
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->kind, "assert refused==0");
}

TEST(Shrink, RefusesWhatDoesNotFail) {
  EXPECT_THROW(shrink("a.yaml", "shows: A test.\n", {}, {}, nullptr), std::runtime_error);
  EXPECT_THROW(shrink("a.yaml", random_scenario(1), {}, {}, nullptr), std::runtime_error);
}

TEST(Shrink, MakingWordsSimplerComesToAnEnd) {
  for (const std::string start : {"4096", "20s900ms7ns", "0.37", "500m", "16Gi", "12.5Gbps",
                                  "1h30m", "kpa", "0s", "", "-5"}) {
    std::string word = start;
    int steps = 0;
    while (!simpler_words(word).empty() && ++steps < 10'000) word = simpler_words(word).back();
    EXPECT_LT(steps, 10'000) << start;
  }
  EXPECT_EQ(simpler_words("7")[0], "0");
  EXPECT_TRUE(simpler_words("kpa").empty());
}

}  // namespace
}  // namespace chalk::sim
