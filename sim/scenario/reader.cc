#include "sim/scenario/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "sim/report/closest.h"
#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr std::uintmax_t kFileBytesMax = 4 << 20;
constexpr int kDepthMax = 32;
constexpr Duration kDurationMax = seconds(36'500LL * 86'400);
// More than any text of the greatest size has by itself; a few lines of aliases stand for billions.
constexpr std::size_t kYamlNodesMax = kFileBytesMax;

int lines_of(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;
}

// What a scenario says is written into results and pages, which hold nothing but UTF-8.
void refuse_other_text(const std::string& file, const std::string& text) {
  const std::size_t at = not_utf8(text);
  if (at == std::string::npos) return;
  throw ScenarioError(fmt::format("{}:{}: found the byte {}, expected text in UTF-8", file,
                                  lines_of(text.substr(0, at)), quote(text.substr(at, 1))));
}

// yaml-cpp keeps the first of two equal keys and says nothing. Every alias is walked as what it
// stands for, as whatever reads the document does later; `left` is how many nodes still may come.
void refuse_repeated_keys(const std::string& file, const YAML::Node& node, int depth,
                          std::size_t& left) {
  if (left-- == 0) {
    throw ScenarioError(
        fmt::format("{}:{}: found more than {} nodes with what aliases stand for, expected fewer",
                    file, node.Mark().line + 1, kYamlNodesMax));
  }
  if (depth > kDepthMax) {
    throw ScenarioError(fmt::format("{}:{}: found more than {} levels, expected fewer", file,
                                    node.Mark().line + 1, kDepthMax));
  }
  if (node.IsMap()) {
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        throw ScenarioError(fmt::format("{}:{}: found a key that is not a word", file,
                                        entry.first.Mark().line + 1));
      }
      if (!seen.insert(entry.first.Scalar()).second) {
        throw ScenarioError(fmt::format("{}:{}: found the key \"{}\" twice, expected it once", file,
                                        entry.first.Mark().line + 1, entry.first.Scalar()));
      }
      refuse_repeated_keys(file, entry.second, depth + 1, left);
    }
  } else if (node.IsSequence()) {
    for (const auto& item : node) refuse_repeated_keys(file, item, depth + 1, left);
  }
}

// YAML::Load takes the first document and says nothing of others.
YAML::Node only_document(const std::string& file, const std::string& text, int lines_before = 0) {
  const std::vector<YAML::Node> all = YAML::LoadAll(text);
  if (all.size() > 1) {
    throw ScenarioError(fmt::format("{}:{}: found a second document, expected one", file,
                                    all[1].Mark().line + 1 - lines_before));
  }
  return all.empty() ? YAML::Node() : all[0];
}

YAML::Node parse_map(const std::string& file, const std::string& text, const char* expected,
                     int lines_before = 0) {
  refuse_other_text(file, text);
  try {
    const std::string placed = std::string(static_cast<std::size_t>(lines_before), '\n') + text;
    YAML::Node root = only_document(file, placed, lines_before);
    if (!root.IsMap()) throw ScenarioError(file + ":1: found no map, expected " + expected);
    std::size_t left = kYamlNodesMax;
    if (lines_before == 0) refuse_repeated_keys(file, root, 0, left);
    return root;
  } catch (const YAML::Exception& bad) {
    throw ScenarioError(fmt::format("{}:{}: found text that is not YAML: {}", file,
                                    bad.mark.line + 1 - lines_before, bad.msg));
  }
}

// What the scenario says itself counts; lists of the piece stand before its own, maps are merged.
void put_below(YAML::Node own, const YAML::Node& piece) {
  for (const auto& entry : piece) {
    const std::string key = entry.first.Scalar();
    const YAML::Node mine = static_cast<const YAML::Node&>(own)[key];
    if (!mine.IsDefined() || mine.IsNull()) {
      own[key] = entry.second;
    } else if (mine.IsSequence() && entry.second.IsSequence()) {
      YAML::Node both(YAML::NodeType::Sequence);
      for (const auto& item : entry.second) both.push_back(item);
      for (const auto& item : mine) both.push_back(item);
      own[key] = both;
    } else if (mine.IsMap() && entry.second.IsMap()) {
      put_below(mine, entry.second);
    }
  }
}

const std::set<std::string> kPieceKeys = {"zones",  "pools",         "images", "tenant_default",
                                          "tenants", "group_default", "groups", "start",
                                          "llm",     "workload",      "control", "fleet"};

// From 1; 0 is none. Lists that were put together of pieces have that of their first element.
int line_of(const YAML::Node& node) {
  const bool joined = node.Mark().line < 0 && node.IsSequence() && node.size() > 0;
  return (joined ? node[0] : node).Mark().line + 1;
}

// The same without lines: those of a --set value are no lines of the scenario.
YAML::Node without_lines(const YAML::Node& node) {
  if (node.IsScalar()) return YAML::Node(node.Scalar());
  YAML::Node out(node.Type());
  for (const auto& entry : node) {
    if (node.IsMap()) {
      out[entry.first.Scalar()] = without_lines(entry.second);
    } else {
      out.push_back(without_lines(entry));
    }
  }
  return out;
}

YAML::Node value_of(const std::string& text) {
  const std::string place = "--set";
  refuse_other_text(place, text);
  const YAML::Node value = only_document(place, text);
  std::size_t left = kYamlNodesMax;
  refuse_repeated_keys(place, value, 0, left);
  return without_lines(value);
}

}  // namespace

const std::string& Files::file(int line) const {
  for (auto piece = pieces_.rbegin(); piece != pieces_.rend(); ++piece) {
    if (line >= piece->first) return piece->second;
  }
  return name_;
}

std::string Files::place(int line) const {
  if (line <= 0) return name_ + " with --set";
  for (auto piece = pieces_.rbegin(); piece != pieces_.rend(); ++piece) {
    if (line >= piece->first) return fmt::format("{}:{}", piece->second, line - piece->first + 1);
  }
  return fmt::format("{}:{}", name_, line);
}

std::string read_scenario_file(const std::string& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) throw ScenarioError(fmt::format("{}: cannot read: {}", file, error.message()));
  if (size > kFileBytesMax) {
    throw ScenarioError(
        fmt::format("{}: found {} bytes, expected at most {}", file, size, kFileBytesMax));
  }
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

YAML::Node parse_yaml(const std::string& file, const std::string& text, Files* files) {
  YAML::Node root = parse_map(file, text, "keys such as shows: and pools:");
  const YAML::Node include = static_cast<const YAML::Node&>(root)["include"];
  if (!include.IsDefined()) return root;
  const auto fail = [&](const std::string& found, const std::string& expected) {
    throw ScenarioError(fmt::format("{}:{}: include: found {}, expected {}", file,
                                    include.Mark().line + 1, found, expected));
  };
  if (!include.IsSequence()) fail("no list", "a list of files, by their path from this one");
  std::vector<YAML::Node> pieces;
  std::set<std::string> seen;
  int lines = lines_of(text);
  for (const auto& item : include) {
    if (!item.IsScalar()) fail("no word", "a list of files, by their path from this one");
    const std::string name =
        (std::filesystem::path(file).parent_path() / item.Scalar()).lexically_normal().string();
    if (!seen.insert(name).second) fail(fmt::format("\"{}\" twice", item.Scalar()), "it once");
    const std::string piece = read_scenario_file(name);
    for (const auto& entry : parse_map(name, piece, "keys such as pools: or workload:")) {
      const std::string key = entry.first.Scalar();
      if (kPieceKeys.contains(key)) continue;
      throw ScenarioError(
          fmt::format("{}:{}: found \"{}\", expected what a piece may say, such as {}", name,
                      entry.first.Mark().line + 1, key, closest(key, kPieceKeys)));
    }
    pieces.push_back(parse_map(name, piece, "keys such as pools: or workload:", lines));
    if (files != nullptr) files->add(name, lines + 1);
    lines += lines_of(piece);
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) put_below(root, *piece);
  root.remove("include");
  return root;
}

void find_traces(const Files& files, YAML::Node root) {
  const YAML::Node workload = static_cast<const YAML::Node&>(root)["workload"];
  if (!workload.IsDefined() || !workload.IsSequence()) return;
  for (YAML::Node section : workload) {
    if (!section.IsMap()) continue;
    YAML::Node path = static_cast<const YAML::Node&>(section)["path"];
    if (!path.IsDefined() || !path.IsScalar() || path.Mark().line < 0) continue;
    const auto spec = parse_trace_spec(path.Scalar());
    if (!spec || std::filesystem::path(spec->path).is_absolute()) continue;
    const auto folder = std::filesystem::path(files.file(path.Mark().line + 1)).parent_path();
    const std::string beside = (folder / spec->path).lexically_normal().string();
    std::error_code no_file;
    if (std::filesystem::exists(beside, no_file)) path = spec->format + ":" + beside;
  }
}

void apply_override(const std::string& file, YAML::Node root, const Override& one) {
  const auto fail = [&](const std::string& found, const std::string& expected) {
    throw ScenarioError(
        fmt::format("{}: --set {}: found {}, expected {}", file, one.path, found, expected));
  };
  const auto value = [&] {
    try {
      return value_of(one.value);
    } catch (const YAML::Exception& bad) {
      fail(fmt::format("\"{}\"", one.value), "a value: " + bad.msg);
      throw;
    }
  };
  std::vector<std::string> parts;
  std::stringstream path(one.path);
  for (std::string part; std::getline(path, part, '.');) parts.push_back(part);
  YAML::Node at = root;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    if (at.IsSequence()) {
      std::size_t index = at.size();
      const auto [end, problem] =
          std::from_chars(parts[i].data(), parts[i].data() + parts[i].size(), index);
      if (problem != std::errc() || end != parts[i].data() + parts[i].size()) {
        for (index = 0; index < at.size(); ++index) {
          if (at[index].IsMap() && at[index]["name"] && at[index]["name"].Scalar() == parts[i])
            break;
        }
      }
      if (index >= at.size()) {
        fail(fmt::format("\"{}\"", parts[i]),
             fmt::format("a name in the list or a number from 0 to {}", at.size() - 1));
      }
      if (last) {
        at[index] = value();
      } else {
        at.reset(at[index]);
      }
    } else if (at.IsMap() || !at.IsDefined() || at.IsNull()) {
      if (last) {
        at[parts[i]] = value();
      } else {
        at.reset(at[parts[i]]);
      }
    } else {
      fail(fmt::format("a single value where \"{}\" should be", parts[i]), "a map or a list");
    }
  }
}

Reader::Reader(Files files, std::string path, YAML::Node node)
    : files_(std::move(files)),
      path_(std::move(path)),
      node_(node.IsDefined() ? node : YAML::Node()) {  // an absent map is an empty one
  if (!node_.IsNull() && !node_.IsMap()) {
    throw ScenarioError(fmt::format("{}: {}: found a single value or a list, expected a map",
                                    files_.place(line()), path_));
  }
}

YAML::Node Reader::find(const char* key) {
  if (all_ != nullptr && !all_->contains(key)) {
    throw std::logic_error(fmt::format("scenario: {} is read, and missing in a list of keys", key));
  }
  known_.insert(key);
  if (!node_.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
  return static_cast<const YAML::Node&>(node_)[key];
}

bool Reader::has(const char* key) { return find(key).IsDefined(); }

std::string Reader::place(const char* key) {
  int at = node_.IsDefined() ? node_.Mark().line + 1 : 0;
  if (node_.IsMap()) {
    const YAML::Node value = static_cast<const YAML::Node&>(node_)[key];
    if (value.IsDefined()) at = line_of(value);
  }
  return files_.place(at);
}

void Reader::fail(const char* key, const std::string& found, const std::string& expected) {
  std::string instead;
  if (found == "nothing" && !has(key)) {  // perhaps it is there, misspelt
    std::set<std::string> others;
    for (const auto& entry : node_) others.insert(entry.first.Scalar());
    for (const std::string& known : known_) others.erase(known);
    const std::string meant = misspelt(key, others);
    if (!meant.empty()) instead = fmt::format(" but \"{}\"", meant);
  }
  throw ScenarioError(fmt::format("{}: {}{}{}: found {}{}, expected {}", place(key), path_,
                                  path_.empty() ? "" : ".", key, found, instead, expected));
}

std::string Reader::scalar(const char* key, const YAML::Node& node, const char* expected) {
  if (!node.IsScalar()) fail(key, node.IsNull() ? "nothing" : "a map or a list", expected);
  return node.Scalar();
}

template <class Parse>
auto Reader::parsed(const char* key, const char* expected, Parse&& parse) {
  const std::string text = scalar(key, find(key), expected);
  const auto value = parse(text);
  if (!value) fail(key, fmt::format("\"{}\"", text), expected);
  return *value;
}

std::string Reader::text(const char* key, const std::string& otherwise) {
  return has(key) ? scalar(key, find(key), "text") : otherwise;
}

std::string Reader::required_text(const char* key) {
  if (!has(key)) fail(key, "nothing", "this key");
  return scalar(key, find(key), "text");
}

std::int64_t Reader::whole(const char* key, std::int64_t otherwise, std::int64_t least,
                           std::int64_t most) {
  if (!has(key)) return otherwise;
  const std::string expected = fmt::format("a whole number from {} to {}", least, most);
  return parsed(key, expected.c_str(), [&](const std::string& text) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size()) return {};
    if (value < least || value > most) return {};
    return value;
  });
}

double Reader::number(const char* key, double otherwise, double least, double most) {
  if (!has(key)) return otherwise;
  const std::string expected = fmt::format("a number from {} to {}", least, most);
  return parsed(key, expected.c_str(), [&](const std::string& text) -> std::optional<double> {
    double value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size()) return {};
    if (!(value >= least && value <= most)) return {};
    return value;
  });
}

bool Reader::flag(const char* key, bool otherwise) {
  if (!has(key)) return otherwise;
  return parsed(key, "true or false", [](const std::string& text) -> std::optional<bool> {
    if (text == "true") return true;
    if (text == "false") return false;
    return {};
  });
}

Duration Reader::duration(const char* key, Duration otherwise) {
  if (!has(key)) return otherwise;
  return parsed(key, "a duration such as 250ms, 10s or 1h30m, at most 36500d",
                [](const std::string& text) -> std::optional<Duration> {
                  const auto value = parse_duration(text);
                  // Some of these are added up, in 64 bits of nanoseconds.
                  if (value && *value > kDurationMax) return {};
                  return value;
                });
}

std::int64_t Reader::bytes(const char* key, std::int64_t otherwise) {
  if (!has(key)) return otherwise;
  return parsed(key, "a size such as 512Mi or 16Gi, at most 1Pi",
                [](const std::string& text) -> std::optional<std::int64_t> {
                  const auto value = parse_bytes(text);
                  if (value && *value > (1LL << 50)) return {};  // a pebibyte is a mistake
                  return value;
                });
}

std::int64_t Reader::millicores(const char* key, std::int64_t otherwise) {
  if (!has(key)) return otherwise;
  return parsed(key, "cores such as \"2\", 0.5 or 500m, at most 100000",
                [](const std::string& text) -> std::optional<std::int64_t> {
                  const auto value = parse_cpu_millicores(text);
                  if (value && *value > 100'000'000) return {};
                  return value;
                });
}

double Reader::bandwidth(const char* key, double otherwise) {
  if (!has(key)) return otherwise;
  return parsed(key, "a bandwidth such as 10Gbps (bits) or 1.25GBps (bytes)",
                [](const std::string& text) -> std::optional<double> {
                  double value = 0;
                  const auto [end, problem] =
                      std::from_chars(text.data(), text.data() + text.size(), value);
                  if (problem != std::errc() || !(value > 0 && value < 1e15)) return {};
                  const std::string unit(end, text.data() + text.size());
                  for (const auto& [name, factor] : {std::pair{"kbps", 125.0},
                                                     {"Mbps", 125e3},
                                                     {"Gbps", 125e6},
                                                     {"Tbps", 125e9},
                                                     {"kBps", 1e3},
                                                     {"MBps", 1e6},
                                                     {"GBps", 1e9},
                                                     {"TBps", 1e12}}) {
                    if (unit == name) return value * factor;
                  }
                  return {};
                });
}

// Either one duration, or {distribution: ..., mean: ..., spread: ...}.
Delay Reader::delay(const char* key, Delay otherwise) {
  const YAML::Node node = find(key);
  if (!node.IsDefined()) return otherwise;
  Delay delay;
  if (node.IsScalar()) {
    delay.mean = duration(key, {});
    return delay;
  }
  Reader inner = map(key);
  delay.kind = static_cast<Delay::Kind>(
      inner.choice("distribution", 0, {"constant", "exponential", "lognormal", "uniform"}));
  if (!inner.has("mean")) inner.fail("mean", "nothing", "a duration");
  delay.mean = inner.duration("mean", {});
  delay.spread = inner.number("spread", delay.kind == Delay::Kind::uniform ? 0.5 : 0.5, 0,
                              delay.kind == Delay::Kind::uniform ? 1 : 5);
  inner.done();
  return delay;
}

std::size_t Reader::choice(const char* key, std::size_t otherwise,
                           const std::vector<const char*>& names) {
  if (!has(key)) return otherwise;
  std::string expected = "one of";
  for (const char* name : names) expected += fmt::format(" {}", name);
  return parsed(key, expected.c_str(), [&](const std::string& text) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (text == names[i]) return i;
    }
    return {};
  });
}

std::vector<std::string> Reader::texts(const char* key) {
  std::vector<std::string> out;
  const YAML::Node node = find(key);
  if (!node.IsDefined()) return out;
  if (!node.IsSequence()) fail(key, "no list", "a list of texts");
  for (const auto& item : node) out.push_back(scalar(key, item, "a list of texts"));
  return out;
}

Reader Reader::map(const char* key) {
  return Reader(files_, path_.empty() ? key : fmt::format("{}.{}", path_, key), find(key));
}

std::vector<Reader> Reader::list(const char* key) {
  std::vector<Reader> out;
  const YAML::Node node = find(key);
  if (!node.IsDefined() || node.IsNull()) return out;
  if (!node.IsSequence()) fail(key, "no list", "a list");
  for (std::size_t i = 0; i < node.size(); ++i) {
    out.emplace_back(files_, fmt::format("{}{}{}[{}]", path_, path_.empty() ? "" : ".", key, i),
                     node[i]);
  }
  return out;
}

std::vector<std::pair<std::string, Reader>> Reader::entries(const char* key) {
  std::vector<std::pair<std::string, Reader>> out;
  const YAML::Node node = find(key);
  if (!node.IsDefined() || node.IsNull()) return out;
  if (!node.IsMap()) fail(key, "no map", "a map of names");
  for (const auto& entry : node) {
    const std::string name = entry.first.Scalar();
    out.emplace_back(
        name, Reader(files_, fmt::format("{}{}{}.{}", path_, path_.empty() ? "" : ".", key, name),
                     entry.second));
  }
  return out;
}

void Reader::done() const { refuse_all_but(known_); }

void Reader::only(const std::set<std::string>& keys) {
  refuse_all_but(keys);
  all_ = &keys;
}

void Reader::refuse_all_but(const std::set<std::string>& keys) const {
  if (!node_.IsMap()) return;
  for (const auto& entry : node_) {
    const std::string key = entry.first.Scalar();
    if (keys.contains(key)) continue;
    throw ScenarioError(
        fmt::format("{}: {}{}{}: found an unknown key, expected one of docs/scenarios.md; the "
                    "closest is \"{}\"",
                    files_.place(entry.first.Mark().line + 1), path_, path_.empty() ? "" : ".", key,
                    closest(key, keys)));
  }
}

}  // namespace chalk::sim
