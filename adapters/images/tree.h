// Work on directory trees by descriptor, never following a symlink: what an archive put there
// cannot lead anything outside. Errors carry errno's words and the path below the root.
#pragma once
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adapters/error.h"

namespace chalk::images {

// Owns a file descriptor.
class File {
 public:
  File() = default;
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~File();

  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

// An error for a failed system call; a full disk is Error::exhausted.
std::unexpected<Error> system_error(const std::string& what, int code);

// The parts of a path of an archive without "." and empty ones. Refuses "..", zero bytes,
// components of more than 255 bytes, more than `path_bytes` and more than `depth` components.
Result<std::vector<std::string>> split_path(std::string_view path, std::size_t path_bytes,
                                            std::size_t depth);

// Opens a directory's entry that must itself be a directory.
File open_directory(int parent, const std::string& name);

// Removes a file or a whole tree in time that is linear in its entries, with bounded stack and
// descriptors. Nothing there is fine. Stopped: Error::unavailable, and the rest is still there.
Result<void> remove_tree(int parent, const std::string& name, std::stop_token stop = {});

}  // namespace chalk::images
