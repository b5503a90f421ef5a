// Why replicas were started or asked to stop: the policy, and the number that asked for it.
#include <fmt/format.h>

#include "sim/explain/explain.h"

namespace chalk::sim {
namespace {

namespace scale = chalk::autoscaler;

const char* why_text(scale::Why why) {
  switch (why) {
    case scale::Why::minimum: return "the least that the group must have";
    case scale::Why::held_calls: return "a start for each call that found no free slot";
    case scale::Why::stable_average: return "kpa: the average over the stable window";
    case scale::Why::panic_average:
      return "kpa: panic, since the short average is above what is ready by the panic threshold";
    case scale::Why::forecast: return "chalk: the forecast plus z standard deviations";
    case scale::Why::expected_call: return "fixed: a call is expected soon";
    case scale::Why::window: return "never below the highest wish of the trailing window";
    case scale::Why::utilisation: return "hpa: the measured utilisation beside the target";
    case scale::Why::backlog: return "chalk: the calls that wait, served within a start time";
    case scale::Why::served_calls: return "others have served the calls that they were ordered for";
  }
  return "";
}

const char* kind_text(scale::Kind kind) {
  switch (kind) {
    case scale::Kind::fixed: return "fixed";
    case scale::Kind::kpa: return "kpa";
    case scale::Kind::chalk: return "chalk";
    case scale::Kind::hpa: return "hpa";
  }
  return "";
}

// The event as the root hands it to the autoscaler; nothing where it does not begin there.
std::optional<scale::Event> handed(const control::Control& before, Time now,
                                   const control::Event& event) {
  if (const auto* from = std::get_if<control::FromGateway>(&event)) {
    const auto& envelope = from->envelope;
    const auto* demand = envelope.message ? std::get_if<Demand>(&*envelope.message) : nullptr;
    if (demand == nullptr) return {};
    const auto state = before.state();
    const std::size_t index = from->gateway.value - 1;
    if (index >= state.routing.gateways.size()) return {};
    control::GatewayLink link = state.routing.gateways[index];
    if (!link.joined || envelope.incarnation != link.incarnation ||
        !link.reports.accept(envelope.sequence)) {
      return {};
    }
    return scale::DemandReported{*demand};
  }
  if (std::holds_alternative<Woken>(event) &&
      before.state().routing.wakes[control::kAutoscaler] <= now) {
    return Woken{};
  }
  if (const auto* deployed = std::get_if<control::GroupDeployed>(&event)) {
    return scale::GroupAdded{deployed->spec.group, deployed->spec.policy};
  }
  return {};
}

template <class Order>
Decision decision_of(const Order& order, const char* verb, const scale::Autoscaler& after,
                     const char* whom = "replicas") {
  Decision decision;
  decision.what = fmt::format("group {}: {} {} {}", order.group.value, verb, order.count, whom);
  decision.where = "autoscaler";
  decision.rule = why_text(order.why);
  decision.numbers = {{"calls at once that asked for it",
                       fmt::format("{:.3f}", static_cast<double>(order.concurrency_milli) * 1e-3)},
                      {"desired replicas", std::to_string(order.desired)}};
  const scale::Group* group = after.group(order.group);
  if (group == nullptr) return decision;
  const scale::GroupPolicy& policy = group->policy;
  std::string wishes;
  for (const std::uint32_t wish : group->wishes.parts) wishes += fmt::format("{} ", wish);
  decision.numbers.insert(decision.numbers.end(),
                          {{"policy", kind_text(policy.kind)},
                           {"ready", std::to_string(group->ready)},
                           {"starting", std::to_string(group->starting)},
                           {"stopping", std::to_string(group->stopping)},
                           {"replicas, least and most",
                            fmt::format("{} and {}", policy.min_replicas, policy.max_replicas)},
                           {"calls at once of a replica", std::to_string(policy.concurrency)},
                           {"target", fmt::format("{} of 1000", policy.target_permille)},
                           {"z", fmt::format("{} of 1000", policy.z_permille)},
                           {"keep_alive", duration_text(policy.keep_alive)},
                           {"wishes of the window", wishes},
                           {"plan", std::to_string(group->plan)},
                           {"start time", duration_text(group->start_took)},
                           {"samples", std::to_string(group->samples.size() +
                                                      group->history.size())}});
  return decision;
}

}  // namespace

std::vector<Decision> explain_scaling(const control::Control& before, Time now,
                                      const control::Event& event) {
  std::vector<Decision> decisions;
  const auto given = handed(before, now, event);
  if (!given) return decisions;
  scale::Autoscaler autoscaler = before.autoscaler();
  std::vector<scale::Effect> said;
  autoscaler.step(now, *given, said);
  for (const scale::Effect& effect : said) {
    if (const auto* start = std::get_if<scale::StartReplicas>(&effect)) {
      decisions.push_back(decision_of(*start, "start", autoscaler));
    } else if (const auto* stop = std::get_if<scale::StopReplicas>(&effect)) {
      decisions.push_back(decision_of(*stop, "stop", autoscaler));
    } else if (const auto* cancel = std::get_if<scale::CancelStarts>(&effect)) {
      decisions.push_back(decision_of(*cancel, "cancel", autoscaler, "starts, of those in line"));
    }
  }
  return decisions;
}

}  // namespace chalk::sim
