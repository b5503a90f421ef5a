#include "adapters/server/waits.h"

#include <algorithm>
#include <chrono>

#include "adapters/api/ids.h"
#include "adapters/server/plane.h"
#include "model/core/resources.h"
#include "model/scheduler/placement.h"

namespace chalk::server {
namespace {

using scheduler::Shortage;
using tenancy::Held;

constexpr Duration kMoment = seconds(1);

std::string of_nodes(std::uint64_t count) {
  return count == 1 ? "the node that it may use" : "the " + std::to_string(count) + " nodes that it may use";
}

// The asks before which it must not go are those of others, who are told apart by their age alone.
std::string spared_text(const tenancy::Tenancy& tenancy, Time now, SandboxId id, const Held& held) {
  const tenancy::State& state = tenancy.state();
  for (const SandboxId one : state.aged) {
    if (one == id) break;
    const Held* aged = state.held.find(one);
    if (aged == nullptr || aged->tenant == held.tenant) continue;
    return "there is room, but it is left to a sandbox of another environment, which has waited for " +
           duration_text(seconds((now - aged->since).nanos / seconds(1).nanos)) +
           "; what has waited for " + duration_text(tenancy.config().bypass_max) +
           " is passed by nobody";
  }
  return "there is room, but it is left to an environment that asks within its guarantee";
}

std::string shortage_text(const control::Control& control, Time now, SandboxId id,
                          const Held& held, const scheduler::NotPlaced& no) {
  const std::string nodes = of_nodes(no.nodes_considered);
  const auto numbers = [&](const char* what, const std::string& needed, const std::string& most) {
    return std::string(what) + ": it asks for " + needed + ", and of " + nodes +
           " none has more than " + most + " free";
  };
  switch (no.why) {
    case Shortage::no_node_in_pool: return "no node has joined";
    case Shortage::no_free_node_for_tenant: {
      const bool apart = control.tenancy().config().separate_tenants;
      return std::string("none of the nodes is free") + (apart ? " or of this environment" : "") +
             ": each is " + (apart ? "another environment's, being wiped, " : "") +
             "drained or lost";
    }
    case Shortage::sandboxes: return "sandboxes: " + nodes + " hold as many as they may";
    case Shortage::gpu:
      return numbers("GPUs", std::to_string(no.needed) + " thousandths",
                     std::to_string(no.best_available));
    case Shortage::cpu:
      return numbers("cpu", std::to_string(no.needed) + "m", std::to_string(no.best_available) + "m");
    case Shortage::memory:
      return numbers("memory", bytes_text(no.needed), bytes_text(no.best_available));
    case Shortage::disk:
      return numbers("disk", bytes_text(no.needed), bytes_text(no.best_available));
    case Shortage::start_slots: return "where there is room for it, others are being started";
    case Shortage::limit: return "the control plane has as many sandboxes as it may";
    case Shortage::spared: return spared_text(control.tenancy(), now, id, held);
  }
  return {};
}

// Of the next of its environment.
std::string first_text(const control::Control& control, Time now, SandboxId id, const Held& held) {
  const tenancy::TryPlace attempt = control.tenancy().attempt(now, id, held);
  scheduler::PlaceAsked asked{id, attempt.owner_key, held.resources, held.pool, {}, {}};
  asked.own_only = attempt.own_only;
  asked.spare = attempt.spare;
  const scheduler::State& state = control.scheduler().state();
  if (scheduler::choose_node(control.scheduler().config(), state, asked) != scheduler::kNone) {
    return held.gang ? "there is no room for all of its gang at one moment" : "it is tried again soon";
  }
  return shortage_text(control, now, id, held, scheduler::explain_refusal(state, asked));
}

// `firsts`: what was said of the first of each line; all of a line share it.
std::string why_waits(const control::Control& control, Time now, SandboxId id, Waits& firsts) {
  const tenancy::State& state = control.tenancy().state();
  const Held* held = state.held.find(id);
  if (held == nullptr || held->phase == tenancy::Phase::placed) return {};
  if (held->phase == tenancy::Phase::nominated) {
    return "it waits for less important sandboxes of this environment, which have been asked to end";
  }
  const tenancy::Gathering* gang =
      held->gang ? control.tenancy().gathering(held->tenant, held->gang) : nullptr;
  if (gang != nullptr && !gang->speaker) {
    return "it waits for its gang: " + std::to_string(gang->members.size()) + " of " +
           std::to_string(held->gang.size) + " have asked";
  }
  const SandboxId speaks = gang != nullptr ? gang->speaker : id;
  const auto& line = state.tenants.at(held->tenant).waiting;
  const SandboxId first = line.empty() ? speaks : line.begin()->second;
  std::string& why = firsts[first];
  if (why.empty()) why = first_text(control, now, first, *state.held.find(first));
  if (first == speaks) return "it waits for a node: " + why;
  return "it waits behind sandbox " + api::sandbox_text_id(first) +
         " of this environment, which waits for a node: " + why;
}

}  // namespace

Waits why_wait(const control::Control& control, Time now, std::span<const SandboxId> sandboxes) {
  Waits out, firsts;
  for (const SandboxId id : sandboxes) {
    if (std::string why = why_waits(control, now, id, firsts); !why.empty()) out[id] = std::move(why);
  }
  return out;
}

Waits waits_of(Plane& plane, std::span<const records::Sandbox> sandboxes) {
  const Time now{std::chrono::duration_cast<std::chrono::nanoseconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count()};
  std::vector<SandboxId> waiting;
  for (const records::Sandbox& one : sandboxes) {
    if (one.status == records::Status::pending && one.created + kMoment <= now) {
      waiting.push_back(one.sandbox);
    }
  }
  return waiting.empty() ? Waits{} : plane.waits(std::move(waiting), now);
}

}  // namespace chalk::server
