// The room that is left on a store's disk, shared by the pulls under way: each reserves what it is
// likely to write before it begins, and asks for more, in steps, where that was too little. So they
// never take together what each alone would have found free, and what is to stay free does. Files
// count as bytes do: a disk can run out of either. Thread-safe.
#pragma once
#include <cstdint>
#include <mutex>

#include "adapters/error.h"

namespace chalk::images {

class Room {
 public:
  struct Free {
    std::int64_t bytes = 0;
    std::int64_t files = 0;
  };
  // Of the file system of `directory`, an open descriptor that is not taken over.
  explicit Room(int directory, std::int64_t keep_free_bytes)
      : directory_(directory), keep_free_bytes_(keep_free_bytes) {}

  // Gives back what it did not take when it ends.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept;
    Share& operator=(Share&&) = delete;
    ~Share();
    // Before it is written. Error::exhausted.
    Result<void> take(std::int64_t bytes, std::int64_t files);

   private:
    friend class Room;
    Room* room_ = nullptr;
    Free left_;
  };

  // Error::exhausted, with the numbers.
  Result<Share> reserve(std::int64_t bytes);

 private:
  Result<void> grow(Share& share, Free needed, bool in_steps);
  // What nobody has reserved and need not stay free; may be negative. With mutex_.
  Free free_now() const;

  const int directory_;
  const std::int64_t keep_free_bytes_;
  std::mutex mutex_;
  Free reserved_;  // and not yet taken
};

}  // namespace chalk::images
