// A figure over several seeds, as the tables of bench/ show it: its median, least and most.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace chalk::bench {

struct Spread {
  std::vector<double> values;
  void add(double value) { values.push_back(value); }
  double middle() const {  // the upper one of two; 0 of none
    auto sorted = values;
    std::ranges::sort(sorted);
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
  std::string text(int digits) const {  // of one value at least
    const auto [low, high] = std::ranges::minmax(values);
    return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", middle(), digits, low, digits, high, digits);
  }
};

}  // namespace chalk::bench
