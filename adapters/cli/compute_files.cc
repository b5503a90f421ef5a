// chalk compute files: the files of a running sandbox.
#include <atomic>
#include <csignal>
#include <memory>

#include "adapters/cli/client.h"
#include "adapters/cli/command.h"
#include "adapters/cli/output.h"
#include "adapters/cli/remote_file.h"
#include "adapters/cli/signals.h"
#include "adapters/cli/text.h"

namespace chalk::cli {
namespace {

using nlohmann::json;

struct FileFlags {
  std::string sandbox, path, to, mode;
  bool recursive = false, parents = false;
};

// "drwxr-xr-x", as ls says it.
std::string mode_text(const RemoteEntry& entry) {
  std::string text(1, entry.type == "directory" ? 'd' : entry.type == "symlink" ? 'l' : '-');
  for (int shift = 6; shift >= 0; shift -= 3) {
    const auto bits = entry.mode >> shift;
    text += (bits & 4) != 0 ? 'r' : '-';
    text += (bits & 2) != 0 ? 'w' : '-';
    text += (bits & 1) != 0 ? 'x' : '-';
  }
  return text;
}

void print_entries(const std::vector<json>& lines) {
  Table table({"MODE", "SIZE", "CHANGED", "NAME"});
  bool truncated = false;
  for (const json& line : lines) {
    if (line.contains("truncated")) {
      truncated = true;
      continue;
    }
    const RemoteEntry entry = to_entry(line);
    table.add({mode_text(entry), std::to_string(entry.size), age(entry.mtime_seconds),
               entry.name + (entry.target.empty() ? "" : " -> " + entry.target) +
                   (entry.error.empty() ? "" : " (" + entry.error + ")")});
  }
  table.print();
  if (truncated) note("chalk: there is more than was listed");
}

void print_lines(const std::vector<json>& lines, bool one) {
  if (one && lines.size() == 1) {
    print(lines[0].dump() + "\n");
  } else {
    print(json(lines).dump() + "\n");
  }
}

int list(const FileFlags& flags, bool as_json) {
  check_absolute(flags.path);
  std::vector<std::string> arguments = {"list"};
  if (flags.recursive) arguments.push_back("--recursive");
  arguments.insert(arguments.end(), {"--", flags.path});
  const auto lines = guest_lines(Client::from_environment(), flags.sandbox, arguments);
  if (as_json) {
    print_lines(lines, false);
  } else {
    print_entries(lines);
  }
  return 0;
}

int stat(const FileFlags& flags, bool as_json) {
  check_absolute(flags.path);
  const auto lines =
      guest_lines(Client::from_environment(), flags.sandbox, {"stat", "--", flags.path});
  if (as_json) {
    print_lines(lines, true);
  } else {
    print_entries(lines);
  }
  return 0;
}

int cat(const FileFlags& flags, bool as_json) {
  check_absolute(flags.path);
  std::string kept;
  GuestCall call;
  call.sandbox = flags.sandbox;
  call.arguments = {"read", "--", flags.path};
  call.output = [&](std::string_view piece) {
    if (!as_json) return print(piece);
    if (kept.size() + piece.size() > (16u << 20)) {
      throw Stop("--json holds files up to 16 MiB; leave it out");
    }
    kept += piece;
  };
  call_guest(Client::from_environment(), call);
  if (as_json) print(json{{"path", utf8(flags.path)}, {"content", utf8(kept)}}.dump() + "\n");
  return 0;
}

// A command that says nothing when it went well.
int quiet(const FileFlags& flags, std::vector<std::string> arguments,
          const std::vector<std::string>& paths, bool as_json) {
  for (const std::string& path : paths) check_absolute(path);
  arguments.push_back("--");
  arguments.insert(arguments.end(), paths.begin(), paths.end());
  GuestCall call;
  call.sandbox = flags.sandbox;
  call.arguments = arguments;
  call_guest(Client::from_environment(), call);
  if (as_json) print(json{{"path", utf8(paths.back())}}.dump() + "\n");
  return 0;
}

int watch(const FileFlags& flags, bool as_json) {
  check_absolute(flags.path);
  Signals signals;
  std::atomic<int> signalled = 0;
  const Client client = Client::from_environment();
  grpc::ClientContext context;
  client.prepare(context, std::chrono::seconds(0));
  signals.handle([&](int signal) {
    if (signal == SIGWINCH) return;
    signalled = signal;
    context.TryCancel();
  });
  std::string rest;
  GuestCall call;
  call.context = &context;
  call.sandbox = flags.sandbox;
  call.arguments = {"watch"};
  if (flags.recursive) call.arguments.push_back("--recursive");
  call.arguments.insert(call.arguments.end(), {"--", flags.path});
  call.output = [&](std::string_view piece) {
    rest += piece;
    for (auto end = rest.find('\n'); end != std::string::npos; end = rest.find('\n')) {
      const auto line = json::parse(rest.substr(0, end), nullptr, false);
      rest.erase(0, end + 1);
      if (!line.is_object()) continue;
      if (as_json) {
        print(line.dump() + "\n");
        continue;
      }
      const auto word = [&](const char* key) {
        return line.contains(key) && line[key].is_string() ? line[key].get<std::string>() : "";
      };
      print(harmless(word("event")) + "  " + harmless(word("name")) +
            (word("from").empty() ? "" : "  from " + harmless(word("from"))) + "\n");
    }
    if (rest.size() > (1u << 20)) throw Stop("the sandbox said a line longer than 1 MiB");
  };
  try {
    call_guest(client, call);
  } catch (const Stop&) {
    signals.handle({});
    if (signalled != 0) return kSignalled + signalled;
    throw;
  }
  signals.handle({});
  return 0;
}

using Work = int (*)(const FileFlags&, bool);

CLI::App& file_leaf(CLI::App& files, Invocation& invocation, const std::string& name,
                    const std::string& description, const std::string& more,
                    const std::shared_ptr<FileFlags>& flags, Work work) {
  CLI::App& app = leaf(files, invocation, name, description, more);
  app.add_option("sandbox", flags->sandbox, "its id or name")->required();
  app.add_option("path", flags->path, "absolute path in the sandbox")->required();
  app.callback([flags, work, &invocation] {
    invocation.chosen = [flags, work, &invocation] { return work(*flags, invocation.json); };
  });
  return app;
}

}  // namespace

void add_files(CLI::App& compute, Invocation& invocation) {
  CLI::App& files = group(compute, "files", "the files of a running sandbox");
  const auto flags = std::make_shared<FileFlags>();
  const std::string keys = "JSON: name, type, size, mode, mtime_ns, uid, gid, and target of a "
                           "symlink";
  file_leaf(files, invocation, "ls", "list a directory",
            "Example:\n  chalk compute files ls web /tmp\n\n" + keys + "; a list.\n", flags, list)
      .add_flag("-r,--recursive", flags->recursive, "and all below it");
  file_leaf(files, invocation, "stat", "one file or directory",
            "Example:\n  chalk compute files stat web /etc/passwd --json\n\n" + keys + ".\n",
            flags, stat);
  file_leaf(files, invocation, "cat", "print a file",
            "Example:\n  chalk compute files cat web /etc/os-release\n\nJSON: path, content.\n",
            flags, cat);
  file_leaf(files, invocation, "rm", "remove a file or directory",
            "Example:\n  chalk compute files rm web /tmp/x --recursive\n\nJSON: path.\n", flags,
            [](const FileFlags& given, bool as_json) {
              std::vector<std::string> arguments = {"remove"};
              if (given.recursive) arguments.push_back("--recursive");
              try {
                return quiet(given, arguments, {given.path}, as_json);
              } catch (const GuestRefused& refused) {
                if (refused.error() != "ENOTEMPTY" && refused.error() != "EISDIR") throw;
                throw Stop(std::string(refused.what()) + "; add --recursive to remove all in it");
              }
            })
      .add_flag("-r,--recursive", flags->recursive, "a directory and all below it");
  file_leaf(files, invocation, "mkdir", "make a directory",
            "Example:\n  chalk compute files mkdir web /data/in -p\n\nJSON: path.\n", flags,
            [](const FileFlags& given, bool as_json) {
              std::vector<std::string> arguments = {"mkdir"};
              if (given.parents) arguments.push_back("--parents");
              return quiet(given, arguments, {given.path}, as_json);
            })
      .add_flag("-p,--parents", flags->parents, "and those above it; fine where it exists");
  file_leaf(files, invocation, "mv", "rename a file or directory",
            "Example:\n  chalk compute files mv web /tmp/a /tmp/b\n\nJSON: path, the new one.\n",
            flags,
            [](const FileFlags& given, bool as_json) {
              return quiet(given, {"rename"}, {given.path, given.to}, as_json);
            })
      .add_option("to", flags->to, "the new path")
      ->required();
  file_leaf(files, invocation, "watch", "print changes below a directory until interrupted",
            "Example:\n  chalk compute files watch web /data --recursive\n\n"
            "JSON: one object a line: event (watching first, then created, modified, removed, renamed, "
            "overflow), name,\ntype (directory, file, symlink, other; of what is gone: directory or "
            "other), from (of a renamed one).\n",
            flags, watch)
      .add_flag("-r,--recursive", flags->recursive, "and directories below it");
}

}  // namespace chalk::cli
