#include "sim/sweep/sweep.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "sim/sweep/merge.h"

namespace chalk::sim {
namespace {

SweepQuestion question() {
  SweepQuestion q;
  q.scenario = "a b.yaml";
  q.name = "a";
  q.axes = {parse_axis("pools.0.nodes=1,2,4"), parse_axis("d.e=x,y")};
  q.sets = {{"start", "1s"}};
  q.first_seed = 7;
  q.seeds = 2;
  return q;
}

std::string fresh_folder(const char* name) {
  const std::string folder = testing::TempDir() + name;
  std::filesystem::remove_all(folder);
  return folder;
}

Result result_of(const Configuration& point, std::uint64_t seed) {
  Result result;
  result.seed = seed;
  result.cost = std::stod(point[0].second);
  result.wait_ms.count = 1;
  result.wait_ms.p99 = 100 / result.cost + (point[1].second == "y" ? 5 : 0);
  return result;
}

TEST(Sweep, PartsValuesOutsideOfBraces) {
  const Axis axis = parse_axis("start={distribution: uniform, mean: 1s},2s,\"a,b\"");
  EXPECT_EQ(axis.key, "start");
  EXPECT_EQ(axis.values,
            (std::vector<std::string>{"{distribution: uniform, mean: 1s}", "2s", "\"a,b\""}));
  for (const char* bad : {"a", "=1", "a=", "a=1,,2", "a=1,1", "a=1,2,01", "a=2.0,2"}) {
    EXPECT_THROW(parse_axis(bad), std::runtime_error) << bad;
  }
}

TEST(Sweep, HasEveryCombinationOnceAndDealsEachRunToOneShard) {
  const SweepQuestion q = question();
  EXPECT_EQ(q.points(), 6u);
  std::set<Configuration> seen;
  for (std::size_t p = 0; p < q.points(); ++p) seen.insert(q.point(p));
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_EQ(q.command(1),
            "chalk-sim run 'a b.yaml' --set start=1s --set pools.0.nodes=1 --set d.e=y --seed 7");
  const std::string folder = fresh_folder("sweep_shards");
  open_sweep(folder, q);
  std::size_t ran = 0;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const auto outcome = run_shard(q, {i, 5}, folder, 2, result_of, {}, nullptr);
    EXPECT_EQ(outcome.there, 0u);
    EXPECT_TRUE(outcome.failed.empty());
    ran += outcome.ran;
  }
  EXPECT_EQ(ran, q.runs());
  EXPECT_EQ(read_runs(folder, q).size(), q.runs());
}

TEST(Sweep, RunsOnlyWhatIsMissingAndNamesWhatFailed) {
  const SweepQuestion q = question();
  const std::string folder = fresh_folder("sweep_resume");
  open_sweep(folder, q);
  const auto failing = [](const Configuration& point, std::uint64_t seed) {
    if (point[0].second == "4" && seed == 8) throw std::runtime_error("planted");
    return result_of(point, seed);
  };
  const auto first = run_shard(q, {}, folder, 2, failing, {}, nullptr);
  EXPECT_EQ(first.ran, q.runs() - 2);
  ASSERT_EQ(first.failed.size(), 2u);
  EXPECT_NE(first.failed[0].find("pools.0.nodes=4 d.e=x seed 8: exception: planted"),
            std::string::npos)
      << first.failed[0];
  std::ofstream(folder + "/runs/000000-9.json.abcdef.partial") << "{";  // of a killed writer
  const auto second = run_shard(q, {}, folder, 2, result_of, {}, nullptr);
  EXPECT_EQ(second.ran, 2u);
  EXPECT_EQ(second.there, q.runs() - 2);
}

TEST(Sweep, KeepsSweepsApart) {
  const std::string folder = fresh_folder("sweep_apart");
  SweepQuestion q = question();
  open_sweep(folder, q);
  open_sweep(folder, q);
  q.scenario = "moved.yaml";
  open_sweep(folder, q);
  q.seeds = 3;
  try {
    open_sweep(folder, q);
    FAIL() << "another question was taken for the same";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("its seeds is 2, asked is 3"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(read_question(testing::TempDir()), std::runtime_error);
  for (const char* cut : {"", "{\"sweep\":1", "{}"}) {
    std::ofstream(folder + "/runs/000000-7.json") << cut;
    try {
      read_runs(folder, question());
      FAIL() << "a run that is cut was taken for whole";
    } catch (const std::runtime_error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("/runs/000000-7.json: found"), std::string::npos) << what;
      EXPECT_NE(what.find("delete the file and run it again: chalk-sim sweep --resume " + folder),
                std::string::npos)
          << what;
    }
  }
}

TEST(Sweep, TheFrontIsWhatNothingBeats) {
  const SweepQuestion q = question();
  SweepRuns runs;
  for (std::size_t p = 0; p < q.points(); ++p) {
    for (const std::uint64_t seed : {7, 8}) {
      Result result = result_of(q.point(p), seed);
      if (p == 4) result.broken = {"invariant 1"};
      runs[{p, seed}] = sweep_run(p, result);
    }
  }
  const SweepTable table = sweep_table(q, runs, "cost", "wait_p99_ms");
  ASSERT_EQ(table.points.size(), 6u);
  std::vector<bool> front;
  for (const SweepPoint& point : table.points) front.push_back(point.on_front);
  // With 4 nodes and x an invariant is broken, so y is the best there.
  EXPECT_EQ(front, (std::vector<bool>{true, false, true, false, false, true}));
  EXPECT_THROW(sweep_table(q, runs, "cost", "wait_p99"), std::runtime_error);
  // Nothing was measured where nobody was served, and that is not the best of all waits.
  for (auto& [which, run] : runs) {
    if (which.first == 5) run.metrics.erase("wait_p99_ms");
  }
  const SweepTable nobody = sweep_table(q, runs, "cost", "wait_p99_ms");
  EXPECT_FALSE(nobody.points[5].on_front);
  // Use of the processors is neither good nor bad by itself, so nothing beats anything in it.
  const SweepTable neither = sweep_table(q, runs, "utilisation_cpu", "wait_p99_ms");
  for (const SweepPoint& point : neither.points) EXPECT_FALSE(point.on_front);
  EXPECT_NE(summary(neither).find("utilisation_cpu is neither good nor bad"), std::string::npos);
  // A mean is of those seeds that measured it, and says of how many.
  runs[{5, 7}].metrics["wait_p99_ms"] = 3;
  const std::string some = summary(sweep_table(q, runs, "cost", "wait_p99_ms"));
  EXPECT_NE(some.find("3 (1 of 2)"), std::string::npos) << some;
  runs.erase({3, 8});
  EXPECT_EQ(sweep_table(q, runs, "cost", "wait_p99_ms").missing,
            (std::vector<std::string>{"pools.0.nodes=2 d.e=y seed 8"}));
}

// What is a little worse by chance alone is not beaten, what is so with every seed is.
TEST(Sweep, NearTheFrontIsWhatNothingBeatsBeyondNoise) {
  SweepQuestion q = question();
  q.axes = {parse_axis("pools.0.nodes=1,2,4")};
  q.seeds = 6;
  const auto table_with = [&](std::uint32_t seeds) {
    q.seeds = seeds;
    SweepRuns runs;
    for (std::size_t p = 0; p < 3; ++p) {
      for (std::uint32_t s = 0; s < seeds; ++s) {
        Result result;
        result.seed = q.first_seed + s;
        result.cost = 10;
        result.wait_ms.count = 1;
        const double noise = s % 2 == 0 ? 1 : -1;
        result.wait_ms.p99 = 100 + s + (p == 1 ? 0.1 + noise : p == 2 ? 5 + 0.1 * noise : 0);
        runs[{p, result.seed}] = sweep_run(p, result);
      }
    }
    return sweep_table(q, runs, "cost", "wait_p99_ms");
  };
  const SweepTable six = table_with(6);
  EXPECT_TRUE(six.points[0].on_front);
  EXPECT_FALSE(six.points[0].near);
  EXPECT_TRUE(six.points[1].near);
  EXPECT_FALSE(six.points[2].near);
  EXPECT_NE(summary(six).find("1 more is near: by 6 seeds"), std::string::npos) << summary(six);
  EXPECT_TRUE(to_json(six).at("points").at(1).at("near").get<bool>());
  // Two seeds that agree are no verdict, and one cannot even tell what is near.
  EXPECT_TRUE(table_with(2).points[1].near);
  const SweepTable one = table_with(1);
  for (const SweepPoint& point : one.points) EXPECT_FALSE(point.near);
  EXPECT_NE(summary(one).find("With one seed"), std::string::npos);
}

TEST(Sweep, MergesShardsAndRefusesTwoDigestsOfOneRun) {
  const SweepQuestion q = question();
  std::vector<std::string> folders;
  for (std::uint32_t i = 0; i < 2; ++i) {
    folders.push_back(fresh_folder(i == 0 ? "sweep_merge0" : "sweep_merge1"));
    open_sweep(folders.back(), q);
    run_shard(q, {i, 2}, folders.back(), 2, result_of, {}, nullptr);
  }
  SweepRuns runs;
  EXPECT_EQ(merge_runs(folders, runs).identity(), q.identity());
  EXPECT_EQ(runs.size(), q.runs());
  SweepRun other = runs.begin()->second;
  other.digest = "1";
  write_run(folders[1], q, other);
  SweepRuns again;
  EXPECT_THROW(merge_runs(folders, again), std::runtime_error);
}

TEST(Sweep, RefusesShardsThatAreNone) {
  EXPECT_EQ(parse_shard("3/4").index, 3u);
  for (const char* bad : {"4/4", "1", "a/2", "1/2x", "-1/2", "1/0", ""}) {
    EXPECT_THROW(parse_shard(bad), std::runtime_error) << bad;
  }
}

}  // namespace
}  // namespace chalk::sim
