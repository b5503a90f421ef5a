// Checkers that watch a run: safety at every event, agreement now and then, liveness at the end.
//
// They compare what really lives on the nodes (truth.h) with capacity, ownership and lifetimes, and
// with what the machines believe. The numbers are those of docs/invariants.md.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/control/control.h"
#include "sim/check/truth.h"

namespace chalk::sim {

struct CheckLimits {
  Duration stop;          // how long a kill takes
  Duration orphan_bound;  // a sandbox that control does not know must be gone by then
  Duration look;          // of the autoscaler at a group that has replicas: at least so often
  struct Replicas {
    std::uint32_t max = 0;
    std::uint32_t min = 0;
    std::uint32_t concurrency = 1;
    std::int64_t slack_permille =
        -1;  // more than calls ever needed; -1: the policy promises nothing
  };
  std::map<std::uint64_t, Replicas> groups;  // by group
};

class Checker {
 public:
  static constexpr std::size_t kBrokenMax = 20;  // told; more are only counted

  explicit Checker(CheckLimits limits);

  // What happens on the nodes, in order.
  void started(Time now, const TrueNode& node, const LiveSandbox& sandbox, const NodeShape& shape);
  void running(Time now, const LiveSandbox& sandbox);
  // It is started from what was saved on a machine of the kind `made_on`.
  void restored(Time now, const LiveSandbox& sandbox, const MachineKind& made_on,
                const MachineKind& here);
  void ended(Time now, const TrueNode& node, const LiveSandbox& sandbox);
  // A call was given to a replica of `group`.
  void dispatched(Time now, GroupId group, const LiveSandbox* replica);
  void step(Time now);  // every step of any machine: time never goes back
  // One request of a client, however often it is repeated, names one sandbox, unless it is refused
  // in between: a refused request leaves no trace.
  void accepted(Time now, std::uint64_t request, SandboxId sandbox);
  void refused(std::uint64_t request);
  // Whether somebody must say how many calls to the group are open at once.
  bool counts_calls(GroupId group) const { return group.value <= most_open_.size(); }
  void called(GroupId group, std::uint32_t open) {
    std::uint32_t& most = most_open_[group.value - 1];
    if (open > most) most = open;
  }

  // Compares the whole truth with what control believes. Costs all live sandboxes.
  void compare(Time now, const Truth& truth, const std::vector<TrueNode>& nodes,
               const control::Control& control);
  // `at_work`: of the unfinished, those whose time is not over. `cut`: the end was none of theirs.
  void at_end(Time now, std::size_t unfinished, std::size_t at_work, bool cut);

  const std::vector<std::string>& broken() const { return broken_; }
  std::uint64_t broken_count() const { return broken_count_; }

 private:
  struct Use {
    std::int64_t cpu_millicores = 0;
    std::int64_t memory_bytes = 0;
    std::int64_t disk_bytes = 0;
    std::int32_t gpu_millis[kGpusPerNodeMax] = {};
    std::int32_t starting = 0;
    std::int32_t restarting = 0;
    std::int32_t sandboxes = 0;
    TenantId owner;
  };
  Use& use_of(std::uint32_t node);
  void apply(Use& use, const LiveSandbox& sandbox, int sign);
  void broke(Time now, int invariant, const std::string& what);

  CheckLimits limits_;
  void compare_nominations(Time now, const control::Control& control);
  void compare_gangs(Time now, const control::Control& control);
  void compare_waiting(Time now, const control::Control& control);
  void compare_replicas(Time now, GroupId group, std::uint32_t live, std::uint32_t wanted,
                        const autoscaler::Group& known);

  // A gateway gives back no replica that is in use. Where one was started in the place of such a
  // one there is one too many, until all have started and the autoscaler has looked again.
  struct Declined {
    std::uint32_t replicas = 0;
    Time since;  // that nothing of the group stops or starts
  };
  std::map<GroupId, Declined> declined_;

  std::vector<Use> use_;
  std::vector<std::pair<std::uint64_t, SandboxId>> accepted_;  // request and its sandbox, by slot
  std::vector<std::uint32_t>
      most_open_;  // calls at once, by group, where a policy promises something
  Time last_;
  std::vector<std::string> broken_;
  std::uint64_t broken_count_ = 0;
};

}  // namespace chalk::sim
