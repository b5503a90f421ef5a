// Which gateways serve a tenant's functions.
//
// all: every gateway may. shuffle: `per_tenant` of them, chosen by rendezvous hashing (Thaler and
// Ravishankar, 1998): the gateways with the highest draws of a counter-based hash of tenant and
// gateway. Two tenants seldom have the same ones (shuffle sharding, AWS), so whoever brings his
// gateways down takes few others with him; and one gateway more or less moves only its share.
// A pure function of its arguments: control, gateways and who deploys a group find the same answer.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/ids.h"

namespace chalk::gateway {

enum class Sharding : std::uint8_t { all, shuffle };

struct Shards {
  Sharding sharding = Sharding::all;
  std::uint32_t gateways = 1;
  std::uint32_t per_tenant = 2;  // shuffle: at least 1 and at most all
};

// From 0, in ascending order.
std::vector<std::uint32_t> gateways_of(const Shards& shards, TenantId tenant);
// The one of a tenant's `number`th function: they are dealt to its gateways in turn.
std::uint32_t gateway_for(const Shards& shards, TenantId tenant, std::uint64_t number);

}  // namespace chalk::gateway
