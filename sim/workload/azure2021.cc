// Azure Functions 2021: app,func,end_timestamp,duration in seconds, one row per call, in no order.
//
// The reader computes the start of each call and puts the calls in order of it (external_sort.h),
// so its memory is bounded by the functions and sort_memory_bytes. Where the first start lies
// before 0 everything moves so that it is at 0. An app is a tenant and an image; func is unique
// only within its app.
#include <algorithm>
#include <unordered_map>

#include "sim/workload/csv.h"
#include "sim/workload/distribution.h"
#include "sim/workload/external_sort.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr double kSecondsMax = 3e8;  // below kDurationMax, so nothing is cut silently

struct Call {
  std::int64_t at;
  std::uint64_t sequence;
  std::int64_t service_nanos;
  std::uint32_t function;
};

class Azure2021 : public Source {
 public:
  Azure2021(const std::string& path, const TraceOptions& options)
      : calls_(options.sort_memory_bytes) {
    CsvFile csv(path);
    std::size_t app = csv.column("app");
    std::size_t function = csv.column("func");
    std::size_t end = csv.column("end_timestamp");
    std::size_t duration = csv.column("duration");
    std::int64_t first = 0;
    while (csv.next_row()) {
      Call call{};
      call.service_nanos = from_nanos(csv.number(duration, 0, kSecondsMax) * 1e9).nanos;
      call.at = from_nanos(csv.number(end, 0, kSecondsMax) * 1e9).nanos - call.service_nanos;
      call.function = function_number(csv.name(app), csv.name(function));
      first = std::min(first, call.at);
      calls_.add(call);
    }
    shift_nanos_ = -first;
    calls_.finish();
    numbers_ = {};
    apps_ = {};
    show();
  }

  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return calls_.empty() ? nullptr : &shown_; }
  void pop() override {
    if (calls_.empty()) return;
    calls_.pop();
    ++popped_;
    show();
  }
  bool exhausted() const override { return calls_.empty(); }
  double progress() const override {
    return calls_.empty() ? 1 : static_cast<double>(popped_) / static_cast<double>(calls_.total());
  }

 private:
  std::uint32_t function_number(std::string_view app, std::string_view function) {
    key_.assign(app).append(",").append(function);
    auto found = numbers_.find(key_);
    if (found != numbers_.end()) return found->second;
    auto number = static_cast<std::uint32_t>(catalogue_.functions.size());
    auto [at, is_new] =
        apps_.try_emplace(std::string(app), static_cast<std::uint32_t>(catalogue_.tenants.size()));
    if (is_new) {
      catalogue_.tenants.emplace_back(app);
      catalogue_.images.emplace_back(app);
    }
    catalogue_.functions.push_back(
        {std::string(app) + "/" + std::string(function), at->second, at->second, 0, 0});
    numbers_.emplace(key_, number);
    return number;
  }

  void show() {
    if (calls_.empty()) return;
    const Call& call = calls_.front();
    shown_.at = {call.at + shift_nanos_};
    shown_.function = call.function;
    shown_.service = {call.service_nanos};
  }

  Catalogue catalogue_;
  ExternalSort<Call> calls_;
  std::unordered_map<std::string, std::uint32_t> numbers_;  // looked up, never walked
  std::unordered_map<std::string, std::uint32_t> apps_;
  std::string key_;
  std::int64_t shift_nanos_ = 0;
  std::uint64_t popped_ = 0;
  Arrival shown_;
};

}  // namespace

std::unique_ptr<Source> open_azure2021(const std::string& file, const TraceOptions& options) {
  return std::make_unique<Azure2021>(file, options);
}

}  // namespace chalk::sim
