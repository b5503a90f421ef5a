// Seeded generators of workload. Each is a pure function of its parameters and its seed; parameters
// that make no sense throw std::invalid_argument. docs/workloads.md describes them for users.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "sim/workload/distribution.h"
#include "sim/workload/pace.h"
#include "sim/workload/source.h"
#include "sim/workload/work.h"

namespace chalk::sim {

// Arrivals that do not wait for answers. Endless: cut() it.
std::unique_ptr<Source> open_loop(const Pace& pace, const Work& work, std::uint64_t seed);

// Clients that think, ask, wait for finished(client), and think again. The first ask of each comes
// after a first thought. Who is answered in the moment of asking asks again 1 ms later at the
// earliest. peek is nullptr while all of them wait. Endless: cut() it.
struct ClosedLoop {
  std::uint32_t clients = 1;
  Distribution think;
};
std::unique_ptr<Source> closed_loop(const ClosedLoop& loop, const Requests& requests,
                                    std::uint64_t seed);

// The union of several sources in order of time; at one instant the earlier source goes first.
// Tenants, images and GPU models of one name are one; functions stay apart ("name@source" where two
// sources have the same name); clients are numbered anew.
std::unique_ptr<Source> merge(std::vector<std::unique_ptr<Source>> sources);

// Ends a source after so many arrivals, and before a time.
struct Cut {
  std::uint64_t arrivals_max = std::numeric_limits<std::uint64_t>::max();
  Time before = kNever;
};
std::unique_ptr<Source> cut(std::unique_ptr<Source> source, const Cut& at);

}  // namespace chalk::sim
