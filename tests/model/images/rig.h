// Images for the tests of the node's cache.
#pragma once
#include <cstdint>
#include <vector>

#include "model/images/cache.h"
#include "tests/support/said.h"

namespace chalk::images {

using test::said;
using test::tell;

inline Time at(std::int64_t s) { return {seconds(s).nanos}; }

// An image of layers of 10 bytes (25 unpacked), each named by its number.
inline ImageSpec image(std::uint64_t id, std::vector<std::uint64_t> layers) {
  ImageSpec spec;
  spec.image = {id};
  for (const std::uint64_t layer : layers) spec.layers.push_back({{layer}, 10, 25});
  return spec;
}

}  // namespace chalk::images
