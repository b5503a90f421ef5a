// Binary encoding of described data: varints, zigzag for signed integers, sizes before contents.
// Decoding checks every bound and answers false on bytes that are not an encoding; it never throws.
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/fields.h"
#include "model/core/fifo.h"

namespace chalk {

class Encoder {
 public:
  explicit Encoder(std::string& out) : out_(out) {}

  void word(std::uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<char>(value));
  }
  template <class T>
  requires(std::integral<T> || std::is_enum_v<T>) void put(T value) {
    if constexpr (std::is_enum_v<T>) {
      word(static_cast<std::uint64_t>(value));
    } else if constexpr (std::is_signed_v<T>) {
      const auto wide = static_cast<std::int64_t>(value);
      word(static_cast<std::uint64_t>(wide) << 1 ^ static_cast<std::uint64_t>(wide >> 63));
    } else {
      word(value);
    }
  }
  void put(const std::string& text) {
    word(text.size());
    out_.append(text);
  }
  template <class A, class B>
  void put(const std::pair<A, B>& two) {
    put(two.first);
    put(two.second);
  }
  template <class T>
  void put(const std::optional<T>& one) {
    word(one.has_value());
    if (one) put(*one);
  }
  template <class T, std::size_t N>
  void put(const std::array<T, N>& items) {
    for (const auto& item : items) put(item);
  }
  template <class T>
  void put(const std::vector<T>& items) {
    range(items);
  }
  template <class T>
  void put(const std::set<T>& items) {
    range(items);
  }
  template <class K, class V>
  void put(const std::map<K, V>& items) {
    range(items);
  }
  template <class T>
  void put(const Fifo<T>& items) {
    word(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) put(items[i]);
  }
  template <class... Ts>
  void put(const std::variant<Ts...>& one) {
    word(one.index());
    std::visit([this](const auto& value) { put(value); }, one);
  }
  void put(const Described auto& value) {
    for_each_field(value, [this](const auto& member) { put(member); });
  }

 private:
  void range(const auto& items) {
    word(items.size());
    for (const auto& item : items) put(item);
  }
  std::string& out_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : bytes_(bytes) {}

  std::size_t position() const { return at_; }
  bool at_end() const { return at_ == bytes_.size(); }

  bool word(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) return false;
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return shift < 63 || byte <= 1;
    }
    return false;
  }
  template <class T>
  requires(std::integral<T> || std::is_enum_v<T>) bool get(T& value) {
    std::uint64_t raw;
    if (!word(raw)) return false;
    if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(raw);
      return static_cast<std::uint64_t>(value) == raw;
    } else if constexpr (std::same_as<T, bool>) {
      value = raw != 0;
      return raw <= 1;
    } else if constexpr (std::is_signed_v<T>) {
      const auto wide = static_cast<std::int64_t>(raw >> 1) ^ -static_cast<std::int64_t>(raw & 1);
      value = static_cast<T>(wide);
      return value == wide;
    } else {
      value = static_cast<T>(raw);
      return value == raw;
    }
  }
  bool get(std::string& text) {
    std::uint64_t size;
    if (!word(size) || size > bytes_.size() - at_) return false;
    text.assign(bytes_.substr(at_, size));
    at_ += size;
    return true;
  }
  template <class A, class B>
  bool get(std::pair<A, B>& two) {
    return get(two.first) && get(two.second);
  }
  template <class T>
  bool get(std::optional<T>& one) {
    bool present;
    if (!get(present)) return false;
    if (!present) {
      one.reset();
      return true;
    }
    return get(one.emplace());
  }
  template <class T, std::size_t N>
  bool get(std::array<T, N>& items) {
    for (auto& item : items) {
      if (!get(item)) return false;
    }
    return true;
  }
  template <class T>
  bool get(std::vector<T>& items) {
    items.clear();
    return each<T>([&](T&& item) { items.push_back(std::move(item)); });
  }
  template <class T>
  bool get(std::set<T>& items) {
    items.clear();
    return each<T>([&](T&& item) { items.insert(std::move(item)); });
  }
  template <class K, class V>
  bool get(std::map<K, V>& items) {
    items.clear();
    return each<std::pair<K, V>>([&](std::pair<K, V>&& item) { items.insert(std::move(item)); });
  }
  template <class T>
  bool get(Fifo<T>& items) {
    items = {};
    return each<T>([&](T&& item) { items.push_back(std::move(item)); });
  }
  template <class... Ts>
  bool get(std::variant<Ts...>& one) {
    std::uint64_t index;
    if (!word(index) || index >= sizeof...(Ts)) return false;
    return alternative(one, index, std::index_sequence_for<Ts...>{});
  }
  bool get(Described auto& value) {
    bool good = true;
    for_each_field(value, [&](auto& member) { good = good && get(member); });
    return good;
  }

 private:
  template <class T, class Take>
  bool each(Take&& take) {
    std::uint64_t size;
    // An element takes at least one byte unless it has no fields, so a hostile size ends early.
    if (!word(size) || size > bytes_.size() - at_) return false;
    for (std::uint64_t i = 0; i < size; ++i) {
      T item{};
      if (!get(item)) return false;
      take(std::move(item));
    }
    return true;
  }
  template <class Variant, std::size_t... Is>
  bool alternative(Variant& one, std::uint64_t index, std::index_sequence<Is...>) {
    bool good = false;
    (void)((Is == index && (good = get(one.template emplace<Is>()), true)) || ...);
    return good;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
};

template <class T>
std::string encode(const T& value) {
  std::string bytes;
  Encoder(bytes).put(value);
  return bytes;
}

// False unless `bytes` is exactly one encoding of a T.
template <class T>
bool decode(std::string_view bytes, T& value) {
  Decoder decoder(bytes);
  return decoder.get(value) && decoder.at_end();
}

}  // namespace chalk
