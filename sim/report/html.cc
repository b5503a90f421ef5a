#include "sim/report/html.h"

#include <fmt/format.h>

#include "sim/report/embedded.h"
#include "sim/report/page.h"

namespace chalk::sim {
namespace {

// JSON that may stand in a script element: names from a trace must not end it.
std::string script_json(const nlohmann::json& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) {
    if (c == '<')
      out += "\\u003c";
    else if (c == '>')
      out += "\\u003e";
    else if (c == '&')
      out += "\\u0026";
    else
      out += c;
  }
  return out;
}

std::string row(const std::string& name, const std::string& value) {
  return fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value));
}

std::string times_table(const Result& r) {
  std::string out =
      "<table class=\"times\"><thead><tr><th></th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>"
      "<th>p99.9</th><th>most</th></tr></thead><tbody>\n";
  const auto line = [&](const char* name, const Times& t) {
    out += fmt::format("<tr><th>{}</th>", name);
    for (const double ms : {t.mean, t.p50, t.p90, t.p99, t.p999, t.max}) {
      out += fmt::format("<td>{}</td>", number_text(ms));
    }
    out += "</tr>\n";
  };
  line("wait (ms)", r.wait_ms);
  line("total (ms)", r.total_ms);
  return out + "</tbody></table>\n";
}

std::string facts_table(const Result& r) {
  std::string out = "<table class=\"facts\"><tbody>\n";
  out += row("requests", fmt::format("{}", r.requests));
  out += row("completed", fmt::format("{}", r.completed));
  for (const auto& [rule, count] : r.refused)
    out += row("refused: " + rule, fmt::format("{}", count));
  for (const auto& [why, count] : r.failed) out += row("failed: " + why, fmt::format("{}", count));
  out += row("cold starts", fmt::format("{}", r.cold_starts));
  out += row("sandboxes started", fmt::format("{}", r.replica_starts));
  if (r.shell_starts != 0) out += row("in a shell", fmt::format("{}", r.shell_starts));
  if (r.snapshots_saved != 0) {
    out += row("from a snapshot", fmt::format("{}", r.restored_starts));
    out += row("snapshots saved", fmt::format("{}", r.snapshots_saved));
  }
  out += row("last arrival", fmt::format("{:.0f} s", r.arrivals_seconds));
  out += row("replicas, mean", number_text(r.replicas_mean));
  out += row("requests in service, mean", number_text(r.busy_mean));
  out += row("nodes, most at once", number_text(r.nodes_max));
  out += row("node hours until the last arrival", number_text(r.node_hours));
  out += row("cost until the last arrival", number_text(r.cost));
  out += row("node hours in all", number_text(r.node_hours_total));
  out += row("cost in all", number_text(r.cost_total));
  for (const auto& [what, share] : r.utilisation) {
    out += row("allocated " + what, fmt::format("{:.1f} %", share * 100));
  }
  out += row("image bytes pulled", number_text(r.image_bytes_pulled));
  out += row("image hits", fmt::format("{:.1f} %", r.image_hit_ratio * 100));
  out += row("simulated", fmt::format("{:.0f} s in {:.2f} s", r.simulated_seconds, r.wall_seconds));
  out += row("seed", fmt::format("{}", r.seed));
  out += row("commit", r.commit);
  out += row("scenario", hex_text(r.scenario_hash));
  out += row("digest", hex_text(r.digest));
  return out + "</tbody></table>\n";
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string page(const std::string& title, const std::string& shows,
                 const std::vector<std::string>& answers, const std::string& body,
                 const nlohmann::json& data) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}</style></head>\n<body><main>\n<h1>{}</h1>\n<p "
      "class=\"shows\">{}</p>\n"
      "<section class=\"answer\">\n",
      escaped(title), embedded_page_css(), escaped(title), escaped(shows));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const bool bad = answers[i].starts_with("DOES NOT") || answers[i].starts_with("BROKEN") ||
                     answers[i].starts_with("No value") || answers[i].starts_with("WORSE");
    out += fmt::format("<p{}>{}</p>\n",
                       bad      ? " class=\"bad\""
                       : i == 0 ? " class=\"first\""
                                : "",
                       escaped(answers[i]));
  }
  out += "</section>\n<section id=\"plots\"></section>\n" + body;
  out +=
      "<footer>Made by chalk-sim. Plots are drawn by Chart.js (MIT licence), which is inside this "
      "file; nothing is fetched.</footer>\n</main>\n";
  out +=
      fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n", script_json(data));
  out += fmt::format("<script>{}</script>\n<script>{}</script>\n</body></html>\n",
                     embedded_chart_js(), embedded_page_js());
  return out;
}

std::string html_page(const Result& r) {
  return page(r.scenario, r.shows, answer(r), times_table(r) + facts_table(r),
              {{"run", to_json(r)}});
}

std::string html_page(const PlanResult& p) {
  std::string body = fmt::format(
      "<h2>Values that were tried</h2>\n<table class=\"times\"><thead><tr><th>{}</th><th>least {}"
      "</th><th>mean</th><th>most</th><th>seeds that meet all</th></tr></thead><tbody>\n",
      escaped(p.knob), escaped(measured(p)));
  for (const PlanPoint& point : p.points) {
    double least = point.metrics.empty() ? 0 : point.metrics[0], most = least, total = 0;
    for (const double m : point.metrics) {
      least = std::min(least, m);
      most = std::max(most, m);
      total += m;
    }
    const double mean =
        point.metrics.empty() ? 0 : total / static_cast<double>(point.metrics.size());
    const auto shown = [&](double value) {  // "-": no seed measured anything
      return point.metrics.empty() ? std::string("-") : number_text(value);
    };
    body += fmt::format(
        "<tr{}><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{} of {}</td></tr>\n",
        p.found && point.value == p.chosen ? " class=\"chosen\"" : "", number_text(point.value),
        shown(least), shown(mean), shown(most), point.satisfied, p.seeds.size());
  }
  body += "</tbody></table>\n";
  nlohmann::json data = {{"plan", to_json(p)}};
  if (!p.reference.scenario.empty()) {  // else interrupted before any run of it
    body += fmt::format("<h2>The run with {} = {}</h2>\n<section class=\"answer\">\n",
                        escaped(p.knob), number_text(p.found ? p.chosen : p.high));
    for (const std::string& line : answer(p.reference))
      body += fmt::format("<p>{}</p>\n", escaped(line));
    body += "</section>\n" + times_table(p.reference) + facts_table(p.reference);
    data["run"] = to_json(p.reference);
  }
  const std::string title =
      fmt::format("{}the least {} for {}",
                  p.reference.scenario.empty() ? "" : p.reference.scenario + ": ", p.knob,
                  p.condition);
  return page(title, p.reference.shows, answer(p), body, data);
}

}  // namespace chalk::sim
