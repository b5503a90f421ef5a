// What the policies that look at every node share, and each of them. They are what best_fit is
// compared with: plain, a scan for each ask.
#pragma once
#include <cstdint>
#include <vector>

#include "model/scheduler/placement.h"

namespace chalk::scheduler {

// Slots of the nodes where an ask fits and among which a policy may choose, in order of slots:
// owned by the asker, or if there is none free ones; of these in the zone with fewest of the group.
using Candidates = std::vector<std::uint32_t>;
Candidates candidates_for(const Config& config, const State& state, const PlaceAsked& asked);

// Millionths of cpu and memory that would be left on the node, each as a share of what it has.
std::int64_t share_left(const State& state, std::uint32_t slot, const Resources& ask);
// Index of the GPU with most free that holds `millis`. Lowest among equals.
std::int32_t emptiest_gpu(const GpuRow& row, std::int32_t millis);

// Each chooses from candidates, of which there is at least one.
Pick least_allocated(State& state, const PlaceAsked& asked, const Candidates& candidates);
Pick first_fit(const State& state, const PlaceAsked& asked, const Candidates& candidates);
Pick power_of_two(const State& state, const PlaceAsked& asked, const Candidates& candidates);
Pick least_growth(const State& state, const PlaceAsked& asked, const Candidates& candidates,
                  bool best_fit);

}  // namespace chalk::scheduler
