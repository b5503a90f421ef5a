// Which way a metric of docs/results.md is better.
#pragma once
#include <string>

namespace chalk::sim {

enum class Better { less, more, neither };
Better better_of(const std::string& metric);

}  // namespace chalk::sim
