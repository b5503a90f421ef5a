// One description of a struct's members serves its digest, codec, printing and equality.
//
//   struct SandboxRequested {
//     RequestId request;
//     TenantId tenant;
//     CHALK_FIELDS(SandboxRequested, request, tenant)
//   };
//
// The macro stands after the members, names each of them in order, and defines operator==.
#pragma once
#include <string_view>
#include <tuple>
#include <type_traits>

#define CHALK_PARENS ()
#define CHALK_EXPAND(...) CHALK_EXPAND4(CHALK_EXPAND4(CHALK_EXPAND4(CHALK_EXPAND4(__VA_ARGS__))))
#define CHALK_EXPAND4(...) CHALK_EXPAND3(CHALK_EXPAND3(CHALK_EXPAND3(__VA_ARGS__)))
#define CHALK_EXPAND3(...) CHALK_EXPAND2(CHALK_EXPAND2(CHALK_EXPAND2(__VA_ARGS__)))
#define CHALK_EXPAND2(...) __VA_ARGS__
#define CHALK_MEMBERS(type, first, ...) \
  &type::first __VA_OPT__(, CHALK_MEMBERS_AGAIN CHALK_PARENS(type, __VA_ARGS__))
#define CHALK_MEMBERS_AGAIN() CHALK_MEMBERS

#define CHALK_FIELDS(type, ...)                                 \
  bool operator==(const type&) const = default;                 \
  static constexpr std::string_view type_name = #type;          \
  static constexpr std::string_view field_names = #__VA_ARGS__; \
  static constexpr auto fields =                                \
      std::tuple{__VA_OPT__(CHALK_EXPAND(CHALK_MEMBERS(type, __VA_ARGS__)))};

namespace chalk {

template <class T>
concept Described = requires {
  std::remove_cvref_t<T>::fields;
};

// Calls visit(member) for each described member of `value`, in order.
template <Described T, class Visit>
constexpr void for_each_field(T& value, Visit&& visit) {
  std::apply([&](auto... member) { (visit(value.*member), ...); }, std::remove_cvref_t<T>::fields);
}

}  // namespace chalk
