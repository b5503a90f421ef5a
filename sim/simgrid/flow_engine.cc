#include "sim/simgrid/flow_engine.h"

#include <dlfcn.h>
#include <xbt/log.h>

#include <algorithm>
#include <cmath>
#include <simgrid/kernel/resource/Model.hpp>
#include <simgrid/s4u.hpp>
#include <stdexcept>

#include "model/core/invariant.h"

namespace chalk::sim {
namespace s4u = simgrid::s4u;
namespace {

constexpr double kNoBound = 1e18;

// What ended during a step. SimGrid's signals are global and cannot be disconnected, so the one
// handler is connected once and writes where the living engine reads.
std::vector<std::uint32_t>* ended_now = nullptr;

// Plain max-min sharing without the corrections that SimGrid fitted to TCP on Ethernet: a link of
// N bytes per second carries N bytes per second. Latency is added by our own clock, to the
// nanosecond; within SimGrid it would also weight the sharing by round-trip time.
void configure_once() {
  static const bool configured = [] {
    for (const char* setting :
         {"network/model:CM02", "network/bandwidth-factor:1", "network/latency-factor:1",
          "network/weight-S:0", "network/TCP-gamma:0", "network/crosstraffic:0",
          "network/optim:Lazy", "cpu/optim:Lazy"}) {
      s4u::Engine::set_config(setting);
    }
    s4u::Activity::on_completion_cb([](const s4u::Activity& activity) {
      const auto data =
          reinterpret_cast<std::uintptr_t>(const_cast<s4u::Activity&>(activity).get_data<void>());
      if (data != 0 && ended_now) ended_now->push_back(static_cast<std::uint32_t>(data - 1));
    });
    return true;
  }();
  static_cast<void>(configured);
}

// SimGrid 3.32 keeps its clock in a static that outlives the engine. A run that began at another
// offset would round differently, so a new engine must begin at 0.
void reset_clock() {
  if (s4u::Engine::get_clock() == 0) return;
  if (void* now = dlsym(RTLD_DEFAULT, "_ZN7simgrid6kernel10EngineImpl4now_E")) {
    *static_cast<double*>(now) = 0;
  }
  if (s4u::Engine::get_clock() != 0) {
    throw std::logic_error("this SimGrid cannot run twice in one process: use run_isolated");
  }
}

void* as_data(std::uint32_t slot) { return reinterpret_cast<void*>(std::uintptr_t{slot} + 1); }

}  // namespace

struct FlowEngine::Body {
  s4u::Engine engine{"chalk"};
  s4u::NetZone* root = nullptr;
  std::vector<s4u::Host*> hosts, disks, registries, object_stores;
  std::vector<s4u::SplitDuplexLink*> registry_links;
  std::vector<double> registry_speeds, registry_speeds_now;
  std::vector<std::int64_t> host_millicores;
  std::vector<s4u::ActivityPtr> running;  // by slot
  // A cancelled activity holds its share until SimGrid's next step, and is still touched there.
  std::vector<s4u::ActivityPtr> cancelled;
  std::vector<std::uint32_t> ended_early;  // while the cancelled were removed

  void build(const Platform&);
  void build_zone(const Platform&, std::uint32_t zone, s4u::NetZone* parent);
  s4u::SplitDuplexLink* attach(s4u::NetZone*, simgrid::kernel::routing::NetPoint*,
                               const std::string& name, double speed, s4u::Link* backbone);
  s4u::Host* endpoint(Endpoint) const;
  void put(std::uint32_t slot, s4u::ActivityPtr);
  void step(double until, std::vector<std::uint32_t>& ended);
  void remove_cancelled();
  void set_registry_bandwidth(std::uint32_t zone, double bytes_per_second);
};

FlowEngine::FlowEngine(const Platform& platform) {
  if (s4u::Engine::has_instance()) {
    throw std::logic_error("one ResourceModel at a time can use SimGrid: see run_isolated");
  }
  xbt_log_control_set("root.thres:critical");
  body_ = std::make_unique<Body>();
  configure_once();
  reset_clock();
  body_->build(platform);
}

FlowEngine::~FlowEngine() {
  for (std::uint32_t slot = 0; slot < body_->running.size(); ++slot) cancel(slot);
  body_->remove_cancelled();
}

s4u::Host* FlowEngine::Body::endpoint(Endpoint end) const {
  switch (end.kind) {
    case Endpoint::Kind::kHost: return hosts[end.index];
    case Endpoint::Kind::kRegistry: return registries[end.index];
    case Endpoint::Kind::kObjectStore: return object_stores[end.index];
  }
  return nullptr;
}

void FlowEngine::Body::put(std::uint32_t slot, s4u::ActivityPtr activity) {
  if (slot >= running.size()) running.resize(slot + 1);
  CHALK_INVARIANT(!running[slot]);
  running[slot] = std::move(activity);
}

void FlowEngine::start_flow(std::uint32_t slot, Endpoint from, Endpoint to, std::int64_t bytes) {
  s4u::CommPtr comm = s4u::Comm::sendto_init();
  comm->set_source(body_->endpoint(from));
  comm->set_destination(body_->endpoint(to));
  comm->set_payload_size(static_cast<std::uint64_t>(bytes));
  comm->set_data(as_data(slot));
  // A flow keeps the bound of its slowest link at the start, even when that link gets faster. So
  // at that moment a registry has no limit of its own: only the sharing of its link is to count.
  const bool pull = from.kind == Endpoint::Kind::kRegistry;
  if (pull) body_->set_registry_bandwidth(from.index, kNoBound);
  comm->start();
  if (pull) body_->set_registry_bandwidth(from.index, body_->registry_speeds_now[from.index]);
  body_->put(slot, comm);
}

// A disk is a one-core host that executes bytes: SimGrid updates executions lazily, but looks at
// every disk operation in every step.
void FlowEngine::start_write(std::uint32_t slot, std::uint32_t host, std::int64_t bytes) {
  s4u::ExecPtr exec = s4u::Exec::init();
  exec->set_flops_amount(static_cast<double>(bytes));
  exec->set_host(body_->disks[host]);
  exec->set_data(as_data(slot));
  exec->start();
  body_->put(slot, exec);
}

// One flop is one nanosecond of one core, and all cores of a host are one fast core to SimGrid: it
// honours a bound only below the speed of a core. The weight is the cap, as it is for containers.
void FlowEngine::start_execution(std::uint32_t slot, std::uint32_t host, Duration core_work,
                                 std::int64_t cores_millis) {
  const std::int64_t all = body_->host_millicores[host];
  const std::int64_t cap = cores_millis <= 0 ? all : std::min(cores_millis, all);
  s4u::ExecPtr exec = s4u::Exec::init();
  exec->set_flops_amount(static_cast<double>(core_work.nanos));
  exec->set_host(body_->hosts[host]);
  exec->set_bound(static_cast<double>(cap) * 1e6);
  exec->set_priority(static_cast<double>(cap) / 1000);
  exec->set_data(as_data(slot));
  exec->start();
  body_->put(slot, exec);
}

void FlowEngine::cancel(std::uint32_t slot) {
  if (slot >= body_->running.size() || !body_->running[slot]) return;
  s4u::ActivityPtr activity = std::move(body_->running[slot]);
  body_->running[slot] = nullptr;
  activity->set_data(nullptr);
  activity->cancel();
  body_->cancelled.push_back(std::move(activity));
}

void FlowEngine::set_registry_speed(std::uint32_t zone, std::int32_t permille) {
  // SimGrid reads 0 as "without limit": a registry that hangs gives a byte in ten seconds.
  body_->registry_speeds_now[zone] = std::max(0.1, body_->registry_speeds[zone] * permille / 1000);
  body_->set_registry_bandwidth(zone, body_->registry_speeds_now[zone]);
}

void FlowEngine::Body::set_registry_bandwidth(std::uint32_t zone, double bytes_per_second) {
  registry_links[zone]->get_link_up()->set_bandwidth(bytes_per_second);
}

double FlowEngine::clock() const { return s4u::Engine::get_clock(); }

std::optional<double> FlowEngine::next_completion() {
  body_->remove_cancelled();
  if (!body_->ended_early.empty()) return clock();
  double least = -1;
  for (simgrid::kernel::resource::Model* model : body_->engine.get_all_models()) {
    const double delta = model->next_occurring_event(clock());
    if (delta >= 0 && (least < 0 || delta < least)) least = delta;
  }
  if (least < 0) return std::nullopt;
  return clock() + least;
}

void FlowEngine::run_to(double seconds, std::vector<std::uint32_t>& ended) {
  body_->remove_cancelled();
  ended.insert(ended.end(), body_->ended_early.begin(), body_->ended_early.end());
  body_->ended_early.clear();
  body_->step(seconds, ended);
}

void FlowEngine::Body::remove_cancelled() {
  if (cancelled.empty()) return;
  step(s4u::Engine::get_clock(), ended_early);
  cancelled.clear();
}

void FlowEngine::Body::step(double until, std::vector<std::uint32_t>& ended) {
  const std::size_t before = ended.size();
  ended_now = &ended;
  engine.run_until(std::max(until, s4u::Engine::get_clock()));
  ended_now = nullptr;
  for (std::size_t i = before; i < ended.size(); ++i) running[ended[i]] = nullptr;
}

// Star zones only: a route is two links of a host and the backbone, and memory is O(hosts).
void FlowEngine::Body::build(const Platform& platform) {
  root = s4u::create_star_zone("root");
  hosts.resize(platform.hosts.size());
  disks.resize(platform.hosts.size());
  for (const PlatformHost& host : platform.hosts) host_millicores.push_back(std::llround(host.cores * 1000));
  for (std::uint32_t zone = 0; zone < platform.zones.size(); ++zone) {
    build_zone(platform, zone, root);
  }
  root->seal();
}

s4u::SplitDuplexLink* FlowEngine::Body::attach(s4u::NetZone* zone,
                                               simgrid::kernel::routing::NetPoint* point,
                                               const std::string& name, double speed,
                                               s4u::Link* backbone) {
  s4u::SplitDuplexLink* link = zone->create_split_duplex_link(name, speed);
  std::vector<s4u::LinkInRoute> route{{link, s4u::LinkInRoute::Direction::UP}};
  if (backbone) route.emplace_back(backbone);
  zone->add_route(point, nullptr, nullptr, nullptr, route, true);
  return link;
}

void FlowEngine::Body::build_zone(const Platform& platform, std::uint32_t index,
                                  s4u::NetZone* parent) {
  const PlatformZone& from = platform.zones[index];
  const std::string id = std::to_string(index);
  s4u::NetZone* zone = s4u::create_star_zone("zone" + id)->set_parent(parent);
  s4u::Link* backbone = zone->create_link("backbone" + id, from.backbone_bytes_per_second);
  auto* router = zone->create_router("router" + id);
  zone->add_route(router, nullptr, nullptr, nullptr, {s4u::LinkInRoute(backbone)}, true);

  registries.push_back(zone->create_host("registry" + id, 1e9));
  registry_speeds.push_back(from.registry_bytes_per_second);
  registry_speeds_now.push_back(from.registry_bytes_per_second);
  registry_links.push_back(attach(zone, registries.back()->get_netpoint(), "registry_link" + id,
                                  from.registry_bytes_per_second, backbone));
  object_stores.push_back(zone->create_host("store" + id, 1e9));
  attach(zone, object_stores.back()->get_netpoint(), "store_link" + id,
         from.object_store_bytes_per_second, backbone);

  for (std::uint32_t i = 0; i < platform.hosts.size(); ++i) {
    const PlatformHost& host = platform.hosts[i];
    if (host.zone != index) continue;
    const std::string name = std::to_string(i);
    hosts[i] = zone->create_host("host" + name, host.cores * 1e9);
    disks[i] = zone->create_host("disk" + name, host.disk_bytes_per_second);
    attach(zone, hosts[i]->get_netpoint(), "link" + name, host.link_bytes_per_second, backbone);
  }
  zone->seal();
  if (platform.zones.size() < 2) return;
  s4u::SplitDuplexLink* uplink =
      parent->create_split_duplex_link("uplink" + id, platform.between_zones_bytes_per_second);
  parent->add_route(zone->get_netpoint(), nullptr, router, nullptr,
                    {{uplink, s4u::LinkInRoute::Direction::UP}}, true);
}

}  // namespace chalk::sim
