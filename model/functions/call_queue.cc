#include "model/functions/call_queue.h"

#include <algorithm>

#include "model/core/random.h"

namespace chalk::functions {
namespace {

template <class Slots>
void link_last(Slots& slots, Ends& ends, Links(Slots::value_type::* links), std::uint32_t slot) {
  Links& own = slots[slot - 1].*links;
  own = {ends.last, 0};
  (ends.last != 0 ? (slots[ends.last - 1].*links).after : ends.first) = slot;
  ends.last = slot;
}

template <class Slots>
void unlink(Slots& slots, Ends& ends, Links(Slots::value_type::* links), std::uint32_t slot) {
  Links& own = slots[slot - 1].*links;
  (own.before != 0 ? (slots[own.before - 1].*links).after : ends.first) = own.after;
  (own.after != 0 ? (slots[own.after - 1].*links).before : ends.last) = own.before;
  own = {};
}

}  // namespace

// ---- which line is whose

std::size_t CallerIndex::home(TenantId caller) const {
  return static_cast<std::size_t>(mix64(caller.value)) & (table_.size() - 1);
}

std::uint32_t CallerIndex::find(TenantId caller, const std::vector<CallerLine>& lines) const {
  if (table_.empty()) return 0;
  for (std::size_t at = home(caller); table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
    if (lines[table_[at] - 1].caller == caller) return table_[at];
  }
  return 0;
}

void CallerIndex::insert(std::uint32_t line, const std::vector<CallerLine>& lines) {
  if ((used_ + 1) * 2 > table_.size()) {
    const std::vector<std::uint32_t> old = std::move(table_);
    table_.assign(std::max<std::size_t>(8, old.size() * 2), 0);
    used_ = 0;
    for (const std::uint32_t one : old) {
      if (one != 0) insert(one, lines);
    }
  }
  std::size_t at = home(lines[line - 1].caller);
  while (table_[at] != 0) at = (at + 1) & (table_.size() - 1);
  table_[at] = line;
  ++used_;
}

// Closes the gap: whoever stands behind it and may stand nearer to its home moves up.
void CallerIndex::erase(std::uint32_t line, const std::vector<CallerLine>& lines) {
  const std::size_t mask = table_.size() - 1;
  std::size_t gap = home(lines[line - 1].caller);
  while (table_[gap] != line) gap = (gap + 1) & mask;
  for (std::size_t at = (gap + 1) & mask; table_[at] != 0; at = (at + 1) & mask) {
    const std::size_t wants = home(lines[table_[at] - 1].caller);
    if (((at - wants) & mask) < ((at - gap) & mask)) continue;
    table_[gap] = table_[at];
    gap = at;
  }
  table_[gap] = 0;
  --used_;
}

// ---- the queue

void CallQueue::set_order(QueueOrder order) {
  if (order == order_) return;
  std::vector<Queued> calls;
  while (!empty()) calls.push_back(pop_oldest());
  order_ = order;
  for (const Queued& call : calls) push(call);
}

void CallQueue::push(const Queued& call) {
  std::uint32_t slot = free_entry_;
  if (slot != 0) {
    free_entry_ = entries_[slot - 1].by_age.after;
  } else {
    entries_.emplace_back();
    slot = static_cast<std::uint32_t>(entries_.size());
  }
  entries_[slot - 1] = {call, 0, {}, {}};
  link_last(entries_, by_age_, &QueueEntry::by_age, slot);
  ++size_;
  if (order_ == QueueOrder::fifo) return;
  std::uint32_t line = index_.find(call.caller, lines_);
  if (line == 0) line = new_line(call.caller);
  entries_[slot - 1].line = line;
  link_last(entries_, lines_[line - 1].calls, &QueueEntry::in_line, slot);
  set_length(line, lines_[line - 1].length + 1);
}

// Each turn of the loop but the last ends a caller's turn, which it can only do after it was
// served: the quantum is at least what any call costs.
Queued CallQueue::pop() {
  if (order_ == QueueOrder::fifo) return pop_oldest();
  while (true) {
    const std::uint32_t at = turns_.first;
    CallerLine& line = lines_[at - 1];
    if (!line.granted) {
      line.granted = true;
      line.deficit += quantum_;
    }
    if (line.deficit < line.cost) {
      to_last_turn(at);
      continue;
    }
    line.deficit -= line.cost;
    const bool again = line.length > 1;
    const Queued call = take(line.calls.first);
    if (again && lines_[at - 1].deficit < lines_[at - 1].cost) to_last_turn(at);
    return call;
  }
}

std::uint32_t CallQueue::find(RequestId request) const {
  std::uint32_t slot = by_age_.first;
  while (slot != 0 && entries_[slot - 1].call.request != request)
    slot = entries_[slot - 1].by_age.after;
  return slot;
}

std::optional<Queued> CallQueue::make_room_for(TenantId caller) {
  if (order_ == QueueOrder::fifo || longest_ == 0) return {};
  const std::uint32_t own = index_.find(caller, lines_);
  const std::uint32_t would_have = own == 0 ? 1 : lines_[own - 1].length + 1;
  if (longest_ <= would_have) return {};
  return take(lines_[by_length_[longest_] - 1].calls.last);
}

void CallQueue::learn(TenantId caller, Duration took) {
  if (order_ == QueueOrder::fifo || took.nanos <= 0) return;
  usual_ = std::max<std::int64_t>(1, usual_ + (took.nanos - usual_) / 64);
  const std::uint32_t line = index_.find(caller, lines_);
  if (line == 0) return;
  std::int64_t& cost = lines_[line - 1].cost;
  cost = std::max<std::int64_t>(1, cost + (took.nanos - cost) / 8);
  quantum_ = std::max(quantum_, cost);
}

// ---- small parts

std::uint32_t CallQueue::new_line(TenantId caller) {
  std::uint32_t line = free_line_;
  if (line != 0) {
    free_line_ = lines_[line - 1].in_turn.after;
  } else {
    lines_.emplace_back();
    line = static_cast<std::uint32_t>(lines_.size());
  }
  CallerLine& own = lines_[line - 1] = CallerLine{};
  own.caller = caller;
  own.cost = usual_;
  quantum_ = turns_.first == 0 ? usual_ : std::max(quantum_, usual_);
  index_.insert(line, lines_);
  link_last(lines_, turns_, &CallerLine::in_turn, line);
  return line;
}

// With its last call a caller loses what was left of its deficit: it saves up nothing while idle.
void CallQueue::drop_line(std::uint32_t line) {
  index_.erase(line, lines_);
  unlink(lines_, turns_, &CallerLine::in_turn, line);
  lines_[line - 1] = CallerLine{};
  lines_[line - 1].in_turn.after = free_line_;
  free_line_ = line;
}

Queued CallQueue::take(std::uint32_t slot) {
  QueueEntry& entry = entries_[slot - 1];
  const Queued call = entry.call;
  const std::uint32_t line = entry.line;
  unlink(entries_, by_age_, &QueueEntry::by_age, slot);
  if (line != 0) {
    unlink(entries_, lines_[line - 1].calls, &QueueEntry::in_line, slot);
    set_length(line, lines_[line - 1].length - 1);
    if (lines_[line - 1].length == 0) drop_line(line);
  }
  entry = QueueEntry{};
  entry.by_age.after = free_entry_;
  free_entry_ = slot;
  --size_;
  return call;
}

void CallQueue::to_last_turn(std::uint32_t line) {
  lines_[line - 1].granted = false;
  unlink(lines_, turns_, &CallerLine::in_turn, line);
  link_last(lines_, turns_, &CallerLine::in_turn, line);
}

// Lines of one length are a list; a length changes by one, so the longest is never looked for.
void CallQueue::set_length(std::uint32_t line, std::uint32_t length) {
  CallerLine& own = lines_[line - 1];
  if (own.length != 0) {
    Ends ends{by_length_[own.length], 0};
    unlink(lines_, ends, &CallerLine::by_length, line);
    by_length_[own.length] = ends.first;
    if (longest_ == own.length && ends.first == 0) longest_ = length;
  }
  own.length = length;
  longest_ = std::max(longest_, length);
  if (length == 0) return;
  if (by_length_.size() <= length) by_length_.resize(length + 1);
  const std::uint32_t first = by_length_[length];
  own.by_length = {0, first};
  if (first != 0) lines_[first - 1].by_length.before = line;
  by_length_[length] = line;
}

}  // namespace chalk::functions
