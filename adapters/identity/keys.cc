#include "adapters/identity/keys.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <array>
#include <stdexcept>

namespace chalk::identity {
namespace {

constexpr int kCoordinateBytes = 32;

void need(bool good, const char* doing) {
  if (!good)
    throw std::runtime_error(std::string("OpenSSL cannot ") + doing + ": " + openssl_error());
}
const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
  void operator()(BIGNUM* number) const { BN_free(number); }
};

}  // namespace

void FreeKey::operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }

int no_pass_phrase(char*, int, int, void*) { return -1; }

std::string openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

Key make_key() {
  Key key(EVP_EC_gen("P-256"));
  need(key != nullptr, "make a P-256 key");
  return key;
}

std::string private_pem(EVP_PKEY* key) {
  const std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_secmem()));
  need(bio && PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr),
       "write a private key");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

bool is_p256(EVP_PKEY* key) {
  if (key == nullptr || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return false;
  std::array<char, 64> group{};
  std::size_t size = 0;
  return EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
         std::string_view(group.data(), size) == "prime256v1";
}

Result<Key> key_from_pem(std::string_view pem) {
  const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  need(bio != nullptr, "read memory");
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr));
  if (!key) return fail(Error::Kind::corrupt, "no private key in PEM: " + openssl_error());
  if (!is_p256(key.get())) return fail(Error::Kind::invalid, "a private key that is not P-256");
  return key;
}

std::string sign_es256(EVP_PKEY* key, std::string_view text) {
  const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  need(context && EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1,
       "begin to sign");
  std::array<unsigned char, 128> der{};
  std::size_t size = der.size();
  need(EVP_DigestSign(context.get(), der.data(), &size, bytes_of(text), text.size()) == 1, "sign");
  const unsigned char* at = der.data();
  const std::unique_ptr<ECDSA_SIG, Free> parts(
      d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  need(parts != nullptr, "read its own signature");
  std::string raw(kSignatureBytes, '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  need(
      BN_bn2binpad(ECDSA_SIG_get0_r(parts.get()), out, kCoordinateBytes) > 0 &&
          BN_bn2binpad(ECDSA_SIG_get0_s(parts.get()), out + kCoordinateBytes, kCoordinateBytes) > 0,
      "write a signature");
  return raw;
}

bool verify_es256(EVP_PKEY* key, std::string_view text, std::string_view signature) {
  if (signature.size() != kSignatureBytes) return false;
  std::unique_ptr<BIGNUM, Free> r(BN_bin2bn(bytes_of(signature), kCoordinateBytes, nullptr));
  std::unique_ptr<BIGNUM, Free> s(
      BN_bin2bn(bytes_of(signature) + kCoordinateBytes, kCoordinateBytes, nullptr));
  const std::unique_ptr<ECDSA_SIG, Free> parts(ECDSA_SIG_new());
  need(r && s && parts, "allocate");
  ECDSA_SIG_set0(parts.get(), r.release(), s.release());  // takes both
  std::array<unsigned char, 128> der{};
  unsigned char* at = der.data();
  const int size = i2d_ECDSA_SIG(parts.get(), &at);
  need(size > 0, "write a signature");
  const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  need(context && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1,
       "begin to verify");
  const bool good = EVP_DigestVerify(context.get(), der.data(), static_cast<std::size_t>(size),
                                     bytes_of(text), text.size()) == 1;
  ERR_clear_error();
  return good;
}

std::pair<std::string, std::string> public_point(EVP_PKEY* key) {
  const auto coordinate = [&](const char* name) {
    BIGNUM* number = nullptr;
    need(EVP_PKEY_get_bn_param(key, name, &number) == 1, "read a public key");
    const std::unique_ptr<BIGNUM, Free> owned(number);
    std::string bytes(kCoordinateBytes, '\0');
    need(BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), kCoordinateBytes) > 0,
         "write a public key");
    return bytes;
  };
  return {coordinate(OSSL_PKEY_PARAM_EC_PUB_X), coordinate(OSSL_PKEY_PARAM_EC_PUB_Y)};
}

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  need(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) == 1,
       "draw random bytes");
  return bytes;
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

std::string sha256(std::string_view bytes) {
  std::string digest(32, '\0');
  need(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()),
                  nullptr, EVP_sha256(), nullptr) == 1,
       "hash");
  return digest;
}

std::string hmac_sha256(std::string_view key, std::string_view bytes) {
  std::string digest(32, '\0');
  unsigned int size = 0;
  need(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(bytes), bytes.size(),
            reinterpret_cast<unsigned char*>(digest.data()), &size) != nullptr,
       "hash");
  return digest;
}

bool same_bytes(std::string_view left, std::string_view right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace chalk::identity
