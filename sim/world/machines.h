// The machines of one world and the one way to step them: every event and effect goes through the
// running digest, and to the log when there is one. The world drives it and so does replay.
#pragma once
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "model/control/control.h"
#include "model/gateway/gateway.h"
#include "model/node/node.h"
#include "sim/world/event_log.h"

namespace chalk::sim {

class Machines {
 public:
  // Both optional: `log` receives every record; before each `restore_each`th event its machine
  // is encoded, decoded and built anew, which must change nothing.
  explicit Machines(LogWriter* log = nullptr, std::uint64_t restore_each = 0)
      : log_(log), restore_each_(restore_each) {}

  void create_control(const control::Config& config);
  std::uint32_t create_gateway(const gateway::Config& config);
  std::uint32_t create_node(const node::Birth& birth);

  // A real process that came back with another configuration; its State stays.
  void reconfigure_control(const control::Config& config);
  void reconfigure_node(std::uint32_t index, const node::Birth& birth);

  void step(Time now, const control::Event& event, std::vector<control::Effect>& effects);
  void step(Time now, std::uint32_t gateway, const gateway::Event& event,
            std::vector<gateway::Effect>& effects);
  void step(Time now, std::uint32_t node, const node::Event& event,
            std::vector<node::Effect>& effects);

  bool has_control() const { return control_.has_value(); }
  const control::Control& control() const { return *control_; }
  const control::Config& control_config() const { return control_config_; }
  const gateway::Gateway& gateway(std::uint32_t index) const { return gateways_[index]; }
  const node::Node& node(std::uint32_t index) const { return nodes_[index]; }
  // The first cache lines of a node: 5 hold what a heartbeat needs, 10 what an order needs.
  void prefetch_node(std::uint32_t index, int lines) const {
    const char* at = reinterpret_cast<const char*>(&nodes_[index]);
    for (int line = 0; line < lines; ++line) __builtin_prefetch(at + 64 * line);
  }
  std::size_t gateways() const { return gateways_.size(); }
  std::size_t nodes() const { return nodes_.size(); }

  // The control plane begins anew from a State that it had logged.
  void restore_control(control::State state);
  void restore_node(std::uint32_t index);  // as its agent does after a restart

  std::uint64_t events() const { return events_; }
  std::uint64_t running_digest() const { return running_.value(); }
  std::uint64_t state_digest() const;
  void checkpoint();

 private:
  template <class M, class Rebuild>
  void step_one(Root root, std::uint32_t index, Time now, M& machine,
                const typename M::Event& event, std::vector<typename M::Effect>& effects,
                Rebuild&& rebuild);
  const node::Config& shared_config(const node::Config& config);

  LogWriter* log_;
  std::uint64_t restore_each_;
  control::Config control_config_;
  std::optional<control::Control> control_;
  std::vector<gateway::Gateway> gateways_;
  std::vector<node::Node> nodes_;
  std::deque<node::Config> node_configs_;  // one for all nodes that have the same
  Digest running_;
  std::uint64_t events_ = 0;
};

}  // namespace chalk::sim
