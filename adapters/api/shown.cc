#include "adapters/api/shown.h"

namespace chalk::api {

std::string shown(std::string_view text, std::size_t most) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char one : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(one);
    if (byte < 0x20 || byte > 0x7e) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      if (one == '"' || one == '\\') out += '\\';
      out += one;
    }
  }
  out += '"';
  if (text.size() > most) out += "... (" + std::to_string(text.size()) + " bytes)";
  return out;
}

}  // namespace chalk::api
