#include "tests/model/scheduler/desk.h"

namespace chalk::scheduler {
namespace {

TEST(Scheduler, TakesTheNodeThatIsLeftFullest) {
  Desk desk;
  desk.add(1, cores(16));
  desk.add(2, cores(2));
  desk.add(3, cores(4));
  EXPECT_EQ(desk.place(one(1, 2000)), 2u);
}

TEST(Scheduler, PutsAnOwnerOnItsOwnNodesBeforeItClaimsAFreeOne) {
  Desk desk;
  desk.add(1, cores(2));
  desk.add(2, cores(16), 1, 7);
  const Effect own = desk.ask(one(1, 2000));
  EXPECT_EQ(own, Effect(Placed{{1}, {2}, 0, false}));
  desk.send(NodeCordoned{{2}, true});
  EXPECT_EQ(desk.ask(one(2, 2000)), Effect(Placed{{2}, {1}, 0, true}));
  EXPECT_EQ(desk.state().infos[0].owner, TenantId{7});
}

TEST(Scheduler, NeverPutsAnOwnerOnTheNodeOfAnother) {
  Desk desk;
  desk.add(1, cores(16), 1, 8);
  EXPECT_EQ(desk.refused(one(1)), (NotPlaced{{1}, Shortage::no_free_node_for_tenant, 1, 0, 0}));
  desk.send(NodeOwned{{1}, {0}, false});  // given up, but not scrubbed yet
  EXPECT_EQ(desk.refused(one(1)).why, Shortage::no_free_node_for_tenant);
  desk.send(NodeOwned{{1}, {0}, true});
  EXPECT_EQ(desk.place(one(1)), 1u);
}

TEST(Scheduler, KeepsGpuNodesForGpuWork) {
  Desk desk;
  desk.add(1, cores(2, 4));
  desk.add(2, cores(64));
  EXPECT_EQ(desk.place(one(1)), 2u);
  EXPECT_EQ(desk.place(gpu(2, 1, 1000)), 1u);
}

TEST(Scheduler, KeepsWholeGpuNodesWhole) {
  Desk desk;
  desk.add(1, cores(16, 4), 1, 7);
  desk.add(2, cores(64, 4), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 4, 1000)), 1u);
  desk.send(Released{{1}});
  EXPECT_EQ(desk.place(gpu(2, 1, 1000)), 1u);
  EXPECT_EQ(desk.place(gpu(3, 1, 1000)), 1u);  // three are free there, four on the other
  EXPECT_EQ(desk.place(gpu(4, 4, 1000)), 2u);
}

TEST(Scheduler, TakesTheSmallNodeOfTwoWithAsManyFreeGpus) {
  Desk desk;
  desk.add(1, cores(64, 8), 1, 7);
  desk.add(2, cores(64, 4), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 4, 1000)), 2u);
  EXPECT_EQ(desk.place(gpu(2, 4, 1000)), 1u);
  desk.send(Released{{1}});
  EXPECT_EQ(desk.place(gpu(3, 1, 1000)), 2u);
  desk.send(Released{{3}});
  EXPECT_EQ(desk.place(gpu(4, 1, 500)), 2u);  // a share alike
}

TEST(Scheduler, GathersWhereThereAreGpusAndLooksAtCpuThereForSharesOnly) {
  Desk desk;
  desk.add(1, cores(64, 2), 1, 7);
  desk.add(2, cores(16, 2), 1, 7);
  EXPECT_EQ(desk.place(gpu(1, 1, 1000)), 1u);
  EXPECT_EQ(desk.place(gpu(2, 1, 1000)), 1u);
  desk.send(Released{{1}});
  desk.send(Released{{2}});
  EXPECT_EQ(desk.place(one(3)), 1u);
  EXPECT_EQ(desk.place(gpu(4, 1, 500)), 2u);
}

TEST(Scheduler, PrefersTheImageToCpuButNotToASmallerNode) {
  Desk desk;
  desk.add(1, cores(64, 4), 1, 7);
  desk.add(2, cores(64, 4), 1, 7);
  desk.add(3, cores(64, 8), 1, 7);
  desk.send(ImageCached{{3}, {5}, true});
  desk.send(ImageCached{{2}, {5}, true});
  PlaceAsked asked = gpu(1, 4, 1000);
  asked.image = {5};
  EXPECT_EQ(desk.place(asked), 2u);
  EXPECT_EQ(desk.place(gpu(2, 4, 1000)), 1u);
  EXPECT_EQ(desk.place(gpu(3, 4, 1000)), 3u);
  desk.send(Released{{2}});
  PlaceAsked again = gpu(4, 4, 1000);
  again.image = {5};
  EXPECT_EQ(desk.place(again), 1u);  // four are free on 3 too, which holds it and is larger
}

TEST(Scheduler, SharesTheTightestGpuThatFits) {
  Desk desk;
  desk.add(1, cores(16, 2), 1, 7);
  EXPECT_EQ(desk.ask(gpu(1, 1, 300)), Effect(Placed{{1}, {1}, 1, false}));
  EXPECT_EQ(desk.ask(gpu(2, 1, 800)), Effect(Placed{{2}, {1}, 2, false}));
  EXPECT_EQ(desk.ask(gpu(3, 1, 200)), Effect(Placed{{3}, {1}, 2, false}));
  EXPECT_EQ(desk.refused(gpu(4, 1, 701)), (NotPlaced{{4}, Shortage::gpu, 701, 700, 1}));
  EXPECT_EQ(desk.refused(gpu(5, 1, 1000)), (NotPlaced{{5}, Shortage::gpu, 1000, 0, 1}));
}

TEST(Scheduler, TakesOnlyGpuModelsThatAreAccepted) {
  Desk desk;
  desk.add(1, cores(4, 1, 0));
  desk.add(2, cores(16, 1, 1));
  EXPECT_EQ(desk.place(gpu(1, 1, 1000, 0b10)), 2u);
  EXPECT_EQ(desk.refused(gpu(2, 1, 1000, 0b10)), (NotPlaced{{2}, Shortage::gpu, 1000, 0, 2}));
  EXPECT_EQ(desk.place(gpu(3, 1, 1000, 0)), 1u);
}

TEST(Scheduler, SpreadsAGroupOverZonesBeforeItPacks) {
  Desk desk;
  desk.add(1, cores(4), 1, 7);
  desk.add(2, cores(64), 2, 7);
  PlaceAsked asked = one(1);
  asked.group = {5};
  EXPECT_EQ(desk.place(asked), 1u);
  asked.sandbox = {2};
  EXPECT_EQ(desk.place(asked), 2u);
  EXPECT_EQ(desk.place(one(3)), 1u);  // no group: packs
  desk.send(Released{{1}});
  asked.sandbox = {4};
  EXPECT_EQ(desk.place(asked), 1u);

  Desk packed(Config{.placing = {Policy::best_fit, false}});
  packed.add(1, cores(4), 1, 7);
  packed.add(2, cores(64), 2, 7);
  for (std::uint64_t i = 1; i <= 4; ++i) {
    asked.sandbox = {i};
    EXPECT_EQ(packed.place(asked), 1u);
  }
}

TEST(Scheduler, PrefersANodeThatHoldsTheImageToATighterOne) {
  Desk desk;
  desk.add(1, cores(2));
  desk.add(2, cores(8));
  desk.add(3, cores(4));
  desk.send(ImageCached{{2}, {9}, true});
  desk.send(ImageCached{{3}, {9}, true});
  PlaceAsked asked = one(1);
  asked.image = {9};
  EXPECT_EQ(desk.place(asked), 3u);
  desk.send(Released{{1}});
  desk.send(NodeOwned{{3}, {0}, true});
  desk.send(ImageCached{{3}, {9}, false});
  EXPECT_EQ(desk.place(asked), 2u);
}

TEST(Scheduler, PrefersANodeThatHoldsAnImageWhichTheOneBeforeItHeldToo) {
  Desk desk;
  desk.add(1, cores(2));
  desk.add(2, cores(8));
  desk.send(ImageCached{{2}, {9}, true});
  desk.send(NodeRemoved{{2}});
  const std::uint64_t next = (std::uint64_t{1} << 32) | 2;
  desk.add(next, cores(8));
  desk.send(ImageCached{{next}, {9}, true});
  PlaceAsked asked = one(1);
  asked.image = {9};
  EXPECT_EQ(desk.place(asked), next);
}

TEST(Scheduler, GoesElsewhereThanWhereItsStartsFailedWhileItFitsThere) {
  Desk desk;
  desk.add(1, cores(1), 1, 7);
  desk.add(2, cores(2), 1, 7);
  desk.add(3, cores(4));
  PlaceAsked asked = one(1);
  asked.avoid = {NodeId{1}};
  EXPECT_EQ(desk.place(asked), 2u);
  asked = one(2);
  asked.avoid = {NodeId{2}, NodeId{1}};
  EXPECT_EQ(desk.place(asked), 3u) << "also by claiming one";
  EXPECT_EQ(desk.place(one(3)), 1u) << "only for who asks so";
  asked = one(4, 4000);
  asked.avoid = {NodeId{3}};
  EXPECT_EQ(desk.refused(asked), (NotPlaced{{4}, Shortage::cpu, 4000, 3000, 3}));
  asked = one(4, 3000);
  asked.avoid = {NodeId{3}, NodeId{3}};
  EXPECT_EQ(desk.place(asked), 3u) << "it fits nowhere else";
  desk.send(NodeCordoned{{2}, true});
  asked = one(5);
  asked.avoid = {NodeId{2}, NodeId{99}};
  EXPECT_EQ(desk.refused(asked).why, Shortage::cpu);
  desk.send(NodeCordoned{{2}, false});
  EXPECT_EQ(desk.place(one(6)), 2u);
}

TEST(Scheduler, ClaimsNoNodeForWhoAsksOnlyForItsOwn) {
  for (const Policy policy : {Policy::best_fit, Policy::first_fit}) {
    Config config;
    config.placing = {policy, true};
    Desk desk(config);
    desk.add(1, cores(1), 1, 7);
    desk.add(2, cores(8));
    PlaceAsked asked = one(1);
    asked.own_only = true;
    EXPECT_EQ(desk.place(asked), 1u);
    asked.sandbox = {2};
    EXPECT_EQ(desk.refused(asked), (NotPlaced{{2}, Shortage::cpu, 1000, 0, 1}));
    asked.own_only = false;
    EXPECT_EQ(desk.place(asked), 2u);
  }
}

TEST(Scheduler, AllOfAGangGoElsewhereThanWhereTheirStartsFailed) {
  Desk desk;
  desk.add(1, cores(2), 1, 7);
  desk.add(2, cores(8), 1, 7);
  GangAsked gang{{one(1), one(2)}};
  for (PlaceAsked& member : gang.members) member.avoid = {NodeId{1}};
  const Effects effects = desk.send(gang);
  ASSERT_EQ(effects.size(), 2u);
  for (const Effect& one : effects) EXPECT_EQ(std::get<Placed>(one).node, NodeId{2});
}

TEST(Scheduler, UsesADedicatedPoolOnlyWhenItIsNamed) {
  Desk desk;
  desk.add(1, cores(4), 1, 0, 3, true);
  EXPECT_EQ(desk.refused(one(1)), (NotPlaced{{1}, Shortage::no_node_in_pool, 1, 0, 0}));
  PlaceAsked asked = one(1);
  asked.pool = {3};
  EXPECT_EQ(desk.place(asked), 1u);
  asked.sandbox = {2};
  asked.pool = {4};
  EXPECT_EQ(desk.refused(asked).why, Shortage::no_node_in_pool);
}

TEST(Scheduler, SaysWhichDimensionIsShortAndByHowMuch) {
  Desk desk;
  desk.add(1, cores(4));
  desk.add(2, cores(8));
  EXPECT_EQ(desk.refused(one(1, 9000)), (NotPlaced{{1}, Shortage::cpu, 9000, 8000, 2}));
  PlaceAsked asked = one(1, 5000);
  asked.ask.memory_bytes = 33 * kGi;
  EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::memory, 33 * kGi, 32 * kGi, 2}));
  asked = one(1);
  asked.ask.disk_bytes = 101 * kGi;
  EXPECT_EQ(desk.refused(asked), (NotPlaced{{1}, Shortage::disk, 101 * kGi, 100 * kGi, 2}));
}

// Whatever the policy, and however small what is asked for.
TEST(Scheduler, LeavesNodesThatCouldHoldWhatItMustSpare) {
  for (const Policy policy : {Policy::best_fit, Policy::frag_fit, Policy::fgd, Policy::first_fit,
                              Policy::power_of_two, Policy::least_allocated}) {
    Config config;
    config.placing = policy;
    Desk desk(config);
    NodeShape gpus = cores(8);
    gpus.gpus = 2;
    gpus.gpu_model = 1;
    desk.add(1, gpus);
    desk.add(2, cores(16));
    desk.add(3, cores(8));
    desk.add(4, cores(16), 1, 0, 2, true);
    const auto spares = [&](std::vector<Wish> wishes, std::uint64_t pool = 0) {
      PlaceAsked asked = one(1);
      asked.spare = std::move(wishes);
      asked.pool = {pool};
      std::set<std::uint64_t> nodes;
      for (asked.sandbox = {1}; asked.sandbox.value < 60; ++asked.sandbox.value) {
        const Effect effect = desk.ask(asked);
        const auto* placed = std::get_if<Placed>(&effect);
        if (placed != nullptr) nodes.insert(placed->node.value);
      }
      for (std::uint64_t id = 1; id < 60; ++id) desk.send(Released{{id}});
      return nodes;
    };
    using Nodes = std::set<std::uint64_t>;
    Resources gpu, other_gpu, large;
    gpu.gpus = other_gpu.gpus = 1;
    gpu.gpu_millis = other_gpu.gpu_millis = 1000;
    gpu.gpu_models = 2;
    other_gpu.gpu_models = 4;
    large.cpu_millicores = 9000;
    EXPECT_EQ(spares({}), (Nodes{1, 2, 3}));
    EXPECT_EQ(spares({{gpu, {}}}), (Nodes{2, 3}));
    EXPECT_EQ(spares({{other_gpu, {}}}), (Nodes{1, 2, 3})) << "no node has that model";
    EXPECT_EQ(spares({{large, {}}}), (Nodes{1, 3}));
    EXPECT_EQ(spares({{large, {2}}}), (Nodes{1, 2, 3})) << "it must go to a pool of its own";
    EXPECT_EQ(spares({{large, {2}}}, 2), Nodes{});
    EXPECT_EQ(spares({{large, {}}}, 2), Nodes{4}) << "there it may not go";
    EXPECT_EQ(spares({{gpu, {}}, {large, {}}}), Nodes{3});
    PlaceAsked all = one(1);
    all.spare = {{Resources{}, {}}};
    EXPECT_EQ(desk.refused(all), (NotPlaced{{1}, Shortage::spared, 1, 0, 3}));
  }
}

// What has room and only no start slot now is no reason to make room elsewhere.
TEST(Scheduler, SaysThatItSparesOnlyWhereItCouldStartElse) {
  Desk desk;
  NodeShape shape = cores(8);
  shape.start_slots = 1;
  desk.add(1, shape);
  desk.place(one(1));
  Resources gpu;
  gpu.gpus = 1;
  gpu.gpu_millis = 1000;
  PlaceAsked asked = one(2);
  asked.spare = {{gpu, {}}};
  EXPECT_EQ(desk.refused(asked).why, Shortage::start_slots);
  asked.spare = {{Resources{}, {}}};
  EXPECT_EQ(desk.refused(asked).why, Shortage::start_slots);
  desk.send(StartFinished{{1}});
  EXPECT_EQ(desk.refused(asked).why, Shortage::spared);
}

TEST(Scheduler, LeavesNodesOfAGridAndThoseWithTheImageToWhatItMustSpare) {
  Desk desk;
  for (std::uint64_t node = 1; node <= 600; ++node) desk.add(node, cores(node % 2 == 0 ? 8 : 4));
  desk.send(ImageCached{{2}, {7}, true});
  desk.send(ImageCached{{5}, {7}, true});
  PlaceAsked asked = one(1);
  asked.image = {7};
  Resources large;
  large.cpu_millicores = 8000;
  asked.spare = {{large, {}}};
  EXPECT_EQ(desk.place(asked), 5u);
  asked.sandbox = {2};
  asked.ask.cpu_millicores = 5000;
  EXPECT_EQ(desk.refused(asked).why, Shortage::spared);
  desk.send(ImageCached{{5}, {7}, false});
  asked.ask.cpu_millicores = 4000;
  EXPECT_EQ(desk.place(asked), 1u) << "only one that it must spare holds the image";
}

TEST(Scheduler, WaitsForAStartSlotAndSaysSo) {
  Desk desk;
  NodeShape shape = cores(16);
  shape.start_slots = 2;
  desk.add(1, shape);
  desk.place(one(1));
  desk.place(one(2));
  EXPECT_EQ(desk.refused(one(3)), (NotPlaced{{3}, Shortage::start_slots, 1, 0, 1}));
  EXPECT_EQ(desk.refused(one(3, 15'000)), (NotPlaced{{3}, Shortage::cpu, 15'000, 14'000, 1}));
  desk.send(StartFinished{{1}});
  desk.send(StartFinished{{1}});  // said twice: one slot is free, not two
  EXPECT_EQ(desk.place(one(3)), 1u);
  EXPECT_EQ(desk.refused(one(4)).why, Shortage::start_slots);
  desk.send(Released{{2}});  // released while starting: its slot comes back too
  EXPECT_EQ(desk.place(one(4)), 1u);
}

TEST(Scheduler, RefusesWhenEveryNodeHoldsItsMostSandboxes) {
  Desk desk;
  NodeShape shape = cores(16);
  shape.sandboxes_max = 1;
  desk.add(1, shape);
  desk.place(one(1));
  EXPECT_EQ(desk.refused(one(2)), (NotPlaced{{2}, Shortage::sandboxes, 1, 0, 1}));
}

TEST(Scheduler, RefusesAtItsLimitsAndAsksThatMeanNothing) {
  Desk desk(Config{.nodes_max = 1, .sandboxes_max = 2, .zones_max = 1});
  desk.add(1, cores(4));
  desk.add(2, cores(4));
  EXPECT_EQ(desk.state().ignored.nodes_over_limit, 1u);
  EXPECT_EQ(desk.refused(one(3)), (NotPlaced{{3}, Shortage::limit, 3, 2, 0}));
  EXPECT_EQ(desk.refused(one(1, -1)), (NotPlaced{{1}, Shortage::limit, -1, 0, 0}));
  EXPECT_EQ(desk.refused(gpu(1, 2, 500)), (NotPlaced{{1}, Shortage::limit, 2, 1, 0}));
  EXPECT_EQ(desk.refused(gpu(1, 1, 0)), (NotPlaced{{1}, Shortage::limit, 0, 1000, 0}));
  EXPECT_EQ(desk.refused(gpu(1, 17, 1000)), (NotPlaced{{1}, Shortage::limit, 17, 16, 0}));
  desk.place(one(1));
  EXPECT_EQ(desk.refused(one(std::uint64_t{1} << 32 | 1)).why, Shortage::limit);  // slot is taken
}

TEST(Scheduler, IgnoresWhatIsLateRepeatedOrUnknown) {
  Desk desk;
  desk.add(1, cores(4));
  desk.place(one(1));
  const State before = desk.state();
  EXPECT_TRUE(desk.send(one(1)).empty());
  desk.add(1, cores(64));
  desk.send(NodeRemoved{{2}});
  desk.send(NodeRemoved{{std::uint64_t{1} << 32 | 1}});
  desk.send(Released{{2}});
  desk.send(Released{{std::uint64_t{1} << 32 | 1}});
  desk.send(StartFinished{{9}});
  desk.send(StartFinished{{0}});
  desk.send(NodeOwned{{5}, {3}, true});
  desk.send(NodeCordoned{{0}, true});
  desk.send(ImageCached{{5}, {3}, true});
  State after = desk.state();
  EXPECT_EQ(after.ignored.duplicate_asks, 1u);
  EXPECT_EQ(after.ignored.duplicate_nodes, 1u);
  EXPECT_EQ(after.ignored.unknown_nodes, 5u);
  EXPECT_EQ(after.ignored.unknown_sandboxes, 4u);
  after.ignored = before.ignored;
  EXPECT_TRUE(after == before);
}

TEST(Scheduler, DropsTheReservationsOfARemovedNodeAndNeverLetsItReturn) {
  Desk desk;
  desk.add(1, cores(4));
  PlaceAsked asked = one(1);
  asked.group = {5};
  desk.place(asked);
  desk.send(NodeRemoved{{1}});
  EXPECT_EQ(desk.state().live_reservations, 0u);
  EXPECT_EQ(desk.state().group_index.size(), 0u);
  desk.send(Released{{1}});  // late
  desk.add(1, cores(4));     // late
  EXPECT_EQ(desk.refused(one(1)).why, Shortage::no_node_in_pool);
  desk.add(std::uint64_t{1} << 32 | 1, cores(4));
  EXPECT_EQ(desk.place(one(1)), std::uint64_t{1} << 32 | 1);
}

}  // namespace
}  // namespace chalk::scheduler
