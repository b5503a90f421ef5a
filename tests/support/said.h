// What a machine says: its effects by type, for tests.
#pragma once
#include <variant>
#include <vector>

namespace chalk::test {

// All effects of one type, in order.
template <class T, class Effect>
std::vector<T> said(const std::vector<Effect>& effects) {
  std::vector<T> out;
  for (const Effect& effect : effects) {
    if (const T* one = std::get_if<T>(&effect)) out.push_back(*one);
  }
  return out;
}

// Steps a machine and gives what it says.
template <class M, class Event>
std::vector<typename M::Effect> tell(M& machine, Time now, const Event& event) {
  std::vector<typename M::Effect> effects;
  machine.step(now, typename M::Event{event}, effects);
  return effects;
}

}  // namespace chalk::test
