// chalk: the command line of a Chalk server, for people and shell scripts.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

#include "adapters/cli/command.h"
#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"
#include "adapters/cli/suggest.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::cli {
namespace {

constexpr const char* kFooter =
    "Logged in by the environment: CHALK_API_SERVER, CHALK_CLIENT_ID, CHALK_CLIENT_SECRET and, "
    "where a client\nhas several, CHALK_ENVIRONMENT; a server writes them all with --env-file. "
    "For https with an authority of\nyour own, SSL_CERT_FILE names a file of its root, in PEM.\n\n"
    "Examples:\n"
    "  . chalk.env\n"
    "  chalk compute run busybox -- uname -a\n"
    "  chalk compute ls --json\n"
    "  chalk compute run --help\n";

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::App* one : app.get_subcommands([](const CLI::App*) { return true; })) {
    out.push_back(one->get_name());
  }
  return out;
}

std::vector<std::string> names_of_options(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* one : app.get_options([](const CLI::Option*) { return true; })) {
    for (const std::string& name : one->get_lnames()) out.push_back("--" + name);
    for (const std::string& name : one->get_snames()) out.push_back("-" + name);
  }
  return out;
}

std::string path_of(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return (parent == nullptr ? "" : path_of(*parent) + " ") + app.get_name();
}

[[noreturn]] void unknown(const CLI::App& app, const std::string& what, const std::string& word,
                          const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  throw Stop("unknown " + what + " " + harmless(word) +
             (near.empty() ? "" : "; did you mean " + near + "?") + "\nsee: " + path_of(app) +
             " --help");
}

// Finds unknown commands and long options before the parser does, to say what was meant.
void check_words(const CLI::App& top, const std::vector<std::string>& words) {
  const CLI::App* app = &top;
  bool help = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    help = help || word == "-h" || word == "--help" || word == "--version";
    if (word.starts_with("--")) {
      const auto known = names_of_options(*app);
      const std::string name = word.substr(0, word.find('='));
      if (std::ranges::find(known, name) == known.end()) unknown(*app, "option", name, known);
      const CLI::Option* option = app->get_option(name);
      if (option->get_items_expected_max() > 0 && word.find('=') == std::string::npos) ++i;
      continue;
    }
    if (word.starts_with('-') && word.size() > 1) {
      const CLI::Option* option = app->get_option_no_throw(word.substr(0, 2));
      if (option != nullptr && option->get_items_expected_max() > 0 && word.size() == 2) ++i;
      continue;
    }
    const auto commands = names_of_commands(*app);
    if (commands.empty()) continue;
    if (std::ranges::find(commands, word) == commands.end()) {
      unknown(*app, "command", word, commands);
    }
    app = app->get_subcommand(word);
  }
  if (const auto commands = names_of_commands(*app); !commands.empty() && !help) {
    std::string all;
    for (const std::string& one : commands) all += (all.empty() ? "" : ", ") + one;
    throw Stop("expected a command after " + path_of(*app) + ": " + all + "\nsee: " +
               path_of(*app) + " --help");
  }
}

// Where the caller closed standard input, output or error, the next file that is opened gets its
// number, and libraries open files before main: those close when a program is started, inherited
// ones do not. Then this program starts itself once more with all three.
void open_standard_files(char** argv) {
  bool missing = false;
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const int flags = fcntl(descriptor, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) continue;
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing == descriptor) {
      fcntl(nothing, F_SETFD, 0);
    } else if (nothing >= 0) {
      dup2(nothing, descriptor);
    }
    missing = missing || nothing >= 0;
  }
  if (missing) execv("/proc/self/exe", argv);
}

int run(int argc, char** argv) {
  Invocation invocation;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    if (!invocation.has_dashes && std::string_view(argv[i]) == "--") {
      invocation.has_dashes = true;
    } else {
      (invocation.has_dashes ? invocation.after_dashes : words).emplace_back(argv[i]);
    }
  }
  CLI::App app{"chalk: sandboxes on your own machines", "chalk"};
  app.footer(kFooter);
  app.set_version_flag("--version", "chalk " CHALK_COMMIT);
  app.require_subcommand(1);
  CLI::App& compute = group(app, "compute", "run and manage sandboxes");
  add_run(compute, invocation);
  add_sandboxes(compute, invocation);
  add_files(compute, invocation);
  add_copy(compute, invocation);
  add_nodes(compute, invocation);
  add_admin(app, invocation);
  check_words(app, words);
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());  // as CLI11 takes them
    app.parse(reversed);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const CLI::App* deepest = &app;
    while (!deepest->get_subcommands().empty()) deepest = deepest->get_subcommands().front();
    throw Stop(std::string(error.what()) + "\nsee: " + path_of(*deepest) + " --help");
  }
  const bool takes_command = compute.got_subcommand("run") || compute.got_subcommand("exec");
  if (invocation.has_dashes && !takes_command) {
    throw Stop("only run and exec take words after --");
  }
  return invocation.chosen();
}

}  // namespace
}  // namespace chalk::cli

int main(int argc, char** argv) {
  chalk::cli::open_standard_files(argv);
  // A reader that left is an error of a write. gRPC's own words do not help users.
  std::signal(SIGPIPE, SIG_IGN);
  setenv("GRPC_VERBOSITY", "NONE", 0);
  try {
    return chalk::cli::run(argc, argv);
  } catch (const chalk::cli::Stop& stop) {
    if (*stop.what() != '\0') chalk::cli::note(std::string("chalk: ") + stop.what());
    return stop.code();
  } catch (const std::exception& error) {
    chalk::cli::note(std::string("chalk: ") + error.what());
    return chalk::cli::kFailed;
  }
}
