#include "model/node/node.h"

#include <algorithm>

namespace chalk::node {
namespace {

State born(const NodeRegistration& registration) {
  State state;
  state.registration = registration;
  return state;
}

}  // namespace

Node::Node(const node::Config& config, const NodeRegistration& registration)
    : Node(config, born(registration)) {}

Node::Node(const node::Config& config, State state)
    : config_(&config), state_(std::move(state)), cache_(config.cache, std::move(state_.cache)) {
  state_.cache = {};
}

State Node::state() const {
  State copy = state_;
  copy.cache = cache_.state();
  return copy;
}

std::uint64_t Node::digest() const {
  Digest digest;
  digest.add(state_);
  digest.add(cache_.state());
  return digest.value();
}

void Node::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  if (!state_.restarts_due.empty()) start_due(now, effects);  // a slot may have come free
  if (state_.shells < config_->shells) make_shell(now, effects);
  const Time wake = std::min(
      {state_.beat_at, state_.cache_wake, state_.lifetimes.next(), state_.pauses.next()});
  if (wake == state_.wake) return;
  state_.wake = wake;
  if (wake != kNever) effects.push_back(WakeAt{wake});
}

// ---- time

void Node::on(Time now, const Woken& woken, Effects& effects) {
  state_.wake = kNever;
  while (state_.lifetimes.due(now)) {
    const auto timer = state_.lifetimes.pop();
    const auto found = state_.sandboxes.find(timer.key);
    if (found == state_.sandboxes.end() || found->second.must_end != timer.at) continue;
    if (found->second.phase != Phase::stopping) {
      stop(now, timer.key, found->second, EndReason::lifetime_reached, config_->lifetime_grace,
           effects);
    }
  }
  while (state_.pauses.due(now)) {
    const auto timer = state_.pauses.pop();
    const auto found = state_.sandboxes.find(timer.key);
    if (found == state_.sandboxes.end() || found->second.phase != Phase::waiting) continue;
    if (found->second.restart_at == timer.at) state_.restarts_due.push_back(timer.key);
  }
  if (state_.cache_wake <= now) {
    state_.cache_wake = kNever;
    drive_cache(now, woken, effects);
  }
  if (state_.beat_at > now) return;
  if (!state_.id) return announce(now, effects);
  state_.reports.resend([&](std::uint64_t sequence, const NodeReport& report) {
    effects.push_back(ToControl{
        state_.id, {state_.registration.incarnation, sequence, state_.orders.received, report}});
  });
  effects.push_back(
      ToControl{state_.id, {state_.registration.incarnation, 0, state_.orders.received, {}}});
  state_.beat_at = now + config_->heartbeat;
}

// ---- who we are to control

void Node::on(Time now, const Booted&, Effects& effects) { announce(now, effects); }

// Control takes a node that registers for one that nobody has touched. So what an earlier
// registration left here ends and is wiped first, without an order.
void Node::announce(Time now, Effects& effects) {
  state_.beat_at = now + config_->register_retry;
  if (!state_.sandboxes.empty() || state_.scrubbing) return;
  if (!state_.dirty) {
    effects.push_back(Register{state_.registration});
    return;
  }
  state_.scrubbing = true;
  effects.push_back(Scrub{});
}

void Node::on(Time now, const Welcomed& welcomed, Effects& effects) {
  if (welcomed.incarnation != state_.registration.incarnation || state_.id) return;
  state_.id = welcomed.node;
  // Nodes that boot together would beat together; the identity spreads them over the interval.
  const auto part = static_cast<std::int64_t>(welcomed.node.value * 0x9E3779B97F4A7C15ULL >> 44);
  state_.beat_at = now + Duration{config_->heartbeat.nanos / (1 << 20) * part};
  for (const auto& [image, entry] : cache_.state().images) {
    if (entry.missing == 0)
      report(ImageReport{image, true}, effects);  // from an earlier registration
  }
}

void Node::on(Time now, const Unknown& unknown, Effects& effects) {
  if (unknown.incarnation != state_.registration.incarnation) return;  // about an earlier boot
  ++state_.registration.incarnation;
  state_.id = {};
  state_.reports = {};
  state_.orders = {};
  for (auto place = state_.sandboxes.begin(); place != state_.sandboxes.end();) {
    const auto next = std::next(place);
    if (place->second.phase != Phase::stopping) {
      stop(now, place->first, place->second, EndReason::terminated, {}, effects);
    }
    place = next;
  }
  announce(now, effects);
}

void Node::on(Time now, const Resumed&, Effects& effects) {
  for (const auto& [id, sandbox] : state_.sandboxes) {
    switch (sandbox.phase) {
      case Phase::starting:
        if (sandbox.saving) {
          effects.push_back(SaveSnapshot{id, sandbox.order.save});
        } else {
          effects.push_back(
              StartSandbox{sandbox.order, sandbox.restarts, sandbox.started, sandbox.mode});
        }
        break;
      case Phase::stopping: effects.push_back(KillSandbox{id, sandbox.end, {}}); break;
      case Phase::pulling:  // the cache goes on with it
      case Phase::running:
      case Phase::waiting: break;  // its pause goes on, in the State
    }
  }
  state_.shells = 0;  // nobody can tell them from what was left behind
  state_.making_shell = false;
  drive_cache(now, images::Resumed{}, effects);
  if (state_.scrubbing) effects.push_back(Scrub{});
  state_.beat_at = now;  // control has not heard from us for a while
}

// No start of them is under way in the runtime yet: those that were are ordered anew, as soon as their
// layers are back.
void Node::on(Time now, const LayersLost& lost, Effects& effects) {
  drive_cache(now, lost, effects);
  std::vector<SandboxId> cut_off;
  for (const auto& [id, sandbox] : state_.sandboxes) {
    if (sandbox.phase != Phase::starting || sandbox.saving) continue;
    if (!sandbox.order.image.layers.empty() && !cache_.is_ready(id)) cut_off.push_back(id);
  }
  for (const SandboxId id : cut_off) await_image(now, id, effects);
}

// It starts when its layers are here: those of one that was started before may have been lost.
void Node::await_image(Time now, SandboxId id, Effects& effects) {
  Sandbox& sandbox = state_.sandboxes.at(id);
  sandbox.phase = Phase::pulling;
  fetch(now, id, sandbox, {}, effects);
}

void Node::on(Time now, const FromControl& from, Effects& effects) {
  const auto& envelope = from.envelope;
  if (!state_.id || envelope.incarnation != state_.registration.incarnation) return;
  if (from.node && from.node != state_.id) return;
  state_.reports.acknowledge(envelope.acknowledged);
  if (!envelope.message || !state_.orders.accept(envelope.sequence)) return;
  std::visit([&](const auto& one) { order(now, one, effects); }, *envelope.message);
}

// ---- orders

void Node::order(Time now, const StartOrder& start, Effects& effects) {
  if (refuse(start, effects)) return;
  take(start, +1);
  state_.owner = start.owner;
  state_.dirty = true;
  Sandbox& sandbox = state_.sandboxes[start.sandbox];
  sandbox.order = start;
  // Control's view of this machine is checked again: a process that is restored where it does not
  // belong may fail much later, in the middle of a call.
  Restore& restore = sandbox.order.restore;
  if (restore && !runs_on(restore.made_on, state_.registration.kind)) restore = {};
  fetch(now, start.sandbox, sandbox, start.sources, effects);
}

void Node::fetch(Time now, SandboxId id, const Sandbox& sandbox, std::vector<NodeId> sources,
                 Effects& effects) {
  const StartOrder& order = sandbox.order;
  ImageSpec needed = order.restore ? images::restore_image(order.image, order.restore) : order.image;
  if (needed.layers.empty()) return image_ready(now, id, effects);
  drive_cache(now, images::Wanted{std::move(needed), id, std::move(sources)}, effects);
}

// The replica does without its snapshot.
void Node::give_up_restoring(Sandbox& sandbox, SnapshotNews why, Effects& effects) {
  report(SnapshotReport{sandbox.order.restore.snapshot, why, 0}, effects);
  sandbox.order.restore = {};
}

// Control's view is stale by design, so the last word on capacity is said here.
bool Node::refuse(const StartOrder& start, Effects& effects) {
  const NodeShape& shape = state_.registration.shape;
  const Resources& ask = start.resources;
  const Use& use = state_.use;
  const auto say = [&](NodeRefusal rule, std::int64_t needed, std::int64_t available) {
    report(RefusedReport{start.sandbox, rule, needed, available}, effects);
    return true;
  };
  if (state_.sandboxes.contains(start.sandbox)) return say(NodeRefusal::duplicate, 1, 0);
  if (state_.scrubbing || (state_.dirty && state_.owner != start.owner)) {
    return say(NodeRefusal::owner, static_cast<std::int64_t>(start.owner.value),
               static_cast<std::int64_t>(state_.owner.value));
  }
  if (ask.cpu_millicores < 0 || ask.cpu_millicores > shape.cpu_millicores - use.cpu_millicores) {
    return say(NodeRefusal::cpu, ask.cpu_millicores, shape.cpu_millicores - use.cpu_millicores);
  }
  if (ask.memory_bytes < 0 || ask.memory_bytes > shape.memory_bytes - use.memory_bytes) {
    return say(NodeRefusal::memory, ask.memory_bytes, shape.memory_bytes - use.memory_bytes);
  }
  if (ask.disk_bytes < 0 || ask.disk_bytes > shape.disk_bytes - use.disk_bytes) {
    return say(NodeRefusal::disk, ask.disk_bytes, shape.disk_bytes - use.disk_bytes);
  }
  std::int32_t given = 0;
  for (int gpu = 0; gpu < 32; ++gpu) {
    if ((start.gpu_mask >> gpu & 1) == 0) continue;
    ++given;
    const std::int32_t left = gpu < shape.gpus && gpu < kGpusPerNodeMax
                                  ? 1000 - use.gpu_millis[static_cast<std::size_t>(gpu)]
                                  : 0;
    if (ask.gpu_millis <= 0 || ask.gpu_millis > left)
      return say(NodeRefusal::gpu, ask.gpu_millis, left);
  }
  if (given != ask.gpus) return say(NodeRefusal::gpu, ask.gpus, given);
  if (use.starting >= shape.start_slots) return say(NodeRefusal::start_slots, 1, 0);
  const auto live = static_cast<std::int64_t>(state_.sandboxes.size());
  if (live >= shape.sandboxes_max)
    return say(NodeRefusal::sandboxes, 1, shape.sandboxes_max - live);
  if (state_.reports.size() >= config_->reports_max) {
    return say(NodeRefusal::draining, static_cast<std::int64_t>(state_.reports.size()),
               config_->reports_max);
  }
  return false;
}

void Node::order(Time now, const StopOrder& order, Effects& effects) {
  const auto found = state_.sandboxes.find(order.sandbox);
  // Ended before the order came, or never admitted: the report of that is on its way.
  if (found == state_.sandboxes.end() || found->second.phase == Phase::stopping) return;
  stop(now, order.sandbox, found->second, EndReason::terminated, order.grace, effects);
}

void Node::order(Time now, const WarmOrder& warm, Effects& effects) {
  drive_cache(now, images::Wanted{warm.image, {}, warm.sources}, effects);
}

void Node::order(Time, const ScrubOrder&, Effects& effects) {
  if (!state_.sandboxes.empty() || state_.scrubbing)
    return;  // its end will be reported; asked again
  state_.scrubbing = true;
  effects.push_back(Scrub{});
}

void Node::on(Time now, const ScrubFinished&, Effects& effects) {
  if (!state_.scrubbing) return;
  state_.scrubbing = false;
  state_.dirty = false;
  state_.owner = {};
  if (!state_.id) return announce(now, effects);
  report(ScrubbedReport{}, effects);
}

// ---- the life of a sandbox

void Node::image_ready(Time, SandboxId id, Effects& effects) {
  const auto found = state_.sandboxes.find(id);
  if (found == state_.sandboxes.end() || found->second.phase != Phase::pulling) return;
  start(found->second, effects);
}

void Node::start(Sandbox& sandbox, Effects& effects) {
  sandbox.phase = Phase::starting;
  sandbox.mode = StartMode::cold;
  if (sandbox.order.restore) {
    sandbox.mode = StartMode::restore;
  } else if (state_.shells > 0) {
    sandbox.mode = StartMode::shell;
    --state_.shells;
  }
  effects.push_back(StartSandbox{sandbox.order, sandbox.restarts, sandbox.started, sandbox.mode});
}

void Node::make_shell(Time now, Effects& effects) {
  if (!state_.id || state_.making_shell || now < state_.shells_after) return;
  if (state_.use.starting + state_.use.restarting != 0) return;
  state_.making_shell = true;
  effects.push_back(MakeShell{});
}

void Node::on(Time now, const ShellMade& made, Effects&) {
  if (!state_.making_shell) return;  // of an agent that is no more
  state_.making_shell = false;
  if (made.good) {
    ++state_.shells;
  } else {
    state_.shells_after = now + config_->heartbeat;
  }
}

void Node::on(Time now, const SandboxStarted& started, Effects& effects) {
  const auto found = state_.sandboxes.find(started.sandbox);
  if (found == state_.sandboxes.end()) return;
  Sandbox& sandbox = found->second;
  if (sandbox.phase == Phase::stopping) {
    if (sandbox.start_under_way) free_start_slot(sandbox);
    sandbox.start_under_way = false;
    if (!started.good) ended(now, started.sandbox, sandbox.end, started.note, effects);
    return;  // else the kill that was ordered will be reported
  }
  if (sandbox.phase != Phase::starting || sandbox.saving) return;
  const bool again = sandbox.restarts > 0;
  if (!started.good && sandbox.mode == StartMode::restore) {
    give_up_restoring(sandbox, SnapshotNews::not_restored, effects);
    return start(sandbox, effects);
  }
  if (!started.good && again) {
    return wait_for_restart(now, started.sandbox, sandbox, started.note, effects);
  }
  if (!started.good) {
    return ended(now, started.sandbox, EndReason::start_failed, started.note, effects);
  }
  if (sandbox.order.save && !again) {
    sandbox.saving = true;
    sandbox.ready = started.note;
    effects.push_back(SaveSnapshot{started.sandbox, sandbox.order.save});
    return;
  }
  runs(now, started.sandbox, sandbox, started.note, effects);
}

void Node::runs(Time now, SandboxId id, Sandbox& sandbox, std::string note, Effects& effects) {
  free_start_slot(sandbox);
  sandbox.phase = Phase::running;
  sandbox.runs_since = now;
  if (sandbox.order.restart) sandbox.started = note;
  if (sandbox.restarts > 0) return tell_restart(sandbox, std::move(note), effects);
  if (sandbox.order.lifetime.nanos > 0) {
    sandbox.must_end = now + sandbox.order.lifetime;
    state_.lifetimes.arm(sandbox.must_end, id);
  }
  report(StartedReport{id, std::move(note)}, effects);
}

void Node::on(Time now, const SnapshotSaved& saved, Effects& effects) {
  const auto found = state_.sandboxes.find(saved.sandbox);
  if (found == state_.sandboxes.end() || !found->second.saving) return;
  Sandbox& sandbox = found->second;
  if (sandbox.order.save != saved.snapshot) return;  // of an earlier start of it here
  sandbox.saving = false;
  const SnapshotNews news = saved.good ? SnapshotNews::saved : SnapshotNews::not_saved;
  report(SnapshotReport{sandbox.order.save, news, saved.bytes}, effects);
  if (sandbox.phase == Phase::stopping) {
    if (sandbox.start_under_way) free_start_slot(sandbox);
    sandbox.start_under_way = false;
    return;  // the kill that was ordered will be reported
  }
  runs(now, saved.sandbox, sandbox, std::move(sandbox.ready), effects);
}

void Node::on(Time now, const SandboxExited& exited, Effects& effects) {
  const auto found = state_.sandboxes.find(exited.sandbox);
  if (found == state_.sandboxes.end()) return;
  const Phase phase = found->second.phase;
  if (phase == Phase::stopping) {
    return ended(now, exited.sandbox, found->second.end, exited.note, effects);
  }
  if (phase != Phase::running && !found->second.saving) return;
  found->second.saving = false;
  if (found->second.order.restart) {
    return wait_for_restart(now, exited.sandbox, found->second, exited.note, effects);
  }
  ended(now, exited.sandbox, exited.out_of_memory ? EndReason::out_of_memory : EndReason::exited,
        exited.note, effects);
}

void Node::on(Time now, const SandboxKilled& killed, Effects& effects) {
  const auto found = state_.sandboxes.find(killed.sandbox);
  if (found == state_.sandboxes.end() || found->second.phase != Phase::stopping) return;
  ended(now, killed.sandbox, found->second.end, killed.note, effects);
}

void Node::stop(Time now, SandboxId id, Sandbox& sandbox, EndReason why, Duration grace,
                Effects& effects) {
  if (sandbox.phase == Phase::pulling && sandbox.restarts == 0) {
    return ended(now, id, why, {}, effects);
  }
  if (sandbox.phase == Phase::pulling) free_start_slot(sandbox);
  // A start goes on until the runtime has stopped it: only then is its slot another's.
  if (sandbox.phase == Phase::starting) sandbox.start_under_way = true;
  // One that waits is killed as well, though nothing of it runs: the runtime lets go of what it keeps
  // for the next start.
  sandbox.phase = Phase::stopping;
  sandbox.end = why;
  effects.push_back(KillSandbox{id, why, grace});
}

void Node::ended(Time now, SandboxId id, EndReason reason, std::string note, Effects& effects) {
  const auto found = state_.sandboxes.find(id);
  const Sandbox sandbox = std::move(found->second);
  state_.sandboxes.erase(found);
  if (sandbox.phase == Phase::pulling || sandbox.phase == Phase::starting ||
      sandbox.start_under_way) {
    free_start_slot(sandbox);
  }
  take(sandbox.order, -1);
  drive_cache(now, images::LetGo{id}, effects);
  report(EndedReport{id, reason, std::move(note)}, effects);
  if (!state_.id && state_.sandboxes.empty()) announce(now, effects);
}

// ---- starting again

void Node::wait_for_restart(Time now, SandboxId id, Sandbox& sandbox, std::string note,
                            Effects& effects) {
  if (sandbox.phase == Phase::starting || sandbox.phase == Phase::pulling) {
    free_start_slot(sandbox);
  } else if (now - sandbox.runs_since >= config_->restart_forgiven) {
    sandbox.pause = {};
  }
  sandbox.pause = sandbox.pause.nanos == 0
                      ? config_->restart_pause
                      : std::min(sandbox.pause + sandbox.pause, config_->restart_pause_max);
  sandbox.phase = Phase::waiting;
  sandbox.restart_at = now + sandbox.pause;
  ++sandbox.restarts;
  state_.pauses.arm(sandbox.restart_at, id);
  tell_restart(sandbox, std::move(note), effects);
}

// Control does not know of these starts: if they took of the slots that it counts, the node would
// refuse what was placed rightly. So they have as many of their own; how many really go on at once is
// bounded by the runtime.
void Node::start_due(Time now, Effects& effects) {
  auto next = state_.restarts_due.begin();
  while (next != state_.restarts_due.end() &&
         state_.use.restarting < state_.registration.shape.start_slots) {
    const auto found = state_.sandboxes.find(*next++);
    if (found == state_.sandboxes.end() || found->second.phase != Phase::waiting) continue;
    ++state_.use.restarting;
    if (cache_.is_ready(found->first)) {
      start(found->second, effects);
    } else {
      await_image(now, found->first, effects);
    }
  }
  state_.restarts_due.erase(state_.restarts_due.begin(), next);
}

void Node::tell_restart(const Sandbox& sandbox, std::string note, Effects& effects) {
  // While control takes nothing a crash loop must not fill the memory; the next total says it all.
  if (state_.reports.size() >= config_->reports_max) return;
  report(RestartedReport{sandbox.order.sandbox, sandbox.restarts, sandbox.phase == Phase::running,
                         std::move(note)},
         effects);
}

void Node::free_start_slot(const Sandbox& sandbox) {
  --(sandbox.restarts > 0 ? state_.use.restarting : state_.use.starting);
}

// Start slots are taken from admission until the sandbox runs, as control counts them.
void Node::take(const StartOrder& start, int sign) {
  const Resources& r = start.resources;
  Use& use = state_.use;
  use.cpu_millicores += sign * r.cpu_millicores;
  use.memory_bytes += sign * r.memory_bytes;
  use.disk_bytes += sign * r.disk_bytes;
  for (std::size_t gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (start.gpu_mask >> gpu & 1) use.gpu_millis[gpu] += sign * r.gpu_millis;
  }
  if (sign > 0) ++use.starting;
  CHALK_INVARIANT(use.cpu_millicores >= 0 && use.memory_bytes >= 0 && use.starting >= 0 &&
                  use.restarting >= 0);
}

// ---- images

void Node::on(Time now, const images::PullFinished& finished, Effects& effects) {
  drive_cache(now, finished, effects);
}

void Node::drive_cache(Time now, const images::CacheEvent& event, Effects& effects) {
  std::vector<images::CacheEffect> said;
  cache_.step(now, event, said);
  for (const auto& effect : said) {
    if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
      effects.push_back(*pull);
    } else if (const auto* cancel = std::get_if<images::CancelPull>(&effect)) {
      effects.push_back(*cancel);
    } else if (const auto* evict = std::get_if<images::EvictLayers>(&effect)) {
      effects.push_back(*evict);
    } else if (const auto* ready = std::get_if<images::ImageReady>(&effect)) {
      if (ready->sandbox) image_ready(now, ready->sandbox, effects);
    } else if (const auto* missing = std::get_if<images::ImageUnavailable>(&effect)) {
      const auto found = state_.sandboxes.find(missing->sandbox);
      const bool bad = missing->rule == images::Unavailable::bad_image;
      if (found == state_.sandboxes.end()) continue;
      // One that only holds it, for its next start, asks for it anew when that is due.
      if (found->second.phase != Phase::pulling) continue;
      if (found->second.order.restore) {
        give_up_restoring(found->second, SnapshotNews::not_fetched, effects);
        fetch(now, missing->sandbox, found->second, {}, effects);
      } else if (found->second.restarts > 0) {
        wait_for_restart(now, missing->sandbox, found->second, missing->note, effects);
      } else {
        ended(now, missing->sandbox, bad ? EndReason::bad_image : EndReason::pull_failed,
              missing->note, effects);
      }
    } else if (const auto* changed = std::get_if<images::ImageChanged>(&effect)) {
      report(ImageReport{changed->image, changed->cached}, effects);
    } else if (std::holds_alternative<WakeAt>(effect)) {
      // What was answered before this may have stepped the cache again, and asked for another.
      state_.cache_wake = cache_.state().wake;
    }
  }
}

void Node::report(NodeReport report, Effects& effects) {
  if (!state_.id) return;  // control learns nothing from a node that it does not know
  const std::uint64_t sequence = state_.reports.push(report);
  effects.push_back(ToControl{
      state_.id,
      {state_.registration.incarnation, sequence, state_.orders.received, std::move(report)}});
}

}  // namespace chalk::node
