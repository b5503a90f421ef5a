// Policies of the image cache on one workload, all in one run: object and byte hits, and seconds of
// pulling saved, beside two that know the future and a bound that nobody can exceed.
//
// image_cache_bench [--seeds N] [--starts N] [--capacity PERMILLE]
//
// The policies are the machine of model/images (Cache), driven as a node drives it: Wanted, a pull
// that ends at once, LetGo. An object is a layer. Clairvoyant: when room is needed the layer
// with the most bytes times uses until its next one goes (Belady's rule with sizes); it is good and
// no bound. "clairvoyant, seconds" divides that by the seconds which the layer costs. Bound: each
// stay between two uses of a layer costs bytes times its length of a budget of capacity times all
// uses; the cheapest stays are taken (PFOO-L, Berger et al., SIGMETRICS 2018). No policy has more.
// Two shapes: images with shared base and runtime layers, and the same where nothing is shared.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bench/image_pulls.h"
#include "model/images/cache.h"

namespace chalk::bench {
namespace {

using images::CachePolicy;

struct Access {
  std::uint32_t layer = 0;  // dense
  std::uint64_t next = 0;   // of the same layer; kNoNext: never
};
constexpr std::uint64_t kNoNext = ~0ULL;

struct Stream {
  Pulls pulls;
  std::vector<Access> accesses;
  std::vector<std::uint64_t> first_access;  // of each start, and the end
  std::vector<double> bytes, cost;          // by layer: unpacked bytes, seconds
  double unique_bytes = 0, access_bytes = 0, access_cost = 0;
};

double cost_of(const LayerSpec& layer) { return 0.1 + static_cast<double>(layer.bytes) / 100e6; }

Stream stream_of(const PullShape& shape, std::uint64_t seed) {
  Stream out;
  out.pulls = PullGenerator(shape, seed).generate();
  std::map<LayerId, std::uint32_t> dense;
  for (const std::uint32_t start : out.pulls.starts) {
    out.first_access.push_back(out.accesses.size());
    for (const LayerSpec& layer : out.pulls.images[start].layers) {
      const auto [place, fresh] =
          dense.try_emplace(layer.layer, static_cast<std::uint32_t>(dense.size()));
      if (fresh) {
        out.bytes.push_back(static_cast<double>(layer.unpacked_bytes));
        out.cost.push_back(cost_of(layer));
        out.unique_bytes += out.bytes.back();
      }
      out.accesses.push_back({place->second, kNoNext});
      out.access_bytes += out.bytes[place->second];
      out.access_cost += out.cost[place->second];
    }
  }
  out.first_access.push_back(out.accesses.size());
  std::vector<std::uint64_t> next(out.bytes.size(), kNoNext);
  for (std::size_t i = out.accesses.size(); i-- > 0;) {
    out.accesses[i].next = std::exchange(next[out.accesses[i].layer], i);
  }
  return out;
}

struct Outcome {
  double objects = 0, bytes = 0, seconds = 0;  // % of the accesses', hit
  double starts = 0;                           // % of the starts that pulled nothing
};

Outcome percent(const Stream& stream, double objects, double bytes, double cost, double starts) {
  return {100 * objects / static_cast<double>(stream.accesses.size()),
          100 * bytes / stream.access_bytes, 100 * cost / stream.access_cost,
          100 * starts / static_cast<double>(stream.pulls.starts.size())};
}

Outcome run_cache(const Stream& stream, images::CacheConfig config) {
  images::Cache cache(config);
  std::vector<images::CacheEffect> effects;
  double objects = 0, bytes = 0, cost = 0, starts = 0;
  const auto step = [&](const images::CacheEvent& event) {
    effects.clear();
    cache.step({}, event, effects);
  };
  std::uint64_t sandbox = 0;
  for (const std::uint32_t start : stream.pulls.starts) {
    const ImageSpec& image = stream.pulls.images[start];
    bool all = true;
    for (const LayerSpec& layer : image.layers) {
      if (!cache.state().layers.contains(layer.layer)) {
        all = false;
        continue;
      }
      objects += 1;
      bytes += static_cast<double>(layer.unpacked_bytes);
      cost += cost_of(layer);
    }
    starts += all;
    step(images::Wanted{image, SandboxId{++sandbox}});
    std::vector<images::PullId> pulls;
    for (const auto& effect : effects) {
      if (const auto* pull = std::get_if<images::PullLayers>(&effect)) pulls.push_back(pull->pull);
    }
    for (const images::PullId pull : pulls) step(images::PullFinished{pull, true});
    step(images::LetGo{SandboxId{sandbox}});
    if (cache.state().bytes > config.capacity_bytes) std::abort();
  }
  return percent(stream, objects, bytes, cost, starts);
}

Outcome run_clairvoyant(const Stream& stream, double capacity, bool by_seconds) {
  std::vector<std::uint32_t> present;
  std::vector<std::uint32_t> place(stream.bytes.size(), ~0u);
  std::vector<double> next(stream.bytes.size()), weight(stream.bytes.size());
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = by_seconds ? stream.bytes[i] / stream.cost[i] : stream.bytes[i];
  }
  double used = 0, objects = 0, bytes = 0, cost = 0, starts = 0;
  for (std::size_t start = 0; start + 1 < stream.first_access.size(); ++start) {
    bool all = true;
    for (std::uint64_t i = stream.first_access[start]; i < stream.first_access[start + 1]; ++i) {
      const std::uint32_t layer = stream.accesses[i].layer;
      next[layer] = stream.accesses[i].next == kNoNext
                        ? 1e18
                        : static_cast<double>(stream.accesses[i].next);
      if (place[layer] != ~0u) {
        objects += 1;
        bytes += stream.bytes[layer];
        cost += stream.cost[layer];
        continue;
      }
      all = false;
      place[layer] = static_cast<std::uint32_t>(present.size());
      present.push_back(layer);
      used += stream.bytes[layer];
      while (used > capacity) {  // perhaps this very layer
        std::size_t worst = 0;
        double most = -1;
        for (std::size_t at = 0; at < present.size(); ++at) {
          const double value = weight[present[at]] * (next[present[at]] - static_cast<double>(i));
          if (value > most) most = value, worst = at;
        }
        used -= stream.bytes[present[worst]];
        place[present[worst]] = ~0u;
        present[worst] = present.back();
        present.pop_back();
        if (worst < present.size()) place[present[worst]] = static_cast<std::uint32_t>(worst);
      }
    }
    starts += all;
  }
  return percent(stream, objects, bytes, cost, starts);
}

// Each figure has its own best choice of stays, so no policy need reach all of them at once.
Outcome bound(const Stream& stream, double capacity) {
  struct Stay {
    double room = 0, bytes = 0, cost = 0;
  };
  std::vector<Stay> stays;
  for (std::size_t i = 0; i < stream.accesses.size(); ++i) {
    const Access& one = stream.accesses[i];
    if (one.next == kNoNext) continue;
    const double bytes = stream.bytes[one.layer];
    stays.push_back({bytes * static_cast<double>(one.next - i), bytes, stream.cost[one.layer]});
  }
  const auto best = [&](auto gain) {
    std::sort(stays.begin(), stays.end(), [&](const Stay& a, const Stay& b) {
      return a.room / gain(a) < b.room / gain(b);
    });
    double room = capacity * static_cast<double>(stream.accesses.size()), got = 0;
    for (const Stay& stay : stays) {
      got += gain(stay) * std::min(1.0, room / stay.room);
      if ((room -= stay.room) <= 0) break;
    }
    return got;
  };
  return percent(stream, best([](const Stay&) { return 1.0; }),
                 best([](const Stay& stay) { return stay.bytes; }),
                 best([](const Stay& stay) { return stay.cost; }), 0);
}

struct Row {
  std::string policy;
  std::vector<Outcome> outcomes;  // by seed
};

std::string spread(const Row& row, double Outcome::*member, const Row* of = nullptr) {
  std::vector<double> values;
  for (std::size_t i = 0; i < row.outcomes.size(); ++i) {
    const double value = row.outcomes[i].*member;
    values.push_back(of == nullptr ? value : 100 * value / (of->outcomes[i].*member));
  }
  std::sort(values.begin(), values.end());
  return fmt::format("{:.1f} ({:.1f} to {:.1f})", values[values.size() / 2], values.front(),
                     values.back());
}

struct Named {
  std::string name;
  images::EvictionRule rule;
};

std::vector<Named> policies() {
  std::vector<Named> out{{"LRU", {.policy = CachePolicy::lru}},
                         {"SIEVE", {.policy = CachePolicy::sieve}},
                         {"S3-FIFO", {.policy = CachePolicy::s3_fifo}},
                         {"GDSF", {.policy = CachePolicy::gdsf}}};
  const images::EvictionRule ours{.policy = CachePolicy::seconds};
  for (const std::uint32_t fade : {1u, 2u, 4u, 8u, 16u}) {
    images::EvictionRule rule = ours;
    rule.fade = fade;
    out.push_back({fmt::format("seconds, fade {}{}", fade, fade == ours.fade ? " (default)" : ""),
                   rule});
  }
  images::EvictionRule objects = ours;
  objects.bytes_per_second = 1'000'000'000'000;  // bytes cost nothing: a hit is a hit
  out.push_back({"the same by hits", objects});
  return out;
}

std::vector<Row> measure(const std::vector<Stream>& streams, std::uint32_t permille) {
  std::vector<Row> rows;
  const auto each = [&](const std::string& name, auto run) {
    Row row{name, {}};
    for (const Stream& stream : streams) row.outcomes.push_back(run(stream));
    rows.push_back(std::move(row));
  };
  const auto room = [&](const Stream& stream) { return stream.unique_bytes * permille / 1000; };
  for (const Named& one : policies()) {
    each(one.name, [&](const Stream& stream) {
      images::CacheConfig config;
      config.capacity_bytes = static_cast<std::int64_t>(room(stream));
      config.eviction = one.rule;
      return run_cache(stream, config);
    });
  }
  each("clairvoyant, seconds", [&](const Stream& s) { return run_clairvoyant(s, room(s), true); });
  each("clairvoyant", [&](const Stream& s) { return run_clairvoyant(s, room(s), false); });
  each("bound", [&](const Stream& s) { return bound(s, room(s)); });
  return rows;
}

void print(const std::vector<Row>& rows, std::uint32_t permille, bool shared) {
  fmt::print(
      "\n## {}: {:.1f} % of the unique bytes\n\n| policy | objects hit % | of the clairvoyant's % "
      "| bytes hit % | seconds saved % | starts without a pull % |\n|---|---|---|---|---|---|\n",
      shared ? "shared layers" : "nothing shared", permille / 10.0);
  const Row& clairvoyant = rows[rows.size() - 2];
  for (const Row& row : rows) {
    fmt::print("| {} | {} | {} | {} | {} | {} |\n", row.policy, spread(row, &Outcome::objects),
               spread(row, &Outcome::objects, &clairvoyant), spread(row, &Outcome::bytes),
               spread(row, &Outcome::seconds),
               row.policy == "bound" ? "" : spread(row, &Outcome::starts));
  }
}

void report(const PullShape& shape, std::uint64_t seeds,
            const std::vector<std::uint32_t>& capacities) {
  std::vector<Stream> streams;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) streams.push_back(stream_of(shape, seed));
  double layers = 0, bytes = 0, accesses = 0;
  for (const Stream& stream : streams) {
    layers += static_cast<double>(stream.bytes.size());
    bytes += stream.unique_bytes;
    accesses += static_cast<double>(stream.accesses.size());
  }
  const auto mean = static_cast<double>(seeds);
  fmt::print("\n{} seeds: median (least to most); mean of {} starts: {:.0f} uses of {:.0f} layers, "
             "{:.0f} GB unpacked\n",
             seeds, shape.starts, accesses / mean, layers / mean, bytes / mean / 1e9);
  for (const std::uint32_t permille : capacities) {
    print(measure(streams, permille), permille, shape.shared);
  }
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) {
  using namespace chalk::bench;
  std::uint64_t seeds = 5;
  PullShape shape;
  std::vector<std::uint32_t> capacities{10, 50};
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (key == "--seeds") {
      seeds = std::strtoull(value.c_str(), nullptr, 10);
    } else if (key == "--starts") {
      shape.starts = std::strtoull(value.c_str(), nullptr, 10);
    } else if (key == "--capacity") {
      capacities = {static_cast<std::uint32_t>(std::atoi(value.c_str()))};
    } else {
      fmt::print(stderr, "found {}, expected --seeds, --starts or --capacity (permille)\n", key);
      return 2;
    }
  }
  for (const bool shared : {true, false}) {
    shape.shared = shared;
    report(shape, seeds, capacities);
  }
  return 0;
}
