#include "adapters/log/event_log.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace chalk::log {
namespace {

// Records hold what tenants gave their sandboxes, so the file is its owner's only, whatever the umask.
// SQLite gives -wal and -shm the mode of the file beside them. What an older version left open is
// closed. The file is never opened here when it is there: to close it would drop SQLite's own locks.
void make_private(const std::string& path) {
  const auto need = [](bool good, const std::string& file, const char* doing) {
    if (good) return;
    throw LogError(LogError::Kind::disk,
                   file + ": cannot " + doing + ": " + std::strerror(errno));
  };
  const int fresh = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  need(fresh >= 0 || errno == EEXIST, path, "create");
  if (fresh >= 0) close(fresh);
  for (const char* beside : {"", "-wal", "-shm"}) {
    const std::string file = path + beside;
    need(chmod(file.c_str(), 0600) == 0 || errno == ENOENT, file, "set mode 0600 of");
  }
}

}  // namespace

void EventLog::Close::operator()(sqlite3* database) const { sqlite3_close(database); }
void EventLog::Close::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

EventLog::EventLog(const std::string& path, std::int64_t logic_version) : path_(path) {
  make_private(path);
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  database_.reset(opened);
  check(code, "open");
  sqlite3_busy_timeout(opened, 5000);
  run("PRAGMA journal_mode=WAL");
  run("PRAGMA synchronous=FULL");
  if (number("PRAGMA synchronous") != 2) {
    throw LogError(LogError::Kind::disk, path + ": SQLite does not sync here; use a local disk");
  }
  transaction([&] {
    run("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)");
    run("CREATE TABLE IF NOT EXISTS records (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
    run("CREATE TABLE IF NOT EXISTS snapshots (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
    run("CREATE TABLE IF NOT EXISTS digests (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
    check_version("format_version", kFormatVersion);
    check_version("logic_version", logic_version);
  });
  insert_ = prepare("INSERT INTO records (idx, bytes) VALUES (?1, ?2)");
  const std::int64_t snapshot = number("SELECT coalesce(max(idx), 1) FROM snapshots");
  first_ = static_cast<std::uint64_t>(
      number(("SELECT coalesce(min(idx), " + std::to_string(snapshot) + ") FROM records").c_str()));
  next_ = static_cast<std::uint64_t>(number(
      ("SELECT coalesce(max(idx) + 1, " + std::to_string(snapshot) + ") FROM records").c_str()));
  const std::int64_t count = number("SELECT count(*) FROM records");
  if (static_cast<std::uint64_t>(count) != next_ - first_) {
    throw LogError(LogError::Kind::format,
                   path + ": found " + std::to_string(count) + " records from " +
                       std::to_string(first_) + " to " + std::to_string(next_ - 1) +
                       ", expected one for each index; restore the file from a backup");
  }
}

EventLog::~EventLog() = default;

// What SQLite says, in our kinds.
void EventLog::check(int code, const char* doing) {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
  const std::string what = path_ + ": cannot " + doing + ": " +
                           (database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(code));
  switch (code & 0xFF) {
    case SQLITE_CONSTRAINT:
      throw LogError(LogError::Kind::conflict, what + "; another process writes this log");
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      throw LogError(LogError::Kind::format, what + "; restore the file from a backup");
    case SQLITE_FULL: throw LogError(LogError::Kind::disk, what + "; free some space on that disk");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw LogError(LogError::Kind::disk, what + "; another process holds the file");
    default: throw LogError(LogError::Kind::disk, what);
  }
}

void EventLog::run(const char* sql) {
  check(sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr), sql);
}

EventLog::Statement EventLog::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  check(sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr), sql);
  return Statement(statement);
}

std::int64_t EventLog::number(const char* sql) {
  const Statement statement = prepare(sql);
  const int code = sqlite3_step(statement.get());
  check(code, sql);
  return code == SQLITE_ROW ? sqlite3_column_int64(statement.get(), 0) : 0;
}

void EventLog::check_version(const char* name, std::int64_t ours) {
  const std::string quoted = "'" + std::string(name) + "'";
  const auto found =
      number(("SELECT coalesce((SELECT value FROM meta WHERE name = " + quoted + "), 0)").c_str());
  if (found == 0) {
    run(("INSERT INTO meta VALUES (" + quoted + ", " + std::to_string(ours) + ")").c_str());
  } else if (found != ours) {
    throw LogError(LogError::Kind::format, path_ + ": " + name + " is " + std::to_string(found) +
                                               ", expected " + std::to_string(ours) +
                                               "; open it with the Chalk that wrote it");
  }
}

template <class Work>
void EventLog::transaction(Work&& work) {
  run("BEGIN IMMEDIATE");
  try {
    work();
    run("COMMIT");
  } catch (...) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

void EventLog::append(std::uint64_t expected, std::span<const std::string> batch,
                      std::span<const std::uint32_t> digests) {
  if (expected != next_) {
    throw LogError(LogError::Kind::conflict, path_ + ": the next index is " +
                                                 std::to_string(next_) + ", not " +
                                                 std::to_string(expected));
  }
  transaction([&] {
    insert_digests(expected, digests);
    std::uint64_t index = expected;
    for (const std::string& record : batch) {
      if (record.size() > kRecordBytesMax) {
        throw LogError(LogError::Kind::format,
                       path_ + ": a record of " + std::to_string(record.size()) +
                           " bytes, expected at most " + std::to_string(kRecordBytesMax));
      }
      sqlite3_reset(insert_.get());
      sqlite3_bind_int64(insert_.get(), 1, static_cast<std::int64_t>(index++));
      sqlite3_bind_blob64(insert_.get(), 2, record.data(), record.size(), SQLITE_STATIC);
      const int code = sqlite3_step(insert_.get());
      sqlite3_reset(insert_.get());
      check(code, "append");
    }
  });
  next_ += batch.size();
}

void EventLog::put_digests(std::uint64_t next, std::span<const std::uint32_t> digests) {
  transaction([&] { insert_digests(next, digests); });
}

// One row for a batch: its bytes are the digests, four each, low byte first.
void EventLog::insert_digests(std::uint64_t next, std::span<const std::uint32_t> digests) {
  if (digests.empty()) return;
  std::string bytes;
  for (const std::uint32_t digest : digests) {
    for (int byte = 0; byte < 4; ++byte) bytes.push_back(static_cast<char>(digest >> byte * 8));
  }
  const Statement insert = prepare("INSERT OR REPLACE INTO digests (idx, bytes) VALUES (?1, ?2)");
  sqlite3_bind_int64(insert.get(), 1, static_cast<std::int64_t>(next - digests.size()));
  sqlite3_bind_blob64(insert.get(), 2, bytes.data(), bytes.size(), SQLITE_STATIC);
  check(sqlite3_step(insert.get()), "keep digests");
}

void EventLog::read_digests(std::uint64_t from,
                            const std::function<void(std::uint64_t, std::uint32_t)>& visit) {
  const Statement select = prepare(
      "SELECT idx, bytes FROM digests WHERE idx >= (SELECT coalesce(max(idx), 0) FROM digests WHERE "
      "idx <= ?1) ORDER BY idx");
  sqlite3_bind_int64(select.get(), 1, static_cast<std::int64_t>(from));
  while (true) {
    const int code = sqlite3_step(select.get());
    check(code, "read digests");
    if (code != SQLITE_ROW) return;
    auto index = static_cast<std::uint64_t>(sqlite3_column_int64(select.get(), 0));
    const auto* bytes = static_cast<const unsigned char*>(sqlite3_column_blob(select.get(), 1));
    const int size = sqlite3_column_bytes(select.get(), 1);
    for (int at = 0; at + 4 <= size; at += 4, ++index) {
      std::uint32_t digest = 0;
      for (int byte = 0; byte < 4; ++byte) digest |= std::uint32_t{bytes[at + byte]} << byte * 8;
      if (index >= from) visit(index, digest);
    }
  }
}

void EventLog::read(std::uint64_t from,
                    const std::function<void(std::uint64_t, std::string_view)>& visit) {
  if (from < first_) {
    throw LogError(LogError::Kind::format, path_ + ": record " + std::to_string(from) +
                                               " was trimmed; the first is " +
                                               std::to_string(first_));
  }
  const Statement select = prepare("SELECT idx, bytes FROM records WHERE idx >= ?1 ORDER BY idx");
  sqlite3_bind_int64(select.get(), 1, static_cast<std::int64_t>(from));
  const auto missing = [&](std::uint64_t index) {
    throw LogError(LogError::Kind::format,
                   path_ + ": record " + std::to_string(index) + " is missing");
  };
  for (std::uint64_t expected = from;; ++expected) {
    const int code = sqlite3_step(select.get());
    check(code, "read");
    if (code != SQLITE_ROW && expected < next_) missing(expected);
    if (code != SQLITE_ROW) return;
    const auto index = static_cast<std::uint64_t>(sqlite3_column_int64(select.get(), 0));
    if (index != expected) missing(expected);
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(select.get(), 1));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(select.get(), 1));
    visit(index, {bytes, size});
  }
}

void EventLog::put_snapshot(std::uint64_t index, std::string_view bytes) {
  transaction([&] {
    const Statement insert =
        prepare("INSERT OR REPLACE INTO snapshots (idx, bytes) VALUES (?1, ?2)");
    sqlite3_bind_int64(insert.get(), 1, static_cast<std::int64_t>(index));
    sqlite3_bind_blob64(insert.get(), 2, bytes.data(), bytes.size(), SQLITE_STATIC);
    check(sqlite3_step(insert.get()), "keep a snapshot");
    run(("DELETE FROM snapshots WHERE idx < " + std::to_string(index)).c_str());
  });
}

std::optional<Snapshot> EventLog::newest_snapshot() {
  const Statement select = prepare("SELECT idx, bytes FROM snapshots ORDER BY idx DESC LIMIT 1");
  const int code = sqlite3_step(select.get());
  check(code, "read a snapshot");
  if (code != SQLITE_ROW) return std::nullopt;
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(select.get(), 1));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(select.get(), 1));
  return Snapshot{static_cast<std::uint64_t>(sqlite3_column_int64(select.get(), 0)),
                  std::string(bytes, size)};
}

void EventLog::trim(std::uint64_t index) {
  const std::int64_t covered = number("SELECT coalesce(max(idx), 0) FROM snapshots");
  const std::uint64_t until = std::min(index, static_cast<std::uint64_t>(covered));
  if (until <= first_) return;
  transaction([&] { 
    run(("DELETE FROM records WHERE idx < " + std::to_string(until)).c_str());
    run(("DELETE FROM digests WHERE idx < (SELECT max(idx) FROM digests WHERE idx <= " +
         std::to_string(until) + ")")
            .c_str());
  });
  first_ = until;
}

}  // namespace chalk::log
