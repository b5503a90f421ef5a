// How long image pulls, transfers, disk writes and executions take when they share registries,
// links, disks and cores. In: what starts, when (`now` never goes back) and under which key. Out:
// the key again when it is over, in order of time and, at one time, in order of start.
// Invariants: a completion is never before its start nor before the latest `now`; the answers
// depend on what was started when, and not on how often advance was called; a model that starts
// nothing never touches SimGrid. An unknown host or zone, or a key in use, stops the process.
// One model at a time may have started anything (std::logic_error): see isolated.h.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "model/core/time.h"
#include "sim/simgrid/platform.h"

namespace chalk::sim {

struct Completion {
  std::uint64_t activity = 0;
  Time at;
  bool failed = false;  // a host it needs is down
  bool operator==(const Completion&) const = default;
};

class ResourceModel {
 public:
  // Throws std::invalid_argument that names what is impossible.
  explicit ResourceModel(Platform);
  ~ResourceModel();
  ResourceModel(ResourceModel&&) noexcept;
  ResourceModel& operator=(ResourceModel&&) noexcept;

  // From the registry of a zone over the network to the host, then onto its disk. A pull waits its
  // turn at the registry (PlatformZone::pulls_at_once), before its first byte only.
  void pull(std::uint64_t activity, Time now, std::uint32_t host, std::uint32_t registry_zone,
            std::int64_t bytes, std::int64_t unpack_bytes);
  // Between two hosts, then onto the disk of the second. The way from a host to itself takes no time.
  void transfer(std::uint64_t activity, Time now, std::uint32_t from_host, std::uint32_t to_host,
                std::int64_t bytes, std::int64_t unpack_bytes = 0);
  // From and to the object store of the host's zone; they wait their turn like pulls.
  void fetch_object(std::uint64_t activity, Time now, std::uint32_t host, std::int64_t bytes);
  void store_object(std::uint64_t activity, Time now, std::uint32_t host, std::int64_t bytes);
  // `core_work` is the time it takes on one core. It runs on up to `cores_millis_cap` at once (0:
  // all of the host's); cores that are short are shared in proportion to the caps.
  void execute(std::uint64_t activity, Time now, std::uint32_t host, Duration core_work,
               std::int32_t cores_millis_cap);

  // No completion will come. Unknown keys, and activities that are over, are ignored.
  void cancel(std::uint64_t activity, Time now);
  // A fault: 1000 is the platform's speed, 0 a registry that hangs
  // (a byte in ten seconds).
  void set_registry_speed(std::uint32_t zone, Time now, std::int32_t permille);
  // Everything that needs the host fails now, and so does what starts before host_up.
  void host_down(std::uint32_t host, Time now);
  void host_up(std::uint32_t host, Time now);

  // The first completion at or before `until`, if there is one.
  std::optional<Completion> advance(Time until);
  // Started, and neither cancelled nor returned by advance.
  std::size_t pending() const;

 private:
  class Body;
  std::unique_ptr<Body> body_;
};

}  // namespace chalk::sim
