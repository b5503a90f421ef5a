#include "adapters/images/tree.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <filesystem>
#include <fstream>

#include "tests/adapters/images/scratch.h"

namespace chalk::images {
namespace {

namespace fs = std::filesystem;

class TreeTest : public ::testing::Test {
 protected:
  testing::Scratch scratch_;
  File parent_{open(scratch_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  std::string top_ = scratch_.folder("top");
};

// Of this thread's work: what else the machine and its disk do must not count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// With their names a directory this wide is many blocks long: read anew for each child, that took
// minutes.
TEST_F(TreeTest, AWideDirectoryIsRemovedInLinearTime) {
  constexpr int kWide = 40'000;
  const double began = processor_seconds();
  for (int i = 0; i < kWide; ++i) {
    const std::string name = top_ + "/" + std::string(200, 'x') + std::to_string(i);
    ASSERT_EQ(mkdir(name.c_str(), 0700), 0);
    if (i % 2 == 0) {
      ASSERT_EQ(mkdir((name + "/below").c_str(), 0700), 0);
    }
  }
  const double middle = processor_seconds();
  const auto removed = remove_tree(parent_.get(), "top");
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(fs::exists(top_));
  EXPECT_LT(processor_seconds() - middle, 5 * (middle - began) + 5);
}

TEST_F(TreeTest, ADeepTreeNeedsFewDescriptors) {
  // Two arms, deeper than descriptors are left, with names that the mover would take.
  for (const std::string arm : {"0", "b"}) {
    std::string path = top_;
    for (int i = 0; i < 300; ++i) {
      path += "/" + arm;
      ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
      std::ofstream(path + "/1") << "x";
    }
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto removed = remove_tree(parent_.get(), "top");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(fs::exists(top_));
}

TEST_F(TreeTest, AStopEndsItAndLeavesTheRest) {
  for (const char* name : {"a", "b", "c"}) std::ofstream(top_ + "/" + name) << "x";
  std::stop_source stop;
  stop.request_stop();
  const auto removed = remove_tree(parent_.get(), "top", stop.get_token());
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().kind, Error::Kind::unavailable);
  EXPECT_TRUE(fs::exists(top_ + "/a"));
  EXPECT_TRUE(remove_tree(parent_.get(), "top"));
}

}  // namespace
}  // namespace chalk::images
