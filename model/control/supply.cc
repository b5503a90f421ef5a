// What fleet asks about the rest: what waits, and which nodes it can do without.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "model/control/control.h"
#include "model/control/what_if.h"

namespace chalk::control {
namespace {

// Of what waits so many are looked at, in order of tenants; the rest counts when these are placed.
constexpr std::size_t kWaitingSeen = 20'000;

// Of cpu, memory and GPUs the one that is used most.
std::uint32_t used_permille(const scheduler::Node& node, const scheduler::NodeInfo& info) {
  std::int64_t most = 0;
  const auto share = [&](std::int64_t free, std::int64_t all) {
    if (all > 0) most = std::max(most, (all - free) / std::max<std::int64_t>(1, all / 1000));
  };
  share(node.cpu, info.shape.cpu_millicores);
  share(node.memory >> 20, info.shape.memory_bytes >> 20);
  share(node.gpu_free, std::int64_t{info.shape.gpus} * 1000);
  return static_cast<std::uint32_t>(std::min<std::int64_t>(most, 1000));
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
    if (is_new) seen.waiting.push_back({owner, pool, ask, 0, static_cast<bool>(record.gang)});
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
  drive(fleet_, fleet_scratch_, seen);
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
