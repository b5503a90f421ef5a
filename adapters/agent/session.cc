#include "adapters/agent/session.h"

#include <algorithm>

#include "adapters/agent/pump.h"

namespace chalk::agent {
namespace {

constexpr std::size_t kEventBytes = 96;  // what one costs beyond its data
constexpr auto kGiveUpPause = std::chrono::milliseconds(200);

std::size_t cost(const SessionEvent& event) { return event.data.size() + kEventBytes; }

}  // namespace

Session::Session(std::string id, SandboxId sandbox, Command command, std::size_t record_bytes_max)
    : id_(std::move(id)),
      sandbox_(sandbox),
      command_(std::move(command)),
      record_bytes_max_(record_bytes_max) {}
Session::~Session() = default;

Session::Status Session::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::uint64_t Session::attach() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
  return ++ticket_;
}

void Session::detach(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  if (ticket_ == ticket) ++ticket_;
  changed_.notify_all();
}

Session::Next Session::next(std::uint64_t ticket, std::uint64_t after,
                            std::chrono::milliseconds timeout, SessionEvent& event) {
  const auto until = Clock::now() + timeout;
  std::unique_lock lock(mutex_);
  const bool came = changed_.wait_until(
      lock, until, [&] { return ticket_ != ticket || last_ > after || over_; });
  if (ticket_ != ticket) return Next::displaced;
  if (!came) return Next::timeout;
  if (after >= last_) return Next::over;
  const std::uint64_t first = last_ - events_.size() + 1;
  if (after + 1 < first) {
    event.number = first;
    return Next::gap;
  }
  event = events_[after + 1 - first];
  if (event.number > taken_) {
    taken_ = event.number;
    const bool was = overfull();
    untaken_bytes_ -= cost(event);
    trim();
    if (was && !overfull() && pump_ != nullptr) pump_->resume(*this);
  }
  return Next::event;
}

bool Session::write(std::uint64_t ticket, const std::string& data,
                    const std::function<bool()>& give_up) {
  std::unique_lock lock(mutex_);
  const auto go_on = [&] {
    return over_ || input_broken_ || ticket_ != ticket || input_.size() < kInputBytesMax;
  };
  while (!changed_.wait_for(lock, kGiveUpPause, go_on)) {
    if (give_up && give_up()) return false;
  }
  if (over_ || input_broken_ || input_ended_ || ticket_ != ticket) return false;
  input_ += data;
  if (pump_ != nullptr) pump_->feed(*this);
  return true;
}

void Session::end_input() {
  const std::lock_guard lock(mutex_);
  input_ended_ = true;
  if (pump_ != nullptr) pump_->feed(*this);
}

Result<void> Session::signal(int number) {
  std::function<Result<void>(int)> send;
  {
    const std::lock_guard lock(mutex_);
    if (over_ || end_) return fail(Error::Kind::not_found, "session " + id_ + ": has ended");
    send = process_.signal;
  }
  if (!send) return fail(Error::Kind::unavailable, "session " + id_ + ": has not started yet");
  return send(number);
}

Result<void> Session::resize(Window window) {
  if (!command_.terminal) return fail(Error::Kind::invalid, "session " + id_ + ": no terminal");
  std::function<Result<void>(Window)> resize;
  {
    const std::lock_guard lock(mutex_);
    if (over_ || end_) return fail(Error::Kind::not_found, "session " + id_ + ": has ended");
    resize = process_.resize;
  }
  if (!resize) return fail(Error::Kind::unavailable, "session " + id_ + ": has not started yet");
  return resize(window);
}

void Session::record(SessionEvent event) {
  event.number = ++last_;
  bytes_ += cost(event);
  untaken_bytes_ += cost(event);
  events_.push_back(std::move(event));
  trim();
  changed_.notify_all();
}

void Session::trim() {
  while (bytes_ > record_bytes_max_ && events_.size() > 1 && events_.front().number <= taken_) {
    bytes_ -= cost(events_.front());
    events_.pop_front();
  }
}

bool Session::overfull() const { return untaken_bytes_ >= record_bytes_max_; }

// The first end counts; the last event.
bool Session::finish(SessionState state, ProcessEnd end, Error why) {
  const std::lock_guard lock(mutex_);
  if (over_) return false;
  SessionEvent last;
  last.kind = state == SessionState::exited   ? SessionEvent::Kind::exited
              : state == SessionState::failed ? SessionEvent::Kind::failed
                                              : SessionEvent::Kind::timed_out;
  last.data = std::move(why.message);
  last.why = why.kind;
  last.end = end;
  status_ = {state, end};
  over_ = true;
  ended_at_ = Clock::now();
  input_.clear();
  record(std::move(last));
  return true;
}

}  // namespace chalk::agent
