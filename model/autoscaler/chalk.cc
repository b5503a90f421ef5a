// Ours: enough replicas for the load that there will be when a replica started now is ready.
//
// After a start time d, of the calls that are here a share r is still in service, and of the load m
// (load.h) the rest has come: l r + m (1 - r) calls, as in the M/M/inf queue, with about as large a
// variance. The wish is that plus z standard deviations (square-root staffing, Halfin and Whitt,
// Operations Research 1981). Calls that wait add replicas only where those at hand would need
// longer for them than a start takes, so a slow start is not answered by a start for every call.
//
// One plan is kept until the load surely is another: up when even the least that it may be needs
// more; down when, all through the trailing keep_alive, the most that it may have been needed less,
// and then to the highest wish of that time. In between chance moves nothing.
#include <algorithm>

#include "model/autoscaler/autoscaler.h"

namespace chalk::autoscaler {
namespace {

constexpr std::uint32_t kFindOut = 16;  // replicas, until a start has told how long it takes
constexpr Duration kStartLeast = milliseconds(100);  // about when the next report comes

std::uint32_t replicas_for(std::int64_t milli, std::uint32_t concurrency) {
  const std::int64_t slots = std::int64_t{concurrency} * 1000;
  return static_cast<std::uint32_t>(std::min<std::int64_t>((milli + slots - 1) / slots, 1u << 30));
}

struct Need {
  std::int64_t level = 0;     // calls that are here
  std::int64_t survivors = 0; // thousandths of them that will be
  std::int64_t z = 0;
  std::int64_t most = 0;      // no more than this has ever been needed at once
  std::int64_t of(std::int64_t mean_milli, std::int64_t z_permille) const {
    const std::int64_t ahead =
        level * survivors + std::max<std::int64_t>(0, mean_milli) * (1000 - survivors) / 1000;
    // In thousandths: the root of a/1000 is root(a * 1000) / 1000.
    return std::min(ahead + z_permille * square_root(ahead * 1000) / 1000,
                    most * 1000 + z * square_root(most * 1'000'000) / 1000);
  }
};

// For the calls that wait: that all are served within a start time; if they wait for long, and
// are more than chance makes, beside the load. And one replica where there is any call.
std::int64_t milli_for_queue(const Group& group, Duration service, Duration start,
                             std::int64_t likely, std::int64_t by_chance) {
  const std::int64_t level = std::int64_t{group.last.in_flight} + group.last.queued;
  const auto served_in_time = [&](std::int64_t calls) {
    __extension__ using Wide = __int128;
    const Wide milli = Wide{calls} * 1000 * service.nanos / start.nanos;
    return static_cast<std::int64_t>(std::min<Wide>(milli, Wide{calls} * 1000));
  };
  std::int64_t milli = std::max<std::int64_t>(served_in_time(group.last.queued),
                                              level == 0 ? 0 : 1000);
  const std::int64_t standing = std::min(group.queue_before, group.queue_least) - by_chance;
  if (standing <= 0) return milli;
  return std::max(milli, std::min(likely + served_in_time(standing), level * 1000));
}

}  // namespace

// Of a replica, as of late; at least as long as one that is under way has already taken.
Duration Autoscaler::start_time(Time now, const Group& group) {
  const Duration under_way = group.starting != 0 ? now - group.starting_since : Duration{};
  return std::max({group.start_took, under_way, kStartLeast});
}

void Autoscaler::note_queue(Time now, Group& group, Duration over) {
  if (group.last.queued == 0 || group.starting != 0) {  // what is under way may serve them all
    group.queue_least = group.queue_before = 0;
    group.queue_since = now;
    return;
  }
  if (now - group.queue_since < over) {
    group.queue_least = std::min(group.queue_least, group.last.queued);
    return;
  }
  group.queue_before = group.queue_least;
  group.queue_least = group.last.queued;
  group.queue_since = now;
}

Autoscaler::Wish Autoscaler::wish_of_chalk(Time now, Group& group) const {
  const std::uint32_t concurrency = group.policy.concurrency;
  const Demand& last = group.last;
  const std::int64_t level = std::int64_t{last.in_flight} + last.queued;
  Sample end{std::max(now, last.at), 0, group.busy_ns, last.arrivals, 0};
  end.finished = group.finished;
  end.busy_ns += std::int64_t{last.in_flight} * (end.at - last.at).nanos;
  const Load load = load_of(group.history, end, config_.window_doubts);
  const Duration start = start_time(now, group);
  const std::int64_t z = group.policy.z_permille;
  const std::int64_t survivors = load.known ? survivors_permille(load.service, start) : 1000;
  const Need need{level, survivors, z, group.most};

  // How far the load may swing by chance alone while the calls of now last.
  const std::int64_t swing = std::max(z, need.survivors * config_.down_doubts);
  const std::int64_t mean = load.mean_milli + load.rise_milli;
  const std::int64_t doubt = load.doubt_milli;
  std::int64_t wish = need.of(mean - doubt, z);
  std::int64_t least = need.of(mean - doubt * config_.up_doubts, z);
  std::int64_t likely = need.of(mean, z);
  std::int64_t cap = need.of(mean + doubt * config_.down_doubts, swing);
  if (level == 0 && likely < 1000) wish = least = likely = cap = 0;  // keep_alive alone decides
  if (level == 0 && now - group.called >= group.policy.keep_alive) {
    group.wishes = group.caps = {};
    group.plan = 0;
    return {0, Why::window, 0};
  }

  note_queue(now, group, std::max({start, config_.panic_window, load.service * 4}));
  const std::int64_t by_chance = square_root(likely * 1000) * config_.window_doubts / 1000;
  const std::int64_t waiting = milli_for_queue(group, load.service, start, likely, by_chance);
  const bool queue = waiting > wish;
  wish = std::max(wish, waiting);
  least = std::max(least, waiting);

  const std::uint32_t now_wished = replicas_for(std::max(likely, waiting), concurrency);
  group.wishes.add(now, group.policy.keep_alive, now_wished);
  group.caps.add(now, group.policy.keep_alive, replicas_for(std::max(cap, waiting), concurrency));
  Why why = Why::window;
  if (replicas_for(least, concurrency) > group.plan) {
    group.plan = replicas_for(wish, concurrency);
    why = queue ? Why::backlog : Why::forecast;
  } else if (group.caps.value() < group.plan && (last.queued == 0 || group.starting == 0)) {
    group.plan = std::min(group.plan, group.wishes.value());
  }
  if (group.start_took.nanos == 0) group.plan = std::min(group.plan, kFindOut);
  // The window keeps what there is; it starts nothing by itself.
  const std::uint32_t have = group.ready + group.starting;
  if (group.plan > have && why == Why::window) {
    group.plan = std::max(have, std::min(group.plan, now_wished));
    why = Why::forecast;
  }
  return {group.plan, why, queue ? waiting : likely};
}

}  // namespace chalk::autoscaler
