// How long a replica of one function lies idle before its next call: a histogram that forgets, and
// the window of residence that costs least on it.
//
// 64 buckets with edges a quarter of an octave apart, from 1 s to 13 h; the last one has no end. A
// gap weighs 1024; when the weights exceed 256 gaps all are halved, so the histogram follows a
// function that changes. Each bucket keeps the shortest and the longest gap seen in it, so that a
// timer, whose gaps are all alike, is waited for during less than a bucket's width.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/time.h"

namespace chalk::functions {

// When a replica is there after it fell idle: in [0, hold) and again in [reload, until). Without a
// second stay reload and until are 0.
struct Window {
  Duration hold;
  Duration reload;
  Duration until;
  bool covers(Duration gap) const { return gap < hold || (reload <= gap && gap < until); }
  bool reloads() const { return until > reload; }
  CHALK_FIELDS(Window, hold, reload, until)
};

inline constexpr int kGapBuckets = 64;
Duration gap_edge(int bucket);  // the shortest gap of a bucket; of kGapBuckets: for ever
int gap_bucket(Duration gap);

struct GapBucket {
  std::uint32_t weight = 0;
  Duration least;  // seen, while weight > 0
  Duration most;
  CHALK_FIELDS(GapBucket, weight, least, most)
};

// What a cold start and residence are worth, in time of an idle replica.
struct GapWorth {
  Duration cold;                      // one cold start
  std::int64_t rare_permille = 1500;  // but at least this share of the function's mean gap: a floor
                                      // for functions that are called rarely, up to 4 h
  CHALK_FIELDS(GapWorth, cold, rare_permille)
};

class Gaps {
 public:
  void add(Duration gap);
  const std::vector<GapBucket>& buckets() const { return buckets_; }
  // Minimises worth * P(cold) + E[idle time] over all windows on the buckets.
  Window cheapest(const GapWorth& worth) const;

 private:
  struct Part;
  Part part(int bucket) const;
  Duration mean() const;

  std::vector<GapBucket> buckets_;  // empty until the first gap
  std::uint64_t total_ = 0;         // of the weights

 public:
  CHALK_FIELDS(Gaps, buckets_, total_)
};

}  // namespace chalk::functions
