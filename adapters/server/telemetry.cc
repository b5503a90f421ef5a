#include "adapters/server/telemetry.h"

#include "adapters/records/records.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::server {
namespace {

const char* reason_name(EndReason reason) {
  switch (reason) {
    case EndReason::exited: return "exited";
    case EndReason::terminated: return "terminated";
    case EndReason::lifetime_reached: return "lifetime_reached";
    case EndReason::start_failed: return "start_failed";
    case EndReason::pull_failed: return "pull_failed";
    case EndReason::out_of_memory: return "out_of_memory";
    case EndReason::node_lost: return "node_lost";
    case EndReason::agent_restarted: return "agent_restarted";
    case EndReason::bad_image: return "bad_image";
    case EndReason::preempted: return "preempted";
    case EndReason::gang_ended: return "gang_ended";
  }
  return "other";
}

const char* status_name(records::Status status) {
  switch (status) {
    case records::Status::pending: return "pending";
    case records::Status::running: return "running";
    case records::Status::ending: return "ending";
    case records::Status::ended: return "ended";
    case records::Status::refused: return "refused";
  }
  return "other";
}

}  // namespace

void Telemetry::seen(Time now, const std::vector<control::Effect>& effects) {
  for (const control::Effect& effect : effects) {
    if (const auto* gone = std::get_if<sandbox::Gone>(&effect)) {
      metrics_.count("chalk_sandboxes_ended_total", {{"reason", reason_name(gone->reason)}});
    } else if (const auto* running = std::get_if<sandbox::Running>(&effect)) {
      node::v1::SandboxNote note;
      note.ParseFromString(running->note);
      metrics::StartTimes times;
      times.asked = now.nanos - running->took.nanos;
      times.accepted = note.accepted_at();
      times.layers_ready = note.layers_ready_at();
      times.network_ready = note.network_ready_at();
      times.created = note.created_at();
      times.started = note.started_at();
      times.first_byte = note.first_byte_at();
      times.ready = note.ready_at();
      times.running = now.nanos;
      metrics_.start(times);
    }
  }
}

// What only the machine knows. It is left out while the log stands still: old numbers would be taken
// for new ones, and a scrape does not wait for long.
void Telemetry::show_plane(const Services& services) {
  const auto nodes = services.plane.nodes();
  const auto pending = nodes ? services.plane.pending() : std::unexpected(nodes.error());
  const auto log = pending ? services.plane.log_state() : std::unexpected(pending.error());
  const std::lock_guard lock(mutex_);
  if (!log) {
    for (const char* name : {"chalk_nodes", "chalk_node_cpu_millicores", "chalk_node_memory_bytes",
                             "chalk_node_disk_bytes", "chalk_sandboxes_pending", "chalk_log_events"}) {
      metrics_.leave_out(name);
    }
    return;
  }
  double connected = 0, lost = 0, draining = 0;
  double cpu = 0, cpu_used = 0, memory = 0, memory_used = 0, disk = 0, disk_used = 0;
  for (const NodeView& node : *nodes) {
    ++(services.nodes.connected(node.key) ? connected : lost);
    draining += node.draining;
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
  for (const auto& [name, offered, used] :
       {std::tuple{"chalk_node_cpu_millicores", cpu, cpu_used},
        std::tuple{"chalk_node_memory_bytes", memory, memory_used},
        std::tuple{"chalk_node_disk_bytes", disk, disk_used}}) {
    metrics_.set(name, offered, {{"what", "offered"}});
    metrics_.set(name, used, {{"what", "used"}});
  }
  metrics_.set("chalk_sandboxes_pending", static_cast<double>(*pending));
  metrics_.set("chalk_log_events", static_cast<double>(log->next - log->first));
}

void Telemetry::refresh(const Services& services, const front::Front::Counters& front) {
  metrics_.set("chalk_front_connections", static_cast<double>(front.open));
  for (const auto& [outcome, total] :
       {std::pair{"accepted", front.accepted}, {"refused", front.refused}, {"failed", front.failed}}) {
    metrics_.grown_to("chalk_front_connections_total", static_cast<double>(total),
                      {{"outcome", outcome}});
  }
  for (const auto& [protocol, total] : {std::pair{"grpc", front.grpc}, {"http", front.requests}}) {
    metrics_.grown_to("chalk_front_requests_total", static_cast<double>(total),
                      {{"protocol", protocol}});
  }
  std::map<records::Status, double> by_status{
      {records::Status::pending, 0}, {records::Status::running, 0}, {records::Status::ending, 0}};
  records::Records::Filter live;
  live.ended = false;
  live.limit = 1'000'000;
  for (const records::Sandbox& one : services.plane.records().list(live)) ++by_status[one.status];
  for (const auto& [status, count] : by_status) {
    metrics_.set("chalk_sandboxes", count, {{"status", status_name(status)}});
  }
  metrics_.set("chalk_log_fenced", services.plane.fenced());
  metrics_.set("chalk_log_stands_still_seconds",
               std::chrono::duration<double>(services.plane.log_stands_still_for()).count());
}

std::string Telemetry::text(const Services& services, const front::Front::Counters& front) {
  show_plane(services);
  const std::lock_guard lock(mutex_);
  refresh(services, front);
  return metrics_.text();
}

}  // namespace chalk::server
