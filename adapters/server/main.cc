// chalk-server: the control plane, and with --all-in-one a complete Chalk on one machine.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "adapters/agent/options.h"
#include "adapters/log/event_log.h"
#include "adapters/process/reaper.h"
#include "adapters/runtime/export_log.h"
#include "adapters/runtime/node_root.h"
#include "adapters/server/server.h"
#include "model/control/control.h"
#include "model/core/resources.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::server {
namespace {

constexpr int kReadySecondsMax = 120;

struct NodeFlags {
  std::string cpu, memory, disk;
};

// "docker.io=http://127.0.0.1:5000": asked before the registry, or with `only` instead of it.
void add_mirror(images::Registries& registries, const std::string& text) {
  const auto equals = text.find('=');
  const auto scheme = text.find("://", equals == std::string::npos ? 0 : equals);
  const std::string kind =
      scheme == std::string::npos ? "" : text.substr(equals + 1, scheme - equals - 1);
  if (equals == std::string::npos || equals == 0 || (kind != "http" && kind != "https")) {
    throw std::runtime_error("--mirror: found \"" + text +
                             "\", expected REGISTRY=http://HOST:PORT or =https://HOST");
  }
  std::string host = text.substr(scheme + 3);
  while (!host.empty() && host.back() == '/') host.pop_back();
  registries.registries[text.substr(0, equals)].mirrors.push_back({host, kind == "http"});
}

void read_shape(const NodeFlags& flags, agent::Options& node) {
  if (!flags.cpu.empty()) {
    const auto cpu = parse_cpu_millicores(flags.cpu);
    if (!cpu) throw std::runtime_error("--cpu: found \"" + flags.cpu + "\", expected 4 or 3500m");
    node.cpu_millicores = *cpu;
  }
  for (const auto& [text, option, into] :
       {std::tuple{&flags.memory, "--memory", &node.memory_bytes},
        std::tuple{&flags.disk, "--disk", &node.disk_bytes}}) {
    if (text->empty()) continue;
    const auto bytes = parse_bytes(*text);
    if (!bytes) {
      throw std::runtime_error(std::string(option) + ": found \"" + *text +
                               "\", expected bytes such as 16Gi");
    }
    *into = *bytes;
  }
}

int serve(ServerOptions& options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread begins
  std::signal(SIGPIPE, SIG_IGN);
  if (options.all_in_one) process::become_subreaper();

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
  NodeFlags flags;
  std::string registries_file, level = "info";
  std::vector<std::string> mirrors;
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
                 "PEM of the public port's certificate and its chain: serves https");
  app.add_option("--key", options.key_file, "PEM of its private key");
  app.add_option("--env-file", options.env_file,
                 "written when ready: the server and credentials of a first client, for a shell");
  app.add_flag("--share-nodes", options.share_nodes,
               "sandboxes of different environments may be on one node at the same time");
  app.add_option("--registries", registries_file, "JSON file: mirrors, credentials, plain http");
  app.add_option("--mirror", mirrors,
                 "REGISTRY=URL is asked before REGISTRY, such as "
                 "docker.io=http://127.0.0.1:5000; may be given again");
  app.add_option("--log-level", level, "debug, info, warning, error")->capture_default_str();
  app.add_flag("--all-in-one", options.all_in_one, "run a node in this process, too");
  auto* group = app.add_option_group("node", "the node of --all-in-one");
  group->add_option("--node-name", node.node_name, "for people; default: this host's name");
  group->add_option("--cpu", flags.cpu, "offered, such as 4 or 3500m; default: all");
  group->add_option("--memory", flags.memory, "offered, such as 16Gi; default: most");
  group->add_option("--disk", flags.disk, "offered for writable layers; default: half of the free");
  group->add_option("--start-slots", node.start_slots, "sandboxes that start at once")
      ->capture_default_str();
  group->add_option("--sandboxes-max", node.sandboxes_max, "sandboxes that live at once")
      ->capture_default_str();
  group->add_option("--runsc", node.runsc, "gVisor's runsc; default: beside this program or PATH");
  group->add_option("--platform", node.platform, "of gVisor: auto, systrap, kvm, ptrace")
      ->capture_default_str();
  group->add_option("--guest", node.guest, "chalk-guest; default: beside this program");
  group->add_option("--network-pool", node.network_pool, "addresses of sandboxes")
      ->capture_default_str();
  group->add_option("--network-prefix", node.network_prefix,
                    "of names of interfaces, namespaces, cgroups; one per node on a host")
      ->capture_default_str();
  group->add_option("--publish-address", node.listen_address,
                    "where published ports of sandboxes are listened on")
      ->capture_default_str();

  std::string out = ".";
  auto* exporting =
      app.add_subcommand("export-log", "write the logs in --data as files for chalk-sim replay");
  exporting->add_option("--out", out, "directory for control.log and node.log")
      ->capture_default_str();
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
    if (options.certificate_file.empty() != options.key_file.empty()) {
      throw std::runtime_error("--certificate and --key go together");
    }
    if (!registries_file.empty()) {
      auto read = images::load_registries(registries_file);
      if (!read) throw std::runtime_error("--registries: " + read.error().message);
      options.registries = std::move(*read);
    }
    for (const std::string& mirror : mirrors) add_mirror(options.registries, mirror);
    read_shape(flags, node);
    return serve(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chalk-server: %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace chalk::server

int main(int argc, char** argv) { return chalk::server::main_of(argc, argv); }
