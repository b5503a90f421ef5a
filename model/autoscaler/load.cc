#include "model/autoscaler/load.h"

#include <algorithm>

namespace chalk::autoscaler {
namespace {

__extension__ using Wide = __int128;  // for products of nanoseconds

constexpr Duration kShortest = seconds(1);           // of a window
constexpr Duration kServiceGuess = seconds(1);       // weighs as much as one call
constexpr std::int64_t kMost = kMilliMost;
constexpr std::int64_t kLongest = 1LL << 53;         // of a call, 104 days
constexpr Wide kWork = Wide{1} << 62;                // calls x nanoseconds in one window

struct Part {  // of the history, between two moments
  Duration length;
  std::int64_t busy_ns = 0;
  std::int64_t arrivals = 0;
  std::int64_t queued = 0;  // at the end, less those at the beginning
};

Part between(const Sample& from, const Sample& to) {
  return {to.at - from.at, to.busy_ns - from.busy_ns,
          static_cast<std::int64_t>(to.arrivals - from.arrivals),
          std::int64_t{to.queued} - from.queued};
}

// Nearly always of what 64 bits hold, where it is much cheaper.
Wide divided(Wide n, std::int64_t by) {
  const auto low = static_cast<std::int64_t>(n);
  return low == n ? Wide{low / by} : n / by;
}

// From arrivals, the better measure: what they bring. Only where work done and left waiting is
// surely more (calls take longer than they did) is that believed. For n calls the two differ by
// root(n) S.
std::int64_t milli_of(const Part& part, Duration service, std::int64_t doubts) {
  const Wide offered = std::min(kWork, Wide{part.arrivals} * service.nanos);
  const Wide worked = std::min(kWork, part.busy_ns + Wide{part.queued} * service.nanos);
  const Wide apart = worked - offered;
  const bool more = apart > 0 && apart * apart > offered * service.nanos * doubts * doubts;
  return static_cast<std::int64_t>(
      std::min<Wide>(kMost, divided((more ? worked : offered) * 1000, part.length.nanos)));
}

// Of a mean over `length` from arrivals: n calls by chance are root(n) more or less, so the
// variance is m S / length. A load of no calls is in doubt as if it were one.
std::int64_t variance_of(std::int64_t mean_milli, Duration service, Duration length) {
  const Wide one = divided(Wide{service.nanos} * 1000, length.nanos);
  const Wide mean = std::max<Wide>(mean_milli, one);
  const Wide variance = divided(mean * 1000 * service.nanos, length.nanos);
  return static_cast<std::int64_t>(std::min<Wide>(variance, kMost * 1'000'000));
}

// Are two means, of these variances, further apart than so many standard deviations? Most are not
// by far: then one square tells, and no root is drawn.
bool far_apart(std::int64_t apart, std::int64_t doubts, std::int64_t one, std::int64_t other) {
  const Wide each = (Wide{apart} + doubts - 1) / std::max<std::int64_t>(1, doubts);
  if (doubts > 0 && each * each <= one) return false;
  const std::int64_t a = square_root(one), b = square_root(other);
  return apart > doubts * (a + b - std::min(a, b) * 586 / 1000);  // about root(a^2 + b^2)
}

// Where the load rises or falls, the mean of a window is that of half a window ago. How far it has
// come since is told by two slopes: from what was before the window to it, and within it. After a
// step the second is flat, and by chance both are seldom steep and of one sign, so the lesser is
// believed.
std::int64_t rise_of(const std::vector<Sample>& history, std::size_t from, const Sample& end,
                     const Load& load, std::int64_t before_milli, Duration before,
                     std::int64_t doubts) {
  const Time middle = end.at - Duration{load.window.nanos / 2};
  std::size_t i = from;
  while (i + 1 < history.size() && history[i + 1].at <= middle) ++i;
  const Part late = between(history[i], end);
  const Part early = between(history[from], history[i]);
  if (late.length.nanos <= 0 || early.length.nanos <= 0) return 0;
  const Wide outside =
      Wide{load.mean_milli - before_milli} * load.window.nanos / (load.window + before).nanos;
  const Wide inside =
      milli_of(late, load.service, doubts) - milli_of(early, load.service, doubts);
  if ((outside < 0) != (inside < 0)) return 0;
  const Wide lesser = outside < 0 ? std::max(outside, inside) : std::min(outside, inside);
  return static_cast<std::int64_t>(std::clamp<Wide>(lesser, -kMost, kMost));
}

}  // namespace

std::int64_t square_root(std::int64_t n) {
  if (n <= 0) return 0;
  std::int64_t r = std::int64_t{1}
                   << ((64 - __builtin_clzll(static_cast<std::uint64_t>(n)) + 1) / 2);
  while (true) {
    const std::int64_t next = (r + n / r) / 2;
    if (next >= r) return r;
    r = next;
  }
}

// exp(-x) as (1 + x / 16)^-16.
std::int64_t survivors_permille(Duration service, Duration later) {
  const std::int64_t part = std::max<std::int64_t>(1, service.nanos);
  const Wide ahead = std::max<std::int64_t>(0, later.nanos) / 16;
  std::int64_t share = static_cast<std::int64_t>(Wide{1'000'000} * part / (part + ahead));
  for (int i = 0; i < 4; ++i) share = share * share / 1'000'000;
  return share / 1000;
}

void remember(std::vector<Sample>& history, const Sample& sample, Duration memory) {
  if (!history.empty() && history.back().at == sample.at) history.pop_back();
  history.push_back(sample);
  for (std::size_t i = history.size() - 1; i-- > 1;) {
    const Duration age = sample.at - history[i + 1].at;
    const Duration apart = history[i + 1].at - history[i - 1].at;
    if (apart.nanos > age.nanos / 5) continue;
    history.erase(history.begin() + static_cast<std::ptrdiff_t>(i));
  }
  const Time from = sample.at - memory;
  while (history.size() > 1 && history[1].at <= from) history.erase(history.begin());
}

Load load_of(const std::vector<Sample>& history, const Sample& end, std::int64_t doubts) {
  Load load;
  load.service = kServiceGuess;
  if (history.empty()) return load;
  const Sample& first = history.front();
  const auto calls =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(end.finished - first.finished + 1));
  load.seen.nanos = std::min(kLongest, (end.busy_ns - first.busy_ns) / calls);
  load.service.nanos = load.seen.nanos + kServiceGuess.nanos / calls;
  std::size_t i = history.size();
  while (i > 0 && end.at - history[i - 1].at < kShortest) --i;
  if (i == 0) return load;
  const Sample* from = &history[i - 1];
  Part inner = between(*from, end);
  load.known = true;
  load.mean_milli = milli_of(inner, load.service, doubts);
  while (--i > 0) {
    if (from->at - history[i - 1].at < inner.length && i > 1) continue;
    const Part outer = between(history[i - 1], *from);
    const std::int64_t before = milli_of(outer, load.service, doubts);
    const Part all = between(history[i - 1], end);
    const std::int64_t pooled = milli_of(all, load.service, doubts);
    const std::int64_t apart = std::max(before - load.mean_milli, load.mean_milli - before);
    if (far_apart(apart, doubts, variance_of(pooled, load.service, inner.length),
                  variance_of(pooled, load.service, outer.length))) {
      load.window = inner.length;
      const auto first_in = static_cast<std::size_t>(from - history.data());
      load.rise_milli = rise_of(history, first_in, end, load, before, outer.length, doubts);
      break;
    }
    from = &history[i - 1];
    inner = all;
    load.mean_milli = pooled;
  }
  load.window = inner.length;
  // And the mean of n service times is off by its nth part, in variance.
  const Wide arrivals = square_root(variance_of(load.mean_milli, load.service, inner.length));
  const Wide variance = arrivals * arrivals + Wide{load.mean_milli} * load.mean_milli / calls;
  load.doubt_milli =
      square_root(static_cast<std::int64_t>(std::min<Wide>(variance, kMost * 1'000'000)));
  return load;
}

}  // namespace chalk::autoscaler
