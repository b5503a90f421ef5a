#include "sim/world/deploy.h"

#include <algorithm>
#include <cmath>

#include "sim/workload/sampling.h"

namespace chalk::sim {

Distribution to_distribution(const Delay& delay) {
  const auto mean = static_cast<double>(delay.mean.nanos);
  switch (delay.kind) {
    case Delay::Kind::constant: return Distribution::constant(delay.mean);
    case Delay::Kind::exponential: return Distribution::exponential(delay.mean);
    case Delay::Kind::uniform:
      return Distribution::uniform(from_nanos(mean * (1 - delay.spread)),
                                   from_nanos(mean * (1 + delay.spread)));
    case Delay::Kind::lognormal: {
      // The mean of a lognormal is exp(mu + sigma^2 / 2).
      const double mu =
          portable_log(std::max(mean * 1e-9, 1e-12)) - delay.spread * delay.spread / 2;
      return Distribution::lognormal(mu, delay.spread);
    }
  }
  return {};
}

// A platform is built only when something takes the time that SimGrid computes.
bool needs_resource_model(const Setup& setup) {
  for (const Image& image : setup.images) {
    if (!image.layers.empty()) return true;
  }
  const auto fetches = [](const Group& group) { return group.start_mode == StartMode::restore; };
  for (const auto& [name, group] : setup.groups) {
    if (fetches(group)) return true;
  }
  return fetches(setup.group_default) || setup.shared_execution || setup.start_core_seconds > 0;
}

control::Config control_config(const Setup& setup) {
  control::Config config;
  config.fleet.heartbeat_timeout = setup.node_timeout;
  config.fleet.tick = setup.heartbeat;
  config.fleet.rules = setup.fleet;
  config.scheduler.placing = {setup.placement, setup.spread_zones};
  config.preemption.enabled = setup.preemption;
  config.defragmentation.enabled = setup.defragmentation;
  config.scheduler.zones_max = static_cast<std::uint32_t>(setup.zones.size() + 1);
  config.distribution = {setup.distribution, setup.fan_out};
  config.tenancy.separate_tenants = setup.separate_tenants;
  config.tenancy.order = static_cast<tenancy::Order>(setup.tenant_order);
  config.tenancy.owner_linger = setup.owner_linger;
  config.tenancy.keep_first_node = setup.keep_first_node;
  config.tenancy.scrub_timeout = setup.scrub * 10 + seconds(60);
  return config;
}

gateway::Config gateway_config(const Setup& setup, std::uint32_t gateway) {
  gateway::Config config;
  config.gateway = GatewayId{gateway + 1ULL};
  config.functions.idle_bytes_max = setup.keep_alive_bytes / setup.gateways;
  return config;
}

node::Config node_config(const Setup& setup, const Pool& pool) {
  node::Config config;
  config.heartbeat = setup.heartbeat;
  config.cache.capacity_bytes = pool.image_cache_bytes;
  config.cache.pulls_at_once = pool.pulls_at_once;
  config.cache.eviction.policy = pool.cache_policy;
  config.cache.peer_bytes_per_second = std::llround(setup.peer_bytes_per_second);
  config.shells = pool.shells;
  return config;
}

namespace {

// Beside the nodes bought in their place: crashed ones, late ones, and those that control could not
// hear for so long that it gave them up.
bool nodes_come_back(const Setup& setup) {
  return std::any_of(setup.faults.begin(), setup.faults.end(), [](const Fault& fault) {
    switch (fault.kind) {
      case Fault::Kind::node_crash:
      case Fault::Kind::zone_loss: return fault.lasts.nanos != 0;
      case Fault::Kind::late_supply:
      case Fault::Kind::message_loss:
      case Fault::Kind::message_delay:
      case Fault::Kind::heartbeat_lag:
      case Fault::Kind::agent_restart: return true;
      default: return false;
    }
  });
}

}  // namespace

Platform platform_of(const Setup& setup, std::vector<std::vector<std::uint32_t>>& hosts) {
  Platform platform;
  hosts.assign(setup.pools.size(), {});
  for (const Zone& zone : setup.zones) {
    platform.zones.push_back({zone.name, zone.registry_bytes_per_second,
                              zone.backbone_bytes_per_second, zone.latency,
                              zone.registry_bytes_per_second, zone.pulls_at_once});
  }
  platform.between_zones_latency = milliseconds(1);
  platform.between_zones_bytes_per_second = 12.5e9;
  for (std::size_t i = 0; i < setup.pools.size(); ++i) {
    const Pool& pool = setup.pools[i];
    std::uint32_t count = std::max(pool.nodes_min, pool.nodes_max);
    if (nodes_come_back(setup)) count *= 2;
    for (std::uint32_t n = 0; n < count; ++n) {
      hosts[i].push_back(static_cast<std::uint32_t>(platform.hosts.size()));
      // A trace may list a node without processors.
      const std::int64_t millicores = std::max<std::int64_t>(
          1, pool.machine_millicores != 0 ? pool.machine_millicores : pool.shape.cpu_millicores);
      platform.hosts.push_back({pool.zones[n % pool.zones.size()],
                                static_cast<double>(millicores) * 1e-3,
                                pool.link_bytes_per_second, pool.disk_bytes_per_second});
    }
    std::reverse(hosts[i].begin(), hosts[i].end());
  }
  return platform;
}

fleet::PoolAdded pool_event(const Setup& setup, std::uint32_t index) {
  const Pool& pool = setup.pools[index];
  fleet::PoolAdded event;
  event.pool = PoolId{index + 1ULL};
  event.policy.shape = pool.shape;
  for (const std::uint32_t zone : pool.zones) event.policy.zones.push_back(ZoneId{zone + 1ULL});
  event.policy.nodes_min = pool.nodes_min;
  event.policy.nodes_max = std::max(pool.nodes_min, pool.nodes_max);
  event.policy.elastic = pool.elastic;
  event.policy.buffer_nodes = pool.buffer_nodes;
  event.policy.idle_before_release = pool.idle_before_release;
  event.policy.price_micros = std::llround(pool.price_per_hour * 1e6);
  event.policy.boot = pool.boot.mean;
  // What may be taken away is only for those who ask for it.
  event.policy.reserved = pool.spot_life.nanos != 0 || !pool.dedicated_tenant.empty();
  for (const auto& [name, tenant] : setup.tenants) {
    if (tenant.pool == pool.name) event.policy.reserved = true;
  }
  return event;
}

namespace {

tenancy::Amounts amounts_of(const Resources& resources, std::int64_t sandboxes) {
  return {resources.cpu_millicores, resources.memory_bytes, std::int64_t{resources.gpus} * 1000,
          sandboxes};
}

tenancy::TenantAdded event_of(const Setup& setup, const Catalogue& catalogue, const Tenant& tenant,
                              std::uint64_t id) {
  tenancy::TenantAdded event;
  event.tenant = TenantId{id};
  event.quota = amounts_of(tenant.quota, tenant.quota_sandboxes);
  event.guarantee = amounts_of(tenant.guarantee.resources, tenant.guarantee.sandboxes);
  event.weight = tenant.weight;
  event.shares = tenant.shares_nodes;
  for (std::size_t i = 0; i < setup.families.size(); ++i) {
    if (!tenant.family.empty() && setup.families[i].name == tenant.family)
      event.parent = TenantId{catalogue.tenants.size() + i + 1};
  }
  return event;
}

}  // namespace

tenancy::TenantAdded family_event(const Setup& setup, const Catalogue& catalogue,
                                  std::uint32_t index) {
  return event_of(setup, catalogue, setup.families[index], catalogue.tenants.size() + index + 1);
}

tenancy::TenantAdded tenant_event(const Setup& setup, const Catalogue& catalogue,
                                  std::uint32_t index) {
  const auto named = setup.tenants.find(catalogue.tenants[index]);
  const Tenant& tenant = named == setup.tenants.end() ? setup.tenant_default : named->second;
  tenancy::TenantAdded event = event_of(setup, catalogue, tenant, index + 1ULL);
  for (std::size_t i = 0; i < setup.pools.size(); ++i) {
    const bool by_tenant = !tenant.pool.empty() && setup.pools[i].name == tenant.pool;
    const bool by_pool = setup.pools[i].dedicated_tenant == catalogue.tenants[index];
    if (by_tenant || by_pool) event.dedicated_pool = PoolId{i + 1ULL};
  }
  return event;
}

ImageSpec image_spec(const Setup& setup, std::uint32_t index) {
  ImageSpec spec;
  spec.image = ImageId{index + 1ULL};
  for (const Image::Layer& layer : setup.images[index].layers) {
    // Layers of one name are one layer: numbered by the first image that has it.
    std::uint64_t number = 0;
    for (std::uint32_t i = 0; i <= index && number == 0; ++i) {
      const auto& layers = setup.images[i].layers;
      for (std::size_t l = 0; l < layers.size(); ++l) {
        if (layers[l].name != layer.name) continue;
        number = (i + 1ULL) << 32 | (l + 1);
        break;
      }
    }
    spec.layers.push_back({LayerId{number}, layer.bytes, layer.unpacked_bytes});
  }
  return spec;
}

int image_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t image) {
  if (setup.images.empty()) return -1;
  if (image < catalogue.images.size()) {
    for (std::size_t i = 0; i < setup.images.size(); ++i) {
      if (setup.images[i].name == catalogue.images[image]) return static_cast<int>(i);
    }
  }
  return static_cast<int>(image % setup.images.size());
}

std::uint32_t gateway_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t function) {
  const std::uint32_t tenant = catalogue.functions[function].tenant;
  return gateway::gateway_for(
      {setup.gateway_sharding, setup.gateways, setup.gateways_per_tenant}, TenantId{tenant + 1ULL},
      function);
}

const Group& group_of(const Setup& setup, const Catalogue& catalogue, std::uint32_t index) {
  const auto named = setup.groups.find(catalogue.functions[index].name);
  return named == setup.groups.end() ? setup.group_default : named->second;
}

control::GroupSpec group_spec(const Setup& setup, const Catalogue& catalogue, std::uint32_t index) {
  const FunctionSpec& function = catalogue.functions[index];
  const Group& group = group_of(setup, catalogue, index);
  control::GroupSpec spec;
  spec.group = GroupId{index + 1ULL};
  spec.tenant = TenantId{function.tenant + 1ULL};
  Resources& r = spec.resources;
  r.cpu_millicores = function.cpu_millicores != 0 ? function.cpu_millicores : group.cpu_millicores;
  r.memory_bytes = function.memory_bytes != 0 ? function.memory_bytes : group.memory_bytes;
  r.disk_bytes = group.disk_bytes;
  r.gpus = group.gpus;
  r.gpu_millis = group.gpus > 0 ? group.gpu_millis : 0;
  r.gpu_models = group.gpu_models;
  int image = image_of(setup, catalogue, function.image);
  for (std::size_t i = 0; i < setup.images.size() && !group.image.empty(); ++i) {
    if (setup.images[i].name == group.image) image = static_cast<int>(i);
  }
  if (image >= 0) spec.image = ImageId{static_cast<std::uint64_t>(image) + 1};
  for (std::size_t i = 0; i < setup.pools.size() && !group.pool.empty(); ++i) {
    if (setup.pools[i].name == group.pool) spec.pool = PoolId{i + 1ULL};
  }
  spec.priority = group.priority;
  spec.snapshots = group.start_mode == StartMode::restore;
  spec.gateway = GatewayId{gateway_of(setup, catalogue, index) + 1ULL};
  const bool fixed = group.policy == ScalingPolicy::fixed;
  spec.routing.group = spec.group;
  spec.routing.concurrency = group.concurrency;
  spec.routing.queue_max = group.queue_max;
  spec.routing.queue_timeout = group.queue_timeout;
  spec.routing.queue_order = static_cast<QueueOrder>(group.queue_order);
  if (fixed) spec.routing.keep_alive = group.keep_alive;
  if (fixed) spec.routing.keep_alive_policy = static_cast<KeepAlive>(group.keep_alive_policy);
  spec.routing.cold_start_worth = group.cold_start_worth;
  spec.routing.memory_bytes = r.memory_bytes;
  spec.routing.report_interval = fixed ? seconds(10) : seconds(2);
  spec.routing.min_replicas = group.replicas_min;
  // Only `fixed` starts a replica for each call that waits; with the others no start is anybody's
  // own.
  spec.routing.delayed_warm_start = group.delayed_warm_start || !fixed;
  spec.policy.kind = static_cast<autoscaler::Kind>(group.policy);
  spec.policy.min_replicas = group.replicas_min;
  spec.policy.max_replicas = group.replicas_max;
  spec.policy.concurrency = group.concurrency;
  spec.policy.target_permille = group.target_permille;
  spec.policy.z_permille = group.z_permille;
  spec.policy.keep_alive = group.keep_alive;
  return spec;
}

CheckLimits check_limits(const Setup& setup, const Catalogue& catalogue) {
  CheckLimits limits;
  limits.stop = setup.stop;
  // While an agent is away nobody is there who would end it, and a kill that was under way begins
  // again.
  for (const Fault& fault : setup.faults) {
    if (fault.kind != Fault::Kind::agent_restart) continue;
    limits.stop = limits.stop + fault.lasts + setup.stop;
  }
  // Until a node learns that control has given it up: silence, a heartbeat, an answer, each of
  // which faults may lose or delay some times.
  limits.orphan_bound = setup.node_timeout + setup.heartbeat * 10 + setup.stop + seconds(600);
  limits.look = autoscaler::Config{}.tick;
  for (std::uint32_t i = 0; i < catalogue.functions.size(); ++i) {
    const autoscaler::GroupPolicy policy = group_spec(setup, catalogue, i).policy;
    CheckLimits::Replicas& group = limits.groups[i + 1ULL];
    group.max = policy.max_replicas;
    group.min = policy.min_replicas;
    group.concurrency = policy.concurrency;
    if (policy.kind == autoscaler::Kind::chalk) group.slack_permille = policy.z_permille;
  }
  return limits;
}

}  // namespace chalk::sim
