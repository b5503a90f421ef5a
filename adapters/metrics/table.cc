#include "adapters/metrics/table.h"

namespace chalk::metrics {

const std::vector<Description>& table() {
  using enum Kind;
  static const std::vector<Description> all = {
      {"chalk_driver_batch_events", histogram, Buckets::sizes, {}, "Events in one sync of the log"},
      {"chalk_driver_append_seconds", histogram, Buckets::fast_seconds, {},
       "Time to make one batch of events durable"},
      {"chalk_driver_step_seconds", histogram, Buckets::fast_seconds, {},
       "Time for the machine to step through one batch"},
      {"chalk_driver_inbox_events", gauge, Buckets::none, {}, "Events that wait for the driver"},
      {"chalk_log_events", gauge, Buckets::none, {}, "Events that the log holds now"},
      {"chalk_log_failures_total", counter, Buckets::none, {}, "Failures of the log's disk"},
      {"chalk_log_fenced", gauge, Buckets::none, {}, "1 when another server has taken the log"},
      {"chalk_log_stands_still_seconds", gauge, Buckets::none, {},
       "For how long the log has not taken a write that it was given; 0 when it takes them"},
      {"chalk_grpc_calls_total", counter, Buckets::none, {"method", "code"},
       "Calls answered, by method and status code"},
      {"chalk_grpc_call_seconds", histogram, Buckets::seconds, {"method", ""},
       "Time from a call's begin to its status; streams as long as they were open"},
      {"chalk_front_connections", gauge, Buckets::none, {}, "Connections to the public port now"},
      {"chalk_front_connections_total", counter, Buckets::none, {"outcome", ""},
       "Connections to the public port: accepted, refused, failed"},
      {"chalk_front_requests_total", counter, Buckets::none, {"protocol", ""},
       "grpc connections and http requests on the public port"},
      {"chalk_nodes", gauge, Buckets::none, {"state", ""}, "Nodes known: connected, lost, draining"},
      {"chalk_node_cpu_millicores", gauge, Buckets::none, {"what", ""}, "CPU of all nodes: offered, used"},
      {"chalk_node_memory_bytes", gauge, Buckets::none, {"what", ""},
       "Memory of all nodes: offered, used"},
      {"chalk_node_disk_bytes", gauge, Buckets::none, {"what", ""}, "Disk of all nodes: offered, used"},
      {"chalk_node_starts_failed_total", counter, Buckets::none, {"node", "reason"},
       "Starts that a node refused or failed, as it reported them; they are tried on other nodes"},
      {"chalk_sandboxes", gauge, Buckets::none, {"status", ""}, "Sandboxes that live, by status"},
      {"chalk_sandboxes_pending", gauge, Buckets::none, {}, "Sandboxes that wait for room"},
      {"chalk_sandboxes_ended_total", counter, Buckets::none, {"reason", ""},
       "Sandboxes that have ended, by reason"},
      {"chalk_sandbox_start_seconds", histogram, Buckets::seconds, {},
       "Time from asking for a sandbox until it runs"},
      {"chalk_sandbox_start_phase_seconds", histogram, Buckets::seconds, {"phase", ""},
       "The parts of a start: place, layers, network, create, start, first_byte, ready"},
      {"chalk_agent_phase_seconds", histogram, Buckets::seconds, {"phase", ""},
       "What a node agent measures of its work"},
      {"chalk_agent_value", gauge, Buckets::none, {"what", ""}, "What a node agent counts now"},
      {"chalk_agent_events_total", counter, Buckets::none, {"what", ""},
       "What a node agent has counted"},
      {"chalk_metrics_misused_total", counter, Buckets::none, {},
       "Measurements under a name or label that the program does not describe"},
  };
  return all;
}

std::vector<double> bounds(Buckets buckets) {
  switch (buckets) {
    case Buckets::none: return {};
    case Buckets::fast_seconds:
      return {1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10};
    case Buckets::seconds:
      return {1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
    case Buckets::sizes: return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  }
  return {};
}

}  // namespace chalk::metrics
