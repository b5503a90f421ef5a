// The agent is stopped or killed at any moment; the next one over its data goes on.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "adapters/agent/clear.h"
#include "adapters/agent/gvisor_machinery.h"
#include "adapters/agent/sandboxes.h"
#include "adapters/cgroup/cgroup.h"
#include "real_node.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

class Recovery : public RealNode {
 protected:
  std::unique_ptr<Machinery> machinery() {
    Options options;
    options.data = folder_ + "/data";
    options.network_prefix = prefix_;
    options.runsc = runsc_path();
    options.platform = "systrap";
    auto opened = open_gvisor(options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(opened->machinery) : nullptr;
  }
};

TEST_F(Recovery, WhatRunsIsTakenOverAfterAnOrderlyStop) {
  StartOrder server = order(1, kPython, {"python3", "-m", "http.server", "8000"});
  auto changed = payload(server);
  changed.set_port(8000);
  changed.mutable_startup_probe()->set_http_path("/");
  server.payload = changed.SerializeAsString();
  control_->order(server);
  const std::string url = started(1).web_url();
  stop_node(SIGTERM);
  start_node();
  int code = -1;
  EXPECT_EQ(run_soon(1, {"/bin/echo", "still here"}, &code), "still here\n");
  EXPECT_EQ(http_status(url), 200);  // the same port
  control_->order(order(2, kBusybox, {"/bin/sleep", "1000"}));
  started(2);
  control_->order(StopOrder{{1}, {}});
  EXPECT_EQ(ended(1).reason, EndReason::terminated);
}

TEST_F(Recovery, ClearLeavesNothingOfAStoppedNodeOnTheHostButItsData) {
  const auto left = [&] {
    std::string found;
    for (const char* folder : {"/sys/class/net", "/run/netns"}) {
      std::error_code none;
      for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
        const std::string name = entry.path().filename();
        if (name.starts_with(prefix_ + "-")) found += name + " ";
      }
    }
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/fs/cgroup", none)) {
      if (std::filesystem::exists(entry.path() / ("chalk-" + prefix_))) found += entry.path();
    }
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(" " + folder_ + "/data/") != std::string::npos) found += line + "\n";
    }
    return found;
  };
  const auto runs = [](pid_t process) {  // one that nobody has waited for is none
    std::string number, name, state;
    std::ifstream("/proc/" + std::to_string(process) + "/stat") >> number >> name >> state;
    return !state.empty() && state != "Z";
  };
  Options options;
  options.data = folder_ + "/data";
  options.network_prefix = prefix_;
  options.network_pool = pool_;
  control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
  started(1);
  EXPECT_NE(left(), "");
  const auto groups = cgroup::Groups::open("chalk-" + prefix_);
  ASSERT_TRUE(groups);
  const auto processes = groups->members(groups->list().at(0));
  ASSERT_TRUE(processes);
  ASSERT_FALSE(processes->empty());
  const auto refused = clear_host(options);
  ASSERT_FALSE(refused) << "an agent runs";
  EXPECT_EQ(refused.error().kind, Error::Kind::unavailable) << refused.error().message;
  EXPECT_TRUE(runs(processes->at(0)));
  stop_node(SIGKILL);
  const auto cleared = clear_host(options);
  ASSERT_TRUE(cleared) << cleared.error().message;
  EXPECT_EQ(cleared->sandboxes, 1u);
  EXPECT_EQ(left(), "");
  for (const pid_t process : *processes) EXPECT_FALSE(runs(process)) << process;
  EXPECT_TRUE(clear_host(options)) << "once more is no error";
  start_node();
  EXPECT_EQ(ended(1).reason, EndReason::exited) << "its end is told to who asked for it";
  control_->order(order(2, kBusybox, {"/bin/sleep", "1000"}));
  started(2);
  EXPECT_EQ(run(2, {"/bin/echo", "anew"}), "anew\n");
}

TEST_F(Recovery, AfterAKillTheEndOfASandboxIsStillTold) {
  control_->order(order(1, kBusybox, {"/bin/sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done"}));
  started(1);
  stop_node(SIGKILL);
  start_node();
  int code = -1;
  run_soon(1, {"/bin/touch", "/tmp/go"}, &code);
  EXPECT_EQ(ended(1).reason, EndReason::exited);
}

TEST_F(Recovery, WhatEndedWhileTheAgentWasAwayIsTold) {
  control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
  started(1);
  stop_node(SIGKILL);
  {
    const auto runsc = machinery();
    ASSERT_TRUE(runsc);
    ASSERT_TRUE(runsc->remove(name_of({1})));
    const auto left = runsc->list();
    ASSERT_TRUE(left);
    for (const Found& one : *left) ADD_FAILURE() << one.name << " is left";
  }
  start_node();
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::exited);
  EXPECT_NE(note_of(end).detail().find("away"), std::string::npos) << note_of(end).detail();
}

TEST_F(Recovery, WhatIsToBeStartedAgainIsAlsoByTheNextAgent) {
  for (std::uint64_t number = 1; number <= 2; ++number) {
    StartOrder tireless = order(number, kBusybox, {"/bin/sh", "-c", "echo begun; exec sleep 1000"});
    tireless.restart = true;
    control_->order(tireless);
    started(number);
    await_log(number, "begun");
  }
  stop_node(SIGKILL);
  {
    const auto runsc = machinery();
    ASSERT_TRUE(runsc);
    ASSERT_TRUE(runsc->remove(name_of({1})));  // ends while no agent is there
  }
  start_node();
  restarted(1, 1, true);
  EXPECT_EQ(logs(1, false), "begun\nbegun\n");
  int code = -1;
  EXPECT_EQ(run_soon(2, {"/bin/echo", "still here"}, &code), "still here\n");
  for (std::uint64_t number = 1; number <= 2; ++number) {
    control_->order(StopOrder{{number}, {}});
    EXPECT_EQ(ended(number).reason, EndReason::terminated);
  }
}

// Answers with the status that a file says, at first 503.
constexpr const char* kMoodyServer =
    "import http.server\n"
    "class Serve(http.server.BaseHTTPRequestHandler):\n"
    "  def do_GET(self):\n"
    "    self.send_response(int(open('/tmp/status').read())); self.end_headers()\n"
    "open('/tmp/status', 'w').write('503')\n"
    "print('begun', flush=True)\n"
    "http.server.ThreadingHTTPServer(('', 8000), Serve).serve_forever()\n";

TEST_F(Recovery, AReadinessProbeGatesThePortAlsoOfTheNextAgent) {
  StartOrder server = order(1, kPython, {"python3", "-c", kMoodyServer});
  auto changed = payload(server);
  changed.set_port(8000);
  changed.mutable_readiness_probe()->set_http_path("/");
  changed.mutable_readiness_probe()->set_period_ms(100);
  changed.mutable_readiness_probe()->set_timeout_ms(5'000);
  changed.mutable_readiness_probe()->set_failure_threshold(2);
  server.payload = changed.SerializeAsString();
  control_->order(server);
  const std::string url = started(1).web_url();
  ASSERT_NE(url, "");
  await_log(1, "begun");
  EXPECT_EQ(http_status(url), 0) << "closed before the first good answer";
  const auto say = [&](const std::string& status, int seen) {
    int code = -1;
    run_soon(1, {"/bin/sh", "-c", "echo " + status + " >/tmp/status"}, &code);
    EXPECT_EQ(code, 0);
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (http_status(url) != seen) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "status " << status;
      std::this_thread::sleep_for(20ms);
    }
  };
  say("200", 200);
  say("500", 0);
  say("200", 200);
  stop_node(SIGKILL);
  start_node();
  say("200", 200);
  say("503", 0);
}

// As after a loss of power: the log says that the layers are here, and of their bytes nobody can say
// whether they reached the disk.
TEST_F(Recovery, LayersThatALossOfPowerTookArePulledAgain) {
  StartOrder tireless = order(1, kBusybox, {"/bin/sh", "-c", "echo begun; exec sleep 1000"});
  tireless.restart = true;
  control_->order(tireless);
  started(1);
  stop_node(SIGKILL);
  {
    const auto runsc = machinery();
    ASSERT_TRUE(runsc);
    ASSERT_TRUE(runsc->remove(name_of({1})));
  }
  std::size_t layers = 0;
  for (const auto& layer : std::filesystem::directory_iterator(folder_ + "/data/images/layers")) {
    ++layers;
    std::filesystem::remove(layer.path() / "synced");
    std::string record;
    std::getline(std::ifstream(layer.path() / "layer.json"), record);
    const std::size_t boot = record.find("\"boot\":\"");
    ASSERT_NE(boot, std::string::npos) << record;
    record[boot + 8] = record[boot + 8] == 'x' ? 'y' : 'x';
    std::ofstream(layer.path() / "layer.json") << record;
  }
  ASSERT_GT(layers, 0u);
  start_node();
  control_->order(order(2, kBusybox, {"/bin/sleep", "1000"}));
  started(2);
  EXPECT_EQ(run(2, {"/bin/echo", "whole"}), "whole\n");
  restarted(1, 1, true);
}

TEST_F(Recovery, WhatRunsInNoLogIsEnded) {
  control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
  started(1);
  stop_node(SIGKILL);
  for (const char* file : {"node.db", "node.db-wal", "node.db-shm"}) {
    unlink((folder_ + "/data/" + file).c_str());
  }
  start_node();  // it reaps before it registers
  const auto runsc = machinery();
  ASSERT_TRUE(runsc);
  const auto found = runsc->list();
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->empty());
}

TEST_F(Recovery, StartsThatWereCutOffBeginAgain) {
  for (std::uint64_t number = 1; number <= 6; ++number) {
    control_->order(order(number, kBusybox, {"/bin/sleep", "1000"}));
  }
  std::this_thread::sleep_for(120ms);  // in the middle of pulls and starts, wherever that is
  stop_node(SIGKILL);
  start_node();
  for (std::uint64_t number = 1; number <= 6; ++number) started(number);
  for (std::uint64_t number = 1; number <= 6; ++number) {
    control_->order(StopOrder{{number}, {}});
    EXPECT_EQ(ended(number).reason, EndReason::terminated);
  }
}

TEST_F(Recovery, KilledAgainAndAgainNothingIsLostOrTwice) {
  std::uint64_t number = 0;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 2; ++i) {
      control_->order(order(++number, kBusybox, {"/bin/sleep", "1000"}));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(40 + 90 * round));
    stop_node(SIGKILL);
    start_node();
  }
  for (std::uint64_t one = 1; one <= number; ++one) started(one);
  const auto runsc = machinery();
  const auto found = runsc->list();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->size(), number);
}

TEST_F(Recovery, TheLinkComesBackAfterTheServerWasAway) {
  control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
  started(1);
  const std::size_t before = control_->connections();
  control_->cut();
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (control_->connections() == before) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::sleep_for(20ms);
  }
  control_->order(StopOrder{{1}, {}});
  EXPECT_EQ(ended(1).reason, EndReason::terminated);
}

TEST_F(Recovery, ANodeJoinsByFingerprintAndKeepsItsCertificate) {
  stop_node(SIGKILL);
  std::filesystem::remove_all(folder_ + "/data/identity");
  join_by_fingerprint_ = true;
  start_node();
  const std::size_t joins = control_->tokens_seen().size();
  EXPECT_EQ(joins, 2u);
  stop_node(SIGTERM);
  start_node();
  EXPECT_EQ(control_->tokens_seen().size(), joins);
}

}  // namespace
}  // namespace chalk::agent
