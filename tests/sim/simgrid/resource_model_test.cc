#include "sim/simgrid/resource_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <stdexcept>

#include "model/core/random.h"
#include "sim/simgrid/isolated.h"
#include "tests/sim/simgrid/fluid_oracle.h"

namespace chalk::sim {
namespace {

constexpr double kGigabyte = 1e9;

Platform two_zones() {
  Platform platform;
  for (const char* name : {"a", "b"}) {
    platform.zones.push_back(
        {name, 2 * kGigabyte, 100 * kGigabyte, microseconds(100), 4 * kGigabyte});
  }
  for (std::uint32_t i = 0; i < 8; ++i) {
    platform.hosts.push_back({i % 2, 4, 1 * kGigabyte, 0.5 * kGigabyte});
  }
  platform.between_zones_latency = milliseconds(1);
  platform.between_zones_bytes_per_second = 0.5 * kGigabyte;
  return platform;
}

std::vector<Completion> drain(ResourceModel& model) {
  std::vector<Completion> all;
  while (const auto completion = model.advance(kNever)) all.push_back(*completion);
  return all;
}

std::string text(const std::vector<Completion>& completions) {
  std::string out;
  for (const Completion& done : completions) {
    out += std::to_string(done.activity) + "@" + std::to_string(done.at.nanos) +
           (done.failed ? " failed\n" : "\n");
  }
  return out;
}

TEST(ResourceModel, OnePullTakesLatencyThenTheSlowestLinkThenTheDisk) {
  ResourceModel model(two_zones());
  model.pull(7, Time{5}, 0, 0, 1'000'000'000, 250'000'000);
  EXPECT_EQ(model.pending(), 1u);
  EXPECT_EQ(model.advance(Time{1'500'100'004}), std::nullopt);
  // 0.1 ms, then 1 s at the 1 GB/s of the host's link, then 0.5 s at 0.5 GB/s.
  EXPECT_EQ(model.advance(Time{1'500'100'005}), (Completion{7, Time{1'500'100'005}, false}));
  EXPECT_EQ(model.pending(), 0u);
}

TEST(ResourceModel, PullsShareTheRegistryAndSpeedUpWhenOneLeaves) {
  ResourceModel model(two_zones());
  // Four hosts of zone a at 0.5 GB/s each; the first is over at 1 s, the others then get 2/3 GB/s.
  model.pull(1, Time{}, 0, 0, 500'000'000, 0);
  for (std::uint64_t i = 1; i < 4; ++i) {
    model.pull(i + 1, Time{}, static_cast<std::uint32_t>(2 * i), 0, 1'500'000'000, 0);
  }
  const std::int64_t latency = 100'000;
  EXPECT_EQ(text(drain(model)), text({{1, Time{1'000'000'000 + latency}, false},
                                      {2, Time{2'500'000'000 + latency}, false},
                                      {3, Time{2'500'000'000 + latency}, false},
                                      {4, Time{2'500'000'000 + latency}, false}}));
}

TEST(ResourceModel, AnotherZonesRegistryIsFurtherAndBehindTheZonesLink) {
  ResourceModel model(two_zones());
  model.pull(1, Time{}, 0, 1, 500'000'000, 0);
  // 0.1 + 1 + 0.1 ms, then 0.5 GB/s between the zones.
  EXPECT_EQ(text(drain(model)), "1@1001200000\n");
}

TEST(ResourceModel, ATransferWithinAZoneCrossesItsBackboneOnce) {
  Platform platform = two_zones();
  platform.zones[0].backbone_bytes_per_second = 0.25 * kGigabyte;
  ResourceModel model(platform);
  model.transfer(1, Time{}, 0, 2, 250'000'000);
  EXPECT_EQ(text(drain(model)), "1@1000100000\n");
}

TEST(ResourceModel, ALinkCarriesItsSpeedInBothDirectionsAtOnce) {
  ResourceModel model(two_zones());
  model.transfer(1, Time{}, 0, 2, 1'000'000'000);
  model.transfer(2, Time{}, 2, 0, 1'000'000'000);
  model.fetch_object(3, Time{}, 4, 1'000'000'000);
  model.store_object(4, Time{}, 4, 1'000'000'000);
  EXPECT_EQ(text(drain(model)), "1@1000100000\n2@1000100000\n3@1000100000\n4@1000100000\n");
}

TEST(ResourceModel, ExecutionsAreBoundedByTheirCapAndShareCoresByIt) {
  ResourceModel model(two_zones());
  model.execute(1, Time{}, 0, seconds(1), 500);  // alone on half a core: 2 s
  EXPECT_EQ(text(drain(model)), "1@2000000000\n");
  // Caps of 4 and 4 and 2 cores on 4 cores: 1.6, 1.6 and 0.8.
  const Time now{2'000'000'000};
  model.execute(2, now, 0, seconds(16), 4000);
  model.execute(3, now, 0, seconds(16), 0);
  model.execute(4, now, 0, seconds(4), 2000);
  // At 5 s from there the last has ended and the others have 8 s of work left at 2 cores each.
  EXPECT_EQ(text(drain(model)), "4@7000000000\n2@11000000000\n3@11000000000\n");
}

TEST(ResourceModel, NothingToDoIsOverAtOnceOrAfterTheLatency) {
  ResourceModel model(two_zones());
  model.execute(1, Time{10}, 0, Duration{}, 1000);
  model.transfer(2, Time{10}, 3, 3, 1'000'000'000);
  model.pull(3, Time{10}, 0, 0, 0, 0);
  model.transfer(4, Time{10}, 0, 1, 0);
  EXPECT_EQ(text(drain(model)), "1@10\n2@10\n3@100010\n4@1200010\n");
}

TEST(ResourceModel, TiesComeInTheOrderOfStartWhateverTheirKind) {
  ResourceModel model(two_zones());
  model.execute(9, Time{}, 0, microseconds(1'200), 1000);
  model.transfer(8, Time{}, 0, 1, 0);
  model.execute(7, Time{}, 2, microseconds(1'200), 1000);
  model.execute(6, Time{}, 0, microseconds(1'200), 1000);
  EXPECT_EQ(text(drain(model)), "9@1200000\n8@1200000\n7@1200000\n6@1200000\n");
}

TEST(ResourceModel, ARegistryServesNoMoreThanItsLimitAndTheRestInOrder) {
  Platform platform = two_zones();
  platform.zones[0].pulls_at_once = 2;
  ResourceModel model(platform);
  for (std::uint64_t i = 0; i < 4; ++i) {
    model.pull(i, Time{}, static_cast<std::uint32_t>(2 * i), 0, 1'000'000'000, 500'000'000);
  }
  // Two at a time at 1 GB/s; unpacking for 1 s does not hold a place at the registry.
  EXPECT_EQ(text(drain(model)), "0@2000100000\n1@2000100000\n2@3000100000\n3@3000100000\n");
}

TEST(ResourceModel, EachRegistryHasALimitOfItsOwn) {
  Platform platform = two_zones();
  platform.zones[0].pulls_at_once = 1;
  ResourceModel model(platform);
  for (std::uint64_t i = 0; i < 4; ++i) {
    const auto host = static_cast<std::uint32_t>(i);
    model.pull(i, Time{}, host, host % 2, 1'000'000'000, 0);
  }
  // Zone a serves one after the other, zone b both at once.
  EXPECT_EQ(text(drain(model)), "0@1000100000\n1@1000100000\n3@1000100000\n2@2000100000\n");
}

TEST(ResourceModel, ACancelledPullGivesItsShareAndItsPlaceBack) {
  Platform platform = two_zones();
  platform.zones[0].latency = Duration{};
  platform.zones[0].pulls_at_once = 3;
  ResourceModel model(platform);
  for (std::uint64_t i = 0; i < 4; ++i) {
    model.pull(i, Time{}, static_cast<std::uint32_t>(2 * i), 0, 1'000'000'000, 0);
  }
  model.cancel(99, Time{});
  ASSERT_EQ(model.advance(Time{300'000'000}), std::nullopt);
  model.cancel(0, Time{300'000'000});  // each of three has 0.2 GB; now the fourth begins
  EXPECT_EQ(model.pending(), 3u);
  // 1 and 2 need 0.8 GB more at 2/3 GB/s: 1.5 s. The fourth then has 0.2 GB left... in 1.2 s.
  const std::vector<Completion> all = drain(model);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0], (Completion{1, Time{1'500'000'000}, false}));
  EXPECT_EQ(all[1], (Completion{2, Time{1'500'000'000}, false}));
  EXPECT_EQ(all[2], (Completion{3, Time{1'700'000'000}, false}));
  model.cancel(3, Time{1'700'000'000});
}

TEST(ResourceModel, ASlowRegistrySlowsTransfersUnderWayAndRecovers) {
  ResourceModel model(two_zones());
  model.pull(1, Time{}, 0, 0, 1'000'000'000, 0);
  const std::int64_t latency = 100'000;
  model.set_registry_speed(0, Time{500'000'000 + latency}, 100);  // 0.2 GB/s
  model.set_registry_speed(0, Time{1'000'000'000 + latency}, 0);  // hangs with 0.4 GB left
  EXPECT_EQ(model.advance(Time{100'000'000'000}), std::nullopt);
  model.set_registry_speed(0, Time{100'000'000'000 + latency}, 1000);
  const auto done = model.advance(kNever);
  ASSERT_TRUE(done);
  // While it hangs 9.9 bytes come through (see FlowEngine::set_registry_speed).
  EXPECT_EQ(done->at, Time{100'400'100'000 - 10});
}

TEST(ResourceModel, APullThatBeganAtASlowRegistryGetsFasterWithIt) {
  ResourceModel model(two_zones());
  model.set_registry_speed(0, Time{}, 100);
  model.pull(1, Time{}, 0, 0, 1'000'000'000, 0);
  model.set_registry_speed(0, Time{1'000'100'000}, 1000);  // 0.8 GB are left
  EXPECT_EQ(text(drain(model)), "1@1800100000\n");
}

TEST(ResourceModel, ARegistryThatIsSlowBeforeTheFirstPullIsSlow) {
  ResourceModel model(two_zones());
  model.set_registry_speed(0, Time{}, 50);
  model.pull(1, Time{}, 0, 0, 100'000'000, 0);
  EXPECT_EQ(text(drain(model)), "1@1000100000\n");
}

TEST(ResourceModel, AHostThatGoesDownFailsWhatNeedsItAndFreesTheRest) {
  Platform platform = two_zones();
  platform.zones[0].pulls_at_once = 1;
  ResourceModel model(platform);
  model.pull(1, Time{}, 0, 0, 1'000'000'000, 0);  // under way
  model.pull(2, Time{}, 0, 0, 1'000'000'000, 0);  // waits
  model.transfer(3, Time{}, 2, 0, 1'000'000'000);
  model.execute(4, Time{}, 0, seconds(100), 1000);
  model.execute(5, Time{}, 2, seconds(2), 1000);
  model.pull(6, Time{}, 4, 0, 1'000'000'000, 0);  // waits behind 2
  model.host_down(0, Time{500'000'000});
  model.execute(7, Time{500'000'000}, 0, seconds(1), 1000);
  const std::string lost =
      "1@500000000 failed\n2@500000000 failed\n3@500000000 failed\n4@500000000 failed\n"
      "7@500000000 failed\n";
  EXPECT_EQ(text(drain(model)), lost + "6@1500000000\n5@2000000000\n");
  model.host_up(0, Time{2'000'000'000});
  model.execute(8, Time{2'000'000'000}, 0, seconds(1), 1000);
  EXPECT_EQ(text(drain(model)), "8@3000000000\n");
}

TEST(ResourceModel, RefusesImpossiblePlatformsByName) {
  const auto refusal = [](auto change) -> std::string {
    Platform platform = two_zones();
    change(platform);
    try {
      ResourceModel model(platform);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal([](Platform&) {}), "accepted");
  EXPECT_EQ(refusal([](Platform& p) { p.hosts[3].zone = 9; }),
            "platform: host 3: zone 9 of 2 does not exist");
  EXPECT_EQ(refusal([](Platform& p) { p.hosts[3].cores = 0; }),
            "platform: host 3: cores must be 0.001 to 65536, not 0");
  EXPECT_EQ(refusal([](Platform& p) { p.zones.clear(); }), "platform: it has no zone");
  EXPECT_EQ(refusal([](Platform& p) { p.zones[1].registry_bytes_per_second = -1; }),
            "platform: zone 'b': registry_bytes_per_second must be above 0, not -1.000000");
  EXPECT_NE(refusal([](Platform& p) { p.hosts[0].disk_bytes_per_second = NAN; }), "accepted");
  EXPECT_NE(refusal([](Platform& p) { p.between_zones_bytes_per_second = 0; }), "accepted");
  EXPECT_NE(refusal([](Platform& p) { p.zones[0].latency = nanoseconds(-1); }), "accepted");
}

TEST(ResourceModel, TwoLivingModelsThatStartedSomethingAreRefused) {
  ResourceModel first(two_zones()), second(two_zones());
  first.execute(1, Time{}, 0, seconds(1), 0);
  EXPECT_THROW(second.execute(1, Time{}, 0, seconds(1), 0), std::logic_error);
}

// A random workload. `polls` adds idle calls of advance, which must change nothing.
std::string random_run(std::uint64_t seed, int polls) {
  Random random{seed};
  Platform platform = two_zones();
  for (PlatformZone& zone : platform.zones) zone.pulls_at_once = 5;
  ResourceModel model(platform);
  std::vector<Completion> all;
  const auto until = [&](Time next) {
    while (const auto done = model.advance(next)) all.push_back(*done);
  };
  Time now;
  for (std::uint64_t key = 1; key <= 400; ++key) {
    const Time next = now + nanoseconds(static_cast<std::int64_t>(random.below(60'000'000)));
    for (int i = 1; i < polls; ++i) {
      until(Time{now.nanos + (next - now).nanos / polls * i});
    }
    until(next);
    now = next;
    const auto host = static_cast<std::uint32_t>(random.below(8));
    const auto other = static_cast<std::uint32_t>(random.below(8));
    const auto amount = static_cast<std::int64_t>(random.below(200'000'000));
    switch (random.below(9)) {
      case 0:
      case 1: model.pull(key, now, host, other % 2, amount, amount / 2); break;
      case 2: model.transfer(key, now, host, other, amount); break;
      case 3: model.fetch_object(key, now, host, amount); break;
      case 4: model.store_object(key, now, host, amount); break;
      case 5: model.cancel(key - random.below(5), now); break;
      case 6:
        model.set_registry_speed(host % 2, now, static_cast<std::int32_t>(random.below(1000)) + 1);
        break;
      case 7:
        if (random.below(4) == 0) model.host_down(host, now);
        model.host_up(host, now);
        break;
      default:
        model.execute(key, now, host, nanoseconds(amount),
                      static_cast<std::int32_t>(amount % 5000));
    }
  }
  until(kNever);
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i].at < all[i - 1].at) return "time went back";
  }
  if (model.pending() != 0) return "something never ended";
  return text(all);
}

TEST(ResourceModel, RunsTheSameAgainInThisProcessAndInAnother) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const std::string here = random_run(seed, 1);
    EXPECT_GT(here.size(), 2000u) << here;
    EXPECT_EQ(here, random_run(seed, 1)) << "seed " << seed;
    EXPECT_EQ(here, run_isolated([&] { return random_run(seed, 1); })) << "seed " << seed;
    EXPECT_NE(here, random_run(seed + 100, 1));
  }
}

TEST(ResourceModel, AnswersDoNotDependOnHowOftenItIsAsked) {
  for (const std::uint64_t seed : {4, 5, 6}) {
    EXPECT_EQ(random_run(seed, 1), random_run(seed, 7)) << "seed " << seed;
  }
}

// Pulls, transfers and executions, cancelled and at changing speeds, against the fluid oracle:
// every completion within 2 ns.
void agrees_with_the_oracle(std::uint64_t seed) {
  Random random{seed};
  Platform platform = two_zones();
  for (PlatformZone& zone : platform.zones) {
    zone.latency = Duration{};
    zone.backbone_bytes_per_second = static_cast<double>(1 + random.below(6)) * 5e8;
  }
  platform.between_zones_latency = Duration{};
  ResourceModel model(platform);
  // 0,1 registries; 2,3 backbones; 4,5 up and 6,7 down between zones; per host 8+3h up, down,
  // cores.
  std::vector<long double> capacities;
  for (int i = 0; i < 2; ++i) capacities.push_back(2e9L);
  for (const PlatformZone& zone : platform.zones) {
    capacities.push_back(zone.backbone_bytes_per_second);
  }
  for (int i = 0; i < 4; ++i) capacities.push_back(0.5e9L);
  for (int host = 0; host < 8; ++host) {
    for (const long double speed : {1e9L, 1e9L, 4.0L}) capacities.push_back(speed);
  }
  oracle::Fluid fluid(capacities);
  const auto route = [](int from_link, int from_zone, int to_host) {
    const int to_zone = to_host % 2;
    std::vector<int> through{from_link, 2 + from_zone, 8 + 3 * to_host + 1};
    if (from_zone != to_zone) {
      for (const int at : {4 + from_zone, 6 + to_zone, 2 + to_zone}) through.push_back(at);
    }
    return through;
  };
  std::map<std::uint64_t, long double> expected;
  std::map<std::uint64_t, std::int64_t> actual;
  const auto run_to = [&](Time time) {
    while (!fluid.idle()) {
      const long double next = fluid.next_completion();
      const long double until = time == kNever ? next : time.nanos / 1e9L;
      for (const std::uint64_t key : fluid.run_to(std::min(next, until))) {
        expected[key] = fluid.now();
      }
      if (next >= until && time != kNever) break;
    }
    if (time != kNever && fluid.idle()) fluid.run_to(time.nanos / 1e9L);
    while (const auto done = model.advance(time)) actual[done->activity] = done->at.nanos;
  };
  Time now;
  for (std::uint64_t key = 1; key <= 120; ++key) {
    now = now + nanoseconds(static_cast<std::int64_t>(random.below(80'000'000)));
    run_to(now);
    const int host = static_cast<int>(random.below(8)), other = static_cast<int>(random.below(8));
    const auto amount = static_cast<std::int64_t>(random.below(300'000'000)) + 1;
    const auto to = static_cast<std::uint32_t>(host);
    const auto from = static_cast<std::uint32_t>(other);
    switch (random.below(5)) {
      case 0:
        model.pull(key, now, to, from % 2, amount, 0);
        fluid.start({key, route(other % 2, other % 2, host), static_cast<long double>(amount)});
        break;
      case 1:
        if (host == other) break;
        model.transfer(key, now, from, to, amount);
        fluid.start({key, route(8 + 3 * other, other % 2, host), static_cast<long double>(amount)});
        break;
      case 2: {
        const std::uint64_t gone = key - random.below(std::min<std::uint64_t>(key, 6));
        model.cancel(gone, now);
        fluid.remove(gone);
        break;
      }
      case 3: {
        const auto permille = static_cast<std::int32_t>(random.below(1500)) + 1;
        model.set_registry_speed(from % 2, now, permille);
        fluid.set_capacity(other % 2, 2e9L * permille / 1000);
        break;
      }
      default: {
        const auto cap = static_cast<std::int32_t>(random.below(4000)) + 1;
        model.execute(key, now, to, nanoseconds(amount), cap);
        fluid.start({key, {8 + 3 * host + 2}, amount / 1e9L, cap / 1000.0L, cap / 1000.0L});
      }
    }
  }
  run_to(kNever);
  ASSERT_EQ(expected.size(), actual.size());
  for (const auto& [key, seconds] : expected) {
    ASSERT_NEAR(static_cast<double>(seconds * 1e9L), static_cast<double>(actual[key]), 2.0)
        << "activity " << key << " of seed " << seed;
  }
}

TEST(ResourceModel, AgreesWithAFluidModelOfItsOwnToTheNanosecond) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    agrees_with_the_oracle(seed);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace chalk::sim
