#include "sim/workload/work.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <type_traits>

#include "model/core/random.h"
#include "sim/workload/sampling.h"

namespace chalk::sim {
namespace {

constexpr std::uint32_t kNamesMax = 10'000'000;
constexpr std::uint64_t kTenantDraw = 1;
constexpr std::uint64_t kImageDraw = 2;

std::vector<std::string> names(const std::string& prefix, const char* what, std::uint32_t count) {
  if (count == 0 || count > kNamesMax) {
    throw std::invalid_argument(fmt::format("{} {}s, not 1 to {}", count, what, kNamesMax));
  }
  std::vector<std::string> out;
  out.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) out.push_back(fmt::format("{}{}-{}", prefix, what, i));
  return out;
}

class RequestContent : public Content {
 public:
  RequestContent(const Requests& mix, std::uint64_t seed)
      : service_(mix.service), function_(WeightedChoice::zipf(mix.functions, mix.function_skew)) {
    if (mix.cpu_millicores < 0 || mix.memory_bytes < 0) {
      throw std::invalid_argument("a function asks for less than nothing");
    }
    catalogue_.tenants = names(mix.prefix, "tenant", mix.tenants);
    catalogue_.images = names(mix.prefix, "image", mix.images);
    WeightedChoice tenant = WeightedChoice::zipf(mix.tenants, mix.tenant_skew);
    WeightedChoice image = WeightedChoice::zipf(mix.images, mix.image_skew);
    Random tenants = Random{seed}.stream(kTenantDraw);
    Random images = Random{seed}.stream(kImageDraw);
    for (std::string& name : names(mix.prefix, "function", mix.functions)) {
      catalogue_.functions.push_back({std::move(name), tenant.pick(tenants.next()),
                                      image.pick(images.next()), mix.cpu_millicores,
                                      mix.memory_bytes, !mix.caller.empty()});
    }
    if (mix.caller.empty()) return;
    auto& all = catalogue_.tenants;
    caller_ = static_cast<std::uint32_t>(std::find(all.begin(), all.end(), mix.caller) -
                                         all.begin());
    if (caller_ == all.size()) all.push_back(mix.caller);
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  void fill(Arrival* out, std::size_t count, std::uint64_t key,
            std::uint64_t index) const override {
    bool one_function = catalogue_.functions.size() == 1;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t draw = (index + i) * 2;
      out[i].kind = ArrivalKind::request;
      out[i].caller = caller_;
      out[i].function = one_function ? 0 : function_.pick(random_at(key, draw));
      out[i].service = service_.sample(random_at(key, draw + 1));
    }
  }

 private:
  Catalogue catalogue_;
  std::uint32_t caller_ = kNoClient;
  Distribution service_;
  WeightedChoice function_;
};

class SandboxContent : public Content {
 public:
  SandboxContent(const Sandboxes& mix)
      : mix_(mix),
        shape_(weights(mix)),
        tenant_(WeightedChoice::zipf(mix.tenants, mix.tenant_skew)),
        image_(WeightedChoice::zipf(mix.images, mix.image_skew)) {
    catalogue_.tenants = names(mix.prefix, "tenant", mix.tenants);
    catalogue_.images = names(mix.prefix, "image", mix.images);
    catalogue_.gpu_models = mix.gpu_models;
    if (mix.gpu_models.size() > kGpuModelsMax) throw std::invalid_argument("too many GPU models");
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  void fill(Arrival* out, std::size_t count, std::uint64_t key,
            std::uint64_t index) const override {
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t draw = (index + i) * 5;
      out[i].kind = ArrivalKind::sandbox;
      SandboxAsk& ask = out[i].sandbox;
      ask.tenant = tenant_.pick(random_at(key, draw));
      ask.image = image_.pick(random_at(key, draw + 1));
      ask.resources = mix_.shapes[shape_.pick(random_at(key, draw + 2))].resources;
      ask.lifetime = mix_.lifetime.sample(random_at(key, draw + 3));
      ask.priority = mix_.priority;
      ask.restart = mix_.restart;
      ask.gang = mix_.gang;
      out[i].service = mix_.service.sample(random_at(key, draw + 4));
    }
  }

 private:
  static std::vector<double> weights(const Sandboxes& mix) {
    std::vector<double> out;
    for (const SandboxShape& shape : mix.shapes) {
      const Resources& r = shape.resources;
      if (std::min({r.cpu_millicores, r.memory_bytes, r.disk_bytes}) < 0 || r.gpus < 0 ||
          r.gpu_millis < 0) {
        throw std::invalid_argument("a sandbox asks for less than nothing");
      }
      out.push_back(shape.weight);
    }
    return out;
  }

  Sandboxes mix_;
  Catalogue catalogue_;
  WeightedChoice shape_;
  WeightedChoice tenant_;
  WeightedChoice image_;
};

}  // namespace

std::unique_ptr<Content> content(const Work& work, std::uint64_t seed) {
  if (const auto* requests = std::get_if<Requests>(&work)) {
    return std::make_unique<RequestContent>(*requests, seed);
  }
  return std::make_unique<SandboxContent>(std::get<Sandboxes>(work));
}

}  // namespace chalk::sim
