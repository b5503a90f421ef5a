// What the agent needs of the sandbox runtime, in its own words; gvisor_machinery.cc binds it to
// runsc. Names are the runtime's names of sandboxes, one agent's are apart from another's.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "adapters/agent/process.h"
#include "adapters/error.h"
#include "model/core/resources.h"

namespace chalk::agent {

struct StartPlan {
  std::string name;
  std::string hostname;
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string workdir;
  std::string user;  // as the image says: name, uid, uid:gid
  Resources resources;
  std::int64_t disk_bytes = 0;
  std::string rootfs;             // shared and read-only; writes go elsewhere
  std::string network_namespace;  // path
  std::string resolv_conf, hosts;         // text
  std::string output_file, error_file;    // appended to
};

// How the main process ended.
struct MainEnd {
  int exit_code = 0;
  int signal = 0;
  bool known = true;  // false: it was gone when somebody looked
  bool out_of_memory = false;
};
using Ended = std::function<void(MainEnd)>;

struct StartedAt {  // nanoseconds since 1970
  std::int64_t created = 0, started = 0;
};

struct Found {
  std::string name;
  bool running = false;
  MainEnd end;  // otherwise, as far as it can be known
};

// Thread safe; calls for one name come one after the other.
class Machinery {
 public:
  virtual ~Machinery() = default;

  // Blocks until the main process runs. `ended` is told of its end, from any thread, maybe before
  // this answers; never after an error. An error leaves what remove() takes away.
  virtual Result<StartedAt> start(const StartPlan& plan, std::chrono::milliseconds timeout,
                                  Ended ended) = 0;
  virtual Result<void> signal(const std::string& name, int number) = 0;  // the main process
  // Kills what is left of it and takes away processes, control group, files. Repeated is fine.
  // unavailable: its processes may go on, and nothing was taken away; to be tried again.
  virtual Result<void> remove(const std::string& name) = 0;
  virtual Result<Process> exec(const std::string& name, const Command& command,
                               std::function<void(ProcessEnd)> ended) = 0;

  // ---- after a restart
  virtual Result<std::vector<Found>> list() = 0;  // also remains: without processes
  virtual Result<void> adopt(const std::string& name, Ended ended) = 0;
};

}  // namespace chalk::agent
