#include "adapters/network/resolvers.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>

namespace chalk::network {
namespace {
constexpr std::size_t kFileBytesMax = 64 << 10;
}

std::vector<Resolver> parse_resolver_file(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  constexpr std::string_view kWord = "nameserver";
  std::vector<Resolver> found;
  while (!text.empty() && found.size() < Resolvers::kMax) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.starts_with(kWord)) continue;
    line.remove_prefix(kWord.size());
    const auto begin = line.find_first_not_of(kBlank);
    if (begin == 0 || begin == std::string_view::npos) continue;
    line.remove_prefix(begin);
    const auto address = parse_address(line.substr(0, line.find_first_of(kBlank)));
    if (address && *address != 0) found.push_back({*address, 53});  // others are IPv6
  }
  return found;
}

Resolvers::Resolvers(std::vector<Resolver> given, std::string file, Address self)
    : fixed_(!given.empty()), file_(std::move(file)), self_(self), list_(std::move(given)) {}

const std::vector<Resolver>& Resolvers::now() {
  const auto time = std::chrono::steady_clock::now();
  if (fixed_ || time < next_look_) return list_;
  next_look_ = time + std::chrono::seconds(1);
  struct stat status{};
  if (::stat(file_.c_str(), &status) != 0) return list_;  // being replaced, or gone: as it was
  if (status.st_mtim.tv_sec == changed_.tv_sec && status.st_mtim.tv_nsec == changed_.tv_nsec) {
    return list_;
  }
  std::string text(kFileBytesMax, '\0');
  std::ifstream file(file_, std::ios::binary);
  if (!file) return list_;
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  changed_ = status.st_mtim;
  list_ = parse_resolver_file(text);
  std::erase_if(list_, [&](const Resolver& resolver) { return resolver.address == self_; });
  return list_;
}

}  // namespace chalk::network
