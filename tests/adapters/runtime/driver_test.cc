// The control plane's machine under its driver: what was acknowledged survives kill -9, a full disk
// and a second server; the log replays to the same State.
#include "adapters/runtime/driver.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <set>
#include <thread>

#include "adapters/runtime/export_log.h"
#include "model/control/control.h"
#include "model/core/random.h"
#include "tests/support/standing_disk.h"

namespace chalk::runtime {
namespace {

using control::Control;

struct Folder {
  std::string path = testing::TempDir() + "driver_" + std::to_string(getpid());
  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return path + "/log.db"; }
};

tenancy::TenantAdded tenant() {
  tenancy::TenantAdded one;
  one.tenant = {1};
  return one;
}
fleet::PoolAdded pool() {
  fleet::PoolAdded one;
  one.pool = {1};
  one.policy.shape = {.cpu_millicores = 4000, .memory_bytes = 16LL << 30};
  return one;
}
control::SandboxRequested request(std::uint64_t number) {
  control::SandboxRequested one;
  one.reply_to = number;
  one.key = "r" + std::to_string(number);
  one.tenant = {1};
  one.resources = {.cpu_millicores = 1000};
  return one;
}
// The clocks of a test: the wall's, which may be set, and the one that only goes on.
struct Clocks {
  std::atomic<std::int64_t> wall = seconds(1'000'000).nanos;
  std::atomic<std::int64_t> steady = seconds(50).nanos;

  void go_on(Duration by) {
    wall += by.nanos;
    steady += by.nanos;
  }
  DriverOptions options() {
    DriverOptions out;
    out.wall = [this] { return std::chrono::nanoseconds(wall); };
    out.steady = [this] { return std::chrono::nanoseconds(steady); };
    return out;
  }
};
// Posts, and waits until it was stepped.
void tell(Driver<Control>& driver, const control::Event& event) {
  ASSERT_TRUE(driver.post(event));
  bool taken;
  do {
    taken = driver.waiting() == 0;
    ASSERT_TRUE(driver.look([](const Control&) {}));
  } while (!taken);
}
// Timers fire within a nap of the driver, that is a second, after a test has moved its clocks.
bool soon(const std::function<bool()>& holds) {
  for (int i = 0; i < 1000 && !holds(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return holds();
}
const Driver<Control>::Interpret kNobody = [](std::uint64_t, Time, const control::Effect&) {};

TEST(Driver, AnswersFromItsThreadAndRemembersAfterItsEnd) {
  Folder folder;
  std::atomic<int> accepted = 0;
  std::uint64_t digest = 0;
  {
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(control::Config{}, log, [&](auto, auto, const control::Effect& effect) {
      accepted += std::holds_alternative<sandbox::Accepted>(effect);
    });
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    for (std::uint64_t i = 1; i <= 100; ++i) EXPECT_TRUE(driver.post(request(i)));
    driver.stop();
    EXPECT_EQ(accepted, 100);
    EXPECT_FALSE(driver.post(request(101)));
    digest = driver.running_digest();
  }
  log::EventLog log(folder.file(), 1);
  Driver<Control> driver(control::Config{}, log, kNobody);
  EXPECT_EQ(driver.running_digest(), digest);
  EXPECT_EQ(driver.machine().sandboxes().state().sandboxes.size(), 100u);
}

TEST(Driver, WakesTheMachineAtTheTimeItAskedFor) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  control::Config config;
  config.sandbox.key_retention = milliseconds(50);
  Driver<Control> driver(config, log, kNobody);
  driver.start();
  driver.post(tenant());
  driver.post(pool());
  driver.post(request(1));
  driver.post(sandbox::TerminateRequested{{1}});
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  driver.stop();
  EXPECT_TRUE(driver.machine().sandboxes().state().keys.empty()) << "its retention is over";
}

// The wall was an hour ahead and is set right. Before and after a restart timers fire all the same,
// and no time goes back.
TEST(Driver, TimersFireWhileTheWallClockIsBehindWhatTheMachineHasSeen) {
  Folder folder;
  Clocks clocks;
  control::Config config;
  config.sandbox.key_retention = seconds(60);
  std::vector<Time> seen;
  const auto observe = [&](std::uint64_t, Time now, const control::Event&, const auto&) {
    seen.push_back(now);
  };
  for (std::uint64_t round = 1; round <= 2; ++round) {
    seen.clear();
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(config, log, kNobody, observe, clocks.options());
    driver.start();
    if (round == 1) {
      clocks.wall += seconds(3600).nanos;
      tell(driver, tenant());
      tell(driver, pool());
      clocks.wall -= seconds(3600).nanos;
    }
    tell(driver, request(round));
    SandboxId made;
    driver.look([&](const Control& c) { made = c.sandboxes().state().keys.begin()->second; });
    tell(driver, sandbox::TerminateRequested{made});
    const auto keys = [&] {
      std::size_t count = 0;
      driver.look([&](const Control& c) { count = c.sandboxes().state().keys.size(); });
      return count;
    };
    EXPECT_EQ(keys(), 1u);
    clocks.go_on(seconds(61));
    EXPECT_TRUE(soon([&] { return keys() == 0; })) << "its retention is over";
    driver.stop();
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    EXPECT_LE(seen.back() - seen.front(), seconds(2 * 61));
  }
}

NodeRegistration hello() {
  NodeRegistration one;
  one.key = 7;
  one.incarnation = 1;
  one.pool = {1};
  one.zone = {1};
  one.shape = {.cpu_millicores = 4000, .memory_bytes = 16LL << 30};
  return one;
}
// A control plane with one node on which one sandbox runs.
class OneNode {
 public:
  Driver<Control>::Interpret interpret() {
    return [this](std::uint64_t, Time, const control::Effect& effect) {
      if (const auto* welcome = std::get_if<fleet::WelcomeNode>(&effect)) node = welcome->node;
      unknown += std::holds_alternative<control::UnknownNode>(effect);
      running += std::holds_alternative<sandbox::Running>(effect);
      gone += std::holds_alternative<sandbox::Gone>(effect);
    };
  }
  void begin(Driver<Control>& driver) {
    tell(driver, tenant());
    tell(driver, pool());
    tell(driver, hello());
    tell(driver, request(1));
    SandboxId made;
    driver.look([&](const Control& c) { made = c.sandboxes().state().keys.begin()->second; });
    tell(driver, control::FromNode{node, {1, 1, 1, StartedReport{made}}});
    EXPECT_EQ(running, 1);
  }
  control::FromNode beat() const { return {node, {1, 0, 1, {}}}; }

  NodeId node;
  std::atomic<int> unknown = 0, running = 0, gone = 0;
};

// For an hour there is no control plane, and nobody was silent: it resumes before it looks who was.
TEST(Driver, GivesNoNodeUpForItsOwnAbsence) {
  Folder folder;
  Clocks clocks;
  OneNode one;
  control::Config config;
  config.fleet.heartbeat_timeout = seconds(40);
  {
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(config, log, one.interpret(), {}, clocks.options());
    driver.start();
    one.begin(driver);
    driver.stop();
  }
  clocks.go_on(seconds(3600));
  log::EventLog log(folder.file(), 1);
  std::vector<std::size_t> events;  // by their place in the variant
  const auto observe = [&](std::uint64_t, Time now, const control::Event& event, const auto&) {
    if (now.nanos >= clocks.wall) events.push_back(event.index());
  };
  Driver<Control> driver(config, log, one.interpret(), observe, clocks.options());
  ASSERT_TRUE(driver.recovered());
  driver.post(fleet::Resumed{});
  driver.start();
  tell(driver, one.beat());
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[0], control::Event{fleet::Resumed{}}.index());
  EXPECT_EQ(std::count(events.begin(), events.end(), control::Event{Woken{}}.index()), 1);
  clocks.go_on(seconds(39));
  tell(driver, one.beat());
  clocks.go_on(seconds(39));
  tell(driver, one.beat());
  EXPECT_EQ(one.unknown, 0);
  EXPECT_EQ(one.gone, 0);
  clocks.go_on(seconds(21));
  tell(driver, tenant());
  EXPECT_EQ(one.gone, 0);
  clocks.go_on(seconds(20));
  tell(driver, tenant());
  EXPECT_EQ(one.gone, 1) << "silence counts again";
  driver.stop();
}

// It stands still for an hour without an end of its process: its disk hangs, its machine is
// suspended. What nodes have said meanwhile waits, or comes a little later.
TEST(Driver, GivesNoNodeUpWhileItStandsStill) {
  for (const bool waits : {true, false}) {
    Folder folder;
    Clocks clocks;
    OneNode one;
    control::Config config;
    config.fleet.heartbeat_timeout = seconds(40);
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(config, log, one.interpret(), {}, clocks.options());
    driver.start();
    one.begin(driver);
    std::promise<void> stands_still, goes_on;
    std::thread looking([&] {
      driver.look([&](const Control&) {
        stands_still.set_value();
        goes_on.get_future().wait();
      });
    });
    stands_still.get_future().wait();
    clocks.go_on(seconds(3600));
    if (waits) driver.post(one.beat());
    goes_on.set_value();
    looking.join();
    if (!waits) {  // the check that was due comes first
      std::this_thread::sleep_for(std::chrono::milliseconds(1500));
      tell(driver, one.beat());
    }
    clocks.go_on(seconds(19));
    tell(driver, one.beat());
    EXPECT_EQ(one.unknown, 0) << waits;
    EXPECT_EQ(one.gone, 0) << waits;
    driver.stop();
  }
}

// More waits than a batch takes: a timer that is due comes after all of it.
TEST(Driver, StepsWhatHadComeInBeforeATimerThatIsDue) {
  Folder folder;
  Clocks clocks;
  OneNode one;
  control::Config config;
  config.fleet.heartbeat_timeout = seconds(40);
  log::EventLog log(folder.file(), 1);
  DriverOptions options = clocks.options();
  options.batch_max = 3;
  std::vector<std::size_t> events;
  const auto observe = [&](std::uint64_t, Time, const control::Event& event, const auto&) {
    events.push_back(event.index());
  };
  Driver<Control> driver(config, log, one.interpret(), observe, options);
  for (const control::Event& event : {control::Event{tenant()}, control::Event{pool()},
                                      control::Event{hello()}}) {
    driver.post(event);
  }
  driver.start();
  tell(driver, tenant());
  driver.look([&](const Control&) {
    clocks.go_on(seconds(21));
    for (int i = 0; i < 10; ++i) driver.post(one.beat());
    events.clear();
  });
  EXPECT_TRUE(soon([&] {
    bool woken = false;
    driver.look([&](const Control&) {
      woken = !events.empty() && events.back() == control::Event{Woken{}}.index();
    });
    return woken;
  }));
  driver.stop();
  EXPECT_EQ(events.size(), 11u);
  EXPECT_EQ(one.gone, 0);
}

TEST(Driver, GoesOnFromASnapshotAndTrimsTheLog) {
  Folder folder;
  std::uint64_t digest = 0;
  {
    log::EventLog log(folder.file(), 1);
    DriverOptions options;
    options.snapshot_every = 50;
    options.batch_max = 7;
    options.records_kept = 0;
    Driver<Control> driver(control::Config{}, log, kNobody, {}, options);
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    for (std::uint64_t i = 1; i <= 500; ++i) driver.post(request(i));
    driver.stop();
    digest = driver.running_digest();
    EXPECT_GT(log.first(), 400u);
  }
  log::EventLog log(folder.file(), 1);
  Driver<Control> driver(control::Config{}, log, kNobody);
  EXPECT_EQ(driver.running_digest(), digest);
  EXPECT_EQ(driver.machine().sandboxes().state().sandboxes.size(), 500u);
}

TEST(Driver, KeepsSnapshotsAlsoWhereNoProcessLivesForSoManyEvents) {
  Folder folder;
  std::uint64_t digest = 0, next_request = 1;
  for (int round = 0; round < 20; ++round) {
    log::EventLog log(folder.file(), 1);
    DriverOptions options;
    options.snapshot_every = 50;
    options.records_kept = 0;
    Driver<Control> driver(control::Config{}, log, kNobody, {}, options);
    if (round > 0) {
      EXPECT_EQ(driver.running_digest(), digest);
    }
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    for (int i = 0; i < 28; ++i) driver.post(request(next_request++));
    driver.stop();
    digest = driver.running_digest();
    EXPECT_LE(log.next() - log.first(), 110u) << "after round " << round;
  }
  const log::EventLog log(folder.file(), 1);
  EXPECT_GT(log.next(), 600u);
}

TEST(Driver, EndsWhenAnotherServerHasTakenTheLog) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  std::string said;
  DriverOptions options;
  options.failed = [&](const std::string& what) { said = what; };
  Driver<Control> driver(control::Config{}, log, kNobody, {}, options);
  log::EventLog other(folder.file(), 1);
  other.append(log.next(), std::vector<std::string>{"of the other"});
  driver.start();
  driver.post(tenant());
  for (int i = 0; i < 200 && !driver.fenced(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(driver.fenced());
  EXPECT_FALSE(driver.post(pool()));
  driver.stop();
  EXPECT_NE(said.find("another process writes this log"), std::string::npos) << said;
}

TEST(Driver, ShowsEveryRecordToItsObserverLiveAndAgainAfterARestart) {
  Folder folder;
  std::vector<std::string> live, again;
  const auto keep = [](std::vector<std::string>& into) {
    return [&into](std::uint64_t index, Time, const control::Event& event,
                   const std::vector<control::Effect>& effects) {
      into.push_back(std::to_string(index) + encode(event) + encode(effects));
    };
  };
  {
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(control::Config{}, log, kNobody, keep(live));
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    for (std::uint64_t i = 1; i <= 20; ++i) driver.post(request(i));
    driver.stop();
  }
  log::EventLog log(folder.file(), 1);
  const Driver<Control> driver(control::Config{}, log, kNobody, keep(again));
  EXPECT_EQ(live.size(), 22u);
  EXPECT_EQ(again, live);
}

TEST(Driver, LooksAtTheMachineBetweenTwoSteps) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  Driver<Control> driver(control::Config{}, log, kNobody);
  driver.start();
  driver.post(tenant());
  driver.post(pool());
  driver.post(request(1));
  std::size_t seen = 0;
  for (int i = 0; i < 1000 && seen == 0; ++i) {
    EXPECT_TRUE(driver.look(
        [&](const Control& c) { seen = c.sandboxes().state().sandboxes.size(); }));
  }
  EXPECT_EQ(seen, 1u);
  driver.stop();
  EXPECT_FALSE(driver.look([](const Control&) {}));
}

TEST(Driver, WhoLooksIsNotKeptByADiskThatStandsStill) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  Driver<Control> driver(control::Config{}, log, kNobody);
  driver.start();
  ASSERT_TRUE(driver.look([](const Control&) {}));
  EXPECT_EQ(driver.writing_for().count(), 0);
  StandingDisk disk("log.db-wal");
  driver.post(tenant());
  ASSERT_TRUE(soon([&] { return driver.writing_for() > std::chrono::milliseconds(100); }));
  bool looked = false;
  const auto look = [&](const Control&) { looked = true; };
  EXPECT_FALSE(driver.look(look, std::chrono::milliseconds(100)));
  disk.go_on();
  EXPECT_TRUE(driver.look([](const Control&) {}));
  EXPECT_FALSE(looked) << "who gave up must not be touched";
  EXPECT_EQ(driver.writing_for().count(), 0);
  driver.stop();
}

TEST(Driver, WhatAStepLeadsToIsTakenByAFullInboxAndBeforeTheEnd) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  DriverOptions options;
  options.inbox_max = 1;
  Driver<Control>* mine = nullptr;
  int followed = 0;
  const auto observe = [&](std::uint64_t, Time, const control::Event& event,
                           const std::vector<control::Effect>&) {
    if (std::holds_alternative<tenancy::TenantAdded>(event)) mine->follow(pool());
    followed += std::holds_alternative<fleet::PoolAdded>(event);
  };
  Driver<Control> driver(control::Config{}, log, kNobody, observe, options);
  mine = &driver;
  driver.start();
  std::future<void> stopped;  // after the disk goes on
  StandingDisk disk("log.db-wal");
  driver.post(tenant());
  ASSERT_TRUE(soon([&] { return driver.writing_for().count() > 0; }));
  EXPECT_TRUE(driver.post(request(1)));
  EXPECT_FALSE(driver.post(request(2))) << "it is full";
  stopped = std::async(std::launch::async, [&] { driver.stop(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  disk.go_on();
  stopped.get();
  EXPECT_EQ(followed, 1);
}

TEST(Driver, AViewThatIsSlowToBeWrittenIsNotAWriteOfTheLog) {
  Folder folder;
  log::EventLog log(folder.file(), 1);
  DriverOptions options;
  options.snapshot_every = 1;
  std::promise<void> asked, go;
  options.flush_view = [&, first = true]() mutable {
    if (std::exchange(first, false)) {
      asked.set_value();
      go.get_future().wait();
    }
    return true;
  };
  Driver<Control> driver(control::Config{}, log, kNobody, {}, options);
  driver.start();
  driver.post(tenant());
  asked.get_future().wait();
  EXPECT_EQ(driver.writing_for().count(), 0);
  StandingDisk disk("log.db-wal");
  go.set_value();
  EXPECT_TRUE(soon([&] { return driver.writing_for().count() > 0; })) << "the snapshot is one";
  disk.go_on();
  driver.stop();
}

TEST(Driver, KeepsItsStateUnderAnotherConfiguration) {
  Folder folder;
  std::uint64_t digest = 0;
  for (const std::uint32_t sandboxes_max : {100u, 1u, 1u}) {
    control::Config config;
    config.sandbox.sandboxes_max = sandboxes_max;
    log::EventLog log(folder.file(), 1);
    std::atomic<int> accepted = 0, refused = 0;
    Driver<Control> driver(config, log, [&](auto, auto, const control::Effect& effect) {
      accepted += std::holds_alternative<sandbox::Accepted>(effect);
      refused += std::holds_alternative<sandbox::Refused>(effect);
    });
    EXPECT_EQ(driver.recovered(), sandboxes_max == 1);
    if (digest != 0 && driver.running_digest() == digest) continue;  // the third: nothing new
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    driver.post(request(driver.recovered() ? 2 : 1));
    driver.stop();
    EXPECT_EQ(accepted, driver.recovered() ? 0 : 1);
    EXPECT_EQ(refused, driver.recovered() ? 1 : 0);
    digest = driver.running_digest();
  }
}

TEST(Driver, RefusesALogThatAnotherProgramDecided) {
  Folder folder;
  {
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(control::Config{}, log, kNobody);
    driver.start();
    driver.post(tenant());
    driver.stop();
  }
  log::EventLog log(folder.file(), 1);
  log.put_digests(log.next(), std::vector<std::uint32_t>{1});  // as if it had decided otherwise
  EXPECT_THROW((Driver<Control>{control::Config{}, log, kNobody}), log::LogError);
}

TEST(ExportLog, WritesEachDecidedEventAndStopsAtThoseWithoutADigest) {
  Folder folder;
  {
    log::EventLog log(folder.file(), 1);
    Driver<Control> driver(control::Config{}, log, kNobody);
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    for (std::uint64_t i = 1; i <= 10; ++i) driver.post(request(i));
    driver.stop();
  }
  log::EventLog log(folder.file(), 1);
  const std::string out = folder.path + "/out.log";
  std::ofstream(out) << "of an older version, for all to read";
  std::filesystem::permissions(out, std::filesystem::perms(0644));
  const mode_t before = umask(0);
  const auto written = export_log<Control>(log, Root::control, out, LogHeader{});
  umask(before);
  ASSERT_TRUE(written.has_value()) << written.error().message;
  EXPECT_EQ(*written, 12u);
  EXPECT_EQ(std::filesystem::status(out).permissions(), std::filesystem::perms(0600));
  // An event that was appended when the program was killed was decided by nobody yet.
  log.append(log.next(), std::vector{encode(Logged<Control>{logged::Happened<Control>{
                             Time{1}, control::Event{tenant()}}})});
  EXPECT_EQ(export_log<Control>(log, Root::control, out, LogHeader{}).value_or(0), 12u);
  const auto refused = export_log<Control>(log, Root::control, "/nowhere/x", LogHeader{});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("/nowhere/x"), std::string::npos);
}

// A request is answered once there is room for it on the disk, and not before.
TEST(Driver, WaitsForRoomOnAFullDiskAndThenAnswers) {
  Folder folder;
  if (mount("chalk-test", folder.path.c_str(), "tmpfs", 0, "size=512k") != 0) {
    GTEST_SKIP() << "a small disk cannot be mounted here (needs root)";
  }
  {
    std::ofstream(folder.path + "/ballast") << std::string(256 << 10, 'x');
    log::EventLog log(folder.file(), 1);
    std::atomic<std::uint64_t> answered = 0;
    std::atomic<bool> failed = false;
    DriverOptions options;
    options.retry = std::chrono::milliseconds(20);
    options.batch_max = 16;
    options.failed = [&](const std::string&) { failed = true; };
    Driver<Control> driver(
        control::Config{}, log,
        [&](auto, auto, const control::Effect& effect) {
          answered += std::holds_alternative<sandbox::Accepted>(effect);
        },
        {}, options);
    driver.start();
    driver.post(tenant());
    driver.post(pool());
    std::uint64_t asked = 0;
    while (!failed && asked < 20'000) {
      driver.post(request(++asked));
      if (asked % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_TRUE(failed);
    const std::uint64_t before = answered;
    EXPECT_LT(before, asked);
    std::filesystem::remove(folder.path + "/ballast");
    for (int i = 0; i < 500 && answered < asked; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    driver.stop();
    EXPECT_GT(answered, before);
    EXPECT_EQ(driver.machine().sandboxes().state().sandboxes.size(), answered);
  }
  EXPECT_EQ(umount(folder.path.c_str()), 0);
}

// A child runs the driver under load and writes the number of each request that was accepted to a
// pipe; it is killed at a random moment, again and again on the same log.
TEST(Driver, LosesNothingThatWasAcknowledgedWhenItIsKilled) {
  Folder folder;
  Random random = Random{static_cast<std::uint64_t>(getpid()), 0}.stream(1);
  std::set<std::uint64_t> acknowledged;
  for (std::uint64_t round = 0; round < 25; ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipes[0]);
      log::EventLog log(folder.file(), 1);
      DriverOptions options;
      options.snapshot_every = 300;
      Driver<Control> driver(
          control::Config{}, log,
          [&](auto, auto, const control::Effect& effect) {
            const auto* yes = std::get_if<sandbox::Accepted>(&effect);
            if (yes == nullptr) return;
            if (write(pipes[1], &yes->reply_to, 8) != 8) _exit(1);
          },
          {}, options);
      driver.start();
      driver.post(tenant());
      driver.post(pool());
      for (std::uint64_t i = 1;; ++i) {
        driver.post(request(round * 1'000'000 + i));
        if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    close(pipes[1]);
    std::thread killer([&, wait = 20 + random.below(80)] {
      std::this_thread::sleep_for(std::chrono::milliseconds(wait));
      kill(child, SIGKILL);
    });
    std::uint64_t number = 0;
    while (read(pipes[0], &number, 8) == 8) acknowledged.insert(number);
    killer.join();
    close(pipes[0]);
    waitpid(child, nullptr, 0);

    log::EventLog log(folder.file(), 1);
    const Driver<Control> driver(control::Config{}, log, kNobody);
    const auto& keys = driver.machine().sandboxes().state().keys;
    std::set<SandboxId> ids;
    for (const auto& [key, sandbox] : keys) EXPECT_TRUE(ids.insert(sandbox).second) << key.text;
    for (const std::uint64_t one : acknowledged) {
      ASSERT_TRUE(keys.contains({{1}, "r" + std::to_string(one)})) << "round " << round;
    }
    const Driver<Control> again(control::Config{}, log, kNobody);
    EXPECT_EQ(again.running_digest(), driver.running_digest());
    EXPECT_EQ(again.machine().digest(), driver.machine().digest());
  }
  EXPECT_GT(acknowledged.size(), 100u);
}

}  // namespace
}  // namespace chalk::runtime
