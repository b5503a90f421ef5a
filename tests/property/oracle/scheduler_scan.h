// The dumb scheduler: the same answers as model/scheduler by looking at every node for every ask.
//
// It shares the events, effects and limits with the machine and nothing else: no State, no index.
// Feed both the same events; their effects must be equal, refusals and their numbers included.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "model/scheduler/scheduler.h"

namespace chalk::oracle {

class SchedulerScan {
 public:
  struct Node {
    NodeId id;
    NodeShape shape;
    PoolId pool;
    ZoneId zone;
    TenantId owner;
    bool dedicated = false, cordoned = false, usable = true;
    std::int64_t cpu = 0, memory = 0, disk = 0;  // free
    std::int32_t starts = 0, sandboxes = 0;      // free
    std::array<std::int32_t, kGpusPerNodeMax> gpus{};
    std::vector<ImageId> images;
  };
  struct Held {
    NodeId node;
    Resources ask;
    GroupId group;
    std::uint32_t gpu_mask = 0;
    bool starting = true;
  };

  explicit SchedulerScan(scheduler::Config config) : config_(config) {}

  std::vector<scheduler::Effect> step(const scheduler::Event& event) {
    std::vector<scheduler::Effect> effects;
    std::visit([&](const auto& fact) { on(fact, effects); }, event);
    return effects;
  }
  // The choice alone, changing nothing.
  scheduler::Effect answer(const scheduler::PlaceAsked& asked) const {
    const Node* best = choose(asked);
    if (best == nullptr) return explain(asked);
    return scheduler::Placed{asked.sandbox, best->id, gpus_on(*best, asked.ask),
                             best->owner != asked.owner};
  }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::map<SandboxId, Held>& held() const { return held_; }

 private:
  using Effects = std::vector<scheduler::Effect>;
  using Shortage = scheduler::Shortage;

  static std::size_t slot_of(std::uint64_t id) { return static_cast<std::uint32_t>(id) - 1; }
  Node* find(NodeId id) {
    const std::size_t slot = slot_of(id.value);
    return id && slot < nodes_.size() && nodes_[slot].id == id ? &nodes_[slot] : nullptr;
  }

  static bool is_share(const Resources& ask) { return ask.gpus == 1 && ask.gpu_millis < 1000; }
  static std::int64_t gpu_needed(const Resources& ask) {
    return ask.gpus == 0 ? 0 : std::int64_t{ask.gpus} * ask.gpu_millis;
  }
  static bool model_accepted(const Node& node, const Resources& ask) {
    return ask.gpus == 0 || (node.shape.gpus > 0 &&
                             (ask.gpu_models == 0 || (ask.gpu_models >> node.shape.gpu_model & 1)));
  }
  // Thousandths that the ask could use of what is free: of one GPU for a share, else whole GPUs.
  static std::int64_t gpu_offered(const Node& node, const Resources& ask) {
    if (!model_accepted(node, ask)) return 0;
    if (is_share(ask)) return *std::max_element(node.gpus.begin(), node.gpus.end());
    return 1000 * std::count(node.gpus.begin(), node.gpus.end(), 1000);
  }
  static int tightest(const Node& node, const Resources& ask) {
    int best = -1;
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      if (node.gpus[gpu] >= ask.gpu_millis && (best < 0 || node.gpus[gpu] < node.gpus[best])) {
        best = gpu;
      }
    }
    return best;
  }
  static std::uint32_t gpus_on(const Node& node, const Resources& ask) {
    if (ask.gpus == 0) return 0;
    if (is_share(ask)) return 1u << tightest(node, ask);
    std::uint32_t mask = 0;
    for (int gpu = 0, left = ask.gpus; left > 0; ++gpu) {
      if (node.gpus[gpu] == 1000) mask |= 1u << gpu, --left;
    }
    return mask;
  }

  bool in_pool(const Node& node, const scheduler::PlaceAsked& asked) const {
    return node.id && (asked.pool ? node.pool == asked.pool : !node.dedicated);
  }
  bool considered(const Node& node, const scheduler::PlaceAsked& asked) const {
    return in_pool(node, asked) && (!node.owner || node.owner == asked.owner) && node.usable &&
           !node.cordoned;
  }
  bool fits(const Node& node, const Resources& ask) const {
    return node.sandboxes > 0 && node.starts > 0 && node.cpu >= ask.cpu_millicores &&
           node.memory >= ask.memory_bytes && node.disk >= ask.disk_bytes &&
           model_accepted(node, ask) && gpu_offered(node, ask) >= gpu_needed(ask);
  }
  std::int64_t live_in(GroupId group, ZoneId zone) const {
    if (!config_.spread_zones || !group) return 0;
    const auto found = live_.find({group, zone});
    return found == live_.end() ? 0 : found->second;
  }

  const Node* choose(const scheduler::PlaceAsked& asked) const {
    const Node* best = nullptr;
    using Rank = std::tuple<bool, std::int64_t, std::int64_t, std::int64_t, bool, std::int64_t>;
    Rank least;
    for (const Node& node : nodes_) {
      if (!considered(node, asked) || !fits(node, asked.ask)) continue;
      const std::int64_t free_gpus = [&] {
        std::int64_t sum = 0;
        for (const std::int32_t millis : node.gpus) sum += millis;
        return sum;
      }();
      const bool holds = asked.image && std::find(node.images.begin(), node.images.end(),
                                                  asked.image) != node.images.end();
      const Rank rank{node.owner != asked.owner,
                      live_in(asked.group, node.zone),
                      is_share(asked.ask) ? node.gpus[tightest(node, asked.ask)] : 0,
                      free_gpus,
                      !holds,
                      node.cpu * scheduler::kBytesPerMillicore + node.memory};
      if (best == nullptr || rank < least) {
        best = &node;
        least = rank;
      }
    }
    return best;
  }

  scheduler::NotPlaced explain(const scheduler::PlaceAsked& asked) const {
    const Resources& ask = asked.ask;
    scheduler::NotPlaced no{asked.sandbox, Shortage::no_node_in_pool, 1, 0, 0};
    std::vector<const Node*> left;
    for (const Node& node : nodes_) {
      if (in_pool(node, asked)) left.push_back(&node);
    }
    if (left.empty()) return no;
    no.why = Shortage::no_free_node_for_tenant;
    std::erase_if(left, [&](const Node* node) { return !considered(*node, asked); });
    no.nodes_considered = static_cast<std::uint32_t>(left.size());
    if (left.empty()) return no;
    no.why = Shortage::sandboxes;
    std::erase_if(left, [&](const Node* node) { return node->sandboxes == 0; });
    if (left.empty()) return no;
    const auto emptied_by = [&](Shortage why, std::int64_t needed, auto&& amount) {
      if (needed == 0) return false;
      std::int64_t most = 0;
      for (const Node* node : left) most = std::max<std::int64_t>(most, amount(*node));
      std::erase_if(left, [&](const Node* node) { return amount(*node) < needed; });
      if (!left.empty()) return false;
      no.why = why;
      no.needed = needed;
      no.best_available = most;
      return true;
    };
    if (emptied_by(Shortage::gpu, gpu_needed(ask),
                   [&](const Node& n) { return gpu_offered(n, ask); }) ||
        emptied_by(Shortage::cpu, ask.cpu_millicores, [](const Node& n) { return n.cpu; }) ||
        emptied_by(Shortage::memory, ask.memory_bytes, [](const Node& n) { return n.memory; }) ||
        emptied_by(Shortage::disk, ask.disk_bytes, [](const Node& n) { return n.disk; })) {
      return no;
    }
    no.why = Shortage::start_slots;
    return no;
  }

  // Refusals that need no node: what is out of Config's limits or means nothing.
  std::optional<scheduler::NotPlaced> limit(const scheduler::PlaceAsked& asked) const {
    const Resources& ask = asked.ask;
    const auto no = [&](std::int64_t needed, std::int64_t best) {
      return scheduler::NotPlaced{asked.sandbox, Shortage::limit, needed, best, 0};
    };
    const std::size_t slot = slot_of(asked.sandbox.value);
    if (slot >= config_.sandboxes_max) {
      return no(std::int64_t(static_cast<std::uint32_t>(slot)) + 1, config_.sandboxes_max);
    }
    if (taken_.contains(slot)) return no(1, 0);
    for (const std::int64_t amount : {ask.cpu_millicores, ask.memory_bytes, ask.disk_bytes}) {
      if (amount < 0) return no(amount, 0);
    }
    if (ask.gpus < 0 || ask.gpus > kGpusPerNodeMax) return no(ask.gpus, kGpusPerNodeMax);
    if (ask.gpus > 0 && (ask.gpu_millis < 1 || ask.gpu_millis > 1000))
      return no(ask.gpu_millis, 1000);
    if (ask.gpus > 1 && ask.gpu_millis < 1000) return no(ask.gpus, 1);
    return std::nullopt;
  }

  void change(Node& node, const Held& held, int sign) {
    node.cpu += sign * held.ask.cpu_millicores;
    node.memory += sign * held.ask.memory_bytes;
    node.disk += sign * held.ask.disk_bytes;
    node.sandboxes += sign;
    if (held.starting) node.starts += sign;
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      if (held.gpu_mask >> gpu & 1) node.gpus[gpu] += sign * held.ask.gpu_millis;
    }
    if (held.group) live_[{held.group, node.zone}] -= sign;
  }
  void drop(SandboxId id, Node& node) {
    change(node, held_.at(id), +1);
    taken_.erase(slot_of(id.value));
    held_.erase(id);
  }

  void on(const scheduler::PlaceAsked& asked, Effects& effects) {
    if (held_.contains(asked.sandbox)) return;
    if (const auto no = limit(asked)) {
      effects.push_back(*no);
      return;
    }
    effects.push_back(answer(asked));
    const auto* placed = std::get_if<scheduler::Placed>(&effects.back());
    if (placed == nullptr) return;
    Node& node = *find(placed->node);
    const Held held{node.id, asked.ask, asked.group, placed->gpu_mask, true};
    change(node, held, -1);
    node.owner = asked.owner;
    held_.emplace(asked.sandbox, held);
    taken_.emplace(slot_of(asked.sandbox.value), asked.sandbox);
  }
  void on(const scheduler::StartFinished& event, Effects&) {
    const auto found = held_.find(event.sandbox);
    if (found == held_.end() || !found->second.starting) return;
    found->second.starting = false;
    ++find(found->second.node)->starts;
  }
  void on(const scheduler::Released& event, Effects&) {
    const auto found = held_.find(event.sandbox);
    if (found != held_.end()) drop(event.sandbox, *find(found->second.node));
  }
  void on(const scheduler::NodeAdded& event, Effects& effects) {
    const std::size_t slot = slot_of(event.node.value);
    if (slot >= config_.nodes_max) return;
    if (slot >= nodes_.size()) nodes_.resize(slot + 1);
    Node& node = nodes_[slot];
    NodeId& last = last_[slot];
    if (last >= event.node) return;  // a removed node never comes back
    last = event.node;
    if (node.id) on(scheduler::NodeRemoved{node.id}, effects);
    node = {};
    node.id = event.node;
    node.shape = event.shape;
    node.pool = event.pool;
    node.zone = event.zone;
    node.owner = event.owner;
    node.dedicated = event.dedicated;
    node.cpu = event.shape.cpu_millicores;
    node.memory = event.shape.memory_bytes;
    node.disk = event.shape.disk_bytes;
    node.starts = event.shape.start_slots;
    node.sandboxes = event.shape.sandboxes_max;
    std::fill_n(node.gpus.begin(), event.shape.gpus, 1000);
  }
  void on(const scheduler::NodeRemoved& event, Effects&) {
    Node* node = find(event.node);
    if (node == nullptr) return;
    std::vector<SandboxId> gone;
    for (const auto& [id, held] : held_) {
      if (held.node == event.node) gone.push_back(id);
    }
    for (const SandboxId id : gone) drop(id, *node);
    *node = {};
  }
  void on(const scheduler::NodeCordoned& event, Effects&) {
    if (Node* node = find(event.node)) node->cordoned = event.cordoned;
  }
  void on(const scheduler::NodeOwned& event, Effects&) {
    if (Node* node = find(event.node)) {
      node->owner = event.owner;
      node->usable = event.usable;
    }
  }
  void on(const scheduler::ImageCached& event, Effects&) {
    Node* node = find(event.node);
    if (node == nullptr) return;
    std::erase(node->images, event.image);
    if (event.cached) node->images.push_back(event.image);
  }

  scheduler::Config config_;
  std::vector<Node> nodes_;  // by slot
  std::map<std::size_t, NodeId> last_;
  std::map<SandboxId, Held> held_;
  std::map<std::size_t, SandboxId> taken_;
  std::map<std::pair<GroupId, ZoneId>, std::int64_t> live_;
};

}  // namespace chalk::oracle
