// Signals as calls of a function, on a thread of their own. They are blocked from construction to
// the end of the process, so construct it before other threads begin.
#pragma once
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

namespace chalk::cli {

inline bool ends_us(int signal) {
  return signal == SIGINT || signal == SIGTERM || signal == SIGHUP;
}

class Signals {
 public:
  using Handler = std::function<void(int signal)>;

  Signals();  // INT, TERM, HUP, QUIT, USR1, USR2, WINCH
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // When this returns, the handler before is not running any more.
  void handle(Handler handler);

 private:
  std::mutex mutex_;
  Handler handler_;
  int signals_ = -1, wake_ = -1;
  std::thread thread_;
};

}  // namespace chalk::cli
