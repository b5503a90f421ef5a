#include "adapters/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "adapters/cli/stop.h"

namespace chalk::cli {
namespace {

// How many bytes at the front are one good UTF-8 sequence; 0: none.
std::size_t sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80                     ? 1
                             : first >= 0xC2 && first <= 0xDF ? 2
                             : first >= 0xE0 && first <= 0xEF ? 3
                             : first >= 0xF0 && first <= 0xF4 ? 4
                                                              : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (first == 0xE0 && byte(1) < 0xA0) return 0;
  if (first == 0xED && byte(1) > 0x9F) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

template <class Control>
std::string clean(std::string_view text, Control&& control) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = sequence(text);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(1);
      continue;
    }
    // C1 controls steer terminals, too: U+0080 to U+009F.
    const auto first = static_cast<unsigned char>(text[0]);
    const bool is_control = (length == 1 && (first < 0x20 || first == 0x7F)) ||
                            (first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);
    if (is_control) {
      control(out, text.substr(0, length));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

// Good enough for tables: one column for a code point.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string harmless(std::string_view text) {
  return clean(text, [](std::string& out, std::string_view bytes) {
    for (const char byte : bytes) {
      std::array<char, 5> code{};
      std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned char>(byte));
      out += code.data();
    }
  });
}

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t length = sequence(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string utf8(std::string_view bytes) {
  return clean(bytes, [](std::string& out, std::string_view same) { out += same; });
}

std::string coloured(std::string_view text, Colour colour) {
  static const bool wanted = [] {
    const char* no = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no == nullptr || *no == '\0') &&
           (term == nullptr || std::string_view(term) != "dumb");
  }();
  if (!wanted || colour == Colour::none) return std::string(text);
  const char* code = colour == Colour::green    ? "32"
                     : colour == Colour::yellow ? "33"
                     : colour == Colour::red    ? "31"
                                                : "2";
  return "\033[" + std::string(code) + "m" + std::string(text) + "\033[0m";
}

Colour status_colour(std::string_view status) {
  if (status == "running" || status == "succeeded" || status == "connected") return Colour::green;
  if (status == "pending" || status == "stopping" || status == "draining") return Colour::yellow;
  if (status == "failed" || status == "error" || status == "lost" || status == "revoked") {
    return Colour::red;
  }
  return Colour::none;
}

void Table::print(int status_column) const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(harmless(row[i])));
    }
  }
  std::string text;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    const auto& row = rows_[r];
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string cell = harmless(row[i].empty() ? "-" : row[i]);
      const Colour colour = r == 0                                 ? Colour::faint
                            : static_cast<int>(i) == status_column ? status_colour(cell)
                                                                   : Colour::none;
      text += coloured(cell, colour);
      if (i + 1 < row.size()) text += std::string(widths[i] - std::min(widths[i], width(cell)) + 2, ' ');
    }
    text += '\n';
  }
  cli::print(text);
}

std::string age(std::int64_t seconds_since_1970) {
  if (seconds_since_1970 <= 0) return "-";
  const std::int64_t old = std::max<std::int64_t>(std::time(nullptr) - seconds_since_1970, 0);
  if (old < 120) return std::to_string(old) + " s";
  if (old < 7'200) return std::to_string(old / 60) + " min";
  if (old < 172'800) return std::to_string(old / 3'600) + " h";
  return std::to_string(old / 86'400) + " d";
}

std::string rfc3339(std::int64_t seconds, std::int32_t nanos) {
  const std::time_t when = seconds;
  std::tm parts{};
  gmtime_r(&when, &parts);
  std::array<char, 32> day{};
  std::strftime(day.data(), day.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 16> rest{};
  std::snprintf(rest.data(), rest.size(), ".%06dZ", (nanos / 1000) % 1'000'000);
  return std::string(day.data()) + rest.data();
}

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = write(STDOUT_FILENO, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EPIPE) throw Stop("", kSignalled + 13);  // as the shell sees SIGPIPE
    if (wrote < 0) throw Stop("cannot write to standard output");
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

void note(std::string_view text) {
  const std::string line = std::string(text) + "\n";
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

bool is_terminal(int descriptor) { return isatty(descriptor) != 0; }

}  // namespace chalk::cli
