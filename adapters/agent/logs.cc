#include "adapters/agent/logs.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <vector>

namespace chalk::agent {
namespace {

constexpr int kTrimPauseMs = 1'000;
constexpr int kFollowPauseMs = 500;
constexpr std::size_t kChunk = 64 * 1024;

std::int64_t wall_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }

 private:
  int number_;
};

std::int64_t size_of(int descriptor) {
  struct stat facts {};
  return fstat(descriptor, &facts) == 0 ? facts.st_size : 0;
}

// Sends what stands from `offset` on, and moves it. False when the sink wants no more.
bool send(int descriptor, int stream, std::int64_t& offset, const Logs::Sink& sink) {
  std::array<char, kChunk> buffer;
  while (true) {
    const ssize_t size = pread(descriptor, buffer.data(), buffer.size(), offset);
    if (size <= 0) return true;
    offset += size;
    if (!sink(stream, {buffer.data(), static_cast<std::size_t>(size)})) return false;
  }
}

}  // namespace

Logs::Logs(std::string directory, std::size_t bytes_max)
    : directory_(std::move(directory)),
      bytes_max_(bytes_max),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error || inotify_ < 0 || wake_ < 0) {
    throw std::runtime_error(directory_ + ": cannot be used for output of sandboxes: " +
                             (error ? error.message() : std::strerror(errno)));
  }
  thread_ = std::thread([this] { run(); });
}

Logs::~Logs() {
  const std::uint64_t one = 1;
  if (::write(wake_, &one, sizeof one) == sizeof one) thread_.join();
  ::close(wake_);
  ::close(inotify_);
}

Logs::Files Logs::files(SandboxId sandbox) const {
  const std::string stem = directory_ + "/" + std::to_string(sandbox.value);
  return {stem + ".out", stem + ".err"};
}

Result<Logs::Files> Logs::begin(SandboxId sandbox) {
  const Files names = files(sandbox);
  for (const std::string& name : {names.output, names.error}) {
    const Descriptor file(
        ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0) {
      return fail(Error::Kind::failed, name + ": cannot be made: " + std::strerror(errno));
    }
  }
  const std::lock_guard lock(mutex_);
  live_[sandbox] = {};
  std::erase(ended_, sandbox);
  watch(sandbox);
  return names;
}

void Logs::take_over(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  live_[sandbox] = {};
  watch(sandbox);
}

void Logs::watch(SandboxId sandbox) {
  const Files names = files(sandbox);
  for (const std::string& name : {names.output, names.error}) {
    const int watch = inotify_add_watch(inotify_, name.c_str(), IN_MODIFY | IN_ONESHOT);
    if (watch >= 0) watches_[watch] = sandbox;
  }
}

void Logs::end(SandboxId sandbox) {
  std::vector<Files> gone;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(sandbox);
    if (found == live_.end() || found->second.ended) return;
    found->second.ended = true;
    ended_.push_back(sandbox);
    while (ended_.size() > kEndedMax) {
      gone.push_back(files(ended_.front()));
      live_.erase(ended_.front());
      ended_.pop_front();
    }
  }
  for (const Files& names : gone) {
    ::unlink(names.output.c_str());
    ::unlink(names.error.c_str());
  }
}

void Logs::forget_ended() {
  const std::lock_guard lock(mutex_);
  for (const SandboxId sandbox : ended_) {
    const Files names = files(sandbox);
    ::unlink(names.output.c_str());
    ::unlink(names.error.c_str());
    live_.erase(sandbox);
  }
  ended_.clear();
}

void Logs::keep_only_live() {
  const std::lock_guard lock(mutex_);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    SandboxId sandbox;
    const std::string stem = entry.path().stem().string();
    std::from_chars(stem.data(), stem.data() + stem.size(), sandbox.value);
    if (!live_.contains(sandbox)) ::unlink(entry.path().c_str());
  }
}

std::int64_t Logs::first_byte_at(SandboxId sandbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(sandbox);
  return found == live_.end() ? 0 : found->second.first_byte_at;
}

bool Logs::ended(SandboxId sandbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(sandbox);
  return found == live_.end() || found->second.ended;
}

void Logs::run() {
  auto trim_at = std::chrono::steady_clock::now();
  while (true) {
    pollfd wait[] = {{inotify_, POLLIN, 0}, {wake_, POLLIN, 0}};
    poll(wait, 2, kTrimPauseMs);
    if (wait[1].revents != 0) return;
    alignas(inotify_event) std::array<char, 16 * 1024> buffer;
    const ssize_t size = ::read(inotify_, buffer.data(), buffer.size());
    std::vector<SandboxId> live;
    {
      const std::lock_guard lock(mutex_);
      for (ssize_t at = 0; at < size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
        at += static_cast<ssize_t>(sizeof *event + event->len);
        const auto watch = watches_.find(event->wd);
        if (watch == watches_.end()) continue;
        const auto found = live_.find(watch->second);
        if ((event->mask & IN_MODIFY) != 0 && found != live_.end() &&
            found->second.first_byte_at == 0) {
          found->second.first_byte_at = wall_nanos();
        }
        if ((event->mask & IN_IGNORED) != 0) watches_.erase(watch);
      }
      const auto now = std::chrono::steady_clock::now();
      if (now < trim_at) continue;
      trim_at = now + std::chrono::milliseconds(kTrimPauseMs);
      for (const auto& [sandbox, one] : live_) {
        if (!one.ended) live.push_back(sandbox);
      }
    }
    for (const SandboxId sandbox : live) trim(sandbox);
  }
}

void Logs::trim(SandboxId sandbox) const {
  const Files names = files(sandbox);
  for (const std::string& name : {names.output, names.error}) {
    struct stat facts {};
    if (stat(name.c_str(), &facts) != 0) continue;
    const auto kept = static_cast<std::int64_t>(bytes_max_);
    if (facts.st_blocks * 512 <= kept + kept / 4) continue;
    const Descriptor file(::open(name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (file.get() < 0 || facts.st_size <= kept) continue;
    fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, facts.st_size - kept);
  }
}

Result<void> Logs::read(SandboxId sandbox, bool follow, std::uint64_t tail,
                        const Sink& sink) const {
  const Files names = files(sandbox);
  const Descriptor output(::open(names.output.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  const Descriptor error(::open(names.error.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (output.get() < 0 || error.get() < 0) {
    return fail(Error::Kind::not_found, "sandbox " + std::to_string(sandbox.value) +
                                            ": its output is not kept on this node any more");
  }
  const auto kept = static_cast<std::int64_t>(
      tail == 0 ? bytes_max_ : std::min<std::uint64_t>(tail, bytes_max_));
  std::int64_t at[] = {std::max<std::int64_t>(size_of(output.get()) - kept, 0),
                       std::max<std::int64_t>(size_of(error.get()) - kept, 0)};
  const Descriptor notify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (follow && notify.get() >= 0) {
    inotify_add_watch(notify.get(), names.output.c_str(), IN_MODIFY);
    inotify_add_watch(notify.get(), names.error.c_str(), IN_MODIFY);
  }
  while (true) {
    const bool last = !follow || ended(sandbox);  // asked before reading: then nothing is missed
    if (!send(output.get(), 1, at[0], sink) || !send(error.get(), 2, at[1], sink)) return {};
    if (last) return {};
    if (!sink(0, {})) return {};
    pollfd wait{notify.get(), POLLIN, 0};
    if (poll(&wait, 1, kFollowPauseMs) > 0) {
      std::array<char, 4096> drop;
      while (::read(notify.get(), drop.data(), drop.size()) > 0) {
      }
    }
  }
}

}  // namespace chalk::agent
