#include "sim/report/sense.h"

#include <set>

namespace chalk::sim {

Better better_of(const std::string& metric) {
  static const std::set<std::string> more = {"completed", "image_hit_ratio"};
  // Demand, the run's own length, and levels that are good or bad only with what they buy.
  static const std::set<std::string> neither = {
      "requests",          "busy_mean",       "starting_mean",
      "simulated_seconds", "utilisation_cpu", "utilisation_memory",
      "utilisation_disk",  "utilisation_gpu", "gpu_allocated_mean",
      "nodes_reclaimed",   "arrivals_seconds"};
  if (more.contains(metric)) return Better::more;
  return neither.contains(metric) ? Better::neither : Better::less;
}

}  // namespace chalk::sim
