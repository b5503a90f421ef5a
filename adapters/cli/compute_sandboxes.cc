// chalk compute ls, inspect, logs, stop.
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "adapters/cli/client.h"
#include "adapters/cli/command.h"
#include "adapters/cli/logs.h"
#include "adapters/cli/output.h"
#include "adapters/cli/signals.h"
#include "adapters/cli/stop.h"
#include "adapters/cli/terminal.h"
#include "adapters/cli/text.h"

namespace chalk::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
namespace wire = chalk::sandbox::v2;

constexpr int kPage = 200;

std::string word_of(wire::SandboxStatus status) {
  switch (status) {
    case wire::SANDBOX_STATUS_PENDING: return "pending";
    case wire::SANDBOX_STATUS_RUNNING: return "running";
    case wire::SANDBOX_STATUS_SUCCEEDED: return "succeeded";
    case wire::SANDBOX_STATUS_FAILED: return "failed";
    case wire::SANDBOX_STATUS_TERMINATED: return "terminated";
    case wire::SANDBOX_STATUS_ERROR: return "error";
    case wire::SANDBOX_STATUS_SUSPENDED: return "suspended";
    default: return "unknown";
  }
}

std::string time_of(const google::protobuf::Timestamp& time) {
  return time.seconds() == 0 ? "" : rfc3339(time.seconds(), time.nanos());
}

// ---- ls

struct ListFlags {
  bool all = false;
  int limit = 1'000;
};

int list(const ListFlags& flags, bool as_json) {
  if (flags.limit < 1) throw Stop("--limit: expected 1 or more");
  const Client client = Client::from_environment();
  std::vector<wire::SandboxInfo> found;
  wire::ListSandboxesRequest request;
  if (!flags.all) {
    request.mutable_filters()->add_statuses(wire::SANDBOX_STATUS_PENDING);
    request.mutable_filters()->add_statuses(wire::SANDBOX_STATUS_RUNNING);
  }
  const auto limit = static_cast<std::size_t>(flags.limit);
  while (found.size() < limit) {
    request.set_limit(static_cast<int>(std::min<std::size_t>(kPage, limit - found.size())));
    auto response = client.call<wire::ListSandboxesRequest, wire::ListSandboxesResponse>(
        [&](auto... a) { return client.sandboxes().ListSandboxes(a...); }, request);
    for (auto& one : *response.mutable_sandboxes()) {
      if (found.size() < limit) found.push_back(std::move(one));
    }
    if (response.next_cursor().empty() || response.sandboxes().empty()) break;
    request.set_cursor(response.next_cursor());
    if (found.size() == limit) {
      note("these are the newest " + std::to_string(limit) + "; --limit shows more");
    }
  }
  if (as_json) {
    json rows = json::array();
    for (const auto& one : found) {
      rows.push_back({{"id", one.id()},
                      {"name", utf8(one.name())},
                      {"status", word_of(one.status())},
                      {"status_message", utf8(one.status_message())},
                      {"image", utf8(one.spec().image())},
                      {"created_at", time_of(one.created_at())},
                      {"finished_at", time_of(one.finished_at())},
                      {"web_url", one.web_url()}});
    }
    print(rows.dump() + "\n");
    return 0;
  }
  Table table({"ID", "NAME", "STATUS", "IMAGE", "AGE", "URL"});
  for (const auto& one : found) {
    table.add({one.id(), one.name(), word_of(one.status()), one.spec().image(),
               age(one.created_at().seconds()), one.web_url()});
  }
  table.print(2);
  return 0;
}

// ---- inspect

json to_json(const admin::v1::InspectResponse& about) {
  json timeline = json::array();
  for (const auto& entry : about.timeline()) {
    timeline.push_back({{"phase", entry.phase()},
                        {"at", rfc3339(entry.at().seconds(), entry.at().nanos())},
                        {"clock", entry.of_node() ? "node" : "server"}});
  }
  json argv = json::array();
  for (const std::string& word : about.argv()) argv.push_back(utf8(word));
  json out = {{"id", about.id()},
              {"name", utf8(about.name())},
              {"status", about.status()},
              {"status_message", utf8(about.status_message())},
              {"environment", about.environment()},
              {"node", utf8(about.node())},
              {"image", utf8(about.image())},
              {"image_digest", about.image_digest()},
              {"argv", argv},
              {"cpu_millicores", about.cpu_millicores()},
              {"memory_bytes", about.memory_bytes()},
              {"disk_bytes", about.disk_bytes()},
              {"gpus", about.gpus()},
              {"lifetime_seconds", about.lifetime_seconds()},
              {"address", about.address()},
              {"web_url", about.web_url()},
              {"created_by", utf8(about.created_by())},
              {"exit_code", nullptr},
              {"signal", nullptr},
              {"restarts", about.restarts()},
              {"last_exit", utf8(about.last_exit())},
              {"last_exit_at", time_of(about.last_exit_at())},
              {"timeline", timeline}};
  for (const char* name : {"ready", "ready_since", "ready_words"}) out[name] = nullptr;
  if (about.has_readiness()) {
    out["ready"] = about.readiness().ready();
    out["ready_since"] = time_of(about.readiness().since());
    out["ready_words"] = utf8(about.readiness().words());
  }
  if (about.ended() && (about.status() == "succeeded" || about.status() == "failed" ||
                        about.status() == "terminated") && about.ran()) {
    out["exit_code"] = about.exit_code();
    out["signal"] = about.signal();
  }
  return out;
}

void print_text(const admin::v1::InspectResponse& about) {
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) text += name + std::string(14 - name.size(), ' ') + harmless(value) + "\n";
  };
  line("Id", about.id());
  line("Name", about.name());
  text += "Status        " + coloured(about.status(), status_colour(about.status()));
  if (!about.status_message().empty()) text += " (" + harmless(about.status_message()) + ")";
  text += "\n";
  line("Environment", about.environment());
  line("Node", about.node());
  line("Image", about.image());
  line("Digest", about.image_digest());
  std::string argv;
  for (const std::string& word : about.argv()) argv += (argv.empty() ? "" : " ") + word;
  line("Command", argv);
  line("CPU", cpu_text(about.cpu_millicores()));
  line("Memory", bytes_short(about.memory_bytes()));
  if (about.disk_bytes() > 0) line("Disk", bytes_short(about.disk_bytes()));
  if (about.gpus() > 0) line("GPUs", std::to_string(about.gpus()));
  line("Lifetime", about.lifetime_seconds() > 0 ? std::to_string(about.lifetime_seconds()) + " s"
                                                : "");
  line("Address", about.address());
  line("URL", about.web_url());
  if (about.has_readiness()) {
    line("Ready", std::string(about.readiness().ready() ? "yes" : "no") + ", since " +
                      time_of(about.readiness().since()));
    line("Last answer", about.readiness().words());
  }
  if (about.restarts() > 0) {
    line("Restarts", std::to_string(about.restarts()));
    line("Last exit", about.last_exit() + " at " + time_of(about.last_exit_at()));
  }
  line("Created by", about.created_by());
  if (about.timeline_size() > 0) text += "Timeline\n";
  const auto nanos = [](const auto& entry) {
    return entry.at().seconds() * 1'000'000'000 + entry.at().nanos();
  };
  for (const auto& entry : about.timeline()) {
    std::array<char, 64> since{};
    std::snprintf(since.data(), since.size(), "%+12.3f s  ",
                  static_cast<double>(nanos(entry) - nanos(about.timeline(0))) / 1e9);
    text += std::string(since.data()) + entry.phase() + (entry.of_node() ? " (node)" : "") + "\n";
  }
  print(text);
}

int inspect(const std::vector<std::string>& names, bool as_json) {
  const Client client = Client::from_environment();
  json rows = json::array();
  bool first = true;
  for (const std::string& name : names) {
    const auto about = client.inspect(name);
    if (as_json) {
      rows.push_back(to_json(about));
      continue;
    }
    if (!first) print("\n");
    first = false;
    print_text(about);
  }
  if (as_json) print((names.size() == 1 ? rows[0] : rows).dump() + "\n");
  return 0;
}

// ---- logs

struct LogsFlags {
  std::string sandbox, tail;
  bool follow = false;
};

int logs(const LogsFlags& flags, bool as_json) {
  LogsAsk ask;
  ask.id = flags.sandbox;
  ask.follow = flags.follow;
  if (!flags.tail.empty()) {
    ask.tail_bytes = static_cast<std::uint64_t>(bytes_of("--tail", flags.tail));
  }
  SessionEnd kept;
  if (as_json) {
    if (flags.follow) throw Stop("--json and --follow do not go together");
    ask.capture = &kept;
  }
  Signals signals;
  const Client client = Client::from_environment();
  const LogsOutcome outcome = stream_logs(client, signals, ask);
  if (outcome.signal != 0) return kSignalled + outcome.signal;
  if (as_json) {
    print(json{{"stdout", utf8(kept.output)},
               {"stderr", utf8(kept.error)},
               {"truncated", kept.truncated}}
              .dump() +
          "\n");
  }
  return 0;
}

// ---- stop

struct StopFlags {
  std::vector<std::string> sandboxes;
  std::string grace = "10s";
  bool no_wait = false;
};

int stop(const StopFlags& flags, bool as_json) {
  const auto grace = flags.grace == "0" || flags.grace == "0s"
                         ? 0ms
                         : checked_duration("--grace", flags.grace);
  const auto whole = std::chrono::ceil<std::chrono::seconds>(grace);
  const Client client = Client::from_environment();
  json rows = json::array();
  std::vector<std::string> ids;
  for (const std::string& name : flags.sandboxes) ids.push_back(client.inspect(name).id());
  for (const std::string& id : ids) client.terminate(id, whole);
  for (const std::string& id : ids) {
    Progress progress;
    auto about = client.inspect(id);
    const auto until = std::chrono::steady_clock::now() + grace + 60s;
    for (auto pause = 20ms; !about.ended() && !flags.no_wait;
         pause = std::min(pause * 2, 500ms)) {
      if (std::chrono::steady_clock::now() > until) {
        throw Stop("sandbox " + id + " has been asked to end and has not within " +
                       std::to_string((grace + 60s).count() / 1000) +
                       " s; is its node connected? see chalk compute nodes",
                   kTimedOut);
      }
      progress.show("stopping " + id);
      std::this_thread::sleep_for(pause);
      about = client.inspect(id);
    }
    progress.clear();
    if (as_json) {
      rows.push_back({{"id", id}, {"status", about.status()}});
    } else {
      print(id + "\n");
    }
  }
  if (as_json) print(rows.dump() + "\n");
  return 0;
}

}  // namespace

void add_sandboxes(CLI::App& compute, Invocation& invocation) {
  const auto list_flags = std::make_shared<ListFlags>();
  CLI::App& ls = leaf(compute, invocation, "ls", "list the environment's sandboxes",
                      "Examples:\n  chalk compute ls\n  chalk compute ls --all --json\n\n"
                      "JSON: a list of id, name, status, status_message, image, created_at, "
                      "finished_at, web_url.\nstatus: pending, running, succeeded, failed, "
                      "terminated, error.\n");
  ls.add_flag("-a,--all", list_flags->all, "also those that have ended");
  ls.add_option("--limit", list_flags->limit, "at most so many, the newest")
      ->capture_default_str();
  ls.callback([list_flags, &invocation] {
    invocation.chosen = [list_flags, &invocation] { return list(*list_flags, invocation.json); };
  });

  const auto names = std::make_shared<std::vector<std::string>>();
  CLI::App& about =
      leaf(compute, invocation, "inspect", "what is known of a sandbox, and how its start went",
           "Times of the node are by the node's clock.\n\nExample:\n"
           "  chalk compute inspect web --json\n\n"
           "JSON: id, name, status, status_message, environment, node, image, image_digest, argv, "
           "cpu_millicores,\nmemory_bytes, disk_bytes, gpus, lifetime_seconds, address, web_url, "
           "created_by, exit_code, signal\n(null until it has ended), restarts, last_exit, last_exit_at, "
           "ready, ready_since,\nready_words (null without a readiness probe), timeline (phase, at, "
           "clock); a list for several sandboxes.\n");
  about.add_option("sandbox", *names, "ids or names")->required();
  about.callback([names, &invocation] {
    invocation.chosen = [names, &invocation] { return inspect(*names, invocation.json); };
  });

  const auto logs_flags = std::make_shared<LogsFlags>();
  CLI::App& log = leaf(compute, invocation, "logs",
                       "what a sandbox's main process has written",
                       "Commands run by exec are not in it. The newest 16 MiB are kept, and those "
                       "of ended sandboxes for a while.\n\nExamples:\n"
                       "  chalk compute logs web --tail 4Ki\n  chalk compute logs -f web\n\n"
                       "JSON: stdout, stderr, truncated (there was more than is kept).\n");
  log.add_option("sandbox", logs_flags->sandbox, "its id or name")->required();
  log.add_flag("-f,--follow", logs_flags->follow, "go on until the sandbox ends");
  log.add_option("--tail", logs_flags->tail, "begin with the last bytes, such as 4Ki; default: all");
  log.callback([logs_flags, &invocation] {
    invocation.chosen = [logs_flags, &invocation] { return logs(*logs_flags, invocation.json); };
  });

  const auto stop_flags = std::make_shared<StopFlags>();
  CLI::App& end = leaf(compute, invocation, "stop", "end sandboxes and wait until they have",
                       "The main process gets SIGTERM, and SIGKILL after the grace.\n\nExample:\n"
                       "  chalk compute stop web --grace 30s\n\nJSON: a list of id, status.\n");
  end.add_option("sandbox", stop_flags->sandboxes, "ids or names")->required();
  end.add_option("--grace", stop_flags->grace, "time to end by itself, such as 30s or 0")
      ->capture_default_str();
  end.add_flag("--no-wait", stop_flags->no_wait, "do not wait for the end");
  end.callback([stop_flags, &invocation] {
    invocation.chosen = [stop_flags, &invocation] { return stop(*stop_flags, invocation.json); };
  });
}

}  // namespace chalk::cli
