// The real thing: Debian's docker-registry on a free loopback port with a folder of its own.
#pragma once
#include <memory>
#include <string>

#include "tests/adapters/images/layers.h"
#include "tests/adapters/images/process.h"
#include "tests/adapters/images/scratch.h"

namespace chalk::images::testing {

class DockerRegistry {
 public:
  // Null with `why` where it is not installed or does not start.
  static std::unique_ptr<DockerRegistry> start(const Scratch& scratch, std::string& why);

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  // Throws std::runtime_error if the registry refuses something.
  void push(const std::string& repository, const std::string& tag, const Published& image) const;

 private:
  DockerRegistry() = default;
  int port_ = 0;
  std::unique_ptr<Process> process_;
};

}  // namespace chalk::images::testing
