// The histogram of gaps against a plain list of them, and its windows against all windows.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "model/core/codec.h"
#include "model/functions/gaps.h"
#include "model/functions/hybrid.h"

namespace chalk::functions {
namespace {

__extension__ using Wide = __int128;

// Spread over all lengths: uniform in the logarithm, from a microsecond to eleven days.
rc::Gen<Duration> gaps() {
  return rc::gen::map(rc::gen::pair(rc::gen::inRange(0, 40), rc::gen::inRange(0, 1'000'000)),
                      [](const std::pair<int, int>& at) {
                        const std::int64_t octave = std::int64_t{1000} << at.first;
                        return Duration{octave + octave / 1'000'000 * at.second};
                      });
}

TEST(Gaps, BucketsFollowEachOtherAQuarterOfAnOctaveApart) {
  for (int i = 0; i < kGapBuckets; ++i) {
    EXPECT_LT(gap_edge(i), gap_edge(i + 1));
    EXPECT_EQ(gap_bucket(gap_edge(i)), i);
    EXPECT_EQ(gap_bucket(gap_edge(i + 1) - nanoseconds(1)), i);
  }
  EXPECT_EQ(gap_edge(1), seconds(1));
  EXPECT_EQ(gap_edge(5), seconds(2));
  EXPECT_EQ(gap_edge(61), seconds(32768));
  EXPECT_EQ(gap_edge(0), Duration{});
  EXPECT_EQ(gap_edge(-1), Duration{});
  EXPECT_EQ(gap_edge(kGapBuckets - 1).nanos, seconds(32768).nanos / 65536 * 92682);
  EXPECT_EQ(gap_edge(kGapBuckets).nanos, kNever.nanos);
  EXPECT_EQ(gap_edge(kGapBuckets + 1).nanos, kNever.nanos);
}

// As long as nothing is forgotten each bucket has what a count of the list says.
RC_GTEST_PROP(Gaps, CountsAreThoseOfTheList, ()) {
  struct Seen {
    std::uint32_t count = 0;
    Duration least, most;
  };
  const auto list = *rc::gen::container<std::vector<Duration>>(gaps());
  RC_PRE(list.size() <= 256u);
  Gaps histogram;
  std::map<int, Seen> naive;
  for (const Duration gap : list) {
    histogram.add(gap);
    int bucket = 0;
    while (bucket + 1 < kGapBuckets && gap_edge(bucket + 1) <= gap) ++bucket;
    Seen& seen = naive[bucket];
    seen.least = seen.count == 0 ? gap : std::min(seen.least, gap);
    seen.most = std::max(seen.most, gap);
    ++seen.count;
  }
  for (int i = 0; i < kGapBuckets && !list.empty(); ++i) {
    const GapBucket& bucket = histogram.buckets()[static_cast<std::size_t>(i)];
    RC_ASSERT(bucket.weight == naive[i].count * 1024);
    if (bucket.weight == 0) continue;
    RC_ASSERT(bucket.least == naive[i].least && bucket.most == naive[i].most);
  }
}

// Whatever was: after many gaps of one kind the rest weighs nothing, and the total stays.
RC_GTEST_PROP(Gaps, ForgetsWhatIsLongPast, ()) {
  Gaps histogram;
  for (const Duration gap : *rc::gen::container<std::vector<Duration>>(gaps())) histogram.add(gap);
  const Duration now = *gaps();
  for (int i = 0; i < 2500; ++i) histogram.add(now);
  std::uint64_t total = 0;
  for (int i = 0; i < kGapBuckets; ++i) {
    const std::uint64_t weight = histogram.buckets()[static_cast<std::size_t>(i)].weight;
    total += weight;
    if (i != gap_bucket(now)) RC_ASSERT(weight == 0u);
  }
  RC_ASSERT(total <= 256u * 1024u);
  Gaps copy;
  RC_ASSERT(decode(encode(histogram), copy) && copy == histogram);
}

TEST(Gaps, HalvesWhatItKnowsWhenItHasSeen256AndNotBefore) {
  Gaps histogram;
  const auto after = [&](int gaps) {
    for (int i = 0; i < gaps; ++i) histogram.add(seconds(10));
    return histogram.buckets()[static_cast<std::size_t>(gap_bucket(seconds(10)))].weight;
  };
  EXPECT_EQ(after(256), 256u * 1024);
  EXPECT_EQ(after(1), 257u * 512);
  EXPECT_EQ(after(43), 257u * 512 + 43 * 1024);
}

// A function whose gaps are all in one bucket finds its replica there, if a cold start is worth it.
RC_GTEST_PROP(Gaps, TheWindowContainsItsOwnBucket, ()) {
  const Duration gap = *rc::gen::suchThat(gaps(), [](Duration one) {
    return gap_bucket(one) + 1 < kGapBuckets;
  });
  Gaps histogram;
  for (int i = *rc::gen::inRange(3, 400); i > 0; --i) histogram.add(gap);
  const Window window = histogram.cheapest({seconds(500'000), 0});
  RC_ASSERT(window.covers(gap));
}

// What a window costs, gap by gap: each bucket's gaps are in the middle of what was seen of it.
struct Oracle {
  struct Part {
    std::int64_t weight = 0;
    Duration from, until;
  };
  std::vector<Part> parts;
  std::int64_t cold;

  Oracle(const Gaps& histogram, Duration worth) : cold(worth.nanos) {
    for (int i = 0; i < kGapBuckets; ++i) {
      Part part{1024 / kGapBuckets, gap_edge(i), gap_edge(i + 1)};
      GapBucket seen;
      if (!histogram.buckets().empty()) seen = histogram.buckets()[static_cast<std::size_t>(i)];
      if (seen.weight != 0 && i + 1 < kGapBuckets) {
        const std::int64_t range = (seen.most - seen.least).nanos;
        const Duration margin{(part.until - part.from).nanos / 8 + range * 2048 / seen.weight};
        part.from = std::max(part.from, seen.least - margin);
        part.until = std::min(part.until, seen.most + margin);
      }
      part.weight += seen.weight;
      parts.push_back(part);
    }
  }
  Wide cost(const Window& window) const {
    Wide sum = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      const Duration gap =
          i + 1 == parts.size() ? part.from : Duration{(part.from.nanos + part.until.nanos) / 2};
      const bool warm = i + 1 != parts.size() && window.covers(gap);
      Wide one = warm ? 0 : Wide{cold};
      one += std::min(gap, window.hold).nanos;
      if (window.reloads() && gap >= window.reload) {
        one += seconds(60).nanos + (std::min(gap, window.until) - window.reload).nanos;
      }
      sum += one * part.weight;
    }
    return sum;
  }
};

RC_GTEST_PROP(Gaps, NoWindowOnTheBucketsCostsLess, ()) {
  Gaps histogram;
  for (const Duration gap : *rc::gen::container<std::vector<Duration>>(gaps())) histogram.add(gap);
  const Duration worth = seconds(*rc::gen::element(0, 1, 20, 300, 5'000, 100'000));
  const Oracle oracle(histogram, worth);
  const Window chosen = histogram.cheapest({worth, 0});
  RC_ASSERT(!chosen.reloads() || chosen.hold <= chosen.reload);
  const Wide cost = oracle.cost(chosen);
  for (int held = 0; held < kGapBuckets; ++held) {
    const auto until_of = [&](int i) { return oracle.parts[static_cast<std::size_t>(i)].until; };
    const Duration hold = held == 0 ? Duration{} : until_of(held - 1);
    RC_ASSERT(cost <= oracle.cost({hold, {}, {}}));
    for (int from = std::max(1, held); from + 1 < kGapBuckets; from += 1 + held % 3) {
      const Duration reload = oracle.parts[static_cast<std::size_t>(from)].from;
      for (int last = from; last + 1 < kGapBuckets; ++last) {
        RC_ASSERT(cost <= oracle.cost({hold, reload, until_of(last)}));
      }
    }
  }
}

// A cold start of a function that is called rarely is worth a share of its mean gap, to the permille:
// of the share at which its window first is another, one permille less still gives the one before.
RC_GTEST_PROP(Gaps, AColdStartIsWorthAtLeastItsShareOfTheMeanGap, ()) {
  Gaps histogram;
  for (const Duration gap : *rc::gen::container<std::vector<Duration>>(gaps())) histogram.add(gap);
  const Oracle oracle(histogram, {});
  constexpr std::int64_t kRare = 4 * 3600 * std::int64_t{1'000'000'000};
  Wide sum = 0, all = 0;
  for (std::size_t i = 0; i < oracle.parts.size(); ++i) {
    const auto& part = oracle.parts[i];
    const std::int64_t middle = i + 1 == oracle.parts.size()
                                    ? kRare : (part.from.nanos + part.until.nanos) / 2;
    sum += Wide{std::min(middle, kRare)} * part.weight;
    all += part.weight;
  }
  const std::int64_t permille = static_cast<std::int64_t>(sum / all) / 1000;
  const Window none = histogram.cheapest({{}, 0});
  std::int64_t below = 0, from = kRare * 1000 / permille;
  if (histogram.cheapest({{permille * from}, 0}) == none) return;
  while (from - below > 1) {
    const std::int64_t middle = (below + from) / 2;
    (histogram.cheapest({{permille * middle}, 0}) == none ? below : from) = middle;
  }
  RC_ASSERT(histogram.cheapest({{}, below}) == none);
  RC_ASSERT(histogram.cheapest({{}, from}) != none);
}

// The hybrid histogram's window from sorted lists, bin by bin.
RC_GTEST_PROP(Hybrid, ItsWindowIsThatOfTheSortedMinutes, ()) {
  const int period = *rc::gen::inRange(0, 300);
  const int width = *rc::gen::inRange(1, 130);
  const auto offsets = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, width));
  Hybrid hybrid;
  std::vector<int> within;
  std::size_t beyond = 0;
  for (const int offset : offsets) {
    const int minute = period + offset;
    hybrid.add(seconds(minute * 60 + 30));
    minute < kHybridBins ? within.push_back(minute) : static_cast<void>(++beyond);
  }
  std::sort(within.begin(), within.end());
  std::map<int, int> bins;
  for (const int minute : within) ++bins[minute];
  std::int64_t squares = 0;
  for (const auto& [minute, count] : bins) squares += std::int64_t{count} * count;
  const auto n = static_cast<std::int64_t>(within.size());
  // The variance of the bins is at least four times their mean, squared.
  const bool good = beyond < within.size() && squares * kHybridBins >= 5 * n * n;
  const Window window = hybrid.window();
  if (!good) {
    RC_ASSERT(window == (Window{seconds(4 * 3600), {}, {}}));
    return;
  }
  const int head = within[static_cast<std::size_t>((n * 50 + 999) / 1000 - 1)];
  const int tail = within[static_cast<std::size_t>((n * 990 + 999) / 1000 - 1)];
  const Duration until = std::min(seconds(4 * 3600), seconds(66 * (tail + 1)));
  RC_ASSERT(window == (head == 0 ? Window{until, {}, {}} : Window{{}, seconds(54 * head), until}));
}

// Evenly spread over n of the 240 minutes the coefficient of variation is root(240 / n - 1): of 48
// it is 2.
TEST(Hybrid, IsRepresentativeFromACoefficientOfTwoOn) {
  const auto kept = [](int minutes, int each) {
    Hybrid hybrid;
    for (int i = 0; i < minutes * each; ++i) hybrid.add(seconds(60 * (i % minutes) + 30));
    return hybrid.window() == Window{seconds(4 * 3600), {}, {}};
  };
  for (const int each : {1, 2, 5}) {
    EXPECT_FALSE(kept(48, each));
    EXPECT_TRUE(kept(49, each));
    EXPECT_TRUE(kept(60, each));
  }
}

}  // namespace
}  // namespace chalk::functions
