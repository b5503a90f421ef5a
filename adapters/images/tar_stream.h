// The uncompressed bytes of a layer, out of libarchive's filters, hashed and counted on their way.
// Only the compression that the media type names is tried: a blob cannot choose a parser for
// itself.
#pragma once
#include <archive.h>

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "adapters/error.h"
#include "adapters/images/digest.h"
#include "adapters/images/unpack.h"

namespace chalk::images {

struct FreeArchive {
  void operator()(struct archive* archive) const { archive_read_free(archive); }
};
using Archive = std::unique_ptr<struct archive, FreeArchive>;

class TarStream {
 public:
  // Reads `blob` from its start. `bytes` on it is the blob's size, for the ratio.
  TarStream(int blob, Compression compression, const UnpackLimits& limits, std::stop_token stop);

  Result<void> open();
  // An opened reader of tar over this stream; the stream must outlive it.
  Result<Archive> open_tar();
  // What libarchive's reader of tar left: the hash covers everything up to the end.
  Result<std::string> finish();
  // Set once anything went wrong here; the reader of tar only sees a failed read.
  const Result<void>& state() const { return state_; }

 private:
  static la_ssize_t read(struct archive*, void* self, const void** data);
  // Points to the next bytes, or has none at the end. False on an error.
  bool next(const void** data, std::size_t* size);

  int blob_;
  Compression compression_;
  const UnpackLimits& limits_;
  std::stop_token stop_;
  Archive filter_;
  Sha256 hash_;
  std::int64_t blob_bytes_ = 0;
  std::int64_t bytes_ = 0;
  bool ended_ = false;
  Result<void> state_;
};

}  // namespace chalk::images
