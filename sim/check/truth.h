// What really is: which sandboxes live on which node, whatever the machines believe.
#pragma once
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "model/core/ids.h"
#include "model/core/random.h"
#include "model/core/resources.h"
#include "model/core/time.h"

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
  Time running = kNever;    // since when
  bool killed = false;      // a kill is on its way
};

// One real node. A crash ends what lives on it; a return is a new boot with the next incarnation.
struct TrueNode {
  std::uint32_t pool = 0;
  std::uint32_t zone = 0;
  std::uint32_t machine = 0;  // index in Machines
  std::uint32_t host = 0;     // in SimGrid's platform
  std::uint64_t purchase = 0;
  std::uint64_t incarnation = 0;
  std::uint32_t epoch = 0;
  NodeId id;                  // as control welcomed it last
  NodeId says_id;             // who it says it is to control, and by which incarnation
  std::uint64_t says_incarnation = 0;
  bool up = false;
  bool released = false;
  Time wake = kNever;
  Time up_since;
  TenantId last_owner;        // who last had something here, until a scrub
  std::vector<SandboxId> live;
};

class Truth {
 public:
  LiveSandbox* find(std::uint32_t node, SandboxId sandbox) {
    const auto found = live_.find({sandbox.value, node});
    return found == live_.end() ? nullptr : &found->second;
  }
  LiveSandbox& add(const LiveSandbox& sandbox) {
    return live_[{sandbox.sandbox.value, sandbox.node}] = sandbox;
  }
  void remove(std::uint32_t node, SandboxId sandbox) { live_.erase({sandbox.value, node}); }
  std::size_t size() const { return live_.size(); }
  // In no particular order: for checks and sums only.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [place, sandbox] : live_) visit(sandbox);
  }

 private:
  struct Place {
    std::uint64_t sandbox;
    std::uint32_t node;
    bool operator==(const Place&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Place& place) const {
      return mix64(place.sandbox ^ std::uint64_t{place.node} << 40);
    }
  };
  std::unordered_map<Place, LiveSandbox, Hash> live_;
};

}  // namespace chalk::sim
