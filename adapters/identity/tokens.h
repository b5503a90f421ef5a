// Bearer tokens: made from a client's id and secret, and checked at every call.
//
// A token is a JWT signed with ES256 (no other algorithm is accepted). It is good until it expires
// (30 days, because clients never renew it) or its client is revoked, which ends it at once.
// verify() costs a few microseconds for a token seen before and is safe from all threads.
// Guessing is hopeless (secrets are 256 random bits) and bounded all the same: few wrong secrets
// per client and minute, few hashes at once.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "adapters/error.h"
#include "adapters/identity/store.h"

namespace chalk::identity {

struct Caller {
  std::string client_id;
  std::string environment;   // its id
  std::uint32_t tenant = 0;  // the environment's number in the model
  Role role = Role::user;
};

struct Grant {
  std::string token;
  Caller caller;
  UnixSeconds expires = 0;
};

struct WorkloadToken {
  std::string token;
  std::string issuer;
  std::string subject;
  UnixSeconds expires = 0;
};

class Tokens {
 public:
  static constexpr std::size_t kTokenBytesMax = 4096;

  struct Options {
    std::string issuer = "chalk";  // "iss"; the public URL where JWKS readers shall find the keys
    UnixSeconds life = 30 * 86'400;
    std::uint32_t wrong_secrets_per_minute = 10;  // of one client
    std::uint32_t hashes_at_once = 2;
    std::size_t cached_tokens = 16'384;
    std::function<UnixSeconds()> now = system_seconds;  // tests set their own
  };

  // Throws std::runtime_error where the signing keys cannot be read. `store` must outlive it.
  Tokens(Store& store, Options options);
  ~Tokens();
  Tokens(const Tokens&) = delete;
  Tokens& operator=(const Tokens&) = delete;

  // `scope` is empty or "env:<id of the client's environment>".
  // denied: unknown or revoked client, wrong secret (never saying which).  invalid: bad scope.
  // not_found: the scope names an environment that is not the client's.
  // exhausted: too many wrong secrets of this client.  unavailable: too many hashes at once; retry.
  // A secret that was right before in this process stays usable while others guess wrongly.
  Result<Grant> issue(std::string_view client_id, std::string_view secret, std::string_view scope);

  // Every failure is Kind::denied (UNAUTHENTICATED at the API), except unavailable and failed
  // where the store cannot be read. `token` is without "Bearer ".
  Result<Caller> verify(std::string_view token);
  // From an "authorization" header's value: "Bearer <token>", the word in any case.
  Result<Caller> verify_header(std::string_view authorization);

  // A token for others than us: `subject` as seen by `audience`. verify() refuses it.
  Result<WorkloadToken> issue_workload(const Caller& caller, const std::string& subject,
                                       const std::string& audience, UnixSeconds life = 3600);

  // The public keys as a JWK set (JSON), for /.well-known/jwks.json.
  Result<std::string> jwks();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::identity
