#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <limits>
#include <memory>

#include "guest/commands.h"
#include "guest/report.h"

namespace chalk::guest {
namespace {

constexpr std::size_t kChunk = 256 * 1024;

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

// Opens a regular file, or returns the error number that says why not.
int open_regular(const std::string& path, int flags, Descriptor& file, struct stat& about) {
  // O_NONBLOCK: the open of a pipe without a partner must not wait for one.
  file.number = open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file.number < 0) return errno;
  if (fstat(file.number, &about) != 0) return errno;
  if (S_ISDIR(about.st_mode)) return EISDIR;
  return S_ISREG(about.st_mode) ? 0 : EINVAL;
}

// Copies up to limit bytes; the count, or -1 with errno set and `place` naming the side that
// failed.
std::int64_t copy(int from, int to, std::int64_t limit, const char*& place) {
  const auto buffer = std::make_unique<char[]>(kChunk);
  std::int64_t copied = 0;
  while (copied < limit) {
    const auto wanted = static_cast<std::size_t>(std::min<std::int64_t>(limit - copied, kChunk));
    const ssize_t got = ::read(from, buffer.get(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      place = "read";
      return -1;
    }
    if (got == 0) break;
    if (!write_all(to, {buffer.get(), static_cast<std::size_t>(got)})) {
      place = "write";
      return -1;
    }
    copied += got;
  }
  return copied;
}

// Where a write ends up: what a symbolic link leads to, as with any other write. A link that leads
// nowhere yet stays as it is, and the write goes through it.
std::string resolved(const std::string& path) {
  struct stat about;
  if (lstat(path.c_str(), &about) != 0 || !S_ISLNK(about.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real ? real.get() : path;
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// An end of a name that no other file has.
std::string drawn() {
  std::uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) {
    number = static_cast<std::uint64_t>(getpid());
  }
  return std::to_string(number);
}

// A process of its own that removes a file when this one ends without a word: who gives up on a
// write kills it.
class Heir {
 public:
  explicit Heir(const std::string& file) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    child_ = fork();
    if (child_ == 0) {
      close(ends[1]);
      for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(standard);
      char word;
      ssize_t got;
      while ((got = ::read(ends[0], &word, 1)) < 0 && errno == EINTR) {
      }
      if (got == 0) unlink(file.c_str());
      _exit(0);
    }
    close(ends[0]);
    told_.number = ends[1];
  }
  ~Heir() {
    if (child_ <= 0) return;
    const bool told = write_all(told_.number, "x");
    while (told && waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Heir(const Heir&) = delete;
  Heir& operator=(const Heir&) = delete;

 private:
  pid_t child_ = -1;
  Descriptor told_;
};

// One write into one file. Standard input goes to a new file beside the target, which then takes
// the target's place: readers see the old content or the new, and a write that ends early changes
// nothing.
class Write {
 public:
  Write(std::string path, const Arguments& arguments)
      : path_(std::move(path)), arguments_(arguments), target_(resolved(path_)) {}
  ~Write() {
    if (!scratch_path_.empty()) unlink(scratch_path_.c_str());
  }

  int run() {
    if (path_.ends_with('/')) return failed(EISDIR, "write " + path_);
    if (arguments_.has("parents")) {
      if (const int error = make_parents(target_)) return failed(error, "write " + path_);
    }
    exists_ = ::stat(target_.c_str(), &before_) == 0;
    if (!exists_ && errno != ENOENT) return failed(errno, "write " + path_);
    if (exists_ && S_ISDIR(before_.st_mode)) return failed(EISDIR, "write " + path_);
    if (exists_ && !S_ISREG(before_.st_mode)) {
      return failed(EINVAL, "write " + path_ + " is not a regular file");
    }
    // Replacing needs no right to write to the file itself; a file that may not be written stays.
    if (exists_ && faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) {
      return failed(errno, "write " + path_);
    }
    struct stat link;
    const bool dangling = !exists_ && lstat(target_.c_str(), &link) == 0 && S_ISLNK(link.st_mode);
    if (arguments_.has("append") || dangling) return in_place(STDIN_FILENO);
    return replace();
  }

 private:
  mode_t mode() const {
    if (arguments_.has("mode")) return static_cast<mode_t>(arguments_.get("mode", 0));
    if (exists_) return before_.st_mode & 07777;
    const mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
  }

  // Copies all of the input; false when it failed, which is reported, or was not of the promised
  // size.
  bool take(int from, int to) {
    const char* place = "";
    size_ = copy(from, to, std::numeric_limits<std::int64_t>::max(), place);
    if (size_ < 0) {
      failed(errno, "write " + path_ + ", " + place);
      return false;
    }
    const std::int64_t promised = arguments_.get("size", size_);
    if (size_ != promised) {
      failed(EPIPE, "write " + path_ + ": expected " + std::to_string(promised) + " bytes, found " +
                        std::to_string(size_));
      return false;
    }
    return true;
  }

  int done() const { return Line().number("size", size_).print() ? kDone : kFailed; }

  int in_place(int from) {
    Descriptor file;
    const int flags = O_WRONLY | O_CREAT | (arguments_.has("append") ? O_APPEND : O_TRUNC);
    file.number = open(target_.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (file.number < 0) return failed(errno, "write " + path_);
    if (!take(from, file.number)) return kFailed;
    if (arguments_.has("mode") && fchmod(file.number, mode()) != 0) {
      return failed(errno, "write " + path_);
    }
    return done();
  }

  int replace() {
    const std::string name =
        directory_of(target_) + "/" + (exists_ ? kReplacing : kCreating) + drawn();
    const Heir heir(name);  // before there is anything to leave behind
    Descriptor scratch;
    scratch.number = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (scratch.number < 0) {
      // A directory that takes no new file may hold one that can be written.
      const int error = errno;
      const bool refused = error == EACCES || error == EPERM || error == EROFS;
      return exists_ && refused ? in_place(STDIN_FILENO) : failed(error, "write " + path_);
    }
    scratch_path_ = name;
    if (!take(STDIN_FILENO, scratch.number)) return kFailed;
    // The owner first: a change of owner takes set-user-ID away. It fails without the right to, and
    // then the file belongs to who wrote it.
    if (exists_ && fchown(scratch.number, before_.st_uid, before_.st_gid) != 0 && errno != EPERM) {
      return failed(errno, "write " + path_);
    }
    if (fchmod(scratch.number, mode()) != 0) return failed(errno, "write " + path_);
    if (::rename(name.c_str(), target_.c_str()) == 0) {
      scratch_path_.clear();
      return done();
    }
    // A file that is a mount of its own cannot be replaced, only filled.
    if (!exists_ || (errno != EBUSY && errno != EXDEV)) return failed(errno, "write " + path_);
    if (lseek(scratch.number, 0, SEEK_SET) != 0) return failed(errno, "write " + path_);
    return in_place(scratch.number);
  }

  const std::string path_;
  const Arguments& arguments_;
  const std::string target_;
  std::string scratch_path_;  // unlinked at the end while not empty
  struct stat before_ = {};
  bool exists_ = false;
  std::int64_t size_ = 0;
};

}  // namespace

int read_file(const Arguments& arguments) {
  const std::string& path = arguments.places[0];
  Descriptor file;
  struct stat about;
  if (const int error = open_regular(path, O_RDONLY, file, about)) {
    return failed(error, "read " + path + (error == EINVAL ? " is not a regular file" : ""));
  }
  const std::int64_t offset = arguments.get("offset", 0);
  if (offset > 0 && lseek(file.number, offset, SEEK_SET) < 0) {
    return failed(errno, "read " + path + " from " + std::to_string(offset));
  }
  const char* place = "";
  const std::int64_t limit = arguments.get("limit", std::numeric_limits<std::int64_t>::max());
  if (copy(file.number, STDOUT_FILENO, limit, place) < 0) {
    return failed(errno, "read " + path + ", " + place);
  }
  return kDone;
}

int write_file(const Arguments& arguments) { return Write(arguments.places[0], arguments).run(); }

}  // namespace chalk::guest
