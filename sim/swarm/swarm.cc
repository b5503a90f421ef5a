#include "sim/swarm/swarm.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace chalk::sim {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

SwarmOutcome swarm(const SwarmQuestion& question,
                   const std::function<std::string(std::uint64_t)>& scenario,
                   const std::function<void(const SwarmProgress&)>& progress,
                   const std::atomic<bool>* stop) {
  SwarmOutcome outcome;
  const double began = now();
  // At the end of a batch all wait for its longest world, which is some fifty times a usual one.
  const std::uint64_t batch = std::max(1U, question.parallel) * 64ULL;
  for (std::uint64_t seed = question.first; seed <= question.last;) {
    if (question.seconds_max > 0 && now() - began >= question.seconds_max) break;
    std::vector<Trial> trials;
    std::vector<std::uint64_t> seeds;
    for (; seed <= question.last && trials.size() < batch; ++seed) {
      seeds.push_back(seed);
      trials.push_back({fmt::format("swarm-{}.yaml", seed), scenario(seed),
                        question.digests_every > 0 && seed % question.digests_every == 0});
    }
    const std::uint64_t before = outcome.done;
    const auto results = try_all(trials, question.parallel, [&](std::size_t index) {
      ++outcome.done;
      if (progress) progress({seeds[index], outcome.done, outcome.events});
    });
    if (stop != nullptr && stop->load()) {  // those that were cut off are no failures
      outcome.done = before;
      outcome.interrupted = true;
      return outcome;
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      outcome.events += results[i].events;
      if (!results[i].failure || outcome.found) continue;
      outcome.found = {seeds[i], trials[i].text, *results[i].failure,
                       results[i].failure->kind == "two digests"};
    }
    if (outcome.found || seed == 0) break;
  }
  return outcome;
}

}  // namespace chalk::sim
