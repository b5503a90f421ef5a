#include "adapters/identity/private_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace chalk::identity {
namespace {

constexpr std::size_t kBytesMax = 64 * 1024;

std::unexpected<Error> failed(const std::string& path, const char* doing) {
  const int code = errno;
  return fail(code == ENOSPC ? Error::Kind::exhausted : Error::Kind::failed,
              path + ": cannot " + doing + ": " + std::strerror(code));
}

struct File {
  int number = -1;
  ~File() {
    if (number >= 0) close(number);
  }
};

bool write_all(int file, std::string_view content) {
  while (!content.empty()) {
    const ssize_t count = write(file, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

Result<void> make_private_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed(path, "make the directory");
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return failed(path, "look at");
  if (!S_ISDIR(found.st_mode)) return fail(Error::Kind::invalid, path + ": is not a directory");
  if (chmod(path.c_str(), 0700) != 0) return failed(path, "set mode 0700 of");
  return {};
}

Result<void> write_private_file(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".new";
  unlink(temporary.c_str());  // what a crash may have left
  File file{open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.number < 0) return failed(temporary, "create");
  if (fchmod(file.number, 0600) != 0 || !write_all(file.number, content) ||
      fsync(file.number) != 0) {
    return failed(temporary, "write");
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return failed(path, "put in place");
  const auto slash = path.rfind('/');
  const std::string directory = slash == path.npos ? "." : path.substr(0, slash + 1);
  const File parent{open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (parent.number < 0 || fsync(parent.number) != 0) return failed(directory, "sync");
  return {};
}

Result<std::optional<std::string>> read_private_file(const std::string& path) {
  const File file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (file.number < 0 && errno == ENOENT) return std::nullopt;
  struct stat found {};
  if (file.number < 0 || fstat(file.number, &found) != 0) return failed(path, "open");
  if ((found.st_mode & 077) != 0) {
    return fail(Error::Kind::denied, path + ": others may read or write it; expected mode 0600");
  }
  if (!S_ISREG(found.st_mode) || found.st_size > static_cast<off_t>(kBytesMax)) {
    return fail(Error::Kind::corrupt,
                path + ": expected a file of at most " + std::to_string(kBytesMax) + " bytes");
  }
  std::string content(static_cast<std::size_t>(found.st_size), '\0');
  const ssize_t count = pread(file.number, content.data(), content.size(), 0);
  if (count != found.st_size) return failed(path, "read");
  return content;
}

}  // namespace chalk::identity
