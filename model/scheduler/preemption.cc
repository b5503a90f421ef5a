#include "model/scheduler/preemption.h"

#include <algorithm>
#include <tuple>

#include "model/scheduler/index.h"

namespace chalk::scheduler {

void Room::add(const Reservation& held, int sign) {
  cpu += sign * held.cpu;
  memory += sign * held.memory;
  disk += sign * held.disk;
  sandboxes += sign;
  for (int gpu = 0; gpu < gpu_count; ++gpu) {
    if (held.gpu_mask >> gpu & 1) gpus[gpu] += sign * held.gpu_millis;
  }
}

void Room::owe(const Nomination& nomination) {
  const Hold& hold = nomination.hold;
  cpu -= nomination.ask.cpu_millicores - hold.cpu;
  memory -= nomination.ask.memory_bytes - hold.memory;
  disk -= nomination.ask.disk_bytes - hold.disk;
  sandboxes -= hold.sandbox ? 0 : 1;
  starts -= hold.start ? 0 : 1;
  for (int gpu = 0; gpu < gpu_count; ++gpu) {
    if (nomination.gpu_mask >> gpu & 1) gpus[gpu] -= nomination.ask.gpu_millis - hold.gpus[gpu];
  }
}

bool Room::fits(const Resources& ask) const {
  if (cpu < ask.cpu_millicores || memory < ask.memory_bytes || disk < ask.disk_bytes ||
      sandboxes < 1) {
    return false;
  }
  const auto holds = std::count_if(gpus.begin(), gpus.begin() + gpu_count,
                                   [&](std::int32_t free) { return free >= ask.gpu_millis; });
  return holds >= ask.gpus;
}

std::uint32_t Room::gpus_for(const Resources& ask) const {
  std::uint32_t mask = 0;
  for (std::int32_t left = ask.gpus; left > 0; --left) {
    int best = -1;
    for (int gpu = 0; gpu < gpu_count; ++gpu) {
      if ((mask >> gpu & 1) || gpus[gpu] < ask.gpu_millis) continue;
      if (best < 0 || gpus[gpu] < gpus[best]) best = gpu;
    }
    mask |= 1u << best;
  }
  return mask;
}

Room room_of(const State& state, std::uint32_t slot) {
  const Node& node = state.nodes[slot];
  const NodeInfo& info = state.infos[slot];
  Room room;
  room.cpu = node.cpu;
  room.memory = node.memory;
  room.disk = node.disk;
  room.sandboxes = info.sandboxes_free;
  room.starts = info.starts_free;
  room.gpu_count = info.shape.gpus;
  for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
    room.gpus[gpu] = state.gpu_rows[info.gpu_row].free[gpu];
  }
  return room;
}

std::optional<Victims> victims_on(std::uint32_t slot, Room room,
                                  std::vector<Preemptible> candidates, const Resources& ask) {
  for (const Preemptible& one : candidates) room.add(one.held, +1);
  if (!room.fits(ask)) return std::nullopt;
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::tuple(b.priority, b.ran, a.sandbox) < std::tuple(a.priority, a.ran, b.sandbox);
  });
  Victims victims;
  victims.slot = slot;
  for (const Preemptible& one : candidates) {
    room.add(one.held, -1);
    if (room.fits(ask)) continue;  // it is spared
    room.add(one.held, +1);
    victims.sandboxes.push_back(one.sandbox);
    victims.highest = std::max<std::int32_t>(victims.highest, one.priority);
    victims.lost = victims.lost + one.ran;
  }
  victims.gpu_mask = room.gpus_for(ask);
  victims.starts_wait = room.starts < 1;
  return victims;
}

}  // namespace chalk::scheduler
