// Tenancy: who may have how much, who waits for what, and which tenant a node belongs to.
//
// In: tenants with quotas, sandboxes that ask and end, what the scheduler found, nodes that come,
// go and are scrubbed. Out: which sandbox to place next, refusals with rule and numbers, owners of
// nodes. Invariants: nothing new is admitted beyond a quota; what is held is released once on
// every path; a node is never usable by two owner keys without a scrub between.
//
// A gang (gathering.cc) stands in line as one, for the sum of its members, once all of them have
// asked; the last that came speaks for it. Until then they count as in use and wait for nothing.
//
// Order of what waits (Config::order):
//  - fair: who asks within a guarantee goes first, of its own before one of its family; then the
//    tenant whose largest share of any resource, divided by its weight, is least (dominant resource
//    fairness, Ghodsi et al., NSDI 2011, in integers), at each level of the tree of tenants. An
//    idle guarantee is lent to whoever asks. When its owner asks and finds no room it is reclaimed
//    from what comes next: nothing that runs is stopped, but while a tenant waits for what is
//    within its own guarantee nobody gets more beyond one.
//    A node is lent as a whole and comes back when all that runs there has ended. So where tenants
//    own nodes a first one is kept for each guarantee (Config::keep_first_node, keeping.cc).
//  - first_come: in the order of asking. quotas: the same, and nobody gets more than its guarantee;
//    but what was admitted under a larger one, and is more than all of this, goes alone.
// Within a tenant by priority, then first come, first served; a priority says nothing to other
// tenants, whose order it does not touch. A round stops after `tries_per_event` failures; what
// failed is set aside until all have been tried, so every waiting tenant's head is tried within
// 2 x tenants / tries_per_event rounds. A round that stopped at its failures goes on `round_pause`
// later, until all have been tried that were in line when capacity was last freed. A large ask that
// has waited `bypass_max` is passed no more by tenants whose share is as large: on nodes that could
// hold it, when empty, nothing of theirs is placed, so what ends there gathers until it fits. The
// same holds for who would borrow while others wait for what is within their guarantee.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/fifo.h"
#include "model/core/machine.h"
#include "model/core/resources.h"
#include "model/core/slot_map.h"
#include "model/core/timers.h"
#include "model/protocol/protocol.h"

namespace chalk::tenancy {

// The owner key of all tenants that allow sharing nodes with each other.
inline constexpr TenantId kSharedOwner{~0ULL};
// In State::timers: that a round goes on. No node has this id, as none has 0 (when one may claim).
inline constexpr NodeId kRoundTimer{~0ULL};

// A tree of tenants may be so deep; the root is above the first level.
inline constexpr std::uint32_t kDepthMax = 8;

inline constexpr std::uint32_t kAnyNumber = ~0u;

enum class Order : std::uint8_t { fair, first_come, quotas };

struct Config {
  std::uint32_t tenants_max = 1'000'000;
  std::uint32_t pending_max = 1'000'000;  // without a node, each of a gang too
  std::uint32_t pending_per_tenant_max = 100'000;
  std::uint32_t tries_per_event = 8;
  Duration round_pause = milliseconds(10);
  Duration scrub_timeout = seconds(300);  // a scrub that does not finish is ordered again
  Duration owner_linger = seconds(60);    // how long an emptied node stays with its owner
  bool separate_tenants = true;           // false: everybody shares, no scrubs
  Duration bypass_max = seconds(300);     // what has waited so long is no longer passed by
  Order order = Order::fair;
  bool keep_first_node = true;  // fair, separate tenants: for each that has a guarantee and no node
  CHALK_FIELDS(Config, tenants_max, pending_max, pending_per_tenant_max, tries_per_event,
               round_pause, scrub_timeout, owner_linger, separate_tenants, bypass_max, order,
               keep_first_node)
};

struct Amounts {  // in use, or a limit; as a limit 0 means none
  std::int64_t cpu_millicores = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t gpu_millis = 0;
  std::int64_t sandboxes = 0;
  void add(const Amounts& more, std::int64_t sign) {
    cpu_millicores += sign * more.cpu_millicores;
    memory_bytes += sign * more.memory_bytes;
    gpu_millis += sign * more.gpu_millis;
    sandboxes += sign * more.sandboxes;
  }
  CHALK_FIELDS(Amounts, cpu_millicores, memory_bytes, gpu_millis, sandboxes)
};
Amounts amounts_of(const Resources& resources);  // one sandbox

// ---- events
struct TenantAdded {
  TenantId tenant;
  Amounts quota;
  std::uint32_t weight = 1;
  bool shares = false;
  PoolId dedicated_pool;
  // Its family: known before, without work of its own; the family's quota, guarantee and weight
  // are those of all its tenants together. 0, or one that cannot be a family: none.
  TenantId parent = {};
  // What it gets before others borrow; a dimension that is 0 here, or in an ask, is not looked at.
  Amounts guarantee = {};
  CHALK_FIELDS(TenantAdded, tenant, quota, weight, shares, dedicated_pool, parent, guarantee)
};
struct SandboxAsked {
  SandboxId sandbox;
  TenantId tenant;
  Resources resources;
  PoolId pool;  // where it must go; 0: any that is not reserved
  Priority priority = 0;
  Gang gang = {};
  PoolId grows = {};  // which is bought more of while it waits; 0: none
  bool again = false;  // it was admitted before, and is not refused now
  CHALK_FIELDS(SandboxAsked, sandbox, tenant, resources, pool, priority, gang, grows, again)
};
struct SandboxPlaced {
  SandboxId sandbox;
  NodeId node;
  bool claims = false;
  CHALK_FIELDS(SandboxPlaced, sandbox, node, claims)
};
struct NotPlaced {  // the answer to TryPlace when there is no room
  SandboxId sandbox;
  CHALK_FIELDS(NotPlaced, sandbox)
};
struct SandboxNominated {  // the other answer: room is being made for it, SandboxPlaced follows
  SandboxId sandbox;
  CHALK_FIELDS(SandboxNominated, sandbox)
};
struct NominationLost {  // the room that was being made is none: it waits as before
  SandboxId sandbox;
  CHALK_FIELDS(NominationLost, sandbox)
};
struct GrowsElsewhere {  // more of another pool is bought while it waits
  SandboxId sandbox;
  PoolId pool;
  CHALK_FIELDS(GrowsElsewhere, sandbox, pool)
};
struct SandboxEnded {
  SandboxId sandbox;
  CHALK_FIELDS(SandboxEnded, sandbox)
};
struct SandboxCancelled {
  SandboxId sandbox;
  CHALK_FIELDS(SandboxCancelled, sandbox)
};
struct NodeJoined {
  NodeId node;
  NodeShape shape;
  TenantId owner;  // of a dedicated pool; 0: free
  bool reserved = false;  // only asks that name its pool may use it
  PoolId pool = {};
  CHALK_FIELDS(NodeJoined, node, shape, owner, reserved, pool)
};
struct NodeGone {
  NodeId node;
  CHALK_FIELDS(NodeGone, node)
};
struct NodeScrubbed {
  NodeId node;
  CHALK_FIELDS(NodeScrubbed, node)
};
struct NodeCordoned {  // takes nothing new from now on, or does again
  NodeId node;
  bool cordoned = false;
  CHALK_FIELDS(NodeCordoned, node, cordoned)
};
struct CapacityFreed {  // something ended or joined: a round of attempts begins
  bool goes_on = false;  // nothing did: the last one goes on (RoundDue)
  CHALK_FIELDS(CapacityFreed, goes_on)
};
struct NextAttempt {  // given again and again while round_open()
  CHALK_FIELDS(NextAttempt)
};
using Event = std::variant<TenantAdded, SandboxAsked, SandboxPlaced, NotPlaced, SandboxEnded,
                           SandboxCancelled, NodeJoined, NodeGone, NodeScrubbed, CapacityFreed,
                           NextAttempt, Woken, SandboxNominated, NominationLost, NodeCordoned,
                           GrowsElsewhere>;

// ---- effects
// Answered by SandboxPlaced, NotPlaced or SandboxNominated before anything else happens. Of one
// that speaks for a gang: by SandboxPlaced for each member, by NotPlaced for it, or by cancelling.
struct TryPlace {
  SandboxId sandbox;
  TenantId owner_key;
  bool own_only = false;  // on nodes that the owner has: those that are free are kept for others
  std::vector<Wish> spare = {};  // on no node that could hold any of these when it is empty
  std::uint32_t claims_max = kAnyNumber;  // free nodes that it may claim, of a gang all together
  CHALK_FIELDS(TryPlace, sandbox, owner_key, own_only, spare, claims_max)
};
enum class Rule : std::uint8_t {
  unknown_tenant,
  quota_cpu,
  quota_memory,
  quota_gpu,
  quota_sandboxes,
  pending_limit,
  pending_limit_of_tenant,
  gang_never_fits  // said by the root: of its members at once, and how many the pools could hold
};
const char* rule_name(Rule rule);
struct RefuseSandbox {
  SandboxId sandbox;
  Rule rule{};
  std::int64_t needed = 0;
  std::int64_t in_use = 0;
  std::int64_t limit = 0;
  CHALK_FIELDS(RefuseSandbox, sandbox, rule, needed, in_use, limit)
};
struct SetOwner {
  NodeId node;
  TenantId owner;
  bool usable = true;
  CHALK_FIELDS(SetOwner, node, owner, usable)
};
struct ScrubNode {
  NodeId node;
  CHALK_FIELDS(ScrubNode, node)
};
// CapacityFreed, though nothing was: what waits may claim a node now, has not been tried yet, or was
// held off by what stands in its way no more. Obeyed once all else has been.
struct RoundDue {
  bool goes_on = false;
  CHALK_FIELDS(RoundDue, goes_on)
};
using Effect = std::variant<TryPlace, RefuseSandbox, SetOwner, ScrubNode, RoundDue, WakeAt>;

// ---- state
enum class Phase : std::uint8_t { waiting, trying, placed, nominated, gathering };
struct Held {  // every sandbox between asked and ended
  TenantId tenant;
  Resources resources;
  PoolId pool;   // where it must go
  PoolId grows;  // which is bought more of
  NodeId node;
  Phase phase = Phase::waiting;
  std::uint64_t ticket = 0;  // place in the tenant's line
  Time since;                // asked
  Priority priority = 0;
  Gang gang = {};
  CHALK_FIELDS(Held, tenant, resources, pool, grows, node, phase, ticket, since, priority, gang)
};
// How many are placed with it at once.
inline std::uint32_t members_of(const Held& held) { return held.gang ? held.gang.size : 1; }
struct Gathering {  // members of a gang that are not placed
  std::set<SandboxId> members;
  Amounts amounts;    // of all of them
  SandboxId speaker;  // in line for all; 0: not all have asked
  CHALK_FIELDS(Gathering, members, amounts, speaker)
};
struct Turn {  // in a tenant's own line: of the highest priority first
  Priority priority = 0;
  std::uint64_t ticket = 0;
  bool operator<(const Turn& other) const {
    return priority != other.priority ? priority > other.priority : ticket < other.ticket;
  }
  CHALK_FIELDS(Turn, priority, ticket)
};
struct PriorityCount {  // sandboxes that are placed
  Priority priority = 0;
  std::uint32_t sandboxes = 0;
  CHALK_FIELDS(PriorityCount, priority, sandboxes)
};
enum Rank : std::uint32_t { kOwnGuarantee, kFamilyGuarantee, kBorrowing };
struct Place {  // in a line; the least is served next
  std::uint32_t rank = 0;
  std::uint64_t share = 0;  // dominant, by weight; where the order is of coming its head's ticket
  TenantId tenant;          // 0: not in a line
  auto operator<=>(const Place&) const = default;
  CHALK_FIELDS(Place, rank, share, tenant)
};
struct Tenant {
  Amounts quota;
  Amounts guarantee;
  Amounts in_use;  // asked and not ended: waiting ones count; of a family, of all its tenants
  Amounts placed;  // likewise
  Amounts nominated;  // of its own: room is being made for it
  std::uint32_t weight = 1;
  bool shares = false;
  TenantId parent;
  std::uint32_t children = 0;
  std::map<Turn, SandboxId> waiting;
  std::set<Place> line;                        // of its children with something waiting
  std::uint64_t share = 0;                     // of what is placed: dominant, by weight
  Place place;                                 // where it stands in its family's line
  bool aside = false;                          // its head was tried and failed, see State::aside
  bool reclaims = false;  // its head waits and is within its own guarantee
  std::vector<PriorityCount> by_priority;  // of what is placed, ascending; no counts of 0
  bool dedicated = false;   // it has a pool of its own
  bool keeps = false;       // a first node is kept for it
  std::uint32_t nodes = 0;  // that it owns, of those that any tenant may claim, cordoned ones not
  Time last_placed;
  CHALK_FIELDS(Tenant, quota, guarantee, in_use, placed, nominated, weight, shares, parent,
               children, waiting, line, share, place, aside, reclaims, by_priority, dedicated,
               keeps, nodes, last_placed)
};
enum class NodePhase : std::uint8_t { free, owned, lingering, scrubbing };
struct Node {
  NodePhase phase = NodePhase::free;
  TenantId owner;
  bool dedicated = false;
  bool common = false;  // any tenant may claim it when it is free
  bool cordoned = false;
  std::uint32_t sandboxes = 0;
  Time deadline = kNever;  // lingering: scrub then; scrubbing: order it again then
  NodeShape shape;
  PoolId pool;
  SandboxId scrubs_for;  // scrubbing: which waits for it, if any; of a gang, while it is free too
  CHALK_FIELDS(Node, phase, owner, dedicated, common, cordoned, sandboxes, deadline, shape, pool,
               scrubs_for)
};
// No room for this in the present round, so none for as much or more; nor did it find others that
// would make way, and of its tenant's nothing that is as important or less finds any.
struct Failure {
  TenantId owner;
  PoolId pool;
  Resources resources;
  TenantId tenant;
  Priority priority = 0;
  bool own_only = false;         // says nothing of what may claim a node
  std::vector<Wish> spare = {};  // nor, where there is any, of what spares other nodes
  CHALK_FIELDS(Failure, owner, pool, resources, tenant, priority, own_only, spare)
};
struct Aside {
  std::uint64_t round = 0;
  TenantId tenant;
  CHALK_FIELDS(Aside, round, tenant)
};
struct Round {
  bool open = false;
  std::uint32_t failures = 0;
  std::vector<Failure> failed;
  CHALK_FIELDS(Round, open, failures, failed)
};
struct Keeping {  // keeping.cc
  std::uint32_t nodes = 0;    // common ones, cordoned ones not
  std::uint32_t free = 0;     // of them
  std::uint32_t shared = 0;   // of them, of kSharedOwner
  std::uint32_t tenants = 0;  // for which a first node is kept
  std::uint32_t without = 0;  // of them, that own none
  CHALK_FIELDS(Keeping, nodes, free, shared, tenants, without)
};
struct State {
  std::map<TenantId, Tenant> tenants;
  SlotMap<SandboxId, Held> held;
  SlotMap<NodeId, Node> nodes;
  std::set<Place> line;                         // of those without a family, and of families
  Fifo<Aside> aside;                            // tried and failed, in the order of trying
  std::set<std::pair<Time, NodeId>> lingering;  // by deadline
  std::set<std::pair<SandboxId, NodeId>> scrubs;  // by Node::scrubs_for
  std::map<GangKey, Gathering> gangs;
  Amounts capacity;                             // of all nodes
  Amounts shares_of;  // the same a while ago: all shares are parts of this, see count_capacity
  std::vector<SandboxId> aged;  // have waited longer than bypass_max, the first that was found first
  std::uint64_t pending_count = 0;  // in line; one for a gang
  std::uint64_t unplaced = 0;       // all that are held and have no node
  std::uint64_t next_ticket = 1;
  Round round;
  std::uint64_t rounds = 0;
  std::set<TenantId> reclaimers;              // tenants with `reclaims`
  Keeping keeping;
  Time claims_at = kNever;  // when the first that may claim no node now may
  Time round_at = kNever;   // when the round that stopped at its failures goes on
  Timers<NodeId> timers;
  Time wake = kNever;
  CHALK_FIELDS(State, tenants, held, nodes, line, lingering, scrubs, gangs, capacity, shares_of,
               aged, pending_count, unplaced, next_ticket, round, rounds, reclaimers, aside,
               keeping, claims_at, round_at, timers, wake)
};

class Tenancy {
 public:
  using Config = tenancy::Config;
  using Event = tenancy::Event;
  using Effect = tenancy::Effect;
  using State = tenancy::State;
  using Effects = std::vector<Effect>;

  explicit Tenancy(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  const Config& config() const { return config_; }
  TenantId owner_key(TenantId tenant) const;
  std::uint64_t pending_count() const { return state_.pending_count; }
  bool round_open() const { return state_.round.open; }
  Amounts in_use(TenantId tenant) const;
  // The members of a gang that are not placed, or nothing.
  const Gathering* gathering(TenantId tenant, const Gang& gang) const;
  // Whether the tenant has anything placed that is less important.
  bool has_placed_below(TenantId tenant, Priority priority) const;
  // What would be tried for it now.
  TryPlace attempt(Time, SandboxId, const Held&) const;
  TryPlace attempt(Time, SandboxId, const Held&, std::vector<Wish> spare) const;
  void has_failed(Time, const TryPlace&, const Held&);

 private:
  void on(Time, const TenantAdded&, Effects&);
  void on(Time, const SandboxAsked&, Effects&);
  void on(Time, const SandboxPlaced&, Effects&);
  void on(Time, const NotPlaced&, Effects&);
  void on(Time, const SandboxEnded&, Effects&);
  void on(Time, const SandboxCancelled&, Effects&);
  void on(Time, const NodeJoined&, Effects&);
  void on(Time, const NodeGone&, Effects&);
  void on(Time, const NodeScrubbed&, Effects&);
  void on(Time, const CapacityFreed&, Effects&);
  void on(Time, const NextAttempt&, Effects&);
  void on(Time, const Woken&, Effects&);
  void on(Time, const SandboxNominated&, Effects&);
  void on(Time, const NominationLost&, Effects&);
  void on(Time, const GrowsElsewhere&, Effects&);
  void on(Time, const NodeCordoned&, Effects&);

  bool refuse_by_quota(const SandboxAsked&, Effects&) const;
  void join_family(TenantId, Tenant&, TenantId parent);
  void count_in_use(const Held&, int sign);
  // gathering.cc
  bool gather(SandboxId, const Held&);
  void leave_gathering(SandboxId, Held&);
  Amounts wish_of(const Held&) const;
  Resources size_of(const Held&) const;
  void release(Time, SandboxId, Effects&);
  void leave_node(Time, NodeId, Effects&);
  void scrub(Time, NodeId, Node&, Effects&);
  void scrub_for(Time, SandboxId, const Held&, const TryPlace&, Effects&);
  bool scrubs_enough_for(SandboxId, const Held&) const;
  void settle_scrub(NodeId, Node&);
  // What waits; waiting.cc.
  void wait(SandboxId, Held&);
  void stop_waiting(SandboxId, Held&);
  void count_placed(const Held&, int sign);
  void count_nominated(const Held&, int sign);
  static void count_priority(Tenant&, Priority, int sign);
  void count_capacity(const NodeShape&, int sign);
  void set_share(Tenant&);
  Rank rank_of(const Tenant&, const Amounts& ask) const;
  Place place_of(TenantId, const Tenant&) const;
  std::set<Place>& line_of(const Tenant&);
  void relist(TenantId);
  TenantId next_in_line(const std::set<Place>&) const;
  void set_aside(TenantId);
  bool bring_back(bool all);
  void set_reclaim(TenantId, Tenant&);
  bool fails_too(const TryPlace&, const Held&) const;
  bool passes_nothing(SandboxId, const Held&) const;
  std::size_t in_the_way() const;
  std::optional<std::vector<Wish>> spared(SandboxId, const Held&) const;
  void add_wish(SandboxId, PoolId, std::vector<Wish>&) const;
  void age(SandboxId, const Held&);
  void settle_aged(SandboxId);
  // keeping.cc
  std::uint32_t claims_max(Time, const Held&) const;
  void keep(Tenant&);
  bool may_claim_anew(TenantId owner) const;
  Time claims_from(const Tenant&, const Held&) const;
  void wait_to_claim(const Held&);
  void count_node(const Node&, TenantId owner, int sign);
  void count_keeping(const Tenant&, int sign);
  void count_common(const Node&, int sign);

  Config config_;
  State state_;
};
static_assert(Machine<Tenancy>);

}  // namespace chalk::tenancy
