#include "sim/report/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include "sim/report/closest.h"
#include "sim/report/files.h"
#include "sim/report/html.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

json times_json(const Times& t) {
  return {{"count", t.count}, {"mean", t.mean}, {"p50", t.p50},
          {"p90", t.p90},     {"p99", t.p99},   {"p999", t.p999},
          {"min", t.min},     {"max", t.max},   {"cumulative", t.cumulative}};
}

Times times_from(const json& j) {
  Times t;
  t.count = j.at("count");
  t.mean = j.at("mean");
  t.p50 = j.at("p50");
  t.p90 = j.at("p90");
  t.p99 = j.at("p99");
  t.p999 = j.at("p999");
  t.min = j.at("min");
  t.max = j.at("max");
  t.cumulative = j.at("cumulative").get<std::vector<std::pair<double, double>>>();
  return t;
}

json shares_json(const std::vector<Share>& shares) {
  json out = json::array();
  for (const Share& s : shares) {
    out.push_back({{"name", s.name}, {"core_hours", s.core_hours}, {"sandboxes", s.sandboxes}});
  }
  return out;
}

std::vector<Share> shares_from(const json& j) {
  std::vector<Share> shares;
  for (const json& s : j) shares.push_back({s.at("name"), s.at("core_hours"), s.at("sandboxes")});
  return shares;
}

std::uint64_t sum(const std::map<std::string, std::uint64_t>& counts) {
  std::uint64_t total = 0;
  for (const auto& [name, count] : counts) total += count;
  return total;
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

using Get = std::function<double(const Result&)>;
const std::vector<std::pair<std::string, Get>>& metrics() {
  static const std::vector<std::pair<std::string, Get>> all = [] {
    std::vector<std::pair<std::string, Get>> m;
    const auto times = [&](const std::string& name, Times Result::*which) {
      m.emplace_back(name + "_mean_ms", [which](const Result& r) { return (r.*which).mean; });
      m.emplace_back(name + "_p50_ms", [which](const Result& r) { return (r.*which).p50; });
      m.emplace_back(name + "_p90_ms", [which](const Result& r) { return (r.*which).p90; });
      m.emplace_back(name + "_p99_ms", [which](const Result& r) { return (r.*which).p99; });
      m.emplace_back(name + "_p999_ms", [which](const Result& r) { return (r.*which).p999; });
      m.emplace_back(name + "_max_ms", [which](const Result& r) { return (r.*which).max; });
    };
    times("wait", &Result::wait_ms);
    times("total", &Result::total_ms);
    times("watched_wait", &Result::watched_wait_ms);
    times("watched_total", &Result::watched_total_ms);
    const auto number = [&](const char* name, Get get) { m.emplace_back(name, std::move(get)); };
    const auto d = [](auto v) { return static_cast<double>(v); };
    number("requests", [d](const Result& r) { return d(r.requests); });
    number("completed", [d](const Result& r) { return d(r.completed); });
    number("refused", [d](const Result& r) { return d(sum(r.refused)); });
    number("refused_ratio",
           [d](const Result& r) { return ratio(d(sum(r.refused)), d(r.requests)); });
    number("watched_refused", [d](const Result& r) { return d(r.watched_refused); });
    number("failed", [d](const Result& r) { return d(sum(r.failed)); });
    number("failed_ratio", [d](const Result& r) { return ratio(d(sum(r.failed)), d(r.requests)); });
    number("unfinished", [d](const Result& r) {
      return d(r.requests) - d(r.completed) - d(sum(r.refused)) - d(sum(r.failed));
    });
    number("cold_starts", [d](const Result& r) { return d(r.cold_starts); });
    number("cold_start_ratio",
           [d](const Result& r) { return ratio(d(r.cold_starts), d(r.requests)); });
    number("replica_starts", [d](const Result& r) { return d(r.replica_starts); });
    number("shell_starts", [d](const Result& r) { return d(r.shell_starts); });
    number("restored_starts", [d](const Result& r) { return d(r.restored_starts); });
    number("snapshots_saved", [d](const Result& r) { return d(r.snapshots_saved); });
    number("scaling_turns", [d](const Result& r) { return d(r.scaling_turns); });
    number("replicas_max", [](const Result& r) { return r.replicas_max; });
    number("replicas_mean", [](const Result& r) { return r.replicas_mean; });
    number("starting_mean", [](const Result& r) { return r.starting_mean; });
    number("busy_mean", [](const Result& r) { return r.busy_mean; });
    number("nodes_mean", [](const Result& r) { return r.nodes_mean; });
    number("nodes_max", [](const Result& r) { return r.nodes_max; });
    number("node_hours", [](const Result& r) { return r.node_hours; });
    number("cost", [](const Result& r) { return r.cost; });
    number("boot_cost", [](const Result& r) { return r.boot_cost; });
    number("arrivals_seconds", [](const Result& r) { return r.arrivals_seconds; });
    number("node_hours_total", [](const Result& r) { return r.node_hours_total; });
    number("cost_total", [](const Result& r) { return r.cost_total; });
    number("boot_cost_total", [](const Result& r) { return r.boot_cost_total; });
    number("nodes_bought", [d](const Result& r) { return d(r.nodes_bought); });
    number("purchases_failed", [d](const Result& r) { return d(r.purchases_failed); });
    number("nodes_reclaimed", [d](const Result& r) { return d(r.nodes_reclaimed); });
    number("sandboxes_moved", [d](const Result& r) { return d(r.sandboxes_moved); });
    number("sandboxes_preempted", [d](const Result& r) { return d(r.sandboxes_preempted); });
    for (const char* what : {"cpu", "memory", "disk", "gpu"}) {
      number((std::string("utilisation_") + what).c_str(), [what](const Result& r) {
        const auto found = r.utilisation.find(what);
        return found == r.utilisation.end() ? 0.0 : found->second;
      });
    }
    number("gpu_allocated_mean", [](const Result& r) { return r.gpu_allocated_mean; });
    number("image_bytes_pulled", [](const Result& r) { return r.image_bytes_pulled; });
    number("image_bytes_from_peers", [](const Result& r) { return r.image_bytes_from_peers; });
    number("image_hit_ratio", [](const Result& r) { return r.image_hit_ratio; });
    number("simulated_seconds", [](const Result& r) { return r.simulated_seconds; });
    number("invariants_broken", [d](const Result& r) { return d(r.broken.size()); });
    return m;
  }();
  return all;
}

std::string series_csv(const Series& series) {
  std::string text = "seconds";
  for (const std::string& column : series.columns) text += fmt::format(",{}", column);
  text += '\n';
  for (std::size_t i = 0; i < series.rows.size(); ++i) {
    text += fmt::format("{}", static_cast<double>(i + 1) * series.step_seconds);
    for (const double value : series.rows[i]) text += fmt::format(",{}", value);
    text += '\n';
  }
  return text;
}

std::string cumulative_csv(const Times& times) {
  std::string text = "wait_ms,share\n";
  for (const auto& [ms, share] : times.cumulative) text += fmt::format("{},{}\n", ms, share);
  return text;
}

}  // namespace

Times times_of(const Histogram& h) {
  Times t;
  const double ms = 1e-6;
  t.count = h.count();
  t.mean = h.mean_nanos() * ms;
  t.p50 = h.quantile_nanos(0.5) * ms;
  t.p90 = h.quantile_nanos(0.9) * ms;
  t.p99 = h.quantile_nanos(0.99) * ms;
  t.p999 = h.quantile_nanos(0.999) * ms;
  t.min = h.least_nanos() * ms;
  t.max = h.most_nanos() * ms;
  for (const auto& [nanos, share] : h.cumulative(400)) t.cumulative.emplace_back(nanos * ms, share);
  return t;
}

std::string hex_text(std::uint64_t digest) { return fmt::format("{:016x}", digest); }

json to_json(const Result& r) {
  json j = {{"scenario", r.scenario},
            {"shows", r.shows},
            {"seed", r.seed},
            {"commit", r.commit},
            {"scenario_hash", hex_text(r.scenario_hash)},
            {"digest", hex_text(r.digest)},
            {"demand", hex_text(r.demand)},
            {"interrupted", r.interrupted},
            {"requests", r.requests},
            {"completed", r.completed},
            {"not_begun", r.not_begun},
            {"refused", r.refused},
            {"failed", r.failed},
            {"cold_starts", r.cold_starts},
            {"replica_starts", r.replica_starts},
            {"shell_starts", r.shell_starts},
            {"restored_starts", r.restored_starts},
            {"snapshots_saved", r.snapshots_saved},
            {"wait_ms", times_json(r.wait_ms)},
            {"total_ms", times_json(r.total_ms)},
            {"scaling_turns", r.scaling_turns},
            {"replicas_max", r.replicas_max},
            {"replicas_mean", r.replicas_mean},
            {"starting_mean", r.starting_mean},
            {"busy_mean", r.busy_mean},
            {"nodes_mean", r.nodes_mean},
            {"nodes_max", r.nodes_max},
            {"node_hours", r.node_hours},
            {"cost", r.cost},
            {"boot_cost", r.boot_cost},
            {"arrivals_seconds", r.arrivals_seconds},
            {"node_hours_total", r.node_hours_total},
            {"cost_total", r.cost_total},
            {"boot_cost_total", r.boot_cost_total},
            {"nodes_bought", r.nodes_bought},
            {"purchases_failed", r.purchases_failed},
            {"nodes_reclaimed", r.nodes_reclaimed},
            {"sandboxes_moved", r.sandboxes_moved},
            {"sandboxes_preempted", r.sandboxes_preempted},
            {"utilisation", r.utilisation},
            {"gpu_allocated_mean", r.gpu_allocated_mean},
            {"image_bytes_pulled", r.image_bytes_pulled},
            {"image_bytes_from_peers", r.image_bytes_from_peers},
            {"image_hit_ratio", r.image_hit_ratio},
            {"simulated_seconds", r.simulated_seconds},
            {"wall_seconds", r.wall_seconds},
            {"requests_per_second", r.requests_per_second},
            {"events_per_second", r.events_per_second},
            {"events", r.events},
            {"peak_memory_bytes", r.peak_memory_bytes},
            {"tenants", shares_json(r.tenants)},
            {"zones", shares_json(r.zones)},
            {"broken", r.broken},
            {"notes", r.notes}};
  j["series"] = {{"columns", r.series.columns},
                 {"step_seconds", r.series.step_seconds},
                 {"rows", r.series.rows}};
  if (r.watched_wait_ms.count + r.watched_refused != 0) {
    j["watched"] = {{"wait_ms", times_json(r.watched_wait_ms)},
                    {"total_ms", times_json(r.watched_total_ms)},
                    {"refused", r.watched_refused}};
  }
  j["assertions"] = json::array();
  for (const Assertion& a : r.assertions) {
    j["assertions"].push_back({{"text", a.text},
                               {"value", a.measured ? json(a.value) : json()},
                               {"passed", a.passed}});
  }
  return j;
}

Result result_from_json(const std::string& text) {
  const json j = json::parse(text);
  Result r;
  r.scenario = j.at("scenario");
  r.shows = j.at("shows");
  r.seed = j.at("seed");
  r.commit = j.at("commit");
  r.scenario_hash = std::stoull(j.at("scenario_hash").get<std::string>(), nullptr, 16);
  r.digest = std::stoull(j.at("digest").get<std::string>(), nullptr, 16);
  r.demand = std::stoull(j.value("demand", "0"), nullptr, 16);
  r.interrupted = j.at("interrupted");
  r.requests = j.at("requests");
  r.completed = j.at("completed");
  r.not_begun = j.value("not_begun", std::uint64_t{0});
  r.refused = j.at("refused").get<std::map<std::string, std::uint64_t>>();
  r.failed = j.at("failed").get<std::map<std::string, std::uint64_t>>();
  r.cold_starts = j.at("cold_starts");
  r.replica_starts = j.at("replica_starts");
  r.shell_starts = j.value("shell_starts", std::uint64_t{0});
  r.restored_starts = j.value("restored_starts", std::uint64_t{0});
  r.snapshots_saved = j.value("snapshots_saved", std::uint64_t{0});
  r.wait_ms = times_from(j.at("wait_ms"));
  r.total_ms = times_from(j.at("total_ms"));
  if (j.contains("watched")) {
    r.watched_wait_ms = times_from(j.at("watched").at("wait_ms"));
    r.watched_total_ms = times_from(j.at("watched").at("total_ms"));
    r.watched_refused = j.at("watched").at("refused");
  }
  r.scaling_turns = j.value("scaling_turns", std::uint64_t{0});
  r.replicas_max = j.value("replicas_max", 0.0);
  r.replicas_mean = j.at("replicas_mean");
  r.starting_mean = j.at("starting_mean");
  r.busy_mean = j.at("busy_mean");
  r.nodes_mean = j.at("nodes_mean");
  r.nodes_max = j.at("nodes_max");
  r.node_hours = j.at("node_hours");
  r.cost = j.at("cost");
  r.boot_cost = j.value("boot_cost", 0.0);
  r.arrivals_seconds = j.value("arrivals_seconds", 0.0);
  r.node_hours_total = j.value("node_hours_total", 0.0);
  r.cost_total = j.value("cost_total", 0.0);
  r.boot_cost_total = j.value("boot_cost_total", 0.0);
  r.nodes_bought = j.at("nodes_bought");
  r.purchases_failed = j.at("purchases_failed");
  r.nodes_reclaimed = j.at("nodes_reclaimed");
  r.sandboxes_moved = j.at("sandboxes_moved");
  r.sandboxes_preempted = j.at("sandboxes_preempted");
  r.utilisation = j.at("utilisation").get<std::map<std::string, double>>();
  r.gpu_allocated_mean = j.at("gpu_allocated_mean");
  r.image_bytes_pulled = j.at("image_bytes_pulled");
  r.image_bytes_from_peers = j.value("image_bytes_from_peers", 0.0);
  r.image_hit_ratio = j.at("image_hit_ratio");
  r.simulated_seconds = j.at("simulated_seconds");
  r.wall_seconds = j.at("wall_seconds");
  r.requests_per_second = j.at("requests_per_second");
  r.events_per_second = j.at("events_per_second");
  r.events = j.at("events");
  r.peak_memory_bytes = j.at("peak_memory_bytes");
  r.tenants = shares_from(j.at("tenants"));
  r.zones = shares_from(j.at("zones"));
  r.broken = j.at("broken").get<std::vector<std::string>>();
  r.notes = j.at("notes").get<std::vector<std::string>>();
  r.series.columns = j.at("series").at("columns").get<std::vector<std::string>>();
  r.series.step_seconds = j.at("series").at("step_seconds");
  r.series.rows = j.at("series").at("rows").get<std::vector<std::vector<double>>>();
  for (const json& a : j.at("assertions")) {
    const bool measured = !a.at("value").is_null();
    r.assertions.push_back(
        {a.at("text"), measured ? a.at("value").get<double>() : 0, a.at("passed"), measured});
  }
  return r;
}

json to_json(const PlanResult& p) {
  json points = json::array();
  for (const PlanPoint& point : p.points) {
    points.push_back(
        {{"value", point.value}, {"metrics", point.metrics}, {"satisfied", point.satisfied},
         {"unfit", point.unfit}, {"not_begun", point.not_begun}});
  }
  return {{"find", p.knob},    {"until", p.condition},
          {"low", p.low},      {"high", p.high},
          {"seeds", p.seeds},  {"found", p.found},
          {"value", p.found ? json(p.chosen) : json()},
          {"interrupted", p.interrupted},
          {"points", points},  {"confidence", confidence_text(p)},
          {"notes", p.notes},
          {"reference", p.reference.scenario.empty() ? json() : to_json(p.reference)}};
}

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const auto& [name, get] : metrics()) names.push_back(name);
  return names;
}

std::optional<double> lookup_metric(const Result& result, const std::string& name) {
  for (const auto& [known, get] : metrics()) {
    if (known == name) return get(result);
  }
  return {};
}

bool has_samples(const Result& r, const std::string& name) {
  for (const auto& [start, times] : {std::pair{"wait_", &r.wait_ms},
                                     {"total_", &r.total_ms},
                                     {"watched_wait_", &r.watched_wait_ms},
                                     {"watched_total_", &r.watched_total_ms}}) {
    if (name.starts_with(start) && name.ends_with("_ms")) return times->count > 0;
  }
  if (name == "image_hit_ratio") return r.replica_starts > 0;
  return !name.ends_with("_ratio") || r.requests > 0;
}

bool Condition::holds(double value) const {
  if (comparison == "<=") return value <= bound;
  if (comparison == "<") return value < bound;
  if (comparison == ">=") return value >= bound;
  if (comparison == ">") return value > bound;
  return value == bound;
}

std::expected<Condition, std::string> parse_condition(const std::string& text) {
  std::string squeezed;
  for (const char c : text) {
    if (c != ' ') squeezed += c;
  }
  const auto at = squeezed.find_first_of("<>=");
  const auto expected =
      std::string("expected METRIC<=NUMBER, also <, >=, > and ==, such as wait_p99_ms<=500");
  if (at == std::string::npos || at == 0) {
    return std::unexpected(fmt::format("found \"{}\", {}", text, expected));
  }
  Condition condition;
  condition.metric = squeezed.substr(0, at);
  auto end = at + 1;
  if (end < squeezed.size() && squeezed[end] == '=') ++end;
  condition.comparison = squeezed.substr(at, end - at);
  const std::string number = squeezed.substr(end);
  try {
    std::size_t used = 0;
    condition.bound = std::stod(number, &used);
    if (used != number.size() || condition.comparison == "=" || !std::isfinite(condition.bound))
      throw std::invalid_argument("");
  } catch (const std::exception&) {
    return std::unexpected(fmt::format("found \"{}\", {}", text, expected));
  }
  const auto names = metric_names();
  if (std::find(names.begin(), names.end(), condition.metric) == names.end()) {
    return std::unexpected(fmt::format(
        "found the metric \"{}\", expected one of docs/results.md; the closest is \"{}\"",
        condition.metric, closest(condition.metric, {names.begin(), names.end()})));
  }
  return condition;
}

std::string json_text(const json& j) {
  return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

void clear_result(const std::string& folder) {
  for (const char* name : {"result.json", "plan.json", "compare.json", "report.html", "series.csv",
                           "wait.csv", "events.log"}) {
    std::filesystem::remove(folder + "/" + name);
  }
}

void refuse_others(const std::string& folder, std::initializer_list<const char*> files) {
  for (const char* name : files) {
    if (!std::filesystem::exists(folder + "/" + name)) continue;
    throw std::runtime_error(fmt::format(
        "--out {}: found {}, which another command wrote there; expected a folder of its own",
        folder, name));
  }
}

void write_result(const std::string& folder, const Result& result) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/series.csv", series_csv(result.series));
  write_file(folder + "/wait.csv", cumulative_csv(result.wait_ms));
  write_file(folder + "/report.html", html_page(result));
  write_file(folder + "/result.json", json_text(to_json(result)));
}

void write_plan(const std::string& folder, const PlanResult& plan) {
  std::filesystem::create_directories(folder);
  write_file(folder + "/series.csv", series_csv(plan.reference.series));
  write_file(folder + "/report.html", html_page(plan));
  write_file(folder + "/plan.json", json_text(to_json(plan)));
}

}  // namespace chalk::sim
