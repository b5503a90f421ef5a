// The readers of logs, from bytes that somebody else may have written or a disk may have changed:
// the simulator's reader of exported logs, replay, the codec, and the log of a real process.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "adapters/log/event_log.h"
#include "adapters/runtime/driver.h"
#include "adapters/runtime/node_root.h"
#include "model/core/print.h"
#include "sim/world/replay.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/log/story.h"

namespace chalk::fuzz {
namespace {

namespace fs = std::filesystem;
using runtime::NodeRoot;

// A file without a place, for readers that want a path.
class Memory {
 public:
  explicit Memory(std::string_view bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      broken("no memory for an input");
    }
  }
  ~Memory() { close(fd_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

// A folder in memory where there is one, for databases.
const std::string& folder() {
  static const struct Folder {
    const std::string path = (fs::exists("/dev/shm") ? "/dev/shm" : "/tmp") +
                             std::string("/chalk-fuzz-log-") + std::to_string(getpid());
    Folder() { fs::create_directories(path); }
    ~Folder() { fs::remove_all(path); }
  } made;
  return made.path;
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

const Story& story() {
  static const Story told(folder() + "/story.log");
  return told;
}

// ---- the codec

// What was read says the same when it is written and read again, and takes no more room.
template <class T>
bool decodes(std::string_view bytes) {
  T value{};
  if (!decode(bytes, value)) return false;
  const std::string again = encode(value);
  T second{};
  if (again.size() > bytes.size()) broken("the codec made more of the bytes than there were");
  if (!decode(again, second)) broken("the codec does not read what it wrote");
  if (encode(second) != again) broken("the codec read something else than it wrote");
  Digest one, other;
  one.add(value);
  other.add(second);
  if (one.value() != other.value()) broken("two digests of one value");
  return true;
}

struct Kind {
  bool (*decodes)(std::string_view bytes);
  std::vector<std::string> good;
};

template <class T>
Kind kind(const std::vector<T>& values) {
  Kind out{decodes<T>, {}};
  for (const T& value : values) out.good.push_back(encode(value));
  return out;
}
template <class M>
std::vector<runtime::Logged<M>> logged_of(const std::vector<typename M::Event>& events,
                                 const typename M::Config& config) {
  std::vector<runtime::Logged<M>> out{runtime::logged::Configured<M>{config}};
  Time at{seconds(1).nanos};
  for (const auto& event : events) {
    at = at + milliseconds(1);
    out.push_back(runtime::logged::Happened<M>{at, event});
  }
  return out;
}

// The first byte of an input says what the rest is.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = [] {
    const Story& told = story();
    using control::Control;
    return std::vector<Kind>{
        kind(told.control_events),
        kind(told.node_events),
        kind(told.gateway_events),
        kind(std::vector{told.control_state}),
        kind(std::vector{told.node_state}),
        kind(std::vector{told.gateway_state}),
        kind(std::vector{told.config}),
        kind(std::vector{told.birth}),
        kind(logged_of<Control>(told.control_events, told.config)),
        kind(logged_of<NodeRoot>(told.node_events, told.birth)),
        kind(std::vector{runtime::logged::Kept<Control>{{5}, 7, {9}, told.config,
                                                        told.control_state}}),
        kind(std::vector{runtime::logged::Kept<NodeRoot>{{5}, 7, {9}, told.birth,
                                                         told.node_state}}),
        kind(std::vector{LogHeader{1, "commit", "scenario", 2, 3}}),
    };
  }();
  return all;
}

bool take_value(std::string_view input) {
  if (input.empty()) return false;
  const auto which = static_cast<unsigned char>(input[0]) % kinds().size();
  return kinds()[which].decodes(input.substr(1));
}

Target codec() {
  Target out{"codec", {}, {}, take_value, 200'000};
  for (std::size_t which = 0; which < kinds().size(); ++which) {
    for (const std::string& good : kinds()[which].good) {
      out.corpus.push_back(static_cast<char>(which) + good);
    }
  }
  return out;
}

// ---- the simulator's reader of exported logs

template <class Control, class Gateway, class Node>
bool decodes_as(const sim::LogRecord& record) {
  switch (record.root) {
    case Root::control: return decodes<Control>(record.bytes);
    case Root::gateway: return decodes<Gateway>(record.bytes);
    case Root::node: return decodes<Node>(record.bytes);
  }
  broken("the reader let a root through that there is not");
}

// Nothing but what is in the file: all that was read, written again, is no larger.
bool take_log(std::string_view input) {
  const Memory file(input);
  std::size_t size = kLogMagic.size();
  try {
    sim::LogReader reader(file.path());
    size += 2 + encode(reader.header()).size();
    sim::LogRecord record;
    while (reader.next(record)) {
      size += 2 + record.bytes.size();
      if (record.tag == RecordTag::event) {
        size += 6;
        decodes_as<control::Event, gateway::Event, node::Event>(record);
      } else if (record.tag == RecordTag::created || record.tag == RecordTag::reconfigured) {
        size += 2;
        decodes_as<control::Config, gateway::Config, node::Birth>(record);
      }
      if (size > input.size()) broken("the reader found more than there is in the file");
    }
    return true;
  } catch (const sim::LogError&) {
    return false;
  }
}

// Says what differs, or that it is no log, and goes on living.
bool take_replay(std::string_view input) {
  const Memory file(input);
  try {
    const auto report = sim::replay(file.path(), true);
    if (!report.same && report.difference.empty()) broken("a difference without words");
    return report.same && report.finished;
  } catch (const sim::LogError& error) {
    if (error.what()[0] == '\0') broken("an error without words");
    return false;
  }
}

Target reader(std::string name, bool (*take)(std::string_view), std::uint64_t runs) {
  (void)story();
  return {std::move(name), {contents(folder() + "/story.log")}, {std::string(kLogMagic)}, take,
          runs};
}

// ---- the log of a real process

constexpr std::int64_t kLogic = 1;

void remove_database(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm", "-journal"}) fs::remove(path + end);
}

// What has happened is given back as it is, or it is said that it cannot be.
bool take_database(std::string_view input) {
  const std::string path = folder() + "/input.db";
  remove_database(path);
  std::ofstream(path, std::ios::binary) << input;
  try {
    log::EventLog log(path, kLogic);
    std::uint64_t expected = log.first();
    log.read(log.first(), [&](std::uint64_t index, std::string_view bytes) {
      if (index != expected++) broken("a record out of its order");
      decodes<runtime::Logged<control::Control>>(bytes);
    });
    if (expected != log.next()) broken("a record is missing");
    log.read_digests(1, [](std::uint64_t, std::uint32_t) {});
    if (const auto snapshot = log.newest_snapshot()) {
      decodes<runtime::logged::Kept<control::Control>>(snapshot->bytes);
    }
    return true;
  } catch (const log::LogError&) {
    return false;
  }
}

const runtime::Driver<control::Control>::Interpret kNobody =
    [](std::uint64_t, Time, const control::Effect&) {};

// A driver that is stopped before it starts adds nothing by the clock, but the digests.
std::string good_database() {
  const std::string path = folder() + "/good.db";
  remove_database(path);
  {
    log::EventLog log(path, kLogic);
    std::vector<std::string> records;
    for (const auto& one : logged_of<control::Control>(story().control_events, story().config)) {
      records.push_back(encode(one));
    }
    log.append(log.next(), records);
    runtime::Driver<control::Control> driver(story().config, log, kNobody);
    driver.stop();
    driver.start();
    driver.stop();
    log.put_snapshot(log.next(), "a snapshot");
  }
  return contents(path);
}

// Records as a process finds them when it begins again: each with its length before it, behind all
// of them their digests. A changed record is refused, by the digest that was kept when it was taken.
bool take_records(std::string_view input) {
  std::vector<std::string> records;
  Decoder decoder(input);
  std::vector<std::uint32_t> digests;
  if (!decoder.get(records) || !decoder.get(digests) || records.empty()) return false;
  const std::string path = folder() + "/records.db";
  remove_database(path);
  try {
    log::EventLog log(path, kLogic);
    if (digests.size() > records.size()) digests.resize(records.size());
    log.append(log.next(), records);
    log.put_digests(log.first() + digests.size(), digests);
    const std::uint64_t next = log.next();
    runtime::Driver<control::Control> driver(story().config, log, kNobody);
    const bool all = digests.size() == records.size() && log.next() == next;
    if (all && static_cast<std::uint32_t>(driver.running_digest()) != digests.back()) {
      broken("a log that says otherwise what was decided is gone on with");
    }
    return true;
  } catch (const log::LogError&) {
    return false;
  }
}

std::string good_records() {
  const std::string path = folder() + "/good.db";
  good_database();
  log::EventLog log(path, kLogic);
  std::vector<std::string> records;
  std::vector<std::uint32_t> digests;
  log.read(1, [&](std::uint64_t, std::string_view bytes) { records.emplace_back(bytes); });
  log.read_digests(1, [&](std::uint64_t, std::uint32_t digest) { digests.push_back(digest); });
  return encode(records) + encode(digests);
}

// ---- what a node with a good certificate says, which the server's log and machine take

// Whatever it is, the control plane goes on.
bool take_node(std::string_view input) {
  if (input.empty()) return false;
  control::Control machine(story().config, story().control_state);
  control::Event event;
  if (input[0] == 0) {
    NodeRegistration registration;
    if (!decode(input.substr(1), registration)) return false;
    event = registration;
  } else {
    control::FromNode from{story().node_id, {}};
    if (!decode(input.substr(1), from.envelope)) return false;
    event = from;
  }
  std::vector<control::Effect> effects;
  Time at = story().end;
  machine.step(at, event, effects);
  for (std::uint64_t number = 100; number < 104; ++number) {
    at = at + seconds(5);
    machine.step(at, story().asked(number), effects);
    machine.step(at, Woken{}, effects);
    machine.step(at, event, effects);
  }
  return true;
}

Target node() {
  Target out{"node", {}, {}, take_node, 100'000};
  for (const auto& event : story().control_events) {
    if (const auto* hello = std::get_if<NodeRegistration>(&event)) {
      out.corpus.push_back(std::string(1, '\0') + encode(*hello));
    } else if (const auto* from = std::get_if<control::FromNode>(&event)) {
      if (from->envelope.message) out.corpus.push_back('\1' + encode(from->envelope));
    }
  }
  return out;
}

std::vector<Target> targets() {
  return {codec(), reader("reader", take_log, 50'000), reader("replay", take_replay, 30'000),
          Target{"database", {good_database()}, {}, take_database, 4'000},
          Target{"records", {good_records()}, {}, take_records, 4'000}, node()};
}

}  // namespace
}  // namespace chalk::fuzz

int main(int argc, char** argv) { return chalk::fuzz::run(argc, argv, chalk::fuzz::targets()); }
