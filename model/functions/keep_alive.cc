#include "model/functions/keep_alive.h"

#include <algorithm>

namespace chalk::functions {

// A cold start is worth the same in memory for every function, so a small one is kept for longer.
KeepAliveRule rule_of(const GroupRouting& routing) {
  KeepAliveRule rule;
  rule.policy = routing.keep_alive_policy;
  rule.keep_alive = routing.keep_alive;
  const std::int64_t mebibytes = std::max<std::int64_t>(1, routing.memory_bytes >> 20);
  const std::int64_t most = seconds(1'000'000).nanos;
  const std::int64_t worth = std::min(routing.cold_start_worth.nanos, most) / mebibytes * 1024;
  rule.worth.cold = {std::min(worth, most)};
  return rule;
}

void Habit::begin(const KeepAliveRule& rule) {
  *this = {};
  renew(rule);
}

// The window is drawn anew when an eighth more is known, and after 64 gaps: a call stays O(1).
void Habit::learn(const KeepAliveRule& rule, Duration gap) {
  if (rule.policy == KeepAlive::hybrid) hybrid_.add(gap);
  if (rule.policy == KeepAlive::cost) gaps_.add(gap);
  ++unseen_;
  if (unseen_ < 64 && unseen_ * 8 < known_) return;
  renew(rule);
}

void Habit::renew(const KeepAliveRule& rule) {
  known_ += unseen_;
  unseen_ = 0;
  switch (rule.policy) {
    case KeepAlive::fixed: window_ = {rule.keep_alive, {}, {}}; break;
    case KeepAlive::hybrid: window_ = hybrid_.window(rule.cuts); break;
    case KeepAlive::cost: window_ = gaps_.cheapest(rule.worth); break;
    case KeepAlive::greedy_dual: window_ = {}; break;  // the memory of all decides
  }
}

}  // namespace chalk::functions
