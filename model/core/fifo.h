// A first-in, first-out queue in one ring of memory: O(1) at both ends, cheap to copy, and its
// digest and equality depend on the contents alone, not on where the ring stands.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/invariant.h"

namespace chalk {

template <class T>
class Fifo {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  void push_back(T value) {
    if (size_ == ring_.size()) grow();
    ring_[wrap(head_ + size_)] = std::move(value);
    ++size_;
  }
  T& front() {
    CHALK_INVARIANT(size_ != 0);
    return ring_[head_];
  }
  const T& front() const { return const_cast<Fifo*>(this)->front(); }
  T pop_front() {
    T value = std::move(front());
    ring_[head_] = T{};
    head_ = wrap(head_ + 1);
    --size_;
    return value;
  }
  // 0 is the front.
  T& operator[](std::size_t index) { return ring_[wrap(head_ + index)]; }
  const T& operator[](std::size_t index) const { return ring_[wrap(head_ + index)]; }
  bool operator==(const Fifo& other) const {
    if (size_ != other.size_) return false;
    for (std::size_t i = 0; i < size_; ++i) {
      if (!((*this)[i] == other[i])) return false;
    }
    return true;
  }

 private:
  std::size_t wrap(std::size_t index) const { return index & (ring_.size() - 1); }
  void grow() {
    std::vector<T> bigger(ring_.empty() ? 4 : ring_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) bigger[i] = std::move((*this)[i]);
    ring_ = std::move(bigger);
    head_ = 0;
  }

  std::vector<T> ring_;  // its size is a power of two
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace chalk
