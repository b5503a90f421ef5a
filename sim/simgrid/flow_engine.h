// SimGrid behind six verbs. Knows bytes, rates and seconds; knows nothing of pulls or of our clock.
// Activities are started by SimGrid's maestro, the thread that calls, and no actor exists: no
// stack, no context switch, no wait. When one ends SimGrid's completion signal names its slot. The
// clock moves only in run_to, by exactly one step of SimGrid, so the caller stops at every
// completion. Between two changes the next completion is known, so nobody has to poll. One
// FlowEngine lives at a time (SimGrid's engine is a singleton); a later one starts again at 0.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sim/simgrid/platform.h"

namespace chalk::sim {

enum class Service : std::uint8_t { kRegistry, kObjectStore };

// One end of a flow: a host, or the registry or object store of a zone.
struct Endpoint {
  enum class Kind : std::uint8_t { kHost, kRegistry, kObjectStore } kind = Kind::kHost;
  std::uint32_t index = 0;
};

class FlowEngine {
 public:
  explicit FlowEngine(const Platform&);  // std::logic_error while another one lives
  ~FlowEngine();
  FlowEngine(const FlowEngine&) = delete;
  FlowEngine& operator=(const FlowEngine&) = delete;

  // A slot carries one activity at a time and is the caller's name for it.
  void start_flow(std::uint32_t slot, Endpoint from, Endpoint to, std::int64_t bytes);
  void start_write(std::uint32_t slot, std::uint32_t host, std::int64_t bytes);
  void start_execution(std::uint32_t slot, std::uint32_t host, Duration core_work,
                       std::int64_t cores_millis);
  void cancel(std::uint32_t slot);
  void set_registry_speed(std::uint32_t zone, std::int32_t permille);

  double clock() const;
  // When the next activity ends if nothing changes; nothing while none makes progress.
  std::optional<double> next_completion();
  // Moves the clock to `seconds`, which is not beyond next_completion(); appends what ended.
  void run_to(double seconds, std::vector<std::uint32_t>& ended);

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

}  // namespace chalk::sim
