// A control plane for tests: one pool of ten nodes in one zone, no tenant apart, and hours of patience
// with a node that says nothing.
#pragma once
#include <string>

#include "adapters/server/plane.h"

namespace chalk::server {

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

}  // namespace chalk::server
