#include "tests/adapters/images/tree_listing.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace chalk::images::testing {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string describe(const std::string& path, const struct stat& about) {
  char head[64];
  std::snprintf(head, sizeof head, "%o %u:%u", about.st_mode & 07777, about.st_uid, about.st_gid);
  const std::string common = head;
  if (S_ISDIR(about.st_mode)) {
    char value[8];
    const bool opaque = lgetxattr(path.c_str(), "trusted.overlay.opaque", value, sizeof value) > 0;
    return "directory " + common + (opaque ? " opaque" : "");
  }
  if (S_ISREG(about.st_mode)) return "file " + common + " " + content_of(path);
  if (S_ISLNK(about.st_mode)) {
    char target[PATH_MAX];
    const ssize_t size = readlink(path.c_str(), target, sizeof target);
    return "symlink " + std::string(target, static_cast<std::size_t>(size < 0 ? 0 : size));
  }
  if (S_ISCHR(about.st_mode) && about.st_rdev == 0) return "whiteout";
  return "other " + std::to_string(about.st_mode & S_IFMT);
}

void add(const std::string& root, const std::string& below, Listing& listing) {
  const std::string path = below.empty() ? root : root + "/" + below;
  struct stat about {};
  if (lstat(path.c_str(), &about) != 0) {
    // overlayfs lists whiteouts of directories that exist in one layer only, without having them.
    if (errno == ENOENT) return;
    throw std::runtime_error("cannot look at " + path);
  }
  listing[below] = describe(path, about);
  if (!S_ISDIR(about.st_mode)) return;
  DIR* stream = opendir(path.c_str());
  if (!stream) throw std::runtime_error("cannot list " + path);
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") add(root, below.empty() ? name : below + "/" + name, listing);
  }
  closedir(stream);
}

}  // namespace

Listing list_tree(const std::string& root) {
  Listing listing;
  add(root, "", listing);
  return listing;
}

}  // namespace chalk::images::testing
