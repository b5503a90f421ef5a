// Fleet: which nodes exist, which of them are alive, which are bought and given back.
//
// In: pools, registrations, heartbeats, what is pending, which nodes are busy. Out: welcomes, joins
// and losses for the other machines, purchases and releases for the supplier.
// Invariants: nodes and purchases of a pool never exceed nodes_max; a node is declared lost once,
// and never before heartbeat_timeout has passed in silence while control was there to hear; after
// half of that it takes nothing new until it is heard; a busy node is never released; no node that
// holds what may not move is emptied, unless it is taken away from us (ReclaimNoticed); those that
// are emptied, and the sandboxes on them, never exceed the bounds of Rules; a purchase that neither
// fails nor registers is given up in time; nothing is bought where a purchase has just failed.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/core/resources.h"
#include "model/core/slot_table.h"
#include "model/core/timers.h"
#include "model/fleet/consolidation.h"
#include "model/fleet/growth.h"
#include "model/fleet/packing.h"
#include "model/fleet/policy.h"
#include "model/protocol/protocol.h"

namespace chalk::fleet {

struct Config {
  std::uint32_t nodes_max = 200'000;
  Duration heartbeat_timeout = seconds(40);
  Duration tick = seconds(10);  // between two looks at an elastic pool, with Policy::idle
  Rules rules = {};
  CHALK_FIELDS(Config, nodes_max, heartbeat_timeout, tick, rules)
};

struct PoolPolicy {
  NodeShape shape;
  std::vector<ZoneId> zones;
  std::uint32_t nodes_min = 0;
  std::uint32_t nodes_max = 0;
  bool elastic = false;
  std::uint32_t buffer_nodes = 0;     // free nodes kept for what comes next
  std::uint32_t buffer_permille = 0;  // the same, of the busy nodes
  Duration idle_before_release = seconds(600);
  std::int64_t price_micros = 0;   // of a node and hour, in millionths of any currency
  Duration boot = seconds(120);    // how long a node takes from purchase to registration, about
  bool reserved = false;           // only for asks that name it
  CHALK_FIELDS(PoolPolicy, shape, zones, nodes_min, nodes_max, elastic, buffer_nodes,
               buffer_permille, idle_before_release, price_micros, boot, reserved)
};

// ---- events
struct PoolAdded {
  PoolId pool;  // dense, from 1
  PoolPolicy policy;
  CHALK_FIELDS(PoolAdded, pool, policy)
};
struct NodeRegistered {
  NodeRegistration registration;
  CHALK_FIELDS(NodeRegistered, registration)
};
struct HeartbeatSeen {
  NodeId node;
  CHALK_FIELDS(HeartbeatSeen, node)
};
struct PendingDemand {  // all that waits for a node of this pool
  PoolId pool;
  std::int64_t count = 0;
  std::int64_t cpu_millicores = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::int64_t gpu_millis = 0;
  std::int64_t owners = 0;  // distinct owner keys: each needs a node of its own
  // Of a node, in millionths, that members of gangs take: all of a gang start at once, and what is
  // left of each node holds no part of a member, so their volume alone would buy too little.
  std::int64_t gang_millionths = 0;
  CHALK_FIELDS(PendingDemand, pool, count, cpu_millicores, memory_bytes, disk_bytes, gpu_millis,
               owners, gang_millionths)
};
struct NodeBusy {
  NodeId node;
  CHALK_FIELDS(NodeBusy, node)
};
struct NodeIdle {
  NodeId node;
  CHALK_FIELDS(NodeIdle, node)
};
struct DrainAsked {
  NodeId node;
  // It is drained again whenever it joins, until that is taken back; otherwise until it is lost or
  // boots anew. Bought machines are given back once they are empty.
  bool lasts = false;
  CHALK_FIELDS(DrainAsked, node, lasts)
};
struct UndrainAsked {  // by its key, since it may be away
  std::uint64_t key = 0;
  CHALK_FIELDS(UndrainAsked, key)
};
// Control was not there for a while: silence until now says nothing about the nodes.
struct Resumed {
  CHALK_FIELDS(Resumed)
};
struct PurchaseFailed {
  std::uint64_t purchase = 0;
  CHALK_FIELDS(PurchaseFailed, purchase)
};
struct WaitingSeen {  // the answer to AskWaiting
  std::vector<Waiting> waiting;
  // Of each pool, how much of its nodes is taken, in thousandths of a node; a node that no other
  // owner may use, or on which hardly anything fits, is taken as a whole. What is being moved counts
  // too, except where its owner's other nodes hold it; what an operator drains does not.
  std::vector<std::uint32_t> used_permille;
  // Of it, what leaves nodes by our own choice, since it was seen to fit elsewhere.
  std::vector<std::uint32_t> moving_permille;
  std::vector<Running> running;  // also what is being moved
  CHALK_FIELDS(WaitingSeen, waiting, used_permille, moving_permille, running)
};
struct RemovalsFound {  // the answer to AskRemovals
  std::vector<Removal> removals;
  CHALK_FIELDS(RemovalsFound, removals)
};
// Its supplier takes the node away at that time; what still runs there then is lost.
struct ReclaimNoticed {
  NodeId node;
  Time at;
  CHALK_FIELDS(ReclaimNoticed, node, at)
};
using Event = std::variant<PoolAdded, NodeRegistered, HeartbeatSeen, PendingDemand, NodeBusy,
                           NodeIdle, DrainAsked, PurchaseFailed, Resumed, Woken, WaitingSeen,
                           RemovalsFound, ReclaimNoticed, UndrainAsked>;

// ---- effects
struct WelcomeNode {
  std::uint64_t key = 0;
  std::uint64_t incarnation = 0;
  NodeId node;
  CHALK_FIELDS(WelcomeNode, key, incarnation, node)
};
struct NodeJoined {
  NodeId node;
  NodeRegistration registration;
  bool cordoned = false;
  CHALK_FIELDS(NodeJoined, node, registration, cordoned)
};
struct NodeLost {
  NodeId node;
  Duration silent;  // 0: it came back by itself, as a new boot
  CHALK_FIELDS(NodeLost, node, silent)
};
struct BuyNode {
  PoolId pool = {};
  std::uint64_t purchase = 0;
  ZoneId zone = {};
  std::uint32_t needed = 0;   // nodes that the pending work asks for
  std::uint32_t buffer = 0;   // and the buffer
  std::uint32_t free = 0;     // of which so many are idle
  std::uint32_t booting = 0;  // or on their way, with this one
  // newsvendor, in thousandths of a node: the room that is kept, and what was free at the pool's
  // last look, with what is bought for what waits.
  std::uint32_t room_kept = 0;
  std::int64_t room_free = 0;
  CHALK_FIELDS(BuyNode, pool, purchase, zone, needed, buffer, free, booting, room_kept, room_free)
};
// Nothing registered for it in all that time. A node that does all the same is taken.
struct CancelPurchase {
  PoolId pool;
  std::uint64_t purchase = 0;
  Duration waited;
  CHALK_FIELDS(CancelPurchase, pool, purchase, waited)
};
struct ReleaseNode {
  NodeId node;
  std::uint64_t purchase = 0;
  Duration idle;
  CHALK_FIELDS(ReleaseNode, node, purchase, idle)
};
struct CordonNode {
  NodeId node;
  bool cordoned = false;
  CHALK_FIELDS(CordonNode, node, cordoned)
};
// What waits, by kinds? Answered at once.
struct AskWaiting {
  CHALK_FIELDS(AskWaiting)
};
// Which of these nodes can the fleet do without? Answered at once.
struct AskRemovals {
  std::vector<NodeId> nodes;
  std::vector<Supply> pools;
  Budget budget;
  CHALK_FIELDS(AskRemovals, nodes, pools, budget)
};
// Move what may move off the node; it is cordoned.
struct EmptyNode {
  NodeId node;
  CHALK_FIELDS(EmptyNode, node)
};
using Effect = std::variant<WelcomeNode, NodeJoined, NodeLost, BuyNode, ReleaseNode, CordonNode,
                            WakeAt, AskWaiting, AskRemovals, EmptyNode, CancelPurchase>;

// ---- state
struct Node {
  std::uint64_t incarnation = 0;
  Time seen;
  std::uint32_t older = 0;  // slot + 1 in order of last heartbeat
  std::uint32_t newer = 0;
  std::uint32_t pool = 0;  // index
  bool busy = false;
  bool draining = false;
  bool silent = false;  // for half of heartbeat_timeout
  Time idle_since;
  std::uint64_t key = 0;
  std::uint64_t purchase = 0;
  ZoneId zone;
  Time not_before;                 // it does not go before
  Time unneeded_since = kNever;    // without a break
  Time empty_by = kNever;          // being emptied: until then, or it is used again
  std::uint32_t moving = 0;        // being emptied: sandboxes that were on it
  std::uint64_t replacement = 0;   // a purchase on its way that takes its place
  Time reclaimed_at = kNever;
  CHALK_FIELDS(Node, incarnation, seen, older, newer, pool, busy, draining, silent, idle_since, key,
               purchase, zone, not_before, unneeded_since, empty_by, moving, replacement,
               reclaimed_at)
};
struct Purchase {  // that has not registered
  ZoneId zone;
  Time since;
  CHALK_FIELDS(Purchase, zone, since)
};
struct Shortage {  // of a pool's nodes in one zone, as its failed purchases say
  Time until;      // nothing is bought there before
  std::uint32_t failures = 0;  // in a row
  CHALK_FIELDS(Shortage, until, failures)
};
struct PoolState {
  PoolPolicy policy;
  bool known = false;
  std::uint32_t nodes = 0;  // registered
  std::uint32_t busy = 0;
  std::uint32_t draining = 0;
  std::map<std::uint64_t, Purchase> booting;  // by number, so the oldest first
  std::map<ZoneId, std::uint32_t> in_zone;    // registered and booting
  std::map<ZoneId, Shortage> shortages;
  std::set<std::pair<Time, NodeId>> idle;   // elastic pools: since when, not draining
  PendingDemand pending;
  Time tick_at = kNever;
  Growth growth;
  std::uint32_t buffer = 0;   // free nodes that the pool's policy keeps
  Room room;                  // newsvendor: free room, of busy nodes too, worth its price
  std::int64_t free = 0;      // newsvendor: free room at the last look, as if nothing were moving
  std::uint32_t surplus = 0;  // newsvendor: free room beyond what is kept, without what boots
  CHALK_FIELDS(PoolState, policy, known, nodes, busy, draining, booting, in_zone, shortages, idle,
               pending, tick_at, growth, buffer, room, free, surplus)
};
inline constexpr std::uint32_t kScanTimer = 0xFFFFFFFF;
inline constexpr std::uint32_t kBatchTimer = 0xFFFFFFFE;
struct TimerKey {
  // Index + 1; 0: look at the node that has been silent longest; or one of the two above.
  std::uint32_t pool = 0;
  CHALK_FIELDS(TimerKey, pool)
};
struct State {
  SlotTable<NodeId, Node> nodes;
  std::map<std::uint64_t, NodeId> by_key;
  std::set<std::uint64_t> drained;  // keys of nodes, here or away: see DrainAsked::lasts
  std::vector<PoolState> pools;
  std::uint32_t oldest = 0;  // slot + 1
  std::uint32_t newest = 0;
  std::uint32_t silent = 0;  // the newest of those marked silent, which are the oldest of all
  Time silence_check = kNever;
  std::uint64_t purchases = 0, purchases_failed = 0;
  Timers<TimerKey> timers;
  Time wake = kNever;
  // The rest is of the policies beside `idle`.
  Time scan_at = kNever;
  bool scanned = false;  // and the look of that scan is not answered yet
  Time batch_at = kNever;
  Time batch_since = kNever;
  Time last_purchase = kNever;
  std::map<std::uint64_t, NodeId> replaces;  // purchases, and whose place they take
  std::set<NodeId> emptying;                 // by our own choice
  std::set<NodeId> reclaimed;                // noticed, and not yet being emptied
  std::uint64_t nodes_emptied = 0, nodes_reclaimed = 0;  // so far
  CHALK_FIELDS(State, nodes, by_key, drained, pools, oldest, newest, silent, silence_check, purchases,
               purchases_failed, timers, wake, scan_at, scanned, batch_at, batch_since, last_purchase, replaces,
               emptying, reclaimed, nodes_emptied, nodes_reclaimed)
};

class Fleet {
 public:
  using Config = fleet::Config;
  using Event = fleet::Event;
  using Effect = fleet::Effect;
  using State = fleet::State;
  using Effects = std::vector<Effect>;

  explicit Fleet(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  const Config& config() const { return config_; }
  // By pool. Nothing can be had of those that are not elastic, or sold out.
  std::vector<Offer> offers(Time now) const;
  // Whether purchases failed in all zones of the pool, and none is made for a while.
  bool sold_out(Time now, PoolId pool) const {
    return pool && pool.value <= state_.pools.size() && !next_zone(now, state_.pools[pool.value - 1]);
  }
  // Whether messages of that boot of the node count.
  bool known(NodeId node, std::uint64_t incarnation) const {
    const Node* found = state_.nodes.find(node);
    return found != nullptr && found->incarnation == incarnation;
  }

 private:
  void on(Time, const PoolAdded&, Effects&);
  void on(Time, const NodeRegistered&, Effects&);
  void on(Time, const HeartbeatSeen&, Effects&);
  void on(Time, const PendingDemand&, Effects&);
  void on(Time, const NodeBusy&, Effects&);
  void on(Time, const NodeIdle&, Effects&);
  void on(Time, const DrainAsked&, Effects&);
  void on(Time, const UndrainAsked&, Effects&);
  void on(Time, const PurchaseFailed&, Effects&);
  void on(Time, const Resumed&, Effects&);
  void on(Time, const Woken&, Effects&);
  void on(Time, const WaitingSeen&, Effects&);
  void on(Time, const RemovalsFound&, Effects&);
  void on(Time, const ReclaimNoticed&, Effects&);

  void append_newest(std::uint32_t slot);
  void unlink(std::uint32_t slot);
  void leave_zone(PoolState&, ZoneId);
  void remove(NodeId id);
  void give_back(NodeId id, Duration idle, Effects&);
  void check_silence(Time, Effects&);
  Duration silent_after() const;
  std::uint32_t oldest_heard() const;
  void heard_again(NodeId id, Effects&);
  void unmark(std::uint32_t slot);
  void cordon(NodeId id, bool Node::*reason, bool holds, Effects&);
  void count_as_heard(Time, Effects&);
  void arm_silence();
  void look_at_pool(Time, std::uint32_t index, Effects&);
  void buy(Time, std::uint32_t index, Effects&);
  void release(Time, std::uint32_t index, Effects&);
  std::uint32_t nodes_for_pending(const PoolState&) const;
  std::optional<ZoneId> next_zone(Time, const PoolState&) const;
  std::uint32_t may_come(Time, const PoolState&) const;
  std::uint64_t order(Time, std::uint32_t index, const BuyNode& why, Effects&);
  void lose_purchase(Time, std::uint32_t index, std::uint64_t purchase);
  void give_up_overdue(Time, std::uint32_t index, Effects&);

  // planned.cc: the policies beside `idle`
  bool planned() const { return config_.rules.policy != Policy::idle; }
  void scan(Time, Effects&);
  void work_waits(Time);
  std::uint64_t purchase(Time, std::uint32_t index, std::uint32_t needed, Effects&);
  std::uint32_t missing(PoolState&, const Need&, std::uint32_t used, std::uint32_t moving,
                        bool at_scan);
  std::uint32_t above_least(const PoolState&) const;
  std::uint32_t spare(const PoolState&) const;
  std::uint32_t spare_in_use(const PoolState&) const;
  void release_idle(Time, std::uint32_t index, Effects&);
  void ask_removals(Time, const std::vector<Offer>&, const AllThatRuns&, Effects&) const;
  Budget budget_left() const;
  void empty(Time, NodeId, std::uint32_t sandboxes, Effects&);
  void stop_emptying(Time, Effects&);
  void make_room(Time, NodeId, Effects&);
  void replacement_joined(Time, NodeId joined, Effects&);

  Config config_;
  State state_;
};
static_assert(Machine<Fleet>);

}  // namespace chalk::fleet
