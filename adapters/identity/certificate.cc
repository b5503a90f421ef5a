#include "adapters/identity/certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <stdexcept>

namespace chalk::identity {
namespace {

constexpr std::size_t kPemBytesMax = 16 * 1024;
constexpr long kClockSkew = 300;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
  void operator()(X509_REQ* request) const { X509_REQ_free(request); }
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
  void operator()(BIGNUM* number) const { BN_free(number); }
};

void need(bool good, const char* doing) {
  if (!good) {
    throw std::runtime_error("OpenSSL cannot " + std::string(doing) + ": " + openssl_error());
  }
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  need(extension && X509_add_ext(certificate, extension.get(), -1) == 1, "add an extension");
}

void set_serial(X509* certificate) {
  std::string bytes = random_bytes(16);
  bytes[0] = static_cast<char>((bytes[0] & 0x3F) | 0x40);  // positive, and never short
  const std::unique_ptr<BIGNUM, Free> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), 16, nullptr));
  need(number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)),
       "set a serial number");
}

std::string text_in(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<std::size_t>(size));
}

std::unique_ptr<BIO, Free> reader(std::string_view pem) {
  std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  need(bio != nullptr, "read memory");
  return bio;
}

UnixSeconds seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

std::unique_ptr<GENERAL_NAMES, Free> alternatives_of(X509* certificate) {
  return std::unique_ptr<GENERAL_NAMES, Free>(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
}

}  // namespace

void FreeCertificate::operator()(X509* certificate) const { X509_free(certificate); }

Certificate make_certificate(const CertificatePlan& plan, EVP_PKEY* subject_key, X509* issuer,
                             EVP_PKEY* issuer_key) {
  Certificate made(X509_new());
  need(made && X509_set_version(made.get(), X509_VERSION_3) == 1, "make a certificate");
  set_serial(made.get());
  need(X509_gmtime_adj(X509_getm_notBefore(made.get()), -kClockSkew) &&
           X509_gmtime_adj(X509_getm_notAfter(made.get()), plan.life) &&
           X509_set_pubkey(made.get(), subject_key) == 1,
       "fill a certificate");
  X509_NAME* name = X509_get_subject_name(made.get());
  need(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                  reinterpret_cast<const unsigned char*>(plan.common_name.c_str()),
                                  -1, -1, 0) == 1,
       "name a certificate");
  X509* signer = issuer == nullptr ? made.get() : issuer;
  need(X509_set_issuer_name(made.get(), X509_get_subject_name(signer)) == 1, "name an issuer");
  add_extension(made.get(), signer, NID_basic_constraints,
                plan.authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
  add_extension(made.get(), signer, NID_key_usage,
                plan.authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
  add_extension(made.get(), signer, NID_subject_key_identifier, "hash");
  add_extension(made.get(), signer, NID_authority_key_identifier, "keyid:always");
  if (!plan.authority) {
    add_extension(made.get(), signer, NID_ext_key_usage,
                  plan.client ? "serverAuth,clientAuth" : "serverAuth");
    add_extension(made.get(), signer, NID_subject_alt_name, plan.alternatives);
  }
  need(X509_sign(made.get(), issuer_key, EVP_sha256()) > 0, "sign a certificate");
  return made;
}

std::string to_pem(X509* certificate) {
  const std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_mem()));
  need(bio && PEM_write_bio_X509(bio.get(), certificate) == 1, "write a certificate");
  return text_in(bio.get());
}

Result<Certificate> certificate_from_pem(std::string_view pem) {
  if (pem.size() > kPemBytesMax) {
    return fail(Error::Kind::invalid, "certificate: found " + std::to_string(pem.size()) +
                                          " bytes, expected at most " +
                                          std::to_string(kPemBytesMax));
  }
  Certificate read(PEM_read_bio_X509(reader(pem).get(), nullptr, no_pass_phrase, nullptr));
  if (!read) return fail(Error::Kind::invalid, "certificate: no PEM: " + openssl_error());
  return read;
}

std::string digest_of(X509* certificate) {
  std::string digest(32, '\0');
  unsigned int size = 0;
  need(X509_digest(certificate, EVP_sha256(), reinterpret_cast<unsigned char*>(digest.data()),
                   &size) == 1,
       "hash a certificate");
  return hex(digest);
}

std::vector<std::string> uris_of(X509* certificate) {
  std::vector<std::string> uris;
  const auto names = alternatives_of(certificate);
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* text = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                      static_cast<std::size_t>(ASN1_STRING_length(text)));
  }
  return uris;
}

bool is_for(X509* certificate, const std::vector<std::string>& names) {
  const auto alternatives = alternatives_of(certificate);
  return sk_GENERAL_NAME_num(alternatives.get()) == static_cast<int>(names.size()) &&
         std::ranges::all_of(names, [&](const std::string& name) {
           return X509_check_ip_asc(certificate, name.c_str(), 0) == 1 ||
                  X509_check_host(certificate, name.data(), name.size(),
                                  X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1;
         });
}

bool belongs(X509* certificate, EVP_PKEY* key) {
  return EVP_PKEY_eq(X509_get0_pubkey(certificate), key) == 1;
}

UnixSeconds begins(X509* certificate) { return seconds_of(X509_get0_notBefore(certificate)); }
UnixSeconds ends(X509* certificate) { return seconds_of(X509_get0_notAfter(certificate)); }

Result<void> check_chain(X509* certificate, X509* root, Purpose purpose, UnixSeconds now) {
  const std::unique_ptr<X509_STORE, Free> trusted(X509_STORE_new());
  const std::unique_ptr<X509_STORE_CTX, Free> context(X509_STORE_CTX_new());
  need(trusted && context && X509_STORE_add_cert(trusted.get(), root) == 1 &&
           X509_STORE_CTX_init(context.get(), trusted.get(), certificate, nullptr) == 1,
       "begin to check a certificate");
  X509_STORE_CTX_set_time(context.get(), 0, now);
  X509_STORE_CTX_set_purpose(context.get(), purpose == Purpose::client ? X509_PURPOSE_SSL_CLIENT
                                                                       : X509_PURPOSE_SSL_SERVER);
  const bool good = X509_verify_cert(context.get()) == 1;
  const int code = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  if (!good) {
    return fail(Error::Kind::denied,
                std::string("certificate: ") + X509_verify_cert_error_string(code));
  }
  return {};
}

Result<Key> key_from_request(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return fail(Error::Kind::invalid, "signing request: too long");
  const std::unique_ptr<X509_REQ, Free> request(
      PEM_read_bio_X509_REQ(reader(pem).get(), nullptr, no_pass_phrase, nullptr));
  if (!request) return fail(Error::Kind::invalid, "signing request: no PEM: " + openssl_error());
  Key key(X509_REQ_get_pubkey(request.get()));
  if (!key || !is_p256(key.get())) {
    ERR_clear_error();
    return fail(Error::Kind::invalid, "signing request: its key is not P-256");
  }
  const bool signed_by_itself = X509_REQ_verify(request.get(), key.get()) == 1;
  ERR_clear_error();
  if (!signed_by_itself) {
    return fail(Error::Kind::invalid, "signing request: not signed with its own key");
  }
  return key;
}

std::string make_request(EVP_PKEY* key) {
  const std::unique_ptr<X509_REQ, Free> request(X509_REQ_new());
  const std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_mem()));
  need(request && bio && X509_REQ_set_pubkey(request.get(), key) == 1 &&
           X509_REQ_sign(request.get(), key, EVP_sha256()) > 0 &&
           PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1,
       "make a signing request");
  return text_in(bio.get());
}

}  // namespace chalk::identity
