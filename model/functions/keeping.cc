// Which idle replicas are kept: the part of Functions that its keep-alive policies need.
//
// A gap runs from the moment a replica falls idle to the call that takes it or, when it has gone
// meanwhile, to the call that would have taken it: the newest of those that left stands for it.
#include <algorithm>

#include "model/functions/functions.h"

namespace chalk::functions {
namespace {

constexpr std::size_t kLeftMax = 16;  // of a group; more gaps at once say nothing new

bool learns(const Group& group) {
  return group.routing.keep_alive_policy == KeepAlive::hybrid ||
         group.routing.keep_alive_policy == KeepAlive::cost;
}

}  // namespace

void Functions::falls_idle(std::uint32_t slot, Effects& effects) {
  const Group& group = state_.groups[state_.replicas.in_slot(slot).group];
  if (group.routing.keep_alive_policy != KeepAlive::greedy_dual) return;
  pool(slot);
  evict(effects);
}

void Functions::pool(std::uint32_t slot) {
  Replica& replica = state_.replicas.in_slot(slot);
  const Group& group = state_.groups[replica.group];
  replica.priority =
      state_.idle.priority(group.frequency, group.start_took, group.routing.memory_bytes);
  replica.pooled = std::max<std::int64_t>(1, group.routing.memory_bytes);
  state_.idle.idle(replica.priority, slot, replica.pooled);
}

// By another policy from now on: what the last one had in mind is nothing to it.
void Functions::keep_otherwise(Group& group) {
  group.left.clear();
  group.reloading = false;
  group.reload_at = kNever;
  group.frequency = 0;
  for (std::uint32_t at = group.first; at != 0; at = state_.replicas.in_slot(at - 1).next) {
    leaves(at - 1);
  }
}

// What has lain idle by another policy, or was one of the least that there must be.
void Functions::pool_idle(Group& group, Effects& effects) {
  if (group.routing.keep_alive_policy != KeepAlive::greedy_dual) return;
  for (std::uint32_t at = group.first; at != 0;) {
    const std::uint32_t slot = at - 1;
    const Replica& replica = state_.replicas.in_slot(slot);
    at = replica.next;
    if (replica.in_flight == 0 && replica.pooled == 0) pool(slot);
  }
  evict(effects);
}

// An idle replica takes a call.
void Functions::taken(Time now, Group& group, std::uint32_t slot) {
  Replica& replica = state_.replicas.in_slot(slot);
  leaves(slot);
  replica.reloaded = false;
  if (group.routing.keep_alive_policy == KeepAlive::fixed) return;
  ++group.frequency;
  if (replica.used && learns(group)) {
    group.habit.learn(rule_of(group.routing), now - replica.idle_since);
  }
  replica.used = true;
}

// A call found none, and one that went would have served it.
void Functions::missed(Time now, Group& group) {
  if (group.routing.keep_alive_policy == KeepAlive::fixed) return;
  if (group.start_asked == kNever) group.start_asked = now;
  group.reloading = false;
  if (group.left.empty()) return;
  group.habit.learn(rule_of(group.routing), now - group.left.back());
  group.left.pop_back();
}

// A replica has started. One that was asked for before a call stands for the newest that went.
void Functions::stands_in(Time now, Group& group, Replica& replica) {
  if (group.start_asked != kNever) group.start_took = now - group.start_asked;
  group.start_asked = kNever;
  if (!group.reloading) return;
  group.reloading = false;
  if (!group.queue.empty() || group.left.empty()) return;
  replica.idle_since = group.left.back();
  replica.used = replica.reloaded = true;
  group.left.pop_back();
}

// An idle replica is idle no more: taken, or gone.
void Functions::leaves(std::uint32_t slot) {
  Replica& replica = state_.replicas.in_slot(slot);
  if (replica.pooled == 0) return;
  state_.idle.taken(replica.priority, slot, replica.pooled);
  replica.pooled = 0;
}

// An idle replica goes; what it would have served tells how long it should have stayed.
void Functions::gives_back(Group& group, std::uint32_t slot) {
  leaves(slot);
  const Replica& replica = state_.replicas.in_slot(slot);
  if (!learns(group) || !replica.used) return;
  if (group.left.size() == kLeftMax) group.left.erase(group.left.begin());
  const auto place = std::upper_bound(group.left.begin(), group.left.end(), replica.idle_since);
  group.left.insert(place, replica.idle_since);
}

// Down to the budget, whatever groups the least belong to.
void Functions::evict(Effects& effects) {
  while (state_.idle.over(config_.idle_bytes_max)) {
    const auto slot = static_cast<std::uint32_t>(state_.idle.next());
    Replica& replica = state_.replicas.in_slot(slot);
    Group& group = state_.groups[replica.group];
    if (group.ready <= group.routing.min_replicas) {
      leaves(slot);  // it stays, and counts no more
      continue;
    }
    take_out(group, slot, effects);
    if (group.ready == 0) group.frequency = 0;
  }
}

Time Functions::idle_until(const Group& group, const Replica& replica) {
  switch (group.routing.keep_alive_policy) {
    case KeepAlive::fixed: return replica.idle_since + group.routing.keep_alive;
    case KeepAlive::greedy_dual: return kNever;
    case KeepAlive::hybrid:
    case KeepAlive::cost: break;
  }
  const Window& window = group.habit.window();
  return replica.idle_since + (replica.reloaded ? window.until : window.hold);
}

// The last replica has gone, and its next call is expected: early enough for a start.
void Functions::arm_reload(Time now, Group& group, std::uint32_t index) {
  const Window& window = group.habit.window();
  if (!window.reloads() || group.ready != 0 || !group.queue.empty()) return;
  if (group.left.empty() || group.left.back() + window.until <= now) return;
  group.reload_at = std::max(now, group.left.back() + window.reload - group.start_took);
  state_.timers.arm(group.reload_at, {index, Alarm::reload});
}

void Functions::reload(Time now, Group& group, std::uint32_t index, Effects& effects) {
  if (group.ready != 0 || !group.queue.empty() || group.left.empty()) return;
  if (group.left.back() + group.habit.window().until <= now) return;
  changed(now, group, index);
  group.reloading = true;
  group.start_asked = now;
  ++group.reloads;
  report(now, group, effects);
}

}  // namespace chalk::functions
