// The name that somebody may have meant.
#pragma once
#include <set>
#include <string>

namespace chalk::sim {

// The name among `names` that is fewest edits away (Levenshtein); empty where there are no names.
std::string closest(const std::string& word, const std::set<std::string>& names);
// The same, if it is not more than one edit and one in four letters away, else empty.
std::string misspelt(const std::string& word, const std::set<std::string>& names);

}  // namespace chalk::sim
