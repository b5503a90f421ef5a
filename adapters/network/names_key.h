// What epoll says of which socket of the DNS forwarder.
#pragma once
#include <cstdint>

namespace chalk::network {

enum class KeyKind : std::uint8_t { fixed, query, client, resolver };

constexpr std::uint64_t key_of(std::uint64_t number, KeyKind kind) {
  return number << 2 | static_cast<std::uint64_t>(kind);
}
constexpr KeyKind kind_of_key(std::uint64_t key) { return static_cast<KeyKind>(key & 3); }
constexpr std::uint64_t number_of_key(std::uint64_t key) { return key >> 2; }

constexpr std::uint64_t kWakeKey = key_of(1, KeyKind::fixed);
constexpr std::uint64_t kDatagramsKey = key_of(2, KeyKind::fixed);
constexpr std::uint64_t kListenerKey = key_of(3, KeyKind::fixed);

}  // namespace chalk::network
