#include "adapters/network/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <thread>

namespace chalk::network {
namespace {

constexpr long kNamespaceFileSystem = 0x6e736673;  // NSFS_MAGIC

std::unexpected<Error> failed(const std::string& what) {
  const int number = errno;
  const auto kind = number == EPERM || number == EACCES ? Error::Kind::denied
                    : number == ENOMEM || number == ENOSPC || number == EMFILE
                        ? Error::Kind::exhausted
                        : Error::Kind::failed;
  return fail(kind, what + ": " + std::strerror(number));
}

// Runs in a thread of its own that ends in the new namespace.
Result<FreshNamespace> enter_new(const std::string& path) {
  if (::unshare(CLONE_NEWNET) != 0) return failed("new network namespace for " + path);
  if (::mount("/proc/thread-self/ns/net", path.c_str(), "none", MS_BIND, nullptr) != 0) {
    return failed("mount of the network namespace at " + path);
  }
  for (const char* which : {"all", "default"}) {
    const auto setting = std::string("/proc/sys/net/ipv6/conf/") + which + "/disable_ipv6";
    if (auto written = write_setting(setting, "1", true); !written) {
      return std::unexpected(written.error());
    }
  }
  Descriptor descriptor(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!descriptor) return failed("open the network namespace of " + path);
  auto netlink = Netlink::open();
  if (!netlink) return std::unexpected(netlink.error());
  return FreshNamespace{std::move(descriptor), std::move(*netlink)};
}

}  // namespace

Result<FreshNamespace> make_namespace(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  if (!file) return failed("make " + path);
  std::optional<Result<FreshNamespace>> made;
  try {
    std::thread([&] { made = enter_new(path); }).join();
  } catch (const std::system_error& error) {
    made = fail(Error::Kind::exhausted, std::string("thread for ") + path + ": " + error.what());
  }
  if (!*made) (void)drop_namespace(path);
  return std::move(*made);
}

Result<void> drop_namespace(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
      errno != ENOENT) {
    return failed("unmount " + path);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed("remove " + path);
  return {};
}

bool is_namespace(const std::string& path) {
  struct statfs found{};
  return ::statfs(path.c_str(), &found) == 0 && found.f_type == kNamespaceFileSystem;
}

Result<void> prepare_namespaces(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(Error::Kind::failed, "make folder " + folder + ": " + error.message());
  const auto share = [&] {
    return ::mount("", folder.c_str(), "none", MS_SHARED | MS_REC, nullptr) == 0;
  };
  if (share()) return {};
  if (errno != EINVAL) return failed("share mounts below " + folder);
  // It is no mount yet. Were that left to `ip netns`, its mount would hide ours below it.
  if (::mount(folder.c_str(), folder.c_str(), "none", MS_BIND | MS_REC, nullptr) != 0 || !share()) {
    return failed("mount " + folder + " on itself");
  }
  return {};
}

Result<void> write_setting(const std::string& path, std::string_view value, bool optional) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file && errno == ENOENT && optional) return {};
  if (!file) return failed("open " + path);
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return failed("write " + std::string(value) + " to " + path);
  }
  return {};
}

}  // namespace chalk::network
