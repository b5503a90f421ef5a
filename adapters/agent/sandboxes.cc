// What is done to sandboxes, but for their start.
#include "adapters/agent/sandboxes.h"

#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>

#include "adapters/agent/live_sandbox.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kAcceptedMax = 10'000;
constexpr auto kRemovePause = 1s;  // before what is not gone is killed again

}  // namespace

std::int64_t wall_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// As clients see it. All have one length: runsc takes an id that begins another one for ambiguous.
std::string name_of(SandboxId sandbox) {
  char text[24];
  std::snprintf(text, sizeof text, "sb-%016llx", static_cast<unsigned long long>(sandbox.value));
  return text;
}

SandboxId sandbox_of(const std::string& name) {
  SandboxId sandbox;
  if (name.size() != 19 || !name.starts_with("sb-")) return {};
  const auto read = std::from_chars(name.data() + 3, name.data() + name.size(), sandbox.value, 16);
  const bool whole = read.ec == std::errc{} && read.ptr == name.data() + name.size();
  return whole ? sandbox : SandboxId{};
}

Sandboxes::Sandboxes(const Options& options, Parts parts, Post post)
    : options_(options),
      parts_(parts),
      post_(std::move(post)),
      enders_(static_cast<std::size_t>(std::clamp(options.start_slots, 2, 16))),
      retriers_(1),
      workers_(static_cast<std::size_t>(std::clamp(options.start_slots, 1, 32))) {}
Sandboxes::~Sandboxes() { stop(); }

void Sandboxes::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  workers_.stop();
  enders_.stop();
  retriers_.stop();
}

Sandboxes::Hold Sandboxes::find(SandboxId sandbox) const {
  const auto found = live_.find(sandbox);
  return found == live_.end() ? Hold{} : found->second;
}

// The same sandbox may have been ordered here again since: that is another life.
bool Sandboxes::lives(const Hold& live) const {
  return !live->end && find(live->order.sandbox) == live;
}

Ended Sandboxes::ender(const Hold& live) {
  return [this, weak = std::weak_ptr(live)](MainEnd end) {
    if (const Hold live = weak.lock()) on_end(live, end);
  };
}

std::optional<Readiness::State> Sandboxes::readiness(SandboxId sandbox) const {
  return readiness_.state(sandbox);
}

std::size_t Sandboxes::count() const {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

Result<void> Sandboxes::running(SandboxId sandbox) const {
  const std::lock_guard lock(mutex_);
  const Hold live = find(sandbox);
  if (!live) {
    return fail(Error::Kind::not_found,
                "sandbox " + std::to_string(sandbox.value) + ": does not run: it has ended, or waits to be started again");
  }
  if (live->phase != Phase::running) {
    return fail(Error::Kind::unavailable,
                "sandbox " + std::to_string(sandbox.value) +
                    (live->phase == Phase::starting ? ": is starting" : ": is ending"));
  }
  return {};
}

void Sandboxes::accepted(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  if (accepted_.size() >= kAcceptedMax) accepted_.clear();
  accepted_.try_emplace(sandbox, wall_nanos());
}

void Sandboxes::start(node::StartSandbox what) {
  auto live = std::make_shared<Live>();
  StartOrder& order = what.order;
  live->name = name_of(order.sandbox);
  live->restarts = what.restarts;
  live->last_started = std::move(what.last_started);
  {
    const std::lock_guard lock(mutex_);
    if (live_.contains(order.sandbox)) return;  // under way
    live->note.set_layers_ready_at(wall_nanos());
    const auto when = accepted_.find(order.sandbox);
    if (when != accepted_.end()) {
      live->note.set_accepted_at(when->second);
      accepted_.erase(when);
    }
    live->note.set_node_name(options_.node_name);
    live->order = std::move(order);
    live_[live->order.sandbox] = live;
  }
  workers_.run([this, live] { begin(live); });
}

// ---- the end

void Sandboxes::kill(SandboxId sandbox, EndReason, Duration grace) {
  const std::lock_guard lock(mutex_);
  accepted_.erase(sandbox);
  const Hold live = find(sandbox);
  if (!live) {  // it is gone, or never was, or waits to be started again
    parts_.logs.end(sandbox);
    return post_(node::SandboxKilled{sandbox, {}});
  }
  live->kill_wanted = true;
  changed_.notify_all();
  if (live->phase != Phase::running) return;  // its start or its end will be told
  if (grace.nanos <= 0) return enders_.run([this, live] { hard_kill(live); });
  enders_.run([this, live] {
    {
      const std::lock_guard lock(mutex_);
      if (!lives(live)) return;
    }
    if (const auto asked = parts_.machinery.signal(live->name, SIGTERM); !asked) {
      spdlog::warn("sandbox {}: cannot be asked to end: {}", live->order.sandbox.value,
                   asked.error().message);
      hard_kill(live);
    }
  });
  parts_.alarm.after(std::chrono::nanoseconds(grace.nanos), [this, live] { hard_kill(live); });
}

// By its control group, with everything in it, when it is cleaned up after: that cannot hang, and
// takes no program.
void Sandboxes::hard_kill(const Hold& live) { on_end(live, {0, SIGKILL, true, false}); }

void Sandboxes::on_end(const Hold& live, MainEnd end) {
  const std::lock_guard lock(mutex_);
  if (!lives(live)) return;
  live->end = end;
  live->ended_at = wall_nanos();
  changed_.notify_all();
  if (live->phase != Phase::running) return;  // who starts it looks
  live->phase = Phase::ending;
  enders_.run([this, live] { finish(live); });
}

void Sandboxes::finish(const Hold& live) {
  const auto began = Alarm::Clock::now();
  if (!clean_up(*live)) return end_later([this, live] { finish(live); });
  const SandboxId sandbox = live->order.sandbox;
  const double took = std::chrono::duration<double>(Alarm::Clock::now() - began).count();
  if (options_.metrics.observed) options_.metrics.observed("clean_up", took);
  const std::lock_guard lock(mutex_);
  const MainEnd& end = *live->end;
  spdlog::info("sandbox {} ({}): ended, {}exit code {} signal {}, cleaned up in {:.3f} s",
               sandbox.value, live->payload.id(), end.out_of_memory ? "out of memory, " : "",
               end.exit_code, end.signal, took);
  if (live->kill_wanted) {
    parts_.logs.end(sandbox);
    post_(node::SandboxKilled{sandbox, note(*live)});
  } else {
    post_(node::SandboxExited{sandbox, end.out_of_memory, note(*live)});
  }
  live_.erase(sandbox);
}

// What may still run is not told to have ended: its room would be given away.
void Sandboxes::end_later(std::function<void()> end) {
  parts_.alarm.after(kRemovePause, [this, end = std::move(end)] {
    retriers_.run([this, end] {
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;  // the next agent finds it
      }
      end();
    });
  });
}

// Also after a start that got nowhere: what was not made is not missed. False while its processes may
// go on: then it keeps what it has.
bool Sandboxes::clean_up(Live& live) {
  const auto complain = [&](const char* what, const Result<void>& done) {
    if (done || done.error().kind == Error::Kind::not_found) return;
    spdlog::warn("sandbox {}: {}: {}", live.order.sandbox.value, what, done.error().message);
  };
  readiness_.forget(live.order.sandbox);
  parts_.sessions.sandbox_ended(live.order.sandbox);
  const auto removed = parts_.machinery.remove(live.name);
  complain("runtime", removed);
  if (!removed && removed.error().kind == Error::Kind::unavailable) return false;
  complain("network", parts_.network.release(live.name));
  complain("root file system", parts_.rootfs.release(live.name));
  if (goes_on(live)) {
    parts_.logs.pause(live.order.sandbox);
  } else {
    parts_.logs.end(live.order.sandbox);
  }
  live.note.set_first_byte_at(parts_.logs.first_byte_at(live.order.sandbox));
  return true;
}

bool Sandboxes::goes_on(const Live& live) const {
  const std::lock_guard lock(mutex_);
  const bool ran = live.restarts > 0 || live.phase == Phase::ending;
  return live.order.restart && ran && !live.kill_wanted;
}

std::string Sandboxes::note(Live& live) const {
  if (live.end) {
    live.note.set_ended_at(live.ended_at);
    live.note.set_exit_code(live.end->exit_code);
    live.note.set_signal(live.end->signal);
    if (!live.end->known && live.note.detail().empty()) {
      live.note.set_detail("how it ended is not known");
    }
  }
  return live.note.SerializeAsString();
}

void Sandboxes::scrub() {
  enders_.run([this] { try_scrub(); });
}

void Sandboxes::try_scrub() {
  parts_.logs.forget_ended();
  bool gone = true;
  if (const auto found = parts_.machinery.list()) {
    for (const Found& one : *found) {
      bool ours;
      {
        const std::lock_guard lock(mutex_);
        ours = find(sandbox_of(one.name)) != nullptr;
      }
      if (!ours) gone = reap(one.name) && gone;
    }
  }
  if (!gone) return end_later([this] { try_scrub(); });
  if (!parts_.network.settle(10s)) {
    spdlog::warn("scrub: the network is not done with what ended; it goes on by itself");
  }
  spdlog::info("scrubbed: nothing of the last owner is left");
  post_(node::ScrubFinished{});
}

// ---- after a restart

Result<void> Sandboxes::adopt(const StartOrder& order) {
  auto live = std::make_shared<Live>();
  live->name = name_of(order.sandbox);
  live->order = order;
  live->phase = Phase::running;
  live->note.set_node_name(options_.node_name);
  live->note.set_accepted_at(0);
  if (!live->payload.ParseFromString(order.payload)) {
    return fail(Error::Kind::corrupt, "its order carries a payload that is none");
  }
  const auto image = images::decode_image(live->payload.image());
  if (!image) return std::unexpected(image.error());
  if (auto root = parts_.rootfs.acquire(live->name, *image); !root) {
    return std::unexpected(root.error());
  }
  parts_.logs.take_over(order.sandbox);
  const SandboxId sandbox = order.sandbox;
  {
    const std::lock_guard lock(mutex_);
    live_[sandbox] = live;
  }
  watch(*live);  // before its end can be told, which ends that
  auto watched = parts_.machinery.adopt(live->name, ender(live));
  if (!watched) {
    readiness_.forget(sandbox);
    if (order.restart) {
      parts_.logs.pause(sandbox);
    } else {
      parts_.logs.end(sandbox);
    }
    const std::lock_guard lock(mutex_);
    live_.erase(sandbox);
  }
  return watched;
}

void Sandboxes::end_when_gone(const StartOrder& order, const MainEnd& end) {
  auto live = std::make_shared<Live>();
  live->name = name_of(order.sandbox);
  live->order = order;
  live->phase = Phase::ending;
  live->end = end;
  live->ended_at = wall_nanos();
  live->note.set_node_name(options_.node_name);
  (void)live->payload.ParseFromString(order.payload);  // only for what is logged
  {
    const std::lock_guard lock(mutex_);
    live_[order.sandbox] = live;
  }
  end_later([this, live] { finish(live); });
}

void Sandboxes::keep_output(SandboxId sandbox) { parts_.logs.pause(sandbox); }

bool Sandboxes::reap(const std::string& name) {
  if (const auto done = parts_.machinery.remove(name); !done) {
    spdlog::warn("orphan {}: {}", name, done.error().message);
    if (done.error().kind == Error::Kind::unavailable) return false;
  }
  if (const auto done = parts_.rootfs.release(name); !done) {
    spdlog::warn("orphan {}: {}", name, done.error().message);
  }
  (void)parts_.network.release(name);
  return true;
}

}  // namespace chalk::agent
