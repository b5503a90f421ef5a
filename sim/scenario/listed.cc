#include "sim/scenario/listed.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/scenario/workload.h"

namespace chalk::sim {
namespace {

template <class T, class Name>
std::uint32_t index_of(const std::vector<T>& list, const std::string& wanted, Name&& name) {
  std::uint32_t i = 0;
  while (i < list.size() && name(list[i]) != wanted) ++i;
  return i;
}

std::uint32_t named(std::vector<std::string>& list, const std::string& wanted) {
  const std::uint32_t i = index_of(list, wanted, [](const std::string& one) { return one; });
  if (i == list.size()) list.push_back(wanted);
  return i;
}

class ListReader {
 public:
  ListReader(Reader& section, const std::vector<std::string>& gpu_models, bool replaced)
      : section_(section), gpu_models_(gpu_models), replaced_(replaced) {
    catalogue().gpu_models = gpu_models;
  }

  std::shared_ptr<const Listed> read() {
    catalogue().tenants = section_.texts("tenants");
    catalogue().images = section_.texts("images");
    for (Reader& r : section_.list("functions")) function(r);
    for (Reader& r : section_.list("arrivals")) arrival(r);
    std::stable_sort(listed_->arrivals.begin(), listed_->arrivals.end(),
                     [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
    return listed_;
  }

 private:
  Catalogue& catalogue() { return listed_->catalogue; }
  std::uint32_t tenant(const std::string& name) { return named(catalogue().tenants, name); }
  std::uint32_t image(Reader& r) { return named(catalogue().images, r.text("image", "image-0")); }
  std::uint32_t find_function(const std::string& name) {
    return index_of(catalogue().functions, name, [](const FunctionSpec& f) { return f.name; });
  }

  void function(Reader& r) {
    FunctionSpec one;
    one.name = r.required_text("name");
    if (find_function(one.name) != catalogue().functions.size()) {
      r.fail("name", fmt::format("\"{}\" twice", one.name), "each function once");
    }
    one.tenant = tenant(r.text("tenant", first_tenant()));
    one.image = image(r);
    one.cpu_millicores = r.millicores("cpu", 0);
    one.memory_bytes = r.bytes("memory", 0);
    r.done();
    catalogue().functions.push_back(one);
  }

  void arrival(Reader& r) {
    Arrival one;
    one.at = Time{r.duration("at", {}).nanos};
    if (r.has("call")) {
      call(r, one);
    } else if (r.has("sandbox")) {
      sandbox(r, one);
    } else {
      r.fail("call", "nothing", "call: a function, or sandbox: a tenant");
    }
    r.done();
    listed_->arrivals.push_back(one);
  }

  void call(Reader& r, Arrival& one) {
    const std::string name = r.text("call", "");
    one.function = find_function(name);
    if (r.has("caller")) one.caller = tenant(r.text("caller", ""));
    one.service = r.duration("service", {});
    if (one.function != catalogue().functions.size()) return;
    FunctionSpec function;
    function.name = name;
    function.tenant = tenant(first_tenant());
    function.image = named(catalogue().images, "image-0");
    catalogue().functions.push_back(function);
  }

  void sandbox(Reader& r, Arrival& one) {
    one.kind = ArrivalKind::sandbox;
    one.service = r.duration("runs", {});
    one.sandbox.tenant = tenant(r.text("sandbox", ""));
    one.sandbox.image = image(r);
    one.sandbox.lifetime = r.duration("lifetime", {});
    one.sandbox.restart = r.flag("restart", false);
    one.sandbox.priority = read_priority(r, 0);
    one.sandbox.gang = read_gang(r);
    Resources& resources = one.sandbox.resources;
    resources.cpu_millicores = r.millicores("cpu", 0);
    resources.memory_bytes = r.bytes("memory", 0);
    resources.disk_bytes = r.bytes("disk", 0);
    const GpuAsk gpu = read_gpu(r, gpu_models_, replaced_);
    resources.gpus = gpu.count;
    resources.gpu_millis = gpu.count > 0 ? gpu.millis : 0;
    resources.gpu_models = gpu.models;
  }

  std::string first_tenant() {
    return catalogue().tenants.empty() ? "tenant-0" : catalogue().tenants[0];
  }

  Reader& section_;
  const std::vector<std::string>& gpu_models_;
  bool replaced_;
  std::shared_ptr<Listed> listed_ = std::make_shared<Listed>();
};

class ListedSource final : public Source {
 public:
  explicit ListedSource(std::shared_ptr<const Listed> listed) : listed_(std::move(listed)) {}
  const Catalogue& catalogue() const override { return listed_->catalogue; }
  const Arrival* peek() override { return exhausted() ? nullptr : &listed_->arrivals[next_]; }
  void pop() override { next_ += exhausted() ? 0 : 1; }
  bool exhausted() const override { return next_ == listed_->arrivals.size(); }
  double progress() const override {
    const std::size_t whole = listed_->arrivals.size();
    return whole == 0 ? 1 : static_cast<double>(next_) / static_cast<double>(whole);
  }

 private:
  std::shared_ptr<const Listed> listed_;
  std::size_t next_ = 0;
};

class RecordingSource final : public Source {
 public:
  RecordingSource(std::unique_ptr<Source> source, Listed& listed)
      : source_(std::move(source)), listed_(listed) {
    listed_.catalogue = source_->catalogue();
    listed_.arrivals.clear();
  }
  const Catalogue& catalogue() const override { return source_->catalogue(); }
  const Arrival* peek() override { return source_->peek(); }
  void pop() override {
    if (const Arrival* one = source_->peek()) listed_.arrivals.push_back(*one);
    source_->pop();
  }
  void finished(std::uint32_t client, Time now) override { source_->finished(client, now); }
  bool exhausted() const override { return source_->exhausted(); }
  double progress() const override { return source_->progress(); }

 private:
  std::unique_ptr<Source> source_;
  Listed& listed_;
};

}  // namespace

std::shared_ptr<const Listed> read_listed(Reader& section,
                                          const std::vector<std::string>& gpu_models,
                                          bool replaced) {
  return ListReader(section, gpu_models, replaced).read();
}

std::unique_ptr<Source> listed_source(std::shared_ptr<const Listed> listed) {
  return std::make_unique<ListedSource>(std::move(listed));
}

std::unique_ptr<Source> recording_source(std::unique_ptr<Source> source, Listed& listed) {
  return std::make_unique<RecordingSource>(std::move(source), listed);
}

}  // namespace chalk::sim
