// How commands are declared: each adds itself to its parent with its options, help and examples and
// says what to do when it is chosen.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace chalk::cli {

struct Invocation {
  bool json = false;
  std::vector<std::string> command;  // of run and exec: its words, which are nobody else's
  std::function<int()> chosen;
};

// A command that does something. `more` ends its help: examples, keys of --json.
inline CLI::App& leaf(CLI::App& parent, Invocation& invocation, const std::string& name,
                      const std::string& description, const std::string& more) {
  CLI::App& app = *parent.add_subcommand(name, description);
  app.footer(more);
  app.add_flag("--json", invocation.json, "print JSON with stable keys instead of text");
  return app;
}

inline CLI::App& group(CLI::App& parent, const std::string& name, const std::string& description) {
  CLI::App& app = *parent.add_subcommand(name, description);
  app.require_subcommand(1);
  return app;
}

void add_run(CLI::App& compute, Invocation& invocation);       // run, exec
void add_sandboxes(CLI::App& compute, Invocation& invocation);  // ls, inspect, logs, stop
void add_files(CLI::App& compute, Invocation& invocation);      // files ls, cat, rm, ...
void add_copy(CLI::App& compute, Invocation& invocation);       // cp
void add_nodes(CLI::App& compute, Invocation& invocation);      // nodes, drain
void add_admin(CLI::App& top, Invocation& invocation);          // admin ...

}  // namespace chalk::cli
