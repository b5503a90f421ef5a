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
#include <type_traits>

#define CHALK_PARENS ()
#define CHALK_EXPAND(...) CHALK_EXPAND4(CHALK_EXPAND4(CHALK_EXPAND4(CHALK_EXPAND4(__VA_ARGS__))))
#define CHALK_EXPAND4(...) CHALK_EXPAND3(CHALK_EXPAND3(CHALK_EXPAND3(__VA_ARGS__)))
#define CHALK_EXPAND3(...) CHALK_EXPAND2(CHALK_EXPAND2(CHALK_EXPAND2(__VA_ARGS__)))
#define CHALK_EXPAND2(...) __VA_ARGS__
#define CHALK_VISIT(first, ...) \
  visit(self.first);            \
  __VA_OPT__(CHALK_VISIT_AGAIN CHALK_PARENS(__VA_ARGS__))
#define CHALK_VISIT_AGAIN() CHALK_VISIT

// Plain statements, and no tuple of member pointers: every file of the project instantiates these
// for hundreds of structs, and the tuples took half of the time to compile it.
#define CHALK_FIELDS(type, ...)                                                             \
  bool operator==(const type&) const = default;                                             \
  static constexpr std::string_view type_name = #type;                                      \
  static constexpr std::string_view field_names = #__VA_ARGS__;                             \
  static constexpr void each_field([[maybe_unused]] auto& self, [[maybe_unused]] auto&& visit) { \
    __VA_OPT__(CHALK_EXPAND(CHALK_VISIT(__VA_ARGS__)))                                      \
  }

namespace chalk {

template <class T>
concept Described = requires {
  std::remove_cvref_t<T>::field_names;
};

// Calls visit(member) for each described member of `value`, in order.
template <Described T, class Visit>
constexpr void for_each_field(T& value, Visit&& visit) {
  std::remove_cvref_t<T>::each_field(value, visit);
}

}  // namespace chalk
