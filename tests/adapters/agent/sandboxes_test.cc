// Sandboxes over a runtime that does as the test says: what is told of them is true.
#include "adapters/agent/sandboxes.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "chalk/node/v1/node.pb.h"
#include "plain_process.h"
#include "tests/adapters/images/scratch.h"
#include "tests/support/machine.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Runtime final : public Machinery {
 public:
  Result<StartedAt> start(const StartPlan&, std::chrono::milliseconds, Ended) override {
    return StartedAt{1, 1};
  }
  Result<void> signal(const std::string&, int) override { return {}; }
  Result<void> remove(const std::string&) override {
    ++removals;
    if (stuck) return fail(Error::Kind::unavailable, "its processes go on");
    return {};
  }
  Result<Process> exec(const std::string&, const Command&,
                       std::function<void(ProcessEnd)>) override {
    return fail(Error::Kind::failed, "not here");
  }
  Result<std::vector<Found>> list() override {
    return orphan.empty() ? std::vector<Found>{} : std::vector<Found>{{orphan, true, {}}};
  }
  Result<void> adopt(const std::string&, Ended) override {
    return fail(Error::Kind::not_found, "it does not run");
  }
  std::atomic<bool> stuck = false;
  std::atomic<int> removals = 0;
  std::string orphan;
};

class SandboxesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto lack = test::no_networks(); !lack.empty()) GTEST_SKIP() << lack;
    images::StoreOptions where;
    where.root = scratch_.path() + "/images";
    where.keep_free_bytes = 0;
    const std::string layer = where.root + "/layers/" + std::string(64, 'a');
    fs::create_directories(layer + "/fs");
    std::ofstream(layer + "/layer.json") << R"({"bytes": 1, "whiteouts": 0, "blob": "b"})";
    std::ofstream(layer + "/synced");
    auto store = images::Store::open(where);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
    auto rootfs = images::Rootfs::open(*store_);
    ASSERT_TRUE(rootfs) << rootfs.error().message;
    rootfs_ = std::move(*rootfs);
    network::Options network;
    const auto pid = static_cast<unsigned>(getpid());
    network.name = "b" + std::to_string(pid % 1'000'000);
    network.pool = "10." + std::to_string(100 + pid % 64) + "." +
                   std::to_string(pid / 64 % 250) + ".0/28";
    network.spare = 0;
    network.records = scratch_.folder("network");
    auto opened = network::Network::open(network);
    ASSERT_TRUE(opened) << opened.error().message;
    network_ = std::move(*opened);
    begin();
  }
  void TearDown() override {
    if (!network_) return;
    end();
    EXPECT_TRUE(network_->remove());
  }
  void begin() {
    alarm_ = std::make_unique<Alarm>();
    logs_ = std::make_unique<Logs>(scratch_.path() + "/output", 1 << 20);
    sessions_ = std::make_unique<Sessions>(plain_.source(), Sessions::Options{});
    sandboxes_ = std::make_unique<Sandboxes>(
        options_, Sandboxes::Parts{runtime_, *rootfs_, *network_, *logs_, *sessions_, *alarm_},
        [this](node::Event event) {
          const std::lock_guard lock(mutex_);
          said_.push_back(std::move(event));
          changed_.notify_all();
        });
  }
  void end() {
    alarm_->stop();
    sandboxes_.reset();
    sessions_.reset();
    logs_.reset();
  }
  static StartOrder order() {
    images::Image image;
    image.reference = *images::parse_reference("library/some:1");
    image.manifest_digest = "sha256:" + std::string(64, 'c');
    image.layers.push_back({"sha256:" + std::string(64, 'b'),
                            "application/vnd.oci.image.layer.v1.tar", 1,
                            "sha256:" + std::string(64, 'a')});
    node::v1::SandboxPayload payload;
    payload.add_argv("/bin/true");
    payload.set_image(images::encode_image(image));
    StartOrder order;
    order.sandbox = {1};
    order.payload = payload.SerializeAsString();
    return order;
  }
  std::size_t said() {
    const std::lock_guard lock(mutex_);
    return said_.size();
  }
  node::Event next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 60s, [&] { return !said_.empty(); })) return Woken{};
    node::Event first = std::move(said_.front());
    said_.erase(said_.begin());
    return first;
  }
  // While it is stuck it is tried again, and nothing is told.
  void expect_silence() {
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (runtime_.removals < 2 && std::chrono::steady_clock::now() < until) usleep(5'000);
    EXPECT_GE(runtime_.removals, 2);
    EXPECT_EQ(said(), 0u);
  }

  images::testing::Scratch scratch_;
  const Options options_;
  Runtime runtime_;
  PlainProcesses plain_;
  std::unique_ptr<images::Store> store_;
  std::unique_ptr<images::Rootfs> rootfs_;
  std::unique_ptr<network::Network> network_;
  std::unique_ptr<Alarm> alarm_;
  std::unique_ptr<Logs> logs_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<Sandboxes> sandboxes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<node::Event> said_;
};

TEST_F(SandboxesTest, AKillIsToldOnceItsProcessesAreGone) {
  sandboxes_->start({order()});
  const node::Event begun = next();
  const auto* started = std::get_if<node::SandboxStarted>(&begun);
  ASSERT_TRUE(started != nullptr && started->good);
  runtime_.stuck = true;
  sandboxes_->kill({1}, EndReason::terminated, {});
  expect_silence();
  EXPECT_EQ(sandboxes_->count(), 1u);
  runtime_.stuck = false;
  EXPECT_TRUE(std::holds_alternative<node::SandboxKilled>(next()));
  EXPECT_EQ(sandboxes_->count(), 0u);
}

TEST_F(SandboxesTest, AStartThatFailedIsToldOnceItsProcessesAreGone) {
  runtime_.stuck = true;
  StartOrder garbage = order();
  garbage.payload = "\xff\xff\xff";
  sandboxes_->start({garbage});
  expect_silence();
  runtime_.stuck = false;
  const node::Event told = next();
  const auto* started = std::get_if<node::SandboxStarted>(&told);
  ASSERT_NE(started, nullptr);
  EXPECT_FALSE(started->good);
}

TEST_F(SandboxesTest, ANodeIsScrubbedOnceOrphansAreGone) {
  runtime_.stuck = true;
  runtime_.orphan = name_of({7});
  sandboxes_->scrub();
  expect_silence();
  runtime_.stuck = false;
  EXPECT_TRUE(std::holds_alternative<node::ScrubFinished>(next()));
}

// The agent was restarted while a kill got nowhere: the kill is ordered again, and told when it is true.
TEST_F(SandboxesTest, WhatOutlivesItsAgentIsToldOnceItsProcessesAreGone) {
  for (const bool killed : {true, false}) {
    runtime_.stuck = true;
    runtime_.removals = 0;
    EXPECT_FALSE(sandboxes_->reap(name_of({1})));
    sandboxes_->end_when_gone(order(), {});
    if (killed) sandboxes_->kill({1}, EndReason::terminated, {});
    expect_silence();
    EXPECT_EQ(sandboxes_->count(), 1u);
    runtime_.stuck = false;
    const node::Event told = next();
    EXPECT_EQ(std::holds_alternative<node::SandboxKilled>(told), killed);
    EXPECT_EQ(std::holds_alternative<node::SandboxExited>(told), !killed);
    EXPECT_EQ(sandboxes_->count(), 0u);
  }
}

TEST_F(SandboxesTest, WhatCannotBeTakenOverKeepsNoPipesOpen) {
  ASSERT_TRUE(logs_->begin({1}));
  end();  // as an agent that is killed
  begin();
  EXPECT_FALSE(sandboxes_->adopt(order()));
  const std::string output = fs::canonical(scratch_.path() + "/output");
  for (const auto& one : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    EXPECT_FALSE(fs::read_symlink(one.path(), gone).string().starts_with(output)) << one.path();
  }
}

}  // namespace
}  // namespace chalk::agent
