// One process that a client started in a sandbox, and the record of what it wrote and how it ended.
//
// Every event has a number, from 1 upward without gaps. A client takes them in order; when its
// stream breaks it attaches again and takes them from where it was. What has been taken is kept as
// far as it fits, what nobody has taken is never dropped: when too much of that waits the process is
// held up by its own full pipes. One client at a time: who attaches last has it.
// Thread safe. All reading and writing of descriptors is done by the Pump.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "adapters/agent/process.h"

namespace chalk::agent {

class Pump;

struct SessionEvent {
  enum class Kind : std::uint8_t { attached, output, exited, failed, timed_out };
  enum class Stream : std::uint8_t { standard_output = 1, standard_error = 2, terminal = 3 };
  std::uint64_t number = 0;
  Kind kind = Kind::attached;
  Stream stream = Stream::standard_output;
  std::string data;  // output, or why it failed
  Error::Kind why = Error::Kind::failed;  // failed
  ProcessEnd end;                         // exited and timed_out
};

enum class SessionState : std::uint8_t { running, exited, failed, timed_out };

class Session {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kInputBytesMax = 1u << 20;  // that wait for the process

  Session(std::string id, SandboxId sandbox, Command command, std::size_t record_bytes_max);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::string& id() const { return id_; }
  SandboxId sandbox() const { return sandbox_; }
  const Command& command() const { return command_; }
  struct Status {
    SessionState state = SessionState::running;
    ProcessEnd end;
  };
  Status status() const;

  // ---- the client's side
  std::uint64_t attach();  // a ticket; the one before is displaced
  void detach(std::uint64_t ticket);
  enum class Next : std::uint8_t {
    event,
    timeout,
    displaced,  // somebody else attached, or this one was detached
    gap,        // event after + 1 is not kept any more; `event.number` is the first that is
    over        // the last event was taken before
  };
  // The event after number `after`; waits for it.
  Next next(std::uint64_t ticket, std::uint64_t after, std::chrono::milliseconds timeout,
            SessionEvent& event);

  // Waits while too much waits for the process, and asks now and then whether to give up. False when
  // it has ended, does not read any more, or the ticket is no longer good.
  bool write(std::uint64_t ticket, const std::string& data,
             const std::function<bool()>& give_up = {});
  void end_input();
  Result<void> signal(int number);
  Result<void> resize(Window window);

 private:
  friend class Pump;
  friend class Sessions;

  void record(SessionEvent event);  // with mutex_
  void trim();                      // with mutex_
  bool overfull() const;            // with mutex_: the process must wait
  bool finish(SessionState state, ProcessEnd end, Error why);

  const std::string id_;
  const SandboxId sandbox_;
  const Command command_;
  const std::size_t record_bytes_max_;
  Pump* pump_ = nullptr;  // once it runs; outlives it

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SessionEvent> events_;
  std::size_t bytes_ = 0;          // of events_
  std::size_t untaken_bytes_ = 0;  // of those after taken_
  std::uint64_t last_ = 0;
  std::uint64_t taken_ = 0;
  std::uint64_t ticket_ = 0;
  Status status_;
  bool over_ = false;
  Clock::time_point ended_at_;
  std::string input_;  // not written yet
  bool input_ended_ = false;
  bool input_broken_ = false;
  std::optional<ProcessEnd> end_;  // said by the runtime
  std::string doomed_;  // why it will be declared failed; empty: it will not
  Process process_;     // descriptors are touched by the pump's thread only
  bool reading_ = true;
};

}  // namespace chalk::agent
