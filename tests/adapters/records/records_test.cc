// The view of the control plane's log against a dumb one that keeps a list, over random stories, with
// closing, reopening and kills in between.
#include "adapters/records/records.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "adapters/records/image_numbers.h"
#include "story.h"

namespace chalk::records {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class RecordsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "chalk_records_" + std::to_string(getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    path_ = folder_ + "/records.db";
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void tell(Records& records, const Told& told) {
    records.observe(told.index, told.now, told.event, told.effects);
  }
  static void compare(const Records& records, const Naive& naive, const std::string& where) {
    Records::Filter everything;
    everything.limit = 1'000'000;
    ASSERT_EQ(records.list(everything), naive.list(everything)) << where;
    std::size_t live = 0;
    for (const Sandbox& one : naive.all()) {
      live += one.ended.nanos == 0;
      ASSERT_EQ(records.find(one.sandbox), one) << where;
      ASSERT_EQ(records.find(one.id), one) << where;
    }
    ASSERT_EQ(records.live(), live) << where;
  }

  std::string folder_, path_;
};

TEST_F(RecordsTest, EqualTheDumbViewOverRandomStories) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    Options options;
    options.keep_ended = seconds(seed % 2 == 0 ? 60 : 100'000);
    options.keep_ended_max = seed % 3 == 0 ? 7 : 1000;
    Story story(seed);
    Naive naive(options);
    auto records = std::make_unique<Records>(path_, label_of, options);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 400; ++i) {
      const Told told = story.next();
      naive.observe(told);
      tell(*records, told);
      const std::string where = "seed " + std::to_string(seed) + ", record " + std::to_string(i);
      if (i % 40 == 0) compare(*records, naive, where);
      if (random() % 100 == 0) {  // an orderly end
        records.reset();
        records = std::make_unique<Records>(path_, label_of, options);
        compare(*records, naive, where + ", reopened");
      }
      tell(*records, told);  // the same record again changes nothing
    }
    compare(*records, naive, "seed " + std::to_string(seed) + ", at the end");
  }
}

TEST_F(RecordsTest, ListsAreCutFilteredAndGoOnWhereTheyStopped) {
  Story story(99);
  Naive naive({});
  Records records(path_, label_of);
  for (int i = 0; i < 500; ++i) {
    const Told told = story.next();
    naive.observe(told);
    tell(records, told);
  }
  std::mt19937_64 random(99);
  for (int i = 0; i < 300; ++i) {
    Records::Filter filter;
    if (random() % 2 == 0) filter.tenant = TenantId{1 + random() % 4};
    filter.ended = random() % 2 == 0;
    if (random() % 3 == 0) filter.name = "name" + std::to_string(random() % 5);
    filter.limit = random() % 20;
    EXPECT_EQ(records.list(filter), naive.list(filter)) << "filter " << i;
    // Page by page it is the whole list.
    filter.limit = 1 + random() % 9;
    std::vector<Sandbox> pages;
    while (true) {
      const auto page = records.list(filter);
      pages.insert(pages.end(), page.begin(), page.end());
      if (page.size() < filter.limit) break;
      filter.before = page.back().id;
    }
    filter.before.reset();
    filter.limit = 1'000'000;
    EXPECT_EQ(pages, naive.list(filter)) << "filter " << i;
  }
  Records::Filter nowhere;
  nowhere.before = "sbx-no-such";
  EXPECT_TRUE(records.list(nowhere).empty());
}

TEST_F(RecordsTest, WhatIsFlushedIsInTheFile) {
  Story story(3);
  Naive naive({});
  Records records(path_, label_of);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) {
      const Told told = story.next();
      naive.observe(told);
      tell(records, told);
    }
    ASSERT_TRUE(records.flush());
    const Records other(path_, label_of);  // reads the file as it is now
    compare(other, naive, "round " + std::to_string(round));
  }
}

TEST_F(RecordsTest, AKilledServerMakesTheViewAgainFromTheLog) {
  constexpr std::uint64_t kSeed = 17;
  constexpr int kRecords = 2'000;
  Options options;
  options.keep_ended_max = 40;
  for (int round = 0; round < 3; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Records records(path_, label_of, options);
      Story story(kSeed);
      for (int i = 0; i < kRecords; ++i) {
        tell(records, story.next());
        if (i % 50 == 0 && write(pipe[1], "x", 1) != 1) _exit(1);
        if (i % 200 == 0) records.flush();
        usleep(300);
      }
      while (true) pause();
    }
    close(pipe[1]);
    char said = 0;
    for (int i = 0; i < 8 + 13 * round; ++i) ASSERT_EQ(read(pipe[0], &said, 1), 1);
    kill(child, SIGKILL);
    close(pipe[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
  }
  // As at the server's start: the whole log is shown again.
  Naive naive(options);
  Records records(path_, label_of, options);
  Story story(kSeed);
  for (int i = 0; i < kRecords; ++i) {
    const Told told = story.next();
    naive.observe(told);
    tell(records, told);
  }
  compare(records, naive, "after the kills");
}

// One that makes way for another was shown as running, on the node that it had left, for as long as it waited.
TEST_F(RecordsTest, WhatMakesWayIsNotShownAsRunning) {
  Records records(path_, label_of);
  std::uint64_t index = 0;
  const auto status = [&](const control::Event& event, const control::Effect& effect) {
    records.observe(++index, Time{seconds(index).nanos}, event, {effect});
    return records.find(SandboxId{1})->status;
  };
  const auto to = [](std::uint64_t node, const auto& order) {
    control::ToNode to;
    to.node = {node};
    to.envelope.message = order;
    return to;
  };
  sandbox::Running running;
  running.sandbox = {1};
  running.node = {1};
  StartOrder start;
  start.sandbox = {1};
  EXPECT_EQ(status(control::SandboxRequested{}, sandbox::Accepted{1, {1}, false}), Status::pending);
  EXPECT_EQ(status(Woken{}, running), Status::running);
  status(Woken{}, sandbox::Restarted{1, {1}, 3, false, {}});
  EXPECT_EQ(status(Woken{}, to(2, StopOrder{{1}, {}})), Status::running) << "of an earlier life";
  EXPECT_EQ(status(Woken{}, to(1, StopOrder{{1}, {}})), Status::ending);
  control::FromNode ended;
  ended.node = {1};
  ended.envelope.message = EndedReport{{1}, EndReason::terminated, {}};
  const auto wakes = [&](const control::Event& event) { return status(event, WakeAt{}); };
  EXPECT_EQ(wakes(ended), Status::pending) << "it has left its node";
  EXPECT_EQ(status(Woken{}, to(3, start)), Status::pending);
  running.node = {3};
  EXPECT_EQ(status(Woken{}, running), Status::running);
  EXPECT_FALSE(records.find(SandboxId{1})->waits) << "it does not wait for a restart any more";
  EXPECT_EQ(records.find(SandboxId{1})->restarts, 0u);
}

TEST_F(RecordsTest, WhoWaitsIsToldOfTheChange) {
  Records records(path_, label_of);
  control::SandboxRequested asked;
  asked.tenant = {1};
  const SandboxId id{5};
  records.observe(1, Time{} + seconds(1), asked, {sandbox::Accepted{0, id, false}});
  std::thread later([&] {
    usleep(50'000);
    sandbox::Running running;
    running.sandbox = id;
    records.observe(2, Time{} + seconds(2), Woken{}, {running});
  });
  const auto runs =
      records.wait(id, 60s, [](const Sandbox& one) { return one.status == Status::running; });
  later.join();
  ASSERT_TRUE(runs);
  EXPECT_EQ(runs->status, Status::running);
  const auto still = records.wait(id, 1ms, [](const Sandbox&) { return false; });
  ASSERT_TRUE(still);  // in time's absence: as it is
  EXPECT_FALSE(records.wait(SandboxId{6}, 60s, [](const Sandbox&) { return false; }));
}

TEST_F(RecordsTest, WhatLivesHasABudgetOfBytesAndWhatHasEndedIsForgottenBeyondIt) {
  Options options;
  options.bytes_of_tenant_max = 1'000;
  options.bytes_max = 1'500;
  auto records = std::make_unique<Records>(path_, label_of, options);
  std::uint64_t index = 0;
  const auto ask = [&](TenantId tenant, std::uint64_t id, std::size_t bytes) {
    control::SandboxRequested asked;
    asked.tenant = tenant;
    asked.payload = std::string(bytes, 'p');
    ++index;
    records->observe(index, Time{} + seconds(static_cast<std::int64_t>(index)), asked,
                     {sandbox::Accepted{0, {id}, false}});
  };
  const auto end = [&](std::uint64_t id) {
    sandbox::Gone gone;
    gone.sandbox = {id};
    ++index;
    records->observe(index, Time{} + seconds(static_cast<std::int64_t>(index)), Woken{}, {gone});
  };
  const auto room = [&](TenantId tenant, std::size_t bytes) {
    return records->take_room(tenant, bytes).has_value();
  };
  ask({1}, 1, 900);
  EXPECT_TRUE(room({1}, 100));
  const auto refused = records->take_room({1}, 101);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::exhausted);
  for (const char* number : {"900", "101", "1000", "environment"}) {
    EXPECT_NE(refused.error().message.find(number), std::string::npos) << refused.error().message;
  }
  {
    const auto held = records->take_room({2}, 600);
    EXPECT_TRUE(held);
    EXPECT_FALSE(room({3}, 1)) << "1501 of all";
  }
  EXPECT_TRUE(room({3}, 600)) << "the room was given back";
  records.reset();
  records = std::make_unique<Records>(path_, label_of, options);
  EXPECT_FALSE(room({1}, 101)) << "counted again from the file";
  end(1);
  EXPECT_TRUE(room({1}, 1'000));
  ask({1}, 2, 700);
  end(2);
  EXPECT_FALSE(records->find(SandboxId{1})) << "1600 bytes have ended: the oldest goes";
  EXPECT_TRUE(records->find(SandboxId{2}));
}

// It would wait for ever for a lock that its caller holds.
TEST_F(RecordsTest, WhoFiltersAListMayAskForMore) {
  Records records(path_, label_of);
  control::SandboxRequested asked;
  asked.tenant = {1};
  asked.payload = std::string(100'000, 'p');
  for (std::uint64_t id = 1; id <= 600; ++id) {
    records.observe(id, Time{} + seconds(static_cast<std::int64_t>(id)), asked,
                    {sandbox::Accepted{0, {id}, false}});
  }
  Records::Filter filter;
  filter.limit = 400;
  const auto odd = records.list(filter, [&](const Sandbox& one) {
    return records.live() == 600 && one.sandbox.value % 2 == 1;
  });
  ASSERT_EQ(odd.size(), 300u);
  EXPECT_EQ(odd.front().sandbox.value, 599u);
  EXPECT_EQ(odd.back().sandbox.value, 1u);
}

TEST_F(RecordsTest, WhatTheLogDoesNotKnowHasEnded) {
  Records records(path_, label_of);
  control::SandboxRequested asked;
  asked.tenant = {1};
  records.observe(1, Time{} + seconds(1), asked, {sandbox::Accepted{0, {5}, false}});
  records.settle(control::Control(control::Config{}));
  const auto one = records.find(SandboxId{5});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->status, Status::ended);
  EXPECT_EQ(one->reason, EndReason::node_lost);
  EXPECT_EQ(records.live(), 0u);
}

TEST_F(RecordsTest, AFileOfSomethingElseIsRefusedByName) {
  {
    FILE* file = fopen(path_.c_str(), "w");
    for (int i = 0; i < 4096; ++i) fputs("no database", file);
    fclose(file);
  }
  try {
    Records records(path_, label_of);
    FAIL() << "it was opened";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find(path_), std::string::npos) << error.what();
  }
}

TEST_F(RecordsTest, AnImageHasOneNumberForEver) {
  ImageId first, second;
  {
    ImageNumbers numbers(folder_ + "/images.db");
    first = numbers.number_of("sha256:aa").value();
    second = numbers.number_of("sha256:bb").value();
    EXPECT_NE(first, second);
    EXPECT_NE(first.value, 0u);
    EXPECT_EQ(numbers.number_of("sha256:aa").value(), first);
  }
  ImageNumbers again(folder_ + "/images.db");
  EXPECT_EQ(again.number_of("sha256:bb").value(), second);
  EXPECT_EQ(again.number_of("sha256:aa").value(), first);
  const ImageId third = again.number_of("sha256:cc").value();
  EXPECT_TRUE(third != first && third != second);
}

}  // namespace
}  // namespace chalk::records
