// Knative's autoscaler (KPA), from its documentation and the constants of its config-autoscaler.
// Promises: the rules of pkg/autoscaler as published; what users report of it is reproduced in
// tests/model/autoscaler/knative_issues_test.cc and scenarios/fast/knative_*.yaml.
#include <algorithm>

#include "model/autoscaler/autoscaler.h"

namespace chalk::autoscaler {
namespace {

__extension__ using Wide = __int128;  // for products of nanoseconds

std::int64_t rounded_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

Autoscaler::Wish Autoscaler::wish_of_kpa(Time now, Group& group) const {
  const std::int64_t per_replica =
      std::max<std::int64_t>(1, group.policy.concurrency * group.policy.target_permille);
  const std::int64_t stable = average_milli(now, group, config_.stable_window, false);
  const std::int64_t panic = average_milli(now, group, config_.panic_window, false);
  const std::int64_t ready = std::max<std::int64_t>(1, group.ready);
  const std::int64_t most = std::max<std::int64_t>(1, ready * config_.rate_up_permille / 1000);
  const std::int64_t least = ready * config_.rate_down_permille / 1000;
  const auto within = [&](std::int64_t wish) {
    return std::clamp(wish, std::min(least, most), most);
  };
  const std::int64_t wish_stable = within(rounded_up(stable, per_replica));
  const std::int64_t wish_panic = within(rounded_up(panic, per_replica));

  if (wish_panic * 1000 >= ready * config_.panic_permille) {
    if (!group.panic) group.panic_desired = 0;
    group.panic = true;
    group.panic_until = now + config_.stable_window;
  } else if (now > group.panic_until) {
    group.panic = false;
  }
  Wish wish{static_cast<std::uint32_t>(wish_stable), Why::stable_average, stable};
  if (group.panic) {
    group.panic_desired = std::max(group.panic_desired, static_cast<std::uint32_t>(wish_panic));
    wish = {std::max(group.panic_desired, wish.replicas), Why::panic_average, panic};
  }
  const bool demand = group.last.in_flight + group.last.queued != 0 || stable > 0;
  if (demand) {
    group.zero_since = kNever;
    wish.replicas = std::max(wish.replicas, 1u);
  } else {
    if (group.zero_since == kNever) group.zero_since = now;
    const bool grace_over = group.zero_since + config_.scale_to_zero_grace <= now;
    // The last one goes after the grace; the others went before, at their rate and out of panic.
    wish.replicas = grace_over && wish.replicas <= 1 ? 0 : std::max(1u, wish.replicas);
  }
  return wish;
}

// Mean concurrency in thousandths over the window, of calls in service or of all, exact at the
// reports' times. After the last report demand is what that report said.
std::int64_t Autoscaler::average_milli(Time now, const Group& group, Duration window,
                                       bool busy) const {
  const std::int64_t level = std::int64_t{group.last.in_flight} + (busy ? 0 : group.last.queued);
  if (group.samples.empty()) return level * 1000;  // the policy is new, the calls are not
  const Time from = now - window;
  const Sample* begin = &group.samples[0];
  for (std::size_t i = group.samples.size(); i-- > 0;) {
    if (group.samples[i].at <= from) {
      begin = &group.samples[i];
      break;
    }
  }
  const Sample& end = group.samples[group.samples.size() - 1];
  const auto total_of = [&](const Sample& s) { return busy ? s.busy_ns : s.concurrency_ns; };
  const std::int64_t since = (now - end.at).nanos;
  Wide total = Wide{total_of(end) - total_of(*begin)} + Wide{level} * since;
  std::int64_t span = (now - begin->at).nanos;
  if (begin->at < from && end.at >= from) {
    // The part of the first interval that lies before the window, at that interval's mean.
    std::size_t next = 0;
    while (group.samples[next].at <= from) ++next;
    const Sample& after = group.samples[next];
    const std::int64_t interval = (after.at - begin->at).nanos;
    const std::int64_t before = (from - begin->at).nanos;
    total -= Wide{total_of(after) - total_of(*begin)} * before / interval;
    span -= before;
  } else if (end.at < from) {
    total = Wide{level} * window.nanos;
    span = window.nanos;
  }
  if (span <= 0) return level * 1000;
  return static_cast<std::int64_t>(std::clamp<Wide>(total * 1000 / span, 0, kMilliMost));
}

}  // namespace chalk::autoscaler
