// One group around an autoscaler, for tests: its gateway's totals, its starts and its stops.
#pragma once
#include <algorithm>

#include "model/autoscaler/autoscaler.h"
#include "tests/support/said.h"

namespace chalk::autoscaler {

inline constexpr GroupId kGroup{1};
constexpr Time at(std::int64_t s) { return Time{seconds(s).nanos}; }

struct GroupWorld {
  Autoscaler autoscaler{Config{}};
  Time now{};
  Time counted{};  // the totals of `said` are up to here
  Demand totals{};
  std::uint32_t starts = 0;
  std::uint32_t stops = 0;
  std::uint32_t draining = 0;  // asked to stop, not ended
  std::vector<int> turns{};    // +1 a start, -1 a stop, in order
  std::uint32_t cancelled = 0;
  bool in_line = false;        // what starts has no node yet, so it may be cancelled

  explicit GroupWorld(const GroupPolicy& policy) {
    totals.group = kGroup;
    give(GroupAdded{kGroup, policy});
  }
  std::uint32_t ready() const { return autoscaler.group(kGroup)->ready; }
  std::uint32_t starting() const { return autoscaler.group(kGroup)->starting; }

  // As control does: each replica asked for begins to start within the same step.
  template <class E>
  void give(const E& event) {
    const auto effects = test::tell(autoscaler, now, event);
    for (const auto& start : test::said<StartReplicas>(effects)) {
      starts += start.count;
      turns.push_back(+1);
      for (std::uint32_t i = 0; i < start.count; ++i) give(ReplicaStarting{kGroup});
    }
    for (const auto& stop : test::said<StopReplicas>(effects)) {
      stops += stop.count;
      draining += stop.count;
      turns.push_back(-1);
    }
    for (const auto& cancel : test::said<CancelStarts>(effects)) {
      for (std::uint32_t i = 0; in_line && i < cancel.count; ++i) {
        ++cancelled;
        give(ReplicaEnded{kGroup, false, false});
      }
    }
  }
  void run_until(Time end) {
    while (autoscaler.state().wake <= end) {
      now = std::max(now, autoscaler.state().wake);
      give(Woken{});
    }
    now = end;
  }
  void count() {
    totals.concurrency_ns += std::int64_t{totals.in_flight + totals.queued} * (now - counted).nanos;
    totals.busy_ns += std::int64_t{totals.in_flight} * (now - counted).nanos;
    counted = now;
  }
  void set_busy(std::uint32_t calls) {
    count();
    totals.in_flight = calls;
    totals.queued = 0;
    totals.peak = std::max(totals.peak, calls);
  }
  // Seconds in which as many calls come and end as are in service, each of a second.
  void serve_until(Time end) {
    while (now < end) {
      run_until(now + seconds(1));
      totals.arrivals += totals.in_flight;
      report();
    }
  }
  void set_queued(std::uint32_t calls) {
    count();
    if (calls > totals.queued) {
      totals.holds += calls - totals.queued;
      totals.arrivals += calls - totals.queued;
    }
    totals.queued = calls;
    totals.peak = std::max(totals.peak, totals.in_flight + calls);
  }
  Demand demand() {
    count();
    totals.at = now;
    totals.ready = ready() - std::min(ready(), draining);
    return totals;
  }
  void report() {
    give(DemandReported{demand()});
    totals.peak = totals.in_flight + totals.queued;
  }
  void finish_starts(Duration took = {}) {
    while (starting() != 0) give(ReplicaStarted{kGroup, took});
  }
  void fail() { give(ReplicaEnded{kGroup, false, false}); }
  // The gateway gives back what it was asked to, as far as it is idle.
  void drain(bool leaving = false) {
    const std::uint32_t busy = totals.in_flight;
    while (draining != 0 && ready() > busy) {
      --draining;
      give(ReplicaEnded{kGroup, true, leaving});
    }
  }
};

}  // namespace chalk::autoscaler
