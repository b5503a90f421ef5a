// Fairness and isolation, each policy beside its baselines in one run:
//
//   fairness_bench [--seeds N] [--from FIRST] [--svg FILE] [--only-nodes true]
//
// 1. callers of one function: one floods, what do its neighbours notice? (fifo, drr)
// 2. what a call costs in the queue by the number of callers
// 3. tenants that ask for sandboxes: one floods (scenarios/fast/fair_tenants.yaml under each order)
// 4. nodes used where tenants own them, beside the least that could do; the same once the fleet has
//    emptied the nodes that it can do without
// 5. gateways by tenant: how many lose theirs when one tenant brings his down (all, shuffle)
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <vector>

#include "bench/spread.h"
#include "model/control/control.h"
#include "model/functions/functions.h"
#include "model/gateway/shards.h"
#include "model/scheduler/scheduler.h"
#include "sim/scenario/parse.h"
#include "sim/workload/distribution.h"
#include "sim/world/world.h"

namespace chalk::bench {
namespace {

using sim::from_nanos;

double quantile(std::vector<double>& values, double q) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[static_cast<std::size_t>(q * double(values.size() - 1))];
}

// ---- 1: callers of one function

constexpr std::uint32_t kReplicas = 100;
constexpr std::uint64_t kCallers = 50;
constexpr double kMean = 0.1;                              // seconds of service
constexpr double kShare = kReplicas / kMean / kCallers;    // calls per second
constexpr double kQuiet = 0.7;                             // of its share, by each that is no flood
const Time kFrom{seconds(5).nanos}, kEnd{seconds(65).nanos};

struct Flood {
  double times = 0;   // its share; 0: it is as quiet as the others
  double longer = 1;  // its calls take so many times as long
};
struct Heard {  // by the neighbours
  double total_p99 = 0, wait_p99 = 0;  // ms
  double refused = 0;                  // % of their calls
  double busy = 0;                     // % of the replicas' time
};

// One function in its gateway. Calls of each caller are a stream of their own, the same with and
// without the flood.
class Callers {
 public:
  Callers(QueueOrder order, const Flood& flood, std::uint64_t seed)
      : machine_(functions::Config{}), flood_(flood), calls_(1), streams_(kCallers + 1) {
    GroupRouting routing;
    routing.group = {1};
    routing.queue_max = 10'000;
    routing.queue_order = order;
    machine_.step({}, routing, effects_);
    for (std::uint64_t r = 1; r <= kReplicas; ++r)
      machine_.step({}, ReplicaReady{{1}, {r}}, effects_);
    for (std::uint64_t c = 1; c <= kCallers; ++c) {
      streams_[c] = Random{seed, 0}.stream(c);
      next_call(c, {});
    }
  }

  Heard run() {
    while (heap_.top().at < kEnd) {
      const Next next = heap_.top();
      heap_.pop();
      next.caller == 0 ? finish(next) : arrive(next);
      obey(next.at);
    }
    // Who still waits has waited at least so long.
    for (const Call& call : calls_) {
      if (!counts(call) || call.settled) continue;
      total_.push_back(double((kEnd - call.arrived).nanos) * 1e-6);
      if (call.dispatched == kNever) wait_.push_back(total_.back());
    }
    return {quantile(total_, 0.99), quantile(wait_, 0.99), 100 * refused_ / asked_,
            100 * busy_ / (double(kEnd.nanos) * kReplicas)};
  }

 private:
  struct Next {
    Time at;
    std::uint64_t caller;  // 0: a call ends
    functions::ReplicaSlot replica;
    std::uint64_t call;
    bool operator>(const Next& other) const {
      return at != other.at ? at > other.at : call > other.call;
    }
  };
  struct Call {
    Time arrived;
    Duration service;
    std::uint64_t caller = 0;
    Time dispatched = kNever;
    bool settled = false;
  };
  static bool counts(const Call& call) { return call.caller > 1 && call.arrived >= kFrom; }
  bool floods(std::uint64_t caller) const { return caller == 1 && flood_.times > 0; }

  void next_call(std::uint64_t caller, Time after) {
    const double rate = kShare * (floods(caller) ? flood_.times : kQuiet);
    const auto gap = sim::Distribution::exponential(from_nanos(1e9 / rate));
    heap_.push({after + gap.sample(streams_[caller].next()), caller, {}, 0});
  }
  void arrive(const Next& next) {
    const double mean = 1e9 * kMean * (floods(next.caller) ? flood_.longer : 1);
    const auto service = sim::Distribution::exponential(from_nanos(mean));
    calls_.push_back({next.at, service.sample(streams_[next.caller].next()), next.caller});
    asked_ += counts(calls_.back());
    machine_.step(next.at,
                  functions::RequestArrived{{calls_.size() - 1}, {1}, {next.caller}}, effects_);
    next_call(next.caller, next.at);
  }
  void finish(const Next& next) {
    Call& call = calls_[next.call];
    call.settled = true;
    busy_ += double(call.service.nanos);
    if (counts(call)) {
      total_.push_back(double((next.at - call.arrived).nanos) * 1e-6);
    }
    machine_.step(next.at, functions::RequestFinished{next.replica, {call.caller}, call.service},
                  effects_);
  }
  void obey(Time now) {
    for (const functions::Effect& effect : effects_) {
      if (const auto* go = std::get_if<functions::Dispatch>(&effect)) {
        Call& call = calls_[go->request.value];
        call.dispatched = now;
        if (counts(call)) wait_.push_back(double((now - call.arrived).nanos) * 1e-6);
        heap_.push({now + call.service, 0, go->replica, go->request.value});
      } else if (const auto* no = std::get_if<functions::RefuseRequest>(&effect)) {
        calls_[no->request.value].settled = true;
        refused_ += counts(calls_[no->request.value]);
      }
    }
    effects_.clear();
  }

  functions::Functions machine_;
  functions::Functions::Effects effects_;
  Flood flood_;
  std::vector<Call> calls_;
  std::vector<Random> streams_;
  std::priority_queue<Next, std::vector<Next>, std::greater<>> heap_;
  std::vector<double> total_, wait_;
  double refused_ = 0, asked_ = 0, busy_ = 0;
};

struct Curve {
  const char* name;
  std::vector<std::pair<double, double>> points;  // times its share, ratio of p99
};

std::vector<Curve> flooded_callers(std::uint64_t seeds) {
  fmt::print(
      "## One caller floods a function\n\n{} replicas, {} callers, exponential service of {:.0f} ms;"
      " each quiet caller asks for {:.0f} % of its equal part of the replicas ({:.0f} calls/s), the"
      " flood for so many times its part. p99 of the 49 neighbours over 60 s, the same calls with"
      " and without the flood; a refused call is not in it.\n\n"
      "| queue | flood | its calls | p99 arrival to answer, ms | times that without flood | p99 wait,"
      " ms | refused, % | replicas busy, % |\n|---|---|---|---|---|---|---|---|\n",
      kReplicas, kCallers, kMean * 1e3, kQuiet * 100, kShare);
  std::vector<Curve> curves;
  for (const QueueOrder order : {QueueOrder::fifo, QueueOrder::drr}) {
    const char* name = order == QueueOrder::fifo ? "fifo" : "drr (ours)";
    std::vector<double> alone;
    Curve curve{name, {}};
    for (const Flood& flood :
         {Flood{}, Flood{10}, Flood{30}, Flood{100}, Flood{1000}, Flood{100, 10}}) {
      Spread total, ratio, wait, refused, busy;
      for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        const Heard heard = Callers(order, flood, seed).run();
        if (flood.times == 0) alone.push_back(heard.total_p99);
        total.add(heard.total_p99);
        ratio.add(heard.total_p99 / alone[seed - 1]);
        wait.add(heard.wait_p99);
        refused.add(heard.refused);
        busy.add(heard.busy);
      }
      fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} |\n", name,
                 flood.times == 0 ? "none" : fmt::format("{:.0f}x", flood.times),
                 flood.longer == 1 ? "as long" : fmt::format("{:.0f}x as long", flood.longer),
                 total.text(0), ratio.text(3), wait.text(1), refused.text(1), busy.text(1));
      if (flood.longer == 1) curve.points.emplace_back(std::max(1.0, flood.times), ratio.middle());
    }
    curves.push_back(curve);
  }
  return curves;
}

// ---- 2: what a call costs

void cost_of_a_call(std::uint64_t seeds) {
  fmt::print(
      "\n## What a call costs in the queue\n\nNanoseconds to put one call in and take one out, with"
      " as many waiting as there are callers, in turns.\n\n| callers | fifo | drr | drr / fifo |\n"
      "|---|---|---|---|\n");
  for (const std::uint64_t count : {10u, 1'000u, 100'000u}) {
    Spread all[2], ratio;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
      double nanos[2];
      for (const QueueOrder order : {QueueOrder::fifo, QueueOrder::drr}) {
        functions::CallQueue queue;
        queue.set_order(order);
        Random random{seed, 0};
        for (std::uint64_t c = 1; c <= count; ++c) queue.push({{c}, {c}, {}});
        constexpr int kTimes = 300'000;
        const auto from = std::chrono::steady_clock::now();
        for (int i = 0; i < kTimes; ++i) {
          queue.pop();
          queue.push({{1}, {1 + random.below(count)}, {}});
        }
        const auto took = std::chrono::steady_clock::now() - from;
        const double each = std::chrono::duration<double, std::nano>(took).count() / kTimes;
        nanos[order == QueueOrder::drr] = each;
        all[order == QueueOrder::drr].add(each);
      }
      ratio.add(nanos[1] / nanos[0]);
    }
    fmt::print("| {} | {} | {} | {} |\n", count, all[0].text(0), all[1].text(0), ratio.text(1));
  }
}

// ---- 3: tenants

struct Tenants {
  Spread total, wait, ratio, cores;
  std::uint64_t steps = 0, broken = 0;
};

sim::Result world(const std::string& file, const std::vector<sim::Override>& changes,
                  std::uint64_t seed) {
  const sim::Setup setup = sim::load_scenario(file, changes, {});
  sim::RunOptions options;
  options.seed = seed;
  options.compare_each_step = false;
  return sim::run_world(setup, options);
}

std::uint64_t flooded_tenants(const std::string& file, std::uint64_t from, std::uint64_t seeds) {
  fmt::print(
      "\n## One tenant floods a fleet\n\n{}: 20 nodes of 16 cores, nine tenants that ask for 60 % of"
      " their 32 cores each, a tenth that asks for 100 times its 32 cores for the first 2 of"
      " 10 minutes and then has its backlog; sandboxes of one core run for 20 s on average. p99 of the nine.\n\n"
      "| order | guarantee | nodes | p99 wait, s | p99 ask to end, s | times that without flood |"
      " cores used, % |\n|---|---|---|---|---|---|---|\n",
      file);
  struct Case {
    const char* order;
    const char* guarantee;
    bool separate;
    bool keeps = true;  // control.keep_first_node
  };
  std::uint64_t steps = 0;
  for (const Case& one : {Case{"first_come", "32", false}, Case{"quotas", "32", false},
                          Case{"fair", "0", false}, Case{"fair", "32", false},
                          Case{"first_come", "32", true}, Case{"quotas", "32", true},
                          Case{"fair", "0", true}, Case{"fair", "32", true, false},
                          Case{"fair", "32", true}}) {
    Tenants seen;
    for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
      std::vector<sim::Override> changes = {
          {"control.tenant_order", one.order},
          {"control.separate_tenants", one.separate ? "true" : "false"},
          {"control.keep_first_node", one.keeps ? "true" : "false"},
          {"tenant_default.guarantee.cpu", one.guarantee}};
      const sim::Result with = world(file, changes, seed);
      changes.push_back({"workload.1.per_second", "0.000001"});
      const sim::Result alone = world(file, changes, seed);
      seen.total.add(with.watched_total_ms.p99 / 1e3);
      seen.wait.add(with.watched_wait_ms.p99 / 1e3);
      seen.ratio.add(with.watched_total_ms.p99 / alone.watched_total_ms.p99);
      seen.cores.add(100 * with.utilisation.at("cpu"));
      if (one.separate) seen.steps += with.events + alone.events;
      seen.broken += with.broken.size() + alone.broken.size();
    }
    steps += seen.steps;
    fmt::print("| {}{} | {} | {} | {} | {} | {} | {} |{}\n", one.order,
               one.keeps ? "" : ", no first node kept",
               one.guarantee[0] == '0' ? "none" : "32 cores", one.separate ? "owned" : "shared",
               seen.wait.text(2), seen.total.text(1), seen.ratio.text(3), seen.cores.text(1),
               seen.broken == 0 ? "" : fmt::format(" INVARIANTS BROKEN: {}", seen.broken));
  }
  return steps;
}

// ---- 4: what separation costs in nodes

NodeShape shape() {
  NodeShape s;
  s.cpu_millicores = 64'000;
  s.memory_bytes = 256LL << 30;
  s.disk_bytes = 1LL << 40;
  s.start_slots = s.sandboxes_max = 1024;
  return s;
}

struct Live {
  SandboxId sandbox;
  std::uint64_t owner;
  NodeId node;
  Resources ask;
};

// The least nodes that could hold what lives: for each owner by volume, in whole nodes.
double least_nodes(const std::vector<Live>& live) {
  std::map<std::uint64_t, std::pair<std::int64_t, std::int64_t>> sums;
  for (const Live& one : live) {
    sums[one.owner].first += one.ask.cpu_millicores;
    sums[one.owner].second += one.ask.memory_bytes;
  }
  double all = 0;
  for (const auto& [owner, sum] : sums) {
    all += std::ceil(std::max(double(sum.first) / double(shape().cpu_millicores),
                              double(sum.second) / double(shape().memory_bytes)));
  }
  return all;
}

// The scheduler by itself.
class Owned {
 public:
  Owned(scheduler::Policy policy, std::uint64_t nodes) : machine_(config(policy)) {
    for (std::uint64_t n = 1; n <= nodes; ++n) step(scheduler::NodeAdded{{n}, shape(), {1}, {1}, {}});
  }
  bool place(std::uint64_t owner, const Resources& ask) {
    scheduler::PlaceAsked asked;
    asked.sandbox = {vacant_.empty() ? ++slots_ : vacant_.back()};
    asked.owner = {owner};
    asked.ask = ask;
    step(asked);
    const auto* placed = std::get_if<scheduler::Placed>(&effects_.front());
    if (placed == nullptr) return false;
    if (!vacant_.empty()) vacant_.pop_back();
    live_.push_back({asked.sandbox, owner, placed->node, ask});
    ++on_node_[placed->node.value];
    step(scheduler::StartFinished{asked.sandbox});
    return true;
  }
  std::uint64_t release(std::size_t at) {
    const Live gone = live_[at];
    live_[at] = live_.back();
    live_.pop_back();
    step(scheduler::Released{gone.sandbox});
    vacant_.push_back((gone.sandbox.value & 0xFFFFFFFF) | ((gone.sandbox.value >> 32) + 1) << 32);
    if (--on_node_[gone.node.value] == 0) {  // scrubbed at once
      on_node_.erase(gone.node.value);
      step(scheduler::NodeOwned{gone.node, {}, true});
    }
    return gone.owner;
  }
  std::size_t live() const { return live_.size(); }
  double nodes() const { return static_cast<double>(on_node_.size()); }
  double bound() const { return least_nodes(live_); }

 private:
  static scheduler::Config config(scheduler::Policy policy) {
    scheduler::Config out;
    out.placing = {policy, true};
    return out;
  }
  void step(const scheduler::Event& event) {
    effects_.clear();
    machine_.step({}, event, effects_);
  }
  scheduler::Scheduler machine_;
  scheduler::Effects effects_;
  std::vector<Live> live_;
  std::vector<std::uint64_t> vacant_;
  std::uint64_t slots_ = 0;
  std::map<std::uint64_t, std::uint32_t> on_node_;
};

// The whole control plane on an elastic pool whose nodes obey at once. Time stands still until
// look(), which is when the fleet asks itself which nodes it can do without.
class Plane {
 public:
  Plane(fleet::Policy policy, std::uint64_t tenants, std::uint64_t nodes)
      : control_(config(policy)) {
    fleet::PoolAdded pool{{1}, {}};
    pool.policy.shape = shape();
    pool.policy.zones = {{1}};
    pool.policy.elastic = true;
    pool.policy.nodes_max = static_cast<std::uint32_t>(nodes);
    pool.policy.price_micros = 1'000'000;
    step(pool);
    for (std::uint64_t id = 1; id <= tenants; ++id) {
      tenancy::TenantAdded tenant;
      tenant.tenant = {id};
      step(tenant);
    }
    for (std::uint64_t n = 1; n <= nodes; ++n) join(0);
  }
  bool place(std::uint64_t owner, const Resources& ask, bool may_move) {
    control::SandboxRequested asked;
    asked.reply_to = ++asks_;
    asked.tenant = {owner};
    asked.resources = ask;
    asked.restart = may_move;
    step(asked);
    live_.push_back({accepted_, owner, {}, ask});
    return control_.sandboxes().find(accepted_)->phase == sandbox::Phase::running;
  }
  std::uint64_t release(std::size_t at) {
    const Live gone = live_[at];
    live_[at] = live_.back();
    live_.pop_back();
    step(sandbox::TerminateRequested{gone.sandbox, {}});
    return gone.owner;
  }
  // Ten seconds later; how many sandboxes were moved.
  std::uint64_t look() {
    const std::uint64_t before = control_.sandboxes_moved();
    now_ = now_ + seconds(10);
    step(Woken{});
    return control_.sandboxes_moved() - before;
  }
  std::size_t live() const { return live_.size(); }
  double bound() const { return least_nodes(live_); }
  double nodes() const {
    double busy = 0;
    control_.fleet().state().nodes.for_each(
        [&](NodeId, const fleet::Node& node) { busy += node.busy; });
    return busy;
  }
  bool all_run() const {
    return std::ranges::all_of(live_, [&](const Live& one) {
      const sandbox::Record* record = control_.sandboxes().find(one.sandbox);
      return record != nullptr && record->phase == sandbox::Phase::running;
    });
  }

 private:
  static control::Config config(fleet::Policy policy) {
    control::Config out;
    out.fleet.rules = fleet::rules_of(policy);
    out.fleet.heartbeat_timeout = seconds(1'000'000);  // heartbeats would say nothing here
    out.tenancy.owner_linger = {};
    return out;
  }
  template <class Event>
  void step(const Event& event) {
    control::Control::Effects effects;
    control_.step(now_, event, effects);
    for (const auto& effect : effects) std::visit([&](const auto& one) { obey(one); }, effect);
  }
  template <class Other>
  void obey(const Other&) {}
  void obey(const sandbox::Accepted& accepted) { accepted_ = accepted.sandbox; }
  void obey(const fleet::BuyNode& buy) { join(buy.purchase); }
  void join(std::uint64_t purchase) {
    step(NodeRegistration{++keys_, 1, purchase, {1}, {1}, shape()});
  }
  void obey(const control::ToNode& to) {
    if (!to.envelope.message) return;
    if (const auto* start = std::get_if<StartOrder>(&*to.envelope.message)) {
      report(to.node, StartedReport{start->sandbox, {}});
    } else if (const auto* stop = std::get_if<StopOrder>(&*to.envelope.message)) {
      report(to.node, EndedReport{stop->sandbox, EndReason::terminated, {}});
    } else if (std::holds_alternative<ScrubOrder>(*to.envelope.message)) {
      report(to.node, ScrubbedReport{});
    }
  }
  void report(NodeId node, const NodeReport& one) {
    step(control::FromNode{node, {1, ++sent_[node], 1'000'000'000, one}});
  }

  control::Control control_;
  Time now_;
  std::uint64_t asks_ = 0, keys_ = 0;
  SandboxId accepted_;
  std::map<NodeId, std::uint64_t> sent_;
  std::vector<Live> live_;
};

Resources some_ask(Random& random) {
  static constexpr std::int64_t kCores[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 16};
  static constexpr std::int64_t kGibPerCore[] = {2, 4, 4, 4, 6};
  Resources r;
  const std::int64_t cores = kCores[random.below(10)];
  r.cpu_millicores = cores * 1000;
  r.memory_bytes = (cores * kGibPerCore[random.below(5)]) << 30;
  return r;
}

std::vector<std::pair<std::uint64_t, Resources>> some_asks(Random& random) {
  std::vector<std::pair<std::uint64_t, Resources>> asks;
  for (std::uint64_t tenant = 1; tenant <= 30; ++tenant) {
    const double draw = double(random.below(1'000'000)) / 1e6;
    double left = 64'000 * 2 * std::pow(30, draw);
    while (left > 0) {
      asks.emplace_back(tenant, some_ask(random));
      left -= double(asks.back().second.cpu_millicores);
    }
  }
  for (std::size_t i = asks.size(); i > 1; --i) std::swap(asks[i - 1], asks[random.below(i)]);
  return asks;
}

// The same churn on the whole control plane, after which the fleet looks every ten seconds for
// nodes that it can do without, until it finds none for a while.
void nodes_emptied(std::uint64_t from, std::uint64_t seeds) {
  fmt::print(
      "\nThe same after churn on the whole control plane, where the fleet may then empty nodes: their"
      " sandboxes move to other nodes of their tenant where a fork of the scheduler says that all"
      " fit. It looks every 10 s for up to an hour, at most 5 nodes or 100 sandboxes at once, and"
      " nothing comes or goes meanwhile; of the sandboxes so many may be moved (`restart`).\n\n"
      "| fleet.policy | may move, % | after churn: nodes / bound | once emptied | moved, % of the"
      " sandboxes | minutes until the last move |\n|---|---|---|---|---|---|\n");
  struct Case {
    fleet::Policy policy;
    const char* name;
    std::uint64_t may_move;  // %
  };
  for (const Case& one :
       {Case{fleet::Policy::newsvendor, "newsvendor (ours)", 100},
        Case{fleet::Policy::newsvendor, "newsvendor (ours)", 90},
        Case{fleet::Policy::newsvendor, "newsvendor (ours)", 50},
        Case{fleet::Policy::karpenter, "karpenter", 100},
        Case{fleet::Policy::cluster_autoscaler, "cluster_autoscaler", 100}}) {
    Spread churned, emptied, moved, minutes;
    bool all_run = true;
    for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
      Random random = Random{seed, 0}.stream(4);
      const auto asks = some_asks(random);
      Plane plane(one.policy, 30, 1000);
      Random luck = Random{seed, 0}.stream(5);
      const auto may_move = [&] { return luck.below(100) < one.may_move; };
      for (const auto& [tenant, ask] : asks) plane.place(tenant, ask, may_move());
      for (std::size_t i = 0; i < 2 * asks.size(); ++i) {
        const std::uint64_t tenant = plane.release(random.below(plane.live()));
        plane.place(tenant, some_ask(random), may_move());
      }
      churned.add(plane.nodes() / plane.bound());
      std::uint64_t moves = 0;
      double last = 0;
      for (int looks = 1; looks <= 360; ++looks) {
        const std::uint64_t more = plane.look();
        moves += more;
        if (more != 0) last = looks / 6.0;
      }
      emptied.add(plane.nodes() / plane.bound());
      moved.add(100 * double(moves) / double(plane.live()));
      minutes.add(last);
      all_run = all_run && plane.all_run();
    }
    fmt::print("| {} | {} | {} | {} | {} | {} |{}\n", one.name, one.may_move, churned.text(3),
               emptied.text(3), moved.text(1), minutes.text(1),
               all_run ? "" : " NOT ALL RUN");
  }
}

void nodes_used(std::uint64_t from, std::uint64_t seeds) {
  fmt::print(
      "\n## Nodes used where each tenant has its own\n\nThirty tenants on nodes of 64 cores and 256"
      " GiB, asks of 1 to 16 cores with 2 to 6 GiB a core, in random order; each tenant asks for 2 to"
      " 60 nodes' worth of cores (log-uniform). Bound: for each tenant its cores or memory in whole"
      " nodes, whichever is more, summed over tenants. Churn: as many end at random and come anew as"
      " there were, twice.\n\n| policy | filled: nodes / bound | after churn | shared nodes, filled:"
      " nodes / their bound | owned / shared nodes |\n|---|---|---|---|---|\n");
  using scheduler::Policy;
  for (const auto& [policy, name] :
       {std::pair{Policy::best_fit, "best_fit (ours)"}, std::pair{Policy::first_fit, "first_fit"},
        std::pair{Policy::power_of_two, "power_of_two"},
        std::pair{Policy::least_allocated, "least_allocated"}}) {
    Spread filled, churned, shared, tax;
    for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
      Random random = Random{seed, 0}.stream(4);
      const auto asks = some_asks(random);
      Owned owned(policy, 2500), together(policy, 2500);
      for (const auto& [tenant, ask] : asks) {
        owned.place(tenant, ask);
        together.place(1, ask);
      }
      filled.add(owned.nodes() / owned.bound());
      shared.add(together.nodes() / together.bound());
      tax.add(owned.nodes() / together.nodes());
      for (std::size_t i = 0; i < 2 * asks.size(); ++i) {
        const std::uint64_t tenant = owned.release(random.below(owned.live()));
        owned.place(tenant, some_ask(random));
      }
      churned.add(owned.nodes() / owned.bound());
    }
    fmt::print("| {} | {} | {} | {} | {} |\n", name, filled.text(3), churned.text(3),
               shared.text(3), tax.text(3));
  }
}

// ---- 5: gateways

void shards(std::uint64_t seeds) {
  fmt::print(
      "\n## One tenant brings its gateways down\n\n1,000 tenants; % of the others that lose all of"
      " their gateways, and that lose any, over each of them as the culprit.\n\n"
      "| gateways | each has | lose all, % | chance says | lose any, % |\n|---|---|---|---|---|\n");
  struct Case {
    std::uint32_t gateways, each;
  };
  for (const Case& one : {Case{8, 8}, Case{8, 2}, Case{16, 2}, Case{16, 4}, Case{64, 4}}) {
    Spread all, any;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
      const auto sharding =
          one.gateways == one.each ? gateway::Sharding::all : gateway::Sharding::shuffle;
      std::vector<std::uint64_t> masks;
      for (std::uint64_t t = 1; t <= 1000; ++t) {
        std::uint64_t mask = 0;
        for (const auto g : gateway::gateways_of({sharding, one.gateways, one.each},
                                                 {seed * 1'000'000 + t})) {
          mask |= std::uint64_t{1} << g;
        }
        masks.push_back(mask);
      }
      double lose_all = 0, lose_any = 0;
      for (std::size_t a = 0; a < masks.size(); ++a) {
        for (std::size_t b = 0; b < masks.size(); ++b) {
          lose_all += a != b && masks[a] == masks[b];
          lose_any += a != b && (masks[a] & masks[b]) != 0;
        }
      }
      all.add(100 * lose_all / (1000.0 * 999));
      any.add(100 * lose_any / (1000.0 * 999));
    }
    double ways = 1;
    for (std::uint32_t i = 0; i < one.each; ++i) ways = ways * (one.gateways - i) / (i + 1);
    fmt::print("| {} | {} | {} | {:.4f} | {} |\n", one.gateways,
               one.gateways == one.each ? "all" : fmt::format("{}", one.each), all.text(4),
               100 / ways, any.text(1));
  }
}

// ---- the picture: how much later the neighbours' p99 is, by the size of the flood

void draw(const std::string& file, const std::vector<Curve>& curves) {
  const auto x = [](double times) { return 70 + 170 * std::log10(times); };
  const auto y = [](double ratio) { return 270 - 90 * std::log10(std::max(1.0, ratio)); };
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 330\" font-family=\"sans-serif\""
      " font-size=\"12\">\n<rect width=\"640\" height=\"330\" fill=\"white\"/>\n"
      "<text x=\"70\" y=\"20\">p99 of the neighbours of a flooding caller, times that without it</text>\n";
  for (const double times : {1., 10., 100., 1000.}) {
    out += fmt::format(
        "<line x1=\"{0}\" y1=\"40\" x2=\"{0}\" y2=\"270\" stroke=\"#ddd\"/><text x=\"{0}\" y=\"288\""
        " text-anchor=\"middle\">{1}</text>\n", x(times),
        times == 1 ? "none" : fmt::format("{:.0f}x", times));
  }
  for (const double ratio : {1., 10., 100.}) {
    out += fmt::format(
        "<line x1=\"70\" y1=\"{0}\" x2=\"580\" y2=\"{0}\" stroke=\"#ddd\"/><text x=\"62\" y=\"{1}\""
        " text-anchor=\"end\">{2:.0f}</text>\n", y(ratio), y(ratio) + 4, ratio);
  }
  out += "<text x=\"325\" y=\"312\" text-anchor=\"middle\">the flood, times its share</text>\n";
  const char* colours[] = {"#c0392b", "#2471a3"};
  for (std::size_t i = 0; i < curves.size(); ++i) {
    std::string points;
    for (const auto& [times, ratio] : curves[i].points)
      points += fmt::format("{:.1f},{:.1f} ", x(times), y(ratio));
    const auto& [times, ratio] = curves[i].points.back();
    out += fmt::format(
        "<polyline points=\"{0}\" fill=\"none\" stroke=\"{1}\" stroke-width=\"2\"/><text x=\"{2:.0f}\""
        " y=\"{3:.0f}\" fill=\"{1}\">{4}: {5:.2f}</text>\n", points, colours[i % 2], x(times) - 40,
        y(ratio) - 8, curves[i].name, ratio);
  }
  std::ofstream(file) << out << "</svg>\n";
}

}  // namespace
}  // namespace chalk::bench

int main(int argc, char** argv) {
  using namespace chalk::bench;
  std::uint64_t seeds = 5, from = 1;
  bool only_nodes = false;  // the parts 3 and 4, of tenants that own nodes
  std::string svg, scenario = "scenarios/fast/fair_tenants.yaml";
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (key == "--seeds") {
      seeds = std::max<std::uint64_t>(1, std::strtoull(value, nullptr, 10));
    } else if (key == "--from") {
      from = std::max<std::uint64_t>(1, std::strtoull(value, nullptr, 10));
    } else if (key == "--only-nodes") {
      only_nodes = std::string(value) == "true";
    } else if (key == "--svg") {
      svg = value;
    } else if (key == "--scenario") {
      scenario = value;
    } else {
      fmt::print(stderr, "found {}, expected --seeds, --from, --svg, --only-nodes, --scenario\n", key);
      return 1;
    }
  }
  std::vector<Curve> curves;
  if (!only_nodes) {
    curves = flooded_callers(seeds);
    cost_of_a_call(seeds);
  }
  const std::uint64_t steps = flooded_tenants(scenario, from, seeds);
  fmt::print(
      "\nThe checkers watched all of these runs; those with owned nodes were {} steps of machines,"
      " and in none did two tenants meet on a node.\n", steps);
  nodes_used(from, seeds);
  nodes_emptied(from, seeds);
  if (only_nodes) return 0;
  shards(seeds);
  if (!svg.empty()) draw(svg, curves);
}
