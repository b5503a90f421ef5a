// An explanation for people and for programs.
#include <fmt/format.h>

#include <algorithm>

#include "sim/explain/explain.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

std::string table(const Decision& d) {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < d.columns.size(); ++c) {
    std::size_t width = d.columns[c].size();
    for (const auto& row : d.candidates) width = std::max(width, row[c].size());
    widths.push_back(width);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text = "   ";
    for (std::size_t c = 0; c < cells.size(); ++c) {
      text += fmt::format(" {:>{}} ", cells[c], widths[c]);
    }
    return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  std::string text = line(d.columns);
  for (const auto& row : d.candidates) text += line(row);
  if (d.left_out > 0) text += fmt::format("    and {} more\n", d.left_out);
  return text;
}

}  // namespace

json to_json(const Explanation& e) {
  json decisions = json::array();
  for (const Decision& d : e.decisions) {
    json numbers = json::object(), candidates = json::array();
    for (const auto& [name, value] : d.numbers) numbers[name] = value;
    for (const auto& row : d.candidates) {
      json one = json::object();
      for (std::size_t c = 0; c < row.size(); ++c) one[d.columns[c]] = row[c];
      candidates.push_back(one);
    }
    decisions.push_back({{"what", d.what},
                         {"machine", d.where},
                         {"rule", d.rule},
                         {"numbers", numbers},
                         {"candidates", candidates},
                         {"left_out", d.left_out},
                         {"note", d.note}});
  }
  return {{"scenario", e.header.scenario}, {"seed", e.header.seed},  {"event", e.number},
          {"at_ns", e.at.nanos},           {"machine", e.machine},   {"took", e.event},
          {"effects", e.effects},          {"decisions", decisions}, {"same", e.same},
          {"difference", e.difference}};
}

std::string summary(const Explanation& e) {
  std::string text = fmt::format("event {} at {:.6f} s: the {} took\n  {}\n", e.number,
                                 static_cast<double>(e.at.nanos) * 1e-9, e.machine, e.event);
  text += e.effects.empty() ? "and it had no effect.\n" : "effects:\n";
  for (const std::string& effect : e.effects) text += "  " + effect + "\n";
  for (const Decision& d : e.decisions) {
    text += fmt::format("\n{} ({})\n  rule: {}\n", d.what, d.where, d.rule);
    for (const auto& [name, value] : d.numbers) text += fmt::format("  {}: {}\n", name, value);
    if (!d.candidates.empty()) text += "  candidates, the best first:\n" + table(d);
    if (!d.note.empty()) text += "  note: " + d.note + "\n";
  }
  if (e.decisions.empty() && !e.effects.empty()) {
    text += "\nNothing was chosen here: the effects follow from the event alone.\n";
  }
  if (!e.same) text += "\nThis program decides differently: " + e.difference + "\n";
  return text;
}

}  // namespace chalk::sim
