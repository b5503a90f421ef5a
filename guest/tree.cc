#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <memory>

#include "guest/commands.h"
#include "guest/report.h"

namespace chalk::guest {
namespace {

constexpr std::int64_t kEntries = 10'000;  // of a list, unless --max says otherwise
// Each open level costs a descriptor; deeper trees than this are told apart by an error.
constexpr int kDepth = 200;

const char* type_of(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "directory";
  if (S_ISLNK(mode)) return "symlink";
  if (S_ISFIFO(mode)) return "fifo";
  if (S_ISSOCK(mode)) return "socket";
  return S_ISCHR(mode) ? "character" : "block";
}

struct Closer {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, Closer>;

// A directory below another, never through a symbolic link; errno says why it is null.
Directory open_directory(int parent, const char* name, int more_flags = O_NOFOLLOW) {
  const int descriptor =
      openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | more_flags);
  if (descriptor < 0) return nullptr;
  Directory directory(fdopendir(descriptor));
  if (!directory) close(descriptor);
  return directory;
}

// Names but "." and "..", sorted, at most `most`; 0 or an error number.
int names_in(DIR* directory, std::size_t most, std::vector<std::string>& names) {
  while (names.size() < most) {
    errno = 0;
    const dirent* entry = readdir(directory);
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return errno;
}

Line describe(const std::string& name, const struct stat& about, int parent, const char* link) {
  Line line;
  line.text("name", name).text("type", type_of(about.st_mode)).number("size", about.st_size);
  line.number("mode", about.st_mode & 07777);
  line.number("mtime_ns",
              std::int64_t{about.st_mtim.tv_sec} * 1'000'000'000 + about.st_mtim.tv_nsec);
  line.number("uid", about.st_uid).number("gid", about.st_gid);
  if (S_ISLNK(about.st_mode)) {
    char target[PATH_MAX];
    const ssize_t length = readlinkat(parent, link, target, sizeof target);
    if (length >= 0) line.text("target", {target, static_cast<std::size_t>(length)});
  }
  return line;
}

class Listing {
 public:
  Listing(bool recursive, std::int64_t most) : recursive_(recursive), left_(most) {}

  // False when the list is full or nobody reads it.
  bool add(DIR* directory, const std::string& prefix, int depth) {
    std::vector<std::string> names;
    // One more than fits, to see that something is left out.
    const int error = names_in(directory, static_cast<std::size_t>(left_) + 1, names);
    if (error != 0) Line().text("name", prefix).text("error", error_name(error)).print();
    for (const std::string& name : names) {
      if (left_ == 0) {
        Line().flag("truncated", true).print();
        return false;
      }
      --left_;
      if (!one(dirfd(directory), name, prefix + name, depth)) return false;
    }
    return true;
  }

 private:
  bool one(int parent, const std::string& name, const std::string& full, int depth) {
    struct stat about;
    if (fstatat(parent, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
      return errno == ENOENT ||  // removed since its name was read
             Line().text("name", full).text("error", error_name(errno)).print();
    }
    Line line = describe(full, about, parent, name.c_str());
    Directory inside;
    if (recursive_ && S_ISDIR(about.st_mode)) {
      if (depth < kDepth) inside = open_directory(parent, name.c_str());
      if (!inside) line.text("error", depth < kDepth ? error_name(errno) : "ELOOP");
    }
    if (!line.print()) return false;
    return !inside || add(inside.get(), full + "/", depth + 1);
  }

  const bool recursive_;
  std::int64_t left_;
};

// Removes a name and all below it; 0 or an error number, with `place` naming what could not be
// removed.
int remove_tree(int parent, const std::string& name, const std::string& full, int depth,
                std::string& place) {
  place = full;
  if (unlinkat(parent, name.c_str(), 0) == 0) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  struct stat about;
  const int refused = errno;
  if (fstatat(parent, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) return errno;
  if (!S_ISDIR(about.st_mode)) return refused;
  if (depth >= kDepth) return ELOOP;
  Directory directory = open_directory(parent, name.c_str());
  if (!directory) return errno;
  while (true) {
    // In portions, so that a directory of millions of names needs little memory.
    std::vector<std::string> names;
    rewinddir(directory.get());
    if (const int error = names_in(directory.get(), kEntries, names)) return error;
    if (names.empty()) break;
    for (const std::string& inside : names) {
      const int error =
          remove_tree(dirfd(directory.get()), inside, full + "/" + inside, depth + 1, place);
      // What somebody else removed meanwhile is removed.
      if (error != 0 && error != ENOENT) return error;
    }
  }
  place = full;
  return unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

int list(const Arguments& arguments) {
  const std::string& path = arguments.places[0];
  const Directory directory = open_directory(AT_FDCWD, path.c_str(), 0);
  if (!directory) return failed(errno, "list " + path);
  Listing(arguments.has("recursive"), arguments.get("max", kEntries)).add(directory.get(), "", 0);
  return kDone;
}

int stat(const Arguments& arguments) {
  const std::string& path = arguments.places[0];
  struct stat about;
  const int flags = arguments.has("follow") ? 0 : AT_SYMLINK_NOFOLLOW;
  if (fstatat(AT_FDCWD, path.c_str(), &about, flags) != 0) return failed(errno, "stat " + path);
  return describe(path, about, AT_FDCWD, path.c_str()).print() ? kDone : kFailed;
}

int remove(const Arguments& arguments) {
  const std::string path = without_slashes(arguments.places[0]);
  const std::string last = path.substr(path.rfind('/') + 1);
  if (last.empty() || last == "." || last == "..") return failed(EINVAL, "remove " + path);
  std::string place = path;
  int error = 0;
  if (arguments.has("recursive")) {
    error = remove_tree(AT_FDCWD, path, path, 0, place);
  } else if (::remove(path.c_str()) != 0) {
    error = errno;
  }
  return error == 0 ? kDone : failed(error, "remove " + place);
}

int make_parents(const std::string& path) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    struct stat about;
    if (::mkdir(parent.c_str(), 0777) == 0) continue;
    const int error = errno;
    if (::stat(parent.c_str(), &about) != 0) return error;
    if (!S_ISDIR(about.st_mode)) return ENOTDIR;
  }
  return 0;
}

int make_directory(const Arguments& arguments) {
  const std::string path = without_slashes(arguments.places[0]);
  if (arguments.has("parents")) {
    if (const int error = make_parents(path)) return failed(error, "mkdir " + path);
  }
  if (::mkdir(path.c_str(), 0777) != 0) {
    const int error = errno;
    struct stat about;
    const bool there = arguments.has("parents") && error == EEXIST &&
                       ::stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
    return there ? kDone : failed(error, "mkdir " + path);
  }
  // Not by mkdir's own argument: the umask would take bits away.
  if (arguments.has("mode") &&
      chmod(path.c_str(), static_cast<mode_t>(arguments.get("mode", 0))) != 0) {
    return failed(errno, "mkdir " + path);
  }
  return kDone;
}

int rename(const Arguments& arguments) {
  const std::string& from = arguments.places[0];
  const std::string& to = arguments.places[1];
  if (::rename(from.c_str(), to.c_str()) != 0) return failed(errno, "rename " + from + " to " + to);
  return kDone;
}

}  // namespace chalk::guest
