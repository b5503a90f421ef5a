// What main processes write: each of their two streams is a named pipe that this takes to a file, of
// which at most `bytes_max` and a quarter stays on the disk; the rest is given back to the file system
// and the kept part stays at its place in the file. No sandbox ever holds the file itself: it could
// reserve or overwrite as much of the disk as it likes. It holds both ends of its pipes, so it goes on
// when the agent dies, and waits where it writes more than a pipe holds (64 KiB) until an agent is
// back. Files of ended sandboxes are kept for a while, a bounded number. Thread safe.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
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
  Files files(SandboxId sandbox) const;    // what is kept
  // The pipes to write to. Their files are empty, or with `again` go on where they are.
  Result<Files> begin(SandboxId sandbox, bool again = false);
  void take_over(SandboxId sandbox);       // of a sandbox that runs already
  void end(SandboxId sandbox);             // nobody writes any more
  void pause(SandboxId sandbox);  // nobody writes until it begins again; its files stay until end()
  void forget_ended();
  void keep_only_live();  // at the start: files of sandboxes that nobody began or took over go

  // When the process wrote its first byte: nanoseconds since 1970, 0 if it has not.
  std::int64_t first_byte_at(SandboxId sandbox) const;

  // What is kept, the last `tail` bytes of each where that is not 0; with follow also what comes,
  // until the sandbox ends. Stops when `sink` answers false; asks it with nothing now and then.
  using Sink = std::function<bool(int stream, std::string_view data)>;
  // How much of a stream, from where it stands, is wanted and not kept any more: before the first of
  // it, and where a reader is so slow that what it would read next has gone.
  using Dropped = std::function<void(int stream, std::uint64_t bytes)>;
  Result<void> read(SandboxId sandbox, bool follow, std::uint64_t tail, const Sink& sink,
                    const Dropped& dropped = {}) const;

 private:
  struct Stream;
  struct Live {
    bool ended = false;
    std::array<std::shared_ptr<Stream>, 2> streams = {};
  };
  Live attach(SandboxId sandbox);  // with mutex_: opens what its pipes hold
  void close_pipes(Live& live);    // with mutex_
  void run();
  std::size_t drain(Stream& stream, std::size_t most) const;
  void drain(SandboxId sandbox) const;
  void trim(const std::string& name) const;
  bool ended(SandboxId sandbox) const;

  const std::string directory_;
  const std::size_t bytes_max_;
  int epoll_ = -1;
  int wake_ = -1;
  mutable std::mutex mutex_;
  std::map<SandboxId, Live> live_;  // also the ended ones whose files are kept
  std::deque<SandboxId> ended_;
  std::map<int, std::shared_ptr<Stream>> pipes_;  // by descriptor
  std::thread thread_;
};

}  // namespace chalk::agent
