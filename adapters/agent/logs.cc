#include "adapters/agent/logs.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
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

constexpr int kFollowPauseMs = 500;
constexpr std::size_t kChunk = 64 * 1024;
constexpr std::int64_t kBlock = 4096;  // of the file systems that nodes have
constexpr std::size_t kDrainMax = 1024 * 1024;  // more than a pipe holds: its writer may go on
constexpr std::chrono::milliseconds kBreath{1};  // after full chunks: about 64 MB/s for a stream
constexpr const char* kPipe = ".pipe";

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

// Sends what stands from `offset` on, and moves it. False when the sink wants no more. What was
// given back to the file system before it was read is a hole, which reads as zeros: it is told as
// dropped, and what is kept follows. Asked after the read: what is punched later was read before.
bool send(int descriptor, int stream, std::int64_t& offset, const Logs::Sink& sink,
          const Logs::Dropped& dropped) {
  std::array<char, kChunk> buffer;
  while (true) {
    const ssize_t size = pread(descriptor, buffer.data(), buffer.size(), offset);
    if (size <= 0) return true;
    if (const std::int64_t kept = lseek(descriptor, offset, SEEK_DATA); kept > offset) {
      if (dropped) dropped(stream, static_cast<std::uint64_t>(kept - offset));
      offset = kept;
      continue;
    }
    offset += size;
    if (!sink(stream, {buffer.data(), static_cast<std::size_t>(size)})) return false;
  }
}

bool make_pipe(const std::string& name) {
  return (::unlink(name.c_str()) == 0 || errno == ENOENT) && ::mkfifo(name.c_str(), 0600) == 0;
}

}  // namespace

// One pipe and the file that it is taken to.
struct Logs::Stream {
  Stream(int opened, std::string kept) : pipe(opened), file(std::move(kept)) {}
  ~Stream() {
    if (pipe >= 0) ::close(pipe);
  }
  std::mutex mutex;  // of all that follows
  int pipe;
  const std::string file;
  std::size_t untrimmed = 0;
  std::int64_t first_byte_at = 0;
};

Logs::Logs(std::string directory, std::size_t bytes_max)
    : directory_(std::move(directory)),
      bytes_max_(bytes_max),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  if (error || epoll_ < 0 || wake_ < 0) {
    throw std::runtime_error(directory_ + ": cannot be used for output of sandboxes: " +
                             (error ? error.message() : std::strerror(errno)));
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
  thread_ = std::thread([this] { run(); });
}

Logs::~Logs() {
  const std::uint64_t one = 1;
  if (::write(wake_, &one, sizeof one) == sizeof one) thread_.join();
  ::close(wake_);
  ::close(epoll_);
}

Logs::Files Logs::files(SandboxId sandbox) const {
  const std::string stem = directory_ + "/" + std::to_string(sandbox.value);
  return {stem + ".out", stem + ".err"};
}

Result<Logs::Files> Logs::begin(SandboxId sandbox, bool again) {
  const Files names = files(sandbox);
  for (const std::string& name : {names.output, names.error}) {
    const Descriptor file(::open(
        name.c_str(), O_WRONLY | O_CREAT | (again ? 0 : O_TRUNC) | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0) {
      return fail(Error::Kind::failed, name + ": cannot be made: " + std::strerror(errno));
    }
  }
  const Files pipes{names.output + kPipe, names.error + kPipe};
  for (const std::string& name : {pipes.output, pipes.error}) {
    if (!make_pipe(name)) {
      return fail(Error::Kind::failed, name + ": cannot be made: " + std::strerror(errno));
    }
  }
  const std::lock_guard lock(mutex_);
  live_[sandbox] = attach(sandbox);
  std::erase(ended_, sandbox);
  for (const auto& stream : live_[sandbox].streams) {
    if (!stream) {
      return fail(Error::Kind::exhausted, names.output + kPipe + ": cannot be opened");
    }
  }
  return pipes;
}

void Logs::take_over(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  live_[sandbox] = attach(sandbox);
}

// Opened to be written to as well: then a pipe without a writer is only empty.
Logs::Live Logs::attach(SandboxId sandbox) {
  Live live;
  const Files names = files(sandbox);
  const std::string* name[] = {&names.output, &names.error};
  for (std::size_t i = 0; i < live.streams.size(); ++i) {
    const int pipe =
        ::open((*name[i] + kPipe).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (pipe < 0) continue;
    live.streams[i] = std::make_shared<Stream>(pipe, *name[i]);
    pipes_[pipe] = live.streams[i];
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = pipe;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, pipe, &event);
  }
  return live;
}

void Logs::end(SandboxId sandbox) {
  drain(sandbox);
  std::vector<Files> gone;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(sandbox);
    if (found == live_.end() || found->second.ended) return;
    found->second.ended = true;
    close_pipes(found->second);
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

void Logs::pause(SandboxId sandbox) {
  drain(sandbox);
  const std::lock_guard lock(mutex_);
  close_pipes(live_[sandbox]);
}

void Logs::close_pipes(Live& live) {
  for (const auto& stream : live.streams) {
    if (!stream) continue;
    const std::lock_guard one(stream->mutex);
    if (stream->pipe < 0) continue;
    pipes_.erase(stream->pipe);
    ::close(stream->pipe);
    stream->pipe = -1;
    ::unlink((stream->file + kPipe).c_str());
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
  std::int64_t first = 0;
  if (found == live_.end()) return first;
  for (const auto& stream : found->second.streams) {
    if (!stream) continue;
    const std::lock_guard one(stream->mutex);
    const std::int64_t at = stream->first_byte_at;
    if (at != 0 && (first == 0 || at < first)) first = at;
  }
  return first;
}

bool Logs::ended(SandboxId sandbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(sandbox);
  return found == live_.end() || found->second.ended;
}

void Logs::run() {
  while (true) {
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    bool full = false;
    for (int i = 0; i < count; ++i) {
      const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
      if (descriptor == wake_) return;
      std::shared_ptr<Stream> stream;
      {
        const std::lock_guard lock(mutex_);
        const auto found = pipes_.find(descriptor);
        if (found != pipes_.end()) stream = found->second;
      }
      if (stream && drain(*stream, kChunk) >= kChunk) full = true;
    }
    // Nobody's output takes a whole processor of the node.
    if (full) std::this_thread::sleep_for(kBreath);
  }
}

// Takes up to about `most` bytes from the pipe to the file. Where the disk is full they are lost: a
// sandbox that waits for ever would be worse.
std::size_t Logs::drain(Stream& stream, std::size_t most) const {
  const std::lock_guard lock(stream.mutex);
  std::size_t taken = 0;
  std::array<char, kChunk> buffer;
  while (stream.pipe >= 0 && taken < most) {
    const ssize_t size = ::read(stream.pipe, buffer.data(), buffer.size());
    if (size <= 0) break;
    if (stream.first_byte_at == 0) stream.first_byte_at = wall_nanos();
    taken += static_cast<std::size_t>(size);
    const Descriptor file(::open(stream.file.c_str(),
                                 O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    for (ssize_t at = 0; file.get() >= 0 && at < size;) {
      const ssize_t put =
          ::write(file.get(), buffer.data() + at, static_cast<std::size_t>(size - at));
      if (put <= 0) break;
      at += put;
    }
  }
  stream.untrimmed += taken;
  if (stream.untrimmed > bytes_max_ / 4) {
    trim(stream.file);
    stream.untrimmed = 0;
  }
  return taken;
}

void Logs::drain(SandboxId sandbox) const {
  std::array<std::shared_ptr<Stream>, 2> streams;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(sandbox);
    if (found != live_.end()) streams = found->second.streams;
  }
  for (const auto& stream : streams) {
    if (stream) drain(*stream, kDrainMax);
  }
}

void Logs::trim(const std::string& name) const {
  const auto kept = static_cast<std::int64_t>(bytes_max_);
  const Descriptor file(::open(name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  const std::int64_t size = file.get() < 0 ? 0 : size_of(file.get());
  if (size <= kept) return;
  // Whole blocks: a part of one would read as zeros and be no hole, and its reader would not know.
  const std::int64_t gone = (size - kept) / kBlock * kBlock;
  if (gone > 0) fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, gone);
}

Result<void> Logs::read(SandboxId sandbox, bool follow, std::uint64_t tail, const Sink& sink,
                        const Dropped& dropped) const {
  drain(sandbox);  // what is in the pipes was written, too
  const Files names = files(sandbox);
  const Descriptor output(::open(names.output.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  const Descriptor error(::open(names.error.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (output.get() < 0 || error.get() < 0) {
    return fail(Error::Kind::not_found, "sandbox " + std::to_string(sandbox.value) +
                                            ": its output is not kept on this node any more");
  }
  std::int64_t at[2];
  for (int i = 0; i < 2; ++i) {
    const auto written = static_cast<std::uint64_t>(size_of(i == 0 ? output.get() : error.get()));
    const std::uint64_t wanted = tail == 0 ? written : std::min(tail, written);
    const std::uint64_t kept = std::min<std::uint64_t>(wanted, bytes_max_);
    at[i] = static_cast<std::int64_t>(written - kept);
    if (dropped && wanted > kept) dropped(i + 1, wanted - kept);
  }
  const Descriptor notify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (follow && notify.get() >= 0) {
    inotify_add_watch(notify.get(), names.output.c_str(), IN_MODIFY);
    inotify_add_watch(notify.get(), names.error.c_str(), IN_MODIFY);
  }
  while (true) {
    const bool last = !follow || ended(sandbox);  // asked before reading: then nothing is missed
    if (!send(output.get(), 1, at[0], sink, dropped) || !send(error.get(), 2, at[1], sink, dropped)) {
      return {};
    }
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
