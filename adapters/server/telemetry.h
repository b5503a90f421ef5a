// What the server measures of itself, for /metrics.
#pragma once
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "adapters/front/front.h"
#include "adapters/metrics/metrics.h"
#include "adapters/server/context.h"
#include "model/control/control.h"

namespace chalk::server {

class Telemetry {
 public:
  metrics::Metrics& metrics() { return metrics_; }
  // Of the node in this process.
  void observed(const char* phase, double seconds) {
    metrics_.observe("chalk_agent_phase_seconds", seconds, {{"phase", phase}});
  }
  void now(const char* what, double value) {
    metrics_.set("chalk_agent_value", value, {{"what", what}});
  }
  void counted(const char* what) {
    metrics_.count("chalk_agent_events_total", {{"what", what}});
  }
  // Of each step of the driver, on its thread.
  void seen(Time now, const std::vector<control::Effect>& effects);
  // Everything, with what is true now.
  std::string text(const Services& services, const front::Front::Counters& front);

 private:
  void refresh(const Services& services, const front::Front::Counters& front);
  void show_plane(const Services& services);
  metrics::Metrics metrics_;
  std::mutex mutex_;  // of what a scrape sets
};

}  // namespace chalk::server
