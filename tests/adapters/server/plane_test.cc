// The control plane in one process, without a network: what it takes and refuses, and what is left
// of it after its end.
#include "adapters/server/plane.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "small_plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using records::Sandbox;
using records::Status;

constexpr TenantId kTenant{1};

PlaneOptions options_in(const std::string& folder) {
  PlaneOptions out = small_plane(folder);
  out.label = [](SandboxId sandbox, const std::string& payload) {
    return records::Label{"sbx-" + std::to_string(sandbox.value), payload};
  };
  return out;
}

SandboxAsk ask_for(const std::string& key, std::int64_t cpu_millicores = 100) {
  SandboxAsk ask;
  ask.key = key;
  ask.tenant = kTenant;
  ask.resources.cpu_millicores = cpu_millicores;
  ask.resources.memory_bytes = 1 << 20;
  ask.payload = "payload of " + key;
  return ask;
}

class PlaneTest : public testing::Test {
 protected:
  void SetUp() override {
    mallopt(M_PERTURB, 0x5a);  // what is used before it is made is not zero by chance
    folder_ = testing::TempDir() + "chalk_plane_" + std::to_string(getpid());
    fs::remove_all(folder_);
  }
  void TearDown() override {
    end();
    fs::remove_all(folder_);
  }

  void end() {
    if (plane_) plane_->stop();  // what it still says is answered by a plane that is there
    plane_.reset();
  }
  // Also again, as a server that restarts.
  void start() {
    end();
    PlaneOptions options = options_in(folder_);
    options.records = kept_;
    plane_ = std::make_unique<Plane>(options);
    start_with(*plane_, node_, &cut_);
    plane_->add_tenant(kTenant);
  }
  void start_with_node() {
    start();
    node_.boot();
    ASSERT_TRUE(eventually([&] { return plane_->nodes().value().size() == 1; }));
  }
  Sandbox wait(SandboxId sandbox, Status status) {
    const auto found = plane_->records().wait(
        sandbox, 60s, [&](const Sandbox& one) { return one.status == status; });
    EXPECT_TRUE(found);
    return found.value_or(Sandbox{});
  }

  std::string folder_;
  records::Options kept_;
  std::unique_ptr<Plane> plane_;
  PretendNode node_{5};
  std::atomic<bool> cut_ = false;  // orders do not arrive
};

TEST_F(PlaneTest, ASandboxIsCreatedRunsAndIsEnded) {
  start_with_node();
  const auto made = plane_->create(ask_for("one"));
  ASSERT_TRUE(made) << made.error().message;
  const Sandbox runs = wait(*made, Status::running);
  EXPECT_EQ(runs.node, node_.id());
  EXPECT_EQ(runs.started_note, "started");
  EXPECT_EQ(node_.running().at(*made).payload, "payload of one");  // the plane fills it in
  ASSERT_TRUE(plane_->terminate(*made, seconds(1)));
  const Sandbox ended = wait(*made, Status::ended);
  EXPECT_EQ(ended.reason, EndReason::terminated);
  EXPECT_TRUE(ended.stop_asked);
  EXPECT_EQ(ended.ended_note, "killed");
  EXPECT_TRUE(plane_->terminate(*made, {}));  // once more is fine
  EXPECT_TRUE(plane_->terminate(SandboxId{999}, {}));
}

// The batch before the one that has the event ends while that one is being written: an inbox that is
// empty says nothing of what is on the disk.
TEST_F(PlaneTest, NothingIsAnsweredWhileItIsStillBeingWritten) {
  fs::create_directories(folder_);
  std::promise<void> entered, go;
  std::atomic<int> batches = 0;
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ + "/control.db").c_str(), &other), SQLITE_OK);
  PlaneOptions options = options_in(folder_);
  std::atomic<std::size_t> steps = 0;
  std::atomic<bool> held = false;
  options.measured = [&](std::size_t events, double, double) {
    if (events >= 1'024 && ++batches == 1) {  // a full one: more waits behind it
      EXPECT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
      held = true;
    }
  };
  options.seen = [&](Time, const std::vector<control::Effect>&) {
    if (++steps != 1) return;
    entered.set_value();
    go.get_future().wait();
  };
  plane_ = std::make_unique<Plane>(options);
  plane_->start({[](NodeId, Envelope<NodeOrder>) {}, [](std::uint64_t, std::uint64_t, NodeId) {},
                 [](NodeId, std::uint64_t) {}});
  entered.get_future().wait();
  for (int i = 0; i < 1'500; ++i) plane_->reported(NodeId{1}, {});
  auto answer = std::async(std::launch::async, [&] { return plane_->terminate(SandboxId{9}, {}); });
  // It is said and asks for its look meanwhile: where it is late, less is shown, and nothing fails.
  std::this_thread::sleep_for(200ms);
  go.set_value();
  ASSERT_TRUE(eventually([&] { return held.load(); }));
  EXPECT_EQ(answer.wait_for(500ms), std::future_status::timeout) << "the log cannot be written";
  EXPECT_EQ(sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_TRUE(answer.get());
  end();
  sqlite3_close(other);
}

TEST_F(PlaneTest, TheSameKeyIsTheSameSandboxAndOnlyOfTheSameTenant) {
  start_with_node();
  plane_->add_tenant({2});
  const auto first = plane_->create(ask_for("key"));
  const auto again = plane_->create(ask_for("key"));
  ASSERT_TRUE(first && again);
  EXPECT_EQ(*first, *again);
  SandboxAsk other = ask_for("key");
  other.tenant = {2};
  EXPECT_NE(plane_->create(other).value_or(*first), *first);
  const auto nameless = plane_->create(ask_for(""));
  EXPECT_NE(plane_->create(ask_for("")).value_or(*nameless), *nameless);
  wait(*first, Status::running);
  EXPECT_TRUE(eventually([&] { return node_.starts() == 4; })) << node_.starts();
}

TEST_F(PlaneTest, ARefusalSaysTheRuleAndTheNumbers) {
  start_with_node();
  const auto large = plane_->create(ask_for("large", 9'000));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().kind, Error::Kind::invalid);
  EXPECT_EQ(large.error().message, "no node of any pool is large enough");
  SandboxAsk forever = ask_for("forever");
  forever.lifetime = seconds(31 * 86'400);
  const auto long_one = plane_->create(forever);
  ASSERT_FALSE(long_one);
  EXPECT_EQ(long_one.error().kind, Error::Kind::invalid);
  EXPECT_NE(long_one.error().message.find("30d"), std::string::npos) << long_one.error().message;
  SandboxAsk pictured = ask_for("image");
  pictured.image = {77};
  EXPECT_EQ(plane_->create(pictured).error().message, "the image is not known to the scheduler");
  SandboxAsk stranger = ask_for("stranger");
  stranger.tenant = {44};
  const auto unknown = plane_->create(stranger);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, Error::Kind::exhausted);
  EXPECT_EQ(node_.starts(), 0u);
  EXPECT_EQ(plane_->records().live(), 0u);
}

// Each specification here is of 12 bytes: "payload of a".
TEST_F(PlaneTest, SpecificationsBeyondWhatIsKeptAreRefusedUntilSomeEnd) {
  const auto refused = [&](const char* of, const char* at_most) {
    const auto more = plane_->create(ask_for("c"));
    ASSERT_FALSE(more);
    EXPECT_EQ(more.error().kind, Error::Kind::exhausted);
    EXPECT_NE(more.error().message.find(of), std::string::npos) << more.error().message;
    EXPECT_NE(more.error().message.find(at_most), std::string::npos) << more.error().message;
  };
  kept_.bytes_of_tenant_max = 30;
  start_with_node();
  const auto first = plane_->create(ask_for("a"));
  ASSERT_TRUE(first) << first.error().message;
  const auto second = plane_->create(ask_for("b"));
  ASSERT_TRUE(second);
  refused("24 bytes in this environment", "at most 30");
  wait(*first, Status::running);
  wait(*second, Status::running);
  kept_ = {.bytes_max = 29};
  start();
  refused("24 bytes in all environments", "at most 29");
  ASSERT_TRUE(plane_->terminate(*first, {}));
  EXPECT_TRUE(eventually([&] { return plane_->create(ask_for("c")).has_value(); }));
}

TEST_F(PlaneTest, WhatHasNoRoomWaitsUntilThereIsSome) {
  start_with_node();
  const auto first = plane_->create(ask_for("first", 8'000));
  wait(*first, Status::running);
  const auto second = plane_->create(ask_for("second", 8'000));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(plane_->pending(), 1u);
  EXPECT_EQ(plane_->records().find(*second)->status, Status::pending);
  node_.exit(*first);
  wait(*second, Status::running);
  EXPECT_EQ(wait(*first, Status::ended).reason, EndReason::exited);
}

TEST_F(PlaneTest, AServerThatRestartsGoesOn) {
  start_with_node();
  const auto runs = plane_->create(ask_for("runs"));
  wait(*runs, Status::running);
  cut_ = true;
  const auto waits = plane_->create(ask_for("waits"));  // its order is lost on the way
  ASSERT_TRUE(waits);
  start();
  cut_ = false;
  EXPECT_EQ(plane_->create(ask_for("runs")).value_or(SandboxId{}), *runs);
  EXPECT_EQ(wait(*runs, Status::running).started_note, "started");
  ASSERT_TRUE(eventually([&] {
    node_.beat();  // acknowledges, and what was lost is said again
    return plane_->records().find(*waits)->status == Status::running;
  }));
  EXPECT_EQ(node_.starts(), 2u);
  EXPECT_EQ(node_.running().at(*waits).payload, "payload of waits");
  plane_->terminate(*runs, {});
  wait(*runs, Status::ended);
}

const NodeSender nobody{[](NodeId, Envelope<NodeOrder>) {},
                        [](std::uint64_t, std::uint64_t, NodeId) {},
                        [](NodeId, std::uint64_t) {}};

// What a server says that starts over this directory and shares nodes or does not; empty: it starts.
std::string said_at_start(const std::string& folder, bool separate_tenants) {
  PlaneOptions options = options_in(folder);
  options.config.tenancy.separate_tenants = separate_tenants;
  try {
    Plane plane(options);
    return {};
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

TEST_F(PlaneTest, SharingNodesOrNotIsKeptWhileThereAreNodesOrSandboxes) {
  start();
  end();
  EXPECT_EQ(said_at_start(folder_, true), "") << "nobody is there yet";
  EXPECT_EQ(said_at_start(folder_, false), "");
  start_with_node();
  end();
  for (int i = 0; i < 2; ++i) {
    const std::string said = said_at_start(folder_, true);
    EXPECT_NE(said.find("--data " + folder_ + ": what it holds (nodes: 1, sandboxes: 0) is of a "
                        "server with --share-nodes: start with it again"),
              std::string::npos) << said;
    EXPECT_NE(said.find("then start without --share-nodes"), std::string::npos) << said;
  }
  EXPECT_EQ(said_at_start(folder_, false), "") << "and nothing was changed";
}

TEST_F(PlaneTest, ASandboxThatWaitsKeepsWhetherNodesAreShared) {
  PlaneOptions options = options_in(folder_);
  options.config.tenancy.separate_tenants = true;
  options.pools[0].policy.shape = {.cpu_millicores = 8'000, .memory_bytes = 16LL << 30};
  SandboxId waits;
  {
    Plane plane(options);
    plane.start(nobody);
    plane.add_tenant(kTenant);
    const auto made = plane.create(ask_for("waits"));
    ASSERT_TRUE(made) << made.error().message;
    waits = *made;
  }
  const std::string said = said_at_start(folder_, false);
  EXPECT_NE(said.find("(nodes: 0, sandboxes: 1) is of a server without --share-nodes: start "
                      "without it again"),
            std::string::npos) << said;
  {
    Plane plane(options);
    plane.start(nobody);
    ASSERT_TRUE(plane.terminate(waits, {}));
  }
  EXPECT_EQ(said_at_start(folder_, false), "") << "it has ended";
}

// Keys of the drained nodes that are away.
std::vector<std::uint64_t> drained_away(Plane& plane) {
  std::vector<std::uint64_t> keys;
  const auto nodes = plane.nodes(true).value();
  for (const NodeView& one : nodes) {
    if (!one.node && one.draining) keys.push_back(one.key);
  }
  return keys;
}

TEST_F(PlaneTest, ADrainedNodeThatIsAwayIsKnownUntilThatIsTakenBack) {
  PlaneOptions options = options_in(folder_);
  options.config.fleet.heartbeat_timeout = seconds(2);
  const NodeRegistration hello = PretendNode(5).registration();
  {
    Plane plane(options);
    plane.start(nobody);
    plane.registered(hello);
    std::vector<NodeView> nodes;
    while (nodes.empty()) nodes = plane.nodes().value();
    ASSERT_TRUE(plane.drain(nodes[0].node));
    for (int i = 0; i < 30'000 && drained_away(plane).empty(); ++i) usleep(1'000);
    EXPECT_EQ(drained_away(plane), std::vector<std::uint64_t>{hello.key});
  }
  Plane plane(options);
  plane.start(nobody);
  EXPECT_EQ(drained_away(plane), std::vector<std::uint64_t>{hello.key}) << "after a restart too";
  ASSERT_TRUE(plane.undrain(hello.key));
  EXPECT_TRUE(drained_away(plane).empty());
}

// The child answers over a pipe for what it has accepted, until it is killed at any moment.
[[noreturn]] void accept_until_killed(const std::string& folder, int pipe) {
  Plane plane(options_in(folder));
  plane.start({[](NodeId, Envelope<NodeOrder>) {}, [](std::uint64_t, std::uint64_t, NodeId) {},
               [](NodeId, std::uint64_t) {}});
  plane.add_tenant(kTenant);
  NodeRegistration hello = PretendNode(5).registration();
  plane.registered(hello);
  while (plane.nodes().value().empty()) usleep(1'000);
  for (std::uint64_t i = 0;; ++i) {
    const auto made = plane.create(ask_for("key-" + std::to_string(i)));
    const std::uint64_t said[2] = {i, made ? made->value : 0};
    if (write(pipe, said, sizeof said) != sizeof said) _exit(1);
  }
}

TEST_F(PlaneTest, WhatWasAcceptedIsThereAfterAKill) {
  std::vector<std::pair<std::uint64_t, SandboxId>> accepted;
  for (int round = 0; round < 2; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe[0]);
      accept_until_killed(folder_, pipe[1]);
    }
    close(pipe[1]);
    std::uint64_t said[2];
    accepted.clear();
    while (read(pipe[0], said, sizeof said) == sizeof said) {
      accepted.emplace_back(said[0], SandboxId{said[1]});
      if (accepted.size() == 40) kill(child, SIGKILL);  // it goes on until that arrives
    }
    close(pipe[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_GE(accepted.size(), 40u);
  }
  start();
  for (const auto& [number, sandbox] : accepted) {
    ASSERT_NE(sandbox.value, 0u);
    const std::string key = "key-" + std::to_string(number);
    const auto found = plane_->records().find(sandbox);
    ASSERT_TRUE(found) << key;
    EXPECT_EQ(found->payload, "payload of " + key);
    EXPECT_EQ(plane_->create(ask_for(key)).value_or(SandboxId{}), sandbox) << key;
  }
}

}  // namespace
}  // namespace chalk::server
