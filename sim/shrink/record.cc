#include "sim/shrink/record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sstream>

#include "sim/scenario/listed.h"
#include "sim/scenario/parse.h"
#include "sim/simgrid/isolated.h"
#include "sim/swarm/trial.h"
#include "sim/world/world.h"

namespace chalk::sim {
namespace {

Tree catalogue_tree(const Catalogue& catalogue) {
  Tree section = {{"kind", "list"}, {"tenants", catalogue.tenants}, {"images", catalogue.images}};
  Tree functions = Tree::array();
  for (const FunctionSpec& function : catalogue.functions) {
    Tree one = {{"name", function.name}, {"tenant", catalogue.tenants.at(function.tenant)}};
    if (function.image < catalogue.images.size()) one["image"] = catalogue.images[function.image];
    if (function.cpu_millicores != 0) one["cpu"] = fmt::format("{}m", function.cpu_millicores);
    if (function.memory_bytes != 0) one["memory"] = bytes_text(function.memory_bytes);
    functions.push_back(one);
  }
  section["functions"] = functions;
  section["arrivals"] = Tree::array();
  return section;
}

Tree arrival_tree(const Catalogue& catalogue, const Arrival& arrival) {
  Tree one = {{"at", duration_text(Duration{arrival.at.nanos})}};
  if (arrival.kind == ArrivalKind::request) {
    one["call"] = catalogue.functions.at(arrival.function).name;
    one["service"] = duration_text(arrival.service);
    if (arrival.caller != kNoClient) one["caller"] = catalogue.tenants.at(arrival.caller);
    return one;
  }
  const SandboxAsk& ask = arrival.sandbox;
  one["sandbox"] = catalogue.tenants.at(ask.tenant);
  if (ask.image < catalogue.images.size()) one["image"] = catalogue.images[ask.image];
  const Resources& r = ask.resources;
  if (r.cpu_millicores != 0) one["cpu"] = fmt::format("{}m", r.cpu_millicores);
  if (r.memory_bytes != 0) one["memory"] = bytes_text(r.memory_bytes);
  if (r.disk_bytes != 0) one["disk"] = bytes_text(r.disk_bytes);
  for (std::size_t i = 0; r.gpus > 0 && i < catalogue.gpu_models.size(); ++i) {
    if ((r.gpu_models >> i & 1) == 0 && r.gpu_models != 0) continue;
    one["gpu"] = fmt::format("{}:{}", r.gpus, catalogue.gpu_models[i]);
    if (r.gpu_millis < 1000) one["gpu_millis"] = std::to_string(r.gpu_millis);
    break;
  }
  if (arrival.service.nanos != 0) one["runs"] = duration_text(arrival.service);
  if (ask.lifetime.nanos != 0) one["lifetime"] = duration_text(ask.lifetime);
  if (ask.restart) one["restart"] = "true";
  if (ask.gang != 0) one["gang"] = std::to_string(ask.gang);
  if (ask.priority != 0) one["priority"] = std::to_string(ask.priority);
  return one;
}

// Hands on what another source has, and writes each arrival down first.
class Scribe final : public Source {
 public:
  Scribe(std::unique_ptr<Source> source, int file) : source_(std::move(source)), file_(file) {
    put(catalogue_tree(catalogue()));
  }
  const Catalogue& catalogue() const override { return source_->catalogue(); }
  const Arrival* peek() override { return source_->peek(); }
  void pop() override {
    if (const Arrival* one = source_->peek()) put(arrival_tree(catalogue(), *one));
    source_->pop();
  }
  void finished(std::uint32_t client, Time now) override { source_->finished(client, now); }
  bool exhausted() const override { return source_->exhausted(); }
  double progress() const override { return source_->progress(); }

 private:
  void put(const Tree& tree) {
    const std::string line = tree.dump() + "\n";
    if (write(file_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      throw std::runtime_error("an arrival cannot be written down");
    }
  }
  std::unique_ptr<Source> source_;
  int file_;
};

std::string content(int file) {
  std::string text(static_cast<std::size_t>(std::max<off_t>(0, lseek(file, 0, SEEK_END))), 0);
  const ssize_t got = pread(file, text.data(), text.size(), 0);
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
  return text;
}

}  // namespace

std::optional<Tree> recorded_workload(const std::string& name, const std::string& text,
                                      unsigned seconds_max) {
  const int file = memfd_create("chalk-arrivals", MFD_CLOEXEC);
  if (file < 0) throw std::runtime_error("arrivals cannot be written down: no memory file");
  run_isolated([&]() -> std::string {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
    end_after(seconds_max);
    Setup setup = load_scenario_text(name, text);
    setup.open_workload = [file, open = setup.open_workload](std::uint64_t seed) {
      return std::make_unique<Scribe>(open(seed), file);
    };
    RunOptions options;
    options.seed = setup.seed;
    run_world(setup, options);
    return "";
  });
  std::stringstream lines(content(file));
  close(file);
  std::string line;
  if (!std::getline(lines, line)) return {};
  Tree section = Tree::parse(line);
  while (std::getline(lines, line)) section["arrivals"].push_back(Tree::parse(line));
  if (section["arrivals"].empty()) return {};
  return Tree::array({section});
}

}  // namespace chalk::sim
