// Case 2 in full (machines, messages, policies, digests, checkers as given) beside the bare loop,
// in turns in one process. Prints requests per second of each and the ratio, by CPU time. Usage:
// one_function_bench [REQUESTS] [ROUNDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "bench/bare_loop.h"
#include "sim/scenario/parse.h"
#include "sim/world/world.h"

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const auto requests = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000ULL;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  const auto setup = chalk::sim::load_scenario("scenarios/capacity/one_function.yaml",
                                               {{"requests", std::to_string(requests)}}, {});
  std::vector<double> full, bare, ratios;
  double events = 0;
  for (int round = 0; round < rounds; ++round) {
    double before = cpu_seconds();
    chalk::sim::RunOptions options;
    options.seed = static_cast<std::uint64_t>(round + 1);
    const auto result = chalk::sim::run_world(setup, options);
    double spent = cpu_seconds() - before;
    full.push_back(static_cast<double>(requests) / spent);
    events = static_cast<double>(result.events) / spent;
    before = cpu_seconds();
    const auto naked = chalk::bench::bare_loop(requests, static_cast<std::uint64_t>(round + 1));
    spent = cpu_seconds() - before;
    bare.push_back(static_cast<double>(naked.finished) / spent);
    ratios.push_back(full.back() / bare.back());
    std::printf(
        "round %d: chalk %.0f requests/s (%llu cold), bare loop %.0f requests/s (%llu cold), ratio "
        "%.3f\n",
        round + 1, full.back(), static_cast<unsigned long long>(result.cold_starts), bare.back(),
        static_cast<unsigned long long>(naked.cold), ratios.back());
  }
  std::printf(
      "median: chalk %.0f requests/s (%.2f M events/s), bare loop %.0f requests/s, ratio %.3f\n",
      median(full), events * 1e-6, median(bare), median(ratios));
  return 0;
}
