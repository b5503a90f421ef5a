#include "model/tenancy/tenancy.h"

#include <algorithm>

namespace chalk::tenancy {
namespace {

__extension__ using Wide = unsigned __int128;

void add(Amounts& to, const Amounts& more, std::int64_t sign) {
  to.cpu_millicores += sign * more.cpu_millicores;
  to.memory_bytes += sign * more.memory_bytes;
  to.gpu_millis += sign * more.gpu_millis;
  to.sandboxes += sign * more.sandboxes;
}

bool covers(const Resources& big, const Resources& small) {
  return big.cpu_millicores >= small.cpu_millicores && big.memory_bytes >= small.memory_bytes &&
         big.disk_bytes >= small.disk_bytes && big.gpus >= small.gpus &&
         big.gpu_millis >= small.gpu_millis &&
         (big.gpus == 0 || big.gpu_models == small.gpu_models) &&
         (big.gpus == 0) == (small.gpus == 0);
}

}  // namespace

Amounts amounts_of(const Resources& r) {
  return {r.cpu_millicores, r.memory_bytes, std::int64_t{r.gpus} * r.gpu_millis, 1};
}

const char* rule_name(Rule rule) {
  switch (rule) {
    case Rule::unknown_tenant: return "unknown_tenant";
    case Rule::quota_cpu: return "quota_cpu";
    case Rule::quota_memory: return "quota_memory";
    case Rule::quota_gpu: return "quota_gpu";
    case Rule::quota_sandboxes: return "quota_sandboxes";
    case Rule::pending_limit: return "pending_limit";
    case Rule::pending_limit_of_tenant: return "pending_limit_of_tenant";
  }
  return "unknown";
}

void Tenancy::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  if (state_.timers.next() == state_.wake) return;
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

TenantId Tenancy::owner_key(TenantId tenant) const {
  if (!config_.separate_tenants) return kSharedOwner;
  const auto found = state_.tenants.find(tenant);
  return found != state_.tenants.end() && found->second.shares ? kSharedOwner : tenant;
}

Amounts Tenancy::in_use(TenantId tenant) const {
  const auto found = state_.tenants.find(tenant);
  return found == state_.tenants.end() ? Amounts{} : found->second.in_use;
}

// ---- admission

void Tenancy::on(Time, const TenantAdded& added, Effects&) {
  if (!added.tenant || state_.tenants.size() >= config_.tenants_max) return;
  Tenant& tenant = state_.tenants[added.tenant];
  tenant.quota = added.quota;
  tenant.weight = std::max(1u, added.weight);
  // Whether a tenant shares decides its owner key; it is fixed while it has anything.
  if (tenant.in_use.sandboxes == 0) tenant.shares = added.shares;
  set_share(added.tenant, tenant);
}

void Tenancy::on(Time now, const SandboxAsked& asked, Effects& effects) {
  const auto found = state_.tenants.find(asked.tenant);
  if (found == state_.tenants.end()) {
    effects.push_back(RefuseSandbox{asked.sandbox, Rule::unknown_tenant, 1, 0, 0});
    return;
  }
  if (state_.held.find(asked.sandbox) != nullptr) return;  // repeated
  Tenant& tenant = found->second;
  if (refuse_by_quota(asked, tenant, effects)) return;
  add(tenant.in_use, amounts_of(asked.resources), +1);
  Held& held = state_.held.put(
      asked.sandbox,
      {asked.tenant, asked.resources, asked.pool, {}, Phase::waiting, state_.next_ticket++, now});
  const bool behind_its_own = !tenant.waiting.empty();
  if (behind_its_own || must_not_pass(asked.sandbox, held)) return wait(asked.sandbox, held);
  held.phase = Phase::trying;
  effects.push_back(TryPlace{asked.sandbox, owner_key(asked.tenant)});
}

bool Tenancy::refuse_by_quota(const SandboxAsked& asked, const Tenant& tenant,
                              Effects& effects) const {
  const Amounts ask = amounts_of(asked.resources);
  const auto over = [&](Rule rule, std::int64_t needed, std::int64_t used, std::int64_t limit) {
    if (limit == 0 || needed <= limit - used) return false;
    effects.push_back(RefuseSandbox{asked.sandbox, rule, needed, used, limit});
    return true;
  };
  const Amounts& used = tenant.in_use;
  const Amounts& quota = tenant.quota;
  return over(Rule::quota_cpu, ask.cpu_millicores, used.cpu_millicores, quota.cpu_millicores) ||
         over(Rule::quota_memory, ask.memory_bytes, used.memory_bytes, quota.memory_bytes) ||
         over(Rule::quota_gpu, ask.gpu_millis, used.gpu_millis, quota.gpu_millis) ||
         over(Rule::quota_sandboxes, 1, used.sandboxes, quota.sandboxes) ||
         over(Rule::pending_limit, 1, static_cast<std::int64_t>(state_.pending_count),
              config_.pending_max) ||
         over(Rule::pending_limit_of_tenant, 1, static_cast<std::int64_t>(tenant.waiting.size()),
              config_.pending_per_tenant_max);
}

void Tenancy::on(Time, const SandboxPlaced& placed, Effects& effects) {
  Held* held = state_.held.find(placed.sandbox);
  if (held == nullptr || held->phase == Phase::placed) return;
  Tenant& tenant = state_.tenants.at(held->tenant);
  stop_waiting(placed.sandbox, *held);
  settle_aged(placed.sandbox, *held);
  held->phase = Phase::placed;
  held->node = placed.node;
  add(tenant.placed, amounts_of(held->resources), +1);
  set_share(held->tenant, tenant);
  Node* node = state_.nodes.find(placed.node);
  if (node == nullptr) return;
  const TenantId owner = owner_key(held->tenant);
  CHALK_INVARIANT(node->phase != NodePhase::scrubbing);
  CHALK_INVARIANT(node->phase == NodePhase::free ? node->sandboxes == 0 : node->owner == owner);
  if (node->phase == NodePhase::lingering) state_.lingering.erase({node->deadline, placed.node});
  node->phase = NodePhase::owned;
  node->owner = owner;
  node->deadline = kNever;
  ++node->sandboxes;
  static_cast<void>(effects);
}

// No room. Somebody else's emptied node is worth more scrubbed than kept warm for its owner.
void Tenancy::on(Time now, const NotPlaced& not_placed, Effects& effects) {
  Held* held = state_.held.find(not_placed.sandbox);
  if (held == nullptr || held->phase != Phase::trying) return;
  const TenantId owner = owner_key(held->tenant);
  if (state_.round.open) {
    ++state_.round.failures;
    state_.round.failed.push_back({owner, held->pool, held->resources});
  }
  wait(not_placed.sandbox, *held);
  if (now - held->since >= config_.bypass_max)
    state_.aged.try_emplace(held->pool, not_placed.sandbox);
  for (auto entry = state_.lingering.begin(); entry != state_.lingering.end(); ++entry) {
    const NodeId id = entry->second;
    Node& node = state_.nodes.at(id);
    if (node.owner == owner) continue;
    state_.lingering.erase(entry);
    return scrub(now, id, node, effects);
  }
}

void Tenancy::on(Time now, const SandboxEnded& ended, Effects& effects) {
  release(now, ended.sandbox, effects);
}
void Tenancy::on(Time now, const SandboxCancelled& cancelled, Effects& effects) {
  release(now, cancelled.sandbox, effects);
}

// The one place where a quota is given back: what is not held is not given back again.
void Tenancy::release(Time now, SandboxId sandbox, Effects& effects) {
  Held* found = state_.held.find(sandbox);
  if (found == nullptr) return;
  stop_waiting(sandbox, *found);
  settle_aged(sandbox, *found);
  const Held held = *found;
  state_.held.erase(sandbox);
  Tenant& tenant = state_.tenants.at(held.tenant);
  add(tenant.in_use, amounts_of(held.resources), -1);
  CHALK_INVARIANT(tenant.in_use.sandboxes >= 0 && tenant.in_use.cpu_millicores >= 0);
  if (held.phase != Phase::placed) return;
  add(tenant.placed, amounts_of(held.resources), -1);
  set_share(held.tenant, tenant);
  leave_node(now, held.node, effects);
}

// ---- nodes and their owners

void Tenancy::on(Time, const NodeJoined& joined, Effects&) {
  Node node;
  node.shape = joined.shape;
  node.dedicated = static_cast<bool>(joined.owner);
  node.owner = joined.owner;
  node.phase = node.dedicated ? NodePhase::owned : NodePhase::free;
  state_.nodes.put(joined.node, node);
  add(state_.capacity,
      {joined.shape.cpu_millicores, joined.shape.memory_bytes, joined.shape.gpus * 1000LL,
       joined.shape.sandboxes_max},
      +1);
}

void Tenancy::on(Time, const NodeGone& gone, Effects&) {
  const Node* node = state_.nodes.find(gone.node);
  if (node == nullptr) return;
  add(state_.capacity,
      {node->shape.cpu_millicores, node->shape.memory_bytes, node->shape.gpus * 1000LL,
       node->shape.sandboxes_max},
      -1);
  if (node->phase == NodePhase::lingering) state_.lingering.erase({node->deadline, gone.node});
  state_.nodes.erase(gone.node);
}

void Tenancy::leave_node(Time now, NodeId id, Effects& effects) {
  Node* node = state_.nodes.find(id);
  if (node == nullptr) return;  // it went before its sandboxes did
  CHALK_INVARIANT(node->sandboxes > 0);
  if (--node->sandboxes != 0 || node->dedicated || !config_.separate_tenants) return;
  if (config_.owner_linger.nanos == 0) return scrub(now, id, *node, effects);
  node->phase = NodePhase::lingering;
  node->deadline = now + config_.owner_linger;
  state_.lingering.insert({node->deadline, id});
  state_.timers.arm(node->deadline, id);
}

void Tenancy::scrub(Time now, NodeId id, Node& node, Effects& effects) {
  node.phase = NodePhase::scrubbing;
  node.deadline = now + config_.scrub_timeout;
  state_.timers.arm(node.deadline, id);
  effects.push_back(SetOwner{id, node.owner, false});
  effects.push_back(ScrubNode{id});
}

void Tenancy::on(Time, const NodeScrubbed& scrubbed, Effects& effects) {
  Node* node = state_.nodes.find(scrubbed.node);
  if (node == nullptr || node->phase != NodePhase::scrubbing) return;  // repeated
  node->phase = NodePhase::free;
  node->owner = {};
  node->deadline = kNever;
  effects.push_back(SetOwner{scrubbed.node, {}, true});
}

void Tenancy::on(Time now, const Woken&, Effects& effects) {
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    Node* node = state_.nodes.find(timer.key);
    if (node == nullptr || node->deadline != timer.at) continue;
    if (node->phase == NodePhase::lingering) {
      state_.lingering.erase({node->deadline, timer.key});
      scrub(now, timer.key, *node, effects);
    } else if (node->phase == NodePhase::scrubbing) {
      scrub(now, timer.key, *node, effects);  // it takes too long: order it again
    }
  }
}

// ---- what waits

void Tenancy::on(Time, const CapacityFreed&, Effects&) {
  if (state_.round.open || state_.pending_count == 0) return;
  state_.round = Round{};
  state_.round.open = true;
  state_.round.from = state_.round.at = state_.resume_behind;
  state_.round.wrapped = state_.resume_behind == Place{};
  state_.resume_behind = {};
}

// Tries the head of the next tenant in the line; closes the round when all have been passed or too
// many have failed.
void Tenancy::on(Time, const NextAttempt&, Effects& effects) {
  Round& round = state_.round;
  while (round.open) {
    if (round.failures >= config_.tries_per_event) {
      state_.resume_behind = round.at;
      break;
    }
    auto next = state_.line.upper_bound(round.at);
    if (next == state_.line.end() && !round.wrapped) {
      round.wrapped = true;
      round.at = {};
      next = state_.line.begin();
    }
    if (next == state_.line.end()) break;
    round.at = *next;
    Tenant& tenant = state_.tenants.at(next->second);
    const SandboxId head = tenant.waiting.begin()->second;
    Held& held = state_.held.at(head);
    if (fails_too(owner_key(held.tenant), held) || must_not_pass(head, held)) continue;
    stop_waiting(head, held);
    held.phase = Phase::trying;
    // The same tenant may have more to place: its share rises and it is met again further on, or,
    // where the share does not change, at the same place.
    round.at.second = TenantId{round.at.second.value - 1};
    effects.push_back(TryPlace{head, owner_key(held.tenant)});
    return;
  }
  round = Round{};
}

bool Tenancy::fails_too(TenantId owner, const Held& held) const {
  for (const Failure& failure : state_.round.failed) {
    if (failure.owner == owner && failure.pool == held.pool &&
        covers(held.resources, failure.resources)) {
      return true;
    }
  }
  return false;
}

void Tenancy::wait(SandboxId sandbox, Held& held) {
  Tenant& tenant = state_.tenants.at(held.tenant);
  if (tenant.waiting.empty()) state_.line.insert({tenant.share, held.tenant});
  tenant.waiting.emplace(held.ticket, sandbox);
  held.phase = Phase::waiting;
  ++state_.pending_count;
}

// Poorer tenants may always go first, so a flood that has aged does not hold up its neighbours.
bool Tenancy::must_not_pass(SandboxId sandbox, const Held& held) const {
  if (state_.aged.empty()) return false;
  const auto found = state_.aged.find(held.pool);
  if (found == state_.aged.end() || found->second == sandbox) return false;
  const TenantId waits = state_.held.find(found->second)->tenant;
  return state_.tenants.at(held.tenant).share >= state_.tenants.at(waits).share;
}

void Tenancy::settle_aged(SandboxId sandbox, const Held& held) {
  const auto found = state_.aged.find(held.pool);
  if (found != state_.aged.end() && found->second == sandbox) state_.aged.erase(found);
}

void Tenancy::stop_waiting(SandboxId, Held& held) {
  Tenant& tenant = state_.tenants.at(held.tenant);
  if (tenant.waiting.erase(held.ticket) == 0) return;
  --state_.pending_count;
  if (tenant.waiting.empty()) state_.line.erase({tenant.share, held.tenant});
}

// Dominant share of what is placed, in 2^-32 of the fleet, divided by the weight.
void Tenancy::set_share(TenantId id, Tenant& tenant) {
  std::uint64_t share = 0;
  const auto of = [&](std::int64_t used, std::int64_t capacity) {
    if (used <= 0 || capacity <= 0) return;
    const Wide part =
        (Wide(static_cast<std::uint64_t>(used)) << 32) / static_cast<std::uint64_t>(capacity);
    share = std::max(share, static_cast<std::uint64_t>(part) / tenant.weight);
  };
  of(tenant.placed.cpu_millicores, state_.capacity.cpu_millicores);
  of(tenant.placed.memory_bytes, state_.capacity.memory_bytes);
  of(tenant.placed.gpu_millis, state_.capacity.gpu_millis);
  if (share == tenant.share) return;
  const bool in_line = state_.line.erase({tenant.share, id}) != 0;
  tenant.share = share;
  if (in_line) state_.line.insert({tenant.share, id});
}

}  // namespace chalk::tenancy
