#include "sim/explain/explain.h"

#include <gtest/gtest.h>

#include "sim/scenario/parse.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

std::string log_of(const std::string& scenario, const std::vector<Override>& overrides = {}) {
  const std::string log = testing::TempDir() + "explain_test.log";
  const auto setup = load_scenario(scenario, overrides, {});
  RunOptions options;
  options.seed = setup.seed;
  options.log_path = log;
  run_world(setup, options);
  return log;
}

const Decision* of(const Explanation& e, const std::string& machine) {
  for (const Decision& d : e.decisions) {
    if (d.where == machine) return &d;
  }
  return nullptr;
}

std::string number(const Decision& d, const std::string& name) {
  for (const auto& [key, value] : d.numbers) {
    if (key == name) return value;
  }
  return "";
}

// Each placement, taken once more from the outside, comes out as the machine took it, and the
// chosen node stands first among the candidates.
TEST(Explain, NamesTheChosenNodeFirstOfItsCandidates) {
  for (const char* scenario :
       {"scenarios/fast/image_cache_locality.yaml", "scenarios/fast/scheduler_gpu_first.yaml",
        "scenarios/fast/tenants_apart.yaml"}) {
    const std::string log = log_of(scenario);
    std::size_t placements = 0;
    const auto found = find_events(log, "StartOrder", 400);
    for (std::size_t i = 0; i < found.size(); i += 23) {
      if (found[i].machine != "control plane") continue;
      const Explanation e = explain(log, found[i].number);
      EXPECT_TRUE(e.same);
      for (const Decision& d : e.decisions) {
        if (d.where != "scheduler" || !d.what.contains(" goes to node ")) continue;
        ++placements;
        EXPECT_EQ(d.note, "") << scenario << " event " << e.number;
        ASSERT_FALSE(d.candidates.empty());
        EXPECT_EQ(d.what.substr(d.what.rfind(' ') + 1), d.candidates[0][0])
            << scenario << " event " << e.number << "\n"
            << summary(e);
        EXPECT_EQ(d.candidates[0].back(), "") << "the chosen one fails a filter";
      }
    }
    EXPECT_GT(placements, 3u) << scenario;
  }
}

// With the pools that could have been bought of, the chosen one first.
TEST(Explain, NamesThePoolsThatNodesAreBoughtOf) {
  for (const char* policy : {"idle", "cluster_autoscaler", "karpenter", "newsvendor"}) {
    const std::string log =
        log_of("scenarios/fast/fleet_shapes.yaml", {{"fleet.policy", policy}, {"duration", "40m"}});
    std::size_t bought = 0;
    for (const Found& found : find_events(log, "BuyNode", 30)) {
      const Explanation e = explain(log, found.number);
      std::size_t said = 0, nodes = 0;
      for (const std::string& effect : e.effects) said += effect.starts_with("BuyNode") ? 1 : 0;
      for (const Decision& d : e.decisions) {
        if (!d.what.contains(" bought")) continue;
        ++bought;
        nodes += std::stoul(d.what);
        EXPECT_TRUE(d.rule.starts_with(policy) || d.rule.starts_with("it takes the place of")) << d.rule;
        ASSERT_GE(d.candidates.size(), 2u) << summary(e);
        EXPECT_TRUE(d.what.contains("of pool " + d.candidates[0][0] + " ")) << summary(e);
      }
      EXPECT_EQ(nodes, said) << summary(e);
    }
    EXPECT_GT(bought, 0u) << policy;
  }
}

TEST(Explain, NamesTheNodesThatAreKeptForAGuarantee) {
  const std::string log = log_of("scenarios/fast/first_node_kept.yaml");
  std::size_t kept = 0;
  for (const Found& found : find_events(log, "SandboxRequested", 400)) {
    const Explanation e = explain(log, found.number);
    for (const Decision& d : e.decisions) {
      if (!d.what.contains(" waits")) continue;
      for (const auto& candidate : d.candidates) {
        if (candidate.back() != "kept for a guarantee whose tenant owns no node") continue;
        ++kept;
        EXPECT_TRUE(d.rule.contains("no node has room")) << summary(e);
      }
    }
    if (kept > 0) break;
  }
  EXPECT_GT(kept, 0u);
}

TEST(Explain, TellsTheNumbersBehindScalingAndRefusal) {
  const std::string scaling = log_of("scenarios/fast/chalk_scaling.yaml", {{"requests", "500"}});
  const Explanation started = [&] {
    for (const Found& one : find_events(scaling, "StartOrder", 50)) {
      const Explanation e = explain(scaling, one.number);
      if (of(e, "autoscaler") != nullptr) return e;
    }
    throw std::runtime_error("no start of the autoscaler in the log");
  }();
  const Decision& d = *of(started, "autoscaler");
  EXPECT_TRUE(d.what.contains("start")) << d.what;
  EXPECT_EQ(number(d, "policy"), "chalk");
  EXPECT_NE(number(d, "desired replicas"), "");

  const std::string refused = log_of("scenarios/fast/quota_refused.yaml");
  const auto found = find_events(refused, "Refused{", 1);
  ASSERT_EQ(found.size(), 1u);
  const Explanation why = explain(refused, found[0].number);
  ASSERT_NE(of(why, "tenancy"), nullptr) << summary(why);
  EXPECT_TRUE(of(why, "tenancy")->rule.contains("quota")) << of(why, "tenancy")->rule;
  EXPECT_FALSE(to_json(why)["decisions"].empty());
}

TEST(Explain, TellsWhichReplicaTakesACall) {
  const std::string log = log_of("scenarios/fast/chalk_scaling.yaml", {{"requests", "300"}});
  const auto found = find_events(log, "Dispatch{", 200);
  ASSERT_GT(found.size(), 100u);
  const Explanation e = explain(log, found.back().number);
  const Decision* d = of(e, "functions");
  ASSERT_NE(d, nullptr) << summary(e);
  EXPECT_NE(number(*d, "replicas ready"), "");
}

TEST(Explain, NamesEventsThatAreNotThere) {
  const std::string log = log_of("scenarios/fast/quota_refused.yaml");
  EXPECT_THROW(explain(log, 0), std::runtime_error);
  EXPECT_THROW(explain(log, 100'000'000), std::runtime_error);
  EXPECT_THROW(explain("/nonexistent", 1), LogError);
  EXPECT_TRUE(find_events(log, "no such text", 5).empty());
}

}  // namespace
}  // namespace chalk::sim
