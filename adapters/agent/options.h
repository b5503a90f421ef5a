// What one node agent is told at its start. Everything has a default that works on one machine, but
// for the data directory, the server and a way to be trusted by it.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "adapters/identity/authority.h"
#include "adapters/images/registries.h"
#include "model/node/node.h"

namespace chalk::agent {

// How the agent tells its owner what it measured. Called from any thread; must not wait.
//   observed  how long a phase took: start (layers there to process running), clean_up, pull, append
//             and step (of the machine's log)
//   now       how many there are: connected, sandboxes, starts_waiting, sessions, channels,
//             namespaces_spare, addresses_free; every 5 s
//   counted   starts_failed, pulls_failed
struct Metrics {
  std::function<void(const char* name, double seconds)> observed;
  std::function<void(const char* name, double value)> now;
  std::function<void(const char* name)> counted;
};

struct Options {
  std::string data;  // directory, made when absent: log, certificate, images, output of sandboxes

  // ---- the server
  std::string server;                // host:port of its private port
  std::string server_name;           // what its certificate says, where that is not the host
  std::string join_token;            // traded for a certificate where data holds none
  std::string server_root_file;      // the authority's certificate, PEM
  std::string server_fingerprint;    // or its SHA-256 in hex: then it is asked of the server
  std::optional<identity::Credentials> credentials;  // or given, for an agent in the server
  std::uint64_t node_key = 0;                        // with credentials

  // ---- this node
  std::string node_name;  // empty: the host's name
  PoolId pool{1};
  ZoneId zone{1};
  std::uint64_t purchase = 0;
  std::int64_t cpu_millicores = 0;  // 0: what the host has
  std::int64_t memory_bytes = 0;    // 0: what the host has, less a reserve of a tenth (min. 1 GiB)
  std::int64_t disk_bytes = 0;      // 0: half of what is free in data at the first start
  std::int64_t image_bytes = 0;     // of cached layers; 0: a quarter of what is free or theirs
  std::int32_t start_slots = 8;
  std::int32_t sandboxes_max = 512;
  node::Config machine = default_machine();

  // ---- sandboxes
  std::string runsc;              // path; empty: beside this program, or in PATH
  std::string platform = "auto";  // systrap, kvm, ptrace; auto: where a canary is fastest
  std::string guest;              // chalk-guest, path; empty: beside this program
  std::string network_pool = "10.87.0.0/16";
  std::string network_prefix = "chalk";  // of interfaces, namespaces and tables: one per agent
  std::vector<std::string> network_blocked;  // CIDRs that no sandbox reaches (+ network/rules.cc)
  std::string listen_address = "127.0.0.1";  // of published ports
  std::string advertise_address;             // what clients reach them by; empty: listen_address
  int spare_namespaces = 8;                  // made ahead
  images::Registries registries;
  std::chrono::milliseconds start_timeout{60'000};  // of one sandbox, without its startup probe
  std::size_t channels_max = 256;
  std::size_t channels_of_sandbox_max = 64;
  std::size_t log_bytes_max = 16u << 20;  // kept of a main process' output, per stream

  Metrics metrics;

  static node::Config default_machine() {
    node::Config config;
    config.heartbeat = seconds(2);
    return config;
  }
};

// What the host offers, where the options do not say.
NodeShape host_shape(const Options& options);
// `stored`: what cached layers take already.
std::int64_t host_image_bytes(const Options& options, std::int64_t stored);
// Never 0, which would be no limit at all.
std::int64_t image_bytes_of(std::int64_t free, std::int64_t stored);

}  // namespace chalk::agent
