// What an operator drains takes nothing, also after it booted anew, until that is taken back.
#include <gtest/gtest.h>

#include "tests/model/control/plane.h"

namespace chalk::control {
namespace {

TEST(Drains, ADrainedMachineThatBootsAnewTakesWhatWaitsOnlyWhenItIsTakenBack) {
  Plane plane;
  const NodeId node = plane.join(4);
  plane.step(fleet::DrainAsked{node, true});
  const SandboxId waits = plane.ask(1, 0);
  EXPECT_FALSE(plane.placed(waits));
  const std::uint64_t key = plane.control().fleet().state().nodes.at(node).key;
  plane.step(NodeRegistration{key, 2, 0, {1}, {1}, shape(4)});
  EXPECT_FALSE(plane.placed(waits)) << "it joins drained";
  plane.step(fleet::UndrainAsked{key});
  EXPECT_TRUE(plane.placed(waits));
}

}  // namespace
}  // namespace chalk::control
