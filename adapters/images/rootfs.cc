#include "adapters/images/rootfs.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "adapters/images/digest.h"
#include "adapters/images/tree.h"

namespace chalk::images {
namespace {

using Layers = std::vector<std::string>;

struct Root {
  std::string path;
  Layers layers;  // pinned
  bool mounted = false;
  std::set<std::string> holders;
};

// mountinfo writes blanks and backslashes as octal numbers.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::set<std::string> mount_points_below(const std::string& folder) {
  std::set<std::string> found;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) fields >> field;
    const std::string point = unescaped(field);
    if (point.starts_with(folder + "/")) found.insert(point);
  }
  return found;
}

// Layers that change what is seen, the lowest first. Of a layer that is there twice only the upper
// one counts (overlayfs refuses the same directory twice), and nothing counts below a layer whose
// root is opaque, which overlayfs would not honour.
Layers visible(const Store& store, const Layers& diff_ids) {
  Layers upper_first;
  std::set<std::string> seen;
  for (auto at = diff_ids.rbegin(); at != diff_ids.rend(); ++at) {
    if (seen.insert(*at).second) upper_first.push_back(*at);
    char value = 0;
    if (getxattr(store.layer_path(*at).c_str(), "trusted.overlay.opaque", &value, 1) == 1) break;
  }
  std::ranges::reverse(upper_first);
  return upper_first;
}

std::string chain_name(const Layers& layers) {
  std::string all;
  for (const std::string& layer : layers) all += layer + "\n";
  return std::string(digest_hex(sha256_digest(all)));
}

// mount(2) takes one page of options, too little for the paths of many layers. So they are symlinks
// "0", "1", ... in a folder, named relative to it by a thread that has a working directory of its
// own. The kernel resolves them once; afterwards the folder can go.
Result<void> mount_overlay(const std::string& links, std::size_t count, const std::string& target) {
  std::string options = "redirect_dir=nofollow,lowerdir=";
  for (std::size_t i = 0; i < count; ++i) options += (i ? ":" : "") + std::to_string(i);
  Result<void> result;
  std::thread([&] {
    const char* step = "unshare";
    if (unshare(CLONE_FS) == 0 && (step = "chdir", chdir(links.c_str()) == 0) &&
        (step = "mount",
         mount("overlay", target.c_str(), "overlay", MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOATIME,
               options.c_str()) == 0))
      return;
    result = fail(Error::Kind::failed, target + ": overlayfs of " + std::to_string(count) +
                                           " layers: " + step + ": " + std::strerror(errno));
  }).join();
  return result;
}

Result<void> make_links(const Store& store, const Layers& layers, const std::string& links,
                        std::size_t* count) {
  std::error_code error;
  std::filesystem::remove_all(links, error);
  std::filesystem::create_directories(links, error);
  std::vector<std::string> targets;  // the uppermost first, as overlayfs wants them
  for (auto at = layers.rbegin(); at != layers.rend(); ++at)
    targets.push_back(store.layer_path(*at));
  // overlayfs wants two; and reads a directory of the mount wrongly once a lower one is deleted, so
  // the empty one stays.
  if (targets.size() == 1) targets.push_back(store.root() + "/nothing");
  for (std::size_t i = 0; i < targets.size() && !error; ++i)
    std::filesystem::create_directory_symlink(targets[i], links + "/" + std::to_string(i), error);
  *count = targets.size();
  if (error) return fail(Error::Kind::failed, links + ": " + error.message());
  return {};
}

Result<void> write_list(const std::string& path, const Layers& layers) {
  std::ofstream file(path + ".new", std::ios::trunc);
  for (const std::string& layer : layers) file << layer << "\n";
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(path + ".new", path, error);
  if (!file || error) return fail(Error::Kind::failed, path + ": cannot be written");
  return {};
}

Layers read_list(const std::string& path) {
  Layers layers;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && layers.size() <= kMaxLayers;)
    layers.push_back(line);
  return layers;
}

}  // namespace

struct Rootfs::Impl {
  Store& store;
  std::string folder;
  std::mutex mutex;
  std::map<std::string, Root> roots;           // by chain name
  std::map<std::string, std::string> holders;  // to chain name

  Result<void> pin_all(const Layers& layers) {
    for (std::size_t i = 0; i < layers.size(); ++i)
      if (auto pinned = store.pin(layers[i]); !pinned) {
        for (std::size_t j = 0; j < i; ++j) store.unpin(layers[j]);
        return pinned;
      }
    return {};
  }
  void unpin_all(const Layers& layers) {
    for (const std::string& layer : layers) store.unpin(layer);
  }

  // Takes over what an earlier process mounted; unmounts what makes no sense any more.
  Result<void> find_mounts() {
    const std::set<std::string> mounted = mount_points_below(folder);
    for (const std::string& path : mounted) {
      const std::string chain = path.substr(folder.size() + 1);
      Layers layers = read_list(path + ".layers");
      if (!layers.empty() && chain_name(layers) == chain && pin_all(layers)) {
        roots[chain] = Root{path, std::move(layers), true, {}};
        continue;
      }
      if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        return system_error(path + ": unmount", errno);
    }
    std::error_code error;
    std::vector<std::filesystem::path> stale;
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
         at.increment(error)) {
      const std::string name = at->path().filename().string();
      if (!roots.contains(name.substr(0, name.find('.')))) stale.push_back(at->path());
    }
    for (const std::filesystem::path& path : stale) std::filesystem::remove_all(path, error);
    return {};
  }

  Result<void> mount_root(const std::string& chain, Root& root) {
    root.path = folder + "/" + chain;
    const std::string links = root.path + ".links";
    std::size_t count = 0;
    std::error_code error;
    std::filesystem::create_directory(root.path, error);
    if (error) return fail(Error::Kind::failed, root.path + ": " + error.message());
    if (auto written = write_list(root.path + ".layers", root.layers); !written) return written;
    auto done = make_links(store, root.layers, links, &count);
    if (done) done = mount_overlay(links, count, root.path);
    std::filesystem::remove_all(links, error);
    root.mounted = done.has_value();
    if (!done) forget_files(root);
    return done;
  }

  static void forget_files(const Root& root) {
    rmdir(root.path.c_str());
    unlink((root.path + ".layers").c_str());
  }

  // For a root without holders.
  Result<void> drop(const std::string& chain) {
    Root& root = roots.at(chain);
    if (root.mounted) {
      if (umount2(root.path.c_str(), UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
        if (errno == EBUSY)
          return fail(Error::Kind::unavailable, root.path + ": files are still open");
        return system_error(root.path + ": unmount", errno);
      }
      forget_files(root);
    }
    unpin_all(root.layers);
    roots.erase(chain);
    return {};
  }
};

Rootfs::Rootfs(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Rootfs::~Rootfs() {
  for (auto& [chain, root] : impl_->roots) impl_->unpin_all(root.layers);
}

Result<std::unique_ptr<Rootfs>> Rootfs::open(Store& store) {
  auto impl = std::unique_ptr<Impl>(new Impl{store, store.root() + "/mounts", {}, {}, {}});
  std::error_code error;
  std::filesystem::create_directories(impl->folder, error);
  if (!error) std::filesystem::create_directory(store.root() + "/nothing", error);
  // As in the store: setuid programs of strangers are not for the host's users.
  if (!error) std::filesystem::permissions(impl->folder, std::filesystem::perms::owner_all, error);
  if (error) return fail(Error::Kind::failed, impl->folder + ": " + error.message());
  if (auto found = impl->find_mounts(); !found) return std::unexpected(found.error());
  return std::unique_ptr<Rootfs>(new Rootfs(std::move(impl)));
}

Result<std::string> Rootfs::acquire(const std::string& holder,
                                    const std::vector<std::string>& diff_ids) {
  if (diff_ids.empty() || diff_ids.size() > kMaxLayers)
    return fail(Error::Kind::invalid,
                "a root of " + std::to_string(diff_ids.size()) + " layers, expected 1 to 127");
  for (const std::string& diff_id : diff_ids)
    if (auto found = impl_->store.find(diff_id); !found) return std::unexpected(found.error());
  const Layers layers = visible(impl_->store, diff_ids);
  const std::string chain = chain_name(layers);
  const std::scoped_lock guard(impl_->mutex);
  if (const auto held = impl_->holders.find(holder); held != impl_->holders.end()) {
    if (held->second == chain) return impl_->roots.at(chain).path;
    return fail(Error::Kind::invalid, holder + " holds the root of another image");
  }
  auto found = impl_->roots.find(chain);
  if (found == impl_->roots.end()) {
    Root root;
    root.layers = layers;
    if (auto pinned = impl_->pin_all(layers); !pinned) return std::unexpected(pinned.error());
    // Whiteouts mean something to overlayfs only.
    const auto lowest = impl_->store.find(layers.front());
    if (layers.size() == 1 && lowest && lowest->whiteouts == 0) {
      root.path = impl_->store.layer_path(layers.front());
    } else if (auto mounted = impl_->mount_root(chain, root); !mounted) {
      impl_->unpin_all(layers);
      return std::unexpected(mounted.error());
    }
    found = impl_->roots.emplace(chain, std::move(root)).first;
  }
  found->second.holders.insert(holder);
  impl_->holders[holder] = chain;
  return found->second.path;
}

Result<std::string> Rootfs::acquire(const std::string& holder, const Image& image) {
  std::vector<std::string> diff_ids;
  for (const Layer& layer : image.layers) diff_ids.push_back(layer.diff_id);
  return acquire(holder, diff_ids);
}

Result<void> Rootfs::release(const std::string& holder) {
  const std::scoped_lock guard(impl_->mutex);
  const auto held = impl_->holders.find(holder);
  if (held == impl_->holders.end()) return {};
  const std::string chain = held->second;
  impl_->holders.erase(held);
  Root& root = impl_->roots.at(chain);
  root.holders.erase(holder);
  if (!root.holders.empty()) return {};
  return impl_->drop(chain);
}

Result<void> Rootfs::unmount_unheld() {
  const std::scoped_lock guard(impl_->mutex);
  std::vector<std::string> unheld;
  for (const auto& [chain, root] : impl_->roots)
    if (root.holders.empty()) unheld.push_back(chain);
  Result<void> first;
  for (const std::string& chain : unheld)
    if (auto dropped = impl_->drop(chain); !dropped && first) first = dropped;
  return first;
}

}  // namespace chalk::images
