// What a simulation is made of: the plain-data result of reading a scenario, ready for the world.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/core/resources.h"
#include "model/core/time.h"
#include "model/fleet/policy.h"
#include "model/gateway/shards.h"
#include "model/images/distribution.h"
#include "model/images/eviction.h"
#include "model/protocol/protocol.h"
#include "model/scheduler/policy.h"

namespace chalk::sim {

class Source;

// A duration that varies: sampled by counter-based draws, rounded to whole nanoseconds.
struct Delay {
  enum class Kind : std::uint8_t { constant, exponential, lognormal, uniform };
  Kind kind = Kind::constant;
  Duration mean;      // of constant, exponential, lognormal; middle of uniform
  double spread = 0;  // lognormal: sigma of the logarithm; uniform: half width as a share of mean
};

struct Zone {
  std::string name;
  double registry_bytes_per_second = 1.25e9;
  double backbone_bytes_per_second = 12.5e9;
  Duration latency = microseconds(200);
  std::uint32_t pulls_at_once = 64;  // that the zone's registry serves; more wait in line
};

struct Pool {
  std::string name;
  std::vector<std::uint32_t> zones;  // indexes; nodes are dealt to them in turn
  NodeShape shape;
  double link_bytes_per_second = 1.25e9;
  double disk_bytes_per_second = 1e9;
  std::int64_t machine_millicores = 0;  // which executions share; 0: as many as cpu says
  std::int64_t image_cache_bytes = 0;  // part of the disk kept for images
  std::uint32_t pulls_at_once = 3;     // per node
  images::CachePolicy cache_policy = images::CachePolicy::seconds;
  std::uint32_t nodes_min = 0;         // these are there from the start
  std::uint32_t nodes_max = 0;
  bool elastic = false;  // nodes are bought and given back between min and max
  std::uint32_t buffer_nodes = 0;
  Duration idle_before_release = seconds(600);
  Delay boot;
  double price_per_hour = 0;
  std::string dedicated_tenant;  // empty: for everybody
  MachineKind kind{1, 0};        // runtime and processor features, numbered as they come
  std::int32_t shells = 0;       // empty sandboxes that a node holds ready; not part of `shape`
  Duration spot_life;            // mean time until its supplier wants a node back; 0: never
  Duration spot_notice;          // and how long before it says so
};

struct Limits {
  Resources resources;  // zero in a dimension: none; gpus counts whole GPUs
  std::int64_t sandboxes = 0;
};
struct Tenant {
  std::string name;    // of a family
  std::string family;  // empty: none
  Limits guarantee;
  std::uint32_t weight = 1;
  bool shares_nodes = false;
  Resources quota;  // zero in a dimension: unlimited; gpus counts whole GPUs
  std::int64_t quota_sandboxes = 0;
  std::string pool;  // dedicated pool, empty for none
};

struct Image {
  std::string name;
  struct Layer {
    std::string name;  // layers of one name are shared between images
    std::int64_t bytes = 0;
    std::int64_t unpacked_bytes = 0;
  };
  std::vector<Layer> layers;
  bool prewarmed = false;  // on every node from its first moment
};

enum class TenantOrder : std::uint8_t { fair, first_come, quotas };
enum class CallOrder : std::uint8_t { fifo, drr };
enum class ScalingPolicy : std::uint8_t { fixed, kpa, chalk, hpa };
enum class KeepAlivePolicy : std::uint8_t { fixed, hybrid, greedy_dual, cost };
enum class StartMode : std::uint8_t { cold, restore };
struct Group {  // defaults for each function of the workload, or one by name
  std::int64_t cpu_millicores = 1000;
  std::int64_t memory_bytes = 1LL << 30;
  std::int64_t disk_bytes = 0;
  std::int32_t gpus = 0;
  std::int32_t gpu_millis = 1000;
  std::uint32_t gpu_models = 0;
  std::string image;  // empty: the workload's, or none
  std::string pool;   // empty: any that is not dedicated
  Priority priority = 0;  // of its replicas
  ScalingPolicy policy = ScalingPolicy::chalk;
  std::uint32_t concurrency = 1;
  std::uint32_t replicas_min = 0;
  std::uint32_t replicas_max = 1000;
  std::uint32_t queue_max = 10000;
  CallOrder queue_order = CallOrder::drr;
  Duration queue_timeout;  // 0: none
  Duration keep_alive = seconds(600);
  KeepAlivePolicy keep_alive_policy = KeepAlivePolicy::fixed;
  Duration cold_start_worth = seconds(240);  // `cost`: so long of 1 GiB idle
  std::uint32_t target_permille = 700;
  std::uint32_t z_permille = 1000;
  bool delayed_warm_start = true;
  StartMode start_mode = StartMode::cold;
  Delay init;                       // from started to ready; a restored replica has done it
  std::int64_t snapshot_bytes = 0;  // 0: as its memory
};

// Faults as data. Times are simulated; `permille` chances are per message, start or purchase.
struct Fault {
  enum class Kind : std::uint8_t {
    message_loss,       // permille of messages between control and nodes or gateways
    message_duplicate,  // permille
    message_delay,      // permille of messages that take `delay` more: reorders
    heartbeat_lag,      // heartbeats take `delay` more
    node_crash,      // `count` random nodes (or of `zone`) at `from`; back after `lasts` (0: never)
    zone_loss,       // all nodes of `zone` from `from` for `lasts`
    slow_registry,   // registry of `zone` (or all) at `permille` of its speed
    start_failure,   // permille of starts fail; with `count` on so many random nodes (or of `zone`)
    late_supply,     // boots take `delay` more
    control_restart,  // control is down for `lasts`, then restored from its log
    agent_restart,  // the agents of `count` random nodes (or of `zone`) are away for `lasts`, then go
                    // on from their logs; what runs on the nodes goes on meanwhile
    pull_failure,   // permille of pulls fail
    restore_failure,  // permille of restores fail: the replica is started from nothing
    save_failure,     // permille of snapshots cannot be saved
    node_drain,       // an operator drains `count` random nodes (or of `zone`) and takes it back after `lasts`
    purchase_failure,  // permille of purchases (of `pool`, in `zone`) fail, as is known after `delay`
    boot_failure       // permille of nodes bought (of `pool`, in `zone`) never register
  };
  Kind kind{};
  Time from;
  Duration lasts;  // 0: to the end, or for ever
  std::int32_t permille = 0;
  Duration delay;
  std::int32_t count = 0;  // nodes; 0: one, but all of start_failure
  std::int32_t zone = -1;  // -1: any
  std::int32_t pool = -1;  // the same
};

struct Setup {
  std::string name;
  std::string shows;  // the scenario's first line
  std::uint64_t seed = 1;
  std::uint64_t scenario_hash = 0;
  std::vector<std::string> traces;   // FORMAT:PATH of those that the workload reads
  Duration duration;                 // arrivals end after it; 0: when the workload ends
  std::uint64_t requests_max = 0;    // arrivals end after so many; 0: no limit
  Duration drain = seconds(86'400);  // bound on how long running work may go on afterwards
  bool run_until_done = true;        // false: stop at `duration` sharp

  Duration message_latency = milliseconds(1);  // one way, between control and nodes or gateways
  Duration dispatch_latency;                   // gateway to replica
  Duration heartbeat = seconds(10);
  Duration node_timeout = seconds(40);
  std::uint32_t gateways = 1;
  gateway::Sharding gateway_sharding = gateway::Sharding::all;
  std::uint32_t gateways_per_tenant = 2;
  std::int64_t keep_alive_bytes = 64LL << 30;  // `greedy_dual`: idle replicas of all gateways

  fleet::Rules fleet;
  std::vector<Zone> zones;
  std::vector<Pool> pools;
  bool fleet_without_trace = false;     // it was to be that of a trace, and there is none
  std::vector<std::string> gpu_models;  // index = bit in gpu_models masks
  std::vector<Image> images;
  std::map<std::string, Tenant> tenants;  // by name
  Tenant tenant_default;
  std::vector<Tenant> families;  // each after the family that it is in
  TenantOrder tenant_order = TenantOrder::fair;
  std::vector<std::string> watched;  // tenants measured by themselves; "quiet-*": all that begin so
  bool separate_tenants = true;      // tenants of different owners never share a node
  Duration scrub = seconds(10);      // how long a node is wiped between owners
  Duration stop = milliseconds(20);  // how long a kill takes
  Duration owner_linger = seconds(60);
  scheduler::Policy placement = scheduler::Policy::best_fit;
  bool spread_zones = true;
  bool defragmentation = false;  // what may move makes room for what finds it only in pieces
  bool keep_first_node = true;  // for each guarantee, where tenants own nodes
  bool preemption = true;  // what finds no room may have that of its tenant's less important ones
  images::Spreading distribution = images::Spreading::registry;
  std::uint32_t fan_out = 2;             // pulls of peers that one node serves at once
  double peer_bytes_per_second = 20e6;   // slower than that a peer is left, see CacheConfig
  std::int64_t image_chunk = 4LL << 20;  // what a node passes on while the rest is under way
  Group group_default;
  std::map<std::string, Group> groups;  // by function name
  Delay start;                          // create and start of a sandbox, image on the node
  double start_core_seconds = 0;        // > 0: of it as work on the node's cores, under contention
  double start_core_spread = 0;         // sigma of its logarithm, the mean stays
  std::int64_t start_cpu_min = 0;       // millicores that a start may use, however small its share
  Delay shell_start;                    // of a sandbox in a shell that is ready, instead of `start`
  Duration restore = milliseconds(195);  // of a snapshot without its bytes
  Duration save = milliseconds(50);      // the same
  double snapshot_bytes_per_second = 1.4e9;  // that both read or write
  bool shared_execution = false;        // calls run as SimGrid executions on shared cores
  std::vector<Fault> faults;
  std::vector<std::string> assertions;  // conditions such as "wait_p99_ms<=500"

  bool event_log = true;                     // write what `replay` takes, when there is an --out
  std::uint64_t checkpoint_every = 100'000;  // events between digests of the whole state

  // Opens the workload from its start; called once per run.
  std::function<std::unique_ptr<Source>(std::uint64_t seed)> open_workload;
};

}  // namespace chalk::sim
