// Commands and logs over a channel.
#include <atomic>
#include <thread>

#include "adapters/agent/channel.h"

namespace chalk::agent {
namespace {

void put_exit(const SessionEvent& event, Channel::Up& up) {
  auto& exit = *up.mutable_exit();
  exit.set_exit_code(event.end.exit_code);
  exit.set_signal(event.end.signal);
  exit.set_timed_out(event.kind == SessionEvent::Kind::timed_out);
}

// What the process says, until its end; kills it when the client is gone or it says too much.
void deliver(Channel& channel, std::uint64_t output_bytes_max,
             const std::shared_ptr<Session>& session, std::uint64_t ticket, Sessions& sessions) {
  std::uint64_t bytes = 0;
  bool wanted = true;
  for (std::uint64_t after = 0;;) {
    SessionEvent event;
    const auto next = session->next(ticket, after, kAlivePause, event);
    if (next == Session::Next::timeout) {
      if (channel.alive()) continue;
      sessions.kill(session);
      break;
    }
    if (next != Session::Next::event) break;
    after = event.number;
    Channel::Up up;
    switch (event.kind) {
      case SessionEvent::Kind::attached: continue;
      case SessionEvent::Kind::output:
        bytes += event.data.size();
        if (output_bytes_max != 0 && bytes > output_bytes_max) {
          channel.fail(Error::Kind::exhausted, "the command wrote more than " +
                                                   std::to_string(output_bytes_max) + " bytes");
          wanted = false;
          break;
        }
        up.mutable_output()->set_stream(
            event.stream == SessionEvent::Stream::standard_error ? 2 : 1);
        up.mutable_output()->set_data(std::move(event.data));
        wanted = channel.write(up);
        break;
      case SessionEvent::Kind::exited:
      case SessionEvent::Kind::timed_out:
        put_exit(event, up);
        channel.write(up);
        continue;
      case SessionEvent::Kind::failed: channel.fail(event.why, event.data); continue;
    }
    if (!wanted) {
      sessions.kill(session);  // nobody is told of its end
      break;
    }
  }
  channel.finish();
}

}  // namespace

void serve_command(Channel& channel, SandboxId sandbox, Command command,
                   std::chrono::milliseconds timeout, std::uint64_t output_bytes_max,
                   Sessions& sessions) {
  const auto session = sessions.open(sandbox, std::move(command), /*listed=*/false);
  if (!session) return channel.fail(session.error().kind, session.error().message);
  const std::uint64_t ticket = (*session)->attach();
  std::thread writer;
  try {
    writer = std::thread([&] { deliver(channel, output_bytes_max, *session, ticket, sessions); });
    sessions.start(*session, timeout);
  } catch (const std::exception& error) {  // no threads, no memory
    sessions.give_up(*session, {Error::Kind::exhausted, error.what()});
    if (!writer.joinable()) throw;
  }
  Channel::Down down;
  while (channel.read(down)) {
    if (down.said_case() == Channel::Down::kInput) {
      (*session)->write(ticket, down.input(), [&] { return channel.cancelled(); });
    } else if (down.said_case() == Channel::Down::kInputEnd) {
      (*session)->end_input();
    }
  }
  // The stream is over: either all was said, or nobody is there any more.
  if ((*session)->status().state == SessionState::running) sessions.kill(*session);
  (*session)->detach(ticket);
  writer.join();
}

void serve_logs(Channel& channel, SandboxId sandbox, const node::v1::Logs& asked,
                const Logs& logs) {
  std::atomic<bool> gone = false;
  std::thread reader([&] {
    Channel::Down down;
    while (channel.read(down)) {
    }
    gone = true;
  });
  const auto tell = [&](int stream, std::string_view data) {
    if (gone) return false;
    if (data.empty()) return true;
    Channel::Up up;
    up.mutable_output()->set_stream(static_cast<std::uint32_t>(stream));
    up.mutable_output()->set_data(std::string(data));
    return channel.write(up);
  };
  const auto tell_dropped = [&](int stream, std::uint64_t bytes) {
    Channel::Up up;
    up.mutable_output()->set_stream(static_cast<std::uint32_t>(stream));
    up.mutable_output()->set_dropped_bytes(bytes);
    channel.write(up);
  };
  const auto done = logs.read(sandbox, asked.follow(), asked.tail_bytes(), tell, tell_dropped);
  if (done) {
    Channel::Up up;
    up.mutable_exit();
    channel.write(up);
  } else {
    channel.fail(done.error().kind, done.error().message);
  }
  channel.finish();
  reader.join();
}

}  // namespace chalk::agent
