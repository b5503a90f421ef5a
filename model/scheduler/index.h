// The index over nodes: finds the node that the order of scheduler.h puts first, and the numbers
// behind a refusal, without looking at every node.
//
// Nodes alike in owner, pool, zone and GPU model form a bucket. In a bucket, nodes stand in a list
// of blocks.h, ordered by (scarcity, residual where there are no GPUs, slot). A bucket with many
// nodes and no GPUs is parted into cells of quantised free cpu and memory, each with such a list; a
// search looks into the cells whose least residual may still win.
#pragma once
#include <cstdint>

#include "model/scheduler/state.h"

namespace chalk::scheduler {

template <class IdType>
constexpr std::uint32_t slot_of(IdType id) {
  return static_cast<std::uint32_t>(id.value) - 1;
}

// What an ask needs of a node beyond the amounts.
constexpr bool is_share(const Resources& ask) { return ask.gpus == 1 && ask.gpu_millis < 1000; }
constexpr bool model_accepted(const Resources& ask, std::int32_t gpu_model) {
  if (ask.gpus == 0) return true;
  return gpu_model >= 0 && (ask.gpu_models == 0 || (ask.gpu_models >> gpu_model & 1) != 0);
}

// Whether a node of this shape and pool, when empty, could hold any of `wishes`.
bool could_hold(const std::vector<Wish>& wishes, const NodeShape& shape, PoolId pool,
                bool dedicated);
inline bool could_hold(const std::vector<Wish>& wishes, const NodeInfo& info) {
  return !wishes.empty() && could_hold(wishes, info.shape, info.pool, info.dedicated);
}

// Puts a node into the lists of its bucket, or takes it out. Between the two its amounts, owner and
// switches may change.
void list_node(State& state, std::uint32_t slot);
void unlist_node(State& state, std::uint32_t slot);
// Makes an unlisted node a member of the bucket that its owner, pool, zone and model name.
void join_bucket(State& state, std::uint32_t slot);
void leave_bucket(State& state, std::uint32_t slot);
// Sums up the GPUs of an unlisted node anew, after a change of what is free on them.
void count_gpus(State& state, std::uint32_t slot);

// A candidate: least is best. `scarcity` is criterion 3, the rest 5 and 6.
struct Candidate {
  std::int64_t scarcity = 0;
  std::int64_t residual = 0;
  std::uint32_t node = 0;  // slot + 1; 0: none
  auto operator<=>(const Candidate&) const = default;
};
inline constexpr Candidate kWorst{INT64_MAX, INT64_MAX, 0xFFFFFFFFu};

inline std::int64_t scarcity_of(const Node& node, const Resources& ask, std::int32_t gpu_left) {
  return is_share(ask) ? std::int64_t{gpu_left} << 32 | node.scarcity() : node.scarcity();
}
inline std::int64_t residual_of(const Node& node, const Resources& ask) {
  return node.gpus == 0 || is_share(ask) ? node.residual() : 0;
}

// Index of the least free GPU that holds `millis`, or -1. Lowest among equals.
std::int32_t tightest_gpu(const GpuRow& row, std::int32_t millis);
bool holds_image(const ImageNodes& image, NodeId node);

// Looks through buckets for the best candidate that is better than `best`.
class Search {
 public:
  Search(const State& state, const Resources& ask, const std::vector<Wish>& spare)
      : state_(state), ask_(ask), spare_(spare) {}
  // Accept only nodes that hold `image`, and give up after testing `tests` nodes.
  void only_holding(const ImageNodes& image, std::size_t tests) {
    image_ = &image;
    tests_left_ = tests;
  }
  void look_at(const Bucket& bucket);
  bool gave_up() const { return gave_up_; }

  Candidate best = kWorst;

 private:
  bool first_in(std::uint32_t at, bool gpus);
  bool first_share(std::uint32_t at);
  void look_at_grid(const Grid& grid);
  bool may_fit(const Item& item) const {
    return item.cpu >= ask_.cpu_millicores && item.memory >= ask_.memory_bytes &&
           item.disk >= ask_.disk_bytes && item.whole >= ask_.gpus;
  }
  bool accepts(std::uint32_t node);

  const State& state_;
  const Resources& ask_;
  const std::vector<Wish>& spare_;
  bool some_spared_ = false;  // of the bucket that is looked at
  const ImageNodes* image_ = nullptr;
  std::size_t tests_left_ = 0;
  bool gave_up_ = false;
};

// The filters of a refusal, in order; a Most over filter f looks at nodes that pass those before f.
enum class Filter : std::uint8_t { gpu, cpu, memory, disk, start_slots };

// The most of a dimension over open and waiting nodes that pass the filters before it.
class Most {
 public:
  Most(const State& state, const Resources& ask, Filter filter)
      : state_(state), ask_(ask), filter_(filter) {}
  void look_at(const Bucket& bucket);

  std::int64_t most = 0;

 private:
  void look_at_list(std::uint32_t at);
  void look_at_grid(const Grid& grid);
  bool passes(std::int64_t gpu, std::int64_t cpu, std::int64_t memory, std::int64_t disk) const;
  std::int64_t amount(std::int64_t gpu, std::int64_t cpu, std::int64_t memory,
                      std::int64_t disk) const;

  const State& state_;
  const Resources& ask_;
  Filter filter_;
};

}  // namespace chalk::scheduler
