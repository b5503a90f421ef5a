// Runs one root machine in the real world: an inbox, one thread that steps, a log, timers.
//
// Any thread posts events. The stepping thread takes what has come in, appends it to the log as one
// batch and one sync (group commit), then steps the machine and hands its effects, in order, to the
// interpreter. So an effect leaves only after its event is on disk, and who was answered is
// remembered. A restart rebuilds the State from snapshot and log: the observer sees every record
// again, the interpreter none; what had not been answered is asked again by links, clients and a
// Resumed event. A timer that is due is stepped after what had come in by then: who was stopped, or
// waited for its disk, hears first what was said meanwhile, and then finds out who was silent.
// Invariant: State is a function of Config and log. The digest of each step is kept with the log,
// so a program that decides differently is found at its start, not later.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "adapters/log/event_log.h"
#include "adapters/runtime/logged.h"
#include "model/core/codec.h"
#include "model/core/digest.h"
#include "model/core/machine.h"
#include "model/protocol/log_record.h"

namespace chalk::runtime {

// For how long somebody waits to see the machine: its disk may stand still for ever.
constexpr std::chrono::milliseconds kLookPatience = std::chrono::seconds(5);

struct DriverOptions {
  Root root = Root::control;
  std::size_t inbox_max = 100'000;            // events that wait; more are refused
  std::size_t batch_max = 1'024;              // events in one sync
  std::uint64_t snapshot_every = 100'000;     // events
  std::uint64_t records_kept = 5'000'000;     // before a snapshot; older ones are trimmed
  std::chrono::milliseconds retry{1'000};     // after a disk that failed
  std::function<void(const std::string&)> failed;  // told of each failure of the log
  // Makes durable what an observer keeps of the records so far; false: it could not, and there is
  // no snapshot now, since a recovery shows the observer only what comes after the snapshot.
  std::function<bool()> flush_view;
  // The time, and how much of it goes by; tests have their own.
  std::function<std::chrono::nanoseconds()> wall = [] {
    return std::chrono::system_clock::now().time_since_epoch();
  };
  std::function<std::chrono::nanoseconds()> steady = [] {
    return std::chrono::steady_clock::now().time_since_epoch();
  };
  // After each batch: how many events, and how long the disk and the steps took, in seconds.
  std::function<void(std::size_t events, double append_s, double step_s)> measured;
};

template <class M>
class Driver {
 public:
  using Event = typename M::Event;
  using Effect = typename M::Effect;
  using Effects = std::vector<Effect>;
  // Both on the stepping thread, in the order of the log. They must not wait for the driver.
  using Interpret = std::function<void(std::uint64_t index, Time now, const Effect& effect)>;
  using Observe = std::function<void(std::uint64_t index, Time now, const Event& event,
                                     const Effects& effects)>;

  // Before another Config takes over what was made under the one that the log has: throws where the
  // two do not go together. Nothing is written then.
  using Reconfigure = std::function<void(const typename M::Config& was, const M& machine)>;

  // Recovers the State from the log. Throws LogError where it cannot.
  Driver(typename M::Config config, log::EventLog& log, Interpret interpret, Observe observe = {},
         DriverOptions options = {}, const Reconfigure& reconfigure = {})
      : log_(log),
        interpret_(std::move(interpret)),
        observe_(std::move(observe)),
        options_(std::move(options)),
        config_(std::move(config)),
        machine_(recover(reconfigure)) {}
  ~Driver() { stop(); }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  void start() {
    thread_ = std::thread([this] { loop(); });
  }
  // Takes what is in the inbox, then ends.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    came_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  // False when the inbox is full or the driver has stopped: the event was not taken. What is posted
  // before start() is stepped before anything else, timers that came due meanwhile among it.
  bool post(Event event) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || fenced_ || inbox_.size() >= options_.inbox_max) return false;
      inbox_.push_back(std::move(event));
    }
    came_.notify_one();
    return true;
  }
  // From the observer, that is the stepping thread, while it runs: what a step has led to. It is
  // taken by an inbox that is full, too, and stop() ends only after it is stepped.
  void follow(Event event) {
    const std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(event));
  }
  // Runs `look` with the machine between two steps and waits for it. False when the driver has
  // stopped, or did not come to it in that time, since the disk stands still: then `look` is never
  // run. Not from the stepping thread.
  bool look(const std::function<void(const M&)>& look,
            std::chrono::milliseconds patience = kLookPatience) {
    Look mine{std::packaged_task<void(const M&)>(look), std::make_shared<std::atomic<bool>>(false)};
    std::future<void> done = mine.task.get_future();
    const std::shared_ptr<std::atomic<bool>> claimed = mine.claimed;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || fenced_) return false;
      looks_.push_back(std::move(mine));
    }
    came_.notify_one();
    if (done.wait_for(patience) != std::future_status::ready && !claimed->exchange(true)) {
      const std::lock_guard lock(mutex_);
      std::erase_if(looks_, [&](const Look& one) { return one.claimed == claimed; });
      return false;
    }
    try {
      done.get();
      return true;
    } catch (const std::future_error&) {
      return false;
    }
  }
  // For how long the log has been taking a write that is not done yet; zero: it writes nothing.
  std::chrono::nanoseconds writing_for() const {
    const std::int64_t since = writing_since_;
    if (since == 0) return {};
    return std::chrono::steady_clock::now().time_since_epoch() - std::chrono::nanoseconds(since);
  }
  std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return inbox_.size();
  }
  // Another process writes the log now: this one has ended for good.
  bool fenced() const {
    const std::lock_guard lock(mutex_);
    return fenced_;
  }

  // Before start() and after stop() only.
  const M& machine() const { return machine_; }
  std::uint64_t running_digest() const { return running_.value(); }
  bool recovered() const { return recovered_; }  // there was a log

 private:
  using Record = Logged<M>;
  using Happened = logged::Happened<M>;
  using Configured = logged::Configured<M>;
  struct Look {
    std::packaged_task<void(const M&)> task;
    std::shared_ptr<std::atomic<bool>> claimed;  // by who runs it, or by its asker, who gave up
  };
  // As long as it lives the log takes a write.
  class Writing {
   public:
    explicit Writing(std::atomic<std::int64_t>& since) : since_(since) {
      since_ = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    }
    ~Writing() { since_ = 0; }
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

   private:
    std::atomic<std::int64_t>& since_;
  };

  M recover(const Reconfigure& reconfigure) {
    std::optional<M> machine;
    std::uint64_t from = log_.first();
    if (const auto snapshot = log_.newest_snapshot()) {
      logged::Kept<M> kept;
      if (!decode(snapshot->bytes, kept)) {
        throw log::LogError(log::LogError::Kind::format, "the snapshot before record " +
                                                             std::to_string(snapshot->index) +
                                                             " is not of this machine");
      }
      machine.emplace(kept.config, std::move(kept.state));
      logged_config_ = std::move(kept.config);
      last_ = kept.at;
      wake_ = kept.wake;
      running_ = Digest(kept.running);
      from = snapshot->index;
    } else if (from != 1) {
      throw log::LogError(
          log::LogError::Kind::format,
          "the log begins at record " + std::to_string(from) + " and there is no snapshot");
    }
    recovered_ = machine.has_value() || log_.next() != from;
    // Not from here on: a process that never lives for so many would never keep one, nor trim.
    snapshot_at_ = from + options_.snapshot_every;
    replay(machine, from);
    if (!machine || logged_config_ != config_) {
      if (machine && reconfigure) reconfigure(logged_config_, *machine);
      append_config(machine);
    }
    told_ = last_;
    told_at_ = options_.steady();
    return std::move(*machine);
  }

  void replay(std::optional<M>& machine, std::uint64_t from) {
    std::map<std::uint64_t, std::uint32_t> wanted;
    log_.read_digests(from, [&](std::uint64_t index, std::uint32_t d) { wanted[index] = d; });
    log_.read(from, [&](std::uint64_t index, std::string_view bytes) {
      Record record;
      if (!decode(bytes, record)) {
        throw log::LogError(log::LogError::Kind::format,
                            "record " + std::to_string(index) + " is not of this machine");
      }
      if (auto* configured = std::get_if<Configured>(&record)) {
        configure(machine, std::move(configured->config));
      } else if (machine) {
        take(*machine, index, std::get<Happened>(record), nullptr);
      } else {
        throw log::LogError(log::LogError::Kind::format,
                            "record " + std::to_string(index) + " comes before a configuration");
      }
      const auto found = wanted.find(index);
      if (found != wanted.end() && found->second != low()) {
        throw log::LogError(log::LogError::Kind::format,
                            "record " + std::to_string(index) +
                                " was decided differently when it was logged: open the log with "
                                "the Chalk that wrote it");
      }
      if (found == wanted.end()) digests_.push_back(low());  // appended and never answered for
    });
  }

  void configure(std::optional<M>& machine, typename M::Config config) {
    if (machine) {
      typename M::State state = machine->state();
      machine.emplace(config, std::move(state));
    } else {
      machine.emplace(config);
    }
    running_.add(config);
    logged_config_ = std::move(config);
  }

  void append_config(std::optional<M>& machine) {
    log_.append(log_.next(), std::vector{encode(Record{Configured{config_}})}, digests_);
    digests_.clear();
    configure(machine, config_);
    digests_.push_back(low());
  }

  std::uint32_t low() const { return static_cast<std::uint32_t>(running_.value()); }

  void take(M& machine, std::uint64_t index, const Happened& record, const Interpret* interpret) {
    effects_.clear();
    last_ = record.at;
    // What was stepped before it may have put the wake-up off: then that one is still to come.
    if (std::holds_alternative<Woken>(record.event) && wake_ <= record.at) wake_ = kNever;
    machine.step(record.at, record.event, effects_);
    add_step(running_, options_.root, 0, record.at, record.event, effects_);
    if (observe_) observe_(index, record.at, record.event, effects_);
    for (const Effect& effect : effects_) {
      if (const auto* wake = std::get_if<WakeAt>(&effect)) {
        wake_ = wake->at;
      } else if (interpret != nullptr) {
        (*interpret)(index, record.at, effect);
      }
    }
  }

  // The wall clock, which never goes back here. While it is behind what a machine has seen, since
  // it was set ahead and then right, time goes on from there as the steady clock does: it must not
  // stand still, over restarts too, until the wall has caught up.
  Time clock() {
    const std::chrono::nanoseconds steady = options_.steady();
    const Time gone_on = told_ + Duration{(steady - told_at_).count()};
    told_ = std::max(gone_on, Time{options_.wall().count()});
    told_at_ = steady;
    return told_;
  }

  void loop() {
    std::vector<Record> batch;
    std::vector<std::string> bytes;
    std::vector<Look> looks;
    while (gather(batch, looks)) {
      if (!batch.empty()) {
        const auto began = std::chrono::steady_clock::now();
        bytes.clear();
        for (const Record& record : batch) bytes.push_back(encode(record));
        if (!append(bytes)) break;
        const auto appended = std::chrono::steady_clock::now();
        std::uint64_t index = log_.next() - batch.size();
        for (const Record& record : batch) {
          take(machine_, index++, std::get<Happened>(record), &interpret_);
          digests_.push_back(low());
        }
        if (options_.measured) {
          const auto ended = std::chrono::steady_clock::now();
          options_.measured(batch.size(), std::chrono::duration<double>(appended - began).count(),
                            std::chrono::duration<double>(ended - appended).count());
        }
        if (log_.next() >= snapshot_at_) keep_snapshot();
      }
      for (Look& look : looks) {
        if (!look.claimed->exchange(true)) look.task(machine_);
      }
      looks.clear();
    }
    close();
  }

  // What has come in since the last time, stamped with the time; false at the end.
  bool gather(std::vector<Record>& batch, std::vector<Look>& looks) {
    batch.clear();
    std::unique_lock lock(mutex_);
    while (inbox_.empty() && looks_.empty() && !stopping_ && clock() < wake_) {
      if (wake_ == kNever) {
        came_.wait(lock);
      } else {
        came_.wait_for(lock, std::chrono::nanoseconds(std::min((wake_ - clock()).nanos, kNap)));
      }
    }
    const Time now = clock();
    if (wake_ > now) {
      before_wake_.reset();
    } else if (!before_wake_) {
      before_wake_ = inbox_.size();
    }
    const std::size_t count = std::min(inbox_.size(), options_.batch_max);
    for (std::size_t i = 0; i < count; ++i) batch.push_back(Happened{now, std::move(inbox_[i])});
    inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<std::ptrdiff_t>(count));
    if (before_wake_) *before_wake_ -= std::min(*before_wake_, count);
    if (before_wake_ == 0 && !stopping_) {
      batch.push_back(Happened{now, Event{Woken{}}});
      before_wake_.reset();
    }
    looks.swap(looks_);
    return !batch.empty() || !looks.empty();
  }

  // A disk that is full may have room again; a log that somebody else writes is lost for us.
  bool append(const std::vector<std::string>& bytes) {
    const Writing writing(writing_since_);
    while (true) {
      try {
        log_.append(log_.next(), bytes, digests_);
        digests_.clear();
        return true;
      } catch (const log::LogError& error) {
        if (options_.failed) options_.failed(error.what());
        std::unique_lock lock(mutex_);
        fenced_ = error.kind() != log::LogError::Kind::disk;
        if (fenced_ || stopping_) return false;  // nobody was answered
        came_.wait_for(lock, options_.retry, [this] { return stopping_; });
      }
    }
  }

  void keep_snapshot() {
    if (options_.flush_view && !options_.flush_view()) {
      snapshot_at_ = log_.next() + std::max<std::uint64_t>(1, options_.snapshot_every / 10);
      return;
    }
    const std::string kept = encode(
        logged::Kept<M>{last_, running_.raw(), wake_, logged_config_, machine_.state()});
    const Writing writing(writing_since_);
    try {
      log_.put_snapshot(log_.next(), kept);
      log_.trim(log_.next() > options_.records_kept ? log_.next() - options_.records_kept : 1);
      snapshot_at_ = log_.next() + options_.snapshot_every;
    } catch (const log::LogError& error) {  // the log itself is enough; tried again later
      if (options_.failed) options_.failed(error.what());
      snapshot_at_ = log_.next() + std::max<std::uint64_t>(1, options_.snapshot_every / 10);
    }
  }

  // Whoever waits is let go, and what was decided last is kept with the log.
  void close() {
    std::vector<Look> looks;
    {
      const std::lock_guard lock(mutex_);
      looks.swap(looks_);
    }
    if (fenced()) return;
    try {
      log_.put_digests(log_.next(), digests_);
      digests_.clear();
    } catch (const log::LogError& error) {
      if (options_.failed) options_.failed(error.what());
    }
  }

  static constexpr std::int64_t kNap =
      1'000'000'000;  // a wall clock that is set does not strand us

  log::EventLog& log_;
  Interpret interpret_;
  Observe observe_;
  DriverOptions options_;
  typename M::Config config_;
  typename M::Config logged_config_;
  Effects effects_;
  Digest running_;
  std::vector<std::uint32_t> digests_;  // of records that are in the log without theirs
  Time last_;  // of the newest record
  Time told_;  // by the clock, when the steady one stood at:
  std::chrono::nanoseconds told_at_{};
  Time wake_ = kNever;
  std::optional<std::size_t> before_wake_;  // a timer is due: so many had come in by then
  std::uint64_t snapshot_at_ = 0;
  bool recovered_ = false;
  std::atomic<std::int64_t> writing_since_ = 0;  // by the steady clock; 0: nothing is written
  M machine_;  // after what recover() writes

  mutable std::mutex mutex_;
  std::condition_variable came_;
  std::vector<Event> inbox_;
  std::vector<Look> looks_;
  bool stopping_ = false;
  bool fenced_ = false;
  std::thread thread_;
};

}  // namespace chalk::runtime
