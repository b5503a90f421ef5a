#include "sim/whatif/whatif.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <type_traits>

#include "sim/calibrate/calibrate.h"
#include "sim/report/result.h"
#include "sim/scenario/listed.h"
#include "sim/simgrid/isolated.h"
#include "sim/sweep/sweep.h"
#include "sim/world/replay.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

struct LogEnd {
  LogHeader header;
  std::uint64_t digest = 0;  // 0: a real machine's, whose world nobody can make again
};

// The log of a program with other decisions cannot be replayed: its events are passed over.
LogEnd end_of_another(LogReader& reader) {
  LogEnd end{reader.header(), 0};
  LogRecord record;
  while (reader.next(record)) {
    if (record.tag == RecordTag::finished) end.digest = record.running_digest;
    if (record.tag != RecordTag::finished && record.tag != RecordTag::exported) continue;
    reader.expect_end();
    return end;
  }
  reader.fail("the log has no closing record: it was cut, or the run did not end");
}

// Replays the log, so that nothing is asked of one that was changed.
LogEnd end_of(const std::string& path, const std::atomic<bool>* stop) {
  LogReader reader(path);
  if (reader.header().logic_version != kLogicVersion) return end_of_another(reader);
  const ReplayReport report = replay(path, false, [stop](std::uint64_t) {
    if (stop != nullptr && stop->load()) throw std::runtime_error("interrupted");
  });
  if (!report.same) {
    throw std::runtime_error(fmt::format(
        "{}: {}; the log was changed since commit {} wrote it, or this program decides otherwise",
        path, report.difference, report.header.commit));
  }
  return {report.header, report.header.scenario.empty() ? 0 : report.running_digest};
}

// The first event of a log that a run of its scenario does not have.
struct Parting {
  std::uint64_t record = 0;
  std::uint64_t event = 0;
  Time at;
  bool log_ended = false;  // and all that it has is the run's: it was interrupted
};

// Checkpoints and restarts stand where the run was watched, and decide nothing.
bool next_fact(LogReader& reader, LogRecord& record) {
  while (reader.next(record)) {
    if (record.tag == RecordTag::created || record.tag == RecordTag::event ||
        record.tag == RecordTag::finished) {
      return true;
    }
  }
  return false;
}

Parting parting(const std::string& log, const std::string& again) {
  LogReader theirs(log), ours(again);
  LogRecord a, b;
  Parting at;
  while (next_fact(theirs, a) && next_fact(ours, b)) {
    at.record = theirs.record_number();
    at.log_ended = a.tag == RecordTag::finished && b.tag != RecordTag::finished;
    if (at.log_ended) break;
    if (a.tag == RecordTag::event) {
      at.at = at.at + Duration{a.nanos_later};
      ++at.event;
    }
    if (a.tag != b.tag || a.root != b.root || a.index != b.index || a.bytes != b.bytes ||
        a.nanos_later != b.nanos_later || a.running_digest != b.running_digest) {
      break;
    }
  }
  return at;
}

void refuse_changed_demand(const std::vector<Override>& sets) {
  for (const Override& one : sets) {
    const std::string top = one.path.substr(0, one.path.find('.'));
    for (const char* demand : {"workload", "llm", "seed", "requests", "duration"}) {
      if (top != demand) continue;
      throw std::runtime_error(fmt::format(
          "--set {}: found a setting of the demand, which is the log's; expected one of decisions, "
          "such as group_default.policy or pools.0.nodes",
          one.path));
    }
  }
  if (sets.empty()) throw std::runtime_error("--set: found nothing, expected a.b.c=value");
}

// A folder for what `calibrate` makes of a real log, gone when it is not needed any more.
class Scratch {
 public:
  Scratch() {
    std::string path = std::filesystem::temp_directory_path() / "chalk-whatif-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error(path + ": cannot be made");
    path_ = path;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Asker {
 public:
  Asker(const WhatIfQuestion& question, const std::atomic<bool>* stop)
      : question_(question), stop_(stop) {
    if (!question.node_log.empty()) {
      write_calibration(scratch_.path(), calibrate(question.log, question.node_log));
      scenario_ = scratch_.path() + "/platform.yaml";
      trace_ = "jsonl:" + scratch_.path() + "/workload.jsonl";
      seed_ = 1;
      return;
    }
    const LogEnd end = end_of(question.log, stop);
    digest_ = end.digest;
    seed_ = end.header.seed;
    header_ = end.header;
    scenario_ = question.scenario;
    if (scenario_.empty()) {
      scenario_ = std::filesystem::path(question.log).parent_path() / "scenario.yaml";
      if (!std::filesystem::exists(scenario_)) {
        throw std::runtime_error(fmt::format(
            "{}: found no {} beside it, expected the scenario of the log: name it with --scenario, "
            "or a real node's log with --node-log",
            question.log, scenario_));
      }
    }
    if (!question.trace.empty()) trace_ = question.trace;
    refuse_another_scenario();
  }

  // One run as the log was, which tells what arrived and whether it is the log's.
  void record(WhatIfResult& out) {
    const IsolatedResult told = run_isolated([&] { return recorded(); });
    if (!told) throw std::runtime_error("the run of the log failed: " + told.error());
    if (stop_ != nullptr && stop_->load()) throw std::runtime_error("interrupted");
    const std::size_t line = told->find('\n');
    const json head = json::parse(told->substr(0, line));
    out.scenario = head.at("scenario");
    out.arrivals = head.at("arrivals");
    out.seed = seed_;
    out.same_as_log = digest_ != 0 && head.at("digest") == hex_text(digest_);
    if (digest_ != 0 && !out.same_as_log) say_where_it_parts(out);
    if (head.at("clients") == true) {
      take_arrivals(told->substr(line + 1));
      out.notes.push_back(
          "The log's clients wait for their answers; here they ask when they asked in the log.");
    }
  }

  Metrics measure(bool changed, std::uint64_t seed) const {
    const Setup setup = setup_of(changed);
    const Result result = run(setup, seed);
    if (result.interrupted) throw std::runtime_error("interrupted");
    return sweep_run(0, result).metrics;
  }

  std::uint64_t seed() const { return seed_; }
  void check_sets() const { load(true); }

 private:
  static_assert(std::is_trivially_copyable_v<Arrival>);  // they go through a pipe

  void refuse_another_scenario() const {
    const std::string name = load(false).name;
    if (header_.scenario.empty() || header_.scenario == name) return;
    throw std::runtime_error(
        fmt::format("{}: found the log of the scenario \"{}\", but {} is \"{}\"; expected the "
                    "scenario of the log",
                    question_.log, header_.scenario, scenario_, name));
  }

  // The digests differ: the run is made once more with a log of its own, to name the place. A log
  // that only ends early is one of a run that was interrupted. Another program may well differ; of
  // this one the scenario or the trace is another.
  void say_where_it_parts(WhatIfResult& out) {
    const std::string again = scratch_.path() + "/events.log";
    const IsolatedResult made = run_isolated([&] {
      const std::string no_log = run(load(false), seed_, again).no_log;
      if (!no_log.empty()) throw std::runtime_error(no_log);
      return std::string();
    });
    if (!made) throw std::runtime_error("the run of the log failed: " + made.error());
    if (stop_ != nullptr && stop_->load()) throw std::runtime_error("interrupted");
    const Parting at = parting(question_.log, again);
    if (at.log_ended) {
      out.same_as_log = true;
      out.log_ends_seconds = static_cast<double>(at.at.nanos) * 1e-9;
      return;
    }
    const std::string place =
        fmt::format("{}: record {}, event {} at {}: {}", question_.log, at.record, at.event,
                    duration_text(Duration{at.at.nanos}), scenario_);
    if (header_.commit == question_.commit) {
      throw std::runtime_error(place +
                               " goes another way from there; expected the scenario of the log, "
                               "and with --trace the trace that it was made with");
    }
    out.differs = true;
    out.notes.push_back(fmt::format(
        "{} goes another way from there under this program (commit {}) than under the one that "
        "wrote the log (commit {}): what stands in the first column is this program's.",
        place, question_.commit, header_.commit));
  }

  Setup load(bool changed) const {
    return load_scenario(scenario_, changed ? question_.sets : std::vector<Override>{}, trace_);
  }

  Setup setup_of(bool changed) const {
    Setup setup = load(changed);
    if (listed_) {
      setup.open_workload = [listed = listed_](std::uint64_t) { return listed_source(listed); };
    } else {
      setup.open_workload = [seed = seed_, open = load(false).open_workload](std::uint64_t) {
        return open(seed);
      };
    }
    return setup;
  }

  Result run(const Setup& setup, std::uint64_t seed, const std::string& log = "") const {
    RunOptions options;
    options.log_path = log;
    options.seed = seed;
    options.stop = stop_;
    return run_world(setup, options);
  }

  std::string recorded() const {
    Setup setup = load(false);
    Listed listed;
    setup.open_workload = [&listed, open = setup.open_workload](std::uint64_t seed) {
      return recording_source(open(seed), listed);
    };
    const Result result = run(setup, seed_);
    bool clients = false;
    for (Arrival& arrival : listed.arrivals) {
      clients = clients || arrival.client != kNoClient;
      arrival.client = kNoClient;
    }
    std::string out = json{{"scenario", result.scenario},
                           {"digest", hex_text(result.digest)},
                           {"arrivals", listed.arrivals.size()},
                           {"clients", clients}}
                          .dump(-1, ' ', true, json::error_handler_t::replace) +
                      "\n";
    if (clients) {
      out.append(reinterpret_cast<const char*>(listed.arrivals.data()),
                 listed.arrivals.size() * sizeof(Arrival));
    }
    return out;
  }

  void take_arrivals(const std::string& bytes) {
    const auto listed = std::make_shared<Listed>();
    listed->catalogue = load(false).open_workload(seed_)->catalogue();
    listed->arrivals.resize(bytes.size() / sizeof(Arrival));
    std::memcpy(listed->arrivals.data(), bytes.data(), listed->arrivals.size() * sizeof(Arrival));
    listed_ = listed;
  }

  const WhatIfQuestion& question_;
  const std::atomic<bool>* stop_;
  Scratch scratch_;
  std::string scenario_;
  std::optional<std::string> trace_;
  std::uint64_t seed_ = 1;
  std::uint64_t digest_ = 0;  // 0: not known
  LogHeader header_;
  std::shared_ptr<const Listed> listed_;
};

bool seeds_differ(const Measured& side) {
  const MeasuredRuns& runs = side.begin()->second;
  return std::ranges::any_of(runs, [&](const auto& run) {
    return run.second.metrics != runs.begin()->second.metrics;
  });
}

std::string sets_text(const std::vector<Override>& sets) {
  std::string out;
  for (const Override& one : sets) out += (out.empty() ? "" : " ") + one.path + "=" + one.value;
  return out;
}

}  // namespace

WhatIfResult what_if(const WhatIfQuestion& question,
                     const std::function<void(std::size_t, std::size_t)>& progress,
                     const std::atomic<bool>* stop) {
  refuse_changed_demand(question.sets);
  Asker asker(question, stop);
  asker.check_sets();
  WhatIfResult out;
  const std::size_t whole = 1 + 2 * std::size_t{question.seeds};
  std::size_t done = 0;
  if (progress) progress(done, whole);
  asker.record(out);
  if (progress) progress(++done, whole);
  std::vector<IsolatedBody> bodies;
  for (std::uint32_t s = 0; s < question.seeds; ++s) {
    for (const bool changed : {false, true}) {
      bodies.push_back([&asker, changed, seed = asker.seed() + s] {
        return json(asker.measure(changed, seed)).dump();
      });
    }
  }
  const auto outcomes =
      run_isolated_all(bodies, question.parallel, [&](std::size_t, const IsolatedResult&) {
        if (progress) progress(++done, whole);
      });
  Measured as_it_was, changed;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const std::uint64_t seed = asker.seed() + i / 2;
    if (!outcomes[i]) {
      throw std::runtime_error(fmt::format("the run {} with seed {} failed: {}",
                                           i % 2 == 0 ? "as it was" : "with the new settings", seed,
                                           outcomes[i].error()));
    }
    (i % 2 == 0 ? as_it_was : changed)[out.scenario][seed].metrics =
        json::parse(*outcomes[i]).get<Metrics>();
  }
  CompareOptions how = question.compare;
  how.show_equal = true;
  how.no_chance = question.seeds > 1 && !seeds_differ(as_it_was) && !seeds_differ(changed);
  if (how.no_chance) {  // one run several times is one run
    for (Measured* side : {&as_it_was, &changed}) {
      auto& runs = side->begin()->second;
      runs.erase(std::next(runs.begin()), runs.end());
    }
  }
  out.comparison = compare("the log", as_it_was, sets_text(question.sets), changed, how);
  return out;
}

}  // namespace chalk::sim
