#include "sim/scenario/parse.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "model/core/random.h"
#include "sim/workload/input_error.h"
#include "sim/workload/source.h"

namespace chalk::sim {
namespace {

constexpr const char* kGood = R"(shows: A test.
duration: 10s
pools:
  - name: cpu
    nodes: 2
    node: {cpu: "4", memory: 8Gi}
workload:
  - kind: poisson
    per_second: 1
assert:
  - failed==0
)";

std::string file_of(const std::string& text) {
  const std::string path = testing::TempDir() + "parse_test.yaml";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string error_of(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  try {
    load_scenario(file_of(text), {}, {});
  } catch (const ScenarioError& error) {
    const std::string what = error.what();
    return what.substr(what.find("parse_test.yaml"));
  }
  return "no error";
}

TEST(Scenario, ReadsWhatItDescribes) {
  const auto setup = load_scenario(file_of(kGood), {{"pools.cpu.nodes", "7"}, {"seed", "9"}}, {});
  EXPECT_EQ(setup.pools[0].nodes_min, 7u);
  EXPECT_EQ(setup.pools[0].shape.cpu_millicores, 4000);
  EXPECT_EQ(setup.seed, 9u);
  EXPECT_EQ(setup.shows, "A test.");
  EXPECT_EQ(setup.placement, scheduler::Policy::best_fit);
  const auto fgd = load_scenario(file_of(kGood), {{"control.placement", "fgd"}}, {});
  EXPECT_EQ(fgd.placement, scheduler::Policy::fgd);
  EXPECT_NE(setup.scenario_hash, load_scenario(file_of(kGood), {}, {}).scenario_hash);
}

TEST(Scenario, NumbersRuntimesAndProcessorFeaturesAsTheyCome) {
  std::string text = kGood;
  const std::string pool = "  - name: cpu\n    nodes: 2\n";
  const auto place = text.find(pool);
  text.insert(place, R"(  - {name: one, nodes: 1, runtime: r2, cpu_features: [a, b], node: {cpu: 4, memory: 8Gi}}
  - {name: two, nodes: 1, runtime: r2, cpu_features: [b], node: {cpu: 4, memory: 1Gi, shells: 4, shell_memory: 64Mi}}
)");
  const auto setup = load_scenario(file_of(text), {{"group_default.start_mode", "restore"}}, {});
  EXPECT_EQ(setup.pools[0].kind, (MachineKind{1, 0b11}));
  EXPECT_EQ(setup.pools[1].kind, (MachineKind{1, 0b10}));
  EXPECT_EQ(setup.pools[2].kind, (MachineKind{2, 0})) << "runsc, of nothing in particular";
  EXPECT_EQ(setup.pools[1].shells, 4);
  EXPECT_EQ(setup.pools[1].shape.memory_bytes, (1LL << 30) - (256LL << 20));
  EXPECT_EQ(setup.group_default.start_mode, StartMode::restore);
  EXPECT_EQ(error_of(text, "shells: 4", "shells: 16"),
            "parse_test.yaml:5: pools[1].node.shells: found 16 of 64Mi each, expected less than "
            "the memory, 1Gi");
  EXPECT_NE(error_of(text, "1Gi, shells: 4, shell_memory: 64Mi",
                     "1Pi, shells: 10000, shell_memory: 1Pi").find("found 10000 of 1Pi each"),
            std::string::npos);
  EXPECT_NE(error_of(text, "[b]", "b"), "no error");
}

TEST(Scenario, NamesFileLineFoundAndExpected) {
  EXPECT_EQ(
      error_of(kGood, "duration:", "durations:"),
      "parse_test.yaml:2: durations: found an unknown key, expected one of docs/scenarios.md; the "
      "closest is \"duration\"");
  EXPECT_EQ(error_of(kGood, "8Gi", "8 gigs"),
            "parse_test.yaml:6: pools[0].node.memory: found \"8 gigs\", expected a size such as "
            "512Mi or 16Gi, at most 1Pi");
  EXPECT_EQ(error_of(kGood, "nodes: 2", "nodes: 1000000000"),
            "parse_test.yaml:5: pools[0].nodes: found \"1000000000\", expected a whole number from "
            "0 to 100000");
  EXPECT_EQ(error_of(kGood, "10s", "ten"),
            "parse_test.yaml:2: duration: found \"ten\", expected a duration such as 250ms, 10s or "
            "1h30m, at most 36500d");
  EXPECT_EQ(error_of(kGood, "10s", "36501d"),
            "parse_test.yaml:2: duration: found \"36501d\", expected a duration such as 250ms, 10s "
            "or 1h30m, at most 36500d");
  EXPECT_EQ(error_of(kGood, "failed==0", "failed<=nan")
                .find("parse_test.yaml:11: assert: found \"failed<=nan\", expected METRIC<=NUMBER"),
            0u);
  EXPECT_EQ(error_of(kGood, "A test.", "A t\xE9st."),
            "parse_test.yaml:1: found the byte \"\\xe9\", expected text in UTF-8");
  EXPECT_EQ(error_of(kGood, "per_second: 1", "per_second: -1"),
            "parse_test.yaml:9: workload[0].per_second: found \"-1\", expected a number from 1e-09 "
            "to 10000000");
  EXPECT_EQ(
      error_of(kGood, "kind: poisson", "kind: fish"),
      "parse_test.yaml:8: workload[0].kind: found \"fish\", expected one of poisson bursts daily "
      "closed_loop azure_functions trace list");
  EXPECT_EQ(error_of(kGood, "duration: 10s", "seed: 1\nseed: 2"),
            "parse_test.yaml:3: found the key \"seed\" twice, expected it once");
  EXPECT_EQ(error_of(kGood, "kind: poisson\n    per_second: 1", "{kind: bursts, calm_mean: 1ns}"),
            "parse_test.yaml:8: workload[0].calm_mean: found 1ns, expected at least 1ms");
  EXPECT_EQ(error_of(kGood, "kind: poisson\n    per_second: 1", "{kind: bursts, burst_mean: 0s}"),
            "parse_test.yaml:8: workload[0].burst_mean: found 0s, expected at least 1ms");
  EXPECT_NE(error_of(kGood, "kind: poisson\n    per_second: 1",
                     "{kind: bursts, calm_per_second: 1e-9, burst_per_second: 1e-9, calm_mean: "
                     "1ms, burst_mean: 1ms}")
                .find("found 2e-12 arrivals from calm to calm, expected at least 1e-06"),
            std::string::npos);
  EXPECT_EQ(error_of(kGood, "assert:", "---\nassert:"),
            "parse_test.yaml:11: found a second document, expected one");
  EXPECT_NE(error_of(kGood, "failed==0", "faild==0").find("the closest is \"failed\""),
            std::string::npos);
  EXPECT_NE(error_of(kGood, "    nodes: 2\n", "").find("pools[0].nodes: found nothing"),
            std::string::npos);
  EXPECT_NE(error_of(kGood, "shows: A test.\n", "").find("shows: found nothing"),
            std::string::npos);
  EXPECT_NE(error_of(kGood, "duration: 10s\n", "").find("expected duration or requests"),
            std::string::npos);
}

TEST(Scenario, NamesTheOptionAndNoLineForWhatSetSays) {
  const auto said = [](const std::string& path, const std::string& value) -> std::string {
    try {
      load_scenario(file_of(kGood), {{path, value}}, {});
    } catch (const ScenarioError& error) {
      const std::string what = error.what();
      return what.substr(what.find("parse_test.yaml"));
    }
    return "no error";
  };
  EXPECT_EQ(said("pools.0.nodes", "many"),
            "parse_test.yaml with --set: pools[0].nodes: found \"many\", expected a whole number "
            "from 0 to 100000");
  EXPECT_EQ(said("pools.0.node", "{cpu: 4, memory: much}"),
            "parse_test.yaml with --set: pools[0].node.memory: found \"much\", expected a size such "
            "as 512Mi or 16Gi, at most 1Pi");
  EXPECT_EQ(said("control", "[1]").find("parse_test.yaml with --set: control: found"), 0u);
  EXPECT_EQ(said("assert", "[failed<=x]").find("parse_test.yaml with --set: assert: found"), 0u);
  EXPECT_EQ(said("durations", "1s").find("parse_test.yaml with --set: durations: found an"), 0u);
  EXPECT_NE(said("pools.0.nodes", "{").find(": --set pools.0.nodes: found \"{\""), std::string::npos);
}

TEST(Scenario, FindsTracesBesideTheFileThatNamesThem) {
  const std::string folder = testing::TempDir() + "parse_traces/pieces";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/t.jsonl") << "";
  const std::string section = "  - {kind: trace, path: \"jsonl:t.jsonl\"}\n";
  std::ofstream(folder + "/piece.yaml") << "workload:\n" + section;
  std::string text = kGood;
  text.insert(text.find("assert:"), section);
  std::ofstream(folder + "/own.yaml") << text;
  EXPECT_NO_THROW(load_scenario(folder + "/own.yaml", {}, {}));
  std::ofstream(folder + "/../whole.yaml") << kGood + std::string("include: [pieces/piece.yaml]\n");
  EXPECT_NO_THROW(load_scenario(folder + "/../whole.yaml", {}, {}));
  const std::string nowhere = "jsonl:nowhere.jsonl";
  EXPECT_EQ(error_of(text, "jsonl:t.jsonl", nowhere),
            "parse_test.yaml:10: workload[1].path: found no nowhere.jsonl, expected a trace by its "
            "path from the scenario's file or from the current folder");
  EXPECT_NE(error_of(text, "jsonl:t.jsonl", "json:t").find(":10: workload[1].path: found \"json:t"),
            std::string::npos);
  EXPECT_NO_THROW(load_scenario(
      folder + "/own.yaml", {}, "jsonl:scenarios/regress/drain_declined.jsonl"));
}

// 341 bytes that stand for billions of nodes; and as much as a file may hold by itself.
TEST(Scenario, TakesNoMoreThanItsTextMaySay) {
  std::string aliases = "\na: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'j'; ++c) {
    aliases += fmt::format("{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n", c,
                           static_cast<char>(c - 1));
  }
  EXPECT_EQ(error_of(kGood, "\nduration: 10s\n", aliases + "duration: 10s\n"),
            "parse_test.yaml:2: found more than 4194304 nodes with what aliases stand for, "
            "expected fewer");
  EXPECT_NE(error_of(kGood, "duration: 10s", "duration: 10s\nwatch: &w [*w, *w]").find("expected f"),
            std::string::npos)
      << "a list that holds itself";
  std::string many = "duration: 10s\nwatch: [t*";
  while (many.size() < 1'000'000) many += ",t*";
  EXPECT_EQ(error_of(kGood, "duration: 10s", many + "]"), "no error");
}

TEST(Scenario, RefusesPlatformsThatCannotBe) {
  const auto with = [](const std::string& more) {
    return error_of(kGood, "workload:", more + "\nworkload:");
  };
  EXPECT_NE(
      with("group_default: {cpu: \"64\"}").find("expected one that a node of some pool can hold"),
      std::string::npos);
  EXPECT_NE(with("group_default: {policy: vpa}").find("found \"vpa\", expected one of fixed kpa"),
            std::string::npos);
  EXPECT_NE(with("group_default: {z_permille: 10001}").find("a whole number from 0 to 10000"),
            std::string::npos);
  EXPECT_NE(with("group_default: {policy: hpa, z_permille: 500}").find("expected policy: chalk"),
            std::string::npos);
  EXPECT_NE(with("group_default: {gpu: A100}").find("expected no GPU, since no pool has any"),
            std::string::npos);
  EXPECT_NE(with("images: [{name: huge, size: 900Gi}]")
                .find("expected at most the image cache of pool cpu"),
            std::string::npos);
  EXPECT_NE(with("faults: [{kind: zone_loss, zone: nowhere, from: 1s}]")
                .find("expected the name of a zone"),
            std::string::npos);
  EXPECT_NE(
      with("control: {heartbeat: 10s, node_timeout: 5s}").find("expected more than heartbeat"),
      std::string::npos);
}

TEST(Scenario, NamesWhatIsWrongWithFairness) {
  const std::string tenants = std::string(kGood) + R"(control: {gateways: 4}
families:
  outer: {guarantee: {cpu: "8"}}
  inner: {family: outer, weight: 2}
tenants:
  tenant-0: {family: inner, guarantee: {cpu: "2"}, quota: {cpu: "4"}}
)";
  const auto setup = load_scenario(file_of(tenants), {}, {});
  ASSERT_EQ(setup.families.size(), 2u);
  EXPECT_EQ(setup.families[1].family, "outer");
  EXPECT_EQ(setup.tenants.at("tenant-0").guarantee.resources.cpu_millicores, 2000);
  const auto finds = [&](const char* from, const char* to, const char* what) {
    const std::string error = error_of(tenants, from, to);
    EXPECT_NE(error.find(what), std::string::npos) << error;
  };
  finds("gateways: 4", "gateways: 4, gateways_per_tenant: 5",
        "gateways_per_tenant: found 5, expected at most gateways, 4");
  finds("gateways: 4", "gateway_sharding: shuffled", "gateway_sharding: found \"shuffled\"");
  finds("gateways: 4", "tenant_order: drf", "tenant_order: found \"drf\"");
  finds("family: outer", "family: inner", "family: found \"inner\"");
  finds("family: inner", "family: none", "family: found \"none\"");
  finds("{cpu: \"2\"}", "{cpu: \"5\"}", "cpu: found 5000, expected at most the quota, 4000");
  finds("{cpu: \"2\"}", "{disk: 5Gi}", "disk");
  finds("control:", "group_default: {queue_order: lifo}\ncontrol:", "queue_order: found \"lifo\"");
}

// Sections that name a caller call the same functions; others have functions of their own.
TEST(Scenario, CallersShareAFunction) {
  std::string text(kGood);
  text.replace(text.find("per_second: 1"), 13, "per_second: 1\n    caller: one");
  text += "watch: [two]\n";
  text.insert(text.find("assert:"),
              "  - {kind: poisson, per_second: 5, caller: two}\n  - {kind: poisson}\n");
  const auto setup = load_scenario(file_of(text), {}, {});
  EXPECT_EQ(setup.watched, std::vector<std::string>{"two"});
  EXPECT_EQ(error_of(text, "watch: [two]", "watch: [one, nobody]"),
            "parse_test.yaml:15: watch: found \"nobody\", expected a tenant of the workload");
  EXPECT_EQ(error_of(text, "watch: [two]", "watch: [\"tenant-*\"]"), "no error");
  const auto source = setup.open_workload(1);
  const Catalogue& all = source->catalogue();
  ASSERT_EQ(all.functions.size(), 2u);  // the callers' and the last section's
  EXPECT_EQ(all.tenants, (std::vector<std::string>{"tenant-0", "one", "two"}));
  std::map<std::uint32_t, std::map<std::uint32_t, int>> calls;  // by function and caller
  for (int i = 0; i < 700; ++i, source->pop()) {
    const Arrival& next = *source->peek();
    ++calls[next.function][next.caller];
  }
  EXPECT_GT(calls[0][1], 50);
  EXPECT_GT(calls[0][2], 400);
  EXPECT_GT(calls[1][kNoClient], 50);
  EXPECT_EQ(calls[0].size() + calls[1].size(), 3u);
}

// Seeds in a row are what intervals are made of: their runs may have nothing in common.
TEST(Scenario, SectionsOfNeighbouringSeedsAreDrawnApart) {
  std::string text = kGood;
  text.replace(text.find("workload:"), std::string::npos,
               "workload:\n  - {kind: poisson, per_second: 1, prefix: one}\n"
               "  - {kind: poisson, per_second: 1, prefix: two}\n");
  const auto setup = load_scenario(file_of(text), {}, {});
  const auto arrivals = [&](std::uint64_t seed) {
    const auto source = setup.open_workload(seed);
    std::map<std::string, std::vector<std::int64_t>> at;
    for (int i = 0; i < 200; ++i) {
      const Arrival* next = source->peek();
      at[source->catalogue().functions[next->function].name].push_back(next->at.nanos);
      source->pop();
    }
    EXPECT_EQ(at.size(), 2u);
    return std::pair{at.begin()->second.front(), at.rbegin()->second.front()};
  };
  std::set<std::int64_t> first;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const auto [one, two] = arrivals(seed);
    first.insert({one, two});
  }
  EXPECT_EQ(first.size(), 40u) << "two sections begin at the same nanosecond";
}

TEST(Scenario, RefusesImageKnobsWithWhatItExpects) {
  const auto with = [](const std::string& control, const std::string& node) {
    return error_of(kGood, "pools:\n  - name: cpu\n    nodes: 2\n    node: {cpu: \"4\"",
                    "control: {" + control + "}\npools:\n  - name: cpu\n    nodes: 2\n" +
                        "    node: {" + node + "cpu: \"4\"");
  };
  EXPECT_EQ(with("image_distribution: tree, image_fan_out: 3, image_chunk: 1Mi",
                 "cache_policy: s3_fifo, "),
            "no error");
  EXPECT_NE(with("image_distribution: torrent", "").find("one of registry peer tree"),
            std::string::npos)
      << with("image_distribution: torrent", "");
  EXPECT_NE(with("image_fan_out: 0", "").find("image_fan_out"), std::string::npos);
  EXPECT_NE(with("image_peer_bandwidth: 1Mbps", "").find("at least 8Mbps"), std::string::npos);
  EXPECT_NE(with("image_chunk: 4Ki", "").find("expected at least 64Ki"), std::string::npos);
  EXPECT_NE(with("", "cache_policy: random, ").find("one of lru sieve s3_fifo gdsf seconds"),
            std::string::npos)
      << with("", "cache_policy: random, ");
}

TEST(Scenario, ReadsPrioritiesAndRefusesThoseThatAreNone) {
  std::string text(kGood);
  text.insert(text.find("assert:"),
              "  - {kind: poisson, of: sandboxes, per_second: 50, priority: 7}\n"
              "  - {kind: list, arrivals: [{at: 1s, sandbox: one, priority: 1000}]}\n");
  text += "group_default: {priority: 3}\ngroups: {special: {priority: 4}, usual: {cpu: \"1\"}}\n";
  const auto setup = load_scenario(file_of(text), {}, {});
  EXPECT_TRUE(setup.preemption);
  EXPECT_EQ(setup.group_default.priority, 3);
  EXPECT_EQ(setup.groups.at("special").priority, 4);
  EXPECT_EQ(setup.groups.at("usual").priority, 3);
  std::map<std::int32_t, int> seen;
  const auto source = setup.open_workload(1);
  for (int i = 0; i < 200; ++i, source->pop()) {
    if (source->peek()->kind == ArrivalKind::sandbox) ++seen[source->peek()->sandbox.priority];
  }
  EXPECT_GT(seen[7], 50);
  EXPECT_EQ(seen[1000], 1);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_FALSE(load_scenario(file_of(text), {{"control.preemption", "false"}}, {}).preemption);
  EXPECT_TRUE(setup.keep_first_node);
  EXPECT_FALSE(
      load_scenario(file_of(text), {{"control.keep_first_node", "false"}}, {}).keep_first_node);

  EXPECT_EQ(error_of(text, "priority: 7", "priority: 1001"),
            "parse_test.yaml:10: workload[1].priority: found \"1001\", expected a whole number from "
            "0 to 1000");
  EXPECT_EQ(error_of(text, "priority: 1000", "priority: -1"),
            "parse_test.yaml:11: workload[2].arrivals[0].priority: found \"-1\", expected a whole "
            "number from 0 to 1000");
  EXPECT_EQ(error_of(text, "special: {priority: 4}", "special: {priority: high}"),
            "parse_test.yaml:15: groups.special.priority: found \"high\", expected a whole number "
            "from 0 to 1000");
}

TEST(Scenario, ReadsGangsAndRefusesSizesThatAreNone) {
  std::string text(kGood);
  text.insert(text.find("assert:"),
              "  - {kind: poisson, of: sandboxes, per_second: 50, gang: 4}\n"
              "  - {kind: list, arrivals: [{at: 1s, sandbox: one, gang: 1000}]}\n");
  std::map<std::uint32_t, int> seen;
  const auto source = load_scenario(file_of(text), {}, {}).open_workload(1);
  for (int i = 0; i < 200; ++i, source->pop()) {
    if (source->peek()->kind == ArrivalKind::sandbox) ++seen[source->peek()->sandbox.gang];
  }
  EXPECT_GT(seen[4], 50);
  EXPECT_EQ(seen[1000], 1);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(error_of(text, "gang: 4", "gang: -4"),
            "parse_test.yaml:10: workload[1].gang: found \"-4\", expected a whole number from 0 to "
            "1000");
  EXPECT_EQ(error_of(text, "gang: 1000", "gang: all"),
            "parse_test.yaml:11: workload[2].arrivals[0].gang: found \"all\", expected a whole "
            "number from 0 to 1000");
}

TEST(Scenario, TellsABadOverrideByItsPath) {
  for (const Override& bad :
       {Override{"pools.7.nodes", "1"}, Override{"pools.nobody.nodes", "1"},
        Override{"duration.x", "1"}, Override{"nonsense", "1"}, Override{"seed", "[1"}}) {
    EXPECT_THROW(load_scenario(file_of(kGood), {bad}, {}), ScenarioError) << bad.path;
  }
}

TEST(Scenario, ReadsThePolicyOfTheFleetWithItsDefaults) {
  const auto with = [](const std::string& more) {
    return error_of(kGood, "workload:", more + "\nworkload:");
  };
  const auto setup = load_scenario(
      file_of(kGood), {{"fleet.policy", "karpenter"}, {"fleet.nodes_at_once", "3"}}, {});
  EXPECT_EQ(setup.fleet.policy, fleet::Policy::karpenter);
  EXPECT_EQ(setup.fleet.unneeded, seconds(15));
  EXPECT_EQ(setup.fleet.nodes_at_once, 3u);
  EXPECT_EQ(load_scenario(file_of(kGood), {}, {}).fleet, fleet::Rules{});
  EXPECT_EQ(with("fleet: {policy: cheap}"),
            "parse_test.yaml:7: fleet.policy: found \"cheap\", expected one of idle "
            "cluster_autoscaler karpenter newsvendor");
  EXPECT_EQ(with("fleet: {scan: 10ms}"),
            "parse_test.yaml:7: fleet.scan: found 10ms, expected at least 1s");
  EXPECT_EQ(with("fleet: {batch: 20s}"),
            "parse_test.yaml:7: fleet.batch_max: found 10s, expected at least batch, 20s");
  EXPECT_NE(with("fleet: {late_wort: 1s}").find("the closest is \"late_worth\""),
            std::string::npos);
  EXPECT_NE(error_of(kGood, "nodes: 2", "nodes: 2\n    spot: {life: 1h}")
                .find("pools[0].spot: found a pool with a fixed number of nodes"),
            std::string::npos);
  EXPECT_NE(error_of(kGood, "nodes: 2", "nodes_max: 2\n    spot: {notice: 1m}")
                .find("pools[0].spot.life: found nothing"),
            std::string::npos);
}

// A piece beside the scenario, which the test writes.
std::string piece_of(const std::string& name, const std::string& text) {
  std::ofstream(testing::TempDir() + name) << text;
  return name;
}

TEST(Scenario, IncludesPiecesWhoseListsStandFirstAndWhoseValuesCountLess) {
  const std::string piece = piece_of("parse_test_piece.yaml",
                                     "control: {heartbeat: 5s, gateways: 3}\n"
                                     "pools:\n"
                                     "  - name: more\n"
                                     "    nodes: 1\n"
                                     "    node: {cpu: 8, memory: 8Gi}\n");
  const std::string whole =
      std::string("include: [") + piece + "]\ncontrol: {gateways: 2}\n" + kGood;
  const auto setup = load_scenario(file_of(whole), {{"pools.more.nodes", "4"}}, {});
  ASSERT_EQ(setup.pools.size(), 2u);
  EXPECT_EQ(setup.pools[0].name, "more");
  EXPECT_EQ(setup.pools[0].nodes_min, 4u);
  EXPECT_EQ(setup.gateways, 2u);
  EXPECT_EQ(setup.heartbeat, seconds(5));
}

TEST(Scenario, NamesThePieceAndTheLineOfItsErrors) {
  const auto with = [](const std::string& include, const std::string& text) {
    piece_of("parse_test_piece.yaml", text);
    try {
      load_scenario(file_of(std::string("include: ") + include + "\n" + kGood), {}, {});
    } catch (const ScenarioError& error) {
      return std::string(error.what()).substr(std::string(error.what()).find("parse_test"));
    }
    return std::string("no error");
  };
  const std::string one = "[parse_test_piece.yaml]";
  const std::string pool = "\npools:\n  - name: more\n    nodes: few\n";
  EXPECT_EQ(with(one, pool),
            "parse_test_piece.yaml:4: pools[0].nodes: found \"few\", expected a whole number from "
            "0 to 100000");
  EXPECT_TRUE(with(one, "workload: []\nseed: 3\n")
                  .starts_with("parse_test_piece.yaml:2: found \"seed\", expected what a piece"));
  EXPECT_EQ(with(one, "pools: []\npools: []\n"),
            "parse_test_piece.yaml:2: found the key \"pools\" twice, expected it once");
  EXPECT_NE(with("[parse_test_none.yaml]", "").find("cannot read"), std::string::npos);
  EXPECT_EQ(with("parse_test_piece.yaml", "pools: []\n"),
            "parse_test.yaml:1: include: found no list, expected a list of files, by their path "
            "from this one");
  EXPECT_EQ(with("[parse_test_piece.yaml, parse_test_piece.yaml]", "pools: []\n"),
            "parse_test.yaml:1: include: found \"parse_test_piece.yaml\" twice, expected it once");
}

// What is missing because it is misspelt is told as that.
TEST(Scenario, NamesAMisspeltKeyBeforeAMissingOne) {
  const auto unknown = [](const std::string& where, const std::string& meant) {
    return "parse_test.yaml:" + where + ": found an unknown key, expected one of " +
           "docs/scenarios.md; the closest is \"" + meant + "\"";
  };
  EXPECT_EQ(error_of(kGood, "workload:", "worklaod:"), unknown("7: worklaod", "workload"));
  EXPECT_EQ(error_of(kGood, "pools:", "pool:"), unknown("3: pool", "pools"));
  EXPECT_EQ(error_of(kGood, "shows:", "show:"), unknown("1: show", "shows"));
  EXPECT_EQ(error_of(kGood, "kind:", "knd:"), unknown("8: workload[0].knd", "kind"));
  EXPECT_EQ(error_of(kGood, "nodes: 2", "noodes: 2"), unknown("5: pools[0].noodes", "nodes"));
  EXPECT_EQ(error_of(kGood, "memory:", "memry:"), unknown("6: pools[0].node.memry", "memory"));
  EXPECT_NE(error_of(kGood, "- kind: poisson\n    per", "- per").find("workload[0].kind: found nothing,"),
            std::string::npos);
  // Where no list of keys is at hand, what is there and nearly the same is named.
  EXPECT_EQ(error_of(kGood, "assert:", "faults: [{knd: zone_loss}]\nassert:"),
            "parse_test.yaml:10: faults[0].kind: found nothing but \"knd\", expected the kind of fault");
  EXPECT_EQ(error_of(kGood, "assert:", "zones: [{nmae: a}]\nassert:"),
            "parse_test.yaml:10: zones[0].name: found nothing but \"nmae\", expected this key");
}

// A trace says T4 and V100M16, scenarios nvidia-t4; a section that --trace replaces may ask for others.
TEST(Scenario, TakesGpuModelsOfATraceByTheirOneName) {
  const std::string folder = testing::TempDir() + "parse_test_openb";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/openb_node_list_all_node.csv")
      << "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,T4\nn-1,96000,393216,8,V100M16\n";
  std::ofstream(folder + "/openb_pod_list_default.csv")
      << "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,"
         "deletion_time,scheduled_time\n"
         "p-0,6000,12288,1,460,T4,LS,Running,0,100,0\n";
  const std::string trace = "openb:" + folder;
  const auto setup = load_scenario("scenarios/capacity/openb.yaml", {}, trace);
  EXPECT_EQ(setup.gpu_models, (std::vector<std::string>{"nvidia-t4", "nvidia-v100m16"}));
  EXPECT_EQ(setup.pools.at(1).shape.gpu_model, 1);
  const std::string list = "{kind: list, arrivals: [{sandbox: t, gpu: A100}]}";
  EXPECT_NO_THROW(load_scenario("scenarios/capacity/openb.yaml", {{"workload.0", list}}, trace));

  std::string text(kGood);
  text += "fleet_from_trace: true\n";
  text.insert(text.find("assert:"), "  - {kind: trace, path: \"" + trace + "\"}\n" +
      "  - {kind: poisson, of: sandboxes, shapes: [{cpu: 1, memory: 1Gi, gpu: T4}]}\n");
  EXPECT_NO_THROW(load_scenario(file_of(text), {}, {}));
  EXPECT_EQ(error_of(text, "gpu: T4", "gpu: A100"),
            "parse_test.yaml:11: workload[2].shapes[0].gpu: found \"A100\", expected a model that a "
            "pool has: nvidia-t4, nvidia-v100m16");
}

// From --trace, else from the one section that is a trace, else there is none.
TEST(Scenario, TakesTheFleetFromATrace) {
  const std::string trace = testing::TempDir() + "fleet.jsonl";
  std::ofstream(trace) << "{\"chalk_trace\":1}\n{\"node_group\":\"big\",\"count\":3,"
                          "\"cpu_millicores\":8000,\"memory_bytes\":68719476736}\n";
  std::string text(kGood);
  text += "fleet_from_trace: true\n";
  const auto fleet = [](const auto& setup) { return setup.pools.at(0).nodes_max; };
  const auto none = load_scenario(file_of(text), {}, {});
  EXPECT_EQ(fleet(none), 2u);
  EXPECT_NE(lint(none).front().find("fleet_from_trace: there is no trace"), std::string::npos);
  const auto given = load_scenario(file_of(text), {}, "jsonl:" + trace);
  EXPECT_EQ(fleet(given), 3u);
  EXPECT_FALSE(given.fleet_without_trace);
  const std::string section = "  - {kind: trace, path: \"jsonl:" + trace + "\"}\n";
  text.insert(text.find("assert:"), section);
  EXPECT_EQ(fleet(load_scenario(file_of(text), {}, {})), 3u);
  text.insert(text.find("assert:"), section);
  EXPECT_NE(error_of(text, "", "").find("fleet_from_trace: found several traces"),
            std::string::npos);
}

TEST(Scenario, EveryShippedScenarioIsGood) {
  int seen = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("scenarios")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto setup = load_scenario(entry.path(), {}, {});
    const auto warnings = lint(setup);
    // By itself it runs a stand-in on a small fleet.
    const bool without_trace = entry.path().filename() == "openb.yaml";
    EXPECT_EQ(warnings.size(), without_trace ? 1u : 0u)
        << entry.path() << ": " << (warnings.empty() ? "" : warnings.front());
    ++seen;
  }
  EXPECT_GE(seen, 20);
}

// Whatever bytes a file has: a scenario or an error, never anything else.
TEST(Scenario, SurvivesAnyChangeOfItsText) {
  Random random{11, 0};
  const std::string good = kGood;
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (std::uint64_t changes = 1 + random.below(4); changes > 0; --changes) {
      const std::size_t at = random.below(text.size());
      switch (random.below(3)) {
        case 0: text[at] = static_cast<char>(random.below(256)); break;
        case 1: text.erase(at, 1 + random.below(6)); break;
        default: text.insert(at, good.substr(random.below(good.size()), 1 + random.below(12)));
      }
      if (text.empty()) text = "x";
    }
    try {
      const auto setup = load_scenario(file_of(text), {}, {});
      if (setup.open_workload) setup.open_workload(1);
    } catch (const ScenarioError&) {
    } catch (const InputError&) {
    } catch (const std::invalid_argument&) {
    }
  }
}

}  // namespace
}  // namespace chalk::sim
