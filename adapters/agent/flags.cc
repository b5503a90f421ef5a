#include "adapters/agent/flags.h"

#include <CLI/CLI.hpp>
#include <stdexcept>

#include "adapters/network/address.h"
#include "model/core/resources.h"

namespace chalk::agent {
namespace {

std::int64_t bytes_of(const std::string& text, const char* option) {
  if (text.empty()) return 0;
  const auto bytes = parse_bytes(text);
  if (!bytes) {
    throw std::runtime_error(std::string(option) + ": found \"" + text +
                             "\", expected bytes such as 16Gi");
  }
  return *bytes;
}

// "docker.io=http://127.0.0.1:5000": asked before the registry itself.
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

}  // namespace

void add_node_flags(CLI::App& app, Options& options, NodeFlags& flags) {
  app.add_option("--node-name", options.node_name, "for people; default: this host's name");
  app.add_option("--cpu", flags.cpu, "offered, such as 4 or 3500m; default: all");
  app.add_option("--memory", flags.memory,
                 "offered, such as 16Gi; default: all but a tenth, at least 1Gi");
  app.add_option("--disk", flags.disk,
                 "offered for what sandboxes write; default: half of what is free");
  app.add_option("--image-cache", flags.image_cache,
                 "for unpacked layers; default: a quarter of what is free or theirs already");
  app.add_option("--start-slots", options.start_slots, "sandboxes that start at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--sandboxes-max", options.sandboxes_max, "sandboxes that live at once")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--runsc", options.runsc, "gVisor's runsc; default: beside this program or PATH");
  app.add_option("--platform", options.platform,
                 "of gVisor; auto: the one that a canary is fastest on, once per boot")
      ->check(CLI::IsMember({"auto", "systrap", "kvm", "ptrace"}))
      ->capture_default_str();
  app.add_option("--guest", options.guest,
                 "chalk-guest, which moves files in and out; default: beside this program");
  app.add_option("--network-pool", options.network_pool, "addresses of sandboxes, CIDR")
      ->capture_default_str();
  app.add_option("--network-prefix", options.network_prefix,
                 "of names of interfaces, namespaces, control groups: one per agent on a host")
      ->capture_default_str();
  app.add_option("--block", options.network_blocked,
                 "CIDR that no sandbox reaches, such as 10.0.0.0/8, beside the metadata of clouds, "
                 "which none ever does; may be given again");
  app.add_option("--spare-namespaces", options.spare_namespaces, "made ahead of starts")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--publish-address", options.listen_address,
                 "where published ports of sandboxes are listened on")
      ->capture_default_str();
  app.add_option("--advertise-address", options.advertise_address,
                 "what clients reach them by; default: --publish-address");
  app.add_option("--registries", flags.registries, "JSON file: mirrors, credentials, plain http");
  app.add_option("--mirror", flags.mirrors,
                 "REGISTRY=URL is asked before REGISTRY, such as "
                 "docker.io=http://127.0.0.1:5000; may be given again");
}

void read_node_flags(const NodeFlags& flags, Options& options) {
  if (!flags.cpu.empty()) {
    const auto cpu = parse_cpu_millicores(flags.cpu);
    if (!cpu) throw std::runtime_error("--cpu: found \"" + flags.cpu + "\", expected 4 or 3500m");
    options.cpu_millicores = *cpu;
  }
  options.memory_bytes = bytes_of(flags.memory, "--memory");
  options.disk_bytes = bytes_of(flags.disk, "--disk");
  options.image_bytes = bytes_of(flags.image_cache, "--image-cache");
  for (const std::string& range : options.network_blocked) {
    if (network::parse_range(range)) continue;
    throw std::runtime_error("--block: found \"" + range +
                             "\", expected an IPv4 range whose address has no bits below its mask, "
                             "such as 10.0.0.0/8 or 192.0.2.7/32");
  }
  if (!flags.registries.empty()) {
    auto read = images::load_registries(flags.registries);
    if (!read) throw std::runtime_error("--registries: " + read.error().message);
    options.registries = std::move(*read);
  }
  for (const std::string& mirror : flags.mirrors) add_mirror(options.registries, mirror);
}

}  // namespace chalk::agent
