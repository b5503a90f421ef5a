#include "adapters/agent/pump.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

namespace chalk::agent {
namespace {

constexpr std::size_t kChunk = 64 * 1024;
constexpr std::size_t kDrainMax = 4u << 20;  // left in the pipes of a process that has ended
constexpr auto kKillPatience = std::chrono::seconds(10);

}  // namespace

Pump::Pump(std::function<void(std::function<void()>)> elsewhere)
    : elsewhere_(std::move(elsewhere)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_;
  if (epoll_ < 0 || wake_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) {
    throw std::runtime_error("sessions: the kernel gives no epoll or eventfd");
  }
  thread_ = std::thread([this] { run(); });
}

Pump::~Pump() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const std::uint64_t one = 1;
  if (::write(wake_, &one, sizeof one) < 0) {
  }  // it is non-zero already
  thread_.join();
  ::close(wake_);
  ::close(epoll_);
}

void Pump::ask(Ask one) {
  {
    const std::lock_guard lock(mutex_);
    asks_.push_back(std::move(one));
  }
  const std::uint64_t count = 1;
  if (::write(wake_, &count, sizeof count) < 0) {
  }
}

void Pump::add(std::shared_ptr<Session> session, Process process,
               std::chrono::milliseconds timeout) {
  for (const int descriptor : {process.input, process.output, process.error}) {
    if (descriptor >= 0) fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  }
  {
    const std::lock_guard lock(session->mutex_);
    session->process_ = std::move(process);
    session->pump_ = this;
  }
  Session* const key = session.get();
  ask({Order::add, key, std::move(session), timeout});
}

void Pump::ended(const std::shared_ptr<Session>& session, ProcessEnd end) {
  {
    const std::lock_guard lock(session->mutex_);
    if (!session->end_) session->end_ = end;
  }
  ask({Order::ended, session.get(), {}, {}});
}

void Pump::doom(const std::shared_ptr<Session>& session, std::string why,
                std::chrono::milliseconds patience) {
  {
    const std::lock_guard lock(session->mutex_);
    if (session->doomed_.empty()) session->doomed_ = std::move(why);
  }
  ask({Order::doom, session.get(), {}, patience});
}

void Pump::resume(Session& session) { ask({Order::resume, &session, {}, {}}); }
void Pump::feed(Session& session) { ask({Order::feed, &session, {}, {}}); }

void Pump::run() {
  // A process that closed its input is an error of write, not a signal.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll_, events.data(), events.size(), next_pause());
    for (int i = 0; i < count; ++i) on_ready(events[i].data.fd, events[i].events);
    std::vector<Ask> asks;
    {
      const std::lock_guard lock(mutex_);
      asks.swap(asks_);
      if (stopping_) break;
    }
    for (Ask& one : asks) obey(one);
    check_times();
  }
  for (auto& [session, live] : live_) {
    close_all(session->process_);
  }
}

void Pump::obey(Ask& one) {
  if (one.order == Order::add) return on_add(one);
  const auto found = live_.find(one.session);
  if (found == live_.end()) return;  // it is over, or not there yet: then add looks
  Live& live = found->second;
  switch (one.order) {
    case Order::ended: return settle(live);
    case Order::doom: live.doom = std::min(live.doom, Clock::now() + one.time); return;
    case Order::feed: return write_input(live);
    case Order::resume: return watch(live, true);
    case Order::add: return;
  }
}

void Pump::on_add(Ask& one) {
  Session& session = *one.session;
  Live& live = live_[one.session];
  live.session = std::move(one.hold);
  if (one.time.count() > 0) live.limit = Clock::now() + one.time;
  bool ended, doomed;
  {
    const std::lock_guard lock(session.mutex_);
    ended = session.end_.has_value();
    doomed = !session.doomed_.empty();
    session.reading_ = false;
  }
  for (const int descriptor :
       {session.process_.output, session.process_.error, session.process_.input}) {
    if (descriptor < 0) continue;
    by_descriptor_[descriptor] = one.session;
    epoll_event event{};
    event.data.fd = descriptor;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
  }
  if (doomed) live.doom = Clock::now();
  watch(live, true);
  if (ended) return settle(live);
  write_input(live);
}

// Says to the kernel what we wait for now.
void Pump::watch(Live& live, bool reading) {
  Session& session = *live.session;
  session.reading_ = reading;
  const Process& process = session.process_;
  const std::uint32_t in = reading ? static_cast<std::uint32_t>(EPOLLIN) : 0u;
  const std::uint32_t out = live.input_armed ? static_cast<std::uint32_t>(EPOLLOUT) : 0u;
  for (const int descriptor : {process.output, process.error, process.input}) {
    if (descriptor < 0) continue;
    epoll_event event{};
    event.data.fd = descriptor;
    event.events = (descriptor == process.input ? out : 0u) |
                   (descriptor == process.output || descriptor == process.error ? in : 0u);
    epoll_ctl(epoll_, EPOLL_CTL_MOD, descriptor, &event);
  }
}

void Pump::on_ready(int descriptor, std::uint32_t events) {
  if (descriptor == wake_) {
    std::uint64_t count;
    if (::read(wake_, &count, sizeof count) < 0) {
    }
    return;
  }
  const auto found = by_descriptor_.find(descriptor);
  if (found == by_descriptor_.end()) return;
  Live& live = live_.at(found->second);
  Session& session = *live.session;
  Process& process = session.process_;
  if (descriptor == process.input && descriptor != process.output && (events & EPOLLERR) != 0) {
    const std::lock_guard lock(session.mutex_);  // it reads no more
    session.input_broken_ = true;
    session.input_.clear();
    session.changed_.notify_all();
    return close(process.input);
  }
  if (descriptor == process.input && (events & EPOLLOUT) != 0) write_input(live);
  if (descriptor != process.output && descriptor != process.error) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  if (!session.reading_) {
    // Hung up while held up: what is left is read when somebody takes, or when the end is known.
    if ((events & EPOLLHUP) != 0) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
      epoll_event event{};
      event.data.fd = descriptor;
      event.events = EPOLLIN | EPOLLET;  // EPOLLHUP cannot be masked: say it once
      epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
    }
    return;
  }
  const bool terminal = session.command().terminal.has_value();
  const auto stream = terminal                       ? SessionEvent::Stream::terminal
                      : descriptor == process.output ? SessionEvent::Stream::standard_output
                                                     : SessionEvent::Stream::standard_error;
  bool more = false;
  if (!read_once(session, descriptor, stream, more)) {  // the end of it
    int& member = descriptor == process.output ? process.output : process.error;
    if (process.input == member) {
      // The terminal's one descriptor: kept for closing at the end, not listened to any more.
      epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
    } else {
      close(member);
    }
    return;
  }
  bool full;
  {
    const std::lock_guard lock(session.mutex_);
    full = session.overfull();
  }
  if (full) watch(live, false);
}

// False at the end of the stream. `more` where a whole chunk came.
bool Pump::read_once(Session& session, int descriptor, SessionEvent::Stream stream, bool& more) {
  std::array<char, kChunk> buffer;
  const ssize_t size = ::read(descriptor, buffer.data(), buffer.size());
  more = size > 0;
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  SessionEvent event;
  event.kind = SessionEvent::Kind::output;
  event.stream = stream;
  event.data.assign(buffer.data(), static_cast<std::size_t>(size));
  const std::lock_guard lock(session.mutex_);
  session.record(std::move(event));
  return true;
}

void Pump::write_input(Live& live) {
  Session& session = *live.session;
  const bool terminal = session.command().terminal.has_value();
  bool wait = false, finished = false;
  {
    const std::lock_guard lock(session.mutex_);
    const int descriptor = session.process_.input;
    if (descriptor < 0) {
      session.input_.clear();
      session.changed_.notify_all();
      return;
    }
    if (session.input_ended_ && terminal && !session.input_broken_) {
      session.input_.push_back('\4');  // a terminal's end of file is a character
      session.input_broken_ = true;    // and nothing comes after it
    }
    while (!session.input_.empty()) {
      const ssize_t size = ::write(descriptor, session.input_.data(), session.input_.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) {
        wait = true;
        break;
      }
      if (size < 0) {  // it reads no more
        session.input_broken_ = true;
        session.input_.clear();
        finished = true;
        break;
      }
      session.input_.erase(0, static_cast<std::size_t>(size));
    }
    finished = finished || (session.input_ended_ && session.input_.empty());
    session.changed_.notify_all();
  }
  if (finished && !terminal) close(session.process_.input);
  if (wait != live.input_armed) {
    live.input_armed = wait;
    watch(live, session.reading_);
  }
}

void Pump::settle(Live& live) {
  const std::shared_ptr<Session> session = live.session;
  Process& process = session->process_;
  const bool terminal = session->command().terminal.has_value();
  const std::pair<int, SessionEvent::Stream> outputs[] = {
      {process.output, terminal ? SessionEvent::Stream::terminal
                                : SessionEvent::Stream::standard_output},
      {process.error, SessionEvent::Stream::standard_error}};
  for (const auto& [descriptor, stream] : outputs) {
    bool more = descriptor >= 0;
    for (std::size_t read = 0; more && read < kDrainMax; read += kChunk) {
      if (!read_once(*session, descriptor, stream, more)) break;
    }
  }
  close_all(process);
  std::optional<ProcessEnd> end;
  std::string why;
  {
    const std::lock_guard lock(session->mutex_);
    end = session->end_;
    why = session->doomed_;
    session->pump_ = nullptr;
    process.signal = {};
    process.resize = {};
  }
  if (live.killed) {
    session->finish(SessionState::timed_out, end.value_or(ProcessEnd{0, SIGKILL}), {});
  } else if (end) {
    session->finish(SessionState::exited, *end, {});
  } else {
    session->finish(SessionState::failed, {}, {Error::Kind::failed, why});
  }
  live_.erase(session.get());
}

void Pump::close_all(Process& process) {
  // A terminal's one descriptor: closed a second time it might be somebody else's.
  if (process.input == process.output) process.input = -1;
  close(process.input);
  close(process.output);
  close(process.error);
}

void Pump::close(int& descriptor) {
  if (descriptor < 0) return;
  by_descriptor_.erase(descriptor);
  ::close(descriptor);  // which takes it out of the epoll set
  descriptor = -1;
}

void Pump::check_times() {
  const auto now = Clock::now();
  std::vector<Session*> due;
  for (auto& [session, live] : live_) {
    if (live.doom <= now) {
      due.push_back(session);
    } else if (live.limit <= now && !live.killed) {
      live.killed = true;
      live.limit = Clock::time_point::max();
      live.doom = std::min(live.doom, now + kKillPatience);
      elsewhere_([hold = live.session] { (void)hold->signal(SIGKILL); });
    }
  }
  for (Session* session : due) settle(live_.at(session));
}

int Pump::next_pause() const {
  auto next = Clock::time_point::max();
  for (const auto& [session, live] : live_) next = std::min({next, live.limit, live.doom});
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

}  // namespace chalk::agent
