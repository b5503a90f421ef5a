#include "model/tenancy/tenancy.h"

#include <algorithm>

namespace chalk::tenancy {
namespace {

// Of the warm nodes so many are looked at for one that waits, the first that cool.
constexpr int kWarmLooks = 32;

bool could_run(const Node& node, PoolId pool, const Resources& ask) {
  return (pool ? node.pool == pool : node.common) && fits(node.shape, ask);
}

bool owned(const Node& node) {
  return node.phase == NodePhase::owned || node.phase == NodePhase::lingering;
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
    case Rule::gang_never_fits: return "gang_never_fits";
  }
  return "unknown";
}

void Tenancy::step(Time now, const Event& event, Effects& effects) {
  const std::size_t before = state_.round.open ? 0 : in_the_way();
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  // Who was held off is tried, though nothing has ended. In a round what is tried stands in no line
  // for a moment, and all that comes after it is tried anyway.
  if (before != 0 && !state_.round.open && in_the_way() < before) effects.push_back(RoundDue{});
  if (state_.timers.next() == state_.wake) return;
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

TenantId Tenancy::owner_key(TenantId tenant) const {
  if (!config_.separate_tenants) return kSharedOwner;
  const auto found = state_.tenants.find(tenant);
  return found != state_.tenants.end() && found->second.shares ? kSharedOwner : tenant;
}

// A family holds nothing itself.
Amounts Tenancy::in_use(TenantId tenant) const {
  const auto found = state_.tenants.find(tenant);
  const bool holds = found != state_.tenants.end() && found->second.children == 0;
  return holds ? found->second.in_use : Amounts{};
}

// ---- admission

void Tenancy::on(Time, const TenantAdded& added, Effects& effects) {
  const bool full = state_.tenants.size() >= config_.tenants_max;
  const bool known = state_.tenants.contains(added.tenant);
  if (!added.tenant || (full && !known)) return;
  Tenant& tenant = state_.tenants[added.tenant];
  tenant.quota = added.quota;
  tenant.guarantee = added.guarantee;
  tenant.weight = std::max(1u, added.weight);
  // Whether a tenant shares decides its owner key, and its family counts what it has; both are
  // fixed while it has anything.
  if (tenant.in_use.sandboxes == 0) {
    tenant.shares = added.shares;
    join_family(added.tenant, tenant, added.parent);
  }
  tenant.dedicated = static_cast<bool>(added.dedicated_pool);
  keep(tenant);
  set_share(tenant);
  relist(added.tenant);
  if (known && state_.pending_count != 0) effects.push_back(RoundDue{});  // by other rules
}

void Tenancy::join_family(TenantId id, Tenant& tenant, TenantId parent) {
  if (tenant.parent == parent || tenant.children != 0) return;
  std::uint32_t depth = 1;
  for (TenantId above = parent; above; ++depth) {
    const auto found = state_.tenants.find(above);
    const bool holds = found != state_.tenants.end() && found->second.children == 0 &&
                       found->second.in_use.sandboxes != 0;
    if (found == state_.tenants.end() || above == id || holds || depth == kDepthMax) return;
    above = found->second.parent;
  }
  const auto change = [&](TenantId family, int by) {
    if (!family) return;
    Tenant& one = state_.tenants.at(family);
    one.children += static_cast<std::uint32_t>(by);
    keep(one);
  };
  change(tenant.parent, -1);
  tenant.parent = parent;
  change(parent, +1);
}

void Tenancy::on(Time now, const SandboxAsked& asked, Effects& effects) {
  const auto found = state_.tenants.find(asked.tenant);
  if (found == state_.tenants.end() || found->second.children != 0) {
    effects.push_back(RefuseSandbox{asked.sandbox, Rule::unknown_tenant, 1, 0, 0});
    return;
  }
  if (state_.held.find(asked.sandbox) != nullptr) return;  // repeated
  Tenant& tenant = found->second;
  if (!asked.again && refuse_by_quota(asked, effects)) return;
  Held& held = state_.held.put(
      asked.sandbox,
      {asked.tenant, asked.resources, asked.pool, asked.grows, {}, Phase::waiting,
       state_.next_ticket++, now, asked.priority, asked.gang});
  count_in_use(held, +1);
  if (held.gang && !gather(asked.sandbox, held)) {
    held.phase = Phase::gathering;
    return;
  }
  const bool behind_its_own =
      !tenant.waiting.empty() && tenant.waiting.begin()->first.priority >= asked.priority;
  if (behind_its_own || passes_nothing(asked.sandbox, held)) return wait(asked.sandbox, held);
  held.phase = Phase::trying;
  effects.push_back(attempt(now, asked.sandbox, held));
}

// Its own quota and those of its families.
bool Tenancy::refuse_by_quota(const SandboxAsked& asked, Effects& effects) const {
  const Amounts ask = amounts_of(asked.resources);
  const auto over = [&](Rule rule, std::int64_t needed, std::int64_t used, std::int64_t limit) {
    if (limit == 0 || needed <= limit - used) return false;
    effects.push_back(RefuseSandbox{asked.sandbox, rule, needed, used, limit});
    return true;
  };
  const auto over_all = [&](const Amounts& used, const Amounts& most) {
    return over(Rule::quota_cpu, ask.cpu_millicores, used.cpu_millicores, most.cpu_millicores) ||
           over(Rule::quota_memory, ask.memory_bytes, used.memory_bytes, most.memory_bytes) ||
           over(Rule::quota_gpu, ask.gpu_millis, used.gpu_millis, most.gpu_millis) ||
           over(Rule::quota_sandboxes, 1, used.sandboxes, most.sandboxes);
  };
  for (TenantId id = asked.tenant; id;) {
    const Tenant& tenant = state_.tenants.at(id);
    if (over_all(tenant.in_use, tenant.quota)) return true;
    id = tenant.parent;
  }
  const Tenant& tenant = state_.tenants.at(asked.tenant);
  // Without borrowing what is more than the whole guarantee would wait for ever.
  const Gathering* others = asked.gang ? gathering(asked.tenant, asked.gang) : nullptr;
  const Amounts with = others == nullptr ? Amounts{} : others->amounts;
  if (config_.order == Order::quotas && over_all(with, tenant.guarantee)) return true;
  return over(Rule::pending_limit, 1, static_cast<std::int64_t>(state_.unplaced),
              config_.pending_max) ||
         over(Rule::pending_limit_of_tenant, 1,
              tenant.in_use.sandboxes - tenant.placed.sandboxes, config_.pending_per_tenant_max);
}

void Tenancy::count_in_use(const Held& held, int sign) {
  state_.unplaced += static_cast<std::uint64_t>(sign);
  for (TenantId id = held.tenant; id;) {
    Tenant& tenant = state_.tenants.at(id);
    tenant.in_use.add(amounts_of(held.resources), sign);
    CHALK_INVARIANT(tenant.in_use.sandboxes >= 0 && tenant.in_use.cpu_millicores >= 0);
    id = tenant.parent;
  }
}

void Tenancy::on(Time now, const SandboxPlaced& placed, Effects& effects) {
  Held* held = state_.held.find(placed.sandbox);
  if (held == nullptr || held->phase == Phase::placed) return;
  if (held->gang) leave_gathering(placed.sandbox, *held);
  stop_waiting(placed.sandbox, *held);
  settle_aged(placed.sandbox);
  if (held->phase == Phase::nominated) count_nominated(*held, -1);
  held->phase = Phase::placed;
  held->node = placed.node;
  count_placed(*held, +1);
  state_.tenants.at(held->tenant).last_placed = now;
  Node* node = state_.nodes.find(placed.node);
  if (node == nullptr) return;
  const TenantId owner = owner_key(held->tenant);
  CHALK_INVARIANT(node->phase != NodePhase::scrubbing);
  CHALK_INVARIANT(node->phase == NodePhase::free ? node->sandboxes == 0 : node->owner == owner);
  if (node->phase == NodePhase::lingering) state_.lingering.erase({node->deadline, placed.node});
  settle_scrub(placed.node, *node);
  if (!owned(*node)) count_node(*node, owner, +1);
  count_common(*node, -1);
  node->phase = NodePhase::owned;
  count_common(*node, +1);
  node->owner = owner;
  node->deadline = kNever;
  ++node->sandboxes;
  static_cast<void>(effects);
}

void Tenancy::on(Time now, const NotPlaced& not_placed, Effects& effects) {
  Held* held = state_.held.find(not_placed.sandbox);
  if (held == nullptr || held->phase != Phase::trying) return;
  const TryPlace tried = attempt(now, not_placed.sandbox, *held);
  const auto& [sandbox, owner, own_only, spare, claims] = tried;
  if (state_.round.open) {
    ++state_.round.failures;
    if (!held->gang) {  // that there is no room for all of a gang says nothing of one
      state_.round.failed.push_back(
          {owner, held->pool, held->resources, held->tenant, held->priority, own_only, spare});
    }
    set_aside(held->tenant);
  }
  wait(sandbox, *held);
  has_failed(now, tried, *held);
  if (own_only) return;
  scrub_for(now, sandbox, *held, tried, effects);
}

// Somebody else's emptied node is worth more scrubbed than kept warm for its owner, but not to one
// that may claim none, or for whom it is too small, or has been scrubbed already.
void Tenancy::scrub_for(Time now, SandboxId sandbox, const Held& held, const TryPlace& tried,
                        Effects& effects) {
  if (state_.lingering.empty() || scrubs_enough_for(sandbox, held)) return;
  const Resources size = size_of(held);
  int looks = kWarmLooks;
  for (auto entry = state_.lingering.begin(); entry != state_.lingering.end() && looks > 0;
       ++entry, --looks) {
    const NodeId id = entry->second;
    Node& node = state_.nodes.at(id);
    const bool others = std::any_of(tried.spare.begin(), tried.spare.end(), [&](const Wish& wish) {
      return could_run(node, wish.pool, wish.resources);
    });
    if (node.owner == tried.owner_key || node.cordoned || others ||
        !could_run(node, held.pool, size)) {
      continue;
    }
    state_.lingering.erase(entry);
    scrub(now, id, node, effects);
    node.scrubs_for = sandbox;
    state_.scrubs.insert({sandbox, id});
    return;
  }
}

// Whether as many nodes as it could need are on their way to it, or of a gang have come and are
// still free: it waits for the rest, however often it is tried meanwhile. When all have come and it
// finds no room even so, they are of no use to it.
bool Tenancy::scrubs_enough_for(SandboxId sandbox, const Held& held) const {
  std::uint32_t come = 0, on_their_way = 0;
  for (auto at = state_.scrubs.lower_bound({sandbox, {}});
       at != state_.scrubs.end() && at->first == sandbox; ++at) {
    const Node& node = *state_.nodes.find(at->second);
    if (node.cordoned) continue;
    ++(node.phase == NodePhase::free ? come : on_their_way);
    if (on_their_way > 0 && come + on_their_way >= members_of(held)) return true;
  }
  return false;
}

void Tenancy::settle_scrub(NodeId id, Node& node) {
  if (node.scrubs_for) state_.scrubs.erase({node.scrubs_for, id});
  node.scrubs_for = {};
}

void Tenancy::on(Time, const SandboxNominated& nominated, Effects&) {
  Held* held = state_.held.find(nominated.sandbox);
  if (held == nullptr || held->phase != Phase::trying) return;
  settle_aged(nominated.sandbox);  // what is freed elsewhere is not for it any more
  held->phase = Phase::nominated;
  count_nominated(*held, +1);
}

void Tenancy::on(Time, const NominationLost& lost, Effects&) {
  Held* held = state_.held.find(lost.sandbox);
  if (held == nullptr || held->phase != Phase::nominated) return;
  count_nominated(*held, -1);
  wait(lost.sandbox, *held);
}

// Whether any grows is what decisions go by, so none of them changes.
void Tenancy::on(Time, const GrowsElsewhere& change, Effects&) {
  Held* held = state_.held.find(change.sandbox);
  if (held != nullptr && held->grows && change.pool) held->grows = change.pool;
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
  if (found->gang && found->phase != Phase::placed) leave_gathering(sandbox, *found);
  stop_waiting(sandbox, *found);
  settle_aged(sandbox);
  const Held held = *found;
  state_.held.erase(sandbox);
  count_in_use(held, -1);
  if (held.phase == Phase::nominated) count_nominated(held, -1);
  if (held.phase != Phase::placed) return;
  count_placed(held, -1);
  leave_node(now, held.node, effects);
}

// ---- nodes and their owners

void Tenancy::on(Time, const NodeJoined& joined, Effects&) {
  Node node;
  node.shape = joined.shape;
  node.pool = joined.pool;
  node.dedicated = static_cast<bool>(joined.owner);
  node.owner = joined.owner;
  node.common = !node.dedicated && !joined.reserved;
  node.phase = node.dedicated ? NodePhase::owned : NodePhase::free;
  state_.nodes.put(joined.node, node);
  count_common(node, +1);
  count_capacity(joined.shape, +1);
}

void Tenancy::on(Time, const NodeGone& gone, Effects&) {
  Node* node = state_.nodes.find(gone.node);
  if (node == nullptr) return;
  settle_scrub(gone.node, *node);
  count_capacity(node->shape, -1);
  count_common(*node, -1);
  if (owned(*node)) count_node(*node, node->owner, -1);
  if (node->phase == NodePhase::lingering) state_.lingering.erase({node->deadline, gone.node});
  state_.nodes.erase(gone.node);
}

void Tenancy::on(Time, const NodeCordoned& event, Effects&) {
  Node* node = state_.nodes.find(event.node);
  if (node == nullptr) return;
  count_common(*node, -1);
  if (owned(*node)) count_node(*node, node->owner, -1);
  node->cordoned = event.cordoned;
  count_common(*node, +1);
  if (owned(*node)) count_node(*node, node->owner, +1);
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
  if (owned(node)) {
    count_node(node, node.owner, -1);
    if (may_claim_anew(node.owner)) effects.push_back(RoundDue{});
  }
  node.phase = NodePhase::scrubbing;
  node.deadline = now + config_.scrub_timeout;
  state_.timers.arm(node.deadline, id);
  effects.push_back(SetOwner{id, node.owner, false});
  effects.push_back(ScrubNode{id});
}

void Tenancy::on(Time, const NodeScrubbed& scrubbed, Effects& effects) {
  Node* node = state_.nodes.find(scrubbed.node);
  if (node == nullptr || node->phase != NodePhase::scrubbing) return;  // repeated
  const Held* held = node->scrubs_for ? state_.held.find(node->scrubs_for) : nullptr;
  if (held == nullptr || !held->gang) settle_scrub(scrubbed.node, *node);
  count_common(*node, -1);
  node->phase = NodePhase::free;
  count_common(*node, +1);
  node->owner = {};
  node->deadline = kNever;
  effects.push_back(SetOwner{scrubbed.node, {}, true});
}

// What is due is tried last: a node that is to be scrubbed now takes nothing any more.
void Tenancy::on(Time now, const Woken&, Effects& effects) {
  bool goes_on = false, begins = false;
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    if (!timer.key) {
      if (timer.at != state_.claims_at) continue;
      state_.claims_at = kNever;
      begins = true;
      continue;
    }
    if (timer.key == kRoundTimer) {
      if (timer.at != state_.round_at) continue;
      state_.round_at = kNever;
      goes_on = true;
      continue;
    }
    Node* node = state_.nodes.find(timer.key);
    if (node == nullptr || node->deadline != timer.at) continue;
    if (node->phase == NodePhase::lingering) {
      state_.lingering.erase({node->deadline, timer.key});
      scrub(now, timer.key, *node, effects);
    } else if (node->phase == NodePhase::scrubbing) {
      settle_scrub(timer.key, *node);  // another may be scrubbed meanwhile
      scrub(now, timer.key, *node, effects);  // it takes too long: order it again
    }
  }
  if (goes_on) effects.push_back(RoundDue{true});
  if (begins) effects.push_back(RoundDue{});
}

}  // namespace chalk::tenancy
