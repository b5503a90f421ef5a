// The world's own queue: events in order of (time, sequence), in integer nanoseconds.
//
// Most of what a simulation schedules comes in streams whose times only grow: messages with one
// latency, heartbeats with one period. Each such stream has a lane, a ring with O(1) push and pop;
// what does not fit its lane goes to a 4-ary heap. Popping takes the least of the lanes' heads and
// the heap's top, so the order is exactly that of one big heap.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fifo.h"
#include "model/core/invariant.h"
#include "model/core/time.h"

namespace chalk::sim {

struct Scheduled {
  Time at;
  std::uint64_t sequence = 0;
  std::uint32_t kind = 0;
  std::uint32_t index = 0;  // meaning depends on kind: a node, a gateway, a slot
  std::uint64_t detail = 0;
};

class Queue {
 public:
  static constexpr int kLanes = 4;

  void push(int lane, Time at, std::uint32_t kind, std::uint32_t index, std::uint64_t detail) {
    const Scheduled entry{at, next_sequence_++, kind, index, detail};
    if (lane >= 0) {
      Fifo<Scheduled>& ring = lanes_[lane];
      if (ring.empty() || back_[lane] <= at) {
        back_[lane] = at;
        ring.push_back(entry);
        if (ring.size() == 1) heads_[lane] = at;
        return;
      }
    }
    push_heap(entry);
  }
  bool empty() const {
    if (!heap_.empty()) return false;
    for (const auto& lane : lanes_) {
      if (!lane.empty()) return false;
    }
    return true;
  }
  std::size_t size() const {
    std::size_t total = heap_.size();
    for (const auto& lane : lanes_) total += lane.size();
    return total;
  }
  // kNever when empty.
  Time next() const {
    Time first = heap_.empty() ? kNever : heap_[0].at;
    for (const Time head : heads_) {
      if (head < first) first = head;
    }
    return first;
  }
  // The entry `ahead` places behind the head of a lane, or nothing: to fetch memory before its
  // turn.
  const Scheduled* soon(int lane, std::size_t ahead) const {
    return ahead < lanes_[lane].size() ? &lanes_[lane][ahead] : nullptr;
  }
  // What is first outside the lanes, or nothing.
  const Scheduled* soon_in_heap() const { return heap_.empty() ? nullptr : &heap_[0]; }
  Scheduled pop() {
    int best = -1;
    Time at = heap_.empty() ? kNever : heap_[0].at;
    std::uint64_t sequence = heap_.empty() ? ~0ULL : heap_[0].sequence;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (heads_[lane] > at || lanes_[lane].empty()) continue;
      const std::uint64_t candidate = lanes_[lane].front().sequence;
      if (heads_[lane] < at || candidate < sequence) {
        best = lane;
        at = heads_[lane];
        sequence = candidate;
      }
    }
    if (best < 0) return pop_heap();
    const Scheduled entry = lanes_[best].pop_front();
    heads_[best] = lanes_[best].empty() ? kNever : lanes_[best].front().at;
    return entry;
  }

 private:
  static bool before(const Scheduled& a, const Scheduled& b) {
    return a.at != b.at ? a.at < b.at : a.sequence < b.sequence;
  }
  void push_heap(const Scheduled& entry) {
    std::size_t hole = heap_.size();
    heap_.push_back(entry);
    while (hole > 0) {
      const std::size_t parent = (hole - 1) / 4;
      if (!before(entry, heap_[parent])) break;
      heap_[hole] = heap_[parent];
      hole = parent;
    }
    heap_[hole] = entry;
  }
  Scheduled pop_heap() {
    CHALK_INVARIANT(!heap_.empty());
    const Scheduled first = heap_[0];
    const Scheduled last = heap_.back();
    heap_.pop_back();
    const std::size_t size = heap_.size();
    std::size_t hole = 0;
    while (true) {
      const std::size_t child = hole * 4 + 1;
      if (child >= size) break;
      std::size_t least = child;
      const std::size_t end = child + 4 < size ? child + 4 : size;
      for (std::size_t i = child + 1; i < end; ++i) {
        if (before(heap_[i], heap_[least])) least = i;
      }
      if (!before(heap_[least], last)) break;
      heap_[hole] = heap_[least];
      hole = least;
    }
    if (size != 0) heap_[hole] = last;
    return first;
  }

  Fifo<Scheduled> lanes_[kLanes];
  Time heads_[kLanes] = {kNever, kNever, kNever, kNever};
  Time back_[kLanes] = {};
  std::vector<Scheduled> heap_;
  std::uint64_t next_sequence_ = 0;
};

}  // namespace chalk::sim
