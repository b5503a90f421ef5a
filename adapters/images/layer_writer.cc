#include "adapters/images/layer_writer.h"

#include <archive.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "adapters/images/entry_attributes.h"

namespace chalk::images {
namespace {

constexpr const char* kOpaque = "trusted.overlay.opaque";
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr std::string_view kAufs = ".wh..wh.";
constexpr std::int64_t kBlock = 4096;
// Bytes of directories' names kept for their times.
constexpr std::size_t kMaxRemembered = 64 << 20;

std::unexpected<Error> corrupt(const std::string& why) { return fail(Error::Kind::corrupt, why); }

bool is_whiteout(const struct stat& about) { return S_ISCHR(about.st_mode) && about.st_rdev == 0; }

bool is_opaque(int directory) {
  char value = 0;
  return fgetxattr(directory, kOpaque, &value, 1) == 1 && value == 'y';
}

// An opaque directory hides everything below already, and overlayfs would list whiteouts in it.
Result<void> make_opaque(int directory) {
  const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = copy < 0 ? nullptr : fdopendir(copy);
  if (!stream) {
    const int code = errno;
    if (copy >= 0) close(copy);
    return system_error("read a directory", code);
  }
  while (const dirent* entry = readdir(stream)) {
    struct stat about {};
    if (fstatat(directory, entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(about))
      unlinkat(directory, entry->d_name, 0);
  }
  closedir(stream);
  if (fsetxattr(directory, kOpaque, "y", 1, 0) == 0) return {};
  return system_error("mark a directory as opaque", errno);
}

}  // namespace

LayerWriter::LayerWriter(int root, const UnpackLimits& limits, Room::Share* share)
    : root_(root), limits_(limits), share_(share) {}

// Before it is written.
Result<void> LayerWriter::account(std::int64_t bytes, std::int64_t files) {
  const std::int64_t rounded = (bytes + kBlock - 1) / kBlock * kBlock;
  counts_.bytes += rounded;
  if (counts_.bytes > limits_.bytes)
    return fail(Error::Kind::invalid, "more than " + std::to_string(limits_.bytes) + " bytes");
  if (!share_) return {};
  return share_->take(rounded, files);
}

// The first block of a directory is counted with it.
Result<void> LayerWriter::account_name(const std::string& name) {
  constexpr std::int64_t kOfEntry = 8;  // inode, lengths, type
  name_bytes_ += static_cast<std::int64_t>(name.size()) + kOfEntry;
  if (name_bytes_ < kBlock) return {};
  name_bytes_ -= kBlock;
  return account(kBlock);
}

// A new inode and its name.
Result<void> LayerWriter::account_entry(const std::string& name, std::int64_t bytes) {
  if (auto counted = account(bytes, 1); !counted) return counted;
  return account_name(name);
}

// One step down. What stands in the way is a reason to refuse, a symlink above all.
Result<File> LayerWriter::enter(int parent, const std::string& name, bool create) {
  File found = open_directory(parent, name);
  if (found) return found;
  if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
    return system_error("open directory " + name, errno);
  bool hidden = false;
  struct stat about {};
  if (fstatat(parent, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISLNK(about.st_mode)) return corrupt("leads over the symlink " + name);
    if (!is_whiteout(about)) return corrupt("leads over " + name + ", which is no directory");
    hidden = true;
  }
  if (!create) return corrupt("leads over " + name + ", which is not in the layer");
  if (hidden && unlinkat(parent, name.c_str(), 0) != 0)
    return system_error("replace the whiteout " + name, errno);
  if (mkdirat(parent, name.c_str(), 0755) != 0)
    return system_error("make directory " + name, errno);
  if (auto counted = account_entry(name, kBlock); !counted)
    return std::unexpected(counted.error());
  found = open_directory(parent, name);
  if (!found) return system_error("open directory " + name, errno);
  fchmod(found.get(), 0755);  // whatever the umask
  if (hidden)
    if (auto marked = make_opaque(found.get()); !marked) return std::unexpected(marked.error());
  return found;
}

// The directory that holds the last of the parts.
Result<File> LayerWriter::walk(const std::vector<std::string>& parts, bool create) {
  File at(openat(root_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at) return system_error("open the root", errno);
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    auto below = enter(at.get(), parts[i], create);
    if (!below) return below;
    at = std::move(*below);
  }
  return at;
}

Result<LayerWriter::Place> LayerWriter::locate(const std::vector<std::string>& parts) {
  const std::vector<std::string> above(parts.begin(), parts.end() - 1);
  if (!current_known_ || above != current_parts_) {
    current_known_ = false;
    auto directory = walk(parts, true);
    if (!directory) return std::unexpected(directory.error());
    current_ = std::move(*directory);
    current_parts_ = above;
    current_known_ = true;
  }
  return Place{current_.get(), parts.back()};
}

Result<void> LayerWriter::white_out(const Place& place, const std::string& hidden) {
  ++counts_.whiteouts;
  if (hidden.empty() || hidden == "." || hidden == "..")
    return corrupt("a whiteout of \"" + hidden + "\"");
  struct stat about {};
  if (fstatat(place.parent, hidden.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0) {
    // The layer has the name itself: only what lower layers have in such a directory is hidden.
    if (!S_ISDIR(about.st_mode)) return {};
    const File directory = open_directory(place.parent, hidden);
    if (!directory) return system_error("open directory " + hidden, errno);
    return make_opaque(directory.get());
  }
  if (is_opaque(place.parent)) return {};
  if (auto counted = account_entry(hidden, kBlock); !counted) return counted;
  if (mknodat(place.parent, hidden.c_str(), S_IFCHR, makedev(0, 0)) == 0) return {};
  return system_error("make a whiteout", errno);
}

Result<bool> LayerWriter::make_room(const Place& place, bool for_directory) {
  struct stat about {};
  if (fstatat(place.parent, place.name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return system_error("look at " + place.name, errno);
  }
  if (S_ISDIR(about.st_mode) && for_directory) return false;
  if (auto removed = remove_tree(place.parent, place.name); !removed)
    return std::unexpected(removed.error());
  return is_whiteout(about);
}

Result<void> LayerWriter::remember_time(const std::vector<std::string>& parts,
                                        struct archive_entry* entry) {
  for (const std::string& part : parts) remembered_bytes_ += part.size() + sizeof(std::string);
  if (remembered_bytes_ > kMaxRemembered)
    return corrupt("the directories' names together are longer than 64 MiB");
  directory_times_[parts] = time_of(entry);
  return {};
}

Result<void> LayerWriter::make_directory(const Place& place, struct archive_entry* entry,
                                         const std::vector<std::string>& parts) {
  const auto hidden = make_room(place, true);
  if (!hidden) return std::unexpected(hidden.error());
  if (mkdirat(place.parent, place.name.c_str(), 0700) == 0) {
    if (auto counted = account_entry(place.name, kBlock); !counted) return counted;
  } else if (errno != EEXIST) {
    return system_error("make the directory", errno);
  }
  const File directory = open_directory(place.parent, place.name);
  if (!directory) return system_error("open the directory", errno);
  if (auto counted = account(attribute_bytes(entry)); !counted) return counted;
  if (*hidden)
    if (auto marked = make_opaque(directory.get()); !marked) return marked;
  if (auto set = set_attributes(directory.get(), entry, limits_); !set) return set;
  return remember_time(parts, entry);
}

Result<void> LayerWriter::copy_content(int file, const Content& content) {
  while (true) {
    const void* data = nullptr;
    std::size_t size = 0;
    std::int64_t offset = 0;
    const auto more = content(&data, &size, &offset);
    if (!more) return std::unexpected(more.error());
    if (!*more) return {};
    auto at = static_cast<const char*>(data);
    if (offset < 0 || offset > limits_.bytes) return corrupt("content at an impossible place");
    if (auto counted = account(static_cast<std::int64_t>(size)); !counted) return counted;
    while (size > 0) {
      const ssize_t written = pwrite(file, at, size, offset);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return system_error("write", written < 0 ? errno : EIO);
      at += written;
      offset += written;
      size -= static_cast<std::size_t>(written);
    }
  }
}

Result<void> LayerWriter::make_file(const Place& place, struct archive_entry* entry,
                                    const Content& content) {
  const std::int64_t size = archive_entry_size(entry);
  logical_bytes_ += std::clamp<std::int64_t>(size, 0, limits_.bytes + 1);
  if (size < 0 || logical_bytes_ > limits_.bytes)
    return fail(Error::Kind::invalid, "files of more than " + std::to_string(limits_.bytes) +
                                          " bytes (this one has " + std::to_string(size) + ")");
  const auto room = make_room(place, false);
  if (!room) return std::unexpected(room.error());
  if (auto counted = account_entry(place.name, attribute_bytes(entry)); !counted) return counted;
  const std::int64_t before = counts_.bytes;
  const File file(openat(place.parent, place.name.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return system_error("make the file", errno);
  if (auto copied = copy_content(file.get(), content); !copied) return copied;
  if (ftruncate(file.get(), size) != 0) return system_error("set the size", errno);
  if (counts_.bytes == before)
    if (auto counted = account(kBlock); !counted) return counted;
  return set_attributes(file.get(), entry, limits_);
}

Result<void> LayerWriter::make_symlink(const Place& place, struct archive_entry* entry) {
  const char* target = archive_entry_symlink(entry);
  if (!target || !*target) return corrupt("a symlink without a target");
  if (std::strlen(target) > limits_.path_bytes) return corrupt("a symlink's target is too long");
  const auto room = make_room(place, false);
  if (!room) return std::unexpected(room.error());
  if (auto counted = account_entry(place.name, static_cast<std::int64_t>(std::strlen(target)));
      !counted)
    return counted;
  if (symlinkat(target, place.parent, place.name.c_str()) != 0)
    return system_error("make the symlink", errno);
  return set_symlink_attributes(place.parent, place.name, entry);
}

Result<void> LayerWriter::make_hard_link(const Place& place, const std::string& target) {
  const auto parts = split_path(target, limits_.path_bytes, limits_.depth);
  if (!parts) return std::unexpected(parts.error());
  if (parts->empty()) return corrupt("a hard link to the root");
  const auto from = walk(*parts, false);
  if (!from) return std::unexpected(from.error());
  const char* name = parts->back().c_str();
  struct stat about {
  }, mine{};
  if (fstatat(from->get(), name, &about, AT_SYMLINK_NOFOLLOW) != 0)
    return corrupt("a hard link to " + target.substr(0, 200) + ", which is not in the layer");
  if (!S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode))
    return corrupt("a hard link to " + target.substr(0, 200) + ", which is no file");
  if (fstatat(place.parent, place.name.c_str(), &mine, AT_SYMLINK_NOFOLLOW) == 0 &&
      mine.st_ino == about.st_ino && mine.st_dev == about.st_dev)
    return {};  // a link to itself
  const auto room = make_room(place, false);
  if (!room) return std::unexpected(room.error());
  if (auto counted = account_name(place.name); !counted) return counted;
  if (linkat(from->get(), name, place.parent, place.name.c_str(), 0) == 0) return {};
  if (errno == ENOENT) return corrupt("a hard link to what it replaces");
  return system_error("make the hard link", errno);
}

Result<void> LayerWriter::write(const std::string& path, struct archive_entry* entry,
                                const Content& content) {
  if (++counts_.entries > limits_.entries)
    return fail(Error::Kind::invalid,
                "more than " + std::to_string(limits_.entries) + " entries");
  const auto parts = split_path(path, limits_.path_bytes, limits_.depth);
  if (!parts) return std::unexpected(parts.error());
  const auto type = archive_entry_filetype(entry);
  const char* link = archive_entry_hardlink(entry);
  if (parts->empty()) {
    if (type != AE_IFDIR || link) return corrupt("the root is not a directory");
    if (auto set = set_attributes(root_, entry, limits_); !set) return set;
    return remember_time(*parts, entry);
  }
  const auto hidden = [](const std::string& part) { return part.starts_with(kWhiteout); };
  const bool within_hidden = std::any_of(parts->begin(), parts->end() - 1, hidden);
  const std::string& name = parts->back();
  const bool aufs = name.starts_with(kAufs) && name != kOpaqueMarker;
  const bool special = !link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK;
  if (within_hidden || aufs || (special && !hidden(name))) {
    ++counts_.skipped;
    return {};
  }
  const auto place = locate(*parts);
  if (!place) return std::unexpected(place.error());
  if (name == kOpaqueMarker) {
    ++counts_.whiteouts;
    return make_opaque(place->parent);
  }
  if (hidden(name)) return white_out(*place, name.substr(kWhiteout.size()));
  Result<void> made;
  if (link)
    made = make_hard_link(*place, link);
  else if (type == AE_IFDIR)
    made = make_directory(*place, entry, *parts);
  else if (type == AE_IFLNK)
    made = make_symlink(*place, entry);
  else
    made = make_file(*place, entry, content);
  return made;
}

Result<void> LayerWriter::finish() {
  for (const auto& [parts, time] : directory_times_) {
    std::vector<std::string> inside = parts;
    inside.emplace_back();  // walk opens what holds the last part
    // A directory that a later entry replaced has no time to set.
    const auto directory = walk(inside, false);
    if (!directory) continue;
    const timespec times[2] = {time, time};
    if (futimens(directory->get(), times) != 0)
      return system_error("set the time of a directory", errno);
  }
  return {};
}

}  // namespace chalk::images
