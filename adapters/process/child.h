// Starting programs from a process with many threads: what they get is said in full, nothing else
// is inherited (every other descriptor is closed), and each comes with a pidfd, so that no signal
// meets a stranger who has the number next.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/process/claim.h"

namespace chalk::process {

// A descriptor that is closed when it goes.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;  // both close-on-exec
};
Result<Pipe> make_pipe();

// How a process ended. Of one that was not our child the end is known, the status is not.
struct Status {
  bool known = true;
  int exit_code = 0;  // when signal is 0
  int signal = 0;
};

struct Spawn {
  std::vector<std::string> argv;            // argv[0] is a path, or looked for in PATH
  std::vector<std::string> env;             // "NAME=value", all of it
  std::string cwd;                          // empty: ours
  int input = -1, output = -1, error = -1;  // ours stay open; -1: /dev/null
  std::vector<std::pair<int, int>> passed;  // (ours, its number there), numbers from 3 to 99
  std::vector<std::string> cgroup_procs;    // files that it writes itself into before it begins
  std::string network_namespace;            // path of one to enter before it begins; empty: ours
  bool new_session = true;                  // and process group: so that all of it can be killed
  bool controlling_terminal = false;  // its input is a terminal and becomes that of its session
};

struct Child {
  pid_t pid = 0;
  Fd pidfd;
  Claim claim;  // ours to wait for; one that goes unwaited for is left to the Reaper
};

// The error says what could not be done in the child: a missing program is not_found.
Result<Child> spawn(const Spawn& what);

inline constexpr std::chrono::milliseconds kOutputGrace{1'000};

struct Output {
  Status status;
  std::string out, err;
};
// Runs it to its end, and not to that of what it leaves behind with its output: after its own end
// there is kOutputGrace for what is still written. At the timeout its whole process group is killed (Error::timeout); beyond
// output_max of either stream too (Error::exhausted).
Result<Output> run(Spawn what, std::chrono::milliseconds timeout, std::string_view input = {},
                   std::size_t output_max = 1 << 20);

// Waits for the end of a child of ours; none when the timeout came first.
std::optional<Status> wait(const Child& child, std::chrono::milliseconds timeout);

// Orphans of our children become ours, and the Reaper takes them.
void become_subreaper();

// Ours, for children that need it.
std::vector<std::string> current_environment();

}  // namespace chalk::process
