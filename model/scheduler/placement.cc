#include "model/scheduler/placement.h"

#include <algorithm>

#include "model/scheduler/policies.h"

namespace chalk::scheduler {
namespace {

bool eligible(const Bucket& bucket, const PlaceAsked& asked) {
  const bool pool = asked.pool ? bucket.pool == asked.pool : !bucket.dedicated;
  return pool && model_accepted(asked.ask, bucket.gpu_model);
}

const Owner* find_owner(const State& state, TenantId id) {
  const std::uint32_t index = state.owner_index.find(id.value);
  return index == kNone ? nullptr : &state.owners[index];
}

// One choice: the buckets of one owner, one round for each number of live sandboxes in a zone.
class Choice {
 public:
  Choice(const Config& config, const State& state, const PlaceAsked& asked)
      : state_(state), asked_(asked) {
    if (config.placing.spread_zones() && asked.group) {
      const std::uint32_t group = state.group_index.find(asked.group.value);
      if (group != kNone) zone_counts_ = &state.group_zones[std::size_t{group} * config.zones_max];
    }
    if (asked.image) {
      const std::uint32_t image = state.image_index.find(asked.image.value);
      if (image != kNone) image_ = &state.images[image];
    }
  }

  std::uint32_t among(TenantId owner_id) {
    const Owner* owner = find_owner(state_, owner_id);
    if (owner == nullptr) return kNone;
    owner_ = owner_id;
    for (std::int64_t done = -1;; done = round_) {
      round_ = INT64_MAX;
      for (const std::uint32_t index : owner->buckets) {
        const Bucket& bucket = state_.buckets[index];
        if (bucket.open == 0 || !eligible(bucket, asked_)) continue;
        if (live_in(bucket.zone) > done) round_ = std::min(round_, live_in(bucket.zone));
      }
      if (round_ == INT64_MAX) return kNone;
      Search search(state_, asked_.ask, asked_.spare);
      look(*owner, search);
      if (search.best == kWorst) continue;
      return (image_ == nullptr ? search.best : prefer_image(*owner, search.best)).node - 1;
    }
  }

 private:
  std::int64_t live_in(std::uint32_t zone) const {
    return zone_counts_ == nullptr ? 0 : zone_counts_[zone];
  }
  bool in_round(const Bucket& bucket) const {
    return eligible(bucket, asked_) && live_in(bucket.zone) == round_;
  }
  void look(const Owner& owner, Search& search) const {
    for (const std::uint32_t index : owner.buckets) {
      const Bucket& bucket = state_.buckets[index];
      if (in_round(bucket)) search.look_at(bucket);
    }
  }

  // The best of those as scarce as `plain` that hold the image, else `plain`. Walks the index for
  // at most as many nodes as hold the image; after that it is shorter to walk those.
  Candidate prefer_image(const Owner& owner, Candidate plain) const {
    if (holds_image(*image_, state_.infos[plain.node - 1].id)) return plain;
    const Candidate bound{plain.scarcity + 1, INT64_MIN, 0};
    Search search(state_, asked_.ask, asked_.spare);
    search.only_holding(*image_, image_->nodes.size());
    search.best = bound;
    look(owner, search);
    if (search.gave_up()) search.best = best_holder(bound);
    return search.best == bound ? plain : search.best;
  }

  Candidate best_holder(Candidate best) const {
    const Resources& ask = asked_.ask;
    for (const NodeId id : image_->nodes) {
      const std::uint32_t slot = static_cast<std::uint32_t>(id.value) - 1;
      const NodeInfo& info = state_.infos[slot];
      if (info.id != id || info.listed != Listed::open || info.owner != owner_) continue;
      const Node& node = state_.nodes[slot];
      if (node.cpu < ask.cpu_millicores || node.memory < ask.memory_bytes ||
          node.disk < ask.disk_bytes || !in_round(state_.buckets[node.bucket]) ||
          could_hold(asked_.spare, info)) {
        continue;
      }
      std::int32_t gpu_left = 0;
      if (ask.gpus > 0) {
        const GpuRow& row = state_.gpu_rows[info.gpu_row];
        if (is_share(ask)) {
          const std::int32_t gpu = tightest_gpu(row, ask.gpu_millis);
          if (gpu < 0) continue;
          gpu_left = row.free[gpu];
        } else if (row.whole < ask.gpus) {
          continue;
        }
      }
      best = std::min(best, {scarcity_of(node, ask, gpu_left), residual_of(node, ask), slot + 1});
    }
    return best;
  }

  const State& state_;
  const PlaceAsked& asked_;
  const std::uint32_t* zone_counts_ = nullptr;
  const ImageNodes* image_ = nullptr;
  TenantId owner_;
  std::int64_t round_ = 0;
};

// What the asker may look at: buckets of its own and free ones. Visits each once.
template <class Visit>
void for_each_bucket(const State& state, const PlaceAsked& asked, Visit&& visit) {
  const auto of = [&](TenantId id) {
    const Owner* owner = find_owner(state, id);
    if (owner == nullptr) return;
    for (const std::uint32_t index : owner->buckets) {
      const Bucket& bucket = state.buckets[index];
      if (asked.pool ? bucket.pool == asked.pool : !bucket.dedicated) visit(bucket);
    }
  };
  of(asked.owner);
  if (asked.owner && !asked.own_only) of({});
}

// Takes nodes out of the index for its lifetime, as if they were cordoned.
class Aside {
 public:
  Aside(State& state, const std::array<NodeId, 2>& nodes) : state_(state) {
    for (const NodeId id : nodes) {
      const std::uint32_t slot = static_cast<std::uint32_t>(id.value) - 1;
      if (!id || slot >= state.infos.size()) continue;
      NodeInfo& info = state.infos[slot];
      if (info.id != id || info.cordoned) continue;
      unlist_node(state, slot);
      info.cordoned = true;
      slots_[count_++] = slot;
    }
  }
  ~Aside() {
    for (std::size_t i = 0; i < count_; ++i) {
      state_.infos[slots_[i]].cordoned = false;
      list_node(state_, slots_[i]);
    }
  }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

 private:
  State& state_;
  std::array<std::uint32_t, 2> slots_{};
  std::size_t count_ = 0;
};

Pick choose_of_all(const Config& config, State& state, const PlaceAsked& asked) {
  const Policy policy = config.placing.policy();
  if (policy == Policy::best_fit) {
    const std::uint32_t slot = choose_node(config, state, asked);
    return {slot, slot == kNone ? 0 : choose_gpus(state, slot, asked.ask)};
  }
  const Candidates candidates = candidates_for(config, state, asked);
  if (candidates.empty()) return {};
  switch (policy) {
    case Policy::least_allocated: return least_allocated(state, asked, candidates);
    case Policy::power_of_two: return power_of_two(state, asked, candidates);
    case Policy::fgd: return least_growth(state, asked, candidates, false);
    case Policy::frag_fit: return least_growth(state, asked, candidates, true);
    default: return first_fit(state, asked, candidates);
  }
}

}  // namespace

Pick choose(const Config& config, State& state, const PlaceAsked& asked) {
  const Policy policy = config.placing.policy();
  const bool learns = policy == Policy::fgd || policy == Policy::frag_fit;
  if (learns && asked.ask.gpus > 0) state.mix.learn(asked.ask);
  if (asked.avoid != decltype(asked.avoid){}) {
    const Aside aside(state, asked.avoid);
    const Pick elsewhere = choose_of_all(config, state, asked);
    if (elsewhere.slot != kNone) return elsewhere;
  }
  return choose_of_all(config, state, asked);
}

std::uint32_t choose_node(const Config& config, const State& state, const PlaceAsked& asked) {
  Choice choice(config, state, asked);
  const std::uint32_t owned = choice.among(asked.owner);
  return owned != kNone || !asked.owner || asked.own_only ? owned : choice.among({});
}

std::uint32_t choose_gpus(const State& state, std::uint32_t slot, const Resources& ask) {
  if (ask.gpus == 0) return 0;
  const GpuRow& row = state.gpu_rows[state.infos[slot].gpu_row];
  if (is_share(ask)) return 1u << tightest_gpu(row, ask.gpu_millis);
  std::uint32_t mask = 0;
  std::int32_t left = ask.gpus;
  for (int gpu = 0; gpu < kGpusPerNodeMax && left > 0; ++gpu) {
    if (row.free[gpu] < 1000) continue;
    mask |= 1u << gpu;
    --left;
  }
  return mask;
}

std::optional<NotPlaced> refuse_meaningless(const PlaceAsked& asked) {
  const Resources& ask = asked.ask;
  const auto refused = [&](std::int64_t needed, std::int64_t best) {
    return NotPlaced{asked.sandbox, Shortage::limit, needed, best, 0};
  };
  if (ask.cpu_millicores < 0) return refused(ask.cpu_millicores, 0);
  if (ask.memory_bytes < 0) return refused(ask.memory_bytes, 0);
  if (ask.disk_bytes < 0) return refused(ask.disk_bytes, 0);
  if (ask.gpus < 0 || ask.gpus > kGpusPerNodeMax) return refused(ask.gpus, kGpusPerNodeMax);
  if (ask.gpus > 0 && (ask.gpu_millis < 1 || ask.gpu_millis > 1000)) {
    return refused(ask.gpu_millis, 1000);
  }
  // Parts of several GPUs mean nothing: a share is of one GPU.
  if (ask.gpus > 1 && ask.gpu_millis < 1000) return refused(ask.gpus, 1);
  return std::nullopt;
}

NotPlaced explain_refusal(const State& state, const PlaceAsked& asked) {
  NotPlaced refusal{asked.sandbox, Shortage::no_node_in_pool, 1, 0, 0};
  std::uint64_t in_pool = state.shared_pool_nodes;
  if (asked.pool) {
    const std::uint32_t pool = state.pool_index.find(asked.pool.value);
    in_pool = pool == kNone ? 0 : state.pools[pool].nodes;
  }
  if (in_pool == 0) return refusal;
  refusal.why = Shortage::no_free_node_for_tenant;
  std::uint32_t with_room = 0;
  for_each_bucket(state, asked, [&](const Bucket& bucket) {
    refusal.nodes_considered += bucket.considered;
    with_room += bucket.open + bucket.waiting;
  });
  if (refusal.nodes_considered == 0) return refusal;
  refusal.why = Shortage::sandboxes;
  if (with_room == 0) return refusal;

  struct Rule {
    Filter filter;
    Shortage why;
    std::int64_t needed;
  };
  const Resources& ask = asked.ask;
  const Rule rules[] = {
      {Filter::gpu, Shortage::gpu, ask.gpus == 0 ? 0 : std::int64_t{ask.gpus} * ask.gpu_millis},
      {Filter::cpu, Shortage::cpu, ask.cpu_millicores},
      {Filter::memory, Shortage::memory, ask.memory_bytes},
      {Filter::disk, Shortage::disk, ask.disk_bytes}};
  for (const Rule& rule : rules) {
    if (rule.needed == 0) continue;
    Most most(state, ask, rule.filter);
    for_each_bucket(state, asked, [&](const Bucket& bucket) {
      if (model_accepted(ask, bucket.gpu_model)) most.look_at(bucket);
    });
    if (most.most >= rule.needed) continue;
    refusal.why = rule.why;
    refusal.needed = rule.needed;
    refusal.best_available = most.most;
    return refusal;
  }
  refusal.why = Shortage::start_slots;
  if (asked.spare.empty()) return refusal;
  PlaceAsked alone{asked.sandbox, asked.owner, asked.ask, asked.pool, {}, {}};
  alone.own_only = asked.own_only;
  if (choose_node(Config{}, state, alone) != kNone) refusal.why = Shortage::spared;
  return refusal;
}

}  // namespace chalk::scheduler
