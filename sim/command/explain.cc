#include "sim/explain/explain.h"

#include <fmt/format.h>

#include <iostream>

#include "sim/command/command.h"

namespace chalk::sim {
namespace {

struct Options {
  std::string log, find;
  std::uint64_t event = 0;
  std::size_t most = 20;
  bool json = false, quiet = false;
};

int explain_command(const Options& options) {
  if ((options.event == 0) == options.find.empty()) {
    throw std::runtime_error("explain: expected --event N, from 1, or --find TEXT");
  }
  expect_log(options.log);
  ProgressLine line(options.quiet);
  const auto progress = [&](std::uint64_t records) {
    line.show(
        fmt::format("explain: replayed {:.2f} M records", static_cast<double>(records) * 1e-6));
  };
  if (!options.find.empty()) {
    const auto found = find_events(options.log, options.find, options.most, progress);
    line.clear();
    nlohmann::json told = nlohmann::json::array();
    for (const Found& one : found) {
      told.push_back({{"event", one.number},
                      {"at_ns", one.at.nanos},
                      {"machine", one.machine},
                      {"text", one.text}});
      if (!options.json) {
        std::cout << fmt::format("{:>10}  {:>14.6f} s  {:13}  {}\n", one.number,
                                 static_cast<double>(one.at.nanos) * 1e-9, one.machine, one.text);
      }
    }
    if (options.json) std::cout << json_text(told);
    if (found.empty() && !options.json) std::cout << "no event has that text\n";
    return found.empty() ? 2 : 0;
  }
  const Explanation result = explain(options.log, options.event, progress);
  line.clear();
  if (options.json) {
    std::cout << json_text(to_json(result));
  } else {
    std::cout << summary(result);
  }
  return result.same ? 0 : 1;
}

}  // namespace

Subcommand add_explain(CLI::App& app, const Context&) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand(
      "explain", "why one event of a log was decided so: the candidates, the rule, the numbers");
  sub->add_option("LOG", options->log, "events.log of a run, or an exported log")->required();
  sub->add_option("--event", options->event, "the event, from 1");
  sub->add_option("--find", options->find,
                  "instead: list events whose text, or that of an effect, has this, such as "
                  "sandbox=4294967297");
  sub->add_option("--most", options->most, "with --find: at most so many (default 20)");
  sub->add_flag("--json", options->json, "print it as JSON");
  sub->add_flag("--quiet", options->quiet, "no progress");
  return {sub, [options] { return explain_command(*options); }};
}

}  // namespace chalk::sim
