#include "adapters/identity/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "adapters/identity/base64url.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/query.h"
#include "adapters/identity/secret_hash.h"

namespace chalk::identity {
namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr std::int64_t kLookAgainMilliseconds = 1000;

std::int64_t steady_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// SQLite gives its -wal and -shm files the mode of the file itself.
void make_private_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) throw std::runtime_error(path + ": cannot open: " + std::strerror(errno));
  const bool good = fchmod(file, 0600) == 0;
  const int code = errno;
  close(file);
  if (!good) throw std::runtime_error(path + ": cannot set mode 0600: " + std::strerror(code));
}

bool good_environment_id(std::string_view id) {
  return !id.empty() && id.size() <= 63 && id.front() != '-' && id.back() != '-' &&
         std::ranges::all_of(id, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 &&
         std::ranges::none_of(name, [](unsigned char c) { return c < 32 || c == 127; });
}

}  // namespace

UnixSeconds system_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string_view role_name(Role role) { return role == Role::admin ? "admin" : "user"; }

Result<Role> role_from_name(std::string_view name) {
  if (name == "user") return Role::user;
  if (name == "admin") return Role::admin;
  return fail(Error::Kind::invalid,
              "role: found '" + std::string(name.substr(0, 64)) + "', expected user or admin");
}

void Store::Close::operator()(sqlite3* database) const { sqlite3_close(database); }
void Store::Close::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Store::Store(const std::string& path) : path_(path) {
  make_private_file(path);
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  database_.reset(opened);
  if (code != SQLITE_OK) {
    throw std::runtime_error(path + ": cannot open: " +
                             (opened != nullptr ? sqlite3_errmsg(opened) : sqlite3_errstr(code)));
  }
  sqlite3_busy_timeout(opened, 10'000);
  const auto made = reading([&]() -> Result<void> {
    Query(*this, "PRAGMA journal_mode=WAL").run();
    Query(*this, "PRAGMA synchronous=FULL").run();
    Query(*this, "PRAGMA foreign_keys=ON").run();
    Query synchronous(*this, "PRAGMA synchronous");
    if (!synchronous.step() || synchronous.number(0) != 2) {
      return fail(Error::Kind::failed, path_ + ": SQLite does not sync here; use a local disk");
    }
    return {};
  });
  if (!made) throw std::runtime_error(made.error().message);
  make_tables();
}

Store::~Store() = default;

void Store::make_tables() {
  const auto made = transaction([&]() -> Result<void> {
    for (const char* sql :
         {"CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
          "CREATE TABLE IF NOT EXISTS environments (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
          " tenant INTEGER NOT NULL UNIQUE, created INTEGER NOT NULL)",
          "CREATE TABLE IF NOT EXISTS clients (client_id TEXT PRIMARY KEY, environment TEXT NOT "
          "NULL"
          " REFERENCES environments(id), role TEXT NOT NULL, secret_hash TEXT NOT NULL,"
          " created INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0)",
          "CREATE INDEX IF NOT EXISTS clients_of_environment ON clients (environment)",
          "CREATE TABLE IF NOT EXISTS signing_keys (position INTEGER PRIMARY KEY, id TEXT NOT NULL"
          " UNIQUE, private_pem TEXT NOT NULL, created INTEGER NOT NULL)",
          "CREATE TABLE IF NOT EXISTS node_tokens (id TEXT PRIMARY KEY, hash TEXT NOT NULL,"
          " uses_left INTEGER NOT NULL, expires INTEGER NOT NULL)",
          "CREATE TABLE IF NOT EXISTS nodes (key INTEGER PRIMARY KEY, token TEXT NOT NULL,"
          " public_key TEXT NOT NULL, joined INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT "
          "0)"}) {
      Query(*this, sql).run();
    }
    Query(*this, "INSERT OR IGNORE INTO meta VALUES ('format_version', ?1)")
        .bind(kFormatVersion)
        .run();
    Query version(*this, "SELECT value FROM meta WHERE name = 'format_version'");
    if (!version.step() || version.number(0) != kFormatVersion) {
      return fail(Error::Kind::corrupt, path_ + ": found format " +
                                            std::to_string(version.number(0)) + ", expected " +
                                            std::to_string(kFormatVersion));
    }
    Query keys(*this, "SELECT count(*) FROM signing_keys");
    if (keys.step() && keys.number(0) == 0) insert_signing_key();
    return {};
  });
  if (!made) throw std::runtime_error(made.error().message);
}

Result<Environment> Store::create_environment(const std::string& name, const std::string& id) {
  Environment made{id.empty() ? "env-" + hex(random_bytes(8)) : id, name, 0, system_seconds()};
  if (!good_environment_id(made.id)) {
    return fail(Error::Kind::invalid,
                "environment id: expected 1 to 63 lower case letters, digits and hyphens");
  }
  if (!good_name(name)) {
    return fail(Error::Kind::invalid, "environment name: expected 1 to 128 printable bytes");
  }
  return transaction([&]() -> Result<Environment> {
    Query taken(*this, "SELECT 1 FROM environments WHERE id = ?1 OR name = ?2");
    if (taken.bind(made.id).bind(name).step()) {
      return fail(Error::Kind::invalid,
                  "environment '" + made.id + "' ('" + name + "'): its id or name is taken");
    }
    Query last(*this, "SELECT coalesce(max(tenant), 0) FROM environments");
    last.step();
    if (last.number(0) >= kEnvironmentsMax) {
      return fail(Error::Kind::exhausted,
                  "environments: the most there can be are " + std::to_string(kEnvironmentsMax));
    }
    made.tenant = static_cast<std::uint32_t>(last.number(0) + 1);
    Query(*this, "INSERT INTO environments (id, name, tenant, created) VALUES (?1, ?2, ?3, ?4)")
        .bind(made.id)
        .bind(made.name)
        .bind(static_cast<std::int64_t>(made.tenant))
        .bind(made.created)
        .run();
    return made;
  });
}

namespace {
constexpr const char* kNoEnvironment = "environment: there is none such";
}

Result<Environment> Store::environment(std::string_view id) {
  return reading([&]() -> Result<Environment> {
    Query one(*this, "SELECT id, name, tenant, created FROM environments WHERE id = ?1");
    if (!one.bind(id).step()) return fail(Error::Kind::not_found, kNoEnvironment);
    return Environment{one.text(0), one.text(1), static_cast<std::uint32_t>(one.number(2)),
                       one.number(3)};
  });
}

Result<Environment> Store::environment_of_tenant(std::uint32_t tenant) {
  return reading([&]() -> Result<Environment> {
    Query one(*this, "SELECT id, name, tenant, created FROM environments WHERE tenant = ?1");
    if (!one.bind(static_cast<std::int64_t>(tenant)).step()) {
      return fail(Error::Kind::not_found, kNoEnvironment);
    }
    return Environment{one.text(0), one.text(1), static_cast<std::uint32_t>(one.number(2)),
                       one.number(3)};
  });
}

Result<std::vector<Environment>> Store::list_environments() {
  return reading([&]() -> Result<std::vector<Environment>> {
    std::vector<Environment> all;
    Query each(*this, "SELECT id, name, tenant, created FROM environments ORDER BY tenant");
    while (each.step()) {
      all.push_back(Environment{each.text(0), each.text(1),
                                static_cast<std::uint32_t>(each.number(2)), each.number(3)});
    }
    return all;
  });
}

std::uint64_t Store::version() {
  const std::int64_t now = steady_milliseconds();
  std::int64_t looked = looked_.load();
  if (now - looked >= kLookAgainMilliseconds && looked_.compare_exchange_strong(looked, now)) {
    const auto found = reading([&]() -> Result<std::int64_t> {
      Query data_version(*this, "PRAGMA data_version");  // grows when another connection commits
      data_version.step();
      return data_version.number(0);
    });
    // What cannot be read may have changed.
    if (!found || data_version_.exchange(*found) != *found) changed();
  }
  return version_.load();
}

}  // namespace chalk::identity
