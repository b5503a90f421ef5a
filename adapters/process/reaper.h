// Says once when a process has ended, by its pidfd and without polling it. Also takes the orphans
// that a subreaper inherits, which nobody else waits for.
#pragma once
#include <sys/types.h>

#include <functional>
#include <memory>

#include "adapters/process/child.h"

namespace chalk::process {

class Reaper {
 public:
  using Ended = std::function<void(Status)>;

  Reaper();   // throws std::runtime_error
  ~Reaper();  // nobody is told any more
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // `ended` runs on the reaper's thread, maybe before this returns, and must not wait. The status
  // of a process that is no child of ours, nor was inherited, is not known. exhausted: it cannot be
  // watched, and nobody will be told.
  Result<void> watch(pid_t pid, Fd pidfd, Ended ended);
  // not_found, too: no such process.
  Result<void> watch(pid_t pid, Ended ended);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::process
