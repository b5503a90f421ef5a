// Client secrets as they are kept: scrypt with its own salt and its parameters beside it, in one
// text: "scrypt:<log2 N>:<r>:<p>:<salt>:<hash>", the last two in base64url.
// The secrets are 256 random bits, so the cost guards little; 16 MiB and some 50 ms are enough.
#pragma once
#include <string>
#include <string_view>

#include "adapters/error.h"

namespace chalk::identity {

constexpr std::size_t kSecretBytesMax = 256;  // longer ones are never ours

std::string hash_secret(std::string_view secret);
// corrupt: `hash` is none that hash_secret could have made.
Result<bool> check_secret(std::string_view secret, std::string_view hash);

}  // namespace chalk::identity
