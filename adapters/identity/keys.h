// What identity needs of cryptography, by OpenSSL 3: P-256 keys, ES256 signatures, hashes, random
// bytes, comparison in constant time. Calls that can only fail for want of memory or entropy throw
// std::runtime_error; what depends on given bytes returns a Result or false.
#pragma once
#include <openssl/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "adapters/error.h"

namespace chalk::identity {

struct FreeKey {
  void operator()(EVP_PKEY* key) const;
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

Key make_key();  // P-256
std::string private_pem(EVP_PKEY* key);
Result<Key> key_from_pem(std::string_view pem);  // private; refused unless P-256
bool is_p256(EVP_PKEY* key);

constexpr std::size_t kSignatureBytes = 64;  // r and s, as JWS has them
std::string sign_es256(EVP_PKEY* key, std::string_view text);
bool verify_es256(EVP_PKEY* key, std::string_view text, std::string_view signature);
// The public point's coordinates, 32 bytes each.
std::pair<std::string, std::string> public_point(EVP_PKEY* key);

std::string random_bytes(std::size_t count);
std::string hex(std::string_view bytes);
std::string sha256(std::string_view bytes);
std::string hmac_sha256(std::string_view key, std::string_view bytes);
bool same_bytes(std::string_view left, std::string_view right);  // constant time for equal lengths

// For OpenSSL's readers of PEM, which says itself whether it is encrypted. We have no pass phrase;
// without a callback that says so OpenSSL asks for one at the terminal, or waits on standard input.
int no_pass_phrase(char* buffer, int size, int writing, void* data);

// OpenSSL's newest complaint, and none is left for the next one.
std::string openssl_error();

}  // namespace chalk::identity
