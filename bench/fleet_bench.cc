// Fleet policies on a day's rhythm, all in one run: what the day costs against a fleet that knows
// the demand, with the waits and the moves beside it; and what looking for dispensable nodes costs.
//
// fleet_bench [--seeds N] [--first-seed N] [--scenario FILE] [--picture FILE.svg] [--skip-day]
//             [--skip-what-if]
//
// The clairvoyant pays at every moment for the fewest of the smallest nodes that hold the volume of
// what is alive then, bought in time and given back at once: no fleet can be cheaper.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <iterator>
#include <string>
#include <vector>

#include "model/control/what_if.h"
#include "sim/scenario/parse.h"
#include "sim/workload/source.h"
#include "sim/world/world.h"

namespace chalk::bench {
namespace {

struct Setting {
  const char* policy;
  const char* late_worth;  // of newsvendor
  const char* colour;      // in the picture, none: not there
};
constexpr Setting kSettings[] = {
    {"idle", nullptr, "#888888"},           {"cluster_autoscaler", nullptr, "#d08020"},
    {"karpenter", nullptr, "#3070c0"},      {"newsvendor", "0s", nullptr},
    {"newsvendor", "1m", nullptr},          {"newsvendor", "10m", nullptr},
    {"newsvendor", "30m", nullptr},         {"newsvendor", "1h", "#208040"},
    {"newsvendor", "4h", nullptr}};
constexpr int kSettingCount = std::size(kSettings);

std::string name_of(int setting) {
  const Setting& one = kSettings[setting];
  return one.late_worth == nullptr ? std::string(one.policy)
                                   : fmt::format("{}, late_worth {}", one.policy, one.late_worth);
}

std::string spread(std::vector<double> values, int digits) {
  std::sort(values.begin(), values.end());
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", values[values.size() / 2], digits,
                     values.front(), digits, values.back(), digits);
}

// ---- the day

struct Clairvoyant {
  double cost = 0;
  std::vector<double> nodes;  // 512 times a day, in smallest nodes
};

// The pools' nodes must cost and hold the same in proportion, else the smallest is no bound.
Clairvoyant clairvoyant(const sim::Setup& setup, std::uint64_t seed) {
  struct Change {
    std::int64_t at, cpu, memory;
  };
  std::vector<Change> changes;
  const auto source = setup.open_workload(seed);
  for (; const sim::Arrival* next = source->peek(); source->pop()) {
    if (next->at.nanos > setup.duration.nanos) break;
    const sim::SandboxAsk& ask = next->sandbox;
    std::int64_t lives = next->service.nanos;
    if (ask.lifetime.nanos != 0 && (lives == 0 || ask.restart)) lives = ask.lifetime.nanos;
    const Resources& r = ask.resources;
    changes.push_back({next->at.nanos, r.cpu_millicores, r.memory_bytes});
    changes.push_back({next->at.nanos + lives, -r.cpu_millicores, -r.memory_bytes});
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.at < b.at; });
  const sim::Pool& pool = setup.pools[0];
  Clairvoyant out;
  std::int64_t cpu = 0, memory = 0, since = 0, nodes = 0;
  const std::int64_t step = setup.duration.nanos / 512;
  for (const Change& change : changes) {
    const std::int64_t until = std::min(change.at, setup.duration.nanos);
    out.cost += static_cast<double>(nodes) * static_cast<double>(until - since) * 1e-9 / 3600 *
                pool.price_per_hour;
    while (static_cast<std::int64_t>(out.nodes.size() + 1) * step <= until) {
      out.nodes.push_back(static_cast<double>(nodes));
    }
    since = until;
    if (change.at >= setup.duration.nanos) break;
    cpu += change.cpu;
    memory += change.memory;
    const auto cover = [](std::int64_t sum, std::int64_t each) { return (sum + each - 1) / each; };
    nodes = std::max(cover(cpu, pool.shape.cpu_millicores), cover(memory, pool.shape.memory_bytes));
  }
  return out;
}

struct Row {
  std::vector<double> cost, over, over_with_boots, mean, p99, p999, moved, bought, nodes;
};

void picture(const std::string& path, const std::map<int, sim::Series>& days,
             const Clairvoyant& least) {
  double most = 1;
  std::map<int, std::vector<double>> cores;
  for (const auto& [policy, day] : days) {
    const auto column = std::find(day.columns.begin(), day.columns.end(), "cores_capacity");
    const auto at = static_cast<std::size_t>(column - day.columns.begin());
    for (const auto& row : day.rows) {
      cores[policy].push_back(row[at]);
      most = std::max(most, row[at]);
    }
  }
  std::vector<double> bound;
  for (const double nodes : least.nodes) bound.push_back(nodes * 16);
  std::ofstream out(path);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"420\" "
         "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"900\" height=\"420\" "
         "fill=\"white\"/>\n";
  const auto line = [&](const std::vector<double>& values, const std::string& colour,
                        const std::string& name, int place) {
    out << fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"",
                       colour);
    for (std::size_t i = 0; i < values.size(); ++i) {
      out << fmt::format("{:.1f},{:.1f} ",
                         60 + 820.0 * static_cast<double>(i) / static_cast<double>(values.size()),
                         370 - 330 * values[i] / most);
    }
    out << fmt::format("\"/>\n<text x=\"{}\" y=\"22\" fill=\"{}\">{}</text>\n", 60 + place * 165,
                       colour, name);
  };
  int place = 0;
  for (const auto& [setting, values] : cores) {
    if (kSettings[setting].colour == nullptr) continue;
    line(values, kSettings[setting].colour, kSettings[setting].policy, place++);
  }
  line(bound, "black", "clairvoyant", place);
  for (int hour = 0; hour <= 24; hour += 4) {
    out << fmt::format("<text x=\"{:.0f}\" y=\"392\" text-anchor=\"middle\">{}:00</text>\n",
                       60 + 820.0 * hour / 24, hour);
  }
  for (int part = 0; part <= 4; ++part) {
    out << fmt::format("<text x=\"52\" y=\"{:.0f}\" text-anchor=\"end\">{:.0f}</text>\n",
                       374 - 330 * part / 4.0, most * part / 4);
  }
  out << "<text x=\"60\" y=\"412\">cores of the nodes that run, over the day; first seed</text>\n"
         "</svg>\n";
}

void day(const std::string& scenario, int first_seed, int seeds, const std::string& picture_path) {
  std::map<int, Row> rows;
  std::map<int, sim::Series> days;
  Clairvoyant first;
  for (int seed = first_seed; seed < first_seed + seeds; ++seed) {
    const auto number = static_cast<std::uint64_t>(seed);
    Clairvoyant least;
    for (int policy = 0; policy < kSettingCount; ++policy) {
      std::vector<sim::Override> sets{{"fleet.policy", kSettings[policy].policy}};
      if (kSettings[policy].late_worth != nullptr) {
        sets.push_back({"fleet.late_worth", kSettings[policy].late_worth});
      }
      const sim::Setup setup = sim::load_scenario(scenario, sets, {});
      if (policy == 0) least = clairvoyant(setup, number);
      if (policy == 0 && seed == first_seed) first = least;
      sim::RunOptions options;
      options.seed = number;
      const sim::Result result = sim::run_world(setup, options);
      if (!result.broken.empty()) {
        fmt::print(stderr, "fleet_bench: {} broke: {}\n", name_of(policy), result.broken[0]);
        std::exit(1);
      }
      Row& row = rows[policy];
      row.cost.push_back(result.cost);
      row.over.push_back(result.cost / least.cost);
      row.over_with_boots.push_back((result.cost + result.boot_cost) / least.cost);
      row.mean.push_back(result.wait_ms.mean / 1000);
      row.p99.push_back(result.wait_ms.p99 / 1000);
      row.p999.push_back(result.wait_ms.p999 / 1000);
      row.moved.push_back(static_cast<double>(result.sandboxes_moved));
      row.bought.push_back(static_cast<double>(result.nodes_bought));
      row.nodes.push_back(result.nodes_mean);
      if (seed == first_seed) days[policy] = result.series;
    }
  }
  fmt::print("{}, {} seeds from {}: median (least to most)\n\n", scenario, seeds, first_seed);
  fmt::print(
      "| policy | cost of the day | over the clairvoyant's | with boots paid | wait, mean, s | p99, s "
      "| p99.9, s "
      "| sandboxes moved | nodes bought | nodes, mean |\n|---|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [policy, row] : rows) {
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", name_of(policy),
               spread(row.cost, 1), spread(row.over, 3), spread(row.over_with_boots, 3),
               spread(row.mean, 2), spread(row.p99, 1), spread(row.p999, 1), spread(row.moved, 0),
               spread(row.bought, 0), spread(row.nodes, 1));
  }
  fmt::print("\n");
  if (!picture_path.empty()) picture(picture_path, days, first);
}

// ---- the what-if

constexpr std::int64_t kGi = std::int64_t{1} << 30;

// A control plane with so many nodes of 64 cores, some half used by sandboxes that may move.
class Plane {
 public:
  Plane(int nodes, std::uint64_t seed, int used_percent) : control_(config()) {
    Random random{mix64(seed), 0};
    tenancy::TenantAdded tenant;
    tenant.tenant = {1};
    tenant.shares = true;
    step(tenant);
    fleet::PoolAdded pool;
    pool.pool = {1};
    pool.policy.shape = shape();
    pool.policy.zones = {{1}, {2}, {3}};
    pool.policy.nodes_max = static_cast<std::uint32_t>(nodes * 2);
    pool.policy.elastic = true;
    pool.policy.price_micros = 3'072'000;
    step(pool);
    for (int i = 0; i < nodes; ++i) {
      const auto key = static_cast<std::uint64_t>(i + 1);
      step(NodeRegistration{key, 1, 0, {1}, {key % 3 + 1}, shape()});
    }
    // Full, then some of it ends at random: what a fleet looks like after its peak.
    std::vector<std::pair<SandboxId, NodeId>> live;
    for (int refused = 0; refused < 3;) {
      control::SandboxRequested asked;
      asked.reply_to = live.size() + 1;
      asked.tenant = {1};
      asked.resources.cpu_millicores = 1000ll << random.below(4);
      asked.resources.memory_bytes = asked.resources.cpu_millicores / 1000 * 4 * kGi;
      asked.restart = true;
      step(asked);
      bool started = false;
      const auto effects = effects_;
      for (const auto& effect : effects) {
        const auto* sent = std::get_if<control::ToNode>(&effect);
        if (sent == nullptr || !sent->envelope.message) continue;
        const auto* start = std::get_if<StartOrder>(&*sent->envelope.message);
        if (start == nullptr) continue;
        started = true;
        live.emplace_back(start->sandbox, sent->node);
        report(sent->node, StartedReport{start->sandbox});
      }
      refused += started ? 0 : 1;
    }
    for (const auto& [sandbox, node] : live) {
      if (random.below(100) >= static_cast<std::uint64_t>(used_percent)) {
        report(node, EndedReport{sandbox, EndReason::exited});
      } else {
        ++sandboxes_;
      }
    }
  }

  const control::Control& control() const { return control_; }
  int sandboxes() const { return sandboxes_; }

 private:
  static control::Config config() {
    control::Config config;
    config.tenancy.separate_tenants = false;
    config.fleet.rules = fleet::rules_of(fleet::Policy::newsvendor);
    return config;
  }
  static NodeShape shape() {
    return {.cpu_millicores = 64'000, .memory_bytes = 256 * kGi, .disk_bytes = 1024 * kGi,
            .start_slots = 64};
  }
  void step(const control::Event& event) {
    effects_.clear();
    control_.step({}, event, effects_);
  }
  void report(NodeId node, const NodeReport& message) {
    const auto slot = SlotTable<NodeId, int>::slot_of(node);
    if (sequences_.size() <= slot) sequences_.resize(slot + 1);
    step(control::FromNode{node, {1, ++sequences_[slot], 1'000'000, message}});
  }

  control::Control control_;
  control::Control::Effects effects_;
  std::vector<std::uint64_t> sequences_;
  int sandboxes_ = 0;
};

void what_if(int seeds) {
  fmt::print(
      "| nodes | sandboxes | fork, ms | every node by itself, ms | microseconds a node | of them "
      "dispensable | all that go together, ms | so many |\n|---|---|---|---|---|---|---|---|\n");
  for (const int nodes : {100, 1'000, 10'000}) {
    std::vector<double> sandboxes, fork, each, node, possible, together, gone;
    for (int seed = 1; seed <= seeds; ++seed) {
      const Plane plane(nodes, static_cast<std::uint64_t>(seed), 50);
      const control::Control& c = plane.control();
      const auto start = std::chrono::steady_clock::now();
      control::WhatIf one(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
      const auto forked = std::chrono::steady_clock::now();
      int yes = 0;
      c.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node& at) {
        if (at.busy) yes += one.possible(id) ? 1 : 0;
      });
      const auto asked = std::chrono::steady_clock::now();
      control::WhatIf all(c.scheduler(), c.sandboxes(), c.tenancy(), c.fleet());
      int went = 0;
      c.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node& at) {
        if (at.busy) went += all.without(id) ? 1 : 0;
      });
      const auto end = std::chrono::steady_clock::now();
      const auto ms = [](auto from, auto to) {
        return std::chrono::duration<double, std::milli>(to - from).count();
      };
      sandboxes.push_back(plane.sandboxes());
      fork.push_back(ms(start, forked));
      each.push_back(ms(start, asked));
      node.push_back(ms(forked, asked) * 1000 / nodes);
      possible.push_back(yes);
      together.push_back(ms(asked, end));
      gone.push_back(went);
    }
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} |\n", nodes, spread(sandboxes, 0),
               spread(fork, 2), spread(each, 1), spread(node, 1), spread(possible, 0),
               spread(together, 1), spread(gone, 0));
    std::fflush(stdout);
  }
  fmt::print("\n");
}

int run(int argc, char** argv) {
  int first_seed = 1, seeds = 5;
  bool with_day = true, with_what_if = true;
  std::string scenario = "scenarios/capacity/fleet_day.yaml", picture_path;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--skip-day") {
      with_day = false;
    } else if (word == "--skip-what-if") {
      with_what_if = false;
    } else if (i + 1 == argc) {
      fmt::print(stderr, "fleet_bench: {} is unknown or needs a value\n", word);
      return 1;
    } else if (word == "--seeds") {
      seeds = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--first-seed") {
      first_seed = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--scenario") {
      scenario = argv[++i];
    } else if (word == "--picture") {
      picture_path = argv[++i];
    } else {
      fmt::print(stderr, "fleet_bench: {} is unknown\n", word);
      return 1;
    }
  }
  if (with_what_if) what_if(seeds);
  if (with_day) day(scenario, first_seed, seeds, picture_path);
  return 0;
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) { return chalk::bench::run(argc, argv); }
