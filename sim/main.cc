// chalk-sim: what a fleet will do, before anyone spends money.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "sim/calibrate/calibrate.h"
#include "sim/command/command.h"
#include "sim/plan/plan.h"
#include "sim/report/files.h"
#include "sim/report/html.h"
#include "sim/report/result.h"
#include "sim/scenario/parse.h"
#include "sim/scenario/reader.h"
#include "sim/shrink/tree.h"
#include "sim/workload/trace.h"
#include "sim/world/replay.h"
#include "sim/world/world.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::sim {
namespace {

struct Options {
  std::string scenario;
  std::vector<std::string> scenarios;
  std::string trace;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> sets;
  std::string out;
  bool json = false;
  bool quiet = false;
  std::uint64_t restore_each = 0;
  bool check_each_step = false;
  std::string knob;
  std::string range;
  std::string until;
  std::uint32_t seeds = 3;
  std::uint32_t parallel = 0;
  std::string log;
  std::string node_log;
  bool check_digest = false;
};

Setup load(const Options& options, std::vector<Override> more = {}) {
  std::vector<Override> overrides = parse_sets(options.sets);
  overrides.insert(overrides.end(), more.begin(), more.end());
  std::optional<std::string> trace;
  if (!options.trace.empty()) trace = options.trace;
  return load_scenario(options.scenario, overrides, trace);
}

// The trace by a path that holds wherever the scenario is moved to.
std::string anywhere(const std::string& trace) {
  const auto spec = parse_trace_spec(trace);
  return spec ? spec->format + ":" + std::filesystem::absolute(spec->path).string() : trace;
}

// The scenario as it is run, for `whatif` and for whoever finds the folder: in one file, with what
// --set and --trace changed.
std::string resolved(const Options& options, const std::string& name) {
  Files files(options.scenario);
  YAML::Node root = parse_yaml(options.scenario, read_scenario_file(options.scenario), &files);
  for (const Override& one : parse_sets(options.sets)) {
    apply_override(options.scenario, root, one);
  }
  find_traces(files, root);
  if (options.trace.empty()) {
    for (const YAML::Node& section : root["workload"]) {
      if (YAML::Node path = section["path"]) path = anywhere(path.Scalar());
    }
  } else {
    YAML::Node section;
    section["kind"] = "trace";
    section["path"] = anywhere(options.trace);
    root["workload"] = YAML::Node(YAML::NodeType::Sequence);
    root["workload"].push_back(section);
  }
  root["name"] = name;
  if (options.seed) root["seed"] = std::to_string(*options.seed);
  return "# " + options.scenario + ", as it was run.\n" + to_yaml(tree_of(root));
}

void show_progress(const Progress& p) {
  const double speed = p.wall_seconds > 0 ? p.simulated_seconds / p.wall_seconds : 0;
  std::string left = "?";
  if (p.share_done > 0.001) left = clock_text(p.wall_seconds * (1 - p.share_done) / p.share_done);
  std::fprintf(stderr, "\r\033[Ksimulated %s  %3.0f %%  %.0fx real time  %.2f M events  %s left",
               clock_text(p.simulated_seconds).c_str(), p.share_done * 100, speed,
               static_cast<double>(p.events) * 1e-6, left.c_str());
}

bool wants_progress(const Options& options) { return !options.quiet && isatty(STDERR_FILENO) != 0; }
void clear_progress(const Options& options) {
  if (wants_progress(options)) std::fprintf(stderr, "\r\033[K");
}

int run(const Options& options) {
  const Setup setup = load(options);
  RunOptions run_options;
  run_options.seed = options.seed.value_or(setup.seed);
  run_options.commit = CHALK_COMMIT;
  run_options.stop = StopOnSignal::flag();
  run_options.restore_each = options.restore_each;
  run_options.compare_each_step = options.check_each_step;
  if (!options.out.empty()) {
    const std::string scenario = resolved(options, setup.name);  // which may lie in the folder
    make_folder("--out", options.out);
    refuse_others(options.out, {"sweep.json"});
    clear_result(options.out);
    if (setup.event_log) run_options.log_path = options.out + "/events.log";
    write_file(options.out + "/scenario.yaml", scenario);
  }
  if (wants_progress(options)) run_options.progress = show_progress;
  const Result result = stoppable([&] { return run_world(setup, run_options); });
  clear_progress(options);
  const bool logged = options.out.empty() || saved([&] {
    if (!result.no_log.empty()) throw std::runtime_error(result.no_log);
  });
  const bool written = options.out.empty() || saved([&] { write_result(options.out, result); });
  print_result(result, summary(result), written ? options.out : "", options.json);
  if (!logged || !written) return 1;
  if (!result.broken.empty()) return 3;
  for (const auto& assertion : result.assertions) {
    if (!assertion.passed) return 2;
  }
  return result.interrupted ? 130 : 0;
}

int plan_command(const Options& options) {
  const auto colon = options.range.find(':');
  PlanQuestion question;
  question.knob = options.knob;
  question.condition = options.until;
  try {
    if (colon == std::string::npos) throw std::invalid_argument("");
    std::size_t used = 0;
    question.low = std::stoll(options.range.substr(0, colon), &used);
    if (used != colon) throw std::invalid_argument("");
    question.high = std::stoll(options.range.substr(colon + 1), &used);
    if (used != options.range.size() - colon - 1) throw std::invalid_argument("");
  } catch (const std::exception&) {
    throw std::runtime_error("--range: found \"" + options.range +
                             "\", expected LO:HI, such as 1:64");
  }
  if (question.knob == "seed") {
    throw std::runtime_error(
        "--find: found seed, which each value has several of; expected another key, and --seeds N");
  }
  const Setup base = load(options);
  const std::uint64_t first_seed = options.seed.value_or(base.seed);
  expect_seeds("--seeds", first_seed, options.seeds);
  for (std::uint32_t i = 0; i < options.seeds; ++i) question.seeds.push_back(first_seed + i);
  question.parallel = options.parallel != 0
                          ? options.parallel
                          : static_cast<std::uint32_t>(sysconf(_SC_NPROCESSORS_ONLN));
  load(options, {{question.knob, std::to_string(question.high)}});  // a bad knob is told at once
  if (!options.out.empty()) {
    make_folder("--out", options.out);
    refuse_others(options.out, {"sweep.json"});
    const std::string scenario = options.out + "/scenario.yaml";
    std::error_code none;
    const bool of_a_run = std::filesystem::exists(options.out + "/result.json", none);
    clear_result(options.out);
    if (of_a_run && !std::filesystem::equivalent(scenario, options.scenario, none)) {
      std::filesystem::remove(scenario);
    }
  }
  const auto run_one = [&](std::int64_t value, std::uint64_t seed) {
    const Setup setup = load(options, {{question.knob, std::to_string(value)}});
    RunOptions run_options;
    run_options.seed = seed;
    run_options.commit = CHALK_COMMIT;
    run_options.stop = StopOnSignal::flag();
    return run_world(setup, run_options);
  };
  const auto progress = [&](std::size_t done, std::size_t expected, std::int64_t value) {
    if (options.quiet) return;
    std::fprintf(stderr, "plan: trying %s=%lld with %zu seeds (%zu runs done, about %zu in all)\n",
                 question.knob.c_str(), static_cast<long long>(value), question.seeds.size(), done,
                 expected);
  };
  const PlanResult result =
      stoppable([&] { return plan(question, run_one, progress, StopOnSignal::flag()); });
  const bool good = options.out.empty() || saved([&] { write_plan(options.out, result); });
  print_result(result, plan_summary(result), good ? options.out : "", options.json);
  if (!good) return 1;
  if (result.interrupted) return 130;
  return result.found ? 0 : 2;
}

int replay_command(const Options& options) {
  expect_log(options.log);
  const auto report = replay(options.log, options.check_digest, [&](std::uint64_t records) {
    if (wants_progress(options)) {
      std::fprintf(stderr, "\r\033[Kreplayed %.2f M records", static_cast<double>(records) * 1e-6);
    }
  });
  clear_progress(options);
  if (options.json) {
    nlohmann::json out = {{"events", report.events},
                          {"checkpoints", report.checkpoints},
                          {"same", report.same},
                          {"difference", report.difference},
                          {"digest", hex_text(report.running_digest)},
                          {"seed", report.header.seed},
                          {"commit", report.header.commit},
                          {"scenario", report.header.scenario}};
    std::cout << json_text(out);
  } else {
    if (report.header.scenario.empty()) {
      std::cout << "the log of a real machine";
    } else {
      std::cout << "scenario " << report.header.scenario << ", seed " << report.header.seed;
    }
    std::cout << ", commit " << report.header.commit << "\n";
    if (report.same) {
      std::cout << "same: " << report.events << " events, digest "
                << hex_text(report.running_digest);
      if (options.check_digest)
        std::cout << ", " << report.checkpoints << " checkpoints of the whole state";
      std::cout << "\n";
    } else {
      std::cout << "different: " << report.difference << "\n";
    }
  }
  return report.same ? 0 : 1;
}

int calibrate_command(const Options& options) {
  make_folder("--out", options.out);
  const Calibration calibration = calibrate(options.log, options.node_log);
  write_calibration(options.out, calibration);
  std::cout << summary(calibration) << "written: " << options.out
            << "/platform.yaml, workload.jsonl, measured.json\n"
            << "predict it: chalk-sim run " << options.out << "/platform.yaml --trace jsonl:"
            << options.out << "/workload.jsonl\n";
  return 0;
}

int check(const Options& options) {
  int bad = 0;
  for (const std::string& path : options.scenarios) {
    try {
      Options one = options;
      one.scenario = path;
      const Setup setup = load(one);
      const auto warnings = lint(setup);
      std::cout << path << ": " << (warnings.empty() ? "good" : "good, with warnings") << "\n";
      for (const std::string& warning : warnings) std::cout << "  warning: " << warning << "\n";
    } catch (const std::exception& error) {
      std::cout << error.what() << "\n";
      ++bad;
    }
  }
  return bad == 0 ? 0 : 1;
}

void add_scenario_options(CLI::App& app, Options& options) {
  app.add_option("SCENARIO", options.scenario, "scenario file (docs/scenarios.md)")->required();
  app.add_option("--trace", options.trace,
                 "replace the scenario's workload by a trace: azure2019:DIR, azure2021:FILE, "
                 "azurellm:FILE, openb:DIR or jsonl:FILE");
  app.add_option("--seed", options.seed, "seed of everything random (default: the scenario's)");
  app.add_option("--set", options.sets, "override a key: a.b.c=value, elements of lists by number")
      ->allow_extra_args(false);
  app.add_option("--out", options.out, "folder for result.json, CSV, event log and report.html");
  app.add_flag("--json", options.json, "print the result as JSON");
  app.add_flag("--quiet", options.quiet, "no progress");
}

int command(int argc, char** argv) {
  CLI::App app{
      "Simulates a fleet that runs sandboxes and functions, with the decision code of production.\n"
      "Exit status: 0 good; 1 an error; 2 an assertion or condition is not met; 3 an invariant is\n"
      "broken; 130 interrupted."};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("chalk-sim ") + CHALK_COMMIT);
  Options options;
  CLI::App* run_app = app.add_subcommand("run", "run a scenario once and measure it");
  add_scenario_options(*run_app, options);
  run_app->add_option(
      "--restore-each", options.restore_each,
      "rebuild a machine from its encoded state before each Nth event (1: before all; a test)");
  run_app->add_flag("--check-each-step", options.check_each_step,
                    "compare truth and belief at every step of control, as swarm and shrink do");
  CLI::App* plan_app =
      app.add_subcommand("plan", "find the least value of a key that meets a condition");
  add_scenario_options(*plan_app, options);
  plan_app->add_option("--find", options.knob, "the key to vary, such as pools.0.nodes")
      ->required();
  plan_app->add_option("--range", options.range, "LO:HI, whole numbers")->required();
  plan_app->add_option("--until", options.until, "a condition such as \"wait_p99_ms<=500\"")
      ->required();
  plan_app->add_option("--seeds", options.seeds, "seeds to run at each value (default 3)")
      ->check(CLI::Range(1, 1000));
  plan_app->add_option("--parallel", options.parallel, "runs at once (default: one per core)");
  CLI::App* replay_app =
      app.add_subcommand("replay", "replay an event log and compare every decision");
  replay_app->add_option("LOG", options.log, "events.log of a run, or an exported log")->required();
  replay_app->add_flag("--check-digest", options.check_digest,
                       "also compare the whole state at every checkpoint");
  replay_app->add_flag("--json", options.json, "print the result as JSON");
  replay_app->add_flag("--quiet", options.quiet, "no progress");
  CLI::App* calibrate_app = app.add_subcommand(
      "calibrate", "fit a platform to the logs that `chalk-server export-log` wrote");
  calibrate_app->add_option("CONTROL_LOG", options.log, "control.log")->required();
  calibrate_app->add_option("NODE_LOG", options.node_log, "node.log, of the same host")->required();
  calibrate_app->add_option("--out", options.out, "folder for platform.yaml and workload.jsonl")
      ->required();
  CLI::App* check_app =
      app.add_subcommand("check", "parse and lint scenarios without running them");
  check_app->add_option("SCENARIO", options.scenarios, "scenario files")->required();
  const Context context{CHALK_COMMIT, StopOnSignal::flag()};
  const Subcommand others[] = {add_sweep(app, context),   add_merge(app, context),
                               add_compare(app, context), add_swarm(app, context),
                               add_shrink(app, context),  add_explain(app, context),
                               add_whatif(app, context)};
  refuse_no_numbers(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // also --help, whose status is 0
    return app.exit(error) == 0 ? 0 : 1;
  }
  for (const Subcommand& other : others) {
    if (*other.app) return other.run();
  }
  if (*run_app) return run(options);
  if (*plan_app) return plan_command(options);
  if (*replay_app) return replay_command(options);
  if (*calibrate_app) return calibrate_command(options);
  return check(options);
}

// What could not be written was not answered: a full disk behind a `>` is no success.
int all_told(int status) {
  std::cout.flush();
  if (std::cout) return status;
  std::fprintf(stderr, "chalk-sim: standard output cannot be written to: the answer is cut\n");
  return 1;
}

}  // namespace
}  // namespace chalk::sim

int main(int argc, char** argv) {
  try {
    return chalk::sim::all_told(chalk::sim::command(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chalk-sim: %s\n", error.what());
    return 1;
  }
}
