#include "sim/swarm/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "model/core/random.h"

namespace chalk::sim {
namespace {

// Flow maps in block lists: one line for each pool, image, section of the workload, and fault.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : seed_(seed), random_(Random{seed, 0}.stream(0x737761)) {}

  std::string make() {
    zones_ = 1 + below(3);
    gpus_ = chance(4);
    tenants_ = 1 + below(4);
    images_ = chance(2) ? 1 + below(4) : 0;
    restores_ = chance(3);
    shells_ = chance(4);
    line("shows: Random world {}, made by `chalk-sim swarm`.", seed_);
    line("seed: {}", seed_);
    line("drain: 24h");
    control();
    fleet();
    images();
    tenants();
    groups();
    line("start: {}", delay(milliseconds_text(50 + below(4000))));
    if (shells_) line("shells: {{start: {}}}", delay(milliseconds_text(20 + below(300))));
    if (restores_) {
      line("snapshots: {{restore: {}, save: {}, bandwidth: {}}}", pick({"0s", "195ms", "2s"}),
           pick({"0s", "60ms", "3s"}), pick({"1Gbps", "20Gbps"}));
    }
    if (chance(6)) line("start_core_seconds: {}", pick({"0.05", "0.2", "1"}));
    if (chance(8)) line("shared_execution: true");
    workload();
    faults();
    line("assert: [invariants_broken==0, unfinished==0]");
    return text_;
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  std::string pick(std::initializer_list<std::string_view> words) {
    return std::string(words.begin()[below(words.size())]);
  }
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    text_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
  }
  static std::string milliseconds_text(std::uint64_t ms) { return fmt::format("{}ms", ms); }

  std::string delay(const std::string& mean) {
    switch (below(4)) {
      case 0: return mean;
      case 1: return fmt::format("{{distribution: exponential, mean: {}}}", mean);
      case 2: return fmt::format("{{distribution: lognormal, mean: {}, spread: 0.8}}", mean);
      default: return fmt::format("{{distribution: uniform, mean: {}, spread: 0.5}}", mean);
    }
  }

  void control() {
    const std::uint64_t heartbeat = 1 + below(8);
    separate_ = !chance(4);
    line("control:");
    line("  message_latency: {}", pick({"0s", "1ms", "5ms", "40ms"}));
    line("  dispatch_latency: {}", pick({"0s", "1ms"}));
    line("  heartbeat: {}s", heartbeat);
    line("  node_timeout: {}s", heartbeat * 4 + 5 + below(20));
    line("  gateways: {}", 1 + below(4));
    line("  gateway_sharding: {}", pick({"all", "shuffle"}));
    line("  tenant_order: {}", pick({"fair", "fair", "first_come", "quotas"}));
    line("  separate_tenants: {}", separate_);
    line("  keep_first_node: {}", seed_ % 4 != 3);  // drawn, it would change all worlds
    line("  spread_zones: {}", !chance(4));
    line("  placement: {}", pick({"best_fit", "best_fit", "best_fit", "least_allocated", "first_fit",
                                  "power_of_two", "fgd", "frag_fit"}));
    line("  preemption: {}", !chance(4));
    line("  keep_alive_memory: {}", pick({"1Gi", "64Gi"}));
    line("  image_distribution: {}", pick({"registry", "peer", "tree"}));
    line("  image_fan_out: {}", 1 + below(3));
    line("  image_peer_bandwidth: {}", seed_ % 5 == 4 ? "2Gbps" : seed_ % 5 == 3 ? "8Mbps" : "160Mbps");
    line("  image_chunk: {}", pick({"64Ki", "4Mi", "64Mi"}));
    line("  defragmentation: {}", chance(3));
    line("  scrub: {}s", below(6));
    line("  owner_linger: {}s", below(30));
    line("  stop: {}", pick({"0s", "20ms", "500ms"}));
  }

  void fleet() {
    line("fleet: {{policy: {}}}",
         pick({"idle", "idle", "cluster_autoscaler", "karpenter", "newsvendor"}));
    line("zones:");
    for (std::uint64_t i = 0; i < zones_; ++i) {
      line("  - {{name: z{}, registry_bandwidth: {}, pulls_at_once: {}}}", i,
           pick({"200Mbps", "1Gbps", "10Gbps"}), 1 + below(16));
    }
    line("pools:");
    const std::uint64_t pools = 1 + below(3);
    for (std::uint64_t i = 0; i < pools; ++i) pool(i);
  }

  // Pool 0 is for everybody and holds every shape that the workload has.
  void pool(std::uint64_t i) {
    std::string size;
    const std::uint64_t most = 2 + below(12);
    if (chance(2)) {
      size = fmt::format("nodes: {}", most);
    } else {
      size = fmt::format(
          "nodes_min: {}, nodes_max: {}, buffer_nodes: {}, "
          "idle_before_release: {}s, boot: {}",
          below(3), most, below(3), 10 + below(60), delay(fmt::format("{}s", 5 + below(60))));
    }
    if (i > 0 && chance(4)) size += ", dedicated_tenant: tenant-0";
    if (zones_ > 1 && chance(3)) size += fmt::format(", zones: [z{}]", below(zones_));
    std::string node = fmt::format(
        "cpu: {}, memory: {}Gi, disk: 100Gi, start_slots: {}, sandboxes_max: {}", 4 + 4 * below(5),
        8 + 8 * below(8), 1 + below(8), chance(4) ? 2 + below(6) : 512);
    if (images_ > 0) {
      node += fmt::format(", image_cache: {}Gi, pulls_at_once: {}, cache_policy: {}", 6 + below(20),
                          1 + below(4), pick({"lru", "sieve", "s3_fifo", "gdsf", "seconds"}));
    }
    if (shells_) node += fmt::format(", shells: {}", below(4));
    if (chance(3)) size += fmt::format(", runtime: {}", pick({"old", "new"}));
    if (chance(3)) size += fmt::format(", cpu_features: {}", pick({"[a]", "[a, b]", "[c]"}));
    if (gpus_ && i == 0) node += fmt::format(", gpu: \"{}:A100\"", pick({"1", "2", "4"}));
    line("  - {{name: p{}, {}, price_per_hour: {}, node: {{{}}}}}", i, size, 1 + i, node);
  }

  void images() {
    if (images_ > 0) line("images:");
    for (std::uint64_t i = 0; i < images_; ++i) {
      std::string layers = fmt::format("{{name: own{}, size: {}Mi}}", i, 1 + below(800));
      if (chance(2)) layers = "{name: base, size: 60Mi}, " + layers;
      line("  - {{name: image-{}, prewarmed: {}, layers: [{}]}}", i, chance(4), layers);
    }
  }

  void tenants() {
    if (separate_ && chance(4)) line("tenant_default: {{shares_nodes: true}}");
    if (!chance(3)) return;
    line("families: {{all: {{guarantee: {{cpu: {}}}}}}}", 1 + below(40));
    line("tenants:");
    line("  tenant-0: {{weight: {}, quota: {{cpu: {}, memory: {}Gi, sandboxes: {}}}}}",
         1 + below(5), 2 + below(10), 4 + below(20), 1 + below(20));
    line("  tenant-1: {{family: all, guarantee: {{sandboxes: {}}}}}", 1 + below(10));
    line("  tenant-2: {{family: all}}");
  }

  void groups() {
    const std::string policy = pick({"fixed", "kpa", "chalk", "hpa"});
    std::string keeps;
    if (policy == "fixed") {
      const std::string keep = pick({"fixed", "hybrid", "greedy_dual", "cost"});
      keeps = fmt::format(", keep_alive_policy: {}, cold_start_worth: {}s", keep, 1 + below(1000));
      hoards_ = keep == "greedy_dual" || keep == "hybrid";
    }
    hoards_ = hoards_ || policy == "hpa";
    line(
        "group_default: {{cpu: {}, memory: {}, policy: {}, concurrency: {}, replicas_max: {}, "
        "queue_max: {}, queue_order: {}, queue_timeout: {}, keep_alive: {}s, target_permille: {}, "
        "delayed_warm_start: {}, start_mode: {}, init: {}, snapshot_size: {}{}}}",
        pick({"500m", "1", "2"}), pick({"256Mi", "1Gi"}), policy, 1 + below(6), 1 + below(14),
        chance(4) ? 1 + below(20) : 10'000, pick({"fifo", "drr"}),
        hoards_ || chance(4) ? "5s" : "0s", 5 + below(90), 400 + below(600), chance(2), restores_ ? "restore" : "cold",
        chance(2) ? "0s" : delay(milliseconds_text(100 + below(5000))),
        pick({"1Mi", "100Mi", "2Gi"}), keeps);
  }

  void workload() {
    line("workload:");
    const std::string of_images = images_ > 0 ? fmt::format(", images: {}", images_) : "";
    const std::string service =
        fmt::format("service: {}", delay(milliseconds_text(20 + below(900))));
    const std::string who =
        fmt::format("functions: {}, tenants: {}, function_skew: {}{}, {}", 1 + below(6), tenants_,
                    pick({"0", "1"}), of_images, service);
    const std::uint64_t most = 50 + below(1200);
    switch (below(4)) {
      case 0:
        line("  - {{kind: closed_loop, clients: {}, think: {}, arrivals_max: {}, {}}}",
             1 + below(30), delay(milliseconds_text(100 + below(2000))), most, who);
        break;
      case 1:
        line(
            "  - {{kind: bursts, calm_per_second: 1, burst_per_second: {}, calm_mean: 20s, "
            "burst_mean: 5s, arrivals_max: {}, {}}}",
            10 + below(60), most, who);
        break;
      default:
        line("  - {{kind: poisson, per_second: {}, arrivals_max: {}, {}}}", 1 + below(25), most,
             who);
    }
    if (hoards_ || chance(5)) return;
    std::string shapes =
        fmt::format("{{weight: 3, cpu: 1, memory: 1Gi}}, {{cpu: {}, memory: {}Gi}}", 1 + below(4),
                    1 + below(8));
    if (gpus_)
      shapes +=
          ", {cpu: 1, memory: 1Gi, gpu: A100, gpu_millis: 400}, {cpu: 2, memory: 2Gi, gpu: A100}";
    const std::string lifetime = pick({"0s", "10s", "60s"});
    // Without a lifetime a sandbox that begins again would never end.
    const bool restart = lifetime != "0s" && chance(3);
    line(
        "  - {{kind: poisson, of: sandboxes, prefix: {}, per_second: {}, arrivals_max: {}, "
        "tenants: {}{}, runs: {}, lifetime: {}, restart: {}, priority: {}, gang: {}, "
        "shapes: [{}]}}",
        chance(2) ? "box-" : "\"\"", pick({"0.3", "1", "5", "100"}), 10 + below(150), tenants_,
        of_images, delay(fmt::format("{}s", 1 + below(40))), lifetime, restart,
        chance(2) ? below(3) : 0, chance(3) ? 1 + below(6) : 0, shapes);
  }

  void faults() {
    const std::uint64_t count = below(6);
    const bool supply = seed_ % 6 == 1;  // drawn, it would change all worlds
    if (count > 0 || supply) line("faults:");
    for (std::uint64_t i = 0; i < count; ++i) fault();
    if (!supply) return;
    for (const char* kind : {"purchase_failure", "boot_failure"}) {
      line("  - {{kind: {}, permille: {}, from: {}, lasts: {}{}}}", kind,
           pick({"100", "500", "1000"}), milliseconds_text(below(60'000)),
           milliseconds_text(1 + below(600'000)),
           chance(2) ? fmt::format(", zone: z{}", below(zones_)) : std::string());
    }
  }

  void fault() {
    const auto permille = [&] {
      return fmt::format("permille: {}", 1 + below(chance(4) ? 999 : 300));
    };
    const auto hold_up = [&] {
      return fmt::format("delay: {}", milliseconds_text(100 + below(20'000)));
    };
    const auto nodes = [&] {
      std::string text = fmt::format("count: {}", 1 + below(6));
      if (chance(4)) text += fmt::format(", zone: z{}", below(zones_));
      return text;
    };
    std::string kind, more;
    switch (below(15)) {
      case 0: kind = "message_loss", more = permille(); break;
      case 1: kind = "message_duplicate", more = permille(); break;
      case 2: kind = "message_delay", more = permille() + ", " + hold_up(); break;
      case 3: kind = "heartbeat_lag", more = hold_up(); break;
      case 4: kind = "node_crash", more = nodes(); break;
      case 5: kind = "zone_loss", more = fmt::format("zone: z{}", below(zones_)); break;
      case 6: kind = "slow_registry", more = permille(); break;
      case 7:
        kind = "start_failure", more = permille();
        if (chance(2)) more += ", " + nodes();
        break;
      case 8: kind = "late_supply", more = hold_up(); break;
      case 9: kind = "control_restart"; break;
      case 10: kind = "agent_restart", more = nodes(); break;
      case 11: kind = "restore_failure", more = permille(); break;
      case 12: kind = "save_failure", more = permille(); break;
      case 13: kind = "node_drain", more = nodes(); break;
      default: kind = "pull_failure", more = permille(); break;
    }
    line("  - {{kind: {}, from: {}, lasts: {}{}{}}}", kind, milliseconds_text(below(120'000)),
         milliseconds_text(1 + below(60'000)), more.empty() ? "" : ", ", more);
  }

  std::uint64_t seed_;
  Random random_;
  std::string text_;
  std::uint64_t zones_ = 1, tenants_ = 1, images_ = 0;
  bool gpus_ = false, separate_ = true, restores_ = false, shells_ = false;
  // Idle replicas of these policies give no room to anybody, or not for hours: what waits for it has
  // to be refused.
  bool hoards_ = false;
};

}  // namespace

std::string random_scenario(std::uint64_t seed) { return Generator(seed).make(); }

}  // namespace chalk::sim
