// What a sandbox's main process writes, streamed to the user.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "adapters/cli/client.h"
#include "adapters/cli/session.h"
#include "adapters/cli/signals.h"

namespace chalk::cli {

struct LogsAsk {
  std::string id;  // or name
  bool follow = false;
  std::uint64_t tail_bytes = 0;         // 0: all that is kept
  std::chrono::milliseconds timeout{};  // 0: none
  SessionEnd* capture = nullptr;        // in place of standard output and error
};
struct LogsOutcome {
  int signal = 0;          // the user's, which ended it
  bool timed_out = false;
};
LogsOutcome stream_logs(const Client& client, Signals& signals, const LogsAsk& ask);

}  // namespace chalk::cli
