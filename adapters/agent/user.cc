#include "adapters/agent/user.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <sstream>

namespace chalk::agent {
namespace {

constexpr std::size_t kFileBytesMax = 1u << 20;
constexpr std::size_t kGroupsMax = 64;

// Empty where there is no such file; links are followed below the root only.
std::string read_inside(const std::string& rootfs, const char* path) {
  const int root = open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return {};
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const int file = static_cast<int>(syscall(SYS_openat2, root, path, &how, sizeof how));
  close(root);
  if (file < 0) return {};
  std::string text(kFileBytesMax, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file, text.data() + size, text.size() - size);
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  close(file);
  text.resize(size);
  return text;
}

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || text.empty()) return {};
  return value;
}

std::vector<std::vector<std::string>> rows(const std::string& text) {
  std::vector<std::vector<std::string>> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> columns(1);
    for (const char c : line) {
      if (c == ':') {
        columns.emplace_back();
      } else {
        columns.back().push_back(c);
      }
    }
    out.push_back(std::move(columns));
  }
  return out;
}

bool lists(const std::string& members, const std::string& name) {
  std::istringstream words(members);
  for (std::string word; std::getline(words, word, ',');) {
    if (word == name) return true;
  }
  return false;
}

}  // namespace

Result<User> find_user(const std::string& rootfs, const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string who = text.substr(0, colon).empty() ? "0" : text.substr(0, colon);
  const std::string group = colon == std::string::npos ? "" : text.substr(colon + 1);
  User user;
  std::string name;
  const auto uid = number(who);
  bool found = false;
  for (const auto& row : rows(read_inside(rootfs, "etc/passwd"))) {
    if (row.size() < 6) continue;
    const auto row_uid = number(row[2]), row_gid = number(row[3]);
    if (!row_uid || !row_gid || (uid ? *uid != *row_uid : who != row[0])) continue;
    name = row[0];
    user.uid = *row_uid;
    user.gid = *row_gid;
    if (row[5].starts_with('/')) user.home = row[5];
    found = true;
    break;
  }
  if (!found && !uid) {
    return fail(Error::Kind::not_found, "user \"" + who + "\": the image's /etc/passwd has none");
  }
  if (!found) user.uid = *uid;
  const auto groups = rows(read_inside(rootfs, "etc/group"));
  if (!group.empty()) {
    auto gid = number(group);
    for (const auto& row : groups) {
      if (!gid && row.size() >= 3 && row[0] == group) gid = number(row[2]);
    }
    if (!gid) {
      return fail(Error::Kind::not_found,
                  "group \"" + group + "\": the image's /etc/group has none");
    }
    user.gid = *gid;
    return user;
  }
  for (const auto& row : groups) {
    if (row.size() < 4 || name.empty() || !lists(row[3], name)) continue;
    const auto gid = number(row[2]);
    if (gid && *gid != user.gid && user.groups.size() < kGroupsMax) user.groups.push_back(*gid);
  }
  return user;
}

}  // namespace chalk::agent
