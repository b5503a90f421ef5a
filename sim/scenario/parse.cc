#include "sim/scenario/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "model/core/digest.h"
#include "sim/report/result.h"
#include "sim/scenario/reader.h"
#include "sim/scenario/workload.h"
#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"
#include "sim/world/measure.h"

namespace chalk::sim {
namespace {

constexpr std::int64_t kNodesMax = 100'000;

const std::set<std::string> kKeys = {
    "name", "shows", "seed", "duration", "requests", "drain", "run_until_done", "control", "fleet",
    "zones", "pools", "fleet_from_trace", "images", "families", "tenant_default", "tenants", "watch",
    "group_default", "groups", "start", "start_core_seconds", "start_core_spread", "start_cpu_min",
    "shells", "snapshots", "shared_execution", "llm", "workload", "faults", "assert", "output"};
const std::set<std::string> kPoolKeys = {
    "name", "zones", "nodes", "nodes_min", "nodes_max", "buffer_nodes", "idle_before_release", "boot",
    "price_per_hour", "dedicated_tenant", "runtime", "cpu_features", "spot", "node"};
const std::set<std::string> kNodeKeys = {
    "cpu", "memory", "disk", "start_slots", "sandboxes_max", "gpu", "shells", "shell_memory",
    "image_cache", "link", "disk_bandwidth", "pulls_at_once", "machine_cpu", "cache_policy"};

class Parser {
 public:
  Parser(const Files& files, Reader root, const std::optional<std::string>& trace)
      : files_(files), root_(std::move(root)), trace_(trace) {}

  Setup parse() {
    root_.only(kKeys);
    setup_.name = root_.text("name", std::filesystem::path(files_.name()).stem());
    setup_.shows = root_.required_text("shows");
    setup_.seed = static_cast<std::uint64_t>(root_.whole("seed", 1, 0, static_cast<std::int64_t>(kSeedMax)));
    setup_.duration = root_.duration("duration", {});
    if (root_.has("duration") && setup_.duration.nanos == 0) {
      root_.fail("duration", "0s", "more, or no such key where the workload has an end of its own");
    }
    setup_.requests_max =
        static_cast<std::uint64_t>(root_.whole("requests", 0, 1, 1'000'000'000'000));
    setup_.drain = root_.duration("drain", setup_.drain);
    setup_.run_until_done = root_.flag("run_until_done", true);
    control();
    fleet();
    zones();
    pools();
    images();
    families();
    tenants();
    setup_.watched = root_.texts("watch");
    groups();
    setup_.start = root_.delay("start", Delay{Delay::Kind::constant, milliseconds(150), 0});
    setup_.start_core_seconds = root_.number("start_core_seconds", 0, 0, 3600);
    setup_.start_core_spread = root_.number("start_core_spread", 0, 0, 10);
    setup_.start_cpu_min = root_.millicores("start_cpu_min", 0);
    start_modes();
    setup_.shared_execution = root_.flag("shared_execution", false);
    setup_.open_workload = read_workload(root_, setup_.gpu_models, trace_);
    watched();
    faults();
    assertions();
    Reader output = root_.map("output");
    setup_.event_log = output.flag("event_log", true);
    setup_.checkpoint_every =
        static_cast<std::uint64_t>(output.whole("checkpoint_every", 100'000, 1, 1LL << 40));
    output.done();
    root_.done();
    if (!trace_ && setup_.duration.nanos == 0 && setup_.requests_max == 0 && !workload_ends()) {
      root_.fail("duration", "nothing",
                 "duration or requests, since a generator has no end of its own");
    }
    return std::move(setup_);
  }

 private:
  void control() {
    Reader r = root_.map("control");
    setup_.message_latency = r.duration("message_latency", setup_.message_latency);
    setup_.dispatch_latency = r.duration("dispatch_latency", setup_.dispatch_latency);
    setup_.heartbeat = r.duration("heartbeat", setup_.heartbeat);
    if (setup_.heartbeat < milliseconds(10)) r.fail("heartbeat", "less", "at least 10ms");
    setup_.node_timeout = r.duration("node_timeout", setup_.node_timeout);
    if (setup_.node_timeout <= setup_.heartbeat) {
      r.fail("node_timeout", duration_text(setup_.node_timeout),
             "more than heartbeat, " + duration_text(setup_.heartbeat));
    }
    setup_.gateways = static_cast<std::uint32_t>(r.whole("gateways", 1, 1, 1000));
    setup_.gateway_sharding = static_cast<gateway::Sharding>(
        r.choice("gateway_sharding", static_cast<std::size_t>(setup_.gateway_sharding),
                 {"all", "shuffle"}));
    setup_.gateways_per_tenant =
        static_cast<std::uint32_t>(r.whole("gateways_per_tenant", 2, 1, 1000));
    if (r.has("gateways_per_tenant") && setup_.gateways_per_tenant > setup_.gateways) {
      r.fail("gateways_per_tenant", std::to_string(setup_.gateways_per_tenant),
             fmt::format("at most gateways, {}", setup_.gateways));
    }
    setup_.tenant_order = static_cast<TenantOrder>(
        r.choice("tenant_order", static_cast<std::size_t>(setup_.tenant_order),
                 {"fair", "first_come", "quotas"}));
    setup_.keep_alive_bytes = r.bytes("keep_alive_memory", setup_.keep_alive_bytes);
    setup_.separate_tenants = r.flag("separate_tenants", true);
    setup_.keep_first_node = r.flag("keep_first_node", true);
    setup_.placement = static_cast<scheduler::Policy>(
        r.choice("placement", static_cast<std::size_t>(setup_.placement),
                 {"best_fit", "least_allocated", "first_fit", "power_of_two", "fgd",
                  "frag_fit"}));
    setup_.spread_zones = r.flag("spread_zones", true);
    setup_.preemption = r.flag("preemption", true);
    setup_.defragmentation = r.flag("defragmentation", false);
    setup_.distribution = static_cast<images::Spreading>(
        r.choice("image_distribution", 0, {"registry", "peer", "tree"}));
    setup_.fan_out = static_cast<std::uint32_t>(r.whole("image_fan_out", 2, 1, 1000));
    setup_.peer_bytes_per_second =
        r.bandwidth("image_peer_bandwidth", setup_.peer_bytes_per_second);
    if (setup_.peer_bytes_per_second < 1e6) r.fail("image_peer_bandwidth", "less", "at least 8Mbps");
    setup_.image_chunk = r.bytes("image_chunk", setup_.image_chunk);
    if (setup_.image_chunk < 65'536)
      r.fail("image_chunk", bytes_text(setup_.image_chunk), "at least 64Ki");
    setup_.scrub = r.duration("scrub", setup_.scrub);
    setup_.owner_linger = r.duration("owner_linger", setup_.owner_linger);
    setup_.stop = r.duration("stop", setup_.stop);
    r.done();
  }

  void start_modes() {
    Reader shells = root_.map("shells");
    setup_.shell_start = shells.delay("start", setup_.start);
    shells.done();
    Reader r = root_.map("snapshots");
    setup_.restore = r.duration("restore", setup_.restore);
    setup_.save = r.duration("save", setup_.save);
    setup_.snapshot_bytes_per_second = r.bandwidth("bandwidth", setup_.snapshot_bytes_per_second);
    r.done();
  }

  // The policy gives the defaults of the rest.
  void fleet() {
    Reader r = root_.map("fleet");
    fleet::Rules& rules = setup_.fleet;
    rules = fleet::rules_of(static_cast<fleet::Policy>(
        r.choice("policy", 0, {"idle", "cluster_autoscaler", "karpenter", "newsvendor"})));
    rules.scan = r.duration("scan", rules.scan);
    if (rules.scan < seconds(1)) r.fail("scan", duration_text(rules.scan), "at least 1s");
    rules.batch = r.duration("batch", rules.batch);
    rules.batch_max = r.duration("batch_max", rules.batch_max);
    if (rules.batch_max < rules.batch) {
      r.fail("batch_max", duration_text(rules.batch_max),
             "at least batch, " + duration_text(rules.batch));
    }
    rules.unneeded = r.duration("unneeded", rules.unneeded);
    rules.used_permille =
        static_cast<std::uint32_t>(r.whole("used_permille", rules.used_permille, 1, 1000));
    rules.after_purchase = r.duration("after_purchase", rules.after_purchase);
    rules.pays_back = r.duration("pays_back", rules.pays_back);
    rules.late_worth = r.duration("late_worth", rules.late_worth);
    rules.move_cost = r.duration("move_cost", rules.move_cost);
    rules.nodes_at_once =
        static_cast<std::uint32_t>(r.whole("nodes_at_once", rules.nodes_at_once, 0, 10'000));
    rules.sandboxes_at_once = static_cast<std::uint32_t>(
        r.whole("sandboxes_at_once", rules.sandboxes_at_once, 0, 1'000'000));
    rules.empty_within = r.duration("empty_within", rules.empty_within);
    rules.arrives_within = r.duration("arrives_within", rules.arrives_within);
    rules.retry = r.duration("retry", rules.retry);
    if (rules.retry < seconds(1)) r.fail("retry", duration_text(rules.retry), "at least 1s");
    const Duration retry_max = std::max(rules.retry, rules.retry_max);
    rules.retry_max = r.duration("retry_max", retry_max);
    if (rules.retry_max < rules.retry) {
      r.fail("retry_max", duration_text(rules.retry_max), "at least retry, " + duration_text(rules.retry));
    }
    r.done();
  }

  void zones() {
    for (Reader& r : root_.list("zones")) {
      Zone zone;
      zone.name = r.required_text("name");
      for (const Zone& other : setup_.zones) {
        if (other.name == zone.name)
          r.fail("name", fmt::format("\"{}\" twice", zone.name), "each zone once");
      }
      zone.registry_bytes_per_second =
          r.bandwidth("registry_bandwidth", zone.registry_bytes_per_second);
      zone.backbone_bytes_per_second =
          r.bandwidth("backbone_bandwidth", zone.backbone_bytes_per_second);
      zone.latency = r.duration("latency", zone.latency);
      zone.pulls_at_once = static_cast<std::uint32_t>(r.whole("pulls_at_once", 64, 1, 10'000));
      r.done();
      setup_.zones.push_back(zone);
    }
    if (setup_.zones.empty()) setup_.zones.push_back({.name = "a"});
    if (setup_.zones.size() > 60)
      root_.fail("zones", fmt::format("{} zones", setup_.zones.size()), "at most 60");
  }

  void pools() {
    if (root_.flag("fleet_from_trace", false)) {
      if (const auto trace = trace_of_fleet()) return fleet_from_trace(*trace);
      setup_.fleet_without_trace = true;
    }
    auto list = root_.list("pools");
    if (list.empty()) root_.fail("pools", "nothing", "at least one pool of nodes");
    for (Reader& r : list) {
      r.only(kPoolKeys);
      Pool pool;
      pool.name = r.required_text("name");
      for (const Pool& other : setup_.pools) {
        if (other.name == pool.name)
          r.fail("name", fmt::format("\"{}\" twice", pool.name), "each pool once");
      }
      for (const std::string& name : r.texts("zones")) pool.zones.push_back(zone_index(r, name));
      if (pool.zones.empty()) {
        for (std::uint32_t i = 0; i < setup_.zones.size(); ++i) pool.zones.push_back(i);
      }
      pool_size(r, pool);
      pool.boot = r.delay("boot", Delay{Delay::Kind::constant, seconds(120), 0});
      pool.price_per_hour = r.number("price_per_hour", 0, 0, 1e6);
      pool.dedicated_tenant = r.text("dedicated_tenant", "");
      machine_kind(r, pool);
      spot(r, pool);
      node_shape(r, pool);
      r.done();
      setup_.pools.push_back(pool);
    }
  }

  void machine_kind(Reader& r, Pool& pool) {
    const auto numbered = [](std::vector<std::string>& names, const std::string& name) {
      const auto found = std::find(names.begin(), names.end(), name);
      const auto index = static_cast<std::uint64_t>(found - names.begin());
      if (found == names.end()) names.push_back(name);
      return index;
    };
    pool.kind = {1 + numbered(runtimes_, r.text("runtime", "runsc")), 0};
    for (const std::string& feature : r.texts("cpu_features")) {
      const std::uint64_t bit = numbered(cpu_features_, feature);
      if (bit >= 64) r.fail("cpu_features", "more than 64 names in all pools", "at most 64");
      pool.kind.cpu_features |= 1ULL << bit;
    }
  }

  static void pool_size(Reader& r, Pool& pool) {
    pool.elastic = r.has("nodes_max");
    if (pool.elastic) {
      if (r.has("nodes"))
        r.fail("nodes", "nodes and nodes_max", "nodes, or nodes_min and nodes_max");
      pool.nodes_max = static_cast<std::uint32_t>(r.whole("nodes_max", 0, 1, kNodesMax));
      pool.nodes_min = static_cast<std::uint32_t>(r.whole("nodes_min", 0, 0, kNodesMax));
      if (pool.nodes_min > pool.nodes_max) {
        r.fail("nodes_min", std::to_string(pool.nodes_min),
               fmt::format("at most nodes_max, {}", pool.nodes_max));
      }
      pool.buffer_nodes = static_cast<std::uint32_t>(r.whole("buffer_nodes", 0, 0, pool.nodes_max));
      pool.idle_before_release = r.duration("idle_before_release", pool.idle_before_release);
      return;
    }
    if (!r.has("nodes"))
      r.fail("nodes", "nothing", "nodes: how many, or nodes_max for an elastic pool");
    pool.nodes_min = static_cast<std::uint32_t>(r.whole("nodes", 0, 0, kNodesMax));
    pool.nodes_max = pool.nodes_min;
  }

  static void spot(Reader& pool_reader, Pool& pool) {
    if (!pool_reader.has("spot")) return;
    Reader r = pool_reader.map("spot");
    if (!pool.elastic) {
      pool_reader.fail("spot", "a pool with a fixed number of nodes", "nodes_max with it");
    }
    pool.spot_life = r.duration("life", {});
    pool.spot_notice = r.duration("notice", seconds(120));
    if (pool.spot_life.nanos == 0) {
      r.fail("life", "nothing", "the mean time until a node is asked back");
    }
    r.done();
  }

  void node_shape(Reader& pool_reader, Pool& pool) {
    Reader r = pool_reader.map("node");
    r.only(kNodeKeys);
    NodeShape& shape = pool.shape;
    if (!r.has("cpu")) r.fail("cpu", "nothing", "the cores of a node");
    if (!r.has("memory")) r.fail("memory", "nothing", "the memory of a node");
    shape.cpu_millicores = r.millicores("cpu", 0);
    shape.memory_bytes = r.bytes("memory", 0);
    shape.disk_bytes = r.bytes("disk", 1LL << 40);
    shape.start_slots = static_cast<std::int32_t>(r.whole("start_slots", 8, 1, 100'000));
    shape.sandboxes_max = static_cast<std::int32_t>(r.whole("sandboxes_max", 1024, 1, 100'000));
    if (shape.cpu_millicores == 0 || shape.memory_bytes == 0)
      r.fail("cpu", "zero cpu or memory", "a node that can run something");
    if (r.has("gpu")) {
      const std::string text = r.text("gpu", "");
      const auto gpu = parse_gpu(text);
      if (!gpu || gpu->count > kGpusPerNodeMax) {
        r.fail("gpu", fmt::format("\"{}\"", text),
               fmt::format("GPUs such as 8:nvidia-a100, at most {}", kGpusPerNodeMax));
      }
      shape.gpus = gpu->count;
      shape.gpu_model = gpu_index(r, gpu->model);
    }
    pool.shells = static_cast<std::int32_t>(r.whole("shells", 0, 0, 10'000));
    const std::int64_t each = r.bytes("shell_memory", 16LL << 20);
    if (each > shape.memory_bytes ||
        (each > 0 && pool.shells > (shape.memory_bytes - 1) / each)) {
      r.fail("shells", fmt::format("{} of {} each", pool.shells, bytes_text(each)),
             "less than the memory, " + bytes_text(shape.memory_bytes));
    }
    shape.memory_bytes -= pool.shells * each;
    pool.image_cache_bytes = r.bytes("image_cache", shape.disk_bytes / 2);
    if (pool.image_cache_bytes > shape.disk_bytes) {
      r.fail("image_cache", bytes_text(pool.image_cache_bytes),
             "at most the disk, " + bytes_text(shape.disk_bytes));
    }
    pool.link_bytes_per_second = r.bandwidth("link", pool.link_bytes_per_second);
    pool.disk_bytes_per_second = r.bandwidth("disk_bandwidth", pool.disk_bytes_per_second);
    pool.pulls_at_once = static_cast<std::uint32_t>(r.whole("pulls_at_once", 3, 1, 1000));
    pool.machine_millicores = r.millicores("machine_cpu", 0);
    pool.cache_policy = static_cast<images::CachePolicy>(
        r.choice("cache_policy", 4, {"lru", "sieve", "s3_fifo", "gdsf", "seconds"}));
    r.done();
  }

  // None: the workload has no trace.
  std::optional<std::string> trace_of_fleet() {
    if (trace_) return trace_;
    std::optional<std::string> path;
    for (Reader& r : root_.list("workload")) {
      if (r.text("kind", "") != "trace") continue;
      if (path) root_.fail("fleet_from_trace", "several traces in workload", "one, or --trace");
      path = read_trace_path(r);
    }
    return path;
  }

  // The nodes that the trace itself lists, one pool for each shape.
  void fleet_from_trace(const std::string& trace) {
    root_.list("pools");
    const auto source = open_trace(trace, {});
    const Catalogue& catalogue = source->catalogue();
    if (catalogue.nodes.empty()) {
      root_.fail("fleet_from_trace", "true", "false for a trace that lists no nodes");
    }
    for (const NodeGroupSpec& group : catalogue.nodes) {
      Pool pool;
      pool.name = group.name;
      for (std::uint32_t i = 0; i < setup_.zones.size(); ++i) pool.zones.push_back(i);
      pool.shape = group.shape;
      if (pool.shape.gpus > 0 && pool.shape.gpu_model >= 0) {
        // By the name that a scenario has for it: a trace may say T4 for nvidia-t4.
        const std::string& name = catalogue.gpu_models[pool.shape.gpu_model];
        const auto gpu = parse_gpu(name);
        pool.shape.gpu_model = gpu_index(root_, gpu ? gpu->model : name);
      }
      if (pool.shape.disk_bytes == 0) pool.shape.disk_bytes = 1LL << 40;
      pool.image_cache_bytes = pool.shape.disk_bytes / 2;
      pool.nodes_min = pool.nodes_max = group.count;
      setup_.pools.push_back(pool);
    }
  }

  void images() {
    for (Reader& r : root_.list("images")) {
      Image image;
      image.name = r.required_text("name");
      image.prewarmed = r.flag("prewarmed", false);
      auto layers = r.list("layers");
      for (Reader& l : layers) {
        Image::Layer layer;
        layer.name = l.required_text("name");
        layer.bytes = l.bytes("size", 0);
        layer.unpacked_bytes = l.bytes("unpacked", layer.bytes * 5 / 2);
        l.done();
        image.layers.push_back(layer);
      }
      if (layers.empty()) {
        if (!r.has("size")) r.fail("size", "nothing", "size or layers");
        const std::int64_t size = r.bytes("size", 0);
        image.layers.push_back({image.name, size, r.bytes("unpacked", size * 5 / 2)});
      }
      r.done();
      std::int64_t unpacked = 0;
      for (const auto& layer : image.layers) unpacked += layer.unpacked_bytes;
      for (const Pool& pool : setup_.pools) {
        if (unpacked > pool.image_cache_bytes) {
          r.fail("size", bytes_text(unpacked) + " unpacked",
                 fmt::format("at most the image cache of pool {}, {}", pool.name,
                             bytes_text(pool.image_cache_bytes)));
        }
      }
      setup_.images.push_back(image);
    }
  }

  void families() {
    for (auto& [name, r] : root_.entries("families")) {
      Tenant family = tenant(r, {});  // its own family stands before it
      family.name = name;
      setup_.families.push_back(family);
    }
  }

  void tenants() {
    Reader all = root_.map("tenant_default");
    setup_.tenant_default = tenant(all, {});
    for (auto& [name, r] : root_.entries("tenants"))
      setup_.tenants[name] = tenant(r, setup_.tenant_default);
  }

  Tenant tenant(Reader& r, Tenant tenant) {
    tenant.weight = static_cast<std::uint32_t>(r.whole("weight", tenant.weight, 1, 1'000'000));
    tenant.shares_nodes = r.flag("shares_nodes", tenant.shares_nodes);
    tenant.pool = r.text("pool", tenant.pool);
    if (!tenant.pool.empty()) pool_exists(r, tenant.pool);
    tenant.family = r.text("family", tenant.family);
    const auto known = [&](const Tenant& family) { return family.name == tenant.family; };
    if (!tenant.family.empty() &&
        std::none_of(setup_.families.begin(), setup_.families.end(), known)) {
      r.fail("family", fmt::format("\"{}\"", tenant.family),
             "the name of a family in families:, which stands before it");
    }
    Reader quota = r.map("quota");
    limits(quota, tenant.quota, tenant.quota_sandboxes);
    Reader guarantee = r.map("guarantee");
    limits(guarantee, tenant.guarantee.resources, tenant.guarantee.sandboxes);
    guarantee_fits_quota(guarantee, tenant);
    r.done();
    return tenant;
  }

  static void limits(Reader& r, Resources& resources, std::int64_t& sandboxes) {
    resources.cpu_millicores = r.millicores("cpu", resources.cpu_millicores);
    resources.memory_bytes = r.bytes("memory", resources.memory_bytes);
    resources.gpus = static_cast<std::int32_t>(r.whole("gpus", resources.gpus, 0, 1'000'000));
    sandboxes = r.whole("sandboxes", sandboxes, 0, 1LL << 40);
    r.done();
  }

  static void guarantee_fits_quota(Reader& r, const Tenant& tenant) {
    const auto fits = [&](const char* key, std::int64_t guarantee, std::int64_t quota) {
      if (quota == 0 || guarantee <= quota) return;
      r.fail(key, std::to_string(guarantee), fmt::format("at most the quota, {}", quota));
    };
    const Resources& least = tenant.guarantee.resources;
    fits("cpu", least.cpu_millicores, tenant.quota.cpu_millicores);
    fits("memory", least.memory_bytes, tenant.quota.memory_bytes);
    fits("gpus", least.gpus, tenant.quota.gpus);
    fits("sandboxes", tenant.guarantee.sandboxes, tenant.quota_sandboxes);
  }

  void groups() {
    Reader all = root_.map("group_default");
    setup_.group_default = group(all, {});
    for (auto& [name, r] : root_.entries("groups"))
      setup_.groups[name] = group(r, setup_.group_default);
  }

  Group group(Reader& r, Group group) {
    group.cpu_millicores = r.millicores("cpu", group.cpu_millicores);
    group.memory_bytes = r.bytes("memory", group.memory_bytes);
    group.disk_bytes = r.bytes("disk", group.disk_bytes);
    if (r.has("gpu")) {
      const GpuAsk gpu = read_gpu(r, setup_.gpu_models);
      group.gpus = gpu.count;
      group.gpu_millis = gpu.millis;
      group.gpu_models = gpu.models;
    } else {
      group.gpu_millis =
          static_cast<std::int32_t>(r.whole("gpu_millis", group.gpu_millis, 1, 1000));
    }
    group.image = r.text("image", group.image);
    const bool known = std::any_of(setup_.images.begin(), setup_.images.end(),
                                   [&](const Image& image) { return image.name == group.image; });
    if (!group.image.empty() && !known)
      r.fail("image", fmt::format("\"{}\"", group.image), "the name of an image in images:");
    group.priority = read_priority(r, group.priority);
    group.pool = r.text("pool", group.pool);
    if (!group.pool.empty()) pool_exists(r, group.pool);
    group.policy = static_cast<ScalingPolicy>(
        r.choice("policy", static_cast<std::size_t>(group.policy), {"fixed", "kpa", "chalk", "hpa"}));
    group.concurrency =
        static_cast<std::uint32_t>(r.whole("concurrency", group.concurrency, 1, 100'000));
    group.replicas_max =
        static_cast<std::uint32_t>(r.whole("replicas_max", group.replicas_max, 1, 1'000'000));
    group.replicas_min = static_cast<std::uint32_t>(
        r.whole("replicas_min", group.replicas_min, 0, group.replicas_max));
    group.queue_max =
        static_cast<std::uint32_t>(r.whole("queue_max", group.queue_max, 0, 100'000'000));
    group.queue_order = static_cast<CallOrder>(r.choice(
        "queue_order", static_cast<std::size_t>(group.queue_order), {"fifo", "drr"}));
    group.queue_timeout = r.duration("queue_timeout", group.queue_timeout);
    group.keep_alive = r.duration("keep_alive", group.keep_alive);
    group.keep_alive_policy = static_cast<KeepAlivePolicy>(
        r.choice("keep_alive_policy", static_cast<std::size_t>(group.keep_alive_policy),
                 {"fixed", "hybrid", "greedy_dual", "cost"}));
    if (r.has("keep_alive_policy") && group.policy != ScalingPolicy::fixed &&
        group.keep_alive_policy != KeepAlivePolicy::fixed) {
      r.fail("keep_alive_policy", "a policy of the gateway beside an autoscaler's own window",
             "policy: fixed with it");
    }
    group.cold_start_worth = r.duration("cold_start_worth", group.cold_start_worth);
    group.target_permille =
        static_cast<std::uint32_t>(r.whole("target_permille", group.target_permille, 1, 1000));
    group.z_permille =
        static_cast<std::uint32_t>(r.whole("z_permille", group.z_permille, 0, 10'000));
    if (r.has("z_permille") && group.policy != ScalingPolicy::chalk)
      r.fail("z_permille", "slack that only ours has", "policy: chalk with it");
    group.delayed_warm_start = r.flag("delayed_warm_start", group.delayed_warm_start);
    group.start_mode = static_cast<StartMode>(r.choice(
        "start_mode", static_cast<std::size_t>(group.start_mode), {"cold", "restore"}));
    group.init = r.delay("init", group.init);
    group.snapshot_bytes = r.bytes("snapshot_size", group.snapshot_bytes);
    const auto holds = [&](const Pool& pool) {
      const bool model = group.gpus == 0 || (group.gpu_models >> pool.shape.gpu_model & 1);
      return (group.pool.empty() || pool.name == group.pool) &&
             group.cpu_millicores <= pool.shape.cpu_millicores &&
             group.memory_bytes <= pool.shape.memory_bytes &&
             group.disk_bytes <= pool.shape.disk_bytes && group.gpus <= pool.shape.gpus && model;
    };
    if (std::none_of(setup_.pools.begin(), setup_.pools.end(), holds)) {
      r.fail("cpu",
             fmt::format("a replica of {}m cpu, {} memory, {} GPUs", group.cpu_millicores,
                         bytes_text(group.memory_bytes), group.gpus),
             "one that a node of some pool can hold");
    }
    r.done();
    return group;
  }

  void faults() {
    const std::vector<const char*> kinds = {
        "message_loss", "message_duplicate", "message_delay", "heartbeat_lag", "node_crash",
        "zone_loss",    "slow_registry",     "start_failure", "late_supply",   "control_restart",
        "agent_restart", "pull_failure", "restore_failure", "save_failure", "node_drain",
        "purchase_failure", "boot_failure"};
    for (Reader& r : root_.list("faults")) {
      Fault fault;
      if (!r.has("kind")) r.fail("kind", "nothing", "the kind of fault");
      fault.kind = static_cast<Fault::Kind>(r.choice("kind", 0, kinds));
      fault.from = Time{r.duration("from", {}).nanos};
      fault.lasts = r.duration("lasts", {});
      fault.permille = static_cast<std::int32_t>(r.whole("permille", 0, 0, 1000));
      const bool purchase = fault.kind == Fault::Kind::purchase_failure;
      fault.delay = r.duration("delay", purchase ? seconds(10) : Duration{});
      if (r.has("count")) {
        fault.count = static_cast<std::int32_t>(r.whole("count", 1, 1, kNodesMax));
      }
      if (r.has("zone")) fault.zone = static_cast<std::int32_t>(zone_index(r, r.text("zone", "")));
      if (purchase || fault.kind == Fault::Kind::boot_failure) {
        if (r.has("pool")) fault.pool = static_cast<std::int32_t>(pool_index(r, r.text("pool", "")));
      }
      needs(r, fault);
      r.done();
      setup_.faults.push_back(fault);
    }
  }

  static void needs(Reader& r, const Fault& fault) {
    using K = Fault::Kind;
    const auto one_of = [&](std::initializer_list<K> kinds) {
      return std::find(kinds.begin(), kinds.end(), fault.kind) != kinds.end();
    };
    if (one_of({K::message_loss, K::message_duplicate, K::message_delay, K::start_failure,
                K::pull_failure, K::slow_registry, K::restore_failure, K::save_failure,
                K::purchase_failure, K::boot_failure}) &&
        fault.permille == 0) {
      r.fail("permille", "nothing", "1 to 1000");
    }
    if (one_of({K::message_delay, K::heartbeat_lag, K::late_supply}) && fault.delay.nanos == 0) {
      r.fail("delay", "nothing", "a duration");
    }
    if (fault.kind == K::zone_loss && fault.zone < 0)
      r.fail("zone", "nothing", "the name of a zone");
    if (fault.kind == K::control_restart && fault.lasts.nanos == 0)
      r.fail("lasts", "nothing", "how long it is down");
  }

  void assertions() {
    setup_.assertions = root_.texts("assert");
    for (const std::string& text : setup_.assertions) {
      const auto condition = parse_condition(text);
      if (!condition)
        throw ScenarioError(
            fmt::format("{}: assert: {}", root_.place("assert"), condition.error()));
    }
  }

  std::uint32_t zone_index(Reader& r, const std::string& name) {
    for (std::uint32_t i = 0; i < setup_.zones.size(); ++i) {
      if (setup_.zones[i].name == name) return i;
    }
    r.fail(r.has("zones") ? "zones" : "zone", fmt::format("\"{}\"", name),
           "the name of a zone in zones:");
  }
  void pool_exists(Reader& r, const std::string& name) { pool_index(r, name); }
  std::uint32_t pool_index(Reader& r, const std::string& name) {
    for (std::uint32_t i = 0; i < setup_.pools.size(); ++i) {
      if (setup_.pools[i].name == name) return i;
    }
    r.fail("pool", fmt::format("\"{}\"", name), "the name of a pool in pools:");
  }
  std::int32_t gpu_index(Reader& r, const std::string& model) {
    const auto found = std::find(setup_.gpu_models.begin(), setup_.gpu_models.end(), model);
    if (found != setup_.gpu_models.end())
      return static_cast<std::int32_t>(found - setup_.gpu_models.begin());
    if (setup_.gpu_models.size() >= kGpuModelsMax)
      r.fail("gpu", "too many models", fmt::format("at most {}", kGpuModelsMax));
    setup_.gpu_models.push_back(model);
    return static_cast<std::int32_t>(setup_.gpu_models.size() - 1);
  }
  // Generators and lists say at once whom they have; traces are opened when they run, and then it
  // is asked again.
  void watched() {
    if (setup_.watched.empty() || trace_) return;
    for (Reader& r : root_.list("workload")) {
      if (r.text("kind", "") == "trace") return;
    }
    const auto source = setup_.open_workload(setup_.seed);
    const std::string nobody = watches_nobody(setup_.watched, source->catalogue().tenants);
    if (!nobody.empty()) root_.fail("watch", quote(nobody), "a tenant of the workload");
  }

  // Traces and cut generators end by themselves.
  bool workload_ends() {
    bool all = true;
    for (Reader& r : root_.list("workload")) {
      const std::string kind = r.text("kind", "");
      all = all && (kind == "trace" || kind == "list" || kind == "azure_functions" ||
                    r.has("arrivals_max") || r.has("until"));
    }
    return all;
  }

  const Files& files_;
  std::vector<std::string> runtimes_, cpu_features_;  // by number
  Reader root_;
  const std::optional<std::string>& trace_;
  Setup setup_;
};

std::vector<std::string> traces_of(const YAML::Node& root,
                                   const std::optional<std::string>& replacing) {
  if (replacing) return {*replacing};
  std::vector<std::string> traces;
  for (const YAML::Node& section : root["workload"]) {
    const YAML::Node path = section["path"];
    if (path.IsDefined()) traces.push_back(path.Scalar());
  }
  return traces;
}

std::string canonical(const YAML::Node& node) {
  if (node.IsScalar()) return "s" + node.Scalar() + "\n";
  std::string text;
  if (node.IsSequence()) {
    for (const auto& item : node) text += canonical(item);
    return "[" + text + "]";
  }
  if (node.IsMap()) {
    std::map<std::string, std::string> sorted;
    for (const auto& entry : node) sorted[entry.first.Scalar()] = canonical(entry.second);
    for (const auto& [key, value] : sorted) text += key + ":" + value;
    return "{" + text + "}";
  }
  return "~";
}

}  // namespace

Setup load_scenario(const std::string& path, const std::vector<Override>& overrides,
                    const std::optional<std::string>& trace) {
  return load_scenario_text(path, read_scenario_file(path), overrides, trace);
}

Setup load_scenario_text(const std::string& path, const std::string& text,
                         const std::vector<Override>& overrides,
                         const std::optional<std::string>& trace) {
  Files files(path);
  YAML::Node root = parse_yaml(path, text, &files);
  for (const Override& one : overrides) apply_override(path, root, one);
  const std::string content = canonical(root) + trace.value_or("");
  find_traces(files, root);
  try {
    Setup setup = Parser(files, Reader(files, "", root), trace).parse();
    Digest digest;
    digest.add(std::string_view(content));
    setup.scenario_hash = digest.value();
    setup.traces = traces_of(root, trace);
    return setup;
  } catch (const YAML::Exception& bad) {
    throw ScenarioError(fmt::format("{}: found text that is not YAML: {}",
                                    files.place(bad.mark.line + 1), bad.msg));
  }
}

std::vector<std::string> lint(const Setup& setup) {
  std::vector<std::string> warnings;
  if (setup.assertions.empty())
    warnings.push_back("assert: nothing is asserted, so this scenario cannot fail");
  if (setup.fleet_without_trace)
    warnings.push_back("fleet_from_trace: there is no trace, so the fleet is that of pools");
  for (const Pool& pool : setup.pools) {
    if (pool.price_per_hour == 0)
      warnings.push_back("pools." + pool.name + ".price_per_hour: the cost will be 0");
    if (pool.nodes_max == 0) warnings.push_back("pools." + pool.name + ": has no nodes");
  }
  if (setup.node_timeout.nanos <= 2 * setup.heartbeat.nanos) {
    warnings.push_back("control.node_timeout: at most two heartbeats, " +
                       duration_text({2 * setup.heartbeat.nanos}) +
                       ", so nodes take nothing new for a part of each");
  }
  for (const Fault& fault : setup.faults) {
    if (setup.duration.nanos > 0 && fault.from.nanos >= setup.duration.nanos) {
      warnings.push_back("faults: one begins at " + duration_text({fault.from.nanos}) +
                         ", after the last arrival");
    }
  }
  return warnings;
}

}  // namespace chalk::sim
