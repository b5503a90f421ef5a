#include "model/fleet/fleet.h"

#include <algorithm>

namespace chalk::fleet {

void Fleet::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  if (state_.timers.next() == state_.wake) return;
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

// The most frequent event of all: 86 million on a day of 10,000 nodes. No look-up but the slot.
void Fleet::on(Time now, const HeartbeatSeen& beat, Effects& effects) {
  Node* node = state_.nodes.find(beat.node);
  if (node == nullptr) return;
  node->seen = now;
  const std::uint32_t slot = SlotTable<NodeId, Node>::slot_of(beat.node);
  if (node->silent) heard_again(beat.node, effects);
  if (state_.newest == slot + 1) return;
  unlink(slot);
  append_newest(slot);
}

void Fleet::on(Time, const PoolAdded& added, Effects&) {
  if (!added.pool) return;
  if (state_.pools.size() < added.pool.value) state_.pools.resize(added.pool.value);
  PoolState& pool = state_.pools[added.pool.value - 1];
  pool.policy = added.policy;
  pool.known = true;
  if (pool.policy.elastic && planned()) {
    if (state_.scan_at != kNever) return;
    state_.scan_at = Time{0};
    state_.timers.arm(state_.scan_at, {kScanTimer});
  } else if (pool.policy.elastic && pool.tick_at == kNever) {
    pool.tick_at = Time{0};
    state_.timers.arm(pool.tick_at, {static_cast<std::uint32_t>(added.pool.value)});
  }
}

void Fleet::on(Time now, const NodeRegistered& event, Effects& effects) {
  const NodeRegistration& asked = event.registration;
  if (!asked.pool || asked.pool.value > state_.pools.size() ||
      !state_.pools[asked.pool.value - 1].known) {
    return;  // a node of nobody's pool; it asks again
  }
  if (const auto known = state_.by_key.find(asked.key); known != state_.by_key.end()) {
    const Node& node = state_.nodes.at(known->second);
    if (node.incarnation == asked.incarnation) {  // our welcome was lost
      effects.push_back(WelcomeNode{asked.key, asked.incarnation, known->second});
      return;
    }
    if (node.incarnation > asked.incarnation) return;  // late, from before its restart
    const NodeId old = known->second;
    remove(old);
    effects.push_back(NodeLost{old, {}});
  }
  const auto index = static_cast<std::uint32_t>(asked.pool.value - 1);
  PoolState& pool = state_.pools[index];
  if (state_.nodes.size() >= config_.nodes_max) return;
  Node node;
  node.incarnation = asked.incarnation;
  node.seen = now;
  node.pool = index;
  node.key = asked.key;
  node.purchase = asked.purchase;
  node.zone = asked.zone;
  node.idle_since = now;
  node.not_before = now;
  const NodeId id = state_.nodes.insert(node);
  state_.by_key[asked.key] = id;
  append_newest(SlotTable<NodeId, Node>::slot_of(id));
  arm_silence();
  ++pool.nodes;
  // It was bought for a zone, and its supplier may have had it in another one only.
  if (const auto bought = pool.booting.find(asked.purchase); bought != pool.booting.end()) {
    leave_zone(pool, bought->second.zone);
    pool.shortages.erase(bought->second.zone);
    pool.booting.erase(bought);
  }
  ++pool.in_zone[asked.zone];
  const bool drained = state_.drained.contains(asked.key);
  if (drained) {
    state_.nodes.at(id).draining = true;
    ++pool.draining;
  } else if (pool.policy.elastic) {
    pool.idle.insert({now, id});
  }
  effects.push_back(WelcomeNode{asked.key, asked.incarnation, id});
  effects.push_back(NodeJoined{id, asked, drained});
  replacement_joined(now, id, effects);
  if (drained && asked.purchase != 0) give_back(id, {}, effects);
}

void Fleet::on(Time now, const PendingDemand& demand, Effects& effects) {
  if (!demand.pool || demand.pool.value > state_.pools.size()) return;
  const auto index = static_cast<std::uint32_t>(demand.pool.value - 1);
  const bool more = demand.count > state_.pools[index].pending.count;
  state_.pools[index].pending = demand;
  if (!state_.pools[index].policy.elastic) return;
  if (!planned()) return buy(now, index, effects);
  if (more) work_waits(now);
}

void Fleet::on(Time, const NodeBusy& busy, Effects&) {
  Node* node = state_.nodes.find(busy.node);
  if (node == nullptr || node->busy) return;
  PoolState& pool = state_.pools[node->pool];
  node->busy = true;
  ++pool.busy;
  pool.idle.erase({node->idle_since, busy.node});
}

void Fleet::on(Time now, const NodeIdle& idle, Effects& effects) {
  Node* node = state_.nodes.find(idle.node);
  if (node == nullptr || !node->busy) return;
  PoolState& pool = state_.pools[node->pool];
  node->busy = false;
  --pool.busy;
  node->idle_since = now;
  if (node->draining) {
    // A machine of our own stays, empty and cordoned.
    if (node->purchase == 0 && node->empty_by == kNever) return;
    give_back(idle.node, {}, effects);
  } else if (pool.policy.elastic) {
    pool.idle.insert({now, idle.node});
  }
}

void Fleet::on(Time now, const DrainAsked& asked, Effects& effects) {
  Node* node = state_.nodes.find(asked.node);
  if (node == nullptr) return;
  if (asked.lasts) state_.drained.insert(node->key);
  // Also of a node that was to be emptied by our own choice, which then is no longer taken back.
  state_.emptying.erase(asked.node);
  if (node->draining) return;
  PoolState& pool = state_.pools[node->pool];
  ++pool.draining;
  pool.idle.erase({node->idle_since, asked.node});
  cordon(asked.node, &Node::draining, true, effects);
  if (!node->busy && node->purchase != 0) {
    give_back(asked.node, now - node->idle_since, effects);
  }
}

void Fleet::on(Time now, const UndrainAsked& asked, Effects& effects) {
  state_.drained.erase(asked.key);
  const auto found = state_.by_key.find(asked.key);
  if (found == state_.by_key.end()) return;
  const NodeId id = found->second;
  Node& node = state_.nodes.at(id);
  if (!node.draining || node.reclaimed_at != kNever) return;
  if (node.empty_by != kNever) {  // our own choice stands, and is taken back as ever
    state_.emptying.insert(id);
    return;
  }
  if (node.replacement != 0) state_.emptying.insert(id);
  PoolState& pool = state_.pools[node.pool];
  --pool.draining;
  node.idle_since = now;
  node.not_before = now;
  node.unneeded_since = kNever;
  if (pool.policy.elastic && !node.busy) pool.idle.insert({now, id});
  cordon(id, &Node::draining, false, effects);
}

// Bought anew at the next look, if still needed: elsewhere, where that is possible.
void Fleet::on(Time now, const PurchaseFailed& failed, Effects&) {
  for (std::uint32_t index = 0; index < state_.pools.size(); ++index) {
    if (!state_.pools[index].booting.contains(failed.purchase)) continue;
    return lose_purchase(now, index, failed.purchase);
  }
}

void Fleet::lose_purchase(Time now, std::uint32_t index, std::uint64_t purchase) {
  PoolState& pool = state_.pools[index];
  const auto found = pool.booting.find(purchase);
  const ZoneId zone = found->second.zone;
  leave_zone(pool, zone);
  pool.booting.erase(found);
  ++state_.purchases_failed;
  if (const auto place = state_.replaces.find(purchase); place != state_.replaces.end()) {
    if (Node* node = state_.nodes.find(place->second)) {
      node->replacement = 0;
      if (!node->draining) state_.emptying.erase(place->second);
    }
    state_.replaces.erase(place);
  }
  Shortage& shortage = pool.shortages[zone];
  if (shortage.failures != 0 && now < shortage.until) return;  // it was ordered with one that failed
  const Rules& rules = config_.rules;
  if (now - shortage.until > rules.retry_max) shortage.failures = 0;  // long ago
  Duration wait = rules.retry;
  for (std::uint32_t i = 0; i < shortage.failures && wait < rules.retry_max; ++i) wait = wait + wait;
  ++shortage.failures;
  shortage.until = now + std::min(wait, rules.retry_max);
}

void Fleet::on(Time now, const Resumed&, Effects& effects) { count_as_heard(now, effects); }

void Fleet::on(Time now, const Woken&, Effects& effects) {
  bool looks = false;  // one look serves a scan and a batch at the same instant
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    if (timer.key.pool == 0) {
      if (state_.silence_check != timer.at) continue;
      state_.silence_check = kNever;
      // Woken so much too late, control has heard nobody: its disk or its machine stood still.
      const bool away = now - timer.at > Duration{config_.heartbeat_timeout.nanos / 4};
      if (away) count_as_heard(now, effects);
      check_silence(now, effects);
    } else if (timer.key.pool == kScanTimer) {
      if (state_.scan_at != timer.at) continue;
      scan(now, effects);
      looks = true;
    } else if (timer.key.pool == kBatchTimer) {
      if (state_.batch_at != timer.at) continue;
      state_.batch_at = state_.batch_since = kNever;
      looks = true;
    } else if (state_.pools[timer.key.pool - 1].tick_at == timer.at) {
      look_at_pool(now, timer.key.pool - 1, effects);
    }
  }
  if (looks) effects.push_back(AskWaiting{});
}

// ---- silence

// Nodes stand in the order of their last heartbeat, so only those at the front can be too old, and
// those that are marked silent are the first ones. What is lost now was marked long ago, unless
// there was nobody to look; marks come first, so that nothing of it moves to a node as dead.
void Fleet::check_silence(Time now, Effects& effects) {
  for (std::uint32_t at = oldest_heard(); at != 0; at = state_.nodes.in_slot(at - 1).newer) {
    if (state_.nodes.in_slot(at - 1).seen + silent_after() > now) break;
    state_.silent = at;
    cordon(state_.nodes.id_at(at - 1), &Node::silent, true, effects);
  }
  while (state_.oldest != 0) {
    const Node& node = state_.nodes.in_slot(state_.oldest - 1);
    if (node.seen + config_.heartbeat_timeout > now) break;
    const NodeId id = state_.nodes.id_at(state_.oldest - 1);
    const Duration silent = now - node.seen;
    remove(id);
    effects.push_back(NodeLost{id, silent});
  }
  arm_silence();
}

// Half of what a node is given up after: from then on it takes nothing new, so that what starts on
// a dead one is not tried on its dead neighbours next.
Duration Fleet::silent_after() const { return {config_.heartbeat_timeout.nanos / 2}; }

// The one of those not marked that has been silent longest: slot + 1, or 0.
std::uint32_t Fleet::oldest_heard() const {
  return state_.silent == 0 ? state_.oldest : state_.nodes.in_slot(state_.silent - 1).newer;
}

void Fleet::heard_again(NodeId id, Effects& effects) {
  unmark(SlotTable<NodeId, Node>::slot_of(id));
  cordon(id, &Node::silent, false, effects);
}

// A marked node leaves its place in the list.
void Fleet::unmark(std::uint32_t slot) {
  if (state_.silent == slot + 1) state_.silent = state_.nodes.in_slot(slot).older;
}

// Nothing new goes to a node that is silent, or drains, or both; said only when that changes.
void Fleet::cordon(NodeId id, bool Node::*reason, bool holds, Effects& effects) {
  Node& node = state_.nodes.at(id);
  const bool before = node.silent || node.draining;
  node.*reason = holds;
  const bool after = node.silent || node.draining;
  if (before != after) effects.push_back(CordonNode{id, after});
}

// Control itself was away: silence until now says nothing about the nodes, also about those that
// were bought and could not register.
void Fleet::count_as_heard(Time now, Effects& effects) {
  for (PoolState& pool : state_.pools) {
    for (auto& [number, purchase] : pool.booting) purchase.since = now;
  }
  for (std::uint32_t at = state_.oldest; at != 0; at = state_.nodes.in_slot(at - 1).newer) {
    state_.nodes.in_slot(at - 1).seen = now;
    cordon(state_.nodes.id_at(at - 1), &Node::silent, false, effects);
  }
  state_.silent = 0;
}

// A heartbeat only puts off what is due, so the check that is armed is never too late.
void Fleet::arm_silence() {
  if (state_.oldest == 0 || state_.silence_check != kNever) return;
  state_.silence_check = state_.nodes.in_slot(state_.oldest - 1).seen + config_.heartbeat_timeout;
  if (const std::uint32_t at = oldest_heard(); at != 0) {
    const Time marked = state_.nodes.in_slot(at - 1).seen + silent_after();
    state_.silence_check = std::min(state_.silence_check, marked);
  }
  state_.timers.arm(state_.silence_check, {0});
}

void Fleet::append_newest(std::uint32_t slot) {
  Node& node = state_.nodes.in_slot(slot);
  node.older = state_.newest;
  node.newer = 0;
  if (state_.newest != 0) state_.nodes.in_slot(state_.newest - 1).newer = slot + 1;
  if (state_.oldest == 0) state_.oldest = slot + 1;
  state_.newest = slot + 1;
}

void Fleet::unlink(std::uint32_t slot) {
  const Node& node = state_.nodes.in_slot(slot);
  (node.older != 0 ? state_.nodes.in_slot(node.older - 1).newer : state_.oldest) = node.newer;
  (node.newer != 0 ? state_.nodes.in_slot(node.newer - 1).older : state_.newest) = node.older;
}

void Fleet::leave_zone(PoolState& pool, ZoneId zone) {
  if (--pool.in_zone.at(zone) == 0) pool.in_zone.erase(zone);
}

void Fleet::remove(NodeId id) {
  const Node node = state_.nodes.at(id);
  PoolState& pool = state_.pools[node.pool];
  const std::uint32_t slot = SlotTable<NodeId, Node>::slot_of(id);
  if (node.silent) unmark(slot);
  unlink(slot);
  --pool.nodes;
  if (node.busy) --pool.busy;
  if (node.draining) --pool.draining;
  leave_zone(pool, node.zone);
  pool.idle.erase({node.idle_since, id});
  state_.emptying.erase(id);
  state_.reclaimed.erase(id);
  state_.by_key.erase(node.key);
  state_.nodes.erase(id);
}

void Fleet::give_back(NodeId id, Duration idle, Effects& effects) {
  const Node& node = state_.nodes.at(id);
  const std::uint64_t purchase = node.purchase;
  if (purchase != 0) state_.drained.erase(node.key);  // it does not come back
  remove(id);
  effects.push_back(ReleaseNode{id, purchase, idle});
}

// ---- supply

void Fleet::look_at_pool(Time now, std::uint32_t index, Effects& effects) {
  give_up_overdue(now, index, effects);
  buy(now, index, effects);
  release(now, index, effects);
  PoolState& pool = state_.pools[index];
  pool.tick_at = now + config_.tick;
  state_.timers.arm(pool.tick_at, {index + 1});
}

// The nodes that hold the pending work, by its largest dimension: the volume bound. Each owner
// needs at least one of its own.
std::uint32_t Fleet::nodes_for_pending(const PoolState& pool) const {
  const PendingDemand& pending = pool.pending;
  const NodeShape& shape = pool.policy.shape;
  std::int64_t nodes = pending.count > 0 ? std::max<std::int64_t>(1, pending.owners) : 0;
  const auto cover = [&](std::int64_t asked, std::int64_t each) {
    if (asked > 0 && each > 0) nodes = std::max(nodes, (asked + each - 1) / each);
  };
  cover(pending.cpu_millicores, shape.cpu_millicores);
  cover(pending.memory_bytes, shape.memory_bytes);
  cover(pending.disk_bytes, shape.disk_bytes);
  cover(pending.gpu_millis, std::int64_t{shape.gpus} * 1000);
  cover(pending.count, shape.sandboxes_max);
  cover(pending.gang_millionths, 1'000'000);
  return static_cast<std::uint32_t>(std::min<std::int64_t>(nodes, config_.nodes_max));
}

// What was bought and never came: its machine did not boot, or could not reach us.
void Fleet::give_up_overdue(Time now, std::uint32_t index, Effects& effects) {
  PoolState& pool = state_.pools[index];
  while (!pool.booting.empty()) {
    const auto [purchase, bought] = *pool.booting.begin();
    const Duration waited = now - bought.since;
    if (waited < config_.rules.arrives_within || waited.nanos / 3 < pool.policy.boot.nanos) return;
    lose_purchase(now, index, purchase);
    effects.push_back(CancelPurchase{PoolId{index + 1ULL}, purchase, waited});
  }
}

// A node on its way counts as capacity, so the same pending work is never bought for twice.
void Fleet::buy(Time now, std::uint32_t index, Effects& effects) {
  PoolState& pool = state_.pools[index];
  const PoolPolicy& policy = pool.policy;
  const std::uint32_t needed = nodes_for_pending(pool);
  const std::uint32_t buffer =
      std::max(policy.buffer_nodes, (pool.busy * policy.buffer_permille + 999) / 1000);
  while (true) {
    const auto booting = static_cast<std::uint32_t>(pool.booting.size());
    const std::uint32_t all = pool.nodes + booting;
    const auto free = static_cast<std::uint32_t>(pool.idle.size());
    const bool short_of_work = free + booting < needed + buffer;
    const bool enough = !short_of_work && all - pool.draining >= policy.nodes_min;
    if (may_come(now, pool) == 0 || enough) return;
    order(now, index, {.needed = needed, .buffer = buffer, .free = free, .booting = booting + 1}, effects);
  }
}

// `why` has the reasons. There is a zone to buy in: see may_come.
std::uint64_t Fleet::order(Time now, std::uint32_t index, const BuyNode& why, Effects& effects) {
  PoolState& pool = state_.pools[index];
  const ZoneId zone = *next_zone(now, pool);
  const std::uint64_t purchase = ++state_.purchases;
  pool.booting.emplace(purchase, Purchase{zone, now});
  ++pool.in_zone[zone];
  BuyNode buy = why;
  buy.pool = PoolId{index + 1ULL};
  buy.purchase = purchase;
  buy.zone = zone;
  effects.push_back(buy);
  return purchase;
}

// Longest idle first, one per tick, and never into the buffer or while work waits.
void Fleet::release(Time now, std::uint32_t index, Effects& effects) {
  PoolState& pool = state_.pools[index];
  const PoolPolicy& policy = pool.policy;
  const std::uint32_t buffer =
      std::max(policy.buffer_nodes, (pool.busy * policy.buffer_permille + 999) / 1000);
  if (pool.pending.count != 0 || pool.idle.size() <= buffer ||
      pool.nodes - pool.draining <= policy.nodes_min) {
    return;
  }
  const auto [since, id] = *pool.idle.begin();
  if (since + policy.idle_before_release > now) return;
  give_back(id, now - since, effects);
}

// Of the pool's zones that are not short of nodes the one with the fewest; none: it is sold out. A
// pool may have no zones.
std::optional<ZoneId> Fleet::next_zone(Time now, const PoolState& pool) const {
  const auto is_short = [&](ZoneId zone) {
    const auto found = pool.shortages.find(zone);
    return found != pool.shortages.end() && now < found->second.until;
  };
  if (pool.policy.zones.empty()) return is_short({}) ? std::nullopt : std::optional(ZoneId{});
  std::optional<ZoneId> best;
  std::uint32_t fewest = ~0u;
  for (const ZoneId zone : pool.policy.zones) {
    const auto found = pool.in_zone.find(zone);
    const std::uint32_t count = found == pool.in_zone.end() ? 0 : found->second;
    if (count < fewest && !is_short(zone)) {
      fewest = count;
      best = zone;
    }
  }
  return best;
}

// Nodes that may be bought of it now.
std::uint32_t Fleet::may_come(Time now, const PoolState& pool) const {
  const std::uint32_t all = pool.nodes + static_cast<std::uint32_t>(pool.booting.size());
  if (all >= pool.policy.nodes_max || !next_zone(now, pool)) return 0;
  return pool.policy.nodes_max - all;
}

}  // namespace chalk::fleet
