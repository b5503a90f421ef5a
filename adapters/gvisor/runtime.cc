#include "adapters/gvisor/runtime.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "adapters/gvisor/pid_pipe.h"

namespace chalk::gvisor {
namespace {

namespace fs = std::filesystem;
using process::Fd;

std::int64_t wall_nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool good_id(const std::string& id) {
  return !id.empty() && id.size() <= 64 && id[0] != '-' &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

Result<void> write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out) return {};
  return fail(Error::Kind::exhausted, path + ": cannot write: " + strerror(errno));
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The last error that runsc wrote to its log: its standard error belongs to the sandbox.
std::string last_error(const std::string& log) {
  std::ifstream in(log);
  std::string line, message;
  while (std::getline(in, line)) {
    const auto one = nlohmann::json::parse(line, nullptr, false);
    if (one.is_object() && one.value("level", "") == "error") message = one.value("msg", "");
  }
  return message.empty() ? "runsc gave no reason" : message;
}

// What gVisor itself costs until the sandbox runs is about 100 ms of one processor: with a share of
// an eighth, which is usual, that would be a second of waiting. Its own limit holds from then on.
constexpr std::int64_t kStarting = 1000;

cgroup::Limits limits_of(const SandboxSpec& spec) {
  return {spec.cpu_millicores, spec.memory_bytes, spec.pids};
}

// "creating container: cannot find "x" in PATH" and the like.
bool says_not_found(const std::string& message) {
  return message.find("no such file") != std::string::npos ||
         message.find("not found") != std::string::npos ||
         message.find("executable file") != std::string::npos ||
         message.find("error finding executable") != std::string::npos;
}

}  // namespace

std::vector<std::string> environment() {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
}

Runtime::Runtime(RuntimeOptions options, cgroup::Groups groups, process::Reaper& reaper)
    : options_(std::move(options)), groups_(std::move(groups)), reaper_(reaper) {
  for (const char* folder : {"/run", "/bundles"}) {
    fs::create_directories(options_.state + folder);
    fs::permissions(options_.state + folder, fs::perms::owner_all);
  }
  // Files of execs during which an earlier process of ours ended; they may hold secrets.
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(options_.state, ignored)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("exec-")) fs::remove_all(entry.path(), ignored);
  }
  const auto said = call({options_.runsc, "--version"}, "ask for the version");
  if (!said) throw std::runtime_error("--runsc " + options_.runsc + ": " + said.error().message);
  version_ = said->out.substr(0, said->out.find('\n'));
}

// No --log: a late call would make the folder of a sandbox that is gone again. Errors come by
// stderr.
std::vector<std::string> Runtime::command() const {
  std::vector<std::string> argv = {options_.runsc, "--root=" + options_.state + "/run",
                                   "--platform=" + options_.platform, "--network=sandbox",
                                   "--host-uds=none"};
  if (options_.debug) {
    argv.push_back("--debug");
    argv.push_back("--debug-log=" + options_.state + "/debug/");
  }
  return argv;
}

Result<process::Output> Runtime::call(std::vector<std::string> argv, const char* doing) const {
  process::Spawn spawn;
  spawn.argv = std::move(argv);
  spawn.env = environment();
  auto said = process::run(spawn, options_.call_timeout);
  if (!said) return std::unexpected(said.error());
  if (said->status.exit_code != 0 || said->status.signal != 0) {
    return fail(Error::Kind::failed,
                std::string("runsc could not ") + doing + ": " + said->err.substr(0, 500));
  }
  return said;
}

std::string Runtime::bundle(const std::string& id) const {
  return options_.state + "/bundles/" + id;
}

std::string Runtime::state_file(const std::string& id) const {
  return options_.state + "/run/" + id + "_sandbox:" + id + ".state";
}

// runsc takes a name that it does not know for the beginning of another one: what is meant for a
// sandbox that is gone must not reach its neighbour.
Result<void> Runtime::check_exists(const std::string& id) const {
  if (!good_id(id)) return fail(Error::Kind::invalid, "sandbox id: found \"" + id + "\"");
  std::error_code error;
  if (fs::exists(state_file(id), error)) return {};
  return fail(Error::Kind::not_found, "sandbox " + id + " does not exist here");
}

// ---- the life of a sandbox

// Its control group and its bundle: all that runsc reads.
Result<void> Runtime::prepare(const SandboxSpec& spec) {
  const std::string folder = bundle(spec.id);
  std::error_code error;
  fs::create_directories(folder + "/upper", error);
  if (error) return fail(Error::Kind::exhausted, folder + ": " + error.message());
  cgroup::Limits limits = limits_of(spec);
  if (limits.cpu_millicores > 0) limits.cpu_millicores = std::max(limits.cpu_millicores, kStarting);
  if (auto made = groups_.create(spec.id, limits); !made) return made;
  if (!spec.resolv_conf.empty()) {
    if (auto put = write_file(folder + "/resolv.conf", spec.resolv_conf); !put) return put;
  }
  if (!spec.hosts.empty()) {
    if (auto put = write_file(folder + "/hosts", spec.hosts); !put) return put;
  }
  return write_file(folder + "/config.json", oci_config(spec, groups_.oci_path(spec.id), folder));
}

Result<Started> Runtime::start(const SandboxSpec& spec, std::function<void(Ended)> ended) {
  if (!good_id(spec.id)) {
    return fail(Error::Kind::invalid, "sandbox id: found \"" + spec.id + "\", expected [a-z0-9-]");
  }
  if (spec.argv.empty()) return fail(Error::Kind::invalid, "sandbox: found no command");
  for (const Mount& one : spec.mounts) {
    if (!one.destination.starts_with('/') || one.destination == "/") {
      return fail(Error::Kind::invalid,
                  "sandbox mount: found \"" + one.destination + "\", expected a path below /");
    }
  }
  std::error_code ignored;
  const auto members = groups_.members(spec.id);
  if (fs::exists(bundle(spec.id), ignored) || check_exists(spec.id) || !members ||
      !members->empty()) {
    if (auto removed = remove(spec.id); !removed) return std::unexpected(removed.error());
  }
  auto started = run(spec);
  if (!started) {
    (void)remove(spec.id);
    return std::unexpected(started.error());
  }
  // Claimed by run() until its end is watched.
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, started->times.pid, 0)));
  if (pidfd) {
    const auto watched = watch(spec.id, started->times.pid, std::move(pidfd), std::move(ended));
    if (!watched) {
      (void)remove(spec.id);
      return std::unexpected(watched.error());
    }
  } else {  // it has ended already and is not our child: this process is no subreaper
    ended(Ended{false, 0, 0, groups_.out_of_memory(spec.id) > 0});
  }
  return started->times;
}

Result<Runtime::Running> Runtime::run(const SandboxSpec& spec) {
  if (auto prepared = prepare(spec); !prepared) return std::unexpected(prepared.error());
  const std::string folder = bundle(spec.id);
  const auto open_output = [](const std::string& path) {
    return Fd(path.empty() ? -1
                           : ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  };
  const Fd out = open_output(spec.stdout_file), err = open_output(spec.stderr_file);
  const std::string pid_file = folder + "/pid";
  const auto pid_pipe = PidPipe::make(pid_file);
  if (!pid_pipe) return std::unexpected(pid_pipe.error());
  process::Spawn spawn;
  spawn.argv = command();
  std::string overlay = "--overlay2=root:dir=" + folder + "/upper";
  if (spec.disk_bytes > 0) overlay += ",size=" + std::to_string(spec.disk_bytes);
  for (const std::string& word : std::vector<std::string>{
           // Its standard error is the sandbox's, so that its own errors go to a file.
           "--log-format=json", "--log=" + folder + "/runsc.log", overlay, "run", "--detach",
           "--bundle=" + folder, "--pid-file=" + pid_file, spec.id}) {
    spawn.argv.push_back(word);
  }
  spawn.env = environment();
  spawn.passed = {pid_pipe->passed()};
  spawn.output = out.get();
  spawn.error = err.get();
  // If we are killed now, this runsc goes on; as a member it ends with the sandbox that it makes.
  spawn.cgroup_procs = {groups_.member_file(spec.id)};
  Running running;
  running.times.created_at = wall_nanos();
  const auto until = std::chrono::steady_clock::now() + options_.call_timeout;
  auto child = process::spawn(spawn);
  if (!child) return std::unexpected(child.error());
  // Known, and ours to wait for, before runsc goes and the sandbox becomes our child.
  running.times.pid = pid_pipe->read(child->pidfd.get(), until);
  if (running.times.pid > 0) running.claim = process::Claim(running.times.pid);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      until - std::chrono::steady_clock::now());
  const auto status = process::wait(*child, std::max(left, std::chrono::milliseconds(1)));
  if (!status) {
    ::kill(-child->pid, SIGKILL);
    process::wait(*child, std::chrono::seconds(5));
    return fail(Error::Kind::timeout, "runsc did not start the sandbox within " +
                                          std::to_string(options_.call_timeout.count()) + " ms");
  }
  running.times.started_at = wall_nanos();
  if (status->exit_code == 0 && status->signal == 0 && running.times.pid > 0) {
    if (auto limited = groups_.create(spec.id, limits_of(spec)); !limited) {
      return std::unexpected(limited.error());
    }
    return running;
  }
  const std::string why = last_error(folder + "/runsc.log");
  const bool memory = groups_.out_of_memory(spec.id) > 0;
  return fail(says_not_found(why) ? Error::Kind::not_found : Error::Kind::failed,
              "the sandbox could not be started: " + why +
                  (memory ? " (it ran out of memory while starting)" : ""));
}

// The sandbox's process ends with the status of its main process, or is killed.
Result<void> Runtime::watch(const std::string& id, pid_t pid, Fd pidfd,
                            std::function<void(Ended)> ended) {
  return reaper_.watch(pid, std::move(pidfd), [groups = groups_, id, ended](process::Status status) {
    Ended end;
    end.known = status.known;
    end.exit_code = status.exit_code;
    end.signal = status.signal;
    end.out_of_memory = groups.out_of_memory(id) > 0;
    // Killed inside: runsc says so as a shell does.
    if (end.signal == 0 && end.exit_code > 128 && end.exit_code < 128 + 65) {
      end.signal = end.exit_code - 128;
    }
    ended(end);
  });
}

std::optional<pid_t> Runtime::alive(const std::string& id) const {
  const auto state = nlohmann::json::parse(read_file(state_file(id)), nullptr, false);
  if (!state.is_object() || !state.contains("sandbox") || !state["sandbox"].is_object()) return {};
  const pid_t pid = state["sandbox"].value("pid", 0);
  const auto members = groups_.members(id);  // else another process has the number now
  if (pid <= 0 || !members || std::ranges::find(*members, pid) == members->end()) return {};
  return pid;
}

Result<void> Runtime::signal(const std::string& id, int number, pid_t inner_pid) {
  if (auto exists = check_exists(id); !exists) return exists;
  std::vector<std::string> argv = command();
  argv.push_back("kill");
  if (inner_pid != 0) argv.push_back("--pid=" + std::to_string(inner_pid));
  argv.push_back(id);
  argv.push_back(std::to_string(number));
  const auto said = call(std::move(argv), "send a signal");
  if (!said) return std::unexpected(said.error());
  return {};
}

Result<void> Runtime::pause(const std::string& id) {
  if (auto exists = check_exists(id); !exists) return exists;
  auto argv = command();
  argv.insert(argv.end(), {"pause", id});
  const auto said = call(std::move(argv), "pause the sandbox");
  if (!said) return std::unexpected(said.error());
  return {};
}

Result<void> Runtime::resume(const std::string& id) {
  if (auto exists = check_exists(id); !exists) return exists;
  auto argv = command();
  argv.insert(argv.end(), {"resume", id});
  const auto said = call(std::move(argv), "resume the sandbox");
  if (!said) return std::unexpected(said.error());
  return {};
}

// All processes go first, by their group, which cannot hang. What runsc keeps of them is files, and
// `runsc delete` would wait for ever for the lock of a start that was cut off.
Result<void> Runtime::remove(const std::string& id) {
  if (!good_id(id)) return fail(Error::Kind::invalid, "sandbox id: found \"" + id + "\"");
  // While processes of it may go on, what is known of them stays: so that they are found again.
  if (auto removed = groups_.remove(id); !removed) return removed;
  const std::string run = options_.state + "/run/";
  std::error_code ignored;
  const std::string stem = run + id + "_sandbox:" + id;
  fs::remove(stem + ".state", ignored);
  fs::remove(stem + ".lock", ignored);
  fs::remove(run + "runsc-" + id + ".sock", ignored);
  std::error_code error;
  fs::remove_all(bundle(id), error);
  if (error) return fail(Error::Kind::failed, bundle(id) + ": " + error.message());
  return {};
}

std::vector<std::string> Runtime::list() const {
  std::set<std::string> out;
  for (const std::string& id : groups_.list()) out.insert(id);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options_.state + "/bundles", error)) {
    out.insert(entry.path().filename());
  }
  for (const auto& entry : fs::directory_iterator(options_.state + "/run", error)) {
    const std::string name = entry.path().filename();
    const auto mark = name.find("_sandbox:");
    if (mark != std::string::npos) out.insert(name.substr(0, mark));
  }
  return {out.begin(), out.end()};
}

}  // namespace chalk::gvisor
