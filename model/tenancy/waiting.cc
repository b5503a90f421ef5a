// What waits: lines, shares, rounds of attempts, and the reclaim of what a guarantee has lent.
#include <algorithm>

#include "model/tenancy/tenancy.h"

namespace chalk::tenancy {
namespace {

__extension__ using Wide = unsigned __int128;

// At most so many are passed by nobody, and for more the nodes of all are left alone.
constexpr std::size_t kAgedMax = 8, kSparedMax = 64;

bool covers(const Resources& big, const Resources& small) {
  return big.cpu_millicores >= small.cpu_millicores && big.memory_bytes >= small.memory_bytes &&
         big.disk_bytes >= small.disk_bytes && big.gpus >= small.gpus &&
         big.gpu_millis >= small.gpu_millis &&
         (big.gpus == 0 || big.gpu_models == small.gpu_models) &&
         (big.gpus == 0) == (small.gpus == 0);
}

// Calls look(limit, used, asked) for each dimension that the guarantee names and the ask uses.
void for_each_named(const Amounts& guarantee, const Amounts& used, const Amounts& more, auto&& look) {
  const auto one = [&](std::int64_t limit, std::int64_t have, std::int64_t ask) {
    if (limit != 0 && ask != 0) look(limit, have, ask);
  };
  one(guarantee.cpu_millicores, used.cpu_millicores, more.cpu_millicores);
  one(guarantee.memory_bytes, used.memory_bytes, more.memory_bytes);
  one(guarantee.gpu_millis, used.gpu_millis, more.gpu_millis);
  one(guarantee.sandboxes, used.sandboxes, more.sandboxes);
}

// One of GPUs gives no right to cores alone, nor do GPUs that are used up take away one to cores.
bool within(const Amounts& guarantee, const Amounts& used, const Amounts& more) {
  bool named = false, enough = true;
  for_each_named(guarantee, used, more, [&](auto limit, auto have, auto ask) {
    named = true;
    enough = enough && ask <= limit - have;
  });
  return named && enough;
}

// Where nobody gets more than its guarantee, whether this would be more. What room is being made
// for is placed as soon as there is any, whether those that make way have ended or not. What is
// more than all of a guarantee was admitted under a larger one: it would wait for ever, and all of
// its tenant's behind it, so it goes where nothing else of its tenant uses that resource.
bool beyond(const Config& config, const Tenant& tenant, const Amounts& ask) {
  if (config.order != Order::quotas) return false;
  Amounts has = tenant.placed;
  has.add(tenant.nominated, +1);
  bool beyond = false;
  for_each_named(tenant.guarantee, has, ask, [&](auto limit, auto have, auto more) {
    const bool alone = more > limit && have == 0;
    beyond = beyond || (more > limit - have && !alone);
  });
  return beyond;
}

// Whether it is the next of its tenant and may be placed.
bool counts(const Config& config, const Tenant& tenant, SandboxId id, const Amounts& ask) {
  const bool is_next = !tenant.waiting.empty() && tenant.waiting.begin()->second == id;
  return is_next && !beyond(config, tenant, ask);
}

// Who has less goes first.
std::pair<std::uint64_t, std::uint64_t> standing(const Config& config, const Tenant& tenant,
                                                 const Held& held, Rank rank) {
  if (config.order != Order::fair) return {held.ticket, 0};
  return {rank, tenant.share};
}

}  // namespace

// ---- rounds

void Tenancy::on(Time, const CapacityFreed& freed, Effects&) {
  if (state_.round.open || state_.pending_count == 0) return;
  state_.round.open = true;
  if (!freed.goes_on) ++state_.rounds;
}

// Tries the head of the next tenant in the line; closes the round when all have been tried or too
// many have failed. In the latter case it goes on later: who was not tried would else wait for the
// next time that something ends, beside a node that has just been bought for it.
void Tenancy::on(Time now, const NextAttempt&, Effects& effects) {
  const Round& round = state_.round;
  while (round.open && round.failures < config_.tries_per_event) {
    const TenantId next = next_in_line(state_.line);
    if (!next) {
      if (bring_back(false)) continue;
      bring_back(true);  // all have been tried: the next round begins anew
      break;
    }
    const SandboxId head = state_.tenants.at(next).waiting.begin()->second;
    Held& held = state_.held.at(head);
    std::optional<std::vector<Wish>> spare = spared(head, held);
    if (!spare || beyond(config_, state_.tenants.at(next), wish_of(held))) {
      set_aside(next);
      continue;
    }
    const TryPlace attempted = attempt(now, head, held, std::move(*spare));
    if (fails_too(attempted, held)) {
      has_failed(now, attempted, held);  // with the one that covers it
      set_aside(next);
      continue;
    }
    // The same tenant may have more to place: it is met again where its new share stands.
    stop_waiting(head, held);
    held.phase = Phase::trying;
    effects.push_back(attempted);
    return;
  }
  const bool all_tried = round.failures < config_.tries_per_event;
  state_.round = Round{};
  if (all_tried || state_.round_at != kNever) return;
  state_.round_at = now + config_.round_pause;
  state_.timers.arm(state_.round_at, kRoundTimer);
}

bool Tenancy::fails_too(const TryPlace& attempted, const Held& held) const {
  for (const Failure& failure : state_.round.failed) {
    const bool finds_no_victims =
        held.priority == 0 ||
        (failure.tenant == held.tenant && failure.priority >= held.priority);
    const bool looked_there = (!failure.own_only || attempted.own_only) &&
                              (failure.spare.empty() || failure.spare == attempted.spare);
    if (failure.owner == attempted.owner_key && failure.pool == held.pool && finds_no_victims &&
        looked_there && covers(held.resources, failure.resources)) {
      return true;
    }
  }
  return false;
}

void Tenancy::set_aside(TenantId id) {
  Tenant& tenant = state_.tenants.at(id);
  if (tenant.aside) return;
  tenant.aside = true;
  state_.aside.push_back({state_.rounds, id});
  relist(id);
}

// Those set aside by earlier rounds, or all, stand in line again. False when there was none.
bool Tenancy::bring_back(bool all) {
  bool any = false;
  while (!state_.aside.empty() && (all || state_.aside.front().round != state_.rounds)) {
    const TenantId id = state_.aside.pop_front().tenant;
    state_.tenants.at(id).aside = false;
    relist(id);
    any = true;
  }
  return any;
}

// ---- who may go before whom

// What its next sandbox of this size would be.
Rank Tenancy::rank_of(const Tenant& tenant, const Amounts& ask) const {
  if (within(tenant.guarantee, tenant.placed, ask)) return kOwnGuarantee;
  for (TenantId above = tenant.parent; above;) {
    const Tenant& family = state_.tenants.at(above);
    if (within(family.guarantee, family.placed, ask)) return kFamilyGuarantee;
    above = family.parent;
  }
  return kBorrowing;
}

// Whether it may take no node at all now.
bool Tenancy::passes_nothing(SandboxId sandbox, const Held& held) const {
  return beyond(config_, state_.tenants.at(held.tenant), wish_of(held)) || !spared(sandbox, held);
}

// It waits on: in time it is passed by nobody, and may claim what is kept for others.
void Tenancy::has_failed(Time now, const TryPlace& tried, const Held& held) {
  if (now - held.since >= config_.bypass_max) age(tried.sandbox, held);
  if (tried.claims_max < members_of(held)) wait_to_claim(held);
}

// How many hold others off: who reclaims what was lent, and what has aged and counts.
std::size_t Tenancy::in_the_way() const {
  const auto aged = std::count_if(state_.aged.begin(), state_.aged.end(), [&](SandboxId id) {
    const Held& held = *state_.held.find(id);
    return counts(config_, state_.tenants.at(held.tenant), id, wish_of(held));
  });
  return state_.reclaimers.size() + static_cast<std::size_t>(aged);
}

// What it must not pass: it takes no node that could hold any of that. Nothing: there is too much
// of it, so it takes none. Poorer tenants may always go before what has aged, so a flood that has
// aged does not hold up its neighbours; and who asks within a guarantee before who would borrow.
// What has aged counts while it is the next of its tenant and may be placed. Of two that count the
// first goes before the second, so that no two wait for each other.
std::optional<std::vector<Wish>> Tenancy::spared(SandboxId sandbox, const Held& held) const {
  std::vector<Wish> spare;
  if (state_.reclaimers.empty() && state_.aged.empty()) return spare;
  const Tenant& tenant = state_.tenants.at(held.tenant);
  const Rank mine = rank_of(tenant, wish_of(held));
  if (mine == kBorrowing) {  // somebody may wait for what is within its guarantee
    for (const TenantId id : state_.reclaimers) {
      if (id == held.tenant) continue;  // its own line says who goes first
      add_wish(state_.tenants.at(id).waiting.begin()->second, held.pool, spare);
      if (spare.size() > kSparedMax) return std::nullopt;
    }
  }
  for (const SandboxId id : state_.aged) {
    if (id == sandbox) break;
    const Held& aged = *state_.held.find(id);
    if (aged.tenant == held.tenant) continue;  // its own line says who goes first
    const Tenant& waits = state_.tenants.at(aged.tenant);
    const Amounts wish = wish_of(aged);
    if (!counts(config_, waits, id, wish)) continue;
    const bool first = standing(config_, tenant, held, mine) <
                       standing(config_, waits, aged, rank_of(waits, wish));
    if (!first) add_wish(id, held.pool, spare);
  }
  return spare;
}

// Unless one that must go to `pool` cannot come in its way, or what is spared already holds it.
void Tenancy::add_wish(SandboxId id, PoolId pool, std::vector<Wish>& spare) const {
  const Held& held = *state_.held.find(id);
  if (pool && held.pool && pool != held.pool) return;
  const Wish wish{size_of(held), held.pool};
  const bool known = std::any_of(spare.begin(), spare.end(), [&](const Wish& one) {
    return one.pool == wish.pool && covers(wish.resources, one.resources);
  });
  if (known) return;
  std::erase_if(spare, [&](const Wish& one) {
    return one.pool == wish.pool && covers(one.resources, wish.resources);
  });
  spare.push_back(wish);
}

// It has waited for too long: from now on others spare nodes that could hold it, unless all who
// would do so already for one that needs no more. Those that are not the next of their tenant any
// more, or may not be placed, age anew when they are and may.
void Tenancy::age(SandboxId sandbox, const Held& held) {
  std::erase_if(state_.aged, [&](SandboxId id) {
    const Held& aged = *state_.held.find(id);
    return id != sandbox &&
           !counts(config_, state_.tenants.at(aged.tenant), id, wish_of(aged));
  });
  const auto standing_of = [&](const Held& one) {
    const Tenant& tenant = state_.tenants.at(one.tenant);
    return standing(config_, tenant, one, rank_of(tenant, wish_of(one)));
  };
  const auto mine = standing_of(held);
  const Resources size = size_of(held);
  auto last = state_.aged.end();
  for (auto at = state_.aged.begin(); at != state_.aged.end(); ++at) {
    const Held& aged = *state_.held.find(*at);
    if (*at == sandbox) return;
    if (aged.pool == held.pool && covers(size, size_of(aged)) && standing_of(aged) <= mine) return;
    if (last == state_.aged.end() ||
        standing_of(*state_.held.find(*last)) < standing_of(aged)) {
      last = at;
    }
  }
  if (state_.aged.size() >= kAgedMax) {
    if (standing_of(*state_.held.find(*last)) <= mine) return;
    state_.aged.erase(last);
  }
  state_.aged.push_back(sandbox);
}

void Tenancy::settle_aged(SandboxId sandbox) {
  if (!state_.aged.empty()) std::erase(state_.aged, sandbox);
}

// Whether it waits for what its own guarantee gives it: then that is lent to nobody.
void Tenancy::set_reclaim(TenantId id, Tenant& tenant) {
  bool reclaims = false;
  if (config_.order == Order::fair && !tenant.waiting.empty()) {
    const Held& head = *state_.held.find(tenant.waiting.begin()->second);
    reclaims = within(tenant.guarantee, tenant.placed, wish_of(head));
  }
  if (reclaims == tenant.reclaims) return;
  tenant.reclaims = reclaims;
  if (reclaims) {
    state_.reclaimers.insert(id);
  } else {
    state_.reclaimers.erase(id);
  }
}

// ---- lines and shares

void Tenancy::wait(SandboxId sandbox, Held& held) {
  state_.tenants.at(held.tenant).waiting.emplace(Turn{held.priority, held.ticket}, sandbox);
  held.phase = Phase::waiting;
  ++state_.pending_count;
  relist(held.tenant);
}

void Tenancy::stop_waiting(SandboxId, Held& held) {
  Tenant& tenant = state_.tenants.at(held.tenant);
  if (tenant.waiting.erase({held.priority, held.ticket}) == 0) return;
  --state_.pending_count;
  relist(held.tenant);
}

TenantId Tenancy::next_in_line(const std::set<Place>& first) const {
  TenantId next;
  for (const std::set<Place>* line = &first; !line->empty();) {
    next = line->begin()->tenant;
    line = &state_.tenants.at(next).line;
  }
  return next;
}

std::set<Place>& Tenancy::line_of(const Tenant& tenant) {
  const bool in_family = config_.order == Order::fair && tenant.parent;
  return in_family ? state_.tenants.at(tenant.parent).line : state_.line;
}

Place Tenancy::place_of(TenantId id, const Tenant& tenant) const {
  if (config_.order != Order::fair) return {0, tenant.waiting.begin()->first.ticket, id};
  if (tenant.line.empty()) {
    const Held& head = *state_.held.find(tenant.waiting.begin()->second);
    const bool own = within(tenant.guarantee, tenant.placed, wish_of(head));
    return {own ? kOwnGuarantee : kBorrowing, tenant.share, id};
  }
  // A family stands where the first of its line does, or where its own guarantee puts that.
  const std::uint32_t first = tenant.line.begin()->rank;
  if (first != kBorrowing || tenant.guarantee == Amounts{}) return {first, tenant.share, id};
  const Tenant& next = state_.tenants.at(next_in_line(tenant.line));
  const Held& head = *state_.held.find(next.waiting.begin()->second);
  const bool own = within(tenant.guarantee, tenant.placed, wish_of(head));
  return {own ? kFamilyGuarantee : kBorrowing, tenant.share, id};
}

// Puts a tenant and its families where they belong after any change of what decides that.
void Tenancy::relist(TenantId id) {
  if (id) set_reclaim(id, state_.tenants.at(id));
  while (id) {
    Tenant& tenant = state_.tenants.at(id);
    const bool stands = !tenant.line.empty() || (!tenant.waiting.empty() && !tenant.aside);
    const Place place = stands ? place_of(id, tenant) : Place{};
    if (place != tenant.place) {
      std::set<Place>& line = line_of(tenant);
      if (tenant.place.tenant) line.erase(tenant.place);
      if (stands) line.insert(place);
      tenant.place = place;
    }
    if (config_.order != Order::fair) return;
    id = tenant.parent;
  }
}

void Tenancy::count_placed(const Held& held, int sign) {
  state_.unplaced -= static_cast<std::uint64_t>(sign);
  const Amounts amounts = amounts_of(held.resources);
  for (TenantId id = held.tenant; id;) {
    Tenant& tenant = state_.tenants.at(id);
    tenant.placed.add(amounts, sign);
    set_share(tenant);
    id = tenant.parent;
  }
  Tenant& tenant = state_.tenants.at(held.tenant);
  count_priority(tenant, held.priority, sign);
  relist(held.tenant);
}

void Tenancy::count_nominated(const Held& held, int sign) {
  state_.tenants.at(held.tenant).nominated.add(amounts_of(held.resources), sign);
}

// Nearly always there is one priority: then this is one comparison.
void Tenancy::count_priority(Tenant& tenant, Priority priority, int sign) {
  auto& counts = tenant.by_priority;
  auto at = std::find_if(counts.begin(), counts.end(),
                         [&](const PriorityCount& one) { return one.priority >= priority; });
  if (at == counts.end() || at->priority != priority) at = counts.insert(at, {priority, 0});
  at->sandboxes += static_cast<std::uint32_t>(sign);
  if (at->sandboxes == 0) counts.erase(at);
}

bool Tenancy::has_placed_below(TenantId id, Priority priority) const {
  if (priority == 0) return false;
  const auto found = state_.tenants.find(id);
  if (found == state_.tenants.end() || found->second.by_priority.empty()) return false;
  return found->second.by_priority.front().priority < priority;
}

// All shares are parts of one fleet, else who was placed on a small one would stand behind who has
// much more of a large one. That is this fleet to a sixteenth of each amount: what they say of each
// other is the same for any fleet of such nodes, and one whose nodes join one after the other has
// all shares counted anew about eleven times while it doubles.
void Tenancy::count_capacity(const NodeShape& shape, int sign) {
  state_.capacity.add({shape.cpu_millicores, shape.memory_bytes, shape.gpus * std::int64_t{1000},
                       shape.sandboxes_max},
                      sign);
  const auto near = [](std::int64_t now, std::int64_t before) {
    return std::max(now, before) - std::min(now, before) <= now / 16;
  };
  const Amounts& now = state_.capacity;
  const Amounts& before = state_.shares_of;
  const bool any_held = state_.held.size() != 0;
  if (any_held && near(now.cpu_millicores, before.cpu_millicores) &&
      near(now.memory_bytes, before.memory_bytes) && near(now.gpu_millis, before.gpu_millis)) {
    return;
  }
  state_.shares_of = now;
  if (!any_held) return;
  for (auto& [id, tenant] : state_.tenants) {
    if (tenant.placed.sandboxes == 0) continue;
    set_share(tenant);
    relist(id);
  }
}

// Dominant share of what is placed, in 2^-32 of the fleet, divided by the weight.
void Tenancy::set_share(Tenant& tenant) {
  std::uint64_t share = 0;
  const auto of = [&](std::int64_t used, std::int64_t capacity) {
    if (used <= 0 || capacity <= 0) return;
    const Wide part =
        (Wide(static_cast<std::uint64_t>(used)) << 32) / static_cast<std::uint64_t>(capacity);
    share = std::max(share, static_cast<std::uint64_t>(part) / tenant.weight);
  };
  of(tenant.placed.cpu_millicores, state_.shares_of.cpu_millicores);
  of(tenant.placed.memory_bytes, state_.shares_of.memory_bytes);
  of(tenant.placed.gpu_millis, state_.shares_of.gpu_millis);
  tenant.share = share;
}

}  // namespace chalk::tenancy
