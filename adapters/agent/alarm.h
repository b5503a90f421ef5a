// One thread that does short things at their time. What it is given must not block.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace chalk::agent {

class Alarm {
 public:
  using Clock = std::chrono::steady_clock;

  Alarm();
  ~Alarm();  // what is not due yet is dropped
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  void at(Clock::time_point time, std::function<void()> work);
  void after(std::chrono::nanoseconds pause, std::function<void()> work) {
    at(Clock::now() + std::chrono::duration_cast<Clock::duration>(pause), std::move(work));
  }
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace chalk::agent
