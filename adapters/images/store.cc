#include "adapters/images/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "adapters/images/digest.h"
#include "adapters/images/layer_record.h"
#include "adapters/images/room.h"
#include "adapters/images/tree.h"

namespace chalk::images {
namespace {

struct Entry {
  LayerRecord record;
  int pins = 0;
};

// A pull under way; others who want the same layer wait for its end.
struct Flight {
  std::string source;  // whose failure it would be
  bool done = false;
  bool stopped = false;
  Result<void> result;
};

std::string source_of(const Reference& repository, const Layer& layer) {
  return repository.registry + "/" + repository.repository + "@" + layer.digest;
}

// For root alone: layers hold setuid programs of strangers, which nobody may start on the host.
Result<File> make_directory(int parent, const std::string& name) {
  if (mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST)
    return system_error("make directory " + name, errno);
  File directory = open_directory(parent, name);
  if (!directory || fchmod(directory.get(), 0700) != 0)
    return system_error("open directory " + name, errno);
  return directory;
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(path, error), end; !error && at != end;
       at.increment(error))
    names.push_back(at->path().filename().string());
  return names;
}

}  // namespace

struct Store::Impl {
  StoreOptions options;
  File lock;
  File layers;
  File temporary;
  std::unique_ptr<Room> room;
  mutable std::mutex mutex;
  std::condition_variable_any ended;
  std::map<std::string, Entry> entries;  // by hex
  std::map<std::string, std::shared_ptr<Flight>> flights;
  std::uint64_t next_name = 0;  // below tmp
  std::string boot_id = read_boot_id();
  std::vector<std::string> unsynced;  // hex
  std::uint64_t failed_syncs = 0;
  std::condition_variable_any to_sync;
  std::vector<std::string> to_clean;  // names below tmp
  std::condition_variable_any cleaning;
  bool cleaning_one = false;
  std::jthread cleaner;
  std::jthread syncer;  // the last two: they end before what they use

  Result<void> load() {
    for (const std::string& name : names_in(options.root + "/tmp")) {
      next_name = std::max<std::uint64_t>(next_name, std::strtoull(name.c_str(), nullptr, 10) + 1);
      to_clean.push_back(name);
    }
    for (const std::string& hex : names_in(options.root + "/layers")) {
      const auto record =
          valid_digest("sha256:" + hex) ? read_record(layers.get(), hex, boot_id) : std::nullopt;
      // One that is not synced stays so: what failed while nobody had the file system open, or was
      // told to another, no sync of ours would hear of.
      if (record) {
        entries[hex] = {*record, 0};
      } else if (auto left = take_out(hex, temporary_name()); !left) {
        return left;
      }
    }
    cleaner = std::jthread([this](std::stop_token stop) { clean(stop); });
    syncer = std::jthread([this](std::stop_token stop) { sync_layers(stop); });
    return {};
  }

  // A sync can take seconds when others write much, so no pull waits for one. One call for all
  // files of all new layers: each on its own would cost a journal commit. The kernel tells a failure
  // once, and the next sync succeeds without what was lost. So a failure is one of all that was being
  // written by then: of layers that came meanwhile, and of those that are still unpacked.
  void sync_layers(std::stop_token stop) {
    std::unique_lock guard(mutex);
    while (to_sync.wait(guard, stop, [this] { return !unsynced.empty(); })) {
      const std::vector<std::string> now = std::exchange(unsynced, {});
      guard.unlock();
      const bool done = syncfs(layers.get()) == 0;
      guard.lock();
      if (!done) {
        ++failed_syncs;
        unsynced.clear();
        continue;
      }
      for (const std::string& hex : now) {
        // One that was removed and pulled again meanwhile is in the list again.
        if (std::ranges::find(unsynced, hex) == unsynced.end()) mark_synced(layers.get(), hex);
      }
    }
  }

  // A layer, or what is none, to where it is nobody's any more. With the mutex, but at the start.
  Result<void> take_out(const std::string& hex, const std::string& name) {
    if (renameat(layers.get(), hex.c_str(), temporary.get(), name.c_str()) != 0)
      return system_error("layers/" + hex, errno);
    to_clean.push_back(name);
    cleaning.notify_all();
    return {};
  }

  // Millions of files take minutes, which nobody waits for. What is not done at the end of the
  // process, or cannot be, the next start tries again.
  void clean(std::stop_token stop) {
    std::unique_lock guard(mutex);
    while (cleaning.wait(guard, stop, [this] { return !to_clean.empty(); })) {
      const std::string name = std::move(to_clean.back());
      to_clean.pop_back();
      cleaning_one = true;
      guard.unlock();
      static_cast<void>(remove_tree(temporary.get(), name, stop));
      guard.lock();
      cleaning_one = false;
      cleaning.notify_all();
    }
  }

  // What a pull that failed has left: gone before that is said, so that another has its room,
  // unless it is to end at once.
  void discard(const std::string& name, std::stop_token stop) {
    if (remove_tree(temporary.get(), name, stop)) return;
    const std::scoped_lock guard(mutex);
    to_clean.push_back(name);
    cleaning.notify_all();
  }

  // What is being removed gives room, so whoever lacks some waits for that.
  Result<Room::Share> reserve(std::int64_t bytes, std::stop_token stop) {
    while (true) {
      auto share = room->reserve(bytes);
      std::unique_lock guard(mutex);
      if (share || stop.stop_requested() || (!cleaning_one && to_clean.empty())) return share;
      cleaning.wait_for(guard, stop, std::chrono::milliseconds(100), [] { return false; });
    }
  }

  std::uint64_t failures_of_sync() {
    const std::scoped_lock guard(mutex);
    return failed_syncs;
  }

  std::string temporary_name() {
    const std::scoped_lock guard(mutex);
    return std::to_string(next_name++);
  }

  // Downloads and unpacks below tmp/<name>/, which the caller removes after an error.
  Result<void> fetch_into(const std::string& name, const Registry& registry,
                          const Reference& repository, const Layer& layer,
                          const Registry::Received& received, std::stop_token stop) {
    const std::uint64_t failed_before = failures_of_sync();
    const auto compression = layer_compression(layer.media_type);
    if (!compression) return std::unexpected(compression.error());
    auto share = reserve(layer.size + estimated_unpacked_bytes(layer), stop);
    if (!share) return std::unexpected(share.error());
    const auto place = make_directory(temporary.get(), name);
    if (!place) return std::unexpected(place.error());
    const File blob(openat(place->get(), "blob", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!blob) return system_error("blob", errno);
    unlinkat(place->get(), "blob", 0);  // it lives as long as its descriptor
    std::int64_t on_disk = 0;
    const auto counted = [&](std::int64_t bytes, std::int64_t total) {
      if (bytes > on_disk) static_cast<void>(share->take(bytes - on_disk, 0));  // it was reserved
      on_disk = std::max(on_disk, bytes);
      if (received) received(bytes, total);
    };
    if (auto got = registry.download(repository, layer, blob.get(), counted, stop); !got)
      return got;
    const auto root = make_directory(place->get(), "fs");
    if (!root) return std::unexpected(root.error());
    fchmod(root->get(), 0755);
    const auto unpacked = unpack_layer(blob.get(), *compression, root->get(), layer.diff_id,
                                       options.limits, stop, &*share);
    if (!unpacked) return std::unexpected(unpacked.error());
    const LayerRecord record{unpacked->bytes, unpacked->whiteouts, layer.digest};
    if (auto written = write_record(place->get(), record, boot_id); !written) return written;
    return install(name, std::string(digest_hex(layer.diff_id)), record, failed_before);
  }

  Result<void> install(const std::string& name, const std::string& hex, const LayerRecord& record,
                       std::uint64_t failed_before) {
    // The whole, so that no sync of what was there before ends in between: it would mark this.
    const std::scoped_lock guard(mutex);
    if (renameat(temporary.get(), name.c_str(), layers.get(), hex.c_str()) != 0)
      return system_error("rename to layers/" + hex, errno);
    entries[hex] = {record, 0};
    if (failed_syncs != failed_before) return {};  // it may have lost some of its bytes
    unsynced.push_back(hex);
    to_sync.notify_one();
    return {};
  }

  Result<void> fetch(const Registry& registry, const Reference& repository, const Layer& layer,
                     const Registry::Received& received, std::stop_token stop) {
    const std::string name = temporary_name();
    auto fetched = fetch_into(name, registry, repository, layer, received, stop);
    if (!fetched) {
      fetched.error().message =
          to_string(repository) + ": layer " + layer.digest + ": " + fetched.error().message;
      discard(name, stop);
    }
    return fetched;
  }
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::open(StoreOptions options) {
  std::error_code error;
  std::filesystem::create_directories(options.root, error);
  char resolved[PATH_MAX];
  if (error || !realpath(options.root.c_str(), resolved))
    return fail(Error::Kind::failed, options.root + ": cannot be made: " +
                                         (error ? error.message() : std::strerror(errno)));
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  impl->options.root = resolved;
  impl->options.parallel_layers = std::clamp(impl->options.parallel_layers, 1, 64);
  const std::string& root = impl->options.root;
  const File top(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!top) return system_error(root, errno);
  impl->lock = File(openat(top.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!impl->lock) return system_error(root + "/lock", errno);
  if (flock(impl->lock.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Error::Kind::unavailable, root + ": another process uses this store");
  for (auto [name, to] : {std::pair{"layers", &impl->layers}, {"tmp", &impl->temporary}}) {
    auto made = make_directory(top.get(), name);
    if (!made) return std::unexpected(made.error());
    *to = std::move(*made);
  }
  impl->room = std::make_unique<Room>(impl->layers.get(), impl->options.keep_free_bytes);
  if (auto loaded = impl->load(); !loaded) return std::unexpected(loaded.error());
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Result<void> Store::pull_layer(const Registry& registry, const Reference& repository,
                               const Layer& layer, const Registry::Received& received,
                               std::stop_token stop) {
  if (!valid_digest(layer.diff_id))
    return fail(Error::Kind::invalid, to_string(repository) + ": a layer without a diff id");
  const std::string hex(digest_hex(layer.diff_id));
  const std::string source = source_of(repository, layer);
  std::unique_lock lock(impl_->mutex);
  while (true) {
    if (impl_->entries.contains(hex)) return {};
    const auto found = impl_->flights.find(hex);
    if (found == impl_->flights.end()) break;
    const std::shared_ptr<Flight> flight = found->second;
    if (!impl_->ended.wait(lock, stop, [&] { return flight->done; }))
      return fail(Error::Kind::unavailable, to_string(repository) + ": stopped");
    // Its failure is ours too, unless it was another registry's or its own caller's wish.
    if (!flight->result && !flight->stopped && flight->source == source) return flight->result;
  }
  const auto flight = std::make_shared<Flight>();
  flight->source = source;
  impl_->flights[hex] = flight;
  lock.unlock();
  auto result = impl_->fetch(registry, repository, layer, received, stop);
  lock.lock();
  flight->result = result;
  flight->stopped = stop.stop_requested();
  flight->done = true;
  impl_->flights.erase(hex);
  impl_->ended.notify_all();
  return result;
}

Result<void> Store::pull(const Registry& registry, const Image& image, const Progressed& progressed,
                         std::stop_token stop) {
  std::stop_source ours;  // the first failure stops the other layers
  const std::stop_callback passed_on(stop, [&] { ours.request_stop(); });
  std::mutex mutex;
  Progress progress{0, image.layers.size(), 0, transfer_bytes(image)};
  std::vector<std::int64_t> received(image.layers.size(), 0);
  auto told = std::chrono::steady_clock::now();
  Result<void> result;
  std::atomic<std::size_t> next = 0;
  const auto report = [&](std::size_t layer, std::int64_t bytes, bool done) {
    const std::scoped_lock guard(mutex);
    progress.bytes_received += bytes - received[layer];
    received[layer] = bytes;
    if (done) ++progress.layers_done;
    const auto now = std::chrono::steady_clock::now();
    if (!progressed || (!done && now - told < std::chrono::milliseconds(250))) return;
    told = now;
    progressed(progress);
  };
  const auto work = [&] {
    for (std::size_t i = next++; i < image.layers.size(); i = next++) {
      const Layer& layer = image.layers[i];
      const auto pulled = pull_layer(
          registry, image.reference, layer,
          [&](std::int64_t bytes, std::int64_t) { report(i, bytes, false); }, ours.get_token());
      if (pulled) {
        report(i, layer.size, true);
        continue;
      }
      const std::scoped_lock guard(mutex);
      if (result) result = pulled;
      ours.request_stop();
      return;
    }
  };
  {
    std::vector<std::jthread> threads;
    const auto count =
        std::min(static_cast<std::size_t>(impl_->options.parallel_layers), image.layers.size());
    for (std::size_t i = 1; i < count; ++i) threads.emplace_back(work);
    work();
  }
  return result;
}

bool Store::has(const std::string& diff_id) const { return find(diff_id).has_value(); }

bool Store::has(const Image& image) const {
  return std::ranges::all_of(image.layers,
                             [this](const Layer& layer) { return has(layer.diff_id); });
}

Result<StoredLayer> Store::find(const std::string& diff_id) const {
  if (!valid_digest(diff_id)) return fail(Error::Kind::not_found, "a layer needs a sha256 digest");
  const std::scoped_lock guard(impl_->mutex);
  const auto found = impl_->entries.find(std::string(digest_hex(diff_id)));
  if (found == impl_->entries.end())
    return fail(Error::Kind::not_found, "layer " + diff_id + " is not in " + impl_->options.root);
  const Entry& entry = found->second;
  return StoredLayer{diff_id, entry.record.bytes, entry.record.whiteouts, entry.pins > 0};
}

Result<std::int64_t> Store::bytes(const std::string& diff_id) const {
  const auto found = find(diff_id);
  if (!found) return std::unexpected(found.error());
  return found->bytes;
}

std::vector<StoredLayer> Store::list() const {
  const std::scoped_lock guard(impl_->mutex);
  std::vector<StoredLayer> all;
  for (const auto& [hex, entry] : impl_->entries)
    all.push_back({"sha256:" + hex, entry.record.bytes, entry.record.whiteouts, entry.pins > 0});
  return all;
}

Result<void> Store::remove(const std::string& diff_id) {
  if (auto found = find(diff_id); !found) return std::unexpected(found.error());
  const std::string hex(digest_hex(diff_id));
  const std::string name = impl_->temporary_name();
  const std::scoped_lock guard(impl_->mutex);
  const auto found = impl_->entries.find(hex);
  if (found == impl_->entries.end())
    return fail(Error::Kind::not_found, "layer " + diff_id + " is gone already");
  if (found->second.pins > 0)
    return fail(Error::Kind::denied, "layer " + diff_id + " is in use " +
                                         std::to_string(found->second.pins) + " times");
  if (auto left = impl_->take_out(hex, name); !left) return left;
  impl_->entries.erase(found);
  return {};
}

Result<void> Store::pin(const std::string& diff_id) {
  if (!valid_digest(diff_id)) return fail(Error::Kind::not_found, "a layer needs a sha256 digest");
  const std::scoped_lock guard(impl_->mutex);
  const auto found = impl_->entries.find(std::string(digest_hex(diff_id)));
  if (found == impl_->entries.end())
    return fail(Error::Kind::not_found, "layer " + diff_id + " is not in " + impl_->options.root);
  ++found->second.pins;
  return {};
}

void Store::unpin(const std::string& diff_id) {
  if (!valid_digest(diff_id)) return;
  const std::scoped_lock guard(impl_->mutex);
  const auto found = impl_->entries.find(std::string(digest_hex(diff_id)));
  if (found != impl_->entries.end() && found->second.pins > 0) --found->second.pins;
}

std::string Store::layer_path(const std::string& diff_id) const {
  return impl_->options.root + "/layers/" +
         (valid_digest(diff_id) ? std::string(digest_hex(diff_id)) : "invalid") + "/fs";
}

const std::string& Store::root() const { return impl_->options.root; }

}  // namespace chalk::images
