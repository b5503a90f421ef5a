// The dumb scheduler: the same answers as model/scheduler, by each of its policies, by looking at
// every node for every ask.
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

#include "model/core/random.h"
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

  struct Nominee {  // and what it holds of its node so far
    scheduler::Nominated event;
    std::int64_t cpu = 0, memory = 0, disk = 0;
    std::int32_t sandboxes = 0, starts = 0;
    std::array<std::int32_t, kGpusPerNodeMax> gpus{};
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
    if (best == nullptr) best = choose(anywhere(asked));
    if (best == nullptr) return explain(asked);
    return scheduler::Placed{asked.sandbox, best->id, gpus_on(*best, asked.ask),
                             best->owner != asked.owner};
  }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::map<SandboxId, Held>& held() const { return held_; }
  const std::vector<Nominee>& nominees() const { return nominees_; }

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
  static std::int64_t residual(const Node& node) {
    return node.cpu * scheduler::kBytesPerMillicore + node.memory;
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
    const bool may = node.owner == asked.owner || (!node.owner && !asked.own_only);
    return in_pool(node, asked) && may && node.usable && !node.cordoned;
  }
  // Where it may go if nothing else is left, and where it should.
  static scheduler::PlaceAsked anywhere(scheduler::PlaceAsked asked) {
    asked.avoid = {};
    return asked;
  }
  bool wanted(const Node& node, const scheduler::PlaceAsked& asked) const {
    return considered(node, asked) &&
           std::find(asked.avoid.begin(), asked.avoid.end(), node.id) == asked.avoid.end() &&
           !spared(node, asked);
  }
  static bool spared(const Node& node, const scheduler::PlaceAsked& asked) {
    for (const Wish& wish : asked.spare) {
      const Resources& ask = wish.resources;
      const bool pool = wish.pool ? node.pool == wish.pool : !node.dedicated;
      if (pool && model_accepted(node, ask) && node.shape.gpus >= ask.gpus &&
          node.shape.cpu_millicores >= ask.cpu_millicores &&
          node.shape.memory_bytes >= ask.memory_bytes && node.shape.disk_bytes >= ask.disk_bytes) {
        return true;
      }
    }
    return false;
  }
  bool fits(const Node& node, const Resources& ask) const {
    return node.sandboxes > 0 && node.starts > 0 && node.cpu >= ask.cpu_millicores &&
           node.memory >= ask.memory_bytes && node.disk >= ask.disk_bytes &&
           model_accepted(node, ask) && gpu_offered(node, ask) >= gpu_needed(ask);
  }
  std::int64_t live_in(GroupId group, ZoneId zone) const {
    if (!config_.placing.spread_zones() || !group) return 0;
    const auto found = live_.find({group, zone});
    return found == live_.end() ? 0 : found->second;
  }

  const Node* choose(const scheduler::PlaceAsked& asked) const {
    const Node* best = nullptr;
    using Rank = std::tuple<bool, std::int64_t, std::int64_t, std::int64_t, std::int32_t, bool,
                            std::int64_t>;
    Rank least;
    for (const Node& node : nodes_) {
      if (!wanted(node, asked) || !fits(node, asked.ask)) continue;
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
                      node.shape.gpus,
                      !holds,
                      node.shape.gpus > 0 && !is_share(asked.ask) ? 0 : residual(node)};
      if (best == nullptr || rank < least) {
        best = &node;
        least = rank;
      }
    }
    return best;
  }

  // ---- the policies that are compared with best fit
  struct Choice {
    const Node* node = nullptr;
    int gpu = -1;  // for a share
  };
  scheduler::Effect decide(const scheduler::PlaceAsked& asked) {
    using scheduler::Policy;
    const Policy policy = config_.placing.policy();
    if (policy == Policy::best_fit) return answer(asked);
    const bool learns = policy == Policy::fgd || policy == Policy::frag_fit;
    if (learns && asked.ask.gpus > 0) learn(asked.ask);
    std::vector<const Node*> among = first_class(asked);
    if (among.empty()) among = first_class(anywhere(asked));
    if (among.empty()) return explain(asked);
    const Choice choice = policy == Policy::first_fit         ? first(among, asked.ask)
                          : policy == Policy::least_allocated ? emptiest_of_sample(among, asked.ask)
                          : policy == Policy::power_of_two    ? emptier_of_two(among, asked)
                          : least_growth(among, asked.ask, policy == Policy::frag_fit);
    const std::uint32_t mask =
        is_share(asked.ask) ? 1u << choice.gpu : gpus_on(*choice.node, asked.ask);
    return scheduler::Placed{asked.sandbox, choice.node->id, mask,
                             choice.node->owner != asked.owner};
  }
  // Where it fits: own nodes or else free ones, in a zone with fewest of the group.
  std::vector<const Node*> first_class(const scheduler::PlaceAsked& asked) const {
    std::map<std::pair<bool, std::int64_t>, std::vector<const Node*>> classes;
    for (const Node& node : nodes_) {
      if (!wanted(node, asked) || !fits(node, asked.ask)) continue;
      classes[{node.owner != asked.owner, live_in(asked.group, node.zone)}].push_back(&node);
    }
    return classes.empty() ? std::vector<const Node*>{} : classes.begin()->second;
  }
  static std::int64_t emptiness(const Node& node, const Resources& ask) {
    const auto part = [](std::int64_t left, std::int64_t all) {
      return all == 0 ? 0 : left * 1'000'000 / all;
    };
    constexpr std::int64_t kMi = 1 << 20;
    const std::int64_t memory = node.memory - ask.memory_bytes;
    return (part(node.cpu - ask.cpu_millicores, node.shape.cpu_millicores) +
            part(memory / kMi, node.shape.memory_bytes / kMi)) /
           2;
  }
  static int emptiest(const Node& node, const Resources& ask) {
    if (!is_share(ask)) return -1;
    return static_cast<int>(std::max_element(node.gpus.begin(), node.gpus.end()) -
                            node.gpus.begin());
  }
  static Choice first(const std::vector<const Node*>& among, const Resources& ask) {
    const auto& gpus = among.front()->gpus;
    const auto at = std::find_if(gpus.begin(), gpus.end(),
                                 [&](std::int32_t free) { return free >= ask.gpu_millis; });
    return {among.front(), static_cast<int>(at - gpus.begin())};
  }
  Choice emptiest_of_sample(std::vector<const Node*> among, const Resources& ask) {
    const auto index = [&](const Node* node) {
      return static_cast<std::size_t>(node - nodes_.data());
    };
    std::stable_partition(among.begin(), among.end(),
                          [&](const Node* node) { return index(node) >= next_start_; });
    std::size_t live = 0;
    for (const Node& node : nodes_) live += node.id ? 1 : 0;
    std::size_t sample = live;
    if (live >= 100) {
      const auto percent = std::max<std::int64_t>(5, 50 - static_cast<std::int64_t>(live) / 125);
      sample = std::max<std::size_t>(100, live * static_cast<std::size_t>(percent) / 100);
    }
    if (among.size() > sample) among.resize(sample);
    next_start_ = index(among.back()) + 1;
    const auto best = std::max_element(among.begin(), among.end(), [&](auto* a, auto* b) {
      return emptiness(*a, ask) < emptiness(*b, ask);
    });
    return {*best, emptiest(**best, ask)};
  }
  static Choice emptier_of_two(const std::vector<const Node*>& among,
                               const scheduler::PlaceAsked& asked) {
    Random random{mix64(asked.sandbox.value), 0};
    const Node* one = among[random.below(among.size())];
    const Node* two = among[random.below(among.size())];
    const Node* best = emptiness(*two, asked.ask) > emptiness(*one, asked.ask) ? two : one;
    return {best, emptiest(*best, asked.ask)};
  }
  void learn(const Resources& ask) {
    const auto has = [&](const auto& kind) { return kind.first == ask; };
    auto at = std::find_if(mix_.begin(), mix_.end(), has);
    if (at == mix_.end() && mix_.size() < scheduler::kTypicalMax) {
      mix_.emplace_back(ask, 1);
    } else if (at == mix_.end()) {
      at = std::min_element(mix_.begin(), mix_.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; });
      *at = {ask, at->second + 1};
    } else {
      ++at->second;
    }
  }
  // Expected thousandths that are of no use, times the number of requests learnt.
  std::int64_t fragmentation(const Node& node) const {
    std::int64_t sum = 0;
    for (const auto& [ask, count] : mix_) {
      const bool hosts = node.cpu >= ask.cpu_millicores && node.memory >= ask.memory_bytes &&
                         node.disk >= ask.disk_bytes && model_accepted(node, ask) &&
                         gpu_offered(node, ask) >= gpu_needed(ask);
      for (const std::int32_t free : node.gpus) {
        if (!hosts || free < ask.gpu_millis) sum += count * free;
      }
    }
    return sum;
  }
  std::int64_t growth(const Node& before, const Resources& ask, std::uint32_t mask) const {
    Node after = before;
    after.cpu -= ask.cpu_millicores;
    after.memory -= ask.memory_bytes;
    after.disk -= ask.disk_bytes;
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      if (mask >> gpu & 1) after.gpus[gpu] -= ask.gpu_millis;
    }
    return fragmentation(after) - fragmentation(before);
  }
  Choice least_growth(const std::vector<const Node*>& among, const Resources& ask,
                      bool then_best_fit) const {
    Choice best;
    std::array<std::int64_t, 4> least{INT64_MAX};
    for (const Node* node : among) {
      for (int gpu = 0; gpu < (is_share(ask) ? kGpusPerNodeMax : 1); ++gpu) {
        if (is_share(ask) && node->gpus[gpu] < ask.gpu_millis) continue;
        const std::int64_t grown =
            growth(*node, ask, is_share(ask) ? 1u << gpu : gpus_on(*node, ask));
        std::array<std::int64_t, 4> rank{grown};
        if (then_best_fit) {
          rank[1] = node->shape.gpus;
          for (const std::int32_t free : node->gpus) rank[2] += free;
          rank[3] = residual(*node);
        }
        if (rank >= least) continue;
        least = rank;
        best = {node, gpu};
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
    scheduler::PlaceAsked alone = anywhere(asked);
    alone.spare = {};
    no.why = choose(alone) == nullptr ? Shortage::start_slots : Shortage::spared;
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
  // All that is held on the node is given back and dealt out anew, in the order of nomination.
  void settle(NodeId id, Effects& effects) {
    Node* node = find(id);
    if (node == nullptr) return;
    const auto move = [&](Nominee& one, int sign) {
      node->cpu += sign * one.cpu;
      node->memory += sign * one.memory;
      node->disk += sign * one.disk;
      node->sandboxes += sign * one.sandboxes;
      node->starts += sign * one.starts;
      for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) node->gpus[gpu] += sign * one.gpus[gpu];
    };
    for (Nominee& one : nominees_) {
      if (one.event.node == id) move(one, +1);
    }
    for (auto at = nominees_.begin(); at != nominees_.end();) {
      Nominee& one = *at;
      if (one.event.node != id) {
        ++at;
        continue;
      }
      const Resources& ask = one.event.asked.ask;
      one.cpu = std::min(node->cpu, ask.cpu_millicores);
      one.memory = std::min(node->memory, ask.memory_bytes);
      one.disk = std::min(node->disk, ask.disk_bytes);
      one.sandboxes = std::min(node->sandboxes, 1);
      one.starts = std::min(node->starts, 1);
      bool whole = one.cpu == ask.cpu_millicores && one.memory == ask.memory_bytes &&
                   one.disk == ask.disk_bytes && one.sandboxes == 1 && one.starts == 1;
      for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
        if ((one.event.gpu_mask >> gpu & 1) == 0) continue;
        one.gpus[gpu] = std::min(node->gpus[gpu], ask.gpu_millis);
        whole = whole && one.gpus[gpu] == ask.gpu_millis;
      }
      if (!whole) {
        move(one, -1);
        ++at;
        continue;
      }
      const scheduler::PlaceAsked& asked = one.event.asked;
      const Held held{id, ask, asked.group, one.event.gpu_mask, true};
      change(*node, held, -1);
      held_.emplace(asked.sandbox, held);
      effects.push_back(
          scheduler::Placed{asked.sandbox, id, one.event.gpu_mask, false, true});
      at = nominees_.erase(at);
    }
  }
  void lose_nominees(NodeId id, Effects& effects) {
    std::vector<SandboxId> lost;
    for (const Nominee& one : nominees_) {
      if (one.event.node == id) lost.push_back(one.event.asked.sandbox);
    }
    for (const SandboxId sandbox : lost) {
      withdraw(sandbox);
      effects.push_back(scheduler::NominationLost{sandbox});
    }
  }
  void withdraw(SandboxId sandbox) {
    const auto at = nominee(sandbox);
    if (Node* node = find(at->event.node)) {
      node->cpu += at->cpu;
      node->memory += at->memory;
      node->disk += at->disk;
      node->sandboxes += at->sandboxes;
      node->starts += at->starts;
      for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) node->gpus[gpu] += at->gpus[gpu];
    }
    taken_.erase(slot_of(sandbox.value));
    nominees_.erase(at);
  }

  // On a copy of everything, which is kept only if all have found a node.
  void on(const scheduler::GangAsked& event, Effects& effects) {
    if (event.members.empty()) return;
    std::vector<scheduler::PlaceAsked> members = event.members;
    const auto size = [](const scheduler::PlaceAsked& one) {
      return std::tuple(gpu_needed(one.ask), one.ask.cpu_millicores, one.ask.memory_bytes,
                        one.ask.disk_bytes);
    };
    std::stable_sort(members.begin(), members.end(),
                     [&](const auto& a, const auto& b) { return size(a) > size(b); });
    SchedulerScan fork = *this;
    Effects said;
    std::uint32_t claimed = 0;
    for (scheduler::PlaceAsked one : members) {
      const std::size_t before = said.size();
      if (claimed >= event.claims_max) one.own_only = true;
      fork.on(one, said);
      auto* no = said.size() == before ? nullptr : std::get_if<scheduler::NotPlaced>(&said.back());
      scheduler::NotPlaced refused;
      if (said.size() == before) {
        refused = {one.sandbox, Shortage::limit, 1, 0, 0};  // it has, or will have, a node
      } else if (no != nullptr) {
        refused = *no;
      } else {
        claimed += std::get<scheduler::Placed>(said.back()).claims;
        continue;
      }
      refused.sandbox = event.members.front().sandbox;
      effects.push_back(refused);
      // What was learnt or drawn by trying stays.
      mix_ = fork.mix_;
      next_start_ = fork.next_start_;
      return;
    }
    *this = std::move(fork);
    effects.insert(effects.end(), said.begin(), said.end());
  }

  void on(const scheduler::Nominated& event, Effects& effects) {
    const scheduler::PlaceAsked& asked = event.asked;
    if (held_.contains(asked.sandbox) || nominee(asked.sandbox) != nominees_.end()) return;
    const Node* node = find(event.node);
    bool good = !limit(asked) && node != nullptr && !node->cordoned && node->usable &&
                asked.owner && node->owner == asked.owner && model_accepted(*node, asked.ask) &&
                node->shape.start_slots > 0 && node->shape.sandboxes_max > 0;
    int gpus = 0;
    for (int gpu = 0; gpu < 32; ++gpu) {
      const bool one = event.gpu_mask >> gpu & 1;
      gpus += one;
      if (one && good && gpu >= node->shape.gpus) good = false;
    }
    good = good && gpus == asked.ask.gpus &&
           asked.ask.cpu_millicores <= node->shape.cpu_millicores &&
           asked.ask.memory_bytes <= node->shape.memory_bytes &&
           asked.ask.disk_bytes <= node->shape.disk_bytes;
    if (!good) {
      effects.push_back(scheduler::NominationLost{asked.sandbox});
      return;
    }
    nominees_.push_back({event});
    taken_.emplace(slot_of(asked.sandbox.value), asked.sandbox);
    settle(event.node, effects);
  }

  void drop(SandboxId id, Node& node) {
    change(node, held_.at(id), +1);
    taken_.erase(slot_of(id.value));
    held_.erase(id);
  }

  void on(const scheduler::PlaceAsked& asked, Effects& effects) {
    if (held_.contains(asked.sandbox) || nominee(asked.sandbox) != nominees_.end()) return;
    if (const auto no = limit(asked)) {
      effects.push_back(*no);
      return;
    }
    effects.push_back(decide(asked));
    const auto* placed = std::get_if<scheduler::Placed>(&effects.back());
    if (placed == nullptr) return;
    Node& node = *find(placed->node);
    const Held held{node.id, asked.ask, asked.group, placed->gpu_mask, true};
    change(node, held, -1);
    node.owner = asked.owner;
    held_.emplace(asked.sandbox, held);
    taken_.emplace(slot_of(asked.sandbox.value), asked.sandbox);
  }
  void on(const scheduler::StartFinished& event, Effects& effects) {
    const auto found = held_.find(event.sandbox);
    if (found == held_.end() || !found->second.starting) return;
    found->second.starting = false;
    ++find(found->second.node)->starts;
    settle(found->second.node, effects);
  }
  void on(const scheduler::Released& event, Effects& effects) {
    const auto found = held_.find(event.sandbox);
    NodeId node;
    if (found != held_.end()) {
      node = found->second.node;
      drop(event.sandbox, *find(node));
    } else if (nominee(event.sandbox) != nominees_.end()) {
      node = nominee(event.sandbox)->event.node;
      withdraw(event.sandbox);
    }
    if (node) settle(node, effects);
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
  void on(const scheduler::NodeRemoved& event, Effects& effects) {
    Node* node = find(event.node);
    if (node == nullptr) return;
    lose_nominees(event.node, effects);
    std::vector<SandboxId> gone;
    for (const auto& [id, held] : held_) {
      if (held.node == event.node) gone.push_back(id);
    }
    for (const SandboxId id : gone) drop(id, *node);
    *node = {};
  }
  void on(const scheduler::NodeCordoned& event, Effects& effects) {
    if (Node* node = find(event.node)) node->cordoned = event.cordoned;
    if (event.cordoned) lose_nominees(event.node, effects);
  }
  void on(const scheduler::NodeOwned& event, Effects& effects) {
    if (Node* node = find(event.node)) {
      if (!event.usable || node->owner != event.owner) lose_nominees(event.node, effects);
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

  std::vector<Nominee>::iterator nominee(SandboxId sandbox) {
    return std::find_if(nominees_.begin(), nominees_.end(), [&](const Nominee& one) {
      return one.event.asked.sandbox == sandbox;
    });
  }

  scheduler::Config config_;
  std::vector<Nominee> nominees_;  // oldest first
  std::vector<Node> nodes_;        // by slot
  std::map<std::size_t, NodeId> last_;
  std::map<SandboxId, Held> held_;
  std::map<std::size_t, SandboxId> taken_;
  std::map<std::pair<GroupId, ZoneId>, std::int64_t> live_;
  std::size_t next_start_ = 0;
  std::vector<std::pair<Resources, std::int64_t>> mix_;
};

}  // namespace chalk::oracle
