#include "sim/compare/compare.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "model/core/random.h"
#include "sim/report/result.h"
#include "sim/sweep/sweep.h"
#include "sim/workload/sampling.h"

namespace chalk::sim {
namespace {

constexpr int kSeeds = 6;

// Seeds differ much from each other, as real ones do; `factor` is what the other side changes.
Measured side(double factor, std::uint64_t noise = 0, int seeds = kSeeds) {
  Measured out;
  Random luck{5, 0};
  Random own = Random{noise, 0}.stream(9);
  for (int seed = 1; seed <= seeds; ++seed) {
    const double base = 100 + 80 * unit(luck.next());
    const double shaken = noise == 0 ? 1 : 1 + 0.02 * normal_quantile(unit(own.next()));
    Metrics metrics;
    for (const std::string& name : metric_names()) metrics[name] = 0;
    metrics["wait_p99_ms"] = base * factor * shaken;
    metrics["cost"] = 7;
    out["a"][static_cast<std::uint64_t>(seed)].metrics = metrics;
  }
  return out;
}

const CompareRow& row(const Comparison& c, const std::string& metric) {
  for (const CompareRow& one : c.rows) {
    if (one.metric == metric) return one;
  }
  throw std::runtime_error("no row of " + metric);
}

TEST(Compare, SaysNothingOfEqualRunsAndOfNoise) {
  const Comparison same = compare("A", side(1), "B", side(1), {});
  EXPECT_EQ(same.count(Verdict::equal), same.rows.size());
  const Comparison noisy = compare("A", side(1, 1), "B", side(1, 2), {});
  EXPECT_EQ(noisy.count(Verdict::worse) + noisy.count(Verdict::better), 0u);
  EXPECT_EQ(row(noisy, "wait_p99_ms").verdict, Verdict::within_noise);
}

TEST(Compare, FindsByPairsWhatTheSpreadOfSeedsWouldHide) {
  const Comparison worse = compare("A", side(1, 1), "B", side(1.1, 2), {});
  EXPECT_EQ(row(worse, "wait_p99_ms").verdict, Verdict::worse);
  EXPECT_TRUE(row(worse, "wait_p99_ms").paired);
  EXPECT_EQ(worse.rows.front().metric, "wait_p99_ms") << "worse stands first";
  const Comparison better = compare("A", side(1, 1), "B", side(0.9, 2), {});
  EXPECT_EQ(row(better, "wait_p99_ms").verdict, Verdict::better);
  CompareOptions coarse;
  coarse.at_least = 0.2;
  const Comparison small = compare("A", side(1, 1), "B", side(1.1, 2), coarse);
  EXPECT_EQ(row(small, "wait_p99_ms").verdict, Verdict::too_small);
}

TEST(Compare, WithoutCommonSeedsTheSameChangeIsNoise) {
  Measured moved;
  const Measured there = side(1.1, 2);
  for (const auto& [seed, run] : there.at("a")) moved["a"][seed + 100] = run;
  const Comparison c = compare("A", side(1, 1), "B", moved, {});
  EXPECT_FALSE(row(c, "wait_p99_ms").paired);
  EXPECT_EQ(row(c, "wait_p99_ms").verdict, Verdict::within_noise);
}

TEST(Compare, OneSeedIsNoVerdictAndABrokenInvariantAlwaysOne) {
  EXPECT_EQ(row(compare("A", side(1, 0, 1), "B", side(2, 0, 1), {}), "wait_p99_ms").verdict,
            Verdict::one_seed);
  Measured broken = side(1);
  broken["a"][3].metrics["invariants_broken"] = 1;
  EXPECT_EQ(compare("A", side(1), "B", broken, {}).broken, std::vector<std::string>{"a"});
  EXPECT_TRUE(compare("A", broken, "B", broken, {}).broken.empty());
}

TEST(Compare, DoesNotCompareWhatOneSideCouldNotMeasure) {
  Measured nobody = side(1);
  for (auto& [seed, run] : nobody["a"]) run.metrics.erase("wait_p99_ms");
  const Comparison c = compare("A", side(1), "B", nobody, {});
  EXPECT_EQ(row(c, "wait_p99_ms").verdict, Verdict::unmeasured);
  EXPECT_EQ(c.count(Verdict::better), 0u);
  EXPECT_NE(summary(c).find("nothing to measure: wait_p99_ms of a (nothing in B)"),
            std::string::npos)
      << summary(c);
  EXPECT_EQ(row(compare("A", nobody, "B", nobody, {}), "wait_p99_ms").verdict, Verdict::equal);
  nobody["a"][2].metrics["wait_p99_ms"] = nobody["a"][5].metrics["wait_p99_ms"] = 1;
  const CompareRow some = row(compare("A", side(1), "B", nobody, {}), "wait_p99_ms");
  EXPECT_EQ(some.difference.count, 2u) << "only the seeds that measured it";
}

// Two files of one name are no change of a policy.
TEST(Compare, DoesNotJudgeAnotherDemand) {
  const auto of = [](double factor, std::uint64_t noise, std::uint64_t hash, std::uint64_t demand) {
    Measured out = side(factor, noise);
    for (auto& [seed, run] : out["a"]) {
      run.scenario_hash = hash;
      run.demand = demand == 0 ? 0 : demand + seed;
    }
    return out;
  };
  Measured a = of(1, 1, 1, 10), b = of(1.1, 2, 2, 20);
  EXPECT_THROW(compare("A", a, "B", b, {}), std::runtime_error) << "nothing can be judged";
  a["b"] = a["a"];
  b["b"] = of(1.1, 2, 2, 10)["a"];
  const Comparison c = compare("A", a, "B", b, {});
  EXPECT_EQ(c.other_demand, std::vector<std::string>{"a"});
  EXPECT_EQ(c.other_settings, std::vector<std::string>{"b"});
  for (const CompareRow& one : c.rows) {
    EXPECT_EQ(one.verdict == Verdict::other_demand, one.of == "a") << one.of << " " << one.metric;
  }
  EXPECT_EQ(row(c, "wait_p99_ms").verdict, Verdict::worse) << "the same demand is judged";
  EXPECT_NE(summary(c).find("other work arrives in A than in B: a."), std::string::npos);
  // One file, and another program that draws otherwise; and clients that wait for their answers.
  for (const auto& [hash, demand] : {std::pair{1UL, 20UL}, std::pair{2UL, 0UL}}) {
    const Comparison judged = compare("A", of(1, 1, 1, 10), "B", of(1.1, 2, hash, demand), {});
    EXPECT_EQ(row(judged, "wait_p99_ms").verdict, Verdict::worse);
    EXPECT_EQ(judged.unknown_demand.size(), hash == 1 ? 0u : 1u) << "said as it is known";
    EXPECT_TRUE(judged.other_settings.empty());
  }
}

TEST(Compare, NamesWhatOnlyOneSideHasAndMetricsThatNobodyKnows) {
  Measured more = side(1);
  more["b"] = more["a"];
  EXPECT_EQ(compare("A", side(1), "B", more, {}).only_b, std::vector<std::string>{"b"});
  Measured other;
  other["b"] = more["a"];
  EXPECT_THROW(compare("A", side(1), "B", other, {}), std::runtime_error);
  CompareOptions unknown;
  unknown.metrics = {"wait_p9_ms"};
  EXPECT_THROW(compare("A", side(1), "B", side(1), unknown), std::runtime_error);
}

TEST(Compare, ReadsSweepsAndRunsBelowAFolder) {
  const std::string folder = testing::TempDir() + "compare_read";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  EXPECT_THROW(read_measured(folder), std::runtime_error);
  EXPECT_THROW(read_measured(folder + "/none"), std::runtime_error);
  SweepQuestion question;
  question.name = "swept";
  question.axes = {parse_axis("a.b=1,2")};
  Result result;
  result.scenario = "run";
  result.seed = 4;
  result.cost = 3;
  open_sweep(folder + "/x", question);
  write_run(folder + "/x", question, sweep_run(1, result));
  write_result(folder + "/y/z", result);
  const Measured found = read_measured(folder);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_EQ(found.at("swept a.b=2").at(4).metrics.at("cost"), 3);
  EXPECT_EQ(found.at("run").at(4).metrics.at("cost"), 3);
  result.cost = 5;
  write_result(folder + "/y/again", result);
  EXPECT_THROW(read_measured(folder), std::runtime_error) << "one seed with two costs";
  std::filesystem::remove_all(folder + "/y/again");
  std::ofstream(folder + "/y/z/events.log") << "of a run that was killed";
  EXPECT_EQ(read_measured(folder).size(), 2u);
  clear_result(folder + "/y/z");
  EXPECT_EQ(read_measured(folder).size(), 1u);
  std::ofstream(folder + "/y/z/events.log") << "of a run that was killed";
  EXPECT_THROW(read_measured(folder), std::runtime_error);
}

}  // namespace
}  // namespace chalk::sim
