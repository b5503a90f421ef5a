// Read-only root file systems out of a Store's layers, one per image and shared by all its
// sandboxes. One layer is its directory itself; several are one read-only overlayfs mount at
// root/mounts/<chain>. Who uses a root says so under a name of its own (the sandbox's id), so every
// call can be repeated without harm, and a restarted agent takes its sandboxes' roots again: mounts
// outlive the process and are found at start, with the layers they hold. Writable layers are not
// made here, runsc's overlay does that; the paths given out must never be written to.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/image.h"
#include "adapters/images/store.h"

namespace chalk::images {

class Rootfs {
 public:
  // Finds existing mounts; their layers are in use until unmount_unheld. The store must outlive it.
  static Result<std::unique_ptr<Rootfs>> open(Store& store);
  ~Rootfs();  // leaves mounts as they are

  // The absolute path of a read-only root made of these layers (diff ids, the lowest first), which
  // must be in the store. Asked again by the same holder for the same layers: the same path; for
  // other layers: Error::invalid.
  Result<std::string> acquire(const std::string& holder, const std::vector<std::string>& diff_ids);
  Result<std::string> acquire(const std::string& holder, const Image& image);

  // The last holder's release unmounts. An unknown holder is fine. If the kernel says that files
  // are still open, that is Error::unavailable: the holder is gone but the mount and its layers
  // stay until unmount_unheld is called with success.
  Result<void> release(const std::string& holder);

  // After a restart, once all living sandboxes acquired theirs: unmounts the rest. Tries all, says
  // the first failure.
  Result<void> unmount_unheld();

 private:
  struct Impl;
  explicit Rootfs(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace chalk::images
