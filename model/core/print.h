// Text of described data for people: SandboxRequested{request=3 tenant=7}.
#pragma once
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "model/core/fields.h"
#include "model/core/fifo.h"

namespace chalk {

class Printer {
 public:
  template <class T>
  requires(std::integral<T> || std::is_enum_v<T>) void put(T value) {
    if constexpr (std::same_as<T, bool>) {
      text_ += value ? "true" : "false";
    } else {
      text_ += std::to_string(
          static_cast<std::conditional_t<std::is_signed_v<T>, long long, unsigned long long>>(
              value));
    }
  }
  void put(const std::string& text) { text_ += '"' + text + '"'; }
  template <class A, class B>
  void put(const std::pair<A, B>& two) {
    put(two.first);
    text_ += ':';
    put(two.second);
  }
  template <class T>
  void put(const std::optional<T>& one) {
    if (one)
      put(*one);
    else
      text_ += "none";
  }
  template <class T, std::size_t N>
  void put(const std::array<T, N>& items) {
    range(items);
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
    text_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i != 0) text_ += ' ';
      put(items[i]);
    }
    text_ += ']';
  }
  template <class... Ts>
  void put(const std::variant<Ts...>& one) {
    std::visit([this](const auto& value) { put(value); }, one);
  }
  void put(const Described auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (T::field_names == "value") {
      put(value.value);  // an id prints as its number
    } else {
      text_ += T::type_name;
      text_ += '{';
      std::string_view names = T::field_names;
      bool first = true;
      for_each_field(value, [&](const auto& member) {
        const auto end = std::min(names.find(','), names.size());
        if (!first) text_ += ' ';
        first = false;
        text_ += names.substr(0, end);
        text_ += '=';
        put(member);
        names.remove_prefix(std::min(end + 2, names.size()));
      });
      text_ += '}';
    }
  }
  std::string take() { return std::move(text_); }

 private:
  void range(const auto& items) {
    text_ += '[';
    bool first = true;
    for (const auto& item : items) {
      if (!first) text_ += ' ';
      first = false;
      put(item);
    }
    text_ += ']';
  }
  std::string text_;
};

template <class T>
std::string to_text(const T& value) {
  Printer printer;
  printer.put(value);
  return printer.take();
}

}  // namespace chalk
