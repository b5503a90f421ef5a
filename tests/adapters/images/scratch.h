// A folder of its own for each test, removed with everything mounted below it; the first one also
// removes what a killed earlier run left.
#pragma once
#include <string>

namespace chalk::images::testing {

class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::string& path() const { return path_; }
  // Makes a folder below and says its path.
  std::string folder(const std::string& name) const;

 private:
  std::string path_;
};

// Root and overlayfs work here; else a test skips.
bool can_mount_overlay();

}  // namespace chalk::images::testing
