// Random and mutated bytes as specifications: nothing crashes and nothing out of bounds gets through.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "adapters/api/translate.h"

namespace chalk::api {
namespace {

namespace wire = container::v1;

// Everything filled in, so that mutations reach every field.
wire::ChalkContainerSpec full() {
  wire::ChalkContainerSpec spec;
  spec.set_name("worker-1");
  spec.set_image("docker.io/library/python:3.12");
  spec.add_entrypoint("sleep");
  spec.add_entrypoint("infinity");
  (*spec.mutable_tags())["team"] = "a";
  spec.set_port(8080);
  spec.mutable_lifetime()->set_seconds(60);
  spec.mutable_resources()->set_cpu("500m");
  spec.mutable_resources()->set_memory("1Gi");
  spec.mutable_resources()->set_disk("2Gi");
  (*spec.mutable_env_vars())["NAME"] = "value";
  spec.mutable_startup_probe()->mutable_http()->set_path("/ready");
  spec.mutable_readiness_probe()->mutable_grpc()->set_service("s");
  spec.mutable_readiness_probe()->set_period_seconds(2);
  spec.set_restart_policy(wire::RESTART_POLICY_NEVER);
  return spec;
}

void check_bounds(const Asked& asked, const wire::ChalkContainerSpec& spec) {
  const Resources& r = asked.resources;
  ASSERT_GE(r.cpu_millicores, kCpuMillicoresMin);
  ASSERT_LE(r.cpu_millicores, kCpuMillicoresMax);
  ASSERT_GE(r.memory_bytes, kMemoryBytesMin);
  ASSERT_LE(r.memory_bytes, kBytesMax);
  ASSERT_GE(r.disk_bytes, kDiskBytesMin);
  ASSERT_LE(r.disk_bytes, kBytesMax);
  ASSERT_GE(r.gpus, 0);
  ASSERT_LE(r.gpus, kGpusPerNodeMax);
  ASSERT_GE(asked.lifetime.nanos, 0);
  ASSERT_LE(asked.lifetime.nanos, kLifetimeSecondsMax * 1'000'000'000);
  ASSERT_LE(asked.payload.ByteSizeLong(), 3 * kSpecBytesMax);
  ASSERT_GE(asked.payload.port(), 0);
  ASSERT_LE(asked.payload.port(), 65'535);
  for (const std::string& word : asked.payload.argv()) {
    ASSERT_EQ(word.find('\0'), std::string::npos);
  }
  for (const auto& [name, value] : asked.payload.env()) {
    ASSERT_FALSE(name.empty());
    ASSERT_EQ(name.find('='), std::string::npos);
    ASSERT_EQ((name + value).find('\0'), std::string::npos);
  }
  for (const char c : spec.name()) ASSERT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
}

std::string mutated(std::string bytes, std::mt19937_64& random) {
  const int changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < changes && !bytes.empty(); ++i) {
    const std::size_t at = random() % bytes.size();
    switch (random() % 5) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1: bytes.erase(at, 1 + random() % 8); break;
      case 2: bytes.insert(at, std::string(1 + random() % 8, static_cast<char>(random()))); break;
      case 3: bytes.insert(at, bytes.substr(at, random() % 64)); break;
      default: bytes[at] ^= static_cast<char>(1 << random() % 8);
    }
  }
  return bytes;
}

// protobuf would write a line for each text that is not UTF-8.
const auto kSilent = google::protobuf::SetLogHandler(nullptr);

TEST(TranslateFuzz, MutatedSpecificationsNeverGetOutOfBounds) {
  const char* rounds_text = std::getenv("CHALK_FUZZ_ROUNDS");
  const long rounds = rounds_text != nullptr ? std::atol(rounds_text) : 20'000;
  std::mt19937_64 random(20261128);
  const std::string seed = full().SerializeAsString();
  long accepted = 0;
  for (long round = 0; round < rounds; ++round) {
    const std::string bytes = mutated(seed, random);
    wire::ChalkContainerSpec spec;
    if (!spec.ParseFromString(bytes)) continue;
    const auto asked = translate(spec);
    if (!asked) {
      ASSERT_FALSE(asked.error().message.empty());
      continue;
    }
    ++accepted;
    check_bounds(*asked, spec);
    if (HasFatalFailure()) FAIL() << "round " << round << ": " << spec.ShortDebugString();
  }
  EXPECT_GT(accepted, rounds / 100) << "the mutations must not all be refused, or nothing is tried";
}

TEST(TranslateFuzz, RandomBytesNeverCrash) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    wire::ChalkContainerSpec spec;
    if (spec.ParseFromString(bytes)) {
      if (const auto asked = translate(spec)) check_bounds(*asked, spec);
    }
    read_label(SandboxId{1}, bytes);
  }
}

}  // namespace
}  // namespace chalk::api
