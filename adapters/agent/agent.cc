#include "adapters/agent/agent.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <set>

#include "adapters/agent/channels.h"
#include "adapters/agent/gvisor_machinery.h"
#include "adapters/agent/link.h"
#include "adapters/agent/live_sandbox.h"
#include "adapters/agent/pulls.h"
#include "adapters/agent/recovery.h"
#include "adapters/agent/sandboxes.h"
#include "adapters/identity/private_file.h"
#include "adapters/images/layer_id.h"
#include "adapters/log/event_log.h"
#include "adapters/log/reserve.h"
#include "adapters/runtime/driver.h"
#include "adapters/runtime/node_root.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
using NodeDriver = runtime::Driver<runtime::NodeRoot>;

constexpr const char* kAgentVersion = "0.4";
constexpr std::uint64_t kRecordsKept = 200'000;
constexpr auto kRenewalPause = 1h;
constexpr auto kNumbersPause = 5s;

// A program that is installed beside this one; empty where there is none.
std::string beside(const std::string& name) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::string path = (here / name).string();
  return !error && access(path.c_str(), X_OK) == 0 ? path : std::string();
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "node";
}

}  // namespace

struct Agent::Parts {
  explicit Parts(Options& given) : options(given) {}
  ~Parts();

  Options& options;
  NodeIdentity identity;
  // In the order of making; taken down in the other one.
  Alarm alarm;
  std::unique_ptr<images::Store> store;
  std::unique_ptr<images::Registry> registry;
  std::unique_ptr<images::Rootfs> rootfs;
  std::unique_ptr<network::Network> network;
  std::unique_ptr<Machinery> machinery;
  std::string runtime_words;
  std::unique_ptr<Logs> logs;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<Sandboxes> sandboxes;
  std::unique_ptr<Pulls> pulls;
  std::unique_ptr<log::Reserve> reserve;
  std::unique_ptr<log::EventLog> log;
  std::unique_ptr<Link> link;
  std::unique_ptr<Channels> channels;
  std::unique_ptr<NodeDriver> driver;
  Workers renewal{1};
  std::atomic<bool> stopping = false;

  Result<void> open_adapters();
  Result<void> open_machine();
  void connect();
  void take_up();
  void post(node::Event event);
  void carry_out(const node::Effect& effect);
  void order_came(Envelope<NodeOrder> envelope);
  void learn(const StartOrder& order);
  void watch_certificate();
  void say_numbers();
};

// Who orders goes first, who answers last.
Agent::Parts::~Parts() {
  stopping = true;
  alarm.stop();
  if (link) link->stop();
  if (channels) channels->stop();
  if (pulls) pulls->stop();
  if (sandboxes) sandboxes->stop();
  if (driver) driver->stop();
  renewal.stop();
  machinery.reset();  // no end of a process is told any more
}

Result<void> Agent::Parts::open_adapters() {
  images::StoreOptions where;
  where.root = options.data + "/images";
  auto opened = images::Store::open(std::move(where));
  if (!opened) return std::unexpected(opened.error());
  store = std::move(*opened);
  registry = std::make_unique<images::Registry>(options.registries);
  auto roots = images::Rootfs::open(*store);
  if (!roots) return std::unexpected(roots.error());
  rootfs = std::move(*roots);
  network::Options wanted;
  wanted.name = options.network_prefix;
  wanted.pool = options.network_pool;
  wanted.spare = options.spare_namespaces;
  wanted.listen = options.listen_address;
  wanted.blocked = options.network_blocked;
  auto net = network::Network::open(std::move(wanted));
  if (!net) return std::unexpected(net.error());
  network = std::move(*net);
  auto runsc = open_gvisor(options);
  if (!runsc) return std::unexpected(runsc.error());
  machinery = std::move(runsc->machinery);
  runtime_words = std::move(runsc->words);
  logs = std::make_unique<Logs>(options.data + "/output", options.log_bytes_max);
  sessions = std::make_unique<Sessions>(
      [this](SandboxId sandbox, const Command& command,
             std::function<void(ProcessEnd)> ended) -> Result<Process> {
        if (const auto runs = sandboxes->running(sandbox); !runs) {
          return std::unexpected(runs.error());
        }
        return machinery->exec(name_of(sandbox), command, std::move(ended));
      },
      Sessions::Options{});
  const auto say = [this](node::Event event) { post(std::move(event)); };
  sandboxes = std::make_unique<Sandboxes>(
      options, Sandboxes::Parts{*machinery, *rootfs, *network, *logs, *sessions, alarm}, say);
  pulls = std::make_unique<Pulls>(*store, *registry, options.machine.cache.pulls_at_once, say,
                                  options.metrics);
  return {};
}

Result<void> Agent::Parts::open_machine() {
  node::Birth birth;
  birth.config = options.machine;
  std::int64_t stored = 0;
  for (const images::StoredLayer& layer : store->list()) stored += layer.bytes;
  birth.config.cache.capacity_bytes = host_image_bytes(options, stored);
  birth.registration = {identity.key,
                        static_cast<std::uint64_t>(wall_nanos()),
                        options.purchase,
                        options.pool,
                        options.zone,
                        host_shape(options)};
  runtime::DriverOptions wanted;
  wanted.root = Root::node;
  wanted.records_kept = kRecordsKept;
  reserve = std::make_unique<log::Reserve>(options.data + "/reserve");
  wanted.failed = [this](const std::string& what) {
    spdlog::error("node.db: {}", what);
    reserve->give_back_if_full();  // evictions are logged before they are carried out
  };
  wanted.measured = [this](std::size_t, double append_s, double step_s) {
    reserve->make_if_room();
    if (!options.metrics.observed) return;
    options.metrics.observed("append", append_s);
    options.metrics.observed("step", step_s);
  };
  try {
    log = std::make_unique<log::EventLog>(options.data + "/node.db", kLogicVersion);
    driver = std::make_unique<NodeDriver>(
        birth, *log,
        [this](std::uint64_t, Time, const node::Effect& effect) { carry_out(effect); },
        NodeDriver::Observe{}, wanted);
  } catch (const log::LogError& error) {
    return fail(Error::Kind::failed, error.what());
  }
  const NodeRegistration& kept = driver->machine().state().registration;
  if (kept.key != identity.key) {
    return fail(Error::Kind::invalid,
                options.data + "/node.db is the log of node " + std::to_string(kept.key) +
                    ", and the certificate is of node " + std::to_string(identity.key) +
                    ": give each node a data directory of its own");
  }
  if (kept.shape != birth.registration.shape || kept.pool != birth.registration.pool ||
      kept.zone != birth.registration.zone) {
    spdlog::warn(
        "what this node offers has changed since it registered (cpu {} then, {} now; memory {}, "
        "{}; disk {}, {}): the server goes by what it was until the data directory is begun anew",
        kept.shape.cpu_millicores, birth.registration.shape.cpu_millicores,
        kept.shape.memory_bytes, birth.registration.shape.memory_bytes, kept.shape.disk_bytes,
        birth.registration.shape.disk_bytes);
  }
  return {};
}

// What the log says is set against what the host has, then the machine goes on.
void Agent::Parts::take_up() {
  const node::State state = driver->machine().state();
  std::set<LayerId> layers, stored;
  for (const auto& [layer, one] : state.cache.layers) layers.insert(layer);
  for (const auto& one : store->list()) stored.insert(images::layer_id(one.diff_id));
  images::LayersLost lost;  // the log may be on the disk before they are
  for (const auto& [layer, one] : state.cache.layers) {
    if (one.phase == images::LayerPhase::present && !stored.contains(layer)) {
      lost.layers.push_back(layer);
    }
  }
  for (const auto& [id, sandbox] : state.sandboxes) learn(sandbox.order);
  const Recovery recovery = recover(state.sandboxes, *machinery, *network, *sandboxes);
  if (const auto done = rootfs->unmount_unheld(); !done) {
    spdlog::warn("recovery: {}", done.error().message);
  }
  pulls->keep_only(layers);
  logs->keep_only_live();
  if (driver->recovered()) {
    spdlog::info("recovered: {} sandboxes in the log, {} taken over, {} ended meanwhile, {} taken "
                 "away",
                 state.sandboxes.size(), recovery.adopted, recovery.gone.size(), recovery.reaped);
  }
  // Before it starts, hence before the timers that came due meanwhile.
  for (const node::SandboxExited& gone : recovery.gone) post(gone);
  if (!lost.layers.empty()) {
    spdlog::warn("recovery: {} layers of images were lost before they were on the disk; what needs "
                 "them pulls them again", lost.layers.size());
    post(std::move(lost));
  }
  if (driver->recovered()) {
    post(node::Resumed{});
  } else {
    post(node::Booted{});
  }
  driver->start();
}

void Agent::Parts::connect() {
  LinkHandlers handlers;
  handlers.order = [this](Envelope<NodeOrder> envelope) { order_came(std::move(envelope)); };
  handlers.welcome = [this](std::uint64_t incarnation, NodeId id) {
    post(node::Welcomed{incarnation, id});
  };
  handlers.unknown = [this](std::uint64_t incarnation) { post(node::Unknown{incarnation}); };
  handlers.open_channel = [this](const std::string& channel) { channels->open(channel); };
  link = std::make_unique<Link>(
      options.server, options.server_name, identity.credentials,
      Link::Hello{options.node_name, kAgentVersion, options.advertise_address, runtime_words},
      std::move(handlers));
  channels = std::make_unique<Channels>(
      Channels::Sources{[this] { return link->channel(); },
                        [this](SandboxId sandbox) { return sandboxes->running(sandbox); },
                        !options.guest.empty(),
                        [this](SandboxId sandbox) { return sandboxes->readiness(sandbox); }},
      *sessions, *logs, Channels::Limits{options.channels_max, options.channels_of_sandbox_max});
}

void Agent::Parts::post(node::Event event) {
  if (!driver->post(std::move(event)) && !stopping) {
    spdlog::error("the machine takes no events any more: its log is lost, or it is overrun");
  }
}

void Agent::Parts::learn(const StartOrder& order) {
  node::v1::SandboxPayload payload;
  if (!payload.ParseFromString(order.payload)) return;  // its start says so
  if (const auto image = images::decode_image(payload.image())) {
    pulls->learn(order.image.image, *image);
  }
}

void Agent::Parts::order_came(Envelope<NodeOrder> envelope) {
  if (envelope.message) {
    if (const auto* start = std::get_if<StartOrder>(&*envelope.message)) {
      sandboxes->accepted(start->sandbox);
      learn(*start);
    }
  }
  post(node::FromControl{std::move(envelope)});
}

void Agent::Parts::carry_out(const node::Effect& effect) {
  if (const auto* report = std::get_if<node::ToControl>(&effect)) {
    link->send(report->node, report->envelope);
  } else if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
    sandboxes->start(*start);
  } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
    sandboxes->kill(kill->sandbox, kill->why, kill->grace);
  } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
    pulls->pull(*pull);
  } else if (const auto* cancel = std::get_if<images::CancelPull>(&effect)) {
    pulls->cancel(*cancel);
  } else if (const auto* evict = std::get_if<images::EvictLayers>(&effect)) {
    pulls->evict(*evict);
  } else if (const auto* registration = std::get_if<node::Register>(&effect)) {
    link->send(registration->registration);
  } else if (std::holds_alternative<node::Scrub>(effect)) {
    sandboxes->scrub();
  } else if (const auto* save = std::get_if<node::SaveSnapshot>(&effect)) {
    // Nothing is saved over runsc yet; a node of no MachineKind, as ours are, is not asked to.
    post(node::SnapshotSaved{save->sandbox, save->snapshot, false, 0});
  }
}

void Agent::Parts::watch_certificate() {
  if (options.credentials) return;  // who gave it renews it
  alarm.after(kRenewalPause, [this] {
    renewal.run([this] {
      if (identity::needs_renewal(identity.credentials.certificate_pem)) {
        auto next = renew_identity(options, options.data + "/identity", identity);
        if (next) {
          identity = std::move(*next);
          link->use(identity.credentials);
          spdlog::info("the node's certificate was renewed");
        } else {
          spdlog::warn("the node's certificate is not renewed: {}", next.error().message);
        }
      }
    });
    watch_certificate();
  });
}

void Agent::Parts::say_numbers() {
  if (!options.metrics.now) return;
  options.metrics.now("connected", link->connected() ? 1 : 0);
  options.metrics.now("sandboxes", static_cast<double>(sandboxes->count()));
  options.metrics.now("starts_waiting", static_cast<double>(sandboxes->starts_waiting()));
  options.metrics.now("sessions", static_cast<double>(sessions->running()));
  options.metrics.now("channels", static_cast<double>(channels->count()));
  const network::Statistics net = network->statistics();
  options.metrics.now("namespaces_spare", static_cast<double>(net.spares));
  options.metrics.now("addresses_free", static_cast<double>(net.addresses_free));
  alarm.after(kNumbersPause, [this] { say_numbers(); });
}

Agent::Agent(Options options) : options_(std::move(options)) {
  if (options_.node_name.empty()) options_.node_name = host_name();
  if (options_.guest.empty()) options_.guest = beside("chalk-guest");
  if (options_.runsc.empty()) options_.runsc = beside("runsc");
  if (options_.advertise_address.empty()) options_.advertise_address = options_.listen_address;
}
Agent::~Agent() { stop(); }

void Agent::start() {
  std::error_code error;
  std::filesystem::create_directories(options_.data, error);
  if (error) throw std::runtime_error(options_.data + ": cannot be made: " + error.message());
  options_.data = std::filesystem::canonical(options_.data).string();
  const auto must = [](const auto& done) {
    if (!done) throw std::runtime_error(done.error().message);
  };
  // Variables, output and files of every tenant are below it.
  must(identity::make_private_directory(options_.data));
  auto parts = std::make_unique<Parts>(options_);
  auto identity = obtain_identity(options_, options_.data + "/identity");
  must(identity);
  parts->identity = std::move(*identity);
  must(parts->open_adapters());
  must(parts->open_machine());
  parts->connect();
  parts->take_up();
  parts->link->start();
  parts->watch_certificate();
  parts->say_numbers();
  parts_ = std::move(parts);
  spdlog::info("agent {}: node key {}, {}, server {}", options_.node_name, parts_->identity.key,
               parts_->runtime_words, options_.server);
}

void Agent::stop() { parts_.reset(); }

Agent::Status Agent::status() {
  Status status;
  if (!parts_) return status;
  status.connected = parts_->link->connected();
  status.sandboxes = parts_->sandboxes->count();
  status.sessions = parts_->sessions->running();
  status.channels = parts_->channels->count();
  status.starts_waiting = parts_->sandboxes->starts_waiting();
  parts_->driver->look([&](const runtime::NodeRoot& root) { status.node = root.node().id().value; });
  return status;
}

}  // namespace chalk::agent
