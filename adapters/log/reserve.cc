#include "adapters/log/reserve.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

namespace chalk::log {
namespace {

// Of the disk that the file is on, or is to be on.
std::int64_t free_bytes(const std::string& path) {
  struct statvfs about {};
  const std::string folder = std::filesystem::path(path).parent_path();
  if (statvfs(folder.empty() ? "." : folder.c_str(), &about) != 0) return 0;
  return static_cast<std::int64_t>(about.f_bavail) * static_cast<std::int64_t>(about.f_frsize);
}

}  // namespace

Reserve::Reserve(std::string path, std::int64_t bytes, std::chrono::milliseconds look_every)
    : path_(std::move(path)), bytes_(bytes), look_every_(look_every) {
  struct stat about {};
  there_ = lstat(path_.c_str(), &about) == 0 && S_ISREG(about.st_mode) &&
           about.st_blocks * 512 >= bytes_;
  if (!there_) make();
}

void Reserve::give_back_if_full() {
  const std::lock_guard lock(mutex_);
  if (!there_ || free_bytes(path_) > bytes_ / 8) return;  // it failed for something else
  there_ = unlink(path_.c_str()) != 0;
  next_look_ = std::chrono::steady_clock::now() + look_every_;
}

void Reserve::make_if_room() {
  const std::lock_guard lock(mutex_);
  if (there_ || std::chrono::steady_clock::now() < next_look_) return;
  make();
}

void Reserve::make() {
  next_look_ = std::chrono::steady_clock::now() + look_every_;
  unlink(path_.c_str());  // what a crash may have left of it
  if (free_bytes(path_) < 2 * bytes_) return;
  const int file = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return;
  there_ = fallocate(file, 0, 0, bytes_) == 0;
  close(file);
  if (!there_) unlink(path_.c_str());
}

}  // namespace chalk::log
