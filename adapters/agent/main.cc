// chalk-node: the agent of one machine that runs sandboxes.
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <future>
#include <memory>
#include <thread>

#include "adapters/agent/agent.h"
#include "adapters/agent/clear.h"
#include "adapters/agent/flags.h"
#include "adapters/process/child.h"
#include "adapters/process/precedence.h"
#include "model/core/resources.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::agent {
namespace {

// The agent's measurements in the form that Prometheus reads, on a loopback port.
class Numbers {
 public:
  explicit Numbers(const std::string& address)
      : registry_(std::make_shared<prometheus::Registry>()),
        phases_(prometheus::BuildHistogram()
                    .Name("chalk_agent_phase_seconds")
                    .Help("What a node agent measures of its work")
                    .Register(*registry_)),
        values_(prometheus::BuildGauge()
                    .Name("chalk_agent_value")
                    .Help("What a node agent counts now")
                    .Register(*registry_)),
        events_(prometheus::BuildCounter()
                    .Name("chalk_agent_events_total")
                    .Help("What a node agent has counted")
                    .Register(*registry_)),
        exposer_(std::make_unique<prometheus::Exposer>(address)) {
    exposer_->RegisterCollectable(registry_);
  }
  Metrics sink() {
    Metrics metrics;
    metrics.observed = [this](const char* name, double seconds) {
      static const prometheus::Histogram::BucketBoundaries kBounds = {
          1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 3, 10, 30, 60};
      phases_.Add({{"phase", name}}, kBounds).Observe(seconds);
    };
    metrics.now = [this](const char* name, double value) {
      values_.Add({{"what", name}}).Set(value);
    };
    metrics.counted = [this](const char* name) { events_.Add({{"what", name}}).Increment(); };
    return metrics;
  }

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Histogram>& phases_;
  prometheus::Family<prometheus::Gauge>& values_;
  prometheus::Family<prometheus::Counter>& events_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

struct Flags {
  NodeFlags node;
  std::string log_level = "info", metrics;
  std::uint64_t pool = 1, zone = 1;
};

void add_options(CLI::App& app, Options& options, Flags& flags) {
  app.add_option("--data", options.data,
                 "directory of the log, the certificate, images, sandboxes; made when absent")
      ->required();
  app.add_option("--server", options.server, "ADDRESS:PORT of the server's private port");
  app.add_option("--server-name", options.server_name,
                 "name in the server's certificate, where that is not the address");
  app.add_option("--join-token", options.join_token,
                 "from the server's operator; needed once, until --data holds a certificate")
      ->envname("CHALK_JOIN_TOKEN");
  app.add_option("--server-root", options.server_root_file,
                 "PEM file of the server's authority, to join");
  app.add_option("--server-fingerprint", options.server_fingerprint,
                 "or its SHA-256, as the server prints it");
  app.add_option("--pool", flags.pool, "pool that the node belongs to")->capture_default_str();
  app.add_option("--zone", flags.zone, "zone that it stands in")->capture_default_str();
  add_node_flags(app, options, flags.node);
  app.add_option("--metrics", flags.metrics,
                 "ADDRESS:PORT to serve /metrics on, such as 127.0.0.1:9464; default: none");
  app.add_option("--log-level", flags.log_level, "debug, info, warning, error")
      ->capture_default_str();
}

// One signal ends the agent in order, a second one at once; sandboxes go on either way.
int serve(Options options, const Flags& flags) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread begins
  std::signal(SIGPIPE, SIG_IGN);
  process::become_subreaper();
  if (const std::string missing = process::take_precedence(); !missing.empty()) {
    spdlog::warn("this process does not go before its sandboxes in all: {}", missing);
  }
  std::unique_ptr<Numbers> numbers;
  if (!flags.metrics.empty()) {
    numbers = std::make_unique<Numbers>(flags.metrics);
    options.metrics = numbers->sink();
  }
  std::promise<int> asked;
  std::atomic<bool> started = false;
  // On a thread of its own: a start may take a while, and is simply left.
  std::thread([&, signals] {
    for (bool first = true;; first = false) {
      int signal = 0;
      sigwait(&signals, &signal);
      if (!first || !started) {
        std::fprintf(stderr, "chalk-node: stopped at once\n");
        _exit(128 + signal);
      }
      asked.set_value(signal);
    }
  }).detach();
  Agent agent(std::move(options));
  agent.start();
  started = true;
  asked.get_future().wait();
  spdlog::info("stopping; sandboxes go on and are taken over at the next start");
  agent.stop();
  return 0;
}

int main_of(int argc, char** argv) {
  CLI::App app{"chalk-node: runs the sandboxes of a Chalk server on this machine (as root)"};
  app.footer(
      "The first time (the server's operator gives the token and the fingerprint):\n"
      "  chalk-node --data /var/lib/chalk-node --server chalk.example:9090 \\\n"
      "    --join-token TOKEN --server-fingerprint SHA256\n"
      "Later the token is not needed. SIGTERM stops the agent and leaves sandboxes running; to take\n"
      "them and all else that it set up off this host, once it is stopped:\n"
      "  chalk-node --data /var/lib/chalk-node clear");
  Options options;
  Flags flags;
  add_options(app, options, flags);
  // The options of this program may follow it.
  auto* clear = app.add_subcommand("clear", kClearHelp)->fallthrough();
  app.set_version_flag("--version", CHALK_COMMIT);
  CLI11_PARSE(app, argc, argv);
  spdlog::set_default_logger(spdlog::stderr_color_mt("chalk-node"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(flags.log_level));
  try {
    read_node_flags(flags.node, options);
    options.pool = PoolId{flags.pool};
    options.zone = ZoneId{flags.zone};
    if (*clear) return clear_command(options);
    if (options.server.empty()) {
      throw std::runtime_error("--server: found nothing, expected ADDRESS:PORT of a server");
    }
    return serve(std::move(options), flags);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chalk-node: %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace chalk::agent

int main(int argc, char** argv) { return chalk::agent::main_of(argc, argv); }
