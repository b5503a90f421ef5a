#include "adapters/cli/logs.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"

namespace chalk::cli {
namespace {

// The process goes on without a reader; chalk does not.
void write_out(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(descriptor, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) throw Stop("", kSignalled + SIGPIPE);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

void capture(SessionEnd& into, const admin::v1::LogsChunk& chunk) {
  std::string& kept = chunk.stream() == 2 ? into.error : into.output;
  const std::size_t room = kCaptureBytesMax - std::min(kept.size(), kCaptureBytesMax);
  kept.append(chunk.data(), 0, room);
  into.truncated = into.truncated || chunk.data().size() > room || chunk.dropped_bytes() > 0;
}

}  // namespace

LogsOutcome stream_logs(const Client& client, Signals& signals, const LogsAsk& ask) {
  grpc::ClientContext context;
  client.prepare(context, std::chrono::seconds(0));
  if (ask.timeout.count() > 0) {
    context.set_deadline(std::chrono::system_clock::now() + ask.timeout);
  }
  admin::v1::LogsRequest request;
  request.set_id(ask.id);
  request.set_follow(ask.follow);
  request.set_tail_bytes(ask.tail_bytes);
  LogsOutcome outcome;
  std::atomic<int> signalled = 0;
  signals.handle([&](int signal) {
    if (signal == SIGWINCH) return;
    signalled = signal;
    context.TryCancel();
  });
  // The handler must be gone before the context is.
  struct AtEnd {
    Signals& signals;
    ~AtEnd() { signals.handle({}); }
  } at_end{signals};
  const auto reader = client.details().Logs(&context, request);
  admin::v1::LogsChunk chunk;
  bool begun[2] = {};  // output, error
  try {
    while (reader->Read(&chunk)) {
      if (chunk.dropped_bytes() > 0) {
        const bool first = !begun[chunk.stream() == 2];
        note("chalk: the " + std::string(first ? "first " : "next ") +
             std::to_string(chunk.dropped_bytes()) + " bytes of standard " +
             (chunk.stream() == 2 ? "error" : "output") + " are not kept any more");
      }
      begun[chunk.stream() == 2] = true;
      if (ask.capture != nullptr) {
        capture(*ask.capture, chunk);
      } else {
        write_out(chunk.stream() == 2 ? STDERR_FILENO : STDOUT_FILENO, chunk.data());
      }
    }
  } catch (const Stop&) {
    context.TryCancel();
    reader->Finish();
    throw;
  }
  const grpc::Status status = reader->Finish();
  outcome.signal = signalled;
  if (outcome.signal != 0) return outcome;
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED && ask.timeout.count() > 0) {
    outcome.timed_out = true;
    return outcome;
  }
  client.check(status);
  return outcome;
}

}  // namespace chalk::cli
