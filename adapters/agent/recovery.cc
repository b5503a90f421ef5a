#include "adapters/agent/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <string>

#include "adapters/agent/live_sandbox.h"

namespace chalk::agent {
namespace {

std::string gone_note(const Found* found, const std::string& why) {
  node::v1::SandboxNote note;
  note.set_ended_at(wall_nanos());
  note.set_detail(why);
  if (found != nullptr && found->end.known) {
    note.set_exit_code(found->end.exit_code);
    note.set_signal(found->end.signal);
  }
  return note.SerializeAsString();
}

}  // namespace

Recovery recover(const std::map<SandboxId, node::Sandbox>& state, Machinery& machinery,
                 network::Network& network, Sandboxes& sandboxes) {
  Recovery recovery;
  std::map<std::string, Found> found;
  if (auto listed = machinery.list()) {
    for (Found& one : *listed) found.emplace(one.name, std::move(one));
  } else {
    spdlog::error("recovery: the runtime does not say what runs: {}", listed.error().message);
  }
  // Sandboxes that are stopping are taken over too: the kill that follows finds them.
  std::vector<std::string> alive;
  for (const auto& [id, sandbox] : state) {
    const auto place = found.find(name_of(id));
    const bool owned = sandbox.phase == node::Phase::running ||
                       (sandbox.phase == node::Phase::stopping && !sandbox.start_under_way);
    if (owned && place != found.end() && place->second.running) alive.push_back(name_of(id));
  }
  std::vector<std::string> closed;  // until they have said again that they are ready
  for (const std::string& name : alive) {
    node::v1::SandboxPayload payload;
    if (payload.ParseFromString(state.at(sandbox_of(name)).order.payload) &&
        payload.has_readiness_probe()) {
      closed.push_back(name);
    }
  }
  const auto networks = network.recover(alive, closed);
  if (networks) {
    for (const auto& one : networks->unpublished) {
      spdlog::warn("sandbox {}: host port {} is taken by somebody else now", one.sandbox,
                   one.host_port);
    }
    for (const std::string& name : networks->lost) {
      spdlog::warn("sandbox {}: its network namespace is gone; it goes on without", name);
    }
  } else {
    spdlog::error("recovery: network: {}", networks.error().message);
  }
  std::map<std::string, std::string> failed;
  for (const std::string& name : alive) {
    const auto adopted = sandboxes.adopt(state.at(sandbox_of(name)).order);
    if (adopted) {
      found.erase(name);
      ++recovery.adopted;
    } else {
      spdlog::warn("sandbox {}: cannot be taken over: {}", name, adopted.error().message);
      failed[name] = adopted.error().message;
    }
  }
  std::set<std::string> stay;  // what could not be taken away: its processes may go on
  for (const auto& [name, one] : found) {
    spdlog::info("recovery: {} {} and is not to: taken away", name,
                 one.running ? "runs" : "has left remains");
    if (sandboxes.reap(name)) {
      ++recovery.reaped;
    } else {
      stay.insert(name);
    }
  }
  for (const auto& [id, sandbox] : state) {
    const bool again = sandbox.phase == node::Phase::running || sandbox.restarts > 0;
    const bool adopted = std::find(alive.begin(), alive.end(), name_of(id)) != alive.end() &&
                         !failed.contains(name_of(id));
    if (sandbox.order.restart && again && !adopted) sandboxes.keep_output(id);
    const std::string name = name_of(id);
    const bool told = sandbox.phase == node::Phase::running || sandbox.phase == node::Phase::stopping;
    if (told && stay.contains(name)) {
      sandboxes.end_when_gone(sandbox.order, found.at(name).end);
      continue;
    }
    if (sandbox.phase != node::Phase::running) continue;
    const auto place = found.find(name);
    const auto broken = failed.find(name);
    if (broken != failed.end()) {
      recovery.gone.push_back(
          {id, false, gone_note(nullptr, "it could not be taken over: " + broken->second)});
    } else if (place != found.end()) {
      recovery.gone.push_back({id, place->second.end.out_of_memory,
                               gone_note(&place->second, "ended while the agent was away")});
    } else if (std::find(alive.begin(), alive.end(), name) == alive.end()) {
      recovery.gone.push_back({id, false, gone_note(nullptr, "ended while the agent was away")});
    }
  }
  return recovery;
}

}  // namespace chalk::agent
