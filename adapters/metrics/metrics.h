// What an operator sees of a running server or agent: counters, gauges and histograms in the text
// form that Prometheus reads. prometheus-cpp keeps them; this says which there are, in one table.
//
// A name or a label that is not in the table is a mistake of the program: it is counted as
// chalk_metrics_misused_total and otherwise ignored, so that measuring never breaks what is
// measured. Labels take values from small sets only, never a sandbox, a client or an address;
// beyond kValuesMax label values of one metric the rest are "other". Thread safe; a call costs
// about a microsecond.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace chalk::metrics {

using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// When the parts of one start happened, in nanoseconds since 1970; 0: not known.
struct StartTimes {
  std::int64_t asked = 0, placed = 0;  // by the server's clock
  std::int64_t accepted = 0, layers_ready = 0, network_ready = 0, created = 0, started = 0,
               first_byte = 0, ready = 0;  // by the node's
  std::int64_t running = 0;                // by the server's
};

class Metrics {
 public:
  static constexpr std::size_t kValuesMax = 256;

  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void count(std::string_view name, Labels labels = {}, double by = 1);
  // A counter that somebody else counts: it becomes `total`, and never less than it was.
  void grown_to(std::string_view name, double total, Labels labels = {});
  void set(std::string_view name, double value, Labels labels = {});
  // A gauge that nobody can say now: its values leave the text until it is set again. Not while
  // another thread sets it.
  void leave_out(std::string_view name);
  void observe(std::string_view name, double value, Labels labels = {});

  // ---- what is measured often, named
  void batch(std::size_t events, double append_seconds, double step_seconds);
  // `method` as gRPC says it, "/chalk.sandbox.v2.SandboxService/GetSandbox"; code as its number.
  void call(std::string_view method, int code, double seconds);
  void start(const StartTimes& times);

  // Asked at every scrape, before the text is made: sets gauges from what is now.
  void before_text(std::function<void(Metrics&)> refresh);
  // Content type: text/plain; version=0.0.4; charset=utf-8
  std::string text();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::metrics
