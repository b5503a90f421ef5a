// What a sweep is asked: axes, points, and the text of both.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>

#include "model/core/digest.h"
#include "sim/sweep/sweep.h"

namespace chalk::sim {
namespace {

using nlohmann::json;

constexpr std::size_t kRunsMax = 1'000'000;

std::vector<std::string> parted(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  char quote = 0;
  for (const char c : text) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',' && depth == 0) {
      parts.emplace_back();
      continue;
    }
    parts.back() += c;
  }
  return parts;
}

json configuration_json(const Configuration& configuration) {
  json out = json::array();
  for (const auto& [key, value] : configuration) out.push_back({key, value});
  return out;
}

// Whether the two are one value: 1, 01 and 1.0 are.
bool same_value(const std::string& a, const std::string& b) {
  const auto number = [](const std::string& text) -> std::optional<double> {
    double value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = problem == std::errc() && end == text.data() + text.size();
    return whole ? std::optional(value) : std::nullopt;
  };
  const auto of_a = number(a);
  return a == b || (of_a && of_a == number(b));
}

}  // namespace

Axis parse_axis(const std::string& text) {
  const auto equals = text.find('=');
  const auto fail = [&](const std::string& why) {
    throw std::runtime_error("--over: found \"" + text + "\", expected a.b.c=1,2,4" + why);
  };
  if (equals == std::string::npos || equals == 0) fail("");
  Axis axis{text.substr(0, equals), parted(text.substr(equals + 1))};
  for (const std::string& value : axis.values) {
    if (value.empty()) fail(", with no empty value");
    const auto same = [&](const std::string& other) { return same_value(value, other); };
    if (std::count_if(axis.values.begin(), axis.values.end(), same) > 1) {
      fail(", with each value once, and \"" + value + "\" stands there twice");
    }
  }
  return axis;
}

std::string to_text(const Configuration& configuration) {
  std::string out;
  for (const auto& [key, value] : configuration) {
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", key, value);
  }
  return out.empty() ? "as it is" : out;
}

std::size_t SweepQuestion::points() const {
  std::size_t count = 1;
  for (const Axis& axis : axes) {
    count *= axis.values.size();
    if (count * seeds > kRunsMax) {
      throw std::runtime_error(
          fmt::format("--over: found more than {} runs in all, expected fewer", kRunsMax));
    }
  }
  return count;
}

Configuration SweepQuestion::point(std::size_t index) const {
  Configuration out(axes.size());
  for (std::size_t i = axes.size(); i-- > 0;) {
    const auto& values = axes[i].values;
    out[i] = {axes[i].key, values[index % values.size()]};
    index /= values.size();
  }
  return out;
}

std::string SweepQuestion::command(std::size_t index) const {
  std::string out = "chalk-sim run " + shell_word(scenario);
  if (!trace.empty()) out += " --trace " + shell_word(trace);
  for (const auto& [key, value] : sets) out += " --set " + shell_word(key + "=" + value);
  for (const auto& [key, value] : point(index)) out += " --set " + shell_word(key + "=" + value);
  return out + fmt::format(" --seed {}", first_seed);
}

json to_json(const SweepQuestion& q) {
  json axes = json::array();
  for (const Axis& axis : q.axes) axes.push_back({{"key", axis.key}, {"values", axis.values}});
  json out = {{"scenario", q.scenario}, {"name", q.name},
              {"shows", q.shows},       {"scenario_hash", hex_text(q.scenario_hash)},
              {"trace", q.trace},       {"sets", configuration_json(q.sets)},
              {"over", axes},           {"first_seed", q.first_seed},
              {"seeds", q.seeds},       {"commit", q.commit}};
  if (!q.traces_digest.empty()) out["traces_digest"] = q.traces_digest;
  if (!q.folder.empty()) out["folder"] = q.folder;
  return out;
}

SweepQuestion sweep_from_json(const json& j) {
  SweepQuestion q;
  q.scenario = j.at("scenario");
  q.name = j.at("name");
  q.shows = j.at("shows");
  q.scenario_hash = std::stoull(j.at("scenario_hash").get<std::string>(), nullptr, 16);
  q.trace = j.at("trace");
  q.traces_digest = j.value("traces_digest", "");
  q.folder = j.value("folder", "");
  q.sets = j.at("sets").get<Configuration>();
  for (const json& axis : j.at("over")) q.axes.push_back({axis.at("key"), axis.at("values")});
  q.first_seed = j.at("first_seed");
  q.seeds = j.at("seeds");
  q.commit = j.at("commit");
  return q;
}

json identity_json(const SweepQuestion& question) {
  json what = to_json(question);
  for (const char* place : {"scenario", "folder"}) what.erase(place);
  return what;
}

std::string SweepQuestion::identity() const {
  const json what = identity_json(*this);
  Digest digest;
  const std::string text = what.dump(-1, ' ', false, json::error_handler_t::replace);
  digest.add(std::string_view(text));
  return hex_text(digest.value());
}

Shard parse_shard(const std::string& text) {
  Shard shard;
  const char* end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool slash = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
  const auto of = slash ? std::from_chars(index.ptr + 1, end, shard.of) : index;
  if (!slash || of.ec != std::errc() || of.ptr != end || shard.index >= shard.of) {
    throw std::runtime_error("--shard: found \"" + text +
                             "\", expected I/N with I from 0 to N-1, such as 0/4");
  }
  return shard;
}

}  // namespace chalk::sim
