// chalk-guest: what the node runs inside a sandbox to touch its files and ports. Paths are resolved
// here, in the sandbox and with its rights, so nothing in an image can lead the node to a file of
// the host.
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <limits>
#include <memory>

#include "guest/commands.h"
#include "guest/report.h"

namespace chalk::guest {
namespace {

constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostEntries = 1'000'000;
constexpr std::int64_t kMostMilliseconds = 3'600'000;

struct Command {
  std::string name;
  std::string usage;
  int (*run)(const Arguments&);
  std::size_t places;
  std::vector<Option> options;
};

Option flag(std::string name) { return {std::move(name)}; }
Option value(std::string name, std::int64_t least, std::int64_t most, int base = 10) {
  return {std::move(name), true, least, most, base};
}

// Whether there is a process beside this one here, or nobody can say.
bool in_company() {
  const std::unique_ptr<DIR, int (*)(DIR*)> processes(opendir("/proc"), closedir);
  if (!processes) return true;
  const std::string own = std::to_string(getpid());
  while (const dirent* entry = readdir(processes.get())) {
    const bool process = entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    if (process && entry->d_name != own) return true;
  }
  return false;
}

// Sleeps until it is told to end, or has been alone for so long. As process 1 of a sandbox it also
// takes the exit statuses of orphans.
int sleep_forever(const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  const std::chrono::milliseconds alone(arguments.get("alone-ms", 0));
  const std::int64_t look_ms = std::min<std::int64_t>(alone.count() / 4 + 1, 5'000);
  const timespec look{look_ms / 1'000, look_ms % 1'000 * 1'000'000};
  auto since = Clock::now();
  sigset_t awaited;
  sigemptyset(&awaited);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&awaited, signal);
  sigprocmask(SIG_BLOCK, &awaited, nullptr);
  while (true) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const int signal = alone.count() == 0 ? sigwaitinfo(&awaited, nullptr)
                                          : sigtimedwait(&awaited, nullptr, &look);
    if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP) return kDone;
    if (alone.count() == 0) continue;
    if (in_company()) since = Clock::now();
    if (Clock::now() - since >= alone) return kDone;
  }
}

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"read",
       "read PATH [--offset N] [--limit N]",
       read_file,
       1,
       {value("offset", 0, kAny), value("limit", 0, kAny)}},
      {"write",
       "write PATH [--mode OCTAL] [--append] [--parents] [--size N]",
       write_file,
       1,
       {value("mode", 0, 07777, 8), flag("append"), flag("parents"), value("size", 0, kAny)}},
      {"list",
       "list PATH [--recursive] [--max N]",
       list,
       1,
       {flag("recursive"), value("max", 1, kMostEntries)}},
      {"stat", "stat PATH [--follow]", stat, 1, {flag("follow")}},
      {"remove", "remove PATH [--recursive]", remove, 1, {flag("recursive")}},
      {"mkdir",
       "mkdir PATH [--parents] [--mode OCTAL]",
       make_directory,
       1,
       {flag("parents"), value("mode", 0, 07777, 8)}},
      {"rename", "rename OLD NEW", rename, 2, {}},
      {"watch",
       "watch PATH [--recursive] [--max N]",
       watch,
       1,
       {flag("recursive"), value("max", 1, kMostEntries)}},
      {"wait-port",
       "wait-port PORT [--timeout-ms N]",
       wait_port,
       1,
       {value("timeout-ms", 0, kMostMilliseconds)}},
      {"http-get",
       "http-get PORT PATH [--timeout-ms N]",
       http_get,
       2,
       {value("timeout-ms", 1, kMostMilliseconds)}},
      {"sleep",
       "sleep [--alone-ms N]",
       sleep_forever,
       0,
       {value("alone-ms", 1, kMostMilliseconds)}},
  };
  return all;
}

int run(const std::vector<std::string>& words) {
  std::string known;
  for (const Command& command : commands()) {
    if (!words.empty() && words[0] == command.name) {
      const auto arguments =
          parse({words.begin() + 1, words.end()}, command.places, command.options);
      if (!arguments) {
        return misused(arguments.error() + "; usage: chalk-guest " + command.usage);
      }
      return command.run(*arguments);
    }
    known += (known.empty() ? "" : ", ") + command.name;
  }
  return misused((words.empty() ? "no command" : "unknown command '" + words[0] + "'") +
                 "; expected one of " + known);
}

}  // namespace
}  // namespace chalk::guest

int main(int count, char** words) {
  // A reader that left is an error of a write, not the end of this process.
  signal(SIGPIPE, SIG_IGN);
  return chalk::guest::run(std::vector<std::string>(words + 1, words + count));
}
