// Gangs: members that asked and wait for the rest, then one that stands in line for all.
#include "model/tenancy/tenancy.h"

namespace chalk::tenancy {

const Gathering* Tenancy::gathering(TenantId tenant, const Gang& gang) const {
  const auto found = state_.gangs.find({tenant, gang.id});
  return found == state_.gangs.end() ? nullptr : &found->second;
}

// Whether this was the last: then it speaks for all.
bool Tenancy::gather(SandboxId sandbox, const Held& held) {
  Gathering& gang = state_.gangs[{held.tenant, held.gang.id}];
  gang.members.insert(sandbox);
  gang.amounts.add(amounts_of(held.resources), +1);
  if (gang.members.size() < held.gang.size) return false;
  gang.speaker = sandbox;
  return true;
}

// One is placed or ends. Where that leaves others that wait, they wait for one more again.
void Tenancy::leave_gathering(SandboxId sandbox, Held& held) {
  const auto found = state_.gangs.find({held.tenant, held.gang.id});
  if (found == state_.gangs.end()) return;
  Gathering& gang = found->second;
  const SandboxId speaker = gang.speaker;
  gang.speaker = {};
  if (speaker) {
    Held& speaks = state_.held.at(speaker);
    stop_waiting(speaker, speaks);
    settle_aged(speaker);
    if (speaks.phase == Phase::waiting || speaks.phase == Phase::trying) {
      speaks.phase = Phase::gathering;
    }
  }
  gang.members.erase(sandbox);
  gang.amounts.add(amounts_of(held.resources), -1);
  if (gang.members.empty()) state_.gangs.erase(found);
}

// What must be free for it: of one that speaks for a gang, what all of it asks for.
Amounts Tenancy::wish_of(const Held& held) const {
  const Gathering* gang = held.gang ? gathering(held.tenant, held.gang) : nullptr;
  return gang == nullptr ? amounts_of(held.resources) : gang->amounts;
}

// What a node must have to be of use to it: of one that speaks for a gang, of each amount the least
// of any member.
Resources Tenancy::size_of(const Held& held) const {
  const Gathering* gang = held.gang ? gathering(held.tenant, held.gang) : nullptr;
  Resources least = held.resources;
  if (gang == nullptr) return least;
  for (const SandboxId member : gang->members) {
    least = least_of(least, state_.held.find(member)->resources);
  }
  return least;
}

}  // namespace chalk::tenancy
