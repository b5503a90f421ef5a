// A stable 64-bit digest over plain data: the same on every machine, compiler and build, and a few
// nanoseconds per event. It finds differences between runs; it is no defence against forgery.
#pragma once
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/fields.h"
#include "model/core/fifo.h"

namespace chalk {

class Digest {
 public:
  constexpr Digest() = default;
  constexpr explicit Digest(std::uint64_t start) : value_(start) {}

  // One rotate, xor and multiply per word: each step is a bijection of the running value, so a
  // difference, once in, is only lost by a second one that cancels it.
  constexpr void add_word(std::uint64_t word) {
    value_ = (std::rotl(value_, 23) ^ word) * 0x9E3779B97F4A7C15ULL;
  }

  template <class T>
  requires(std::integral<T> || std::is_enum_v<T>) constexpr void add(T value) {
    add_word(static_cast<std::uint64_t>(value));
  }
  void add(std::string_view text) {
    add_word(text.size());
    std::uint64_t word = 0;
    int held = 0;
    for (unsigned char c : text) {
      word = word << 8 | c;
      if (++held == 8) {
        add_word(word);
        word = 0;
        held = 0;
      }
    }
    if (held != 0) add_word(word);
  }
  void add(const std::string& text) { add(std::string_view(text)); }
  template <class A, class B>
  void add(const std::pair<A, B>& two) {
    add(two.first);
    add(two.second);
  }
  template <class T>
  void add(const std::optional<T>& one) {
    add_word(one.has_value());
    if (one) add(*one);
  }
  template <class T, std::size_t N>
  void add(const std::array<T, N>& items) {
    for (const auto& item : items) add(item);
  }
  template <class T>
  void add(const std::vector<T>& items) {
    add_range(items);
  }
  template <class T>
  void add(const Fifo<T>& items) {
    add_word(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) add(items[i]);
  }
  template <class T>
  void add(const std::set<T>& items) {
    add_range(items);
  }
  template <class K, class V>
  void add(const std::map<K, V>& items) {
    add_range(items);
  }
  template <class... Ts>
  void add(const std::variant<Ts...>& one) {
    add_word(one.index());
    std::visit([this](const auto& value) { add(value); }, one);
  }
  void add(const Described auto& value) {
    for_each_field(value, [this](const auto& member) { add(member); });
  }

  // The running value, well mixed (the finaliser of MurmurHash3).
  constexpr std::uint64_t value() const {
    std::uint64_t mixed = value_;
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCDULL;
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53ULL;
    return mixed ^ mixed >> 33;
  }
  // The unmixed value, from which Digest(raw) goes on.
  constexpr std::uint64_t raw() const { return value_; }

 private:
  void add_range(const auto& items) {
    add_word(items.size());
    for (const auto& item : items) add(item);
  }

  std::uint64_t value_ = 0xCBF29CE484222325ULL;
};

template <class T>
std::uint64_t digest_of(const T& value) {
  Digest digest;
  digest.add(value);
  return digest.value();
}

}  // namespace chalk
