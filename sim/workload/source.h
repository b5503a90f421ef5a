// What arrives at the platform, in order of time: the simulator's world pulls it from a Source.
//
// A Source is a trace reader or a seeded generator. It says beforehand what it may name (Catalogue)
// and then streams arrivals: peek is the next one, pop takes it. Its memory does not grow with the
// number of arrivals. Invariant: the times of popped arrivals never decrease, and one seed gives
// one stream. A reader throws InputError (input_error.h) where its file is not of the format.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "model/core/resources.h"
#include "model/core/time.h"

namespace chalk::sim {

struct FunctionSpec {
  std::string name;
  std::uint32_t tenant = 0;         // index into Catalogue::tenants
  std::uint32_t image = 0;          // index into Catalogue::images
  std::int64_t cpu_millicores = 0;  // 0: not given, the scenario's default applies
  std::int64_t memory_bytes = 0;    // 0: not given, the scenario's default applies
  bool shared = false;              // merged sources that name it mean one function
  bool operator==(const FunctionSpec&) const = default;
};

struct NodeGroupSpec {
  std::string name;
  NodeShape shape;
  std::string gpu_model;  // empty without GPUs
  std::uint32_t count = 0;
  bool operator==(const NodeGroupSpec&) const = default;
};

// Everything that arrivals refer to by index. Complete before the first peek, and then fixed.
struct Catalogue {
  std::vector<FunctionSpec> functions;
  std::vector<std::string> tenants;
  std::vector<std::string> images;
  std::vector<std::string> gpu_models;  // bit i of Resources::gpu_models is gpu_models[i]
  std::vector<NodeGroupSpec> nodes;     // the fleet, where the trace brings one
  bool operator==(const Catalogue&) const = default;
};

inline constexpr std::uint32_t kGangMax = 1000;  // members

// A sandbox that someone asks for.
struct SandboxAsk {
  std::uint32_t tenant = 0;
  std::uint32_t image = 0;
  Resources resources;        // 0 in a field: not given, the scenario's default applies
  Duration lifetime;          // from running to the enforced end; 0: not given
  std::int32_t priority = 0;  // to its tenant, 0 to kPriorityMax; higher is more important
  bool restart = false;       // by its node, when it ends by itself: then `service` is of each run
  std::uint32_t gang = 0;     // so many alike, which are placed together or not at all; 0: one
  bool operator==(const SandboxAsk&) const = default;
};

enum class ArrivalKind : std::uint8_t { request, sandbox };

inline constexpr std::uint32_t kNoClient = std::numeric_limits<std::uint32_t>::max();

struct Arrival {
  Time at;
  ArrivalKind kind = ArrivalKind::request;
  std::uint32_t function = 0;        // request: index into Catalogue::functions
  Duration service;                  // request: its execution time, cold start excluded;
                                     // sandbox: its owner ends it after this long, 0: never
  SandboxAsk sandbox;                // sandbox only
  std::uint32_t client = kNoClient;  // closed loop: who waits for the answer
  std::uint32_t caller = kNoClient;  // request: index into Catalogue::tenants; else the function's
  std::int32_t input_tokens = 0;     // LLM traces
  std::int32_t output_tokens = 0;
  bool operator==(const Arrival&) const = default;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual const Catalogue& catalogue() const = 0;
  // The next arrival in order of time, or nullptr when none is known now: either exhausted() or, in
  // a closed loop, every client waits. Valid until the next call of a non-const member.
  virtual const Arrival* peek() = 0;
  // Takes the arrival that peek showed; does nothing where peek shows none.
  virtual void pop() = 0;
  // The request of `client` was answered (or refused) at `now`, which is not before the last pop.
  // Unknown clients and clients that do not wait are ignored.
  virtual void finished(std::uint32_t client, Time now) {
    static_cast<void>(client);
    static_cast<void>(now);
  }
  virtual bool exhausted() const = 0;
  virtual double progress() const = 0;  // 0..1; 0 where the end is not known
};

}  // namespace chalk::sim
