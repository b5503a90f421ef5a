#include "sim/workload/input_error.h"

#include <fmt/format.h>

#include <utility>

namespace chalk::sim {
namespace {

std::string message(const std::string& file, std::uint64_t line, const std::string& found,
                    const std::string& expected) {
  if (line == 0) return fmt::format("{}: found {}, expected {}", file, found, expected);
  return fmt::format("{}:{}: found {}, expected {}", file, line, found, expected);
}

}  // namespace

InputError::InputError(std::string file_at, std::uint64_t line_at, std::string what_found,
                       std::string what_expected)
    : std::runtime_error(message(file_at, line_at, what_found, what_expected)),
      file(std::move(file_at)),
      line(line_at),
      found(std::move(what_found)),
      expected(std::move(what_expected)) {}

std::size_t not_utf8(std::string_view text) {
  unsigned all = 0;  // most text has no byte above 127, and that is seen many bytes at a time
  for (const char c : text) all |= static_cast<unsigned char>(c);
  if (all < 0x80) return std::string_view::npos;
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t ahead) {
      return at + ahead < text.size() ? static_cast<unsigned char>(text[at + ahead]) : 0u;
    };
    const unsigned first = byte(0);
    const std::size_t length = first < 0x80                    ? 1
                               : first >= 0xC2 && first < 0xE0 ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    if (length == 0) return at;
    for (std::size_t ahead = 1; ahead < length; ++ahead) {
      if ((byte(ahead) & 0xC0) != 0x80) return at;
    }
    // Forms that are longer than they need be, halves of pairs, and what is beyond Unicode.
    const unsigned second = byte(1);
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) ||
        (first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90)) {
      return at;
    }
    at += length;
  }
  return std::string_view::npos;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kShownMax = 60;
  std::string out = "\"";
  for (char c : text.substr(0, kShownMax)) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += text.size() > kShownMax ? "...\"" : "\"";
  return out;
}

}  // namespace chalk::sim
