// Keep-alive policies on the idle gaps of a workload, all in one pass: cold starts per 1000 calls
// against idle memory, with the functions' own cold rates, beside one that knows each gap.
//
// keep_alive_bench [--seeds N] [--apps N] [--days N] [--calls-per-day N] [--trace FORMAT:PATH]
//
// As in the evaluation of Shahrad et al. (ATC 2020) a function has one replica, which serves any
// number of calls at once and loads in no time: a gap runs from the end of the last call in service
// to the next arrival, and the first call of each function is cold. Nothing is left out as warm-up.
// The policies are the code of model/functions; where their windows decide, the machine does the
// same (tests/model/functions/keep_alive_test.cc).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <queue>
#include <string>
#include <vector>

#include "model/functions/greedy_dual.h"
#include "model/functions/keep_alive.h"
#include "sim/workload/azure_shape.h"
#include "sim/workload/trace.h"

namespace chalk::bench {
namespace {

using functions::Window;
constexpr double kGibi = 1024.0 * 1024 * 1024;
constexpr const char* kOurs = "ours";
constexpr const char* kNoFloor = "ours without the floor";

struct Outcome {
  double memory = 0;  // GiB-seconds of idle residence per call
  double cold = 0;    // per 1000 calls
  double half = 0, p75 = 0, p90 = 0;  // of the functions' own cold rates, %
  double starts = 0;  // per 1000 calls: cold starts and reloads
};

// One policy at one setting. gap() is told each gap in order of arrival, end() what is still idle.
class Kept {
 public:
  explicit Kept(std::size_t functions) : calls_(functions), cold_(functions) {}
  virtual ~Kept() = default;
  virtual void gap(std::uint32_t function, Time idle_since, Time now, std::int64_t bytes) = 0;
  virtual void end(std::uint32_t function, Time idle_since, Time now, std::int64_t bytes) = 0;
  // A call arrived at `now`; the function is busy until then.
  virtual void busy(std::uint32_t, Time /*now*/, Time /*until*/, std::int64_t) {}
  void call(std::uint32_t function, bool cold) {
    ++calls_[function];
    cold_[function] += cold;
  }
  std::uint64_t calls() const { return std::accumulate(calls_.begin(), calls_.end(), 0ULL); }
  std::size_t functions() const {
    return calls_.size() - static_cast<std::size_t>(std::count(calls_.begin(), calls_.end(), 0u));
  }
  Outcome outcome() const {
    Outcome out;
    double calls = 0, cold = 0;
    std::vector<double> rates;
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      if (calls_[i] == 0) continue;
      calls += static_cast<double>(calls_[i]);
      cold += static_cast<double>(cold_[i]);
      rates.push_back(100.0 * static_cast<double>(cold_[i]) / static_cast<double>(calls_[i]));
    }
    std::sort(rates.begin(), rates.end());
    const auto at = [&](double p) {
      return rates[static_cast<std::size_t>(p * static_cast<double>(rates.size() - 1))];
    };
    out.memory = byte_seconds_ / kGibi / calls;
    out.cold = 1000 * cold / calls;
    out.half = at(0.5), out.p75 = at(0.75), out.p90 = at(0.9);
    out.starts = 1000 * (cold + reloads_) / calls;
    return out;
  }

 protected:
  void idle(Duration stay, std::int64_t bytes) {
    byte_seconds_ += static_cast<double>(stay.nanos) * 1e-9 * static_cast<double>(bytes);
  }
  void stay(const Window& window, Duration gap, std::int64_t bytes) {
    idle(std::min(gap, window.hold), bytes);
    if (!window.reloads() || gap <= window.reload) return;
    idle(std::min(gap, window.until) - window.reload, bytes);
    reloads_ += 1;
  }
  std::vector<std::uint64_t> calls_, cold_;
  double byte_seconds_ = 0;
  double reloads_ = 0;
};

// A window for each function, from what its own gaps were.
class Windowed : public Kept {
 public:
  using Rule = std::function<functions::KeepAliveRule(std::int64_t bytes)>;
  Windowed(std::size_t functions, Rule rule)
      : Kept(functions), rule_(std::move(rule)), habits_(functions), known_(functions) {}
  void gap(std::uint32_t f, Time since, Time now, std::int64_t bytes) override {
    const functions::KeepAliveRule rule = begin(f, bytes);
    const Window& window = habits_[f].window();
    stay(window, now - since, bytes);
    call(f, !window.covers(now - since));
    habits_[f].learn(rule, now - since);
  }
  void end(std::uint32_t f, Time since, Time now, std::int64_t bytes) override {
    begin(f, bytes);
    stay(habits_[f].window(), now - since, bytes);
  }

 private:
  functions::KeepAliveRule begin(std::uint32_t f, std::int64_t bytes) {
    const functions::KeepAliveRule rule = rule_(bytes);
    if (!known_[f]) habits_[f].begin(rule);
    known_[f] = true;
    return rule;
  }
  Rule rule_;
  std::vector<functions::Habit> habits_;
  std::vector<bool> known_;
};

class FaasCache : public Kept {
 public:
  FaasCache(std::size_t functions, std::int64_t budget)
      : Kept(functions), budget_(budget), one_(functions) {}
  void gap(std::uint32_t f, Time, Time now, std::int64_t bytes) override {
    fall_idle(now);
    One& one = one_[f];
    call(f, !one.there);
    if (!one.there) return;
    pool_.taken(one.priority, f, bytes);
    idle(now - one.since, bytes);
    one.there = false;
  }
  void end(std::uint32_t f, Time, Time now, std::int64_t bytes) override {
    fall_idle(now);
    if (one_[f].there) idle(now - one_[f].since, bytes);
  }
  void busy(std::uint32_t f, Time now, Time until, std::int64_t bytes) override {
    fall_idle(now);
    ++one_[f].frequency;
    one_[f].since = until;
    one_[f].bytes = bytes;
    falls_.push({until, f});
  }

 private:
  struct Fall {
    Time at;
    std::uint32_t function;
    bool operator<(const Fall& other) const { return at > other.at; }
  };
  struct One {
    std::uint64_t frequency = 0;
    std::int64_t priority = 0;
    std::int64_t bytes = 0;
    Time since;
    bool there = false;
  };
  void fall_idle(Time now) {
    for (; !falls_.empty() && falls_.top().at <= now; falls_.pop()) {
      const Fall fall = falls_.top();
      One& one = one_[fall.function];
      if (one.since != fall.at || one.there) continue;  // busy for longer
      one.priority = pool_.priority(one.frequency, seconds(1), one.bytes);
      one.there = true;
      pool_.idle(one.priority, fall.function, one.bytes);
      while (pool_.over(budget_)) {
        const std::uint64_t out = pool_.next();
        One& gone = one_[out];
        pool_.taken(gone.priority, out, gone.bytes);
        idle(fall.at - gone.since, gone.bytes);
        gone.there = false;
        gone.frequency = 0;
      }
    }
  }
  std::int64_t budget_;
  functions::GreedyDual pool_;
  std::priority_queue<Fall> falls_;
  std::vector<One> one_;
};

// Knows how long each gap will be and keeps the replica for it where that is worth it. It never
// loads again: one that did would have no cold start and nothing idle.
class Clairvoyant : public Kept {
 public:
  Clairvoyant(std::size_t functions, double gibi_seconds) : Kept(functions), worth_(gibi_seconds) {}
  void gap(std::uint32_t f, Time since, Time now, std::int64_t bytes) override {
    const Duration gap = now - since;
    const double idle_for = static_cast<double>(gap.nanos) * 1e-9;
    const bool keep = idle_for * static_cast<double>(bytes) / kGibi <= worth_;
    if (keep) idle(gap, bytes);
    call(f, !keep);
  }
  void end(std::uint32_t, Time, Time, std::int64_t) override {}

 private:
  double worth_;
};

struct Setting {
  std::string policy;
  std::string setting;
  std::unique_ptr<Kept> kept;
};

std::vector<Setting> settings(std::size_t functions) {
  using functions::KeepAliveRule;
  std::vector<Setting> out;
  const auto windowed = [&](std::string policy, std::string setting, Windowed::Rule rule) {
    out.push_back({std::move(policy), std::move(setting),
                   std::make_unique<Windowed>(functions, std::move(rule))});
  };
  for (const int minutes : {5, 10, 20, 60, 120, 240}) {
    windowed("fixed", fmt::format("{} min", minutes), [=](std::int64_t) {
      return KeepAliveRule{KeepAlive::fixed, seconds(60 * minutes), {}, {}};
    });
  }
  for (const int tail : {990, 950, 850}) {
    windowed("hybrid", fmt::format("5th to {}th", tail / 10), [=](std::int64_t) {
      return KeepAliveRule{KeepAlive::hybrid, {}, {}, {50, tail}};
    });
  }
  for (int power = -3; power <= 3; ++power) {
    const double mebibytes = 16 * std::pow(2, power);
    const double budget = mebibytes * 1048576 * static_cast<double>(functions);
    out.push_back({"greedy-dual", fmt::format("{} MiB a function", mebibytes),
                   std::make_unique<FaasCache>(functions, static_cast<std::int64_t>(budget))});
  }
  for (const bool floor : {true, false}) {
    for (const int worth : {30, 60, 120, 240, 480, 960, 1920, 3840, 7680, 15360}) {
      windowed(floor ? kOurs : kNoFloor, fmt::format("{} GiB s", worth), [=](std::int64_t bytes) {
        GroupRouting routing;
        routing.keep_alive_policy = KeepAlive::cost;
        routing.cold_start_worth = seconds(worth);
        routing.memory_bytes = bytes;
        KeepAliveRule rule = functions::rule_of(routing);
        if (!floor) rule.worth.rare_permille = 0;
        return rule;
      });
    }
  }
  for (const double worth : {15., 30., 60., 120., 240., 480., 960., 1920.}) {
    out.push_back({"clairvoyant", fmt::format("{} GiB s", worth),
                   std::make_unique<Clairvoyant>(functions, worth)});
  }
  return out;
}

std::vector<Setting> run(sim::Source& source, Time end) {
  const auto& functions = source.catalogue().functions;
  std::vector<Setting> all = settings(functions.size());
  std::vector<Time> idle_since(functions.size(), Time{-1});
  const auto bytes_of = [&](std::uint32_t f) {
    return functions[f].memory_bytes != 0 ? functions[f].memory_bytes : std::int64_t{170} << 20;
  };
  for (; const sim::Arrival* next = source.peek(); source.pop()) {
    if (next->kind != sim::ArrivalKind::request) continue;
    const std::uint32_t f = next->function;
    const std::int64_t bytes = bytes_of(f);
    const Time since = idle_since[f];
    const Time until = next->at + next->service;
    for (Setting& one : all) {
      if (since.nanos < 0) {
        one.kept->call(f, true);
      } else if (since <= next->at) {
        one.kept->gap(f, since, next->at, bytes);
      } else {
        one.kept->call(f, false);
      }
      if (until > since) one.kept->busy(f, next->at, until, bytes);
    }
    idle_since[f] = std::max(since, until);
    end = std::max(end, next->at);
  }
  for (std::uint32_t f = 0; f < functions.size(); ++f) {
    if (idle_since[f].nanos < 0 || idle_since[f] >= end) continue;
    for (Setting& one : all) one.kept->end(f, idle_since[f], end, bytes_of(f));
  }
  return all;
}

// Ours at another policy's memory: interpolated between settings, in logarithms.
Outcome at_memory(std::vector<Outcome> curve, double memory) {
  std::sort(curve.begin(), curve.end(),
            [](const Outcome& a, const Outcome& b) { return a.memory < b.memory; });
  std::size_t above = 1;
  while (above + 1 < curve.size() && curve[above].memory < memory) ++above;
  const Outcome& a = curve[above - 1];
  const Outcome& b = curve[above];
  const double share =
      std::clamp(std::log(memory / a.memory) / std::log(b.memory / a.memory), 0.0, 1.0);
  const auto between = [&](double x, double y) { return x + (y - x) * share; };
  Outcome out;
  out.memory = a.memory * std::pow(b.memory / a.memory, share);
  out.cold = a.cold * std::pow(b.cold / a.cold, share);
  out.half = between(a.half, b.half);
  out.p75 = between(a.p75, b.p75);
  out.p90 = between(a.p90, b.p90);
  out.starts = between(a.starts, b.starts);
  return out;
}

std::string spread(std::vector<double> values, int digits) {
  std::sort(values.begin(), values.end());
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", values[values.size() / 2], digits,
                     values.front(), digits, values.back(), digits);
}

// By setting, then by seed.
struct Row {
  std::string policy, setting;
  std::vector<Outcome> outcomes;
  std::vector<double> all(double Outcome::*member) const {
    std::vector<double> out;
    for (const Outcome& one : outcomes) out.push_back(one.*member);
    return out;
  }
};

void print_curves(const std::vector<Row>& rows) {
  fmt::print(
      "| policy | setting | idle GiB s per call | cold per 1000 calls | functions' cold %: p50 "
      "| p75 | p90 | starts per 1000 calls |\n|---|---|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} |\n", row.policy, row.setting,
               spread(row.all(&Outcome::memory), 2), spread(row.all(&Outcome::cold), 2),
               spread(row.all(&Outcome::half), 1), spread(row.all(&Outcome::p75), 1),
               spread(row.all(&Outcome::p90), 1), spread(row.all(&Outcome::starts), 2));
  }
}

void print_equal_memory(const std::vector<Row>& rows) {
  fmt::print(
      "\n| at the memory of | cold starts are so many times | those of | p75 % | its p75 % "
      "| its memory is so many times |\n|---|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    if (row.policy == kOurs || row.policy == kNoFloor || row.policy == "clairvoyant") continue;
    for (const std::string ours : {kOurs, kNoFloor}) {
      std::vector<double> ratio, theirs, own, memory;
      for (std::size_t seed = 0; seed < row.outcomes.size(); ++seed) {
        std::vector<Outcome> curve;
        for (const Row& one : rows) {
          if (one.policy == ours) curve.push_back(one.outcomes[seed]);
        }
        const Outcome at = at_memory(curve, row.outcomes[seed].memory);
        ratio.push_back(row.outcomes[seed].cold / at.cold);
        memory.push_back(at.memory / row.outcomes[seed].memory);
        theirs.push_back(row.outcomes[seed].p75);
        own.push_back(at.p75);
      }
      fmt::print("| {} {} | {} | {} | {} | {} | {} |\n", row.policy, row.setting,
                 spread(ratio, 2), ours, spread(theirs, 1), spread(own, 1), spread(memory, 2));
    }
  }
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) {
  using namespace chalk;
  std::uint64_t seeds = 5;
  sim::AzureShape shape{.apps = 300, .length = seconds(7 * 86'400), .app_calls_per_day_max = 8640};
  std::string trace;
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (key == "--seeds") {
      seeds = std::strtoull(value, nullptr, 10);
    } else if (key == "--apps") {
      shape.apps = static_cast<std::uint32_t>(std::atoi(value));
    } else if (key == "--days") {
      shape.length = seconds(std::atoll(value) * 86'400);
    } else if (key == "--calls-per-day") {
      shape.app_calls_per_day_max = std::atof(value);
    } else if (key == "--trace") {
      trace = value;
    } else {
      fmt::print(stderr, "found {}, expected --seeds, --apps, --days, --calls-per-day, --trace\n",
                 key);
      return 1;
    }
  }
  std::vector<bench::Row> rows;
  std::vector<double> functions, calls;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const auto source = trace.empty() ? sim::azure_functions_shape(shape, seed)
                                      : sim::open_trace(trace, {.seed = seed});
    const auto all = bench::run(*source, trace.empty() ? Time{shape.length.nanos} : Time{});
    if (rows.empty()) {
      for (const auto& one : all) rows.push_back({one.policy, one.setting, {}});
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      rows[i].outcomes.push_back(all[i].kept->outcome());
    }
    functions.push_back(static_cast<double>(all.front().kept->functions()));
    calls.push_back(static_cast<double>(all.front().kept->calls()));
  }
  fmt::print("{} functions called, {} calls; {} seeds: median (least to most)\n\n",
             bench::spread(functions, 0), bench::spread(calls, 0), seeds);
  bench::print_curves(rows);
  bench::print_equal_memory(rows);
}
