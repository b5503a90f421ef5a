#include "sim/world/measure.h"

#include <algorithm>
#include <string_view>

#include "sim/workload/input_error.h"

namespace chalk::sim {
namespace {

constexpr std::size_t kSharesMax = 20;

std::size_t tenant_index(const LiveSandbox& sandbox) {
  return static_cast<std::size_t>(sandbox.tenant.value - 1);
}

// "quiet-*": all that begin so.
bool means(const std::string& watched, const std::string& tenant) {
  return watched.ends_with('*')
             ? tenant.starts_with(std::string_view(watched).substr(0, watched.size() - 1))
             : tenant == watched;
}

double hours(Level& level, Time now) {
  level.advance(now.nanos);
  return level.integral_seconds() / 3600;
}

}  // namespace

std::string watches_nobody(const std::vector<std::string>& watched,
                           const std::vector<std::string>& tenants) {
  for (const std::string& name : watched) {
    const auto is = [&](const std::string& tenant) { return means(name, tenant); };
    if (std::ranges::none_of(tenants, is)) return name;
  }
  return "";
}

// The mask of GPU models is by the order of the pools; what is asked for are their names.
void Measure::demand_size(Resources size) {
  std::uint64_t models = 0;
  for (std::size_t bit = 0; bit < model_names_.size(); ++bit) {
    if (size.gpu_models >> bit & 1) models += model_names_[bit];
  }
  size.gpu_models = 0;
  demand_.add(size);
  demand_.add(models);
}

void Measure::begin(const Setup& setup, const Catalogue& catalogue) {
  tenant_names_ = catalogue.tenants;
  if (const std::string nobody = watches_nobody(setup.watched, tenant_names_); !nobody.empty()) {
    throw InputError(setup.name + ": watch", 0, quote(nobody), "a tenant of the workload");
  }
  for (const std::string& name : setup.watched) {
    watched_.resize(tenant_names_.size());
    for (std::size_t i = 0; i < tenant_names_.size(); ++i) {
      watched_[i] = watched_[i] || means(name, tenant_names_[i]);
    }
  }
  for (const std::string& name : catalogue.gpu_models) {
    Digest digest;
    digest.add(name);
    model_names_.push_back(digest.value());
  }
  for (const FunctionSpec& one : catalogue.functions) {
    demand_.add(std::uint64_t{one.tenant} << 32 | one.image);
    demand_.add(one.cpu_millicores);
    demand_.add(one.memory_bytes);
  }
  for (const Zone& zone : setup.zones) zone_names_.push_back(zone.name);
  tenant_cores_.resize(tenant_names_.size());
  tenant_sandboxes_.resize(tenant_names_.size());
  zone_cores_.resize(zone_names_.size());
  zone_sandboxes_.resize(zone_names_.size());
  result_.series.columns = {"cores_allocated",
                            "cores_capacity",
                            "sandboxes",
                            "starting",
                            "in_service",
                            "waiting",
                            "nodes",
                            "nodes_booting",
                            "image_hit_ratio",
                            "arrivals_per_second",
                            "finished_per_second",
                            "gpus_allocated",
                            "image_bytes_pulled"};
  // Doubled whenever there are too many rows, so a small start suits every length.
  result_.series.step_seconds =
      setup.duration.nanos > 0
          ? std::max(1e-3, static_cast<double>(setup.duration.nanos) * 1e-9 / 512)
          : 1.0;
}

void Measure::node_up(Time now, const Pool& pool) {
  const std::int64_t t = now.nanos;
  nodes_.add(t, 1);
  cost_rate_.add(t, pool.price_per_hour);
  cpu_capacity_.add(t, static_cast<double>(pool.shape.cpu_millicores) / 1000);
  memory_capacity_.add(t, static_cast<double>(pool.shape.memory_bytes));
  disk_capacity_.add(t, static_cast<double>(pool.shape.disk_bytes));
  gpu_capacity_.add(t, pool.shape.gpus);
}

void Measure::node_down(Time now, const Pool& pool) {
  const std::int64_t t = now.nanos;
  nodes_.add(t, -1);
  cost_rate_.add(t, -pool.price_per_hour);
  cpu_capacity_.add(t, -static_cast<double>(pool.shape.cpu_millicores) / 1000);
  memory_capacity_.add(t, -static_cast<double>(pool.shape.memory_bytes));
  disk_capacity_.add(t, -static_cast<double>(pool.shape.disk_bytes));
  gpu_capacity_.add(t, -pool.shape.gpus);
}

void Measure::sandbox_started(Time now, const LiveSandbox& sandbox, const TrueNode& node,
                              bool has_image, bool hit) {
  const std::int64_t t = now.nanos;
  const Resources& r = sandbox.resources;
  const double cores = static_cast<double>(r.cpu_millicores) / 1000;
  ++result_.replica_starts;
  if (sandbox.mode == node::StartMode::shell) ++result_.shell_starts;
  if (sandbox.mode == node::StartMode::restore) ++result_.restored_starts;
  image_starts_ += has_image ? 1 : 0;
  image_hits_ += has_image && hit ? 1 : 0;
  sandboxes_.add(t, 1);
  starting_.add(t, 1);
  cpu_.add(t, cores);
  memory_.add(t, static_cast<double>(r.memory_bytes));
  disk_.add(t, static_cast<double>(r.disk_bytes));
  gpu_.add(t, r.gpus * r.gpu_millis / 1000.0);
  if (tenant_index(sandbox) < tenant_cores_.size()) {
    tenant_cores_[tenant_index(sandbox)].add(t, cores);
    ++tenant_sandboxes_[tenant_index(sandbox)];
  }
  zone_cores_[node.zone].add(t, cores);
  ++zone_sandboxes_[node.zone];
}

void Measure::sandbox_ended(Time now, const LiveSandbox& sandbox, const TrueNode& node) {
  const std::int64_t t = now.nanos;
  const Resources& r = sandbox.resources;
  const double cores = static_cast<double>(r.cpu_millicores) / 1000;
  sandboxes_.add(t, -1);
  if (sandbox.running == kNever) starting_.add(t, -1);
  cpu_.add(t, -cores);
  memory_.add(t, -static_cast<double>(r.memory_bytes));
  disk_.add(t, -static_cast<double>(r.disk_bytes));
  gpu_.add(t, -(r.gpus * r.gpu_millis / 1000.0));
  if (tenant_index(sandbox) < tenant_cores_.size())
    tenant_cores_[tenant_index(sandbox)].add(t, -cores);
  zone_cores_[node.zone].add(t, -cores);
}

void Measure::sample(Time now, std::size_t waiting) {
  static_cast<void>(now);
  const double step = result_.series.step_seconds;
  const double hits = image_starts_ == 0
                          ? 1
                          : static_cast<double>(image_hits_) / static_cast<double>(image_starts_);
  result_.series.add({cpu_.value(), cpu_capacity_.value(), sandboxes_.value(), starting_.value(),
                      in_service_.value(), static_cast<double>(waiting), nodes_.value(),
                      booting_.value(), hits,
                      static_cast<double>(result_.requests - sampled_arrivals_) / step,
                      static_cast<double>(result_.completed - sampled_finished_) / step,
                      gpu_.value(), result_.image_bytes_pulled});
  sampled_arrivals_ = result_.requests;
  sampled_finished_ = result_.completed;
}

void Measure::end_window(Time now) {
  write_window(now);
  window_over_ = true;
}

void Measure::write_window(Time now) {
  const auto mean = [&](Level& level) {
    level.advance(now.nanos);
    return level.mean();
  };
  const auto share = [&](Level& used, Level& capacity) {
    const double all = mean(capacity);
    const double part = mean(used);
    return all > 0 ? part / all : 0;
  };
  result_.arrivals_seconds = static_cast<double>(now.nanos) * 1e-9;
  result_.replicas_mean = mean(sandboxes_);
  result_.starting_mean = mean(starting_);
  result_.busy_mean = mean(in_service_);
  result_.nodes_mean = mean(nodes_);
  result_.node_hours = hours(nodes_, now);
  result_.cost = hours(cost_rate_, now);
  result_.boot_cost = hours(boot_rate_, now);
  result_.utilisation = {{"cpu", share(cpu_, cpu_capacity_)},
                         {"memory", share(memory_, memory_capacity_)},
                         {"disk", share(disk_, disk_capacity_)},
                         {"gpu", share(gpu_, gpu_capacity_)}};
  result_.gpu_allocated_mean = mean(gpu_);
}

// What jobs cost that came at once and run for long is nearly all after the last of them came.
void Measure::write_whole(Time now) {
  result_.node_hours_total = hours(nodes_, now);
  result_.cost_total = hours(cost_rate_, now);
  result_.boot_cost_total = hours(boot_rate_, now);
  for (Level& level : tenant_cores_) level.advance(now.nanos);
  for (Level& level : zone_cores_) level.advance(now.nanos);
  name_shares(result_.tenants, tenant_cores_, tenant_sandboxes_, tenant_names_);
  name_shares(result_.zones, zone_cores_, zone_sandboxes_, zone_names_);
}

void Measure::name_shares(std::vector<Share>& out, const std::vector<Level>& levels,
                          const std::vector<std::uint64_t>& counts,
                          const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < levels.size(); ++i) {
    out.push_back({names[i], levels[i].integral_seconds() / 3600, counts[i]});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Share& a, const Share& b) { return a.core_hours > b.core_hours; });
  if (out.size() <= kSharesMax) return;
  Share others{"(" + std::to_string(out.size() - kSharesMax) + " others)", 0, 0};
  for (std::size_t i = kSharesMax; i < out.size(); ++i) {
    others.core_hours += out[i].core_hours;
    others.sandboxes += out[i].sandboxes;
  }
  out.resize(kSharesMax);
  out.push_back(others);
}

Result Measure::result(Time now) {
  if (!window_over_) write_window(now);
  write_whole(now);
  result_.demand = clients_wait_ ? 0 : demand_.value();
  result_.wait_ms = times_of(wait_);
  result_.total_ms = times_of(total_);
  result_.watched_wait_ms = times_of(watched_wait_);
  result_.watched_total_ms = times_of(watched_total_);
  result_.nodes_max = nodes_.most();
  result_.replicas_max = sandboxes_.most();
  if (image_starts_ != 0) {
    result_.image_hit_ratio = static_cast<double>(image_hits_) / static_cast<double>(image_starts_);
  }
  return result_;
}

}  // namespace chalk::sim
