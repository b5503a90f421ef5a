// One command in a sandbox with the user's standard input, output and signals attached to it. The
// command outlives a broken connection: it is attached to again and nothing of its output is lost.
#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "adapters/cli/client.h"
#include "adapters/cli/signals.h"

namespace chalk::cli {

struct SessionAsk {
  std::string sandbox;
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string workdir;                // empty: the sandbox's
  std::chrono::milliseconds timeout{};  // 0: none
  bool input = false;                 // -i: standard input goes to it
  bool terminal = false;              // -t
  bool capture = false;               // into SessionEnd instead of standard output and error
};

struct SessionEnd {
  int code = 0;  // as a shell says it: 128 + signal where a signal ended it, 124 for a timeout
  int signal = 0;
  bool timed_out = false;
  std::string output, error;  // captured
  bool truncated = false;     // more was written than is captured
};

constexpr std::size_t kCaptureBytesMax = 16u << 20;

// Throws Stop where the command could not be run or the connection is lost for good.
SessionEnd run_session(const Client& client, Signals& signals, const SessionAsk& ask);

}  // namespace chalk::cli
