// What chalk-guest says: JSON lines on standard output for results, one JSON line on standard error
// for a failure. JSON is always valid UTF-8: bytes of a name that are not become U+FFFD, and a
// second member whose key ends in "_hex" then carries the exact bytes in hexadecimal.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace chalk::guest {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kMisused = 2;

class Line {
 public:
  Line& text(std::string_view key, std::string_view value);
  Line& number(std::string_view key, std::int64_t value);
  Line& flag(std::string_view key, bool value);
  // Writes the line to standard output; false when nobody reads it any more.
  bool print() const;
  std::string str() const { return "{" + members_ + "}\n"; }

 private:
  void key(std::string_view name);
  std::string members_;
};

// Both print {"errno":"ENOENT","message":"..."} to standard error and return the exit status.
int failed(int error, const std::string& message);
int misused(const std::string& message);
std::string error_name(int error);

// Writes everything, however often it takes; false with errno set when the descriptor does not take
// it.
bool write_all(int descriptor, std::string_view bytes);

}  // namespace chalk::guest
