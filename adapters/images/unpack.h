// Unpacks one layer (tar, gzip or zstd) into a directory in the form overlayfs reads. The archive
// is hostile until proven otherwise:
//  - every path is walked from the root's descriptor, component by component, never over a symlink:
//    one where a directory is needed is refused, as is ".."; absolute paths lose their slash;
//  - hard links must name a file that is already inside the root; symlinks are stored as they are;
//  - device nodes, fifos and sockets are skipped and counted (a sandbox gets its own /dev);
//  - whiteouts: ".wh.name" becomes the character device 0:0, ".wh..wh..opq" the attribute
//    trusted.overlay.opaque=y; other ".wh..wh." names (AUFS' own) are skipped. An archive cannot
//    bring overlayfs' own form: of attributes only user.* and security.capability are kept;
//  - setuid, setgid, sticky, owner and modification times are kept;
//  - entries and bytes are bounded (Error::invalid), and all that is made is taken from a share of
//    the disk's room, if there is one (Error::exhausted); ratio, path length, depth
//    and attributes too (Error::corrupt, like all that breaks a rule). Errors name the entry.
// The uncompressed stream is hashed while it is read and must match diff_id. A directory that only
// this layer has and that holds whiteouts is listed by overlayfs with their names, without files.
#pragma once
#include <cstdint>
#include <stop_token>
#include <string>

#include "adapters/error.h"
#include "adapters/images/image.h"
#include "adapters/images/room.h"

namespace chalk::images {

struct UnpackLimits {
  std::int64_t entries = 2'000'000;
  // Of the uncompressed tar, and of all files together.
  std::int64_t bytes = std::int64_t{128} << 30;
  // Uncompressed bytes may be `ratio` times the blob, once they are more than ratio_from.
  std::int64_t ratio = 200;
  std::int64_t ratio_from = std::int64_t{256} << 20;
  std::size_t path_bytes = 4095;
  std::size_t depth = 256;                // components of a path
  std::size_t attributes = 32;            // per entry
  std::size_t attribute_bytes = 1 << 16;  // value of one
};

struct Unpacked {
  // On disk, in blocks of 4 KiB: content, one at least for what has an inode, names, attributes.
  std::int64_t bytes = 0;
  std::int64_t entries = 0;    // read from the archive
  std::int64_t whiteouts = 0;  // of both kinds
  std::int64_t skipped = 0;    // devices, fifos, sockets
  std::string diff_id;         // of the uncompressed stream
  bool operator==(const Unpacked&) const = default;
};

// Reads the layer from the start of `blob` and writes below the directory `root`, which must be
// empty. An empty `diff_id` is not compared. After an error the directory holds leftovers for the
// caller to remove.
Result<Unpacked> unpack_layer(int blob, Compression compression, int root,
                              const std::string& diff_id, const UnpackLimits& limits = {},
                              std::stop_token stop = {}, Room::Share* share = nullptr);

}  // namespace chalk::images
