// How a machine becomes a node, and stays one: both sides, without the RPC between them.
#include "adapters/identity/authority.h"
#include "adapters/identity/certificate.h"
#include "adapters/identity/keys.h"

namespace chalk::identity {

Result<NodeRequest> make_node_request() {
  const Key key = make_key();
  return NodeRequest{private_pem(key.get()), make_request(key.get())};
}

bool needs_renewal(const std::string& certificate_pem, UnixSeconds now) {
  const auto certificate = certificate_from_pem(certificate_pem);
  if (!certificate) return true;
  const UnixSeconds begin = begins(certificate->get()), end = ends(certificate->get());
  return now < begin || end - now < (end - begin) / 3;
}

Result<std::string> fingerprint(const std::string& certificate_pem) {
  const auto certificate = certificate_from_pem(certificate_pem);
  if (!certificate) return std::unexpected(certificate.error());
  return digest_of(certificate->get());
}

Result<JoinedNode> join_node(Store& store, Authority& authority, std::string_view token,
                             const std::string& request_pem, std::uint64_t key) {
  // First the request: a bad one must not cost a use of the token.
  const auto public_key = key_from_request(request_pem);
  if (!public_key) return std::unexpected(public_key.error());
  const auto [x, y] = public_point(public_key->get());
  const auto joined = store.redeem_node_token(token, key, hex(sha256(x + y)));
  if (!joined) return std::unexpected(joined.error());
  auto certificate = authority.issue_node(request_pem, *joined);
  if (!certificate) return std::unexpected(certificate.error());
  return JoinedNode{*joined, std::move(*certificate), authority.certificate_pem()};
}

Result<JoinedNode> renew_node(Store& store, Authority& authority,
                              const std::string& peer_certificate_pem,
                              const std::string& request_pem) {
  const auto key = check_node(store, authority, peer_certificate_pem);
  if (!key) return std::unexpected(key.error());
  auto certificate = authority.issue_node(request_pem, *key);
  if (!certificate) return std::unexpected(certificate.error());
  return JoinedNode{*key, std::move(*certificate), authority.certificate_pem()};
}

Result<std::uint64_t> check_node(Store& store, const Authority& authority,
                                 const std::string& peer_certificate_pem) {
  const auto key = authority.node_key(peer_certificate_pem);
  if (!key) return std::unexpected(key.error());
  const auto node = store.node(*key);
  if (!node) return fail(Error::Kind::denied, node.error().message);
  if (node->revoked != 0) {
    return fail(Error::Kind::denied, "node " + std::to_string(*key) + ": is revoked");
  }
  return *key;
}

}  // namespace chalk::identity
