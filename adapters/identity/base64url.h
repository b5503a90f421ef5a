// Base64 for URLs without padding (RFC 4648 section 5), as tokens use it. Decoding is strict: one
// text for one string of bytes, so that nobody can write the same token in two ways.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace chalk::identity {

std::string base64url(std::string_view bytes);
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace chalk::identity
