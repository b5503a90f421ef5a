#include "adapters/server/images.h"

#include <sqlite3.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "adapters/images/reference.h"
#include "adapters/images/registry.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kTagLife{60};     // a tag may move; a digest never does
constexpr std::chrono::seconds kFailureLife{2};  // who asks again at once gets the same no
constexpr std::size_t kCachedMax = 10'000;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

struct Entry {
  bool asking = false;
  std::optional<Result<KnownImage>> answer;
  Clock::time_point good_until;
};

}  // namespace

struct ImageCatalogue::State {
  Plane& plane;
  images::Registry registry;
  std::string path;
  std::unique_ptr<sqlite3, CloseDatabase> database;
  std::mutex mutex;
  std::condition_variable answered;
  std::map<std::string, Entry> entries;  // by full reference

  State(Plane& p, std::string file, images::Registries registries)
      : plane(p), registry(std::move(registries)), path(std::move(file)) {
    sqlite3* opened = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &opened,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
    database.reset(opened);
    const char* const sql =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS images "
        "(number INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE)";
    if (code != SQLITE_OK || sqlite3_exec(opened, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
      throw std::runtime_error(path + ": cannot open: " + sqlite3_errmsg(opened));
    }
  }

  Result<ImageId> number_of(const std::string& digest);
  Result<KnownImage> ask(const images::Reference& reference);
};

// One number for each digest, for ever: it is on disk before the log speaks of it.
Result<ImageId> ImageCatalogue::State::number_of(const std::string& digest) {
  const std::lock_guard lock(mutex);
  const auto broken = [&] {
    return fail(Error::Kind::failed, path + ": " + sqlite3_errmsg(database.get()));
  };
  for (const char* sql : {"INSERT OR IGNORE INTO images (digest) VALUES (?1)",
                          "SELECT number FROM images WHERE digest = ?1"}) {
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v2(database.get(), sql, -1, &raw, nullptr) != SQLITE_OK) return broken();
    const std::unique_ptr<sqlite3_stmt, CloseDatabase> statement(raw);
    sqlite3_bind_text(raw, 1, digest.data(), static_cast<int>(digest.size()), SQLITE_STATIC);
    const int code = sqlite3_step(raw);
    if (code == SQLITE_ROW) {
      return ImageId{static_cast<std::uint64_t>(sqlite3_column_int64(raw, 0))};
    }
    if (code != SQLITE_DONE) return broken();
  }
  return broken();
}

Result<KnownImage> ImageCatalogue::State::ask(const images::Reference& reference) {
  auto image = registry.resolve(reference);
  if (!image) return std::unexpected(image.error());
  const auto id = number_of(image->manifest_digest);
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
