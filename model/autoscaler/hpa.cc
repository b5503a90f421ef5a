// Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) on the utilisation of its replicas:
// desired = replicas x measured / target, every 15 s.
//
// Its published rules: within 10 % of the target nothing changes; replicas that are not ready count
// as unused on the way up; at most twice, or four more, in 15 s; down only to the highest wish of
// the last 300 s; never below one. The measure is the share of slots in service, averaged over one
// period, as CPU would be. It sees no queue: a full replica is at 100 %.
#include <algorithm>

#include "model/autoscaler/autoscaler.h"

namespace chalk::autoscaler {

Autoscaler::Wish Autoscaler::wish_of_hpa(Time now, Group& group) const {
  const std::int64_t busy = average_milli(now, group, config_.hpa_sync, true);
  const std::uint32_t least = std::max(group.policy.min_replicas, 1u);
  const Wish stay{std::max(group.plan, least), Why::utilisation, busy};
  if (now < group.sync_at) return stay;
  group.sync_at = now + config_.hpa_sync;
  const std::int64_t plan = stay.replicas;
  const std::int64_t slot = std::max<std::int64_t>(
      1, std::int64_t{group.policy.concurrency} * group.policy.target_permille);
  // How many replicas the measured use would load to the target.
  const std::int64_t needed = (busy + slot - 1) / slot;
  const auto far = [&](std::int64_t replicas) {
    const std::int64_t off = busy - replicas * slot;
    return std::max(off, -off) * 1000 > replicas * slot * config_.hpa_tolerance_permille;
  };
  const std::int64_t ready = group.ready;
  std::int64_t wish = plan;
  if (ready > 0 && far(ready)) {
    const bool up = busy > ready * slot;
    const std::int64_t counted = up ? ready + group.starting : ready;
    if (!up || (far(counted) && busy > counted * slot)) wish = needed;
  }
  wish = std::min({wish, std::max(plan * 2, plan + 4), std::int64_t{group.policy.max_replicas}});
  wish = std::max<std::int64_t>(wish, least);
  group.wishes.add(now, config_.hpa_stabilization, static_cast<std::uint32_t>(wish));
  group.plan = std::max(static_cast<std::uint32_t>(wish),
                        std::min(group.plan, group.wishes.value()));
  return {group.plan, wish < group.plan ? Why::window : Why::utilisation, busy};
}

}  // namespace chalk::autoscaler
