// Asks a server for its chain and picks the certificate that was named by its fingerprint.
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <memory>

#include "adapters/agent/credentials.h"

namespace chalk::agent {
namespace {

struct FreeContext {
  void operator()(SSL_CTX* one) const { SSL_CTX_free(one); }
};
struct FreeBio {
  void operator()(BIO* one) const { BIO_free_all(one); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

std::string pem_of(X509* certificate) {
  const Bio memory(BIO_new(BIO_s_mem()));
  if (!memory || PEM_write_bio_X509(memory.get(), certificate) != 1) return {};
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

// "AB:CD:..." and "abcd..." are the same fingerprint.
std::string plain(const std::string& fingerprint) {
  std::string out;
  for (const char c : fingerprint) {
    if (c != ':') out.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return out;
}

// Drives a non-blocking handshake until it is done or `until`.
bool shake_hands(BIO* connection, std::chrono::steady_clock::time_point until) {
  while (BIO_do_handshake(connection) != 1) {
    if (!BIO_should_retry(connection)) return false;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    int descriptor = -1;
    BIO_get_fd(connection, &descriptor);
    pollfd wait{descriptor, static_cast<short>(BIO_should_write(connection) ? POLLOUT : POLLIN), 0};
    poll(descriptor < 0 ? nullptr : &wait, descriptor < 0 ? 0 : 1,
         static_cast<int>(std::min<std::int64_t>(left.count(), 100)));
  }
  return true;
}

}  // namespace

Result<std::string> fetch_root(const std::string& server, const std::string& fingerprint) {
  const std::string wanted = plain(fingerprint);
  if (wanted.size() != 64) {
    return fail(Error::Kind::invalid,
                "fingerprint \"" + fingerprint + "\": expected 64 hexadecimal digits of SHA-256");
  }
  const std::unique_ptr<SSL_CTX, FreeContext> context(SSL_CTX_new(TLS_client_method()));
  if (!context) return fail(Error::Kind::failed, "OpenSSL: no context");
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);  // the fingerprint decides
  static constexpr unsigned char kH2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), kH2, sizeof kH2);
  const Bio connection(BIO_new_ssl_connect(context.get()));
  if (!connection) return fail(Error::Kind::failed, "OpenSSL: no connection");
  BIO_set_conn_hostname(connection.get(), server.c_str());
  BIO_set_nbio(connection.get(), 1);
  if (!shake_hands(connection.get(), std::chrono::steady_clock::now() + std::chrono::seconds(15))) {
    ERR_clear_error();
    return fail(Error::Kind::unavailable, server + ": no TLS handshake within 15 s");
  }
  SSL* tls = nullptr;
  BIO_get_ssl(connection.get(), &tls);
  STACK_OF(X509)* chain = tls != nullptr ? SSL_get_peer_cert_chain(tls) : nullptr;
  for (int i = 0; chain != nullptr && i < std::min(sk_X509_num(chain), 8); ++i) {
    const std::string pem = pem_of(sk_X509_value(chain, i));
    const auto found = identity::fingerprint(pem);
    if (found && *found == wanted) return pem;
  }
  return fail(Error::Kind::denied, server + ": shows no certificate with the fingerprint " +
                                       wanted + ": it is another server, or it was made anew");
}

}  // namespace chalk::agent
