// FaaSCache's Greedy-Dual: Fuerst and Sharma, "FaasCache: keeping serverless computing alive with
// greedy-dual caching", ASPLOS 2021. Idle replicas stay until their memory exceeds a budget; then
// the least priority goes: clock + frequency * cost / size, where the clock is the priority of the
// last that went, frequency counts the function's calls since it last had no replica, and cost is
// the time of a start. The budget is for idle replicas; in the paper it is the machine's memory.
#pragma once
#include <cstdint>
#include <set>
#include <utility>

#include "model/core/ids.h"
#include "model/core/time.h"

namespace chalk::functions {

class GreedyDual {
 public:
  // The priority of a replica that falls idle now.
  std::int64_t priority(std::uint64_t frequency, Duration cost, std::int64_t bytes) const {
    const std::int64_t mebibytes = bytes / (1 << 20) + 1;
    const std::int64_t micros = cost.nanos / 1000 + 1;
    return clock_ + static_cast<std::int64_t>(frequency) * micros / mebibytes;
  }
  void idle(std::int64_t priority, std::uint64_t replica, std::int64_t bytes) {
    idle_.insert({priority, replica});
    bytes_ += bytes;
  }
  void taken(std::int64_t priority, std::uint64_t replica, std::int64_t bytes) {
    if (idle_.erase({priority, replica}) != 0) bytes_ -= bytes;
  }
  bool over(std::int64_t budget) const { return bytes_ > budget && !idle_.empty(); }
  // The replica that has to go; its owner calls taken() for it.
  std::uint64_t next() {
    clock_ = idle_.begin()->first;
    return idle_.begin()->second;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::set<std::pair<std::int64_t, std::uint64_t>> idle_;
  std::int64_t clock_ = 0;
  std::int64_t bytes_ = 0;

 public:
  CHALK_FIELDS(GreedyDual, idle_, clock_, bytes_)
};

}  // namespace chalk::functions
