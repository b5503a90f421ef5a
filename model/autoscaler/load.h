// Load: how many calls a group would have in service at once if none had to wait, and how sure that
// is. It is arrivals per second times the mean service time (Little's law), so neither calls that
// pile up behind a slow start count as load nor the work of serving them afterwards.
//
// The window is not a constant: it is the longest one over which the rate is not seen to change
// (as ADWIN, Bifet and Gavalda, SDM 2007, here with the variance of Poisson arrivals). Under steady
// load it grows and the figure stands still; after a step it is as short as the reports allow.
// Promises: the history is O(log(length)) samples; everything is an integer.
#pragma once
#include <cstdint>
#include <vector>

#include "model/core/fields.h"
#include "model/core/time.h"

namespace chalk::autoscaler {

struct Sample {  // totals at one moment
  Time at;
  std::int64_t concurrency_ns = 0;  // in service and waiting
  std::int64_t busy_ns = 0;         // in service
  std::uint64_t arrivals = 0;
  std::uint64_t finished = 0;
  std::uint32_t queued = 0;         // now
  CHALK_FIELDS(Sample, at, concurrency_ns, busy_ns, arrivals, finished, queued)
};

struct Load {
  bool known = false;  // false: nothing is known but how many calls there are now
  Duration service;    // of a call, on average; guessed before any has ended
  Duration seen;       // the same without the guess
  std::int64_t mean_milli = 0;   // thousandths of a call
  std::int64_t doubt_milli = 0;  // one standard deviation of mean_milli
  std::int64_t rise_milli = 0;   // how far it has come since the middle of the window, surely
  Duration window;               // that it is about
};

// Appends a sample and thins out what is old: of an age, neighbours are about a fifth of it apart.
void remember(std::vector<Sample>& history, const Sample& sample, Duration memory);

// `end` is how the totals stand now. `doubts` standard deviations are seen as a change.
Load load_of(const std::vector<Sample>& history, const Sample& end, std::int64_t doubts);

// Thousandths of calls with this mean service time that are still in service after `later`.
std::int64_t survivors_permille(Duration service, Duration later);

// Thousandths of calls: an absurd load stays finite, and so low that it can be reckoned with.
inline constexpr std::int64_t kMilliMost = 1'000'000'000'000LL;

// Largest r with r * r <= n.
std::int64_t square_root(std::int64_t n);

}  // namespace chalk::autoscaler
