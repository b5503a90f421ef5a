#include "adapters/images/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace chalk::images {
namespace {
constexpr std::string_view kPrefix = "sha256:";
}

bool valid_digest(std::string_view text) {
  if (text.size() != kPrefix.size() + 64 || !text.starts_with(kPrefix)) return false;
  return std::ranges::all_of(text.substr(kPrefix.size()), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

std::string_view digest_hex(std::string_view digest) { return digest.substr(kPrefix.size()); }

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  if (!context_->md || EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("sha256: the library cannot start a digest");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(const void* data, std::size_t size) {
  if (EVP_DigestUpdate(context_->md, data, size) != 1)
    throw std::runtime_error("sha256: the library cannot go on");
}

std::string Sha256::digest() {
  std::array<unsigned char, 32> bytes{};
  if (EVP_DigestFinal_ex(context_->md, bytes.data(), nullptr) != 1)
    throw std::runtime_error("sha256: the library cannot finish a digest");
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text(kPrefix);
  for (unsigned char byte : bytes) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

std::string sha256_digest(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.digest();
}

}  // namespace chalk::images
