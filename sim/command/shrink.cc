#include "sim/shrink/shrink.h"

#include <fmt/format.h>

#include <filesystem>
#include <iostream>

#include "sim/command/command.h"
#include "sim/report/files.h"
#include "sim/report/result.h"
#include "sim/scenario/reader.h"

namespace chalk::sim {
namespace {

struct Options {
  std::string scenario, out;
  double minutes = 10;
  unsigned seconds = 60, parallel = 0;
  bool json = false, quiet = false;
};

nlohmann::json size_json(const ShrinkSize& size) {
  return {{"lines", size.lines}, {"arrivals", size.arrivals}, {"faults", size.faults}};
}

int shrink_command(const Options& options, const Context& context) {
  std::string out = options.out;
  if (out.empty()) {
    out = std::filesystem::path(options.scenario).replace_extension(".least.yaml").string();
  }
  const std::filesystem::path folder = std::filesystem::path(out).parent_path();
  make_folder("--out", folder.empty() ? "." : folder.string());
  std::error_code no_file;
  if (std::filesystem::equivalent(out, options.scenario, no_file)) {
    throw std::runtime_error("--out " + out + ": found the case itself, expected another file");
  }
  ShrinkOptions how;
  how.parallel = options.parallel != 0 ? options.parallel : cores();
  how.seconds_max = options.minutes * 60;
  how.trial_seconds_max = options.seconds;
  ProgressLine line(options.quiet);
  const double began = wall_seconds();
  const auto progress = [&](const ShrinkProgress& p) {
    line.show(fmt::format("shrink: {} lines, {} arrivals, {} faults  {} runs, {}  at {}",
                          p.size.lines, p.size.arrivals, p.size.faults, p.runs,
                          clock_text(wall_seconds() - began), p.step));
  };
  const std::string text = read_scenario_file(options.scenario);
  const ShrinkResult result =
      stoppable([&] { return shrink(options.scenario, text, how, progress, context.stop); });
  line.clear();
  const std::string repeat = result.failure.kind == "two digests"
                                 ? "chalk-sim shrink " + shell_word(out)
                                 : "chalk-sim run " + shell_word(out) + " --check-each-step";
  const bool good = saved([&] {
    write_file(out, fmt::format("# Fails: {}\n# Shrunk from {}.\n{}", result.failure.what,
                                options.scenario, to_yaml(result.tree)));
  });
  const int status = !good ? 1 : result.interrupted ? 130 : 0;
  if (options.json) {
    std::cout << json_text({{"kind", result.failure.kind},
                            {"what", result.failure.what},
                            {"case", good ? out : ""},
                            {"repeat", repeat},
                            {"before", size_json(result.before)},
                            {"after", size_json(result.after)},
                            {"runs", result.runs},
                            {"complete", result.complete},
                            {"interrupted", result.interrupted},
                            {"listed", result.listed},
                            {"wall_seconds", wall_seconds() - began}});
    return status;
  }
  const char* rest = result.complete      ? ""
                     : result.interrupted ? "; more might go, but it was interrupted"
                                          : "; more might go, but time was up";
  std::cout << fmt::format(
      "{}\n{} lines, {} arrivals and {} faults are left of {}, {} and {}, after {} runs in "
      "{}{}\n\n{}",
      result.failure.what, result.after.lines, result.after.arrivals, result.after.faults,
      result.before.lines, result.before.arrivals, result.before.faults, result.runs,
      clock_text(wall_seconds() - began), rest, to_yaml(result.tree));
  if (good) std::cout << fmt::format("\ncase:   {}\nrepeat: {}\n", out, repeat);
  if (result.list_passed) {
    std::cout
        << "The workload stands as it was: written out arrival by arrival it does not fail.\n";
  }
  return status;
}

}  // namespace

Subcommand add_shrink(CLI::App& app, const Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand(
      "shrink", "the smallest scenario, faults and arrivals that still fail, as a scenario file");
  sub->add_option("CASE", options->scenario,
                  "a scenario that breaks an invariant or an assertion, stops, or does not end")
      ->required();
  sub->add_option("--out", options->out, "the file to write (default: CASE with .least.yaml)");
  sub->add_option("--minutes", options->minutes, "at most so long (default 10)")
      ->check(CLI::Range(0.001, 1e5));
  sub->add_option("--seconds", options->seconds,
                  "a run that uses more of a processor does not end (default 60)")
      ->check(CLI::Range(1, 100'000));
  sub->add_option("--parallel", options->parallel, "processes at once (default: one per core)");
  sub->add_flag("--json", options->json, "print the outcome as JSON");
  sub->add_flag("--quiet", options->quiet, "no progress");
  return {sub, [options, context] { return shrink_command(*options, context); }};
}

}  // namespace chalk::sim
