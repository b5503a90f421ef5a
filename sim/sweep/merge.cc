#include "sim/sweep/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "sim/report/closest.h"
#include "sim/report/files.h"
#include "sim/report/sense.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

void known_metric(const char* option, const std::string& name) {
  const auto names = metric_names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  throw std::runtime_error(fmt::format(
      "{}: found the metric \"{}\", expected one of docs/results.md; the closest is \"{}\"", option,
      name, closest(name, {names.begin(), names.end()})));
}

// So that less is better.
double turned(const std::string& metric, double value) {
  return better_of(metric) == Better::more ? -value : value;
}

json estimate_json(const Estimate& e) {
  return {{"mean", e.mean}, {"half", e.half}, {"runs", e.count}};
}

// Of a - b, seed by seed, of those that both measured.
Estimate difference_of(const SweepPoint& a, const SweepPoint& b, const std::string& metric) {
  std::vector<double> of_a, of_b;
  for (const SweepRun& one : a.runs) {
    for (const SweepRun& other : b.runs) {
      const auto first = one.metrics.find(metric), second = other.metrics.find(metric);
      if (one.seed != other.seed || first == one.metrics.end() || second == other.metrics.end()) {
        continue;
      }
      of_a.push_back(first->second);
      of_b.push_back(second->second);
    }
  }
  return paired_difference(of_b, of_a);
}

// Means alone would hand the front to chance: a point stays near it until one of the front that is
// as good in both is better in one beyond noise, all such questions taken together (Holm).
void mark_near(SweepTable& table) {
  if (table.question.seeds < 2) return;  // one seed tells nothing of noise
  const auto as_good = [&](const SweepPoint& a, const SweepPoint& b) {
    return turned(table.x_metric, a.x.mean) <= turned(table.x_metric, b.x.mean) &&
           turned(table.y_metric, a.y.mean) <= turned(table.y_metric, b.y.mean);
  };
  std::vector<SweepPoint*> asked;
  std::vector<double> p;
  for (SweepPoint& point : table.points) {
    if (point.on_front || point.broken || point.x.count == 0 || point.y.count == 0) continue;
    point.near = true;
    for (const SweepPoint& front : table.points) {
      if (!front.on_front || !as_good(front, point)) continue;
      for (const std::string& metric : {table.x_metric, table.y_metric}) {
        asked.push_back(&point);
        p.push_back(difference_of(point, front, metric).p);
      }
    }
  }
  const std::vector<double> adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (adjusted[i] < 1 - kConfidence) asked[i]->near = false;
  }
}

// Sorted by x, a point is on the front when it is below all that are to its left. One that
// measured nothing for an axis is on none.
void mark_front(SweepTable& table) {
  if (!table.no_front().empty()) return;
  std::vector<SweepPoint*> order;
  for (SweepPoint& point : table.points) {
    if (!point.broken && point.x.count > 0 && point.y.count > 0) order.push_back(&point);
  }
  const auto at = [&](const SweepPoint* point) {
    return std::pair{turned(table.x_metric, point->x.mean), turned(table.y_metric, point->y.mean)};
  };
  std::sort(order.begin(), order.end(),
            [&](const auto* a, const auto* b) { return at(a) < at(b); });
  const SweepPoint* last = nullptr;
  for (SweepPoint* point : order) {
    if (last != nullptr && at(point).second >= at(last).second && at(point) != at(last)) continue;
    point->on_front = true;
    last = point;
  }
  mark_near(table);
}

}  // namespace

Estimate SweepTable::metric(const SweepPoint& point, const std::string& name) const {
  std::vector<double> values;
  for (const SweepRun& run : point.runs) {
    const auto found = run.metrics.find(name);
    if (found != run.metrics.end()) values.push_back(found->second);
  }
  return mean_of(values);
}

std::string SweepTable::no_front() const {
  for (const std::string& metric : {x_metric, y_metric}) {
    if (better_of(metric) == Better::neither) return metric;
  }
  return "";
}

SweepQuestion merge_runs(const std::vector<std::string>& folders, SweepRuns& runs) {
  const SweepQuestion question = read_question(folders.at(0));
  for (const std::string& folder : folders) {
    const SweepQuestion other = read_question(folder);
    if (other.identity() != question.identity()) {
      throw std::runtime_error(folder + ": found another sweep than in " + folders[0] + ": " +
                               difference(other, question) + " there; expected shards of one");
    }
    for (const auto& [which, run] : read_runs(folder, question)) {
      const auto [there, is_new] = runs.emplace(which, run);
      if (!is_new && there->second.digest != run.digest) {
        throw std::runtime_error(fmt::format(
            "{}: found point {} with seed {} with digest {}, expected {} as in another folder: the "
            "shards did not run the same program",
            folder, which.first, which.second, run.digest, there->second.digest));
      }
    }
  }
  return question;
}

SweepTable sweep_table(const SweepQuestion& question, const SweepRuns& runs,
                       const std::string& x_metric, const std::string& y_metric) {
  known_metric("--x", x_metric);
  known_metric("--y", y_metric);
  SweepTable table{question, x_metric, y_metric, {}, {}};
  for (std::size_t p = 0; p < question.points(); ++p) {
    SweepPoint point;
    point.point = p;
    point.configuration = question.point(p);
    point.command = question.command(p);
    for (std::uint32_t s = 0; s < question.seeds; ++s) {
      const auto found = runs.find({p, question.first_seed + s});
      if (found == runs.end()) {
        table.missing.push_back(
            fmt::format("{} seed {}", to_text(point.configuration), question.first_seed + s));
        continue;
      }
      point.broken = point.broken || !found->second.broken.empty();
      point.not_met += found->second.not_met.empty() ? 0 : 1;
      point.runs.push_back(found->second);
    }
    if (point.runs.empty()) continue;
    point.x = table.metric(point, x_metric);
    point.y = table.metric(point, y_metric);
    table.points.push_back(std::move(point));
  }
  mark_front(table);
  return table;
}

json to_json(const SweepTable& table) {
  json points = json::array();
  for (const SweepPoint& point : table.points) {
    json metrics, runs = json::array();
    for (const std::string& name : metric_names()) {
      metrics[name] = estimate_json(table.metric(point, name));
    }
    json settings = json::object();
    for (const auto& [key, value] : point.configuration) settings[key] = value;
    for (const SweepRun& run : point.runs) {
      const auto at = [&](const std::string& name) {
        const auto found = run.metrics.find(name);
        return found == run.metrics.end() ? json() : json(found->second);
      };
      runs.push_back({{"seed", run.seed},
                      {"digest", run.digest},
                      {"x", at(table.x_metric)},
                      {"y", at(table.y_metric)},
                      {"broken", run.broken},
                      {"not_met", run.not_met}});
    }
    points.push_back({{"point", point.point},
                      {"configuration", settings},
                      {"name", to_text(point.configuration)},
                      {"command", point.command},
                      {"front", point.on_front},
                      {"near", point.near},
                      {"broken", point.broken},
                      {"x", estimate_json(point.x)},
                      {"y", estimate_json(point.y)},
                      {"metrics", metrics},
                      {"runs", runs}});
  }
  return {{"sweep", to_json(table.question)},
          {"x_metric", table.x_metric},
          {"y_metric", table.y_metric},
          {"points", points},
          {"missing", table.missing}};
}

std::string to_csv(const SweepTable& table) {
  const auto cell = [](const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
  };
  std::string text = "point,seed";
  for (const Axis& axis : table.question.axes) text += "," + cell(axis.key);
  for (const std::string& name : metric_names()) text += "," + name;
  text += ",digest\n";
  for (const SweepPoint& point : table.points) {
    for (const SweepRun& run : point.runs) {
      text += fmt::format("{},{}", point.point, run.seed);
      for (const auto& [key, value] : point.configuration) text += "," + cell(value);
      for (const std::string& name : metric_names()) {
        const auto found = run.metrics.find(name);
        text += found == run.metrics.end() ? std::string(",") : fmt::format(",{}", found->second);
      }
      text += "," + run.digest + "\n";
    }
  }
  return text;
}

void write_table(const std::string& folder, const SweepTable& table) {
  write_file(folder + "/table.json", json_text(to_json(table)));
  write_file(folder + "/table.csv", to_csv(table));
  write_file(folder + "/report.html", html_page(table));
}

}  // namespace chalk::sim
