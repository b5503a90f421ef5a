#include "adapters/server/telemetry.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "adapters/server/describe.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

// What happens now may still get neighbours with the same time.
constexpr std::int64_t kSettled = 1'000'000'000;

std::int64_t now_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string_view reason_word(const records::Sandbox& sandbox) {
  if (sandbox.status == records::Status::refused) return "refused";
  switch (sandbox.reason) {
    case EndReason::exited: return "exited";
    case EndReason::terminated: return "terminated";
    case EndReason::lifetime_reached: return "lifetime_reached";
    case EndReason::start_failed: return "start_failed";
    case EndReason::pull_failed: return "pull_failed";
    case EndReason::out_of_memory: return "out_of_memory";
    case EndReason::node_lost: return "node_lost";
    case EndReason::agent_restarted: return "agent_restarted";
  }
  return "other";
}

metrics::StartTimes times_of(const records::Sandbox& sandbox) {
  const node::v1::SandboxNote note = describe(sandbox).note;
  metrics::StartTimes times;
  times.asked = sandbox.created.nanos;
  times.placed = sandbox.placed.nanos;
  times.accepted = note.accepted_at();
  times.layers_ready = note.layers_ready_at();
  times.network_ready = note.network_ready_at();
  times.created = note.created_at();
  times.started = note.started_at();
  times.first_byte = note.first_byte_at();
  times.ready = note.ready_at();
  times.running = sandbox.running.nanos;
  return times;
}

}  // namespace

Telemetry::Telemetry() : read_until_(now_nanos()) {}

void Telemetry::observed(const char* name, double seconds) {
  metrics_.observe("chalk_agent_phase_seconds", seconds, {{"phase", name}});
}
void Telemetry::now(const char* name, double value) {
  metrics_.set("chalk_agent_value", value, {{"what", name}});
}
void Telemetry::counted(const char* name) {
  metrics_.count("chalk_agent_events_total", {{"what", name}});
}

void Telemetry::read_nodes(const Services& services) {
  double connected = 0, lost = 0, draining = 0, cpu = 0, cpu_used = 0, memory = 0, memory_used = 0,
         disk = 0, disk_used = 0;
  for (const NodeView& node : services.plane.nodes()) {
    (services.nodes.connected(node.key) ? connected : lost) += 1;
    if (node.draining) draining += 1;
    cpu += static_cast<double>(node.shape.cpu_millicores);
    cpu_used += static_cast<double>(node.cpu_millicores_used);
    memory += static_cast<double>(node.shape.memory_bytes);
    memory_used += static_cast<double>(node.memory_bytes_used);
    disk += static_cast<double>(node.shape.disk_bytes);
    disk_used += static_cast<double>(node.disk_bytes_used);
  }
  metrics_.set("chalk_nodes", connected, {{"state", "connected"}});
  metrics_.set("chalk_nodes", lost, {{"state", "lost"}});
  metrics_.set("chalk_nodes", draining, {{"state", "draining"}});
  metrics_.set("chalk_node_cpu_millicores", cpu, {{"what", "offered"}});
  metrics_.set("chalk_node_cpu_millicores", cpu_used, {{"what", "used"}});
  metrics_.set("chalk_node_memory_bytes", memory, {{"what", "offered"}});
  metrics_.set("chalk_node_memory_bytes", memory_used, {{"what", "used"}});
  metrics_.set("chalk_node_disk_bytes", disk, {{"what", "offered"}});
  metrics_.set("chalk_node_disk_bytes", disk_used, {{"what", "used"}});
}

void Telemetry::read_sandboxes(const Services& services) {
  const std::int64_t from = read_until_;
  const std::int64_t until = std::max(from, now_nanos() - kSettled);
  const auto fresh = [&](Time at) { return at.nanos > from && at.nanos <= until; };
  std::array<double, 5> by_status{};
  records::Records::Filter filter;
  filter.limit = 100'000;
  const auto found =
      services.plane.records().list(filter, [&](const records::Sandbox& one) {
        by_status[static_cast<std::size_t>(one.status) % by_status.size()] += 1;
        return fresh(one.running) || fresh(one.ended);
      });
  for (const records::Sandbox& one : found) {
    if (fresh(one.running)) metrics_.start(times_of(one));
    if (fresh(one.ended)) {
      metrics_.count("chalk_sandboxes_ended_total", {{"reason", reason_word(one)}});
    }
  }
  read_until_ = until;
  using records::Status;
  for (const auto& [status, word] : {std::pair{Status::pending, "pending"},
                                     {Status::running, "running"},
                                     {Status::ending, "stopping"}}) {
    metrics_.set("chalk_sandboxes", by_status[static_cast<std::size_t>(status)],
                 {{"status", word}});
  }
}

std::string Telemetry::text(const Services& services, const front::Front::Counters& counters) {
  const std::lock_guard lock(reading_);
  const Plane::LogState log = services.plane.log_state();
  metrics_.set("chalk_log_events", static_cast<double>(log.next - log.first));
  metrics_.set("chalk_log_fenced", log.fenced ? 1 : 0);
  metrics_.set("chalk_sandboxes_pending", static_cast<double>(services.plane.pending()));
  read_nodes(services);
  read_sandboxes(services);
  const auto total = [&](const char* name, const char* label, const char* value,
                         std::uint64_t count) {
    metrics_.grown_to(name, static_cast<double>(count), {{label, value}});
  };
  metrics_.set("chalk_front_connections", static_cast<double>(counters.open));
  total("chalk_front_connections_total", "outcome", "accepted", counters.accepted);
  total("chalk_front_connections_total", "outcome", "refused", counters.refused);
  total("chalk_front_connections_total", "outcome", "failed", counters.failed);
  total("chalk_front_requests_total", "protocol", "grpc", counters.grpc);
  total("chalk_front_requests_total", "protocol", "http", counters.requests);
  return metrics_.text();
}

}  // namespace chalk::server
