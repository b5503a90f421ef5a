// Ours: enough replicas for the load that there will be once a replica started now has paid.
//
// A start that takes d is worth it where it is used for about two d more, so what counts is the
// load three d from now. Of the l calls that are here a share r is still in service then, and of
// the load m (load.h) the rest has come: l r + m (1 - r), as in the M/M/inf queue, with 1 - r of
// that as its variance. The wish is that plus z standard deviations (square-root staffing, Halfin
// and Whitt, Operations Research 1981). So a swing of short calls is not followed: what is started
// for it would come when it has passed, and then stay.
//
// One plan is kept until the load surely is another. Up when even the least that it may be needs
// more, and no further than to that: what is ordered too much stays until strong evidence turns the
// plan, what is missing comes as it becomes sure. Down when, all through the trailing keep_alive,
// the most that it may have been needed less, and then to the most that was surely enough in that
// time. In between chance moves nothing. A plan goes on in its direction on light evidence: a load
// that rose so far mostly rises, and a step too much in a hundred costs little. It turns on strong
// evidence only, which chance seldom gives.
//
// Calls that wait add replicas beside the load, so that they are served within three start times:
// one until what is started for them is ready, and two, but no more than 10 s, in which it is worth
// its start. They come on top of what the load most likely needs, since such a queue shows that
// there is too little, and of a time that calls were seen to take, not of a guessed one. Replicas
// under way count, and the slack of those at hand does. A queue that chance makes adds none: it
// takes as much evidence as the load does.
#include <algorithm>
#include <limits>

#include "model/autoscaler/autoscaler.h"

namespace chalk::autoscaler {
namespace {

__extension__ using Wide = __int128;  // for products of nanoseconds

constexpr std::uint32_t kFindOut = 16;  // replicas, until a start has told how long it takes
constexpr Duration kPatience = seconds(10);  // of calls that wait, beyond a start, at most
constexpr Duration kStartLeast = milliseconds(100);  // about when the next report comes
constexpr std::int64_t kSlackLeast = 100;  // permille; without slack any queue would be chance

std::uint32_t replicas_for(std::int64_t milli, std::uint32_t concurrency) {
  const std::int64_t slots = std::int64_t{concurrency} * 1000;
  return static_cast<std::uint32_t>(std::min<std::int64_t>((milli + slots - 1) / slots, 1u << 30));
}

struct Need {
  std::int64_t level = 0;      // calls that are here
  std::int64_t survivors = 0;  // thousandths of them that will be
  std::int64_t z = 0;
  std::int64_t most = 0;       // no more than this has ever been needed at once
  // In thousandths: the root of a/1000 is root(a * 1000) / 1000. A swing is of the calls here.
  std::int64_t of(std::int64_t mean_milli, std::int64_t z_permille, std::int64_t swing) const {
    const std::int64_t ahead =
        level * survivors + std::max<std::int64_t>(0, mean_milli) * (1000 - survivors) / 1000;
    const std::int64_t slack = z_permille * square_root(ahead * (1000 - survivors)) / 1000;
    return std::min(ahead + slack + swing * square_root(ahead * 1000) / 1000,
                    most * 1000 + z * square_root(most * 1'000'000) / 1000);
  }
  // By chance there are root(l) calls more or fewer here, and r root(l) ahead. Of a swing up a
  // share 1 - r has passed before a start for it pays. Of one down all may come again.
  std::int64_t likely(std::int64_t mean_milli) const { return of(mean_milli, z, 0); }
  std::int64_t least(std::int64_t mean_milli, std::int64_t doubts) const {
    return of(mean_milli, z, -doubts * survivors * (1000 - survivors) / 1000);
  }
  std::int64_t highest(std::int64_t mean_milli, std::int64_t doubts) const {
    return std::max(likely(mean_milli), of(mean_milli, 0, doubts * survivors));
  }
};

// When a replica that is started now has been of use for as long as is worth its start.
Duration pays_after(Duration start) { return start + std::min(start * 2, kPatience); }

// So many more for the calls that wait. With m + z root(m) replicas the queue of M/M/c, where there
// is one, is geometric with a mean of root(m) / z: beyond d times that it is there by chance in one
// case of exp(d).
std::int64_t milli_for_queue(std::uint32_t queued, Duration service, Duration within,
                             std::int64_t likely, std::int64_t z, std::int64_t doubts) {
  const std::int64_t sure =
      queued - doubts * square_root(likely * 1000) / std::max(z, kSlackLeast);
  if (sure <= 0) return 0;
  const Wide milli = Wide{sure} * 1000 * service.nanos / within.nanos;
  return static_cast<std::int64_t>(std::min<Wide>(milli, Wide{sure} * 1000));
}

}  // namespace

// Of a replica, as of late; at least as long as one that is under way has already taken.
Duration Autoscaler::start_time(Time now, const Group& group) {
  const Duration under_way = group.starting != 0 ? now - group.starting_since : Duration{};
  return std::max({group.start_took, under_way, kStartLeast});
}

Autoscaler::Wish Autoscaler::wish_of_chalk(Time now, Group& group) const {
  const std::uint32_t concurrency = group.policy.concurrency;
  const Demand& last = group.last;
  const std::int64_t level = std::int64_t{last.in_flight} + last.queued;
  Sample end{std::max(now, last.at), 0, last.busy_ns, last.arrivals, 0};
  end.finished = group.finished;
  end.queued = last.queued;
  const Wide since = Wide{last.in_flight} * (end.at - last.at).nanos;
  end.busy_ns += static_cast<std::int64_t>(
      std::min<Wide>(since, std::numeric_limits<std::int64_t>::max() - end.busy_ns));
  const Load load = load_of(group.history, end, config_.window_doubts);
  const Duration pays = pays_after(start_time(now, group));
  const std::int64_t z = group.policy.z_permille;
  const std::int64_t survivors = load.known ? survivors_permille(load.service, pays) : 1000;
  const Need need{level, survivors, z, group.most};

  const bool rising = group.rising || group.plan == 0;  // where there is nothing, any is a rise
  const std::int64_t up = rising ? config_.up_doubts : config_.turn_doubts;
  const std::int64_t down = rising ? config_.turn_doubts : config_.down_doubts;
  const std::int64_t mean = load.mean_milli + load.rise_milli;
  const std::int64_t doubt = load.doubt_milli;
  std::int64_t likely = need.likely(mean);
  std::int64_t cap = need.highest(mean + doubt * down, down);
  std::int64_t least = need.least(mean - doubt * up, up);
  // What the load is seen to fall soon makes up for the doubt.
  const std::int64_t falls = std::min<std::int64_t>(0, load.rise_milli);
  std::int64_t enough = need.likely(mean + std::max<std::int64_t>(0, doubt + falls));
  if (level == 0 && likely < 1000) least = likely = enough = cap = 0;  // keep_alive alone decides
  if (level == 0 && now - group.called >= group.policy.keep_alive) {
    group.wishes = group.caps = {};
    group.plan = 0;
    return {0, Why::window, 0};
  }

  const std::int64_t queue =
      milli_for_queue(last.queued, load.seen, pays, likely, z, up);
  // Beside the load, but no more than there are calls; and one where there is any call. How long
  // calls take is not guessed for it.
  std::int64_t waiting = level == 0 ? 0 : 1000;
  if (queue != 0) {
    const Wide beside = Wide{std::max<std::int64_t>(0, mean)} * (load.seen.nanos / 1000) /
                        std::max<std::int64_t>(1, load.service.nanos / 1000);
    waiting = static_cast<std::int64_t>(std::clamp<Wide>(beside + queue, waiting, level * 1000));
  }
  const bool backlog = waiting > least;
  least = std::max(least, waiting);
  likely = std::max(likely, waiting);
  enough = std::max(enough, waiting);
  cap = std::max(cap, likely);

  group.wishes.add(now, group.policy.keep_alive, replicas_for(enough, concurrency));
  group.caps.add(now, group.policy.keep_alive, replicas_for(cap, concurrency));
  Why why = Why::window;
  if (replicas_for(least, concurrency) > group.plan) {
    group.plan = replicas_for(least, concurrency);
    why = backlog ? Why::backlog : Why::forecast;
  } else if (group.caps.value() < group.plan && (last.queued == 0 || group.starting == 0)) {
    group.plan = std::min(group.plan, group.wishes.value());
  }
  if (group.start_took.nanos == 0) group.plan = std::min(group.plan, kFindOut);
  // The window keeps what there is; it starts nothing by itself.
  const std::uint32_t have = group.ready + group.starting;
  if (group.plan > have && why == Why::window) {
    group.plan = std::max(have, std::min(group.plan, replicas_for(likely, concurrency)));
    why = Why::forecast;
  }
  return {group.plan, why, likely};
}

}  // namespace chalk::autoscaler
