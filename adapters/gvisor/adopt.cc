// Sandboxes that an earlier process of ours started. They are nobody's children any more, so their
// ends are seen but not how they ended: a `runsc wait` for each asks the sandbox itself.
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "adapters/gvisor/runtime.h"

namespace chalk::gvisor {
namespace {

using process::Fd;

// What is known of one end from its two sources. Both speak on the reaper's thread.
struct Told {
  bool sandbox_ended = false, waiter_ended = false;
  Ended how;
  Fd answer;
  std::function<void(Ended)> ended;

  void tell_when_both() {
    if (!sandbox_ended || !waiter_ended) return;
    char text[1024];
    const ssize_t got = read(answer.get(), text, sizeof text);
    const auto said = nlohmann::json::parse(text, text + std::max<ssize_t>(0, got), nullptr, false);
    if (!how.known && said.is_object() && said.contains("exitStatus") &&
        said["exitStatus"].is_number_integer()) {
      how.known = true;
      how.exit_code = said["exitStatus"].get<int>();
      if (how.exit_code > 128 && how.exit_code < 128 + 65) {  // as a shell says it
        how.signal = how.exit_code - 128;
        how.exit_code = 0;
      }
    }
    ended(how);
  }
};

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// That of the process before us: without this each restart would leave one more for each sandbox.
void end_earlier_waiter(const std::string& pid_file, const std::string& id) {
  const pid_t pid = static_cast<pid_t>(std::atoi(read_text(pid_file).c_str()));
  if (pid <= 0) return;
  const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  const std::string words = read_text("/proc/" + std::to_string(pid) + "/cmdline");
  // The number may be somebody else's now; the pidfd was opened before the look.
  const std::string expected = std::string("\0wait\0", 6) + id + '\0';
  if (pidfd && words.ends_with(expected)) {
    syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  }
}

// As the sandbox's configuration says them.
cgroup::Limits limits_of(const std::string& config_path) {
  cgroup::Limits limits;
  const auto config = nlohmann::json::parse(read_text(config_path), nullptr, false);
  const auto number = [&](const char* path) {
    const nlohmann::json::json_pointer at(path);
    return config.is_object() && config.contains(at) && config[at].is_number_integer()
               ? config[at].get<std::int64_t>()
               : 0;
  };
  limits.cpu_millicores = number("/linux/resources/cpu/quota") / 100;
  limits.memory_bytes = number("/linux/resources/memory/limit");
  return limits;
}

}  // namespace

// A process may have lines of its own in its name. What they say is at most of its own sandbox, and
// a circle of parents hangs nowhere below one that has none.
std::vector<pid_t> begun_by_exec(const std::string& table) {
  std::istringstream lines(table);
  std::string line, user;
  std::multimap<pid_t, pid_t> children;
  std::set<pid_t> known;
  std::getline(lines, line);  // UID PID PPID ...
  while (std::getline(lines, line)) {
    pid_t pid = 0, parent = 0;
    if (std::istringstream(line) >> user >> pid >> parent && pid > 1 && known.insert(pid).second) {
      children.emplace(parent, pid);
    }
  }
  std::vector<pid_t> found;
  const auto add_children = [&](pid_t of) {
    const auto [first, last] = children.equal_range(of);
    for (auto at = first; at != last; ++at) found.push_back(at->second);
  };
  add_children(0);
  for (std::size_t at = 0; at < found.size(); ++at) add_children(found[at]);
  return found;
}

std::string Runtime::execs_mark(const std::string& id) const { return bundle(id) + "/execs"; }

void Runtime::end_execs(const std::string& id) {
  using std::chrono::steady_clock;
  if (access(execs_mark(id).c_str(), F_OK) != 0) return;
  if (execs_until_ == steady_clock::time_point{}) execs_until_ = steady_clock::now() + kExecsTime;
  if (steady_clock::now() >= execs_until_) return;
  auto argv = command();
  argv.insert(argv.end(), {"ps", id});
  const auto said = call(std::move(argv), "list the processes");
  if (!said) return;  // they go with the sandbox
  for (const pid_t pid : begun_by_exec(said->out)) {
    if (steady_clock::now() >= execs_until_) return;
    (void)signal(id, SIGKILL, pid);
  }
  unlink(execs_mark(id).c_str());
}

Result<Started> Runtime::adopt(const std::string& id, std::function<void(Ended)> ended) {
  const auto pid = alive(id);
  if (!pid) return fail(Error::Kind::not_found, "sandbox " + id + " does not run");
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  if (!pidfd || alive(id) != pid) {
    return fail(Error::Kind::not_found, "sandbox " + id + " has just ended");
  }
  // A start that was cut off may have left it the larger share that starting has.
  if (auto limited = groups_.create(id, limits_of(bundle(id) + "/config.json")); !limited) {
    return std::unexpected(limited.error());
  }
  const std::string pid_file = bundle(id) + "/waiter";
  end_earlier_waiter(pid_file, id);
  process::Spawn spawn;
  spawn.argv = command();
  spawn.argv.insert(spawn.argv.end(), {"wait", id});
  spawn.env = environment();
  auto answer = process::make_pipe();
  if (!answer) return std::unexpected(answer.error());
  fcntl(answer->read.get(), F_SETFL, O_NONBLOCK);
  spawn.output = answer->write.get();
  auto waiter = process::spawn(spawn);
  if (!waiter) return std::unexpected(waiter.error());
  std::ofstream(pid_file) << waiter->pid;
  end_execs(id);
  const auto told = std::make_shared<Told>();
  told->answer = std::move(answer->read);
  told->ended = std::move(ended);
  auto watched = reaper_.watch(waiter->pid, std::move(waiter->pidfd), [told](process::Status) {
    told->waiter_ended = true;
    told->tell_when_both();
  });
  if (!watched) {
    ::kill(waiter->pid, SIGKILL);  // not waited for yet, so the number is its own
    return std::unexpected(watched.error());
  }
  watched = watch(id, *pid, std::move(pidfd), [told](Ended how) {
    told->how = how;
    told->sandbox_ended = true;
    told->tell_when_both();
  });
  if (!watched) return std::unexpected(watched.error());
  return Started{*pid, 0, 0};
}

}  // namespace chalk::gvisor
