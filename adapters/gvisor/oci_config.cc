// The OCI configuration of a sandbox: nothing that it does not need.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "adapters/gvisor/runtime.h"

namespace chalk::gvisor {
namespace {

using nlohmann::json;

// What a container may do inside its own kernel. The host's kernel is out of reach either way.
constexpr const char* kCapabilities[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
    "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL",    "CAP_AUDIT_WRITE"};

constexpr std::uint64_t kOpenFiles = 16'384;  // below the hard limit of small hosts

json kernel_mount(const char* destination, const char* type, const char* source,
                  std::vector<std::string> options) {
  return {{"destination", destination},
          {"type", type},
          {"source", source},
          {"options", std::move(options)}};
}

json bind_mount(const std::string& source, const std::string& destination, bool read_only) {
  return {{"destination", destination},
          {"type", "bind"},
          {"source", source},
          {"options", {"rbind", read_only ? "ro" : "rw"}}};
}

}  // namespace

std::string oci_config(const SandboxSpec& spec, const std::string& cgroup_path,
                       const std::string& bundle) {
  json capabilities = json::array();
  for (const char* one : kCapabilities) capabilities.push_back(one);
  json process = {
      {"user", {{"uid", spec.uid}, {"gid", spec.gid}, {"additionalGids", spec.groups}}},
      {"args", spec.argv},
      {"env", spec.env},
      {"cwd", spec.cwd.empty() ? "/" : spec.cwd},
      {"noNewPrivileges", false},  // sudo and ping work inside, as their users expect
      {"capabilities",
       {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}},
      {"rlimits", {{{"type", "RLIMIT_NOFILE"}, {"hard", kOpenFiles}, {"soft", kOpenFiles}}}}};

  json mounts = {
      kernel_mount("/proc", "proc", "proc", {}),
      kernel_mount("/dev", "tmpfs", "tmpfs", {"nosuid", "mode=755"}),
      kernel_mount("/dev/pts", "devpts", "devpts", {"nosuid", "noexec"}),
      kernel_mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777"}),
      kernel_mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"})};
  if (!spec.resolv_conf.empty()) {
    mounts.push_back(bind_mount(bundle + "/resolv.conf", "/etc/resolv.conf", true));
  }
  if (!spec.hosts.empty()) mounts.push_back(bind_mount(bundle + "/hosts", "/etc/hosts", true));
  bool own_tmp = false;
  for (const Mount& one : spec.mounts) {
    mounts.push_back(bind_mount(one.source, one.destination, one.read_only));
    own_tmp = own_tmp || one.destination == "/tmp";
  }
  // runsc puts a file system in memory over a /tmp that is empty: what is written there would kill
  // the sandbox long before its disk is full. Something in it keeps /tmp on the disk.
  if (!own_tmp) {
    mounts.push_back(kernel_mount("/tmp/.chalk", "tmpfs", "tmpfs", {"ro", "size=0", "mode=0555"}));
  }

  json network = {{"type", "network"}};
  if (!spec.network_namespace.empty()) network["path"] = spec.network_namespace;
  json resources = {
      {"memory", {{"limit", spec.memory_bytes}}},
      {"cpu",
       {{"period", 100'000}, {"quota", std::max<std::int64_t>(1'000, spec.cpu_millicores * 100)}}}};
  json linux = {
      {"cgroupsPath", cgroup_path},
      {"resources", resources},
      {"namespaces",
       {{{"type", "pid"}}, {{"type", "ipc"}}, {{"type", "uts"}}, {{"type", "mount"}}, network}},
      {"maskedPaths", {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list"}},
      {"readonlyPaths", {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}}};
  const json config = {{"ociVersion", "1.0.2"},
                       {"process", process},
                       {"root", {{"path", spec.rootfs}, {"readonly", false}}},
                       {"hostname", spec.hostname},
                       {"mounts", mounts},
                       {"linux", linux}};
  return config.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace chalk::gvisor
