// What each policy of placement is, on a handful of nodes.
#include <algorithm>
#include <set>

#include "model/core/codec.h"
#include "model/core/digest.h"
#include "tests/model/scheduler/desk.h"

namespace chalk::scheduler {
namespace {

Desk desk_of(Policy policy) { return Desk(Config{.placing = policy}); }

TEST(Policy, LogsFromBeforeThereWerePoliciesReadAsBestFit) {
  EXPECT_EQ(encode(Placing(Policy::best_fit, true)), encode(true));
  EXPECT_EQ(encode(Placing(Policy::best_fit, false)), encode(false));
  EXPECT_EQ(digest_of(Placing()), digest_of(true));
  Placing read;
  ASSERT_TRUE(decode(encode(Placing(Policy::fgd, false)), read));
  EXPECT_EQ(read.policy(), Policy::fgd);
  EXPECT_FALSE(read.spread_zones());
}

TEST(Policy, LeastAllocatedTakesTheEmptiestNodeAndGpu) {
  Desk desk = desk_of(Policy::least_allocated);
  desk.add(1, cores(8, 2), 1, 7);
  desk.add(2, cores(16, 2), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 1, 400)), 2u);
  EXPECT_EQ(desk.ask(gpu(2, 1, 400)), Effect(Placed{{2}, {1}, 1u, false}));
  EXPECT_EQ(desk.place(one(3, 4000)), 2u);
  EXPECT_EQ(desk.ask(gpu(4, 1, 400)), Effect(Placed{{4}, {1}, 2u, false}));
}

TEST(Policy, LeastAllocatedLooksOnlyAtASampleOfManyNodes) {
  Desk desk = desk_of(Policy::least_allocated);
  for (std::uint64_t node = 1; node <= 300; ++node) desk.add(node, cores(8), 1, 7);
  desk.add(301, cores(64), 1, 7);
  // 50 - 301 / 125 percent of 301 nodes are 144; the next scan begins where this one ended.
  EXPECT_EQ(desk.place(one(1)), 1u);
  EXPECT_EQ(desk.place(one(2)), 145u);
  EXPECT_EQ(desk.place(one(3)), 301u);
}

TEST(Policy, FirstFitTakesTheFirst) {
  Desk desk = desk_of(Policy::first_fit);
  desk.add(1, cores(1, 2), 1, 7);
  desk.add(2, cores(8, 2), 1, 7);
  EXPECT_EQ(desk.place(one(1, 2000)), 2u);
  EXPECT_EQ(desk.ask(gpu(2, 1, 600)), Effect(Placed{{2}, {1}, 1u, false}));
  EXPECT_EQ(desk.ask(gpu(3, 1, 600)), Effect(Placed{{3}, {2}, 1u, false}));
  EXPECT_EQ(desk.ask(gpu(4, 1, 600)), Effect(Placed{{4}, {2}, 2u, false}));
  EXPECT_EQ(desk.ask(gpu(5, 1, 300)), Effect(Placed{{5}, {2}, 1u, false}));
}

TEST(Policy, PowerOfTwoSpreadsOverNodesThatFit) {
  Desk desk = desk_of(Policy::power_of_two);
  for (std::uint64_t node = 1; node <= 8; ++node) desk.add(node, cores(8), 1, 7);
  desk.add(9, cores(1), 1, 7);
  std::set<std::uint64_t> used;
  for (std::uint64_t sandbox = 1; sandbox <= 16; ++sandbox) {
    used.insert(desk.place(one(sandbox, 2000)));
  }
  EXPECT_GE(used.size(), 6u);
  EXPECT_FALSE(used.contains(9));
}

TEST(Policy, FgdLeavesTheCpuThatGpusNeed) {
  Desk desk = desk_of(Policy::fgd);
  desk.add(1, cores(7, 4), 1, 7);
  desk.add(2, cores(16, 4), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 1, 465)), 1u);
  EXPECT_EQ(desk.place(one(2, 6000)), 2u);  // best fit would strand the GPUs of node 1
}

TEST(Policy, FgdFillsTheGpuThatIsAFragmentAlready) {
  Desk desk = desk_of(Policy::fgd);
  desk.add(1, cores(64, 3), 1, 7);
  EXPECT_EQ(desk.ask(gpu(1, 1, 1000)), Effect(Placed{{1}, {1}, 1u, false}));
  EXPECT_EQ(desk.ask(gpu(2, 1, 700)), Effect(Placed{{2}, {1}, 2u, false}));
  desk.send(Released{{1}});
  EXPECT_EQ(desk.ask(gpu(3, 1, 300)), Effect(Placed{{3}, {1}, 2u, false}));
}

TEST(Policy, FragFitTakesTheSmallestThenTheFullestNodeAmongEquals) {
  Desk desk = desk_of(Policy::frag_fit);
  desk.add(1, cores(64, 8), 1, 7);
  desk.add(2, cores(64, 4), 1, 7);
  desk.add(3, cores(32, 4), 1, 7);
  desk.add(4, cores(64, 4), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 1, 1000)), 3u);  // nothing is a fragment to the only kind so far
  for (std::uint64_t i = 2; i <= 4; ++i) EXPECT_EQ(desk.place(gpu(i, 1, 1000)), 3u);
  EXPECT_EQ(desk.place(gpu(5, 1, 1000)), 2u);
  EXPECT_EQ(desk.place(gpu(6, 1, 1000)), 2u);
  Desk first = desk_of(Policy::fgd);
  first.add(1, cores(64, 8), 1, 7);
  first.add(2, cores(64, 4), 1, 7);
  EXPECT_EQ(first.place(gpu(1, 1, 1000)), 1u);
}

TEST(Policy, FgdLearnsTheMostFrequentRequestsOnly) {
  Desk desk = desk_of(Policy::fgd);
  desk.add(1, cores(1000, 1));
  for (std::uint64_t i = 1; i <= 200; ++i) {
    const auto millis = static_cast<std::int32_t>(i % 2 == 0 ? 10 : i);
    desk.refused(gpu(i, 1, millis, 0x80));
  }
  const Mix& mix = desk.state().mix;
  EXPECT_EQ(mix.kinds.size(), kTypicalMax);
  EXPECT_EQ(mix.total, 200u);
  std::uint64_t most = 0, sum = 0;
  std::int32_t which = 0;
  for (const Typical& kind : mix.kinds) {
    sum += kind.count;
    if (kind.count > most) which = kind.ask.gpu_millis;
    most = std::max(most, kind.count);
  }
  EXPECT_EQ(which, 10);
  EXPECT_GE(most, 100u);
  EXPECT_EQ(sum, 200u);
}

}  // namespace
}  // namespace chalk::scheduler
