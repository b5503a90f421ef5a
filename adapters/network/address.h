// IPv4 addresses in host byte order, and ranges of them. Parsing is strict: four decimal numbers,
// no leading zeros, and a range has no bits set below its mask.
#pragma once
#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "adapters/error.h"

namespace chalk::network {

using Address = std::uint32_t;

struct Range {
  Address first = 0;
  int bits = 32;  // of the mask

  Address mask() const { return bits == 0 ? 0 : ~Address{0} << (32 - bits); }
  Address last() const { return first | ~mask(); }
  bool contains(Address address) const { return (address & mask()) == first; }
  bool overlaps(const Range& other) const {
    return first <= other.last() && other.first <= last();
  }
  bool operator==(const Range&) const = default;
};

struct Resolver {
  Address address = 0;
  std::uint16_t port = 53;
  bool operator==(const Resolver&) const = default;
};

std::optional<Address> parse_address(std::string_view text);
std::optional<std::uint16_t> parse_port(std::string_view text);  // 1..65535
Result<Range> parse_range(std::string_view text);
Result<Resolver> parse_resolver(std::string_view text);
std::string text_of(Address address);
std::string text_of(const Range& range);
sockaddr_in socket_address(Address address, std::uint16_t port);

}  // namespace chalk::network
