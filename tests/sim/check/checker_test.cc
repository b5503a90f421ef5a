#include "sim/check/checker.h"

#include <gtest/gtest.h>

namespace chalk::sim {
namespace {

// The checker compares what really was saved with where it is restored, whatever the machines think.
TEST(Checker, ASnapshotIsRestoredOnlyWhereItRuns) {
  const auto broken = [](MachineKind made_on, MachineKind here) {
    Checker checker({});
    LiveSandbox sandbox;
    sandbox.sandbox = {7};
    checker.restored(Time{5}, sandbox, made_on, here);
    return checker.broken_count();
  };
  EXPECT_EQ(broken({1, 0b01}, {1, 0b01}), 0u);
  EXPECT_EQ(broken({1, 0b01}, {1, 0b11}), 0u);
  EXPECT_EQ(broken({1, 0b11}, {1, 0b01}), 1u);
  EXPECT_EQ(broken({1, 0b10}, {1, 0b01}), 1u);
  EXPECT_EQ(broken({1, 0}, {2, 0}), 1u);
  EXPECT_EQ(broken({}, {1, 0}), 1u) << "never saved at all";
}

}  // namespace
}  // namespace chalk::sim
