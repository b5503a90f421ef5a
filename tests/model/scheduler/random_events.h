// Random events for the scheduler over few, small nodes, so that everything collides.
#pragma once
#include <algorithm>
#include <cstdint>
#include <variant>
#include <vector>

#include "model/core/random.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {

struct Events {
  std::uint32_t nodes = 8;  // node slots in play
  std::uint32_t sandboxes = 40;
  std::uint64_t zones = 3, pools = 3, owners = 3, images = 4, groups = 3;
  bool gpus = true;
  bool fine_amounts = false;  // amounts hardly ever equal, instead of hardly ever different
  bool idle_shapes = false;   // all nodes are alike
};

// Each draw is one event; what is live is guessed, so late, repeated and unknown ones come too.
class RandomEvents {
 public:
  RandomEvents(std::uint64_t seed, Events mix)
      : random_{seed, 0}, mix_(mix), generations_(mix.nodes, 1) {}

  Event node_added(std::uint32_t slot) {
    NodeAdded event;
    if (random_.below(4) != 0) ++generations_[slot];  // else a repeated report
    event.node = node_id(slot, generations_[slot] - (random_.below(8) == 0));
    const std::int64_t size = mix_.idle_shapes ? 2 : 1 + random_.below(4);
    event.shape.cpu_millicores = size * 1000;
    event.shape.memory_bytes = size * (std::int64_t{4} << 30);
    event.shape.disk_bytes = std::int64_t{8} << 30;
    event.shape.gpus = mix_.gpus && random_.below(2) ? random_.below(5) : 0;
    event.shape.gpu_model = random_.below(2);
    event.shape.start_slots = random_.below(4) == 0 ? 1 : 4;
    event.shape.sandboxes_max = random_.below(4) == 0 ? 2 : 16;
    event.dedicated = random_.below(4) == 0;
    event.pool = {1 + random_.below(mix_.pools)};
    event.zone = {1 + random_.below(mix_.zones)};
    event.owner = {random_.below(3) == 0 ? 1 + random_.below(mix_.owners) : 0};
    return event;
  }
  Event asked() {
    PlaceAsked event;
    event.sandbox = sandbox_id();
    event.owner = {random_.below(20) == 0 ? 0 : 1 + random_.below(mix_.owners)};
    event.ask = resources();
    if (random_.below(4) == 0) event.pool = {1 + random_.below(mix_.pools + 1)};
    if (random_.below(2)) event.image = {1 + random_.below(mix_.images)};
    if (random_.below(2)) event.group = {1 + random_.below(mix_.groups)};
    if (random_.below(4) == 0) event.avoid = {some_node(), random_.below(2) ? some_node() : NodeId{}};
    event.own_only = random_.below(8) == 0;
    while (random_.below(8) == 0) event.spare.push_back({resources(), {random_.below(mix_.pools + 1)}});
    return event;
  }
  Event nominated() {
    Nominated event{std::get<PlaceAsked>(asked()), some_node(), 0};
    const int wanted = event.asked.ask.gpus - (random_.below(16) == 0);
    for (int left = wanted, gpu = random_.below(3); left > 0; --left, ++gpu) {
      event.gpu_mask |= 1u << gpu;
    }
    return event;
  }
  Event next() {
    const std::uint64_t kind = random_.below(108);
    if (kind < 45) return asked();
    if (kind < 60) return StartFinished{sandbox_id()};
    if (kind < 80) return Released{sandbox_id()};
    if (kind < 84) return node_added(random_.below(mix_.nodes));
    if (kind < 86) return NodeRemoved{some_node()};
    if (kind < 89) return NodeCordoned{some_node(), random_.below(3) == 0};
    if (kind < 92) {
      return NodeOwned{some_node(), {random_.below(mix_.owners + 1)}, random_.below(4) != 0};
    }
    if (kind < 100) {
      return ImageCached{some_node(), {1 + random_.below(mix_.images)}, random_.below(3) != 0};
    }
    return kind < 104 ? nominated() : gang();
  }
  Event gang() {
    GangAsked event;
    const PlaceAsked first = std::get<PlaceAsked>(asked());
    for (std::uint64_t left = 1 + random_.below(4); left > 0; --left) {
      PlaceAsked one = first;
      one.sandbox = sandbox_id();
      if (random_.below(3) == 0) one.ask = resources();
      event.members.push_back(one);
    }
    if (random_.below(2) == 0) event.claims_max = static_cast<std::uint32_t>(random_.below(3));
    return event;
  }

 private:
  static NodeId node_id(std::uint64_t slot, std::uint64_t generation) {
    return {(generation & 0xFFFF) << 32 | (slot + 1)};
  }
  NodeId some_node() {
    const std::uint64_t slot = random_.below(mix_.nodes);
    return node_id(slot, generations_[slot] - (random_.below(16) == 0));
  }
  SandboxId sandbox_id() {
    return {(random_.below(10) == 0) * (std::uint64_t{1} << 32) |
            (1 + random_.below(mix_.sandboxes))};
  }
  Resources resources() {
    Resources ask;
    if (mix_.fine_amounts) {
      ask.cpu_millicores = random_.below(1200);
      ask.memory_bytes = random_.below(std::uint64_t{5} << 30);
    } else {
      ask.cpu_millicores = 250 * random_.below(8);
      ask.memory_bytes = random_.below(6) * (std::int64_t{1} << 30);
    }
    if (random_.below(4) == 0) ask.disk_bytes = random_.below(10) * (std::int64_t{1} << 30);
    if (mix_.gpus && random_.below(2)) {
      const bool share = random_.below(2);
      ask.gpus = share ? 1 : 1 + random_.below(4);
      ask.gpu_millis = share ? 250 * (1 + random_.below(3)) : 1000;
      if (mix_.fine_amounts && share) ask.gpu_millis = 1 + random_.below(999);
      ask.gpu_models = random_.below(4);
    }
    if (random_.below(200) == 0) ask.gpu_millis = -1, ask.gpus = 2;
    if (random_.below(200) == 0) ask.cpu_millicores = INT64_MAX;
    return ask;
  }

  Random random_;
  Events mix_;
  std::vector<std::uint64_t> generations_;  // of the newest node in each slot
};

}  // namespace chalk::scheduler
