#include "adapters/images/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace chalk::images {

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::unexpected<Error> system_error(const std::string& what, int code) {
  const bool full = code == ENOSPC || code == EDQUOT;
  return fail(full ? Error::Kind::exhausted : Error::Kind::failed,
              what + ": " + std::strerror(code));
}

Result<std::vector<std::string>> split_path(std::string_view path, std::size_t path_bytes,
                                            std::size_t depth) {
  if (path.size() > path_bytes)
    return fail(Error::Kind::corrupt, "a path of " + std::to_string(path.size()) +
                                          " bytes, at most " + std::to_string(path_bytes));
  if (path.find('\0') != std::string_view::npos)
    return fail(Error::Kind::corrupt, "a path with a zero byte");
  std::vector<std::string> parts;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), part.size() + 1));
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Error::Kind::corrupt, "a path with \"..\"");
    if (part.size() > 255) return fail(Error::Kind::corrupt, "a name of more than 255 bytes");
    if (parts.size() == depth)
      return fail(Error::Kind::corrupt, "a path of more than " + std::to_string(depth) + " parts");
    parts.emplace_back(part);
  }
  return parts;
}

File open_directory(int parent, const std::string& name) {
  return File(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

namespace {

// The first entry of a directory that unlinkat does not remove: a directory; empty when all are
// gone.
Result<std::string> remove_files(int directory, const std::string& name) {
  const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = copy < 0 ? nullptr : fdopendir(copy);
  if (!stream) {
    const int code = errno;
    if (copy >= 0) close(copy);
    return system_error("remove " + name, code);
  }
  std::string below;
  int code = 0;
  while (const dirent* entry = readdir(stream)) {
    const std::string_view found = entry->d_name;
    if (found == "." || found == ".." || unlinkat(directory, entry->d_name, 0) == 0) continue;
    if (errno == EISDIR) {
      below = found;
      break;
    }
    code = errno;
    break;
  }
  closedir(stream);
  if (code) return system_error("remove " + name, code);
  return below;
}

}  // namespace

Result<void> remove_tree(int parent, const std::string& name) {
  if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR) return system_error("remove " + name, errno);
  struct Level {
    File directory;
    std::string name;
  };
  std::vector<Level> levels;
  levels.push_back({open_directory(parent, name), name});
  while (!levels.empty()) {
    Level& level = levels.back();
    if (!level.directory) return system_error("remove " + level.name, errno);
    const auto below = remove_files(level.directory.get(), level.name);
    if (!below) return std::unexpected(below.error());
    if (!below->empty()) {
      levels.push_back({open_directory(level.directory.get(), *below), *below});
      continue;
    }
    const std::string gone = level.name;
    levels.pop_back();
    const int above = levels.empty() ? parent : levels.back().directory.get();
    if (unlinkat(above, gone.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return system_error("remove " + gone, errno);
  }
  return {};
}

}  // namespace chalk::images
