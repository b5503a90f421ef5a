#include "sim/scenario/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "sim/scenario/listed.h"
#include "sim/workload/azure_shape.h"
#include "sim/workload/generate.h"
#include "sim/workload/input_error.h"
#include "sim/workload/sampling.h"
#include "sim/world/deploy.h"

namespace chalk::sim {
namespace {

// Of all kinds: each knows some of them.
const std::set<std::string> kSectionKeys = {
    "kind", "arrivals_max", "until", "path", "qos_priorities", "tenants", "images", "functions",
    "arrivals", "apps", "length", "rate_scale", "app_calls_per_day_max", "service_max",
    "service_spread", "memory_max", "swing", "weekend", "clients", "think", "calm_per_second",
    "burst_per_second", "calm_mean", "burst_mean", "per_second", "peak_at", "of", "function_skew",
    "tenant_skew", "image_skew", "service", "cpu", "memory", "prefix", "caller", "lifetime", "runs",
    "restart", "priority", "gang", "shapes"};
constexpr double kRateMax = 1e7;
constexpr Duration kStayMin = milliseconds(1);
constexpr double kArrivalsPerCycleMin = 1e-6;

// Every change between calm and burst is drawn, so an arrival costs as many draws as there are
// changes before it: of nanoseconds, nothing would ever arrive.
void expect_few_changes(Reader& section, const Bursts& pace) {
  const auto stays = [&](const char* key, Duration mean) {
    if (mean < kStayMin) {
      section.fail(key, duration_text(mean), "at least " + duration_text(kStayMin));
    }
    return static_cast<double>(mean.nanos) * 1e-9;
  };
  const double arrivals = pace.calm_per_second * stays("calm_mean", pace.calm_mean) +
                          pace.burst_per_second * stays("burst_mean", pace.burst_mean);
  if (arrivals >= kArrivalsPerCycleMin) return;
  section.fail("calm_per_second", fmt::format("{:.3g} arrivals from calm to calm", arrivals),
               fmt::format("at least {}", kArrivalsPerCycleMin));
}

Pace read_pace(Reader& section, const std::string& kind) {
  if (kind == "bursts") {
    Bursts pace;
    pace.calm_per_second = section.number("calm_per_second", 1, 1e-9, kRateMax);
    pace.burst_per_second = section.number("burst_per_second", 10, 1e-9, kRateMax);
    pace.calm_mean = section.duration("calm_mean", pace.calm_mean);
    pace.burst_mean = section.duration("burst_mean", pace.burst_mean);
    expect_few_changes(section, pace);
    return pace;
  }
  if (kind == "daily") {
    Rhythm pace;
    pace.mean_per_second = section.number("per_second", 1, 1e-9, kRateMax);
    pace.swing = section.number("swing", pace.swing, 0, 1);
    pace.peak_at = section.duration("peak_at", pace.peak_at);
    pace.weekend = section.number("weekend", pace.weekend, 1e-6, 1000);
    return pace;
  }
  return Poisson{section.number("per_second", 1, 1e-9, kRateMax)};
}

Requests read_requests(Reader& section) {
  Requests work;
  work.functions = static_cast<std::uint32_t>(section.whole("functions", 1, 1, 10'000'000));
  work.tenants = static_cast<std::uint32_t>(section.whole("tenants", 1, 1, 1'000'000));
  work.images = static_cast<std::uint32_t>(section.whole("images", 1, 1, 1'000'000));
  work.function_skew = section.number("function_skew", 0, 0, 5);
  work.tenant_skew = section.number("tenant_skew", 0, 0, 5);
  work.image_skew = section.number("image_skew", 0, 0, 5);
  work.service =
      to_distribution(section.delay("service", Delay{Delay::Kind::exponential, seconds(1), 0}));
  work.cpu_millicores = section.millicores("cpu", 0);
  work.memory_bytes = section.bytes("memory", 0);
  work.prefix = section.text("prefix", "");
  work.caller = section.text("caller", "");
  return work;
}

Sandboxes read_sandboxes(Reader& section, const std::vector<std::string>& gpu_models,
                         bool replaced) {
  Sandboxes work;
  work.tenants = static_cast<std::uint32_t>(section.whole("tenants", 1, 1, 1'000'000));
  work.images = static_cast<std::uint32_t>(section.whole("images", 1, 1, 1'000'000));
  work.tenant_skew = section.number("tenant_skew", 0, 0, 5);
  work.image_skew = section.number("image_skew", 0, 0, 5);
  work.lifetime = to_distribution(section.delay("lifetime", {}));
  work.service =
      to_distribution(section.delay("runs", Delay{Delay::Kind::exponential, seconds(60), 0}));
  work.restart = section.flag("restart", false);
  work.priority = read_priority(section, 0);
  work.gang = read_gang(section);
  work.prefix = section.text("prefix", "");
  work.gpu_models = gpu_models;
  auto shapes = section.list("shapes");
  if (!shapes.empty()) work.shapes.clear();
  for (Reader& shape : shapes) {
    SandboxShape one;
    one.weight = shape.number("weight", 1, 0, 1e9);
    one.resources.cpu_millicores = shape.millicores("cpu", 0);
    one.resources.memory_bytes = shape.bytes("memory", 0);
    one.resources.disk_bytes = shape.bytes("disk", 0);
    const GpuAsk gpu = read_gpu(shape, gpu_models, replaced);
    one.resources.gpus = gpu.count;
    one.resources.gpu_millis = gpu.count > 0 ? gpu.millis : 0;
    one.resources.gpu_models = gpu.models;
    shape.done();
    work.shapes.push_back(one);
  }
  return work;
}

AzureShape read_azure_shape(Reader& section) {
  AzureShape shape;
  shape.apps = static_cast<std::uint32_t>(section.whole("apps", shape.apps, 1, 1'000'000));
  shape.length = section.duration("length", shape.length);
  shape.rate_scale = section.number("rate_scale", 1, 1e-9, 1e6);
  shape.app_calls_per_day_max =
      section.number("app_calls_per_day_max", shape.app_calls_per_day_max, 1, 1e12);
  shape.service_max = section.duration("service_max", shape.service_max);
  shape.service_spread = section.number("service_spread", shape.service_spread, 0, 5);
  shape.memory_bytes_max = section.bytes("memory_max", shape.memory_bytes_max);
  shape.tenants = static_cast<std::uint32_t>(section.whole("tenants", 0, 0, 1'000'000));
  shape.swing = section.number("swing", shape.swing, 0, 1);
  shape.weekend = section.number("weekend", shape.weekend, 1e-6, 1000);
  return shape;
}

// One section: the generator it asks for, ended where it says. `replaced`: by --trace.
OpenWorkload read_section(Reader& section, const std::vector<std::string>& gpu_models,
                          const TraceOptions& trace_options, bool replaced) {
  const std::vector<const char*> kinds = {"poisson",         "bursts", "daily", "closed_loop",
                                          "azure_functions", "trace",  "list"};
  if (!section.has("kind")) {
    section.only(kSectionKeys);
    section.fail("kind", "nothing",
                 "poisson, bursts, daily, closed_loop, azure_functions, trace or list");
  }
  const std::string kind = kinds[section.choice("kind", 0, kinds)];
  Cut end;
  const auto most = section.whole("arrivals_max", 0, 0, 1'000'000'000'000);
  if (most != 0) end.arrivals_max = static_cast<std::uint64_t>(most);
  const Duration until = section.duration("until", {});
  if (until.nanos != 0) end.before = Time{until.nanos};
  OpenWorkload open;
  if (kind == "trace") {
    const std::string path =
        replaced ? section.required_text("path") : read_trace_path(section);
    const bool qos_priorities = section.flag("qos_priorities", false);
    open = [path, trace_options, qos_priorities](std::uint64_t seed) {
      TraceOptions options = trace_options;
      options.qos_priorities = qos_priorities;
      options.seed = seed;
      return open_trace(path, options);
    };
  } else if (kind == "list") {
    const std::shared_ptr<const Listed> listed = read_listed(section, gpu_models, replaced);
    open = [listed](std::uint64_t) { return listed_source(listed); };
  } else if (kind == "azure_functions") {
    const AzureShape shape = read_azure_shape(section);
    open = [shape](std::uint64_t seed) { return azure_functions_shape(shape, seed); };
  } else if (kind == "closed_loop") {
    ClosedLoop loop;
    loop.clients = static_cast<std::uint32_t>(section.whole("clients", 1, 1, 10'000'000));
    loop.think =
        to_distribution(section.delay("think", Delay{Delay::Kind::exponential, seconds(1), 0}));
    const Requests work = read_requests(section);
    open = [loop, work](std::uint64_t seed) { return closed_loop(loop, work, seed); };
  } else {
    const Pace pace = read_pace(section, kind);
    const bool sandboxes = section.choice("of", 0, {"calls", "sandboxes"}) == 1;
    const Work work =
        sandboxes ? Work{read_sandboxes(section, gpu_models, replaced)} : Work{read_requests(section)};
    open = [pace, work](std::uint64_t seed) { return open_loop(pace, work, seed); };
  }
  section.done();
  return [open, end](std::uint64_t seed) { return cut(open(seed), end); };
}

}  // namespace

std::string read_trace_path(Reader& section) {
  const std::string text = section.required_text("path");
  const auto spec = parse_trace_spec(text);
  if (!spec) section.fail("path", quote(text), kTraceSpecs);
  std::error_code error;
  if (!std::filesystem::exists(spec->path, error)) {
    section.fail("path", "no " + spec->path,
                 "a trace by its path from the scenario's file or from the current folder");
  }
  return text;
}

GpuAsk read_gpu(Reader& reader, const std::vector<std::string>& gpu_models, bool replaced) {
  GpuAsk ask;
  ask.millis = static_cast<std::int32_t>(reader.whole("gpu_millis", 1000, 1, 1000));
  if (!reader.has("gpu")) return ask;
  const std::string text = reader.text("gpu", "");
  const auto request = parse_gpu(text);
  if (!request)
    reader.fail("gpu", fmt::format("\"{}\"", text),
                "a GPU such as A100, nvidia-l4 or 2:nvidia-a100");
  const auto model = std::find(gpu_models.begin(), gpu_models.end(), request->model);
  if (model == gpu_models.end() && !replaced) {
    std::string offered;
    for (const std::string& name : gpu_models) offered += (offered.empty() ? "" : ", ") + name;
    reader.fail(
        "gpu", fmt::format("\"{}\"", text),
        offered.empty() ? "no GPU, since no pool has any" : "a model that a pool has: " + offered);
  }
  if (request->count > kGpusPerNodeMax) {
    reader.fail("gpu", fmt::format("\"{}\"", text),
                fmt::format("at most {} GPUs", kGpusPerNodeMax));
  }
  if (ask.millis < 1000 && request->count != 1) {
    reader.fail("gpu_millis", fmt::format("{} with {} GPUs", ask.millis, request->count),
                "a share of one GPU");
  }
  ask.count = request->count;
  if (model != gpu_models.end()) ask.models = 1u << (model - gpu_models.begin());
  return ask;
}

Priority read_priority(Reader& reader, Priority otherwise) {
  return static_cast<Priority>(reader.whole("priority", otherwise, 0, kPriorityMax));
}

std::uint32_t read_gang(Reader& reader) {
  return static_cast<std::uint32_t>(reader.whole("gang", 0, 0, kGangMax));
}

OpenWorkload read_workload(Reader& root, const std::vector<std::string>& gpu_models,
                           const std::optional<std::string>& trace) {
  TraceOptions options;
  Reader llm = root.map("llm");
  options.prefill_tokens_per_second =
      llm.number("prefill_tokens_per_second", options.prefill_tokens_per_second, 1e-3, 1e9);
  options.decode_tokens_per_second =
      llm.number("decode_tokens_per_second", options.decode_tokens_per_second, 1e-3, 1e9);
  llm.done();
  std::vector<OpenWorkload> sections;
  for (Reader& section : root.list("workload"))
    sections.push_back(read_section(section, gpu_models, options, trace.has_value()));
  if (trace) {
    return [spec = *trace, options](std::uint64_t seed) {
      TraceOptions seeded = options;
      seeded.seed = seed;
      return open_trace(spec, seeded);
    };
  }
  if (sections.empty()) root.fail("workload", "nothing", "a list of generators or traces");
  return [sections](std::uint64_t seed) {
    if (sections.size() == 1) return sections[0](seed);
    std::vector<std::unique_ptr<Source>> sources;
    // Not seed + i: the second section of one seed would be the first of the next seed.
    for (std::size_t i = 0; i < sections.size(); ++i)
      sources.push_back(sections[i](Random{seed}.stream(i + 1).key));
    return merge(std::move(sources));
  };
}

}  // namespace chalk::sim
