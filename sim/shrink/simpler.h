// What a word of a scenario may be replaced by: smaller and rounder, the boldest first.
#pragma once
#include <string>
#include <vector>

namespace chalk::sim {

// Of a number with or without a unit ("37", "0.25", "500m", "20s900ms", "16Gi"); nothing for any
// other word. Each is smaller than `word` or shorter, so that replacing comes to an end.
std::vector<std::string> simpler_words(const std::string& word);

}  // namespace chalk::sim
