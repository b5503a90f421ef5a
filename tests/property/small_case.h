// A small world that a person can read: few nodes, few asks, few faults. RapidCheck makes and
// shrinks it; the world of sim/ runs it with every checker watching every step.
#pragma once
#include <rapidcheck.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "sim/workload/source.h"
#include "sim/world/setup.h"

namespace chalk::sim {

struct SmallAsk {
  int at = 0;        // tenths of a second
  int tenant = 0;    // 0..2
  int function = 0;  // 0: a bare sandbox; 1, 2: a call
  int cores = 0;     // of a sandbox, less one
  int runs = 0;      // tenths of a second
  int lifetime = 0;  // seconds, of a sandbox; 0: none
  bool restart = false;  // of a sandbox with a lifetime, each time that it ends by itself
  int priority = 0;      // of a sandbox
  int gang = 0;          // of how many sandboxes; 0: one
  bool restarts() const { return restart && function == 0 && lifetime != 0; }
};
struct SmallFault {
  int kind = 0;  // index into kFaults
  int from = 0;  // seconds
  int lasts = 0;
  int permille = 0;
  int delay = 0;  // tenths of a second
};
struct SmallCase {
  int nodes = 0;        // less one
  int cores = 0;        // of a node, less one
  int start_slots = 0;  // less one
  bool shared = false;  // tenants may meet on a node
  bool elastic = false;
  int policy = 0;        // ScalingPolicy, from the end: 0 is ours
  int replicas_max = 0;  // less one
  int seed = 0;
  std::vector<SmallAsk> asks;
  std::vector<SmallFault> faults;

  std::size_t lines() const { return 1 + asks.size() + faults.size(); }
};

inline constexpr std::pair<Fault::Kind, const char*> kFaults[] = {
    {Fault::Kind::message_loss, "message_loss"},
    {Fault::Kind::message_duplicate, "message_duplicate"},
    {Fault::Kind::message_delay, "message_delay"},
    {Fault::Kind::heartbeat_lag, "heartbeat_lag"},
    {Fault::Kind::node_crash, "node_crash"},
    {Fault::Kind::start_failure, "start_failure"},
    {Fault::Kind::control_restart, "control_restart"},
    {Fault::Kind::late_supply, "late_supply"}};

inline std::ostream& operator<<(std::ostream& out, const SmallCase& c) {
  out << "\n"
      << c.nodes + 1 << (c.elastic ? " nodes bought when needed" : " nodes") << " of "
      << c.cores + 1 << " cores and " << c.start_slots + 1 << " start slots, tenants "
      << (c.shared ? "share them" : "kept apart") << ", at most " << c.replicas_max + 1
      << " replicas, policy "
      << (c.policy == 0   ? "chalk"
          : c.policy == 1 ? "kpa"
                          : "fixed")
      << ", seed " << c.seed << "\n";
  for (const SmallAsk& ask : c.asks) {
    out << "  at " << ask.at / 10.0 << " s tenant " << ask.tenant + 1;
    if (ask.function == 0) {
      out << " asks for a sandbox of " << ask.cores + 1 << " cores that runs " << ask.runs / 10.0
          << " s";
      if (ask.lifetime != 0) out << ", lifetime " << ask.lifetime << " s";
      if (ask.restarts()) out << ", again and again";
      if (ask.gang != 0) out << ", a gang of " << ask.gang;
      if (ask.priority != 0) out << ", priority " << ask.priority;
    } else {
      out << " calls its function " << ask.function << " for " << ask.runs / 10.0 << " s";
    }
    out << "\n";
  }
  for (const SmallFault& fault : c.faults) {
    out << "  fault " << kFaults[fault.kind].second << " from " << fault.from << " s for "
        << fault.lasts + 1 << " s, " << fault.permille << " of 1000, delay " << fault.delay / 10.0
        << " s\n";
  }
  return out;
}

// Sizes grow the number of asks only: each number is drawn from its whole range.
template <class T>
rc::Gen<T> whole(rc::Gen<T> gen) {
  return rc::gen::resize(rc::kNominalSize, std::move(gen));
}

inline rc::Gen<SmallCase> small_cases() {
  using rc::gen::inRange;
  const auto asks = rc::gen::container<std::vector<SmallAsk>>(whole(rc::gen::build<SmallAsk>(
      rc::gen::set(&SmallAsk::at, inRange(0, 300)), rc::gen::set(&SmallAsk::tenant, inRange(0, 3)),
      rc::gen::set(&SmallAsk::function, inRange(0, 3)),
      rc::gen::set(&SmallAsk::cores, inRange(0, 4)), rc::gen::set(&SmallAsk::runs, inRange(1, 100)),
      rc::gen::set(&SmallAsk::lifetime, inRange(0, 8)),
      rc::gen::set(&SmallAsk::restart, rc::gen::arbitrary<bool>()),
      rc::gen::set(&SmallAsk::priority, inRange(0, 3)),
      rc::gen::set(&SmallAsk::gang,
                   rc::gen::weightedElement<int>({{6, 0}, {1, 1}, {2, 2}, {1, 3}})))));
  const auto faults = rc::gen::resize(
      3, rc::gen::container<std::vector<SmallFault>>(whole(rc::gen::build<SmallFault>(
             rc::gen::set(&SmallFault::kind, inRange<int>(0, std::size(kFaults))),
             rc::gen::set(&SmallFault::from, inRange(0, 30)),
             rc::gen::set(&SmallFault::lasts, inRange(0, 60)),
             rc::gen::set(&SmallFault::permille, inRange(0, 1001)),
             rc::gen::set(&SmallFault::delay, inRange(0, 80))))));
  return rc::gen::build<SmallCase>(rc::gen::set(&SmallCase::nodes, whole(inRange(0, 4))),
                                   rc::gen::set(&SmallCase::cores, whole(inRange(0, 8))),
                                   rc::gen::set(&SmallCase::start_slots, whole(inRange(0, 4))),
                                   rc::gen::set(&SmallCase::shared, rc::gen::arbitrary<bool>()),
                                   rc::gen::set(&SmallCase::elastic, rc::gen::arbitrary<bool>()),
                                   rc::gen::set(&SmallCase::policy, whole(inRange(0, 3))),
                                   rc::gen::set(&SmallCase::replicas_max, whole(inRange(0, 5))),
                                   rc::gen::set(&SmallCase::seed, whole(inRange(0, 1000))),
                                   rc::gen::set(&SmallCase::asks, asks),
                                   rc::gen::set(&SmallCase::faults, faults));
}

// The asks of a case as a workload: one function per tenant and number.
class SmallSource final : public Source {
 public:
  explicit SmallSource(const SmallCase& c) {
    for (int tenant = 0; tenant < 3; ++tenant) {
      catalogue_.tenants.push_back("t" + std::to_string(tenant + 1));
      for (int f = 0; f < 2; ++f) {
        FunctionSpec function;
        function.name = catalogue_.tenants.back() + "-f" + std::to_string(f + 1);
        function.tenant = static_cast<std::uint32_t>(tenant);
        catalogue_.functions.push_back(function);
      }
    }
    for (const SmallAsk& ask : c.asks) {
      Arrival one;
      one.at = Time{milliseconds(ask.at * 100).nanos};
      one.service = milliseconds(ask.runs * 100);
      if (ask.function != 0) {
        one.function = static_cast<std::uint32_t>(ask.tenant * 2 + ask.function - 1);
      } else {
        one.kind = ArrivalKind::sandbox;
        one.sandbox.tenant = static_cast<std::uint32_t>(ask.tenant);
        one.sandbox.resources.cpu_millicores = 1000 * (ask.cores + 1);
        one.sandbox.lifetime = seconds(ask.lifetime);
        one.sandbox.restart = ask.restarts();
        one.sandbox.priority = ask.priority;
        one.sandbox.gang = static_cast<std::uint32_t>(ask.gang);
      }
      arrivals_.push_back(one);
    }
    std::stable_sort(arrivals_.begin(), arrivals_.end(),
                     [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return exhausted() ? nullptr : &arrivals_[next_]; }
  void pop() override { next_ += exhausted() ? 0 : 1; }
  bool exhausted() const override { return next_ == arrivals_.size(); }
  double progress() const override { return 0; }

 private:
  Catalogue catalogue_;
  std::vector<Arrival> arrivals_;
  std::size_t next_ = 0;
};

inline Setup setup_of(const SmallCase& c) {
  Setup setup;
  setup.name = "small";
  setup.seed = static_cast<std::uint64_t>(c.seed);
  setup.heartbeat = seconds(2);
  setup.node_timeout = seconds(20);
  setup.drain = seconds(4 * 3600);
  setup.separate_tenants = !c.shared;
  setup.owner_linger = seconds(5);
  setup.scrub = seconds(2);
  setup.start = {Delay::Kind::constant, milliseconds(800), 0};
  setup.zones.push_back({.name = "z"});
  Pool pool;
  pool.name = "p";
  pool.zones = {0};
  pool.shape = {.cpu_millicores = 1000 * (c.cores + 1),
                .memory_bytes = 64LL << 30,
                .disk_bytes = 64LL << 30,
                .start_slots = c.start_slots + 1};
  pool.nodes_max = static_cast<std::uint32_t>(c.nodes + 1);
  pool.nodes_min = c.elastic ? 0 : pool.nodes_max;
  pool.elastic = c.elastic;
  pool.boot = {Delay::Kind::constant, seconds(5), 0};
  pool.idle_before_release = seconds(10);
  setup.pools.push_back(pool);
  setup.group_default.policy = static_cast<ScalingPolicy>(2 - c.policy);
  setup.group_default.replicas_max = static_cast<std::uint32_t>(c.replicas_max + 1);
  setup.group_default.keep_alive = seconds(8);
  for (const SmallFault& fault : c.faults) {
    Fault one;
    one.kind = kFaults[fault.kind].first;
    one.from = Time{seconds(fault.from).nanos};
    one.lasts = seconds(fault.lasts + 1);
    one.permille = fault.permille;
    one.delay = milliseconds(fault.delay * 100);
    setup.faults.push_back(one);
  }
  setup.open_workload = [c](std::uint64_t) { return std::make_unique<SmallSource>(c); };
  return setup;
}

}  // namespace chalk::sim
