// A layer's number in the machines: 63 bits of a hash of its diff id, so that server and node agree
// on it without a table. Two layers of one installation meet in a number with a chance of one in
// 2^63 per pair; the digest itself is checked where bytes are touched. Of the diff id itself anybody
// may write one with the first digits of another's: an image's configuration is not verified.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "adapters/images/digest.h"
#include "model/core/ids.h"

namespace chalk::images {

// The first 16 hexadecimal digits of the hash, halved. Never 0, which means "none".
inline LayerId layer_id(const std::string& diff_id) {
  constexpr std::size_t kDigits = 16;
  const std::string digest = sha256_digest(diff_id);
  const std::string first(digest_hex(digest).substr(0, kDigits));
  const std::uint64_t value = std::stoull(first, nullptr, 16) >> 1;
  return {value == 0 ? 1 : value};
}

}  // namespace chalk::images
