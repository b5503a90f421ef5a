#include "tests/adapters/images/scratch.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace chalk::images::testing {
namespace {

constexpr const char* kPrefix = "chalk-images-";

void remove_with_mounts(const std::string& path) {
  std::vector<std::string> points;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    if (field.starts_with(path + "/")) points.push_back(field);
  }
  for (auto point = points.rbegin(); point != points.rend(); ++point)
    umount2(point->c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

void remove_leftovers(const std::filesystem::path& where) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(where, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const pid_t owner = std::atoi(name.c_str() + std::string(kPrefix).size());
    if (owner > 0 && kill(owner, 0) != 0 && errno == ESRCH) remove_with_mounts(entry.path());
  }
}

}  // namespace

Scratch::Scratch() {
  static std::atomic<int> number = 0;
  const auto where = std::filesystem::canonical(std::filesystem::temp_directory_path());
  if (number == 0) remove_leftovers(where);
  path_ = where / (kPrefix + std::to_string(getpid()) + "-" + std::to_string(number++));
  std::filesystem::create_directory(path_);
}

Scratch::~Scratch() { remove_with_mounts(path_); }

std::string Scratch::folder(const std::string& name) const {
  const std::string made = path_ + "/" + name;
  std::filesystem::create_directories(made);
  return made;
}

bool can_mount_overlay() {
  if (geteuid() != 0) return false;
  const Scratch scratch;
  const std::string options = "lowerdir=" + scratch.folder("a") + ":" + scratch.folder("b");
  return mount("overlay", scratch.folder("m").c_str(), "overlay", MS_RDONLY, options.c_str()) == 0;
}

}  // namespace chalk::images::testing
