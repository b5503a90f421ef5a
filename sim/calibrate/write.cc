// The scenario, the trace and the measurements of a calibration.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "sim/calibrate/calibrate.h"

namespace chalk::sim {
namespace {

double milliseconds_of(Duration duration) { return static_cast<double>(duration.nanos) * 1e-6; }

double quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return sorted[below] * (1 - part) + sorted[above] * part;
}

std::vector<double> start_latencies(const Calibration& calibration) {
  std::vector<double> out;
  for (const RecordedAsk& ask : calibration.asks) {
    if (ask.start_took.nanos > 0) out.push_back(milliseconds_of(ask.start_took));
  }
  std::sort(out.begin(), out.end());
  return out;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(path + ": cannot write");
}

std::string nanoseconds_text(Duration duration) {  // as scenarios write it
  return fmt::format("{}us", std::max<std::int64_t>(1, duration.nanos / 1000));
}

std::string platform_yaml(const Calibration& c) {
  std::set<std::uint64_t> tenants;
  for (const RecordedAsk& ask : c.asks) tenants.insert(ask.tenant);
  std::string out =
      "# Made by `chalk-sim calibrate`: a platform as a real node's log shows it.\n"
      "shows: The recorded workload on the machine that it was recorded on.\nseed: 1\n";
  out += fmt::format(
      "control: {{message_latency: {}, heartbeat: {}, node_timeout: 1h, separate_tenants: {}, "
      "scrub: 1s, owner_linger: 5s, stop: {}}}\n",
      nanoseconds_text(c.to_node), nanoseconds_text(c.heartbeat), c.separate_tenants,
      nanoseconds_text(c.stop));
  const bool pulls = c.pull_bytes_per_second > 0;
  if (pulls) {
    out += fmt::format("zones:\n  - {{name: a, registry_bandwidth: {:.6f}GBps}}\n",
                       c.pull_bytes_per_second * 1e-9);
  }
  out += fmt::format(
      "pools:\n  - name: node\n    nodes: 1\n    node: {{cpu: {}m, memory: {}, disk: {}, "
      "start_slots: {}, sandboxes_max: {}, image_cache: {}, disk_bandwidth: 100GBps, machine_cpu: {}m}}\n",
      c.node.cpu_millicores, c.node.memory_bytes, std::max<std::int64_t>(1, c.node.disk_bytes),
      c.node.start_slots, c.node.sandboxes_max, std::max<std::int64_t>(1, c.image_cache_bytes), std::llround(c.start.cores * 1000));
  if (!c.images.empty()) out += "images:\n";
  for (const ImageSpec& image : c.images) {
    out += fmt::format("  - name: image-{}\n    prewarmed: {}\n    layers:\n", image.image.value,
                       !pulls);
    for (const LayerSpec& layer : image.layers) {
      out += fmt::format("      - {{name: layer-{}, size: {}, unpacked: {}}}\n", layer.layer.value,
                         layer.bytes, layer.unpacked_bytes);
    }
  }
  out += fmt::format("start_core_seconds: {:.4f}\nstart_core_spread: {:.4f}\nstart_cpu_min: {}m\n",
                     c.start.core_seconds, c.start.core_spread, kStartCpuMin);
  out += fmt::format("start: {{distribution: lognormal, mean: {}us, spread: {:.4f}}}\n",
                     static_cast<std::int64_t>(c.start.mean_seconds * 1e6),
                     std::max(0.001, c.start.spread));
  return out;
}

std::string workload_jsonl(const Calibration& c) {
  using nlohmann::json;
  std::string out = "{\"chalk_trace\":1}\n";
  std::set<std::uint64_t> tenants, images;
  for (const RecordedAsk& ask : c.asks) {
    tenants.insert(ask.tenant);
    images.insert(ask.image);
  }
  for (const std::uint64_t tenant : tenants) {
    out += json{{"tenant", fmt::format("tenant-{}", tenant)}}.dump() + "\n";
  }
  for (const std::uint64_t image : images) {
    out += json{{"image", fmt::format("image-{}", image)}}.dump() + "\n";
  }
  const Time begin = c.asks.empty() ? Time{} : c.asks.front().at;
  for (const RecordedAsk& ask : c.asks) {
    if (ask.never_ran()) continue;  // it never ran: a trace cannot say that
    json sandbox = {{"tenant", fmt::format("tenant-{}", ask.tenant)},
                    {"image", fmt::format("image-{}", ask.image)},
                    {"cpu_millicores", ask.resources.cpu_millicores},
                    {"memory_bytes", ask.resources.memory_bytes},
                    {"disk_bytes", ask.resources.disk_bytes}};
    if (ask.lifetime.nanos > 0) sandbox["lifetime_ns"] = ask.lifetime.nanos;
    if (ask.priority > 0) sandbox["priority"] = ask.priority;
    json line = {{"at_ns", (ask.at - begin).nanos}, {"sandbox", sandbox}};
    line["service_ns"] = std::max<std::int64_t>(1, ask.ran.nanos);  // none would be: for ever
    out += line.dump() + "\n";
  }
  return out;
}

nlohmann::json measured_json(const Calibration& c) {
  const std::vector<double> latencies = start_latencies(c);
  double span = 0;
  if (!c.asks.empty()) {
    Time last = c.asks.front().at;
    for (const RecordedAsk& ask : c.asks) last = std::max(last, ask.at + ask.start_took);
    span = milliseconds_of(last - c.asks.front().at) * 1e-3;
  }
  const Time begin = c.asks.empty() ? Time{} : c.asks.front().at;
  nlohmann::json starts = nlohmann::json::array();  // [asked at, took], in milliseconds
  for (const RecordedAsk& ask : c.asks) {
    starts.push_back({milliseconds_of(ask.at - begin), milliseconds_of(ask.start_took)});
  }
  return {{"sandboxes", c.asks.size()},
          {"starts_ms", starts},
          {"started", latencies.size()},
          {"start_latency_ms",
           {{"p50", quantile(latencies, 0.5)},
            {"p90", quantile(latencies, 0.9)},
            {"p99", quantile(latencies, 0.99)},
            {"max", latencies.empty() ? 0 : latencies.back()}}},
          {"starts_per_second", span > 0 ? static_cast<double>(latencies.size()) / span : 0},
          {"to_node_ms", milliseconds_of(c.to_node)},
          {"to_control_ms", milliseconds_of(c.to_control)},
          {"stop_ms", milliseconds_of(c.stop)},
          {"pull_bytes_per_second", c.pull_bytes_per_second},
          {"start_core_seconds", c.start.core_seconds},
          {"start_core_spread", c.start.core_spread},
          {"start_cores", c.start.cores},
          {"start_mean_seconds", c.start.mean_seconds},
          {"start_spread", c.start.spread},
          {"start_error_seconds", c.start.error_seconds}};
}

}  // namespace

void write_calibration(const std::string& folder, const Calibration& calibration) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/platform.yaml", platform_yaml(calibration));
  write_file(folder + "/workload.jsonl", workload_jsonl(calibration));
  write_file(folder + "/measured.json", measured_json(calibration).dump(2) + "\n");
}

std::string summary(const Calibration& c) {
  const std::vector<double> latencies = start_latencies(c);
  return fmt::format(
      "{} sandboxes asked for, {} started, {} ended before that (the workload leaves them out)\n"
      "start latency measured: p50 {:.1f} ms, p90 {:.1f} ms, p99 {:.1f} ms\n"
      "messages: {:.2f} ms to the node, {:.2f} ms back; a kill takes {:.1f} ms; pulls {:.1f} MB/s\n"
      "a start: {:.0f} ms of work (spread {:.2f}) on {:.1f} shared cores, then {:.0f} ms (spread {:.2f}); "
      "mean error {:.1f} ms\n",
      c.asks.size(), latencies.size(), std::ranges::count_if(c.asks, &RecordedAsk::never_ran),
      quantile(latencies, 0.5), quantile(latencies, 0.9),
      quantile(latencies, 0.99), milliseconds_of(c.to_node), milliseconds_of(c.to_control),
      milliseconds_of(c.stop), c.pull_bytes_per_second * 1e-6, c.start.core_seconds * 1e3,
      c.start.core_spread, c.start.cores, c.start.mean_seconds * 1e3, c.start.spread,
      c.start.error_seconds * 1e3);
}

}  // namespace chalk::sim
