// A control plane for tests: one pool of ten nodes in one zone, no tenant apart, and hours of patience
// with a node that says nothing; and what tests with one share.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "adapters/api/translate.h"
#include "adapters/server/plane.h"
#include "tests/adapters/server/pretend_node.h"

namespace chalk::server {

// Empty, and of this process; whoever asks for it removes it.
inline std::string fresh_folder(const std::string& of) {
  const std::string folder = testing::TempDir() + "chalk_" + of + "_" + std::to_string(getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// Within a minute.
inline bool eventually(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    usleep(5'000);
  }
  return true;
}

inline PlaneOptions small_plane(const std::string& folder) {
  PlaneOptions out;
  out.data = folder;
  out.config.fleet.heartbeat_timeout = seconds(3600);
  out.config.tenancy.separate_tenants = false;
  fleet::PoolAdded pool;
  pool.pool = PoolId{1};
  pool.policy.zones = {ZoneId{1}};
  pool.policy.nodes_max = 10;
  out.pools = {pool};
  return out;
}

// With sandboxes that have the names of their specifications.
inline PlaneOptions labelled_plane(const std::string& folder) {
  PlaneOptions out = small_plane(folder);
  out.label = api::read_label;
  return out;
}

// Starts the plane, which has no other node. While `cut` holds no order arrives.
inline void start_with(Plane& plane, PretendNode& node, const std::atomic<bool>* cut = nullptr) {
  node.speaks_to([&plane](const NodeRegistration& hello) { plane.registered(hello); },
                 [&plane](NodeId id, Envelope<NodeReport> envelope) {
                   plane.reported(id, std::move(envelope));
                 });
  plane.start({[&node, cut](NodeId, Envelope<NodeOrder> envelope) {
                 if (cut == nullptr || !*cut) node.order(std::move(envelope));
               },
               [&node](std::uint64_t, std::uint64_t incarnation, NodeId id) {
                 node.welcome(incarnation, id);
               },
               [&node](NodeId, std::uint64_t incarnation) { node.unknown(incarnation); }});
}

}  // namespace chalk::server
