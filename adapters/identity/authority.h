// The private certificate authority of one installation, for mutual TLS between its own parts.
//
// ECDSA P-256 throughout. The authority's key and certificate are made at the first start in the
// given directory (0700; files 0600) and kept. A node makes its own private key and sends a signing
// request; the certificate says which node it is and nothing that the request claims is believed
// except the public key. Node certificates are short-lived and renewed over the old one.
// Thread safe. The public port's certificate for clients is another matter: bring your own, or use
// server_credentials() and give clients certificate_pem() as their root.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/identity/store.h"

namespace chalk::identity {

struct Credentials {
  std::string certificate_pem;  // the leaf; the root is not in it
  std::string private_key_pem;  // PKCS#8
  std::string root_pem;         // what the other side must trust
};

// A node's side of joining: a fresh key, and the request to send.
struct NodeRequest {
  std::string private_key_pem;
  std::string request_pem;  // PKCS#10
};
Result<NodeRequest> make_node_request();

// True when less than a third of the certificate's life is left (or none), or it is no certificate.
bool needs_renewal(const std::string& certificate_pem, UnixSeconds now = system_seconds());

// SHA-256 of the certificate's DER in lower case hex: what a node is told to expect when it joins.
Result<std::string> fingerprint(const std::string& certificate_pem);

class Authority {
 public:
  static constexpr UnixSeconds kRootLife = 10 * 365 * 86'400LL;
  static constexpr UnixSeconds kServerLife = 90 * 86'400LL;
  static constexpr UnixSeconds kNodeLife = 7 * 86'400LL;
  static constexpr std::size_t kPemBytesMax = 16 * 1024;

  // Opens the authority in `directory`, or begins one. Throws std::runtime_error.
  explicit Authority(const std::string& directory);
  ~Authority();
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  const std::string& certificate_pem() const { return certificate_pem_; }
  const std::string& fingerprint() const { return fingerprint_; }

  // For a server that is reached under `names`: DNS names and IP addresses, 1 to 64 of them. Kept
  // as server.crt and server.key; made anew when the names differ or needs_renewal() says so.
  Result<Credentials> server_credentials(const std::vector<std::string>& names);

  // The certificate of node `key` over the request's public key (which must be P-256 and signed by
  // itself). It serves as client and as server ("node-<key>" is its DNS name).
  Result<std::string> issue_node(const std::string& request_pem, std::uint64_t key);
  // Key and certificate at once, for a node in the same process and for tests.
  Result<Credentials> node_credentials(std::uint64_t key);

  // Which node presents this certificate. denied: not of this authority, expired, or no node's.
  Result<std::uint64_t> node_key(const std::string& peer_certificate_pem,
                                 UnixSeconds now = system_seconds()) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string certificate_pem_;
  std::string fingerprint_;
};

// ---- joining: what the RPC handlers call ----------------------------------------------------

struct JoinedNode {
  std::uint64_t key = 0;
  std::string certificate_pem;
  std::string root_pem;
};
// A machine with a join token becomes node `key` (0: one is drawn). The token is spent only when
// the request is good.
Result<JoinedNode> join_node(Store& store, Authority& authority, std::string_view token,
                             const std::string& request_pem, std::uint64_t key = 0);
// A node that presents a good certificate gets the next one. denied: revoked, or never joined.
Result<JoinedNode> renew_node(Store& store, Authority& authority,
                              const std::string& peer_certificate_pem,
                              const std::string& request_pem);
// The node behind a peer certificate, if it has joined and is not revoked.
Result<std::uint64_t> check_node(Store& store, const Authority& authority,
                                 const std::string& peer_certificate_pem);

}  // namespace chalk::identity
