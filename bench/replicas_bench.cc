// Replica policies on loads that rise and fall, all in one run: replica-seconds, waits and changes
// of direction of KPA, HPA and ours, beside one that knows every arrival.
//
// replicas_bench [--seeds N] [--picture FILE.svg] [--z PERMILLE] [--keep-alive S] [--start MS]
//     [--service MS] [--shape NAME] [--window-doubts N] [--up-doubts N] [--down-doubts N]
//
// One group of replicas that serve one call at once. The gateway and the policies are the code of
// model/functions and model/autoscaler; starts take a constant time and messages none. Nothing is
// counted before 300 s. A replica counts from the order to start it until it is given back.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include "bench/replicas_clairvoyant.h"
#include "model/autoscaler/autoscaler.h"
#include "model/core/random.h"
#include "model/functions/functions.h"

namespace chalk::bench {
namespace {

using autoscaler::Kind;
constexpr GroupId kGroup{1};
constexpr double kWarm = 300;  // seconds

struct Options {
  std::uint64_t seeds = 5;
  std::string picture, shape;
  autoscaler::Config config;
  std::int64_t z_permille = 0;    // 0: the policy's own
  Duration keep_alive{};           // 0: the policy's own
  double start = 5, service = 1;
};

struct Shape {
  std::string name;
  double length;
  std::function<double(double)> load;  // calls in service on average, by second
  Duration keep_alive{};               // 0: that of the options
};

std::vector<Shape> shapes() {
  constexpr double pi = 3.14159265358979;
  return {
      {"steady 10", 3900, [](double) { return 10.0; }},
      {"steady 100", 3900, [](double) { return 100.0; }},
      {"step", 2700, [](double t) { return t < 1100 || t >= 1900 ? 20.0 : 200.0; }},
      {"ramp", 2700, [](double t) { return 20 + 180 * std::clamp((t - 600) / 1200, 0.0, 1.0); }},
      {"sine", 2700, [](double t) { return 100 + 80 * std::sin(2 * pi * t / 1200); }},
      {"flash crowd", 2700,
       [](double t) {
         const double rise = std::clamp((t - 1000) / 10, 0.0, 1.0);
         return 50 + 450 * rise * std::exp(-std::max(0.0, t - 1010) / 200);
       }},
      {"bursts", 2300,
       [](double t) { return t >= kWarm && std::fmod(t - kWarm, 100) < 5 ? 20.0 : 1.0; },
       seconds(600)},  // as long as ours keeps by default
  };
}

struct Policy {
  const char* name;
  Kind kind;
  const char* colour;
  std::int64_t z_permille;  // ours
  Duration keep_alive;      // ours
};
constexpr std::array<Policy, 4> kPolicies = {{
    {"KPA", Kind::kpa, "#c44", 0, {}},
    {"HPA", Kind::hpa, "#48c", 0, {}},
    {"ours", Kind::chalk, "#2a2", 700, seconds(10)},
    {"ours, roomy", Kind::chalk, "#a5a", 1000, seconds(60)},
}};

// Poisson arrivals at a rate that changes (thinning), exponential service times.
std::vector<Call> draw(const Shape& shape, double service, std::uint64_t seed) {
  Random random = Random{seed, 0}.stream(7);
  const auto uniform = [&] { return (static_cast<double>(random.next() >> 11) + 1) * 0x1p-53; };
  double most = 0;
  for (double t = 0; t < shape.length; t += 1) most = std::max(most, shape.load(t));
  most *= 1.01;
  std::vector<Call> calls;
  for (double t = 0;;) {
    t -= std::log(uniform()) * service / most;
    if (t >= shape.length) return calls;
    const bool kept = uniform() * most <= shape.load(t);
    const double takes = -std::log(uniform()) * service;
    if (kept) calls.push_back({t, takes});
  }
}

// One gateway, one autoscaler and replicas that start in a constant time.
class World {
 public:
  World(const Options& options, const Policy& chosen, const std::vector<Call>& calls,
        const Shape& shape)
      : options_(options), calls_(calls), scaler_(options.config), functions_({}) {
    end_ = at(shape.length);
    GroupRouting routing;
    routing.group = kGroup;
    routing.queue_max = 10'000'000;
    routing.report_interval = seconds(2);
    autoscaler::GroupPolicy policy;
    policy.kind = chosen.kind;
    policy.min_replicas = chosen.kind == Kind::hpa ? 1 : 0;
    policy.max_replicas = 100'000;
    policy.z_permille = options.z_permille > 0 ? options.z_permille : chosen.z_permille;
    policy.keep_alive = chosen.keep_alive;
    if (options.keep_alive.nanos != 0) policy.keep_alive = options.keep_alive;
    if (shape.keep_alive.nanos != 0) policy.keep_alive = shape.keep_alive;
    tell(Time{}, routing);
    ask(Time{}, autoscaler::GroupAdded{kGroup, policy});
    waits_.reserve(calls.size());
  }
  Outcome run(std::vector<std::uint32_t>* by_second) {
    std::size_t next = 0;
    Time second{};
    while (true) {
      const Time arrival = next < calls_.size() ? at(calls_[next].at) : kNever;
      const Time due = events_.empty() ? kNever : events_.top().at;
      const Time wake = std::min(functions_wake_, scaler_wake_);
      const Time now = std::min({arrival, due, wake, end_});
      while (by_second != nullptr && second <= now && second < end_) {
        by_second->push_back(replicas_);
        second = second + seconds(1);
      }
      if (now.nanos >= at(kWarm).nanos && turns_warm_ < 0) turns_warm_ = turns();
      count(now);
      if (now == end_) break;
      if (now == arrival) {
        tell(now, functions::RequestArrived{RequestId{next + 1}, kGroup});
        ++next;
      } else if (now == due) {
        const Event event = events_.top();
        events_.pop();
        if (event.starts) {
          ask(now, autoscaler::ReplicaStarted{kGroup, {at(options_.start).nanos}});
          tell(now, ReplicaReady{kGroup, event.sandbox});
        } else {
          tell(now, functions::RequestFinished{event.replica});
        }
      } else if (functions_wake_ <= now) {
        functions_wake_ = kNever;
        tell(now, Woken{});
      } else {
        scaler_wake_ = kNever;
        ask(now, Woken{});
      }
    }
    Outcome out;
    out.replica_seconds = seconds_;
    out.most = most_;
    out.turns = static_cast<double>(turns() - turns_warm_);
    waits_of(waits_, out);
    return out;
  }

 private:
  struct Event {
    Time at;
    std::uint64_t number = 0;
    bool starts = false;
    SandboxId sandbox;
    functions::ReplicaSlot replica;
    bool operator<(const Event& other) const {
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  static Time at(double s) { return Time{static_cast<std::int64_t>(s * 1e9)}; }
  int turns() const { return static_cast<int>(scaler_.group(kGroup)->turns); }
  void count(Time now) {
    const Time from = std::max(counted_, at(kWarm));
    if (now > from) {
      seconds_ += static_cast<double>((now - from).nanos) * 1e-9 * replicas_;
      most_ = std::max(most_, static_cast<double>(replicas_));
    }
    counted_ = now;
  }
  template <class E>
  void tell(Time now, const E& event) {
    std::vector<functions::Effect> effects;
    functions_.step(now, event, effects);
    for (const auto& effect : effects) std::visit([&](const auto& e) { on(now, e); }, effect);
  }
  template <class E>
  void ask(Time now, const E& event) {
    std::vector<autoscaler::Effect> effects;
    scaler_.step(now, event, effects);
    for (const auto& effect : effects) {
      if (const auto* start = std::get_if<autoscaler::StartReplicas>(&effect)) {
        for (std::uint32_t i = 0; i < start->count; ++i) {
          ask(now, autoscaler::ReplicaStarting{kGroup});
          ++replicas_;
          events_.push({now + Duration{at(options_.start).nanos}, ++number_, true,
                        SandboxId{++sandboxes_}, {}});
        }
      } else if (const auto* stop = std::get_if<autoscaler::StopReplicas>(&effect)) {
        tell(now, DrainReplicas{kGroup, stop->count});
      } else if (const auto* wake = std::get_if<WakeAt>(&effect)) {
        scaler_wake_ = wake->at;
      }  // CancelStarts: here none waits for room
    }
  }
  void on(Time now, const functions::Dispatch& dispatch) {
    const Call& call = calls_[dispatch.request.value - 1];
    if (call.at >= kWarm) waits_.push_back(static_cast<double>((now - at(call.at)).nanos) * 1e-9);
    events_.push({now + Duration{at(call.takes).nanos}, ++number_, false, {}, dispatch.replica});
  }
  void on(Time now, const functions::ReportDemand& report) {
    ask(now, autoscaler::DemandReported{report.demand});
  }
  void on(Time now, const functions::ReturnReplica&) {
    --replicas_;
    ask(now, autoscaler::ReplicaEnded{kGroup, true});
  }
  void on(Time, const WakeAt& wake) { functions_wake_ = wake.at; }
  void on(Time, const functions::RefuseRequest&) { std::abort(); }
  void on(Time, const functions::AbortReplica&) { std::abort(); }

  const Options& options_;
  const std::vector<Call>& calls_;
  autoscaler::Autoscaler scaler_;
  functions::Functions functions_;
  std::priority_queue<Event> events_;
  std::vector<double> waits_;
  Time functions_wake_ = kNever, scaler_wake_ = kNever, counted_{}, end_{};
  std::uint64_t number_ = 0, sandboxes_ = 0;
  std::uint32_t replicas_ = 0;
  double seconds_ = 0, most_ = 0;
  int turns_warm_ = -1;
};

std::string spread(std::vector<double> values, int digits) {
  std::sort(values.begin(), values.end());
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", values[values.size() / 2], digits,
                     values.front(), digits, values.back(), digits);
}

// The replicas of one run over time, one panel for each shape.
class Picture {
 public:
  void panel(const Shape& shape, const std::vector<std::vector<std::uint32_t>>& lines,
             const std::vector<double>& clairvoyant) {
    double most = 1;
    for (const auto& line : lines) {
      for (const std::uint32_t n : line) most = std::max(most, static_cast<double>(n));
    }
    const double top = 20 + 190.0 * panels_++;
    body_ += fmt::format("<text x='10' y='{}'>{} (most: {:.0f} replicas)</text>\n", top + 12,
                         shape.name, most);
    const auto path = [&](const auto& values, const char* colour) {
      std::string points;
      for (std::size_t i = static_cast<std::size_t>(kWarm); i < values.size(); i += 6) {
        const double x = 880 * (static_cast<double>(i) - kWarm) / (shape.length - kWarm);
        const double y = 170 - 150 * static_cast<double>(values[i]) / most;
        points += fmt::format("{:.1f},{:.1f} ", 10 + x, top + y);
      }
      body_ += fmt::format("<polyline fill='none' stroke='{}' points='{}'/>\n", colour, points);
    };
    path(clairvoyant, "#aaa");
    for (std::size_t i = 0; i < lines.size(); ++i) path(lines[i], kPolicies[i].colour);
  }
  void write(const std::string& file) const {
    std::string legend;
    double x = 10;
    for (const Policy& one : kPolicies) {
      legend += fmt::format("<text x='{}' y='14' fill='{}'>{}</text>", x, one.colour, one.name);
      x += 80;
    }
    legend += fmt::format(
        "<text x='{}' y='14' fill='#999'>calls in service if none waits</text>\n", x);
    std::ofstream(file) << fmt::format(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 {}' font-family='sans-serif' "
        "font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n{}{}</svg>\n",
        40 + 190 * panels_, legend, body_);
  }

 private:
  std::string body_;
  int panels_ = 0;
};

void measure(const Options& options, const Shape& shape, Picture& picture) {
  struct Row {
    std::vector<double> seconds, ratio, floor, p99, mean, most, turns;
  };
  std::array<Row, kPolicies.size()> rows;
  for (std::uint64_t seed = 1; seed <= options.seeds; ++seed) {
    const std::vector<Call> calls = draw(shape, options.service, seed);
    const Clairvoyant clairvoyant(calls, kWarm, shape.length, options.start);
    std::vector<std::vector<std::uint32_t>> lines;
    for (std::size_t i = 0; i < kPolicies.size(); ++i) {
      lines.emplace_back();
      World world(options, kPolicies[i], calls, shape);
      const Outcome one = world.run(seed == 1 ? &lines.back() : nullptr);
      Row& row = rows[i];
      row.seconds.push_back(one.replica_seconds / 1000);
      row.ratio.push_back(one.replica_seconds / clairvoyant.least(one.p99));
      row.floor.push_back(one.replica_seconds / clairvoyant.floor());
      row.p99.push_back(one.p99 * 1000);
      row.mean.push_back(one.mean * 1000);
      row.most.push_back(one.most);
      row.turns.push_back(one.turns);
    }
    if (seed == 1) picture.panel(shape, lines, clairvoyant.busy());
  }
  for (std::size_t i = 0; i < kPolicies.size(); ++i) {
    const Row& r = rows[i];
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", shape.name, kPolicies[i].name,
               spread(r.turns, 0), spread(r.seconds, 1), spread(r.ratio, 3), spread(r.floor, 3),
               spread(r.p99, 0), spread(r.mean, 1), spread(r.most, 0));
  }
  std::fflush(stdout);
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) {
  using namespace chalk;
  bench::Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (key == "--seeds") {
      options.seeds = std::strtoull(value, nullptr, 10);
    } else if (key == "--picture") {
      options.picture = value;
    } else if (key == "--shape") {
      options.shape = value;
    } else if (key == "--z") {
      options.z_permille = std::atoll(value);
    } else if (key == "--window-doubts") {
      options.config.window_doubts = std::atoll(value);
    } else if (key == "--up-doubts") {
      options.config.up_doubts = std::atoll(value);
    } else if (key == "--down-doubts") {
      options.config.down_doubts = std::atoll(value);
    } else if (key == "--keep-alive") {
      options.keep_alive = seconds(std::atoll(value));
    } else if (key == "--start") {
      options.start = std::atof(value) / 1000;
    } else if (key == "--service") {
      options.service = std::atof(value) / 1000;
    } else {
      fmt::print(stderr,
                 "found {}, expected --seeds, --picture, --shape, --z, --window-doubts, "
                 "--up-doubts, --down-doubts, --keep-alive, --start, --service\n",
                 key);
      return 1;
    }
  }
  fmt::print("{} seeds: median (least to most); starts take {} s, calls {} s on average\n\n"
             "| load | policy | changes of direction | replica-seconds, thousands | over the "
             "clairvoyant | over the floor | wait p99 ms | mean ms | most replicas |\n"
             "|---|---|---|---|---|---|---|---|---|\n",
             options.seeds, options.start, options.service);
  bench::Picture picture;
  for (const bench::Shape& shape : bench::shapes()) {
    if (!options.shape.empty() && shape.name != options.shape) continue;
    bench::measure(options, shape, picture);
  }
  if (!options.picture.empty()) picture.write(options.picture);
}
