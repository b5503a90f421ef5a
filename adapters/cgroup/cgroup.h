// Control groups of sandboxes: one for each, below one name, with what it may use of cpu, memory
// and processes. cgroups v1 (a folder in each controller's hierarchy) and v2 (one folder) alike.
//
// What a sandbox's group holds never uses more than its limits, and all of it can be killed at
// once.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adapters/error.h"

namespace chalk::cgroup {

struct Limits {
  std::int64_t cpu_millicores = 0;  // 0: none; CFS quota over 100 ms, not below 10 millicores
  std::int64_t memory_bytes = 0;    // 0: none; no swap where the kernel can say so
  std::int64_t pids = 0;            // 0: none; host processes, not those inside
};

struct Usage {
  std::int64_t cpu_nanos = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t memory_peak_bytes = 0;
  std::int64_t pids = 0;
  std::int64_t out_of_memory = 0;  // kills for lack of memory so far
};

class Groups {
 public:
  // `name` below the mount points, [a-z0-9-]; `mounts`: where they are listed (tests give their own
  // file). Error::unavailable where cpu, memory or pids cannot be had.
  static Result<Groups> open(const std::string& name,
                             const std::string& mounts = "/proc/self/mountinfo");

  bool version_two() const { return !unified_.empty(); }
  // As an OCI specification names it: "/name/id".
  std::string oci_path(const std::string& id) const;
  // Makes it, or sets the limits of one that exists.
  Result<void> create(const std::string& id, const Limits& limits) const;
  // Files to write a pid to for joining.
  std::vector<std::string> procs_files(const std::string& id) const;
  // The one that makes a process a member, to be killed with the rest, and with v1 charges it
  // nothing but its number.
  std::string member_file(const std::string& id) const {
    return folder("pids", id) + "/cgroup.procs";
  }
  Result<Usage> usage(const std::string& id) const;
  std::int64_t out_of_memory(const std::string& id) const;  // kills so far; 0 when it is gone
  // unavailable: the kernel does not say.
  Result<std::vector<pid_t>> members(const std::string& id) const;
  // Kills what is in it until nothing is; false when something is left after 10 s, or nobody can say.
  bool kill_all(const std::string& id) const;
  // Removes it from every hierarchy, also those that others made under this name. Kills what is
  // left. unavailable: processes of it may go on; to be tried again.
  Result<void> remove(const std::string& id) const;
  // Removes all of them and what holds them: nothing of this name is left.
  Result<void> remove_all() const;
  std::vector<std::string> list() const;  // ids that exist in any hierarchy

 private:
  std::string folder(const std::string& controller, const std::string& id) const;
  std::vector<std::string> roots() const;  // what holds the groups, in each hierarchy once
  std::vector<std::string> folders(const std::string& id) const;

  std::string name_;
  std::string unified_;                        // mount point of v2 where that has the controllers
  std::map<std::string, std::string> mounts_;  // v1: controller -> mount point
};

}  // namespace chalk::cgroup
