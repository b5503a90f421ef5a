#include "guest/report.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace chalk::guest {
namespace {

// Length of the valid UTF-8 sequence at the start of text, or 0.
std::size_t sequence(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  if (first >= 0xC2 && first <= 0xDF) length = 2;
  if (first >= 0xE0 && first <= 0xEF) length = 3;
  if (first >= 0xF0 && first <= 0xF4) length = 4;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t at = 1; at < length; ++at) {
    if (byte(at) < 0x80 || byte(at) > 0xBF) return 0;
  }
  // Overlong forms, surrogates and what lies above U+10FFFF.
  if (first == 0xE0 && byte(1) < 0xA0) return 0;
  if (first == 0xED && byte(1) > 0x9F) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

void append_hex(std::string& out, unsigned char value) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += kDigits[value >> 4];
  out += kDigits[value & 15];
}

// Appends the JSON string; false when bytes had to be replaced.
bool append_quoted(std::string& out, std::string_view text) {
  bool exact = true;
  out += '"';
  while (!text.empty()) {
    const std::size_t length = sequence(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      exact = false;
      text.remove_prefix(1);
      continue;
    }
    if (first == '"' || first == '\\') {
      out += '\\';
      out += text[0];
    } else if (first < 0x20 || first == 0x7F) {
      out += "\\u00";
      append_hex(out, first);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  out += '"';
  return exact;
}

}  // namespace

void Line::key(std::string_view name) {
  if (!members_.empty()) members_ += ',';
  members_ += '"';
  members_ += name;
  members_ += "\":";
}

Line& Line::text(std::string_view name, std::string_view value) {
  key(name);
  if (append_quoted(members_, value)) return *this;
  key(std::string(name) + "_hex");
  members_ += '"';
  for (const char byte : value) append_hex(members_, static_cast<unsigned char>(byte));
  members_ += '"';
  return *this;
}

Line& Line::number(std::string_view name, std::int64_t value) {
  key(name);
  members_ += std::to_string(value);
  return *this;
}

Line& Line::flag(std::string_view name, bool value) {
  key(name);
  members_ += value ? "true" : "false";
  return *this;
}

bool Line::print() const { return write_all(STDOUT_FILENO, str()); }

std::string error_name(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "E" + std::to_string(error);
}

int failed(int error, const std::string& message) {
  write_all(STDERR_FILENO, Line()
                               .text("errno", error_name(error))
                               .text("message", message + ": " + std::strerror(error))
                               .str());
  return kFailed;
}

int misused(const std::string& message) {
  write_all(STDERR_FILENO, Line().text("errno", "EINVAL").text("message", message).str());
  return kMisused;
}

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace chalk::guest
