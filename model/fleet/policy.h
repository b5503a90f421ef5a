// The policies by which nodes are bought and given back, and their settings.
//
// All of them keep a pool between its least and its most, never take a node with something that may
// not move, and move no more at once than the bounds below.
#pragma once
#include <cstdint>

#include "model/core/fields.h"
#include "model/core/time.h"

namespace chalk::fleet {

enum class Policy : std::uint8_t {
  idle,                // buys for what waits at once, gives back what idles; moves nothing
  cluster_autoscaler,  // Kubernetes cluster-autoscaler: a scan, half-empty nodes, least waste
  karpenter,           // Karpenter: batches, then deletes or replaces nodes at once, the cheapest
  newsvendor           // ours: free room worth its price, moves that are worth theirs
};

struct Rules {
  Policy policy = Policy::idle;
  Duration scan = seconds(10);     // between two looks at the whole fleet
  Duration batch = seconds(1);     // karpenter, newsvendor: more may come so soon after what waits
  Duration batch_max = seconds(10);
  Duration unneeded = seconds(600);           // for so long without a break, then it goes
  std::uint32_t used_permille = 500;          // cluster_autoscaler: below it a node may be unneeded
  Duration after_purchase = seconds(600);     // cluster_autoscaler: nothing goes so soon after one
  Duration pays_back = seconds(600);          // newsvendor: moves cost less than a node for so long
  Duration late_worth = seconds(3600);        // newsvendor: a node idle so long for a node in time
  Duration move_cost = seconds(30);           // newsvendor: a moved sandbox, in time of a node
  std::uint32_t nodes_at_once = 5;            // being emptied
  std::uint32_t sandboxes_at_once = 100;      // on nodes that are being emptied
  Duration empty_within = seconds(600);       // else the node is used again
  // A purchase without a node is given up after so long, or thrice the pool's boot where that is
  // longer.
  Duration arrives_within = seconds(900);
  // Where a purchase failed nothing is bought for so long, and twice as long each time it fails again.
  Duration retry = seconds(60);
  Duration retry_max = seconds(600);
  CHALK_FIELDS(Rules, policy, scan, batch, batch_max, unneeded, used_permille, after_purchase,
               pays_back, late_worth, move_cost, nodes_at_once, sandboxes_at_once, empty_within,
               arrives_within, retry, retry_max)
};

// What each is by default; scenarios may change single settings.
constexpr Rules rules_of(Policy policy) {
  Rules rules;
  rules.policy = policy;
  if (policy == Policy::cluster_autoscaler) {
    rules.nodes_at_once = 1;           // max-drain-parallelism
    rules.retry = seconds(300);        // initial-node-group-backoff-duration
    rules.retry_max = seconds(1800);   // max-node-group-backoff-duration
  }
  if (policy == Policy::karpenter) {
    rules.unneeded = seconds(15);                  // its validation
    rules.retry = rules.retry_max = seconds(180);  // its cache of unavailable offerings
  }
  if (policy == Policy::newsvendor) {
    rules.unneeded = seconds(10);
    rules.arrives_within = seconds(300);
  }
  return rules;
}

}  // namespace chalk::fleet
