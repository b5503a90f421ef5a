#include "adapters/server/images.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "adapters/images/reference.h"
#include "adapters/images/registry.h"
#include "adapters/records/image_numbers.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kTagLife{60};     // a tag may move; a digest never does
constexpr std::chrono::seconds kFailureLife{2};  // who asks again at once gets the same no
constexpr std::size_t kCachedMax = 10'000;

struct Entry {
  bool asking = false;
  std::optional<Result<KnownImage>> answer;
  Clock::time_point good_until;
};

}  // namespace

struct ImageCatalogue::State {
  Plane& plane;
  images::Registry registry;
  records::ImageNumbers numbers;
  std::mutex mutex;
  std::condition_variable answered;
  std::map<std::string, Entry> entries;  // by full reference

  State(Plane& p, const std::string& file, images::Registries registries)
      : plane(p), registry(std::move(registries)), numbers(file) {}

  Result<KnownImage> ask(const images::Reference& reference);
};

Result<KnownImage> ImageCatalogue::State::ask(const images::Reference& reference) {
  auto image = registry.resolve(reference);
  if (!image) return std::unexpected(image.error());
  const auto id = numbers.number_of(image->manifest_digest);
  if (!id) return std::unexpected(id.error());
  ImageSpec spec;
  spec.image = *id;
  for (const images::Layer& layer : image->layers) {
    spec.layers.push_back(
        {images::layer_id(layer.diff_id), layer.size, images::estimated_unpacked_bytes(layer)});
  }
  plane.add_image(spec);
  return KnownImage{*id, std::move(*image)};
}

ImageCatalogue::ImageCatalogue(Plane& plane, const std::string& path,
                               images::Registries registries)
    : state_(std::make_unique<State>(plane, path, std::move(registries))) {}
ImageCatalogue::~ImageCatalogue() = default;

Result<KnownImage> ImageCatalogue::resolve(const std::string& text) {
  const auto reference = images::parse_reference(text);
  if (!reference) return std::unexpected(reference.error());
  const std::string name = images::to_string(*reference);
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.entries.size() >= kCachedMax) {
    std::erase_if(s.entries, [](const auto& one) { return !one.second.asking; });
  }
  while (true) {
    const Entry& entry = s.entries[name];
    if (entry.answer && Clock::now() < entry.good_until) return *entry.answer;
    if (!entry.asking) break;
    s.answered.wait(lock);  // somebody asks already
  }
  s.entries[name].asking = true;
  lock.unlock();
  Result<KnownImage> answer = s.ask(*reference);
  lock.lock();
  Entry& entry = s.entries[name];
  entry.asking = false;
  entry.answer = answer;
  entry.good_until = Clock::now() + (answer ? kTagLife : kFailureLife);
  s.answered.notify_all();
  return answer;
}

}  // namespace chalk::server
