// The hybrid histogram policy: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020.
//
// Idle times of one function in bins of one minute over four hours. Where the histogram is
// representative (the bins' counts have a coefficient of variation of at least 2, and less than
// half of the idle times lie beyond it) the replica goes at once, is loaded again at the 5th
// percentile and kept to the 99th, both widened by a tenth; a 5th percentile in the first bin means
// that it does not go. Otherwise it is kept for the whole four hours.
//
// Left out: the forecast by ARIMA where most idle times lie beyond the range; such a function is
// kept for four hours here. The thresholds 2 and a half and the tenth are those of the implementation in
// DSLab FaaS (osukhoroslov/dslab), with which this was compared.
#pragma once
#include <cstdint>
#include <vector>

#include "model/functions/gaps.h"

namespace chalk::functions {

inline constexpr int kHybridBins = 240;  // of one minute
struct HybridCuts {                      // in thousandths of the idle times seen
  std::int64_t head = 50;
  std::int64_t tail = 990;
  CHALK_FIELDS(HybridCuts, head, tail)
};

class Hybrid {
 public:
  void add(Duration gap);
  Window window(const HybridCuts& cuts = {}) const;

 private:
  bool representative() const;

  std::vector<std::uint32_t> bins_;  // empty until the first gap
  std::uint64_t within_ = 0;         // idle times in the bins
  std::uint64_t beyond_ = 0;
  std::uint64_t squares_ = 0;  // sum of the bins' counts, squared

 public:
  CHALK_FIELDS(Hybrid, bins_, within_, beyond_, squares_)
};

}  // namespace chalk::functions
