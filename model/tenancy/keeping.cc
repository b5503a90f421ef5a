// A first node for each guarantee, where tenants own nodes.
//
// What ends on a shared node goes to whoever is next. A node that one tenant owns is of use to
// another only when all that runs there has ended, which takes several times as long as a sandbox
// runs. An owner that has a node and needs one more is served meanwhile by what ends on its own;
// who has none waits for all of it. So of the free nodes as many are kept as tenants with a
// guarantee own none: who asks beyond its guarantee claims one only while more are free, unless it
// has none itself; and a gang no more of them than are free beside those.
//
// This concerns nodes that any tenant may claim and what may go to any of them: more of an elastic
// pool are bought instead. Where guarantees are more than nodes there is no node for each, and
// none is kept. What has waited for `bypass_max`, and whose tenant had nothing placed in that time,
// may claim all the same, so nobody starves for nodes that nobody asks for. All of it is counts: a
// decision costs the same for any fleet.
#include <algorithm>
#include <utility>

#include "model/tenancy/tenancy.h"

namespace chalk::tenancy {

TryPlace Tenancy::attempt(Time now, SandboxId sandbox, const Held& held) const {
  return attempt(now, sandbox, held, spared(sandbox, held).value_or(std::vector<Wish>{}));
}

TryPlace Tenancy::attempt(Time now, SandboxId sandbox, const Held& held,
                          std::vector<Wish> spare) const {
  const std::uint32_t claims = claims_max(now, held);
  return {sandbox, owner_key(held.tenant), claims == 0, std::move(spare), claims};
}

// How many free nodes it may claim: all that are not kept for others. One that owns none has a
// first one in any case, and where it is kept for it that is one of those.
std::uint32_t Tenancy::claims_max(Time now, const Held& held) const {
  const Keeping& all = state_.keeping;
  const bool any_kept = config_.keep_first_node && config_.separate_tenants &&
                        config_.order == Order::fair && all.without != 0 &&
                        all.tenants <= all.nodes;
  if (!any_kept || held.pool || held.grows) return kAnyNumber;
  const Tenant& tenant = state_.tenants.at(held.tenant);
  if (rank_of(tenant, wish_of(held)) != kBorrowing || now >= claims_from(tenant, held)) {
    return kAnyNumber;
  }
  const bool owns_none = (tenant.shares ? all.shared : tenant.nodes) == 0;
  const std::uint32_t kept = all.without - (owns_none && tenant.keeps ? 1 : 0);
  const std::uint32_t left = all.free > kept ? all.free - kept : 0;
  return owns_none ? std::max(1u, left) : left;
}

// Whether somebody waits who has just lost the last that it owned: it may claim a first one again.
bool Tenancy::may_claim_anew(TenantId owner) const {
  if (state_.keeping.without == 0) return false;
  if (owner == kSharedOwner) return state_.keeping.shared == 0 && state_.pending_count != 0;
  const Tenant& tenant = state_.tenants.at(owner);
  return tenant.nodes == 0 && !tenant.waiting.empty();
}

Time Tenancy::claims_from(const Tenant& tenant, const Held& held) const {
  return std::max(tenant.last_placed, held.since) + config_.bypass_max;
}

// It found no room on nodes of its own. Nothing else may happen before it may claim one.
void Tenancy::wait_to_claim(const Held& held) {
  const Time from = claims_from(state_.tenants.at(held.tenant), held);
  if (state_.claims_at <= from) return;
  state_.claims_at = from;
  state_.timers.arm(from, NodeId{});
}

// A family runs nothing itself.
void Tenancy::keep(Tenant& tenant) {
  count_keeping(tenant, -1);
  tenant.keeps = tenant.guarantee != Amounts{} && !tenant.shares && !tenant.dedicated &&
                 tenant.children == 0;
  count_keeping(tenant, +1);
}

// That the owner has one more that all may claim, or one less.
void Tenancy::count_node(const Node& node, TenantId owner, int sign) {
  if (!node.common || node.cordoned) return;
  const auto more = static_cast<std::uint32_t>(sign);
  if (owner == kSharedOwner) state_.keeping.shared += more;
  const auto found = state_.tenants.find(owner);
  if (found == state_.tenants.end()) return;
  count_keeping(found->second, -1);
  found->second.nodes += more;
  count_keeping(found->second, +1);
}

void Tenancy::count_keeping(const Tenant& tenant, int sign) {
  if (!tenant.keeps) return;
  state_.keeping.tenants += static_cast<std::uint32_t>(sign);
  if (tenant.nodes == 0) state_.keeping.without += static_cast<std::uint32_t>(sign);
}

void Tenancy::count_common(const Node& node, int sign) {
  if (!node.common || node.cordoned) return;
  state_.keeping.nodes += static_cast<std::uint32_t>(sign);
  if (node.phase == NodePhase::free) state_.keeping.free += static_cast<std::uint32_t>(sign);
}

}  // namespace chalk::tenancy
