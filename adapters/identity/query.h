// One prepared statement of the store, for use inside a Store call. Errors leave as Failed, which
// Store's calls turn into a Result.
#pragma once
#include <sqlite3.h>

#include <string>
#include <string_view>

#include "adapters/identity/store.h"

namespace chalk::identity {

struct Failed {
  Error error;
};

class Store::Query {
 public:
  Query(const Store& store, const char* sql) : store_(store) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(store.database_.get(), sql, -1, &statement, nullptr));
    statement_.reset(statement);
  }
  Query& bind(std::int64_t value) {
    check(sqlite3_bind_int64(statement_.get(), ++bound_, value));
    return *this;
  }
  Query& bind(std::string_view value) {
    check(sqlite3_bind_text64(statement_.get(), ++bound_, value.data(), value.size(),
                              SQLITE_TRANSIENT, SQLITE_UTF8));
    return *this;
  }
  // True where there is a row to read.
  bool step() {
    const int code = sqlite3_step(statement_.get());
    if (code != SQLITE_ROW && code != SQLITE_DONE) check(code);
    return code == SQLITE_ROW;
  }
  void run() {
    while (step()) {
    }
  }
  std::int64_t number(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  std::string text(int column) const {
    const auto* data = sqlite3_column_text(statement_.get(), column);
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
    return data == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(data), size);
  }
  int changes() const { return sqlite3_changes(store_.database_.get()); }

 private:
  void check(int code) const {
    if (code == SQLITE_OK) return;
    const bool later = (code & 255) == SQLITE_BUSY || (code & 255) == SQLITE_FULL;
    const bool damaged = (code & 255) == SQLITE_CORRUPT || (code & 255) == SQLITE_NOTADB;
    throw Failed{Error{later     ? Error::Kind::unavailable
                       : damaged ? Error::Kind::corrupt
                                 : Error::Kind::failed,
                       store_.path_ + ": " + sqlite3_errmsg(store_.database_.get())}};
  }
  const Store& store_;
  std::unique_ptr<sqlite3_stmt, Close> statement_;
  int bound_ = 0;
};

// Runs `work`, which returns a Result, alone and as one transaction: kept when it returns a value,
// undone when it returns or throws an error.
template <class Work>
auto Store::transaction(Work&& work) -> decltype(work()) {
  const std::lock_guard lock(mutex_);
  try {
    Query(*this, "BEGIN IMMEDIATE").run();
    auto result = work();
    Query(*this, result ? "COMMIT" : "ROLLBACK").run();
    if (result) changed();
    return result;
  } catch (const Failed& failed) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);  // if it is open still
    return std::unexpected(failed.error);
  }
}

template <class Work>
auto Store::reading(Work&& work) -> decltype(work()) {
  const std::lock_guard lock(mutex_);
  try {
    return work();
  } catch (const Failed& failed) {
    return std::unexpected(failed.error);
  }
}

}  // namespace chalk::identity
