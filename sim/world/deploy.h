// From a Setup to what the machines and SimGrid are told of it. Indexes become ids by adding one.
#pragma once
#include <vector>

#include "model/control/control.h"
#include "model/gateway/gateway.h"
#include "model/node/node.h"
#include "sim/check/checker.h"
#include "sim/simgrid/platform.h"
#include "sim/workload/distribution.h"
#include "sim/workload/source.h"
#include "sim/world/setup.h"

namespace chalk::sim {

control::Config control_config(const Setup& setup);
gateway::Config gateway_config(const Setup& setup, std::uint32_t gateway);
node::Config node_config(const Setup& setup, const Pool& pool);
// Every host that may ever be needed; hosts[pool] lists those of the pool, last one first.
Platform platform_of(const Setup& setup, std::vector<std::vector<std::uint32_t>>& hosts);
fleet::PoolAdded pool_event(const Setup& setup, std::uint32_t pool);
tenancy::TenantAdded tenant_event(const Setup& setup, const Catalogue& catalogue,
                                  std::uint32_t tenant);
// Families are tenants after those of the workload.
tenancy::TenantAdded family_event(const Setup& setup, const Catalogue& catalogue,
                                  std::uint32_t family);
// Where a function's calls go, from 0.
std::uint32_t gateway_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t function);
ImageSpec image_spec(const Setup& setup, std::uint32_t image);
const Group& group_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t index);
control::GroupSpec group_spec(const Setup& setup, const Catalogue& catalogue,
                              std::uint32_t function);
// Which of the setup's images a workload's image is: by name, else by position; -1 for none.
int image_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t image);
CheckLimits check_limits(const Setup& setup, const Catalogue& catalogue);
Distribution to_distribution(const Delay& delay);
bool needs_resource_model(const Setup& setup);

}  // namespace chalk::sim
