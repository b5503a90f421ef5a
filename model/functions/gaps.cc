#include "model/functions/gaps.h"

#include <algorithm>
#include <array>

namespace chalk::functions {
namespace {

__extension__ using Wide = __int128;  // weights times nanoseconds

constexpr std::uint32_t kGapWeight = 1024;
constexpr std::uint64_t kTotalMax = 256 * kGapWeight;
constexpr Duration kRareMax = seconds(4 * 3600);  // rarer than this no function is waited for
// A start is work even where nobody waits for it: it must save at least so much idle time.
constexpr Duration kReloadCost = seconds(60);
// What the histogram believes before it has seen anything: one gap, of any length alike.
constexpr std::uint32_t kPrior = kGapWeight / kGapBuckets;

// 2^(0/4) to 2^(3/4) in 1/65536.
constexpr std::int64_t kQuarters[] = {65536, 77936, 92682, 110218};

}  // namespace

Duration gap_edge(int bucket) {
  if (bucket <= 0) return {};
  if (bucket >= kGapBuckets) return {kNever.nanos};
  const std::int64_t octave = seconds(1).nanos << (bucket - 1) / 4;
  return {static_cast<std::int64_t>(Wide{octave} * kQuarters[(bucket - 1) % 4] >> 16)};
}

int gap_bucket(Duration gap) {
  if (gap < seconds(1)) return 0;
  const auto ratio = static_cast<std::uint64_t>(gap.nanos / seconds(1).nanos);
  int bucket = 1 + 4 * (63 - __builtin_clzll(ratio));
  while (bucket + 1 < kGapBuckets && gap_edge(bucket + 1) <= gap) ++bucket;
  return std::min(bucket, kGapBuckets - 1);
}

void Gaps::add(Duration gap) {
  if (buckets_.empty()) buckets_.resize(kGapBuckets);
  GapBucket& bucket = buckets_[static_cast<std::size_t>(gap_bucket(gap))];
  if (bucket.weight == 0) bucket.least = bucket.most = gap;
  bucket.least = std::min(bucket.least, gap);
  bucket.most = std::max(bucket.most, gap);
  bucket.weight += kGapWeight;
  total_ += kGapWeight;
  if (total_ <= kTotalMax) return;
  total_ = 0;
  for (GapBucket& one : buckets_) total_ += one.weight /= 2;
}

// A bucket as a stay sees it: its weight, and when to come and go to meet the gaps seen in it.
struct Gaps::Part {
  std::int64_t weight = 0;
  Duration low, high;    // the edges
  Duration from, until;  // just before the shortest gap seen, just after the longest
  std::int64_t middle() const { return (from.nanos + until.nanos) / 2; }
};

// The fewer gaps were seen, the farther beyond them the next one may lie: of n evenly spread ones
// by a share of about 1/n of their range.
Gaps::Part Gaps::part(int bucket) const {
  Part part{kPrior, gap_edge(bucket), gap_edge(bucket + 1), {}, {}};
  part.from = part.low;
  part.until = part.high;
  if (buckets_.empty()) return part;
  const GapBucket& seen = buckets_[static_cast<std::size_t>(bucket)];
  part.weight += seen.weight;
  if (seen.weight == 0 || bucket + 1 == kGapBuckets) return part;
  const std::int64_t range = (seen.most - seen.least).nanos;
  const auto beyond = static_cast<std::int64_t>(Wide{range} * 2 * kGapWeight / seen.weight);
  const Duration margin{(part.high - part.low).nanos / 8 + beyond};
  part.from = std::max(part.low, seen.least - margin);
  part.until = std::min(part.high, seen.most + margin);
  return part;
}

// Of the whole histogram, with gaps of more than kRareMax taken as that.
Duration Gaps::mean() const {
  Wide sum = 0;
  std::int64_t all = 0;
  for (int i = 0; i < kGapBuckets; ++i) {
    const Part one = part(i);
    const std::int64_t middle = i + 1 == kGapBuckets ? kRareMax.nanos : one.middle();
    sum += Wide{std::min(middle, kRareMax.nanos)} * one.weight;
    all += one.weight;
  }
  return {static_cast<std::int64_t>(sum / all)};
}

// Staying through a bucket gains cold * weight there and costs the time that gaps spend in it: the
// whole width for longer gaps, up to the middle of what was seen for its own. A stay from the
// beginning and one later stay are two runs of buckets, the sums of whose gains are found in one
// pass; at its ends a run leaves out what of the bucket has not been seen.
Window Gaps::cheapest(const GapWorth& worth) const {
  std::array<Part, kGapBuckets> parts;
  std::int64_t longer = 0;  // weight of this bucket and all after it
  for (int i = 0; i < kGapBuckets; ++i) {
    parts[static_cast<std::size_t>(i)] = part(i);
    longer += parts[static_cast<std::size_t>(i)].weight;
  }
  const std::int64_t rare = mean().nanos / 1000 * worth.rare_permille;
  const Wide cold = std::max(worth.cold.nanos, rare);

  struct Run {  // of buckets [first, last] that follow a first stay of `held` buckets
    Wide gain = 0;
    int first = -1, last = -1, held = 0;
  };
  Wide through = 0;  // of staying in all buckets so far
  Run stay, run, best;
  for (int i = 0; i + 1 < kGapBuckets; ++i) {
    const Part& one = parts[static_cast<std::size_t>(i)];
    const Wide reload = Wide{(one.from - one.low - kReloadCost).nanos} * longer;
    longer -= one.weight;
    const Wide early = Wide{(one.high - one.until).nanos} * longer;
    const Wide gain = (cold - (one.middle() - one.low.nanos)) * one.weight -
                      Wide{(one.high - one.low).nanos} * longer;
    if (i > 0 && (run.first < 0 || stay.gain + reload > run.gain)) {
      run = {stay.gain + reload, i, i, stay.held};
    }
    if (run.first >= 0) {
      run.gain += gain;
      if (run.gain + early > best.gain) best = {run.gain + early, run.first, i, run.held};
    }
    through += gain;
    if (through + early > stay.gain) stay = {through + early, 0, i, i + 1};
  }
  const bool reloads = best.first >= 0 && best.gain > stay.gain;
  const int held = reloads ? best.held : stay.held;
  Window window;
  if (held > 0) window.hold = parts[static_cast<std::size_t>(held - 1)].until;
  if (!reloads) return window;
  window.reload = parts[static_cast<std::size_t>(best.first)].from;
  window.until = parts[static_cast<std::size_t>(best.last)].until;
  return window;
}

}  // namespace chalk::functions
