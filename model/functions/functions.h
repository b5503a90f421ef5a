// Functions: which replica serves a call, inside one gateway shard.
//
// In: calls that arrive and finish, replicas that control says are ready or gone. Out: dispatches,
// refusals, demand for control, replicas given back.
// Invariants: a replica never has more than `concurrency` calls; every call is dispatched once,
// refused once, or still queued; a drained or gone replica never gets a call.
// Which waiting call is next is the group's queue order (call_queue.h).
//
// Among the replicas with a free slot the one used most recently is chosen, so that the others can
// fall idle and be given back (the rule of AWS Lambda as measured by Wang et al., ATC'18, and of
// SimFaaS, Mahmoudi and Khazaei, 2021). Which idle replicas stay, and which are asked for before a
// call is expected, is the group's keep-alive policy (protocol's KeepAlive). A call costs O(1).
#pragma once
#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/core/slot_table.h"
#include "model/core/timers.h"
#include "model/functions/call_queue.h"
#include "model/functions/greedy_dual.h"
#include "model/functions/keep_alive.h"
#include "model/protocol/protocol.h"

namespace chalk::functions {

struct Config {
  std::uint32_t groups_max = 1'000'000;
  std::uint32_t replicas_max = 4'000'000;
  Duration report_gap = milliseconds(100);  // between two reports of one group, at least
  Duration patience = seconds(60);  // without delayed_warm_start: a call that has waited so long
                                    // takes any replica, so a start that never comes strands nobody
  std::int64_t idle_bytes_max = 8LL << 30;  // greedy_dual: of all its idle replicas together
  CHALK_FIELDS(Config, groups_max, replicas_max, report_gap, patience, idle_bytes_max)
};

using ReplicaSlot = Id<struct ReplicaTag>;

// ---- events (GroupRouting, Replica... and Drain... are the protocol's)
struct RequestArrived {
  RequestId request;
  GroupId group;
  TenantId caller = {};  // on whose behalf; 0: nobody is told apart
  CHALK_FIELDS(RequestArrived, request, group, caller)
};
struct RequestFinished {
  ReplicaSlot replica;
  TenantId caller = {};  // of the call, and how long it took; 0 where the driver does not know
  Duration took = {};
  CHALK_FIELDS(RequestFinished, replica, caller, took)
};
struct RequestAbandoned {  // the caller hung up; only calls that still wait are affected
  RequestId request;
  GroupId group;
  CHALK_FIELDS(RequestAbandoned, request, group)
};
using Event = std::variant<RequestArrived, RequestFinished, RequestAbandoned, GroupRouting,
                           ReplicaReady, ReplicaGone, DrainReplicas, Woken, DrainReplica>;

// ---- effects
struct Dispatch {
  RequestId request;
  ReplicaSlot replica;
  SandboxId sandbox;
  bool cold = false;  // it waited for a start and is the first call of that replica
  CHALK_FIELDS(Dispatch, request, replica, sandbox, cold)
};
enum class Rule : std::uint8_t { unknown_group, queue_full, queue_timeout };
const char* rule_name(Rule rule);
struct RefuseRequest {
  RequestId request;
  GroupId group;
  Rule rule{};
  std::int64_t value = 0;  // calls queued, or nanoseconds waited
  std::int64_t limit = 0;
  CHALK_FIELDS(RefuseRequest, request, group, rule, value, limit)
};
struct AbortReplica {  // it is gone; the driver fails the calls that it had
  ReplicaSlot replica;
  SandboxId sandbox;
  std::uint32_t in_flight = 0;
  CHALK_FIELDS(AbortReplica, replica, sandbox, in_flight)
};
struct ReportDemand {
  Demand demand;
  CHALK_FIELDS(ReportDemand, demand)
};
struct ReturnReplica {
  GroupId group;
  SandboxId sandbox;
  CHALK_FIELDS(ReturnReplica, group, sandbox)
};
using Effect =
    std::variant<Dispatch, RefuseRequest, AbortReplica, ReportDemand, ReturnReplica, WakeAt>;

// ---- state
struct Replica {
  SandboxId sandbox;
  std::uint32_t group = 0;  // index
  std::uint32_t in_flight = 0;
  std::uint32_t previous = 0;  // in the group's list of replicas with a free slot: slot + 1, 0 none
  std::uint32_t next = 0;
  Time idle_since;
  bool listed = false;
  bool draining = false;
  bool used = false;          // it has had a call, or stands for one that had
  bool reloaded = false;      // asked for before a call; it has had none yet
  std::int64_t priority = 0;  // greedy_dual
  std::int64_t pooled = 0;    // greedy_dual: its memory, while it is idle
  CHALK_FIELDS(Replica, sandbox, group, in_flight, previous, next, idle_since, listed, draining,
               used, reloaded, priority, pooled)
};
struct Group {
  GroupRouting routing;
  CallQueue queue;
  std::uint32_t in_flight = 0;
  std::uint32_t ready = 0;  // replicas that may get calls
  std::uint32_t first = 0;  // most recently used with a free slot
  std::uint32_t last = 0;
  Time changed;  // the totals are up to date until here
  std::int64_t concurrency_ns = 0;
  std::int64_t busy_ns = 0;
  std::uint64_t arrivals = 0;
  std::uint64_t refused = 0;
  std::uint64_t holds = 0;
  std::uint32_t peak = 0;
  bool known = false;
  bool active = false;  // something has happened since the last report
  Time reported{-1'000'000'000'000};
  Time report_at = kNever;
  Time reap_at = kNever;      // look for replicas whose keep-alive is over
  Time patience_at = kNever;  // look at the head of the queue
  // All but `fixed`:
  Habit habit;
  std::vector<Time> left;  // when replicas that went had fallen idle, the newest last
  std::uint64_t reloads = 0;
  Time reload_at = kNever;
  bool reloading = false;  // asked for, not there yet
  Time start_asked = kNever;
  Duration start_took;          // the last one
  std::uint64_t frequency = 0;  // replicas taken since there was none
  CHALK_FIELDS(Group, routing, queue, in_flight, ready, first, last, changed,
               concurrency_ns, busy_ns, arrivals, refused, holds, peak, known, active, reported,
               report_at, reap_at, patience_at, habit, left, reloads, reload_at, reloading,
               start_asked, start_took, frequency)
};
enum class Alarm : std::uint8_t { report, reap, patience, reload };
struct TimerKey {
  std::uint32_t group = 0;
  Alarm alarm{};
  CHALK_FIELDS(TimerKey, group, alarm)
};
struct State {
  std::vector<Group> groups;  // by group - 1
  SlotTable<ReplicaSlot, Replica> replicas;
  std::map<SandboxId, ReplicaSlot> by_sandbox;
  Timers<TimerKey> timers;
  GreedyDual idle;  // of the groups with that policy, by slot
  Time wake = kNever;
  CHALK_FIELDS(State, groups, replicas, by_sandbox, timers, idle, wake)
};

class Functions {
 public:
  using Config = functions::Config;
  using Event = functions::Event;
  using Effect = functions::Effect;
  using State = functions::State;
  using Effects = std::vector<Effect>;

  explicit Functions(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  // The same, without wrapping the event: for the root, on the road of every call.
  template <class One>
  void take(Time now, const One& event, Effects& effects) {
    on(now, event, effects);
    if (state_.timers.next() != state_.wake) tell_wake(effects);
  }
  const State& state() const { return state_; }

 private:
  void on(Time, const RequestArrived&, Effects&);
  void on(Time, const RequestFinished&, Effects&);
  void on(Time, const RequestAbandoned&, Effects&);
  void on(Time, const GroupRouting&, Effects&);
  void on(Time, const ReplicaReady&, Effects&);
  void on(Time, const ReplicaGone&, Effects&);
  void on(Time, const DrainReplicas&, Effects&);
  void on(Time, const DrainReplica&, Effects&);
  void on(Time, const Woken&, Effects&);

  Group* find(GroupId id);
  void changed(Time now, Group& group, std::uint32_t index);
  void dispatch(Time, RequestId, Group&, std::uint32_t slot, bool cold, Effects&);
  bool enqueue(Time, const RequestArrived&, Group&, Effects&);
  void take_queued(Time, Group&, std::uint32_t slot, bool cold, Effects&);
  void settle(Time, std::uint32_t slot, Effects&);
  void list_first(Group&, std::uint32_t slot);
  void list_all(Group&, std::uint32_t index);
  void unlist(Group&, std::uint32_t slot);
  void give_back(std::uint32_t slot, Effects&);
  void take_out(Group&, std::uint32_t slot, Effects&);
  // What the policies of keeping learn and do; keeping.cc.
  void falls_idle(std::uint32_t slot, Effects&);
  void pool(std::uint32_t slot);
  void keep_otherwise(Group&);
  void pool_idle(Group&, Effects&);
  void taken(Time, Group&, std::uint32_t slot);
  void missed(Time, Group&);
  void stands_in(Time, Group&, Replica&);
  void leaves(std::uint32_t slot);
  void gives_back(Group&, std::uint32_t slot);
  void evict(Effects&);
  void reload(Time, Group&, std::uint32_t index, Effects&);
  void arm_reload(Time, Group&, std::uint32_t index);
  static Time idle_until(const Group&, const Replica&);
  void report(Time, Group&, Effects&);
  void report_hold(Time, Group&, std::uint32_t index, Effects&);
  void reap(Time, std::uint32_t index, Effects&);
  void look_at_queue(Time, std::uint32_t index, Effects&);
  void arm_reap(Time, Group&, std::uint32_t index);
  void arm_patience(Time, Group&, std::uint32_t index);
  void tell_wake(Effects&);

  Config config_;
  State state_;
};
static_assert(Machine<Functions>);

}  // namespace chalk::functions
