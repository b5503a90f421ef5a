// JSON Web Tokens in the one form that we make: compact, ES256, one signing key chosen by "kid".
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "adapters/error.h"
#include "adapters/identity/keys.h"

namespace chalk::identity {

std::string make_jwt(const nlohmann::json& claims, const std::string& key_id, EVP_PKEY* key);

// The claims of a token whose signature is good; what they say is the caller's to check.
// `key_of` gives the key of a "kid", or nullptr. Every failure is Kind::denied.
Result<nlohmann::json> open_jwt(std::string_view token,
                                const std::function<EVP_PKEY*(const std::string&)>& key_of);

}  // namespace chalk::identity
