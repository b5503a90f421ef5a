// Checkers that watch a run: safety at every event, agreement now and then, liveness at the end.
//
// They compare what really lives on the nodes (truth.h) with capacity, ownership and lifetimes, and
// with what the machines believe. The numbers are those of docs/invariants.md.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/control/control.h"
#include "sim/check/truth.h"

namespace chalk::sim {

struct CheckLimits {
  bool separate_tenants = true;
  Duration stop;             // how long a kill takes
  Duration orphan_bound;     // a sandbox that control does not know must be gone by then
  std::map<std::uint64_t, std::uint32_t> replicas_max;  // by group
};

class Checker {
 public:
  static constexpr std::size_t kBrokenMax = 20;  // told; more are only counted

  explicit Checker(CheckLimits limits) : limits_(std::move(limits)) {}

  // What happens on the nodes, in order.
  void started(Time now, const TrueNode& node, const LiveSandbox& sandbox, const NodeShape& shape);
  void running(Time now, const LiveSandbox& sandbox);
  void ended(Time now, const TrueNode& node, const LiveSandbox& sandbox);
  // A call was given to a replica of `group`.
  void dispatched(Time now, GroupId group, const LiveSandbox* replica);
  void step(Time now);  // every step of any machine: time never goes back

  // Compares the whole truth with what control believes. Costs all live sandboxes.
  void compare(Time now, const Truth& truth, const std::vector<TrueNode>& nodes,
               const control::Control& control);
  void at_end(Time now, std::size_t unfinished, bool cut);

  const std::vector<std::string>& broken() const { return broken_; }
  std::uint64_t broken_count() const { return broken_count_; }

 private:
  struct Use {
    std::int64_t cpu_millicores = 0;
    std::int64_t memory_bytes = 0;
    std::int64_t disk_bytes = 0;
    std::int32_t gpu_millis[kGpusPerNodeMax] = {};
    std::int32_t starting = 0;
    std::int32_t sandboxes = 0;
    TenantId owner;
  };
  Use& use_of(std::uint32_t node);
  void apply(Use& use, const LiveSandbox& sandbox, int sign);
  void broke(Time now, int invariant, const std::string& what);

  CheckLimits limits_;
  std::vector<Use> use_;
  Time last_;
  std::vector<std::string> broken_;
  std::uint64_t broken_count_ = 0;
};

}  // namespace chalk::sim
