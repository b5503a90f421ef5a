// load.h and chalk.cc read plainly, for tests: every figure anew from all that is kept, in 128 bits, roots
// by bisection and the trailing window as a list.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "model/autoscaler/autoscaler.h"

namespace chalk::autoscaler {

__extension__ using Wide = __int128;

constexpr Wide kSecond = seconds(1).nanos;
constexpr Wide kThousand = 1000;

inline Wide plain_root(Wide n) {
  Wide low = 0, high = Wide{1} << 32;
  while (high - low > 1) {
    const Wide middle = (low + high) / 2;
    (middle * middle <= n ? low : high) = middle;
  }
  return low;
}

// Of an age neighbours are to be a fifth of it apart: from the newest on, one whose neighbours are no
// farther apart without it goes; then what is older than the memory, but for one that it begins with.
inline std::vector<Sample> plain_history(std::vector<Sample> all, const Sample& next, Duration memory) {
  if (!all.empty() && all.back().at == next.at) all.pop_back();
  all.push_back(next);
  std::vector<Sample> kept{all.back()};
  for (std::size_t i = all.size() - 1; i-- > 0;) {
    const Sample& newer = kept.back();
    const Wide age = (next.at - newer.at).nanos;
    if (i == 0 || (newer.at - all[i - 1].at).nanos > age / 5) kept.push_back(all[i]);
  }
  std::reverse(kept.begin(), kept.end());
  std::size_t first = 0;
  while (first + 1 < kept.size() && next.at - kept[first + 1].at >= memory) ++first;
  return {kept.begin() + static_cast<std::ptrdiff_t>(first), kept.end()};
}

struct Stretch {
  const Sample& from;
  const Sample& to;
  Wide length() const { return (to.at - from.at).nanos; }
  // What its arrivals bring, or surely more that was done and left to do.
  Wide milli(Wide service, Wide doubts) const {
    const Wide offered = static_cast<Wide>(to.arrivals - from.arrivals) * service;
    const Wide worked = Wide{to.busy_ns} - from.busy_ns + (Wide{to.queued} - from.queued) * service;
    const Wide more = worked - offered;
    const bool surely = more > 0 && more * more > offered * service * doubts * doubts;
    return std::min(kSecond * kThousand, (surely ? worked : offered) * kThousand / length());
  }
};

inline Wide plain_doubt(Wide mean, Wide service, Wide length) {
  const Wide one_call = service * kThousand / length;
  return plain_root(std::min(kSecond * kSecond,
                             std::max(mean, one_call) * kThousand * service / length));
}

inline Load plain_load(const std::vector<Sample>& history, const Sample& end, Wide doubts) {
  Load out;
  out.service = seconds(1);
  if (history.empty()) return out;
  const Wide calls = static_cast<Wide>(end.finished - history[0].finished) + 1;
  const Wide seen = (Wide{end.busy_ns} - history[0].busy_ns) / calls;
  const Wide service = seen + kSecond / calls;
  out.seen = {static_cast<std::int64_t>(seen)};
  out.service = {static_cast<std::int64_t>(service)};
  const auto until_now = [&](std::size_t i) { return Stretch{history[i], end}; };
  // The newest that is a second old; then longer and longer, as long as what was before is no other.
  std::size_t begin = history.size();
  while (begin > 0 && until_now(begin - 1).length() < kSecond) --begin;
  if (begin-- == 0) return out;
  Wide mean = until_now(begin).milli(service, doubts), rise = 0;
  while (begin > 0) {
    std::size_t old = begin - 1;
    const auto before = [&] { return Stretch{history[old], history[begin]}; };
    while (old > 0 && before().length() < until_now(begin).length()) --old;
    const Wide mean_before = before().milli(service, doubts);
    const Wide together = until_now(old).milli(service, doubts);
    const Wide a = plain_doubt(together, service, until_now(begin).length());
    const Wide b = plain_doubt(together, service, before().length());
    const Wide apart = mean_before > mean ? mean_before - mean : mean - mean_before;
    if (apart <= doubts * (std::max(a, b) + std::min(a, b) - std::min(a, b) * 586 / 1000)) {
      begin = old;
      mean = together;
      continue;
    }
    const Wide window = until_now(begin).length();
    std::size_t half = begin;  // the newest before the middle of the window
    for (std::size_t i = begin; i < history.size(); ++i) {
      if (until_now(i).length() >= window / 2) half = i;
    }
    const Stretch early{history[begin], history[half]}, late{history[half], end};
    if (early.length() > 0 && late.length() > 0) {
      const Wide outside = (mean - mean_before) * window / (window + before().length());
      const Wide inside = late.milli(service, doubts) - early.milli(service, doubts);
      if (outside >= 0 && inside >= 0) rise = std::min(outside, inside);
      if (outside < 0 && inside < 0) rise = std::max(outside, inside);
    }
    break;
  }
  const Wide by_arrivals = plain_doubt(mean, service, until_now(begin).length());
  const Wide doubt = plain_root(std::min(kSecond * kSecond,
                                         by_arrivals * by_arrivals + mean * mean / calls));
  const auto narrow = [](Wide figure) { return static_cast<std::int64_t>(figure); };
  out.known = true;
  out.mean_milli = narrow(mean);
  out.doubt_milli = narrow(doubt);
  out.rise_milli = narrow(std::clamp(rise, -kSecond * kThousand, kSecond * kThousand));
  out.window = {narrow(until_now(begin).length())};
  return out;
}

// Thousandths of calls that are still there: exp(-x) as (1 + x / 16)^-16.
inline Wide plain_survivors(Wide service, Wide later) {
  const Wide one = std::max<Wide>(1, service);
  Wide share = kThousand * kThousand * one / (one + later / 16);
  for (int i = 0; i < 4; ++i) share = share * share / (kThousand * kThousand);
  return share / kThousand;
}

// The highest of a figure in the twelve parts of time that end with this one.
struct PlainHighest {
  std::vector<std::pair<Time, std::int64_t>> all{};
  std::int64_t with(Time now, Duration window, std::int64_t figure) {
    all.emplace_back(now, figure);
    const std::int64_t part = std::max<std::int64_t>(1, window.nanos / (kBuckets - 1));
    std::int64_t highest = 0;
    for (const auto& [at, one] : all) {
      if (at.nanos / part > now.nanos / part - kBuckets) highest = std::max(highest, one);
    }
    return highest;
  }
};

struct PlainWish {
  std::int64_t replicas;
  Why why;
  std::int64_t number;
};

struct PlainChalk {
  std::vector<Sample> history{};
  std::uint64_t finished = 0;
  Time called{};
  Wide most = 0;  // calls at once
  Wide start_took = 0;
  Time starting_since{};
  PlainHighest wishes{}, caps{};

  void learn(Time now, const Demand& last, const Demand& next, bool keeps, Duration memory) {
    const std::uint32_t here = next.in_flight + next.queued;
    most = std::max<Wide>({most, next.peak, here});
    const Wide done = Wide(next.arrivals) - next.refused - here;
    if (done > Wide(finished)) finished = static_cast<std::uint64_t>(done);
    if (here > 0 || next.arrivals != last.arrivals) called = now;
    const Sample sample{next.at, next.concurrency_ns, next.busy_ns, next.arrivals, finished, next.queued};
    if (keeps) history = plain_history(history, sample, memory);
  }
  void begins(Time now, std::int64_t starting) {
    if (starting == 0) starting_since = now;
  }
  void started(Time now, Duration took) {
    const Wide one = std::max<Wide>(1, took.nanos);
    start_took = start_took == 0 ? one : (3 * start_took + one) / 4;
    starting_since = now;
  }
  PlainWish wish(Time now, const Config& config, const GroupPolicy& policy, const Demand& last,
                 std::int64_t ready, std::int64_t starting, bool rising, std::int64_t& plan) {
    const Wide level = Wide{last.in_flight} + last.queued;
    Sample end{std::max(now, last.at), 0, last.busy_ns, last.arrivals, finished, last.queued};
    end.busy_ns += last.in_flight * (end.at - last.at).nanos;
    const Load load = plain_load(history, end, config.window_doubts);
    Wide start = std::max<Wide>(milliseconds(100).nanos, start_took);
    if (starting > 0) start = std::max<Wide>(start, (now - starting_since).nanos);
    // A start, and as long as it is worth: twice as long, or ten seconds.
    const Wide pays = start + std::min(2 * start, 10 * kSecond);
    const Wide stay = load.known ? plain_survivors(load.service.nanos, pays) : kThousand;
    const Wide z = policy.z_permille;
    // Calls that will be here, so many deviations of that, and a swing of those that are here; never
    // more than there ever were, and z of those.
    const auto needed = [&](Wide mean, Wide deviations, Wide swing) {
      const Wide ahead = level * stay + std::max<Wide>(0, mean) * (kThousand - stay) / kThousand;
      const Wide ever = most * kThousand + z * plain_root(most * kThousand * kThousand) / kThousand;
      const Wide slack = deviations * plain_root(ahead * (kThousand - stay)) / kThousand;
      return std::min(ahead + slack + swing * plain_root(ahead * kThousand) / kThousand, ever);
    };
    const bool goes_up = rising || plan == 0;
    const Wide up = goes_up ? config.up_doubts : config.turn_doubts;
    const Wide down = goes_up ? config.turn_doubts : config.down_doubts;
    const Wide mean = Wide{load.mean_milli} + load.rise_milli, doubt = load.doubt_milli;
    Wide likely = needed(mean, z, 0);
    Wide least = needed(mean - up * doubt, z, -up * stay * (kThousand - stay) / kThousand);
    const Wide falls = load.rise_milli < 0 ? -Wide{load.rise_milli} : 0;
    Wide enough = needed(falls < doubt ? mean + doubt - falls : mean, z, 0);
    Wide cap = std::max(needed(mean + down * doubt, z, 0), needed(mean + down * doubt, 0, down * stay));
    if (level == 0 && likely < kThousand) likely = least = enough = cap = 0;
    if (level == 0 && now - called >= policy.keep_alive) {
      wishes = caps = {};
      plan = 0;
      return {0, Why::window, 0};
    }
    const Wide sure =
        Wide{last.queued} - up * plain_root(likely * kThousand) / std::max<Wide>(100, z);
    Wide waiting = level == 0 ? 0 : kThousand;
    const Wide queue = sure <= 0 ? 0
                                 : std::min(sure * kThousand * load.seen.nanos / pays, sure * kThousand);
    if (queue > 0) {
      const Wide beside = std::max<Wide>(0, mean) * (load.seen.nanos / kThousand) /
                          std::max<Wide>(1, load.service.nanos / kThousand);
      waiting = std::max(waiting, std::min(beside + queue, level * kThousand));
    }
    const Why rise = waiting > least ? Why::backlog : Why::forecast;
    const auto replicas = [&](Wide milli) {
      const Wide slots = Wide{policy.concurrency} * kThousand;
      return static_cast<std::int64_t>(
          std::min<Wide>(milli / slots + (milli % slots > 0), Wide{1} << 30));
    };
    const std::int64_t wished = replicas(std::max(likely, waiting));
    const std::int64_t highest =
        wishes.with(now, policy.keep_alive, replicas(std::max(enough, waiting)));
    const std::int64_t highest_cap =
        caps.with(now, policy.keep_alive, replicas(std::max({cap, likely, waiting})));
    Why why = Why::window;
    if (replicas(std::max(least, waiting)) > plan) {
      plan = replicas(std::max(least, waiting));
      why = rise;
    } else if (highest_cap < plan && !(last.queued > 0 && starting > 0)) {
      plan = std::min(plan, highest);
    }
    if (start_took == 0) plan = std::min<std::int64_t>(plan, 16);
    if (why == Why::window && plan > ready + starting) {
      plan = std::max(ready + starting, std::min(plan, wished));
      why = Why::forecast;
    }
    return {plan, why, static_cast<std::int64_t>(std::max(likely, waiting))};
  }
};

}  // namespace chalk::autoscaler
