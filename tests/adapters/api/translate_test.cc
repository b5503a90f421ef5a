// What the public API's specifications become, and what of them is refused.
#include "adapters/api/translate.h"

#include <gtest/gtest.h>

#include "adapters/api/ids.h"
#include "adapters/api/shown.h"

namespace chalk::api {
namespace {

namespace wire = container::v1;

wire::ChalkContainerSpec usual() {
  wire::ChalkContainerSpec spec;
  spec.set_image("python:3.12-slim-bookworm");
  spec.add_entrypoint("sleep");
  spec.add_entrypoint("infinity");
  return spec;
}

TEST(Translate, PrioritiesGangsAndDirectoriesAreTags) {
  auto spec = usual();
  (*spec.mutable_tags())["chalk.priority"] = "1000";
  (*spec.mutable_tags())["chalk.gang"] = "train/a/8";
  (*spec.mutable_tags())["team"] = "chalk.";
  auto asked = translate(spec);
  ASSERT_TRUE(asked) << asked.error().message;
  EXPECT_EQ(asked->priority, 1000);
  EXPECT_EQ(asked->gang.size, 8u);
  const std::uint64_t id = asked->gang.id;
  EXPECT_EQ(translate(spec)->gang.id, id);
  (*spec.mutable_tags())["chalk.gang"] = "train/b/8";
  EXPECT_NE(translate(spec)->gang.id, id);
  EXPECT_FALSE(translate(usual())->gang);
  EXPECT_EQ(translate(usual())->priority, 0);
  (*spec.mutable_tags())["chalk.workdir"] = "/srv";
  EXPECT_EQ(translate(spec)->payload.workdir(), "/srv");
  EXPECT_EQ(translate(usual())->payload.workdir(), "");
}

// The objection to it; empty when there is none.
std::string objection(const wire::ChalkContainerSpec& spec) {
  const auto asked = translate(spec);
  return asked ? "" : asked.error().message;
}

TEST(Translate, WhatTheClientSendsByDefaultIsAccepted) {
  const auto asked = translate(usual());
  ASSERT_TRUE(asked) << asked.error().message;
  EXPECT_EQ(asked->image, "python:3.12-slim-bookworm");
  EXPECT_EQ(asked->resources.cpu_millicores, 1'000);
  EXPECT_EQ(asked->resources.memory_bytes, std::int64_t{1} << 30);
  EXPECT_EQ(asked->resources.disk_bytes, std::int64_t{2} << 30);
  EXPECT_EQ(asked->resources.gpus, 0);
  EXPECT_EQ(asked->lifetime.nanos, 0);
  ASSERT_EQ(asked->payload.argv_size(), 2);
  EXPECT_EQ(asked->payload.argv(1), "infinity");
  EXPECT_EQ(asked->payload.port(), 0);
}

TEST(Translate, AmountsAreRead) {
  auto spec = usual();
  spec.mutable_resources()->set_cpu("500m");
  spec.mutable_resources()->set_memory("4Gi");
  spec.mutable_resources()->set_disk("10Gi");
  spec.mutable_lifetime()->set_seconds(90);
  spec.mutable_lifetime()->set_nanos(500'000'000);
  spec.set_port(8080);
  spec.set_name("worker-1");
  const auto asked = translate(spec);
  ASSERT_TRUE(asked) << asked.error().message;
  EXPECT_EQ(asked->resources.cpu_millicores, 500);
  EXPECT_EQ(asked->resources.memory_bytes, std::int64_t{4} << 30);
  EXPECT_EQ(asked->resources.disk_bytes, std::int64_t{10} << 30);
  EXPECT_EQ(asked->lifetime.nanos, 90'500'000'000);
  EXPECT_EQ(asked->payload.port(), 8080);
  EXPECT_EQ(asked->payload.hostname(), "worker-1");
}

TEST(Translate, GpusAreReadInBothNotations) {
  auto spec = usual();
  spec.mutable_resources()->set_gpu("A100");
  auto asked = translate(spec);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->resources.gpus, 1);
  EXPECT_EQ(asked->resources.gpu_millis, 1'000);
  EXPECT_EQ(asked->gpu, "1 x nvidia-a100");
  spec.mutable_resources()->set_gpu("2:nvidia-a100");
  asked = translate(spec);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->resources.gpus, 2);
}

struct Bad {
  const char* what;
  void (*change)(wire::ChalkContainerSpec&);
  const char* said;  // a part of the objection
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.what; }

class Refused : public testing::TestWithParam<Bad> {};

TEST_P(Refused, SaysWhatWasExpected) {
  auto spec = usual();
  GetParam().change(spec);
  const std::string said = objection(spec);
  EXPECT_NE(said.find(GetParam().said), std::string::npos) << "said: " << said;
  EXPECT_LT(said.size(), 1'000u) << "what a stranger sends must not fill our answers";
}

using Spec = wire::ChalkContainerSpec;
const Bad kBad[] = {
    {"upper case in the name", [](Spec& s) { s.set_name("Worker"); }, "name: found \"Worker\""},
    {"dots in the name", [](Spec& s) { s.set_name(".."); }, "lower case letters"},
    {"a path in the name", [](Spec& s) { s.set_name("../../etc/passwd"); }, "name: found"},
    {"a zero byte in the name", [](Spec& s) { s.set_name(std::string("a\0b", 3)); }, "a\\x00b"},
    {"a hyphen at the end", [](Spec& s) { s.set_name("a-"); }, "name: found"},
    {"a name of 64 bytes", [](Spec& s) { s.set_name(std::string(64, 'a')); }, "1 to 63"},
    {"a name of a megabyte", [](Spec& s) { s.set_name(std::string(900'000, 'a')); }, "900000 bytes"},
    {"no image", [](Spec& s) { s.clear_image(); }, "image: "},
    {"an image that is no name", [](Spec& s) { s.set_image("UPPER//case"); }, "image: "},
    {"an image of a megabyte", [](Spec& s) { s.set_image(std::string(900'000, 'i')); }, "image: "},
    {"an empty program", [](Spec& s) { s.set_entrypoint(0, ""); }, "entrypoint: found an empty"},
    {"a zero byte in a word", [](Spec& s) { s.set_entrypoint(1, std::string("x\0y", 3)); },
     "without a zero byte"},
    {"a word that the kernel refuses", [](Spec& s) { s.set_entrypoint(1, std::string(200'000, 'x')); },
     "entrypoint: found"},
    {"100,000 words", [](Spec& s) { for (int i = 0; i < 100'000; ++i) s.add_entrypoint("x"); },
     "100002 words"},
    {"10,000 variables",
     [](Spec& s) {
       for (int i = 0; i < 10'000; ++i) (*s.mutable_env_vars())["V" + std::to_string(i)] = "x";
     },
     "found 10000 variables, expected at most 1000"},
    {"a variable without a name", [](Spec& s) { (*s.mutable_env_vars())[""] = "x"; }, "env_vars: found"},
    {"a name with =", [](Spec& s) { (*s.mutable_env_vars())["A=B"] = "x"; }, "\"A=B\""},
    {"a zero byte in a value", [](Spec& s) { (*s.mutable_env_vars())["A"] = std::string("\0", 1); },
     "without a zero byte"},
    {"a value of 100 KB", [](Spec& s) { (*s.mutable_env_vars())["A"] = std::string(100'000, 'v'); },
     "100000 bytes"},
    {"variables of 500 KB",
     [](Spec& s) {
       for (int i = 0; i < 10; ++i) (*s.mutable_env_vars())["V" + std::to_string(i)] = std::string(50'000, 'v');
     },
     "bytes of variables"},
    {"a thousand tags",
     [](Spec& s) {
       for (int i = 0; i < 1'000; ++i) (*s.mutable_tags())["t" + std::to_string(i)] = "x";
     },
     "tags: found 1000"},
    {"a priority that is none", [](Spec& s) { (*s.mutable_tags())["chalk.priority"] = "high"; },
     "chalk.priority: found \"high\", expected a whole number of 0 to 1000"},
    {"a priority of 1001", [](Spec& s) { (*s.mutable_tags())["chalk.priority"] = "1001"; }, "0 to 1000"},
    {"a priority below nothing", [](Spec& s) { (*s.mutable_tags())["chalk.priority"] = "-1"; }, "0 to 1000"},
    {"a gang without a size", [](Spec& s) { (*s.mutable_tags())["chalk.gang"] = "train"; },
     "chalk.gang: found \"train\", expected NAME/SIZE"},
    {"a gang without a name", [](Spec& s) { (*s.mutable_tags())["chalk.gang"] = "/2"; }, "NAME/SIZE"},
    {"a gang of one", [](Spec& s) { (*s.mutable_tags())["chalk.gang"] = "train/1"; }, "2 to 1000"},
    {"a gang of 10^12", [](Spec& s) { (*s.mutable_tags())["chalk.gang"] = "train/1000000000000"; }, "2 to 1000"},
    {"a mistyped tag", [](Spec& s) { (*s.mutable_tags())["chalk.prority"] = "1"; },
     "there are chalk.priority, chalk.gang, chalk.workdir and chalk.creation"},
    {"a relative directory", [](Spec& s) { (*s.mutable_tags())["chalk.workdir"] = "tmp"; },
     "chalk.workdir: found \"tmp\", expected a path that begins with /"},
    {"negative cpu", [](Spec& s) { s.mutable_resources()->set_cpu("-1"); }, "resources.cpu: found \"-1\""},
    {"no cpu", [](Spec& s) { s.mutable_resources()->set_cpu("0"); }, "expected from 10m"},
    {"an empty cpu", [](Spec& s) { s.mutable_resources()->set_cpu(""); }, "expected an amount"},
    {"cpu in words", [](Spec& s) { s.mutable_resources()->set_cpu("two"); }, "\"2\" or \"500m\""},
    {"10^30 cpus", [](Spec& s) { s.mutable_resources()->set_cpu("1" + std::string(30, '0')); }, "resources.cpu"},
    {"10^30 Gi", [](Spec& s) { s.mutable_resources()->set_memory("1" + std::string(30, '0') + "Gi"); },
     "resources.memory"},
    {"a million Gi", [](Spec& s) { s.mutable_resources()->set_memory("1000000Gi"); }, "64Ti"},
    {"memory of one byte", [](Spec& s) { s.mutable_resources()->set_memory("1"); }, "expected from 64Mi"},
    {"negative memory", [](Spec& s) { s.mutable_resources()->set_memory("-4Gi"); }, "resources.memory"},
    {"no disk", [](Spec& s) { s.mutable_resources()->set_disk("0"); }, "resources.disk"},
    {"not a number of memory", [](Spec& s) { s.mutable_resources()->set_memory("NaN"); }, "resources.memory"},
    {"17 GPUs", [](Spec& s) { s.mutable_resources()->set_gpu("17:a100"); }, "resources.gpu"},
    {"no GPU counted", [](Spec& s) { s.mutable_resources()->set_gpu("0:a100"); }, "resources.gpu"},
    {"a GPU of a megabyte", [](Spec& s) { s.mutable_resources()->set_gpu(std::string(900'000, 'g')); },
     "resources.gpu"},
    {"an empty lifetime", [](Spec& s) { s.mutable_lifetime(); }, "lifetime: found 0 s"},
    {"a negative lifetime", [](Spec& s) { s.mutable_lifetime()->set_seconds(-1); }, "lifetime: found -1 s"},
    {"the longest duration", [](Spec& s) { s.mutable_lifetime()->set_seconds(INT64_MAX); }, "30 days"},
    {"negative nanoseconds", [](Spec& s) { s.mutable_lifetime()->set_nanos(-1); }, "lifetime"},
    {"a second in nanoseconds", [](Spec& s) { s.mutable_lifetime()->set_nanos(2'000'000'000); }, "lifetime"},
    {"port zero", [](Spec& s) { s.set_port(0); }, "port: found 0"},
    {"port 70000", [](Spec& s) { s.set_port(70'000); }, "port: found 70000"},
    {"a negative port", [](Spec& s) { s.set_port(-1); }, "port: found -1"},
    {"a probe without a port", [](Spec& s) { s.mutable_startup_probe()->mutable_http(); }, "startup_probe"},
    {"a probe with a line break",
     [](Spec& s) {
       s.set_port(80);
       s.mutable_startup_probe()->mutable_http()->set_path("/\r\nHost: evil");
     },
     "startup_probe.http.path"},
    {"a probe every 0 seconds",
     [](Spec& s) {
       s.set_port(80);
       s.mutable_readiness_probe()->mutable_http();
       s.mutable_readiness_probe()->set_period_seconds(0);
     },
     "readiness_probe.period_seconds"},
    {"another protocol", [](Spec& s) { s.set_protocol("smtp"); }, "protocol: found \"smtp\""},
    {"an unknown restart policy",
     [](Spec& s) { s.set_restart_policy(static_cast<wire::RestartPolicy>(77)); }, "restart_policy: found 77"},
    {"an unknown compute class",
     [](Spec& s) { s.set_compute_class(static_cast<wire::ComputeClass>(-5)); }, "compute_class"},
    {"a specification of two megabytes",
     [](Spec& s) { s.mutable_startup_probe()->mutable_http()->set_path(std::string(2'000'000, 'p')); },
     "expected at most 1048576"},
};
INSTANTIATE_TEST_SUITE_P(Translate, Refused, testing::ValuesIn(kBad));

class NotDone : public testing::TestWithParam<Bad> {};

TEST_P(NotDone, IsRefusedByItsName) {
  auto spec = usual();
  GetParam().change(spec);
  const auto asked = translate(spec);
  ASSERT_FALSE(asked) << "what is not done must not be ignored";
  EXPECT_EQ(asked.error().why, Objection::Why::unimplemented);
  EXPECT_NE(asked.error().message.find(GetParam().said), std::string::npos) << asked.error().message;
}

const Bad kNotDone[] = {
    {"volumes", [](Spec& s) { s.add_volumes()->set_name("v"); }, "volumes"},
    {"secrets", [](Spec& s) { s.add_secret_refs()->set_secret_name("s"); }, "secret_refs"},
    {"network policy", [](Spec& s) { s.mutable_network_policy(); }, "network_policy"},
    {"identity", [](Spec& s) { s.mutable_chalk_workload_identity(); }, "chalk_workload_identity"},
    {"ssh", [](Spec& s) { s.set_enable_ssh(true); }, "enable_ssh"},
    {"managed ssh", [](Spec& s) { (*s.mutable_managed_ssh())["a"].set_host("b"); }, "managed_ssh"},
    {"snapshots", [](Spec& s) { s.set_restore_from_snapshot_id("x"); }, "restore_from_snapshot_id"},
    {"placement", [](Spec& s) { s.mutable_host_placement()->set_host_pool_id("p"); }, "host_placement"},
    {"an open kernel",
     [](Spec& s) { s.mutable_security_policy()->set_kernel_policy(wire::KERNEL_POLICY_OPEN); },
     "kernel_policy"},
    {"serverless",
     [](Spec& s) { s.mutable_execution_target()->set_backend(wire::EXECUTION_BACKEND_SERVERLESS); },
     "execution_target"},
    {"detectors",
     [](Spec& s) { s.mutable_resource_detection()->add_detectors(wire::RESOURCE_DETECTOR_GITHUB_PULL_REQUESTS); },
     "resource_detection"},
    {"authentication", [](Spec& s) { s.set_authentication("AUTHENTICATED"); }, "authentication"},
    {"routing", [](Spec& s) { s.set_routing("subdomain"); }, "routing"},
    {"a field of the future",
     [](Spec& s) { s.ParseFromString(s.SerializeAsString() + std::string("\xc2\x3e\x01x", 4)); },
     "field 1000"},
};
INSTANTIATE_TEST_SUITE_P(Translate, NotDone, testing::ValuesIn(kNotDone));

TEST(Translate, TheWishToBeStartedAgainIsPassedOn) {
  auto spec = usual();
  EXPECT_FALSE(translate(spec)->restart);
  spec.set_restart_policy(wire::RESTART_POLICY_NEVER);
  EXPECT_FALSE(translate(spec)->restart);
  spec.set_restart_policy(wire::RESTART_POLICY_ALWAYS);
  EXPECT_TRUE(translate(spec)->restart);
}

TEST(Translate, ChoicesThatChangeNothingAreAccepted) {
  auto spec = usual();
  spec.set_restart_policy(wire::RESTART_POLICY_NEVER);
  spec.set_compute_class(wire::COMPUTE_CLASS_HOST);
  spec.mutable_security_policy()->set_kernel_policy(wire::KERNEL_POLICY_RESTRICTED);
  spec.mutable_execution_target()->set_backend(wire::EXECUTION_BACKEND_ENVIRONMENT);
  spec.mutable_resource_detection();
  spec.set_protocol("http");
  EXPECT_EQ(objection(spec), "");
}

TEST(Translate, ProbesKeepWhatTheyAsk) {
  auto spec = usual();
  spec.set_port(8080);
  spec.mutable_startup_probe()->mutable_http()->set_path("/ready");
  spec.mutable_readiness_probe()->mutable_grpc()->set_service("my.Service");
  spec.mutable_readiness_probe()->set_period_seconds(3);
  spec.mutable_readiness_probe()->set_failure_threshold(5);
  const auto asked = translate(spec);
  ASSERT_TRUE(asked) << asked.error().message;
  EXPECT_EQ(asked->payload.startup_probe().http_path(), "/ready");
  EXPECT_EQ(asked->payload.readiness_probe().grpc_service(), "my.Service");
  EXPECT_EQ(asked->payload.readiness_probe().period_ms(), 3'000u);
  EXPECT_EQ(asked->payload.readiness_probe().failure_threshold(), 5u);
}

TEST(Translate, AnImageGivesItsCommandWhereNoneWasNamed) {
  images::Image image;
  image.reference = *images::parse_reference("python:3.12");
  image.config.entrypoint = {"/entry"};
  image.config.cmd = {"python3"};
  auto spec = usual();
  auto asked = translate(spec);
  ASSERT_TRUE(take_image(image, *asked));
  EXPECT_EQ(asked->payload.argv(0), "sleep") << "what was asked for wins";
  spec.clear_entrypoint();
  asked = translate(spec);
  ASSERT_TRUE(take_image(image, *asked));
  ASSERT_EQ(asked->payload.argv_size(), 2);
  EXPECT_EQ(asked->payload.argv(0), "/entry");
  EXPECT_EQ(asked->payload.argv(1), "python3");
  image.config = {};
  asked = translate(spec);
  const auto taken = take_image(image, *asked);
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find("expected the program to run"), std::string::npos);
}

// 64 words of 128,000 bytes are a configuration that a registry may serve. As an order with them it
// would be larger than what an agent takes, and cut off its node for good.
TEST(Translate, AnImageMakesNoOrderThatANodeCannotTake) {
  images::Image image;
  image.reference = *images::parse_reference("python:3.12");
  image.config.cmd.assign(64, std::string(128'000, 'x'));
  auto spec = usual();
  auto asked = translate(spec);
  auto taken = take_image(image, *asked);
  ASSERT_FALSE(taken) << "also where its command is not used";
  EXPECT_EQ(taken.error().why, Objection::Why::invalid);
  EXPECT_NE(taken.error().message.find("4194304"), std::string::npos) << taken.error().message;
  spec.clear_entrypoint();
  asked = translate(spec);
  taken = take_image(image, *asked);
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find("64 words with 8192064 bytes"), std::string::npos)
      << taken.error().message;
  image.config.cmd = {"python3", std::string(1, '\0')};
  asked = translate(spec);
  EXPECT_FALSE(take_image(image, *asked)) << "no program can be started with that";
}

TEST(Translate, WhatIsAcceptedIsFarSmallerThanWhatANodeTakes) {
  auto spec = usual();
  spec.clear_entrypoint();
  for (int i = 0; i < 4; ++i) {
    (*spec.mutable_env_vars())["V" + std::to_string(i)] = std::string(50'000, 'v');
  }
  std::size_t accepted = 0;
  for (const std::size_t words : {1u, 2u, 8u, 16u, 32u, 40u, 64u}) {
    images::Image image;
    image.reference = *images::parse_reference("python:3.12");
    image.config.cmd = {"python3"};
    image.config.env.assign(words, "A=" + std::string(128'000, '\1'));  // 6 bytes each as JSON
    auto asked = translate(spec);
    if (!take_image(image, *asked)) continue;
    ++accepted;
    EXPECT_LT(asked->payload.ByteSizeLong(), 5u << 20);
  }
  EXPECT_EQ(accepted, 2u);
}

TEST(Translate, ALabelSaysIdAndName) {
  auto spec = usual();
  spec.set_name("worker");
  const auto asked = translate(spec);
  const auto label = read_label(SandboxId{0x1f}, asked->payload.SerializeAsString());
  EXPECT_EQ(label.id, "sb-000000000000001f");
  EXPECT_EQ(label.name, "worker");
  EXPECT_EQ(public_spec(asked->payload).image(), "python:3.12-slim-bookworm");
  const auto torn = read_label(SandboxId{1}, "\xff\xff\xff");
  EXPECT_EQ(torn.id, "sb-0000000000000001");
  EXPECT_EQ(torn.name, "");
}

TEST(Ids, ReadBackWhatTheyWrite) {
  for (const std::uint64_t value : {std::uint64_t{1}, std::uint64_t{0xfedcba9876543210}, UINT64_MAX}) {
    EXPECT_EQ(parse_sandbox_id(sandbox_text_id(SandboxId{value})), SandboxId{value});
  }
  for (const char* text : {"", "sb-", "sb-0000000000000000", "sb-000000000000001", "sb-00000000000000001",
                           "SB-0000000000000001", "sb-000000000000000g", "sb-000000000000000A"}) {
    EXPECT_FALSE(parse_sandbox_id(text)) << text;
  }
}

TEST(Shown, IsShortAndPrintable) {
  EXPECT_EQ(shown("a\"b\\c\n"), "\"a\\\"b\\\\c\\x0a\"");
  EXPECT_LT(shown(std::string(1'000'000, '\xff')).size(), 300u);
}

}  // namespace
}  // namespace chalk::api
