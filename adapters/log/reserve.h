// Room on a disk that is kept for a log: a file beside it, which goes when the log cannot be written
// because the disk is full. What would make room has to be logged first, so without this a full disk
// stays full. Made again once there is room. Thread-safe.
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace chalk::log {

class Reserve {
 public:
  static constexpr std::int64_t kBytes = std::int64_t{64} << 20;

  // Makes it if there is room for it and as much again; stays without it otherwise.
  explicit Reserve(std::string path, std::int64_t bytes = kBytes,
                   std::chrono::milliseconds look_every = std::chrono::minutes(1));

  void give_back_if_full();  // after a failure of the log
  void make_if_room();       // after a success; looks now and then only

 private:
  void make();  // with mutex_

  const std::string path_;
  const std::int64_t bytes_;
  const std::chrono::milliseconds look_every_;
  std::mutex mutex_;
  bool there_ = false;
  std::chrono::steady_clock::time_point next_look_;
};

}  // namespace chalk::log
