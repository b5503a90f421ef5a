#include "adapters/network/address.h"

#include <arpa/inet.h>

#include <array>
#include <charconv>

namespace chalk::network {

std::optional<Address> parse_address(std::string_view text) {
  // inet_pton wants a terminated string and refuses leading zeros and short forms.
  if (text.size() > 15) return std::nullopt;
  std::array<char, 16> copy{};
  text.copy(copy.data(), text.size());
  in_addr parsed{};
  if (::inet_pton(AF_INET, copy.data(), &parsed) != 1) return std::nullopt;
  if (std::string_view(copy.data()).size() != text.size()) return std::nullopt;
  return ntohl(parsed.s_addr);
}

static std::optional<unsigned> parse_number(std::string_view text, unsigned max) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || value > max || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  return value;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = parse_number(text, 65535);
  if (!port || *port == 0) return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

Result<Range> parse_range(std::string_view text) {
  const std::string shown(text.substr(0, 64));
  const auto wrong = [&](const char* expected) {
    return fail(Error::Kind::invalid, "address range '" + shown + "': expected " + expected);
  };
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return wrong("IPv4 CIDR as in 10.200.0.0/16");
  const auto address = parse_address(text.substr(0, slash));
  const auto bits = parse_number(text.substr(slash + 1), 32);
  if (!address || !bits) return wrong("IPv4 CIDR as in 10.200.0.0/16");
  const Range range{*address, static_cast<int>(*bits)};
  if ((range.first & range.mask()) != range.first) return wrong("no bits below the mask");
  return range;
}

Result<Resolver> parse_resolver(std::string_view text) {
  const auto colon = text.find(':');
  const auto address = parse_address(text.substr(0, colon));
  Resolver resolver;
  bool good = address.has_value();
  if (good && colon != std::string_view::npos) {
    const auto port = parse_port(text.substr(colon + 1));
    good = port.has_value();
    resolver.port = port.value_or(0);
  }
  if (!good || *address == 0) {
    return fail(Error::Kind::invalid, "resolver '" + std::string(text.substr(0, 64)) +
                                          "': expected an IPv4 address, or address:port");
  }
  resolver.address = *address;
  return resolver;
}

std::string text_of(Address address) {
  return std::to_string(address >> 24) + '.' + std::to_string(address >> 16 & 255) + '.' +
         std::to_string(address >> 8 & 255) + '.' + std::to_string(address & 255);
}

std::string text_of(const Range& range) {
  return text_of(range.first) + '/' + std::to_string(range.bits);
}

sockaddr_in socket_address(Address address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
}

}  // namespace chalk::network
