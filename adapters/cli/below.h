// Whether a name that a sandbox gave stays below the directory that it is put under.
#pragma once
#include <filesystem>
#include <string>

namespace chalk::cli {

// Relative, of parts that are names. The system reads a part only as far as its first zero byte, and
// so would see "..\0x" as "..": no name of a file has one.
inline bool lies_below(const std::string& name) {
  const std::filesystem::path path(name);
  if (path.empty() || path.is_absolute() || name.find('\0') != std::string::npos) return false;
  for (const std::filesystem::path& part : path) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

}  // namespace chalk::cli
