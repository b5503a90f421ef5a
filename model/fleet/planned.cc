// The policies that look at the whole fleet: what waits is bought for together, what is hardly used
// is emptied. What differs between them is in policy.h, packing.h, growth.h and consolidation.h.
#include <algorithm>
#include <utility>

#include "model/fleet/fleet.h"

namespace chalk::fleet {
namespace {

// Empty nodes that go at one look, as cluster-autoscaler's max-empty-bulk-delete.
constexpr std::uint32_t kReleasedAtOnce = 10;

Expander expander_of(Policy policy) {
  if (policy == Policy::cluster_autoscaler) return Expander::least_waste;
  return policy == Policy::karpenter ? Expander::cheapest : Expander::cheapest_for_all;
}

}  // namespace

void Fleet::scan(Time now, Effects& effects) {
  stop_emptying(now, effects);
  for (std::uint32_t index = 0; index < state_.pools.size(); ++index) {
    give_up_overdue(now, index, effects);
  }
  // What was noticed and still waits for its replacement goes when half of the notice has passed.
  const std::set<NodeId> reclaimed = state_.reclaimed;
  for (const NodeId id : reclaimed) {
    const Node& node = state_.nodes.at(id);
    if (now + config_.rules.scan >= node.not_before) {
      empty(now, id, 0, effects);
    } else if (node.replacement == 0) {  // its purchase failed
      make_room(now, id, effects);
    }
  }
  state_.scanned = true;
  state_.scan_at = now + config_.rules.scan;
  state_.timers.arm(state_.scan_at, {kScanTimer});
}

// cluster_autoscaler only looks at its scans. karpenter waits until nothing came for `batch`, and
// for `batch_max` at most; newsvendor for one `batch`.
void Fleet::work_waits(Time now) {
  const Rules& rules = config_.rules;
  if (rules.policy == Policy::cluster_autoscaler) return;
  if (state_.batch_since == kNever) state_.batch_since = now;
  if (rules.policy == Policy::newsvendor && state_.batch_at != kNever) return;
  const Time until = std::min(now + rules.batch, state_.batch_since + rules.batch_max);
  if (until == state_.batch_at) return;
  state_.batch_at = until;
  state_.timers.arm(until, {kBatchTimer});
}

std::vector<Offer> Fleet::offers(Time now) const {
  std::vector<Offer> offers;
  for (std::uint32_t index = 0; index < state_.pools.size(); ++index) {
    const PoolState& pool = state_.pools[index];
    Offer offer{PoolId{index + 1ULL}, pool.policy.shape, pool.policy.price_micros,
                pool.policy.reserved};
    if (pool.policy.elastic) {
      offer.ready = static_cast<std::uint32_t>(pool.idle.size() + pool.booting.size());
      offer.room = may_come(now, pool);
    }
    offers.push_back(offer);
  }
  return offers;
}

void Fleet::on(Time now, const WaitingSeen& seen, Effects& effects) {
  // Looks between two scans, because something came, only buy.
  const bool at_scan = std::exchange(state_.scanned, false);
  const std::vector<Offer> offers = this->offers(now);
  std::vector<Running> running = seen.running;
  std::erase_if(running, [&](const Running& one) {
    const std::uint64_t index = one.pool.value - 1;
    return index >= state_.pools.size() || !state_.pools[index].policy.elastic;
  });
  const std::vector<Need> needs =
      nodes_needed(seen.waiting, offers, expander_of(config_.rules.policy), running);
  const AllThatRuns all_that_runs(offers, running);
  for (std::uint32_t index = 0; index < state_.pools.size(); ++index) {
    PoolState& pool = state_.pools[index];
    if (!pool.policy.elastic) continue;
    const Need& need = needs[index];
    if (at_scan) {
      pool.buffer = std::max(pool.policy.buffer_nodes,
                             (pool.busy * pool.policy.buffer_permille + 999) / 1000);
    }
    const std::uint32_t free = offers[index].ready - need.ready;
    std::uint32_t buy = pool.buffer > free ? pool.buffer - free : 0;
    if (config_.rules.policy == Policy::newsvendor) {
      const auto of_pool = [&](const std::vector<std::uint32_t>& permille) {
        return index < permille.size() ? permille[index] : 0;
      };
      const std::uint32_t room = missing(pool, need, of_pool(seen.used_permille),
                                         of_pool(seen.moving_permille), at_scan);
      // In a pool that is not the cheapest for what it runs more would only be bought since more runs
      // there: what finds no room there any more goes to that which is.
      if (all_that_runs.cheapest_for_its_own(offers[index])) buy = std::max(buy, room);
    }
    buy += need.buy;
    const std::uint32_t staying =
        pool.nodes - pool.draining + static_cast<std::uint32_t>(pool.booting.size());
    if (staying + buy < pool.policy.nodes_min) buy = pool.policy.nodes_min - staying;
    buy = std::min(buy, offers[index].room);
    for (std::uint32_t i = 0; i < buy; ++i) purchase(now, index, need.ready + need.buy, effects);
    if (at_scan) release_idle(now, index, effects);
  }
  if (at_scan) ask_removals(now, offers, all_that_runs, effects);
}

// How many nodes newsvendor buys beside those that what waits needs. Room on busy nodes and on those
// that boot is as good as a node that idles. Nothing is bought for what moves by our own choice, but
// what it may need is not given back. Bought and given back is to the nearest node.
std::uint32_t Fleet::missing(PoolState& pool, const Need& need, std::uint32_t used,
                             std::uint32_t moving, bool at_scan) {
  const Duration boot = pool.policy.boot;
  const std::uint32_t demand = used + need.permille;
  if (at_scan) pool.growth.learn(demand, config_.rules.scan, boot);
  pool.room =
      pool.growth.room(config_.rules.late_worth, boot, pool.growth.rise(demand, at_scan));
  auto booting = static_cast<std::int64_t>(pool.booting.size());
  for (const auto& [number, id] : state_.replaces) {
    const Node* node = state_.nodes.find(id);
    // Another goes when it comes, and is counted until then.
    if (node != nullptr && !node->draining && pool.booting.contains(number)) --booting;
  }
  const std::int64_t ready = std::int64_t{pool.nodes} - pool.draining;
  const std::int64_t free = (ready + booting + need.buy) * 1000 - demand;
  pool.free = free + moving;
  // What boots is no surplus: it cannot go yet, and nothing that is ready goes in its stead.
  const std::int64_t surplus = std::min(free, ready * 1000 - used) - pool.room.most;
  pool.surplus = static_cast<std::uint32_t>(std::max<std::int64_t>(0, surplus));
  return static_cast<std::uint32_t>(
      std::max<std::int64_t>(0, pool.room.least - pool.free + 500) / 1000);
}

std::uint64_t Fleet::purchase(Time now, std::uint32_t index, std::uint32_t needed,
                              Effects& effects) {
  PoolState& pool = state_.pools[index];
  state_.last_purchase = now;
  return order(now, index,
               {.needed = needed,
                .buffer = pool.buffer,
                .free = static_cast<std::uint32_t>(pool.idle.size()),
                .booting = static_cast<std::uint32_t>(pool.booting.size() + 1),
                .room_kept = pool.room.least,
                .room_free = pool.free},
               effects);
}

std::uint32_t Fleet::above_least(const PoolState& pool) const {
  const std::uint32_t staying = pool.nodes - pool.draining;  // who is being emptied has left
  return staying > pool.policy.nodes_min ? staying - pool.policy.nodes_min : 0;
}

// How many nodes may go with the free room on them. Exactly half a node too much stays, since given
// back it would be bought again as exactly half a node too little. With no growth to be expected
// room is free only as far as what is being moved does not need it.
std::uint32_t Fleet::spare(const PoolState& pool) const {
  const std::uint32_t most = above_least(pool);
  if (config_.rules.policy != Policy::newsvendor) return most;
  return std::min(most, (pool.surplus + (pool.room.most == 0 ? 0 : 499)) / 1000);
}

// The same of nodes that are in use. With no growth to be expected anywhere it is left to the what-if
// whether all fits elsewhere, perhaps in another pool. Else all would fit into what another pool
// keeps, to be bought there anew, so a pool gives up no more nodes than its own room is too much;
// their work may still take up room that another pool keeps.
std::uint32_t Fleet::spare_in_use(const PoolState& pool) const {
  const bool kept = std::any_of(state_.pools.begin(), state_.pools.end(),
                                [](const PoolState& one) { return one.room.most != 0; });
  return kept ? spare(pool) : above_least(pool);
}

// Empty nodes beyond what is kept, the longest idle first, and none while work waits.
void Fleet::release_idle(Time now, std::uint32_t index, Effects& effects) {
  PoolState& pool = state_.pools[index];
  const Rules& rules = config_.rules;
  if (pool.pending.count != 0) return;
  if (rules.policy == Policy::cluster_autoscaler && state_.last_purchase != kNever &&
      now < state_.last_purchase + rules.after_purchase) {
    return;
  }
  // While little of the demand was seen: to buy the node anew would cost a boot's time, and idle
  // for so long it has cost as much (ski rental).
  const bool strange = rules.policy == Policy::newsvendor && !pool.growth.settled();
  const Duration idle = strange ? std::max(pool.policy.boot, rules.unneeded) : rules.unneeded;
  for (std::uint32_t gone = 0; gone < kReleasedAtOnce; ++gone) {
    if (pool.idle.size() <= pool.buffer || spare(pool) == 0) return;
    const auto found = std::find_if(pool.idle.begin(), pool.idle.end(), [&](const auto& one) {
      return state_.nodes.at(one.second).not_before <= now;
    });
    if (found == pool.idle.end() || found->first + idle > now) return;
    const NodeId id = found->second;
    const Duration was_idle = now - found->first;
    give_back(id, was_idle, effects);
    pool.surplus -= std::min(pool.surplus, 1000u);
  }
}

// ---- consolidation

Budget Fleet::budget_left() const {
  Budget left{config_.rules.nodes_at_once, config_.rules.sandboxes_at_once};
  for (const NodeId id : state_.emptying) {
    left.nodes -= std::min(left.nodes, 1u);
    left.sandboxes -= std::min(left.sandboxes, state_.nodes.at(id).moving);
  }
  return left;
}

void Fleet::ask_removals(Time now, const std::vector<Offer>& offers,
                         const AllThatRuns& all_that_runs, Effects& effects) const {
  AskRemovals ask;
  ask.budget = budget_left();
  const Rules& rules = config_.rules;
  if (rules.policy == Policy::cluster_autoscaler) {
    // All that are unneeded must be known, since they are so for a while before they go.
    ask.budget = {config_.nodes_max, config_.rules.sandboxes_at_once * config_.nodes_max};
  }
  bool any = false;
  for (std::uint32_t index = 0; index < state_.pools.size(); ++index) {
    const PoolState& pool = state_.pools[index];
    Supply supply;
    supply.cheapest_for_all = all_that_runs.cheapest(offers[index]);
    supply.price = pool.policy.price_micros;
    supply.elastic = pool.policy.elastic;
    supply.reserved = pool.policy.reserved;
    if (pool.policy.elastic) {
      supply.room = may_come(now, pool);
      // Emptied it would only be a node of the buffer.
      const bool kept = pool.idle.size() + pool.booting.size() < pool.buffer;
      if (pool.pending.count == 0 && !kept) {
        supply.above_least = above_least(pool);
        supply.spare = spare_in_use(pool);
      }
    }
    any = any || supply.above_least != 0;
    ask.pools.push_back(supply);
  }
  if (!any || ask.budget.nodes == 0) return;
  state_.nodes.for_each([&](NodeId id, const Node& node) {
    if (!node.busy || node.draining || node.replacement != 0) return;
    if (ask.pools[node.pool].above_least != 0) ask.nodes.push_back(id);
  });
  if (!ask.nodes.empty()) effects.push_back(std::move(ask));
}

// What was found at each look for as long as `unneeded` is emptied; what was not found once begins
// anew.
void Fleet::on(Time now, const RemovalsFound& found, Effects& effects) {
  const Rules& rules = config_.rules;
  std::set<NodeId> still;
  for (const Removal& removal : found.removals) still.insert(removal.node);
  for (std::uint32_t slot = 0; slot < state_.nodes.slots(); ++slot) {
    Node& node = state_.nodes.in_slot(slot);
    if (node.unneeded_since != kNever && !still.contains(state_.nodes.id_at(slot))) {
      node.unneeded_since = kNever;
    }
  }
  Budget left = budget_left();
  for (const Removal& removal : found.removals) {
    Node* node = state_.nodes.find(removal.node);
    if (node == nullptr || node->draining) continue;
    if (node->unneeded_since == kNever) node->unneeded_since = now;
    if (now < node->unneeded_since + rules.unneeded || now < node->not_before) continue;
    if (rules.policy == Policy::cluster_autoscaler && state_.last_purchase != kNever &&
        now < state_.last_purchase + rules.after_purchase) {
      continue;
    }
    if (left.nodes == 0 || removal.sandboxes > left.sandboxes) continue;
    PoolState& pool = state_.pools[node->pool];
    if (above_least(pool) == 0) continue;
    if (!removal.replacement && !removal.owned) {
      if (spare_in_use(pool) == 0) continue;
      pool.surplus -= std::min(pool.surplus, 1000u);
    }
    const auto other = static_cast<std::uint32_t>(removal.replacement.value - 1);
    if (removal.replacement && may_come(now, state_.pools[other]) == 0) continue;
    --left.nodes;
    left.sandboxes -= removal.sandboxes;
    if (removal.replacement) {
      node->moving = removal.sandboxes;
      node->replacement = purchase(now, other, 1, effects);
      state_.replaces[node->replacement] = removal.node;
      state_.emptying.insert(removal.node);  // it counts from now on
    } else {
      empty(now, removal.node, removal.sandboxes, effects);
    }
  }
}

void Fleet::empty(Time now, NodeId id, std::uint32_t sandboxes, Effects& effects) {
  Node& node = state_.nodes.at(id);
  PoolState& pool = state_.pools[node.pool];
  state_.reclaimed.erase(id);
  if (node.reclaimed_at == kNever) {
    state_.emptying.insert(id);
    node.moving = sandboxes;
    ++state_.nodes_emptied;
  }
  node.empty_by = now + config_.rules.empty_within;
  if (!node.draining) {
    ++pool.draining;
    pool.idle.erase({node.idle_since, id});
    cordon(id, &Node::draining, true, effects);
  }
  if (node.busy) {
    effects.push_back(EmptyNode{id});
    return;
  }
  give_back(id, now - node.idle_since, effects);
}

// Something that was told to move did not leave in time: the node is used again.
void Fleet::stop_emptying(Time now, Effects& effects) {
  const std::set<NodeId> emptying = state_.emptying;
  for (const NodeId id : emptying) {
    Node& node = state_.nodes.at(id);
    if (node.empty_by > now) continue;  // for ever, while its replacement is on its way
    state_.emptying.erase(id);
    node.moving = 0;
    node.empty_by = kNever;
    node.unneeded_since = kNever;
    node.not_before = now + config_.rules.empty_within;
    --state_.pools[node.pool].draining;
    cordon(id, &Node::draining, false, effects);
  }
}

// ---- replacements and reclaims

void Fleet::replacement_joined(Time now, NodeId joined, Effects& effects) {
  const std::uint64_t number = state_.nodes.at(joined).purchase;
  const auto found = state_.replaces.find(number);
  if (found == state_.replaces.end()) return;
  const NodeId id = found->second;
  state_.replaces.erase(found);
  Node* node = state_.nodes.find(id);
  if (node == nullptr || node->replacement != number) return;
  node->replacement = 0;
  state_.nodes.at(joined).not_before = now + config_.rules.empty_within;  // its work is on its way
  if (!node->draining || state_.reclaimed.contains(id)) {
    empty(now, id, node->moving, effects);
  }
}

// Nothing new is placed there from now on. Ours lets what is there run until its replacement has
// come, and for half of the notice at most, so that nobody waits for a boot; the others empty it at
// once. Bounds do not count: the node goes anyway.
void Fleet::on(Time now, const ReclaimNoticed& noticed, Effects& effects) {
  Node* node = state_.nodes.find(noticed.node);
  if (node == nullptr || node->reclaimed_at != kNever) return;
  PoolState& pool = state_.pools[node->pool];
  ++state_.nodes_reclaimed;
  state_.emptying.erase(noticed.node);
  node->reclaimed_at = noticed.at;
  const bool room = !pool.idle.empty();
  if (!node->draining) {
    ++pool.draining;
    pool.idle.erase({node->idle_since, noticed.node});
    cordon(noticed.node, &Node::draining, true, effects);
  }
  const Time half = noticed.at - Duration{(noticed.at - now).nanos / 2};
  const bool waits = config_.rules.policy == Policy::newsvendor && node->busy && !room &&
                     half > now + config_.rules.scan && node->replacement == 0;
  if (waits) {
    node->not_before = half;
    state_.reclaimed.insert(noticed.node);
    make_room(now, noticed.node, effects);
  } else {
    empty(now, noticed.node, 0, effects);
  }
}

void Fleet::make_room(Time now, NodeId id, Effects& effects) {
  Node& node = state_.nodes.at(id);
  PoolState& pool = state_.pools[node.pool];
  if (!pool.policy.elastic || may_come(now, pool) == 0) return;
  node.replacement = purchase(now, node.pool, 1, effects);
  state_.replaces[node.replacement] = id;
}

}  // namespace chalk::fleet
