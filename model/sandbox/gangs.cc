// Gangs: what becomes of the others when a member cannot go on.
#include <algorithm>

#include "model/sandbox/sandbox.h"

namespace chalk::sandbox {
namespace {

GangKey key_of(const Record& record) { return {record.tenant, record.gang.id}; }

}  // namespace

bool Sandboxes::refuse_gang(const Requested& asked, Effects& effects) const {
  const auto found = state_.gangs.find({asked.tenant, asked.gang.id});
  std::int64_t came = 0;
  std::int64_t limit = config_.gang_max;
  bool good = asked.gang.size <= config_.gang_max;
  if (found != state_.gangs.end()) {
    const GangMembers& gang = found->second;
    came = gang.came;
    limit = gang.size;
    good = asked.gang.size == gang.size && gang.came < gang.size && !gang.ended;
  }
  if (!good) {
    effects.push_back(Refused{asked.reply_to, {}, asked.group, Refusal::gang_size, 0,
                              asked.gang.size, came, limit});
  }
  return !good;
}

void Sandboxes::join_gang(Time now, SandboxId id, const Record& record) {
  GangMembers& gang = state_.gangs[key_of(record)];
  gang.size = record.gang.size;
  if (gang.came == 0 && gang.size > 1) {
    gang.deadline = now + config_.gang_gather;
    state_.gatherings.arm(gang.deadline, key_of(record));
  }
  ++gang.came;
  gang.members.push_back(id);
}

// Of one that has just gone. What has no node ends at once, the rest once it is stopped.
void Sandboxes::leave_gang(Time now, SandboxId id, GangKey key, bool ends_it, Effects& effects) {
  GangMembers& gang = state_.gangs.at(key);
  std::erase(gang.members, id);
  // Where others wait, or leave their nodes to wait, the gang can never be whole again.
  const bool gathers = std::any_of(gang.members.begin(), gang.members.end(), [&](SandboxId other) {
    const Record& one = state_.sandboxes.at(other);
    return one.phase == Phase::accepted || one.moving;
  });
  if ((ends_it || gathers) && !gang.ended) end_gang(now, gang, effects);
  const auto found = state_.gangs.find(key);
  if (found != state_.gangs.end() && found->second.members.empty()) state_.gangs.erase(found);
}

// The gang itself goes with the last of its members.
void Sandboxes::end_gang(Time now, GangMembers& gang, Effects& effects) {
  gang.ended = true;  // so the ends below end nobody further
  const std::vector<SandboxId> rest = gang.members;
  for (const SandboxId other : rest) {
    if (state_.sandboxes.at(other).phase != Phase::accepted) {
      stop_with_gang(other, effects);
      continue;
    }
    effects.push_back(Unplace{other, {}});
    end(now, other, EndReason::gang_ended, {}, effects);
  }
}

void Sandboxes::end_late_gangs(Time now, Effects& effects) {
  while (state_.gatherings.due(now)) {
    const auto found = state_.gangs.find(state_.gatherings.pop().key);
    if (found == state_.gangs.end()) continue;
    GangMembers& gang = found->second;
    if (gang.came == gang.size || gang.ended || gang.deadline > now) continue;
    end_gang(now, gang, effects);
  }
}

void Sandboxes::stop_with_gang(SandboxId id, Effects& effects) {
  Record& record = state_.sandboxes.at(id);
  record.gang_ended = true;
  record.moving = false;
  record.start_deadline = kNever;
  if (record.phase != Phase::ending) order_stop(id, record, config_.gang_grace, effects);
}

// The others that wait are refused for the same reason; the gang can never be whole.
void Sandboxes::refuse_rest(const AdmissionRefused& refused, GangKey key, Effects& effects) {
  GangMembers& gang = state_.gangs.at(key);
  gang.ended = true;
  std::erase_if(gang.members, [&](SandboxId other) {
    if (other == refused.sandbox) {
      effects.push_back(Unplace{other, {}});
      return true;
    }
    Record& one = state_.sandboxes.at(other);
    if (one.phase != Phase::accepted) {
      stop_with_gang(other, effects);
      return false;
    }
    effects.push_back(Unplace{other, {}});
    effects.push_back(Refused{one.reply_to, other, one.group, Refusal::admission, refused.rule,
                              refused.needed, refused.in_use, refused.limit});
    if (!one.key.empty()) state_.keys.erase(Key{one.tenant, one.key});
    unlink(one);
    state_.sandboxes.erase(other);
    return true;
  });
  if (gang.members.empty()) state_.gangs.erase(key);
}

// Whether all others wait, are on their way to, or may leave their nodes.
bool Sandboxes::may_regather(SandboxId id, const Record& record) const {
  const GangMembers& gang = state_.gangs.at(key_of(record));
  if (gang.ended || gang.members.size() < gang.size) return false;
  return std::all_of(gang.members.begin(), gang.members.end(), [&](SandboxId other) {
    const Record& one = state_.sandboxes.at(other);
    return other == id || one.phase == Phase::accepted || one.moving ||
           (!one.stop_asked && (!one.ran || one.restart));
  });
}

// An attempt of one is an attempt of all: a gang whose members fail in turn would try for ever.
// None of them goes where one has failed.
void Sandboxes::regather(SandboxId id, const Record& record, Effects& effects) {
  for (const SandboxId other : state_.gangs.at(key_of(record)).members) {
    Record& one = state_.sandboxes.at(other);
    one.attempts = record.attempts;
    one.failed_on = record.failed_on;
    if (other == id || (one.phase != Phase::placed && one.phase != Phase::running)) continue;
    one.moving = true;
    order_stop(other, one, {}, effects);
  }
}

}  // namespace chalk::sandbox
