#include "sim/shrink/simpler.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>

#include "model/core/resources.h"

namespace chalk::sim {
namespace {

void add(std::vector<std::string>& out, const std::string& word, const std::string& candidate) {
  if (candidate != word && std::find(out.begin(), out.end(), candidate) == out.end()) {
    out.push_back(candidate);
  }
}

// Whole numbers below `value`: 0, 1, one digit and zeros, half, one less.
std::vector<std::int64_t> smaller(std::int64_t value) {
  std::vector<std::int64_t> out;
  if (value <= 0) return out;
  std::int64_t place = 1;
  while (value / place >= 10) place *= 10;
  for (const std::int64_t candidate :
       {std::int64_t{0}, std::int64_t{1}, value / 8, value / 2, value / place * place, value - 1}) {
    if (candidate < value) out.push_back(candidate);
  }
  return out;
}

}  // namespace

std::vector<std::string> simpler_words(const std::string& word) {
  std::vector<std::string> out;
  std::int64_t number = 0;
  const char* end = word.data() + word.size();
  const auto [unit, problem] = std::from_chars(word.data(), end, number);
  if (problem != std::errc()) return out;
  const std::string rest(unit, end);
  const bool one_unit =
      std::all_of(rest.begin(), rest.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
  if (one_unit) {
    for (const std::int64_t less : smaller(number)) add(out, word, std::to_string(less) + rest);
    return out;
  }
  if (rest[0] == '.') {  // 0.25: whole numbers and one digit
    add(out, word, "0");
    add(out, word, std::to_string(number));
    if (rest.size() > 2 && std::isdigit(static_cast<unsigned char>(rest[2]))) {
      std::size_t letters = 1;
      while (letters < rest.size() && !std::isalpha(static_cast<unsigned char>(rest[letters]))) {
        ++letters;
      }
      add(out, word, std::to_string(number) + rest.substr(0, 2) + rest.substr(letters));
    }
    return out;
  }
  if (const auto duration = parse_duration(word)) {
    add(out, word, "0s");
    for (const std::int64_t unit_nanos :
         {std::int64_t{60'000'000'000}, std::int64_t{1'000'000'000}, std::int64_t{100'000'000},
          std::int64_t{1'000'000}, std::int64_t{1'000}}) {
      if (duration->nanos >= unit_nanos) {
        add(out, word, duration_text(Duration{duration->nanos / unit_nanos * unit_nanos}));
      }
    }
    add(out, word, duration_text(Duration{duration->nanos / 2}));
  }
  return out;
}

}  // namespace chalk::sim
