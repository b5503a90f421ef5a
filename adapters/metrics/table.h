// Every metric that Chalk has. Names follow Prometheus' conventions: base units, _total on counters.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace chalk::metrics {

enum class Kind : std::uint8_t { counter, gauge, histogram };
// Upper bounds of a histogram's buckets.
enum class Buckets : std::uint8_t { none, fast_seconds, seconds, sizes };

struct Description {
  std::string_view name;
  Kind kind;
  Buckets buckets;
  std::array<std::string_view, 2> labels;  // "" where there are fewer
  std::string_view help;
};

const std::vector<Description>& table();
std::vector<double> bounds(Buckets buckets);

}  // namespace chalk::metrics
