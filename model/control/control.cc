#include "model/control/control.h"

#include <algorithm>
#include <utility>

namespace chalk::control {

namespace {
std::uint32_t slot_of(NodeId node) { return SlotTable<NodeId, int>::slot_of(node); }
}  // namespace

Control::Control(Config config, State state)
    : config_(std::move(config)),
      routing_(std::move(state.routing)),
      sandboxes_(config_.sandbox, std::move(state.sandbox)),
      scheduler_(config_.scheduler, std::move(state.scheduler)),
      tenancy_(config_.tenancy, std::move(state.tenancy)),
      fleet_(config_.fleet, std::move(state.fleet)),
      autoscaler_(config_.autoscaler, std::move(state.autoscaler)),
      catalogue_(config_.catalogue, std::move(state.catalogue)),
      distribution_(config_.distribution, std::move(state.distribution)),
      snapshots_(config_.snapshots, std::move(state.snapshots)) {}

State Control::state() const {
  return {routing_,          sandboxes_.state(),  scheduler_.state(),
          tenancy_.state(),  fleet_.state(),      autoscaler_.state(),
          catalogue_.state(), distribution_.state(), snapshots_.state()};
}

std::uint64_t Control::digest() const {
  Digest digest;
  digest.add(routing_);
  digest.add(sandboxes_.state());
  digest.add(scheduler_.state());
  digest.add(tenancy_.state());
  digest.add(fleet_.state());
  digest.add(autoscaler_.state());
  digest.add(catalogue_.state());
  digest.add(distribution_.state());
  digest.add(snapshots_.state());
  return digest.value();
}

void Control::step(Time now, const Event& event, Effects& effects) {
  now_ = now;
  out_ = &effects;
  std::visit([&](const auto& one) { on(one); }, event);
  settle_rounds();
  report_pending();
  const Time wake = *std::min_element(routing_.wakes.begin(), routing_.wakes.end());
  CHALK_INVARIANT(wake <= std::min({sandboxes_.state().wake, tenancy_.state().wake,
                                    fleet_.state().wake, autoscaler_.state().wake}));
  if (wake != routing_.wake) {
    routing_.wake = wake;
    if (wake != kNever) effects.push_back(WakeAt{wake});
  }
  out_ = nullptr;
}

// What was said before it may have led to a step that armed an earlier one.
template <class M>
void Control::note_wake(const M& machine) {
  const Time wake = machine.state().wake;
  if constexpr (std::same_as<M, sandbox::Sandboxes>) routing_.wakes[kSandbox] = wake;
  if constexpr (std::same_as<M, tenancy::Tenancy>) routing_.wakes[kTenancy] = wake;
  if constexpr (std::same_as<M, fleet::Fleet>) routing_.wakes[kFleet] = wake;
  if constexpr (std::same_as<M, autoscaler::Autoscaler>) routing_.wakes[kAutoscaler] = wake;
}

// Steps one machine and routes what it says, depth first. A nested drive of the same machine takes
// another scratch vector, so no vector grows while it is read.
template <class M, class E>
void Control::drive(M& machine, Scratch<M>& scratch, const E& event) {
  std::vector<typename M::Effect> effects;
  if (!scratch.free.empty()) {
    effects = std::move(scratch.free.back());
    scratch.free.pop_back();
  }
  machine.step(now_, typename M::Event{event}, effects);
  for (const auto& effect : effects) {
    std::visit(
        [&](const auto& one) {
          if constexpr (std::same_as<std::remove_cvref_t<decltype(one)>, WakeAt>) {
            note_wake(machine);
          } else {
            handle(one);
          }
        },
        effect);
  }
  effects.clear();
  scratch.free.push_back(std::move(effects));
}

void Control::prefetch(NodeId node) const {
  const std::uint32_t slot = slot_of(node);
  if (slot >= routing_.nodes.size() || slot >= fleet_.state().nodes.slots()) return;
  const auto* link = reinterpret_cast<const char*>(&routing_.nodes[slot]);
  for (std::size_t at = 0; at < sizeof(NodeLink); at += 64) __builtin_prefetch(link + at, 1);
  __builtin_prefetch(&fleet_.state().nodes.in_slot(slot), 1);
}

void Control::prefetch(SandboxId sandbox) const {
  const auto& table = sandboxes_.state().sandboxes;
  const std::uint32_t slot = SlotTable<SandboxId, int>::slot_of(sandbox);
  if (slot >= table.slots()) return;
  const auto* record = reinterpret_cast<const char*>(&table.in_slot(slot));
  for (std::size_t at = 0; at < sizeof(sandbox::Record); at += 64)
    __builtin_prefetch(record + at, 1);
  tenancy_.state().held.prefetch(sandbox);
  const scheduler::State& placed = scheduler_.state();
  if (slot >= placed.reservations.size()) return;
  __builtin_prefetch(&placed.reservations[slot], 1);
  __builtin_prefetch(&placed.links[slot], 1);
}

void Control::prefetch_around(SandboxId sandbox) const {
  const sandbox::Record* record = sandboxes_.find(sandbox);
  if (record == nullptr || !record->node) return;
  const auto& table = sandboxes_.state().sandboxes;
  for (const SandboxId beside : {record->previous_beside, record->next_beside}) {
    const std::uint32_t slot = SlotTable<SandboxId, int>::slot_of(beside);
    if (slot < table.slots()) __builtin_prefetch(&table.in_slot(slot).previous_beside, 1);
  }
  tenancy_.state().nodes.prefetch(record->node);
  const scheduler::State& placed = scheduler_.state();
  const std::uint32_t slot = slot_of(record->node);
  if (slot < placed.nodes.size()) {
    __builtin_prefetch(&placed.nodes[slot], 1);
    __builtin_prefetch(&placed.infos[slot], 1);
  }
  prefetch(record->node);
}

// ---- what comes from outside

void Control::on(const FromNode& from) {
  const auto& envelope = from.envelope;
  if (!fleet_.known(from.node, envelope.incarnation)) {
    out_->push_back(UnknownNode{from.node, envelope.incarnation});
    return;
  }
  NodeLink& link = routing_.nodes[slot_of(from.node)];
  link.orders.acknowledge(envelope.acknowledged);
  drive(fleet_, fleet_scratch_, fleet::HeartbeatSeen{from.node});
  if (!envelope.message) {
    bool sent = false;
    link.orders.resend([&](std::uint64_t sequence, const NodeOrder& order) {
      sent = true;
      out_->push_back(
          ToNode{from.node, {link.incarnation, sequence, link.reports.received, order}});
    });
    if (link.acknowledgement_due && !sent) {
      out_->push_back(ToNode{from.node, {link.incarnation, 0, link.reports.received, {}}});
    }
    link.acknowledgement_due = false;
    return;
  }
  link.acknowledgement_due = true;  // also for a repeated report: its acknowledgement was lost
  if (!link.reports.accept(envelope.sequence)) return;
  std::visit([&](const auto& one) { report(from.node, one); }, *envelope.message);
}

void Control::on(const FromGateway& from) {
  const std::size_t index = from.gateway.value - 1;
  if (index >= routing_.gateways.size() || !routing_.gateways[index].joined) return;
  GatewayLink& link = routing_.gateways[index];
  const auto& envelope = from.envelope;
  if (envelope.incarnation != link.incarnation) return;  // from before its restart
  link.orders.acknowledge(envelope.acknowledged);
  std::erase_if(link.drains, [&](const auto& one) { return one.second <= envelope.acknowledged; });
  if (!envelope.message) {
    link.orders.resend([&](std::uint64_t sequence, const GatewayOrder& order) {
      out_->push_back(
          ToGateway{from.gateway, {link.incarnation, sequence, link.reports.received, order}});
    });
    out_->push_back(ToGateway{from.gateway, {link.incarnation, 0, link.reports.received, {}}});
    return;
  }
  if (!link.reports.accept(envelope.sequence)) return;
  std::visit([&](const auto& one) { report(from.gateway, one); }, *envelope.message);
}

void Control::on(const SandboxRequested& asked) {
  const bool image_known = !asked.image || catalogue_.spec(asked.image) != nullptr;
  drive(sandboxes_, sandbox_scratch_,
        sandbox::Requested{asked.reply_to,
                           asked.key,
                           asked.tenant,
                           {},
                           asked.resources,
                           asked.image,
                           image_known,
                           fits_somewhere(asked.tenant, asked.pool, asked.resources),
                           asked.pool,
                           asked.lifetime,
                           asked.restart,
                           asked.priority,
                           asked.gang});
}

void Control::on(const sandbox::TerminateRequested& asked) {
  const sandbox::Record* record = sandboxes_.find(asked.sandbox);
  if (record != nullptr && record->phase != sandbox::Phase::accepted && record->group &&
      !record->stop_asked) {
    // Counted as ended here, since its Gone will say that somebody had asked for it.
    replica_ended(asked.sandbox, record->group, record->ran);
  }
  drive(sandboxes_, sandbox_scratch_, asked);
}

void Control::on(const NodeRegistration& registration) {
  if (!scheduler::sensible(registration.shape)) return;  // nothing is placed there: it counts not
  const std::uint64_t pool = registration.pool.value;
  if (pool != 0 && pool <= routing_.pools.size()) {
    NodeShape& largest = routing_.pools[pool - 1].largest;
    const NodeShape& shape = registration.shape;
    largest.cpu_millicores = std::max(largest.cpu_millicores, shape.cpu_millicores);
    largest.memory_bytes = std::max(largest.memory_bytes, shape.memory_bytes);
    largest.disk_bytes = std::max(largest.disk_bytes, shape.disk_bytes);
    if (shape.gpus > largest.gpus) {
      largest.gpus = shape.gpus;
      largest.gpu_model = shape.gpu_model;
    }
  }
  drive(fleet_, fleet_scratch_, fleet::NodeRegistered{registration});
}

void Control::on(const Woken& woken) {
  const auto due = [&](Part part) {
    if (routing_.wakes[part] > now_) return false;
    routing_.wakes[part] = kNever;
    return true;
  };
  // So late, its machine or its disk stood still, and what nodes had to say still waits to be heard:
  // starts and gangs have all of their time again, as after a restart.
  if (now_ - routing_.wake > Duration{config_.fleet.heartbeat_timeout.nanos / 4}) {
    drive(sandboxes_, sandbox_scratch_, sandbox::Resumed{});
  }
  if (due(kSandbox)) drive(sandboxes_, sandbox_scratch_, woken);
  if (due(kTenancy)) drive(tenancy_, tenancy_scratch_, woken);
  if (due(kFleet)) drive(fleet_, fleet_scratch_, woken);
  if (due(kAutoscaler)) drive(autoscaler_, autoscaler_scratch_, woken);
}

void Control::on(const fleet::PurchaseFailed& failed) {
  const std::size_t before = sold_out_pools();
  drive(fleet_, fleet_scratch_, failed);
  if (sold_out_pools() != before) grow_elsewhere();  // most fail together
}
void Control::on(const fleet::DrainAsked& asked) { drive(fleet_, fleet_scratch_, asked); }
void Control::on(const fleet::UndrainAsked& asked) { drive(fleet_, fleet_scratch_, asked); }
void Control::on(const fleet::ReclaimNoticed& noticed) {
  drive(fleet_, fleet_scratch_, noticed);
}
void Control::on(const fleet::Resumed& resumed) {
  drive(fleet_, fleet_scratch_, resumed);
  drive(sandboxes_, sandbox_scratch_, sandbox::Resumed{});
  drive(autoscaler_, autoscaler_scratch_, autoscaler::Resumed{});
}
void Control::on(const images::WarmAsked& asked) { drive(catalogue_, catalogue_scratch_, asked); }
void Control::on(const ImageSpec& image) {
  drive(catalogue_, catalogue_scratch_, images::ImageAdded{image});
}
void Control::on(const fleet::PoolAdded& pool) {
  if (!pool.pool) return;
  if (routing_.pools.size() < pool.pool.value) routing_.pools.resize(pool.pool.value);
  PoolPending& pending = routing_.pools[pool.pool.value - 1];
  // What waited while it was not elastic, and what no longer does, fleet has not heard.
  pending.changed = pending.demand.pool && !pending.policy.elastic && pool.policy.elastic;
  pending.policy = pool.policy;
  pending.demand.pool = pool.pool;
  drive(fleet_, fleet_scratch_, pool);
}

void Control::on(const tenancy::TenantAdded& tenant) {
  if (tenant.dedicated_pool) {
    routing_.dedicated_pools[tenant.tenant] = tenant.dedicated_pool;
    routing_.dedicated_tenants[tenant.dedicated_pool] = tenant.tenant;
  }
  tenancy::TenantAdded known = tenant;
  known.dedicated_pool = dedicated_pool(tenant.tenant);  // which it keeps, if it had one before
  drive(tenancy_, tenancy_scratch_, known);
}

void Control::on(const GroupDeployed& deployed) {
  const GroupSpec& spec = deployed.spec;
  if (!spec.group || spec.group.value > config_.groups_max) return;
  if (routing_.groups.size() < spec.group.value) routing_.groups.resize(spec.group.value);
  const GatewayId before = routing_.groups[spec.group.value - 1].gateway;
  routing_.groups[spec.group.value - 1] = spec;
  send(spec.gateway, spec.routing);
  if (before && before != spec.gateway) move_replicas(spec, before);
  drive(autoscaler_, autoscaler_scratch_, autoscaler::GroupAdded{spec.group, spec.policy});
}

// Its calls come to another gateway from now on, which must know what runs. What waits at the old
// one would wait for ever: it may wait no longer, and no more of it may come.
void Control::move_replicas(const GroupSpec& spec, GatewayId before) {
  sandboxes_.state().sandboxes.for_each([&](SandboxId id, const sandbox::Record& record) {
    if (record.group != spec.group || record.phase != sandbox::Phase::running) return;
    send(before, ReplicaGone{spec.group, id});
    announce(spec, id);
  });
  GroupRouting closed = spec.routing;
  closed.group = spec.group;
  closed.queue_max = 0;
  closed.queue_timeout = nanoseconds(1);
  send(before, closed);
}

// A gateway that starts again knows nothing: it is told its groups and their running replicas.
void Control::on(const GatewayJoined& joined) {
  if (!joined.gateway || joined.gateway.value > config_.gateways_max) return;
  const std::size_t index = joined.gateway.value - 1;
  if (routing_.gateways.size() <= index) routing_.gateways.resize(index + 1);
  GatewayLink& link = routing_.gateways[index];
  if (link.joined && joined.incarnation <= link.incarnation) return;  // repeated, or late
  link = GatewayLink{};
  link.joined = true;
  link.incarnation = joined.incarnation;
  for (const GroupSpec& spec : routing_.groups) {
    if (spec.group && spec.gateway == joined.gateway) send(spec.gateway, spec.routing);
  }
  sandboxes_.state().sandboxes.for_each([&](SandboxId id, const sandbox::Record& record) {
    const GroupSpec* spec = group(record.group);
    if (spec == nullptr || spec->gateway != joined.gateway) return;
    if (record.phase == sandbox::Phase::running) announce(*spec, id);
  });
}

// ---- reports of nodes and gateways

void Control::report(NodeId node, const StartedReport& started) {
  drive(sandboxes_, sandbox_scratch_, sandbox::Started{started.sandbox, node, started.note});
}
void Control::report(NodeId node, const RestartedReport& restarted) {
  drive(sandboxes_, sandbox_scratch_,
        sandbox::NodeRestarted{restarted.sandbox, node, restarted.count, restarted.running,
                               restarted.note});
}
void Control::report(NodeId node, const RefusedReport& refused) {
  if (refused.rule != NodeRefusal::duplicate) images_do_not_come(node, refused.sandbox);
  drive(sandboxes_, sandbox_scratch_, sandbox::NodeRefused{refused.sandbox, node, refused.rule});
}
void Control::report(NodeId node, const EndedReport& ended) {
  if (ended.reason == EndReason::pull_failed || ended.reason == EndReason::bad_image) {
    const sandbox::Record* record = sandboxes_.find(ended.sandbox);  // it gets it no more
    if (record != nullptr && record->node == node && record->image) {
      drive(distribution_, distribution_scratch_,
            images::CopyChanged{node, record->image, false});
    }
  }
  drive(sandboxes_, sandbox_scratch_, sandbox::Ended{ended.sandbox, node, ended.reason, ended.note});
}
void Control::report(NodeId node, const ImageReport& image) {
  drive(catalogue_, catalogue_scratch_, images::ImageCached{node, image.image, image.cached});
  drive(scheduler_, scheduler_scratch_, scheduler::ImageCached{node, image.image, image.cached});
  drive(distribution_, distribution_scratch_,
        images::CopyChanged{node, image.image, image.cached});
}
void Control::report(NodeId node, const ScrubbedReport&) {
  drive(tenancy_, tenancy_scratch_, tenancy::NodeScrubbed{node});
  capacity_freed();
}
void Control::report(NodeId node, const SnapshotReport& said) {
  if (said.news == SnapshotNews::not_fetched) {  // nor can it pass it on
    drive(distribution_, distribution_scratch_,
          images::CopyChanged{node, images::restore_image_id(said.snapshot), false});
  }
  drive(snapshots_, snapshots_scratch_,
        images::SnapshotSaid{node, said.snapshot, said.news, said.bytes});
}
void Control::report(GatewayId gateway, const Demand& demand) {
  const GroupSpec* spec = group(demand.group);
  if (spec == nullptr || spec->gateway != gateway) return;  // another's group, or no more its own
  drive(autoscaler_, autoscaler_scratch_, autoscaler::DemandReported{demand});
}
void Control::report(GatewayId gateway, const ReplicaReturned& returned) {
  const sandbox::Record* record = sandboxes_.find(returned.sandbox);
  const GroupSpec* spec = group(returned.group);
  if (spec == nullptr || spec->gateway != gateway) return;
  if (record == nullptr || record->group != returned.group || record->stop_asked) return;
  replica_ended(returned.sandbox, returned.group, record->ran);
  drive(sandboxes_, sandbox_scratch_, sandbox::TerminateRequested{returned.sandbox, {}});
}

// ---- effects of sandbox

void Control::handle(const sandbox::Refused& refused) {
  out_->push_back(refused);
  if (refused.group) replica_ended(refused.sandbox, refused.group, false);
}

void Control::handle(const sandbox::AskAdmission& ask) {
  const sandbox::Record* found = sandboxes_.find(ask.sandbox);
  if (found == nullptr) return;  // it ended while what had been said before was carried out
  const sandbox::Record& record = *found;
  const PoolId grows = pool_of(record);
  count_pending(grows, record.tenant, record.resources, static_cast<bool>(record.gang), +1);
  const PoolId pool = record.pool ? record.pool : dedicated_pool(record.tenant);
  drive(tenancy_, tenancy_scratch_,
        tenancy::SandboxAsked{ask.sandbox, ask.tenant, ask.resources, pool, record.priority,
                              record.gang, grows, ask.again});
}

void Control::handle(const sandbox::SendStart& start) {
  const sandbox::Record& record = *sandboxes_.find(start.sandbox);
  StartOrder order;
  order.sandbox = start.sandbox;
  order.owner = tenancy_.owner_key(record.tenant);
  order.resources = record.resources;
  order.gpu_mask = record.gpu_mask;
  const GroupSpec* spec = group(record.group);
  if (spec != nullptr && spec->snapshots) {
    drive(snapshots_, snapshots_scratch_,
          images::StartAsked{record.group, start.sandbox, start.node, record.image});
    order.restore = start_chosen_.restore;
    order.save = start_chosen_.save;
  }
  if (record.image) order.image = *catalogue_.spec(record.image);
  const ImageId needed =
      order.restore ? images::restore_image_id(order.restore.snapshot) : record.image;
  if (needed) order.sources = sources_of(start.node, needed);
  order.lifetime = record.lifetime;
  order.group = record.group;
  order.restart = record.restart;
  send(start.node, std::move(order));
}

void Control::handle(const sandbox::SendStop& stop) {
  send(stop.node, StopOrder{stop.sandbox, stop.grace});
}

void Control::handle(const sandbox::StartSettled& settled) {
  drive(scheduler_, scheduler_scratch_, scheduler::StartFinished{settled.sandbox});
  if (tenancy_.pending_count() != 0) capacity_freed();  // a start slot has come free
}

void Control::handle(const sandbox::Unplace& unplace) {
  if (snapshots_.saves(unplace.sandbox)) {
    drive(snapshots_, snapshots_scratch_, images::ReplicaLost{unplace.sandbox});
  }
  if (!unplace.node) {
    // It has left a node in the same step, which is said after this and gives all of it back.
    const tenancy::Held* held = tenancy_.state().held.find(unplace.sandbox);
    if (held != nullptr && held->phase == tenancy::Phase::placed) return;
    if (scheduler_.nominates(unplace.sandbox)) {
      drive(scheduler_, scheduler_scratch_, scheduler::Released{unplace.sandbox});
    } else {
      count_waiting(unplace.sandbox, -1);
    }
    drive(tenancy_, tenancy_scratch_, tenancy::SandboxCancelled{unplace.sandbox});
    return capacity_freed();  // it may have been what others could not pass
  }
  drive(scheduler_, scheduler_scratch_, scheduler::Released{unplace.sandbox});
  drive(tenancy_, tenancy_scratch_, tenancy::SandboxEnded{unplace.sandbox});
  NodeLink& link = routing_.nodes[slot_of(unplace.node)];
  if (link.sandboxes != 0 && --link.sandboxes == 0) {
    drive(fleet_, fleet_scratch_, fleet::NodeIdle{unplace.node});
  }
  capacity_freed();
}

void Control::handle(const sandbox::Running& running) {
  out_->push_back(running);
  const GroupSpec* spec = group(running.group);
  if (spec == nullptr) return;
  drive(autoscaler_, autoscaler_scratch_, autoscaler::ReplicaStarted{running.group, running.took});
  announce(*spec, running.sandbox);
}

void Control::handle(const sandbox::Gone& gone) {
  out_->push_back(gone);
  const GroupSpec* spec = group(gone.group);
  if (spec == nullptr) return;
  // Else it has been counted as ended when its end was asked.
  if (!gone.stop_asked) replica_ended(gone.sandbox, gone.group, gone.was_running);
  routing_.leaving.erase(gone.sandbox);
  if (gone.was_running) send(spec->gateway, ReplicaGone{gone.group, gone.sandbox});
}

// ---- effects of tenancy and scheduler

scheduler::PlaceAsked Control::place_asked(SandboxId sandbox, TenantId owner_key) const {
  const sandbox::Record& record = *sandboxes_.find(sandbox);
  const ImageId usual = record.group ? snapshots_.usual_image(record.group) : ImageId{};
  return {sandbox,
          owner_key,
          record.resources,
          record.pool ? record.pool : dedicated_pool(record.tenant),
          usual ? usual : record.image,
          record.group,
          record.failed_on};
}

// The same for one for which others are to make room.
scheduler::PlaceAsked Control::room_asked(SandboxId sandbox) const {
  const tenancy::TryPlace attempt =
      tenancy_.attempt(now_, sandbox, *tenancy_.state().held.find(sandbox));
  scheduler::PlaceAsked asked = place_asked(sandbox, attempt.owner_key);
  asked.spare = attempt.spare;
  return asked;
}

void Control::handle(const tenancy::TryPlace& attempt) {
  const sandbox::Record& record = *sandboxes_.find(attempt.sandbox);
  if (record.gang) return place_gang(record, attempt);
  scheduler::PlaceAsked asked = place_asked(attempt.sandbox, attempt.owner_key);
  asked.own_only = attempt.own_only;
  asked.spare = attempt.spare;
  drive(scheduler_, scheduler_scratch_, asked);
}

void Control::handle(const tenancy::RefuseSandbox& refused) {
  const sandbox::Record& record = *sandboxes_.find(refused.sandbox);
  count_pending(pool_of(record), record.tenant, record.resources, static_cast<bool>(record.gang),
                -1);
  drive(sandboxes_, sandbox_scratch_,
        sandbox::AdmissionRefused{refused.sandbox, static_cast<std::uint8_t>(refused.rule),
                                  refused.needed, refused.in_use, refused.limit});
}

void Control::handle(const tenancy::SetOwner& owner) {
  drive(scheduler_, scheduler_scratch_,
        scheduler::NodeOwned{owner.node, owner.owner, owner.usable});
}

void Control::handle(const tenancy::ScrubNode& scrub) { send(scrub.node, ScrubOrder{}); }

// One that begins waits for the end of the step: what led to it may not be carried out yet.
void Control::handle(const tenancy::RoundDue& due) {
  if (due.goes_on) return capacity_freed(true);
  round_due_ = true;
}

void Control::handle(const scheduler::Placed& placed) {
  if (!placed.nominated) count_waiting(placed.sandbox, -1);
  drive(tenancy_, tenancy_scratch_,
        tenancy::SandboxPlaced{placed.sandbox, placed.node, placed.claims});
  if (routing_.nodes[slot_of(placed.node)].sandboxes++ == 0) {
    drive(fleet_, fleet_scratch_, fleet::NodeBusy{placed.node});
  }
  drive(sandboxes_, sandbox_scratch_,
        sandbox::Placed{placed.sandbox, placed.node, placed.gpu_mask});
}

void Control::handle(const scheduler::NotPlaced& not_placed) {
  if (preempt(not_placed) || refuse_gang(not_placed) || defragment(not_placed)) return;
  drive(tenancy_, tenancy_scratch_, tenancy::NotPlaced{not_placed.sandbox});
}

// ---- effects of fleet

void Control::handle(const fleet::WelcomeNode& welcome) { out_->push_back(welcome); }

void Control::handle(const fleet::NodeJoined& joined) {
  const std::uint32_t slot = slot_of(joined.node);
  if (routing_.nodes.size() <= slot) routing_.nodes.resize(slot + 1);
  routing_.nodes[slot] = NodeLink{};
  routing_.nodes[slot].incarnation = joined.registration.incarnation;
  const auto dedicated = routing_.dedicated_tenants.find(joined.registration.pool);
  const bool has_owner = dedicated != routing_.dedicated_tenants.end();
  // Where everybody shares, every node is everybody's from the start.
  TenantId owner = config_.tenancy.separate_tenants ? TenantId{} : tenancy::kSharedOwner;
  if (has_owner) owner = tenancy_.owner_key(dedicated->second);
  drive(scheduler_, scheduler_scratch_,
        scheduler::NodeAdded{joined.node, joined.registration.shape, joined.registration.pool,
                             joined.registration.zone, owner,
                             reserved(joined.registration.pool)});
  drive(tenancy_, tenancy_scratch_,
        tenancy::NodeJoined{joined.node, joined.registration.shape, owner,
                            reserved(joined.registration.pool), joined.registration.pool});
  if (joined.cordoned) handle(fleet::CordonNode{joined.node, true});
  drive(distribution_, distribution_scratch_,
        images::PeerJoined{joined.node, joined.registration.zone});
  drive(catalogue_, catalogue_scratch_, images::NodeSeen{joined.node});
  drive(snapshots_, snapshots_scratch_,
        images::MachineSeen{joined.node, joined.registration.kind});
  capacity_freed();
}

void Control::handle(const fleet::NodeLost& lost) {
  forget_node(lost.node);
  // Its sandboxes are tried elsewhere or end; the node itself is out of the schedule by now.
  drive(sandboxes_, sandbox_scratch_, sandbox::NodeLost{lost.node});
  capacity_freed();
}

void Control::handle(const fleet::ReleaseNode& release) {
  forget_node(release.node);
  out_->push_back(release);
  // What an earlier effect of the same step has put on it is tried elsewhere: when fleet decided,
  // it was idle.
  drive(sandboxes_, sandbox_scratch_, sandbox::NodeLost{release.node});
  round_due_ = true;
}

void Control::handle(const fleet::CordonNode& cordon) {
  drive(scheduler_, scheduler_scratch_, scheduler::NodeCordoned{cordon.node, cordon.cordoned});
  drive(tenancy_, tenancy_scratch_, tenancy::NodeCordoned{cordon.node, cordon.cordoned});
  round_due_ = true;
}

// Groups keep what is in their calls: the gateway gives a replica back once they are done.
void Control::handle(const fleet::EmptyNode& empty) {
  std::vector<SandboxId> there;
  sandboxes_.for_each_on(empty.node,
                         [&](SandboxId id, const sandbox::Record&) { there.push_back(id); });
  for (const SandboxId id : there) {
    const sandbox::Record* record = sandboxes_.find(id);
    if (record == nullptr || record->stop_asked || record->moving) continue;
    const GroupSpec* spec = group(record->group);
    if (spec != nullptr && record->phase == sandbox::Phase::running) {
      ++routing_.moved;
      drain_replica(*spec, id);
    } else if (!record->ran || record->restart) {
      ++routing_.moved;
      drive(sandboxes_, sandbox_scratch_, sandbox::MoveAsked{id});
    }
  }
}

void Control::replica_ended(SandboxId replica, GroupId group, bool was_ready) {
  drive(autoscaler_, autoscaler_scratch_,
        autoscaler::ReplicaEnded{group, was_ready, routing_.leaving.contains(replica)});
}

// To the gateway that it is to serve; one that is to leave serves there what it has.
void Control::announce(const GroupSpec& spec, SandboxId replica) {
  send(spec.gateway, ReplicaReady{spec.group, replica});
  if (routing_.leaving.contains(replica)) {
    send(spec.gateway, DrainReplica{spec.group, replica});
  }
}

// It is no capacity from now on, and comes back no more, also where its node is used again: its
// gateway sends it nothing. Told again, it counts once.
void Control::drain_replica(const GroupSpec& spec, SandboxId replica) {
  send(spec.gateway, DrainReplica{spec.group, replica});
  if (!routing_.leaving.insert(replica).second) return;
  drive(autoscaler_, autoscaler_scratch_, autoscaler::ReplicaLeaves{spec.group});
}

void Control::handle(const images::WarmNode& warm) {
  const ImageSpec* spec = catalogue_.spec(warm.image);
  if (spec != nullptr) send(warm.node, WarmOrder{*spec, sources_of(warm.node, warm.image)});
}

// ---- effects of autoscaler

void Control::handle(const autoscaler::StartReplicas& start) {
  const GroupSpec* found = group(start.group);
  if (found == nullptr) return;
  for (std::uint32_t i = 0; i < start.count; ++i) {
    // Told before the request, since a refusal comes back at once.
    drive(autoscaler_, autoscaler_scratch_, autoscaler::ReplicaStarting{start.group});
    request_replica(*group(start.group));
  }
}

// Said again as long as the gateway has given none back; but it obeys each that it gets, so while
// one is on its way to it no other is sent after it.
void Control::handle(const autoscaler::StopReplicas& stop) {
  const GroupSpec* spec = group(stop.group);
  if (spec == nullptr) return;
  const std::size_t index = spec->gateway.value - 1;
  if (index >= routing_.gateways.size()) return;
  if (routing_.gateways[index].drains.contains(stop.group)) return;
  const std::uint64_t sequence = send(spec->gateway, DrainReplicas{stop.group, stop.count});
  if (sequence != 0) routing_.gateways[index].drains.emplace(stop.group, sequence);
}

// Those that have waited least; what has a node goes on.
void Control::handle(const autoscaler::CancelStarts& cancel) {
  for (std::uint32_t i = 0; i < cancel.count; ++i) {
    const SandboxId waiting = sandboxes_.last_waiting(cancel.group);
    if (!waiting) return;
    drive(sandboxes_, sandbox_scratch_, sandbox::TerminateRequested{waiting, {}});
  }
}

void Control::request_replica(const GroupSpec& spec) {
  const bool image_known = !spec.image || catalogue_.spec(spec.image) != nullptr;
  drive(sandboxes_, sandbox_scratch_,
        sandbox::Requested{0,
                           {},
                           spec.tenant,
                           spec.group,
                           spec.resources,
                           spec.image,
                           image_known,
                           fits_somewhere(spec.tenant, spec.pool, spec.resources),
                           spec.pool,
                           {},
                           false,
                           spec.priority,
                           {}});
}

// ---- small parts

void Control::send(NodeId node, NodeOrder order) {
  const std::uint32_t slot = slot_of(node);
  if (slot >= routing_.nodes.size()) return;
  NodeLink& link = routing_.nodes[slot];
  if (!fleet_.known(node, link.incarnation)) return;  // lost meanwhile; NodeLost settles the rest
  const std::uint64_t sequence = link.orders.push(order);
  link.acknowledgement_due = false;
  out_->push_back(
      ToNode{node, {link.incarnation, sequence, link.reports.received, std::move(order)}});
  // It beats and does not obey: it gets nothing more, so what is kept for it stays bounded.
  if (link.orders.size() > config_.orders_per_node_max) {
    drive(fleet_, fleet_scratch_, fleet::DrainAsked{node});
  }
}

std::uint64_t Control::send(GatewayId gateway, GatewayOrder order) {
  const std::size_t index = gateway.value - 1;
  if (index >= routing_.gateways.size() || !routing_.gateways[index].joined) return 0;
  GatewayLink& link = routing_.gateways[index];
  const std::uint64_t sequence = link.orders.push(order);
  out_->push_back(ToGateway{gateway, {link.incarnation, sequence, link.reports.received, order}});
  return sequence;
}

std::vector<NodeId> Control::sources_of(NodeId node, ImageId image) {
  drive(distribution_, distribution_scratch_, images::SourceAsked{node, image});
  return std::move(sources_);
}

// What it was to fetch for this start it does not, unless another needs it there: nobody is sent to
// it for that.
void Control::images_do_not_come(NodeId node, SandboxId sandbox) {
  const sandbox::Record* record = sandboxes_.find(sandbox);
  if (record == nullptr || record->node != node) return;
  for (const ImageId image : {record->image, snapshots_.usual_image(record->group)}) {
    if (!image || !distribution_.is_getting(node, image)) continue;
    bool needed = catalogue_.state().everywhere.contains(image);
    sandboxes_.for_each_on(node, [&](SandboxId id, const sandbox::Record& other) {
      const bool alike = other.image == image || (other.group && other.group == record->group);
      needed = needed || (id != sandbox && alike);
    });
    if (needed) continue;
    drive(distribution_, distribution_scratch_, images::CopyChanged{node, image, false});
  }
}

void Control::forget_node(NodeId node) {
  drive(scheduler_, scheduler_scratch_, scheduler::NodeRemoved{node});
  drive(tenancy_, tenancy_scratch_, tenancy::NodeGone{node});
  drive(catalogue_, catalogue_scratch_, images::NodeGone{node});
  drive(distribution_, distribution_scratch_, images::PeerGone{node});
  drive(snapshots_, snapshots_scratch_, images::MachineGone{node});
}

// A node that is used again has room, and one that is cordoned or released counts no more as its
// owner's, who may claim another. Tried when all that fleet decided is done, so that nothing is
// placed on a node that it cordons next, and before it looks what waits, so that it buys nothing
// for what fits. So is what tenancy wants tried.
void Control::settle_rounds() {
  while (std::exchange(round_due_, false)) capacity_freed();
}

// One round of attempts for what waits, one at a time: each is answered before the next is chosen.
void Control::capacity_freed(bool goes_on) {
  if (tenancy_.pending_count() == 0 || tenancy_.round_open()) return;
  drive(tenancy_, tenancy_scratch_, tenancy::CapacityFreed{goes_on});
  while (tenancy_.round_open()) drive(tenancy_, tenancy_scratch_, tenancy::NextAttempt{});
}

PoolId Control::dedicated_pool(TenantId tenant) const {
  const auto found = routing_.dedicated_pools.find(tenant);
  return found == routing_.dedicated_pools.end() ? PoolId{} : found->second;
}

// Only asks that name the pool may use it.
bool Control::reserved(PoolId pool) const {
  if (routing_.dedicated_tenants.contains(pool)) return true;
  return pool && pool.value <= routing_.pools.size() &&
         routing_.pools[pool.value - 1].policy.reserved;
}

// Where more nodes would help this sandbox: its own pool, else the first elastic one that fits it and
// is not sold out, or the first of all where all of them are.
PoolId Control::pool_of(const sandbox::Record& record) const {
  if (record.pool) return record.pool;
  if (const PoolId dedicated = dedicated_pool(record.tenant)) return dedicated;
  PoolId first;
  for (const PoolPending& pool : routing_.pools) {
    if (!pool.policy.elastic || reserved(pool.demand.pool)) continue;
    if (!fits(pool.policy.shape, record.resources)) continue;
    const std::int64_t at_once =
        starts_on(pool.policy.shape, record.resources) * pool.policy.nodes_max;
    if (record.gang && at_once < record.gang.size) continue;
    if (!fleet_.sold_out(now_, pool.demand.pool)) return pool.demand.pool;
    if (!first) first = pool.demand.pool;
  }
  return first;
}

std::size_t Control::sold_out_pools() const {
  return static_cast<std::size_t>(std::ranges::count_if(routing_.pools, [&](const PoolPending& one) {
    return one.policy.elastic && fleet_.sold_out(now_, one.demand.pool);
  }));
}

// What waits for more of a pool that is sold out waits for the next one that fits it. The policies
// that look at all that waits go by no such pool.
void Control::grow_elsewhere() {
  if (config_.fleet.rules.policy != fleet::Policy::idle) return;
  std::vector<SandboxId> waiting;
  tenancy_.state().held.for_each([&](SandboxId id, const tenancy::Held& held) {
    const bool counted =
        held.phase != tenancy::Phase::placed && held.phase != tenancy::Phase::nominated;
    if (counted && fleet_.sold_out(now_, held.grows)) waiting.push_back(id);
  });
  for (const SandboxId id : waiting) {
    const PoolId pool = pool_of(*sandboxes_.find(id));
    if (pool == tenancy_.state().held.find(id)->grows) continue;
    count_waiting(id, -1);
    drive(tenancy_, tenancy_scratch_, tenancy::GrowsElsewhere{id, pool});
    count_waiting(id, +1);
  }
}

// Whether waiting could ever help: some pool that it may use has nodes large enough. Where a pool's
// shape was not given the largest node it ever had stands for it, and a pool that never had any
// says nothing. Another's own pool is of no use however large: what waited for it would in time
// hold off its owner, and be no nearer to a node.
bool Control::fits_somewhere(TenantId tenant, PoolId asked, const Resources& ask) const {
  const PoolId only = asked ? asked : dedicated_pool(tenant);
  const auto whose = routing_.dedicated_tenants.find(asked);
  if (whose != routing_.dedicated_tenants.end() && asked != dedicated_pool(tenant) &&
      tenancy_.owner_key(whose->second) != tenancy_.owner_key(tenant)) {
    return false;
  }
  for (const PoolPending& pool : routing_.pools) {
    if (!pool.demand.pool) continue;
    if (only ? pool.demand.pool != only : reserved(pool.demand.pool)) continue;
    const NodeShape& shape = pool.policy.shape == NodeShape{} ? pool.largest : pool.policy.shape;
    if (shape == NodeShape{} || fits(shape, ask)) return true;
  }
  return false;
}

// For the pool that it was counted for when it asked, whichever would grow for it now.
void Control::count_waiting(SandboxId sandbox, int sign) {
  const tenancy::Held* held = tenancy_.state().held.find(sandbox);
  if (held == nullptr) return;
  count_pending(held->grows, held->tenant, held->resources, static_cast<bool>(held->gang), sign);
}

void Control::count_pending(PoolId id, TenantId tenant, const Resources& ask, bool in_gang,
                            int sign) {
  if (!id && in_gang) {  // no pool alone can be starting all of it: it counts for each
    for (const PoolPending& one : routing_.pools) {
      const bool may = one.policy.elastic && !reserved(one.demand.pool);
      if (may && fits(one.policy.shape, ask)) {
        count_pending(one.demand.pool, tenant, ask, in_gang, sign);
      }
    }
  }
  if (!id || id.value > routing_.pools.size()) return;
  PoolPending& pool = routing_.pools[id.value - 1];
  fleet::PendingDemand& demand = pool.demand;
  demand.count += sign;
  demand.cpu_millicores += sign * ask.cpu_millicores;
  demand.memory_bytes += sign * ask.memory_bytes;
  demand.disk_bytes += sign * ask.disk_bytes;
  demand.gpu_millis += sign * std::int64_t{ask.gpus} * ask.gpu_millis;
  if (in_gang) {
    const std::int64_t on_one = std::max<std::int64_t>(1, starts_on(pool.policy.shape, ask));
    demand.gang_millionths += sign * ((1'000'000 + on_one - 1) / on_one);
  }
  const TenantId owner = tenancy_.owner_key(tenant);
  if ((pool.owners[owner] += sign) == 0) pool.owners.erase(owner);
  demand.owners = static_cast<std::int64_t>(pool.owners.size());
  pool.changed = pool.policy.elastic;
}

// At the end of a step: fleet hears once of what still waits.
void Control::report_pending() {
  for (PoolPending& pool : routing_.pools) {
    if (!pool.changed) continue;
    pool.changed = false;
    drive(fleet_, fleet_scratch_, pool.demand);
  }
}

const GroupSpec* Control::group(GroupId id) const {
  if (!id || id.value > routing_.groups.size()) return nullptr;
  const GroupSpec& spec = routing_.groups[id.value - 1];
  return spec.group ? &spec : nullptr;
}

// For supply.cc, preemption.cc and gangs.cc.
template void Control::drive(scheduler::Scheduler&, Scratch<scheduler::Scheduler>&,
                             const scheduler::GangAsked&);
template void Control::drive(sandbox::Sandboxes&, Scratch<sandbox::Sandboxes>&,
                             const sandbox::AdmissionRefused&);
template void Control::drive(tenancy::Tenancy&, Scratch<tenancy::Tenancy>&,
                             const tenancy::SandboxNominated&);
template void Control::drive(tenancy::Tenancy&, Scratch<tenancy::Tenancy>&,
                             const tenancy::NominationLost&);
template void Control::drive(scheduler::Scheduler&, Scratch<scheduler::Scheduler>&,
                             const scheduler::Nominated&);
template void Control::drive(sandbox::Sandboxes&, Scratch<sandbox::Sandboxes>&,
                             const sandbox::Preempted&);
template void Control::drive(fleet::Fleet&, Scratch<fleet::Fleet>&, const fleet::WaitingSeen&);
template void Control::drive(fleet::Fleet&, Scratch<fleet::Fleet>&, const fleet::RemovalsFound&);

}  // namespace chalk::control
