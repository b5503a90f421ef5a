// Processes that are begun in a sandbox that runs.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "adapters/gvisor/pid_pipe.h"
#include "adapters/gvisor/runtime.h"

namespace chalk::gvisor {
namespace {

using process::Fd;

std::atomic<std::uint64_t> g_execs{0};  // for names of files; unique in this process

// A folder for the files of one exec, gone with it.
struct Place {
  std::string folder;
  std::error_code error;  // where it could not be made: the disk is full, or read-only
  explicit Place(const std::string& state) {
    folder = state + "/exec-" + std::to_string(getpid()) + "-" + std::to_string(++g_execs);
    std::filesystem::create_directories(folder, error);
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
};

struct Terminal {
  Fd ours, theirs;
};

// Made by us: runsc sends one over a socket only where it detaches, and then it keeps the exit
// code.
Result<Terminal> make_terminal(Window window) {
  Terminal made;
  made.ours.reset(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (made.ours && grantpt(made.ours.get()) == 0 && unlockpt(made.ours.get()) == 0) {
    made.theirs.reset(ioctl(made.ours.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  if (!made.theirs) {
    return fail(Error::Kind::exhausted, std::string("cannot make a terminal: ") + strerror(errno));
  }
  winsize size{};
  size.ws_col = window.columns;
  size.ws_row = window.rows;
  ioctl(made.ours.get(), TIOCSWINSZ, &size);
  return made;
}

constexpr int kRunscGaveUp = 128;  // its exit status; that of a process inside may be the same
constexpr int kTheirError = 4;     // what becomes the process's standard error; runsc has its own

// What runsc said before it gave up.
std::string complaint(int from) {
  std::string text(4096, '\0');
  const ssize_t got = pread(from, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  std::erase(text, '\r');
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "runsc gave no reason" : text;
}

// "7" or "7:8".
std::optional<std::pair<std::uint32_t, std::optional<std::uint32_t>>> parse_user(
    const std::string& text) {
  const char *at = text.data(), *const end = at + text.size();
  std::uint32_t uid = 0, gid = 0;
  const auto first = std::from_chars(at, end, uid);
  if (first.ec != std::errc() || first.ptr == at) return std::nullopt;
  if (first.ptr == end) return std::pair(uid, std::optional<std::uint32_t>());
  if (*first.ptr != ':') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, gid);
  if (second.ec != std::errc() || second.ptr != end) return std::nullopt;
  return std::pair(uid, std::optional(gid));
}

// The process as the sandbox's own, except for what was asked. In a file and not in runsc's
// arguments: there everybody on the host can read what the environment holds, and a later PATH
// would not win over an earlier one.
Result<std::string> process_json(const std::string& config_path, const ExecSpec& spec) {
  std::ifstream in(config_path);
  auto config = nlohmann::json::parse(in, nullptr, false);
  if (!config.is_object() || !config.contains("process") || !config["process"].is_object()) {
    return fail(Error::Kind::corrupt, config_path + ": is no configuration of a sandbox");
  }
  nlohmann::json process = std::move(config["process"]);
  process["args"] = spec.argv;
  process["terminal"] = spec.terminal.has_value();
  if (!spec.cwd.empty()) process["cwd"] = spec.cwd;
  std::vector<std::string> merged;
  std::map<std::string, std::size_t> places;
  const auto add = [&](const std::string& one) {
    const auto [found, fresh] = places.try_emplace(one.substr(0, one.find('=')), merged.size());
    if (fresh) {
      merged.push_back(one);
    } else {
      merged[found->second] = one;
    }
  };
  if (process.contains("env") && process["env"].is_array()) {
    for (const auto& one : process["env"]) {
      if (one.is_string()) add(one.get<std::string>());
    }
  }
  for (const std::string& one : spec.env) add(one);
  process["env"] = merged;
  if (spec.user) {
    const auto user = parse_user(*spec.user);
    if (!user) {
      return fail(Error::Kind::invalid,
                  "exec: found the user \"" + *spec.user + "\", expected uid or uid:gid");
    }
    const auto before = process["user"].value("gid", std::uint32_t{0});
    process["user"] = {{"uid", user->first}, {"gid", user->second.value_or(before)}};
  }
  return process.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<void> write_private(const std::string& path, const std::string& text) {
  const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  std::size_t done = 0;
  while (file && done < text.size()) {
    const ssize_t put = write(file.get(), text.data() + done, text.size() - done);
    if (put <= 0) break;
    done += static_cast<std::size_t>(put);
  }
  if (file && done == text.size()) return {};
  return fail(Error::Kind::exhausted, path + ": cannot write: " + strerror(errno));
}

bool says_missing(const std::string& why) {
  return why.find("no such file") != std::string::npos ||
         why.find("not found") != std::string::npos || why.find("executable") != std::string::npos;
}

// The ends of pipes, or of a terminal, that the process gets.
struct TheirEnds {
  Fd input, output, error;
};
Result<TheirEnds> connect(const ExecSpec& spec, Exec& exec, process::Spawn& spawn) {
  TheirEnds theirs;
  if (spec.terminal) {
    auto made = make_terminal(*spec.terminal);
    if (!made) return std::unexpected(made.error());
    exec.output = std::move(made->ours);
    theirs.input = std::move(made->theirs);
    spawn.input = spawn.output = theirs.input.get();
    spawn.passed.emplace_back(theirs.input.get(), kTheirError);
    spawn.controlling_terminal = true;  // the kernel's signals to it reach the process inside
    return theirs;
  }
  auto in = process::make_pipe(), out = process::make_pipe(), err = process::make_pipe();
  for (const auto* one : {&in, &out, &err}) {
    if (!*one) return std::unexpected(one->error());
  }
  exec.input = std::move(in->write);
  exec.output = std::move(out->read);
  exec.error = std::move(err->read);
  theirs = {std::move(in->read), std::move(out->write), std::move(err->write)};
  spawn.input = theirs.input.get();
  spawn.output = theirs.output.get();
  spawn.passed.emplace_back(theirs.error.get(), kTheirError);
  return theirs;
}

}  // namespace

Result<Exec> Runtime::exec(const std::string& id, const ExecSpec& spec,
                           std::function<void(process::Status)> ended) {
  if (spec.argv.empty()) return fail(Error::Kind::invalid, "exec: found no command");
  if (auto exists = check_exists(id); !exists) return std::unexpected(exists.error());
  const Fd mark(open(execs_mark(id).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));  // for adopt
  const Place place(options_.state);
  if (place.error) {
    return fail(Error::Kind::exhausted, place.folder + ": cannot be made: " +
                                            place.error.message() +
                                            "; see to the disk of the node's data directory");
  }
  const std::string pid_file = place.folder + "/pid";
  const auto pid_pipe = PidPipe::make(pid_file);
  if (!pid_pipe) return std::unexpected(pid_pipe.error());
  const auto process = process_json(bundle(id) + "/config.json", spec);
  if (!process) return std::unexpected(process.error());
  const std::string process_file = place.folder + "/process.json";
  if (auto put = write_private(process_file, *process); !put) return std::unexpected(put.error());
  process::Spawn spawn;
  spawn.argv = command();
  spawn.argv.push_back("exec");
  spawn.argv.push_back("--internal-pid-file=" + pid_file);
  spawn.argv.push_back("--process=" + process_file);
  spawn.argv.push_back("--pass-fd=" + std::to_string(kTheirError) + ":2");
  spawn.argv.push_back(id);
  spawn.env = environment();

  spawn.passed = {pid_pipe->passed()};
  // Its own words are no output of the process, and tell its giving up from an exit status.
  const auto words = std::make_shared<Fd>(memfd_create("runsc", MFD_CLOEXEC));
  if (!*words) return fail(Error::Kind::exhausted, std::string("memfd: ") + strerror(errno));
  spawn.error = words->get();
  Exec exec;
  auto theirs = connect(spec, exec, spawn);
  if (!theirs) return std::unexpected(theirs.error());
  auto child = process::spawn(spawn);
  if (!child) return std::unexpected(child.error());
  theirs->output.reset();
  theirs->error.reset();
  exec.inner_pid =
      pid_pipe->read(child->pidfd.get(), std::chrono::steady_clock::now() + options_.call_timeout);
  if (exec.inner_pid <= 0) {
    if (exec.inner_pid < 0) ::kill(-child->pid, SIGKILL);
    process::wait(*child, std::chrono::seconds(5));
    if (exec.inner_pid < 0) {
      return fail(Error::Kind::timeout, "runsc did not start the command within " +
                                            std::to_string(options_.call_timeout.count()) + " ms");
    }
    if (!alive(id)) return fail(Error::Kind::unavailable, "sandbox " + id + " has ended");
    const std::string why = complaint(words->get());
    return fail(says_missing(why) ? Error::Kind::not_found : Error::Kind::failed, why);
  }
  const auto watched = reaper_.watch(child->pid, std::move(child->pidfd),
                                     [ended, words](process::Status status) {
    // It waits for the process, and gives up only where the sandbox went from under it: killed, or
    // out of memory.
    if (status.known && status.exit_code == kRunscGaveUp && lseek(words->get(), 0, SEEK_END) > 0) {
      status.exit_code = 0;
      status.signal = SIGKILL;
    }
    if (status.known && status.signal == 0 && status.exit_code > 128 &&
        status.exit_code < 128 + 65) {
      status.signal = status.exit_code - 128;  // as a shell says it
    }
    ended(status);
  });
  if (!watched) {
    ::kill(-child->pid, SIGKILL);  // not waited for yet, so the number is its own
    return std::unexpected(watched.error());
  }
  return exec;
}

}  // namespace chalk::gvisor
