#include "adapters/cgroup/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace chalk::cgroup {
namespace {

constexpr std::int64_t kPeriodMicros = 100'000;
constexpr std::int64_t kQuotaMin = 1'000;

bool good_name(const std::string& name) {
  return !name.empty() && name.size() <= 100 && name[0] != '-' && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
         });
}

Result<void> put(const std::string& path, const std::string& value) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool good =
      file >= 0 && write(file, value.data(), value.size()) == static_cast<ssize_t>(value.size());
  const int error = errno;
  if (file >= 0) close(file);
  if (good) return {};
  return fail(error == ENOSPC || error == EBUSY ? Error::Kind::exhausted : Error::Kind::failed,
              path + ": cannot write " + value + ": " + strerror(error));
}

std::int64_t number(const std::string& path, const std::string& key = "") {
  std::ifstream in(path);
  std::string word;
  if (key.empty()) {
    in >> word;
  } else {
    while (in >> word && word != key) {
    }
    if (!(in >> word)) return 0;
  }
  try {
    return std::stoll(word);
  } catch (const std::exception&) {
    return 0;  // "max", or the group is gone
  }
}

Result<void> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return fail(Error::Kind::failed, path + ": cannot make the cgroup: " + strerror(errno));
}

// Lets the groups below `path` have limits. The kernel refuses that to a group with processes in
// it.
Result<void> enable(const std::string& path) {
  std::ifstream in(path + "/cgroup.subtree_control");
  std::set<std::string> on;
  for (std::string word; in >> word;) on.insert(word);
  std::string wanted;
  for (const char* one : {"cpu", "memory", "pids"}) {
    if (!on.contains(one)) wanted += std::string(wanted.empty() ? "+" : " +") + one;
  }
  return wanted.empty() ? Result<void>{} : put(path + "/cgroup.subtree_control", wanted);
}

}  // namespace

Result<Groups> Groups::open(const std::string& name, const std::string& mounts) {
  if (!good_name(name)) {
    return fail(Error::Kind::invalid, "cgroup name: found \"" + name + "\", expected [a-z0-9-]");
  }
  Groups groups;
  groups.name_ = name;
  std::ifstream in(mounts);
  std::string line, unified;
  while (std::getline(in, line)) {
    // "36 35 98:0 /root /mount options - type source super,options"
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string skip, mount, type, source, options;
    left >> skip >> skip >> skip >> skip >> mount;
    right >> type >> source >> options;
    if (type == "cgroup2") unified = mount;
    if (type != "cgroup") continue;
    std::istringstream words(options);
    for (std::string word; std::getline(words, word, ',');) {
      // "name=systemd" is a hierarchy too, and runsc makes a group there.
      if (word == "rw" || word == "ro") continue;
      if (word.find('=') != std::string::npos && !word.starts_with("name=")) continue;
      groups.mounts_.try_emplace(word, mount);
    }
  }
  const auto has = [&](const char* controller) { return groups.mounts_.contains(controller); };
  if (has("cpu") && has("memory") && has("pids")) {
    for (const char* controller : {"cpu", "cpuacct", "memory", "pids"}) {
      if (!has(controller)) continue;
      if (auto made = make_folder(groups.mounts_[controller] + "/" + name); !made) {
        return std::unexpected(made.error());
      }
    }
    return groups;
  }
  groups.mounts_.clear();
  std::ifstream controllers(unified + "/cgroup.controllers");
  std::set<std::string> found;
  for (std::string word; controllers >> word;) found.insert(word);
  if (unified.empty() || !found.contains("cpu") || !found.contains("memory") ||
      !found.contains("pids")) {
    return fail(Error::Kind::unavailable,
                "no cgroup hierarchy has cpu, memory and pids; mount cgroup2, or the v1 "
                "controllers below /sys/fs/cgroup");
  }
  groups.unified_ = unified;
  if (auto enabled = enable(unified); !enabled) return std::unexpected(enabled.error());
  if (auto made = make_folder(unified + "/" + name); !made) return std::unexpected(made.error());
  if (auto enabled = enable(unified + "/" + name); !enabled)
    return std::unexpected(enabled.error());
  return groups;
}

std::string Groups::oci_path(const std::string& id) const { return "/" + name_ + "/" + id; }

std::string Groups::folder(const std::string& controller, const std::string& id) const {
  if (!unified_.empty()) return unified_ + "/" + name_ + "/" + id;
  const auto found = mounts_.find(controller);
  return found == mounts_.end() ? std::string() : found->second + "/" + name_ + "/" + id;
}

// Every folder of this id; hierarchies that are mounted together count once.
std::vector<std::string> Groups::folders(const std::string& id) const {
  std::set<std::string> out;
  if (!unified_.empty()) out.insert(folder("", id));
  for (const auto& [controller, mount] : mounts_) out.insert(folder(controller, id));
  return {out.begin(), out.end()};
}

Result<void> Groups::create(const std::string& id, const Limits& limits) const {
  if (!good_name(id)) {
    return fail(Error::Kind::invalid, "cgroup: found \"" + id + "\", expected [a-z0-9-]");
  }
  for (const char* controller : {"cpu", "cpuacct", "memory", "pids"}) {
    const std::string path = folder(controller, id);
    if (path.empty()) continue;
    if (auto made = make_folder(path); !made) return made;
  }
  const auto quota = std::max(kQuotaMin, limits.cpu_millicores * kPeriodMicros / 1000);
  std::vector<std::pair<std::string, std::string>> values;
  if (!unified_.empty()) {
    const std::string path = folder("", id) + "/";
    if (limits.cpu_millicores > 0) {
      values.emplace_back(path + "cpu.max",
                          std::to_string(quota) + " " + std::to_string(kPeriodMicros));
    }
    if (limits.memory_bytes > 0) {
      values.emplace_back(path + "memory.max", std::to_string(limits.memory_bytes));
      if (access((path + "memory.swap.max").c_str(), W_OK) == 0) {
        values.emplace_back(path + "memory.swap.max", "0");
      }
      // A sandbox of which one process is missing would hang rather than end.
      if (access((path + "memory.oom.group").c_str(), W_OK) == 0) {
        values.emplace_back(path + "memory.oom.group", "1");
      }
    }
    if (limits.pids > 0) values.emplace_back(path + "pids.max", std::to_string(limits.pids));
  } else {
    if (limits.cpu_millicores > 0) {
      values.emplace_back(folder("cpu", id) + "/cpu.cfs_period_us", std::to_string(kPeriodMicros));
      values.emplace_back(folder("cpu", id) + "/cpu.cfs_quota_us", std::to_string(quota));
    }
    if (limits.memory_bytes > 0) {
      const std::string path = folder("memory", id) + "/";
      values.emplace_back(path + "memory.limit_in_bytes", std::to_string(limits.memory_bytes));
      if (access((path + "memory.memsw.limit_in_bytes").c_str(), W_OK) == 0) {
        values.emplace_back(path + "memory.memsw.limit_in_bytes",
                            std::to_string(limits.memory_bytes));
      }
    }
    if (limits.pids > 0) {
      values.emplace_back(folder("pids", id) + "/pids.max", std::to_string(limits.pids));
    }
  }
  for (const auto& [path, value] : values) {
    if (auto written = put(path, value); !written) return written;
  }
  return {};
}

std::vector<std::string> Groups::procs_files(const std::string& id) const {
  std::set<std::string> out;
  for (const char* controller : {"cpu", "cpuacct", "memory", "pids"}) {
    const std::string path = folder(controller, id);
    if (!path.empty()) out.insert(path + "/cgroup.procs");
  }
  return {out.begin(), out.end()};
}

Result<Usage> Groups::usage(const std::string& id) const {
  if (access(folder("memory", id).c_str(), F_OK) != 0) {
    return fail(Error::Kind::not_found, "no cgroup " + oci_path(id));
  }
  Usage out;
  if (!unified_.empty()) {
    const std::string path = folder("", id) + "/";
    out.cpu_nanos = number(path + "cpu.stat", "usage_usec") * 1000;
    out.memory_bytes = number(path + "memory.current");
    out.memory_peak_bytes = number(path + "memory.peak");
    out.pids = number(path + "pids.current");
  } else {
    out.cpu_nanos = number(folder("cpuacct", id) + "/cpuacct.usage");
    out.memory_bytes = number(folder("memory", id) + "/memory.usage_in_bytes");
    out.memory_peak_bytes = number(folder("memory", id) + "/memory.max_usage_in_bytes");
    out.pids = number(folder("pids", id) + "/pids.current");
  }
  out.out_of_memory = out_of_memory(id);
  return out;
}

std::int64_t Groups::out_of_memory(const std::string& id) const {
  if (!unified_.empty()) return number(folder("", id) + "/memory.events", "oom_kill");
  return number(folder("memory", id) + "/memory.oom_control", "oom_kill");
}

Result<std::vector<pid_t>> Groups::members(const std::string& id) const {
  std::set<pid_t> out;
  for (const std::string& path : folders(id)) {
    errno = 0;
    std::ifstream in(path + "/cgroup.procs");
    if (!in && errno == ENOENT) continue;  // there is no such group
    for (pid_t pid; in >> pid;) out.insert(pid);
    // Without a descriptor for it (EMFILE) nothing is known of who is in it; one that was removed
    // while it was read (ENODEV) is empty.
    if (!in.eof() && errno != ENODEV) {
      return fail(Error::Kind::unavailable,
                  path + "/cgroup.procs: cannot read: " + strerror(errno));
    }
  }
  return std::vector<pid_t>{out.begin(), out.end()};
}

bool Groups::kill_all(const std::string& id) const {
  if (!good_name(id)) return false;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  if (!unified_.empty()) put(folder("", id) + "/cgroup.kill", "1");
  while (true) {
    const auto left = members(id);
    if (!left) return false;
    if (left->empty()) return true;
    for (const pid_t pid : *left) kill(pid, SIGKILL);
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

Result<void> Groups::remove(const std::string& id) const {
  if (!good_name(id)) {  // an empty one would be all of them
    return fail(Error::Kind::invalid, "cgroup: found \"" + id + "\", expected [a-z0-9-]");
  }
  if (!kill_all(id)) {
    return fail(Error::Kind::unavailable,
                "cgroup " + oci_path(id) + ": not all of its processes are known to be gone");
  }
  for (const std::string& path : folders(id)) {
    // A process that has just ended still counts for a moment.
    for (int attempt = 0; rmdir(path.c_str()) != 0 && errno == EBUSY && attempt < 500; ++attempt) {
      std::this_thread::sleep_for(std::chrono::milliseconds(attempt < 50 ? 1 : 10));
    }
    if (access(path.c_str(), F_OK) == 0) {
      return fail(Error::Kind::unavailable,
                  path + ": cannot remove the cgroup: " + strerror(EBUSY));
    }
  }
  return {};
}

Result<void> Groups::remove_all() const {
  for (const std::string& id : list()) {
    if (auto removed = remove(id); !removed) return removed;
  }
  for (const std::string& root : roots()) {
    if (rmdir(root.c_str()) != 0 && errno != ENOENT) {
      return fail(Error::Kind::failed, root + ": cannot remove the cgroup: " + strerror(errno));
    }
  }
  return {};
}

std::vector<std::string> Groups::roots() const {
  std::set<std::string> out;
  if (!unified_.empty()) out.insert(unified_ + "/" + name_);
  for (const auto& [controller, mount] : mounts_) out.insert(mount + "/" + name_);
  return {out.begin(), out.end()};
}

std::vector<std::string> Groups::list() const {
  std::set<std::string> out;
  for (const std::string& root : roots()) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
      if (entry.is_directory(error)) out.insert(entry.path().filename());
    }
  }
  return {out.begin(), out.end()};
}

}  // namespace chalk::cgroup
