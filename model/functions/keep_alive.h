// What a gateway has learned of when a function's replicas are used again, and the window of
// residence that its policy (protocol's KeepAlive) draws from it.
#pragma once
#include <cstdint>

#include "model/functions/gaps.h"
#include "model/functions/hybrid.h"
#include "model/protocol/protocol.h"

namespace chalk::functions {

struct KeepAliveRule {
  KeepAlive policy = KeepAlive::fixed;
  Duration keep_alive;  // fixed
  GapWorth worth;       // cost
  HybridCuts cuts;      // hybrid
  CHALK_FIELDS(KeepAliveRule, policy, keep_alive, worth, cuts)
};
KeepAliveRule rule_of(const GroupRouting& routing);

class Habit {
 public:
  void begin(const KeepAliveRule& rule);
  void learn(const KeepAliveRule& rule, Duration gap);
  const Window& window() const { return window_; }

 private:
  void renew(const KeepAliveRule& rule);

  Hybrid hybrid_;
  Gaps gaps_;
  Window window_;
  std::uint32_t known_ = 0;   // gaps when the window was drawn
  std::uint32_t unseen_ = 0;  // gaps since then

 public:
  CHALK_FIELDS(Habit, hybrid_, gaps_, window_, known_, unseen_)
};

}  // namespace chalk::functions
