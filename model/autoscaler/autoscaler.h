// Autoscaler: how many replicas each scaling group should have.
//
// In: demand as gateways report it (totals that grow until they begin again), starts and ends of replicas. Out: start
// so many, stop so many, start so many less, with the numbers behind it.
// Invariants: ready and starting replicas never exceed max_replicas; starting replicas count as
// capacity, so a slow start is never answered by more starts, and those on their way out do not;
// what is desired does not fall while calls wait and starts are under way (chalk), and never has
// two goals for one load.
//
// Policies, chosen per group:
//   fixed  one start for each call that found no free slot, and for each that the gateway expects,
//          and at most one a tick while some wait whose start was refused or failed; the gateway
//          gives idle replicas back by its keep-alive policy. The baseline of AWS Lambda, OpenWhisk
//          and SimFaaS.
//   kpa    Knative's autoscaler with its published constants: averages over 60 s and 6 s, panic at
//          200 % of what is ready, no scaling down in panic, target utilisation 70 %. kpa.cc
//   hpa    Kubernetes' HorizontalPodAutoscaler on utilisation: the ratio to the target within 10 %,
//          at most doubled in 15 s, down by the highest wish of 300 s, never to zero. hpa.cc
//   chalk  enough for the load once a start has paid plus z standard deviations, kept for as long
//          as the load is not surely another; up no further than is sure, down only to the most
//          that was surely enough in keep_alive. No modes: leaving one undoes no plan. chalk.cc
#pragma once
#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "model/autoscaler/load.h"
#include "model/core/fifo.h"
#include "model/core/machine.h"
#include "model/core/timers.h"
#include "model/protocol/protocol.h"

namespace chalk::autoscaler {

struct Config {
  std::uint32_t groups_max = 1'000'000;
  Duration tick = seconds(2);  // between two looks at a group that has replicas
  Duration stable_window = seconds(60);
  Duration panic_window = seconds(6);
  std::int64_t panic_permille = 2000;         // of the ready replicas
  std::int64_t rate_up_permille = 1'000'000;  // per look, of the ready replicas
  std::int64_t rate_down_permille = 500;      // what may remain per look
  Duration scale_to_zero_grace = seconds(30);
  Duration hpa_sync = seconds(15);  // between two looks, and what its metric is averaged over
  Duration hpa_stabilization = seconds(300);
  std::int64_t hpa_tolerance_permille = 100;
  // chalk: so many standard deviations end a window, are a reason to go on up, to go on down, and
  // to turn; of a queue, so many times what slack makes of one.
  std::int64_t window_doubts = 5;
  std::int64_t up_doubts = 3;
  std::int64_t down_doubts = 2;
  std::int64_t turn_doubts = 6;
  Duration memory = seconds(600);  // chalk: the longest window
  CHALK_FIELDS(Config, groups_max, tick, stable_window, panic_window, panic_permille,
               rate_up_permille, rate_down_permille, scale_to_zero_grace, hpa_sync,
               hpa_stabilization, hpa_tolerance_permille, window_doubts, up_doubts,
               down_doubts, turn_doubts, memory)
};

enum class Kind : std::uint8_t { fixed, kpa, chalk, hpa };
struct GroupPolicy {
  Kind kind = Kind::chalk;
  std::uint32_t min_replicas = 0;
  std::uint32_t max_replicas = 1000;
  std::uint32_t concurrency = 1;
  std::int64_t target_permille = 700;  // kpa, hpa: share of concurrency to aim at
  std::int64_t z_permille = 1000;      // chalk: standard deviations of slack
  Duration keep_alive = seconds(600);  // chalk: the trailing window
  CHALK_FIELDS(GroupPolicy, kind, min_replicas, max_replicas, concurrency, target_permille,
               z_permille, keep_alive)
};

// ---- events
struct GroupAdded {
  GroupId group;  // dense, from 1; again to change its policy
  GroupPolicy policy;
  CHALK_FIELDS(GroupAdded, group, policy)
};
struct DemandReported {
  Demand demand;
  CHALK_FIELDS(DemandReported, demand)
};
struct ReplicaStarting {  // answers StartReplicas, once for each
  GroupId group;
  CHALK_FIELDS(ReplicaStarting, group)
};
struct ReplicaStarted {
  GroupId group;
  Duration took;
  CHALK_FIELDS(ReplicaStarted, group, took)
};
struct ReplicaEnded {
  GroupId group;
  bool was_ready = false;
  bool was_leaving = false;  // a ReplicaLeaves had said so
  CHALK_FIELDS(ReplicaEnded, group, was_ready, was_leaving)
};
struct ReplicaLeaves {  // a ready one is to end once its calls are done, whoever wanted that
  GroupId group;
  CHALK_FIELDS(ReplicaLeaves, group)
};
struct Resumed {  // control was away until now
  CHALK_FIELDS(Resumed)
};
using Event = std::variant<GroupAdded, DemandReported, ReplicaStarting, ReplicaStarted,
                           ReplicaEnded, Woken, ReplicaLeaves, Resumed>;

// ---- effects
enum class Why : std::uint8_t {
  minimum,
  held_calls,
  stable_average,
  panic_average,
  forecast,
  window,
  expected_call,
  utilisation,
  backlog,
  served_calls
};
struct StartReplicas {
  GroupId group;
  std::uint32_t count = 0;
  Why why{};
  std::int64_t concurrency_milli = 0;  // the number that asked for it
  std::uint32_t desired = 0;
  CHALK_FIELDS(StartReplicas, group, count, why, concurrency_milli, desired)
};
struct StopReplicas {
  GroupId group;
  std::uint32_t count = 0;
  Why why{};
  std::int64_t concurrency_milli = 0;
  std::uint32_t desired = 0;
  CHALK_FIELDS(StopReplicas, group, count, why, concurrency_milli, desired)
};
// So many starts are wanted no more: those that have no node yet are taken out of the line, the
// newest first. Each answers with ReplicaEnded; the rest goes on. Said again as long as it is so.
struct CancelStarts {
  GroupId group;
  std::uint32_t count = 0;
  Why why{};
  std::int64_t concurrency_milli = 0;
  std::uint32_t desired = 0;
  CHALK_FIELDS(CancelStarts, group, count, why, concurrency_milli, desired)
};
using Effect = std::variant<StartReplicas, StopReplicas, WakeAt, CancelStarts>;

// ---- state
inline constexpr int kBuckets = 12;
// The highest of a figure over a trailing window, exact to a twelfth of it and never too short.
struct Highest {
  std::array<std::uint32_t, kBuckets> parts{};
  std::int64_t part = 0;
  void add(Time now, Duration window, std::uint32_t value);
  std::uint32_t value() const;
  CHALK_FIELDS(Highest, parts, part)
};
struct Group {
  GroupPolicy policy;
  bool known = false;
  std::uint32_t ready = 0;
  std::uint32_t starting = 0;
  std::uint32_t stopping = 0;          // of `ready`: asked of the gateway, not yet ended
  std::uint32_t leaving = 0;           // of `stopping`: as ReplicaLeaves said; they never stay
  Time stop_asked;                     // the last time that any were asked to stop
  Demand last;                         // the newest report
  std::uint64_t holds_answered = 0;    // fixed
  std::uint64_t reloads_answered = 0;  // fixed
  std::uint32_t for_calls = 0;         // fixed: of those that start, ordered for calls that waited
  Time tried_again;                    // fixed: a start for a call whose own was refused or failed
  std::uint64_t finished = 0;          // total
  Time called;                         // when there were calls last
  Fifo<Sample> samples;                // kpa, hpa: back to the start of the stable window
  bool panic = false;
  Time panic_until;
  std::uint32_t panic_desired = 0;
  Time zero_since = kNever;     // kpa: no demand since
  Time sync_at;                 // hpa: its next look
  std::vector<Sample> history;  // chalk: thinned, load.h
  Highest wishes;               // chalk over keep_alive, hpa over its stabilisation
  Highest caps;                 // chalk: the most that each load may have been
  std::uint32_t plan = 0;       // chalk, hpa: what is desired until there is reason for another
  std::uint32_t most = 0;       // chalk: calls at once, ever
  Duration start_took;          // chalk: of late; 0: not known
  Time starting_since;          // the last time that a start began with none under way, or ended
  std::uint32_t desired = 0;    // the last goal, within the bounds
  bool rising = true;           // the last change of it
  std::uint32_t turns = 0;      // how often that changed
  Time look_at = kNever;
  CHALK_FIELDS(Group, policy, known, ready, starting, stopping, leaving, stop_asked, last,
               holds_answered, reloads_answered, for_calls, tried_again, finished, called, samples, panic, panic_until,
               panic_desired, zero_since, sync_at, history, wishes, caps, plan, most, start_took,
               starting_since, desired, rising, turns, look_at)
};
struct State {
  std::vector<Group> groups;  // by group - 1
  Timers<GroupId> timers;
  Time wake = kNever;
  CHALK_FIELDS(State, groups, timers, wake)
};

class Autoscaler {
 public:
  using Config = autoscaler::Config;
  using Event = autoscaler::Event;
  using Effect = autoscaler::Effect;
  using State = autoscaler::State;
  using Effects = std::vector<Effect>;

  explicit Autoscaler(Config config, State state = {})
      : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  const Group* group(GroupId id) const { return const_cast<Autoscaler*>(this)->find(id); }

 private:
  struct Wish {
    std::uint32_t replicas = 0;
    Why why{};
    std::int64_t concurrency_milli = 0;
  };
  void on(Time, const GroupAdded&, Effects&);
  void on(Time, const DemandReported&, Effects&);
  void on(Time, const ReplicaStarting&, Effects&);
  void on(Time, const ReplicaStarted&, Effects&);
  void on(Time, const ReplicaEnded&, Effects&);
  void on(Time, const ReplicaLeaves&, Effects&);
  void on(Time, const Resumed&, Effects&);
  void on(Time, const Woken&, Effects&);

  Group* find(GroupId id);
  void look(Time, GroupId, Group&, Effects&);
  static void begin_otherwise(Group&);
  static std::uint32_t staying_of(const Group&);
  void answer_holds(Time, GroupId, Group&, Effects&);
  bool waits_for_no_start(Time, const Group&) const;
  static void cancel_served(GroupId, const Group&, std::uint32_t ordered, Effects&);
  Wish wish_of_kpa(Time, Group&) const;
  Wish wish_of_hpa(Time, Group&) const;
  Wish wish_of_chalk(Time, Group&) const;
  void learn(Time, Group&, const Demand& next);
  static Duration start_time(Time, const Group&);
  std::int64_t average_milli(Time, const Group&, Duration window, bool busy) const;
  void scale(Time, GroupId, Group&, Wish, Effects&);
  void settle_stops(Group&) const;
  void arm(Time, GroupId, Group&);
  void look_within(Time, Duration, GroupId, Group&);

  Config config_;
  State state_;
};
static_assert(Machine<Autoscaler>);

}  // namespace chalk::autoscaler
