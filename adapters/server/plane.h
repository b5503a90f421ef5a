// The control plane in one process: the log, the driver with the machine, the view for readers, and
// the way to the nodes. What is asked of it is durable when it answers.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/records/records.h"
#include "adapters/records/words.h"
#include "adapters/server/waits.h"
#include "model/control/control.h"

namespace chalk::server {

// What carries orders to nodes; the NodeHub.
struct NodeSender {
  std::function<void(NodeId, Envelope<NodeOrder>)> order;
  std::function<void(std::uint64_t key, std::uint64_t incarnation, NodeId)> welcome;
  std::function<void(NodeId, std::uint64_t incarnation)> unknown;
};

struct PlaneOptions {
  std::string data;  // directory; made when absent
  control::Config config;
  std::vector<fleet::PoolAdded> pools;
  records::ReadLabel label;
  records::Options records;
  // For how long a create waits for its answer: a disk that is full may get room again.
  std::chrono::milliseconds answer_max = std::chrono::seconds(30);
  std::function<void(const std::string&)> log_failed;  // told of each failure of the disk
  std::function<void(std::size_t events, double append_s, double step_s)> measured;
  // Of each live step, on the stepping thread.
  std::function<void(Time now, const std::vector<control::Effect>& effects)> seen;
};

struct SandboxAsk {
  std::string key;  // idempotency key; empty: none
  TenantId tenant;
  Resources resources;
  ImageId image;
  PoolId pool;
  Duration lifetime;
  std::string payload;
  bool restart = false;  // by its node, when it ends by itself
  Priority priority = 0;
  Gang gang = {};
};

struct NodeView {  // what control knows of a node
  NodeId node;
  std::uint64_t key = 0;
  NodeShape shape;
  PoolId pool;
  ZoneId zone;
  bool draining = false;
  std::uint32_t sandboxes = 0;
  std::int64_t cpu_millicores_used = 0, memory_bytes_used = 0, disk_bytes_used = 0;
  TenantId owner;
};

class Plane {
 public:
  // Recovers. Throws std::runtime_error (log::LogError among them) with what to do, also where the
  // log holds nodes or sandboxes of a server that shared nodes, and this one does not, or reversed.
  Plane(PlaneOptions options);
  ~Plane();
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;

  void start(NodeSender sender);  // steps from now on
  void stop();

  // Accepted and durable, or refused: the error carries the rule and the numbers behind it
  // (exhausted, invalid, or unavailable where the server cannot take it now).
  Result<SandboxId> create(const SandboxAsk& ask);
  // Asks for its end; answers at once. Ending twice is fine.
  Result<void> terminate(SandboxId sandbox, Duration grace);
  Result<void> add_tenant(TenantId tenant);  // idempotent
  Result<void> add_image(const ImageSpec& image);
  Result<void> drain(NodeId node);
  Result<void> undrain(std::uint64_t key);

  // From the nodes: into the log, in order.
  void registered(const NodeRegistration& registration);
  void reported(NodeId node, Envelope<NodeReport> envelope);

  // What the machine holds now: unavailable, with the cause, where it cannot be asked since the
  // log's disk stands still. On request with the drained nodes that are away and join drained when
  // they come back: these have a key, and no NodeId.
  Result<std::vector<NodeView>> nodes(bool drained_away = false);
  Result<std::size_t> pending();
  // Why each of them has no node yet (waits.h); not those that have one, and none where the machine
  // has no time to be asked, since the disk stands still.
  Waits waits(std::vector<SandboxId> sandboxes, Time now);
  records::Records& records();

  struct LogState {
    std::uint64_t first = 0, next = 0;
  };
  Result<LogState> log_state();
  // These two wait for nothing.
  bool fenced() const;  // another server has taken the log
  std::chrono::nanoseconds log_stands_still_for() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

using records::end_reason_text;
using records::refusal_text;

}  // namespace chalk::server
