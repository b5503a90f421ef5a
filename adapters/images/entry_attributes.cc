#include "adapters/images/entry_attributes.h"

#include <archive.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "adapters/images/tree.h"

namespace chalk::images {
namespace {

std::unexpected<Error> corrupt(const std::string& why) { return fail(Error::Kind::corrupt, why); }

bool allowed_attribute(std::string_view name) {
  return name.size() <= 255 && (name.starts_with("user.") || name == "security.capability");
}

// A file system says a lack of space, too, of what is too large for one of its files.
std::unexpected<Error> attribute_error(int file, int code) {
  constexpr unsigned long kPlenty = 64;  // blocks
  struct statvfs about {};
  const bool full = code == EDQUOT || (code == ENOSPC && (fstatvfs(file, &about) != 0 ||
                                                          about.f_bavail < kPlenty));
  if (!full && (code == ENOSPC || code == ERANGE || code == E2BIG))
    return corrupt("extended attributes that are too large for the file system");
  return system_error("set an extended attribute", code);
}

Result<void> set_extended_attributes(int file, struct archive_entry* entry,
                                     const UnpackLimits& limits) {
  if (static_cast<std::size_t>(archive_entry_xattr_reset(entry)) > limits.attributes)
    return corrupt("more than " + std::to_string(limits.attributes) + " extended attributes");
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (!name || !allowed_attribute(name)) continue;
    if (size > limits.attribute_bytes)
      return corrupt("an extended attribute of " + std::to_string(size) + " bytes");
    // A file system without such attributes is no reason to refuse the image.
    if (fsetxattr(file, name, value, size, 0) != 0 && errno != ENOTSUP)
      return attribute_error(file, errno);
  }
  return {};
}

Result<std::pair<uid_t, gid_t>> owner_of(struct archive_entry* entry) {
  const std::int64_t user = archive_entry_uid(entry);
  const std::int64_t group = archive_entry_gid(entry);
  constexpr std::int64_t kMost = 0xfffffffe;  // -1 would mean: leave as it is
  if (user < 0 || user > kMost || group < 0 || group > kMost)
    return corrupt("owner " + std::to_string(user) + ":" + std::to_string(group));
  return std::pair(static_cast<uid_t>(user), static_cast<gid_t>(group));
}

}  // namespace

std::int64_t attribute_bytes(struct archive_entry* entry) {
  constexpr std::size_t kInInode = 64;  // a capability has 20 and its name
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  std::size_t all = 0;
  archive_entry_xattr_reset(entry);
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (name && allowed_attribute(name)) all += std::string_view(name).size() + size;
  }
  return all <= kInInode ? 0 : static_cast<std::int64_t>(all);
}

timespec time_of(struct archive_entry* entry) {
  return {archive_entry_mtime(entry),
          std::clamp(archive_entry_mtime_nsec(entry), 0L, 999'999'999L)};
}

Result<void> set_attributes(int file, struct archive_entry* entry, const UnpackLimits& limits) {
  const auto owner = owner_of(entry);
  if (!owner) return std::unexpected(owner.error());
  // In this order: a change of owner clears the setuid bit and file capabilities.
  if (fchown(file, owner->first, owner->second) != 0) return system_error("set the owner", errno);
  if (fchmod(file, archive_entry_perm(entry) & 07777) != 0)
    return system_error("set the mode", errno);
  if (auto set = set_extended_attributes(file, entry, limits); !set) return set;
  const timespec times[2] = {time_of(entry), time_of(entry)};
  if (futimens(file, times) != 0) return system_error("set the time", errno);
  return {};
}

Result<void> set_symlink_attributes(int parent, const std::string& name,
                                    struct archive_entry* entry) {
  const auto owner = owner_of(entry);
  if (!owner) return std::unexpected(owner.error());
  if (fchownat(parent, name.c_str(), owner->first, owner->second, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error("set the owner", errno);
  const timespec times[2] = {time_of(entry), time_of(entry)};
  if (utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return system_error("set the time", errno);
  return {};
}

}  // namespace chalk::images
