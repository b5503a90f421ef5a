// A process inside a sandbox as sessions see it: descriptors, a way to signal it, and a word when
// it has ended. Where it comes from is injected, so that sessions can be tested with plain ones.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "model/core/ids.h"

namespace chalk::agent {

struct Window {
  std::uint32_t columns = 80;
  std::uint32_t rows = 24;
};

struct Command {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;  // over that of the sandbox
  std::string workdir;                     // empty: that of the sandbox
  std::optional<Window> terminal;
};

struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;  // 0: it ended by itself
};

struct Process {
  // Owned by who receives them. With a terminal input and output are its one descriptor.
  int input = -1;
  int output = -1;
  int error = -1;
  std::function<Result<void>(int number)> signal;
  std::function<Result<void>(Window)> resize;
};

// Blocks until it runs. `ended` is called once, from any thread, maybe before this answers; never
// after a failure. A command that does not exist is Error::not_found.
using StartProcess = std::function<Result<Process>(SandboxId sandbox, const Command& command,
                                                   std::function<void(ProcessEnd)> ended)>;

}  // namespace chalk::agent
