// chalk compute cp: files between here and a sandbox. What a sandbox names is not trusted: no name
// leads out of the directory that is copied to, and nothing is written through a symbolic link.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>

#include "adapters/cli/below.h"
#include "adapters/cli/client.h"
#include "adapters/cli/command.h"
#include "adapters/cli/output.h"
#include "adapters/cli/remote_file.h"
#include "adapters/cli/text.h"

namespace chalk::cli {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kPiece = 256 * 1024;

struct CopyFlags {
  std::string from, to;
  bool recursive = false;
};

struct Copied {
  std::int64_t files = 0, bytes = 0, skipped = 0;
  std::int64_t nameless = 0;  // of the skipped: their names are no UTF-8, which a call cannot carry
};

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ > 2) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

[[noreturn]] void local_failed(const std::string& path) {
  throw Stop(harmless(path) + ": " + std::strerror(errno));
}

std::string octal(unsigned mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%o", mode & 0777);
  return text.data();
}

std::string last_part(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return name.empty() ? fs::path(path).parent_path().filename().string() : name;
}

class Copy {
 public:
  Copy(const Client& client, const CopyFlags& flags) : client_(client), flags_(flags) {}

  Copied up(const Place& to);
  Copied down(const Place& from);

 private:
  void write_remote(const std::string& sandbox, const std::string& local, const std::string& path);
  void read_remote(const std::string& sandbox, const std::string& path, int directory,
                   const std::string& name, std::int64_t mode);
  void tree_up(const std::string& sandbox, const std::string& root);
  void tree_down(const Place& from, const std::string& root);
  std::string into_directory(const Place& to) const;
  bool has_name(const std::string& path);  // one that can be told; else it is left out

  const Client& client_;
  const CopyFlags& flags_;
  Copied copied_;
};

bool Copy::has_name(const std::string& path) {
  if (is_utf8(path)) return true;
  ++copied_.skipped;
  ++copied_.nameless;
  note("chalk: left out, its name is no UTF-8: " + harmless(path));
  return false;
}

// ---- here to the sandbox

void Copy::write_remote(const std::string& sandbox, const std::string& local,
                        const std::string& path) {
  const bool standard = local == "-";
  const File file(standard ? STDIN_FILENO : open(local.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat about {};
  if (file.get() < 0 || fstat(file.get(), &about) != 0) local_failed(local);
  GuestCall call;
  call.sandbox = sandbox;
  call.arguments = {"write", "--parents"};
  if (S_ISREG(about.st_mode) && !standard) {
    call.arguments.insert(call.arguments.end(), {"--mode", octal(about.st_mode)});
  }
  call.arguments.insert(call.arguments.end(), {"--", path});
  call.input = [&]() -> std::string {
    std::string piece(kPiece, '\0');
    while (true) {
      const ssize_t count = read(file.get(), piece.data(), piece.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) local_failed(local);
      piece.resize(static_cast<std::size_t>(count));
      copied_.bytes += count;
      return piece;
    }
  };
  call_guest(client_, call);
  ++copied_.files;
}

// "web:/tmp" may be a directory, into which a file goes under its own name.
std::string Copy::into_directory(const Place& to) const {
  bool directory = to.path.ends_with('/');
  if (!directory) {
    try {
      directory = stat_remote(client_, to.sandbox, to.path).type == "directory";
    } catch (const GuestRefused& refused) {
      if (refused.error() != "ENOENT") throw;
    }
  }
  if (!directory) return to.path;
  if (flags_.from == "-") throw Stop("a file's name is needed after " + harmless(to.path));
  const std::string name = last_part(flags_.from);
  if (!is_utf8(name)) {
    throw Stop("the name " + harmless(name) + " is no UTF-8; give another one after " +
               harmless(to.path));
  }
  return to.path + (to.path.ends_with('/') ? "" : "/") + name;
}

void Copy::tree_up(const std::string& sandbox, const std::string& root) {
  const auto make = [&](const std::string& path, const fs::path& local) {
    GuestCall call;
    call.sandbox = sandbox;
    struct stat about {};
    if (::stat(local.c_str(), &about) != 0) local_failed(local);
    call.arguments = {"mkdir", "--parents", "--mode", octal(about.st_mode), "--", path};
    call_guest(client_, call);
  };
  make(root, flags_.from);
  std::error_code error;
  auto each = fs::recursive_directory_iterator(flags_.from, error);
  for (; !error && each != fs::recursive_directory_iterator(); each.increment(error)) {
    const std::string path = root + "/" + each->path().lexically_relative(flags_.from).string();
    const auto status = each->symlink_status(error);
    if (!has_name(path)) {
      each.disable_recursion_pending();
    } else if (fs::is_directory(status)) {
      make(path, each->path());
    } else if (fs::is_regular_file(status)) {
      write_remote(sandbox, each->path().string(), path);
    } else {
      ++copied_.skipped;
      note("chalk: left out, neither a file nor a directory: " + harmless(each->path().string()));
    }
  }
  if (error) throw Stop(harmless(flags_.from) + ": " + error.message());
}

Copied Copy::up(const Place& to) {
  std::error_code error;
  if (flags_.from != "-" && fs::is_directory(flags_.from, error)) {
    if (!flags_.recursive) {
      throw Stop(harmless(flags_.from) + " is a directory; add --recursive");
    }
    tree_up(to.sandbox, into_directory(to));
  } else {
    write_remote(to.sandbox, flags_.from, into_directory(to));
  }
  return copied_;
}

// ---- the sandbox to here

// A file that is not whole yet, and what a signal that ends us finds of it.
class Unfinished {
 public:
  Unfinished(int directory, const std::string& name) {
    std::snprintf(name_.data(), name_.size(), "%s", name.c_str());
    directory_ = directory;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction before {};
      if (sigaction(signal, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) continue;
      struct sigaction remove {};
      remove.sa_handler = [](int number) {
        if (directory_ >= 0) unlinkat(directory_, name_.data(), 0);
        ::raise(number);  // by which it ends as without us
      };
      remove.sa_flags = static_cast<int>(SA_RESETHAND);
      sigaction(signal, &remove, nullptr);
    }
  }
  ~Unfinished() { directory_ = -1; }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

 private:
  static inline std::array<char, 64> name_;
  static inline std::atomic<int> directory_ = -1;
};

// Written beside it and renamed, so that half a file never has its name.
void Copy::read_remote(const std::string& sandbox, const std::string& path, int directory,
                       const std::string& name, std::int64_t mode) {
  const std::string fresh = ".chalk-copy-" + std::to_string(getpid());
  const Unfinished unfinished(directory, fresh);
  const File file(openat(directory, fresh.c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.get() < 0) local_failed(name);
  try {
    GuestCall call;
    call.sandbox = sandbox;
    call.arguments = {"read", "--", path};
    call.output = [&](std::string_view piece) {
      copied_.bytes += static_cast<std::int64_t>(piece.size());
      while (!piece.empty()) {
        const ssize_t wrote = write(file.get(), piece.data(), piece.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) local_failed(name);
        piece.remove_prefix(static_cast<std::size_t>(wrote));
      }
    };
    call_guest(client_, call);
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(file.get(), static_cast<mode_t>(mode & 0777) & ~mask) != 0 ||
        renameat(directory, fresh.c_str(), directory, name.c_str()) != 0) {
      local_failed(name);
    }
  } catch (...) {
    unlinkat(directory, fresh.c_str(), 0);
    throw;
  }
  ++copied_.files;
}

// The directory of a relative name below `root`, opened part by part and never through a link.
int open_below(int root, const fs::path& relative) {
  int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
  for (const fs::path& part : relative) {
    if (mkdirat(at, part.c_str(), 0777) != 0 && errno != EEXIST) local_failed(relative);
    const int next = openat(at, part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const int error = errno;
    close(at);
    errno = error;
    if (next < 0) local_failed(relative);
    at = next;
  }
  return at;
}

void Copy::tree_down(const Place& from, const std::string& root) {
  if (mkdir(root.c_str(), 0777) != 0 && errno != EEXIST) local_failed(root);
  const File top(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (top.get() < 0) local_failed(root);
  for (const json& line :
       guest_lines(client_, from.sandbox, {"list", "--recursive", "--", from.path})) {
    if (line.contains("truncated")) throw Stop("too many files in " + harmless(from.path));
    const RemoteEntry entry = to_entry(line);
    const fs::path relative(entry.name);
    if (!lies_below(entry.name)) throw Stop("the sandbox named a file \"" + harmless(entry.name) + "\"");
    if (!entry.error.empty()) {
      throw Stop(harmless(entry.name) + " cannot be read there: " + harmless(entry.error));
    }
    if (!has_name(entry.name)) continue;
    if (entry.type == "directory") {
      const File made(open_below(top.get(), relative));
    } else if (entry.type == "file") {
      const File parent(open_below(top.get(), relative.parent_path()));
      read_remote(from.sandbox, from.path + "/" + entry.name, parent.get(),
                  relative.filename().string(), entry.mode);
    } else {
      ++copied_.skipped;
      note("chalk: left out, neither a file nor a directory: " + harmless(entry.name));
    }
  }
}

Copied Copy::down(const Place& from) {
  std::error_code error;
  if (flags_.to == "-") {
    GuestCall call;
    call.sandbox = from.sandbox;
    call.arguments = {"read", "--", from.path};
    call.output = [&](std::string_view piece) {
      copied_.bytes += static_cast<std::int64_t>(piece.size());
      print(piece);
    };
    call_guest(client_, call);
    ++copied_.files;
    return copied_;
  }
  const RemoteEntry entry = stat_remote(client_, from.sandbox, from.path);
  fs::path target(flags_.to);
  if (fs::is_directory(target, error) || flags_.to.ends_with('/')) {
    target /= last_part(from.path);
  }
  if (entry.type == "directory") {
    if (!flags_.recursive) throw Stop(harmless(from.path) + " is a directory; add --recursive");
    tree_down(from, target.string());
    return copied_;
  }
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  const File directory(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) local_failed(folder);
  read_remote(from.sandbox, from.path, directory.get(), target.filename().string(), entry.mode);
  return copied_;
}

int copy(const CopyFlags& flags, bool as_json) {
  const Place from = parse_place(flags.from), to = parse_place(flags.to);
  for (const Place* place : {&from, &to}) {
    if (!place->sandbox.empty() && !(is_utf8(place->sandbox) && is_utf8(place->path))) {
      throw Stop("found \"" + harmless(place->sandbox + ":" + place->path) + "\", expected UTF-8");
    }
  }
  if (from.sandbox.empty() == to.sandbox.empty()) {
    throw Stop(from.sandbox.empty()
                   ? "one of both must be in a sandbox, such as web:/tmp/file"
                   : "from one sandbox to another: copy it here first");
  }
  const Client client = Client::from_environment();
  Copy work(client, flags);
  const Copied copied = to.sandbox.empty() ? work.down(from) : work.up(to);
  if (as_json) {
    const std::string text =
        json{{"files", copied.files}, {"bytes", copied.bytes}, {"skipped", copied.skipped}}.dump();
    if (flags.to == "-") {
      note(text);
    } else {
      print(text + "\n");
    }
  } else if (is_terminal(STDERR_FILENO) && flags.to != "-") {
    note(std::to_string(copied.files) + (copied.files == 1 ? " file, " : " files, ") +
         bytes_short(copied.bytes));
  }
  if (copied.nameless > 0) {
    throw Stop(std::to_string(copied.nameless) + " left out whose names are no UTF-8");
  }
  return 0;
}

}  // namespace

void add_copy(CLI::App& compute, Invocation& invocation) {
  const auto flags = std::make_shared<CopyFlags>();
  CLI::App& app =
      leaf(compute, invocation, "cp", "copy files between here and a running sandbox",
           "Into a directory a file goes under its own name. - is standard input or output.\n"
           "Symbolic links and devices are left out of a directory, and what has a name that is no "
           "UTF-8:\nthen the exit status is 125.\n\nExamples:\n"
           "  chalk compute cp data.csv web:/data/\n"
           "  chalk compute cp web:/var/log/app.log .\n"
           "  chalk compute cp -r src web:/app\n\n"
           "JSON: files, bytes, skipped.\n");
  app.add_option("from", flags->from, "a path here, or SANDBOX:/path")->required();
  app.add_option("to", flags->to, "a path here, or SANDBOX:/path")->required();
  app.add_flag("-r,--recursive", flags->recursive, "a directory and all below it");
  app.callback([flags, &invocation] {
    invocation.chosen = [flags, &invocation] { return copy(*flags, invocation.json); };
  });
}

}  // namespace chalk::cli
