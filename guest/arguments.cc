#include "guest/arguments.h"

#include <algorithm>
#include <charconv>

namespace chalk::guest {
namespace {

// A number within the option's bounds, or a message.
std::expected<std::int64_t, std::string> number(const Option& option, const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value, option.base);
  if (text.empty() || error != std::errc() || stopped != end || value < option.least ||
      value > option.most) {
    return std::unexpected("--" + option.name + ": expected a number from " +
                           std::to_string(option.least) + " to " + std::to_string(option.most) +
                           (option.base == 8 ? " written in octal" : "") + ", found '" + text +
                           "'");
  }
  return value;
}

}  // namespace

std::int64_t Arguments::get(const std::string& name, std::int64_t otherwise) const {
  const auto found = values.find(name);
  return found == values.end() ? otherwise : found->second;
}

std::expected<Arguments, std::string> parse(const std::vector<std::string>& words,
                                            std::size_t places, const std::vector<Option>& known) {
  Arguments result;
  bool only_places = false;
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string& word = words[at];
    if (only_places || !word.starts_with("--")) {
      result.places.push_back(word);
      continue;
    }
    if (word == "--") {
      only_places = true;
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto option =
        std::find_if(known.begin(), known.end(), [&](const Option& o) { return o.name == name; });
    if (option == known.end()) return std::unexpected("unknown option --" + name);
    if (!option->takes_value) {
      if (equals != std::string::npos) return std::unexpected("--" + name + " takes no value");
      result.values[name] = 1;
      continue;
    }
    if (equals == std::string::npos && at + 1 == words.size()) {
      return std::unexpected("--" + name + " needs a value");
    }
    const auto value =
        number(*option, equals == std::string::npos ? words[++at] : word.substr(equals + 1));
    if (!value) return std::unexpected(value.error());
    result.values[name] = *value;
  }
  if (result.places.size() != places) {
    return std::unexpected("expected " + std::to_string(places) + " places, found " +
                           std::to_string(result.places.size()));
  }
  for (const std::string& place : result.places) {
    if (place.empty()) return std::unexpected("an empty place");
  }
  return result;
}

}  // namespace chalk::guest
