// Gangs: all of their members are placed, or what was placed is taken back from an undo log.
#include <algorithm>
#include <tuple>

#include "model/scheduler/index.h"
#include "model/scheduler/placement.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {
namespace {

auto size_of(const PlaceAsked& asked) {
  const Resources& ask = asked.ask;
  return std::tuple(ask.gpus == 0 ? 0 : std::int64_t{ask.gpus} * ask.gpu_millis,
                    ask.cpu_millicores, ask.memory_bytes, ask.disk_bytes);
}

struct Step {  // of the undo log
  std::uint32_t sandbox = 0;
  std::uint32_t node = 0;
  TenantId owner;  // of the node, before
};

}  // namespace

// Cost: one choice for each member, and as much again where the last one fails.
void Scheduler::on(const GangAsked& event, Effects& effects) {
  std::vector<const PlaceAsked*> order;
  for (const PlaceAsked& one : event.members) order.push_back(&one);
  std::stable_sort(order.begin(), order.end(), [](const PlaceAsked* a, const PlaceAsked* b) {
    return size_of(*a) > size_of(*b);
  });
  std::vector<Step> done;
  Effects said;
  const auto refuse = [&](NotPlaced why) {
    for (; !done.empty(); done.pop_back()) {
      const Step& step = done.back();
      free_reservation(step.sandbox);
      NodeInfo& info = state_.infos[step.node];
      if (info.owner == step.owner) continue;
      unlist_node(state_, step.node);
      leave_bucket(state_, step.node);
      info.owner = step.owner;
      join_bucket(state_, step.node);
      list_node(state_, step.node);
    }
    why.sandbox = event.members.front().sandbox;
    effects.push_back(why);
  };
  std::uint32_t claimed = 0;
  for (const PlaceAsked* one : order) {
    Effects at_once;
    if (answer_at_once(*one, at_once)) {
      // No answer: it has a node, or will have one.
      const auto* no = at_once.empty() ? nullptr : std::get_if<NotPlaced>(&at_once.front());
      return refuse(no != nullptr ? *no : NotPlaced{one->sandbox, Shortage::limit, 1, 0, 0});
    }
    PlaceAsked asked = *one;
    asked.own_only = asked.own_only || claimed >= event.claims_max;
    const auto [slot, gpu_mask] = choose(config_, state_, asked);
    if (slot == kNone) return refuse(explain_refusal(state_, asked));
    const TenantId owner = state_.infos[slot].owner;
    claimed += owner != asked.owner ? 1 : 0;
    reserve(slot, gpu_mask, asked);
    done.push_back({static_cast<std::uint32_t>(one->sandbox.value) - 1, slot, owner});
    said.push_back(Placed{one->sandbox, state_.infos[slot].id, gpu_mask, owner != one->owner});
  }
  effects.insert(effects.end(), said.begin(), said.end());
}

}  // namespace chalk::scheduler
