// The one thread that moves bytes between sessions and their processes: reads what they write into
// the session's record, writes what the client sent, enforces time limits, and closes descriptors.
// A session that has too much untaken output is not read until somebody takes some.
#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "adapters/agent/session.h"

namespace chalk::agent {

class Pump {
 public:
  using Clock = std::chrono::steady_clock;

  // `elsewhere` runs what may block, on a thread that is not the pump's. Throws std::runtime_error
  // where the kernel refuses.
  explicit Pump(std::function<void(std::function<void()>)> elsewhere);
  ~Pump();  // closes what is open; ends no process
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  // Takes the process over. `timeout` from now: then it is killed; 0 for none.
  void add(std::shared_ptr<Session> session, Process process, std::chrono::milliseconds timeout);
  void ended(const std::shared_ptr<Session>& session, ProcessEnd end);
  // Declares it failed unless it has ended by itself within `patience`.
  void doom(const std::shared_ptr<Session>& session, std::string why,
            std::chrono::milliseconds patience);
  void resume(Session& session);
  void feed(Session& session);

 private:
  struct Live {
    std::shared_ptr<Session> session;
    Clock::time_point limit = Clock::time_point::max();
    Clock::time_point doom = Clock::time_point::max();
    bool killed = false;
    bool input_armed = false;
  };
  enum class Order : std::uint8_t { add, ended, doom, resume, feed };
  struct Ask {
    Order order{};
    Session* session = nullptr;
    std::shared_ptr<Session> hold = {};
    std::chrono::milliseconds time{};
  };

  void ask(Ask one);
  void run();
  void obey(Ask& one);
  void on_add(Ask& one);
  void on_ready(int descriptor, std::uint32_t events);
  bool read_once(Session& session, int descriptor, SessionEvent::Stream stream, bool& more);
  void write_input(Live& live);
  void watch(Live& live, bool reading);
  void settle(Live& live);  // it has ended, or is declared so
  void close_all(Process& process);
  void close(int& descriptor);
  void check_times();
  int next_pause() const;

  const std::function<void(std::function<void()>)> elsewhere_;
  int epoll_ = -1;
  int wake_ = -1;
  std::map<Session*, Live> live_;          // the pump's thread only
  std::map<int, Session*> by_descriptor_;  // likewise
  std::mutex mutex_;
  std::vector<Ask> asks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace chalk::agent
