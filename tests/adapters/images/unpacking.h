// Unpacks bytes into a folder the way a Store does, for tests of the rules.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "adapters/images/tree.h"
#include "adapters/images/unpack.h"
#include "tests/adapters/images/layers.h"
#include "tests/adapters/images/scratch.h"

namespace chalk::images::testing {

inline Result<Unpacked> unpack_bytes(const std::string& bytes, Compression compression,
                                     const std::string& root, const std::string& diff_id = "",
                                     const UnpackLimits& limits = {}) {
  const std::string path = root + ".blob";
  const File blob(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  unlink(path.c_str());
  if (!blob || write(blob.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return system_error(path, errno);
  const File directory(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return unpack_layer(blob.get(), compression, directory.get(), diff_id, limits);
}

inline Result<Unpacked> unpack_items(const std::vector<Item>& items, const std::string& root,
                                     const UnpackLimits& limits = {}) {
  return unpack_bytes(make_tar(items), Compression::none, root, "", limits);
}

}  // namespace chalk::images::testing
