#include "sim/check/checker.h"

#include <gtest/gtest.h>

#include "tests/support/said.h"

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

Time at(std::int64_t s) { return {seconds(s).nanos}; }

// A control plane that tries nothing of itself, as if a round of attempts had been left open.
class Stuck {
 public:
  Stuck() {
    fleet::PoolAdded pool{{1}, {}};
    pool.policy.zones = {{1}};
    test::tell(control_, at(0), pool);
    for (std::uint64_t id = 1; id <= 2; ++id) {
      tenancy::TenantAdded tenant;
      tenant.tenant = {id};
      test::tell(control_, at(0), tenant);
    }
  }
  void ask(std::uint64_t tenant, std::int64_t cores) {
    control::SandboxRequested asked;
    asked.reply_to = tenant;
    asked.tenant = {tenant};
    asked.resources = {.cpu_millicores = cores * 1000};
    test::tell(control_, at(1), asked);
  }
  void join(std::int64_t cores) {
    control::State state = control_.state();
    state.tenancy.round.open = true;
    control_ = control::Control({}, state);
    NodeRegistration node{7, 1, 0, {1}, {1}, {.cpu_millicores = cores * 1000}};
    test::tell(control_, at(2), node);
  }
  std::uint64_t broken(std::int64_t when) const {
    Checker checker({});
    checker.compare(at(when), {}, {}, control_);
    return checker.broken_count();
  }

 private:
  control::Control control_{{}};
};

TEST(Checker, NobodyFirstInLineWaitsBesideAnIdleNodeThatIsOfUseToNobodyElse) {
  Stuck stuck;
  stuck.ask(1, 4);
  EXPECT_EQ(stuck.broken(60), 0u) << "there is no node";
  stuck.join(4);
  EXPECT_EQ(stuck.broken(6), 0u) << "it has just come";
  EXPECT_EQ(stuck.broken(7), 1u);
  Stuck both;
  both.ask(1, 4);
  both.ask(2, 3);
  both.join(4);
  EXPECT_EQ(both.broken(60), 0u) << "it may be kept for the other";
  Stuck small;
  small.ask(1, 4);
  small.join(3);
  EXPECT_EQ(small.broken(60), 0u) << "it does not fit";
}

}  // namespace
}  // namespace chalk::sim
