#include "sim/world/event_log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace chalk::sim {

LogWriter::LogWriter(const std::string& path, const LogHeader& header)
    : path_(path), file_(std::fopen(path.c_str(), "wb")) {
  if (file_ == nullptr)
    throw LogError(path + ": cannot write the event log: " + std::strerror(errno));
  std::setvbuf(file_, nullptr, _IOFBF, 1 << 20);
  write(kLogMagic);
  write(encoder_.header(header));
}

LogWriter::~LogWriter() {
  if (file_ != nullptr) std::fclose(file_);
}

void LogWriter::write(std::string_view record) {
  if (file_ == nullptr) return;
  if (std::fwrite(record.data(), 1, record.size(), file_) != record.size()) give_up(errno);
}

void LogWriter::give_up(int error) {
  error_ = path_ + ": cannot write the event log: " + std::strerror(error) +
           "; free some space or run with --set output.event_log=false";
  if (file_ != nullptr) std::fclose(file_);
  file_ = nullptr;
  std::remove(path_.c_str());
}

void LogWriter::checkpoint(std::uint64_t events, std::uint64_t state, std::uint64_t running) {
  write(encoder_.checkpoint(events, state, running));
}

void LogWriter::restarted(Root root, std::uint32_t index) {
  write(encoder_.restarted(root, index));
}

void LogWriter::finished(std::uint64_t events, std::uint64_t running) {
  write(encoder_.finished(events, running));
}

void LogWriter::close() {
  if (file_ == nullptr) return;
  std::FILE* file = file_;
  const bool good = std::fflush(file) == 0;
  const int error = errno;
  file_ = nullptr;
  if (std::fclose(file) != 0 || !good) give_up(good ? errno : error);
}

LogReader::LogReader(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
  if (file_ == nullptr) throw LogError(path + ": cannot open: " + std::strerror(errno));
  std::string magic(kLogMagic.size(), '\0');
  const bool read = std::fread(magic.data(), 1, magic.size(), file_) == magic.size();
  if (!read || magic != kLogMagic) {
    std::fclose(file_);
    throw LogError(path +
                   ": found a file that does not begin with \"chalk-log 1\", expected an event log "
                   "written by `chalk-sim run --out`");
  }
  offset_ = magic.size();
  LogRecord first;
  try {
    if (!next(first) || first.tag != RecordTag::header || !decode(first.bytes, header_)) {
      fail("expected a header record");
    }
  } catch (...) {
    std::fclose(file_);
    throw;
  }
}

LogReader::~LogReader() { std::fclose(file_); }

void LogReader::fail(const std::string& what) const {
  throw LogError(path_ + ": record " + std::to_string(number_) + ", before byte " +
                 std::to_string(offset_) + ": " + what);
}

void LogReader::expect_end() {
  if (std::fgetc(file_) != EOF) {
    fail("found bytes behind the closing record, expected the end of the file");
  }
}

bool LogReader::next(LogRecord& record) {
  std::uint64_t length = 0;
  for (int shift = 0;; shift += 7) {
    const int c = std::fgetc(file_);
    if (c == EOF && shift == 0) return false;
    if (c == EOF || shift > 28) fail("found a cut length, expected a whole record");
    ++offset_;
    length |= static_cast<std::uint64_t>(c & 0x7F) << shift;
    if (c < 0x80) break;
  }
  ++number_;
  if (length == 0 || length > kRecordBytesMax) {
    fail("found a record of " + std::to_string(length) + " bytes, expected 1 to " +
         std::to_string(kRecordBytesMax));
  }
  // Grown by what is really there: a hostile length must not take memory.
  buffer_.clear();
  while (buffer_.size() < length) {
    const std::size_t had = buffer_.size();
    const std::size_t want = std::min<std::size_t>(length - had, 1 << 16);
    buffer_.resize(had + want);
    const std::size_t got = std::fread(buffer_.data() + had, 1, want, file_);
    offset_ += got;
    if (got != want) fail("the file ends inside a record: it was cut, or is still being written");
  }
  record = {};
  record.tag = static_cast<RecordTag>(buffer_[0]);
  if (record.tag > RecordTag::exported)
    fail("found tag " + std::to_string(buffer_[0]) + ", expected 0 to 7");
  std::string_view rest(buffer_);
  rest.remove_prefix(1);
  if (record.tag == RecordTag::header) {
    record.bytes = rest;
    return true;
  }
  Decoder decoder(rest);
  bool good = true;
  if (record.tag == RecordTag::checkpoint) {
    good = decoder.get(record.events) && decoder.get(record.state_digest) &&
           decoder.get(record.running_digest);
  } else if (record.tag == RecordTag::exported) {
    good = decoder.get(record.events);
  } else if (record.tag == RecordTag::finished) {
    good = decoder.get(record.events) && decoder.get(record.running_digest);
  } else {
    good = decoder.get(record.root) && record.root <= Root::node && decoder.get(record.index);
    if (good && record.tag == RecordTag::event) good = decoder.get(record.nanos_later);
    std::size_t tail = rest.size();
    if (record.tag == RecordTag::event) {
      good = good && rest.size() >= decoder.position() + 4;
      tail -= good ? 4 : 0;
      for (int byte = 0; good && byte < 4; ++byte) {
        record.running_digest |= std::uint64_t{static_cast<unsigned char>(rest[tail + byte])}
                                 << byte * 8;
      }
    }
    if (good) record.bytes = rest.substr(decoder.position(), tail - decoder.position());
  }
  // Nothing stands behind the fields of these; the others end with a value, checked when it is read.
  const bool fixed = record.tag == RecordTag::checkpoint || record.tag == RecordTag::exported ||
                     record.tag == RecordTag::finished;
  if (fixed && decoder.position() != rest.size()) good = false;
  if (!good) fail("found fields that do not decode, expected those of its tag");
  return true;
}

}  // namespace chalk::sim
