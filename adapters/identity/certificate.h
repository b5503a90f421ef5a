// X.509 certificates by OpenSSL 3, as the authority needs them: build and sign, read, check against
// one root. Building throws std::runtime_error where OpenSSL fails; reading given PEM does not.
#pragma once
#include <openssl/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/store.h"

namespace chalk::identity {

struct FreeCertificate {
  void operator()(X509* certificate) const;
};
using Certificate = std::unique_ptr<X509, FreeCertificate>;

struct CertificatePlan {
  std::string common_name;
  UnixSeconds life = 0;  // begins five minutes ago, for clocks that differ
  bool authority = false;
  bool client = false;       // may be shown by a client too
  std::string alternatives;  // as OpenSSL writes them: "DNS:a,IP:10.0.0.1"; checked by the caller
};
// Signed by `issuer_key`; `issuer` is nullptr for a root, which signs itself.
Certificate make_certificate(const CertificatePlan& plan, EVP_PKEY* subject_key, X509* issuer,
                             EVP_PKEY* issuer_key);

std::string to_pem(X509* certificate);
Result<Certificate> certificate_from_pem(std::string_view pem);  // at most 16 KiB, the first one
std::string digest_of(X509* certificate);                        // SHA-256 of the DER, hex
std::vector<std::string> uris_of(X509* certificate);             // of its alternative names
bool is_for(X509* certificate, const std::vector<std::string>& names);  // exactly these
bool belongs(X509* certificate, EVP_PKEY* key);                         // the two are a pair
UnixSeconds begins(X509* certificate);
UnixSeconds ends(X509* certificate);

enum class Purpose : std::uint8_t { server, client };
// denied: not signed by `root`, out of its time at `now`, or made for something else.
Result<void> check_chain(X509* certificate, X509* root, Purpose purpose, UnixSeconds now);

// PKCS#10: the public key of a request that it has signed itself; P-256 only.
Result<Key> key_from_request(std::string_view pem);
std::string make_request(EVP_PKEY* key);

}  // namespace chalk::identity
