// Looks after calls that go on for long. Each is asked once a second, by the clock and whatever its
// threads wait for, whether it may go on: its client may be revoked, its token over, or its first
// message may not come. One that may not is ended with a status that its client sees, and its
// threads find its reads, its writes and its channel ended.
#pragma once
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace chalk::server {

class Channel;

constexpr std::chrono::milliseconds kFirstMessageMax = std::chrono::seconds(20);  // a client's

class CallWatch {
 public:
  using Clock = std::chrono::steady_clock;
  // Not OK: with what the call is to end. Runs on the watch's thread and must not wait.
  using MayGoOn = std::function<grpc::Status()>;

  explicit CallWatch(std::chrono::milliseconds every = std::chrono::seconds(1))
      : every_(every), thread_([this] { run(); }) {}
  ~CallWatch();
  CallWatch(const CallWatch&) = delete;
  CallWatch& operator=(const CallWatch&) = delete;

 private:
  struct Entry {
    std::mutex mutex;
    grpc::ServerContextBase* context = nullptr;  // none: over
    MayGoOn may_go_on;
    std::optional<Clock::time_point> first_until;
    std::shared_ptr<Channel> channel;
  };
  using Entries = std::list<std::shared_ptr<Entry>>;

 public:
  // As long as it lives the call is looked after; it must die before the call's handler returns.
  class Watched {
   public:
    Watched(CallWatch& watch, grpc::ServerContextBase& context, MayGoOn may_go_on);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

    // The client's first message is there within that time, or the call ends as DEADLINE_EXCEEDED.
    void expect_first(std::chrono::milliseconds patience);
    void first_came();
    // To be closed with the call: a send to a node that takes nothing then ends too.
    void closes(std::shared_ptr<Channel> channel);

   private:
    CallWatch& watch_;
    Entries::iterator entry_;
  };

 private:
  void run();
  static void look(Entry& entry);

  const std::chrono::milliseconds every_;
  std::mutex mutex_;  // before an entry's, where both are held
  std::condition_variable stopped_;
  Entries entries_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace chalk::server
