#include "adapters/server/images.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <thread>

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
  std::list<const ImageCatalogue::Gone*> waiting;  // with the one who asks
  std::stop_source stop;                           // of the ask
  bool late = false;                               // hence the stop
  Clock::time_point until;
  std::optional<Result<KnownImage>> answer;
  Clock::time_point good_until;
};

// Looks whether asks still have somebody who waits, and time.
constexpr std::chrono::milliseconds kLook{100};

}  // namespace

struct ImageCatalogue::State {
  Plane& plane;
  images::Registry registry;
  records::ImageNumbers numbers;
  const std::chrono::milliseconds patience;
  std::mutex mutex;
  std::condition_variable answered;
  std::map<std::string, Entry> entries;  // by full reference
  std::set<Entry*> asking;
  std::condition_variable_any asked;
  bool stopping = false;
  std::jthread watch;  // the last: it ends before what it looks at

  State(Plane& p, const std::string& file, images::Registries registries,
        std::chrono::milliseconds longest)
      : plane(p),
        registry(std::move(registries)),
        numbers(file),
        patience(longest),
        watch([this](std::stop_token stop) { look_after_asks(stop); }) {}

  Result<KnownImage> ask(const images::Reference& reference, std::stop_token stop);
  Result<KnownImage> ask_for_all(Entry& entry, const images::Reference& reference,
                                 std::unique_lock<std::mutex>& lock);
  void look_after_asks(std::stop_token stop);
};

// With the lock, which is given up meanwhile.
Result<KnownImage> ImageCatalogue::State::ask_for_all(Entry& entry,
                                                      const images::Reference& reference,
                                                      std::unique_lock<std::mutex>& lock) {
  entry.late = false;
  entry.stop = {};
  entry.until = Clock::now() + patience;
  if (stopping) entry.stop.request_stop();
  asking.insert(&entry);
  asked.notify_all();
  lock.unlock();
  Result<KnownImage> answer = ask(reference, entry.stop.get_token());
  lock.lock();
  asking.erase(&entry);
  if (!answer && entry.late) {
    answer = fail(Error::Kind::timeout,
                  images::to_string(reference) + ": its registry has not answered all within " +
                      std::to_string(patience.count() / 1000) + " s");
  }
  entry.answer.reset();
  // That nobody waited any more is no answer for the next.
  if (answer || entry.late || !entry.stop.stop_requested()) entry.answer = answer;
  entry.good_until = Clock::now() + (answer ? kTagLife : kFailureLife);
  answered.notify_all();
  return answer;
}

void ImageCatalogue::State::look_after_asks(std::stop_token stop) {
  std::unique_lock lock(mutex);
  while (asked.wait(lock, stop, [this] { return !asking.empty(); })) {
    const auto now = Clock::now();
    for (Entry* entry : asking) {
      entry->late = entry->late || now >= entry->until;
      const bool wanted = std::ranges::any_of(
          entry->waiting, [](const Gone* gone) { return !*gone || !(*gone)(); });
      if (entry->late || !wanted) entry->stop.request_stop();
    }
    asked.wait_for(lock, stop, kLook, [] { return false; });
  }
}

Result<KnownImage> ImageCatalogue::State::ask(const images::Reference& reference,
                                              std::stop_token stop) {
  auto image = registry.resolve(reference, stop);
  if (!image) return std::unexpected(image.error());
  const auto id = numbers.number_of(image->manifest_digest);
  if (!id) return std::unexpected(id.error());
  ImageSpec spec;
  spec.image = *id;
  for (const images::Layer& layer : image->layers) {
    spec.layers.push_back(
        {images::layer_id(layer.diff_id), layer.size, images::estimated_unpacked_bytes(layer)});
  }
  if (auto added = plane.add_image(spec); !added) return std::unexpected(added.error());
  return KnownImage{*id, std::move(*image)};
}

ImageCatalogue::ImageCatalogue(Plane& plane, const std::string& path,
                               images::Registries registries, std::chrono::milliseconds patience)
    : state_(std::make_unique<State>(plane, path, std::move(registries), patience)) {}
ImageCatalogue::~ImageCatalogue() = default;

void ImageCatalogue::stop() {
  const std::lock_guard lock(state_->mutex);
  state_->stopping = true;
  for (Entry* entry : state_->asking) entry->stop.request_stop();
  state_->answered.notify_all();
}

Result<KnownImage> ImageCatalogue::resolve(const std::string& text, const Gone& gone) {
  const auto reference = images::parse_reference(text);
  if (!reference) return std::unexpected(reference.error());
  const std::string name = images::to_string(*reference);
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.entries.size() >= kCachedMax) {
    std::erase_if(s.entries, [](const auto& one) {
      return one.second.waiting.empty();
    });
  }
  Entry& entry = s.entries[name];
  const auto place = entry.waiting.insert(entry.waiting.end(), &gone);
  Result<KnownImage> answer;
  while (true) {
    if (entry.answer && Clock::now() < entry.good_until) {
      answer = *entry.answer;
      break;
    }
    if (s.stopping || (gone && gone())) {
      answer = fail(Error::Kind::unavailable, name + ": the call or the server ends");
      break;
    }
    if (!s.asking.contains(&entry)) {
      answer = s.ask_for_all(entry, *reference, lock);
      break;
    }
    s.answered.wait_for(lock, kLook);  // somebody asks already
  }
  entry.waiting.erase(place);
  return answer;
}

}  // namespace chalk::server
