// A map from 64-bit keys to 32-bit values in one flat array: linear probing, no tombstones.
//
// It answers point look-ups only and is never iterated, so where a key lies decides nothing.
// Copying it is copying one array.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/invariant.h"
#include "model/core/random.h"

namespace chalk::scheduler {

inline constexpr std::uint32_t kNone = 0xFFFFFFFFu;

class KeyIndex {
 public:
  // The value of `key`, or kNone.
  std::uint32_t find(std::uint64_t key) const {
    if (entries_.empty()) return kNone;
    for (std::size_t at = home(key);; at = next(at)) {
      if (entries_[at].value == kNone || entries_[at].key == key) return entries_[at].value;
    }
  }
  // `key` must be absent.
  void insert(std::uint64_t key, std::uint32_t value) {
    CHALK_INVARIANT(value != kNone);
    if ((count_ + 1) * 2 > entries_.size()) grow();
    place({key, value});
    ++count_;
  }
  // `key` must be present.
  void erase(std::uint64_t key) {
    std::size_t hole = home(key);
    while (entries_[hole].key != key || entries_[hole].value == kNone) hole = next(hole);
    // Pull back every later entry of the run that may not stand behind an empty place.
    for (std::size_t at = next(hole); entries_[at].value != kNone; at = next(at)) {
      const std::size_t from_home = (at - home(entries_[at].key)) & mask();
      if (from_home >= ((at - hole) & mask())) {
        entries_[hole] = entries_[at];
        hole = at;
      }
    }
    entries_[hole] = {};
    --count_;
  }
  std::uint64_t size() const { return count_; }

 private:
  struct Entry {
    std::uint64_t key = 0;
    std::uint32_t value = kNone;
    CHALK_FIELDS(Entry, key, value)
  };
  std::size_t mask() const { return entries_.size() - 1; }
  std::size_t home(std::uint64_t key) const { return mix64(key) & mask(); }
  std::size_t next(std::size_t at) const { return (at + 1) & mask(); }
  void place(Entry entry) {
    std::size_t at = home(entry.key);
    while (entries_[at].value != kNone) at = next(at);
    entries_[at] = entry;
  }
  void grow() {
    std::vector<Entry> old(entries_.empty() ? 8 : entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.value != kNone) place(entry);
    }
  }

  std::vector<Entry> entries_;  // its size is a power of two
  std::uint64_t count_ = 0;

 public:
  CHALK_FIELDS(KeyIndex, entries_, count_)
};

}  // namespace chalk::scheduler
