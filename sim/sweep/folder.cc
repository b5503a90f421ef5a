// A sweep's folder: the question and the finished runs.
#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

#include "sim/report/files.h"
#include "sim/sweep/sweep.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

// What is cut was not written by us: each file is renamed into place when it is whole.
json parsed(const std::string& path, const std::string& expected) {
  try {
    return json::parse(read_file(path));
  } catch (const json::exception&) {
    throw std::runtime_error(path + ": found text that is cut or damaged, expected " + expected);
  }
}

std::string whole_run(const std::string& folder) {
  return "a finished run; delete the file and run it again: chalk-sim sweep --resume " +
         shell_word(folder);
}

std::string run_path(const std::string& folder, const SweepRun& run) {
  return fmt::format("{}/runs/{:06}-{}.json", folder, run.point, run.seed);
}

std::string shown(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

SweepRun sweep_run(std::size_t point, const Result& result) {
  SweepRun run;
  run.point = point;
  run.seed = result.seed;
  run.digest = hex_text(result.digest);
  run.scenario_hash = result.scenario_hash;
  run.demand = result.demand;
  run.wall_seconds = result.wall_seconds;
  for (const std::string& name : metric_names()) {
    if (has_samples(result, name)) run.metrics[name] = lookup_metric(result, name).value_or(0);
  }
  run.broken = result.broken;
  for (const Assertion& assertion : result.assertions) {
    if (!assertion.passed) run.not_met.push_back(assertion.text);
  }
  return run;
}

std::string difference(const SweepQuestion& there, const SweepQuestion& asked) {
  const json a = identity_json(there), b = identity_json(asked);
  json all = a;
  all.update(b);
  for (const auto& [key, value] : all.items()) {
    const json before = a.value(key, json()), now = b.value(key, json());
    if (before != now) {
      return fmt::format("its {} is {}, asked is {}", key, shown(before), shown(now));
    }
  }
  return "";
}

void open_sweep(const std::string& folder, const SweepQuestion& question) {
  refuse_others(folder, {"result.json", "plan.json", "compare.json"});
  std::filesystem::create_directories(folder + "/runs");
  const std::string path = folder + "/sweep.json";
  if (std::filesystem::exists(path)) {
    const SweepQuestion there = read_question(folder);
    if (there.identity() == question.identity()) return;
    throw std::runtime_error(folder + ": found another sweep: " + difference(there, question) +
                             "; expected the same, or an empty folder");
  }
  write_file(path, json_text(to_json(question)));
}

SweepQuestion read_question(const std::string& folder) {
  const std::string path = folder + "/sweep.json";
  if (!std::filesystem::exists(path)) {
    throw std::runtime_error(folder +
                             ": found no sweep.json, expected a folder that `chalk-sim "
                             "sweep --out` wrote");
  }
  const json text = parsed(path, "the question of a sweep; start a new one in another folder");
  try {
    return sweep_from_json(text);
  } catch (const std::exception& bad) {
    throw std::runtime_error(path + ": found text that is not of a sweep: " + bad.what());
  }
}

void write_run(const std::string& folder, const SweepQuestion& question, const SweepRun& run) {
  const json out = {{"sweep", question.identity()},
                    {"point", run.point},
                    {"seed", run.seed},
                    {"configuration", to_text(question.point(run.point))},
                    {"digest", run.digest},
                    {"scenario_hash", hex_text(run.scenario_hash)},
                    {"demand", hex_text(run.demand)},
                    {"wall_seconds", run.wall_seconds},
                    {"metrics", run.metrics},
                    {"broken", run.broken},
                    {"not_met", run.not_met}};
  write_file(run_path(folder, run), json_text(out));
}

SweepRuns read_runs(const std::string& folder, const SweepQuestion& question) {
  SweepRuns runs;
  if (!std::filesystem::exists(folder + "/runs")) return runs;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/runs")) {
    if (entry.path().extension() != ".json") continue;  // a killed writer's
    const std::string path = entry.path();
    const json j = parsed(path, whole_run(folder));
    SweepRun run;
    try {
      if (j.at("sweep") != question.identity()) {
        throw std::runtime_error(path + ": found a run of another sweep");
      }
      run.point = j.at("point");
      run.seed = j.at("seed");
      run.digest = j.at("digest");
      run.scenario_hash = std::stoull(j.value("scenario_hash", "0"), nullptr, 16);
      run.demand = std::stoull(j.value("demand", "0"), nullptr, 16);
      run.wall_seconds = j.at("wall_seconds");
      run.metrics = j.at("metrics").get<std::map<std::string, double>>();
      run.broken = j.at("broken").get<std::vector<std::string>>();
      run.not_met = j.at("not_met").get<std::vector<std::string>>();
    } catch (const json::exception&) {
      throw std::runtime_error(path + ": found JSON that is no run's, expected " +
                               whole_run(folder));
    }
    runs[{run.point, run.seed}] = run;
  }
  return runs;
}

}  // namespace chalk::sim
