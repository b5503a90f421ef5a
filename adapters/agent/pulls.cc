#include "adapters/agent/pulls.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "adapters/images/layer_id.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

// What another try, or another node, would only find again.
bool is_permanent(Error::Kind kind) {
  return kind == Error::Kind::invalid || kind == Error::Kind::not_found ||
         kind == Error::Kind::denied || kind == Error::Kind::corrupt;
}

}  // namespace

Pulls::Pulls(images::Store& store, const images::Registry& registry, std::size_t threads,
             Finished finished, const Metrics& metrics)
    : store_(store),
      registry_(registry),
      finished_(std::move(finished)),
      metrics_(metrics),
      workers_(threads) {}
Pulls::~Pulls() { stop(); }

void Pulls::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_.request_stop();
    for (auto& [number, pull] : under_way_) pull.request_stop();
    removed_.notify_all();
  }
  removals_.stop();
  workers_.stop();
}

void Pulls::learn(ImageId id, const images::Image& image) {
  const std::lock_guard lock(mutex_);
  for (const images::Layer& layer : image.layers) {
    if (known_.size() >= kLayersMax) known_.erase(known_.begin());
    known_.insert_or_assign(images::layer_id(layer.diff_id), Known{image.reference, layer});
  }
  if (!id) return;
  const auto before = named_.find(id);
  if (before != named_.end()) {
    const bool other = before->second.image.reference != image.reference;
    before->second = {image, before->second.twice || other};
    return;
  }
  if (named_.size() >= kImagesMax) named_.erase(named_.begin());
  named_.emplace(id, Named{image});
}

void Pulls::pull(images::PullLayers order) {
  UnderWay::iterator place;
  {
    const std::lock_guard lock(mutex_);
    if (stop_.stop_requested()) return;  // nobody would stop it any more; it is ordered again
    place = under_way_.emplace(order.pull, std::stop_source());
  }
  workers_.run([this, place, order = std::move(order)] {
    const auto finished = fetch(order, place->second.get_token());
    if (goes_on(place)) return finished_(*finished);
    if (!stop_.stop_requested()) leave(order.layers);
  });
}

// None where it was stopped.
std::optional<images::PullFinished> Pulls::fetch(const images::PullLayers& order,
                                                 std::stop_token stop) {
  if (stop.stop_requested()) return {};
  const auto began = std::chrono::steady_clock::now();
  const auto from = subset(order, stop);
  Result<void> done;
  if (from) {
    done = store_.pull(registry_, from->image, {}, stop);
  } else {
    done = std::unexpected(from.error());
  }
  if (stop.stop_requested()) return {};
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (metrics_.observed) metrics_.observed("pull", took);
  if (done) {
    spdlog::info("pull {}: {} layers of {} in {:.3f} s", order.pull.value, order.layers.size(),
                 to_string(from->image.reference), took);
  } else {
    if (metrics_.counted) metrics_.counted("pulls_failed");
    spdlog::warn("pull {}: {} layers failed after {:.3f} s: {}", order.pull.value,
                 order.layers.size(), took, done.error().message);
  }
  node::v1::SandboxNote why;
  if (!done) why.set_detail(done.error().message);
  images::PullFinished finished{order.pull, done.has_value(), why.SerializeAsString()};
  if (done) {
    finished.took = sizes(from->image, order.layers);
  } else {
    finished.permanent = from && from->is_own && is_permanent(done.error().kind);
    finished.full = done.error().kind == Error::Kind::exhausted;
  }
  return finished;
}

// None where one is gone again already.
std::vector<std::int64_t> Pulls::sizes(const images::Image& image,
                                       const std::vector<LayerId>& layers) const {
  std::map<LayerId, std::int64_t> bytes;
  for (const images::Layer& layer : image.layers) {
    const auto taken = store_.bytes(layer.diff_id);
    if (taken) bytes[images::layer_id(layer.diff_id)] = *taken;
  }
  std::vector<std::int64_t> out;
  for (const LayerId layer : layers) {
    const auto found = bytes.find(layer);
    if (found == bytes.end()) return {};
    out.push_back(found->second);
  }
  return out;
}

// It is over. Was it wanted to the end?
bool Pulls::goes_on(UnderWay::iterator pull) {
  const std::lock_guard lock(mutex_);
  const bool wanted = !pull->second.stop_requested();
  under_way_.erase(pull);
  return wanted;
}

// Its layers leave once it has stopped: a later pull of them waits for that.
void Pulls::cancel(images::CancelPull order) {
  {
    const std::lock_guard lock(mutex_);
    const auto [from, to] = under_way_.equal_range(order.pull);
    for (auto one = from; one != to; ++one) {
      if (!one->second.request_stop()) continue;  // said before
      leaving_.insert(order.layers.begin(), order.layers.end());
    }
    removed_.notify_all();
    if (from != to) return;
  }
  evict({0, std::move(order.layers)});  // it had just come
}

// An image in name only: what the store needs to fetch these layers.
Result<Pulls::Subset> Pulls::subset(const images::PullLayers& order, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  removed_.wait(lock, [&] {
    return stop.stop_requested() ||
           std::ranges::none_of(order.layers, [&](LayerId one) { return leaving_.contains(one); });
  });
  Subset out;
  const auto named = named_.find(order.image);
  if (named != named_.end()) {
    const std::set<LayerId> wanted(order.layers.begin(), order.layers.end());
    std::set<LayerId> found;
    out.image.reference = named->second.image.reference;
    for (const images::Layer& layer : named->second.image.layers) {
      const LayerId id = images::layer_id(layer.diff_id);
      if (wanted.contains(id) && found.insert(id).second) out.image.layers.push_back(layer);
    }
    out.is_own = !named->second.twice;
    if (found == wanted) return out;
  }
  auto others = from_others(order.layers);
  if (!others) return std::unexpected(others.error());
  return Subset{std::move(*others), false};
}

// Of an image that no order has named here, or that is forgotten.
Result<images::Image> Pulls::from_others(const std::vector<LayerId>& layers) const {
  images::Image image;
  for (const LayerId id : layers) {
    const auto found = known_.find(id);
    if (found == known_.end()) {
      return fail(Error::Kind::not_found, "layer " + std::to_string(id.value) +
                                              ": no order has said yet where it comes from");
    }
    image.reference = found->second.repository;
    image.layers.push_back(found->second.layer);
  }
  return image;
}

void Pulls::evict(images::EvictLayers order) {
  {
    const std::lock_guard lock(mutex_);
    leaving_.insert(order.layers.begin(), order.layers.end());
  }
  removals_.run([this, layers = std::move(order.layers)] { leave(layers); });
}

void Pulls::leave(const std::vector<LayerId>& layers) {
  remove(layers);
  const std::lock_guard lock(mutex_);
  for (const LayerId layer : layers) leaving_.extract(layer);
  removed_.notify_all();
}

// The store alone is asked: what images say of their layers is only their word.
void Pulls::remove(const std::vector<LayerId>& layers) {
  const std::set<LayerId> gone(layers.begin(), layers.end());
  for (const images::StoredLayer& stored : store_.list()) {
    if (!gone.contains(images::layer_id(stored.diff_id))) continue;
    const auto removed = store_.remove(stored.diff_id);
    if (!removed && removed.error().kind != Error::Kind::not_found) {
      spdlog::warn("evict: {}", removed.error().message);
    }
  }
}

void Pulls::keep_only(const std::set<LayerId>& layers) {
  for (const images::StoredLayer& stored : store_.list()) {
    if (stored.in_use || layers.contains(images::layer_id(stored.diff_id))) continue;
    spdlog::info("images: removing {}, which no log knows", stored.diff_id);
    if (const auto removed = store_.remove(stored.diff_id); !removed) {
      spdlog::warn("images: {}", removed.error().message);
    }
  }
}

}  // namespace chalk::agent
