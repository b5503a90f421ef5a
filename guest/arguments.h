// The command line of chalk-guest: COMMAND PLACE... --option VALUE. Every command says which
// options it knows and their bounds; anything else is a misuse that names what was found and what
// was expected.
#pragma once
#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <vector>

namespace chalk::guest {

struct Option {
  std::string name;
  bool takes_value = false;
  std::int64_t least = 0;
  std::int64_t most = 0;
  int base = 10;
};

struct Arguments {
  std::vector<std::string> places;
  std::map<std::string, std::int64_t> values;

  bool has(const std::string& name) const { return values.contains(name); }
  std::int64_t get(const std::string& name, std::int64_t otherwise) const;
};

// The error is the text for misused().
std::expected<Arguments, std::string> parse(const std::vector<std::string>& words,
                                            std::size_t places, const std::vector<Option>& known);

}  // namespace chalk::guest
