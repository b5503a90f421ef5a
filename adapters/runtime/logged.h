// What stands in the log of a root machine M, and in its snapshots.
#pragma once
#include <cstdint>
#include <variant>

#include "model/core/fields.h"
#include "model/core/time.h"

namespace chalk::runtime {

namespace logged {

template <class M>
struct Happened {
  Time at;
  typename M::Event event;
  CHALK_FIELDS(Happened, at, event)
};
// The first record, and again whenever the program came back with another configuration.
template <class M>
struct Configured {
  typename M::Config config;
  CHALK_FIELDS(Configured, config)
};
// A snapshot.
template <class M>
struct Kept {
  Time at;
  std::uint64_t running = 0;
  Time wake;
  typename M::Config config;
  typename M::State state;
  CHALK_FIELDS(Kept, at, running, wake, config, state)
};

}  // namespace logged

template <class M>
using Logged = std::variant<logged::Happened<M>, logged::Configured<M>>;

}  // namespace chalk::runtime
