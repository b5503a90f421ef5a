#include "adapters/process/reaper.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "adapters/process/claim.h"

namespace chalk::process {
namespace {
using Clock = std::chrono::steady_clock;
// Orphans are also looked for when nothing else happens; they hold a number and nothing else.
constexpr std::chrono::seconds kOrphansEvery{5};
// A child that this process did not get from spawn() belongs to whoever made it, for so long.
constexpr std::chrono::seconds kStrangerAge{15};
constexpr std::uint64_t kWake = 0;  // the key of the event that stops the thread
}  // namespace

struct Reaper::State {
  struct Watched {
    pid_t pid = 0;
    Fd pidfd;
    Ended ended;
  };
  Fd epoll, wake;
  std::mutex mutex;
  std::uint64_t next = kWake + 1;  // keys, not pids: a pid may come twice
  std::map<std::uint64_t, Watched> watched;
  bool stopping = false;
  pid_t stranger = 0;  // the first child that has ended and is not known here, and since when
  Clock::time_point stranger_since;
  std::thread thread;

  void loop();
  void take(std::uint64_t key);
  void take_orphans();
  bool take_orphan();
};

Reaper::Reaper() : state_(std::make_unique<State>()) {
  state_->epoll.reset(epoll_create1(EPOLL_CLOEXEC));
  state_->wake.reset(eventfd(0, EFD_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWake;
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

Result<void> Reaper::watch(pid_t pid, Fd pidfd, Ended ended) {
  const std::lock_guard lock(state_->mutex);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = state_->next++;
  const int fd = pidfd.get();
  state_->watched[event.data.u64] = {pid, std::move(pidfd), std::move(ended)};
  if (epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  const int error = errno;
  state_->watched.erase(event.data.u64);
  return fail(Error::Kind::exhausted,
              "cannot watch process " + std::to_string(pid) + ": " + strerror(error));
}

Result<void> Reaper::watch(pid_t pid, Ended ended) {
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail(Error::Kind::not_found, "no process " + std::to_string(pid));
  return watch(pid, std::move(pidfd), std::move(ended));
}

void Reaper::State::loop() {
  while (true) {
    epoll_event events[64];
    const int count =
        epoll_wait(epoll.get(), events, 64,
                   static_cast<int>(std::chrono::milliseconds(kOrphansEvery).count()));
    for (int i = 0; i < count; ++i) {
      {
        const std::lock_guard lock(mutex);
        if (stopping) return;
      }
      if (events[i].data.u64 != kWake) take(events[i].data.u64);
    }
    take_orphans();
  }
}

void Reaper::State::take(std::uint64_t key) {
  Watched one;
  {
    const std::lock_guard lock(mutex);
    const auto found = watched.find(key);
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

void Reaper::State::take_orphans() {
  while (take_orphan()) {
  }
}

// Only the first child that has ended can be looked at without being taken. One that somebody will
// take makes the others wait until then.
bool Reaper::State::take_orphan() {
  const std::unique_lock none_begins(births());
  siginfo_t info{};
  if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
    stranger = 0;
    return false;
  }
  const pid_t pid = info.si_pid;
  if (claimed(pid)) return false;
  {
    const std::lock_guard lock(mutex);
    if (std::any_of(watched.begin(), watched.end(),
                    [&](const auto& one) { return one.second.pid == pid; })) {
      return false;  // its pidfd says so, too
    }
  }
  // What was inherited comes from a session that spawn() made; what is in ours, somebody here
  // forked.
  if (getsid(pid) == getsid(0)) {
    if (stranger != pid) {
      stranger = pid;
      stranger_since = Clock::now();
    }
    if (Clock::now() - stranger_since < kStrangerAge) return false;
  }
  waitpid(pid, nullptr, WNOHANG);
  return true;
}

}  // namespace chalk::process
