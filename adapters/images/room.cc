#include "adapters/images/room.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace chalk::images {
namespace {

constexpr std::int64_t kByteStep = 16 << 20;
constexpr std::int64_t kFileStep = 1024;
constexpr std::int64_t kFilesKept = 10'000;  // or a tenth, of a small file system

std::string shown(Room::Free amount) {
  return std::to_string(std::max<std::int64_t>(amount.bytes, 0)) + " bytes and " +
         std::to_string(std::max<std::int64_t>(amount.files, 0)) + " files";
}

}  // namespace

Room::Share::Share(Share&& other) noexcept
    : room_(std::exchange(other.room_, nullptr)), left_(std::exchange(other.left_, {})) {}

Room::Share::~Share() {
  if (!room_) return;
  const std::scoped_lock lock(room_->mutex_);
  room_->reserved_.bytes -= left_.bytes;
  room_->reserved_.files -= left_.files;
}

Result<void> Room::Share::take(std::int64_t bytes, std::int64_t files) {
  if (left_.bytes < bytes || left_.files < files) {
    if (auto grown = room_->grow(*this, {bytes - left_.bytes, files - left_.files}, true);
        !grown)
      return grown;
  }
  const std::scoped_lock lock(room_->mutex_);
  left_.bytes -= bytes;
  left_.files -= files;
  room_->reserved_.bytes -= bytes;
  room_->reserved_.files -= files;
  return {};
}

Result<Room::Share> Room::reserve(std::int64_t bytes) {
  Share share;
  share.room_ = this;
  if (auto grown = grow(share, {bytes, 0}, false); !grown) return std::unexpected(grown.error());
  return share;
}

// In steps, so that the file system is not asked at every write; short ones where little is left.
Result<void> Room::grow(Share& share, Free needed, bool in_steps) {
  const std::scoped_lock lock(mutex_);
  const Free free = free_now();
  const auto part = [&](std::int64_t wanted, std::int64_t step, std::int64_t there) {
    if (wanted <= 0) return std::int64_t{0};
    return in_steps ? std::max(wanted, std::min(step, there / 8)) : wanted;
  };
  const std::int64_t bytes = part(needed.bytes, kByteStep, free.bytes);
  const std::int64_t files = part(needed.files, kFileStep, free.files);
  if ((bytes > 0 && bytes > free.bytes) || (files > 0 && files > free.files))
    return fail(Error::Kind::exhausted, "the disk has room for " + shown(free) +
                                            " more, of a layer that needs " + shown(needed));
  share.left_.bytes += bytes;
  share.left_.files += files;
  reserved_.bytes += bytes;
  reserved_.files += files;
  return {};
}

Room::Free Room::free_now() const {
  struct statvfs about {};
  if (fstatvfs(directory_, &about) != 0) return {};
  Free free;
  free.bytes = static_cast<std::int64_t>(about.f_bavail) *
                   static_cast<std::int64_t>(about.f_frsize) -
               keep_free_bytes_ - reserved_.bytes;
  // Some file systems make them as they are needed, and say 0 of 0.
  const auto files = static_cast<std::int64_t>(about.f_files);
  free.files = files == 0 ? std::numeric_limits<std::int64_t>::max() / 2
                          : static_cast<std::int64_t>(about.f_favail) -
                                std::min(kFilesKept, files / 10);
  free.files -= reserved_.files;
  return free;
}

}  // namespace chalk::images
