// A generator in the shape of Azure Functions 2019 as Shahrad et al. describe it: "Serverless in
// the Wild", USENIX ATC 2020. It needs no trace and takes any number of apps.
//
// Marks, here and in docs/workloads.md: [P] is in the paper's text, which was compared with this;
// [R] was read by others off the paper's figures (M. Shilkov, 2020) or rounded by them; [M] is from
// memory of the paper and was not compared; [ours] is our choice. tests/sim/workload checks the
// marginals. Memory is O(functions); each function draws from its own counter-based stream.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sim/workload/pace.h"
#include "sim/workload/source.h"

namespace chalk::sim {

struct AzureShape {
  std::uint32_t apps = 100;
  Duration length = seconds(86'400);      // no arrival at or after it
  double rate_scale = 1;                  // multiplies every rate; a timer's to one a second
  double app_calls_per_day_max = 86'400;  // then cuts each app's; [ours], for a finite load
  Duration service_max = seconds(600);    // [ours] no call takes longer
  double service_spread = 0.5;            // [ours] log sigma of one function's calls
  std::int64_t memory_bytes_max = std::int64_t{1536} << 20;  // [ours]
  std::uint32_t tenants = 0;                                 // 0: one per three apps, [ours]
  double swing = 0.26;    // of the day, and the weekend's share: together the
  double weekend = 0.85;  // least hour has half of the peak's calls, as in [P]
};

enum class Trigger : std::uint8_t { http, queue, event, timer, orchestration, storage, others };
inline constexpr std::size_t kTriggers = 7;
inline constexpr std::array<std::string_view, kTriggers> kTriggerNames = {
    "http", "queue", "event", "timer", "orchestration", "storage", "others"};

// How the calls of one function follow each other: coefficient of variation 0, 0.5, 1, 3.
enum class Pattern : std::uint8_t { periodic, regular, random, bursty };

struct AzureFunction {
  std::uint32_t app = 0;
  Trigger trigger = Trigger::http;
  Pattern pattern = Pattern::random;
  double app_calls_per_day = 0;     // before rate_scale and the cut
  double calls_per_day = 0;         // after
  double service_mean_seconds = 0;  // before the cut at service_max
};

struct AzurePlan {
  Catalogue catalogue;
  std::vector<AzureFunction> functions;  // one per function of the catalogue
  double calls_expected = 0;             // within the length
};

// Throws std::invalid_argument for parameters that make no sense or over 20,000,000 functions.
AzurePlan azure_plan(const AzureShape& shape, std::uint64_t seed);
std::unique_ptr<Source> azure_functions_shape(const AzureShape& shape, std::uint64_t seed);

// The calls per day of an app at probability `u` of 0..1.
double azure_app_calls_per_day(double u);

}  // namespace chalk::sim
