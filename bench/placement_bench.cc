// How well each policy of placement packs, on one workload in one run; and how fast ours is.
//
//   placement_bench [--seeds N] [--part PERCENT] [--openb DIR] [--skip-speed]
//   placement_bench --instance FILE     what each policy makes of FILE, see bench/exact.py
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "bench/openb_shape.h"
#include "bench/spread.h"
#include "model/scheduler/scheduler.h"
#include "sim/workload/trace.h"

namespace chalk::bench {
namespace {

using namespace scheduler;

constexpr Policy kPolicies[] = {Policy::best_fit,  Policy::frag_fit,     Policy::fgd,
                                Policy::first_fit, Policy::power_of_two, Policy::least_allocated};
constexpr const char* kNames[] = {"best_fit (ours)", "least_allocated", "first_fit",
                                  "power_of_two", "fgd", "frag_fit (ours)"};
const char* name_of(Policy policy) { return kNames[static_cast<int>(policy)]; }

// What asks are told apart by in tables.
constexpr const char* kShapes[] = {"no GPU", "share", "1 GPU", "2-4", "8"};
constexpr int kShapeCount = 5;
int shape_of(const Resources& ask) {
  if (ask.gpus == 0) return 0;
  if (ask.gpu_millis < 1000) return 1;
  return ask.gpus == 1 ? 2 : ask.gpus < 8 ? 3 : 4;
}
std::int64_t gpu_millis_of(const Resources& ask) {
  return ask.gpus == 0 ? 0 : std::int64_t{ask.gpus} * ask.gpu_millis;
}

// One scheduler with sandboxes of one owner coming and going.
class Cluster {
 public:
  Cluster(const std::vector<NodeShape>& fleet, Policy policy) : machine_(config_of(policy)) {
    std::uint64_t slot = 0;
    for (const NodeShape& shape : fleet) {
      step(NodeAdded{{++slot}, shape, {1}, {1}, {1}});
      all_ += shape.gpus * 1000;
    }
  }
  bool place(const Resources& ask) {
    PlaceAsked asked;
    asked.sandbox = {vacant_.empty() ? live_.size() + 1 : vacant_.back()};
    asked.owner = {1};
    asked.ask = ask;
    step(asked);
    if (!std::holds_alternative<Placed>(effects_.front())) return false;
    if (!vacant_.empty()) vacant_.pop_back();
    live_.push_back({asked.sandbox, gpu_millis_of(ask)});
    used_ += gpu_millis_of(ask);
    step(StartFinished{asked.sandbox});
    return true;
  }
  void release(std::size_t at) {
    const Live gone = live_[at];
    live_[at] = live_.back();
    live_.pop_back();
    used_ -= gone.gpu_millis;
    step(Released{gone.sandbox});
    vacant_.push_back((gone.sandbox.value & 0xFFFFFFFF) | ((gone.sandbox.value >> 32) + 1) << 32);
  }
  std::size_t live() const { return live_.size(); }
  double gpus() const { return static_cast<double>(all_) / 1000; }
  double used() const { return static_cast<double>(used_) / 1000; }
  double idle_percent() const {
    return all_ == 0 ? 0 : 100.0 - 100.0 * static_cast<double>(used_) / static_cast<double>(all_);
  }
  std::int64_t nodes_used() const {
    return std::ranges::count_if(machine_.state().infos, [](const NodeInfo& info) {
      return info.first_reservation != 0;
    });
  }

 private:
  struct Live {
    SandboxId sandbox;
    std::int64_t gpu_millis;
  };
  static Config config_of(Policy policy) {
    Config config;
    config.placing = policy;
    return config;
  }
  void step(const Event& event) {
    effects_.clear();
    machine_.step({}, event, effects_);
  }

  Scheduler machine_;
  Effects effects_;
  std::vector<Live> live_;
  std::vector<std::uint64_t> vacant_;
  std::int64_t all_ = 0, used_ = 0;
};

struct Outcome {
  Spread filled, steady;  // percent of GPUs that are idle
  std::array<Spread, kShapeCount> rejected;  // percent, by shape
  Spread rejected_all;
};

using Requests = std::function<Resources()>;

// The FGD paper's experiment, and its opposite. First tasks come and none leaves until 130 % of the
// GPUs have been asked for; then tasks leave at random while new ones come at 1.3 times the rate at
// which the fleet could serve them, for three times as many.
void saturate(const std::vector<NodeShape>& fleet, Policy policy, Requests next, Random random,
              Outcome& outcome) {
  Cluster cluster(fleet, policy);
  double asked = 0;
  std::size_t arrivals = 0;
  for (; asked < cluster.gpus() * 1.3; ++arrivals) {
    const Resources ask = next();
    asked += static_cast<double>(gpu_millis_of(ask)) / 1000;
    cluster.place(ask);
  }
  outcome.filled.add(cluster.idle_percent());

  std::array<double, kShapeCount> came{}, refused{};
  double idle = 0, due = 0, refusals = 0;
  std::size_t measured = 0;
  for (std::size_t i = 0; i < arrivals * 3; ++i) {
    due += static_cast<double>(cluster.live()) / static_cast<double>(arrivals);
    for (; due >= 1 && cluster.live() > 0; --due) cluster.release(random.below(cluster.live()));
    const Resources ask = next();
    const bool placed = cluster.place(ask);
    if (i < arrivals) continue;  // settling
    ++measured;
    idle += cluster.idle_percent();
    ++came[shape_of(ask)];
    refused[shape_of(ask)] += placed ? 0 : 1;
    refusals += placed ? 0 : 1;
  }
  outcome.steady.add(idle / static_cast<double>(measured));
  for (int shape = 0; shape < kShapeCount; ++shape) {
    if (came[shape] > 0) outcome.rejected[shape].add(100 * refused[shape] / came[shape]);
  }
  outcome.rejected_all.add(100 * refusals / static_cast<double>(measured));
}

void saturated_table(const std::string& what, const std::vector<NodeShape>& fleet, int seeds,
                     const std::function<Requests(std::uint64_t)>& requests) {
  double gpus = 0;
  for (const NodeShape& shape : fleet) gpus += shape.gpus;
  fmt::print("### {}: {} nodes, {} GPUs, {} seeds\n\n", what, fleet.size(), gpus, seeds);
  fmt::print("| policy | idle GPUs when filled, % | idle GPUs with churn, % | rejected, % |");
  for (const char* shape : kShapes) fmt::print(" {} |", shape);
  fmt::print("\n|---|---|---|---|---|---|---|---|---|\n");
  for (const Policy policy : kPolicies) {
    Outcome outcome;
    for (int seed = 1; seed <= seeds; ++seed) {
      saturate(fleet, policy, requests(static_cast<std::uint64_t>(seed)),
               Random{mix64(static_cast<std::uint64_t>(seed) + 1000), 0}, outcome);
    }
    fmt::print("| {} | {} | {} | {} |", name_of(policy), outcome.filled.text(2),
               outcome.steady.text(2), outcome.rejected_all.text(1));
    for (const Spread& rejected : outcome.rejected) {
      fmt::print(" {} |", rejected.values.empty() ? "" : fmt::format("{:.1f}", rejected.middle()));
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
  fmt::print("\n");
}

// The least number of nodes whose cpu, memory and GPUs together cover the demand.
std::int64_t volume_bound(const NodeShape& shape, const std::vector<Resources>& asks) {
  std::int64_t cpu = 0, memory = 0, gpus = 0;
  for (const Resources& ask : asks) {
    cpu += ask.cpu_millicores;
    memory += ask.memory_bytes;
    gpus += gpu_millis_of(ask);
  }
  const auto nodes = [](std::int64_t sum, std::int64_t each) {
    return each == 0 ? 0 : (sum + each - 1) / each;
  };
  return std::max({nodes(cpu, shape.cpu_millicores), nodes(memory, shape.memory_bytes),
                   nodes(gpus, shape.gpus * 1000)});
}

// Kinds of sandboxes: of the first a quarter asks for 16 cores, most of the volume, of which few
// fit on a node; in the third cpu and memory have nothing to do with each other.
constexpr const char* kSandboxes[] = {"100 millicores to 16 cores, 2 to 6 GiB a core",
                                      "the same, 1 to 8 GiB a core",
                                      "250 millicores to 8 cores, 0.5 to 16 GiB",
                                      "100 millicores to 8 cores, 0.5 to 32 GiB"};
Resources sandbox_request(std::size_t kind, Random& random) {
  Resources ask;
  if (kind < 2) {
    ask.cpu_millicores = 100ll << random.below(8);
    if (ask.cpu_millicores > 6'400) ask.cpu_millicores = 16'000;
    const std::int64_t mebibytes = kind == 0 ? 2048 + static_cast<std::int64_t>(random.below(4096))
                                             : 1024 + static_cast<std::int64_t>(random.below(7168));
    ask.memory_bytes = ask.cpu_millicores * mebibytes / 1000 << 20;
  } else if (kind == 2) {
    ask.cpu_millicores = 250ll << random.below(6);
    ask.memory_bytes = kGi / 2 << random.below(6);
  } else {
    ask.cpu_millicores = 100 * (1 + static_cast<std::int64_t>(random.below(80)));
    ask.memory_bytes = kGi / 2 * (1 + static_cast<std::int64_t>(random.below(64)));
  }
  return ask;
}

void nodes_used_table(int seeds) {
  NodeShape plain, gpu;
  plain.cpu_millicores = 64'000;
  plain.memory_bytes = 256 * kGi;
  gpu = plain;
  gpu.cpu_millicores = 128'000;
  gpu.memory_bytes = 1024 * kGi;
  gpu.gpus = 8;
  for (NodeShape* shape : {&plain, &gpu}) {
    shape->disk_bytes = 4096 * kGi;
    shape->start_slots = 1024;
  }
  fmt::print("### Nodes used over the volume bound, nobody leaves, {} seeds\n\n", seeds);
  fmt::print("Of 20,000 sandboxes on nodes of 64 cores and 256 GiB, and of 3,000 GPU requests on "
             "nodes of 8 GPUs.\n\n| policy |");
  for (const char* kind : kSandboxes) fmt::print(" {} |", kind);
  fmt::print(" GPU requests |\n|---|---|---|---|---|---|\n");
  for (const Policy policy : kPolicies) {
    std::array<Spread, std::size(kSandboxes)> sandboxes;
    Spread gpus;
    for (int seed = 1; seed <= seeds; ++seed) {
      Random random{mix64(static_cast<std::uint64_t>(seed)), 0};
      const auto used = [&](const NodeShape& shape, const std::vector<Resources>& asks) {
        const std::int64_t bound = volume_bound(shape, asks);
        Cluster cluster(std::vector<NodeShape>(static_cast<std::size_t>(bound * 2), shape), policy);
        for (const Resources& ask : asks) cluster.place(ask);
        return static_cast<double>(cluster.nodes_used()) / static_cast<double>(bound);
      };
      std::vector<Resources> asks;
      for (std::size_t kind = 0; kind < sandboxes.size(); ++kind) {
        asks.clear();
        for (int i = 0; i < 20'000; ++i) asks.push_back(sandbox_request(kind, random));
        sandboxes[kind].add(used(plain, asks));
      }
      OpenbRequests requests(static_cast<std::uint64_t>(seed), Variant::usual);
      asks.clear();
      while (asks.size() < 3'000) {
        const Resources ask = requests.next();
        if (ask.gpus > 0) asks.push_back(ask);
      }
      gpus.add(used(gpu, asks));
    }
    fmt::print("| {} |", name_of(policy));
    for (const Spread& kind : sandboxes) fmt::print(" {} |", kind.text(3));
    fmt::print(" {} |\n", gpus.text(3));
    std::fflush(stdout);
  }
  fmt::print("\n");
}

// Placements per second with churn, each with its release and its start, on the saturated fleet.
void speed_table() {
  fmt::print("### Placements per second when saturated, with churn\n\n");
  fmt::print("| nodes | best_fit (ours) | fgd | least_allocated | first_fit |\n");
  fmt::print("|---|---|---|---|---|\n");
  for (const int nodes : {1'000, 10'000, 100'000}) {
    fmt::print("| {} |", nodes);
    for (const Policy policy : {Policy::best_fit, Policy::fgd, Policy::least_allocated,
                                Policy::first_fit}) {
      if (policy != Policy::best_fit && nodes > 1'000) {
        fmt::print(" |");
        continue;
      }
      Cluster cluster(openb_fleet(nodes * 100 / 1523), policy);
      OpenbRequests requests(1, Variant::usual);
      Random random{7, 0};
      for (int refused = 0; refused < 1'000;) refused += cluster.place(requests.next()) ? 0 : 1;
      Spread rates;
      for (int round = 0; round < 5; ++round) {
        const int placements = policy == Policy::best_fit ? 200'000 : 500;
        const auto start = std::chrono::steady_clock::now();
        for (int placed = 0; placed < placements;) {
          cluster.release(random.below(cluster.live()));
          placed += cluster.place(requests.next()) ? 1 : 0;
        }
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
        rates.add(placements / passed.count());
      }
      fmt::print(" {} |", rates.text(0));
      std::fflush(stdout);
    }
    fmt::print("\n");
  }
  fmt::print("\n");
}

// A file of lines "node CORES_MILLI MEMORY_MIB GPUS" and "ask CORES_MILLI MEMORY_MIB GPUS MILLIS".
int solve(const char* path) {
  std::vector<NodeShape> fleet;
  std::vector<Resources> asks;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string what;
    std::int64_t cpu = 0, mebibytes = 0;
    std::int32_t gpus = 0, millis = 0;
    words >> what >> cpu >> mebibytes >> gpus >> millis;
    if (what == "node") {
      NodeShape shape;
      shape.cpu_millicores = cpu;
      shape.memory_bytes = mebibytes << 20;
      shape.gpus = gpus;
      shape.start_slots = 1024;
      fleet.push_back(shape);
    } else if (what == "ask") {
      Resources ask;
      ask.cpu_millicores = cpu;
      ask.memory_bytes = mebibytes << 20;
      ask.gpus = gpus;
      ask.gpu_millis = gpus == 0 ? 0 : millis;
      asks.push_back(ask);
    }
  }
  if (fleet.empty()) {
    fmt::print(stderr, "placement_bench: found no node in {}\n", path);
    return 1;
  }
  for (const Policy policy : kPolicies) {
    Cluster cluster(fleet, policy);
    int placed = 0;
    for (const Resources& ask : asks) placed += cluster.place(ask) ? 1 : 0;
    fmt::print("{} {} {} {}\n", static_cast<int>(policy), placed,
               static_cast<std::int64_t>(cluster.used() * 1000 + 0.5), cluster.nodes_used());
  }
  return 0;
}

// The nodes and pods of the trace itself; pods are drawn with replacement, as in the paper.
void real_table(const std::string& directory, int seeds) {
  const auto source = sim::open_trace("openb:" + directory, {});
  std::vector<NodeShape> fleet;
  for (const sim::NodeGroupSpec& group : source->catalogue().nodes) {
    NodeShape shape = group.shape;
    shape.disk_bytes = 4096 * kGi;
    shape.start_slots = 1024;
    fleet.insert(fleet.end(), group.count, shape);
  }
  std::vector<Resources> pods;
  for (; source->peek() != nullptr; source->pop()) {
    pods.push_back(source->peek()->sandbox.resources);
  }
  saturated_table("the trace in " + directory, fleet, seeds, [&](std::uint64_t seed) {
    return [&pods, random = Random{mix64(seed), 0}]() mutable {
      return pods[random.below(pods.size())];
    };
  });
}

int run(int argc, char** argv) {
  int seeds = 5, part = 25;
  bool speed = true;
  std::string openb;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--skip-speed") {
      speed = false;
    } else if (i + 1 == argc) {
      fmt::print(stderr, "placement_bench: {} is unknown or needs a value\n", word);
      return 1;
    } else if (word == "--instance") {
      return solve(argv[++i]);
    } else if (word == "--openb") {
      openb = argv[++i];
    } else if (word == "--seeds" || word == "--part") {
      (word == "--seeds" ? seeds : part) = std::max(1, std::atoi(argv[++i]));
    } else {
      fmt::print(stderr, "placement_bench: {} is unknown\n", word);
      return 1;
    }
  }
  fmt::print("Each figure is the median (least to most) over the seeds.\n\n");
  if (!openb.empty()) real_table(openb, seeds);
  for (const Variant variant :
       {Variant::usual, Variant::shares, Variant::several, Variant::models}) {
    saturated_table(kVariants[static_cast<int>(variant)], openb_fleet(part), seeds,
                    [&](std::uint64_t seed) {
                      return [requests = OpenbRequests(seed, variant)]() mutable {
                        return requests.next();
                      };
                    });
  }
  nodes_used_table(seeds);
  if (speed) speed_table();
  return 0;
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) { return chalk::bench::run(argc, argv); }
