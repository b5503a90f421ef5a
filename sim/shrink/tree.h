// A scenario as a tree of maps, lists and words, and its text with one line for each thing.
#pragma once
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <string>

namespace chalk::sim {

// Keys keep their order; every leaf is a string, as scenarios are read, or null.
using Tree = nlohmann::ordered_json;

// Throws ScenarioError where the text is no scenario's YAML.
Tree tree_of(const std::string& file, const std::string& text);
Tree tree_of(const YAML::Node& node);
// A line for each key at the top, and for each element of its lists.
std::string to_yaml(const Tree& tree);

}  // namespace chalk::sim
