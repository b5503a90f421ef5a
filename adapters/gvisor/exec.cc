// Processes that are begun in a sandbox that runs.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "adapters/gvisor/runtime.h"

namespace chalk::gvisor {
namespace {

using process::Fd;
using Clock = std::chrono::steady_clock;

std::atomic<std::uint64_t> g_execs{0};  // for names of files; unique in this process

// A name for the files of one exec, gone with it. Short: a socket's path has 107 bytes.
struct Place {
  std::string folder;
  explicit Place(const std::string& state) {
    folder = state + "/x" + std::to_string(getpid()) + "-" + std::to_string(++g_execs);
    std::filesystem::create_directories(folder);
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
};

Result<Fd> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(Error::Kind::invalid, "the state folder's path is too long for a socket: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(socket.get(), 1) != 0) {
    return fail(Error::Kind::failed, path + ": cannot listen: " + strerror(errno));
  }
  return socket;
}

// The terminal's end, which runsc sends over the socket.
Fd receive_terminal(int listener) {
  Fd peer(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return {};
  char data[256];
  iovec vector{data, sizeof data};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(peer.get(), &message, MSG_CMSG_CLOEXEC) < 0) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return Fd(fd);
}

void set_window(int terminal, Window window) {
  winsize size{};
  size.ws_col = window.columns;
  size.ws_row = window.rows;
  ioctl(terminal, TIOCSWINSZ, &size);
}

// What runsc said before it gave up, from the standard error that was to be the process's.
std::string complaint(int error) {
  std::string text(2048, '\0');
  const ssize_t got = read(error, text.data(), text.size());
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "runsc gave no reason" : text;
}

}  // namespace

Result<Exec> Runtime::exec(const std::string& id, const ExecSpec& spec,
                           std::function<void(process::Status)> ended) {
  if (spec.argv.empty()) return fail(Error::Kind::invalid, "exec: found no command");
  const Place place(options_.state);
  // A pipe with a name: runsc writes the pid there once the process runs, and nothing is polled.
  const std::string pid_file = place.folder + "/pid";
  if (mkfifo(pid_file.c_str(), 0600) != 0) {
    return fail(Error::Kind::exhausted, pid_file + ": " + strerror(errno));
  }
  const Fd pid_pipe(open(pid_file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  process::Spawn spawn;
  spawn.argv = command(id);
  spawn.argv.push_back("exec");
  spawn.argv.push_back("--internal-pid-file=" + pid_file);
  for (const std::string& one : spec.env) spawn.argv.push_back("--env=" + one);
  if (!spec.cwd.empty()) spawn.argv.push_back("--cwd=" + spec.cwd);
  if (spec.user) spawn.argv.push_back("--user=" + *spec.user);
  Fd listener;
  if (spec.terminal) {
    auto made = listen_at(place.folder + "/tty");
    if (!made) return std::unexpected(made.error());
    listener = std::move(*made);
    spawn.argv.push_back("--console-socket=" + place.folder + "/tty");
  }
  spawn.argv.push_back(id);
  spawn.argv.insert(spawn.argv.end(), spec.argv.begin(), spec.argv.end());
  spawn.env = process::current_environment();
  auto in = process::make_pipe(), out = process::make_pipe(), err = process::make_pipe();
  for (const auto* one : {&in, &out, &err}) {
    if (!*one) return std::unexpected(one->error());
  }
  spawn.input = spec.terminal ? -1 : in->read.get();
  spawn.output = out->write.get();
  spawn.error = err->write.get();
  auto child = process::spawn(spawn);
  if (!child) return std::unexpected(child.error());
  in->read.reset();
  out->write.reset();
  err->write.reset();

  Exec exec;
  const auto until = Clock::now() + options_.call_timeout;
  std::string pid_text;
  bool failed = false;
  while (exec.inner_pid == 0 && !failed) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd polled[3] = {{pid_pipe.get(), POLLIN, 0},
                        {child->pidfd.get(), POLLIN, 0},
                        {listener ? listener.get() : -1, POLLIN, 0}};
    const int ready = left <= 0 ? 0 : poll(polled, 3, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    if ((polled[2].revents & POLLIN) != 0) {
      exec.output = receive_terminal(listener.get());
      listener.reset();
      if (exec.output) set_window(exec.output.get(), *spec.terminal);
    }
    if ((polled[0].revents & POLLIN) != 0) {
      char digits[32];
      const ssize_t got = read(pid_pipe.get(), digits, sizeof digits);
      if (got > 0) pid_text.append(digits, static_cast<std::size_t>(got));
      exec.inner_pid = static_cast<pid_t>(std::atoi(pid_text.c_str()));
    } else if (polled[1].revents != 0) {
      failed = true;  // ended without having run anything
    } else if ((polled[0].revents & POLLHUP) != 0 && polled[2].revents == 0) {
      poll(nullptr, 0, 1);  // opened and closed again, or not opened yet
    }
  }
  if (exec.inner_pid == 0) {
    if (!failed) ::kill(-child->pid, SIGKILL);
    process::wait(*child, std::chrono::seconds(5));
    if (!failed) return fail(Error::Kind::timeout, "runsc did not start the command in time");
    const std::string why = complaint(err->read.get());
    const bool missing = why.find("no such file") != std::string::npos ||
                         why.find("not found") != std::string::npos ||
                         why.find("executable") != std::string::npos;
    return fail(missing ? Error::Kind::not_found : Error::Kind::failed, why);
  }
  if (!spec.terminal) {
    exec.input = std::move(in->write);
    exec.output = std::move(out->read);
    exec.error = std::move(err->read);
  } else if (!exec.output) {
    if (listener) exec.output = receive_terminal(listener.get());
    if (!exec.output) {
      ::kill(-child->pid, SIGKILL);
      process::wait(*child, std::chrono::seconds(5));
      return fail(Error::Kind::failed, "runsc sent no terminal");
    }
    set_window(exec.output.get(), *spec.terminal);
  }
  reaper_.watch(child->pid, std::move(child->pidfd), [ended](process::Status status) {
    if (status.known && status.signal == 0 && status.exit_code > 128 &&
        status.exit_code < 128 + 65) {
      status.signal = status.exit_code - 128;  // as a shell says it
    }
    ended(status);
  });
  return exec;
}

}  // namespace chalk::gvisor
