// Finds the runs below a folder.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "sim/compare/compare.h"
#include "sim/report/files.h"
#include "sim/report/result.h"
#include "sim/sweep/sweep.h"

namespace chalk::sim {
namespace {

void add(Measured& out, const std::string& path, const std::string& of, std::uint64_t seed,
         const SweepRun& run) {
  const auto [there, is_new] =
      out[of].emplace(seed, MeasuredRun{run.metrics, run.scenario_hash, run.demand});
  if (!is_new && there->second.metrics != run.metrics) {
    throw std::runtime_error(fmt::format(
        "{}: found \"{}\" with seed {} a second time, and with other figures", path, of, seed));
  }
}

void add_sweep(Measured& out, const std::string& folder) {
  const SweepQuestion question = read_question(folder);
  for (auto& [which, run] : read_runs(folder, question)) {
    const Configuration point = question.point(which.first);
    add(out, folder, question.name + (point.empty() ? "" : " " + to_text(point)), run.seed, run);
  }
}

void add_result(Measured& out, const std::string& path) {
  Result result;
  try {
    result = result_from_json(read_file(path));
  } catch (const nlohmann::json::exception&) {
    throw std::runtime_error(path +
                             ": found text that is cut or no result, expected what `chalk-sim "
                             "run --out` writes; run it again");
  }
  if (result.interrupted) throw std::runtime_error(path + ": found a run that was interrupted");
  add(out, path, result.scenario, result.seed, sweep_run(0, result));
}

}  // namespace

Measured read_measured(const std::string& folder) {
  Measured out;
  if (!std::filesystem::is_directory(folder)) {
    throw std::runtime_error(folder +
                             ": found no folder, expected one that `run --out` or `sweep "
                             "--out` wrote, or one that holds such");
  }
  std::vector<std::string> folders = {folder};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  for (const std::string& one : folders) {
    if (std::filesystem::exists(one + "/sweep.json")) add_sweep(out, one);
    if (std::filesystem::exists(one + "/result.json")) {
      add_result(out, one + "/result.json");
    } else if (std::filesystem::exists(one + "/events.log")) {
      throw std::runtime_error(one +
                               ": found an events.log without a result.json: the run did not end, "
                               "run it again");
    }
  }
  if (out.empty()) {
    throw std::runtime_error(folder + ": found neither result.json nor sweep.json below it");
  }
  return out;
}

}  // namespace chalk::sim
