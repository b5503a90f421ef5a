// The format of event logs: what `chalk-sim replay` reads. The simulator writes it as it runs, the
// real control plane and nodes export theirs to it.
//
// A file is the line "chalk-log 1\n", then records: a varint length, then that many bytes. A record
// is a tag and its fields in the encoding of model/core/codec.h:
//   created       root, index, the machine's Config     (a control plane, gateway or node begins)
//   event         root, index, nanoseconds since the record before, the Event, running digest
//   checkpoint    events so far, digest over the State of every machine, running digest
//   restarted     root, index                            (restored from its log; State unchanged)
//   finished      events, running digest
//   reconfigured  root, index, the machine's new Config  (restored with it; State unchanged)
//   exported      events                                 (the end of what a real process had logged)
// The running digest covers every event and effect so far; each event record carries its low 32
// bits, so the first record that was changed is the first that does not agree.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "model/core/codec.h"
#include "model/core/digest.h"
#include "model/core/time.h"

namespace chalk {

inline constexpr std::string_view kLogMagic = "chalk-log 1\n";
// Raised when a machine decides differently, or its State has another form.
inline constexpr std::uint64_t kLogicVersion = 16;

enum class Root : std::uint8_t { control, gateway, node };
enum class RecordTag : std::uint8_t {
  header,
  created,
  event,
  checkpoint,
  restarted,
  finished,
  reconfigured,
  exported
};

struct LogHeader {
  std::uint64_t logic_version = kLogicVersion;
  std::string commit;
  std::string scenario;
  std::uint64_t scenario_hash = 0;
  std::uint64_t seed = 0;
  CHALK_FIELDS(LogHeader, logic_version, commit, scenario, scenario_hash, seed)
};

// Adds one step of one machine to the running digest over all machines of a log.
template <class Event, class Effects>
void add_step(Digest& running, Root root, std::uint32_t index, Time now, const Event& event,
              const Effects& effects) {
  running.add_word(static_cast<std::uint64_t>(root) << 32 | index);
  running.add(now.nanos);
  running.add(event);
  running.add_word(effects.size());
  for (const auto& effect : effects) running.add(effect);
}

// Makes the bytes of one record at a time, with its length in front.
class RecordEncoder {
 public:
  std::string_view header(const LogHeader& header) {
    record_.push_back(static_cast<char>(RecordTag::header));
    encoder_.put(header);
    return finish();
  }
  template <class Config>
  std::string_view created(Root root, std::uint32_t index, const Config& config) {
    begin(RecordTag::created, root, index);
    encoder_.put(config);
    return finish();
  }
  template <class Config>
  std::string_view reconfigured(Root root, std::uint32_t index, const Config& config) {
    begin(RecordTag::reconfigured, root, index);
    encoder_.put(config);
    return finish();
  }
  template <class Event>
  std::string_view event(Root root, std::uint32_t index, Time now, const Event& event,
                         std::uint64_t running) {
    begin(RecordTag::event, root, index);
    encoder_.put(now.nanos - last_.nanos);
    last_ = now;
    encoder_.put(event);
    for (int byte = 0; byte < 4; ++byte) record_.push_back(static_cast<char>(running >> byte * 8));
    return finish();
  }
  std::string_view checkpoint(std::uint64_t events, std::uint64_t state, std::uint64_t running) {
    record_.push_back(static_cast<char>(RecordTag::checkpoint));
    encoder_.put(events);
    encoder_.put(state);
    encoder_.put(running);
    return finish();
  }
  std::string_view restarted(Root root, std::uint32_t index) {
    begin(RecordTag::restarted, root, index);
    return finish();
  }
  std::string_view finished(std::uint64_t events, std::uint64_t running) {
    record_.push_back(static_cast<char>(RecordTag::finished));
    encoder_.put(events);
    encoder_.put(running);
    return finish();
  }

  std::string_view exported(std::uint64_t events) {
    record_.push_back(static_cast<char>(RecordTag::exported));
    encoder_.put(events);
    return finish();
  }

 private:
  void begin(RecordTag tag, Root root, std::uint32_t index) {
    record_.push_back(static_cast<char>(tag));
    record_.push_back(static_cast<char>(root));
    encoder_.put(index);
  }
  std::string_view finish() {
    framed_.clear();
    Encoder(framed_).word(record_.size());
    framed_ += record_;
    record_.clear();
    return framed_;
  }

  std::string record_;
  Encoder encoder_{record_};
  std::string framed_;
  Time last_;
};

}  // namespace chalk
