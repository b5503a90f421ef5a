// The layers that a machine holds, by diff id: root/layers/<hex>/{fs/,layer.json}. A layer is there
// completely or not at all: it is downloaded and unpacked below root/tmp and renamed. What is
// removed goes back there and is deleted by a thread of its own, with what a crash left there. The
// sync to the disk comes after the pull, not in it: a layer that was not synced when the machine
// (not the process) crashed goes at the next open, too: also one of a process that was killed before
// its sync, or one that was being written when a sync failed, until it is pulled again.
// Concurrent pulls of one layer are joined into one. Layers in use (pinned by Rootfs) cannot be
// removed. One process holds a root at a time (a lock file); within it every call is thread-safe.
// Digests are checked before they become names. A layer is shared by all images that name its diff
// id: who knows the diff id of a private layer can use it here. The folders are for root alone.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/image.h"
#include "adapters/images/registry.h"
#include "adapters/images/unpack.h"

namespace chalk::images {

struct StoreOptions {
  std::string root;  // made if missing; on a file system with xattrs that overlayfs can read
  UnpackLimits limits;
  int parallel_layers = 3;                                 // of one image
  // No pull goes below this, however many are under way; nor below a tenth of the file system's
  // inodes, or 10,000.
  std::int64_t keep_free_bytes = std::int64_t{256} << 20;
};

struct StoredLayer {
  std::string diff_id;
  std::int64_t bytes = 0;  // on disk
  std::int64_t whiteouts = 0;
  bool in_use = false;
};

// The state of one image's pull; bytes are those of the blobs as transferred.
struct Progress {
  std::size_t layers_done = 0;
  std::size_t layers = 0;
  std::int64_t bytes_received = 0;
  std::int64_t bytes = 0;
};

class Store {
 public:
  // Called from the pulling threads, one call at a time, at most some times a second per layer.
  using Progressed = std::function<void(const Progress&)>;

  // Makes the folders and begins to remove what a crash left. Error::unavailable while another
  // process has it.
  static Result<std::unique_ptr<Store>> open(StoreOptions options);
  ~Store();

  // Downloads and unpacks what is missing. Joined with a pull of the same layer that is already
  // under way; if that one was stopped by its own caller, this one goes on. Error::exhausted on a
  // full disk. After an error the layers that were complete stay, and nothing else. Blocks.
  Result<void> pull(const Registry& registry, const Image& image, const Progressed& progressed = {},
                    std::stop_token stop = {});
  Result<void> pull_layer(const Registry& registry, const Reference& repository, const Layer& layer,
                          const Registry::Received& received = {}, std::stop_token stop = {});

  // All by diff id.
  bool has(const std::string& diff_id) const;
  bool has(const Image& image) const;                            // every layer
  Result<std::int64_t> bytes(const std::string& diff_id) const;  // on disk
  Result<StoredLayer> find(const std::string& diff_id) const;
  std::vector<StoredLayer> list() const;
  // Error::not_found if it is not there, Error::denied while it is in use. Its files go later; a
  // pull that needs their room waits for that.
  Result<void> remove(const std::string& diff_id);

  // Counted. A pin keeps a layer from removal; Rootfs does this, and who wants to keep a layer
  // between pull and mount. Error::not_found if it is not there.
  Result<void> pin(const std::string& diff_id);
  void unpin(const std::string& diff_id);

  std::string layer_path(const std::string& diff_id) const;  // root/layers/<hex>/fs
  const std::string& root() const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace chalk::images
