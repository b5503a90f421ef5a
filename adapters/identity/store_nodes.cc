// The store's join tokens and nodes. A join token reads "join-<id>-<secret>"; the secret is 256
// random bits, so a plain hash keeps it.
#include <bit>
#include <cstring>

#include "adapters/identity/base64url.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/query.h"

namespace chalk::identity {
namespace {

constexpr UnixSeconds kTokenLifeMax = 30 * 86'400;
constexpr std::size_t kIdBytes = 16;  // in hex
constexpr std::string_view kPrefix = "join-";
constexpr std::size_t kTokenBytes = kPrefix.size() + kIdBytes + 1 + 43;

Error bad_token() {
  return Error{Error::Kind::denied, "join token: unknown, used up, expired or revoked"};
}

std::uint64_t random_key() {
  const std::string bytes = random_bytes(sizeof(std::uint64_t));
  std::uint64_t key = 0;
  std::memcpy(&key, bytes.data(), sizeof key);
  return key | 1;  // never 0
}

}  // namespace

Result<NewNodeToken> Store::create_node_token(std::uint32_t uses, UnixSeconds life) {
  if (uses == 0 || uses > kNodeTokenUsesMax || life <= 0 || life > kTokenLifeMax) {
    return fail(Error::Kind::invalid, "join token: found " + std::to_string(uses) + " uses and " +
                                          std::to_string(life) + " seconds, expected 1 to " +
                                          std::to_string(kNodeTokenUsesMax) + " and 1 to " +
                                          std::to_string(kTokenLifeMax));
  }
  NewNodeToken made;
  made.id = hex(random_bytes(kIdBytes / 2));
  made.token = std::string(kPrefix) + made.id + "-" + base64url(random_bytes(32));
  made.expires = system_seconds() + life;
  return transaction([&]() -> Result<NewNodeToken> {
    Query(*this, "DELETE FROM node_tokens WHERE expires <= ?1").bind(system_seconds()).run();
    Query count(*this, "SELECT count(*) FROM node_tokens");
    if (count.step() && count.number(0) >= kNodeTokenUsesMax) {
      return fail(Error::Kind::exhausted, "join tokens: " + std::to_string(kNodeTokenUsesMax) +
                                              " are open already; revoke some");
    }
    Query(*this, "INSERT INTO node_tokens (id, hash, uses_left, expires) VALUES (?1, ?2, ?3, ?4)")
        .bind(made.id)
        .bind(hex(sha256(made.token)))
        .bind(static_cast<std::int64_t>(uses))
        .bind(made.expires)
        .run();
    return made;
  });
}

Result<void> Store::revoke_node_token(const std::string& id) {
  return transaction([&]() -> Result<void> {
    Query gone(*this, "DELETE FROM node_tokens WHERE id = ?1");
    gone.bind(id).run();
    if (gone.changes() == 0) {
      return fail(Error::Kind::not_found,
                  "join token '" + id.substr(0, 64) + "': there is none such");
    }
    return {};
  });
}

Result<std::uint64_t> Store::redeem_node_token(std::string_view token, std::uint64_t key,
                                               std::string_view public_key) {
  if (token.size() != kTokenBytes || !token.starts_with(kPrefix)) {
    return std::unexpected(bad_token());
  }
  const std::string id(token.substr(kPrefix.size(), kIdBytes));
  if (key == 0) key = random_key();
  return transaction([&]() -> Result<std::uint64_t> {
    Query one(*this, "SELECT hash, uses_left, expires FROM node_tokens WHERE id = ?1");
    const bool known = one.bind(id).step();
    if (!known || !same_bytes(one.text(0), hex(sha256(token))) ||
        one.number(2) <= system_seconds()) {
      return std::unexpected(bad_token());
    }
    Query again(*this,
                "SELECT key FROM nodes WHERE token = ?1 AND public_key = ?2 AND revoked = 0");
    if (again.bind(id).bind(public_key).step())
      return std::bit_cast<std::uint64_t>(again.number(0));
    if (one.number(1) <= 0) return std::unexpected(bad_token());
    Query taken(*this, "SELECT 1 FROM nodes WHERE key = ?1");
    if (taken.bind(std::bit_cast<std::int64_t>(key)).step()) {
      return fail(Error::Kind::denied,
                  "node " + std::to_string(key) +
                      ": has joined before; it must renew, or join with a new key");
    }
    Query(*this, "UPDATE node_tokens SET uses_left = uses_left - 1 WHERE id = ?1").bind(id).run();
    Query(*this, "INSERT INTO nodes (key, token, public_key, joined) VALUES (?1, ?2, ?3, ?4)")
        .bind(std::bit_cast<std::int64_t>(key))
        .bind(id)
        .bind(public_key)
        .bind(system_seconds())
        .run();
    return key;
  });
}

Result<NodeRecord> Store::node(std::uint64_t key) {
  return reading([&]() -> Result<NodeRecord> {
    Query one(*this, "SELECT joined, revoked FROM nodes WHERE key = ?1");
    if (!one.bind(std::bit_cast<std::int64_t>(key)).step()) {
      return fail(Error::Kind::not_found, "node " + std::to_string(key) + ": has never joined");
    }
    return NodeRecord{key, one.number(0), one.number(1)};
  });
}

Result<std::vector<NodeRecord>> Store::list_nodes() {
  return reading([&]() -> Result<std::vector<NodeRecord>> {
    std::vector<NodeRecord> all;
    Query each(*this, "SELECT key, joined, revoked FROM nodes ORDER BY joined, key");
    while (each.step()) {
      all.push_back(
          NodeRecord{std::bit_cast<std::uint64_t>(each.number(0)), each.number(1), each.number(2)});
    }
    return all;
  });
}

Result<void> Store::revoke_node(std::uint64_t key) {
  return transaction([&]() -> Result<void> {
    Query update(
        *this,
        "UPDATE nodes SET revoked = CASE revoked WHEN 0 THEN ?1 ELSE revoked END WHERE key = ?2");
    update.bind(system_seconds()).bind(std::bit_cast<std::int64_t>(key)).run();
    if (update.changes() == 0) {
      return fail(Error::Kind::not_found, "node " + std::to_string(key) + ": has never joined");
    }
    return {};
  });
}

}  // namespace chalk::identity
