#include "adapters/identity/secret_hash.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <charconv>
#include <memory>
#include <stdexcept>
#include <vector>

#include "adapters/identity/base64url.h"
#include "adapters/identity/keys.h"

namespace chalk::identity {
namespace {

struct Cost {
  unsigned log_n = 14;
  unsigned r = 8;
  unsigned p = 1;
};
constexpr std::size_t kSaltBytes = 16;
constexpr std::size_t kHashBytes = 32;

struct Free {
  void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
};

std::string scrypt(std::string_view secret, std::string_view salt, Cost cost) {
  const std::unique_ptr<EVP_KDF, Free> kdf(EVP_KDF_fetch(nullptr, "SCRYPT", nullptr));
  const std::unique_ptr<EVP_KDF_CTX, Free> context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
  if (!context) throw std::runtime_error("OpenSSL has no scrypt: " + openssl_error());
  std::string password(secret), salted(salt);
  std::uint64_t n = 1ull << cost.log_n, memory = 256ull << 20;
  std::uint32_t r = cost.r, p = cost.p;
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, password.data(), password.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salted.data(), salted.size()),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
      OSSL_PARAM_construct_end()};
  std::string hash(kHashBytes, '\0');
  if (EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(hash.data()), hash.size(),
                     parameters) != 1) {
    throw std::runtime_error("scrypt does not work: " + openssl_error());
  }
  return hash;
}

std::vector<std::string_view> split(std::string_view text, char between) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(between);
    parts.push_back(text.substr(0, at));
    if (at == text.npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool read_number(std::string_view text, unsigned low, unsigned high, unsigned& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() && value >= low && value <= high;
}

}  // namespace

std::string hash_secret(std::string_view secret) {
  const Cost cost;
  const std::string salt = random_bytes(kSaltBytes);
  return "scrypt:" + std::to_string(cost.log_n) + ":" + std::to_string(cost.r) + ":" +
         std::to_string(cost.p) + ":" + base64url(salt) + ":" +
         base64url(scrypt(secret, salt, cost));
}

Result<bool> check_secret(std::string_view secret, std::string_view hash) {
  const auto parts = split(hash, ':');
  Cost cost;
  const bool shaped = parts.size() == 6 && parts[0] == "scrypt" &&
                      read_number(parts[1], 10, 17, cost.log_n) &&
                      read_number(parts[2], 1, 8, cost.r) && read_number(parts[3], 1, 4, cost.p);
  const auto salt = shaped ? from_base64url(parts[4]) : std::nullopt;
  const auto kept = shaped ? from_base64url(parts[5]) : std::nullopt;
  if (!salt || !kept || salt->size() != kSaltBytes || kept->size() != kHashBytes) {
    return fail(Error::Kind::corrupt,
                "a client's secret hash: found " + std::to_string(hash.size()) +
                    " bytes that are not scrypt:<log2 N>:<r>:<p>:<salt>:<hash>");
  }
  if (secret.size() > kSecretBytesMax) return false;
  return same_bytes(scrypt(secret, *salt, cost), *kept);
}

}  // namespace chalk::identity
