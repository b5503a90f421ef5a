// One inotify watch per directory. Two facts shape this file: a rename comes as two halves that
// share a number and may lie in two reads, and a directory made a moment ago may hold names
// already.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "guest/commands.h"
#include "guest/report.h"

namespace chalk::guest {
namespace {

constexpr std::int64_t kDirectories = 8192;  // watched at once, unless --max says otherwise
constexpr int kOtherHalf = 50;               // milliseconds that a rename waits for its second half
constexpr std::uint32_t kChanges = IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                   IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

class Watch {
 public:
  Watch(std::string root, bool recursive, std::int64_t most)
      : root_(std::move(root)), recursive_(recursive), most_(most) {}
  ~Watch() {
    if (inotify_ >= 0) close(inotify_);
  }

  int run() {
    inotify_ = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (inotify_ < 0) return failed(errno, "watch " + root_);
    if (!add("", false)) return failed(errno, "watch " + root_);
    if (!Line().text("event", "watching").number("directories", watched()).print()) return kFailed;
    while (!over_) {
      pollfd both[2] = {{inotify_, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
      const int ready = poll(both, 2, half_ ? kOtherHalf : -1);
      if (ready < 0 && errno != EINTR) return failed(errno, "watch " + root_);
      if (ready == 0) settle_half();
      if (ready > 0 && both[0].revents != 0) read_changes();
      if (ready > 0 && both[1].revents != 0 && input_closed()) break;
    }
    settle_half();
    return kDone;
  }

 private:
  struct Half {
    std::uint32_t cookie;
    std::string name;
    bool directory;
  };

  std::int64_t watched() const { return static_cast<std::int64_t>(names_.size()); }

  std::string place(const std::string& name) const {
    return name.empty() ? root_ : root_ + "/" + name;
  }

  static bool input_closed() {
    char ignored[256];
    const ssize_t got = ::read(STDIN_FILENO, ignored, sizeof ignored);
    return got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
  }

  // What it is now: the kernel tells only directories apart. Of what is gone no more is known.
  const char* type_of(const std::string& name, bool directory, bool gone) const {
    if (directory) return "directory";
    struct stat about;
    if (gone || lstat(place(name).c_str(), &about) != 0) return "other";
    return S_ISREG(about.st_mode) ? "file" : S_ISLNK(about.st_mode) ? "symlink" : "other";
  }

  void say(const char* event, const std::string& name, bool directory,
           const std::string& from = "") {
    const bool gone = std::string_view(event) == "removed";
    Line line;
    line.text("event", event).text("name", name).text("type", type_of(name, directory, gone));
    if (!from.empty()) line.text("from", from);
    const std::string text = line.str();
    // A write in many pieces is one change to tell.
    if (text == last_said_ && std::string_view(event) == "modified") return;
    last_said_ = text;
    if (!write_all(STDOUT_FILENO, text)) over_ = true;
  }

  void say_overflow() {
    last_said_.clear();
    if (!Line().text("event", "overflow").print()) over_ = true;
  }

  // Watches a directory and, with --recursive, those below. `fresh`: tells of what is in it
  // already.
  bool add(const std::string& name, bool fresh) {
    if (watched() >= most_) {
      say_overflow();
      return true;
    }
    const std::uint32_t flags = name.empty() ? 0 : IN_ONLYDIR | IN_DONT_FOLLOW;
    const int number = inotify_add_watch(inotify_, place(name).c_str(), kChanges | flags);
    if (number < 0) {
      // The system's own limit on watches is an overflow too; a directory that has gone is not.
      if (errno == ENOSPC && !name.empty()) say_overflow();
      return false;
    }
    names_[number] = name;
    if (!recursive_) return true;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(place(name).c_str()), closedir);
    while (const dirent* entry = directory ? readdir(directory.get()) : nullptr) {
      const std::string below = entry->d_name;
      if (below == "." || below == ".." || hidden(below)) continue;
      const std::string full = name.empty() ? below : name + "/" + below;
      struct stat about;
      if (lstat(place(full).c_str(), &about) != 0) continue;
      if (fresh) say("created", full, S_ISDIR(about.st_mode));
      if (S_ISDIR(about.st_mode)) add(full, fresh);
    }
    return true;
  }

  static bool hidden(std::string_view name) {
    const std::string_view last = name.substr(name.rfind('/') + 1);
    return last.starts_with(kReplacing) || last.starts_with(kCreating);
  }

  static bool within(const std::string& name, const std::string& folder) {
    return name == folder || name.starts_with(folder + "/");
  }

  // A directory went out of sight: so do those below it.
  void forget(const std::string& folder) {
    std::erase_if(names_, [&](const auto& entry) {
      const bool gone = !entry.second.empty() && within(entry.second, folder);
      if (gone) inotify_rm_watch(inotify_, entry.first);
      return gone;
    });
  }

  // The first half of a rename whose second never came: it left what is watched.
  void settle_half() {
    if (!half_) return;
    const Half half = *std::exchange(half_, std::nullopt);
    if (half.directory) forget(half.name);
    if (!hidden(half.name)) say("removed", half.name, half.directory);
  }

  void moved_to(std::uint32_t cookie, const std::string& name, bool directory) {
    if (half_ && half_->cookie != cookie) settle_half();
    if (!half_) {
      say("created", name, directory);
      if (directory && recursive_) add(name, true);
      return;
    }
    const std::string from = std::exchange(half_, std::nullopt)->name;
    if (hidden(from)) {
      // chalk-guest's own way to write a file.
      const bool replaced = from.substr(from.rfind('/') + 1).starts_with(kReplacing);
      say(replaced ? "modified" : "created", name, directory);
      return;
    }
    for (auto& [number, known] : names_) {
      if (directory && !known.empty() && within(known, from))
        known = name + known.substr(from.size());
    }
    say("renamed", name, directory, from);
  }

  void change(const inotify_event& event, const char* entry) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) return say_overflow();
    const auto folder = names_.find(event.wd);
    if (folder == names_.end()) return;
    if ((event.mask & IN_IGNORED) != 0) {
      names_.erase(folder);
      return;
    }
    const bool is_root = folder->second.empty() && entry[0] == '\0';
    if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0) {
      // The parent's watch tells of all others.
      if (!is_root) return;
      say("removed", "", (event.mask & IN_ISDIR) != 0);
      over_ = true;
      return;
    }
    // A directory's own change is told by its parent, under its name.
    if (entry[0] == '\0' && !is_root) return;
    const std::string name = folder->second.empty() ? entry : folder->second + "/" + entry;
    const bool directory = (event.mask & IN_ISDIR) != 0;
    if ((event.mask & IN_MOVED_TO) != 0) return moved_to(event.cookie, name, directory);
    settle_half();
    if ((event.mask & IN_MOVED_FROM) != 0) {
      half_ = {event.cookie, name, directory};
    } else if (hidden(name)) {
      return;
    } else if ((event.mask & IN_CREATE) != 0) {
      say("created", name, directory);
      if (directory && recursive_) add(name, true);
    } else if ((event.mask & IN_DELETE) != 0) {
      say("removed", name, directory);
    } else {
      say("modified", name, directory);
    }
  }

  void read_changes() {
    alignas(inotify_event) char buffer[64 * 1024];
    const ssize_t got = ::read(inotify_, buffer, sizeof buffer);
    for (ssize_t at = 0; at < got && !over_;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      change(*event, event->len > 0 ? event->name : "");
      at += static_cast<ssize_t>(sizeof(inotify_event)) + event->len;
    }
    last_said_.clear();
  }

  const std::string root_;
  const bool recursive_;
  const std::int64_t most_;
  int inotify_ = -1;
  bool over_ = false;
  std::map<int, std::string> names_;  // by watch; the root's name is empty
  std::optional<Half> half_;
  std::string last_said_;
};

}  // namespace

int watch(const Arguments& arguments) {
  return Watch(arguments.places[0], arguments.has("recursive"), arguments.get("max", kDirectories))
      .run();
}

}  // namespace chalk::guest
