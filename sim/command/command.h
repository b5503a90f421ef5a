// What the subcommands of chalk-sim share; each of them is a file of this folder or of main.cc.
#pragma once
#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "sim/report/result.h"
#include "sim/scenario/parse.h"

namespace chalk::sim {

struct Context {
  std::string commit;
  const std::atomic<bool>* stop = nullptr;  // StopOnSignal's
};

// `run` gives the exit status: 0 good; 1 an error; 2 a condition is not met; 3 an invariant is
// broken; 130 interrupted. It throws what a person should read.
struct Subcommand {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Subcommand add_sweep(CLI::App& app, const Context& context);
Subcommand add_merge(CLI::App& app, const Context& context);
Subcommand add_compare(CLI::App& app, const Context& context);
Subcommand add_swarm(CLI::App& app, const Context& context);
Subcommand add_shrink(CLI::App& app, const Context& context);
Subcommand add_explain(CLI::App& app, const Context& context);
Subcommand add_whatif(CLI::App& app, const Context& context);

// ---- signals
// While one lives, the first ctrl-C or SIGTERM sets Context::stop, so that what runs ends cleanly
// with what there is, and the second ends the program at once. Only what looks at `stop` may run
// under it: elsewhere a signal ends the program, as it does any.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  static const std::atomic<bool>* flag();
};
template <class Body>
auto stoppable(Body&& body) {
  const StopOnSignal listening;
  return body();
}

// ---- arguments
std::vector<Override> parse_sets(const std::vector<std::string>& sets);  // a.b.c=value

// ---- the terminal
// One line on standard error that is written over: only on a terminal, and not with --quiet. Where
// it is no terminal (the log of a job), a line of its own now and then.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine() { clear(); }
  void show(const std::string& text);
  void clear();

 private:
  bool terminal_;
  bool quiet_;
  double told_ = -1e9;  // seconds
};
// "3m20s" until `whole` are done, or "?" while nobody can know.
std::string left_text(double wall_seconds, std::size_t done, std::size_t whole);
std::string clock_text(double seconds);
double wall_seconds();  // of a clock that only grows

// Throws where the folder `path`, given with `option`, cannot be made or written to: before the
// work, and not after it.
void make_folder(const std::string& option, const std::string& path);
// Does `write`; where that fails it says so and gives false: the answer is still printed.
bool saved(const std::function<void()>& write);

// Throws where the file is no event log that this program reads, and says what it is.
void expect_log(const std::string& path);

unsigned cores();

// Numbers that no option means: -1 where a count or a seed is asked, which would be read as
// 2^64 - 1, as any that is larger would, and nan, which passes every comparison with a bound. For
// all options of all subcommands.
void refuse_no_numbers(CLI::App& app);
// Throws where `first` and those that follow, `count` in all, are not all seeds of a scenario.
void expect_seeds(const std::string& option, std::uint64_t first, std::uint64_t count);

// How a command ends that has a page in the folder `out`, or none where that is empty.
template <class Result>
void print_result(const Result& result, const std::string& words, const std::string& out,
                  bool json) {
  if (json) {
    std::cout << json_text(to_json(result));
    return;
  }
  std::cout << words;
  if (!out.empty()) std::cout << "report: " << out << "/report.html\n";
}

}  // namespace chalk::sim
