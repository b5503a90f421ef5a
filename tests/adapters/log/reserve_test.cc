#include "adapters/log/reserve.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "adapters/log/event_log.h"

namespace chalk::log {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// In a mount namespace of its own thread, on a disk of 16 MiB.
void on_small_disk(const std::function<void(const std::string& folder)>& body) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: a small disk";
  std::string folder = fs::temp_directory_path() / "chalk-reserve-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  bool made = false;
  std::thread([&] {
    made = unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=16m") == 0;
    if (made) body(folder);
  }).join();
  fs::remove_all(folder);
  if (!made) GTEST_SKIP() << "cannot mount a small tmpfs";
}

// All that is left; answers how to undo it.
std::string fill(const std::string& folder) {
  const std::string path = folder + "/others";
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const std::string chunk(4096, 'x');
  while (write(file, chunk.data(), chunk.size()) > 0) continue;
  close(file);
  return path;
}

TEST(Reserve, LetsALogBeWrittenOnAFullDisk) {
  on_small_disk([](const std::string& folder) {
    Reserve reserve(folder + "/reserve", 4 << 20, 0ms);
    EXPECT_TRUE(fs::exists(folder + "/reserve"));
    EventLog log(folder + "/node.db", 1);
    const std::string others = fill(folder);
    const std::vector<std::string> batch(1, std::string(256 << 10, 'r'));
    EXPECT_THROW(log.append(log.next(), batch, {}), LogError);
    reserve.give_back_if_full();
    EXPECT_FALSE(fs::exists(folder + "/reserve"));
    EXPECT_NO_THROW(log.append(log.next(), batch, {}));
    reserve.make_if_room();
    EXPECT_FALSE(fs::exists(folder + "/reserve")) << "there is no room yet";
    fs::remove(others);
    reserve.make_if_room();
    EXPECT_TRUE(fs::exists(folder + "/reserve"));
  });
}

TEST(Reserve, StaysWhereTheLogFailsForSomethingElse) {
  on_small_disk([](const std::string& folder) {
    Reserve reserve(folder + "/reserve", 4 << 20, 0ms);
    reserve.give_back_if_full();
    EXPECT_TRUE(fs::exists(folder + "/reserve"));
    const Reserve again(folder + "/reserve", 4 << 20, 0ms);
    EXPECT_TRUE(fs::exists(folder + "/reserve"));
  });
}

}  // namespace
}  // namespace chalk::log
