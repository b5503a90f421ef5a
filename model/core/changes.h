// Where something changed last, for who remembers what it saw there and has to look again only at
// what has changed since.
#pragma once
#include <array>
#include <cstdint>

#include "model/core/fields.h"

namespace chalk {

class Changes {
 public:
  void add(std::uint32_t slot) { last_[count_++ % last_.size()] = slot; }
  std::uint64_t count() const { return count_; }
  // Whether all after the first `seen` are still known.
  bool know(std::uint64_t seen) const { return count_ - seen <= last_.size(); }
  // visit(slot) for each after the first `seen`, of which all are known; one may come repeatedly.
  template <class Visit>
  void since(std::uint64_t seen, Visit&& visit) const {
    for (; seen != count_; ++seen) visit(last_[seen % last_.size()]);
  }

 private:
  std::uint64_t count_ = 0;
  std::array<std::uint32_t, 1024> last_{};

 public:
  CHALK_FIELDS(Changes, count_, last_)
};

}  // namespace chalk
