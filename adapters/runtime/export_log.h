// Writes the log of a root machine as the file that `chalk-sim replay` reads.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>

#include "adapters/error.h"
#include "adapters/log/event_log.h"
#include "adapters/runtime/logged.h"
#include "model/core/codec.h"
#include "model/protocol/log_record.h"

namespace chalk::runtime {

// Each event with the digest that was kept when it was decided, none of them computed here. The
// newest events may have none yet, when their program was killed or still runs: they are left out.
// Answers how many events were written. The log must not have been trimmed. The file is a new one, in
// place of one that was there, and its owner's only (0600), as the log is.
template <class M>
Result<std::uint64_t> export_log(log::EventLog& log, Root root, const std::string& path,
                                 const LogHeader& header) {
  if (log.first() != 1) {
    return fail(Error::Kind::invalid, "the log was trimmed: its first record is " +
                                          std::to_string(log.first()) +
                                          ", and a replay begins at 1");
  }
  unlink(path.c_str());  // others may read the old one, or have it open
  const int made = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  std::FILE* file = made < 0 ? nullptr : fdopen(made, "wb");
  if (file == nullptr) {
    return fail(Error::Kind::failed, path + ": cannot write: " + std::strerror(errno));
  }
  std::map<std::uint64_t, std::uint32_t> digests;
  log.read_digests(1, [&](std::uint64_t index, std::uint32_t digest) { digests[index] = digest; });
  RecordEncoder encoder;
  bool good = true;
  const auto write = [&](std::string_view bytes) {
    good = good && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  };
  write(kLogMagic);
  write(encoder.header(header));
  std::uint64_t events = 0;
  bool created = false, ended = false;
  std::string bad;
  log.read(1, [&](std::uint64_t index, std::string_view bytes) {
    const auto digest = digests.find(index);
    ended = ended || digest == digests.end();
    if (ended || !bad.empty()) return;
    Logged<M> record;
    if (!decode(bytes, record)) {
      bad = "record " + std::to_string(index) + " is not of this machine";
    } else if (const auto* configured = std::get_if<logged::Configured<M>>(&record)) {
      write(created ? encoder.reconfigured(root, 0, configured->config)
                    : encoder.created(root, 0, configured->config));
      created = true;
    } else {
      const auto& happened = std::get<logged::Happened<M>>(record);
      write(encoder.event(root, 0, happened.at, happened.event, digest->second));
      ++events;
    }
  });
  write(encoder.exported(events));
  good = std::fclose(file) == 0 && good;
  if (!bad.empty()) return fail(Error::Kind::corrupt, bad);
  if (!good) return fail(Error::Kind::exhausted, path + ": cannot write: " + std::strerror(errno));
  return events;
}

}  // namespace chalk::runtime
