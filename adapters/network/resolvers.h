// Whom the host asks for names: given once, or read from a file like /etc/resolv.conf, and read
// again when it changes, at most once a second. Not thread safe.
#pragma once
#include <chrono>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/network/address.h"

namespace chalk::network {

std::vector<Resolver> parse_resolver_file(std::string_view text);

class Resolvers {
 public:
  static constexpr std::size_t kMax = 3;

  // `self` is never asked: it is the forwarder.
  Resolvers(std::vector<Resolver> given, std::string file, Address self);
  const std::vector<Resolver>& now();

 private:
  const bool fixed_;
  const std::string file_;
  const Address self_;
  std::vector<Resolver> list_;
  std::chrono::steady_clock::time_point next_look_;
  timespec changed_{};
};

}  // namespace chalk::network
