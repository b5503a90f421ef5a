// What a person reads of a comparison.
#include "sim/report/page.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/compare/compare.h"
#include "sim/report/result.h"

namespace chalk::sim {
namespace {

bool told(const Comparison& c, const CompareRow& row) {
  if (row.verdict == Verdict::unmeasured) return false;  // a sentence says so
  return c.options.show_equal || row.verdict != Verdict::equal;
}

std::string percent(double share) { return fmt::format("{:+.1f} %", share * 100); }
std::string difference_text(const CompareRow& row) {
  const Estimate& d = row.difference;
  const bool varied = d.half > 0;  // else the interval is not known
  return varied ? fmt::format("{} ± {}", number_text(d.mean), number_text(d.half))
                : number_text(d.mean);
}
std::string change_text(const CompareRow& row) {
  return row.a == 0 || row.difference.mean == 0 ? "" : percent(row.relative(row.difference.mean));
}
std::string p_text(const CompareRow& row) {
  return row.difference.has_interval() ? fmt::format("{:.2g}", row.adjusted) : "";
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::vector<std::string> answer(const Comparison& c) {
  std::vector<std::string> say;
  say.push_back(fmt::format("{} is worse than {} in {} figures and better in {}, beyond noise.",
                            c.name_b, c.name_a, c.count(Verdict::worse), c.count(Verdict::better)));
  for (const CompareRow& row : c.rows) {
    if (row.verdict != Verdict::worse && row.verdict != Verdict::better) continue;
    say.push_back(fmt::format("{}: {} of {} goes from {} to {}{}.",
                              row.verdict == Verdict::worse ? "WORSE" : "Better", row.metric,
                              row.of, number_text(row.a), number_text(row.b),
                              row.a == 0 ? "" : " (" + change_text(row) + ")"));
  }
  for (const std::string& of : c.broken) {
    say.push_back(
        fmt::format("BROKEN: {} breaks an invariant in {}, {} does not.", c.name_b, of, c.name_a));
  }
  const auto paired = static_cast<std::size_t>(std::count_if(
      c.rows.begin(), c.rows.end(), [](const CompareRow& row) {
        return row.paired && row.verdict != Verdict::other_demand;
      }));
  say.push_back(fmt::format(
      "Judged: {} figures, {} of them seed by seed (paired t), the others by Welch's t; {:.0f} % "
      "sure of all together (Holm), and only changes of at least {:.2g} %. {} are equal in every "
      "seed, {} within noise, {} too small.",
      c.rows.size() - c.count(Verdict::other_demand), paired, c.options.confidence * 100,
      c.options.at_least * 100, c.count(Verdict::equal), c.count(Verdict::within_noise), c.count(Verdict::too_small)));
  if (c.options.no_chance) {
    say.push_back(fmt::format(
        "The seeds do not differ: nothing here is left to chance, so all of them are one sample. {} "
        "figures differ, for this demand; whether they do for others, other logs would tell.",
        c.count(Verdict::one_seed)));
  } else if (c.count(Verdict::one_seed) > 0) {
    say.push_back(fmt::format(
        "{} figures differ, but of one seed: whether that is noise, more seeds would tell.",
        c.count(Verdict::one_seed)));
  }
  std::vector<std::string> unmeasured;
  for (const CompareRow& row : c.rows) {
    if (row.verdict == Verdict::unmeasured) {
      unmeasured.push_back(fmt::format("{} of {} (nothing in {})", row.metric, row.of,
                                       row.unmeasured_a ? c.name_a : c.name_b));
    }
  }
  if (!unmeasured.empty()) {
    say.push_back("Not compared, since one side has nothing to measure: " + joined(unmeasured) +
                  ".");
  }
  if (!c.other_demand.empty()) {
    say.push_back("Not judged, since for the same seed other work arrives in " + c.name_a +
                  " than in " + c.name_b + ": " + joined(c.other_demand) + ".");
  }
  if (!c.other_settings.empty()) {
    say.push_back("The scenario is not the same file or has other settings, but asks for the same: " +
                  joined(c.other_settings) + ".");
  }
  if (!c.unknown_demand.empty()) {
    say.push_back("The scenario is not the same file or has other settings, and whether it asks for "
                  "the same is not known (clients that wait for answers ask by what is decided): " +
                  joined(c.unknown_demand) + ".");
  }
  if (!c.only_a.empty()) say.push_back("Only " + c.name_a + " has: " + joined(c.only_a) + ".");
  if (!c.only_b.empty()) say.push_back("Only " + c.name_b + " has: " + joined(c.only_b) + ".");
  return say;
}

}  // namespace

std::string summary(const Comparison& c) {
  std::string text;
  for (const std::string& line : answer(c)) text += fmt::format("  {}\n", line);
  std::size_t width = 0;
  for (const CompareRow& row : c.rows) {
    if (told(c, row)) width = std::max({width, row.of.size(), std::size_t{4}});
  }
  if (width == 0) return text;
  text += fmt::format("\n  {:{}}  {:18} {:>11} {:>11}  {:>23} {:>9} {:>8}  {}\n", "case", width,
                      "metric", "A", "B", "B - A", "", "p", "");
  for (const CompareRow& row : c.rows) {
    if (!told(c, row)) continue;
    text += fmt::format("  {:{}}  {:18} {:>11} {:>11}  {:>23} {:>9} {:>8}  {}\n", row.of, width,
                        row.metric, number_text(row.a), number_text(row.b), difference_text(row),
                        change_text(row), p_text(row), to_text(row.verdict));
  }
  return text;
}

std::string html_page(const Comparison& c) {
  std::string body = fmt::format(
      "<h2>Figures</h2>\n<table class=\"times\"><thead><tr><th></th><th></th><th>{}</th><th>{}</th>"
      "<th>difference</th><th></th><th>p, "
      "adjusted</th><th>seeds</th><th></th></tr></thead><tbody>\n",
      escaped(c.name_a), escaped(c.name_b));
  for (const CompareRow& row : c.rows) {
    if (!told(c, row)) continue;
    body += fmt::format(
        "<tr{}><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{}{}</td><td>{}</td></tr>\n",
        row.verdict == Verdict::worse    ? " class=\"worse\""
        : row.verdict == Verdict::better ? " class=\"chosen\""
                                         : "",
        escaped(row.of), escaped(row.metric), number_text(row.a), number_text(row.b),
        difference_text(row), change_text(row), p_text(row), row.difference.count,
        row.paired ? "" : " (not paired)", to_text(row.verdict));
  }
  body += fmt::format("</tbody></table>\n<p>{} figures are equal in every seed.</p>\n",
                      c.count(Verdict::equal));
  return page(fmt::format("{} against {}", c.name_b, c.name_a),
              "What got better and what worse, beyond what seeds make of it.", answer(c), body,
              {{"compare", to_json(c)}});
}

}  // namespace chalk::sim
