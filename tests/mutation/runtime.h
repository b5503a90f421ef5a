// What a mutated source calls: every mutant of the program is compiled in, and one is chosen when the
// program starts, by CHALK_MUTANT=number (0: none). The idea of one program with all mutants, "mutant
// schemata", is of Untch, Offutt and Harrold (1993). places.py writes these calls.
#pragma once
#include <initializer_list>

namespace chalk_mutation {

inline constexpr int kMutantsMax = 1 << 16;
extern int chosen;
extern unsigned char* reached;  // kMutantsMax flags: places that were passed

// In a constant expression no mutant is chosen.
constexpr bool is(int mutant) {
  if (__builtin_is_constant_evaluated()) return false;
  reached[mutant] = 1;
  return chosen == mutant;
}

// A comparison is two mutants: the bound moved (a < b becomes a <= b), then the opposite. They need
// no other operator of the operands than the one that stood there.
template <class A, class B>
constexpr bool less(int mutant, const A& a, const B& b) {
  return is(mutant) ? !(b < a) : is(mutant + 1) ? !(a < b) : static_cast<bool>(a < b);
}
template <class A, class B>
constexpr bool less_equal(int mutant, const A& a, const B& b) {
  return is(mutant) ? !(b <= a) : is(mutant + 1) ? !(a <= b) : static_cast<bool>(a <= b);
}
template <class A, class B>
constexpr bool greater(int mutant, const A& a, const B& b) {
  return is(mutant) ? !(b > a) : is(mutant + 1) ? !(a > b) : static_cast<bool>(a > b);
}
template <class A, class B>
constexpr bool greater_equal(int mutant, const A& a, const B& b) {
  return is(mutant) ? !(b >= a) : is(mutant + 1) ? !(a >= b) : static_cast<bool>(a >= b);
}
template <class A, class B>
constexpr bool equal(int mutant, const A& a, const B& b) {
  return static_cast<bool>(a == b) != is(mutant);
}
template <class A, class B>
constexpr bool unequal(int mutant, const A& a, const B& b) {
  return static_cast<bool>(a != b) != is(mutant);
}

template <class T>
constexpr bool flip(int mutant, const T& condition) {
  return static_cast<bool>(condition) != is(mutant);
}
template <class T>
constexpr T number(int mutant, T value, T other) {
  return is(mutant) ? other : value;
}
template <class T>
constexpr T minimum(int mutant, const T& a, const T& b) {
  return (b < a) != is(mutant) ? b : a;
}
template <class T>
constexpr T minimum(int mutant, std::initializer_list<T> all) {
  T best = *all.begin();
  for (const T& one : all) best = minimum<T>(mutant, best, one);
  return best;
}
template <class T>
constexpr T maximum(int mutant, const T& a, const T& b) {
  return (a < b) != is(mutant) ? b : a;
}
template <class T>
constexpr T maximum(int mutant, std::initializer_list<T> all) {
  T best = *all.begin();
  for (const T& one : all) best = maximum<T>(mutant, best, one);
  return best;
}

}  // namespace chalk_mutation
