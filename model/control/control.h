// The root of the control plane: routes events and effects between the machines that decide.
//
// In: requests, registrations, envelopes of nodes and gateways, waking. Out: replies, envelopes,
// purchases of nodes. It owns the machines; the effects of one become events of another in a fixed,
// depth-first order inside one step, and none of them knows the others.
// Invariant: an order leaves only for a node whose registration is current (fleet says which).
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "model/autoscaler/autoscaler.h"
#include "model/core/machine.h"
#include "model/fleet/fleet.h"
#include "model/images/catalogue.h"
#include "model/images/distribution.h"
#include "model/images/snapshots.h"
#include "model/protocol/protocol.h"
#include "model/sandbox/sandbox.h"
#include "model/scheduler/preemption.h"
#include "model/scheduler/scheduler.h"
#include "model/tenancy/tenancy.h"

namespace chalk::control {

// What found no room and is more important than others of its tenant, see preemption.cc.
struct PreemptionConfig {
  bool enabled = true;
  Duration grace = seconds(30);  // of a victim, between asking its workload to end and killing it
  CHALK_FIELDS(PreemptionConfig, enabled, grace)
};

// Room in pieces is put together by moving what may move, see defragmentation.cc.
struct DefragmentationConfig {
  bool enabled = false;
  Duration every = seconds(10);  // one decision at most
  std::uint32_t moves_max = 4;   // sandboxes, for one that waits
  CHALK_FIELDS(DefragmentationConfig, enabled, every, moves_max)
};

struct Config {
  sandbox::Config sandbox;
  scheduler::Config scheduler;
  tenancy::Config tenancy;
  fleet::Config fleet;
  autoscaler::Config autoscaler;
  images::CatalogueConfig catalogue;
  std::uint32_t groups_max = 1'000'000;
  std::uint32_t gateways_max = 1'000;
  std::uint32_t orders_per_node_max = 10'000;  // unacknowledged; a node beyond it is drained
  images::DistributionConfig distribution;
  PreemptionConfig preemption;
  DefragmentationConfig defragmentation;
  images::SnapshotsConfig snapshots;
  CHALK_FIELDS(Config, sandbox, scheduler, tenancy, fleet, autoscaler, catalogue, groups_max,
               gateways_max, orders_per_node_max, distribution, preemption, defragmentation,
               snapshots)
};

// ---- events
struct GroupSpec {
  GroupId group;  // dense, from 1
  TenantId tenant;
  Resources resources;
  ImageId image;  // 0 for none
  PoolId pool;    // 0 for any that is not dedicated
  GatewayId gateway;
  GroupRouting routing;
  autoscaler::GroupPolicy policy;
  Priority priority = 0;  // of its replicas
  bool snapshots = false;  // they are started from snapshots of each other where that is possible
  CHALK_FIELDS(GroupSpec, group, tenant, resources, image, pool, gateway, routing, policy,
               priority, snapshots)
};
struct GroupDeployed {
  GroupSpec spec;
  CHALK_FIELDS(GroupDeployed, spec)
};
struct GatewayJoined {
  GatewayId gateway;  // dense, from 1
  std::uint64_t incarnation = 0;
  CHALK_FIELDS(GatewayJoined, gateway, incarnation)
};
struct SandboxRequested {
  std::uint64_t reply_to = 0;
  std::string key;
  TenantId tenant;
  Resources resources;
  ImageId image;
  PoolId pool;
  Duration lifetime;
  std::string payload = {};  // for the node's runtime, see StartOrder; kept by who reads the log
  bool restart = false;      // by its node, when it ends by itself
  Priority priority = 0;
  Gang gang = {};  // which it is a member of
  CHALK_FIELDS(SandboxRequested, reply_to, key, tenant, resources, image, pool, lifetime, payload,
               restart, priority, gang)
};
struct FromNode {
  NodeId node;
  Envelope<NodeReport> envelope;
  CHALK_FIELDS(FromNode, node, envelope)
};
struct FromGateway {
  GatewayId gateway;
  Envelope<GatewayReport> envelope;
  CHALK_FIELDS(FromGateway, gateway, envelope)
};
using Event = std::variant<FromNode, FromGateway, SandboxRequested, sandbox::TerminateRequested,
                           NodeRegistration, Woken, fleet::PurchaseFailed, fleet::DrainAsked,
                           images::WarmAsked, fleet::Resumed, GroupDeployed, GatewayJoined,
                           ImageSpec, fleet::PoolAdded, tenancy::TenantAdded,
                           fleet::ReclaimNoticed, fleet::UndrainAsked>;

// ---- effects
struct ToNode {
  NodeId node;
  Envelope<NodeOrder> envelope;
  CHALK_FIELDS(ToNode, node, envelope)
};
struct ToGateway {
  GatewayId gateway;
  Envelope<GatewayOrder> envelope;
  CHALK_FIELDS(ToGateway, gateway, envelope)
};
// A node that control does not know, or knows by another incarnation, should register anew.
struct UnknownNode {
  NodeId node;
  std::uint64_t incarnation = 0;
  CHALK_FIELDS(UnknownNode, node, incarnation)
};
using Effect = std::variant<ToNode, ToGateway, sandbox::Accepted, sandbox::Refused,
                            sandbox::Running, sandbox::Gone, fleet::WelcomeNode, UnknownNode,
                            fleet::BuyNode, fleet::ReleaseNode, WakeAt, sandbox::Restarted,
                            fleet::CancelPurchase>;

struct NodeLink {
  Outbox<NodeOrder> orders;
  Inbox reports;
  std::uint64_t incarnation = 0;
  std::uint32_t sandboxes = 0;  // placed on it
  bool acknowledgement_due = false;
  CHALK_FIELDS(NodeLink, orders, reports, incarnation, sandboxes, acknowledgement_due)
};
struct GatewayLink {
  Outbox<GatewayOrder> orders;
  Inbox reports;
  std::uint64_t incarnation = 0;
  bool joined = false;
  std::map<GroupId, std::uint64_t> drains;  // DrainReplicas that it may not have yet, in `orders`
  CHALK_FIELDS(GatewayLink, orders, reports, incarnation, joined, drains)
};

enum Part : std::size_t { kSandbox, kTenancy, kFleet, kAutoscaler, kParts };

// What waits for a node of an elastic pool, kept up to date as sandboxes come and go.
struct PoolPending {
  fleet::PoolPolicy policy;
  fleet::PendingDemand demand;  // pool 0: no such pool
  std::map<TenantId, std::int64_t> owners;
  bool changed = false;
  NodeShape largest;  // seen in each dimension, where the pool does not say its shape
  CHALK_FIELDS(PoolPending, policy, demand, owners, changed, largest)
};

// The victims that a node would take, but for who they are.
struct VictimsSeen {
  std::uint32_t slot = 0;  // of the node
  std::int32_t highest = -1;
  std::uint32_t sandboxes = 0, running = 0;
  bool starts_wait = false;
  Duration lost;  // of work, by the time `at`; each that runs adds what has passed since
  Time at;
  CHALK_FIELDS(VictimsSeen, slot, highest, sandboxes, running, starts_wait, lost, at)
};
// What the last search for victims of a tenant found, so that the next one for the same looks only
// at nodes that have changed since.
struct VictimsSought {
  scheduler::PlaceAsked asked;  // sandbox, image, group and nodes to avoid left out
  TenantId tenant;
  Priority priority = 0;
  std::uint64_t rooms = 0, records = 0;  // changes that it knows, of the scheduler and of sandbox
  std::vector<VictimsSeen> nodes;        // with room once they go, by slot
  std::vector<std::uint32_t> again;      // nodes to look at next time in any case
  CHALK_FIELDS(VictimsSought, asked, tenant, priority, rooms, records, nodes, again)
};

// Whose turn it is to look at the fleet, see defragmentation.cc.
struct DefragmentTurns {
  Time at;                     // of the next
  std::set<TenantId> in_vain;  // who looked since all that wanted to had
  bool wanted = false;         // by another, since the last
  CHALK_FIELDS(DefragmentTurns, at, in_vain, wanted)
};

// What the root itself keeps; the machines keep the rest.
struct Routing {
  std::vector<NodeLink> nodes;        // by node slot
  std::vector<GatewayLink> gateways;  // by gateway - 1
  std::vector<GroupSpec> groups;      // by group - 1; group 0 marks a hole
  std::map<TenantId, PoolId> dedicated_pools;
  std::map<PoolId, TenantId> dedicated_tenants;
  std::vector<PoolPending> pools;  // by pool - 1
  std::uint64_t moved = 0;         // sandboxes that were told to leave their node, so far
  std::uint64_t preempted = 0;     // sandboxes that were told to make way for others, so far
  std::set<SandboxId> leaving;     // running replicas that are to end once their calls are done
  DefragmentTurns defragment;
  std::map<TenantId, VictimsSought> victims_sought;
  std::array<Time, kParts> wakes{kNever, kNever, kNever, kNever};
  Time wake = kNever;  // the last WakeAt
  CHALK_FIELDS(Routing, nodes, gateways, groups, dedicated_pools, dedicated_tenants, pools, moved,
               preempted, leaving, defragment, victims_sought, wakes, wake)
};
struct State {
  Routing routing;
  sandbox::State sandbox;
  scheduler::State scheduler;
  tenancy::State tenancy;
  fleet::State fleet;
  autoscaler::State autoscaler;
  images::CatalogueState catalogue;
  images::DistributionState distribution;
  images::SnapshotsState snapshots;
  CHALK_FIELDS(State, routing, sandbox, scheduler, tenancy, fleet, autoscaler, catalogue,
               distribution, snapshots)
};

// How many sandboxes that ask so much an empty node of this shape can be starting at once.
std::int64_t starts_on(const NodeShape& shape, const Resources& ask);

class Control {
 public:
  using Config = control::Config;
  using Event = control::Event;
  using Effect = control::Effect;
  using State = control::State;
  using Effects = std::vector<Effect>;

  explicit Control(Config config, State state = {});

  void step(Time now, const Event& event, Effects& effects);
  State state() const;           // a copy: the machines own their parts
  std::uint64_t digest() const;  // of the whole state, without copying it

  // Hints to the processor that this node reports soon, or something happens to this sandbox. They
  // decide nothing.
  void prefetch(NodeId node) const;
  void prefetch(SandboxId sandbox) const;
  void prefetch_around(SandboxId sandbox) const;  // a while after prefetch

  const sandbox::Sandboxes& sandboxes() const { return sandboxes_; }
  const scheduler::Scheduler& scheduler() const { return scheduler_; }
  const tenancy::Tenancy& tenancy() const { return tenancy_; }
  const fleet::Fleet& fleet() const { return fleet_; }
  const autoscaler::Autoscaler& autoscaler() const { return autoscaler_; }
  const images::Catalogue& catalogue() const { return catalogue_; }
  const images::Distribution& distribution() const { return distribution_; }
  const images::Snapshots& snapshots() const { return snapshots_; }
  // What fleet is told when it asks what waits. Costs that and all nodes.
  fleet::WaitingSeen waiting_seen() const;
  std::uint64_t sandboxes_moved() const { return routing_.moved; }
  std::uint64_t sandboxes_preempted() const { return routing_.preempted; }

 private:
  // Scratch for one nesting level of a machine's effects; empty between steps.
  template <class M>
  struct Scratch {
    std::vector<std::vector<typename M::Effect>> free;
  };
  template <class M, class E>
  void drive(M& machine, Scratch<M>& scratch, const E& event);
  template <class M>
  void note_wake(const M& machine);

  void on(const FromNode&);
  void on(const FromGateway&);
  void on(const SandboxRequested&);
  void on(const sandbox::TerminateRequested&);
  void on(const NodeRegistration&);
  void on(const Woken&);
  void on(const fleet::PurchaseFailed&);
  void on(const fleet::DrainAsked&);
  void on(const fleet::UndrainAsked&);
  void on(const images::WarmAsked&);
  void on(const fleet::Resumed&);
  void on(const GroupDeployed&);
  void on(const GatewayJoined&);
  void on(const ImageSpec&);
  void on(const fleet::PoolAdded&);
  void on(const tenancy::TenantAdded&);
  void on(const fleet::ReclaimNoticed&);

  void report(NodeId, const StartedReport&);
  void report(NodeId, const RestartedReport&);
  void report(NodeId, const RefusedReport&);
  void report(NodeId, const EndedReport&);
  void report(NodeId, const ImageReport&);
  void report(NodeId, const ScrubbedReport&);
  void report(NodeId, const SnapshotReport&);
  void report(GatewayId, const Demand&);
  void report(GatewayId, const ReplicaReturned&);

  // Effects of the machines.
  void handle(const sandbox::Accepted& e) { out_->push_back(e); }
  void handle(const sandbox::Refused&);
  void handle(const sandbox::AskAdmission&);
  void handle(const sandbox::SendStart&);
  void handle(const sandbox::SendStop&);
  void handle(const sandbox::StartSettled&);
  void handle(const sandbox::Unplace&);
  void handle(const sandbox::Running&);
  void handle(const sandbox::Restarted& e) { out_->push_back(e); }
  void handle(const sandbox::Gone&);
  void handle(const tenancy::TryPlace&);
  void handle(const tenancy::RefuseSandbox&);
  void handle(const tenancy::SetOwner&);
  void handle(const tenancy::ScrubNode&);
  void handle(const tenancy::RoundDue&);
  void handle(const scheduler::Placed&);
  void handle(const scheduler::NotPlaced&);
  void handle(const scheduler::NominationLost&);
  void handle(const fleet::WelcomeNode&);
  void handle(const fleet::NodeJoined&);
  void handle(const fleet::NodeLost&);
  void handle(const fleet::BuyNode& e) { out_->push_back(e); }
  void handle(const fleet::CancelPurchase& e) {
    out_->push_back(e);
    grow_elsewhere();
  }
  void handle(const fleet::ReleaseNode&);
  void handle(const fleet::CordonNode&);
  void handle(const fleet::AskWaiting&);
  void see_used(fleet::WaitingSeen&) const;
  bool one_tenants(TenantId owner, PoolId pool) const;
  void handle(const fleet::AskRemovals&);
  void handle(const fleet::EmptyNode&);
  void handle(const autoscaler::StartReplicas&);
  void handle(const autoscaler::StopReplicas&);
  void handle(const autoscaler::CancelStarts&);
  void handle(const images::WarmNode&);
  void handle(const images::SourcesChosen& chosen) { sources_ = chosen.sources; }
  void handle(const images::StartChosen& chosen) { start_chosen_ = chosen; }

  void send(NodeId, NodeOrder);
  std::uint64_t send(GatewayId, GatewayOrder);  // its number in the link; 0: nobody is there
  std::vector<NodeId> sources_of(NodeId, ImageId);
  void images_do_not_come(NodeId, SandboxId);
  void forget_node(NodeId);
  void request_replica(const GroupSpec&);
  void announce(const GroupSpec&, SandboxId replica);
  void drain_replica(const GroupSpec&, SandboxId replica);
  void replica_ended(SandboxId replica, GroupId group, bool was_ready);  // for its autoscaler
  void capacity_freed(bool goes_on = false);
  void settle_rounds();
  void move_replicas(const GroupSpec&, GatewayId before);
  PoolId dedicated_pool(TenantId tenant) const;
  // The elastic pool that is to grow for it. 0: none, or all, for a gang too large for any alone.
  PoolId pool_of(const sandbox::Record& record) const;
  bool reserved(PoolId pool) const;
  bool fits_somewhere(TenantId, PoolId, const Resources&) const;
  std::size_t sold_out_pools() const;
  void grow_elsewhere();
  void count_waiting(SandboxId, int sign);
  void count_pending(PoolId pool, TenantId tenant, const Resources& ask, bool in_gang, int sign);
  void report_pending();
  const GroupSpec* group(GroupId) const;
  scheduler::PlaceAsked place_asked(SandboxId, TenantId owner_key) const;
  scheduler::PlaceAsked room_asked(SandboxId) const;
  // gangs.cc
  void place_gang(const sandbox::Record& speaker, const tenancy::TryPlace&);
  bool refuse_gang(const scheduler::NotPlaced&);
  std::int64_t most_members(const sandbox::Record&, const Resources& least) const;
  // preemption.cc
  bool preempt(const scheduler::NotPlaced&);
  std::optional<scheduler::Victims> choose_victims(const scheduler::PlaceAsked&);
  const VictimsSought& seek_victims(const scheduler::PlaceAsked&);
  void look_for_victims(VictimsSought&, std::uint32_t slot) const;
  template <class MayGo>
  std::optional<scheduler::Victims> victims_on(std::uint32_t slot, const Resources&,
                                               MayGo&&) const;
  void nominate(const scheduler::PlaceAsked&, const scheduler::Victims&);
  void make_way(SandboxId victim);
  // defragmentation.cc
  bool defragment(const scheduler::NotPlaced&);
  bool takes_turn(TenantId);
  bool fits_elsewhere(const scheduler::Victims&) const;

  Config config_;
  Routing routing_;
  sandbox::Sandboxes sandboxes_;
  scheduler::Scheduler scheduler_;
  tenancy::Tenancy tenancy_;
  fleet::Fleet fleet_;
  autoscaler::Autoscaler autoscaler_;
  images::Catalogue catalogue_;
  images::Distribution distribution_;
  images::Snapshots snapshots_;

  // Valid only inside one step.
  Time now_;
  Effects* out_ = nullptr;
  // In this step a node was cordoned, used again or released, or tenancy said so.
  bool round_due_ = false;
  Scratch<sandbox::Sandboxes> sandbox_scratch_;
  Scratch<scheduler::Scheduler> scheduler_scratch_;
  Scratch<tenancy::Tenancy> tenancy_scratch_;
  Scratch<fleet::Fleet> fleet_scratch_;
  Scratch<autoscaler::Autoscaler> autoscaler_scratch_;
  Scratch<images::Catalogue> catalogue_scratch_;
  Scratch<images::Distribution> distribution_scratch_;
  Scratch<images::Snapshots> snapshots_scratch_;
  std::vector<NodeId> sources_;  // the last chosen
  images::StartChosen start_chosen_;  // the same
};

}  // namespace chalk::control
