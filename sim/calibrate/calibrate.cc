#include "sim/calibrate/calibrate.h"

#include <algorithm>
#include <map>
#include <optional>

#include "sim/world/machines.h"

namespace chalk::sim {
namespace {

constexpr std::int64_t kCoresMax = 256;  // beyond it starts do not get into each other's way

Duration median(std::vector<Duration> values) {
  if (values.empty()) return {};
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Steps the machine of one log and shows each event with its effects.
template <class Event, class Effects, class Create, class Step, class See>
void walk(const std::string& path, Root root, Create&& create, Step&& step, See&& see) {
  LogReader reader(path);
  LogRecord record;
  Time now;
  Effects effects;
  bool created = false;
  while (reader.next(record)) {
    if (record.tag == RecordTag::finished || record.tag == RecordTag::exported) return;
    if (record.tag == RecordTag::created || record.tag == RecordTag::reconfigured) {
      if (record.root != root) reader.fail("found another machine than expected in this file");
      create(reader, record, created);
      created = true;
    } else if (record.tag == RecordTag::event) {
      if (!created) reader.fail("found an event of a machine that was not created");
      now = now + Duration{record.nanos_later};
      Event event{};
      if (!decode(record.bytes, event)) reader.fail("found bytes that are no event");
      effects.clear();
      step(now, event, effects);
      see(now, event, effects);
    }
  }
}

class Collector {
 public:
  explicit Collector(Calibration& out) : out_(out) {}

  void read_control(const std::string& path) {
    Machines machines;
    walk<control::Event, std::vector<control::Effect>>(
        path, Root::control,
        [&](LogReader& reader, const LogRecord& record, bool again) {
          control::Config config;
          if (!decode(record.bytes, config)) reader.fail("found no control plane's configuration");
          if (again) {
            machines.reconfigure_control(config);
          } else {
            machines.create_control(config);
          }
          out_.separate_tenants = config.tenancy.separate_tenants;
        },
        [&](Time now, const control::Event& event, std::vector<control::Effect>& effects) {
          machines.step(now, event, effects);
        },
        [&](Time now, const control::Event& event, const std::vector<control::Effect>& effects) {
          see_control(now, event, effects);
        });
  }

  void read_node(const std::string& path) {
    Machines machines;
    walk<node::Event, std::vector<node::Effect>>(
        path, Root::node,
        [&](LogReader& reader, const LogRecord& record, bool again) {
          node::Birth birth;
          if (!decode(record.bytes, birth)) reader.fail("found no node's configuration");
          if (again) {
            machines.reconfigure_node(0, birth);
          } else {
            machines.create_node(birth);
          }
          out_.node = birth.registration.shape;
          out_.heartbeat = birth.config.heartbeat;
          out_.image_cache_bytes = birth.config.cache.capacity_bytes;
        },
        [&](Time now, const node::Event& event, std::vector<node::Effect>& effects) {
          machines.step(now, 0, event, effects);
        },
        [&](Time now, const node::Event& event, const std::vector<node::Effect>& effects) {
          see_node(now, event, effects);
        });
  }

  void finish() {
    for (RecordedAsk& ask : out_.asks) {
      if (!ask.ended) ask.ran = last_ - (ask.at + ask.start_took);
    }
    out_.to_node = median(to_node_);
    out_.to_control = median(to_control_);
    out_.stop = median(stops_);
    if (!pull_speeds_.empty()) {
      std::sort(pull_speeds_.begin(), pull_speeds_.end());
      out_.pull_bytes_per_second = pull_speeds_[pull_speeds_.size() / 2];
    }
    const std::int64_t cores = std::clamp<std::int64_t>(out_.node.cpu_millicores / 1000, 1, kCoresMax);
    out_.start = fit_starts(out_.starts, static_cast<double>(cores));
  }

 private:
  void see_control(Time now, const control::Event& event,
                   const std::vector<control::Effect>& effects) {
    last_ = now;
    if (const auto* image = std::get_if<ImageSpec>(&event)) {
      const bool known = std::any_of(out_.images.begin(), out_.images.end(),
                                     [&](const ImageSpec& one) { return one.image == image->image; });
      if (!known) out_.images.push_back(*image);
    }
    if (const auto* from = std::get_if<control::FromNode>(&event)) {
      if (const auto sent = reports_.find({from->envelope.incarnation, from->envelope.sequence});
          from->envelope.sequence != 0 && sent == reports_.end()) {
        reports_[{from->envelope.incarnation, from->envelope.sequence}] = now;
      }
    }
    for (const control::Effect& effect : effects) {
      if (const auto* accepted = std::get_if<sandbox::Accepted>(&effect)) {
        const auto* asked = std::get_if<control::SandboxRequested>(&event);
        if (asked == nullptr || accepted->repeated) continue;
        ask_of_[accepted->sandbox] = out_.asks.size();
        out_.asks.push_back({now, asked->tenant.value, asked->image.value, asked->resources,
                             asked->lifetime, {}, {}, asked->priority, false});
      } else if (const auto* running = std::get_if<sandbox::Running>(&effect)) {
        const auto ask = ask_of_.find(running->sandbox);
        if (ask != ask_of_.end()) out_.asks[ask->second].start_took = running->took;
      } else if (const auto* gone = std::get_if<sandbox::Gone>(&effect)) {
        const auto ask = ask_of_.find(gone->sandbox);
        if (ask == ask_of_.end()) continue;
        RecordedAsk& one = out_.asks[ask->second];
        one.ended = true;
        if (gone->was_running) one.ran = now - (one.at + one.start_took);
      } else if (const auto* to = std::get_if<control::ToNode>(&effect)) {
        if (to->envelope.message) {
          orders_.try_emplace({to->envelope.incarnation, to->envelope.sequence}, now);
        }
      }
    }
  }

  void see_node(Time now, const node::Event& event, const std::vector<node::Effect>& effects) {
    if (const auto* from = std::get_if<node::FromControl>(&event)) {
      const auto sent = orders_.find({from->envelope.incarnation, from->envelope.sequence});
      if (sent != orders_.end() && from->envelope.message) {
        to_node_.push_back(now - sent->second);
        orders_.erase(sent);
      }
    } else if (const auto* started = std::get_if<node::SandboxStarted>(&event)) {
      const auto began = starting_.find(started->sandbox);
      if (began != starting_.end() && started->good) {
        out_.starts.push_back({began->second.first, now - began->second.first, began->second.second});
      }
      starting_.erase(started->sandbox);
    } else if (const auto* killed = std::get_if<node::SandboxKilled>(&event)) {
      const auto began = killing_.find(killed->sandbox);
      if (began != killing_.end()) stops_.push_back(now - began->second);
    } else if (const auto* pulled = std::get_if<images::PullFinished>(&event)) {
      const auto began = pulling_.find(pulled->pull);
      if (began != pulling_.end() && pulled->good && now > began->second.first) {
        pull_speeds_.push_back(static_cast<double>(began->second.second) * 1e9 /
                               static_cast<double>((now - began->second.first).nanos));
      }
    }
    for (const node::Effect& effect : effects) {
      if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
        starting_[start->order.sandbox] = {now, start->order.resources.cpu_millicores};
      } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
        if (kill->grace.nanos == 0) killing_[kill->sandbox] = now;
      } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
        pulling_[pull->pull] = {now, pull->bytes};
      } else if (const auto* to = std::get_if<node::ToControl>(&effect)) {
        const auto taken = reports_.find({to->envelope.incarnation, to->envelope.sequence});
        if (!to->envelope.message || taken == reports_.end()) continue;
        if (taken->second >= now) to_control_.push_back(taken->second - now);
        reports_.erase(taken);
      }
    }
  }

  using Envelope = std::pair<std::uint64_t, std::uint64_t>;  // incarnation, sequence
  Calibration& out_;
  Time last_;  // of control's log
  std::map<SandboxId, std::size_t> ask_of_;
  std::map<Envelope, Time> orders_, reports_;  // first seen by control
  std::map<SandboxId, std::pair<Time, std::int64_t>> starting_;
  std::map<SandboxId, Time> killing_;
  std::map<images::PullId, std::pair<Time, std::int64_t>> pulling_;
  std::vector<Duration> to_node_, to_control_, stops_;
  std::vector<double> pull_speeds_;
};

}  // namespace

Calibration calibrate(const std::string& control_log, const std::string& node_log) {
  Calibration out;
  Collector collector(out);
  collector.read_control(control_log);
  collector.read_node(node_log);
  collector.finish();
  if (out.starts.empty()) {
    throw LogError(node_log + ": found no sandbox that started, expected a log of a node at work");
  }
  return out;
}

}  // namespace chalk::sim
