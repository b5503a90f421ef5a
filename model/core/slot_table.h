// Dense storage whose handles are Ids: low 32 bits are slot + 1, high 32 bits the slot's
// generation. Insert, find and erase are O(1); iteration is in slot order; a stale Id finds
// nothing.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/invariant.h"

namespace chalk {

template <class IdType, class T>
class SlotTable {
 public:
  struct Slot {
    T value{};
    std::uint32_t generation = 0;
    std::uint32_t next_free = 0;  // index + 1 of the next free slot while free
    bool used = false;
    CHALK_FIELDS(Slot, value, generation, next_free, used)
  };

  static constexpr std::uint32_t slot_of(IdType id) {
    return static_cast<std::uint32_t>(id.value) - 1;
  }

  IdType insert(T value) {
    std::uint32_t index;
    if (first_free_ != 0) {
      index = first_free_ - 1;
      first_free_ = slots_[index].next_free;
    } else {
      index = static_cast<std::uint32_t>(slots_.size());
      slots_.emplace_back();
    }
    Slot& slot = slots_[index];
    slot.value = std::move(value);
    slot.used = true;
    ++count_;
    return id_at(index);
  }
  T* find(IdType id) {
    const std::uint32_t index = slot_of(id);
    if (index >= slots_.size()) return nullptr;
    Slot& slot = slots_[index];
    return slot.used && slot.generation == id.value >> 32 ? &slot.value : nullptr;
  }
  const T* find(IdType id) const { return const_cast<SlotTable*>(this)->find(id); }
  T& at(IdType id) {
    T* found = find(id);
    CHALK_INVARIANT(found != nullptr);
    return *found;
  }
  const T& at(IdType id) const { return const_cast<SlotTable*>(this)->at(id); }
  void erase(IdType id) {
    CHALK_INVARIANT(find(id) != nullptr);
    Slot& slot = slots_[slot_of(id)];
    slot.value = T{};
    slot.used = false;
    ++slot.generation;
    slot.next_free = first_free_;
    first_free_ = slot_of(id) + 1;
    --count_;
  }
  // By position, for links between entries that are kept as positions. The slot must be in use.
  T& in_slot(std::uint32_t index) { return slots_[index].value; }
  const T& in_slot(std::uint32_t index) const { return slots_[index].value; }
  std::size_t size() const { return count_; }
  std::size_t slots() const { return slots_.size(); }
  IdType id_at(std::uint32_t index) const {
    return {std::uint64_t{slots_[index].generation} << 32 | (index + 1)};
  }
  // visit(id, value) for each used slot, in slot order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].used) visit(id_at(index), slots_[index].value);
    }
  }
  template <class Visit>
  void for_each(Visit&& visit) {
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].used) visit(id_at(index), slots_[index].value);
    }
  }

 private:
  std::vector<Slot> slots_;
  std::uint32_t first_free_ = 0;
  std::uint64_t count_ = 0;

 public:
  CHALK_FIELDS(SlotTable, slots_, first_free_, count_)
};

}  // namespace chalk
