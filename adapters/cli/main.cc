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

// An option that is given an empty value, as `--cpu="$UNSET"` is, was meant to say something; and
// the parser would take the next word for it.
void check_value(const std::string& option, const std::string& value) {
  if (!value.empty()) return;
  throw Stop(option + ": found an empty value; give one, or leave the option out");
}

// Whether the word after this one belongs to it: so it is of "-w DIR" and "-itw DIR", not of "-wDIR".
bool takes_next(const CLI::App& app, const std::string& word) {
  for (std::size_t i = 1; i < word.size(); ++i) {
    const CLI::Option* option = app.get_option_no_throw(std::string("-") + word[i]);
    if (option == nullptr || option->get_items_expected_max() == 0) continue;
    return i + 1 == word.size();
  }
  return false;
}

// Finds unknown commands and long options before the parser does, to say what was meant, and takes
// away the command of run and exec: what stands after "--", or after the image or sandbox. Says
// which command of ours it is.
const CLI::App& check_words(const CLI::App& top, std::vector<std::string>& words,
                            Invocation& invocation) {
  const CLI::App* app = &top;
  bool help = false;
  std::size_t places = 0;
  const auto command_from = [&](std::size_t first, std::size_t end) {
    invocation.command.assign(words.begin() + static_cast<std::ptrdiff_t>(first), words.end());
    words.resize(end);
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool takes_command = app->get_name() == "run" || app->get_name() == "exec";
    if (word == "--") {
      if (takes_command) command_from(i + 1, i);
      break;
    }
    help = help || word == "-h" || word == "--help" || word == "--version";
    if (word.starts_with("--")) {
      const auto known = names_of_options(*app);
      const std::string name = word.substr(0, word.find('='));
      if (std::ranges::find(known, name) == known.end()) unknown(*app, "option", name, known);
      const CLI::Option* option = app->get_option(name);
      if (option->get_items_expected_max() == 0) continue;
      if (word.find('=') != std::string::npos) {
        check_value(name, word.substr(name.size() + 1));
      } else if (++i < words.size()) {
        check_value(name, words[i]);
      }
      continue;
    }
    if (word.starts_with('-') && word.size() > 1) {
      if (takes_next(*app, word) && ++i < words.size()) check_value(word, words[i]);
      continue;
    }
    const auto commands = names_of_commands(*app);
    if (commands.empty()) {
      if (takes_command && ++places == 2) command_from(i, i);
      continue;
    }
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
  return *app;
}

// What goes to a server is text. Paths here are not: cp looks itself.
void check_text(const CLI::App& command, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (command.get_name() != "cp" && !is_utf8(word)) {
      throw Stop("found the argument \"" + harmless(word) + "\", expected UTF-8");
    }
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
  std::vector<std::string> words(argv + 1, argv + argc);
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
  const CLI::App& command = check_words(app, words, invocation);
  check_text(command, words);
  check_text(command, invocation.command);
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
