#include "model/images/cache.h"

#include <algorithm>

namespace chalk::images {
namespace {

// From the next peer that it may be tried at, else from the registry.
PullLayers order_of(PullId number, const Pull& pull) {
  return {number,      pull.image,  pull.bytes, pull.unpacked_bytes,
          pull.layers, pull.sources.empty() ? NodeId{} : pull.sources.front()};
}

bool waits(const CachedImage& image, SandboxId sandbox) {
  return std::find(image.waiting.begin(), image.waiting.end(), sandbox) != image.waiting.end();
}

}  // namespace

void Cache::step(Time now, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(now, one, effects); }, event);
  // Layers took more than was guessed, or those that did are let go of.
  if (config_.capacity_bytes != 0) {
    evict_at_least(state_.bytes - config_.capacity_bytes, effects);
  }
  if (state_.timers.next() == state_.wake) return;
  state_.wake = state_.timers.next();
  if (state_.wake != kNever) effects.push_back(WakeAt{state_.wake});
}

void Cache::on(Time now, const Wanted& wanted, Effects& effects) {
  const ImageId id = wanted.image.image;
  if (wanted.sandbox && state_.holds.contains(wanted.sandbox)) return;  // repeated
  auto [place, fresh] = state_.images.try_emplace(id);
  CachedImage& image = place->second;
  if (fresh) image.layers = wanted.image.layers;
  // Warm, or wished to be. One that only sandboxes wait for is not: they may let go of it.
  if (!wanted.sandbox && !fresh && (image.missing == 0 || waits(image, {}))) return;

  hold(image);  // what is here stays here while the rest is fetched
  Pull pull;
  pull.image = id;
  pull.sources = wanted.sources;
  for (const LayerSpec& layer : image.layers) {
    const auto found = state_.layers.find(layer.layer);
    if (found != state_.layers.end()) {
      if (fresh && found->second.images.insert(id).second &&
          found->second.phase == LayerPhase::pulling) {
        ++image.missing;
      }
      continue;
    }
    if (std::find(pull.layers.begin(), pull.layers.end(), layer.layer) != pull.layers.end())
      continue;
    pull.layers.push_back(layer.layer);
    pull.bytes += layer.bytes;
    pull.unpacked_bytes += layer.unpacked_bytes;
  }
  image.waiting.push_back(wanted.sandbox);
  if (wanted.sandbox) state_.holds.emplace(wanted.sandbox, id);
  if (!pull.layers.empty()) {
    if (!make_room(pull.unpacked_bytes, effects)) {
      return refuse(id, Unavailable::no_room, pull.unpacked_bytes,
                    config_.capacity_bytes - state_.bytes, {}, effects);
    }
    state_.bytes += pull.unpacked_bytes;
    for (const LayerSpec& layer : image.layers) {
      if (std::find(pull.layers.begin(), pull.layers.end(), layer.layer) == pull.layers.end())
        continue;
      const auto [made, created] = state_.layers.try_emplace(layer.layer);
      CachedLayer& one = made->second;
      one.uses += image.holders;  // once for each time that it is listed, as hold() counts
      if (!created) continue;
      one.unpacked_bytes = layer.unpacked_bytes;
      one.images.insert(id);
      state_.eviction.used(config_.eviction, config_.capacity_bytes, layer.layer,
                           layer.unpacked_bytes);
      ++image.missing;
    }
    const PullId number{state_.next_pull++};
    state_.pulls.emplace(number, std::move(pull));
    state_.line.insert(number);
    start_pulls(now, effects);
  }
  if (image.missing != 0) return;
  image.waiting.pop_back();
  if (fresh) effects.push_back(ImageChanged{id, true});
  effects.push_back(ImageReady{id, wanted.sandbox, true});
  if (!wanted.sandbox) unhold(image);
}

void Cache::on(Time now, const PullFinished& finished, Effects& effects) {
  const auto found = state_.pulls.find(finished.pull);
  if (found == state_.pulls.end() || !found->second.running) return;  // repeated
  Pull& pull = found->second;
  pull.running = false;
  --state_.pulling;
  // Others took it: what nobody uses here gives way, also below capacity.
  if (finished.full) evict_at_least(pull.unpacked_bytes, effects);
  if (finished.good) {
    const std::vector<LayerId> layers = std::move(pull.layers);
    state_.pulls.erase(found);
    learn_sizes(layers, finished.took);
    for (const LayerId layer : layers) arrived(layer, effects);
  } else if (!pull.sources.empty()) {
    next_source(finished.pull);  // a peer's word on the image itself is not taken either
  } else if (++pull.attempt < config_.attempts && !finished.permanent) {
    pull.retry_at = now + config_.retry * (1LL << std::min(pull.attempt - 1, 10u));
    state_.timers.arm(pull.retry_at, finished.pull);
  } else {
    const Pull failed = std::move(pull);
    state_.pulls.erase(found);
    give_up(failed, finished, effects);
  }
  start_pulls(now, effects);
}

void Cache::on(Time now, const LetGo& gone, Effects& effects) {
  const auto held = state_.holds.find(gone.sandbox);
  if (held == state_.holds.end()) return;
  const ImageId id = held->second;
  CachedImage& image = state_.images.at(id);
  state_.holds.erase(held);
  std::erase(image.waiting, gone.sandbox);
  unhold(image);
  if (image.missing != 0) start_pulls(now, effects);
}

void Cache::on(Time now, const Woken&, Effects& effects) {
  while (state_.timers.due(now)) {
    const auto timer = state_.timers.pop();
    const auto pull = state_.pulls.find(timer.key);
    if (pull == state_.pulls.end()) continue;
    if (pull->second.running && pull->second.give_up_at == timer.at) {
      --state_.pulling;
      effects.push_back(CancelPull{timer.key, pull->second.layers});  // or it takes from the next
      next_source(timer.key);
    } else if (pull->second.retry_at == timer.at) {
      pull->second.retry_at = kNever;
      state_.line.insert(timer.key);
    }
  }
  start_pulls(now, effects);
}

void Cache::on(Time, const Resumed&, Effects& effects) {
  for (const auto& [number, pull] : state_.pulls) {
    if (!pull.running) continue;
    effects.push_back(order_of(number, pull));
  }
}

// All of it is forgotten before anything is planned anew, so that no plan counts on what is gone.
void Cache::on(Time now, const LayersLost& lost, Effects& effects) {
  std::vector<LayerId> layers;
  std::set<ImageId> images;
  for (const LayerId id : std::set(lost.layers.begin(), lost.layers.end())) {
    const auto found = state_.layers.find(id);
    if (found == state_.layers.end() || found->second.phase != LayerPhase::present) continue;
    layers.push_back(id);
    images.insert(found->second.images.begin(), found->second.images.end());
  }
  std::vector<Wanted> again;
  for (const ImageId id : images) {
    CachedImage& image = state_.images.at(id);
    const ImageSpec spec{id, image.layers};
    if (waits(image, {})) again.push_back({spec, {}});
    for (const auto& [sandbox, held] : state_.holds) {
      if (held == id) again.push_back({spec, sandbox});
    }
  }
  for (const Wanted& one : again) {
    unhold(state_.images.at(one.image.image));
    state_.holds.erase(one.sandbox);
  }
  for (const ImageId id : images) forget(id, effects);
  drop_layers(layers);
  for (const Wanted& one : again) on(now, one, effects);
}

bool Cache::is_ready(SandboxId sandbox) const {
  const auto held = state_.holds.find(sandbox);
  return held != state_.holds.end() && state_.images.at(held->second).missing == 0;
}

// A place belongs to who waits. What nobody waits for any more goes on only while no other needs
// its place: what a start was too slow for is there for the next, and a registry that trickles is
// in nobody's way.
void Cache::start_pulls(Time now, Effects& effects) {
  while (!state_.line.empty()) {
    const PullId number = *state_.line.begin();
    if (!is_wanted(state_.pulls.at(number))) {
      stop(number, effects);
      continue;
    }
    if (state_.pulling >= config_.pulls_at_once && !stop_one_unwanted(true, effects)) return;
    state_.line.erase(number);
    Pull& pull = state_.pulls.at(number);
    pull.running = true;
    ++state_.pulling;
    if (!pull.sources.empty()) {
      const std::int64_t rate = std::max<std::int64_t>(config_.peer_bytes_per_second, 1);
      pull.give_up_at = now + config_.peer_patience + seconds(pull.bytes / rate);
      state_.timers.arm(pull.give_up_at, number);
    }
    effects.push_back(order_of(number, pull));
  }
}

// Under a number of its own, so that what the last peer may still say is not taken for the next.
void Cache::next_source(PullId number) {
  Pull pull = std::move(state_.pulls.at(number));
  state_.pulls.erase(number);
  pull.sources.erase(pull.sources.begin());
  pull.running = false;
  pull.give_up_at = kNever;
  const PullId next{state_.next_pull++};
  state_.pulls.emplace(next, std::move(pull));
  state_.line.insert(next);
}

void Cache::arrived(LayerId id, Effects& effects) {
  CachedLayer& layer = state_.layers.at(id);
  layer.phase = LayerPhase::present;
  if (layer.uses == 0) state_.eviction.released(id);
  for (const ImageId image_id : layer.images) {
    CachedImage& image = state_.images.at(image_id);
    if (--image.missing != 0) continue;
    effects.push_back(ImageChanged{image_id, true});
    const std::vector<SandboxId> waiting = std::move(image.waiting);
    image.waiting.clear();
    for (const SandboxId sandbox : waiting) {
      effects.push_back(ImageReady{image_id, sandbox, false});
      if (!sandbox) unhold(image);
    }
  }
}

// Every image that counted on one of these layers is refused to those who wait for it. What is wrong
// with one image is not said of others: they may have their layers from elsewhere.
void Cache::give_up(const Pull& pull, const PullFinished& finished, Effects& effects) {
  for (const ImageId image : images_of(pull)) {
    const bool bad = finished.permanent && image == pull.image;
    refuse(image, bad ? Unavailable::bad_image : Unavailable::pull_failed, pull.attempt,
           config_.attempts, finished.note, effects);
  }
  drop_layers(pull.layers);
}

// Who wants it again pulls it anew, under another number.
void Cache::stop(PullId number, Effects& effects) {
  const Pull pull = std::move(state_.pulls.at(number));
  state_.pulls.erase(number);
  state_.line.erase(number);
  if (pull.running) --state_.pulling;
  // One that failed once may have brought some of them.
  if (pull.running || pull.attempt > 0) effects.push_back(CancelPull{number, pull.layers});
  for (const ImageId image : images_of(pull)) forget(image, effects);
  drop_layers(pull.layers);
}

// The first that was ordered. False when all, or all that run, are waited for.
bool Cache::stop_one_unwanted(bool running, Effects& effects) {
  const auto found = std::find_if(state_.pulls.begin(), state_.pulls.end(), [&](const auto& one) {
    return (one.second.running || !running) && !is_wanted(one.second);
  });
  if (found == state_.pulls.end()) return false;
  stop(found->first, effects);
  return true;
}

bool Cache::is_wanted(const Pull& pull) const {
  return std::any_of(pull.layers.begin(), pull.layers.end(),
                     [&](LayerId id) { return state_.layers.at(id).uses != 0; });
}

// That count on one of its layers.
std::set<ImageId> Cache::images_of(const Pull& pull) const {
  std::set<ImageId> images;
  for (const LayerId id : pull.layers) {
    const CachedLayer& layer = state_.layers.at(id);
    images.insert(layer.images.begin(), layer.images.end());
  }
  return images;
}

// They do not come, or went.
void Cache::drop_layers(const std::vector<LayerId>& layers) {
  for (const LayerId id : layers) {
    state_.bytes -= state_.layers.at(id).unpacked_bytes;
    state_.layers.erase(id);
    state_.eviction.drop(id);
  }
}

// Nobody can hold an image that has never been whole, so all its holders wait and are answered.
void Cache::refuse(ImageId id, Unavailable rule, std::int64_t needed, std::int64_t limit,
                   const std::string& note, Effects& effects) {
  CachedImage& image = state_.images.at(id);
  const std::vector<SandboxId> waiting = std::move(image.waiting);
  image.waiting.clear();
  for (const SandboxId sandbox : waiting) {
    effects.push_back(ImageUnavailable{id, sandbox, rule, needed, limit, note});
    state_.holds.erase(sandbox);
    unhold(image);
  }
  forget(id, effects);
}

void Cache::hold(CachedImage& image) {
  ++image.holders;
  for (const LayerSpec& spec : image.layers) {
    const auto found = state_.layers.find(spec.layer);
    if (found == state_.layers.end()) continue;
    ++found->second.uses;
    state_.eviction.used(config_.eviction, config_.capacity_bytes, spec.layer,
                         spec.unpacked_bytes);
  }
}

void Cache::unhold(CachedImage& image) {
  --image.holders;
  for (const LayerSpec& spec : image.layers) {
    const auto found = state_.layers.find(spec.layer);
    if (found == state_.layers.end() || found->second.uses == 0) continue;
    if (--found->second.uses != 0) continue;
    state_.eviction.let_go(config_.eviction, spec.layer);
    if (found->second.phase == LayerPhase::present) state_.eviction.released(spec.layer);
  }
}

bool Cache::make_room(std::int64_t bytes, Effects& effects) {
  if (config_.capacity_bytes == 0) return true;
  // Enough, before anything is thrown away?
  std::int64_t unwanted = 0;
  for (const auto& [number, pull] : state_.pulls) {
    if (!is_wanted(pull)) unwanted += pull.unpacked_bytes;
  }
  const auto left = [&] { return config_.capacity_bytes - state_.bytes; };
  if (bytes > left() + state_.eviction.idle_bytes() + unwanted) return false;
  while (bytes > left() + state_.eviction.idle_bytes()) stop_one_unwanted(false, effects);
  evict_at_least(bytes - left(), effects);
  return true;
}

void Cache::evict(Effects& effects) {
  const LayerId id = state_.eviction.victim(config_.eviction, config_.capacity_bytes);
  const CachedLayer layer = state_.layers.at(id);
  state_.bytes -= layer.unpacked_bytes;
  state_.layers.erase(id);
  effects.push_back(EvictLayers{layer.unpacked_bytes, {id}});
  for (const ImageId image : layer.images) forget(image, effects);
}

// As far as there are layers that nobody uses.
void Cache::evict_at_least(std::int64_t bytes, Effects& effects) {
  const std::int64_t until = state_.bytes - bytes;
  while (state_.bytes > until && state_.eviction.idle_bytes() > 0) evict(effects);
}

void Cache::learn_sizes(const std::vector<LayerId>& layers, const std::vector<std::int64_t>& took) {
  constexpr std::int64_t kMost = std::int64_t{1} << 50;
  if (took.size() != layers.size()) return;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    CachedLayer& layer = state_.layers.at(layers[i]);
    const std::int64_t bytes = std::clamp<std::int64_t>(took[i], 0, kMost);
    if (bytes == layer.unpacked_bytes) continue;
    state_.bytes += bytes - layer.unpacked_bytes;
    layer.unpacked_bytes = bytes;
    state_.eviction.resized(config_.eviction, layers[i], bytes);
  }
}

// The image is no longer whole, or will not be: whoever wants it next plans anew, and nobody is to
// get it from here, also where nobody waits who would be told.
void Cache::forget(ImageId id, Effects& effects) {
  effects.push_back(ImageChanged{id, false});
  for (const LayerSpec& spec : state_.images.at(id).layers) {
    const auto found = state_.layers.find(spec.layer);
    if (found != state_.layers.end()) found->second.images.erase(id);
  }
  state_.images.erase(id);
}

}  // namespace chalk::images
