#include "adapters/agent/clear.h"

#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapters/cgroup/cgroup.h"
#include "adapters/network/network.h"

namespace chalk::agent {
namespace {

// "36 35 98:0 /root /mount options ...", with a space in a name written as \040.
std::string mount_point(const std::string& line) {
  std::istringstream words(line);
  std::string word;
  for (int i = 0; i < 5; ++i) words >> word;
  std::string out;
  for (std::size_t at = 0; at < word.size(); ++at) {
    if (word[at] == '\\' && at + 3 < word.size()) {
      out += static_cast<char>(std::stoi(word.substr(at + 1, 3), nullptr, 8));
      at += 3;
    } else {
      out += word[at];
    }
  }
  return out;
}

// What is mounted below a folder, the innermost first.
std::vector<std::string> mounts_below(const std::string& folder) {
  std::vector<std::string> found;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::string point = mount_point(line);
    if (point.starts_with(folder + "/")) found.push_back(std::move(point));
  }
  std::ranges::reverse(found);  // the table has them in the order of mounting
  return found;
}

}  // namespace

Result<Cleared> clear_host(const Options& options) {
  network::Options wanted;
  wanted.name = options.network_prefix;
  wanted.pool = options.network_pool;
  wanted.spare = 0;
  // It has the name while it lives: no agent can begin meanwhile.
  auto network = network::Network::open(std::move(wanted));
  if (!network) return std::unexpected(network.error());
  Cleared cleared;
  auto groups = cgroup::Groups::open("chalk-" + options.network_prefix);
  if (!groups) return std::unexpected(groups.error());
  cleared.sandboxes = groups->list().size();
  if (auto removed = groups->remove_all(); !removed) return std::unexpected(removed.error());
  if (auto removed = (*network)->remove(); !removed) return std::unexpected(removed.error());
  std::error_code error;
  const std::filesystem::path data = std::filesystem::canonical(options.data, error);
  if (error) {
    return fail(Error::Kind::not_found, options.data + ": " + error.message() +
                                            "; the rest of what was left is cleared");
  }
  for (const std::string& point : mounts_below(data)) {
    if (umount2(point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return fail(Error::Kind::failed, point + ": cannot unmount: " + std::strerror(errno));
    }
    ++cleared.mounts;
  }
  return cleared;
}

int clear_command(const Options& options) {
  const auto cleared = clear_host(options);
  if (!cleared) throw std::runtime_error("clear: " + cleared.error().message);
  std::printf("cleared: %zu sandboxes, %zu mounts; %s is as it was\n", cleared->sandboxes,
              cleared->mounts, options.data.c_str());
  return 0;
}

}  // namespace chalk::agent
