// SHA-256 as registries write it: "sha256:" and 64 lower case hexadecimal digits. Nothing here
// trusts a digest's text before valid_digest has seen it: digests become names of files.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace chalk::images {

bool valid_digest(std::string_view text);
// The 64 digits of a valid digest.
std::string_view digest_hex(std::string_view digest);

// Hashes a stream. Throws std::runtime_error if the library refuses (no memory).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(const void* data, std::size_t size);
  std::string digest();  // "sha256:..."; once, at the end

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_digest(std::string_view bytes);

}  // namespace chalk::images
