// A disk that stands still: fdatasync of the files whose path has a given end does not return until
// it goes on, which it does at the latest when this object ends. One at a time. To be included by one
// file of a program, whose fdatasync this becomes.
#pragma once
#include <sys/syscall.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <string>

namespace chalk {

class StandingDisk {
 public:
  explicit StandingDisk(const std::string& of) {
    const std::lock_guard lock(mutex_);
    stands_ = of;
  }
  ~StandingDisk() { go_on(); }
  StandingDisk(const StandingDisk&) = delete;
  StandingDisk& operator=(const StandingDisk&) = delete;

  void go_on() {
    const std::lock_guard lock(mutex_);
    stands_.clear();
    goes_on_.notify_all();
  }
  static void wait(int descriptor) {
    char path[4096];
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    const ssize_t size = readlink(link.c_str(), path, sizeof path);
    const std::string name(path, size > 0 ? static_cast<std::size_t>(size) : 0);
    std::unique_lock lock(mutex_);
    goes_on_.wait(lock, [&] { return stands_.empty() || !name.ends_with(stands_); });
  }

 private:
  static inline std::mutex mutex_;
  static inline std::condition_variable goes_on_;
  static inline std::string stands_;
};

}  // namespace chalk

extern "C" int fdatasync(int descriptor) {
  chalk::StandingDisk::wait(descriptor);
  return static_cast<int>(syscall(SYS_fdatasync, descriptor));
}
