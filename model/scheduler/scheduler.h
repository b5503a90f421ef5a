// Decides on which node, and on which of its GPUs, a sandbox runs: exact best fit, no sampling (or
// another policy of policy.h, to compare).
//
// In: nodes and their changes, asks, starts that finished, releases. Out: Placed, or NotPlaced with
// the rule and the numbers behind the refusal. Invariant: on every node and in every dimension what
// is reserved never exceeds capacity; a reservation counts from Placed until Released.
//
// A sandbox for which others make way (preemption.h says which) is nominated to their node: it
// holds what is free there, and is given what it misses of whatever is released there, before
// anybody else; once it holds all it is Placed. Several on one node are served in their order.
//
// Among the nodes where an ask fits and which it need not spare, the chosen one is least in this
// order, and the index finds the very node that a linear scan finds
// (tests/property/oracle/scheduler_scan.h):
//   0. one where no start of the same sandbox has failed;
//   1. owned by the asking owner, before free (owner 0) nodes, which the placement then claims;
//   2. in the zone with fewest live sandboxes of the ask's group;
//   3. scarce first: for a share of a GPU the least free such GPU; then least GPU thousandths free
//      on the node, so work without GPUs keeps off GPU nodes and whole nodes stay whole; then the
//      node with fewest GPUs;
//   4. holding the image;
//   5. least residual of cpu and memory, at one core to 4 GiB (kBytesPerMillicore); on nodes with
//      GPUs only for shares, since there it scatters what the lowest slot gathers;
//   6. lowest slot.
#pragma once
#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/scheduler/policy.h"
#include "model/scheduler/state.h"

namespace chalk::scheduler {

struct Config {
  std::uint32_t nodes_max = 200'000;
  std::uint32_t sandboxes_max = 4'000'000;
  std::uint32_t zones_max = 64;
  Placing placing = {};
  CHALK_FIELDS(Config, nodes_max, sandboxes_max, zones_max, placing)
};

struct NodeAdded {
  NodeId node;
  NodeShape shape;
  PoolId pool;
  ZoneId zone;
  TenantId owner;
  bool dedicated = false;  // only asks that name the pool may use it
  CHALK_FIELDS(NodeAdded, node, shape, pool, zone, owner, dedicated)
};
// Its reservations are dropped with it.
struct NodeRemoved {
  NodeId node;
  CHALK_FIELDS(NodeRemoved, node)
};
struct NodeCordoned {
  NodeId node;
  bool cordoned = false;
  CHALK_FIELDS(NodeCordoned, node, cordoned)
};
struct NodeOwned {
  NodeId node;
  TenantId owner;  // 0: free to claim
  bool usable = true;
  CHALK_FIELDS(NodeOwned, node, owner, usable)
};
struct PlaceAsked {
  SandboxId sandbox;
  TenantId owner;
  Resources ask;
  PoolId pool;  // 0: any pool that is not dedicated
  ImageId image;
  GroupId group;
  // Where starts of it failed: a node that fails them would else be chosen again and again, as it
  // stays the best. Used all the same where it fits nowhere else.
  std::array<NodeId, 2> avoid = {};
  bool own_only = false;  // on nodes of the owner: it claims none
  std::vector<Wish> spare = {};  // nodes that could hold any of these, when empty, are left to them
  CHALK_FIELDS(PlaceAsked, sandbox, owner, ask, pool, image, group, avoid, own_only, spare)
};
struct StartFinished {
  SandboxId sandbox;
  CHALK_FIELDS(StartFinished, sandbox)
};
struct Released {
  SandboxId sandbox;
  CHALK_FIELDS(Released, sandbox)
};
struct ImageCached {
  NodeId node;
  ImageId image;
  bool cached = false;
  CHALK_FIELDS(ImageCached, node, image, cached)
};
// Answered by Placed or NominationLost, now or later. Released takes it back.
struct Nominated {
  PlaceAsked asked;  // by the owner of the node; it found no room
  NodeId node;
  std::uint32_t gpu_mask = 0;  // which GPUs it will have
  CHALK_FIELDS(Nominated, asked, node, gpu_mask)
};
// All of them at once, or none: answered by Placed for each, or by one NotPlaced with the id of the
// first and what was short for the member that found no room beside the others. They are tried in
// order of size, GPUs first, then cpu, memory and disk (best fit decreasing), each by the policy of
// Config; so a gang may wait where a cleverer packing exists. Where one fails all is taken back.
// Once they have claimed as many free nodes as they may the others go to nodes of the owner.
struct GangAsked {
  std::vector<PlaceAsked> members;
  std::uint32_t claims_max = ~0u;
  CHALK_FIELDS(GangAsked, members, claims_max)
};
using Event = std::variant<NodeAdded, NodeRemoved, NodeCordoned, NodeOwned, PlaceAsked,
                           StartFinished, Released, ImageCached, Nominated, GangAsked>;

// Why an ask found no node. The filters stand in this order: limit, no_node_in_pool,
// no_free_node_for_tenant, sandboxes, gpu, cpu, memory, disk, start_slots or spared. The first that
// leaves no node is the reason, and the best available is the most of that dimension over the nodes that
// passed the filters before it.
enum class Shortage : std::uint8_t {
  no_node_in_pool,
  no_free_node_for_tenant,  // none owned by the asker or free, usable and not cordoned
  cpu,                      // millicores
  memory,                   // bytes
  disk,                     // bytes
  gpu,                      // thousandths
  start_slots,              // it would fit, but those nodes are busy starting others
  sandboxes,                // every considered node holds as many sandboxes as it may
  limit,                    // of Config, or an ask that means nothing, such as 1.5 GPUs
  spared,                   // there is one, but it is left to others (PlaceAsked::spare)
};

struct Placed {
  SandboxId sandbox;
  NodeId node;
  std::uint32_t gpu_mask = 0;
  bool claims = false;  // the node was free and is now owned by the asker
  bool nominated = false;  // the answer to Nominated
  CHALK_FIELDS(Placed, sandbox, node, gpu_mask, claims, nominated)
};
struct NotPlaced {
  SandboxId sandbox;
  Shortage why = Shortage::limit;
  std::int64_t needed = 0;
  std::int64_t best_available = 0;
  std::uint32_t nodes_considered = 0;
  CHALK_FIELDS(NotPlaced, sandbox, why, needed, best_available, nodes_considered)
};
struct NominationLost {  // its node left, takes nothing more, or has another owner
  SandboxId sandbox;
  CHALK_FIELDS(NominationLost, sandbox)
};
using Effect = std::variant<Placed, NotPlaced, NominationLost>;
using Effects = std::vector<Effect>;

// Whether a node can be so: nothing negative, nor so much that sums could overflow. One that cannot
// is ignored.
bool sensible(const NodeShape& shape);

class Scheduler {
 public:
  using Config = scheduler::Config;
  using State = scheduler::State;
  using Event = scheduler::Event;
  using Effect = scheduler::Effect;

  explicit Scheduler(Config config, State state = {}) : config_(config), state_(std::move(state)) {}
  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  const Config& config() const { return config_; }
  bool nominates(SandboxId sandbox) const;

 private:
  void on(const NodeAdded& event, Effects& effects);
  void on(const NodeRemoved& event, Effects& effects);
  void on(const NodeCordoned& event, Effects& effects);
  void on(const NodeOwned& event, Effects& effects);
  void on(const PlaceAsked& event, Effects& effects);
  void on(const StartFinished& event, Effects& effects);
  void on(const Released& event, Effects& effects);
  void on(const ImageCached& event, Effects& effects);
  void on(const Nominated& event, Effects& effects);
  void on(const GangAsked& event, Effects& effects);
  bool answer_at_once(const PlaceAsked& asked, Effects& effects);
  void reserve(std::uint32_t slot, std::uint32_t gpu_mask, const PlaceAsked& asked);
  void free_reservation(std::uint32_t sandbox_slot);
  void release(std::uint32_t sandbox_slot);
  void drop_group_member(std::uint32_t group, std::uint32_t zone);
  std::uint32_t find_node(NodeId id) const;            // slot or kNone
  std::uint32_t find_reservation(SandboxId id) const;  // slot or kNone
  void forget_node(std::uint32_t slot, Effects& effects);
  // nominations.cc
  void serve_nominations(std::uint32_t slot, Effects& effects);
  void drop_nominations(std::uint32_t slot, Effects& effects);
  void withdraw(SandboxId sandbox, Effects& effects);

  Config config_;
  State state_;
};

}  // namespace chalk::scheduler
