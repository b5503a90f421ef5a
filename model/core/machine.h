// The shape every state machine in model/ has.
//
// `step` is the only way in. It is total and pure: no failure, no wait, no I/O, no clock. Snapshot
// is a copy of State; restore is construction from (Config, State); fork is a copy of the machine.
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/core/digest.h"
#include "model/core/ids.h"
#include "model/core/time.h"

namespace chalk {

template <class M>
concept Machine = requires(M machine, const M& frozen, Time now, const typename M::Event& event,
                           std::vector<typename M::Effect>& effects) {
  { machine.step(now, event, effects) } -> std::same_as<void>;
  { frozen.state() } -> std::same_as<const typename M::State&>;
  requires std::constructible_from<M, typename M::Config, typename M::State>;
  requires std::regular<typename M::State>;
  requires Described<typename M::State>;
};

// Where an effect came from: the index of its event in the log, and its place among that event's
// effects. An adapter carries out an id once; after a restart unanswered effects are issued again.
struct EffectId {
  std::uint64_t log_index = 0;
  std::uint32_t ordinal = 0;
  auto operator<=>(const EffectId&) const = default;
  CHALK_FIELDS(EffectId, log_index, ordinal)
};

// Event of every root: the driver's clock reached the time that WakeAt named.
struct Woken {
  CHALK_FIELDS(Woken)
};
// Effect of every root: deliver Woken at `at`. A later WakeAt replaces an earlier one.
struct WakeAt {
  Time at;
  CHALK_FIELDS(WakeAt, at)
};

}  // namespace chalk
