// The number of a process that runsc starts, said through a pipe with a name (--pid-file and the
// like): known as soon as runsc knows it, before runsc ends, and nothing is polled.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>

#include "adapters/error.h"
#include "adapters/process/child.h"

namespace chalk::gvisor {

class PidPipe {
 public:
  static Result<PidPipe> make(const std::string& path);
  // For runsc to hold as well: if we die, it shall not wait for a reader and leave a sandbox half
  // begun.
  std::pair<int, int> passed() const { return {end_.get(), 3}; }
  // 0 where runsc, whose pidfd that is, ended without having said it; -1 when the time was over.
  pid_t read(int runsc, std::chrono::steady_clock::time_point until) const;

 private:
  process::Fd end_;
};

}  // namespace chalk::gvisor
