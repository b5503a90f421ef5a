// Cost of one arrival (peek and pop) of the generators.
#include <benchmark/benchmark.h>

#include "sim/workload/azure_shape.h"
#include "sim/workload/generate.h"

namespace chalk::sim {
namespace {

void drain(benchmark::State& state, Source& source) {
  std::int64_t sum = 0;
  for (auto _ : state) {
    const Arrival* next = source.peek();
    sum += next->at.nanos + next->service.nanos;
    source.pop();
  }
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(state.iterations());
}

Requests mix(std::uint32_t functions) {
  Requests out;
  out.functions = functions;
  out.function_skew = 1;
  out.service = Distribution::exponential(seconds(1));
  return out;
}

void Poisson_OneFunction(benchmark::State& state) {
  drain(state, *open_loop(Poisson{10}, mix(1), 1));
}
void Poisson_ThousandFunctions(benchmark::State& state) {
  drain(state, *open_loop(Poisson{10}, mix(1000), 1));
}
void Rhythm_OneFunction(benchmark::State& state) { drain(state, *open_loop(Rhythm{}, mix(1), 1)); }
void AzureShape_ThousandApps(benchmark::State& state) {
  AzureShape shape{.apps = 1000, .length = seconds(100ll * 365 * 86'400)};
  drain(state, *azure_functions_shape(shape, 1));
}
BENCHMARK(Poisson_OneFunction);
BENCHMARK(Poisson_ThousandFunctions);
BENCHMARK(Rhythm_OneFunction);
BENCHMARK(AzureShape_ThousandApps);

}  // namespace
}  // namespace chalk::sim

BENCHMARK_MAIN();
