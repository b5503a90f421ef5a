#include "sim/swarm/trial.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <cctype>
#include <nlohmann/json.hpp>

#include "sim/scenario/parse.h"
#include "sim/simgrid/isolated.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

// "invariant 3 at 1200 ms: request 11 got ..." -> "invariant 3: request # got ..."
std::string kind_of_broken(const std::string& broken) {
  const auto at = broken.find(" at ");
  const auto told = broken.find(": ");
  if (at == std::string::npos || told == std::string::npos) return broken;
  std::string kind = broken.substr(0, at);
  for (const char c : broken.substr(told)) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit) kind += c;
    if (digit && !kind.ends_with('#')) kind += '#';
  }
  return kind;
}

json failing(const std::string& kind, const std::string& what) {
  return {{"kind", kind}, {"what", what}};
}

// `restore_each`: machines are rebuilt from their bytes before every so-manyth event; 0: never.
Result run(const Setup& setup, std::uint64_t restore_each) {
  RunOptions options;
  options.seed = setup.seed;
  options.compare_each_step = restore_each == 0;
  options.restore_each = restore_each;
  return run_world(setup, options);
}

json judge(const Trial& trial) {
  Setup setup;
  try {
    setup = load_scenario_text(trial.name, trial.text);
  } catch (const ScenarioError& error) {
    return failing("text", error.what());
  }
  const Result result = run(setup, 0);
  json out = {{"events", result.events}};
  if (!result.broken.empty()) {
    std::string kind = kind_of_broken(result.broken[0]);
    // Work that no node could ever take is no smaller case of work that was not placed.
    if (result.refused.contains("never_fits")) kind += ", where something never fits";
    out.update(failing(kind, result.broken[0]));
    return out;
  }
  for (const Assertion& assertion : result.assertions) {
    if (assertion.passed) continue;
    if (!assertion.measured) {  // no smaller case of one that was measured
      out.update(failing("assert " + assertion.text + ", of nothing",
                         assertion.text + " does not hold: there is nothing to measure"));
      return out;
    }
    out.update(failing(
        "assert " + assertion.text,
        fmt::format("{} does not hold: it is {}", assertion.text, number_text(assertion.value))));
    return out;
  }
  // A rebuild costs as much as the State is large: where there are many events, of some. Odd, since
  // events of one kind often come in pairs.
  if (trial.digests && run(setup, result.events / 20'000 | 1).digest != result.digest) {
    out.update(failing("two digests",
                       "rebuilt from its bytes before every event, a machine decides differently"));
  }
  return out;
}

// What a process said before it stopped: the last line on its standard error.
class Words {
 public:
  Words() : file_(memfd_create("chalk-trial", MFD_CLOEXEC)) {}
  ~Words() {
    if (file_ >= 0) close(file_);
  }
  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;
  void take_standard_error() const {
    if (file_ >= 0) dup2(file_, STDERR_FILENO);
  }
  std::string last_line() const {
    char text[4096];
    const off_t size = file_ < 0 ? 0 : lseek(file_, 0, SEEK_END);
    const off_t from = std::max<off_t>(0, size - static_cast<off_t>(sizeof text));
    const ssize_t got = size <= 0 ? 0 : pread(file_, text, sizeof text, from);
    std::string said(text, static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    while (!said.empty() && said.back() == '\n') said.pop_back();
    const auto line = said.rfind('\n');
    return line == std::string::npos ? said : said.substr(line + 1);
  }

 private:
  int file_;
};

Failure stopped(const Trial& trial, const std::string& error, const Words& words) {
  // SIGPROF and SIGALRM, of end_after.
  if (error.starts_with("killed by signal 27 ") || error.starts_with("killed by signal 14 ")) {
    return {"no end",
            fmt::format("it does not end within {} s of a processor", trial.seconds_max)};
  }
  if (error.starts_with("exception: ")) return {error, error};
  const std::string said = words.last_line();
  const auto rule = said.find(": broken invariant: ");
  if (rule != std::string::npos) {
    return {"stop" + said.substr(rule), "the process stopped: " + said};
  }
  return {error.substr(0, error.find(" (")), said.empty() ? error : error + ": " + said};
}

}  // namespace

void end_after(unsigned seconds) {
  itimerval once{};
  once.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &once, nullptr);
  alarm(seconds * 20);
}

std::vector<TrialResult> try_all(const std::vector<Trial>& trials, unsigned parallel,
                                 const std::function<void(std::size_t)>& finished) {
  const std::vector<Words> words(trials.size());
  std::vector<IsolatedBody> bodies;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    bodies.push_back([&trials, &words, i] {
      words[i].take_standard_error();
      end_after(trials[i].seconds_max);
      return judge(trials[i]).dump(-1, ' ', true, json::error_handler_t::replace);
    });
  }
  const auto told = [&](std::size_t index, const IsolatedResult&) {
    if (finished) finished(index);
  };
  const auto outcomes = run_isolated_all(bodies, parallel, told);
  std::vector<TrialResult> results(trials.size());
  for (std::size_t i = 0; i < trials.size(); ++i) {
    TrialResult& one = results[i];
    if (!outcomes[i]) {
      one.failure = stopped(trials[i], outcomes[i].error(), words[i]);
      continue;
    }
    const json found = json::parse(*outcomes[i]);
    one.events = found.value("events", std::uint64_t{0});
    if (!found.contains("kind")) continue;
    one.failure = {found.at("kind"), found.at("what")};
    one.readable = one.failure->kind != "text";
  }
  return results;
}

}  // namespace chalk::sim
