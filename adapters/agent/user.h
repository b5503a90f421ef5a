// Who a process in an image is: the image's text ("", "1000", "1000:1000", "name", "name:group")
// looked up in the root file system's own /etc/passwd and /etc/group. These files are the image's,
// so nothing in them is believed beyond numbers, and no link in them leads out of the root.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "adapters/error.h"

namespace chalk::agent {

struct User {
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;  // besides gid
  std::string home = "/";
};

// Error::not_found: a name that the image does not know.
Result<User> find_user(const std::string& rootfs, const std::string& text);

}  // namespace chalk::agent
