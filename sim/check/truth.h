// What really is: which sandboxes live on which node, whatever the machines believe.
#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "model/core/ids.h"
#include "model/core/resources.h"
#include "model/core/slot_table.h"
#include "model/core/time.h"
#include "model/node/node.h"

namespace chalk::sim {

struct LiveSandbox {
  SandboxId sandbox;
  std::uint32_t node = 0;   // index in the world
  std::uint32_t epoch = 0;  // of the node's boot
  TenantId owner;           // the key under which its node is held
  TenantId tenant;
  GroupId group;
  Resources resources;
  std::uint32_t gpu_mask = 0;
  Duration lifetime;
  Time ordered;
  Time running = kNever;  // since when
  Time first_running = kNever;  // where it was started again: since when at all
  bool again = false;           // by its node, after it had ended by itself
  bool killed = false;    // a kill is on its way
  node::StartMode mode = node::StartMode::cold;
};

// One real node. A crash ends what lives on it; a return is a new boot with the next incarnation.
struct TrueNode {
  std::uint32_t pool = 0;
  std::uint32_t zone = 0;
  std::uint32_t machine = 0;  // index in Machines
  std::uint32_t host = 0;     // in SimGrid's platform, while it is up
  std::uint64_t purchase = 0;
  std::uint64_t incarnation = 0;
  std::uint32_t epoch = 0;
  NodeId id;       // as control welcomed it last
  NodeId says_id;  // who it says it is to control, and by which incarnation
  std::uint64_t says_incarnation = 0;
  bool up = false;
  bool released = false;
  Time wake = kNever;
  Time up_since;
  TenantId last_owner;  // who last had something here, until a scrub
  std::vector<SandboxId> live;
  std::uint32_t agent = 0;  // which process of the agent it is
  bool agent_up = true;
  std::vector<SandboxId> exited;  // while the agent was away
};

// By the slot of its id; what lives on a second node, or under an id whose slot has been given away
// while the old one was still being killed, is rare and lies apart.
class Truth {
 public:
  LiveSandbox* find(std::uint32_t node, SandboxId sandbox) {
    const std::size_t slot = slot_of(sandbox);
    if (slot < by_slot_.size() && by_slot_[slot].sandbox == sandbox &&
        by_slot_[slot].node == node) {
      return &by_slot_[slot];
    }
    const auto found = apart_.find({sandbox, node});
    return found == apart_.end() ? nullptr : &found->second;
  }
  // Where calls for it go: a node that was cut off may run it as well, until it is told to end it.
  // Of those that run and are not told so, where it was started last.
  const LiveSandbox* serving(SandboxId sandbox) const {
    const auto rank = [](const LiveSandbox& live) {
      return std::pair(live.running != kNever && !live.killed, live.ordered);
    };
    const std::size_t slot = slot_of(sandbox);
    const LiveSandbox* found = nullptr;
    if (slot < by_slot_.size() && by_slot_[slot].sandbox == sandbox) found = &by_slot_[slot];
    if (apart_.empty()) return found;
    for (auto at = apart_.lower_bound({sandbox, 0});
         at != apart_.end() && at->first.first == sandbox; ++at) {
      if (found == nullptr || rank(at->second) > rank(*found)) found = &at->second;
    }
    return found;
  }
  void add(const LiveSandbox& live) {
    const std::size_t slot = slot_of(live.sandbox);
    if (by_slot_.size() <= slot) by_slot_.resize(slot + 1);
    if (by_slot_[slot].sandbox) {
      apart_[{live.sandbox, live.node}] = live;
    } else {
      by_slot_[slot] = live;
    }
    ++size_;
  }
  void prefetch(SandboxId sandbox) const {  // a hint to the processor
    if (slot_of(sandbox) < by_slot_.size()) __builtin_prefetch(&by_slot_[slot_of(sandbox)]);
  }
  void remove(std::uint32_t node, SandboxId sandbox) {
    LiveSandbox* found = find(node, sandbox);
    if (found == nullptr) return;
    --size_;
    if (apart_.erase({sandbox, node}) == 0) found->sandbox = {};
  }
  std::size_t size() const { return size_; }
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const LiveSandbox& live : by_slot_) {
      if (live.sandbox) visit(live);
    }
    for (const auto& [place, live] : apart_) visit(live);
  }

 private:
  static std::size_t slot_of(SandboxId sandbox) {
    return SlotTable<SandboxId, int>::slot_of(sandbox);
  }

  std::vector<LiveSandbox> by_slot_;
  std::map<std::pair<SandboxId, std::uint32_t>, LiveSandbox> apart_;
  std::size_t size_ = 0;
};

}  // namespace chalk::sim
