#include "adapters/process/reaper.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace chalk::process {
namespace {
using Clock = std::chrono::steady_clock;
// Zombies that nobody watches are looked for this often; they hold a number and nothing else.
constexpr std::chrono::seconds kOrphansEvery{5};
// Younger ones may be of somebody who has just started them and waits for them itself.
constexpr std::chrono::seconds kOrphanAge{15};
}  // namespace

struct Reaper::State {
  struct Watched {
    Fd pidfd;
    Ended ended;
  };
  Fd epoll, wake;
  std::mutex mutex;
  std::map<pid_t, Watched> watched;
  std::map<pid_t, Clock::time_point> seen;  // zombies of nobody, and since when
  bool stopping = false;
  std::thread thread;

  void loop();
  void take(pid_t pid);
  void take_orphans();
};

Reaper::Reaper() : state_(std::make_unique<State>()) {
  state_->epoll.reset(epoll_create1(EPOLL_CLOEXEC));
  state_->wake.reset(eventfd(0, EFD_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = 0;
  if (!state_->epoll || !state_->wake ||
      epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, state_->wake.get(), &event) != 0) {
    throw std::runtime_error(std::string("cannot wait for processes: ") + strerror(errno));
  }
  state_->thread = std::thread([state = state_.get()] { state->loop(); });
}

Reaper::~Reaper() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto put = write(state_->wake.get(), &one, sizeof one);
  state_->thread.join();
}

void Reaper::watch(pid_t pid, Fd pidfd, Ended ended) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = pid;
  const std::lock_guard lock(state_->mutex);
  const int fd = pidfd.get();
  state_->watched[pid] = {std::move(pidfd), std::move(ended)};
  epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, fd, &event);
}

Result<void> Reaper::watch(pid_t pid, Ended ended) {
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail(Error::Kind::not_found, "no process " + std::to_string(pid));
  watch(pid, std::move(pidfd), std::move(ended));
  return {};
}

void Reaper::State::loop() {
  auto looked = Clock::now();
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(
        epoll.get(), events, 64,
        static_cast<int>(std::chrono::milliseconds(kOrphansEvery).count()));
    {
      const std::lock_guard lock(mutex);
      if (stopping) return;
    }
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd > 0) take(events[i].data.fd);
    }
    if (Clock::now() - looked < kOrphansEvery) continue;
    looked = Clock::now();
    take_orphans();
  }
}

void Reaper::State::take(pid_t pid) {
  Watched one;
  {
    const std::lock_guard lock(mutex);
    const auto found = watched.find(pid);
    if (found == watched.end()) return;
    one = std::move(found->second);
    watched.erase(found);
  }
  epoll_ctl(epoll.get(), EPOLL_CTL_DEL, one.pidfd.get(), nullptr);
  siginfo_t info{};
  Status status;
  if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(one.pidfd.get()), &info, WEXITED) !=
      0) {
    status.known = false;  // somebody else's child
  } else if (info.si_code == CLD_EXITED) {
    status.exit_code = info.si_status;
  } else {
    status.signal = info.si_status;
  }
  one.ended(status);
}

// Only the first zombie can be looked at without being taken; a younger one before it makes the rest
// wait for the next time.
void Reaper::State::take_orphans() {
  siginfo_t info{};
  while (true) {
    info.si_pid = 0;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
      seen.clear();
      return;
    }
    const pid_t pid = info.si_pid;
    {
      const std::lock_guard lock(mutex);
      if (watched.contains(pid)) return;  // its pidfd says so, too
    }
    const auto since = seen.try_emplace(pid, Clock::now()).first->second;
    if (Clock::now() - since < kOrphanAge) return;
    seen.erase(pid);
    waitpid(pid, nullptr, WNOHANG);
  }
}

}  // namespace chalk::process
