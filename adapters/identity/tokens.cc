#include "adapters/identity/tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <shared_mutex>
#include <stdexcept>
#include <unordered_map>

#include "adapters/identity/base64url.h"
#include "adapters/identity/jwt.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/secret_check.h"

namespace chalk::identity {
namespace {

using nlohmann::json;

constexpr UnixSeconds kClockSkew = 60;
constexpr std::string_view kAccess = "access";  // what verify() accepts
constexpr std::string_view kWorkload = "workload";

std::unexpected<Error> denied(const std::string& what) { return fail(Error::Kind::denied, what); }

std::optional<std::string> text_of(const json& claims, const char* name) {
  const auto at = claims.find(name);
  if (at == claims.end() || !at->is_string()) return std::nullopt;
  return at->get<std::string>();
}
std::optional<std::int64_t> number_of(const json& claims, const char* name) {
  const auto at = claims.find(name);
  if (at == claims.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<std::int64_t>();
}

}  // namespace

struct Tokens::State {
  struct Signer {
    std::string id;
    Key key;
  };
  struct Known {
    Caller caller;
    UnixSeconds expires = 0;
    std::uint64_t version = 0;  // of the store, when this was true
  };

  State(Store& store_given, Options options_given)
      : store(store_given),
        options(std::move(options_given)),
        secrets(options.wrong_secrets_per_minute, options.hashes_at_once, options.now) {}

  Result<void> load_keys(std::uint64_t version);
  std::shared_ptr<const std::vector<Signer>> current_signers();
  Result<Caller> look_up(const std::string& client_id, const std::string& environment);
  Result<Known> open(std::string_view token, std::uint64_t version);
  void remember(const std::string& digest, const Known& known);

  Store& store;
  const Options options;
  SecretCheck secrets;
  std::shared_mutex mutex;  // of what follows
  std::shared_ptr<const std::vector<Signer>> signers;
  std::uint64_t signers_version = 0;
  std::unordered_map<std::string, Known> known;  // by the token's SHA-256
};

Tokens::Tokens(Store& store, Options options)
    : state_(std::make_unique<State>(store, std::move(options))) {
  if (const auto loaded = state_->load_keys(store.version()); !loaded) {
    throw std::runtime_error(loaded.error().message);
  }
}

Tokens::~Tokens() = default;

Result<void> Tokens::State::load_keys(std::uint64_t version) {
  {
    const std::shared_lock lock(mutex);
    if (signers_version == version) return {};
  }
  const auto stored = store.signing_keys();
  if (!stored) return std::unexpected(stored.error());
  auto read = std::make_shared<std::vector<Signer>>();
  for (const auto& one : *stored) {
    auto key = key_from_pem(one.private_pem);
    if (!key) {
      return fail(Error::Kind::corrupt, "signing key " + one.id + ": " + key.error().message);
    }
    read->push_back({one.id, std::move(*key)});
  }
  if (read->empty()) return fail(Error::Kind::corrupt, "signing keys: found none, expected one");
  const std::unique_lock lock(mutex);
  signers = std::move(read);
  signers_version = version;
  return {};
}

std::shared_ptr<const std::vector<Tokens::State::Signer>> Tokens::State::current_signers() {
  const std::shared_lock lock(mutex);
  return signers;
}

// The caller that a client is now. Nothing here says whether the client exists.
Result<Caller> Tokens::State::look_up(const std::string& client_id,
                                      const std::string& environment) {
  const auto client = store.client(client_id);
  if (!client && client.error().kind != Error::Kind::not_found) {
    return std::unexpected(client.error());
  }
  if (!client || client->revoked != 0 || client->environment != environment) {
    return denied("token: its client is not known, or revoked");
  }
  const auto found = store.environment(environment);
  if (!found) return std::unexpected(found.error());
  return Caller{client->client_id, found->id, found->tenant, client->role};
}

Result<Tokens::State::Known> Tokens::State::open(std::string_view token, std::uint64_t version) {
  if (const auto loaded = load_keys(version); !loaded) return std::unexpected(loaded.error());
  const auto keys = current_signers();
  const auto claims = open_jwt(token, [&](const std::string& id) -> EVP_PKEY* {
    const auto at = std::ranges::find(*keys, id, &Signer::id);
    return at == keys->end() ? nullptr : at->key.get();
  });
  if (!claims) return std::unexpected(claims.error());
  const auto issuer = text_of(*claims, "iss"), use = text_of(*claims, "token_use");
  const auto subject = text_of(*claims, "sub"), environment = text_of(*claims, "environment_id");
  const auto issued = number_of(*claims, "iat"), expires = number_of(*claims, "exp");
  if (issuer != options.issuer) return denied("token: of another issuer");
  if (use != kAccess) return denied("token: not made for this API");
  if (!subject || !environment || !issued || !expires) return denied("token: claims are missing");
  const UnixSeconds now = options.now();
  if (*issued > now + kClockSkew) return denied("token: from the future");
  if (*expires <= now) return denied("token: expired");
  auto caller = look_up(*subject, *environment);
  if (!caller) return std::unexpected(caller.error());
  return Known{std::move(*caller), *expires, version};
}

void Tokens::State::remember(const std::string& digest, const Known& one) {
  const std::unique_lock lock(mutex);
  // Only good tokens get here, so a flood of bad ones cannot empty it.
  if (known.size() >= options.cached_tokens && !known.contains(digest)) known.clear();
  known.insert_or_assign(digest, one);
}

Result<Caller> Tokens::verify(std::string_view token) {
  if (token.empty() || token.size() > kTokenBytesMax) {
    return denied("token: found " + std::to_string(token.size()) + " bytes, expected 1 to " +
                  std::to_string(kTokenBytesMax));
  }
  // Before anything is read: a revocation in between makes what is remembered here outdated.
  const std::uint64_t version = state_->store.version();
  const std::string digest = sha256(token);
  std::optional<State::Known> found;
  {
    const std::shared_lock lock(state_->mutex);
    if (const auto at = state_->known.find(digest); at != state_->known.end()) found = at->second;
  }
  if (found && found->expires <= state_->options.now()) return denied("token: expired");
  if (found && found->version == version) return std::move(found->caller);
  auto known = state_->open(token, version);
  if (!known) return std::unexpected(known.error());
  state_->remember(digest, *known);
  return std::move(known->caller);
}

Result<Caller> Tokens::verify_header(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  const bool bearer =
      authorization.size() > kScheme.size() &&
      std::ranges::equal(authorization.substr(0, kScheme.size()), kScheme,
                         [](char found, char expected) {
                           return (found >= 'A' && found <= 'Z' ? found + 32 : found) == expected;
                         });
  if (!bearer) return denied("authorization: expected 'Bearer <token>'");
  return verify(authorization.substr(kScheme.size()));
}

Result<Grant> Tokens::issue(std::string_view client_id, std::string_view secret,
                            std::string_view scope) {
  constexpr std::string_view kScope = "env:";
  const auto wrong = [] { return denied("client credentials: unknown client or wrong secret"); };
  if (client_id.empty() || client_id.size() > 128) return wrong();
  if (!scope.empty() && (!scope.starts_with(kScope) || scope.size() > 128)) {
    return fail(Error::Kind::invalid, "scope: expected nothing or env:<environment id>");
  }
  const auto client = state_->store.client(client_id);
  if (!client && client.error().kind != Error::Kind::not_found) {
    return std::unexpected(client.error());
  }
  if (!client || client->revoked != 0) return wrong();
  const auto kept = state_->store.client_secret_hash(client_id);
  if (!kept) return std::unexpected(kept.error());
  if (const auto right = state_->secrets.check(client->client_id, secret, *kept); !right) {
    if (right.error().kind == Error::Kind::denied) return wrong();
    return std::unexpected(right.error());
  }
  if (!scope.empty() && scope.substr(kScope.size()) != client->environment) {
    return fail(Error::Kind::not_found, "scope: the client has no such environment");
  }
  auto caller = state_->look_up(client->client_id, client->environment);
  if (!caller) return std::unexpected(caller.error());
  const UnixSeconds now = state_->options.now();
  Grant grant{"", std::move(*caller), now + state_->options.life};
  const json claims = {{"iss", state_->options.issuer},
                       {"sub", grant.caller.client_id},
                       {"environment_id", grant.caller.environment},
                       {"role", role_name(grant.caller.role)},
                       {"token_use", kAccess},
                       {"jti", hex(random_bytes(12))},
                       {"iat", now},
                       {"exp", grant.expires}};
  if (const auto loaded = state_->load_keys(state_->store.version()); !loaded) {
    return std::unexpected(loaded.error());
  }
  const auto keys = state_->current_signers();
  grant.token = make_jwt(claims, keys->back().id, keys->back().key.get());
  return grant;
}

Result<WorkloadToken> Tokens::issue_workload(const Caller& caller, const std::string& subject,
                                             const std::string& audience, UnixSeconds life) {
  if (subject.empty() || subject.size() > 512 || audience.empty() || audience.size() > 512 ||
      life <= 0 || life > 86'400) {
    return fail(Error::Kind::invalid,
                "workload token: expected a subject and an audience of 1 to 512 bytes and a life of"
                " 1 to 86400 seconds");
  }
  const UnixSeconds now = state_->options.now();
  WorkloadToken made{"", state_->options.issuer, subject, now + life};
  json claims = {{"iss", made.issuer},
                 {"sub", subject},
                 {"aud", audience},
                 {"environment_id", caller.environment},
                 {"token_use", kWorkload},
                 {"jti", hex(random_bytes(12))},
                 {"iat", now},
                 {"exp", made.expires}};
  const auto keys = state_->current_signers();
  try {
    made.token = make_jwt(claims, keys->back().id, keys->back().key.get());
  } catch (const json::exception&) {  // text that is not UTF-8
    return fail(Error::Kind::invalid, "workload token: subject and audience must be UTF-8");
  }
  return made;
}

Result<std::string> Tokens::jwks() {
  if (const auto loaded = state_->load_keys(state_->store.version()); !loaded) {
    return std::unexpected(loaded.error());
  }
  json keys = json::array();
  for (const auto& signer : *state_->current_signers()) {
    const auto [x, y] = public_point(signer.key.get());
    keys.push_back({{"kty", "EC"},
                    {"crv", "P-256"},
                    {"alg", "ES256"},
                    {"use", "sig"},
                    {"kid", signer.id},
                    {"x", base64url(x)},
                    {"y", base64url(y)}});
  }
  return json{{"keys", keys}}.dump();
}

}  // namespace chalk::identity
