// Random worlds under random faults: no invariant breaks, nothing is left undone, and one seed
// gives one digest, twice in one process and with every machine rebuilt from its bytes before every
// event.
#include <gtest/gtest.h>

#include <cstdlib>

#include "model/core/random.h"
#include "sim/scenario/parse.h"
#include "sim/workload/generate.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

Setup random_setup(std::uint64_t seed) {
  Random random = Random{seed, 0}.stream(1);
  const auto below = [&](std::uint64_t n) { return static_cast<std::uint32_t>(random.below(n)); };
  Setup setup;
  setup.name = "swarm";
  setup.seed = seed;
  setup.drain = seconds(24 * 3600);
  setup.heartbeat = seconds(1 + below(5));
  setup.node_timeout = setup.heartbeat * 4 + seconds(10);
  setup.separate_tenants = below(4) != 0;
  setup.owner_linger = seconds(below(20));
  setup.scrub = seconds(1 + below(5));
  setup.gateways = 1 + below(3);
  setup.start = {Delay::Kind::exponential, milliseconds(200 + below(3000)), 0};
  for (std::uint32_t i = 0; i <= below(3); ++i)
    setup.zones.push_back({.name = "z" + std::to_string(i)});
  for (std::uint32_t i = 0; i <= below(2); ++i) {
    Pool pool;
    pool.name = "p" + std::to_string(i);
    for (std::uint32_t z = 0; z < setup.zones.size(); ++z) pool.zones.push_back(z);
    pool.shape = {.cpu_millicores = 4000 + 4000 * below(4),
                  .memory_bytes = 16LL << 30,
                  .disk_bytes = 100LL << 30,
                  .start_slots = static_cast<std::int32_t>(1 + below(6))};
    pool.elastic = below(2) != 0;
    pool.nodes_max = 6 + below(8);
    pool.nodes_min = pool.elastic ? below(3) : pool.nodes_max;
    pool.boot = {Delay::Kind::uniform, seconds(20), 0.5};
    pool.idle_before_release = seconds(30);
    setup.pools.push_back(pool);
  }
  setup.group_default.policy = static_cast<ScalingPolicy>(below(3));
  setup.group_default.concurrency = 1 + below(4);
  setup.group_default.replicas_max = 2 + below(10);
  setup.group_default.keep_alive = seconds(5 + below(60));
  setup.group_default.delayed_warm_start = below(2) != 0;
  setup.group_default.keep_alive_policy = static_cast<KeepAlivePolicy>(seed % 4);
  setup.group_default.cold_start_worth = seconds(20);
  setup.keep_alive_bytes = 4LL << 30;
  const auto from = [&] { return Time{seconds(below(120)).nanos}; };
  using K = Fault::Kind;
  for (std::uint32_t i = 0; i < below(5); ++i) {
    Fault fault;
    fault.kind = std::array{K::message_loss,    K::message_duplicate, K::message_delay,
                            K::heartbeat_lag,   K::node_crash,        K::start_failure,
                            K::control_restart, K::late_supply}[below(8)];
    fault.from = from();
    fault.lasts = seconds(1 + below(60));
    fault.permille = static_cast<std::int32_t>(1 + below(300));
    fault.delay = milliseconds(100 + below(5000));
    fault.count = static_cast<std::int32_t>(1 + below(3));
    setup.faults.push_back(fault);
  }
  const std::uint32_t tenants = 1 + below(4);
  const double rate = 1 + below(20);
  setup.open_workload = [tenants, rate](std::uint64_t workload_seed) {
    Requests calls;
    calls.functions = 3;
    calls.tenants = tenants;
    calls.service = Distribution::exponential(milliseconds(400));
    Sandboxes boxes;
    boxes.tenants = tenants;
    boxes.prefix = "box";
    boxes.service = Distribution::exponential(seconds(15));
    boxes.lifetime = Distribution::constant(seconds(40));
    boxes.shapes = {{1, {.cpu_millicores = 1000, .memory_bytes = 1LL << 30}},
                    {1, {.cpu_millicores = 3000, .memory_bytes = 2LL << 30}}};
    std::vector<std::unique_ptr<Source>> sources;
    sources.push_back(cut(open_loop(Poisson{rate}, calls, workload_seed), {.arrivals_max = 1500}));
    sources.push_back(
        cut(open_loop(Poisson{1.0}, boxes, workload_seed + 1), {.arrivals_max = 120}));
    return merge(std::move(sources));
  };
  return setup;
}

Result run(const Setup& setup, std::uint64_t seed, bool restore = false) {
  RunOptions options;
  options.seed = seed;
  options.restore_each = restore ? 1 : 0;
  return run_world(setup, options);
}

std::string repeat(std::uint64_t seed) {
  return "repeat with: CHALK_SWARM_SEED=" + std::to_string(seed) +
         " build/release/bin/property_test --gtest_filter='Swarm.*'";
}

std::pair<std::uint64_t, std::uint64_t> seeds(std::uint64_t count) {
  if (const char* one = std::getenv("CHALK_SWARM_SEED")) {
    const std::uint64_t seed = std::strtoull(one, nullptr, 10);
    return {seed, seed + 1};
  }
  return {1, count + 1};
}

TEST(Swarm, BreaksNoInvariantAndLeavesNothingUndone) {
  const auto [first, last] = seeds(300);
  for (std::uint64_t seed = first; seed < last; ++seed) {
    const Result result = run(random_setup(seed), seed);
    for (const std::string& broken : result.broken) ADD_FAILURE() << broken << "\n" << repeat(seed);
    ASSERT_TRUE(result.broken.empty());
    ASSERT_GT(result.requests, 1000u) << repeat(seed);
  }
}

TEST(Swarm, GivesOneDigestForOneSeedTwiceInOneProcess) {
  const auto [first, last] = seeds(40);
  for (std::uint64_t seed = first; seed < last; ++seed) {
    const auto setup = random_setup(seed);
    ASSERT_EQ(run(setup, seed).digest, run(setup, seed).digest) << repeat(seed);
  }
}

TEST(Swarm, DecidesTheSameWhenRebuiltFromItsBytesBeforeEveryEvent) {
  const auto [first, last] = seeds(8);
  for (std::uint64_t seed = first; seed < last; ++seed) {
    const auto setup = random_setup(seed);
    ASSERT_EQ(run(setup, seed).digest, run(setup, seed, true).digest) << repeat(seed);
  }
}

}  // namespace
}  // namespace chalk::sim
