// Runs one root machine in the real world: an inbox, one thread that steps, a log, timers.
//
// Any thread posts events. The stepping thread takes what has come in, appends it to the log as one
// batch and one sync (group commit), then steps the machine and hands its effects, in order, to the
// interpreter. So an effect leaves only after its event is on disk, and who was answered is
// remembered. A restart rebuilds the State from snapshot and log, with the effects dropped: what
// had not been answered is asked again by links and clients, which repeat themselves. Invariant:
// State is a function of Config and log; the digest over both is the simulator's.
#pragma once
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "adapters/log/event_log.h"
#include "model/core/codec.h"
#include "model/core/digest.h"
#include "model/core/machine.h"

namespace chalk::runtime {

struct DriverOptions {
  std::size_t inbox_max = 100'000;                 // events that wait; more are refused
  std::size_t batch_max = 1'024;                   // events in one sync
  std::uint64_t snapshot_every = 100'000;          // events; the log before a snapshot is trimmed
  std::chrono::milliseconds retry{1'000};          // after a disk that failed
  std::function<void(const std::string&)> failed;  // told of each failure of the log
};

template <class M>
class Driver {
 public:
  using Event = typename M::Event;
  using Effect = typename M::Effect;
  // On the stepping thread, in the order of the log. It must not wait for the driver.
  using Interpret = std::function<void(std::uint64_t index, Time now, const Effect& effect)>;

  // Recovers the State from the log. Throws LogError where it cannot.
  Driver(typename M::Config config, log::EventLog& log, Interpret interpret,
         DriverOptions options = {})
      : log_(log),
        interpret_(std::move(interpret)),
        options_(std::move(options)),
        machine_(recover(config)) {}
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
  // False when the inbox is full or the driver has stopped: the event was not taken.
  bool post(Event event) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || fenced_ || inbox_.size() >= options_.inbox_max) return false;
      inbox_.push_back(std::move(event));
    }
    came_.notify_one();
    return true;
  }
  // Another process writes the log now: this one has ended for good.
  bool fenced() const {
    const std::lock_guard lock(mutex_);
    return fenced_;
  }

  // Before start() and after stop() only.
  const M& machine() const { return machine_; }
  std::uint64_t running_digest() const { return running_.value(); }

 private:
  struct Logged {  // a record
    Time at;
    Event event;
    CHALK_FIELDS(Logged, at, event)
  };
  struct Kept {  // a snapshot
    Time at;
    std::uint64_t running = 0;
    Time wake = kNever;
    typename M::State state;
    CHALK_FIELDS(Kept, at, running, wake, state)
  };

  M recover(const typename M::Config& config) {
    typename M::State state{};
    std::uint64_t from = log_.first();
    if (const auto snapshot = log_.newest_snapshot()) {
      Kept kept;
      if (!decode(snapshot->bytes, kept)) {
        throw log::LogError(log::LogError::Kind::format, "the snapshot before record " +
                                                             std::to_string(snapshot->index) +
                                                             " is not of this machine");
      }
      state = std::move(kept.state);
      last_ = kept.at;
      wake_ = kept.wake;
      running_ = Digest(kept.running);
      from = snapshot->index;
    } else if (from != 1) {
      throw log::LogError(
          log::LogError::Kind::format,
          "the log begins at record " + std::to_string(from) + " and there is no snapshot");
    }
    M machine(config, std::move(state));
    log_.read(from, [&](std::uint64_t index, std::string_view bytes) {
      Logged record;
      if (!decode(bytes, record)) {
        throw log::LogError(log::LogError::Kind::format,
                            "record " + std::to_string(index) + " is not an event of this machine");
      }
      take(machine, index, record, nullptr);
    });
    snapshot_at_ = log_.next() + options_.snapshot_every;
    return machine;
  }

  void take(M& machine, std::uint64_t index, const Logged& record, const Interpret* interpret) {
    effects_.clear();
    last_ = record.at;
    if (std::holds_alternative<Woken>(record.event)) wake_ = kNever;
    machine.step(record.at, record.event, effects_);
    running_.add(record.at.nanos);
    running_.add(record.event);
    running_.add_word(effects_.size());
    for (const Effect& effect : effects_) {
      running_.add(effect);
      if (const auto* wake = std::get_if<WakeAt>(&effect)) {
        wake_ = wake->at;
      } else if (interpret != nullptr) {
        (*interpret)(index, record.at, effect);
      }
    }
  }

  // The wall clock, which never goes back here: a machine sees time stand still until it has caught
  // up with what it has seen.
  Time clock() const {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    return std::max(last_,
                    Time{std::chrono::duration_cast<std::chrono::nanoseconds>(wall).count()});
  }

  void loop() {
    std::vector<Logged> batch;
    std::vector<std::string> bytes;
    while (gather(batch)) {
      bytes.clear();
      for (const Logged& record : batch) bytes.push_back(encode(record));
      if (!append(bytes)) return;
      std::uint64_t index = log_.next() - batch.size();
      for (const Logged& record : batch) take(machine_, index++, record, &interpret_);
      if (log_.next() >= snapshot_at_) keep_snapshot();
    }
  }

  // What has come in since the last time, stamped with the time; false at the end.
  bool gather(std::vector<Logged>& batch) {
    batch.clear();
    std::unique_lock lock(mutex_);
    while (inbox_.empty() && !stopping_ && clock() < wake_) {
      if (wake_ == kNever) {
        came_.wait(lock);
      } else {
        came_.wait_for(lock, std::chrono::nanoseconds(std::min((wake_ - clock()).nanos, kNap)));
      }
    }
    const Time now = clock();
    if (wake_ <= now && !stopping_) batch.push_back({now, Event{Woken{}}});
    const std::size_t count = std::min(inbox_.size(), options_.batch_max);
    for (std::size_t i = 0; i < count; ++i) batch.push_back({now, std::move(inbox_[i])});
    inbox_.erase(inbox_.begin(), inbox_.begin() + static_cast<std::ptrdiff_t>(count));
    return !batch.empty();
  }

  // A disk that is full may have room again; a log that somebody else writes is lost for us.
  bool append(const std::vector<std::string>& bytes) {
    while (true) {
      try {
        log_.append(log_.next(), bytes);
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
    try {
      log_.put_snapshot(log_.next(), encode(Kept{last_, running_.raw(), wake_, machine_.state()}));
      log_.trim(log_.next());
      snapshot_at_ = log_.next() + options_.snapshot_every;
    } catch (const log::LogError& error) {  // the log itself is enough; tried again later
      if (options_.failed) options_.failed(error.what());
      snapshot_at_ = log_.next() + std::max<std::uint64_t>(1, options_.snapshot_every / 10);
    }
  }

  static constexpr std::int64_t kNap =
      1'000'000'000;  // a wall clock that is set does not strand us

  log::EventLog& log_;
  Interpret interpret_;
  DriverOptions options_;
  std::vector<Effect> effects_;
  Digest running_;
  Time last_;
  Time wake_ = kNever;
  std::uint64_t snapshot_at_ = 0;
  M machine_;  // after what recover() writes

  mutable std::mutex mutex_;
  std::condition_variable came_;
  std::vector<Event> inbox_;
  bool stopping_ = false;
  bool fenced_ = false;
  std::thread thread_;
};

}  // namespace chalk::runtime
