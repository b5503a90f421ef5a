#include "adapters/process/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <shared_mutex>

#include "adapters/process/precedence.h"

extern char** environ;

namespace chalk::process {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;
constexpr int kFirstFree = 100;  // descriptors for the child are moved out of the way of 0..n first

// All that the child needs, made before it exists: it shares our memory and may not allocate.
struct Plan {
  const Spawn* what = nullptr;
  const char* program = nullptr;
  std::vector<char*> argv, env;
  std::vector<int> moved;  // stdin, stdout, stderr, passed
  int null = -1;
  const char* failed = nullptr;  // what could not be done
  int error = 0;
};

int failing(Plan& plan, const char* what) {
  plan.failed = what;
  plan.error = errno;
  return 127;
}

int child_main(void* argument) {
  Plan& plan = *static_cast<Plan*>(argument);
  const Spawn& what = *plan.what;
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &usual, nullptr);
  if (what.new_session) setsid();
  if (!give_up_precedence()) return failing(plan, "the usual priority");
  for (const std::string& file : what.cgroup_procs) {
    const int procs = open(file.c_str(), O_WRONLY | O_CLOEXEC);
    if (procs < 0 || write(procs, "0", 1) != 1) return failing(plan, file.c_str());
    close(procs);
  }
  if (!what.network_namespace.empty()) {
    const int space = open(what.network_namespace.c_str(), O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) != 0) {
      return failing(plan, what.network_namespace.c_str());
    }
    close(space);
  }
  if (!what.cwd.empty() && chdir(what.cwd.c_str()) != 0) return failing(plan, what.cwd.c_str());
  // Away from the numbers that they shall have, so that none is overwritten before its turn.
  const int ours[3] = {what.input, what.output, what.error};
  for (std::size_t i = 0; i < plan.moved.size(); ++i) {
    const int from = i < 3 ? (ours[i] < 0 ? plan.null : ours[i]) : what.passed[i - 3].first;
    plan.moved[i] = fcntl(from, F_DUPFD_CLOEXEC, kFirstFree);
    if (plan.moved[i] < 0) return failing(plan, "a descriptor");
  }
  syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);  // those made below stay open
  for (std::size_t i = 0; i < plan.moved.size(); ++i) {
    const int to = i < 3 ? static_cast<int>(i) : what.passed[i - 3].second;
    if (dup2(plan.moved[i], to) < 0) return failing(plan, "a descriptor");
  }
  if (what.controlling_terminal && ioctl(0, TIOCSCTTY, 0) != 0) {
    return failing(plan, "its terminal");
  }
  if (!give_back_descriptors()) return failing(plan, "the usual number of descriptors");
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execvpe(plan.program, plan.argv.data(), plan.env.data());
  return failing(plan, plan.program);
}

}  // namespace

void Fd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return fail(Error::Kind::exhausted, std::string("cannot make a pipe: ") + strerror(errno));
  }
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

// Like vfork: the child has our memory and we wait until it has begun its program or failed.
Result<Child> spawn(const Spawn& what) {
  if (what.argv.empty()) return fail(Error::Kind::invalid, "found no program to start");
  for (const auto& [ours, theirs] : what.passed) {
    if (theirs < 3 || theirs >= kFirstFree) {
      return fail(Error::Kind::invalid, "a descriptor to pass on: found the number " +
                                            std::to_string(theirs) + ", expected 3 to 99");
    }
  }
  Plan plan;
  plan.what = &what;
  plan.program = what.argv[0].c_str();
  for (const std::string& word : what.argv) plan.argv.push_back(const_cast<char*>(word.c_str()));
  for (const std::string& word : what.env) plan.env.push_back(const_cast<char*>(word.c_str()));
  plan.argv.push_back(nullptr);
  plan.env.push_back(nullptr);
  plan.moved.resize(3 + what.passed.size(), -1);
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  plan.null = null.get();
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return fail(Error::Kind::exhausted, "no memory for a child's stack");
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of ours may run in the child
  int pidfd = -1;
  std::shared_lock being_born(births());
  const pid_t pid = clone(child_main, static_cast<char*>(stack) + kStackBytes,
                          CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan, &pidfd);
  const int error = errno;
  Claim claim = pid > 0 ? Claim(pid) : Claim();
  being_born.unlock();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  munmap(stack, kStackBytes);
  if (pid < 0) {
    return fail(Error::Kind::exhausted, std::string("cannot start a process: ") + strerror(error));
  }
  Child child{pid, Fd(pidfd), std::move(claim)};
  if (plan.failed == nullptr) return child;
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
  return fail(plan.error == ENOENT ? Error::Kind::not_found : Error::Kind::failed,
              "cannot start " + what.argv[0] + ": " + plan.failed + ": " + strerror(plan.error));
}

std::optional<Status> wait(const Child& child, std::chrono::milliseconds timeout) {
  pollfd one{child.pidfd.get(), POLLIN, 0};
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    const int ready = poll(&one, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (ready == 0) return std::nullopt;
    if (ready < 0 && errno == EINTR) continue;
    break;
  }
  siginfo_t info{};
  if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.pidfd.get()), &info,
             WEXITED) != 0) {
    return Status{false, 0, 0};
  }
  if (info.si_code == CLD_EXITED) return Status{true, info.si_status, 0};
  return Status{true, 0, info.si_status};
}

namespace {

void kill_group(const Child& child) {
  kill(-child.pid, SIGKILL);  // its session's group; not reaped yet, so the number is its own
  syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0);
}

// Feeds and drains it until both outputs have ended, or it has; what went wrong, if anything did.
std::optional<Error> converse(const Child& child, Fd& in, Fd& out, Fd& err, std::string_view input,
                              Output& result, std::size_t output_max,
                              std::chrono::steady_clock::time_point until) {
  char buffer[65536];
  std::size_t sent = 0;
  bool ended = false;
  if (input.empty()) in.reset();
  while (out || err) {
    pollfd polled[4] = {{out.get(), POLLIN, 0},
                        {err.get(), POLLIN, 0},
                        {in.get(), POLLOUT, 0},
                        {ended ? -1 : child.pidfd.get(), POLLIN, 0}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                          until - std::chrono::steady_clock::now())
                          .count();
    if (left <= 0 && ended) return std::nullopt;
    if (left <= 0) return Error{Error::Kind::timeout, "did not end in time"};
    if (poll(polled, 4, static_cast<int>(std::min<long>(left, 60'000))) < 0) continue;
    if (polled[3].revents != 0) {
      ended = true;
      until = std::min(until, std::chrono::steady_clock::now() + kOutputGrace);
    }
    for (int i = 0; i < 2; ++i) {
      if (polled[i].revents == 0) continue;
      Fd& fd = i == 0 ? out : err;
      std::string& text = i == 0 ? result.out : result.err;
      const ssize_t got = read(fd.get(), buffer, sizeof buffer);
      if (got <= 0) {
        if (got == 0 || errno != EINTR) fd.reset();
        continue;
      }
      text.append(buffer, static_cast<std::size_t>(got));
      if (text.size() > output_max) {
        return Error{Error::Kind::exhausted,
                     "wrote more than " + std::to_string(output_max) + " bytes"};
      }
    }
    if (polled[2].revents != 0 && in) {
      const ssize_t put = write(in.get(), input.data() + sent, input.size() - sent);
      if (put > 0) sent += static_cast<std::size_t>(put);
      if ((put < 0 && errno != EINTR && errno != EAGAIN) || sent == input.size()) in.reset();
    }
  }
  return std::nullopt;
}

}  // namespace

Result<Output> run(Spawn what, std::chrono::milliseconds timeout, std::string_view input,
                   std::size_t output_max) {
  auto in = make_pipe(), out = make_pipe(), err = make_pipe();
  for (const auto* one : {&in, &out, &err}) {
    if (!*one) return std::unexpected(one->error());
  }
  fcntl(in->write.get(), F_SETFL, O_NONBLOCK);
  what.input = in->read.get();
  what.output = out->write.get();
  what.error = err->write.get();
  const auto until = std::chrono::steady_clock::now() + timeout;
  auto child = spawn(what);
  if (!child) return std::unexpected(child.error());
  in->read.reset();
  out->write.reset();
  err->write.reset();
  Output result;
  auto broken = converse(*child, in->write, out->read, err->read, input, result, output_max, until);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      until - std::chrono::steady_clock::now());
  std::optional<Status> status;
  if (!broken) status = wait(*child, std::max(left, std::chrono::milliseconds(0)));
  if (status && !status->known) {
    return fail(Error::Kind::failed, what.argv[0] + ": somebody else took its exit status");
  }
  if (status) {
    result.status = *status;
    return result;
  }
  kill_group(*child);
  wait(*child, std::chrono::seconds(10));
  if (!broken) broken = Error{Error::Kind::timeout, "did not end in time"};
  return fail(broken->kind, what.argv[0] + " " + broken->message + " (" +
                                std::to_string(timeout.count()) + " ms allowed)");
}

void become_subreaper() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

std::vector<std::string> current_environment() {
  std::vector<std::string> out;
  for (char** one = environ; one != nullptr && *one != nullptr; ++one) out.emplace_back(*one);
  return out;
}

}  // namespace chalk::process
