#include "sim/world/replay.h"

#include "model/core/print.h"
#include "sim/world/machines.h"

namespace chalk::sim {
namespace {

constexpr std::size_t kShownBytesMax = 600;

class Replayer {
 public:
  Replayer(LogReader& reader, bool check_states, ReplayWatcher* watcher)
      : reader_(reader), check_states_(check_states), watcher_(watcher) {
    report_.header = reader.header();
  }

  // False when nothing more should be read.
  bool take(const LogRecord& record) {
    switch (record.tag) {
      case RecordTag::header: reader_.fail("found a second header, expected one");
      case RecordTag::created: create(record); break;
      case RecordTag::event: feed(record); break;
      case RecordTag::reconfigured: reconfigure(record); break;
      case RecordTag::checkpoint: check(record); break;
      case RecordTag::restarted:  // the State is the same; nothing to do
        need_machine(record);
        break;
      case RecordTag::exported:
        report_.finished = true;
        if (record.events != report_.events) {
          differ("the log says that it has " + std::to_string(record.events) + " events, found " +
                 std::to_string(report_.events));
        }
        return false;
      case RecordTag::finished:
        report_.finished = true;
        if (record.events != report_.events) {
          differ("the log says that it has " + std::to_string(record.events) + " events, found " +
                 std::to_string(report_.events));
        } else if (record.running_digest != machines_.running_digest()) {
          differ("the running digest of the closing record");
        }
        return false;
    }
    return report_.same && !ended_by_watcher_;
  }
  bool ended_by_watcher() const { return ended_by_watcher_; }

  ReplayReport take_report() {
    report_.running_digest = machines_.running_digest();
    return std::move(report_);
  }

 private:
  template <class T>
  T decoded(const LogRecord& record, const char* what) {
    T value{};
    if (!decode(record.bytes, value)) reader_.fail(std::string("found bytes that are not ") + what);
    return value;
  }

  void create(const LogRecord& record) {
    if (record.root == Root::control) {
      machines_.create_control(decoded<control::Config>(record, "a control plane's configuration"));
    } else if (record.root == Root::gateway) {
      machines_.create_gateway(decoded<gateway::Config>(record, "a gateway's configuration"));
    } else {
      machines_.create_node(decoded<node::Birth>(record, "a node's configuration"));
    }
  }

  // Events and restarts name machines that were created.
  void need_machine(const LogRecord& record) {
    const std::size_t count = record.root == Root::control   ? machines_.has_control()
                              : record.root == Root::gateway ? machines_.gateways()
                                                             : machines_.nodes();
    if (record.index >= count) reader_.fail("found a " + name(record) + " that was not created");
  }

  void reconfigure(const LogRecord& record) {
    need_machine(record);
    if (record.root == Root::control) {
      machines_.reconfigure_control(
          decoded<control::Config>(record, "a control plane's configuration"));
    } else if (record.root == Root::node) {
      machines_.reconfigure_node(record.index,
                                 decoded<node::Birth>(record, "a node's configuration"));
    } else {
      reader_.fail("found a gateway that was reconfigured, expected a control plane or a node");
    }
  }

  template <class Event, class Effects, class Step>
  void feed_one(const LogRecord& record, Effects& effects, Step&& step) {
    const auto event = decoded<Event>(record, "an event of this machine");
    const ReplayEvent seen{report_.events + 1, now_, record.root, record.index, &event};
    if (watcher_ != nullptr) watcher_->before(seen, machines_);
    effects.clear();
    step(event);
    ++report_.events;
    if (watcher_ != nullptr) ended_by_watcher_ = !watcher_->after(seen, machines_, &effects);
    const auto low = machines_.running_digest() & 0xFFFFFFFFULL;
    if (low == record.running_digest) return;
    std::string shown = to_text(event);
    if (shown.size() > kShownBytesMax) shown = shown.substr(0, kShownBytesMax) + "...";
    differ("the " + name(record) + " at " + std::to_string(now_.nanos) + " ns took " + shown +
           " and its effects or the event itself differ from those logged");
  }

  void feed(const LogRecord& record) {
    now_ = now_ + Duration{record.nanos_later};
    if (record.nanos_later < 0) reader_.fail("found time going back, expected it to grow");
    need_machine(record);
    if (record.root == Root::control) {
      feed_one<control::Event>(record, control_effects_, [&](const control::Event& event) {
        machines_.step(now_, event, control_effects_);
      });
    } else if (record.root == Root::gateway) {
      feed_one<gateway::Event>(record, gateway_effects_, [&](const gateway::Event& event) {
        machines_.step(now_, record.index, event, gateway_effects_);
      });
    } else {
      feed_one<node::Event>(record, node_effects_, [&](const node::Event& event) {
        machines_.step(now_, record.index, event, node_effects_);
      });
    }
  }

  void check(const LogRecord& record) {
    if (machines_.running_digest() != record.running_digest || record.events != report_.events) {
      return differ("the running digest at checkpoint " + std::to_string(report_.checkpoints + 1));
    }
    if (!check_states_) return;
    ++report_.checkpoints;
    if (machines_.state_digest() != record.state_digest) {
      differ("the State at checkpoint " + std::to_string(report_.checkpoints) +
             ", with all events and effects the same");
    }
  }

  static std::string name(const LogRecord& record) {
    if (record.root == Root::control) return "control plane";
    return (record.root == Root::gateway ? "gateway " : "node ") + std::to_string(record.index);
  }
  void differ(const std::string& what) {
    if (!report_.same) return;
    report_.same = false;
    report_.difference = "record " + std::to_string(reader_.record_number()) + ", event " +
                         std::to_string(report_.events) + ": " + what;
  }

  LogReader& reader_;
  bool check_states_;
  ReplayWatcher* watcher_;
  bool ended_by_watcher_ = false;
  Machines machines_;
  ReplayReport report_;
  Time now_;
  std::vector<control::Effect> control_effects_;
  std::vector<gateway::Effect> gateway_effects_;
  std::vector<node::Effect> node_effects_;
};

}  // namespace

ReplayReport replay(const std::string& path, bool check_states,
                    const std::function<void(std::uint64_t)>& progress, ReplayWatcher* watcher) {
  LogReader reader(path);
  Replayer replayer(reader, check_states, watcher);
  LogRecord record;
  while (reader.next(record)) {
    if (!replayer.take(record)) break;
    if (progress && reader.record_number() % 65536 == 0) progress(reader.record_number());
  }
  ReplayReport report = replayer.take_report();
  if (report.same && !report.finished && !replayer.ended_by_watcher()) {
    reader.fail("the log has no closing record: it was cut, or the run did not end");
  }
  if (report.same && report.finished) reader.expect_end();
  return report;
}

}  // namespace chalk::sim
