// What fleet asks about the rest: what waits, and which nodes it can do without.
#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <tuple>

#include "model/control/control.h"
#include "model/control/what_if.h"

namespace chalk::control {
namespace {

// Of what waits so many are looked at, in order of tenants; the rest counts when these are placed.
constexpr std::size_t kWaitingSeen = 20'000;
// And so much of what runs, in order of nodes, for its size.
constexpr std::size_t kRunningSeen = 20'000;

fleet::Amounts left_on(const scheduler::Node& node, const scheduler::NodeInfo& info) {
  return {node.cpu, node.memory, node.disk, node.gpu_free, info.sandboxes_free};
}

// Of cpu, memory and GPUs the one that is used most, as cluster-autoscaler's utilisation.
std::uint32_t used_permille(const scheduler::Node& node, const scheduler::NodeInfo& info) {
  NodeShape shape = info.shape;
  shape.disk_bytes = 0;
  shape.sandboxes_max = 0;
  return fleet::taken_permille(left_on(node, info), shape);
}

void enlarge(Resources& largest, const scheduler::Reservation& one) {
  const auto most = [](auto& so_far, auto more) { so_far = std::max(so_far, more); };
  most(largest.cpu_millicores, one.cpu);
  most(largest.memory_bytes, one.memory);
  most(largest.disk_bytes, one.disk);
  most(largest.gpus, static_cast<std::int32_t>(std::popcount(one.gpu_mask)));
  most(largest.gpu_millis, one.gpu_millis);
}

// Everybody with something waiting, in the order of the lines; who is in a family after it.
template <class Visit>
void walk(const tenancy::State& state, const std::set<tenancy::Place>& line, const Visit& visit) {
  for (const tenancy::Place& place : line) {
    const tenancy::Tenant& tenant = state.tenants.at(place.tenant);
    visit(place.tenant, tenant);
    walk(state, tenant.line, visit);
  }
}

}  // namespace

void Control::handle(const fleet::AskWaiting&) {
  settle_rounds();
  drive(fleet_, fleet_scratch_, waiting_seen());
}

fleet::WaitingSeen Control::waiting_seen() const {
  using Kind = std::tuple<TenantId, PoolId, std::int64_t, std::int64_t, std::int64_t, std::int32_t,
                          std::int32_t, std::uint32_t, bool>;
  std::map<Kind, std::size_t> index;
  fleet::WaitingSeen seen;
  std::size_t looked_at = 0;
  const tenancy::State& state = tenancy_.state();
  const auto see = [&](const sandbox::Record& record, TenantId owner) {
    const Resources& ask = record.resources;
    const PoolId pool = record.pool ? record.pool : dedicated_pool(record.tenant);
    const Kind kind{owner,          pool,     ask.cpu_millicores, ask.memory_bytes,
                    ask.disk_bytes, ask.gpus, ask.gpu_millis,     ask.gpu_models,
                    static_cast<bool>(record.gang)};
    const auto [at, is_new] = index.emplace(kind, seen.waiting.size());
    if (is_new) {
      seen.waiting.push_back({owner, pool, ask, 0, static_cast<bool>(record.gang),
                              one_tenants(owner, pool)});
    }
    ++seen.waiting[at->second].count;
  };
  walk(state, state.line, [&](TenantId tenant, const tenancy::Tenant& line) {
    const TenantId owner = tenancy_.owner_key(tenant);
    for (const auto& [ticket, sandbox] : line.waiting) {
      if (++looked_at > kWaitingSeen) break;
      const sandbox::Record* record = sandboxes_.find(sandbox);
      if (record == nullptr) continue;
      const tenancy::Gathering* gang =
          record->gang ? tenancy_.gathering(tenant, record->gang) : nullptr;
      if (gang != nullptr) {
        for (const SandboxId member : gang->members) see(*sandboxes_.find(member), owner);
      } else {
        see(*record, owner);
      }
    }
  });
  if (config_.fleet.rules.policy == fleet::Policy::newsvendor) see_used(seen);
  return seen;
}

// What is free on a node is room where a sandbox fits that is as large as the pool's are on average.
void Control::see_used(fleet::WaitingSeen& seen) const {
  struct Used {
    std::uint32_t pool = 0, permille = 0;
    bool owned = false, leaves = false, moves = false;
  };
  const scheduler::State& placed = scheduler_.state();
  const std::size_t pools = fleet_.state().pools.size();
  std::vector<Used> nodes;
  std::vector<std::uint32_t> taken(pools), sandboxes(pools);
  std::map<std::pair<TenantId, PoolId>, fleet::Running> running;
  std::set<std::pair<TenantId, PoolId>> owners;
  std::size_t looked_at = pools > 1 ? 0 : kRunningSeen;  // with one pool nothing is compared
  std::set<TenantId> waits;
  for (const fleet::Waiting& kind : seen.waiting) waits.insert(kind.owner);
  fleet_.state().nodes.for_each([&](NodeId id, const fleet::Node& node) {
    const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(id);
    if (slot >= placed.infos.size() || placed.infos[slot].id != id || !node.busy) return;
    const bool chosen = node.reclaimed_at == kNever;
    const bool moves = node.draining && chosen && node.empty_by != kNever;
    if (node.draining && chosen && !moves) return;  // what is there stays to its end
    const scheduler::NodeInfo& info = placed.infos[slot];
    const fleet::Amounts left = left_on(placed.nodes[slot], info);
    const TenantId owner = waits.contains(info.owner) ? info.owner : TenantId{};
    const fleet::Running none{owner, info.pool, {}, {}, 0, 0};
    fleet::Running& runs = running.try_emplace({owner, info.pool}, none).first->second;
    runs.amounts += fleet::taken(left, info.shape);
    ++runs.nodes;
    if (owners.insert({info.owner, info.pool}).second) ++runs.owners;
    for (std::uint32_t at = info.first_reservation; at != 0 && looked_at < kRunningSeen;
         at = placed.links[at - 1].next, ++looked_at) {
      enlarge(runs.largest, placed.reservations[at - 1]);
    }
    const bool owned = one_tenants(info.owner, info.pool);
    if (owned && moves) return;  // its owner's other nodes hold it
    const std::uint32_t permille = fleet::taken_permille(left, info.shape);
    taken[node.pool] += permille;
    sandboxes[node.pool] +=
        static_cast<std::uint32_t>(info.shape.sandboxes_max - info.sandboxes_free);
    nodes.push_back({node.pool, permille, owned, node.draining, moves});
  });
  seen.used_permille.resize(pools);
  seen.moving_permille.resize(pools);
  for (const Used& node : nodes) {
    const std::uint32_t each_takes = taken[node.pool] / std::max(1u, sandboxes[node.pool]);
    const bool part = !node.owned && (node.leaves || 1000 - node.permille >= each_takes);
    seen.used_permille[node.pool] += part ? node.permille : 1000;
    if (node.moves) seen.moving_permille[node.pool] += node.permille;
  }
  for (const auto& [of, runs] : running) seen.running.push_back(runs);
}

// Whether what is free on such nodes is room for the owner alone, though others use the pool.
bool Control::one_tenants(TenantId owner, PoolId pool) const {
  return owner != tenancy::kSharedOwner && !routing_.dedicated_tenants.contains(pool);
}

void Control::handle(const fleet::AskRemovals& ask) {
  const scheduler::State& placed = scheduler_.state();
  const fleet::Rules& rules = config_.fleet.rules;
  std::vector<fleet::NodeLoad> loads;
  for (const NodeId id : ask.nodes) {
    const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(id);
    if (slot >= placed.infos.size() || placed.infos[slot].id != id) continue;
    fleet::NodeLoad load;
    load.node = id;
    load.pool = static_cast<std::uint32_t>(placed.infos[slot].pool.value - 1);
    load.used_permille = used_permille(placed.nodes[slot], placed.infos[slot]);
    load.owned = one_tenants(placed.infos[slot].owner, placed.infos[slot].pool);
    sandboxes_.for_each_on(id, [&](SandboxId, const sandbox::Record& record) {
      ++load.sandboxes;
      // What has just been started or is about to end is left in peace.
      const bool may = record.phase == sandbox::Phase::running && !record.moving &&
                       !record.gang && (record.restart || record.group);
      if (!may) ++load.fixed;
    });
    loads.push_back(load);
  }
  // The fork is made only if there is anything to ask of it.
  const bool any = std::any_of(loads.begin(), loads.end(), [](const auto& load) {
    return load.fixed == 0;
  });
  fleet::RemovalsFound found;
  if (any) {
    WhatIf what_if(scheduler_, sandboxes_, tenancy_, fleet_);
    found.removals =
        fleet::choose_removals(rules, std::move(loads), ask.pools, ask.budget, what_if);
  }
  drive(fleet_, fleet_scratch_, found);
}

}  // namespace chalk::control
