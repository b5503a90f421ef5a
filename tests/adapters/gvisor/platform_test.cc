// Which platform is chosen: with the real runsc, and with one that hangs, fails and is slow at will.
#include "adapters/gvisor/platform.h"

#include <sys/stat.h>

#include <sstream>

#include "tests/adapters/gvisor/sandbox_fixture.h"

namespace chalk::gvisor {
namespace {

// What it is asked is written to `calls`. A platform "stuck" leaves a process in a session of its
// own, as runsc's sandbox is, whose pid is in `orphan`.
constexpr const char* kScript = R"(#!/bin/sh
here=$(dirname "$0")
if [ "$1" = --version ]; then cat "$here/version"; exit; fi
for word; do case $word in --platform=*) platform=${word#--platform=} ;; esac; done
echo "$platform" >>"$here/calls"
case $platform in
  quick) exit 0 ;;
  slow) sleep 0.4; exit 0 ;;
  stuck) setsid sleep 1000 & echo $! >"$here/orphan"; sleep 1000 ;;
  *) echo "no platform $platform" >&2; exit 1 ;;
esac
)";

class PlatformTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto lack = test::no_control_groups(); !lack.empty()) GTEST_SKIP() << lack;
    folder_ = fs::temp_directory_path() / ("chalk-platform-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    auto groups = cgroup::Groups::open(name_);
    ASSERT_TRUE(groups) << groups.error().message;
    groups_.emplace(std::move(*groups));
    write("runsc", kScript);
    write("version", "one");
    chmod(double_().c_str(), 0755);
  }
  void TearDown() override { clean(name_, folder_); }

  std::string double_() const { return folder_ / "runsc"; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }
  std::string text(const std::string& name) const {
    std::ifstream in(folder_ / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Result<Platform> choose(const Platforms& platforms) const {
    return choose_platform(double_(), folder_ / "kept", *groups_, platforms);
  }
  static bool lives(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string number, name, state;
    return in >> number >> name >> state && state != "Z";
  }

  std::string name_ = "chalk-platform-test-" + std::to_string(getpid());
  fs::path folder_;
  std::optional<cgroup::Groups> groups_;
};

TEST_F(PlatformTest, RunsACanaryOfTheRealOne) {
  if (access(runsc().c_str(), X_OK) != 0) GTEST_SKIP() << "no runsc; run ci/tools";
  const auto chosen =
      choose_platform(runsc(), folder_ / "kept", *groups_, {{"nonsense", "systrap"}, {}});
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_EQ(chosen->name, "systrap");
  EXPECT_NE(chosen->tried.find("nonsense: "), std::string::npos) << chosen->tried;
  EXPECT_TRUE(groups_->list().empty());
  EXPECT_FALSE(fs::exists(folder_ / "kept/canary"));
}

TEST_F(PlatformTest, TakesTheFastest) {
  const auto chosen = choose({{"slow", "quick", "wrong"}, {"never"}});
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->name, "quick");
  EXPECT_NE(chosen->tried.find("wrong: no platform wrong"), std::string::npos) << chosen->tried;
  EXPECT_EQ(text("calls"), "slow\nquick\nwrong\n");
  EXPECT_EQ(choose({{"slow"}, {}})->name, "quick") << "as found before";
}

// On a virtual machine whose /dev/kvm never comes to an end, each start of an agent waited for it,
// and what it left took the processors from then on.
TEST_F(PlatformTest, WaitsForNoneThatIsSlowerAndLeavesNothingOfIt) {
  const auto began = std::chrono::steady_clock::now();
  const auto chosen = choose({{"slow", "stuck"}, {}});
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->name, "slow");
  EXPECT_LT(std::chrono::steady_clock::now() - began, Platforms{}.timeout) << chosen->tried;
  std::istringstream orphan(text("orphan"));
  pid_t pid = 0;
  ASSERT_TRUE(orphan >> pid);
  EXPECT_FALSE(lives(pid));
  EXPECT_TRUE(groups_->list().empty());
  EXPECT_FALSE(fs::exists(folder_ / "kept/canary"));
}

TEST_F(PlatformTest, FindsOutOnceForARunscAndABoot) {
  ASSERT_EQ(choose({{"quick"}, {}})->name, "quick");
  ASSERT_EQ(choose({{"quick"}, {}})->name, "quick");
  EXPECT_EQ(text("calls"), "quick\n");
  write("version", "another");
  ASSERT_EQ(choose({{"slow"}, {}})->name, "slow");
  EXPECT_EQ(text("calls"), "quick\nslow\n");
  for (const char* damaged : {"", "{", "[]", R"({"of":{}})", R"({"platform":7})"}) {
    write("kept/platform.json", damaged);
    EXPECT_EQ(choose({{"quick"}, {}})->name, "quick") << damaged;
  }
}

TEST_F(PlatformTest, EndsWhatAnEarlierProcessLeft) {
  ASSERT_TRUE(choose({{"quick"}, {}}));
  ASSERT_TRUE(groups_->create("canary", {}));
  process::Spawn spawn;
  spawn.argv = {"/bin/sleep", "1000"};
  spawn.cgroup_procs = groups_->procs_files("canary");
  const auto left = process::spawn(spawn);
  ASSERT_TRUE(left);
  fs::create_directories(folder_ / "kept/canary/runsc-do1");
  ASSERT_TRUE(choose({{"quick"}, {}}));
  EXPECT_TRUE(process::wait(*left, seconds(10)));
  EXPECT_TRUE(groups_->list().empty());
  EXPECT_FALSE(fs::exists(folder_ / "kept/canary"));
}

TEST_F(PlatformTest, SaysWhatEachSaidWhereNoneWorks) {
  const auto none = choose({{"wrong"}, {"worse"}});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, Error::Kind::unavailable);
  EXPECT_NE(none.error().message.find("wrong: no platform wrong; worse: no platform worse"),
            std::string::npos)
      << none.error().message;
  EXPECT_EQ(choose({{"wrong"}, {"slow", "quick"}})->name, "slow") << "the first that works";
}

}  // namespace
}  // namespace chalk::gvisor
