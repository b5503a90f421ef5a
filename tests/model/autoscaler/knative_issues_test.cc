// Loads under which users of Knative reported its autoscaler, here under its rules and under ours.
#include <gtest/gtest.h>

#include "tests/model/autoscaler/group_world.h"

namespace chalk::autoscaler {
namespace {

// knative/serving #9121 and #10275: a burst that panics, quiet beyond the panic's window, and the
// plan collapses until the next burst. How few replicas the later bursts found ready, from the
// fourth on: by then ours knows how long a start and a call take.
std::uint32_t least_found_by_bursts(Kind kind) {
  GroupPolicy policy;
  policy.kind = kind;
  GroupWorld world(policy);
  std::uint32_t least = 1000;
  for (int burst = 0; burst < 20; ++burst) {
    if (burst > 2) least = std::min(least, world.ready());
    for (int s = 0; s < 100; ++s) {
      const std::uint32_t calls = s < 5 ? 20 : 1;
      world.set_busy(std::min(calls, world.ready()));
      world.set_queued(calls - std::min(calls, world.ready()));
      world.report();
      world.run_until(world.now + seconds(1));
      if (s % 2 == 1) world.finish_starts();
      world.drain();
    }
  }
  return least;
}

TEST(KnativeIssues, AfterABurstTheirPlanCollapsesAndOursStays) {
  EXPECT_LE(least_found_by_bursts(Kind::kpa), 3u);
  EXPECT_GE(least_found_by_bursts(Kind::chalk), 20u);
}

}  // namespace
}  // namespace chalk::autoscaler
