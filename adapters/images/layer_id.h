// A layer's number in the machines: 63 bits of its diff id, so that server and node agree on it
// without a table. Two layers of one installation meet in a number with a chance of one in 2^63 per
// pair; the digest itself is checked where bytes are touched.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "model/core/ids.h"

namespace chalk::images {

// The first 16 hexadecimal digits after "sha256:", halved; a text that is shorter or has other
// digits counts them as zeros. Never 0, which means "none".
inline LayerId layer_id(const std::string& diff_id) {
  constexpr std::size_t kFrom = 7, kDigits = 16;
  std::uint64_t value = 0;
  for (std::size_t i = kFrom; i < kFrom + kDigits; ++i) {
    const char c = i < diff_id.size() ? diff_id[i] : '0';
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
    value = value << 4 | static_cast<std::uint64_t>(digit);
  }
  value >>= 1;
  return {value == 0 ? 1 : value};
}

}  // namespace chalk::images
