// What is thrown for a file that is not of its format: where, what was found, what was expected.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace chalk::sim {

struct InputError : std::runtime_error {
  // `line` 0 means the file as a whole.
  InputError(std::string file, std::uint64_t line, std::string found, std::string expected);

  std::string file;
  std::uint64_t line;
  std::string found;
  std::string expected;
};

// Text of the input as it may stand in a message: quoted, escaped, cut after 60 bytes.
std::string quote(std::string_view text);

// The first byte that is not of UTF-8 text; npos where all are. JSON and pages hold nothing else.
std::size_t not_utf8(std::string_view text);

}  // namespace chalk::sim
