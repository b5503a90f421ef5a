// The node machine in the shape that the driver takes: it owns its configuration.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "model/node/node.h"

namespace chalk::runtime {

class NodeRoot {
 public:
  using Config = node::Birth;
  using Event = node::Event;
  using Effect = node::Effect;
  using State = node::State;

  explicit NodeRoot(Config birth = {})
      : birth_(std::make_unique<Config>(std::move(birth))),
        machine_(birth_->config, birth_->registration) {}
  NodeRoot(Config birth, State state)
      : birth_(std::make_unique<Config>(std::move(birth))),
        machine_(birth_->config, std::move(state)) {}

  void step(Time now, const Event& event, std::vector<Effect>& effects) {
    machine_.step(now, event, effects);
  }
  State state() const { return machine_.state(); }
  const node::Node& node() const { return machine_; }

 private:
  std::unique_ptr<Config> birth_;  // at one address, which the machine keeps
  node::Node machine_;
};

}  // namespace chalk::runtime
