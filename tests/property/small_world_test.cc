// Short random worlds with random faults: every invariant, at every step; what breaks one is shrunk
// to a case of a few lines. tests/planted shows that bugs are found this way.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "sim/world/world.h"
#include "tests/property/small_case.h"

namespace chalk::sim {
namespace {

RC_GTEST_PROP(SmallWorld, BreaksNoInvariant, ()) {
  const SmallCase c = *small_cases();
  RunOptions options;
  options.seed = static_cast<std::uint64_t>(c.seed);
  options.compare_each_step = true;
  const Result result = run_world(setup_of(c), options);
  if (result.broken.empty()) return;
  RC_LOG() << "broken: " << result.broken.front() << "\nlines of the case: " << c.lines() << "\n";
  RC_FAIL(result.broken.front());
}

}  // namespace
}  // namespace chalk::sim
