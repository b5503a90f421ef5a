// Gangs: from the one that stands in line for all to the scheduler, and the refusal of what the
// pools could not hold at their largest.
#include <algorithm>

#include "model/control/control.h"
#include "model/scheduler/index.h"

namespace chalk::control {

std::int64_t starts_on(const NodeShape& shape, const Resources& ask) {
  std::int64_t most = std::min(shape.start_slots, shape.sandboxes_max);
  const auto bound = [&](std::int64_t has, std::int64_t asks) {
    if (asks > 0) most = std::min(most, has / asks);
  };
  bound(shape.cpu_millicores, ask.cpu_millicores);
  bound(shape.memory_bytes, ask.memory_bytes);
  bound(shape.disk_bytes, ask.disk_bytes);
  if (scheduler::is_share(ask)) {
    bound(std::int64_t{shape.gpus} * (1000 / ask.gpu_millis), 1);
  } else {
    bound(shape.gpus, ask.gpus);
  }
  return most;
}

void Control::place_gang(const sandbox::Record& record, const tenancy::TryPlace& attempt) {
  scheduler::GangAsked asked;
  asked.members.push_back(place_asked(attempt.sandbox, attempt.owner_key));
  for (const SandboxId member : tenancy_.gathering(record.tenant, record.gang)->members) {
    if (member != attempt.sandbox) asked.members.push_back(place_asked(member, attempt.owner_key));
  }
  for (scheduler::PlaceAsked& member : asked.members) {
    member.own_only = attempt.own_only;
    member.spare = attempt.spare;
  }
  asked.claims_max = attempt.claims_max;
  drive(scheduler_, scheduler_scratch_, asked);
}

// A gang that found no room now and can find none ever: it is refused with how many its pools hold.
bool Control::refuse_gang(const scheduler::NotPlaced& not_placed) {
  const sandbox::Record& record = *sandboxes_.find(not_placed.sandbox);
  if (!record.gang) return false;
  Resources least = record.resources;  // of each amount the least of any member
  for (const SandboxId id : tenancy_.gathering(record.tenant, record.gang)->members) {
    least = least_of(least, sandboxes_.find(id)->resources);
  }
  const std::int64_t most = most_members(record, least);
  if (most >= record.gang.size) return false;
  drive(sandboxes_, sandbox_scratch_,
        sandbox::AdmissionRefused{not_placed.sandbox,
                                  static_cast<std::uint8_t>(tenancy::Rule::gang_never_fits),
                                  record.gang.size, 0, most});
  return true;
}

// How many members of that size the empty nodes of all pools that it may use could be starting at
// once, each pool at its largest; INT64_MAX where a pool does not say its shape or size.
std::int64_t Control::most_members(const sandbox::Record& record, const Resources& least) const {
  const PoolId only = record.pool ? record.pool : dedicated_pool(record.tenant);
  std::int64_t most = 0;
  for (const PoolPending& pool : routing_.pools) {
    if (!pool.demand.pool) continue;
    if (only ? pool.demand.pool != only : reserved(pool.demand.pool)) continue;
    const NodeShape& shape = pool.policy.shape;
    if (shape == NodeShape{} || pool.policy.nodes_max == 0) return INT64_MAX;
    if (!fits(shape, least)) continue;
    most += starts_on(shape, least) * pool.policy.nodes_max;
  }
  return most;
}

}  // namespace chalk::control
