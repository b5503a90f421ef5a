#include "adapters/images/tar_stream.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace chalk::images {
namespace {

std::string words(struct archive* archive) {
  const char* text = archive_error_string(archive);
  return text ? text : "no reason given";
}

}  // namespace

TarStream::TarStream(int blob, Compression compression, const UnpackLimits& limits,
                     std::stop_token stop)
    : blob_(blob), compression_(compression), limits_(limits), stop_(std::move(stop)) {}

Result<void> TarStream::open() {
  struct stat about {};
  if (fstat(blob_, &about) != 0 || lseek(blob_, 0, SEEK_SET) != 0)
    return fail(Error::Kind::failed, "layer: the blob's file cannot be read from its start");
  blob_bytes_ = about.st_size;
  filter_.reset(archive_read_new());
  if (!filter_) return fail(Error::Kind::failed, "layer: no memory");
  archive_read_support_format_raw(filter_.get());
  archive_read_support_format_empty(filter_.get());
  if (compression_ == Compression::gzip) archive_read_support_filter_gzip(filter_.get());
  if (compression_ == Compression::zstd) archive_read_support_filter_zstd(filter_.get());
  struct archive_entry* entry = nullptr;
  int code = archive_read_open_fd(filter_.get(), blob_, 128 << 10);
  if (code == ARCHIVE_OK) code = archive_read_next_header(filter_.get(), &entry);
  if (code == ARCHIVE_EOF) {
    ended_ = true;
    return {};
  }
  if (code != ARCHIVE_OK) return fail(Error::Kind::corrupt, "layer: " + words(filter_.get()));
  // libarchive takes bytes that are not compressed as they are; the media type said otherwise.
  if (compression_ != Compression::none && archive_filter_count(filter_.get()) < 2)
    return fail(Error::Kind::corrupt, "layer: the blob is not compressed as its media type says");
  return {};
}

bool TarStream::next(const void** data, std::size_t* size) {
  *data = nullptr;
  *size = 0;
  while (!ended_ && *size == 0) {
    if (stop_.stop_requested()) {
      state_ = fail(Error::Kind::unavailable, "layer: stopped");
      return false;
    }
    la_int64_t offset = 0;
    const int code = archive_read_data_block(filter_.get(), data, size, &offset);
    if (code == ARCHIVE_EOF) {
      ended_ = true;
      *size = 0;
    } else if (code != ARCHIVE_OK) {
      state_ = fail(Error::Kind::corrupt, "layer: " + words(filter_.get()));
      return false;
    }
  }
  hash_.update(*data, *size);
  bytes_ += static_cast<std::int64_t>(*size);
  if (bytes_ > limits_.bytes) {
    state_ = fail(Error::Kind::invalid,
                  "layer: unpacks to more than " + std::to_string(limits_.bytes) + " bytes");
    return false;
  }
  if (bytes_ > limits_.ratio_from && bytes_ / limits_.ratio > blob_bytes_) {
    state_ = fail(Error::Kind::corrupt, "layer: " + std::to_string(blob_bytes_) +
                                            " bytes unpack to more than " +
                                            std::to_string(limits_.ratio) + " times as many");
    return false;
  }
  return true;
}

la_ssize_t TarStream::read(struct archive* archive, void* self, const void** data) {
  std::size_t size = 0;
  if (static_cast<TarStream*>(self)->next(data, &size)) return static_cast<la_ssize_t>(size);
  archive_set_error(archive, EIO, "the stream below failed");
  return -1;
}

Result<Archive> TarStream::open_tar() {
  Archive tar(archive_read_new());
  if (!tar) return fail(Error::Kind::failed, "layer: no memory");
  archive_read_support_format_tar(tar.get());
  archive_read_support_format_empty(tar.get());
  if (archive_read_open(tar.get(), this, nullptr, read, nullptr) == ARCHIVE_OK) return tar;
  if (!state_) return std::unexpected(state_.error());
  return fail(Error::Kind::corrupt, "layer: " + words(tar.get()));
}

Result<std::string> TarStream::finish() {
  const void* data = nullptr;
  std::size_t size = 0;
  do {
    if (!next(&data, &size)) return std::unexpected(state_.error());
  } while (size > 0);
  return hash_.digest();
}

}  // namespace chalk::images
