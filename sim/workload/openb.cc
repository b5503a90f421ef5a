// Alibaba GPU 2023 (openb): a list of nodes and a list of pods.
//
// Nodes of one shape become a node group. Pods become sandboxes in order of creation; gpu_spec is a
// mask of GPU models; the lifetime runs from scheduling (or creation, where it never was scheduled)
// to deletion, and is not given where there is no deletion. The trace has no tenants and no images:
// there is one of each. Our mapping of qos to priority, where it is asked for: LS and Guaranteed 2,
// Burstable 1, others 0.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <tuple>

#include "sim/workload/csv.h"
#include "sim/workload/external_sort.h"
#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr std::int64_t kMillicoresMax = 100'000'000;
constexpr std::int64_t kMebibytesMax = std::int64_t{1} << 32;
constexpr std::int64_t kSecondsMax = 300'000'000;

struct Pod {
  std::int64_t at;
  std::uint64_t sequence;
  Resources resources;
  Duration lifetime;
  std::int32_t priority;
};

// The file of this kind: the preferred name, or else the only one there is.
std::string find_file(const std::string& path, const std::string& prefix,
                      const std::string& preferred) {
  std::filesystem::path directory(path);
  std::error_code error;
  if (std::filesystem::exists(directory / preferred, error)) return directory / preferred;
  std::vector<std::string> found;
  for (auto at = std::filesystem::directory_iterator(directory, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::string name = at->path().filename();
    if (name.starts_with(prefix) && name.ends_with(".csv")) found.push_back(name);
  }
  if (error) throw InputError(path, 0, error.message(), "a directory with the files of openb");
  std::sort(found.begin(), found.end());
  if (found.size() != 1) {
    std::string names;
    for (const std::string& name : found) names += " " + name;
    throw InputError(path, 0, fmt::format("{} files {}*.csv{}", found.size(), prefix, names),
                     fmt::format("{} or exactly one", preferred));
  }
  return directory / found[0];
}

std::int32_t priority_of(std::string_view qos) {
  if (qos == "LS" || qos == "Guaranteed") return 2;
  return qos == "Burstable" ? 1 : 0;
}

class Openb : public Source {
 public:
  Openb(const std::string& directory, const TraceOptions& options)
      : qos_priorities_(options.qos_priorities), pods_(options.sort_memory_bytes) {
    catalogue_.tenants = {"openb"};
    catalogue_.images = {"openb"};
    read_nodes(find_file(directory, "openb_node_list", "openb_node_list_all_node.csv"));
    read_pods(find_file(directory, "openb_pod_list", "openb_pod_list_default.csv"));
    pods_.finish();
    shown_.kind = ArrivalKind::sandbox;
    show();
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return pods_.empty() ? nullptr : &shown_; }
  void pop() override {
    if (pods_.empty()) return;
    pods_.pop();
    ++popped_;
    show();
  }
  bool exhausted() const override { return pods_.empty(); }
  double progress() const override {
    return pods_.empty() ? 1 : static_cast<double>(popped_) / static_cast<double>(pods_.total());
  }

 private:
  std::int32_t gpu_model(const CsvFile& csv, std::size_t column, std::string_view name) {
    auto& models = catalogue_.gpu_models;
    auto at = std::find(models.begin(), models.end(), name);
    if (at == models.end()) {
      if (name.empty()) csv.fail(column, "names of GPU models separated by |");
      if (models.size() == kGpuModelsMax) csv.fail(column, "at most 32 different GPU models");
      at = models.emplace(models.end(), name);
    }
    return static_cast<std::int32_t>(at - models.begin());
  }

  void read_nodes(const std::string& path) {
    CsvFile csv(path);
    std::size_t name = csv.column("sn");
    std::size_t cpu = csv.column("cpu_milli");
    std::size_t memory = csv.column("memory_mib");
    std::size_t gpus = csv.column("gpu");
    std::size_t model = csv.column("model");
    std::map<std::tuple<std::int64_t, std::int64_t, std::int32_t, std::int32_t>, std::size_t>
        groups;
    while (csv.next_row()) {
      csv.name(name);
      NodeShape shape;
      shape.cpu_millicores = csv.integer(cpu, 1, kMillicoresMax);
      shape.memory_bytes = csv.integer(memory, 1, kMebibytesMax) << 20;
      shape.gpus = static_cast<std::int32_t>(csv.integer(gpus, 0, kGpusPerNodeMax));
      if (shape.gpus > 0) shape.gpu_model = gpu_model(csv, model, csv.text(model));
      auto [at, is_new] = groups.try_emplace(
          {shape.cpu_millicores, shape.memory_bytes, shape.gpus, shape.gpu_model},
          catalogue_.nodes.size());
      if (is_new) {
        std::string of = shape.gpus > 0 ? catalogue_.gpu_models[shape.gpu_model] : "";
        std::string text = fmt::format("{}m-{}Mi", shape.cpu_millicores, shape.memory_bytes >> 20);
        if (shape.gpus > 0) text += fmt::format("-{}x{}", shape.gpus, of);
        catalogue_.nodes.push_back({text, shape, of, 0});
      }
      ++catalogue_.nodes[at->second].count;
    }
  }

  void read_pods(const std::string& path) {
    CsvFile csv(path);
    std::size_t name = csv.column("name");
    std::size_t cpu = csv.column("cpu_milli");
    std::size_t memory = csv.column("memory_mib");
    std::size_t gpus = csv.column("num_gpu");
    std::size_t gpu_millis = csv.column("gpu_milli");
    std::size_t gpu_spec = csv.column("gpu_spec");
    std::size_t qos = csv.column("qos");
    std::size_t created = csv.column("creation_time");
    std::size_t deleted = csv.column("deletion_time");
    std::size_t scheduled = csv.column("scheduled_time");
    while (csv.next_row()) {
      csv.name(name);
      Pod pod{};
      pod.resources.cpu_millicores = csv.integer(cpu, 0, kMillicoresMax);
      pod.resources.memory_bytes = csv.integer(memory, 0, kMebibytesMax) << 20;
      pod.resources.gpus = static_cast<std::int32_t>(csv.integer(gpus, 0, kGpusPerNodeMax));
      pod.resources.gpu_millis = static_cast<std::int32_t>(csv.integer(gpu_millis, 0, 1000));
      if ((pod.resources.gpus > 0) != (pod.resources.gpu_millis > 0) ||
          (pod.resources.gpus > 1 && pod.resources.gpu_millis != 1000)) {
        csv.fail(gpu_millis, fmt::format("0 without GPUs, 1 to 1000 of one, 1000 of several; not "
                                         "this with num_gpu {}",
                                         pod.resources.gpus));
      }
      if (pod.resources.gpus > 0) pod.resources.gpu_models = models(csv, gpu_spec);
      const std::int32_t priority = priority_of(csv.text(qos));
      pod.priority = qos_priorities_ ? priority : 0;
      read_times(csv, created, deleted, scheduled, pod);
      pods_.add(pod);
    }
  }

  std::uint32_t models(const CsvFile& csv, std::size_t column) {
    std::string_view rest = csv.text(column);
    std::uint32_t mask = 0;
    while (!rest.empty()) {
      std::size_t end = std::min(rest.find('|'), rest.size());
      mask |= std::uint32_t{1} << gpu_model(csv, column, rest.substr(0, end));
      if (end + 1 == rest.size()) csv.fail(column, "names of GPU models separated by |");
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return mask;
  }

  static void read_times(const CsvFile& csv, std::size_t created, std::size_t deleted,
                         std::size_t scheduled, Pod& pod) {
    std::int64_t creation = csv.integer(created, 0, kSecondsMax);
    std::int64_t start = creation;
    pod.at = seconds(creation).nanos;
    // Some copies of the list went through a table program and have "123.0".
    if (!csv.text(scheduled).empty()) {
      start = static_cast<std::int64_t>(
          csv.number(scheduled, static_cast<double>(creation), kSecondsMax));
    }
    if (csv.text(deleted).empty()) return;
    auto end =
        static_cast<std::int64_t>(csv.number(deleted, static_cast<double>(creation), kSecondsMax));
    if (start > end) start = creation;
    // Deleted in the second in which it started: it lived, and 0 would mean "not given".
    pod.lifetime = std::max(seconds(end - start), nanoseconds(1));
  }

  void show() {
    if (pods_.empty()) return;
    const Pod& pod = pods_.front();
    shown_.at = {pod.at};
    shown_.sandbox.resources = pod.resources;
    shown_.sandbox.lifetime = pod.lifetime;
    shown_.sandbox.priority = pod.priority;
  }

  bool qos_priorities_;
  Catalogue catalogue_;
  ExternalSort<Pod> pods_;
  std::uint64_t popped_ = 0;
  Arrival shown_;
};

}  // namespace

std::unique_ptr<Source> open_openb(const std::string& directory, const TraceOptions& options) {
  return std::make_unique<Openb>(directory, options);
}

}  // namespace chalk::sim
