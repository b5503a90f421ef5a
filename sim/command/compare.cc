#include "sim/compare/compare.h"

#include "sim/command/command.h"
#include "sim/report/result.h"

namespace chalk::sim {
namespace {

struct Options {
  std::string a, b, name_a, name_b, out;
  std::vector<std::string> metrics;
  double at_least_percent = 1, confidence_percent = 95;
  bool all = false, json = false;
};

int compare_command(const Options& options) {
  CompareOptions how;
  how.metrics = options.all ? metric_names() : options.metrics;
  how.at_least = options.at_least_percent / 100;
  how.confidence = options.confidence_percent / 100;
  if (!options.out.empty()) {
    make_folder("--out", options.out);
    refuse_others(options.out, {"result.json", "plan.json", "sweep.json"});
  }
  const Comparison result =
      compare(options.name_a.empty() ? options.a : options.name_a, read_measured(options.a),
              options.name_b.empty() ? options.b : options.name_b, read_measured(options.b), how);
  const bool good =
      options.out.empty() || saved([&] { write_comparison(options.out, result); });
  print_result(result, summary(result), good ? options.out : "", options.json);
  if (!good) return 1;
  if (!result.broken.empty()) return 3;
  return result.count(Verdict::worse) == 0 ? 0 : 2;
}

}  // namespace

Subcommand add_compare(CLI::App& app, const Context&) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand(
      "compare", "what got better and what worse from A to B, beyond noise; 2 where something did");
  sub->add_option("DIR_A", options->a, "a folder of `run --out` or `sweep --out`, or of many such")
      ->required();
  sub->add_option("DIR_B", options->b, "another one")->required();
  sub->add_option("--metrics", options->metrics,
                  "metrics of docs/results.md to judge (default: a list of the main ones)")
      ->delimiter(',');
  sub->add_flag("--all", options->all, "judge every metric");
  sub->add_option("--at-least", options->at_least_percent,
                  "changes below so many percent of A do not count (default 1)")
      ->check(CLI::Range(0.0, 1000.0));
  sub->add_option("--confidence", options->confidence_percent,
                  "percent, of all verdicts together (default 95)")
      ->check(CLI::Range(50.0, 99.9999));
  sub->add_option("--name-a", options->name_a, "what to call A (default: its folder)");
  sub->add_option("--name-b", options->name_b, "what to call B");
  sub->add_option("--out", options->out, "folder for compare.json and report.html");
  sub->add_flag("--json", options->json, "print the comparison as JSON");
  return {sub, [options] { return compare_command(*options); }};
}

}  // namespace chalk::sim
