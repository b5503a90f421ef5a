// What this server measures, as text for Prometheus. Gauges are read when somebody asks for the
// text; starts and ends of sandboxes since the text before are found in the records then.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "adapters/front/front.h"
#include "adapters/metrics/metrics.h"
#include "adapters/server/context.h"

namespace chalk::server {

class Telemetry {
 public:
  Telemetry();

  void batch(std::size_t events, double append_s, double step_s) {
    metrics_.batch(events, append_s, step_s);
  }
  void log_failed() { metrics_.count("chalk_log_failures_total"); }
  // Of the node agent in this process.
  void observed(const char* name, double seconds);
  void now(const char* name, double value);
  void counted(const char* name);

  std::string text(const Services& services, const front::Front::Counters& counters);
  metrics::Metrics& metrics() { return metrics_; }  // for metrics::count_calls

 private:
  void read_nodes(const Services& services);
  void read_sandboxes(const Services& services);

  metrics::Metrics metrics_;
  std::mutex reading_;      // one text at a time
  std::int64_t read_until_;  // starts and ends up to here are counted
};

}  // namespace chalk::server
