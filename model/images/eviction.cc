#include "model/images/eviction.h"

#include <algorithm>

#include "model/core/invariant.h"

namespace chalk::images {
namespace {
constexpr std::uint32_t kUsesMax = 3;         // s3_fifo counts no further
constexpr std::int64_t kBlock = 4096;         // less than that no layer takes on a disk
constexpr std::size_t kGhostsMax = 16'384;    // a name each
constexpr std::uint64_t kGdsfScale = 1ULL << 40;

std::uint64_t gdsf_key(std::uint64_t clock, std::int64_t bytes, std::uint32_t uses) {
  return clock + kGdsfScale / static_cast<std::uint64_t>(std::max(bytes, kBlock)) * uses;
}
}  // namespace

void Eviction::used(const EvictionRule& rule, std::int64_t capacity, LayerId layer,
                    std::int64_t bytes) {
  auto [found, fresh] = entries_.try_emplace(layer);
  Entry& entry = found->second;
  if (fresh) {
    entry.bytes = std::max<std::int64_t>(bytes, 0);
    filled_mebibytes_ += entry.bytes / (1 << 20) + 1;
  }
  busy(layer, entry);
  place(rule, capacity, layer, entry, fresh);
}

void Eviction::place(const EvictionRule& rule, std::int64_t capacity, LayerId layer, Entry& entry,
                     bool fresh) {
  const auto ghost = ghosts_.find(layer);
  switch (rule.policy) {
    case CachePolicy::lru: break;
    case CachePolicy::sieve:
      if (fresh) entry.key = ++clock_;
      entry.uses = fresh ? 0 : 1;
      break;
    case CachePolicy::s3_fifo:
      if (fresh) {
        entry.key = ++clock_;
        entry.small = ghost == ghosts_.end();
        if (entry.small) small_bytes_ += entry.bytes;
      } else {
        entry.uses = std::min(entry.uses + 1, kUsesMax);
      }
      break;
    case CachePolicy::gdsf: {
      ++entry.uses;
      entry.key = gdsf_key(clock_, entry.bytes, entry.uses);
      break;
    }
    case CachePolicy::seconds: {
      if (fresh && ghost != ghosts_.end()) entry.weight = ghost->second.weight;
      const std::int64_t turn = std::max<std::int64_t>(1, capacity / (1 << 20)) * rule.fade;
      const auto turns = static_cast<std::uint64_t>(filled_mebibytes_ / turn);
      const auto rest = static_cast<std::uint64_t>(filled_mebibytes_ % turn);
      entry.weight = entry.weight.plus(
          Weight::power((turns << 16) + (rest << 16) / static_cast<std::uint64_t>(turn)));
      entry.key = worth(rule, entry);
      break;
    }
  }
  if (fresh && ghost != ghosts_.end()) forget_ghost(layer);
}

// Nanoseconds that a start waits less, per byte.
std::uint64_t Eviction::worth(const EvictionRule& rule, const Entry& entry) const {
  const std::int64_t rate = std::max<std::int64_t>(rule.bytes_per_second, 1);
  const std::int64_t wait = rule.layer_cost.nanos + entry.bytes / rate * 1'000'000'000 +
                            entry.bytes % rate * 1000 / std::max<std::int64_t>(rate / 1'000'000, 1);
  return entry.weight.times(static_cast<std::uint64_t>(std::max<std::int64_t>(wait, 1)))
      .over(static_cast<std::uint64_t>(std::max(entry.bytes, kBlock)))
      .bits();
}

void Eviction::let_go(const EvictionRule& rule, LayerId layer) {
  const auto found = entries_.find(layer);
  if (found == entries_.end() || rule.policy != CachePolicy::lru) return;
  busy(layer, found->second);
  found->second.key = ++clock_;
}

void Eviction::released(LayerId layer) {
  Entry& entry = entries_.at(layer);
  entry.idle = true;
  idle_bytes_ += entry.bytes;
  order_of(entry).insert({entry.key, layer});
}

void Eviction::busy(LayerId layer, Entry& entry) {
  if (!entry.idle) return;
  entry.idle = false;
  idle_bytes_ -= entry.bytes;
  order_of(entry).erase({entry.key, layer});
}

void Eviction::drop(LayerId layer) {
  const auto found = entries_.find(layer);
  if (found == entries_.end()) return;
  busy(layer, found->second);
  if (found->second.small) small_bytes_ -= found->second.bytes;
  entries_.erase(found);
}

// Its place changes only where what it takes decides it.
void Eviction::resized(const EvictionRule& rule, LayerId layer, std::int64_t bytes) {
  Entry& entry = entries_.at(layer);
  const bool was_idle = entry.idle;
  busy(layer, entry);
  if (entry.small) small_bytes_ += bytes - entry.bytes;
  entry.bytes = bytes;
  if (rule.policy == CachePolicy::gdsf) entry.key = gdsf_key(clock_, bytes, entry.uses);
  if (rule.policy == CachePolicy::seconds) entry.key = worth(rule, entry);
  if (was_idle) released(layer);
}

LayerId Eviction::victim(const EvictionRule& rule, std::int64_t capacity) {
  CHALK_INVARIANT(!idle_.empty() || !small_.empty());
  LayerId layer;
  if (rule.policy == CachePolicy::sieve) {
    layer = sieve_victim();
  } else if (rule.policy == CachePolicy::s3_fifo) {
    layer = s3_fifo_victim(capacity);
  } else {
    layer = idle_.begin()->second;
    if (rule.policy == CachePolicy::gdsf) clock_ = idle_.begin()->first;
  }
  const Entry entry = entries_.at(layer);
  drop(layer);
  remember(rule, capacity, layer, entry);
  return layer;
}

// Each step past a layer takes back a use that was counted, so the walk is paid for by uses.
LayerId Eviction::sieve_victim() {
  while (true) {
    auto at = idle_.lower_bound({hand_, LayerId{}});
    if (at == idle_.end()) at = idle_.begin();
    hand_ = at->first + 1;
    Entry& entry = entries_.at(at->second);
    if (entry.uses == 0) return at->second;
    entry.uses = 0;
  }
}

LayerId Eviction::s3_fifo_victim(std::int64_t capacity) {
  while (true) {
    const bool from_small = !small_.empty() && (idle_.empty() || small_bytes_ >= capacity / 10);
    const LayerId layer = from_small ? small_.begin()->second : idle_.begin()->second;
    Entry& entry = entries_.at(layer);
    if (from_small && entry.uses > 1) {
      move_to_main(layer, entry, 0);
    } else if (!from_small && entry.uses > 0) {
      move_to_main(layer, entry, entry.uses - 1);
    } else {
      return layer;
    }
  }
}

void Eviction::move_to_main(LayerId layer, Entry& entry, std::uint32_t uses) {
  busy(layer, entry);
  if (entry.small) small_bytes_ -= entry.bytes;
  entry.small = false;
  entry.key = ++clock_;
  entry.uses = uses;
  released(layer);
}

void Eviction::remember(const EvictionRule& rule, std::int64_t capacity, LayerId layer,
                        const Entry& entry) {
  const bool unused_in_small = rule.policy == CachePolicy::s3_fifo && entry.small;
  if (!unused_in_small && rule.policy != CachePolicy::seconds) return;
  const std::uint64_t key = unused_in_small ? ++clock_ : entry.key;
  ghosts_[layer] = {key, entry.bytes, entry.weight};
  ghost_order_.insert({key, layer});
  ghost_bytes_ += entry.bytes;
  const auto too_many = [&] {
    return ghosts_.size() > kGhostsMax || (unused_in_small && ghost_bytes_ > capacity / 10 * 9);
  };
  while (too_many()) forget_ghost(ghost_order_.begin()->second);
}

void Eviction::forget_ghost(LayerId layer) {
  const auto found = ghosts_.find(layer);
  ghost_bytes_ -= found->second.bytes;
  ghost_order_.erase({found->second.key, layer});
  ghosts_.erase(found);
}

}  // namespace chalk::images
