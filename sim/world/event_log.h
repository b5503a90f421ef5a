// The event log of a run: everything that `replay` needs and nothing that a scenario decides.
//
// A file is the line "chalk-log 1\n", then records: a varint length, then that many bytes. A record
// is a tag and its fields in the encoding of model/core/codec.h:
//   created     root, index, the machine's Config       (a control plane, gateway or node begins)
//   event       root, index, nanoseconds since the record before, the Event, running digest
//   checkpoint  events so far, digest over the State of every machine, running digest
//   restarted   root, index                              (restored from its log; State unchanged)
//   finished    events, running digest
// The running digest covers every event and effect so far; each event record carries its low 32
// bits, so the first record that was changed is the first that does not agree.
#pragma once
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include "model/core/codec.h"
#include "model/core/time.h"

namespace chalk::sim {

inline constexpr std::string_view kLogMagic = "chalk-log 1\n";
inline constexpr std::uint64_t kLogicVersion = 1;  // raised when a machine decides differently
inline constexpr std::uint64_t kRecordBytesMax = 64 << 20;

enum class Root : std::uint8_t { control, gateway, node };
enum class RecordTag : std::uint8_t { header, created, event, checkpoint, restarted, finished };

struct LogHeader {
  std::uint64_t logic_version = kLogicVersion;
  std::string commit;
  std::string scenario;
  std::uint64_t scenario_hash = 0;
  std::uint64_t seed = 0;
  CHALK_FIELDS(LogHeader, logic_version, commit, scenario, scenario_hash, seed)
};

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

class LogWriter {
 public:
  LogWriter(const std::string& path, const LogHeader& header);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  template <class Config>
  void created(Root root, std::uint32_t index, const Config& config) {
    begin(RecordTag::created, root, index);
    encoder_.put(config);
    finish();
  }
  template <class Event>
  void event(Root root, std::uint32_t index, Time now, const Event& event, std::uint64_t running) {
    begin(RecordTag::event, root, index);
    encoder_.put(now.nanos - last_.nanos);
    last_ = now;
    encoder_.put(event);
    for (int byte = 0; byte < 4; ++byte) record_.push_back(static_cast<char>(running >> byte * 8));
    finish();
  }
  void checkpoint(std::uint64_t events, std::uint64_t state, std::uint64_t running);
  void restarted(Root root, std::uint32_t index);
  void finished(std::uint64_t events, std::uint64_t running);
  // Flushes and closes; throws LogError when the disk is full. The destructor only closes.
  void close();

 private:
  void begin(RecordTag tag, Root root, std::uint32_t index);
  void finish();

  std::string path_;
  std::FILE* file_;
  std::string record_;
  Encoder encoder_{record_};
  Time last_;
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
