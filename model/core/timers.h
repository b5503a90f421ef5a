// Timers of one machine: a heap of deadlines with keys, part of the machine's State.
//
// The root asks its driver for one wake-up, at the earliest deadline (Wake in machine.h), and on
// waking pops what is due. A timer is cancelled by its owner forgetting the deadline: what fires
// is compared with the owner's own record and ignored when it no longer matches.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/core/time.h"

namespace chalk {

template <class Key>
class Timers {
 public:
  struct Timer {
    Time at;
    std::uint64_t sequence = 0;  // equal deadlines fire in the order in which they were armed
    Key key{};
    CHALK_FIELDS(Timer, at, sequence, key)
  };

  void arm(Time at, Key key) {
    if (at == kNever) return;
    heap_.push_back({at, next_sequence_++, key});
    std::push_heap(heap_.begin(), heap_.end(), fires_later);
  }
  Time next() const { return heap_.empty() ? kNever : heap_.front().at; }
  bool due(Time now) const { return next() <= now && !heap_.empty(); }
  Timer pop() {
    std::pop_heap(heap_.begin(), heap_.end(), fires_later);
    Timer first = heap_.back();
    heap_.pop_back();
    return first;
  }
  std::size_t size() const { return heap_.size(); }

 private:
  static bool fires_later(const Timer& a, const Timer& b) {
    return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
  }
  std::vector<Timer> heap_;
  std::uint64_t next_sequence_ = 0;

 public:
  CHALK_FIELDS(Timers, heap_, next_sequence_)
};

}  // namespace chalk
