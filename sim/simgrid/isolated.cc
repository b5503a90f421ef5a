#include "sim/simgrid/isolated.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

namespace chalk::sim {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};
// The first byte that a child sends says what the others are.
constexpr char kResult = 'R';
constexpr char kException = 'E';

struct Child {
  pid_t pid = -1;
  int pipe = -1;
  std::size_t index = 0;
  std::string bytes;
};

// While children run, our handler notes the signal; what it means is decided outside of it.
volatile sig_atomic_t noted[2];
volatile sig_atomic_t pass_on[2];
struct sigaction before_us[2];

void note_signal(int signal, siginfo_t* info, void* context) {
  const int which = signal == SIGINT ? 0 : 1;
  noted[which] = 1;
  // The terminal sends ctrl-C to the whole foreground group: the children have it already.
  if (info->si_code <= 0) pass_on[which] = 1;
  const struct sigaction& previous = before_us[which];
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  }
}

class SignalWatch {
 public:
  SignalWatch() {
    struct sigaction ours = {};
    ours.sa_sigaction = note_signal;
    ours.sa_flags = SA_SIGINFO;
    for (int which = 0; which < 2; ++which) {
      noted[which] = 0;
      pass_on[which] = 0;
      sigaction(kSignals[which], nullptr, &before_us[which]);
      if (ignored(which)) continue;
      sigaction(kSignals[which], &ours, nullptr);
    }
  }
  ~SignalWatch() {
    restore();
    // Without a handler of its own the process would have ended: it does, now that all are reaped.
    for (int which = 0; which < 2; ++which) {
      const bool by_default =
          !(before_us[which].sa_flags & SA_SIGINFO) && before_us[which].sa_handler == SIG_DFL;
      if (noted[which] && by_default) raise(kSignals[which]);
    }
  }
  static void restore() {
    for (int which = 0; which < 2; ++which) {
      sigaction(kSignals[which], &before_us[which], nullptr);
    }
  }
  static bool any() { return noted[0] || noted[1]; }

 private:
  static bool ignored(int which) {
    return !(before_us[which].sa_flags & SA_SIGINFO) && before_us[which].sa_handler == SIG_IGN;
  }
};

void write_all(int to, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(to, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(3);
    data += written;
    size -= static_cast<std::size_t>(written);
  }
}

[[noreturn]] void be_child(int to, pid_t parent, const IsolatedBody& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(3);
  signal(SIGPIPE, SIG_IGN);
  std::string bytes(1, kResult);
  try {
    bytes += body();
  } catch (const std::exception& error) {
    bytes = std::string(1, kException) + error.what();
  } catch (...) {
    bytes = std::string(1, kException) + "an exception of unknown type";
  }
  std::fflush(nullptr);
  write_all(to, bytes.data(), bytes.size());
  _exit(0);
}

IsolatedResult system_error(const char* what) {
  return std::unexpected(std::string(what) + ": " + std::strerror(errno));
}

IsolatedResult start(const IsolatedBody& body, Child& child) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe");
  std::fflush(nullptr);  // or the child would write what is buffered once more
  // Signals wait until the child has the parent's own handlers back.
  sigset_t held, old;
  sigemptyset(&held);
  for (const int number : kSignals) sigaddset(&held, number);
  sigprocmask(SIG_BLOCK, &held, &old);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    SignalWatch::restore();
    sigprocmask(SIG_SETMASK, &old, nullptr);
    close(ends[0]);
    be_child(ends[1], parent, body);
  }
  const int error = errno;
  sigprocmask(SIG_SETMASK, &old, nullptr);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    errno = error;
    return system_error("fork");
  }
  child.pid = pid;
  child.pipe = ends[0];
  return {};
}

// False at the end of what the child sends.
bool read_some(Child& child) {
  char buffer[65536];
  const ssize_t got = read(child.pipe, buffer, sizeof buffer);
  if (got < 0) return errno == EINTR;
  child.bytes.append(buffer, static_cast<std::size_t>(got));
  return got > 0;
}

IsolatedResult reap(Child& child) {
  close(child.pipe);
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0) {
    if (errno != EINTR) return system_error("waitpid");
  }
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    return std::unexpected("killed by signal " + std::to_string(number) + " (" + strsignal(number) +
                           ")");
  }
  if (WEXITSTATUS(status) != 0 || child.bytes.empty()) {
    return std::unexpected("ended with status " + std::to_string(WEXITSTATUS(status)) +
                           " before its result was complete");
  }
  const bool threw = child.bytes.front() == kException;
  child.bytes.erase(0, 1);
  if (threw) return std::unexpected("exception: " + child.bytes);
  return std::move(child.bytes);
}

void forward_signals(const std::vector<Child>& running) {
  for (int which = 0; which < 2; ++which) {
    if (!pass_on[which]) continue;
    pass_on[which] = 0;
    for (const Child& child : running) kill(child.pid, kSignals[which]);
  }
}

}  // namespace

std::vector<IsolatedResult> run_isolated_all(
    const std::vector<IsolatedBody>& bodies, unsigned parallel,
    const std::function<void(std::size_t, const IsolatedResult&)>& finished) {
  if (parallel == 0) parallel = std::max(1U, std::thread::hardware_concurrency());
  std::vector<IsolatedResult> results(bodies.size());
  std::vector<Child> running;
  std::size_t next = 0;
  const SignalWatch watch;
  while (next < bodies.size() || !running.empty()) {
    while (next < bodies.size() && running.size() < parallel) {
      Child child;
      child.index = next;
      if (SignalWatch::any()) {
        results[next] = std::unexpected<std::string>("interrupted before it started");
      } else if (IsolatedResult started = start(bodies[next], child); !started) {
        results[next] = std::move(started);
      } else {
        running.push_back(std::move(child));
      }
      ++next;
    }
    std::vector<pollfd> polled;
    for (const Child& child : running) polled.push_back({child.pipe, POLLIN, 0});
    // The timeout is for a signal that comes just before poll.
    if (!running.empty()) poll(polled.data(), polled.size(), 100);
    forward_signals(running);
    for (std::size_t i = running.size(); i-- > 0;) {
      if (polled[i].revents == 0 || read_some(running[i])) continue;
      const std::size_t index = running[i].index;
      results[index] = reap(running[i]);
      if (finished) finished(index, results[index]);
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return results;
}

IsolatedResult run_isolated(const IsolatedBody& body) {
  return std::move(run_isolated_all({body}, 1).front());
}

}  // namespace chalk::sim
