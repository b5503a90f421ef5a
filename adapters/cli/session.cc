#include "adapters/cli/session.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"
#include "adapters/cli/terminal.h"

namespace chalk::cli {
namespace {

namespace wire = chalk::sandbox::v2;
using namespace std::chrono_literals;
using Stream = grpc::ClientReaderWriter<wire::OpenSessionRequest, wire::OpenSessionResponse>;

constexpr std::size_t kInputBytes = 32 * 1024;
constexpr auto kReattachFor = 120s;  // a server that restarts is back by then
constexpr auto kEndPatience = 1s;    // for the word that a sandbox has ended
constexpr int kImpatience = 3;  // interrupts until the command is killed; then until we leave it

class Session {
 public:
  Session(const Client& client, Signals& signals, const SessionAsk& ask)
      : client_(client), signals_(signals), ask_(ask) {}
  SessionEnd run();

 private:
  enum class Outcome : std::uint8_t { ended, lost };
  void open();
  Outcome read_all();
  void wait_connected(std::chrono::steady_clock::time_point until);
  bool take(const wire::OpenSessionResponse& event);  // true: it has ended
  void output(const wire::OutputData& data);
  bool send(const wire::OpenSessionRequest& request, std::chrono::milliseconds patience = 1h);
  void pump_input();
  void on_signal(int signal);
  void end_of(const auto& process);
  [[noreturn]] void not_run(const std::string& message);
  std::string sandbox_end() const;

  const Client& client_;
  Signals& signals_;
  const SessionAsk& ask_;
  SessionEnd end_;
  std::string id_;  // of the session, once known
  std::uint64_t last_ = 0;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  std::timed_mutex writing_;  // stream_'s writes, and its exchange
  std::mutex cancelling_;     // context_
  int stop_input_ = -1;
  std::atomic<int> interrupts_ = 0;
  std::atomic<int> left_by_ = 0;  // the signal that made us leave it
  std::atomic<bool> lost_ = false;  // the connection, now
  bool reader_gone_ = false;        // nobody reads our output
};

void Session::open() {
  auto fresh = std::make_unique<grpc::ClientContext>();
  client_.prepare(*fresh, 0s);
  auto stream = client_.processes().OpenSession(fresh.get());
  {
    const std::lock_guard cancelling(cancelling_);  // before anything that may take long
    context_ = std::move(fresh);
  }
  wire::OpenSessionRequest first;
  if (id_.empty()) {
    auto& process = *first.mutable_new_process();
    process.set_sandbox_id(ask_.sandbox);
    process.set_command(ask_.argv.front());
    for (std::size_t i = 1; i < ask_.argv.size(); ++i) process.add_args(ask_.argv[i]);
    if (!ask_.workdir.empty()) process.set_workdir(ask_.workdir);
    for (const auto& [name, value] : ask_.env) (*process.mutable_env_vars())[name] = value;
    if (ask_.timeout.count() > 0) {
      process.mutable_timeout()->set_seconds(ask_.timeout.count() / 1000);
      process.mutable_timeout()->set_nanos(
          static_cast<std::int32_t>(ask_.timeout.count() % 1000) * 1'000'000);
    }
    if (ask_.terminal) {
      const WindowSize size = window_size();
      process.mutable_pty_info()->set_cols(size.columns);
      process.mutable_pty_info()->set_rows(size.rows);
    }
  } else {
    first.mutable_attach_session()->set_sandbox_id(ask_.sandbox);
    first.mutable_attach_session()->set_session_id(id_);
    first.mutable_attach_session()->set_after_seq(last_);
  }
  stream->Write(first);  // a stream that failed says so when it is read
  const std::lock_guard writing(writing_);
  stream_ = std::move(stream);
}

bool Session::send(const wire::OpenSessionRequest& request, std::chrono::milliseconds patience) {
  const std::unique_lock lock(writing_, patience);
  return lock.owns_lock() && stream_ != nullptr && stream_->Write(request);
}

void Session::pump_input() {
  std::vector<char> bytes(kInputBytes);
  pollfd ready[2] = {{STDIN_FILENO, POLLIN, 0}, {stop_input_, POLLIN, 0}};
  wire::OpenSessionRequest request;
  while (true) {
    if (poll(ready, 2, -1) < 0 && errno != EINTR) break;
    if (ready[1].revents != 0) return;
    if (ready[0].revents == 0) continue;
    const ssize_t count = read(STDIN_FILENO, bytes.data(), bytes.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) break;
    request.mutable_stdin_data()->set_data(bytes.data(), static_cast<std::size_t>(count));
    send(request);
  }
  request.mutable_stdin_eof();
  send(request);
}

void Session::on_signal(int signal) {
  wire::OpenSessionRequest request;
  if (signal == SIGWINCH) {
    if (!ask_.terminal) return;
    const WindowSize size = window_size();
    request.mutable_resize_pty()->set_cols(size.columns);
    request.mutable_resize_pty()->set_rows(size.rows);
    send(request, 1s);
    return;
  }
  const bool impatient = ends_us(signal);
  const int count = impatient ? ++interrupts_ : 0;
  if (count > kImpatience || (impatient && lost_)) {
    left_by_ = signal;
    const std::lock_guard lock(cancelling_);
    if (context_) context_->TryCancel();
    return;
  }
  if (count == kImpatience) note("chalk: the command does not end; it is killed");
  request.mutable_signal()->set_signal(count == kImpatience ? SIGKILL : signal);
  send(request, 1s);  // input that the command does not read may be in the way
}

void Session::output(const wire::OutputData& data) {
  const bool error = data.stream() == wire::OutputData::STREAM_STDERR;
  if (ask_.capture) {
    std::string& kept = error ? end_.error : end_.output;
    const std::size_t room = kCaptureBytesMax - std::min(kept.size(), kCaptureBytesMax);
    kept.append(data.data(), 0, room);
    end_.truncated = end_.truncated || data.data().size() > room;
    return;
  }
  if (reader_gone_) return;
  std::string_view rest = data.data();
  while (!rest.empty()) {
    const ssize_t wrote = write(error ? STDERR_FILENO : STDOUT_FILENO, rest.data(), rest.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) {
      pollfd ready{error ? STDERR_FILENO : STDOUT_FILENO, POLLOUT, 0};
      poll(&ready, 1, 1000);
      continue;
    }
    if (wrote < 0) {
      // As if the pipe were the command's own.
      reader_gone_ = true;
      wire::OpenSessionRequest request;
      request.mutable_signal()->set_signal(SIGPIPE);
      send(request, 1s);
      return;
    }
    rest.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

void Session::not_run(const std::string& message) {
  std::string low = message;
  std::ranges::transform(low, low.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto says = [&](const char* words) { return low.find(words) != std::string::npos; };
  if (says("sandbox")) {
    if (const std::string why = sandbox_end(); !why.empty()) throw Stop(why);
  }
  int code = kFailed;
  if (says("permission denied") || says("exec format") || says("is a directory") ||
      says("not executable")) {
    code = kNotExecutable;
  } else if (says("not found") || says("no such file") || says("does not exist")) {
    code = kNotFound;
  }
  throw Stop("the command could not be run: " + harmless(message), code);
}

// That the sandbox has ended, and why; empty where it goes on. Its end may be told a moment after
// that of its command.
std::string Session::sandbox_end() const {
  const auto until = std::chrono::steady_clock::now() + kEndPatience;
  while (true) {
    const auto about = client_.inspect(ask_.sandbox);
    if (about.ended()) {
      return "sandbox " + about.id() + " has ended" +
             (about.status_message().empty() ? "" : ": " + harmless(about.status_message()));
    }
    if (std::chrono::steady_clock::now() > until) return {};
    std::this_thread::sleep_for(50ms);
  }
}

void Session::end_of(const auto& process) {
  end_.signal = process.has_signal() ? process.signal() : 0;
  end_.code = process.has_signal() ? kSignalled + process.signal() : process.exit_code();
  if (end_.signal != SIGKILL || end_.timed_out || interrupts_ >= kImpatience) return;
  try {
    if (const std::string why = sandbox_end(); !why.empty()) note("chalk: " + why);
  } catch (const Stop&) {  // how it ended is told all the same
  }
}

bool Session::take(const wire::OpenSessionResponse& event) {
  // What has a number is told once, also when it arrives again after a new attachment.
  if (event.seq() != 0) {
    if (event.seq() <= last_) return false;
    last_ = event.seq();
  }
  switch (event.event_case()) {
    case wire::OpenSessionResponse::kSessionAttached:
      lost_ = false;
      id_ = event.session_attached().session_id();
      return false;
    case wire::OpenSessionResponse::kOutputData: output(event.output_data()); return false;
    case wire::OpenSessionResponse::kProcessExited: end_of(event.process_exited()); return true;
    case wire::OpenSessionResponse::kProcessTimedOut:
      end_.timed_out = true;
      end_of(event.process_timed_out());
      end_.code = kTimedOut;
      return true;
    case wire::OpenSessionResponse::kProcessFailed: not_run(event.process_failed().message());
    case wire::OpenSessionResponse::kError: {
      const std::string& code = event.error().code();
      if (code == "signal_failed" || code == "resize_failed") return false;
      if (id_.empty()) not_run(event.error().message());
      throw Stop("the session broke: " + harmless(event.error().message()));
    }
    case wire::OpenSessionResponse::kSessionDetached:
      throw Stop("another client has attached to this session; the command goes on");
    default: return false;
  }
}

Session::Outcome Session::read_all() {
  wire::OpenSessionResponse event;
  while (stream_->Read(&event)) {
    if (take(event)) return Outcome::ended;
  }
  return Outcome::lost;
}

// Returns when the server can be asked again.
void Session::wait_connected(std::chrono::steady_clock::time_point until) {
  for (bool connected = false; !connected;) {
    if (std::chrono::steady_clock::now() > until) {
      throw Stop("the connection to the command is lost; it may still run in " + ask_.sandbox);
    }
    connected = client_.wait(500ms);
    if (left_by_ != 0) throw Stop("", kSignalled + left_by_);
  }
}

SessionEnd Session::run() {
  std::optional<RawMode> raw;
  if (ask_.terminal && is_terminal(STDIN_FILENO)) raw.emplace();
  stop_input_ = eventfd(0, EFD_CLOEXEC);
  std::thread input;
  // Everything that runs beside this function ends before it does.
  struct AtEnd {
    std::function<void()> work;
    ~AtEnd() { work(); }
  } at_end{[&] {
    const std::uint64_t one = 1;
    (void)!write(stop_input_, &one, sizeof one);
    {
      const std::lock_guard lock(cancelling_);
      if (context_) context_->TryCancel();  // a write that waits for room ends, too
    }
    signals_.handle({});
    if (input.joinable()) input.join();
    if (stream_) stream_->Finish();
    close(stop_input_);
  }};
  open();
  signals_.handle([this](int signal) { on_signal(signal); });
  if (ask_.input) {
    input = std::thread([this] { pump_input(); });
  } else {
    wire::OpenSessionRequest request;
    request.mutable_stdin_eof();
    send(request);
  }
  auto lost_since = std::chrono::steady_clock::time_point::max();
  while (true) {
    if (read_all() == Outcome::ended) return end_;
    std::unique_ptr<Stream> old;
    {
      const std::lock_guard lock(writing_);
      old = std::move(stream_);
    }
    const grpc::Status status = old->Finish();
    if (left_by_ == 0 && (id_.empty() || !(status.ok() || of_transport(status)))) {
      client_.check(status);
      throw Stop("the server ended the session without a word");
    }
    const auto now = std::chrono::steady_clock::now();
    if (!lost_.exchange(true)) {
      lost_since = now;
      if (left_by_ == 0) note("chalk: the connection is lost; attaching to the command again");
    }
    if (left_by_ != 0) throw Stop("", kSignalled + left_by_);
    wait_connected(lost_since + kReattachFor);
    open();
  }
}

}  // namespace

SessionEnd run_session(const Client& client, Signals& signals, const SessionAsk& ask) {
  return Session(client, signals, ask).run();
}

}  // namespace chalk::cli
