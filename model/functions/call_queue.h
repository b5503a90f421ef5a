// The calls of one function that wait, and which of them is next.
//
// fifo: in the order of coming. drr: deficit round robin between callers (Shreedhar and Varghese,
// SIGCOMM 1995): each caller with something waiting gets turns, and at each turn as much service as
// the dearest caller's call costs; what it has not used is kept while something of it waits. A call
// costs its caller's usual service time, smoothed, as nobody knows beforehand how long a call will
// take: who makes long calls is served fewer of them. With one caller both orders are the same.
// Where room is short, who has most waiting loses its newest call (as in SFQ, McKenney, 1990).
//
// Promises: O(1) per call but for find(), which looks for it; a caller's calls stay in order;
// a deficit is never negative and less than twice the quantum; a caller is served once at least in
// each round of the callers that wait.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "model/core/fields.h"
#include "model/core/ids.h"
#include "model/core/time.h"
#include "model/protocol/protocol.h"

namespace chalk::functions {

struct Queued {
  RequestId request;
  TenantId caller;
  Time since;
  CHALK_FIELDS(Queued, request, caller, since)
};

// Slots are numbered from 1 in all links; 0 is none.
struct Links {
  std::uint32_t before = 0;
  std::uint32_t after = 0;
  CHALK_FIELDS(Links, before, after)
};
struct Ends {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  CHALK_FIELDS(Ends, first, last)
};
struct QueueEntry {
  Queued call;
  std::uint32_t line = 0;
  Links by_age;
  Links in_line;
  CHALK_FIELDS(QueueEntry, call, line, by_age, in_line)
};
struct CallerLine {
  TenantId caller;
  Ends calls;
  std::uint32_t length = 0;  // 0: not in use
  std::int64_t deficit = 0;  // nanoseconds of service
  std::int64_t cost = 0;     // of one of its calls
  bool granted = false;      // its turn is now, and it has got its quantum
  Links in_turn;
  Links by_length;
  CHALK_FIELDS(CallerLine, caller, calls, length, deficit, cost, granted, in_turn, by_length)
};

// Which line is whose: an open-addressed table that nobody iterates.
class CallerIndex {
 public:
  std::uint32_t find(TenantId caller, const std::vector<CallerLine>& lines) const;
  void insert(std::uint32_t line, const std::vector<CallerLine>& lines);
  void erase(std::uint32_t line, const std::vector<CallerLine>& lines);

 private:
  std::size_t home(TenantId caller) const;
  std::vector<std::uint32_t> table_;  // its size is a power of two
  std::uint32_t used_ = 0;

 public:
  CHALK_FIELDS(CallerIndex, table_, used_)
};

class CallQueue {
 public:
  bool empty() const { return size_ == 0; }
  std::uint32_t size() const { return size_; }
  void set_order(QueueOrder order);
  QueueOrder order() const { return order_; }

  void push(const Queued& call);
  Queued pop();  // the next in order; there must be one
  const Queued& oldest() const { return entries_[by_age_.first - 1].call; }
  Queued pop_oldest() { return take(by_age_.first); }
  std::uint32_t find(RequestId request) const;  // where it waits, 0: nowhere
  Queued take(std::uint32_t entry);
  // Takes the newest call of the caller with most waiting, where that is more than `caller` would
  // have with one more.
  std::optional<Queued> make_room_for(TenantId caller);
  void learn(TenantId caller, Duration took);  // a call of it ended

  // For tests.
  const std::vector<CallerLine>& lines() const { return lines_; }
  std::int64_t quantum() const { return quantum_; }

 private:
  std::uint32_t new_line(TenantId caller);
  void drop_line(std::uint32_t line);
  void to_last_turn(std::uint32_t line);
  void set_length(std::uint32_t line, std::uint32_t length);

  QueueOrder order_ = QueueOrder::fifo;
  std::uint32_t size_ = 0;
  std::vector<QueueEntry> entries_;
  std::uint32_t free_entry_ = 0;  // linked by by_age.after
  Ends by_age_;
  std::vector<CallerLine> lines_;  // drr only
  std::uint32_t free_line_ = 0;    // linked by in_turn.after
  Ends turns_;                     // the first is served
  std::vector<std::uint32_t> by_length_;  // the first line of each length
  std::uint32_t longest_ = 0;
  CallerIndex index_;
  std::int64_t usual_ = 1'000'000'000;  // cost of a caller that is not known
  std::int64_t quantum_ = 1;

 public:
  CHALK_FIELDS(CallQueue, order_, size_, entries_, free_entry_, by_age_, lines_, free_line_, turns_,
               by_length_, longest_, index_, usual_, quantum_)
};

}  // namespace chalk::functions
