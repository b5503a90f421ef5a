// The runs of one shard, each in a process of its own.
#include <fmt/format.h>

#include "sim/simgrid/isolated.h"
#include "sim/sweep/sweep.h"

namespace chalk::sim {

SweepOutcome run_shard(const SweepQuestion& question, const Shard& shard, const std::string& folder,
                       unsigned parallel, const SweepBody& body,
                       const std::function<void(const SweepProgress&)>& progress,
                       const std::atomic<bool>* stop) {
  const SweepRuns there = read_runs(folder, question);
  std::vector<std::pair<std::size_t, std::uint64_t>> missing;
  SweepProgress at;
  for (std::size_t run = shard.index; run < question.runs(); run += shard.of) {
    const std::pair which{run / question.seeds, question.first_seed + run % question.seeds};
    ++at.whole;
    if (there.contains(which)) {
      ++at.there;
    } else {
      missing.push_back(which);
    }
  }
  at.done = at.there;
  if (progress) progress(at);
  std::vector<IsolatedBody> bodies;
  for (const auto& [point, seed] : missing) {
    bodies.push_back([&question, &folder, &body, point, seed]() -> std::string {
      const Result result = body(question.point(point), seed);
      if (result.interrupted) return "interrupted";
      write_run(folder, question, sweep_run(point, result));
      return "";
    });
  }
  SweepOutcome outcome;
  outcome.there = at.there;
  run_isolated_all(bodies, parallel, [&](std::size_t index, const IsolatedResult& result) {
    if (result && result->empty()) {
      ++outcome.ran;
      ++at.done;
      if (progress) progress(at);
    } else if (!result && !(stop != nullptr && stop->load())) {
      const auto& [point, seed] = missing[index];
      outcome.failed.push_back(
          fmt::format("{} seed {}: {}", to_text(question.point(point)), seed, result.error()));
    }
  });
  outcome.interrupted = stop != nullptr && stop->load();
  return outcome;
}

}  // namespace chalk::sim
