// What the three roots say to each other: control orders nodes and gateways, they report back.
// Every message travels in an envelope of a Link (model/core/link.h): lost, repeated and reordered
// envelopes are normal. A node or gateway that restarts has a new incarnation.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "model/core/ids.h"
#include "model/core/link.h"
#include "model/core/resources.h"
#include "model/core/time.h"

namespace chalk {

// ---- images --------------------------------------------------------------------------------
struct LayerSpec {
  LayerId layer;
  std::int64_t bytes = 0;           // to transfer
  std::int64_t unpacked_bytes = 0;  // on the node's disk
  CHALK_FIELDS(LayerSpec, layer, bytes, unpacked_bytes)
};
struct ImageSpec {
  ImageId image;
  std::vector<LayerSpec> layers;
  CHALK_FIELDS(ImageSpec, image, layers)
};

// What a saved process depends on. A snapshot made on one machine runs on another with the same
// runtime and no fewer processor features: code that was running there has looked at what there is
// and goes on using it. (gVisor checks the same when it restores.)
struct MachineKind {
  std::uint64_t runtime = 0;       // release of the sandbox's runtime, numbered outside; 0: it saves nothing
  std::uint64_t cpu_features = 0;  // a mask, numbered outside
  auto operator<=>(const MachineKind&) const = default;
  explicit operator bool() const { return runtime != 0; }
  CHALK_FIELDS(MachineKind, runtime, cpu_features)
};
inline bool runs_on(const MachineKind& made_on, const MachineKind& here) {
  return made_on && made_on.runtime == here.runtime &&
         (made_on.cpu_features & ~here.cpu_features) == 0;
}

// What a replica is restored from; to its node it is one more layer of the image.
struct Restore {
  SnapshotId snapshot;
  MachineKind made_on;
  std::int64_t bytes = 0;
  explicit operator bool() const { return static_cast<bool>(snapshot); }
  CHALK_FIELDS(Restore, snapshot, made_on, bytes)
};

// How important a sandbox is to its tenant: more is more important. It says nothing to others.
using Priority = std::uint16_t;
inline constexpr Priority kPriorityMax = 1000;

// Sandboxes of one tenant that are of use only together: all of them are placed at one moment, or
// none. The tenant chooses the id, and every member says the same size.
struct Gang {
  std::uint64_t id = 0;
  std::uint32_t size = 0;  // members; 0: no gang
  explicit operator bool() const { return size != 0; }
  CHALK_FIELDS(Gang, id, size)
};
struct GangKey {
  TenantId tenant;
  std::uint64_t id = 0;
  auto operator<=>(const GangKey&) const = default;
  CHALK_FIELDS(GangKey, tenant, id)
};

// ---- control -> node -------------------------------------------------------------------------
struct StartOrder {
  SandboxId sandbox;
  TenantId owner;  // the owner key under which the node must be held
  Resources resources;
  std::uint32_t gpu_mask = 0;  // which of the node's GPUs
  ImageSpec image;
  Duration lifetime;  // from start; 0 for none
  GroupId group;      // 0 for a bare sandbox
  // What the node's runtime needs and no machine looks at: command, environment, layers' digests.
  // Control leaves it empty; who carries the order to the node fills it in.
  std::string payload = {};
  bool restart = false;  // started again on its node when it ends by itself
  std::vector<NodeId> sources = {};  // peers to try for what is missing of the image; in order
  Restore restore = {};              // none: started from nothing
  SnapshotId save = {};  // once it is ready, before it is said to run: save it under this; 0: no
  CHALK_FIELDS(StartOrder, sandbox, owner, resources, gpu_mask, image, lifetime, group, payload,
               restart, sources, restore, save)
};
struct StopOrder {
  SandboxId sandbox;
  Duration grace = {};  // between asking the workload to end and killing it
  CHALK_FIELDS(StopOrder, sandbox, grace)
};
struct WarmOrder {  // have the image on the node before anyone asks
  ImageSpec image;
  std::vector<NodeId> sources = {};
  CHALK_FIELDS(WarmOrder, image, sources)
};
struct ScrubOrder {  // wipe what the last owner may have left; the node is empty
  CHALK_FIELDS(ScrubOrder)
};
using NodeOrder = std::variant<StartOrder, StopOrder, WarmOrder, ScrubOrder>;

// ---- node -> control -------------------------------------------------------------------------
enum class NodeRefusal : std::uint8_t {
  cpu,
  memory,
  disk,
  gpu,
  start_slots,
  sandboxes,
  owner,
  draining,
  duplicate
};
enum class EndReason : std::uint8_t {
  exited,            // the workload ended by itself
  terminated,        // it was asked to stop
  lifetime_reached,  // the node's own timer
  start_failed,
  pull_failed,
  out_of_memory,
  node_lost,       // said by control, never by a node
  agent_restarted,  // found gone when the node came back
  bad_image,        // its image can be pulled nowhere: no other node is tried
  preempted,        // made way for one of its tenant's of higher priority; said by control
  gang_ended        // another member of its gang was lost, ended or refused; said by control
};
// A note says what the runtime saw and no machine looks at: exit code, times of the start, words.
struct StartedReport {  // running
  SandboxId sandbox;
  std::string note = {};
  CHALK_FIELDS(StartedReport, sandbox, note)
};
// It ended by itself, or could not be started again, and waits for its next start; or it runs again.
// Counts are totals, so what is lost or comes late does no harm.
struct RestartedReport {
  SandboxId sandbox;
  std::uint32_t count = 0;  // starts after the first, with the one that it waits for
  bool running = false;
  std::string note = {};  // how it ended; of its start where it runs
  CHALK_FIELDS(RestartedReport, sandbox, count, running, note)
};
struct RefusedReport {  // the node's own admission said no; nothing was started
  SandboxId sandbox;
  NodeRefusal rule{};
  std::int64_t needed = 0;
  std::int64_t available = 0;
  CHALK_FIELDS(RefusedReport, sandbox, rule, needed, available)
};
struct EndedReport {  // gone from the node, its resources are free
  SandboxId sandbox;
  EndReason reason{};
  std::string note = {};
  CHALK_FIELDS(EndedReport, sandbox, reason, note)
};
struct ImageReport {
  ImageId image;
  bool cached = false;
  CHALK_FIELDS(ImageReport, image, cached)
};
struct ScrubbedReport {
  CHALK_FIELDS(ScrubbedReport)
};
enum class SnapshotNews : std::uint8_t {
  saved,
  not_saved,
  not_restored,  // the runtime could not; the replica was started from nothing
  not_fetched    // the same, since it could be got nowhere
};
struct SnapshotReport {
  SnapshotId snapshot;
  SnapshotNews news{};
  std::int64_t bytes = 0;  // saved
  CHALK_FIELDS(SnapshotReport, snapshot, news, bytes)
};
using NodeReport =
    std::variant<StartedReport, RefusedReport, EndedReport, ImageReport, ScrubbedReport,
                 RestartedReport, SnapshotReport>;

// An envelope carries at most one message; without one it is a heartbeat.
template <class Message>
struct Envelope {
  std::uint64_t incarnation = 0;
  std::uint64_t sequence = 0;      // of the message; 0 for a heartbeat
  std::uint64_t acknowledged = 0;  // everything up to here has been received
  std::optional<Message> message;
  CHALK_FIELDS(Envelope, incarnation, sequence, acknowledged, message)
};

// A node announces itself until it is welcomed, and again with a higher incarnation after a restart
// or when control answers that it does not know it.
struct NodeRegistration {
  std::uint64_t key = 0;  // the machine's own identity, chosen outside; stable over restarts
  std::uint64_t incarnation = 0;
  std::uint64_t purchase = 0;  // BuyNode's number, 0 for a node of a static pool
  PoolId pool;
  ZoneId zone;
  NodeShape shape;
  MachineKind kind = {};
  CHALK_FIELDS(NodeRegistration, key, incarnation, purchase, pool, zone, shape, kind)
};

// ---- gateway <-> control ---------------------------------------------------------------------
// Requests to a group over a window, as its gateway saw them. Totals only grow, so a lost or
// repeated report does no harm.
struct Demand {
  GroupId group;
  Time at;                          // end of the window
  std::int64_t concurrency_ns = 0;  // total of (in flight + queued) x nanoseconds so far
  std::uint64_t arrivals = 0;       // total
  std::uint64_t refused = 0;        // total
  std::uint64_t holds = 0;          // total of requests that found no free slot on arrival
  std::uint32_t peak = 0;           // highest (in flight + queued) since the last report
  std::uint32_t in_flight = 0;      // now
  std::uint32_t queued = 0;         // now
  std::uint32_t ready = 0;          // replicas that the gateway may use now
  std::uint64_t reloads = 0;        // total of replicas wanted before a call that is expected
  std::int64_t busy_ns = 0;         // total of in flight x nanoseconds so far
  CHALK_FIELDS(Demand, group, at, concurrency_ns, arrivals, refused, holds, peak, in_flight, queued,
               ready, reloads, busy_ns)
};
struct ReplicaReturned {  // the gateway sends nothing more to it: idle for its keep-alive, or
                          // drained
  GroupId group;
  SandboxId sandbox;
  CHALK_FIELDS(ReplicaReturned, group, sandbox)
};
using GatewayReport = std::variant<Demand, ReplicaReturned>;

// Which idle replicas a gateway keeps, and which it asks for before a call comes.
enum class KeepAlive : std::uint8_t {
  fixed,        // for keep_alive
  hybrid,       // model/functions/hybrid.h
  greedy_dual,  // model/functions/greedy_dual.h
  cost          // model/functions/gaps.h
};

// Which of the calls that wait is next; model/functions/call_queue.h.
enum class QueueOrder : std::uint8_t {
  fifo,
  drr  // deficit round robin between callers
};

struct GroupRouting {  // how the gateway treats calls to a group
  GroupId group;
  std::uint32_t concurrency = 1;   // calls at once per replica
  std::uint32_t queue_max = 1000;  // calls that may wait; one more is refused
  Duration queue_timeout;          // 0: a waiting call waits until it is served
  Duration keep_alive;       // idle replicas beyond min_replicas are returned; 0: control decides
  Duration report_interval;  // how often demand is reported while there is any
  std::uint32_t min_replicas = 0;
  bool delayed_warm_start = true;  // a replica that falls free takes a call that waits for a start
  KeepAlive keep_alive_policy = KeepAlive::fixed;
  Duration cold_start_worth = seconds(240);  // cost: so long of 1 GiB idle
  std::int64_t memory_bytes = 1LL << 30;     // of a replica; greedy_dual, cost
  QueueOrder queue_order = QueueOrder::drr;
  CHALK_FIELDS(GroupRouting, group, concurrency, queue_max, queue_timeout, keep_alive,
               report_interval, min_replicas, delayed_warm_start, keep_alive_policy,
               cold_start_worth, memory_bytes, queue_order)
};
struct ReplicaReady {
  GroupId group;
  SandboxId sandbox;
  CHALK_FIELDS(ReplicaReady, group, sandbox)
};
struct ReplicaGone {
  GroupId group;
  SandboxId sandbox;
  CHALK_FIELDS(ReplicaGone, group, sandbox)
};
struct DrainReplicas {  // return this many, the idle and least recently used first
  GroupId group;
  std::uint32_t count = 0;
  CHALK_FIELDS(DrainReplicas, group, count)
};
struct DrainReplica {  // return this one once its calls are done
  GroupId group;
  SandboxId sandbox;
  CHALK_FIELDS(DrainReplica, group, sandbox)
};
using GatewayOrder =
    std::variant<GroupRouting, ReplicaReady, ReplicaGone, DrainReplicas, DrainReplica>;

}  // namespace chalk
