// What a person reads of a sweep: the front first.
#include "sim/report/page.h"

#include <fmt/format.h>

#include "sim/sweep/merge.h"

namespace chalk::sim {
namespace {

// With how many seeds measured it, where not all of them did.
std::string interval_text(const Estimate& e, std::size_t seeds) {
  if (e.count == 0) return "-";  // nothing was measured
  const std::string mean = e.has_interval()
                               ? fmt::format("{} ± {}", number_text(e.mean), number_text(e.half))
                               : number_text(e.mean);
  return e.count == seeds ? mean : fmt::format("{} ({} of {})", mean, e.count, seeds);
}

std::vector<std::string> answer(const SweepTable& table) {
  std::vector<std::string> say;
  std::size_t front = 0, near = 0, runs = 0;
  for (const SweepPoint& point : table.points) {
    front += point.on_front ? 1 : 0;
    near += point.near ? 1 : 0;
    runs += point.runs.size();
  }
  if (table.no_front().empty()) {
    say.push_back(fmt::format("{} of {} configurations are beaten by no other in both {} and {}.",
                              front, table.points.size(), table.x_metric, table.y_metric));
    if (table.question.seeds < 2) {
      say.push_back("With one seed nothing tells a difference from chance; see --seeds.");
    } else if (near != 0) {
      say.push_back(fmt::format(
          "{} more {} near: by {} seeds none of the front is better beyond noise (paired t, Holm).",
          near, near == 1 ? "is" : "are", table.question.seeds));
    }
  } else {
    say.push_back(fmt::format(
        "{} configurations, none of which is better than another: {} is neither good nor bad by "
        "itself.",
        table.points.size(), table.no_front()));
  }
  say.push_back(fmt::format(
      "{} runs, {} seeds each, of which (n of {}) measured something where not all did; ± is the "
      "95 % interval of the mean over seeds (Student's t).",
      runs, table.question.seeds, table.question.seeds));
  for (const SweepPoint& point : table.points) {
    for (const SweepRun& run : point.runs) {
      if (run.broken.empty()) continue;
      say.push_back(fmt::format("BROKEN: {} seed {}: {}", to_text(point.configuration), run.seed,
                                run.broken[0]));
    }
  }
  if (!table.missing.empty()) {
    say.push_back(fmt::format("DOES NOT hold all: {} of {} runs are missing, the first is {}.",
                              table.missing.size(), table.question.runs(), table.missing[0]));
  }
  return say;
}

std::string mark(const SweepPoint& point) {
  if (point.broken) return "BROKEN";
  return point.on_front ? "front" : point.near ? "near" : "";
}

}  // namespace

std::string summary(const SweepTable& table) {
  const std::size_t seeds = table.question.seeds;
  std::string text = fmt::format("{}: {}\n\n", table.question.name, table.question.shows);
  for (const std::string& line : answer(table)) text += fmt::format("  {}\n", line);
  std::size_t width = 13;
  for (const SweepPoint& p : table.points) {
    width = std::max(width, to_text(p.configuration).size());
  }
  text += fmt::format("\n  {:{}}  {:>22}  {:>22}  {:>13}  {:>7}\n", "configuration", width,
                      table.x_metric, table.y_metric, "refused_ratio", "");
  for (const SweepPoint& p : table.points) {
    text += fmt::format("  {:{}}  {:>22}  {:>22}  {:>13}  {:>7}{}\n", to_text(p.configuration),
                        width, interval_text(p.x, seeds), interval_text(p.y, seeds),
                        number_text(table.metric(p, "refused_ratio").mean), mark(p),
                        p.not_met == 0 ? "" : fmt::format("  ({} assertions not met)", p.not_met));
  }
  return text;
}

std::string html_page(const SweepTable& table) {
  const std::size_t seeds = table.question.seeds;
  std::string body = fmt::format(
      "<h2>Configurations</h2>\n<table class=\"times\"><thead><tr><th></th><th></th><th>{}</th>"
      "<th>{}</th><th>refused_ratio</th><th>failed_ratio</th><th>seeds</th><th>assertions not met"
      "</th></tr></thead><tbody>\n",
      escaped(table.x_metric), escaped(table.y_metric));
  for (const SweepPoint& p : table.points) {
    body += fmt::format(
        "<tr{}><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{}</td></tr>\n",
        p.on_front ? " class=\"chosen\"" : "", escaped(to_text(p.configuration)), mark(p),
        interval_text(p.x, seeds), interval_text(p.y, seeds), number_text(table.metric(p, "refused_ratio").mean),
        number_text(table.metric(p, "failed_ratio").mean), p.runs.size(), p.not_met);
  }
  body += "</tbody></table>\n<h2>Commands</h2>\n<table class=\"facts commands\"><tbody>\n";
  for (const SweepPoint& p : table.points) {
    body += fmt::format("<tr><th>{}</th><td><code>{}</code></td></tr>\n",
                        escaped(to_text(p.configuration)), escaped(p.command));
  }
  body += "</tbody></table>\n";
  return page(fmt::format("{}: {} against {}", table.question.name, table.y_metric, table.x_metric),
              table.question.shows, answer(table), body, {{"sweep", to_json(table)}});
}

}  // namespace chalk::sim
