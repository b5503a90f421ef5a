// Finds what a mistyped word was meant to be.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace chalk::cli {

// The nearest of `known` by edits, empty where none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace chalk::cli
