// What main processes write: two files per sandbox that the process itself appends to, so nothing is
// between it and the disk and it goes on when the agent dies. At most `bytes_max` of each is kept
// on the disk: once a second the front of longer ones is given back to the file system, the rest
// stays at its place in the file. Files of ended sandboxes are kept for a while, a bounded number.
// Thread safe.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "adapters/error.h"
#include "model/core/ids.h"

namespace chalk::agent {

class Logs {
 public:
  static constexpr std::size_t kEndedMax = 64;

  // Makes the directory; what it holds stays until somebody asks for it to go. Throws
  // std::runtime_error.
  Logs(std::string directory, std::size_t bytes_max);
  ~Logs();
  Logs(const Logs&) = delete;
  Logs& operator=(const Logs&) = delete;

  struct Files {
    std::string output;
    std::string error;
  };
  Files files(SandboxId sandbox) const;
  Result<Files> begin(SandboxId sandbox);  // empty ones
  void take_over(SandboxId sandbox);       // of a sandbox that runs already
  void end(SandboxId sandbox);             // nobody writes any more
  void forget_ended();
  void keep_only_live();  // at the start: files of sandboxes that nobody began or took over go

  // When the process wrote its first byte: nanoseconds since 1970, 0 if it has not.
  std::int64_t first_byte_at(SandboxId sandbox) const;

  // What is kept, the last `tail` bytes of each where that is not 0; with follow also what comes,
  // until the sandbox ends. Stops when `sink` answers false; asks it with nothing now and then.
  using Sink = std::function<bool(int stream, std::string_view data)>;
  Result<void> read(SandboxId sandbox, bool follow, std::uint64_t tail, const Sink& sink) const;

 private:
  struct Live {
    bool ended = false;
    std::int64_t first_byte_at = 0;
  };
  void watch(SandboxId sandbox);  // with mutex_
  void run();
  void trim(SandboxId sandbox) const;
  bool ended(SandboxId sandbox) const;

  const std::string directory_;
  const std::size_t bytes_max_;
  int inotify_ = -1;
  int wake_ = -1;
  mutable std::mutex mutex_;
  std::map<SandboxId, Live> live_;  // also the ended ones whose files are kept
  std::deque<SandboxId> ended_;
  std::map<int, SandboxId> watches_;
  std::thread thread_;
};

}  // namespace chalk::agent
