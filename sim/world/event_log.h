// The event log of a run, in the format of model/protocol/log_record.h: everything that `replay`
// needs and nothing that a scenario decides.
#pragma once
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include "model/protocol/log_record.h"

namespace chalk::sim {

inline constexpr std::uint64_t kRecordBytesMax = 64 << 20;

struct LogRecord {
  RecordTag tag{};
  Root root{};
  std::uint32_t index = 0;
  std::int64_t nanos_later = 0;  // event: since the record before
  std::string bytes;             // header, created: the encoded value; event: the encoded Event
  std::uint64_t events = 0;      // checkpoint, finished
  std::uint64_t state_digest = 0;
  std::uint64_t running_digest = 0;
};

// The file, its record number and byte offset, what was found and what was expected.
class LogError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A disk that is full ends the log and not the run, which may have taken hours: the file, of no use
// without its end, is removed, and error() says why there is none.
class LogWriter {
 public:
  // Throws LogError where the file cannot be made.
  LogWriter(const std::string& path, const LogHeader& header);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  template <class Config>
  void created(Root root, std::uint32_t index, const Config& config) {
    write(encoder_.created(root, index, config));
  }
  template <class Event>
  void event(Root root, std::uint32_t index, Time now, const Event& event, std::uint64_t running) {
    write(encoder_.event(root, index, now, event, running));
  }
  void checkpoint(std::uint64_t events, std::uint64_t state, std::uint64_t running);
  void restarted(Root root, std::uint32_t index);
  void finished(std::uint64_t events, std::uint64_t running);
  // Flushes and closes; the destructor only closes.
  void close();
  const std::string& error() const { return error_; }  // empty: all was written

 private:
  void write(std::string_view record);
  void give_up(int error);

  std::string path_;
  std::FILE* file_;  // none once it is closed or given up
  std::string error_;
  RecordEncoder encoder_;
};

class LogReader {
 public:
  explicit LogReader(const std::string& path);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  const LogHeader& header() const { return header_; }
  // False at the end of the file. Throws LogError on bytes that are not a record.
  bool next(LogRecord& record);
  void expect_end();  // throws LogError where bytes follow: another log, or anything else
  std::uint64_t record_number() const { return number_; }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string path_;
  std::FILE* file_;
  std::string buffer_;
  LogHeader header_;
  std::uint64_t number_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace chalk::sim
