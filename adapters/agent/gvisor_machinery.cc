#include "adapters/agent/gvisor_machinery.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "adapters/agent/user.h"
#include "adapters/api/guest.h"
#include "adapters/gvisor/platform.h"
#include "adapters/gvisor/runtime.h"

namespace chalk::agent {
namespace {

MainEnd main_end(const gvisor::Ended& ended) {
  return {ended.exit_code, ended.signal, ended.known, ended.out_of_memory};
}

class GvisorMachinery final : public Machinery {
 public:
  GvisorMachinery(gvisor::RuntimeOptions options, cgroup::Groups groups, std::string guest)
      : reaper_(std::make_unique<process::Reaper>()),
        runtime_(std::make_shared<gvisor::Runtime>(std::move(options), std::move(groups), *reaper_)),
        guest_(std::move(guest)) {}
  ~GvisorMachinery() override { reaper_.reset(); }

  std::string version() const { return runtime_->version(); }

  Result<StartedAt> start(const StartPlan& plan, std::chrono::milliseconds, Ended ended) override {
    const auto user = find_user(plan.rootfs, plan.user);
    if (!user) return std::unexpected(user.error());
    gvisor::SandboxSpec spec;
    spec.id = plan.name;
    spec.rootfs = plan.rootfs;
    spec.argv = plan.argv;
    for (const auto& [name, value] : plan.env) spec.env.push_back(name + "=" + value);
    if (!plan.env.contains("HOME")) spec.env.push_back("HOME=" + user->home);
    spec.cwd = plan.workdir;
    spec.uid = user->uid;
    spec.gid = user->gid;
    spec.groups = user->groups;
    spec.hostname = plan.hostname;
    spec.network_namespace = plan.network_namespace;
    if (!guest_.empty()) spec.mounts.push_back({guest_, api::kGuestPath, true});
    spec.resolv_conf = plan.resolv_conf;
    spec.hosts = plan.hosts;
    spec.cpu_millicores = plan.resources.cpu_millicores;
    spec.memory_bytes = plan.resources.memory_bytes;
    spec.disk_bytes = plan.disk_bytes;
    spec.stdout_file = plan.output_file;
    spec.stderr_file = plan.error_file;
    const auto started = runtime_->start(spec, [ended = std::move(ended)](gvisor::Ended how) {
      ended(main_end(how));
    });
    if (!started) return std::unexpected(started.error());
    return StartedAt{started->created_at, started->started_at};
  }

  Result<void> signal(const std::string& name, int number) override {
    return runtime_->signal(name, number);
  }
  Result<void> remove(const std::string& name) override { return runtime_->remove(name); }

  Result<Process> exec(const std::string& name, const Command& command,
                       std::function<void(ProcessEnd)> ended) override {
    gvisor::ExecSpec spec;
    spec.argv = command.argv;
    for (const auto& [key, value] : command.env) spec.env.push_back(key + "=" + value);
    spec.cwd = command.workdir;
    if (command.terminal) {
      spec.terminal = gvisor::Window{static_cast<std::uint16_t>(command.terminal->columns),
                                     static_cast<std::uint16_t>(command.terminal->rows)};
    }
    auto begun = runtime_->exec(name, spec, [ended = std::move(ended)](process::Status status) {
      ended({status.exit_code, status.signal});
    });
    if (!begun) return std::unexpected(begun.error());
    Process process;
    // Sessions may outlast this object by a moment.
    process.signal = [weak = std::weak_ptr(runtime_), name,
                      pid = begun->inner_pid](int number) -> Result<void> {
      const auto runtime = weak.lock();
      if (!runtime) return fail(Error::Kind::unavailable, "the agent is stopping");
      return runtime->signal(name, number, pid);
    };
    if (command.terminal) {
      process.resize = resizer(begun->output.get());
      process.output = begun->output.release();
      process.input = process.output;
    } else {
      process.input = begun->input.release();
      process.output = begun->output.release();
      process.error = begun->error.release();
    }
    return process;
  }

  Result<std::vector<Found>> list() override {
    std::vector<Found> found;
    for (const std::string& id : runtime_->list()) {
      Found one;
      one.name = id;
      one.running = runtime_->alive(id).has_value();
      one.end.known = false;
      one.end.out_of_memory = !one.running && runtime_->groups().out_of_memory(id) > 0;
      found.push_back(std::move(one));
    }
    return found;
  }

  Result<void> adopt(const std::string& name, Ended ended) override {
    const auto watched = runtime_->adopt(
        name, [ended = std::move(ended)](gvisor::Ended how) { ended(main_end(how)); });
    if (!watched) return std::unexpected(watched.error());
    return {};
  }

 private:
  // With a descriptor of its own: that of the session may be closed meanwhile.
  static std::function<Result<void>(Window)> resizer(int terminal) {
    const auto own = std::make_shared<process::Fd>(fcntl(terminal, F_DUPFD_CLOEXEC, 3));
    return [own](Window window) -> Result<void> {
      winsize size{};
      size.ws_col = static_cast<unsigned short>(window.columns);
      size.ws_row = static_cast<unsigned short>(window.rows);
      if (ioctl(own->get(), TIOCSWINSZ, &size) != 0) {
        return fail(Error::Kind::failed, "the terminal does not take a new size");
      }
      return {};
    };
  }

  std::unique_ptr<process::Reaper> reaper_;
  std::shared_ptr<gvisor::Runtime> runtime_;
  const std::string guest_;
};

Result<std::string> find_program(const std::string& given) {
  if (!given.empty()) {
    if (access(given.c_str(), X_OK) == 0) return std::filesystem::canonical(given).string();
    return fail(Error::Kind::not_found, given + ": is no program that can be run");
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/runsc";
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return fail(Error::Kind::not_found, "runsc is not in PATH: name it with --runsc");
}

}  // namespace

Result<OpenedRuntime> open_gvisor(const Options& options) {
  auto program = find_program(options.runsc);
  if (!program) return std::unexpected(program.error());
  process::become_subreaper();
  gvisor::RuntimeOptions wanted;
  wanted.runsc = *program;
  wanted.state = options.data + "/runsc";
  wanted.call_timeout = options.start_timeout;
  wanted.platform = options.platform;
  std::error_code error;
  std::filesystem::create_directories(wanted.state, error);
  auto groups = cgroup::Groups::open("chalk-" + options.network_prefix);
  if (!groups) return std::unexpected(groups.error());
  if (options.platform == "auto") {
    auto chosen = gvisor::choose_platform(*program, options.data + "/gvisor", *groups);
    if (!chosen) return std::unexpected(chosen.error());
    spdlog::info("runsc: platform {} ({})", chosen->name, chosen->tried);
    wanted.platform = std::move(chosen->name);
  }
  std::string guest;
  if (!options.guest.empty()) {
    if (access(options.guest.c_str(), X_OK) != 0) {
      return fail(Error::Kind::not_found,
                  options.guest + ": the guest helper is no program that can be run");
    }
    guest = std::filesystem::canonical(options.guest).string();
  }
  const std::string platform = wanted.platform;
  try {
    auto machinery =
        std::make_unique<GvisorMachinery>(std::move(wanted), std::move(*groups), std::move(guest));
    std::string words = machinery->version() + " on " + platform;
    return OpenedRuntime{std::move(machinery), std::move(words)};
  } catch (const std::runtime_error& thrown) {
    return fail(Error::Kind::failed, thrown.what());
  }
}

}  // namespace chalk::agent
