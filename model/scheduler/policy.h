// The policies by which a node is chosen. All of them keep the rules of the platform: whose nodes,
// which pool, what fits, an owner's nodes before free ones, the zone with fewest of a group. They
// differ in which of the nodes that are left is taken, and in which GPU a share goes to.
#pragma once
#include <cstdint>

#include "model/core/fields.h"

namespace chalk::scheduler {

enum class Policy : std::uint8_t {
  best_fit,         // ours, by an index: the order in scheduler.h
  least_allocated,  // kube-scheduler's: the emptiest of a sample
  first_fit,        // the first of all
  power_of_two,     // the emptier of two at random
  fgd,              // least growth of fragmentation (Weng et al., ATC'23)
  frag_fit          // the same, and the smallest and fullest node among equals
};

// A policy, and whether replicas of a group spread over zones. One number, which is 0 or 1 in logs
// from before there were policies: they still read, and digest the same.
class Placing {
 public:
  constexpr Placing(Policy policy = Policy::best_fit, bool spread_zones = true)
      : bits_(static_cast<std::uint32_t>(policy) << 1 | (spread_zones ? 1 : 0)) {}
  constexpr Policy policy() const { return static_cast<Policy>(bits_ >> 1); }
  constexpr bool spread_zones() const { return (bits_ & 1) != 0; }

 private:
  std::uint32_t bits_;

 public:
  CHALK_FIELDS(Placing, bits_)
};

}  // namespace chalk::scheduler
