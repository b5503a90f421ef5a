// A YAML map that is read key by key; what nobody asked for is an error at the end.
#pragma once
#include <yaml-cpp/yaml.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "model/core/resources.h"
#include "sim/scenario/parse.h"

namespace chalk::sim {

// Where a line stands: in the scenario, or in one of the pieces that it includes, whose lines are
// counted on behind its own.
class Files {
 public:
  explicit Files(std::string name) : name_(std::move(name)) {}
  const std::string& name() const { return name_; }
  void add(std::string piece, int first_line) {
    pieces_.emplace_back(first_line, std::move(piece));
  }
  // "file:line"; line 0 is none, as of what --set has put there.
  std::string place(int line) const;
  const std::string& file(int line) const;  // the scenario or a piece

 private:
  std::string name_;
  std::vector<std::pair<int, std::string>> pieces_;  // by their first line
};

class Reader {
 public:
  Reader(Files files, std::string path, YAML::Node node);

  // Each answers `otherwise` when the key is absent, and throws when it is not of the form.
  std::string text(const char* key, const std::string& otherwise);
  std::string required_text(const char* key);
  std::int64_t whole(const char* key, std::int64_t otherwise, std::int64_t least,
                     std::int64_t most);
  double number(const char* key, double otherwise, double least, double most);
  bool flag(const char* key, bool otherwise);
  Duration duration(const char* key, Duration otherwise);
  std::int64_t bytes(const char* key, std::int64_t otherwise);
  std::int64_t millicores(const char* key, std::int64_t otherwise);
  double bandwidth(const char* key, double otherwise);  // bytes per second
  Delay delay(const char* key, Delay otherwise);
  // The index of the text among `names`.
  std::size_t choice(const char* key, std::size_t otherwise, const std::vector<const char*>& names);
  std::vector<std::string> texts(const char* key);
  bool has(const char* key);
  Reader map(const char* key);  // empty when absent
  std::vector<Reader> list(const char* key);
  std::vector<std::pair<std::string, Reader>> entries(const char* key);  // a map with free keys

  [[noreturn]] void fail(const char* key, const std::string& found, const std::string& expected);
  std::string place(const char* key);  // "file:line", of the key's value or else of the map
  void done() const;                   // unknown keys are errors
  // The same before anything is read: where a required key is misspelt, that is said, and not that
  // it is missing. No other key may be read then, so that the list stays whole; it outlives this.
  void only(const std::set<std::string>& keys);
  int line() const { return node_.Mark().line + 1; }

 private:
  YAML::Node find(const char* key);
  void refuse_all_but(const std::set<std::string>& keys) const;
  std::string scalar(const char* key, const YAML::Node& node, const char* expected);
  template <class Parse>
  auto parsed(const char* key, const char* expected, Parse&& parse);

  Files files_;
  std::string path_;
  YAML::Node node_;
  std::set<std::string> known_;
  const std::set<std::string>* all_ = nullptr;  // that may be read, where that was said
};

// Throws ScenarioError for a file that cannot be read or is too large.
std::string read_scenario_file(const std::string& file);
// The scenario with the pieces that it includes. Throws ScenarioError for a text that is no YAML
// map, or has a key twice, and for pieces that cannot be included.
YAML::Node parse_yaml(const std::string& file, const std::string& text, Files* files = nullptr);
// Paths of traces that lie beside the scenario, or the piece, that names them become paths from the
// current folder; the others are left as they are.
void find_traces(const Files& files, YAML::Node root);
void apply_override(const std::string& file, YAML::Node root, const Override& override_one);

}  // namespace chalk::sim
