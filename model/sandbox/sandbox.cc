#include "model/sandbox/sandbox.h"

#include <algorithm>

namespace chalk::sandbox {

void Sandboxes::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  const Time wake = std::min({state_.start_deadlines.next(), state_.retentions.next(),
                              state_.gatherings.next()});
  if (wake != state_.wake) {
    state_.wake = wake;
    if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
  }
}

void Sandboxes::on(Time now, const Requested& asked, Effects& effects) {
  const auto refuse = [&](Refusal rule, std::int64_t needed, std::int64_t in_use,
                          std::int64_t limit) {
    effects.push_back(Refused{asked.reply_to, {}, asked.group, rule, 0, needed, in_use, limit});
  };
  const Key key{asked.tenant, asked.key};
  if (!asked.key.empty()) {
    if (const auto known = state_.keys.find(key); known != state_.keys.end()) {
      effects.push_back(Accepted{asked.reply_to, known->second, true});
      return;
    }
    const auto keys = static_cast<std::int64_t>(state_.keys.size());
    if (keys >= config_.keys_max) return refuse(Refusal::keys_limit, 1, keys, config_.keys_max);
  }
  const auto live = static_cast<std::int64_t>(state_.sandboxes.size());
  if (live >= config_.sandboxes_max) {
    return refuse(Refusal::sandboxes_limit, 1, live, config_.sandboxes_max);
  }
  const Resources& ask = asked.resources;
  if (ask.cpu_millicores < 0 || ask.memory_bytes < 0 || ask.disk_bytes < 0 || ask.gpus < 0 ||
      (ask.gpus > 0 && (ask.gpu_millis <= 0 || ask.gpu_millis > 1000)) ||
      (ask.gpus > 1 && ask.gpu_millis != 1000)) {
    return refuse(Refusal::no_resources, ask.gpu_millis, ask.gpus, 1000);
  }
  if (asked.lifetime.nanos < 0 || asked.lifetime > config_.lifetime_max) {
    return refuse(Refusal::lifetime_too_long, asked.lifetime.nanos, 0, config_.lifetime_max.nanos);
  }
  if (!asked.image_known) {
    return refuse(Refusal::unknown_image, static_cast<std::int64_t>(asked.image.value), 0, 0);
  }
  if (!asked.fits) return refuse(Refusal::never_fits, ask.cpu_millicores, 0, 0);
  if (asked.gang && refuse_gang(asked, effects)) return;
  Record record;
  record.reply_to = asked.reply_to;
  record.tenant = asked.tenant;
  record.group = asked.group;
  record.resources = asked.resources;
  record.image = asked.image;
  record.pool = asked.pool;
  record.lifetime = asked.lifetime;
  record.restart = asked.restart;
  record.priority = asked.priority;
  record.gang = asked.gang;
  record.requested = now;
  record.key = asked.key;
  const SandboxId id = state_.sandboxes.insert(std::move(record));
  link(id, state_.sandboxes.at(id));
  if (!asked.key.empty()) state_.keys.emplace(key, id);
  if (asked.gang) join_gang(now, id, state_.sandboxes.at(id));
  effects.push_back(Accepted{asked.reply_to, id, false});
  effects.push_back(AskAdmission{id, asked.tenant, asked.resources});
}

void Sandboxes::on(Time, const AdmissionRefused& refused, Effects& effects) {
  Record* record = state_.sandboxes.find(refused.sandbox);
  if (record == nullptr || record->phase != Phase::accepted) return;  // it ended meanwhile
  effects.push_back(Refused{record->reply_to, refused.sandbox, record->group, Refusal::admission,
                            refused.rule, refused.needed, refused.in_use, refused.limit});
  // A refused request leaves no trace: its key may be used again at once.
  if (!record->key.empty()) state_.keys.erase(Key{record->tenant, record->key});
  const bool in_gang = static_cast<bool>(record->gang);
  const GangKey gang{record->tenant, record->gang.id};
  unlink(*record);
  state_.sandboxes.erase(refused.sandbox);
  if (in_gang) refuse_rest(refused, gang, effects);
}

void Sandboxes::on(Time now, const Placed& placed, Effects& effects) {
  Record* record = state_.sandboxes.find(placed.sandbox);
  if (record == nullptr || record->phase != Phase::accepted) return;
  unlink(*record);
  record->phase = Phase::placed;
  record->node = placed.node;
  record->gpu_mask = placed.gpu_mask;
  ++record->attempts;
  link(placed.sandbox, *record);
  changed_on(placed.node);
  record->start_deadline = now + config_.start_timeout;
  state_.start_deadlines.arm(record->start_deadline, placed.sandbox);
  effects.push_back(SendStart{placed.node, placed.sandbox});
}

void Sandboxes::on(Time now, const Started& started, Effects& effects) {
  Record* record = placed_on(started.sandbox, started.node);
  if (record == nullptr) {
    // Late: it was given up here or placed elsewhere since. The node must not keep it.
    effects.push_back(SendStop{started.node, started.sandbox, {}});
    return;
  }
  if (record->phase != Phase::placed) return;  // repeated, or already ending
  record->phase = Phase::running;
  record->ran = true;
  record->runs_since = now;
  changed_on(started.node);
  record->start_deadline = kNever;
  // First that it runs: the slot that comes free may let another in that it has to make way for.
  effects.push_back(Running{record->reply_to, started.sandbox, started.node, record->group,
                            now - record->requested, started.note});
  effects.push_back(StartSettled{started.sandbox});
}

void Sandboxes::on(Time, const NodeRestarted& restarted, Effects& effects) {
  Record* record = placed_on(restarted.sandbox, restarted.node);
  if (record == nullptr) {  // late, as in Started
    effects.push_back(SendStop{restarted.node, restarted.sandbox, {}});
    return;
  }
  if (!record->ran || restarted.count < record->restarts) return;
  const bool news = restarted.count > record->restarts || (restarted.running && record->waits);
  if (!news) return;  // repeated
  record->restarts = restarted.count;
  record->waits = !restarted.running;
  effects.push_back(Restarted{record->reply_to, restarted.sandbox, restarted.count,
                              restarted.running, restarted.note});
}

void Sandboxes::on(Time now, const NodeRefused& refused, Effects& effects) {
  Record* record = placed_on(refused.sandbox, refused.node);
  if (record == nullptr || record->ran) return;
  try_again_or_end(now, refused.sandbox, *record, EndReason::start_failed, {}, effects);
}

void Sandboxes::on(Time now, const Ended& ended, Effects& effects) {
  Record* record = placed_on(ended.sandbox, ended.node);
  if (record == nullptr) return;  // repeated, or the node had been given up for lost
  // It has run to its end by itself, while the order to stop it was on its way: it is not run again.
  // (A replica has no work of its own, and its group counts on it until it has said that it runs.)
  const bool over = !record->restart && !record->group && (ended.reason == EndReason::exited ||
                                         ended.reason == EndReason::out_of_memory);
  if (over) record->ran = true;
  if (record->moving && !over && ended.reason != EndReason::lifetime_reached) {
    return start_elsewhere(now, ended.sandbox, *record, effects);
  }
  if (!record->ran && !record->stop_asked && !record->gang_ended &&
      ended.reason != EndReason::bad_image) {
    return try_again_or_end(now, ended.sandbox, *record, ended.reason, ended.note, effects);
  }
  // Its node knows only that it was told to stop it.
  EndReason reason = ended.reason;
  if (reason == EndReason::terminated && !record->stop_asked) {
    if (record->preempted)
      reason = EndReason::preempted;
    else if (record->gang_ended)
      reason = EndReason::gang_ended;
  }
  unplace(ended.sandbox, *record, effects);
  end(now, ended.sandbox, reason, ended.note, effects);
}

void Sandboxes::on(Time now, const TerminateRequested& asked, Effects& effects) {
  Record* record = state_.sandboxes.find(asked.sandbox);
  if (record == nullptr || record->stop_asked) return;  // gone or already on its way
  if (record->phase == Phase::accepted) {
    effects.push_back(Unplace{asked.sandbox, {}});
    return end(now, asked.sandbox, EndReason::terminated, {}, effects);
  }
  record->stop_asked = true;
  record->moving = false;
  order_stop(asked.sandbox, *record, asked.grace, effects);
}

// Cost: the sandboxes on that node, not all there are.
void Sandboxes::on(Time now, const NodeLost& lost, Effects& effects) {
  const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(lost.node);
  if (slot >= state_.first_on_node.size()) return;
  SandboxId next = state_.first_on_node[slot];
  while (next) {
    const SandboxId id = next;
    Record& record = state_.sandboxes.at(id);
    next = record.next_beside;
    if (record.node != lost.node) continue;
    if (record.moving) {
      start_elsewhere(now, id, record, effects);
      continue;
    }
    if (!record.ran && !record.stop_asked) {
      try_again_or_end(now, id, record, EndReason::node_lost, {}, effects);
    } else {
      unplace(id, record, effects);
      end(now, id, EndReason::node_lost, {}, effects);
    }
  }
}

void Sandboxes::on(Time now, const Woken&, Effects& effects) {
  end_late_gangs(now, effects);
  while (state_.retentions.due(now)) state_.keys.erase(state_.retentions.pop().key);
  while (state_.start_deadlines.due(now)) {
    const SandboxId id = state_.start_deadlines.pop().key;
    Record* record = state_.sandboxes.find(id);
    if (record == nullptr || record->phase != Phase::placed || record->start_deadline > now)
      continue;
    // The node is told to stop it and answers; only then is the placement given back, and another
    // node tried.
    order_stop(id, *record, {}, effects);
  }
}

void Sandboxes::on(Time now, const Resumed&, Effects&) {
  state_.sandboxes.for_each([&](SandboxId id, Record& record) {
    if (record.phase != Phase::placed || record.start_deadline == kNever) return;
    record.start_deadline = now + config_.start_timeout;
    state_.start_deadlines.arm(record.start_deadline, id);
  });
  for (auto& [key, gang] : state_.gangs) {
    if (gang.came == gang.size || gang.ended) continue;
    gang.deadline = now + config_.gang_gather;
    state_.gatherings.arm(gang.deadline, key);
  }
}

void Sandboxes::on(Time, const MoveAsked& asked, Effects& effects) {
  Record* record = state_.sandboxes.find(asked.sandbox);
  if (record == nullptr || record->stop_asked || record->moving) return;
  if (record->phase != Phase::placed && record->phase != Phase::running) return;
  if (record->ran && !record->restart) return;
  if (record->gang && !may_regather(asked.sandbox, *record)) return;
  record->moving = true;
  record->attempts = 0;
  record->failed_on = {};
  order_stop(asked.sandbox, *record, {}, effects);
}

void Sandboxes::on(Time, const Preempted& asked, Effects& effects) {
  Record* record = state_.sandboxes.find(asked.sandbox);
  if (record == nullptr || record->stop_asked || record->moving || record->preempted) return;
  if (record->phase != Phase::placed && record->phase != Phase::running) return;
  record->preempted = true;
  record->moving = !record->ran || record->restart;
  if (record->moving) {
    record->attempts = 0;
    record->failed_on = {};
  }
  order_stop(asked.sandbox, *record, asked.grace, effects);
}

void Sandboxes::order_stop(SandboxId id, Record& record, Duration grace, Effects& effects) {
  record.phase = Phase::ending;
  changed_on(record.node);
  record.start_deadline = kNever;
  effects.push_back(SendStop{record.node, id, grace});
}

// As if it had just been asked for, with what is left of its lifetime.
void Sandboxes::start_elsewhere(Time now, SandboxId id, Record& record, Effects& effects) {
  unplace(id, record, effects);
  if (record.gang && !may_regather(id, record)) {
    return end(now, id, EndReason::gang_ended, {}, effects);
  }
  if (record.ran && record.lifetime.nanos > 0) {
    record.lifetime =
        std::max(nanoseconds(1), record.lifetime - (now - record.runs_since));
  }
  record.phase = Phase::accepted;
  record.moving = record.preempted = record.ran = record.waits = false;
  record.runs_since = kNever;
  record.restarts = 0;
  record.requested = now;
  link(id, record);
  if (record.gang) regather(id, record, effects);
  effects.push_back(AskAdmission{id, record.tenant, record.resources, true});
}

void Sandboxes::changed_on(NodeId node) {
  state_.changes.add(SlotTable<NodeId, int>::slot_of(node));
}

Record* Sandboxes::placed_on(SandboxId sandbox, NodeId node) {
  Record* record = state_.sandboxes.find(sandbox);
  if (record == nullptr || record->phase == Phase::accepted || record->node != node) return nullptr;
  return record;
}

// The list that it stands in: its node's, or while it waits for one its group's. Null: in none.
SandboxId* Sandboxes::first_beside(const Record& record) {
  const auto in = [](std::vector<SandboxId>& lists, std::uint64_t at) {
    if (at >= lists.size()) lists.resize(at + 1);
    return &lists[at];
  };
  if (record.node) return in(state_.first_on_node, SlotTable<NodeId, int>::slot_of(record.node));
  if (record.group) return in(state_.last_waiting, record.group.value - 1);
  return nullptr;
}

void Sandboxes::link(SandboxId id, Record& record) {
  SandboxId* first = first_beside(record);
  if (first == nullptr) return;
  record.previous_beside = {};
  record.next_beside = *first;
  if (*first) state_.sandboxes.at(*first).previous_beside = id;
  *first = id;
}

void Sandboxes::unlink(Record& record) {
  SandboxId* first = first_beside(record);
  if (first == nullptr) return;
  if (record.previous_beside) {
    state_.sandboxes.at(record.previous_beside).next_beside = record.next_beside;
  } else {
    *first = record.next_beside;
  }
  if (record.next_beside) {
    state_.sandboxes.at(record.next_beside).previous_beside = record.previous_beside;
  }
}

void Sandboxes::unplace(SandboxId id, Record& record, Effects& effects) {
  unlink(record);
  changed_on(record.node);
  effects.push_back(Unplace{id, record.node});
  record.node = {};
  record.gpu_mask = 0;
}

void Sandboxes::try_again_or_end(Time now, SandboxId id, Record& record, EndReason reason,
                                 const std::string& note, Effects& effects) {
  record.failed_on = {record.node, record.failed_on[0]};
  unplace(id, record, effects);
  if (record.gang_ended) reason = EndReason::gang_ended;
  if (record.attempts >= config_.start_attempts || record.stop_asked || record.gang_ended ||
      (record.gang && !may_regather(id, record))) {
    return end(now, id, reason, note, effects);
  }
  record.phase = Phase::accepted;
  record.moving = record.preempted = false;
  record.start_deadline = kNever;
  link(id, record);
  if (record.gang) regather(id, record, effects);
  effects.push_back(AskAdmission{id, record.tenant, record.resources, true});
}

void Sandboxes::end(Time now, SandboxId id, EndReason reason, const std::string& note,
                    Effects& effects) {
  Record& record = state_.sandboxes.at(id);
  effects.push_back(Gone{record.reply_to, id, record.group, reason, record.ran, record.stop_asked, note});
  if (!record.key.empty()) {
    state_.retentions.arm(now + config_.key_retention, Key{record.tenant, record.key});
  }
  const bool in_gang = static_cast<bool>(record.gang);
  const GangKey gang{record.tenant, record.gang.id};
  if (record.phase == Phase::accepted) unlink(record);  // else it has left its node
  state_.sandboxes.erase(id);
  if (!in_gang) return;
  // Those that have done their work leave the others to theirs.
  const bool alone = reason == EndReason::exited || reason == EndReason::lifetime_reached;
  leave_gang(now, id, gang, !alone, effects);
}

}  // namespace chalk::sandbox
