#include "sim/whatif/whatif.h"

#include <fmt/format.h>

#include <iostream>

#include "sim/command/command.h"
#include "sim/report/result.h"

namespace chalk::sim {
namespace {

struct Options {
  WhatIfQuestion question;
  std::vector<std::string> sets;
  std::string out;
  double at_least_percent = 1;
  bool all = false, json = false, quiet = false;
};

int whatif_command(Options options, const Context& context) {
  WhatIfQuestion& question = options.question;
  question.sets = parse_sets(options.sets);
  question.compare.at_least = options.at_least_percent / 100;
  if (options.all) question.compare.metrics = metric_names();
  if (question.parallel == 0) question.parallel = cores();
  question.commit = context.commit;
  expect_log(question.log);
  if (!options.out.empty()) {
    make_folder("--out", options.out);
    refuse_others(options.out, {"result.json", "plan.json", "sweep.json"});
  }
  ProgressLine line(options.quiet);
  const double began = wall_seconds();
  const auto progress = [&](std::size_t done, std::size_t whole) {
    line.show(fmt::format("whatif: {} of {} runs  {} left", done, whole,
                          left_text(wall_seconds() - began, done, whole)));
  };
  WhatIfResult result;
  try {
    result = stoppable([&] { return what_if(question, progress, context.stop); });
  } catch (const std::exception&) {
    if (context.stop == nullptr || !context.stop->load()) throw;
    line.clear();
    std::cerr << "chalk-sim: interrupted\n";
    return 130;
  }
  line.clear();
  const bool good =
      options.out.empty() || saved([&] { write_comparison(options.out, result.comparison); });
  const int status = !good ? 1 : result.differs ? 2 : 0;
  if (options.json) {
    nlohmann::json told = to_json(result.comparison);
    told["scenario"] = result.scenario;
    told["seed"] = result.seed;
    told["arrivals"] = result.arrivals;
    told["same_as_log"] = result.same_as_log;
    told["log_ends_seconds"] =
        result.log_ends_seconds ? nlohmann::json(*result.log_ends_seconds) : nullptr;
    told["notes"] = result.notes;
    std::cout << json_text(told);
    return status;
  }
  std::cout << fmt::format(
      "{}, seed {}: the same {} calls and sandboxes, decided twice, with {} seeds of what is "
      "chance{}.\n",
      result.scenario, result.seed, result.arrivals, question.seeds,
      result.comparison.options.no_chance ? ", which is nothing" : "");
  if (result.log_ends_seconds) {
    std::cout << fmt::format(
        "The log is of a run that was interrupted at {:.3f} s. Until then this program decides as "
        "it says, event by event; what comes after is the scenario's.\n",
        *result.log_ends_seconds);
  } else if (result.same_as_log) {
    std::cout << "As it was, this program decides as the log says, event by event.\n";
  }
  for (const std::string& note : result.notes) std::cout << note << "\n";
  std::cout << "A: the log; B: " << result.comparison.name_b << "\n\n"
            << summary(result.comparison);
  if (!options.out.empty() && good) std::cout << "report: " << options.out << "/report.html\n";
  return status;
}

}  // namespace

Subcommand add_whatif(CLI::App& app, const Context& context) {
  const auto options = std::make_shared<Options>();
  WhatIfQuestion& question = options->question;
  question.parallel = 0;
  CLI::App* sub = app.add_subcommand(
      "whatif", "the demand of a log under other settings: both columns, and the difference; 2 "
                "where this program decides otherwise than the log");
  sub->add_option("LOG", question.log, "events.log of a run, or control.log of `export-log`")
      ->required();
  sub->add_option("--set", options->sets, "a.b.c=value: what is decided otherwise")
      ->required()
      ->allow_extra_args(false);
  sub->add_option("--node-log", question.node_log,
                  "node.log of `export-log`: the platform is fitted to both, as by calibrate");
  sub->add_option("--scenario", question.scenario,
                  "the scenario of the log (default: scenario.yaml beside it)");
  sub->add_option("--trace", question.trace, "where the log was made with one");
  sub->add_option("--seeds", question.seeds, "seeds of what is chance (default 5)")
      ->check(CLI::Range(1, 10'000));
  sub->add_option("--metrics", question.compare.metrics,
                  "metrics of docs/results.md (default: a list of the main ones)")
      ->delimiter(',');
  sub->add_flag("--all", options->all, "every metric");
  sub->add_option("--at-least", options->at_least_percent,
                  "changes below so many percent do not count (default 1)")
      ->check(CLI::Range(0.0, 1000.0));
  sub->add_option("--parallel", question.parallel, "processes at once (default: one per core)");
  sub->add_option("--out", options->out, "folder for compare.json and report.html");
  sub->add_flag("--json", options->json, "print it as JSON");
  sub->add_flag("--quiet", options->quiet, "no progress");
  return {sub, [options, context] { return whatif_command(*options, context); }};
}

}  // namespace chalk::sim
