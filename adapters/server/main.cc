// chalk-server: the control plane, and with --all-in-one a complete Chalk on one machine.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "adapters/agent/clear.h"
#include "adapters/agent/flags.h"
#include "adapters/log/event_log.h"
#include "adapters/process/precedence.h"
#include "adapters/process/reaper.h"
#include "adapters/runtime/export_log.h"
#include "adapters/runtime/node_root.h"
#include "adapters/server/server.h"
#include "model/control/control.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::server {
namespace {

constexpr int kReadySecondsMax = 120;

int serve(ServerOptions& options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread begins
  std::signal(SIGPIPE, SIG_IGN);
  if (options.all_in_one) process::become_subreaper();
  if (const std::string missing = process::take_precedence(); !missing.empty()) {
    spdlog::warn("this process does not go before its sandboxes in all: {}", missing);
  }

  Server server(options);
  spdlog::info("public port: {}   port for nodes: {}", server.url(), server.private_port());
  if (!server.wait_ready(kReadySecondsMax)) {
    throw std::runtime_error("the node of this machine did not come up within " +
                             std::to_string(kReadySecondsMax) + " s; its reasons are logged above");
  }
  std::printf("ready: %s\n", server.url().c_str());
  if (!options.env_file.empty()) {
    std::printf("credentials: source %s\n", options.env_file.c_str());
  }
  std::fflush(stdout);
  while (true) {
    const timespec second{1, 0};
    const int signal = sigtimedwait(&signals, nullptr, &second);
    if (signal > 0) {
      spdlog::info("stopping; sandboxes go on and are adopted at the next start");
      return 0;
    }
    if (server.fenced()) {
      throw std::runtime_error("another chalk-server has taken over the log: this one ends");
    }
  }
}

// Offline: the logs as files for `chalk-sim replay`.
int export_logs(const std::string& data, const std::string& out) {
  LogHeader header;
  header.commit = CHALK_COMMIT;
  int written = 0;
  std::filesystem::create_directories(out);
  const auto one = [&](auto machine, Root root, const std::string& from, const std::string& to) {
    using M = typename decltype(machine)::type;
    if (access(from.c_str(), R_OK) != 0) return;
    log::EventLog log(from, static_cast<std::int64_t>(kLogicVersion));
    const auto events = runtime::export_log<M>(log, root, to, header);
    if (!events) throw std::runtime_error(from + ": " + events.error().message);
    std::printf("%s: %llu events\n", to.c_str(), static_cast<unsigned long long>(*events));
    ++written;
  };
  one(std::type_identity<control::Control>{}, Root::control, data + "/control.db",
      out + "/control.log");
  one(std::type_identity<runtime::NodeRoot>{}, Root::node, data + "/node/node.db",
      out + "/node.log");
  one(std::type_identity<runtime::NodeRoot>{}, Root::node, data + "/node.db", out + "/node.log");
  if (written == 0) {
    throw std::runtime_error("--data " + data + ": found neither control.db nor node.db there");
  }
  return 0;
}

int main_of(int argc, char** argv) {
  CLI::App app{"chalk-server: the control plane of Chalk"};
  app.footer(
      "A complete Chalk on this machine (as root):\n"
      "  chalk-server --all-in-one --data /var/lib/chalk --listen 127.0.0.1:8080 --env-file "
      "chalk.env\n"
      "Then, in another shell:\n"
      "  . chalk.env && chalk compute run busybox -- uname -a\n");
  ServerOptions options;
  agent::Options node;
  options.node = &node;
  agent::NodeFlags flags;
  std::string level = "info";
  app.add_option("--data", options.data, "directory of logs, keys, images; made when absent");
  app.add_option("--listen", options.listen, "public ADDRESS:PORT for clients; port 0: any")
      ->capture_default_str();
  app.add_option("--private-listen", options.private_listen, "ADDRESS:PORT for nodes, mutual TLS")
      ->capture_default_str();
  app.add_option("--private-name", options.private_names,
                 "a name or address under which nodes reach this server; may be given again");
  app.add_option("--public-url", options.public_url,
                 "what clients use, where that is not --listen");
  app.add_option("--certificate", options.certificate_file,
                 "PEM of the public port's certificate and its chain: serves https, and nothing else");
  app.add_option("--key", options.key_file, "PEM of its private key");
  app.add_option("--env-file", options.env_file,
                 "written when ready: the server and credentials of a first client, for a shell");
  app.add_flag("--share-nodes", options.share_nodes,
               "sandboxes of different environments may be on one node at the same time");
  app.add_option("--log-level", level, "debug, info, warning, error")->capture_default_str();
  app.add_flag("--all-in-one", options.all_in_one, "run a node in this process, too");
  auto* group = app.add_option_group("node", "images, and the node of --all-in-one");
  agent::add_node_flags(*group, node, flags);

  std::string out = ".";
  auto* exporting =
      app.add_subcommand("export-log", "write the logs in --data as files for chalk-sim replay");
  exporting->add_option("--out", out, "directory for control.log and node.log")
      ->capture_default_str();
  // The options of this program may follow it.
  auto* clear = app.add_subcommand("clear", agent::kClearHelp)->fallthrough();
  app.set_version_flag("--version", CHALK_COMMIT);
  CLI11_PARSE(app, argc, argv);

  if (options.data.empty()) {
    std::fprintf(stderr, "chalk-server: --data DIR is needed; see --help\n");
    return 2;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("chalk-server"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(level));
  try {
    if (*exporting) return export_logs(options.data, out);
    if (*clear) {
      node.data = options.data + "/node";
      return agent::clear_command(node);
    }
    if (options.certificate_file.empty() != options.key_file.empty()) {
      throw std::runtime_error("--certificate and --key go together");
    }
    agent::read_node_flags(flags, node);
    options.registries = node.registries;
    return serve(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chalk-server: %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace chalk::server

int main(int argc, char** argv) { return chalk::server::main_of(argc, argv); }
