// Placements per second with churn, at least 90 % full, through step() with a running digest of
// events and effects; beside it the naive scan over all nodes, a fork of State, and refusals when
// full.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "model/core/digest.h"
#include "model/core/random.h"
#include "model/scheduler/scheduler.h"
#include "tests/property/oracle/scheduler_scan.h"

namespace chalk::scheduler {
namespace {

constexpr std::int64_t kGi = std::int64_t{1} << 30;

// A cluster of four shapes in three zones, one node in ten with GPUs, most of it one shared owner's
// and the rest twenty tenants'; asks from 100 millicores to 16 cores, half in groups, half with an
// image that some twenty nodes hold.
enum Asks : std::int64_t {
  kAll,    // as above
  kPlain,  // without GPUs, groups and images
  kEight   // eight shapes of plain asks, one owner and one zone: the case most often published
};
constexpr const char* kAsksName[] = {"all kinds of asks", "plain asks", "eight shapes"};

class Cluster {
 public:
  Cluster(std::uint32_t nodes, Asks asks)
      : machine_(Config{}), random_{1, 0}, nodes_(nodes), kind_(asks) {
    for (std::uint32_t slot = 0; slot < nodes; ++slot) add_node(slot);
    for (std::uint64_t i = 0; i < nodes * 5ull; ++i) {
      step(ImageCached{{1 + random_.below(nodes)}, {1 + random_.below(nodes / 4)}, true});
    }
    while (used_ * 100 < total_ * 92) place();
    for (int i = 0; i < 8192; ++i) asks_.push_back(draw());
  }

  // Takes one sandbox away and puts another in; refused asks on the way are counted and passed
  // over.
  void release_and_place() {
    release();
    while (!place()) ++refused_;
  }
  bool place() {
    PlaceAsked asked = asks_.empty() ? draw() : asks_[next_ask_++ % asks_.size()];
    asked.sandbox = {vacant_.empty() ? live_.size() + 1 : vacant_.back()};
    step(asked);
    if (!std::holds_alternative<Placed>(effects_.front())) return false;
    if (!vacant_.empty()) vacant_.pop_back();
    live_.push_back({asked.sandbox, asked.ask.cpu_millicores});
    used_ += asked.ask.cpu_millicores;
    starting_.push_back(asked.sandbox);
    if (starting_.size() > 64) {
      step(StartFinished{starting_.front()});
      starting_.pop_front();
    }
    return true;
  }
  void release() {
    const std::size_t at = random_.below(live_.size());
    const Live gone = live_[at];
    live_[at] = live_.back();
    live_.pop_back();
    used_ -= gone.cpu;
    step(Released{gone.sandbox});
    vacant_.push_back((gone.sandbox.value & 0xFFFFFFFF) | ((gone.sandbox.value >> 32) + 1) << 32);
  }
  // An ask that fits nowhere, of a size that many nodes nearly have.
  void ask_too_much() {
    PlaceAsked asked = asks_[next_ask_++ % asks_.size()];
    asked.sandbox = {Config{}.sandboxes_max};
    asked.ask.gpus = 0;
    asked.ask.cpu_millicores = 97'000;
    step(asked);
  }
  PlaceAsked next_ask() { return asks_[next_ask_++ % asks_.size()]; }

  const Scheduler& machine() const { return machine_; }
  double full() const { return static_cast<double>(used_) / static_cast<double>(total_); }
  std::uint64_t refused() const { return refused_; }
  std::size_t live() const { return live_.size(); }
  std::uint64_t digest() const { return digest_.value(); }

 private:
  struct Live {
    SandboxId sandbox;
    std::int64_t cpu;
  };
  void step(const Event& event) {
    effects_.clear();
    machine_.step({}, event, effects_);
    digest_.add(event);
    for (const Effect& effect : effects_) digest_.add(effect);
  }
  void add_node(std::uint32_t slot) {
    static constexpr std::int64_t kCores[] = {32, 48, 64, 96};
    NodeAdded event;
    event.node = {slot + 1};
    event.shape.cpu_millicores = kCores[slot % 4] * 1000;
    event.shape.memory_bytes = event.shape.cpu_millicores * kBytesPerMillicore;
    event.shape.disk_bytes = 4000 * kGi;
    if (kind_ == kAll && slot % 10 == 9) event.shape.gpus = 8;
    event.zone = {kind_ == kEight ? 1 : 1 + random_.below(3)};
    event.pool = {1};
    event.owner = {kind_ != kEight && slot % 5 == 4 ? 2 + slot / 5 % 20 : 1};
    total_ += event.shape.cpu_millicores;
    step(event);
  }
  PlaceAsked draw() {
    PlaceAsked asked;
    asked.owner = {kind_ != kEight && random_.below(5) == 0 ? 2 + random_.below(20) : 1};
    asked.ask.cpu_millicores = 100ll << random_.below(8);
    if (asked.ask.cpu_millicores > 6'400) asked.ask.cpu_millicores = 16'000;
    // Two to six GiB a core, to the MiB.
    asked.ask.memory_bytes =
        asked.ask.cpu_millicores * static_cast<std::int64_t>(2048 + random_.below(4096)) / 1000
        << 20;
    asked.ask.disk_bytes = kGi;
    if (kind_ == kEight) {
      asked.ask.memory_bytes =
          asked.ask.cpu_millicores * (asked.ask.cpu_millicores > 1000 ? 2 : 4) * (kGi / 1000);
    }
    if (kind_ != kAll) return asked;
    if (random_.below(50) == 0) {
      asked.ask.gpus = 1;
      asked.ask.gpu_millis = 250 * (1 + static_cast<std::int32_t>(random_.below(4)));
    }
    if (random_.below(2)) asked.image = {1 + random_.below(nodes_ / 4)};
    if (random_.below(2)) asked.group = {1 + random_.below(1000)};
    return asked;
  }

  Scheduler machine_;
  Random random_;
  std::uint32_t nodes_;
  Asks kind_;
  Effects effects_;
  Digest digest_;
  std::vector<Live> live_;
  std::vector<std::uint64_t> vacant_;
  std::deque<SandboxId> starting_;
  std::vector<PlaceAsked> asks_;
  std::size_t next_ask_ = 0;
  std::int64_t used_ = 0, total_ = 0;
  std::uint64_t refused_ = 0;
};

Cluster& cluster_of(std::int64_t nodes, Asks asks = kAll) {
  static std::map<std::pair<std::int64_t, Asks>, std::unique_ptr<Cluster>> clusters;
  auto& one = clusters[{nodes, asks}];
  if (!one) one = std::make_unique<Cluster>(static_cast<std::uint32_t>(nodes), asks);
  return *one;
}

template <class T>
double bytes_of(const std::vector<T>& items) {
  return static_cast<double>(items.size() * sizeof(T));
}

std::map<std::pair<std::int64_t, Asks>, double> placements_per_second;
std::map<std::int64_t, double> scans_per_second;

template <class Work>
double timed(benchmark::State& state, Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) work();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  return static_cast<double>(state.iterations()) / passed.count();
}

void ReleaseAndPlace(benchmark::State& state) {
  const auto asks = static_cast<Asks>(state.range(1));
  Cluster& cluster = cluster_of(state.range(0), asks);
  const std::uint64_t refused = cluster.refused();
  placements_per_second[{state.range(0), asks}] =
      timed(state, [&] { cluster.release_and_place(); });
  state.SetItemsProcessed(state.iterations());
  state.counters["full_%"] = cluster.full() * 100;
  state.counters["refused_%"] = 100.0 * static_cast<double>(cluster.refused() - refused) /
                                static_cast<double>(state.iterations());
  const State& machine = cluster.machine().state();
  double node_bytes = bytes_of(machine.nodes) + bytes_of(machine.infos) +
                      bytes_of(machine.gpu_rows) + bytes_of(machine.blocks) +
                      bytes_of(machine.buckets);
  for (const Grid& grid : machine.grids) {
    node_bytes += sizeof(Grid) + bytes_of(grid.roots) + bytes_of(grid.least);
  }
  state.counters["bytes/node"] = node_bytes / static_cast<double>(state.range(0));
  state.counters["bytes/sandbox"] = sizeof(Reservation) + sizeof(ReservationLink);
  state.counters["live"] = static_cast<double>(cluster.live());
}

// The choice alone by looking at every node of the same cluster (GPU shares left out).
void NaiveScan(benchmark::State& state) {
  Cluster& cluster = cluster_of(state.range(0));
  oracle::SchedulerScan scan{Config{}};
  const State& machine = cluster.machine().state();
  for (const NodeInfo& info : machine.infos) {
    const Node& node = machine.nodes[&info - machine.infos.data()];
    NodeShape left = info.shape;
    left.cpu_millicores = node.cpu;
    left.memory_bytes = node.memory;
    left.disk_bytes = node.disk;
    scan.step(NodeAdded{info.id, left, info.pool, machine.zones[info.zone], info.owner, false});
  }
  for (const ImageNodes& image : machine.images) {
    for (const NodeId node : image.nodes) scan.step(ImageCached{node, image.id, true});
  }
  scans_per_second[state.range(0)] =
      timed(state, [&] { benchmark::DoNotOptimize(scan.answer(cluster.next_ask())); });
  state.SetItemsProcessed(state.iterations());
}

void RefusalWhenFull(benchmark::State& state) {
  Cluster& cluster = cluster_of(state.range(0));
  for (auto _ : state) cluster.ask_too_much();
  state.SetItemsProcessed(state.iterations());
}

void Fork(benchmark::State& state) {
  const Cluster& cluster = cluster_of(state.range(0));
  for (auto _ : state) {
    Scheduler fork = cluster.machine();
    benchmark::DoNotOptimize(fork);
  }
}

BENCHMARK(ReleaseAndPlace)
    ->ArgNames({"nodes", "asks"})
    ->ArgsProduct({{1'000, 10'000, 100'000}, {kAll, kPlain, kEight}});
BENCHMARK(NaiveScan)->Arg(1'000)->Arg(10'000)->Arg(100'000);
BENCHMARK(RefusalWhenFull)->Arg(1'000)->Arg(10'000)->Arg(100'000);
BENCHMARK(Fork)->Arg(1'000)->Arg(10'000)->Arg(100'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace chalk::scheduler

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  using chalk::scheduler::placements_per_second, chalk::scheduler::scans_per_second;
  for (const auto& [which, rate] : placements_per_second) {
    const auto [nodes, asks] = which;
    std::printf("%7lld nodes, %s: %.2f M placements/s (each with its release and start)",
                static_cast<long long>(nodes), chalk::scheduler::kAsksName[asks], rate / 1e6);
    if (scans_per_second.contains(nodes)) {
      std::printf(", %.0f x the naive scan's choices", rate / scans_per_second[nodes]);
    }
    std::printf("\n");
  }
}
