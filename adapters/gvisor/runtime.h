// gVisor: sandboxes by the runsc program. One sandbox, one container, one control group, one
// network namespace; its root is a read-only folder that others may share, and what it writes goes
// to a file of its own behind gVisor's overlay, up to a quota.
//
// Everything is kept below one state folder and found again there after a restart of this process;
// sandboxes go on without it. Each call to runsc is bounded in time. Thread safe.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adapters/cgroup/cgroup.h"
#include "adapters/error.h"
#include "adapters/process/child.h"
#include "adapters/process/reaper.h"

namespace chalk::gvisor {

struct RuntimeOptions {
  std::string runsc;  // path of the program
  std::string state;  // folder: runsc's own state, bundles, writable layers; made when absent
  std::string platform = "systrap";
  std::chrono::milliseconds call_timeout{30'000};
  bool debug = false;  // runsc's debug log into state/debug
};

struct Mount {
  std::string source;       // on the host
  std::string destination;  // absolute, inside
  bool read_only = true;
};

struct SandboxSpec {
  std::string id;      // [a-z0-9-], at most 64
  std::string rootfs;  // read-only folder
  std::vector<std::string> argv;
  std::vector<std::string> env;  // "NAME=value"
  std::string cwd = "/";
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;
  std::string hostname;
  std::string network_namespace;  // path; empty: a new one with nothing in it
  std::vector<Mount> mounts;
  std::string resolv_conf, hosts;  // texts of these files; empty: the image's own
  std::int64_t cpu_millicores = 1000;
  std::int64_t memory_bytes = 1LL << 30;
  std::int64_t disk_bytes = 0;  // of the writable layer; 0: gVisor's default, half of the memory
  std::int64_t pids =
      4096;  // of host processes and threads; those inside cost one or more. 0: none
  std::string stdout_file, stderr_file;  // appended to
};

struct Started {
  pid_t pid = 0;                                // of the sandbox on the host
  std::int64_t created_at = 0, started_at = 0;  // nanoseconds since 1970
};

// How a sandbox came to its end.
struct Ended {
  bool known = true;  // its status is; not where an adopted one's kernel was killed
  int exit_code = 0;  // when signal is 0
  int signal = 0;
  bool out_of_memory = false;  // its control group killed something for lack of memory
};

struct Window {
  std::uint16_t columns = 80, rows = 24;
};

struct ExecSpec {
  std::vector<std::string> argv;
  std::vector<std::string> env;     // over that of the sandbox
  std::string cwd;                  // empty: that of the sandbox
  std::optional<std::string> user;  // "uid" or "uid:gid"; none: that of the sandbox
  std::optional<Window> terminal;
};

// A process that was begun in a sandbox. Descriptors are owned by who receives it.
struct Exec {
  process::Fd input, output, error;  // with a terminal: only output, which is written to as well
  pid_t inner_pid = 0;               // inside the sandbox, for signals
};

class Runtime {
 public:
  // Throws std::runtime_error where the folder or the program is not usable. The reaper must
  // outlive it, and the process must be a subreaper, or exit codes are not known.
  Runtime(RuntimeOptions options, cgroup::Groups groups, process::Reaper& reaper);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  std::string version() const { return version_; }

  // Runs when the answer comes. What a cut-off start of this id left is removed first. `ended` is
  // called once, from the reaper's thread, when it has ended, however that came; never after a
  // failure.
  Result<Started> start(const SandboxSpec& spec, std::function<void(Ended)> ended);
  // A sandbox that was started by an earlier process and lives: its end is told from now on, with
  // its exit code. Costs a process (3 MiB) until then. What exec had begun in it is killed: nobody
  // has its ends any more.
  Result<Started> adopt(const std::string& id, std::function<void(Ended)> ended);

  // The process runs when this answers. not_found: no such program inside. `ended` is called once,
  // from the reaper's thread, never after a failure.
  Result<Exec> exec(const std::string& id, const ExecSpec& spec,
                    std::function<void(process::Status)> ended);
  // Of the main process; with inner_pid of an exec.
  Result<void> signal(const std::string& id, int number, pid_t inner_pid = 0);
  Result<void> pause(const std::string& id);
  Result<void> resume(const std::string& id);
  // Kills it, if it lives, and removes all there is of it: state, bundle, writable layer, control
  // group. Fine for an id that does not exist. Bounded, whatever state runsc is in.
  Result<void> remove(const std::string& id);

  // Ids with anything left: state of runsc, a bundle or a control group.
  std::vector<std::string> list() const;
  // The host pid of one that lives; none when it does not.
  std::optional<pid_t> alive(const std::string& id) const;
  const cgroup::Groups& groups() const { return groups_; }

 private:
  std::vector<std::string> command() const;
  struct Running {
    Started times;
    process::Claim claim;
  };
  Result<void> prepare(const SandboxSpec& spec);
  Result<Running> run(const SandboxSpec& spec);
  Result<void> check_exists(const std::string& id) const;
  Result<process::Output> call(std::vector<std::string> argv, const char* doing) const;
  std::string bundle(const std::string& id) const;
  std::string state_file(const std::string& id) const;
  std::string execs_mark(const std::string& id) const;
  // A node that is not heard of is lost with everybody's sandboxes, and one of them may have begun
  // thousands: the ends of what exec began have this long for all sandboxes, and what is left over
  // goes on until the next start of the agent.
  static constexpr std::chrono::seconds kExecsTime{10};
  void end_execs(const std::string& id);
  Result<void> watch(const std::string& id, pid_t pid, process::Fd pidfd,
                     std::function<void(Ended)> ended);

  RuntimeOptions options_;
  cgroup::Groups groups_;
  process::Reaper& reaper_;
  std::string version_;
  std::chrono::steady_clock::time_point execs_until_;  // none: nothing has been ended yet
};

// Of what `runsc ps` says the processes that exec began, parents first: inside they have no parent,
// and else only the main process (1) has none. With what those have begun in turn.
std::vector<pid_t> begun_by_exec(const std::string& table);

// All that runsc gets: the kernels of sandboxes are kept from what this process was told in secret.
std::vector<std::string> environment();
// The OCI configuration of a sandbox, as JSON.
std::string oci_config(const SandboxSpec& spec, const std::string& cgroup_path,
                       const std::string& bundle);

}  // namespace chalk::gvisor
