#include "adapters/images/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

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

// A directory that is being emptied: its stream goes on after each child, since reading it from the
// start for every child would take quadratic time.
struct Level {
  std::unique_ptr<DIR, int (*)(DIR*)> stream{nullptr, closedir};
  std::string name;
  std::uint64_t removed = 0;  // of the whole tree, when it was last begun
  int get() const { return dirfd(stream.get()); }
};

Result<Level> enter_level(int parent, const std::string& name) {
  const int directory =
      openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  Level level;
  level.name = name;
  level.stream.reset(directory < 0 ? nullptr : fdopendir(directory));
  if (level.stream) return level;
  const int code = errno;
  if (directory >= 0) close(directory);
  return system_error("remove " + name, code);
}

class Remover {
 public:
  Remover(int parent, std::stop_token stop) : parent_(parent), stop_(std::move(stop)) {}

  Result<void> run(const std::string& name) {
    auto top = enter_level(parent_, name);
    if (!top) return std::unexpected(top.error());
    levels_.push_back(std::move(*top));
    while (!levels_.empty()) {
      const auto below = next_directory();
      if (!below) return std::unexpected(below.error());
      auto done = below->empty() ? leave() : go_into(*below);
      if (!done) return done;
    }
    return {};
  }

 private:
  // Removes what is no directory on the way. Empty: the stream is at its end.
  Result<std::string> next_directory() {
    const Level& level = levels_.back();
    while (const dirent* entry = readdir(level.stream.get())) {
      if (stop_.stop_requested()) return fail(Error::Kind::unavailable, "remove: stopped");
      const std::string_view found = entry->d_name;
      if (found == "." || found == "..") continue;
      if (unlinkat(level.get(), entry->d_name, 0) == 0) {
        ++removed_;
      } else if (errno == EISDIR) {
        return std::string(found);
      } else if (errno != ENOENT) {
        return system_error("remove " + level.name, errno);
      }
    }
    return std::string();
  }

  // Most are empty. One that lies too deep goes up to the top: descriptors are bounded, whatever
  // the depth is.
  Result<void> go_into(const std::string& name) {
    const int above = levels_.back().get();
    ++removed_;  // sooner or later
    if (unlinkat(above, name.c_str(), AT_REMOVEDIR) == 0) return {};
    if (levels_.size() == kOpenMax) return move_up(above, name);
    auto below = enter_level(above, name);
    if (!below) return std::unexpected(below.error());
    below->removed = removed_;
    levels_.push_back(std::move(*below));
    return {};
  }

  Result<void> move_up(int from, const std::string& name) {
    while (true) {
      const std::string place = std::to_string(moved_++);
      if (renameat2(from, name.c_str(), levels_.front().get(), place.c_str(), RENAME_NOREPLACE) ==
          0)
        return {};
      if (errno != EEXIST) return system_error("remove " + name, errno);
    }
  }

  // What was moved here meanwhile may have been missed: then once more from the start, as long as
  // that gets on.
  Result<void> leave() {
    const int above = levels_.size() == 1 ? parent_ : levels_[levels_.size() - 2].get();
    Level& level = levels_.back();
    if (unlinkat(above, level.name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      if (errno != ENOTEMPTY || level.removed == removed_)
        return system_error("remove " + level.name, errno);
      level.removed = removed_;
      rewinddir(level.stream.get());
      return {};
    }
    levels_.pop_back();
    return {};
  }

  static constexpr std::size_t kOpenMax = 32;
  const int parent_;
  const std::stop_token stop_;
  std::vector<Level> levels_;
  std::uint64_t moved_ = 0;
  std::uint64_t removed_ = 0;
};

}  // namespace

Result<void> remove_tree(int parent, const std::string& name, std::stop_token stop) {
  if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR) return system_error("remove " + name, errno);
  return Remover(parent, std::move(stop)).run(name);
}

}  // namespace chalk::images
