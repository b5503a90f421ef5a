#include "sim/world/replay.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "model/core/random.h"
#include "sim/scenario/parse.h"
#include "sim/world/queue.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

class Replay : public testing::Test {
 protected:
  void SetUp() override {
    log_ = testing::TempDir() + "replay_test.log";
    const auto setup = load_scenario("scenarios/fast/tenants_apart.yaml",
                                     {{"output.checkpoint_every", "500"}}, {});
    RunOptions options;
    options.log_path = log_;
    result_ = run_world(setup, options);
    std::ifstream in(log_, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    bytes_ = text.str();
  }
  void write(const std::string& bytes) { std::ofstream(log_, std::ios::binary) << bytes; }
  std::string log_;
  std::string bytes_;
  Result result_;
};

TEST_F(Replay, GivesTheDigestOfTheRunAtEveryCheckpoint) {
  const ReplayReport report = replay(log_, true);
  EXPECT_TRUE(report.same) << report.difference;
  EXPECT_EQ(report.running_digest, result_.digest);
  EXPECT_EQ(report.events, result_.events);
  EXPECT_GE(report.checkpoints, 2u);
}

// Any changed byte is a difference with its place, or an error with its place; never a crash.
TEST_F(Replay, NamesThePlaceOfAnyTampering) {
  Random random{7, 0};
  int differences = 0;
  for (int i = 0; i < 300; ++i) {
    std::string tampered = bytes_;
    const std::size_t at =
        kLogMagic.size() + 200 + random.below(bytes_.size() - kLogMagic.size() - 220);
    tampered[at] = static_cast<char>(tampered[at] ^ (1 << random.below(8)));
    write(tampered);
    try {
      const ReplayReport report = replay(log_, true);
      EXPECT_FALSE(report.same) << "byte " << at << " of " << bytes_.size() << ": "
                                << int(bytes_[at]) << " -> " << int(tampered[at]);
      EXPECT_NE(report.difference.find("record "), std::string::npos);
      ++differences;
    } catch (const LogError& error) {
      EXPECT_NE(std::string(error.what()).find("record "), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(differences, 50);
}

TEST_F(Replay, SaysWhereALogWasCut) {
  for (const std::size_t keep : {bytes_.size() - 1, bytes_.size() / 2, bytes_.size() / 3}) {
    write(bytes_.substr(0, keep));
    EXPECT_THROW(replay(log_, true), LogError);
  }
  write("something else");
  EXPECT_THROW(replay(log_, true), LogError);
  EXPECT_THROW(replay("/nonexistent/log", true), LogError);
}

// The lanes change how the queue works, not what it gives.
TEST(Queue, PopsInOrderOfTimeThenOfPushing) {
  Random random{3, 0};
  Queue queue;
  std::vector<std::pair<std::int64_t, std::uint64_t>> expected;
  std::int64_t now = 0;
  std::uint64_t pushed = 0;
  const auto pop = [&] {
    const auto least = std::min_element(expected.begin(), expected.end());
    const Scheduled entry = queue.pop();
    ASSERT_EQ(entry.at.nanos, least->first);
    ASSERT_EQ(entry.detail, least->second);
    now = entry.at.nanos;
    expected.erase(least);
  };
  for (int i = 0; i < 20'000; ++i) {
    if (random.below(5) < 3 || expected.empty()) {
      const int lane = static_cast<int>(random.below(5)) - 1;
      const std::int64_t at = now + static_cast<std::int64_t>(random.below(lane == 0 ? 1 : 50));
      queue.push(lane, Time{at}, 0, 0, pushed);
      expected.emplace_back(at, pushed++);
    } else {
      ASSERT_EQ(queue.next().nanos, std::min_element(expected.begin(), expected.end())->first);
      pop();
    }
  }
  while (!expected.empty()) pop();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace chalk::sim
