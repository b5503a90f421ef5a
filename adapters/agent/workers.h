// A fixed number of threads that do what may block, in the order it was asked for.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace chalk::agent {

class Workers {
 public:
  explicit Workers(std::size_t threads);
  ~Workers();  // what was asked for is done first
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void run(std::function<void()> work);  // after stop: it is dropped
  void stop();                           // idempotent
  std::size_t waiting() const;

 private:
  void loop();

  mutable std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> line_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace chalk::agent
