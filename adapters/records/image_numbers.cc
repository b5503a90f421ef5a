#include "adapters/records/image_numbers.h"

#include <sqlite3.h>

#include <stdexcept>

namespace chalk::records {

void ImageNumbers::Close::operator()(sqlite3* database) const { sqlite3_close(database); }

ImageNumbers::ImageNumbers(const std::string& path) : path_(path) {
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  database_.reset(opened);
  const char* const sql =
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS images "
      "(number INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE)";
  if (code != SQLITE_OK || sqlite3_exec(opened, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    throw std::runtime_error(path + ": cannot open: " + sqlite3_errmsg(opened));
  }
}

ImageNumbers::~ImageNumbers() = default;

Result<ImageId> ImageNumbers::number_of(const std::string& digest) {
  const std::lock_guard lock(mutex_);
  const auto broken = [&] {
    return fail(Error::Kind::failed, path_ + ": " + sqlite3_errmsg(database_.get()));
  };
  // Looked for first: an insert that is ignored would still use up a number.
  for (const char* sql :
       {"SELECT number FROM images WHERE digest = ?1", "INSERT INTO images (digest) VALUES (?1)",
        "SELECT number FROM images WHERE digest = ?1"}) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr) != SQLITE_OK) {
      return broken();
    }
    sqlite3_bind_text(statement, 1, digest.data(), static_cast<int>(digest.size()),
                      SQLITE_TRANSIENT);
    const int code = sqlite3_step(statement);
    const auto number = static_cast<std::uint64_t>(
        code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0);
    sqlite3_finalize(statement);
    if (code == SQLITE_ROW) return ImageId{number};
    if (code != SQLITE_DONE) return broken();
  }
  return broken();
}

}  // namespace chalk::records
