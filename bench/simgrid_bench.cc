// What the resource model costs: the platform, a call of advance, and a completion under load. Each
// benchmark prints completions per second as items_per_second.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "model/core/random.h"
#include "sim/simgrid/isolated.h"
#include "sim/simgrid/resource_model.h"

namespace chalk::sim {
namespace {

Platform platform_of(std::uint32_t hosts, std::uint32_t served_at_once) {
  Platform platform;
  for (const char* name : {"a", "b", "c"}) {
    platform.zones.push_back({name, 10e9, 400e9, microseconds(100), 20e9, served_at_once});
  }
  for (std::uint32_t i = 0; i < hosts; ++i) platform.hosts.push_back({i % 3, 64, 3e9, 2e9});
  platform.between_zones_latency = milliseconds(1);
  platform.between_zones_bytes_per_second = 100e9;
  return platform;
}

// Keeps `pending` activities pending; each completion starts another one.
template <class Start>
void keep_pending(benchmark::State& state, ResourceModel& model, std::uint64_t pending,
                  Start start) {
  Random random{1};
  std::uint64_t key = 0;
  Time now;
  while (key < pending) start(++key, now, random);
  for (auto _ : state) {
    now = model.advance(kNever)->at;
    start(++key, now, random);
  }
  state.SetItemsProcessed(state.iterations());
}

std::int64_t size_of(Random& random) {
  return 50'000'000 + static_cast<std::int64_t>(random.below(500'000'000));
}

// Arguments: pulls pending, and how many the registry serves at once. All from one registry.
void pulls(benchmark::State& state) {
  ResourceModel model(platform_of(3000, static_cast<std::uint32_t>(state.range(1))));
  keep_pending(state, model, static_cast<std::uint64_t>(state.range(0)),
               [&](std::uint64_t key, Time now, Random& random) {
                 const auto host = static_cast<std::uint32_t>(random.below(1000) * 3);
                 const std::int64_t bytes = size_of(random);
                 model.pull(key, now, host, 0, bytes, 2 * bytes);
               });
}
BENCHMARK(pulls)
    ->Args({10, 64})
    ->Args({100, 64})
    ->Args({1000, 64})
    ->Args({10000, 64})
    ->Args({10, 1 << 30})
    ->Args({100, 1 << 30})
    ->Args({1000, 1 << 30})
    ->ArgNames({"pending", "served"});

void executions(benchmark::State& state) {
  ResourceModel model(platform_of(1000, 64));
  keep_pending(state, model, static_cast<std::uint64_t>(state.range(0)),
               [&](std::uint64_t key, Time now, Random& random) {
                 const auto host = static_cast<std::uint32_t>(random.below(1000));
                 model.execute(key, now, host, nanoseconds(size_of(random)), 2000);
               });
}
BENCHMARK(executions)->Arg(10)->Arg(100)->Arg(1000)->Arg(10000);

void advance_with_nothing_pending(benchmark::State& state) {
  ResourceModel model(platform_of(1000, 64));
  model.execute(1, Time{}, 0, seconds(1), 1000);
  Time now = model.advance(kNever)->at;
  for (auto _ : state) {
    now = now + microseconds(1);
    benchmark::DoNotOptimize(model.advance(now));
  }
}
BENCHMARK(advance_with_nothing_pending);

// The price of an event of the world while activities are under way.
void advance_with_pulls_under_way(benchmark::State& state) {
  ResourceModel model(platform_of(3000, 64));
  for (std::uint64_t key = 0; key < 64; ++key) {
    model.pull(key, Time{}, static_cast<std::uint32_t>(key * 3), 0, 1LL << 60, 1);
  }
  Time now;
  for (auto _ : state) {
    now = now + nanoseconds(10);
    benchmark::DoNotOptimize(model.advance(now));
  }
}
BENCHMARK(advance_with_pulls_under_way);

// In a process of its own, for its memory; the platform is built by the first activity. The time
// includes the process and the end of the platform.
void build(benchmark::State& state) {
  const auto hosts = static_cast<std::uint32_t>(state.range(0));
  const auto resident_pages = [] {
    long size = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    return resident;
  };
  double pages = 0;
  for (auto _ : state) {
    const IsolatedResult result = run_isolated([&] {
      const long before = resident_pages();
      ResourceModel model(platform_of(hosts, 64));
      model.execute(1, Time{}, 0, seconds(1), 1000);
      model.advance(kNever);
      return std::to_string(resident_pages() - before);
    });
    pages = std::atof(result.value().c_str());
  }
  state.counters["MiB"] = pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}
BENCHMARK(build)->Arg(100)->Arg(1000)->Arg(10000)->Unit(benchmark::kMillisecond);

void isolated_process(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(run_isolated([] { return std::string("x"); }));
}
BENCHMARK(isolated_process)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace chalk::sim

BENCHMARK_MAIN();
