// A short run of a control plane, a gateway and two nodes, in which something of everything happens:
// the good log that mutations begin with. The same bytes each time.
#pragma once
#include <deque>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "sim/world/machines.h"

namespace chalk::fuzz {

class Story {
 public:
  // Writes the log to `path`.
  explicit Story(const std::string& path) : log_(path, LogHeader{}), machines_(&log_) { tell(); }

  std::vector<control::Event> control_events;
  std::vector<node::Event> node_events;  // of the first node
  std::vector<gateway::Event> gateway_events;
  control::State control_state;
  gateway::State gateway_state;
  node::State node_state;
  control::Config config;
  node::Birth birth;
  NodeId node_id;  // of the first node
  Time end;

  static control::SandboxRequested asked(std::uint64_t number) {
    control::SandboxRequested out;
    out.reply_to = number;
    out.key = "key-" + std::to_string(number);
    out.tenant = {1};
    out.resources.cpu_millicores = 500;
    out.resources.memory_bytes = 1LL << 30;
    out.image = {1};
    out.lifetime = seconds(number % 3 == 0 ? 60 : 0);
    out.payload = "payload";
    return out;
  }

 private:
  static constexpr std::uint64_t kNodes = 2;

  static node::Birth birth_of(std::uint64_t key) {
    node::Birth out;
    out.registration.key = key;
    out.registration.incarnation = 1;
    out.registration.pool = {1};
    out.registration.zone = {1};
    out.registration.shape.cpu_millicores = 4'000;
    out.registration.shape.memory_bytes = 16LL << 30;
    out.registration.shape.disk_bytes = 100LL << 30;
    out.registration.shape.start_slots = 4;
    return out;
  }
  void tell() {
    machines_.create_control(config);
    gateway::Config gate;
    gate.gateway = {1};
    machines_.create_gateway(gate);
    for (std::uint64_t i = 0; i < kNodes; ++i) machines_.create_node(birth_of(i + 1));
    birth = birth_of(1);
    say(tenancy::TenantAdded{.tenant = {1}, .quota = {}, .weight = 1, .shares = true,
                             .dedicated_pool = {}});
    fleet::PoolAdded pool;
    pool.pool = {1};
    pool.policy.nodes_max = 10;
    pool.policy.zones = {ZoneId{1}};
    say(pool);
    say(ImageSpec{{1}, {{{1}, 1'000'000, 3'000'000}, {{2}, 500, 700}}});
    say(control::GatewayJoined{{1}, 1});
    for (std::uint32_t i = 0; i < kNodes; ++i) to_node(i, node::Booted{});
    for (std::uint64_t i = 1; i <= 8; ++i) say(asked(i));
    control::GroupSpec group;
    group.group = {1};
    group.tenant = {1};
    group.resources.cpu_millicores = 100;
    group.gateway = {1};
    group.routing.group = {1};
    say(control::GroupDeployed{group});
    for (std::uint64_t call = 1; call <= 4; ++call) {
      to_gateway(functions::RequestArrived{{call}, {1}});
    }
    machines_.checkpoint();
    for (int round = 0; round < 6; ++round) {
      now_ = now_ + seconds(20);
      say(Woken{});
      to_gateway(Woken{});
      for (std::uint32_t i = 0; i < kNodes; ++i) to_node(i, Woken{});
    }
    for (std::uint64_t i = 1; i <= 3; ++i) say(sandbox::TerminateRequested{{i}, seconds(1)});
    to_node(0, node::SandboxExited{{4}, true, "note"});
    to_node(1, node::Resumed{});
    machines_.checkpoint();
    control_state = machines_.control().state();
    gateway_state = machines_.gateway(0).state();
    node_state = machines_.node(0).state();
    node_id = machines_.node(0).id();
    end = now_;
    log_.restarted(Root::node, 1);
    log_.finished(machines_.events(), machines_.running_digest());
    log_.close();
  }

  // Everything that follows from an event happens before the next one.
  void say(control::Event event) { route({std::move(event)}); }
  void to_node(std::uint32_t index, node::Event event) { route({ForNode{index, std::move(event)}}); }
  void to_gateway(gateway::Event event) { route({ForGateway{std::move(event)}}); }

  struct ForNode {
    std::uint32_t index;
    node::Event event;
  };
  struct ForGateway {
    gateway::Event event;
  };
  using Next = std::variant<control::Event, ForNode, ForGateway>;

  void route(std::deque<Next> todo) {
    while (!todo.empty()) {
      const Next next = std::move(todo.front());
      todo.pop_front();
      now_ = now_ + milliseconds(1);
      if (const auto* event = std::get_if<control::Event>(&next)) {
        control_events.push_back(*event);
        std::vector<control::Effect> effects;
        machines_.step(now_, *event, effects);
        for (const auto& effect : effects) follow(effect, todo);
      } else if (const auto* told = std::get_if<ForNode>(&next)) {
        if (told->index == 0) node_events.push_back(told->event);
        std::vector<node::Effect> effects;
        machines_.step(now_, told->index, told->event, effects);
        for (const auto& effect : effects) follow(told->index, effect, todo);
      } else {
        const auto& call = std::get<ForGateway>(next);
        gateway_events.push_back(call.event);
        std::vector<gateway::Effect> effects;
        machines_.step(now_, 0, call.event, effects);
        for (const auto& effect : effects) follow(effect, todo);
      }
    }
  }
  void follow(const control::Effect& effect, std::deque<Next>& todo) {
    if (const auto* order = std::get_if<control::ToNode>(&effect)) {
      todo.push_back(ForNode{nodes_[order->node], node::FromControl{order->envelope}});
    } else if (const auto* order = std::get_if<control::ToGateway>(&effect)) {
      todo.push_back(ForGateway{gateway::FromControl{order->envelope}});
    } else if (const auto* welcome = std::get_if<fleet::WelcomeNode>(&effect)) {
      nodes_[welcome->node] = static_cast<std::uint32_t>(welcome->key - 1);
      todo.push_back(ForNode{nodes_[welcome->node],
                             node::Welcomed{welcome->incarnation, welcome->node}});
    }
  }
  void follow(std::uint32_t index, const node::Effect& effect, std::deque<Next>& todo) {
    if (const auto* hello = std::get_if<node::Register>(&effect)) {
      todo.push_back(control::Event{hello->registration});
    } else if (const auto* report = std::get_if<node::ToControl>(&effect)) {
      todo.push_back(control::Event{control::FromNode{report->node, report->envelope}});
    } else if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
      todo.push_back(ForNode{index, node::SandboxStarted{start->order.sandbox, true, "started"}});
    } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
      todo.push_back(ForNode{index, node::SandboxKilled{kill->sandbox, "killed"}});
    } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
      todo.push_back(ForNode{index, images::PullFinished{pull->pull, true, {}}});
    } else if (std::holds_alternative<node::Scrub>(effect)) {
      todo.push_back(ForNode{index, node::ScrubFinished{}});
    } else if (const auto* save = std::get_if<node::SaveSnapshot>(&effect)) {
      todo.push_back(ForNode{index, node::SnapshotSaved{save->sandbox, save->snapshot, true, 1000}});
    } else if (std::holds_alternative<node::MakeShell>(effect)) {
      todo.push_back(ForNode{index, node::ShellMade{}});
    }
  }
  void follow(const gateway::Effect& effect, std::deque<Next>& todo) {
    if (const auto* report = std::get_if<gateway::ToControl>(&effect)) {
      todo.push_back(control::Event{control::FromGateway{{1}, report->envelope}});
    } else if (const auto* dispatch = std::get_if<functions::Dispatch>(&effect)) {
      todo.push_back(ForGateway{functions::RequestFinished{dispatch->replica}});
    }
  }

  sim::LogWriter log_;
  sim::Machines machines_;
  std::map<NodeId, std::uint32_t> nodes_;
  Time now_{seconds(1).nanos};
};

}  // namespace chalk::fuzz
