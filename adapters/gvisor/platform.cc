#include "adapters/gvisor/platform.h"

#include <sys/mount.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "adapters/gvisor/runtime.h"
#include "adapters/process/child.h"

namespace chalk::gvisor {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr const char* kGroup = "canary";
// A start, and some of what a sandbox does all day: processes that begin and end.
constexpr const char* kWork = "i=0; while [ $i -lt 10 ]; do /bin/true; i=$((i+1)); done";
constexpr milliseconds kVersionTimeout{30'000};

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What the choice holds for.
Result<nlohmann::json> here(const std::string& runsc) {
  process::Spawn spawn;
  spawn.argv = {runsc, "--version"};
  const auto said = process::run(spawn, kVersionTimeout);
  if (!said) return std::unexpected(said.error());
  return nlohmann::json{{"runsc", said->out},
                        {"boot", read_file("/proc/sys/kernel/random/boot_id")}};
}

std::optional<std::string> remembered(const std::string& path, const nlohmann::json& of) {
  const auto kept = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!kept.is_object() || !kept.contains("of") || kept["of"] != of) return std::nullopt;
  const auto name = kept.find("platform");
  if (name == kept.end() || !name->is_string()) return std::nullopt;
  return name->get<std::string>();
}

// Not worth a failure: where it cannot be kept, it is found out again.
void remember(const std::string& path, const nlohmann::json& of, const std::string& name) {
  const std::string fresh = path + ".new";
  std::ofstream out(fresh, std::ios::trunc);
  out << nlohmann::json{{"of", of}, {"platform", name}}.dump(1) << "\n";
  out.close();
  if (out) std::rename(fresh.c_str(), path.c_str());
}

// Whatever a canary is or left: processes, mounts, files.
void clear(const std::string& folder, const cgroup::Groups& groups) {
  static_cast<void>(groups.remove(kGroup));
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    umount2((entry.path() / "null-netns").c_str(), MNT_DETACH);
  }
  fs::remove_all(folder, ignored);
}

// How long it took, or why it did not end well.
Result<milliseconds> try_one(const std::string& runsc, const std::string& folder,
                             const cgroup::Groups& groups, const std::string& platform,
                             milliseconds timeout) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(Error::Kind::exhausted, folder + ": " + error.message());
  if (auto made = groups.create(kGroup, {}); !made) return std::unexpected(made.error());
  process::Spawn spawn;
  spawn.argv = {runsc, "--root=" + folder, "--platform=" + platform, "--network=none",
                "--ignore-cgroups", "do", "/bin/sh", "-c", kWork};
  spawn.env = environment();
  spawn.env.push_back("TMPDIR=" + folder);  // where `runsc do` keeps its state, whatever --root says
  spawn.cgroup_procs = groups.procs_files(kGroup);
  const auto began = std::chrono::steady_clock::now();
  const auto ran = process::run(spawn, timeout);
  const auto took = std::chrono::ceil<milliseconds>(std::chrono::steady_clock::now() - began);
  clear(folder, groups);
  if (!ran) return std::unexpected(ran.error());
  if (ran->status.exit_code == 0 && ran->status.signal == 0) return took;
  const std::string said = ran->err.substr(0, ran->err.find('\n'));
  return fail(Error::Kind::failed, said.empty() ? "it failed and gave no reason" : said);
}

}  // namespace

Result<Platform> choose_platform(const std::string& runsc, const std::string& folder,
                                 const cgroup::Groups& groups, const Platforms& platforms) {
  const auto of = here(runsc);
  if (!of) return std::unexpected(of.error());
  const std::string path = folder + "/platform.json", scratch = folder + "/canary";
  clear(scratch, groups);
  if (auto name = remembered(path, *of)) return Platform{std::move(*name), "as found before"};
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(Error::Kind::exhausted, folder + ": " + error.message());

  std::optional<std::string> best;
  milliseconds within = platforms.timeout;
  std::ostringstream tried;
  const auto measure = [&](const std::string& name) {
    const auto took = try_one(runsc, scratch, groups, name, within);
    tried << (tried.tellp() == 0 ? "" : "; ") << name << ": ";
    if (!took) {
      tried << took.error().message;
      return;
    }
    tried << took->count() << " ms";
    if (best && *took >= within) return;
    best = name;
    within = *took;
  };
  for (const std::string& name : platforms.measured) measure(name);
  for (const std::string& name : platforms.otherwise) {
    if (!best) measure(name);
  }
  if (!best) {
    return fail(Error::Kind::unavailable, "gVisor runs on no platform here: " + tried.str());
  }
  remember(path, *of, *best);
  return Platform{std::move(*best), tried.str()};
}

}  // namespace chalk::gvisor
