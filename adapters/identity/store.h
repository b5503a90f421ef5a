// Who may use this installation: environments, clients and their secrets, the keys that sign
// tokens, join tokens of nodes and the nodes that have joined.
//
// One SQLite file (mode 0600, WAL, synchronous FULL): a call that changes something returns when
// it is on the disk, whole or not at all. Secrets are kept as scrypt hashes (clients) or SHA-256 of
// 256 random bits (join tokens) and are shown once, when they are made. Thread safe; several
// processes may open the same file, each sees what the others wrote.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace chalk::identity {

// All times are seconds since 1970 in UTC.
using UnixSeconds = std::int64_t;
UnixSeconds system_seconds();

enum class Role : std::uint8_t { user, admin };
std::string_view role_name(Role role);  // "user", "admin"
Result<Role> role_from_name(std::string_view name);

struct Environment {
  std::string id;            // lower case letters, digits and hyphens, 1 to 63; never changes
  std::string name;          // for people, 1 to 128 bytes of UTF-8; unique
  std::uint32_t tenant = 0;  // the tenant of the model: dense, from 1
  UnixSeconds created = 0;
};

struct Client {
  std::string client_id;
  std::string environment;
  Role role = Role::user;
  UnixSeconds created = 0;
  UnixSeconds revoked = 0;  // 0 while it is good
};

struct NewClient {
  std::string client_id;
  std::string secret;  // nobody can show it again
};

struct NewNodeToken {
  std::string id;     // for lists and revocation; not secret
  std::string token;  // what the node presents; nobody can show it again
  UnixSeconds expires = 0;
};

struct NodeRecord {
  std::uint64_t key = 0;  // NodeRegistration::key of the model
  UnixSeconds joined = 0;
  UnixSeconds revoked = 0;  // 0 while it is good
};

class Store {
 public:
  static constexpr std::uint32_t kEnvironmentsMax = 100'000;
  static constexpr std::uint32_t kClientsPerEnvironmentMax = 1'000;
  static constexpr std::uint32_t kNodeTokenUsesMax = 10'000;

  // Opens the file, or begins one. Throws std::runtime_error where that does not work.
  explicit Store(const std::string& path);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // An empty id is drawn at random. Kind::invalid for a bad name, and for one that exists already.
  Result<Environment> create_environment(const std::string& name, const std::string& id = "");
  Result<Environment> environment(std::string_view id);
  Result<Environment> environment_of_tenant(std::uint32_t tenant);
  Result<std::vector<Environment>> list_environments();

  Result<NewClient> create_client(const std::string& environment, Role role);
  Result<Client> client(std::string_view client_id);
  // Of one environment, or of all for an empty one; revoked ones too.
  Result<std::vector<Client>> list_clients(const std::string& environment = "");
  // Its secret and all its tokens end at once. Doing it again is fine.
  Result<void> revoke_client(const std::string& client_id);

  // Join tokens: `uses` nodes may join with it within `life` seconds (at most 30 days).
  Result<NewNodeToken> create_node_token(std::uint32_t uses = 1, UnixSeconds life = 3600);
  Result<void> revoke_node_token(const std::string& id);
  // Spends one use and writes the node down, in one transaction. key 0: one is drawn. A key that
  // has joined before is refused, so that no token lets a machine take another one's place. The
  // same token with the same `public_key` (any digest of it) again gives the same node and costs
  // nothing: the first answer may have been lost.
  Result<std::uint64_t> redeem_node_token(std::string_view token, std::uint64_t key,
                                          std::string_view public_key);
  Result<NodeRecord> node(std::uint64_t key);
  Result<std::vector<NodeRecord>> list_nodes();
  Result<void> revoke_node(std::uint64_t key);

  // ---- for Tokens -----------------------------------------------------------------------------
  // Kind::not_found for an unknown client. The hash is what secret_hash.h made of the secret.
  Result<std::string> client_secret_hash(std::string_view client_id);
  struct SigningKey {
    std::string id;           // "kid"
    std::string private_pem;  // PKCS#8
    UnixSeconds created = 0;
  };
  // Oldest first; the last one signs, all of them verify. A new store has one.
  Result<std::vector<SigningKey>> signing_keys();
  Result<void> add_signing_key();
  // Grows whenever clients, environments or keys change, by this process at once and by another
  // within a second: what is cached of them is good while it stays the same.
  std::uint64_t version();

 private:
  struct Close {
    void operator()(sqlite3* database) const;
    void operator()(sqlite3_stmt* statement) const;
  };
  class Query;
  template <class Work>
  auto transaction(Work&& work) -> decltype(work());
  template <class Work>
  auto reading(Work&& work) -> decltype(work());
  void make_tables();
  void insert_signing_key();
  void changed() { version_.fetch_add(1); }

  std::string path_;
  std::mutex mutex_;  // one connection, one call at a time
  std::unique_ptr<sqlite3, Close> database_;
  std::atomic<std::uint64_t> version_{1};
  std::atomic<std::int64_t> looked_{0};  // when another process's writes were last asked for
  std::atomic<std::int64_t> data_version_{0};
};

}  // namespace chalk::identity
