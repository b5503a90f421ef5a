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
