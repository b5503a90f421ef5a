#include "sim/shrink/tree.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "sim/scenario/reader.h"

namespace chalk::sim {
namespace {

// Words that every YAML reader takes as they stand; the others in quotes, as JSON writes them.
std::string word(const std::string& text) {
  const bool plain = !text.empty() && std::isalnum(static_cast<unsigned char>(text[0])) &&
                     std::all_of(text.begin(), text.end(), [](char c) {
                       return std::isalnum(static_cast<unsigned char>(c)) ||
                              std::string_view("_.-/=<>").contains(c);
                     });
  return plain ? text : Tree(text).dump(-1, ' ', false, Tree::error_handler_t::replace);
}

std::string flow(const Tree& tree) {
  if (tree.is_string()) return word(tree.get<std::string>());
  if (tree.is_null()) return "~";
  std::string out;
  if (tree.is_array()) {
    for (const Tree& item : tree) out += (out.empty() ? "" : ", ") + flow(item);
    return "[" + out + "]";
  }
  for (const auto& [key, value] : tree.items()) {
    out += (out.empty() ? "" : ", ") + word(key) + ": " + flow(value);
  }
  return "{" + out + "}";
}

// A section of a workload that lists its arrivals gets a line for each of them.
std::string section(const Tree& tree) {
  if (!tree.is_object() || !tree.contains("arrivals")) return "  - " + flow(tree) + "\n";
  std::string out;
  for (const auto& [key, value] : tree.items()) {
    out += out.empty() ? "  - " : "    ";
    if (key == "arrivals" && value.is_array() && !value.empty()) {
      out += key + ":\n";
      for (const Tree& arrival : value) out += "      - " + flow(arrival) + "\n";
    } else {
      out += word(key) + ": " + flow(value) + "\n";
    }
  }
  return out;
}

}  // namespace

Tree tree_of(const YAML::Node& node) {
  if (node.IsScalar()) return node.Scalar();
  if (node.IsSequence()) {
    Tree list = Tree::array();
    for (const auto& item : node) list.push_back(tree_of(item));
    return list;
  }
  if (node.IsMap()) {
    Tree map = Tree::object();
    for (const auto& entry : node) map[entry.first.Scalar()] = tree_of(entry.second);
    return map;
  }
  return nullptr;
}

Tree tree_of(const std::string& file, const std::string& text) {
  return tree_of(parse_yaml(file, text));
}

std::string to_yaml(const Tree& tree) {
  std::string out;
  for (const auto& [key, value] : tree.items()) {
    const bool maps =
        value.is_array() && !value.empty() &&
        std::all_of(value.begin(), value.end(), [](const Tree& item) { return item.is_object(); });
    if (!maps) {
      out += word(key) + ": " + flow(value) + "\n";
      continue;
    }
    out += word(key) + ":\n";
    for (const Tree& item : value) out += section(item);
  }
  return out;
}

}  // namespace chalk::sim
