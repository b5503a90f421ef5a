// A map whose keys are Ids issued by somebody else's SlotTable: dense by slot, O(1), and iterated
// in slot order. At most one generation of a slot is present at a time.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/invariant.h"

namespace chalk {

template <class IdType, class T>
class SlotMap {
 public:
  struct Entry {
    IdType id;  // 0: nothing here
    T value{};
    CHALK_FIELDS(Entry, id, value)
  };

  T* find(IdType id) {
    const auto slot = static_cast<std::uint32_t>(id.value) - 1;
    if (slot >= entries_.size() || entries_[slot].id != id) return nullptr;
    return &entries_[slot].value;
  }
  const T* find(IdType id) const { return const_cast<SlotMap*>(this)->find(id); }
  void prefetch(IdType id) const {  // a hint to the processor
    const auto slot = static_cast<std::uint32_t>(id.value) - 1;
    if (slot >= entries_.size()) return;
    const auto* entry = reinterpret_cast<const char*>(&entries_[slot]);
    for (std::size_t at = 0; at < sizeof(Entry); at += 64) __builtin_prefetch(entry + at, 1);
  }
  T& at(IdType id) {
    T* found = find(id);
    CHALK_INVARIANT(found != nullptr);
    return *found;
  }
  // Replaces whatever generation stood in the slot.
  T& put(IdType id, T value) {
    const auto slot = static_cast<std::uint32_t>(id.value) - 1;
    if (slot >= entries_.size()) entries_.resize(slot + 1);
    if (!entries_[slot].id) ++count_;
    entries_[slot] = Entry{id, std::move(value)};
    return entries_[slot].value;
  }
  void erase(IdType id) {
    if (find(id) == nullptr) return;
    entries_[static_cast<std::uint32_t>(id.value) - 1] = Entry{};
    --count_;
  }
  std::size_t size() const { return count_; }
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const Entry& entry : entries_) {
      if (entry.id) visit(entry.id, entry.value);
    }
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t count_ = 0;

 public:
  CHALK_FIELDS(SlotMap, entries_, count_)
};

}  // namespace chalk
