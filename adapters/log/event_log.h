// The log of one root on disk: what it was told, in order, and snapshots of its State.
//
// One SQLite file in WAL mode, synchronous FULL: append returns when the batch is on the disk, and
// a batch is there whole or not at all, whatever dies. A writer says at which index it expects to
// append; where another writer was first, it is refused and must not go on (fencing).
// Not thread-safe: one thread uses it.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace chalk::log {

// The message names the file, what failed and what to do.
class LogError : public std::runtime_error {
 public:
  enum class Kind {
    disk,      // full, or failing: nothing was appended; the same call may succeed later
    conflict,  // another writer has appended: this one must stop
    format     // not a log of ours, of another version, or damaged
  };
  LogError(Kind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

struct Snapshot {
  std::uint64_t index = 0;  // of the first record after it
  std::string bytes;
};

class EventLog {
 public:
  static constexpr std::int64_t kFormatVersion = 2;
  static constexpr std::size_t kRecordBytesMax = 64u << 20;

  // Opens the log at `path`, or begins one; its files are their owner's only (0600). `logic_version`
  // is that of the machines that write it; a log of another version is refused.
  EventLog(const std::string& path, std::int64_t logic_version);
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  std::uint64_t first() const { return first_; }  // index of the oldest record kept
  std::uint64_t next() const { return next_; }    // index that the next record will have

  // All of the batch at `expected` and after it, or nothing. `digests` are what stepping the records
  // before `expected` gave, the last ones first appended: they are known only after their append,
  // and so are kept with the next.
  void append(std::uint64_t expected, std::span<const std::string> batch,
              std::span<const std::uint32_t> digests = {});
  void put_digests(std::uint64_t next, std::span<const std::uint32_t> digests);
  // The digests kept of records from `from` on, in order; those of the newest may be missing.
  void read_digests(std::uint64_t from,
                    const std::function<void(std::uint64_t index, std::uint32_t digest)>& visit);
  // Records from `from` on, in order; `from` must not lie before first().
  void read(std::uint64_t from,
            const std::function<void(std::uint64_t index, std::string_view bytes)>& visit);
  // The State before record `index`. Older snapshots go.
  void put_snapshot(std::uint64_t index, std::string_view bytes);
  std::optional<Snapshot> newest_snapshot();
  // Forgets records before `index`, but none that the newest snapshot does not cover.
  void trim(std::uint64_t index);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Close>;

  void run(const char* sql);
  Statement prepare(const char* sql);
  void check(int code, const char* doing);
  template <class Work>
  void transaction(Work&& work);
  std::int64_t number(const char* sql);
  void check_version(const char* name, std::int64_t ours);
  void insert_digests(std::uint64_t next, std::span<const std::uint32_t> digests);

  std::string path_;
  std::unique_ptr<sqlite3, Close> database_;
  Statement insert_;
  std::uint64_t first_ = 1;
  std::uint64_t next_ = 1;
};

}  // namespace chalk::log
