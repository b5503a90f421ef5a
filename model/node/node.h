// The root of one node agent: what control orders is checked again here, and carried out.
//
// In: envelopes of control, what the runtime says, waking. Out: orders to the runtime, envelopes to
// control. It keeps the image cache and enforces lifetimes alone, also when control cannot be
// reached. Invariants: what is admitted never exceeds the node in any dimension; sandboxes of two
// owners never meet, nor follow each other without a scrub; every admitted sandbox ends in exactly
// one EndedReport; it registers only when nothing of an earlier registration is left.
//
// A sandbox whose order says so is started again here when it ends by itself, after a pause that
// doubles, as the kubelet does (CrashLoopBackOff). Between its ends it keeps what was reserved for
// it, the layers of its image and the end of its lifetime, which counts from the first start. Where
// those layers were lost it is started again once they are back.
//
// How a sandbox is started is chosen here (StartMode): a replica from the snapshot that its order
// names, where that runs on this machine and can be got, and from nothing where restoring fails; any
// other in a shell, where one is ready. Shells are made one at a time and while nothing else is
// starting, and have never had an owner.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "model/core/link.h"
#include "model/core/machine.h"
#include "model/core/timers.h"
#include "model/images/cache.h"
#include "model/images/snapshots.h"
#include "model/protocol/protocol.h"

namespace chalk::node {

struct Config {  // the same for all nodes of a pool
  images::CacheConfig cache;
  Duration heartbeat = seconds(10);
  Duration register_retry = seconds(5);
  Duration lifetime_grace = seconds(5);   // between asking and killing, at the end of a lifetime
  std::uint32_t reports_max = 100'000;  // unacknowledged; no more starts are admitted beyond it
  Duration restart_pause = seconds(1);  // before a sandbox's next start; doubles with each
  Duration restart_pause_max = seconds(300);
  Duration restart_forgiven = seconds(600);  // after so long a run the pause is the first again
  // Empty sandboxes that are held ready, so that a start has less to do. What they take is not part
  // of the shape that the node registers with.
  std::int32_t shells = 0;
  CHALK_FIELDS(Config, cache, heartbeat, register_retry, lifetime_grace, reports_max, restart_pause,
               restart_pause_max, restart_forgiven, shells)
};
// What makes one node: its configuration and who it is.
struct Birth {
  Config config;
  NodeRegistration registration;
  CHALK_FIELDS(Birth, config, registration)
};

// ---- events
struct Booted {
  CHALK_FIELDS(Booted)
};
struct Welcomed {
  std::uint64_t incarnation = 0;
  NodeId node;
  CHALK_FIELDS(Welcomed, incarnation, node)
};
struct Unknown {  // control does not know this boot of us: end everything and register anew
  std::uint64_t incarnation = 0;
  CHALK_FIELDS(Unknown, incarnation)
};
// Where control gives a node up whose welcome was lost, the next identity has the same incarnation:
// what was meant for the earlier one and comes late is known by its id.
struct FromControl {
  Envelope<NodeOrder> envelope;
  NodeId node = {};  // 0: of a connection that keeps the order, so nothing comes late
  CHALK_FIELDS(FromControl, envelope, node)
};
struct SandboxStarted {
  SandboxId sandbox;
  bool good = true;
  std::string note = {};
  CHALK_FIELDS(SandboxStarted, sandbox, good, note)
};
struct SandboxExited {  // by itself
  SandboxId sandbox;
  bool out_of_memory = false;
  std::string note = {};
  CHALK_FIELDS(SandboxExited, sandbox, out_of_memory, note)
};
struct SandboxKilled {  // as ordered
  SandboxId sandbox;
  std::string note = {};
  CHALK_FIELDS(SandboxKilled, sandbox, note)
};
// The agent was restarted and its State restored from its log: what was ordered of the runtime and
// not answered is ordered again. What runs was found running, or its end follows as an event.
struct Resumed {
  CHALK_FIELDS(Resumed)
};
struct ScrubFinished {
  CHALK_FIELDS(ScrubFinished)
};
struct SnapshotSaved {  // or not; the replica goes on in any case
  SandboxId sandbox;
  SnapshotId snapshot;
  bool good = true;
  std::int64_t bytes = 0;
  CHALK_FIELDS(SnapshotSaved, sandbox, snapshot, good, bytes)
};
struct ShellMade {
  bool good = true;
  CHALK_FIELDS(ShellMade, good)
};
// The agent was restarted and found that layers which its log calls present are not: said before
// Resumed, and after what became of what ran.
using images::LayersLost;
// What is new goes to the end: logs name an event by its place here.
using Event = std::variant<Woken, FromControl, SandboxStarted, SandboxExited, SandboxKilled,
                           images::PullFinished, Booted, Welcomed, Unknown, ScrubFinished, Resumed,
                           SnapshotSaved, ShellMade, LayersLost>;

// ---- effects
struct Register {
  NodeRegistration registration;
  CHALK_FIELDS(Register, registration)
};
struct ToControl {
  NodeId node;
  Envelope<NodeReport> envelope;
  CHALK_FIELDS(ToControl, node, envelope)
};
enum class StartMode : std::uint8_t {
  cold,    // from nothing
  shell,   // in one of those that are held ready
  restore  // from the snapshot that its order names
};
struct StartSandbox {
  StartOrder order;
  std::uint32_t restarts = 0;     // of it so far, with this one
  std::string last_started = {};  // restarts > 0: the note of its last start that went well
  StartMode mode = StartMode::cold;
  CHALK_FIELDS(StartSandbox, order, restarts, last_started, mode)
};
struct SaveSnapshot {
  SandboxId sandbox;
  SnapshotId snapshot;
  CHALK_FIELDS(SaveSnapshot, sandbox, snapshot)
};
struct MakeShell {
  CHALK_FIELDS(MakeShell)
};
struct KillSandbox {
  SandboxId sandbox;
  EndReason why{};
  Duration grace = {};
  CHALK_FIELDS(KillSandbox, sandbox, why, grace)
};
struct Scrub {
  CHALK_FIELDS(Scrub)
};
using Effect = std::variant<WakeAt, ToControl, StartSandbox, KillSandbox, images::PullLayers,
                            images::EvictLayers, Register, Scrub, SaveSnapshot, MakeShell,
                            images::CancelPull>;

// ---- state
enum class Phase : std::uint8_t {
  pulling,
  starting,
  running,
  stopping,
  waiting  // for its next start; nothing of it runs
};
struct Sandbox {
  StartOrder order;
  Phase phase = Phase::pulling;
  bool start_under_way = false;  // stopping: the runtime has not said yet how the start ended
  EndReason end{};               // stopping: why
  Time must_end = kNever;
  // ---- where the order says that it is started again
  std::uint32_t restarts = 0;
  Duration pause = {};        // the last
  Time restart_at = kNever;   // waiting: when its start is due
  Time runs_since;            // running
  std::string started = {};   // the note of its last start
  // ---- of a replica
  StartMode mode = StartMode::cold;
  bool saving = false;        // starting: it is ready, and is being saved
  std::string ready = {};     // saving: the note of its start
  CHALK_FIELDS(Sandbox, order, phase, start_under_way, end, must_end, restarts, pause, restart_at,
               runs_since, started, mode, saving, ready)
};
struct Use {
  std::int64_t cpu_millicores = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::int32_t starting = 0;
  std::int32_t restarting = 0;
  std::array<std::int32_t, kGpusPerNodeMax> gpu_millis{};
  CHALK_FIELDS(Use, cpu_millicores, memory_bytes, disk_bytes, starting, restarting, gpu_millis)
};
struct State {
  // What a heartbeat reads stands together: most nodes do little else most of the time.
  Time wake = kNever;
  Time beat_at = kNever;  // heartbeat, or another try to register
  Time cache_wake = kNever;
  NodeId id;  // 0 until welcomed
  Inbox orders;
  Timers<SandboxId> lifetimes;
  Outbox<NodeReport> reports;
  NodeRegistration registration;
  std::map<SandboxId, Sandbox> sandboxes;
  Use use;
  TenantId owner;      // who has, or last had, sandboxes here
  bool dirty = false;  // it had some since the last scrub
  bool scrubbing = false;
  Timers<SandboxId> pauses;          // of waiting sandboxes
  std::vector<SandboxId> restarts_due;  // their pause is over and every slot was taken; in order
  std::int32_t shells = 0;    // that are there
  bool making_shell = false;
  Time shells_after;  // one could not be made: the next is tried then
  images::CacheState cache;  // empty here: the machine owns that part
  CHALK_FIELDS(State, wake, beat_at, cache_wake, id, orders, lifetimes, reports, registration,
               sandboxes, use, owner, dirty, scrubbing, pauses, restarts_due, shells, making_shell,
               shells_after, cache)
};

class Node {
 public:
  using Config = Birth;
  using Event = node::Event;
  using Effect = node::Effect;
  using State = node::State;
  using Effects = std::vector<Effect>;

  // The Config must outlive the machine: nodes of a pool share one.
  Node(const node::Config& config, const NodeRegistration& registration);
  Node(const node::Config& config, State state);

  void step(Time now, const Event& event, Effects& effects);
  State state() const;
  std::uint64_t digest() const;
  const node::Config& config() const { return *config_; }
  NodeId id() const { return state_.id; }
  const std::map<SandboxId, Sandbox>& sandboxes() const { return state_.sandboxes; }
  const images::Cache& cache() const { return cache_; }

 private:
  void on(Time, const Woken&, Effects&);
  void on(Time, const FromControl&, Effects&);
  void on(Time, const SandboxStarted&, Effects&);
  void on(Time, const SandboxExited&, Effects&);
  void on(Time, const SandboxKilled&, Effects&);
  void on(Time, const images::PullFinished&, Effects&);
  void on(Time, const Booted&, Effects&);
  void on(Time, const Welcomed&, Effects&);
  void on(Time, const Unknown&, Effects&);
  void on(Time, const ScrubFinished&, Effects&);
  void on(Time, const Resumed&, Effects&);
  void on(Time, const SnapshotSaved&, Effects&);
  void on(Time, const ShellMade&, Effects&);
  void on(Time, const LayersLost&, Effects&);
  void order(Time, const StartOrder&, Effects&);
  void order(Time, const StopOrder&, Effects&);
  void order(Time, const WarmOrder&, Effects&);
  void order(Time, const ScrubOrder&, Effects&);

  bool refuse(const StartOrder&, Effects&);
  void fetch(Time, SandboxId, const Sandbox&, std::vector<NodeId> sources, Effects&);
  void await_image(Time, SandboxId, Effects&);
  void give_up_restoring(Sandbox&, SnapshotNews why, Effects&);
  void announce(Time, Effects&);
  void drive_cache(Time, const images::CacheEvent&, Effects&);
  void image_ready(Time, SandboxId, Effects&);
  void stop(Time, SandboxId, Sandbox&, EndReason, Duration grace, Effects&);
  void ended(Time, SandboxId, EndReason, std::string note, Effects&);
  void wait_for_restart(Time, SandboxId, Sandbox&, std::string note, Effects&);
  void start_due(Time, Effects&);
  void start(Sandbox&, Effects&);
  void runs(Time, SandboxId, Sandbox&, std::string note, Effects&);
  void make_shell(Time, Effects&);
  void tell_restart(const Sandbox&, std::string note, Effects&);
  void free_start_slot(const Sandbox&);
  void take(const StartOrder&, int sign);
  void report(NodeReport, Effects&);

  const node::Config* config_;
  State state_;
  images::Cache cache_;
};

}  // namespace chalk::node
