#include "model/gateway/gateway.h"

#include <algorithm>

namespace chalk::gateway {

Gateway::Gateway(Config config, State state)
    : config_(config),
      state_(std::move(state)),
      functions_(config_.functions, std::move(state_.functions)) {
  state_.functions = {};
}

State Gateway::state() const {
  State copy = state_;
  copy.functions = functions_.state();
  return copy;
}

std::uint64_t Gateway::digest() const {
  Digest digest;
  digest.add(state_);
  digest.add(functions_.state());
  return digest.value();
}

void Gateway::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  const Time wake = std::min(state_.functions_wake, state_.heartbeat_at);
  if (wake == state_.wake) return;
  state_.wake = wake;
  if (wake != kNever) effects.push_back(WakeAt{wake});
}

template <class One>
void Gateway::drive(Time now, const One& event, Effects& effects) {
  functions_.take(now, event, scratch_);
  for (const auto& effect : scratch_) {
    std::visit(
        [&](const auto& one) {
          using T = std::remove_cvref_t<decltype(one)>;
          if constexpr (std::same_as<T, functions::ReportDemand>) {
            send_demand(one.demand, effects);
          } else if constexpr (std::same_as<T, functions::ReturnReplica>) {
            send(ReplicaReturned{one.group, one.sandbox}, effects);
          } else if constexpr (std::same_as<T, WakeAt>) {
            state_.functions_wake = one.at;
          } else {
            effects.push_back(one);
          }
        },
        effect);
  }
  scratch_.clear();
}

void Gateway::on(Time now, const FromControl& from, Effects& effects) {
  const auto& envelope = from.envelope;
  if (envelope.incarnation != config_.incarnation) return;  // for who we were before a restart
  state_.reports.acknowledge(envelope.acknowledged);
  while (!state_.late.empty() && state_.reports.size() < config_.reports_max) {
    send(state_.late.begin()->second, effects);
    state_.late.erase(state_.late.begin());
  }
  if (!envelope.message) return;
  if (!state_.orders.accept(envelope.sequence)) return;
  std::visit([&](const auto& order) { drive(now, order, effects); }, *envelope.message);
}

void Gateway::on(Time now, const Woken& woken, Effects& effects) {
  state_.wake = kNever;
  if (state_.functions_wake <= now) {
    state_.functions_wake = kNever;
    drive(now, woken, effects);
  }
  if (state_.heartbeat_at > now) return;
  state_.reports.resend([&](std::uint64_t sequence, const GatewayReport& report) {
    effects.push_back(ToControl{{config_.incarnation, sequence, state_.orders.received, report}});
  });
  effects.push_back(ToControl{{config_.incarnation, 0, state_.orders.received, {}}});
  state_.heartbeat_at = now + config_.heartbeat;
}

void Gateway::send_demand(const Demand& demand, Effects& effects) {
  if (state_.reports.size() < config_.reports_max) return send(demand, effects);
  Demand& newest = state_.late[demand.group];
  const std::uint32_t peak = std::max(newest.peak, demand.peak);
  newest = demand;
  newest.peak = peak;
}

void Gateway::send(GatewayReport report, Effects& effects) {
  const std::uint64_t sequence = state_.reports.push(report);
  effects.push_back(
      ToControl{{config_.incarnation, sequence, state_.orders.received, std::move(report)}});
}

}  // namespace chalk::gateway
