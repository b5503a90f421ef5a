#include "sim/world/machines.h"

namespace chalk::sim {

void Machines::create_control(const control::Config& config) {
  control_config_ = config;
  control_.emplace(config);
  running_.add(config);
  if (log_ != nullptr) log_->created(Root::control, 0, config);
}

std::uint32_t Machines::create_gateway(const gateway::Config& config) {
  const auto index = static_cast<std::uint32_t>(gateways_.size());
  gateways_.emplace_back(config);
  running_.add(config);
  if (log_ != nullptr) log_->created(Root::gateway, index, config);
  return index;
}

std::uint32_t Machines::create_node(const node::Birth& birth) {
  const auto index = static_cast<std::uint32_t>(nodes_.size());
  nodes_.emplace_back(shared_config(birth.config), birth.registration);
  running_.add(birth);
  if (log_ != nullptr) log_->created(Root::node, index, birth);
  return index;
}

const node::Config& Machines::shared_config(const node::Config& config) {
  for (const node::Config& known : node_configs_) {
    if (known == config) return known;
  }
  return node_configs_.emplace_back(config);
}

template <class M, class Rebuild>
void Machines::step_one(Root root, std::uint32_t index, Time now, M& machine,
                        const typename M::Event& event, std::vector<typename M::Effect>& effects,
                        Rebuild&& rebuild) {
  if (restore_each_ != 0 && events_ % restore_each_ == 0) {
    typename M::State state;
    CHALK_INVARIANT(decode(encode(machine.state()), state));
    rebuild(std::move(state));
  }
  machine.step(now, event, effects);
  ++events_;
  add_step(running_, root, index, now, event, effects);
  if (log_ != nullptr) log_->event(root, index, now, event, running_.value());
}

void Machines::step(Time now, const control::Event& event, std::vector<control::Effect>& effects) {
  step_one(Root::control, 0, now, *control_, event, effects,
           [&](control::State state) { control_.emplace(control_config_, std::move(state)); });
}

void Machines::step(Time now, std::uint32_t index, const gateway::Event& event,
                    std::vector<gateway::Effect>& effects) {
  gateway::Gateway& machine = gateways_[index];
  step_one(Root::gateway, index, now, machine, event, effects, [&](gateway::State state) {
    machine = gateway::Gateway(machine.config(), std::move(state));
  });
}

void Machines::step(Time now, std::uint32_t index, const node::Event& event,
                    std::vector<node::Effect>& effects) {
  node::Node& machine = nodes_[index];
  step_one(Root::node, index, now, machine, event, effects,
           [&](node::State state) { machine = node::Node(machine.config(), std::move(state)); });
}

void Machines::reconfigure_control(const control::Config& config) {
  control_config_ = config;
  control_.emplace(config, control_->state());
  running_.add(config);
}

void Machines::reconfigure_node(std::uint32_t index, const node::Birth& birth) {
  nodes_[index] = node::Node(shared_config(birth.config), nodes_[index].state());
  running_.add(birth);
}

void Machines::restore_control(control::State state) {
  control_.emplace(control_config_, std::move(state));
  if (log_ != nullptr) log_->restarted(Root::control, 0);
}

void Machines::restore_node(std::uint32_t index) {
  node::Node& machine = nodes_[index];
  node::State state;
  CHALK_INVARIANT(decode(encode(machine.state()), state));
  machine = node::Node(machine.config(), std::move(state));
  if (log_ != nullptr) log_->restarted(Root::node, index);
}

std::uint64_t Machines::state_digest() const {
  Digest digest;
  if (control_) digest.add_word(control_->digest());
  for (const auto& gateway : gateways_) digest.add_word(gateway.digest());
  for (const auto& node : nodes_) digest.add_word(node.digest());
  return digest.value();
}

void Machines::checkpoint() {
  if (log_ != nullptr) log_->checkpoint(events_, state_digest(), running_digest());
}

}  // namespace chalk::sim
