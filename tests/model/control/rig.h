// The machines that the tests of the root have.
#pragma once
#include <cstdint>

#include "model/control/control.h"
#include "tests/support/said.h"

namespace chalk::control {

using test::said;
using test::tell;

inline Time at(std::int64_t s) { return {seconds(s).nanos}; }
inline constexpr NodeShape kShape{
    .cpu_millicores = 4000, .memory_bytes = 16LL << 30, .disk_bytes = 1LL << 40};

inline NodeRegistration registration(std::uint64_t key) { return {key, 1, 0, {1}, {1}, kShape}; }

}  // namespace chalk::control
