#include "model/gateway/shards.h"

#include <algorithm>
#include <utility>

#include "model/core/random.h"

namespace chalk::gateway {

std::vector<std::uint32_t> gateways_of(const Shards& shards, TenantId tenant) {
  const std::uint32_t all = std::max(1u, shards.gateways);
  const std::uint32_t count =
      shards.sharding == Sharding::all ? all : std::clamp(shards.per_tenant, 1u, all);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> draws;
  for (std::uint32_t i = 0; i < all; ++i) draws.emplace_back(~random_at(mix64(tenant.value), i), i);
  std::partial_sort(draws.begin(), draws.begin() + count, draws.end());
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < count; ++i) out.push_back(draws[i].second);
  std::sort(out.begin(), out.end());
  return out;
}

std::uint32_t gateway_for(const Shards& shards, TenantId tenant, std::uint64_t number) {
  if (shards.sharding == Sharding::all)
    return static_cast<std::uint32_t>(number % std::max(1u, shards.gateways));
  const std::vector<std::uint32_t> own = gateways_of(shards, tenant);
  return own[number % own.size()];
}

}  // namespace chalk::gateway
