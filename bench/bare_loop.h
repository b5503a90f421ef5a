// The least that a simulation of one_function.yaml can be: a heap that pops arrivals and
// departures, a stack of idle replicas, no policy, no messages, no digest, no measurement but two
// counters.
#pragma once
#include <cstdint>
#include <queue>
#include <vector>

#include "model/core/random.h"
#include "sim/workload/distribution.h"

namespace chalk::bench {

struct BareResult {
  std::uint64_t cold = 0;
  std::uint64_t finished = 0;
  std::int64_t end_nanos = 0;
};

inline BareResult bare_loop(std::uint64_t requests, std::uint64_t seed) {
  using sim::Distribution;
  struct Entry {
    std::int64_t at;
    std::uint64_t sequence;
    bool departs;
    bool operator>(const Entry& other) const {
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };
  const Distribution gap = Distribution::exponential(milliseconds(100));
  const Distribution service = Distribution::exponential(seconds(1));
  const Distribution start = Distribution::exponential(seconds(2));
  Random random{seed, 0};
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> heap;
  std::vector<std::int64_t> idle;  // since when; the last is the most recent
  std::size_t oldest = 0;
  BareResult result;
  std::uint64_t sequence = 0;
  std::uint64_t sent = 0;
  heap.push({gap.sample(random.next()).nanos, sequence++, false});
  while (!heap.empty()) {
    const Entry entry = heap.top();
    heap.pop();
    result.end_nanos = entry.at;
    if (entry.departs) {
      ++result.finished;
      idle.push_back(entry.at);
      continue;
    }
    while (oldest < idle.size() && idle[oldest] + 600'000'000'000 <= entry.at) ++oldest;
    std::int64_t takes = service.sample(random.next()).nanos;
    if (oldest < idle.size()) {
      idle.pop_back();
    } else {
      ++result.cold;
      takes += start.sample(random.next()).nanos;
    }
    heap.push({entry.at + takes, sequence++, true});
    if (++sent < requests)
      heap.push({entry.at + gap.sample(random.next()).nanos, sequence++, false});
  }
  return result;
}

}  // namespace chalk::bench
