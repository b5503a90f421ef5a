#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "sim/workload/generate.h"

namespace chalk::sim {
namespace {

// Gives each name one number, the same for the same name.
class Names {
 public:
  explicit Names(std::vector<std::string>& list) : list_(list) {}
  std::uint32_t number(const std::string& name) {
    auto [at, is_new] = numbers_.try_emplace(name, static_cast<std::uint32_t>(list_.size()));
    if (is_new) list_.push_back(name);
    return at->second;
  }
  std::vector<std::uint32_t> numbers(const std::vector<std::string>& names) {
    std::vector<std::uint32_t> out;
    for (const std::string& name : names) out.push_back(number(name));
    return out;
  }

 private:
  std::vector<std::string>& list_;
  std::map<std::string, std::uint32_t> numbers_;
};

class Merged : public Source {
 public:
  explicit Merged(std::vector<std::unique_ptr<Source>> sources) {
    Names tenants(catalogue_.tenants);
    Names images(catalogue_.images);
    Names gpus(catalogue_.gpu_models);
    std::map<std::string, std::uint32_t> function_numbers;
    for (auto& source : sources) {
      if (!source) throw std::invalid_argument("a merge of nothing");
      Part part{std::move(source)};
      const Catalogue& own = part.source->catalogue();
      part.tenants = tenants.numbers(own.tenants);
      part.images = images.numbers(own.images);
      part.gpu_models = gpus.numbers(own.gpu_models);
      for (FunctionSpec function : own.functions) {
        function.tenant = part.tenants.at(function.tenant);
        function.image = part.images.at(function.image);
        const auto number = static_cast<std::uint32_t>(catalogue_.functions.size());
        const auto [known, is_new] = function_numbers.try_emplace(function.name, number);
        if (!is_new && function.shared && catalogue_.functions[known->second].shared) {
          part.functions.push_back(known->second);
          continue;
        }
        if (!is_new) function.name += fmt::format("@{}", parts_.size());
        part.functions.push_back(number);
        catalogue_.functions.push_back(std::move(function));
      }
      for (NodeGroupSpec group : own.nodes) {
        if (group.shape.gpus > 0) {
          group.shape.gpu_model =
              static_cast<std::int32_t>(part.gpu_models.at(group.shape.gpu_model));
        }
        catalogue_.nodes.push_back(std::move(group));
      }
      parts_.push_back(std::move(part));
    }
    if (catalogue_.gpu_models.size() > kGpuModelsMax) {
      throw std::invalid_argument("merged sources name more than 32 GPU models");
    }
  }

  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override {
    if (first_ == kUnknown) choose();
    return first_ == kNone ? nullptr : &shown_;
  }
  void pop() override {
    if (!peek()) return;
    parts_[first_].source->pop();
    first_ = kUnknown;
  }
  void finished(std::uint32_t client, Time now) override {
    if (client >= clients_.size()) return;
    parts_[clients_[client].first].source->finished(clients_[client].second, now);
    first_ = kUnknown;
  }
  bool exhausted() const override {
    return std::all_of(parts_.begin(), parts_.end(),
                       [](const Part& part) { return part.source->exhausted(); });
  }
  double progress() const override {
    double least = 1;
    for (const Part& part : parts_) {
      if (!part.source->exhausted()) least = std::min(least, part.source->progress());
    }
    return least;
  }

 private:
  static constexpr std::size_t kUnknown = ~std::size_t{0};
  static constexpr std::size_t kNone = kUnknown - 1;

  struct Part {
    std::unique_ptr<Source> source;
    std::vector<std::uint32_t> tenants = {};
    std::vector<std::uint32_t> images = {};
    std::vector<std::uint32_t> gpu_models = {};
    std::vector<std::uint32_t> functions = {};
    std::map<std::uint32_t, std::uint32_t> clients = {};  // its number -> ours
  };

  void choose() {
    first_ = kNone;
    const Arrival* best = nullptr;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Arrival* next = parts_[i].source->peek();
      if (next && (!best || next->at < best->at)) {
        best = next;
        first_ = i;
      }
    }
    if (best) translate(*best, parts_[first_]);
  }

  void translate(const Arrival& from, Part& part) {
    shown_ = from;
    if (from.kind == ArrivalKind::request) {
      shown_.function = part.functions.at(from.function);
      if (from.caller != kNoClient) shown_.caller = part.tenants.at(from.caller);
    } else {
      shown_.sandbox.tenant = part.tenants.at(from.sandbox.tenant);
      shown_.sandbox.image = part.images.at(from.sandbox.image);
      shown_.sandbox.resources.gpu_models = 0;
      for (std::size_t bit = 0; bit < part.gpu_models.size(); ++bit) {
        if (from.sandbox.resources.gpu_models >> bit & 1) {
          shown_.sandbox.resources.gpu_models |= std::uint32_t{1} << part.gpu_models[bit];
        }
      }
    }
    if (from.client == kNoClient) return;
    auto [at, is_new] =
        part.clients.try_emplace(from.client, static_cast<std::uint32_t>(clients_.size()));
    if (is_new) clients_.emplace_back(&part - parts_.data(), from.client);
    shown_.client = at->second;
  }

  Catalogue catalogue_;
  std::vector<Part> parts_;
  std::vector<std::pair<std::size_t, std::uint32_t>> clients_;  // ours -> part, its number
  Arrival shown_;
  std::size_t first_ = kUnknown;
};

class CutSource : public Source {
 public:
  CutSource(std::unique_ptr<Source> source, const Cut& at) : source_(std::move(source)), cut_(at) {
    if (!source_) throw std::invalid_argument("a cut of nothing");
  }
  const Catalogue& catalogue() const override { return source_->catalogue(); }
  const Arrival* peek() override {
    if (popped_ >= cut_.arrivals_max || over_) return nullptr;
    const Arrival* next = source_->peek();
    // Later arrivals are not before this one, but a client that waits may still ask earlier.
    if (next && next->at >= cut_.before) {
      over_ = waiting_.empty();
      return nullptr;
    }
    return next;
  }
  void pop() override {
    const Arrival* next = peek();
    if (!next) return;
    last_ = next->at;
    ++popped_;
    if (next->client != kNoClient) waiting_.insert(next->client);
    source_->pop();
  }
  void finished(std::uint32_t client, Time now) override {
    source_->finished(client, now);
    waiting_.erase(client);
    if (now >= cut_.before) over_ = true;
  }
  bool exhausted() const override {
    return popped_ >= cut_.arrivals_max || over_ || source_->exhausted();
  }
  double progress() const override {
    if (exhausted()) return 1;
    double by_count = static_cast<double>(popped_) / static_cast<double>(cut_.arrivals_max);
    double by_time = static_cast<double>(last_.nanos) / static_cast<double>(cut_.before.nanos);
    return std::min(1.0, std::max({by_count, by_time, source_->progress()}));
  }

 private:
  std::unique_ptr<Source> source_;
  Cut cut_;
  std::uint64_t popped_ = 0;
  std::set<std::uint32_t> waiting_;
  Time last_;
  bool over_ = false;
};

}  // namespace

std::unique_ptr<Source> merge(std::vector<std::unique_ptr<Source>> sources) {
  return std::make_unique<Merged>(std::move(sources));
}

std::unique_ptr<Source> cut(std::unique_ptr<Source> source, const Cut& at) {
  return std::make_unique<CutSource>(std::move(source), at);
}

}  // namespace chalk::sim
