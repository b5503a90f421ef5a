// Sandboxes: the life of every sandbox, from a request to gone.
//
//   accepted -> image ready -> placed (starting on a node) -> running -> ending -> gone
//
// One that its node starts again stays `running` in between.
//
// In: requests and what the other machines and nodes say. Out: replies, questions to admission,
// orders to nodes, and the release of what a sandbox held.
// A gang (gangs.cc) starts together and is of no use in part. Where a member cannot be started, or
// leaves its node to be started elsewhere, the others leave theirs too and all wait for room again;
// where one of them has run and may not be started again, and where a member ends in any way but by
// itself or at its lifetime, the rest ends with the reason `gang_ended`. So do those whose gang is
// not whole when it should be: the missing ones were perhaps refused, or ended before these asked.
// Invariants: one idempotency key names at most one sandbox; each sandbox is released exactly once
// per placement; after `gone` nothing about it is ordered again.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/changes.h"
#include "model/core/machine.h"
#include "model/core/resources.h"
#include "model/core/slot_table.h"
#include "model/core/timers.h"
#include "model/protocol/protocol.h"

namespace chalk::sandbox {

struct Config {
  std::uint32_t sandboxes_max = 4'000'000;  // live at once
  std::uint32_t keys_max = 10'000'000;
  Duration key_retention =
      seconds(86'400);                    // a key is remembered so long after its sandbox is gone
  Duration start_timeout = seconds(600);  // from the order to the report that it runs
  std::uint32_t start_attempts = 3;       // of a sandbox or gang, until it is given up
  Duration lifetime_max = seconds(30 * 86'400);
  std::uint32_t gang_max = 1'000;     // members
  Duration gang_grace = seconds(30);  // of a gang that ends, between asking and killing
  Duration gang_gather = seconds(600);  // from the first member's request to the last's
  CHALK_FIELDS(Config, sandboxes_max, keys_max, key_retention, start_timeout, start_attempts,
               lifetime_max, gang_max, gang_grace, gang_gather)
};

enum class Phase : std::uint8_t { accepted, placed, running, ending };

// ---- events
struct Requested {
  std::uint64_t reply_to = 0;  // chosen by the caller, comes back in every reply
  std::string key;             // idempotency key, unique per tenant; empty for none
  TenantId tenant;
  GroupId group;  // 0 for a bare sandbox
  Resources resources;
  ImageId image;
  bool image_known = false;  // said by the root: the catalogue has it, or none is needed
  bool fits = true;          // said by the root: an empty node of some pool has room for it
  PoolId pool;
  Duration lifetime;  // 0 for none
  bool restart = false;  // by its node, when it ends by itself
  Priority priority = 0;
  Gang gang = {};
  CHALK_FIELDS(Requested, reply_to, key, tenant, group, resources, image, image_known, fits, pool,
               lifetime, restart, priority, gang)
};
struct AdmissionRefused {
  SandboxId sandbox;
  std::uint8_t rule = 0;  // tenancy's or the scheduler's rule, for the reply
  std::int64_t needed = 0;
  std::int64_t in_use = 0;
  std::int64_t limit = 0;
  CHALK_FIELDS(AdmissionRefused, sandbox, rule, needed, in_use, limit)
};
struct Placed {
  SandboxId sandbox;
  NodeId node;
  std::uint32_t gpu_mask = 0;
  CHALK_FIELDS(Placed, sandbox, node, gpu_mask)
};
struct Started {
  SandboxId sandbox;
  NodeId node;
  std::string note = {};
  CHALK_FIELDS(Started, sandbox, node, note)
};
struct NodeRestarted {  // it waits on its node for the next start, or runs again
  SandboxId sandbox;
  NodeId node;
  std::uint32_t count = 0;
  bool running = false;
  std::string note = {};
  CHALK_FIELDS(NodeRestarted, sandbox, node, count, running, note)
};
struct NodeRefused {
  SandboxId sandbox;
  NodeId node;
  NodeRefusal rule{};
  CHALK_FIELDS(NodeRefused, sandbox, node, rule)
};
struct Ended {
  SandboxId sandbox;
  NodeId node;
  EndReason reason{};
  std::string note = {};
  CHALK_FIELDS(Ended, sandbox, node, reason, note)
};
struct TerminateRequested {
  SandboxId sandbox;
  Duration grace = {};  // between asking the workload to end and killing it
  CHALK_FIELDS(TerminateRequested, sandbox, grace)
};
struct NodeLost {
  NodeId node;
  CHALK_FIELDS(NodeLost, node)
};
// Its node is wanted otherwise: it is stopped there and started on another one. Only what has not
// run, or may be started again (`restart`), obeys; the lifetime goes on.
struct MoveAsked {
  SandboxId sandbox;
  CHALK_FIELDS(MoveAsked, sandbox)
};
// It makes way for a more important one: it is stopped, as if that had been asked. What may be
// moved (MoveAsked) waits for another node then; the rest ends with the reason `preempted`, but for
// what has run to its end by itself meanwhile.
struct Preempted {
  SandboxId sandbox;
  Duration grace = {};  // between asking the workload to end and killing it
  CHALK_FIELDS(Preempted, sandbox, grace)
};
// Control itself was away: what nodes had to say about starts, and the rest of a gang, may have come
// meanwhile and not been heard, so they have all of their time again.
struct Resumed {
  CHALK_FIELDS(Resumed)
};
using Event = std::variant<Requested, AdmissionRefused, Placed, Started, NodeRefused, Ended,
                           TerminateRequested, NodeLost, Woken, NodeRestarted, MoveAsked,
                           Preempted, Resumed>;

// ---- effects
enum class Refusal : std::uint8_t {
  unknown_image,
  sandboxes_limit,
  keys_limit,
  lifetime_too_long,
  no_resources,
  never_fits,
  admission,
  gang_size  // larger than a gang may be, another than the gang has, or more members than that
};
struct Accepted {
  std::uint64_t reply_to = 0;
  SandboxId sandbox;
  bool repeated = false;  // the key had been seen: this is the sandbox of the first request
  CHALK_FIELDS(Accepted, reply_to, sandbox, repeated)
};
struct Refused {
  std::uint64_t reply_to = 0;
  SandboxId sandbox;  // 0 when it was never accepted
  GroupId group;
  Refusal rule{};
  std::uint8_t admission_rule = 0;  // tenancy's rule when rule is admission
  std::int64_t needed = 0;
  std::int64_t in_use = 0;
  std::int64_t limit = 0;
  CHALK_FIELDS(Refused, reply_to, sandbox, group, rule, admission_rule, needed, in_use, limit)
};
struct AskAdmission {
  SandboxId sandbox;
  TenantId tenant;
  Resources resources;
  bool again = false;  // it was admitted before, and has left its node
  CHALK_FIELDS(AskAdmission, sandbox, tenant, resources, again)
};
struct SendStart {
  NodeId node;
  SandboxId sandbox;
  CHALK_FIELDS(SendStart, node, sandbox)
};
struct SendStop {
  NodeId node;
  SandboxId sandbox;
  Duration grace = {};
  CHALK_FIELDS(SendStop, node, sandbox, grace)
};
struct StartSettled {  // its start slot is free
  SandboxId sandbox;
  CHALK_FIELDS(StartSettled, sandbox)
};
struct Unplace {  // give back reservation and quota of one placement
  SandboxId sandbox;
  NodeId node;  // 0 when it was still waiting
  CHALK_FIELDS(Unplace, sandbox, node)
};
struct Running {
  std::uint64_t reply_to = 0;
  SandboxId sandbox;
  NodeId node;
  GroupId group;
  Duration took;  // since the request
  std::string note = {};
  CHALK_FIELDS(Running, reply_to, sandbox, node, group, took, note)
};
struct Restarted {
  std::uint64_t reply_to = 0;
  SandboxId sandbox;
  std::uint32_t count = 0;  // starts after the first, with the one that it waits for
  bool running = false;     // again; else it waits
  std::string note = {};    // how it ended, or of its start
  CHALK_FIELDS(Restarted, reply_to, sandbox, count, running, note)
};
struct Gone {
  std::uint64_t reply_to = 0;
  SandboxId sandbox;
  GroupId group;
  EndReason reason{};
  bool was_running = false;  // though perhaps never said to be: it ran to its end just as it was stopped
  bool stop_asked = false;   // somebody had asked for its end
  std::string note = {};
  CHALK_FIELDS(Gone, reply_to, sandbox, group, reason, was_running, stop_asked, note)
};
using Effect = std::variant<Accepted, Refused, AskAdmission, SendStart, SendStop, StartSettled,
                            Unplace, Running, Gone, WakeAt, Restarted>;

struct Record {
  std::uint64_t reply_to = 0;
  TenantId tenant;
  GroupId group;
  Resources resources;
  ImageId image;
  PoolId pool;
  Duration lifetime;
  Time requested;
  Time start_deadline = kNever;
  NodeId node;
  std::uint32_t gpu_mask = 0;
  Phase phase = Phase::accepted;
  bool ran = false;
  bool stop_asked = false;
  bool restart = false;
  bool waits = false;  // on its node, for its next start
  bool moving = false;  // stopped to be started on another node
  bool preempted = false;  // stopped for one of its tenant's of higher priority
  Priority priority = 0;
  Gang gang = {};
  bool gang_ended = false;  // stopped since its gang has ended
  std::uint32_t restarts = 0;
  std::uint32_t attempts = 0;  // placed so often since it was asked for, or wanted elsewhere
  std::array<NodeId, 2> failed_on{};  // of these attempts, the newest first
  Time runs_since = kNever;  // on its present node
  std::string key;
  SandboxId previous_beside;  // on its node; of its group, while it waits for one
  SandboxId next_beside;
  CHALK_FIELDS(Record, reply_to, tenant, group, resources, image, pool, lifetime, requested,
               start_deadline, node, gpu_mask, phase, ran, stop_asked, restart, waits, moving,
               preempted, priority, gang, gang_ended, restarts, attempts, failed_on, runs_since,
               key, previous_beside, next_beside)
};
struct Key {
  TenantId tenant;
  std::string text;
  auto operator<=>(const Key&) const = default;
  CHALK_FIELDS(Key, tenant, text)
};
struct GangMembers {
  std::uint32_t size = 0;
  std::uint32_t came = 0;           // members so far, also those that are gone
  bool ended = false;               // the rest is on its way out
  Time deadline = kNever;           // all must have come by then
  std::vector<SandboxId> members;  // that live
  CHALK_FIELDS(GangMembers, size, came, ended, deadline, members)
};
struct State {
  SlotTable<SandboxId, Record> sandboxes;
  std::vector<SandboxId> first_on_node;  // by node slot
  std::vector<SandboxId> last_waiting;   // of a group, by group - 1: the newest that has no node
  std::map<Key, SandboxId> keys;
  std::map<GangKey, GangMembers> gangs;  // with a member that lives
  Timers<SandboxId> start_deadlines;
  Timers<Key> retentions;
  Timers<GangKey> gatherings;
  Changes changes;  // nodes by slot, on which a sandbox is placed, runs, is to end, or no more is
  Time wake = kNever;  // the last WakeAt
  CHALK_FIELDS(State, sandboxes, first_on_node, last_waiting, keys, gangs, start_deadlines,
               retentions, gatherings, changes, wake)
};

class Sandboxes {
 public:
  using Config = sandbox::Config;
  using Event = sandbox::Event;
  using Effect = sandbox::Effect;
  using State = sandbox::State;

  explicit Sandboxes(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, std::vector<Effect>& effects);
  const State& state() const { return state_; }
  const Record* find(SandboxId sandbox) const { return state_.sandboxes.find(sandbox); }
  // visit(id, record) for each sandbox placed on the node.
  template <class Visit>
  void for_each_on(NodeId node, Visit&& visit) const {
    const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(node);
    if (slot >= state_.first_on_node.size()) return;
    for (SandboxId at = state_.first_on_node[slot]; at;) {
      const Record& record = state_.sandboxes.at(at);
      const SandboxId id = at;
      at = record.next_beside;
      if (record.node == node) visit(id, record);
    }
  }

  // The last of a group's that began to wait for a node. 0: none waits.
  SandboxId last_waiting(GroupId group) const {
    const bool known = group && group.value <= state_.last_waiting.size();
    return known ? state_.last_waiting[group.value - 1] : SandboxId{};
  }

 private:
  using Effects = std::vector<Effect>;
  void on(Time, const Requested&, Effects&);
  void on(Time, const AdmissionRefused&, Effects&);
  void on(Time, const Placed&, Effects&);
  void on(Time, const Started&, Effects&);
  void on(Time, const NodeRestarted&, Effects&);
  void on(Time, const NodeRefused&, Effects&);
  void on(Time, const Ended&, Effects&);
  void on(Time, const TerminateRequested&, Effects&);
  void on(Time, const NodeLost&, Effects&);
  void on(Time, const Woken&, Effects&);
  void on(Time, const MoveAsked&, Effects&);
  void on(Time, const Preempted&, Effects&);
  void on(Time, const Resumed&, Effects&);

  Record* placed_on(SandboxId, NodeId);
  SandboxId* first_beside(const Record&);
  void link(SandboxId, Record&);
  void unlink(Record&);
  void unplace(SandboxId, Record&, Effects&);
  void try_again_or_end(Time, SandboxId, Record&, EndReason, const std::string& note, Effects&);
  void start_elsewhere(Time, SandboxId, Record&, Effects&);
  void end(Time, SandboxId, EndReason, const std::string& note, Effects&);
  // Its node is to end it; the answer is Ended.
  void order_stop(SandboxId, Record&, Duration grace, Effects&);
  void changed_on(NodeId);
  // gangs.cc
  bool refuse_gang(const Requested&, Effects&) const;
  void join_gang(Time, SandboxId, const Record&);
  void leave_gang(Time, SandboxId, GangKey, bool ends_it, Effects&);
  void refuse_rest(const AdmissionRefused&, GangKey, Effects&);
  void end_gang(Time, GangMembers&, Effects&);
  void end_late_gangs(Time, Effects&);
  void stop_with_gang(SandboxId, Effects&);
  bool may_regather(SandboxId, const Record&) const;
  void regather(SandboxId, const Record&, Effects&);

  Config config_;
  State state_;
};
static_assert(Machine<Sandboxes>);

}  // namespace chalk::sandbox
