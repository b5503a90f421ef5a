#include "sim/report/closest.h"

#include <algorithm>
#include <vector>

namespace chalk::sim {
namespace {

std::size_t edits(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t corner = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = corner + (a[i - 1] == b[j - 1] ? 0 : 1);
      corner = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

}  // namespace

std::string closest(const std::string& word, const std::set<std::string>& names) {
  std::string best;
  std::size_t fewest = ~std::size_t{0};
  for (const std::string& name : names) {
    if (edits(word, name) < fewest) {
      fewest = edits(word, name);
      best = name;
    }
  }
  return best;
}

std::string misspelt(const std::string& word, const std::set<std::string>& names) {
  const std::string best = closest(word, names);
  return edits(word, best) <= 1 + word.size() / 4 ? best : std::string();
}

}  // namespace chalk::sim
