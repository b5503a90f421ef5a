// What is measured while a world runs: in integers and levels that change at moments, in memory
// that does not grow with the number of requests.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/core/digest.h"
#include "sim/check/truth.h"
#include "sim/report/result.h"
#include "sim/workload/source.h"
#include "sim/world/setup.h"

namespace chalk::sim {

// The first of `watched` that no tenant has; empty where all are somebody.
std::string watches_nobody(const std::vector<std::string>& watched,
                           const std::vector<std::string>& tenants);

class Measure {
 public:
  // Throws InputError where the scenario watches a tenant that the workload does not have.
  void begin(const Setup& setup, const Catalogue& catalogue);

  void arrived() { ++result_.requests; }
  // What was asked for, whatever was decided: of clients that wait, a decision says when they ask.
  void demanded(const Arrival& one) {
    clients_wait_ = clients_wait_ || one.client != kNoClient;
    demand_.add(one.at.nanos);
    demand_.add(one.service.nanos);
    demand_.add(std::uint64_t{one.function} << 32 | one.caller);
    if (one.kind == ArrivalKind::request) return;
    const SandboxAsk& ask = one.sandbox;
    demand_.add(std::uint64_t{ask.tenant} << 32 | ask.image);
    demand_size(ask.resources);
    demand_.add(ask.lifetime.nanos);
    demand_.add(std::uint64_t{ask.gang} << 32 | static_cast<std::uint32_t>(ask.priority) << 1 |
                (ask.restart ? 1 : 0));
  }
  std::uint64_t arrivals() const { return result_.requests; }
  // `tenant` is whose call or sandbox it is, as the catalogue numbers them.
  void dispatched(Time now, Duration wait, bool cold, std::uint32_t tenant) {
    wait_.add(wait.nanos);
    if (watches(tenant)) watched_wait_.add(wait.nanos);
    result_.cold_starts += cold ? 1 : 0;
    in_service_.add(now.nanos, 1);
  }
  void call_finished(Time now, Duration total, std::uint32_t tenant) {
    total_.add(total.nanos);
    if (watches(tenant)) watched_total_.add(total.nanos);
    ++result_.completed;
    in_service_.add(now.nanos, -1);
  }
  // At the end of the run; `here` is since it arrived. Its wait is known once it was served.
  void unfinished(Duration here, bool served, std::uint32_t tenant) {
    total_.add(here.nanos);
    if (watches(tenant)) watched_total_.add(here.nanos);
    if (served) return;
    ++result_.not_begun;
    wait_.add(here.nanos);
    if (watches(tenant)) watched_wait_.add(here.nanos);
  }
  void call_broken(Time now, const std::string& reason) {
    in_service_.add(now.nanos, -1);
    ++result_.failed[reason];
  }
  void refused(const std::string& rule, std::uint32_t tenant) {
    ++result_.refused[rule];
    if (watches(tenant)) ++result_.watched_refused;
  }
  void failed(const std::string& reason) { ++result_.failed[reason]; }

  void node_up(Time now, const Pool& pool);
  void node_down(Time now, const Pool& pool);
  void node_bought(Time now, const Pool& pool) {
    booting_.add(now.nanos, 1);
    boot_rate_.add(now.nanos, pool.price_per_hour);
  }
  void node_arrived(Time now, const Pool& pool) {
    booting_.add(now.nanos, -1);
    boot_rate_.add(now.nanos, -pool.price_per_hour);
  }
  void sandbox_started(Time now, const LiveSandbox& sandbox, const TrueNode& node, bool has_image,
                       bool hit);
  void sandbox_running(Time now) { starting_.add(now.nanos, -1); }
  void sandbox_ended(Time now, const LiveSandbox& sandbox, const TrueNode& node);
  void snapshot_saved() { ++result_.snapshots_saved; }
  void scaling_turned(std::uint64_t turns) { result_.scaling_turns = turns; }
  void pulled(std::int64_t bytes) { result_.image_bytes_pulled += static_cast<double>(bytes); }
  void pulled_from_peer(std::int64_t bytes) {
    result_.image_bytes_from_peers += static_cast<double>(bytes);
  }

  double in_service() const { return in_service_.value(); }
  // One row of the time series; `waiting` is the number of requests not in service.
  void sample(Time now, std::size_t waiting);
  double sample_step_nanos() const { return result_.series.step_seconds * 1e9; }
  // The arrivals are over: means over time are those until now.
  void end_window(Time now);
  Result result(Time now);

 private:
  bool watches(std::uint32_t tenant) const { return tenant < watched_.size() && watched_[tenant]; }
  void demand_size(Resources size);
  static void name_shares(std::vector<Share>& out, const std::vector<Level>& levels,
                          const std::vector<std::uint64_t>& counts,
                          const std::vector<std::string>& names);
  void write_window(Time now);
  void write_whole(Time now);

  Result result_;
  Histogram wait_;
  Histogram total_;
  Histogram watched_wait_;
  Histogram watched_total_;
  std::vector<bool> watched_;  // by tenant; empty: none
  Level sandboxes_, starting_, in_service_, nodes_, booting_, cost_rate_, boot_rate_;
  Level cpu_, memory_, disk_, gpu_;
  Level cpu_capacity_, memory_capacity_, disk_capacity_, gpu_capacity_;
  std::vector<Level> tenant_cores_, zone_cores_;
  std::vector<std::uint64_t> tenant_sandboxes_, zone_sandboxes_;
  std::vector<std::string> tenant_names_, zone_names_;
  std::uint64_t image_starts_ = 0;
  std::uint64_t image_hits_ = 0;
  std::uint64_t sampled_arrivals_ = 0;
  std::uint64_t sampled_finished_ = 0;
  bool window_over_ = false;
  bool clients_wait_ = false;
  Digest demand_;
  std::vector<std::uint64_t> model_names_;  // digests, by the bit of Resources::gpu_models
};

}  // namespace chalk::sim
