#include "adapters/agent/alarm.h"

namespace chalk::agent {

Alarm::Alarm() : thread_([this] { run(); }) {}
Alarm::~Alarm() { stop(); }

void Alarm::at(Clock::time_point time, std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  waiting_.emplace(time, std::move(work));
  changed_.notify_all();
}

void Alarm::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Alarm::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = waiting_.begin();
    if (first->first > Clock::now()) {
      changed_.wait_until(lock, first->first);
      continue;
    }
    const auto work = std::move(first->second);
    waiting_.erase(first);
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace chalk::agent
