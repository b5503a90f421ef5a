// The store's clients and signing keys.
#include "adapters/identity/base64url.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/query.h"
#include "adapters/identity/secret_hash.h"

namespace chalk::identity {
namespace {

Error no_client() { return Error{Error::Kind::not_found, "client: there is none such"}; }

}  // namespace

Result<NewClient> Store::create_client(const std::string& environment, Role role) {
  const NewClient made{"client-" + hex(random_bytes(16)), "secret-" + base64url(random_bytes(32))};
  const std::string hash = hash_secret(made.secret);  // slow, so before anything is locked
  return transaction([&]() -> Result<NewClient> {
    Query exists(*this, "SELECT 1 FROM environments WHERE id = ?1");
    if (!exists.bind(environment).step()) {
      return fail(Error::Kind::not_found,
                  "environment '" + environment.substr(0, 64) + "': there is none such");
    }
    Query count(*this, "SELECT count(*) FROM clients WHERE environment = ?1");
    count.bind(environment).step();
    if (count.number(0) >= kClientsPerEnvironmentMax) {
      return fail(Error::Kind::exhausted,
                  "clients of " + environment + ": the most there can be are " +
                      std::to_string(kClientsPerEnvironmentMax) + ", revoked ones too");
    }
    Query(*this,
          "INSERT INTO clients (client_id, environment, role, secret_hash, created)"
          " VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(made.client_id)
        .bind(environment)
        .bind(role_name(role))
        .bind(hash)
        .bind(system_seconds())
        .run();
    return made;
  });
}

Result<Client> Store::client(std::string_view client_id) {
  return reading([&]() -> Result<Client> {
    Query one(*this,
              "SELECT client_id, environment, role, created, revoked FROM clients"
              " WHERE client_id = ?1");
    if (!one.bind(client_id).step()) return std::unexpected(no_client());
    const auto role = role_from_name(one.text(2));
    if (!role) return std::unexpected(role.error());
    return Client{one.text(0), one.text(1), *role, one.number(3), one.number(4)};
  });
}

Result<std::vector<Client>> Store::list_clients(const std::string& environment) {
  return reading([&]() -> Result<std::vector<Client>> {
    std::vector<Client> all;
    Query each(*this,
               "SELECT client_id, environment, role, created, revoked FROM clients"
               " WHERE ?1 = '' OR environment = ?1 ORDER BY created, rowid");
    each.bind(environment);
    while (each.step()) {
      const auto role = role_from_name(each.text(2));
      if (!role) return std::unexpected(role.error());
      all.push_back(Client{each.text(0), each.text(1), *role, each.number(3), each.number(4)});
    }
    return all;
  });
}

Result<void> Store::revoke_client(const std::string& client_id) {
  return transaction([&]() -> Result<void> {
    Query update(*this,
                 "UPDATE clients SET revoked = CASE revoked WHEN 0 THEN ?1 ELSE revoked END WHERE "
                 "client_id = ?2");
    update.bind(system_seconds()).bind(client_id).run();
    if (update.changes() == 0) return std::unexpected(no_client());
    return {};
  });
}

Result<std::string> Store::client_secret_hash(std::string_view client_id) {
  return reading([&]() -> Result<std::string> {
    Query one(*this, "SELECT secret_hash FROM clients WHERE client_id = ?1");
    if (!one.bind(client_id).step()) return std::unexpected(no_client());
    return one.text(0);
  });
}

void Store::insert_signing_key() {
  const Key key = make_key();
  Query(*this, "INSERT INTO signing_keys (id, private_pem, created) VALUES (?1, ?2, ?3)")
      .bind("key-" + hex(random_bytes(8)))
      .bind(private_pem(key.get()))
      .bind(system_seconds())
      .run();
}

Result<void> Store::add_signing_key() {
  return transaction([&]() -> Result<void> {
    Query count(*this, "SELECT count(*) FROM signing_keys");
    if (count.step() && count.number(0) >= 64) {
      return fail(Error::Kind::exhausted, "signing keys: there are 64 already");
    }
    insert_signing_key();
    return {};
  });
}

Result<std::vector<Store::SigningKey>> Store::signing_keys() {
  return reading([&]() -> Result<std::vector<SigningKey>> {
    std::vector<SigningKey> all;
    Query each(*this, "SELECT id, private_pem, created FROM signing_keys ORDER BY position");
    while (each.step()) all.push_back(SigningKey{each.text(0), each.text(1), each.number(2)});
    return all;
  });
}

}  // namespace chalk::identity
