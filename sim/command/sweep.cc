#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <set>

#include "model/core/digest.h"
#include "sim/command/command.h"
#include "sim/sweep/merge.h"
#include "sim/workload/trace.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

struct Options {
  std::string scenario, trace, shard = "0/1", resume, out, x = "cost", y = "wait_p99_ms";
  std::vector<std::string> sets, over, folders;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint32_t> seeds;
  unsigned parallel = 0;
  bool json = false, quiet = false;
};

std::vector<Override> overrides_of(const SweepQuestion& question, const Configuration& point) {
  std::vector<Override> overrides;
  for (const Configuration& part : {question.sets, point}) {
    for (const auto& [key, value] : part) overrides.push_back({key, value});
  }
  return overrides;
}

Setup load(const SweepQuestion& question, const Configuration& point) {
  std::optional<std::string> trace;
  if (!question.trace.empty()) trace = question.trace;
  return load_scenario(question.scenario, overrides_of(question, point), trace);
}

// Reads every point, so that a bad value is told at once; gives a digest of what the traces of all
// of them hold, or nothing where there are none. Their paths stand in the scenario and the settings,
// but a file can be replaced: its runs would then stand in one table with those of another demand.
std::string look_at_points(const SweepQuestion& question) {
  std::set<std::string> traces;
  std::map<std::uint64_t, std::size_t> seen;  // two keys may name one setting: pools.0, pools.cpu
  for (std::size_t point = 0; point < question.points(); ++point) {
    const Setup setup = load(question, question.point(point));
    const auto [other, is_new] = seen.emplace(setup.scenario_hash, point);
    if (!is_new) {
      throw std::runtime_error(fmt::format(
          "--over: found {} and {}, which are one configuration; expected each setting once",
          to_text(question.point(other->second)), to_text(question.point(point))));
    }
    traces.insert(setup.traces.begin(), setup.traces.end());
  }
  if (traces.empty()) return "";
  Digest digest;
  for (const std::string& trace : traces) digest.add(trace_digest(trace));
  return hex_text(digest.value());
}

void add_axis(SweepQuestion& question, const Axis& axis) {
  if (axis.key == "seed") {
    throw std::runtime_error(
        "--over: found seed, which each point has several of; expected --seeds N, and --seed for "
        "the first of them");
  }
  for (const Axis& other : question.axes) {
    if (other.key == axis.key) {
      throw std::runtime_error("--over: found " + axis.key +
                               " twice, expected each key once, with all its values");
    }
  }
  question.axes.push_back(axis);
}

SweepQuestion ask(const Options& options, const Context& context) {
  SweepQuestion question;
  question.scenario = options.scenario;
  question.trace = options.trace;
  for (const Override& one : parse_sets(options.sets)) {
    question.sets.emplace_back(one.path, one.value);
  }
  for (const std::string& text : options.over) add_axis(question, parse_axis(text));
  question.seeds = options.seeds.value_or(3);
  question.commit = context.commit;
  question.folder = std::filesystem::current_path();
  const Setup setup = load(question, {});
  question.name = setup.name;
  question.shows = setup.shows;
  question.scenario_hash = setup.scenario_hash;
  question.first_seed = options.seed.value_or(setup.seed);
  expect_seeds("--seeds", question.first_seed, question.seeds);
  return question;
}

// What is said again beside --resume must be what the folder says.
void agrees(const Options& options, const SweepQuestion& there) {
  SweepQuestion asked = there;
  if (options.seeds) asked.seeds = *options.seeds;
  if (options.seed) asked.first_seed = *options.seed;
  if (!options.trace.empty()) asked.trace = options.trace;
  if (!options.over.empty()) asked.axes.clear();
  for (const std::string& text : options.over) add_axis(asked, parse_axis(text));
  if (!options.sets.empty()) asked.sets.clear();
  for (const Override& one : parse_sets(options.sets)) {
    asked.sets.emplace_back(one.path, one.value);
  }
  const std::string other = difference(there, asked);
  if (other.empty()) return;
  throw std::runtime_error("--resume " + options.resume + ": found another sweep: " + other +
                           "; expected the same, or a new sweep in another folder");
}

// The paths of a sweep hold in the folder in which it was asked: of the scenario, its traces and
// those that --set names. It is answered from there, where the scenario is there still; what this
// start's own options name keeps its place.
void go_where_it_was_asked(Options& options, const SweepQuestion& question) {
  const std::filesystem::path there = question.folder;
  std::error_code error;
  if (there.empty() || std::filesystem::equivalent(there, ".", error) ||
      !std::filesystem::exists(there / question.scenario, error)) {
    return;
  }
  for (std::string* path : {&options.resume, &options.out, &options.scenario}) {
    if (!path->empty()) *path = std::filesystem::absolute(*path);
  }
  std::filesystem::current_path(there);
}

// The question of an earlier start, which this program and this file must still be able to answer.
SweepQuestion asked_before(Options& options, const Context& context) {
  SweepQuestion question = read_question(options.resume);
  agrees(options, question);
  go_where_it_was_asked(options, question);
  if (!options.scenario.empty()) question.scenario = options.scenario;
  if (question.commit != context.commit) {
    throw std::runtime_error(fmt::format(
        "--resume {}: found runs of commit {}, this program is {}; they may not stand in one table",
        options.resume, question.commit, context.commit));
  }
  if (load(question, {}).scenario_hash != question.scenario_hash) {
    throw std::runtime_error(
        fmt::format("--resume {}: found another {} than the sweep began with; start a new one in "
                    "another folder",
                    options.resume, question.scenario));
  }
  return question;
}

// `write`: what goes to the folder before the table.
int tell(const SweepTable& table, const Options& options, const std::string& folder,
         const std::function<void()>& write = [] {}) {
  const bool good = saved([&] {
    write();
    write_table(folder, table);
  });
  print_result(table, summary(table), good ? folder : "", options.json);
  if (!good) return 1;
  for (const SweepPoint& point : table.points) {
    if (point.broken) return 3;
  }
  return table.missing.empty() ? 0 : 2;
}

int sweep(Options options, const Context& context) {
  if (options.scenario.empty() && options.resume.empty()) {
    throw std::runtime_error("sweep: found no SCENARIO, expected one, or --resume DIR");
  }
  const bool again =
      !options.resume.empty() && (options.over.empty() || options.scenario.empty());
  SweepQuestion question = again ? asked_before(options, context) : ask(options, context);
  const std::string folder = options.out.empty() ? options.resume : options.out;
  if (folder.empty()) throw std::runtime_error("--out: found nothing, expected a folder");
  if (question.axes.empty()) {
    throw std::runtime_error("--over: found nothing, expected a.b.c=1,2,4 at least once");
  }
  const Shard shard = parse_shard(options.shard);
  sweep_table(question, {}, options.x, options.y);  // bad metrics are told at once
  const std::string traces = look_at_points(question);
  if (again && traces != question.traces_digest) {
    throw std::runtime_error(fmt::format(
        "--resume {}: found another content of the traces, {}, than the sweep began with, {}; "
        "start a new one in another folder",
        options.resume, traces, question.traces_digest));
  }
  question.traces_digest = traces;
  make_folder("--out", folder);
  open_sweep(folder, question);
  if (!options.resume.empty() && options.resume != folder) {
    SweepRuns before;
    if (merge_runs({options.resume}, before).identity() != question.identity()) {
      throw std::runtime_error("--resume " + options.resume + ": found another sweep");
    }
    for (const auto& [which, run] : before) write_run(folder, question, run);
  }
  const auto body = [&](const Configuration& point, std::uint64_t seed) {
    RunOptions run_options;
    run_options.seed = seed;
    run_options.commit = context.commit;
    run_options.stop = context.stop;
    return run_world(load(question, point), run_options);
  };
  ProgressLine line(options.quiet);
  const double began = wall_seconds();
  const auto progress = [&](const SweepProgress& p) {
    line.show(fmt::format("sweep: {} of {} runs{}  {} left", p.done, p.whole,
                          shard.of > 1 ? fmt::format(" of shard {}/{}", shard.index, shard.of) : "",
                          left_text(wall_seconds() - began, p.done - p.there, p.whole - p.there)));
  };
  const SweepOutcome outcome = stoppable([&] {
    return run_shard(question, shard, folder, options.parallel != 0 ? options.parallel : cores(),
                     body, progress, context.stop);
  });
  line.clear();
  for (const std::string& failed : outcome.failed) std::cerr << "chalk-sim: " << failed << "\n";
  if (outcome.interrupted) {
    std::cerr << "chalk-sim: interrupted; go on with: chalk-sim sweep --resume "
              << shell_word(folder) << (shard.of > 1 ? " --shard " + options.shard : "") << "\n";
    return 130;
  }
  if (!outcome.failed.empty()) return 1;
  if (shard.of > 1) {
    if (!options.quiet) {
      std::cerr << fmt::format(
          "sweep: shard {}/{} is done: {} runs, of which {} were there before; when all are: "
          "chalk-sim merge {} ...\n",
          shard.index, shard.of, outcome.ran + outcome.there, outcome.there, shell_word(folder));
    }
    return 0;
  }
  SweepRuns runs = read_runs(folder, question);
  return tell(sweep_table(question, runs, options.x, options.y), options, folder);
}

int merge(const Options& options) {
  SweepRuns runs;
  if (!options.out.empty()) make_folder("--out", options.out);
  const SweepQuestion question = merge_runs(options.folders, runs);
  const std::string folder = options.out.empty() ? options.folders[0] : options.out;
  const SweepTable table = sweep_table(question, runs, options.x, options.y);
  return tell(table, options, folder, [&] {
    open_sweep(folder, question);
    const SweepRuns there = read_runs(folder, question);
    for (const auto& [which, run] : runs) {
      if (!there.contains(which)) write_run(folder, question, run);
    }
  });
}

void add_table_options(CLI::App& app, Options& options) {
  app.add_option("--x", options.x, "the metric across (default cost)");
  app.add_option("--y", options.y, "the metric upwards (default wait_p99_ms)");
  app.add_flag("--json", options.json, "print the table as JSON");
  app.add_flag("--quiet", options.quiet, "no progress");
}

}  // namespace

Subcommand add_sweep(CLI::App& app, const Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand(
      "sweep", "run every combination of values of some keys, each with several seeds");
  sub->add_option("SCENARIO", options->scenario, "scenario file (docs/scenarios.md)");
  sub->add_option("--over", options->over, "a.b.c=1,2,4: the values of a key; once for each key")
      ->allow_extra_args(false);
  sub->add_option("--seeds", options->seeds, "seeds of each point (default 3)")
      ->check(CLI::Range(1, 100'000));
  sub->add_option("--seed", options->seed, "the first of them (default: the scenario's)");
  sub->add_option("--set", options->sets, "override a key at every point: a.b.c=value")
      ->allow_extra_args(false);
  sub->add_option("--trace", options->trace, "replace the scenario's workload, as for run");
  sub->add_option("--shard", options->shard, "I/N: of N parts only part I, from 0 (default 0/1)");
  sub->add_option("--resume", options->resume,
                  "take the finished runs of this folder; without SCENARIO and --over also its "
                  "question, which other options may only repeat");
  sub->add_option("--out", options->out,
                  "folder; finished runs that are there already are not run again");
  sub->add_option("--parallel", options->parallel, "processes at once (default: one per core)");
  add_table_options(*sub, *options);
  return {sub, [options, context] { return sweep(*options, context); }};
}

Subcommand add_merge(CLI::App& app, const Context&) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand("merge", "one table and one page of the shards of a sweep");
  sub->add_option("DIR", options->folders, "folders that `sweep --out` wrote")->required();
  sub->add_option("--out", options->out,
                  "folder for all runs, the table and the page (default: "
                  "the first DIR)");
  add_table_options(*sub, *options);
  return {sub, [options] { return merge(*options); }};
}

}  // namespace chalk::sim
