// Sessions over a channel, in the messages of the public protocol, which pass through the server as
// they are. Recorded events carry their number as seq; what answers a request on this one stream
// (attached again, status, detached, an error) has none, because it has no place in the record.
#include <algorithm>
#include <atomic>
#include <thread>

#include "adapters/agent/channel.h"

namespace chalk::agent {
namespace {

namespace wire = chalk::sandbox::v2;
using Request = wire::OpenSessionRequest;
using namespace std::chrono_literals;

void put_end(const ProcessEnd& end, auto& message) {
  if (end.signal != 0) {
    message.set_signal(end.signal);
  } else {
    message.set_exit_code(end.exit_code);
  }
}

void put_status(const Session::Status& status, wire::ProcessStatus& message) {
  switch (status.state) {
    case SessionState::running: message.set_state(wire::PROCESS_STATE_RUNNING); return;
    case SessionState::exited: message.set_state(wire::PROCESS_STATE_EXITED); break;
    case SessionState::failed: message.set_state(wire::PROCESS_STATE_FAILED); return;
    case SessionState::timed_out: message.set_state(wire::PROCESS_STATE_TIMED_OUT); break;
  }
  put_end(status.end, message);
}

Channel::Up to_wire(const Session& session, const SessionEvent& event) {
  Channel::Up up;
  auto& said = *up.mutable_session();
  said.set_seq(event.number);
  switch (event.kind) {
    case SessionEvent::Kind::attached:
      said.mutable_session_attached()->set_session_id(session.id());
      break;
    case SessionEvent::Kind::output:
      said.mutable_output_data()->set_stream(
          static_cast<wire::OutputData::Stream>(static_cast<int>(event.stream)));
      said.mutable_output_data()->set_data(event.data);
      break;
    case SessionEvent::Kind::exited: put_end(event.end, *said.mutable_process_exited()); break;
    case SessionEvent::Kind::failed:
      said.mutable_process_failed()->set_message(event.data);
      break;
    case SessionEvent::Kind::timed_out: put_end(event.end, *said.mutable_process_timed_out()); break;
  }
  return up;
}

void send_error(Channel& channel, const std::string& code, const std::string& message) {
  Channel::Up up;
  up.mutable_session()->mutable_error()->set_code(code);
  up.mutable_session()->mutable_error()->set_message(message);
  channel.write(up);
}

// 1000 x 1000 is beyond any screen.
Window window_of(std::uint32_t columns, std::uint32_t rows) {
  return {std::clamp(columns, 1u, 1000u), std::clamp(rows, 1u, 1000u)};
}

class Conversation {
 public:
  Conversation(Channel& channel, SandboxId sandbox, Sessions& sessions)
      : channel_(channel), sandbox_(sandbox), sessions_(sessions) {}
  ~Conversation() {
    if (session_) session_->detach(ticket_);
    if (writer_.joinable()) writer_.join();
  }

  void run() {
    Channel::Down down;
    if (!channel_.read(down)) return;
    if (down.session().has_new_process()) {
      if (!begin(down.session().new_process())) return;
    } else if (down.session().has_attach_session()) {
      if (!attach(down.session().attach_session())) return;
    } else {
      return send_error(channel_, "invalid_request",
                        "a session begins with new_process or attach_session");
    }
    while (channel_.read(down)) {
      if (down.has_session() && !take(down.session())) break;
    }
  }

 private:
  bool begin(const wire::NewProcess& asked) {
    Command command;
    command.argv.push_back(asked.command());
    command.argv.insert(command.argv.end(), asked.args().begin(), asked.args().end());
    command.env = {asked.env_vars().begin(), asked.env_vars().end()};
    command.workdir = asked.workdir();
    if (asked.has_pty_info()) {
      command.terminal = window_of(asked.pty_info().cols(), asked.pty_info().rows());
    }
    std::chrono::milliseconds timeout{};
    if (asked.has_timeout()) {
      timeout = std::chrono::seconds(std::clamp<std::int64_t>(asked.timeout().seconds(), 0, 1 << 30)) +
                std::chrono::milliseconds(asked.timeout().nanos() / 1'000'000);
      timeout = std::max(timeout, 1ms);
    }
    auto session = sessions_.open(sandbox_, std::move(command));
    if (!session) {
      send_error(channel_, session.error().kind == Error::Kind::invalid ? "invalid_request"
                                                                        : "exhausted",
                 session.error().message);
      return false;
    }
    session_ = *session;
    ticket_ = session_->attach();
    try {
      writer_ = std::thread([this] { deliver(0, true); });
      sessions_.start(session_, timeout);
    } catch (const std::exception& error) {  // no threads, no memory
      sessions_.give_up(session_, {Error::Kind::exhausted, error.what()});
      if (!writer_.joinable()) throw;
    }
    return true;
  }

  bool attach(const wire::AttachSession& asked) {
    const auto session = sessions_.find(sandbox_, asked.session_id());
    if (!session) {
      send_error(channel_, "session_not_found", session.error().message);
      return false;
    }
    session_ = *session;
    ticket_ = session_->attach();
    Channel::Up up;
    up.mutable_session()->mutable_session_attached()->set_session_id(session_->id());
    if (!channel_.write(up)) return false;
    if (asked.has_pty_info()) {
      (void)session_->resize(window_of(asked.pty_info().cols(), asked.pty_info().rows()));
    }
    // Without a number: whatever is kept. The first event is what was just said.
    const bool exact = asked.has_after_seq();
    const std::uint64_t after = exact ? asked.after_seq() : 1;
    writer_ = std::thread([this, after, exact] { deliver(after, exact); });
    return true;
  }

  // Until the last event, or until another client has the session, or the stream is gone.
  void deliver(std::uint64_t after, bool exact) {
    while (true) {
      SessionEvent event;
      switch (session_->next(ticket_, after, kAlivePause, event)) {
        case Session::Next::timeout:
          if (!channel_.alive()) return session_->detach(ticket_);
          continue;
        case Session::Next::displaced:  // without a word it would attach again, and so would the other
          send_error(channel_, "displaced", "another client has attached to this session");
          return channel_.finish();
        case Session::Next::over: return channel_.finish();
        case Session::Next::gap:
          if (exact) {
            send_error(channel_, "replay_gap",
                       "events " + std::to_string(after + 1) + " to " +
                           std::to_string(event.number - 1) + " are not kept any more");
            return channel_.finish();
          }
          after = event.number - 1;
          continue;
        case Session::Next::event: break;
      }
      after = event.number;
      if (!channel_.write(to_wire(*session_, event))) return session_->detach(ticket_);
    }
  }

  // False when the client is done with it.
  bool take(const Request& request) {
    switch (request.command_case()) {
      case Request::kStdinData:
        session_->write(ticket_, request.stdin_data().data(),
                        [this] { return channel_.cancelled(); });
        return true;
      case Request::kStdinEof: session_->end_input(); return true;
      case Request::kSignal: {
        const int number = request.signal().signal();
        if (number < 1 || number > 64) {
          send_error(channel_, "invalid_request",
                     "signal " + std::to_string(number) + ": expected 1 to 64");
        } else if (const auto sent = session_->signal(number);
                   !sent && sent.error().kind != Error::Kind::not_found) {
          send_error(channel_, "signal_failed", sent.error().message);
        }
        return true;
      }
      case Request::kResizePty: {
        const auto& asked = request.resize_pty();
        const auto done = session_->resize(window_of(asked.cols(), asked.rows()));
        if (!done && done.error().kind != Error::Kind::not_found) {
          send_error(channel_, "resize_failed", done.error().message);
        }
        return true;
      }
      case Request::kGetProcessStatus: {
        Channel::Up up;
        put_status(session_->status(), *up.mutable_session()->mutable_process_status());
        channel_.write(up);
        return true;
      }
      case Request::kDetachSession: {
        // Said before it is done: who delivers ends the stream as soon as it is detached.
        Channel::Up up;
        up.mutable_session()->mutable_session_detached();
        channel_.write(up);
        channel_.finish();
        session_->detach(ticket_);
        return false;
      }
      case Request::kNewProcess:
      case Request::kAttachSession:
        send_error(channel_, "invalid_request", "this stream has its session already");
        return true;
      case Request::COMMAND_NOT_SET: return true;
    }
    return true;
  }

  Channel& channel_;
  const SandboxId sandbox_;
  Sessions& sessions_;
  std::shared_ptr<Session> session_;
  std::uint64_t ticket_ = 0;
  std::thread writer_;
};

}  // namespace

void serve_session(Channel& channel, SandboxId sandbox, Sessions& sessions) {
  Conversation(channel, sandbox, sessions).run();
}

void serve_list(Channel& channel, SandboxId sandbox, const std::string& id, Sessions& sessions) {
  Channel::Up up;
  auto& listed = *up.mutable_sessions();
  for (const auto& session : sessions.list(sandbox)) {
    if (!id.empty() && session->id() != id) continue;
    auto& one = *listed.add_sessions();
    one.set_session_id(session->id());
    const Command& command = session->command();
    auto& process = *one.mutable_new_process();
    process.set_command(command.argv.front());
    for (std::size_t i = 1; i < command.argv.size(); ++i) process.add_args(command.argv[i]);
    if (!command.workdir.empty()) process.set_workdir(command.workdir);
    if (command.terminal) {
      process.mutable_pty_info()->set_cols(command.terminal->columns);
      process.mutable_pty_info()->set_rows(command.terminal->rows);
    }
    put_status(session->status(), *one.mutable_process_status());
  }
  channel.write(up);
}

}  // namespace chalk::agent
