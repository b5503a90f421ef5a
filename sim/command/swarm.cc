#include "sim/swarm/swarm.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "sim/command/command.h"
#include "sim/report/files.h"
#include "sim/report/result.h"
#include "sim/swarm/generate.h"

namespace chalk::sim {
namespace {

struct Options {
  std::string seeds, out = ".";
  std::optional<double> minutes;
  std::optional<std::uint64_t> from, show;
  std::uint64_t digests_every = 16;
  unsigned parallel = 0;
  bool json = false, quiet = false;
};

void parse_range(const std::string& text, SwarmQuestion& question) {
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, question.first);
  const bool dots = first.ec == std::errc() && std::string_view(first.ptr, end).starts_with("..");
  const auto last = dots ? std::from_chars(first.ptr + 2, end, question.last) : first;
  if (!dots || last.ec != std::errc() || last.ptr != end || question.last < question.first) {
    throw std::runtime_error("--seeds: found \"" + text +
                             "\", expected A..B with A <= B, such as 1..1000");
  }
  expect_seeds("--seeds", question.last, 1);
}

SwarmQuestion ask(const Options& options) {
  SwarmQuestion question;
  if (options.seeds.empty() == !options.minutes) {
    throw std::runtime_error("swarm: found " + std::string(options.minutes ? "both" : "neither") +
                             " --minutes and --seeds, expected one of them");
  }
  if (options.from && !options.minutes) {
    throw std::runtime_error("--from: found with --seeds, which says the first itself; expected "
                             "with --minutes");
  }
  if (options.minutes) {
    question.seconds_max = *options.minutes * 60;
    question.last = kSeedMax;
    question.first = options.from.value_or(
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                       std::chrono::system_clock::now().time_since_epoch())
                                       .count()) *
        1000);
  } else {
    parse_range(options.seeds, question);
  }
  question.digests_every = options.digests_every;
  question.parallel = options.parallel != 0 ? options.parallel : cores();
  return question;
}

// Writes the case and says how to repeat it.
nlohmann::json write_case(const SwarmCase& found, const std::string& folder) {
  const std::string path = fmt::format("{}/swarm-{}.yaml", folder, found.seed);
  const bool good =
      saved([&] { write_file(path, "# " + found.failure.what + "\n" + found.text); });
  const std::string repeat =
      found.digests ? fmt::format("chalk-sim swarm --seeds {0}..{0} --digests-every 1", found.seed)
                    : fmt::format("chalk-sim run {} --check-each-step", shell_word(path));
  return {{"seed", found.seed},         {"kind", found.failure.kind},
          {"what", found.failure.what}, {"case", good ? path : ""},
          {"repeat", repeat},           {"shrink", "chalk-sim shrink " + shell_word(path)}};
}

int swarm_command(const Options& options, const Context& context) {
  if (options.show) {
    std::cout << random_scenario(*options.show);
    return 0;
  }
  const SwarmQuestion question = ask(options);
  make_folder("--out", options.out);
  ProgressLine line(options.quiet);
  const double began = wall_seconds();
  const auto progress = [&](const SwarmProgress& p) {
    const double wall = wall_seconds() - began;
    const std::string left = question.seconds_max > 0
                                 ? clock_text(std::max(0.0, question.seconds_max - wall))
                                 : left_text(wall, p.done, question.last - question.first + 1);
    line.show(
        fmt::format("swarm: seed {}  {} worlds, {:.2f} M events, none broken  {:.1f} worlds/s  "
                    "{} left",
                    p.seed, p.done, static_cast<double>(p.events) * 1e-6,
                    static_cast<double>(p.done) / std::max(wall, 1e-3), left));
  };
  const SwarmOutcome outcome =
      stoppable([&] { return swarm(question, random_scenario, progress, context.stop); });
  line.clear();
  const double wall = wall_seconds() - began;
  nlohmann::json told = {{"first_seed", question.first},
                         {"worlds", outcome.done},
                         {"events", outcome.events},
                         {"wall_seconds", wall},
                         {"commit", context.commit},
                         {"interrupted", outcome.interrupted},
                         {"found", nullptr}};
  if (outcome.found) told["found"] = write_case(*outcome.found, options.out);
  if (options.json) {
    std::cout << json_text(told);
  } else {
    std::cout << fmt::format("{} random worlds from seed {}, {:.3g} M events, in {}: {}\n",
                             outcome.done, question.first,
                             static_cast<double>(outcome.events) * 1e-6, clock_text(wall),
                             outcome.found ? "a property is BROKEN" : "no property is broken");
    if (outcome.found) {
      const auto& found = told["found"];
      std::cout << "seed " << found["seed"] << ": " << found["what"].get<std::string>()
                << "\ncase:   " << found["case"].get<std::string>()
                << "\nrepeat: " << found["repeat"].get<std::string>()
                << "\nshrink: " << found["shrink"].get<std::string>() << "\n";
    }
  }
  if (outcome.found) return told["found"]["case"] == "" ? 1 : 3;
  return outcome.interrupted ? 130 : 0;
}

}  // namespace

Subcommand add_swarm(CLI::App& app, const Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* sub = app.add_subcommand(
      "swarm", "random scenarios, faults and sizes until a property breaks; 3 where one did");
  sub->add_option("--minutes", options->minutes, "for so long")->check(CLI::Range(0.001, 1e6));
  sub->add_option("--seeds", options->seeds, "A..B: these, both included");
  sub->add_option("--from", options->from,
                  "with --minutes: the first seed (default: made of the time, and told)");
  sub->add_option("--digests-every", options->digests_every,
                  "of so many worlds one is run twice, the second time with every machine rebuilt "
                  "before every event (default 16; 0: none)");
  sub->add_option("--parallel", options->parallel, "processes at once (default: one per core)");
  sub->add_option("--out", options->out, "folder for the case that breaks a property (default .)");
  sub->add_option("--show", options->show, "print the scenario of a seed, and run nothing");
  sub->add_flag("--json", options->json, "print the outcome as JSON");
  sub->add_flag("--quiet", options->quiet, "no progress");
  return {sub, [options, context] { return swarm_command(*options, context); }};
}

}  // namespace chalk::sim
