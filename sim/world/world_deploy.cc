// Builds the world at time zero: machines, platform, tenants, images, groups and the first nodes.
#include <stdexcept>

#include "sim/world/deploy.h"
#include "sim/world/world_body.h"

namespace chalk::sim {

void World::deploy() {
  const Catalogue& catalogue = source_->catalogue();
  const Platform platform = platform_of(setup_, spare_hosts_);
  for (const auto& hosts : spare_hosts_) last_host_.push_back(hosts.empty() ? 0 : hosts.front());
  for (const PlatformHost& host : platform.hosts) zone_of_host_.push_back(host.zone);
  hosts_used_.assign(platform.hosts.size(), 0);
  if (needs_resource_model(setup_)) model_ = std::make_unique<ResourceModel>(platform);
  measure_.begin(setup_, catalogue);
  if (options_.check) checker_.emplace(check_limits(setup_, catalogue));

  machines_->create_control(control_config(setup_));
  gateway_wakes_.assign(setup_.gateways, kNever);
  for (std::uint32_t i = 0; i < setup_.gateways; ++i) {
    machines_->create_gateway(gateway_config(setup_, i));
    step_control(control::GatewayJoined{GatewayId{i + 1ULL}, 1});
    step_gateway(i, Woken{});
  }
  for (std::uint32_t i = 0; i < setup_.images.size(); ++i) {
    step_control(image_spec(setup_, i));
    if (setup_.images[i].prewarmed) step_control(images::WarmAsked{ImageId{i + 1ULL}, true});
  }
  for (std::uint32_t i = 0; i < setup_.families.size(); ++i) {
    step_control(family_event(setup_, catalogue, i));
  }
  for (std::uint32_t i = 0; i < catalogue.tenants.size(); ++i) {
    step_control(tenant_event(setup_, catalogue, i));
  }
  for (std::uint32_t i = 0; i < setup_.pools.size(); ++i) step_control(pool_event(setup_, i));
  for (std::uint32_t pool = 0; pool < setup_.pools.size(); ++pool) {
    const Pool& one = setup_.pools[pool];
    for (std::uint32_t i = 0; i < one.nodes_min; ++i) {
      boot(add_node(pool, one.zones[i % one.zones.size()], 0));
    }
  }
  register_first_nodes();
  for (std::uint32_t i = 0; i < catalogue.functions.size(); ++i) {
    gateway_of_.push_back(gateway_of(setup_, catalogue, i));
    const Group& group = group_of(setup_, catalogue, i);
    const control::GroupSpec spec = group_spec(setup_, catalogue, i);
    start_of_group_.push_back({group.init.mean.nanos > 0, to_distribution(group.init),
                               group.snapshot_bytes != 0 ? group.snapshot_bytes
                                                         : spec.resources.memory_bytes});
    step_control(control::GroupDeployed{spec});
  }
  // The fleet is up and knows its groups before the first request: what was said above arrives now.
  while (queue_.next() <= Time{0}) take(queue_.pop());
  latency_ = setup_.message_latency;
  for (std::size_t i = 0; i < setup_.faults.size(); ++i) {
    queue_.push(kHeap, setup_.faults[i].from, kFaultBegins, 0, i);
  }
  queue_.push(kSampleLane, Time{static_cast<std::int64_t>(measure_.sample_step_nanos())}, kSample,
              0, 0);
}

// Before control looks at its pools for the first time: it would buy anew what only has to be heard.
void World::register_first_nodes() {
  while (queue_.next() <= Time{0}) {
    const Scheduled entry = queue_.pop();
    if (entry.kind != kControlWake) take(entry);
  }
  if (control_wake_ <= Time{0}) queue_.push(kHeap, control_wake_, kControlWake, 0, 0);
}

void World::sample() {
  const std::size_t in_service = static_cast<std::size_t>(measure_.in_service());
  const std::size_t open = calls_.size() + asks_.size();
  measure_.sample(now_, open > in_service ? open - in_service : 0);
  if (checker_ && ++samples_ % 16 == 0)
    checker_->compare(now_, truth_, nodes_, machines_->control());
  const auto step = static_cast<std::int64_t>(measure_.sample_step_nanos());
  queue_.push(kSampleLane, now_ + Duration{step}, kSample, 0, 0);
}

}  // namespace chalk::sim
