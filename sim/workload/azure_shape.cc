#include "sim/workload/azure_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model/core/random.h"
#include "sim/workload/distribution.h"
#include "sim/workload/sampling.h"

namespace chalk::sim {
namespace {

constexpr double kDayNanos = 86'400e9;
constexpr double kOncePerMinute = 1'440;
constexpr double kOncePerSecond = 86'400;
constexpr std::size_t kFunctionsMax = 20'000'000;

// Execution time: the averages of functions are log-normal, in seconds. [P]
constexpr double kServiceLogMean = -0.38;
constexpr double kServiceLogSigma = 2.36;
// Memory: the averages of apps follow a Burr distribution, in MB. [P]
constexpr double kBurrC = 11.652;
constexpr double kBurrK = 0.221;
constexpr double kBurrLambda = 107.083;

// Calls per day of an app. 45 % at most once per hour, 81.4 % at most once per minute [P]; 3 % more
// than once per second [R]. The ends are [ours]: over 8 orders of magnitude [P], and such that the
// 18.6 % most called apps have 99.6 % of the calls [P].
struct Quantile {
  double u;
  double per_day;
};
constexpr Quantile kAppRate[] = {{0, 1.0 / 14},          {0.45, 24},    {0.814, kOncePerMinute},
                                 {0.97, kOncePerSecond}, {0.9999, 3e6}, {1, 1e8}};

// Functions of an app, in bins. Of all apps 54 % have 1 and 95 % at most 10, 0.04 % over 100, a
// couple over 2,000 [P]; 16, 10, 8 and 7 % have 2, 3, 4-5, 6-10 [R]. Half of the calls come from
// apps of at most 3 functions [P]: so busy apps (over one call a minute) get larger bins [ours],
// and the others what leaves the sum as it is.
struct Bin {
  double low;
  double above;
};
constexpr Bin kFunctionBins[] = {{1, 2}, {2, 3}, {3, 4}, {4, 6}, {6, 11}, {11, 101}, {101, 2'500}};
const std::vector<double> kFunctionsOfBusy = {0.25, 0.13, 0.12, 0.15, 0.18, 0.1698, 0.0002};
const std::vector<double> kFunctionsOfOthers = {0.6063, 0.1669, 0.0954, 0.0640,
                                                0.0449, 0.0221, 0.0004};
constexpr double kShareExponent = 1.5;  // [ours] how an app's calls spread over its functions

// Trigger of a function, by its own rate: up to one call a minute, up to one a second, above.
// Functions: HTTP 55 % [R], queue 15.2, event 2.2, timer 15.6 [P], orchestration 6.9, storage 2.8,
// others 2.2 [M]. Calls: HTTP 35.9 [M; 36 R], queue 33.5, event 24.7, timer 2 [P], orchestration
// 2.3, storage 0.7, others 1.0 [M]. 95 % of timers fire at most once per minute [P]. The middle row
// is [ours]; the others solve for these sums.
const std::vector<double> kTriggerOfRate[] = {
    {0.5615, 0.1361, 0.0149, 0.1694, 0.0679, 0.0275, 0.0225},
    {0.4850, 0.2600, 0.0500, 0.0650, 0.0850, 0.0350, 0.0200},
    {0.3287, 0.3523, 0.2933, 0.0093, 0.0083, 0.0004, 0.0076}};

// Pattern of a function that is no timer [ours], such that about 20 % of apps have a coefficient of
// variation of their inter-arrival times near 0 [M] and 40 % one above 1 [P].
const std::vector<double> kPatterns = {0.26, 0.20, 0.15, 0.39};

// A timer has the nearest of these periods [ours], in seconds.
constexpr double kTimerPeriods[] = {1,   5,    10,   15,   20,    30,    60,    120,   300,   600,
                                    900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800};
constexpr double kTimerPeriodMax = std::end(kTimerPeriods)[-1];

enum Purpose : std::uint64_t { kAppStream = 31, kFunctionStream = 32, kTenantStream = 33 };

double burr_megabytes(double u) {
  double inner = portable_pow(1 - u, -1 / kBurrK) - 1;
  return inner > 0 ? kBurrLambda * portable_pow(inner, 1 / kBurrC) : 0;
}

// Slower than these are only timers that rate_scale makes so.
double timer_period_seconds(double calls_per_day, double rate_scale) {
  const double exact = kOncePerSecond / calls_per_day;
  if (rate_scale < 1 && exact > kTimerPeriodMax) {
    return std::min(exact, kTimerPeriodMax / rate_scale);
  }
  double wanted = portable_log(exact);
  double best = kTimerPeriods[0];
  for (double period : kTimerPeriods) {
    if (std::abs(portable_log(period) - wanted) < std::abs(portable_log(best) - wanted)) {
      best = period;
    }
  }
  return best;
}

void check(const AzureShape& shape) {
  auto positive = [](double value) { return value > 0 && std::isfinite(value); };
  if (shape.apps == 0 || shape.length.nanos <= 0 || shape.service_max.nanos <= 0 ||
      shape.memory_bytes_max <= 0 || !positive(shape.rate_scale) ||
      !positive(shape.app_calls_per_day_max) || !(shape.service_spread >= 0) ||
      shape.service_spread > 10) {
    throw std::invalid_argument("a parameter of the Azure shape is not above zero");
  }
}

// Plans the functions of one app after another.
class Planner {
 public:
  Planner(const AzureShape& shape, std::uint64_t seed)
      : shape_(shape), random_(Random{seed}.stream(kAppStream)) {
    check(shape);
    std::uint32_t tenants = shape.tenants ? shape.tenants : (shape.apps + 2) / 3;
    for (std::uint32_t i = 0; i < tenants; ++i) {
      plan_.catalogue.tenants.push_back(fmt::format("owner-{}", i));
    }
    Random owner = Random{seed}.stream(kTenantStream);
    for (std::uint32_t app = 0; app < shape.apps; ++app) {
      plan_app(app, static_cast<std::uint32_t>(owner.below(tenants)));
    }
  }
  AzurePlan take() { return std::move(plan_); }

 private:
  double draw() { return unit(random_.next()); }

  void plan_app(std::uint32_t app, std::uint32_t tenant) {
    // Stratified [ours]: one app in each of `apps` equal slices, so few apps still have the shape.
    double per_day = azure_app_calls_per_day((app + draw()) / shape_.apps);
    bool busy = per_day > kOncePerMinute;
    const Bin& bin = kFunctionBins[(busy ? of_busy_ : of_others_).pick(random_.next())];
    auto count = static_cast<std::uint32_t>(bin.low * portable_pow(bin.above / bin.low, draw()));
    double memory = std::min(burr_megabytes(draw()) * 1e6, 1.0 * shape_.memory_bytes_max);
    double cut = std::min(per_day * shape_.rate_scale, shape_.app_calls_per_day_max) / per_day;
    plan_.catalogue.images.push_back(fmt::format("app-{}", app));
    if (plan_.functions.size() + count > kFunctionsMax) {
      throw std::invalid_argument("the Azure shape has more than 20000000 functions");
    }
    double weights = 0;
    for (std::uint32_t i = 1; i <= count; ++i) weights += portable_pow(i, -kShareExponent);
    for (std::uint32_t i = 0; i < count; ++i) {
      AzureFunction function;
      function.app = app;
      function.app_calls_per_day = per_day;
      double share = portable_pow(i + 1, -kShareExponent) / weights;
      plan_function(function, per_day * share, cut);
      plan_.catalogue.functions.push_back(
          {fmt::format("app-{}/{}-{}", app, i, kTriggerNames[static_cast<int>(function.trigger)]),
           tenant, app, 0, static_cast<std::int64_t>(memory)});
      plan_.functions.push_back(function);
      plan_.calls_expected += function.calls_per_day * (shape_.length.nanos / kDayNanos);
    }
  }

  void plan_function(AzureFunction& function, double per_day, double cut) {
    int rate = per_day <= kOncePerMinute ? 0 : per_day <= kOncePerSecond ? 1 : 2;
    function.trigger = static_cast<Trigger>(triggers_[rate].pick(random_.next()));
    std::uint64_t pattern = random_.next();
    function.calls_per_day = per_day * cut;
    if (function.trigger == Trigger::timer) {
      function.pattern = Pattern::periodic;
      function.calls_per_day =
          kOncePerSecond / timer_period_seconds(function.calls_per_day, shape_.rate_scale);
    } else {
      function.pattern = static_cast<Pattern>(patterns_.pick(pattern));
    }
    function.service_mean_seconds =
        portable_exp(kServiceLogMean + kServiceLogSigma * normal_quantile(draw()));
  }

  AzureShape shape_;
  Random random_;
  WeightedChoice of_busy_{kFunctionsOfBusy};
  WeightedChoice of_others_{kFunctionsOfOthers};
  WeightedChoice triggers_[3] = {WeightedChoice(kTriggerOfRate[0]),
                                 WeightedChoice(kTriggerOfRate[1]),
                                 WeightedChoice(kTriggerOfRate[2])};
  WeightedChoice patterns_{kPatterns};
  AzurePlan plan_;
};

// A renewal process per function; all but the periodic ones run in time warped by the week. The
// first gap is what is left of one that began before time 0, so rates are right from the start.
class AzureSource : public Source {
 public:
  AzureSource(const AzureShape& shape, std::uint64_t seed)
      : shape_(shape), week_(shape.swing, seconds(14 * 3600), shape.weekend) {
    plan_ = azure_plan(shape, seed);
    Random streams = Random{seed}.stream(kFunctionStream);
    states_.resize(plan_.functions.size());
    for (std::uint32_t i = 0; i < states_.size(); ++i) {
      State& state = states_[i];
      const AzureFunction& function = plan_.functions[i];
      state.key = random_at(streams.key, i);
      state.gap = kDayNanos / function.calls_per_day;
      state.log_service = portable_log(function.service_mean_seconds * 1e9) -
                          shape.service_spread * shape.service_spread / 2;
      state.even_nanos = first_gap(function, state);
      Time at = time_of(function, state);
      if (at.nanos < shape.length.nanos) heap_.push_back({at, i});
    }
    std::make_heap(heap_.begin(), heap_.end());
    show();
  }

  const Catalogue& catalogue() const override { return plan_.catalogue; }
  const Arrival* peek() override { return heap_.empty() ? nullptr : &shown_; }
  void pop() override {
    if (heap_.empty()) return;
    Next& first = heap_.front();
    State& state = states_[first.function];
    const AzureFunction& function = plan_.functions[first.function];
    ++state.number;
    state.even_nanos += gap(function, state);
    first.at = time_of(function, state);
    if (first.at.nanos >= shape_.length.nanos) {
      first = heap_.back();
      heap_.pop_back();
    }
    sink_first();
    show();
  }
  bool exhausted() const override { return heap_.empty(); }
  double progress() const override {
    return heap_.empty() ? 1 : 1.0 * shown_.at.nanos / shape_.length.nanos;
  }

 private:
  struct State {
    std::uint64_t key;
    std::uint64_t number = 0;  // of the call that comes next
    double gap;                // mean, nanoseconds
    double even_nanos;         // of the next call; in warped time unless periodic
    double log_service;        // mean of the logarithm of nanoseconds
  };
  struct Next {
    Time at;
    std::uint32_t function;
    bool operator<(const Next& other) const {
      return at != other.at ? at > other.at : function > other.function;
    }
  };
  // Draws of one call: up to 4 for its gap, then its service.
  static double draw(const State& state, std::uint64_t which) {
    return unit(random_at(state.key, state.number * 8 + which));
  }

  // Hyperexponential with coefficient of variation 3 and balanced means.
  static constexpr double kShortShare = 0.947213595499958;
  static constexpr double kShortGap = 0.5 / kShortShare;
  static constexpr double kLongGap = 0.5 / (1 - kShortShare);

  static double first_gap(const AzureFunction& function, const State& state) {
    switch (function.pattern) {
      case Pattern::periodic: return periodic_phase(function, state);
      case Pattern::regular: {  // one to four of the four stages are left
        double product = 1;
        auto stages = static_cast<std::uint64_t>(1 + 4 * draw(state, 5));
        for (std::uint64_t i = 0; i < stages; ++i) product *= draw(state, i);
        return -state.gap / 4 * portable_log(product);
      }
      case Pattern::random: return gap(function, state);
      case Pattern::bursty:  // half of the time passes in long gaps
        return -state.gap * (draw(state, 1) < 0.5 ? kShortGap : kLongGap) *
               portable_log(draw(state, 0));
    }
    return 0;
  }

  // Timers fire on the minute as cron does, each with its own delay below a second [ours].
  static double periodic_phase(const AzureFunction& function, const State& state) {
    if (function.trigger != Trigger::timer) return state.gap * draw(state, 0);
    double step = std::min(state.gap, 60e9);
    return std::floor(draw(state, 0) * state.gap / step) * step +
           draw(state, 1) * std::min(step, 1e9);
  }

  static double gap(const AzureFunction& function, const State& state) {
    switch (function.pattern) {
      case Pattern::periodic: return state.gap;
      case Pattern::regular:
        return -state.gap / 4 *
               portable_log(draw(state, 0) * draw(state, 1) * draw(state, 2) * draw(state, 3));
      case Pattern::random: return -state.gap * portable_log(draw(state, 0));
      case Pattern::bursty:
        return -state.gap * (draw(state, 1) < kShortShare ? kShortGap : kLongGap) *
               portable_log(draw(state, 0));
    }
    return state.gap;
  }

  Time time_of(const AzureFunction& function, const State& state) const {
    double nanos =
        function.pattern == Pattern::periodic ? state.even_nanos : week_.unwarp(state.even_nanos);
    return nanos < 9e18 ? Time{static_cast<std::int64_t>(nanos)} : kNever;
  }

  // Restores the heap after its first element changed.
  void sink_first() {
    if (heap_.empty()) return;
    Next moved = heap_[0];
    std::size_t at = 0;
    while (true) {
      std::size_t child = 2 * at + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child] < heap_[child + 1]) ++child;
      if (!(moved < heap_[child])) break;
      heap_[at] = heap_[child];
      at = child;
    }
    heap_[at] = moved;
  }

  void show() {
    if (heap_.empty()) return;
    const Next& first = heap_.front();
    const State& state = states_[first.function];
    double nanos =
        portable_exp(state.log_service + shape_.service_spread * normal_quantile(draw(state, 7)));
    shown_.at = first.at;
    shown_.function = first.function;
    shown_.service = std::min(from_nanos(nanos), shape_.service_max);
  }

  AzureShape shape_;
  Week week_;
  AzurePlan plan_;
  std::vector<State> states_;
  std::vector<Next> heap_;
  Arrival shown_;
};

}  // namespace

double azure_app_calls_per_day(double u) {
  constexpr std::size_t kLast = std::size(kAppRate) - 1;
  std::size_t i = 1;
  while (i < kLast && u > kAppRate[i].u) ++i;
  const Quantile& low = kAppRate[i - 1];
  const Quantile& high = kAppRate[i];
  double share = (u - low.u) / (high.u - low.u);
  return low.per_day * portable_pow(high.per_day / low.per_day, share);
}

AzurePlan azure_plan(const AzureShape& shape, std::uint64_t seed) {
  return Planner(shape, seed).take();
}

std::unique_ptr<Source> azure_functions_shape(const AzureShape& shape, std::uint64_t seed) {
  return std::make_unique<AzureSource>(shape, seed);
}

}  // namespace chalk::sim
