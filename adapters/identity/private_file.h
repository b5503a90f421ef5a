// Files that only their owner reads (0600). Written whole or not at all, on the disk when the call
// returns: a temporary file beside it, synced, then renamed.
#pragma once
#include <optional>
#include <string>

#include "adapters/error.h"

namespace chalk::identity {

Result<void> make_private_directory(const std::string& path);  // 0700; its parent must exist
Result<void> write_private_file(const std::string& path, const std::string& content);
// Nothing where there is none. A file that others may read is refused (denied).
Result<std::optional<std::string>> read_private_file(const std::string& path);

}  // namespace chalk::identity
