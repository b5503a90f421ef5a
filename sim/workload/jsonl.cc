// Our own trace format, JSON lines; docs/trace-format.md describes it. Declarations of names come
// first, then arrivals in order of time. Keys are strict: none unknown, none twice, none missing.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <unordered_map>

#include "model/protocol/protocol.h"
#include "sim/workload/distribution.h"
#include "sim/workload/input_error.h"
#include "sim/workload/text_file.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kNanosMax = kNever.nanos - 1;
// As in scenarios: sums of any number of these that there can be are far from overflowing.
constexpr std::int64_t kMillicoresMax = 100'000'000;
constexpr std::int64_t kBytesMax = std::int64_t{1} << 50;
constexpr std::int64_t kNodesMax = 100'000;
constexpr std::int64_t kTokensMax = 100'000'000;
constexpr std::size_t kDeclaredMax = 10'000'000;

// Reads the members of one object; done() refuses those that nobody asked for.
class Members {
 public:
  Members(const Json& object, const TextFile& file, const char* what)
      : object_(object), file_(file), what_(what) {
    if (!object.is_object()) fail(object.type_name(), "an object");
  }
  bool has(const char* key) const { return object_.contains(key); }
  const Json& at(const char* key) {
    asked_.insert(key);
    auto member = object_.find(key);
    if (member == object_.end()) fail("no such key", fmt::format("a key \"{}\"", key));
    return *member;
  }
  std::string text(const char* key) {
    const Json& value = at(key);
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      fail(shown(value), fmt::format("a string that is not empty as \"{}\"", key));
    }
    return value.get<std::string>();
  }
  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) {
    const Json& value = at(key);
    bool fits = value.is_number_integer() &&
                !(value.is_number_unsigned() &&
                  value.get<std::uint64_t>() > static_cast<std::uint64_t>(high));
    if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
      fail(shown(value), fmt::format("an integer from {} to {} as \"{}\"", low, high, key));
    }
    return value.get<std::int64_t>();
  }
  std::int64_t integer_or(const char* key, std::int64_t low, std::int64_t high,
                          std::int64_t otherwise) {
    return has(key) ? integer(key, low, high) : otherwise;
  }
  void done() const {
    for (const auto& [key, value] : object_.items()) {
      if (!asked_.contains(key)) fail(fmt::format("the key {}", quote(key)), "only known keys");
    }
  }
  [[noreturn]] void fail(const std::string& found, const std::string& expected) const {
    file_.fail(fmt::format("{} in {}", found, what_), expected);
  }

 private:
  static std::string shown(const Json& value) {
    return quote(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  const Json& object_;
  const TextFile& file_;
  const char* what_;
  std::set<std::string, std::less<>> asked_;
};

// The names of one kind and their numbers.
class Declared {
 public:
  explicit Declared(const char* kind) : kind_(kind) {}
  void add(const std::string& name, const Members& members) {
    if (numbers_.size() >= kDeclaredMax) members.fail("too many names", "at most 10000000");
    auto number = static_cast<std::uint32_t>(numbers_.size());
    if (!numbers_.try_emplace(name, number).second) {
      members.fail(fmt::format("{} {} again", kind_, quote(name)), "each name once");
    }
  }
  std::uint32_t number(const std::string& name, const Members& members) const {
    auto found = numbers_.find(name);
    if (found == numbers_.end()) {
      members.fail(quote(name), fmt::format("a {} declared above", kind_));
    }
    return found->second;
  }
  std::size_t size() const { return numbers_.size(); }

 private:
  const char* kind_;
  std::unordered_map<std::string, std::uint32_t> numbers_;  // looked up, never walked
};

class Jsonl : public Source {
 public:
  explicit Jsonl(const std::string& path) : file_(path) {
    Json line;
    if (!read(line)) throw InputError(path, 1, "an empty file", "{\"chalk_trace\":1}");
    Members head(line, file_, "the first line");
    head.integer("chalk_trace", 1, 1);
    head.done();
    while (read(line)) {
      Members members(line, file_, "a line");
      if (members.has("at_ns")) {
        arrival(members);
        return;
      }
      declaration(members);
    }
    over_ = true;
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return over_ ? nullptr : &shown_; }
  void pop() override {
    if (over_) return;
    Json line;
    over_ = !read(line);
    if (over_) return;
    Members members(line, file_, "a line");
    arrival(members);
  }
  bool exhausted() const override { return over_; }
  double progress() const override {
    if (over_) return 1;
    return static_cast<double>(file_.line_offset()) / static_cast<double>(file_.size());
  }

 private:
  bool read(Json& out) {
    std::string_view line;
    do {
      if (!file_.next(line)) return false;
    } while (line.empty());
    // Twice the same key would silently drop the first.
    std::vector<std::set<std::string>> keys;
    auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (event == Json::parse_event_t::object_start) {
        if (depth > 8) file_.fail("objects in objects", "at most 8 levels");
        keys.emplace_back();
      } else if (event == Json::parse_event_t::array_start && depth > 8) {
        file_.fail("arrays in arrays", "at most 8 levels");
      } else if (event == Json::parse_event_t::object_end) {
        keys.pop_back();
      } else if (event == Json::parse_event_t::key &&
                 !keys.back().insert(parsed.get_ref<const std::string&>()).second) {
        file_.fail(fmt::format("the key {} twice", quote(parsed.get_ref<const std::string&>())),
                   "each key once");
      }
      return true;
    };
    try {
      out = Json::parse(line.begin(), line.end(), watch);
    } catch (const Json::exception& error) {
      file_.fail(fmt::format("{} ({})", quote(line), error.what()), "one JSON object");
    }
    return true;
  }

  void declaration(Members& members) {
    if (members.has("tenant") && !members.has("function")) {
      std::string name = members.text("tenant");
      tenants_.add(name, members);
      catalogue_.tenants.push_back(name);
    } else if (members.has("image") && !members.has("function")) {
      std::string name = members.text("image");
      images_.add(name, members);
      catalogue_.images.push_back(name);
    } else if (members.has("function")) {
      FunctionSpec function;
      function.name = members.text("function");
      functions_.add(function.name, members);
      function.tenant = tenants_.number(members.text("tenant"), members);
      function.image = images_.number(members.text("image"), members);
      function.cpu_millicores = members.integer_or("cpu_millicores", 0, kMillicoresMax, 0);
      function.memory_bytes = members.integer_or("memory_bytes", 0, kBytesMax, 0);
      catalogue_.functions.push_back(function);
    } else if (members.has("node_group")) {
      node_group(members);
    } else if (members.has("gpu_model")) {
      std::string name = members.text("gpu_model");
      gpu_models_.add(name, members);
      if (gpu_models_.size() > kGpuModelsMax) members.fail(quote(name), "at most 32 GPU models");
      catalogue_.gpu_models.push_back(name);
    } else {
      members.fail("none of its keys", "at_ns, tenant, image, function, gpu_model or node_group");
    }
    members.done();
  }

  void node_group(Members& members) {
    NodeGroupSpec group;
    group.name = members.text("node_group");
    node_groups_.add(group.name, members);
    group.count = static_cast<std::uint32_t>(members.integer("count", 0, kNodesMax));
    group.shape.cpu_millicores = members.integer("cpu_millicores", 1, kMillicoresMax);
    group.shape.memory_bytes = members.integer("memory_bytes", 1, kBytesMax);
    group.shape.disk_bytes = members.integer_or("disk_bytes", 0, kBytesMax, 0);
    group.shape.gpus = static_cast<std::int32_t>(members.integer_or("gpus", 0, kGpusPerNodeMax, 0));
    if (group.shape.gpus > 0) {
      group.gpu_model = members.text("gpu_model");
      group.shape.gpu_model =
          static_cast<std::int32_t>(gpu_models_.number(group.gpu_model, members));
    }
    catalogue_.nodes.push_back(group);
  }

  void arrival(Members& members) {
    Arrival next;
    next.at = {members.integer("at_ns", 0, kNanosMax)};
    if (next.at < shown_.at) {
      members.fail(fmt::format("at_ns {}", next.at.nanos),
                   fmt::format("at least {}, as in the arrival above", shown_.at.nanos));
    }
    if (members.has("sandbox")) {
      next.kind = ArrivalKind::sandbox;
      next.service = {members.integer_or("service_ns", 0, kDurationMax.nanos, 0)};
      Members ask(members.at("sandbox"), file_, "\"sandbox\"");
      sandbox(ask, next.sandbox);
    } else {
      next.function = functions_.number(members.text("call"), members);
      next.service = {members.integer("service_ns", 0, kDurationMax.nanos)};
      next.input_tokens =
          static_cast<std::int32_t>(members.integer_or("input_tokens", 0, kTokensMax, 0));
      next.output_tokens =
          static_cast<std::int32_t>(members.integer_or("output_tokens", 0, kTokensMax, 0));
    }
    members.done();
    shown_ = next;
  }

  void sandbox(Members& ask, SandboxAsk& out) {
    out.tenant = tenants_.number(ask.text("tenant"), ask);
    out.image = images_.number(ask.text("image"), ask);
    Resources& resources = out.resources;
    resources.cpu_millicores = ask.integer_or("cpu_millicores", 0, kMillicoresMax, 0);
    resources.memory_bytes = ask.integer_or("memory_bytes", 0, kBytesMax, 0);
    resources.disk_bytes = ask.integer_or("disk_bytes", 0, kBytesMax, 0);
    resources.gpus = static_cast<std::int32_t>(ask.integer_or("gpus", 0, kGpusPerNodeMax, 0));
    if (resources.gpus > 0) {
      std::int64_t least = resources.gpus > 1 ? 1000 : 1;
      resources.gpu_millis =
          static_cast<std::int32_t>(ask.integer_or("gpu_millis", least, 1000, 1000));
      if (ask.has("gpu_models")) {
        const Json& models = ask.at("gpu_models");
        if (!models.is_array()) ask.fail("gpu_models", "a list of names");
        for (const Json& model : models) {
          if (!model.is_string()) ask.fail("gpu_models", "a list of names");
          resources.gpu_models |= std::uint32_t{1} << gpu_models_.number(model, ask);
        }
      }
    }
    out.lifetime = {ask.integer_or("lifetime_ns", 0, kDurationMax.nanos, 0)};
    out.priority = static_cast<std::int32_t>(ask.integer_or("priority", 0, kPriorityMax, 0));
    out.restart = ask.integer_or("restart", 0, 1, 0) != 0;
    out.gang = static_cast<std::uint32_t>(ask.integer_or("gang", 0, kGangMax, 0));
    ask.done();
  }

  TextFile file_;
  Catalogue catalogue_;
  Declared tenants_{"tenant"};
  Declared images_{"image"};
  Declared functions_{"function"};
  Declared gpu_models_{"GPU model"};
  Declared node_groups_{"node group"};
  Arrival shown_;
  bool over_ = false;
};

void put(Json& object, const char* key, std::int64_t value) {
  if (value != 0) object[key] = value;
}

Json sandbox_json(const SandboxAsk& ask, const Catalogue& names) {
  Json out = {{"tenant", names.tenants.at(ask.tenant)}, {"image", names.images.at(ask.image)}};
  put(out, "cpu_millicores", ask.resources.cpu_millicores);
  put(out, "memory_bytes", ask.resources.memory_bytes);
  put(out, "disk_bytes", ask.resources.disk_bytes);
  put(out, "gpus", ask.resources.gpus);
  put(out, "gpu_millis", ask.resources.gpu_millis);
  for (std::size_t bit = 0; bit < names.gpu_models.size(); ++bit) {
    if (ask.resources.gpu_models >> bit & 1) out["gpu_models"].push_back(names.gpu_models[bit]);
  }
  put(out, "lifetime_ns", ask.lifetime.nanos);
  put(out, "priority", ask.priority);
  put(out, "restart", ask.restart ? 1 : 0);
  put(out, "gang", ask.gang);
  return out;
}

void write_names(const Catalogue& names, std::ostream& out) {
  for (const std::string& name : names.tenants) out << Json{{"tenant", name}} << '\n';
  for (const std::string& name : names.images) out << Json{{"image", name}} << '\n';
  for (const std::string& name : names.gpu_models) out << Json{{"gpu_model", name}} << '\n';
  for (const NodeGroupSpec& group : names.nodes) {
    Json line = {{"node_group", group.name},
                 {"count", group.count},
                 {"cpu_millicores", group.shape.cpu_millicores},
                 {"memory_bytes", group.shape.memory_bytes}};
    put(line, "disk_bytes", group.shape.disk_bytes);
    put(line, "gpus", group.shape.gpus);
    if (group.shape.gpus > 0) line["gpu_model"] = group.gpu_model;
    out << line << '\n';
  }
  for (const FunctionSpec& function : names.functions) {
    Json line = {{"function", function.name},
                 {"tenant", names.tenants.at(function.tenant)},
                 {"image", names.images.at(function.image)}};
    put(line, "cpu_millicores", function.cpu_millicores);
    put(line, "memory_bytes", function.memory_bytes);
    out << line << '\n';
  }
}

}  // namespace

std::unique_ptr<Source> open_jsonl(const std::string& file) {
  return std::make_unique<Jsonl>(file);
}

void write_jsonl(Source& source, std::ostream& out) {
  const Catalogue& names = source.catalogue();
  out << Json{{"chalk_trace", 1}} << '\n';
  write_names(names, out);
  for (const Arrival* next = source.peek(); next; source.pop(), next = source.peek()) {
    Json line = {{"at_ns", next->at.nanos}};
    if (next->kind == ArrivalKind::sandbox) {
      put(line, "service_ns", next->service.nanos);
      line["sandbox"] = sandbox_json(next->sandbox, names);
    } else {
      line["call"] = names.functions.at(next->function).name;
      line["service_ns"] = next->service.nanos;
      put(line, "input_tokens", next->input_tokens);
      put(line, "output_tokens", next->output_tokens);
    }
    out << line << '\n';
  }
}

}  // namespace chalk::sim
