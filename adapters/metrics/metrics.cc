#include "adapters/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "adapters/metrics/table.h"

namespace chalk::metrics {
namespace {

constexpr std::string_view kMisused = "chalk_metrics_misused_total";
constexpr std::size_t kLabelBytesMax = 128;

// The values of one metric's labels, in the table's order.
using Values = std::array<std::string, 2>;

struct One {
  const Description* description = nullptr;
  prometheus::Family<prometheus::Counter>* counters = nullptr;
  prometheus::Family<prometheus::Gauge>* gauges = nullptr;
  prometheus::Family<prometheus::Histogram>* histograms = nullptr;
  std::map<Values, void*> known;  // the metric of the description's kind
};

std::string_view code_name(int code) {
  static constexpr std::array<std::string_view, 17> kNames = {
      "OK",                 "CANCELLED",           "UNKNOWN",           "INVALID_ARGUMENT",
      "DEADLINE_EXCEEDED",  "NOT_FOUND",           "ALREADY_EXISTS",    "PERMISSION_DENIED",
      "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",           "OUT_OF_RANGE",
      "UNIMPLEMENTED",      "INTERNAL",            "UNAVAILABLE",       "DATA_LOSS",
      "UNAUTHENTICATED"};
  return code >= 0 && code < static_cast<int>(kNames.size())
             ? kNames[static_cast<std::size_t>(code)]
             : "other";
}

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  std::mutex mutex;  // the map below and each metric's labels; the metrics have atoms of their own
  std::map<std::string_view, One> metrics;
  std::vector<std::function<void(Metrics&)>> refresh;

  State();
  void* find(std::string_view name, Kind kind, Labels labels);
  void* misused();
  void* make(One& one, const Values& values);
};

Metrics::State::State() {
  for (const Description& description : table()) {
    One one;
    one.description = &description;
    const std::string name(description.name);
    const std::string help(description.help);
    switch (description.kind) {
      case Kind::counter:
        one.counters = &prometheus::BuildCounter().Name(name).Help(help).Register(registry);
        break;
      case Kind::gauge:
        one.gauges = &prometheus::BuildGauge().Name(name).Help(help).Register(registry);
        break;
      case Kind::histogram:
        one.histograms = &prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
        break;
    }
    One& kept = metrics.emplace(description.name, std::move(one)).first->second;
    if (description.labels[0].empty()) make(kept, {});  // a reader sees zero, not nothing
  }
}

void* Metrics::State::make(One& one, const Values& values) {
  const auto known = one.known.find(values);
  if (known != one.known.end()) return known->second;
  Values kept = values;
  if (one.known.size() >= kValuesMax) {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (!one.description->labels[i].empty()) kept[i] = "other";
    }
    const auto other = one.known.find(kept);
    if (other != one.known.end()) return other->second;
  }
  std::map<std::string, std::string> labels;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const std::string_view label = one.description->labels[i];
    if (!label.empty()) labels.emplace(label, kept[i]);
  }
  void* made = nullptr;
  switch (one.description->kind) {
    case Kind::counter: made = &one.counters->Add(labels); break;
    case Kind::gauge: made = &one.gauges->Add(labels); break;
    case Kind::histogram:
      made = &one.histograms->Add(labels, bounds(one.description->buckets));
      break;
  }
  one.known.emplace(std::move(kept), made);
  return made;
}

void* Metrics::State::misused() {
  static_cast<prometheus::Counter*>(make(metrics.at(kMisused), {}))->Increment();
  return nullptr;
}

void* Metrics::State::find(std::string_view name, Kind kind, Labels labels) {
  const std::lock_guard lock(mutex);
  const auto found = metrics.find(name);
  if (found == metrics.end() || found->second.description->kind != kind) return misused();
  One& one = found->second;
  Values values;
  std::size_t given = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (const auto& [label, value] : labels) {
      if (one.description->labels[i].empty() || label != one.description->labels[i]) continue;
      values[i] = value.substr(0, kLabelBytesMax);
      ++given;
    }
  }
  if (given != labels.size()) return misused();
  return make(one, values);
}

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

void Metrics::count(std::string_view name, Labels labels, double by) {
  if (by < 0) return;  // a counter only grows
  if (auto* one = static_cast<prometheus::Counter*>(state_->find(name, Kind::counter, labels))) {
    one->Increment(by);
  }
}

void Metrics::grown_to(std::string_view name, double total, Labels labels) {
  if (auto* one = static_cast<prometheus::Counter*>(state_->find(name, Kind::counter, labels))) {
    const double grown = total - one->Value();
    if (grown > 0) one->Increment(grown);
  }
}

void Metrics::set(std::string_view name, double value, Labels labels) {
  if (auto* one = static_cast<prometheus::Gauge*>(state_->find(name, Kind::gauge, labels))) {
    one->Set(value);
  }
}

void Metrics::leave_out(std::string_view name) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->metrics.find(name);
  if (found == state_->metrics.end() || found->second.gauges == nullptr) {
    state_->misused();
    return;
  }
  One& one = found->second;
  for (const auto& [values, gauge] : one.known) {
    one.gauges->Remove(static_cast<prometheus::Gauge*>(gauge));
  }
  one.known.clear();
}

void Metrics::observe(std::string_view name, double value, Labels labels) {
  if (auto* one =
          static_cast<prometheus::Histogram*>(state_->find(name, Kind::histogram, labels))) {
    one->Observe(value);
  }
}

void Metrics::batch(std::size_t events, double append_seconds, double step_seconds) {
  observe("chalk_driver_batch_events", static_cast<double>(events));
  observe("chalk_driver_append_seconds", append_seconds);
  observe("chalk_driver_step_seconds", step_seconds);
}

void Metrics::call(std::string_view method, int code, double seconds) {
  // Only services of ours have methods that a stranger cannot invent.
  if (method.starts_with('/')) method.remove_prefix(1);
  if (!method.starts_with("chalk.") || code == 12) method = "other";
  count("chalk_grpc_calls_total", {{"method", method}, {"code", code_name(code)}});
  observe("chalk_grpc_call_seconds", seconds, {{"method", method}});
}

void Metrics::start(const StartTimes& times) {
  const auto phase = [&](std::string_view name, std::int64_t from, std::int64_t to) {
    // Clocks of two machines may disagree; no part took less than nothing.
    if (from == 0 || to == 0) return;
    const double seconds = to > from ? static_cast<double>(to - from) / 1e9 : 0;
    observe("chalk_sandbox_start_phase_seconds", seconds, {{"phase", name}});
  };
  phase("place", times.asked, times.placed);
  phase("layers", times.accepted, times.layers_ready);
  phase("network", times.layers_ready, times.network_ready);
  phase("create", times.network_ready, times.created);
  phase("start", times.created, times.started);
  phase("first_byte", times.started, times.first_byte);
  phase("ready", times.started, times.ready);
  if (times.asked != 0 && times.running > times.asked) {
    observe("chalk_sandbox_start_seconds", static_cast<double>(times.running - times.asked) / 1e9);
  }
}

void Metrics::before_text(std::function<void(Metrics&)> refresh) {
  const std::lock_guard lock(state_->mutex);
  state_->refresh.push_back(std::move(refresh));
}

std::string Metrics::text() {
  std::vector<std::function<void(Metrics&)>> refresh;
  {
    const std::lock_guard lock(state_->mutex);
    refresh = state_->refresh;
  }
  for (const auto& one : refresh) one(*this);
  return prometheus::TextSerializer().Serialize(state_->registry.Collect());
}

}  // namespace chalk::metrics
