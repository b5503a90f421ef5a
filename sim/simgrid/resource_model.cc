#include "sim/simgrid/resource_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <unordered_map>
#include <vector>

#include "model/core/fifo.h"
#include "model/core/invariant.h"
#include "sim/simgrid/flow_engine.h"

namespace chalk::sim {
namespace {

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

enum class Stage : std::uint8_t { kFree, kLatency, kQueued, kFlow, kWrite, kExecution, kOver };

struct Activity {
  std::uint64_t key = 0;
  std::uint64_t order = 0;  // of starts; also tells a slot's uses apart
  Time started;
  Stage stage = Stage::kFree;
  bool failed = false;
  Endpoint from, to;
  std::uint32_t service = kNone;  // the registry or object store it waits for
  std::int64_t bytes = 0;
  std::int64_t unpack_bytes = 0;

  bool needs(std::uint32_t host) const {
    const auto is_host = [&](Endpoint end) {
      return end.kind == Endpoint::Kind::kHost && end.index == host;
    };
    return is_host(from) || is_host(to);
  }
};

// A registry or object store: what it serves now, and who waits.
struct ServiceQueue {
  std::uint32_t limit = 0;
  std::uint32_t active = 0;
  struct Waiting {
    std::uint32_t slot = 0;
    std::uint64_t order = 0;
    bool operator==(const Waiting&) const = default;
  };
  Fifo<Waiting> waiting;  // with cancelled ones, which are skipped when their turn comes
};

// Something that happens to an activity at a known time, by our own clock.
struct Due {
  Time at;
  std::uint64_t order = 0;
  std::uint32_t slot = 0;
  auto operator<=>(const Due&) const = default;
};
using DueQueue = std::priority_queue<Due, std::vector<Due>, std::greater<Due>>;

Endpoint host_end(std::uint32_t host) { return {Endpoint::Kind::kHost, host}; }

}  // namespace

class ResourceModel::Body {
 public:
  explicit Body(Platform platform);

  std::uint32_t begin(std::uint64_t key, Time now, Endpoint from, Endpoint to);
  void start_flow_of(std::uint32_t slot, Duration latency, std::int64_t bytes, std::int64_t unpack);
  void execute(std::uint64_t key, Time now, std::uint32_t host, Duration work, std::int32_t cap);
  void cancel(std::uint64_t key, Time now);
  void set_registry_speed(std::uint32_t zone, Time now, std::int32_t permille);
  void host_down(std::uint32_t host, Time now);
  void host_up(std::uint32_t host, Time now);
  std::optional<Completion> advance(Time until);

  std::uint32_t host_count() const { return static_cast<std::uint32_t>(platform_.hosts.size()); }
  std::uint32_t zone_count() const { return static_cast<std::uint32_t>(platform_.zones.size()); }
  std::uint32_t zone_of(std::uint32_t host) const {
    CHALK_INVARIANT(host < host_count());
    return platform_.hosts[host].zone;
  }
  std::uint32_t store_service(std::uint32_t zone) const { return zone_count() + zone; }
  Duration latency_between(std::uint32_t zone, std::uint32_t other) const;
  void wait_for(std::uint32_t slot, std::uint32_t service) { slots_[slot].service = service; }
  std::size_t pending() const { return slot_of_.size(); }

 private:
  // Time: our clock is the truth; SimGrid's seconds count from the start of a busy period.
  double to_seconds(Time at) const;
  Time to_time(double seconds) const;
  void catch_up(Time now);
  void bring_engine_to(Time now);
  Time next_engine_time();
  Time next_step_time();
  void step(Time at);
  void handle_ended();

  // The way of an activity through its stages.
  void after_latency(std::uint32_t slot);
  void start_flow(std::uint32_t slot);
  void after_flow(std::uint32_t slot);
  void finish(std::uint32_t slot, bool failed);
  void leave_stage(std::uint32_t slot);
  void serve_next(std::uint32_t service);
  void release(std::uint32_t slot);

  FlowEngine& engine();
  void started_in_engine() {
    ++engine_live_;
    next_engine_known_ = false;
  }

  Platform platform_;
  std::unique_ptr<FlowEngine> engine_;
  Time now_;                   // the latest time that the model has reached
  Time origin_;                // the start of the busy period by our clock,
  double origin_seconds_ = 0;  // and by SimGrid's
  std::uint32_t engine_live_ = 0;
  bool next_engine_known_ = false;
  double next_engine_seconds_ = 0;
  Time next_engine_time_ = kNever;

  std::vector<Activity> slots_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::uint64_t, std::uint32_t> slot_of_;  // by key; never walked
  std::uint64_t next_order_ = 1;
  std::vector<ServiceQueue> services_;  // registries by zone, then object stores by zone
  std::vector<bool> host_is_down_;
  std::vector<std::int32_t> registry_permille_;
  DueQueue latencies_;
  DueQueue over_;
  std::vector<std::uint32_t> ended_;
};

ResourceModel::Body::Body(Platform platform) : platform_(std::move(platform)) {
  check_platform(platform_);
  services_.resize(platform_.zones.size() * 2);
  for (std::uint32_t zone = 0; zone < zone_count(); ++zone) {
    services_[zone].limit = platform_.zones[zone].pulls_at_once;
    services_[store_service(zone)].limit = platform_.concurrent_transfers_per_object_store;
  }
  host_is_down_.resize(platform_.hosts.size());
  registry_permille_.assign(platform_.zones.size(), 1000);
}

std::optional<Completion> ResourceModel::Body::advance(Time until) {
  while (!slot_of_.empty()) {
    while (!over_.empty() && slots_[over_.top().slot].order != over_.top().order) over_.pop();
    const Time first_over = over_.empty() ? kNever : over_.top().at;
    // At one time everything happens before anything is returned: the order is that of starts.
    const Time next_step = next_step_time();
    if (next_step <= until && next_step <= first_over && next_step != kNever) {
      step(next_step);
      continue;
    }
    if (over_.empty() || first_over > until) return std::nullopt;
    const std::uint32_t slot = over_.top().slot;
    over_.pop();
    const Activity& activity = slots_[slot];
    const Completion completion{activity.key, std::max(first_over, now_), activity.failed};
    now_ = completion.at;
    release(slot);
    return completion;
  }
  return std::nullopt;
}

double ResourceModel::Body::to_seconds(Time at) const {
  return origin_seconds_ + static_cast<double>((at - origin_).nanos) / 1e9;
}

Time ResourceModel::Body::to_time(double seconds) const {
  return origin_ + nanoseconds(std::llround((seconds - origin_seconds_) * 1e9));
}

FlowEngine& ResourceModel::Body::engine() {
  if (!engine_) {
    engine_ = std::make_unique<FlowEngine>(platform_);
    for (std::uint32_t zone = 0; zone < zone_count(); ++zone) {
      if (registry_permille_[zone] == 1000) continue;
      engine_->set_registry_speed(zone, registry_permille_[zone]);
    }
  }
  return *engine_;
}

// Does what is due before `now`, for a caller that starts something without asking first.
void ResourceModel::Body::catch_up(Time now) {
  CHALK_INVARIANT(now >= now_);
  for (Time at = next_step_time(); at <= now && at != kNever; at = next_step_time()) step(at);
  now_ = now;
}

// Between changes SimGrid stands still; it moves right before the next change.
void ResourceModel::Body::bring_engine_to(Time now) {
  FlowEngine& flows = engine();
  if (engine_live_ == 0) {
    origin_ = now;
    origin_seconds_ = flows.clock();
    return;
  }
  // Nearer than that it is there: doubles of this size hold no finer steps.
  if (to_seconds(now) - flows.clock() > 0.25e-9) {
    flows.run_to(to_seconds(now), ended_);
    next_engine_known_ = false;
    handle_ended();
  }
}

Time ResourceModel::Body::next_engine_time() {
  if (engine_live_ == 0) return kNever;
  if (!next_engine_known_) {
    const std::optional<double> next = engine_->next_completion();
    next_engine_seconds_ = next.value_or(0);
    // 100 years: a double holds no nanoseconds there, and a stalled flow is never over.
    next_engine_time_ = next && *next < 3.2e9 ? std::max(to_time(*next), now_) : kNever;
    next_engine_known_ = true;
  }
  return next_engine_time_;
}

Time ResourceModel::Body::next_step_time() {
  while (!latencies_.empty()) {
    const Due& due = latencies_.top();
    const Activity& activity = slots_[due.slot];
    if (activity.order == due.order && activity.stage == Stage::kLatency) break;
    latencies_.pop();
  }
  const Time due = latencies_.empty() ? kNever : latencies_.top().at;
  return std::min(due, next_engine_time());
}

void ResourceModel::Body::step(Time at) {
  now_ = std::max(now_, at);
  if (next_engine_time() <= at) {
    engine_->run_to(next_engine_seconds_, ended_);
    next_engine_known_ = false;
    handle_ended();
    return;
  }
  const std::uint32_t slot = latencies_.top().slot;
  latencies_.pop();
  after_latency(slot);
}

void ResourceModel::Body::handle_ended() {
  std::vector<std::uint32_t> ended;
  ended.swap(ended_);
  std::sort(ended.begin(), ended.end(),
            [&](std::uint32_t a, std::uint32_t b) { return slots_[a].order < slots_[b].order; });
  engine_live_ -= static_cast<std::uint32_t>(ended.size());
  for (const std::uint32_t slot : ended) {
    if (slots_[slot].stage == Stage::kFlow) {
      after_flow(slot);
    } else {
      finish(slot, false);
    }
  }
  ended.clear();
  if (ended_.empty()) ended_.swap(ended);  // keeps the memory
}

std::uint32_t ResourceModel::Body::begin(std::uint64_t key, Time now, Endpoint from, Endpoint to) {
  catch_up(now);
  std::uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  const bool fresh = slot_of_.emplace(key, slot).second;
  CHALK_INVARIANT(fresh);
  Activity& activity = slots_[slot];
  activity = {};
  activity.key = key;
  activity.order = next_order_++;
  activity.started = now;
  activity.from = from;
  activity.to = to;
  return slot;
}

void ResourceModel::Body::start_flow_of(std::uint32_t slot, Duration latency, std::int64_t bytes,
                                        std::int64_t unpack) {
  CHALK_INVARIANT(bytes >= 0 && unpack >= 0);
  Activity& activity = slots_[slot];
  activity.bytes = bytes;
  activity.unpack_bytes = unpack;
  for (const Endpoint end : {activity.from, activity.to}) {
    if (end.kind == Endpoint::Kind::kHost && host_is_down_[end.index]) return finish(slot, true);
  }
  activity.stage = Stage::kLatency;
  if (latency.nanos == 0) return after_latency(slot);
  latencies_.push({now_ + latency, activity.order, slot});
}

void ResourceModel::Body::after_latency(std::uint32_t slot) {
  Activity& activity = slots_[slot];
  if (activity.service == kNone || activity.bytes == 0) {
    activity.service = kNone;
    return start_flow(slot);
  }
  ServiceQueue& service = services_[activity.service];
  if (service.active == service.limit) {
    activity.stage = Stage::kQueued;
    service.waiting.push_back({slot, activity.order});
    return;
  }
  ++service.active;
  start_flow(slot);
}

void ResourceModel::Body::start_flow(std::uint32_t slot) {
  slots_[slot].stage = Stage::kFlow;
  if (slots_[slot].bytes == 0) return after_flow(slot);
  bring_engine_to(now_);
  engine_->start_flow(slot, slots_[slot].from, slots_[slot].to, slots_[slot].bytes);
  started_in_engine();
}

void ResourceModel::Body::after_flow(std::uint32_t slot) {
  Activity& activity = slots_[slot];
  const std::uint32_t service = activity.service;
  activity.service = kNone;
  if (activity.unpack_bytes == 0) {
    finish(slot, false);
  } else {
    activity.stage = Stage::kWrite;
    bring_engine_to(now_);
    engine_->start_write(slot, activity.to.index, activity.unpack_bytes);
    started_in_engine();
  }
  if (service != kNone) serve_next(service);
}

void ResourceModel::Body::serve_next(std::uint32_t index) {
  ServiceQueue& service = services_[index];
  --service.active;
  while (service.active < service.limit && !service.waiting.empty()) {
    const ServiceQueue::Waiting next = service.waiting.pop_front();
    const Activity& activity = slots_[next.slot];
    if (activity.order != next.order || activity.stage != Stage::kQueued) continue;
    ++service.active;
    start_flow(next.slot);
  }
}

void ResourceModel::Body::execute(std::uint64_t key, Time now, std::uint32_t host, Duration work,
                                  std::int32_t cap) {
  CHALK_INVARIANT(host < host_count() && work.nanos >= 0);
  const std::uint32_t slot = begin(key, now, host_end(host), host_end(host));
  if (host_is_down_[host] || work.nanos == 0) return finish(slot, host_is_down_[host]);
  slots_[slot].stage = Stage::kExecution;
  bring_engine_to(now_);
  engine_->start_execution(slot, host, work, cap);
  started_in_engine();
}

void ResourceModel::Body::finish(std::uint32_t slot, bool failed) {
  Activity& activity = slots_[slot];
  activity.stage = Stage::kOver;
  activity.failed = failed;
  over_.push({std::max(now_, activity.started), activity.order, slot});
}

// Gives back what the activity holds, wherever it is on its way. SimGrid's clock is at now_.
void ResourceModel::Body::leave_stage(std::uint32_t slot) {
  Activity& activity = slots_[slot];
  const Stage stage = activity.stage;
  activity.stage = Stage::kOver;
  if (stage == Stage::kFlow || stage == Stage::kWrite || stage == Stage::kExecution) {
    engine_->cancel(slot);
    --engine_live_;
    next_engine_known_ = false;
  }
  if (stage == Stage::kFlow && activity.service != kNone) serve_next(activity.service);
}

void ResourceModel::Body::release(std::uint32_t slot) {
  slot_of_.erase(slots_[slot].key);
  slots_[slot] = {};
  free_.push_back(slot);
}

void ResourceModel::Body::cancel(std::uint64_t key, Time now) {
  catch_up(now);
  const auto found = slot_of_.find(key);
  if (found == slot_of_.end()) return;
  if (engine_live_ != 0) bring_engine_to(now_);
  const std::uint32_t slot = found->second;
  leave_stage(slot);
  release(slot);
}

void ResourceModel::Body::set_registry_speed(std::uint32_t zone, Time now, std::int32_t permille) {
  CHALK_INVARIANT(zone < zone_count() && permille >= 0);
  catch_up(now);
  registry_permille_[zone] = permille;
  if (!engine_) return;
  bring_engine_to(now_);
  engine_->set_registry_speed(zone, permille);
  next_engine_known_ = false;
}

void ResourceModel::Body::host_down(std::uint32_t host, Time now) {
  CHALK_INVARIANT(host < host_count());
  catch_up(now);
  host_is_down_[host] = true;
  if (engine_live_ != 0) bring_engine_to(now_);
  std::vector<Due> lost;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const Activity& activity = slots_[slot];
    if (activity.stage == Stage::kFree || activity.stage == Stage::kOver) continue;
    if (activity.needs(host)) lost.push_back({now, activity.order, slot});
  }
  std::sort(lost.begin(), lost.end());
  for (const Due& due : lost) {
    if (slots_[due.slot].stage == Stage::kOver) continue;  // ended within this very nanosecond
    leave_stage(due.slot);
    finish(due.slot, true);
  }
}

void ResourceModel::Body::host_up(std::uint32_t host, Time now) {
  CHALK_INVARIANT(host < host_count());
  catch_up(now);
  host_is_down_[host] = false;
}

Duration ResourceModel::Body::latency_between(std::uint32_t zone, std::uint32_t other) const {
  const Duration here = platform_.zones[zone].latency;
  if (zone == other) return here;
  return here + platform_.between_zones_latency + platform_.zones[other].latency;
}

ResourceModel::ResourceModel(Platform platform)
    : body_(std::make_unique<Body>(std::move(platform))) {}
ResourceModel::~ResourceModel() = default;
ResourceModel::ResourceModel(ResourceModel&&) noexcept = default;
ResourceModel& ResourceModel::operator=(ResourceModel&&) noexcept = default;

void ResourceModel::pull(std::uint64_t activity, Time now, std::uint32_t host,
                         std::uint32_t registry_zone, std::int64_t bytes,
                         std::int64_t unpack_bytes) {
  CHALK_INVARIANT(registry_zone < body_->zone_count());
  const Duration latency = body_->latency_between(body_->zone_of(host), registry_zone);
  const std::uint32_t slot =
      body_->begin(activity, now, {Endpoint::Kind::kRegistry, registry_zone}, host_end(host));
  body_->wait_for(slot, registry_zone);
  body_->start_flow_of(slot, latency, bytes, unpack_bytes);
}

void ResourceModel::transfer(std::uint64_t activity, Time now, std::uint32_t from_host,
                             std::uint32_t to_host, std::int64_t bytes,
                             std::int64_t unpack_bytes) {
  const std::uint32_t zone = body_->zone_of(from_host);
  const bool same = from_host == to_host;
  const Duration latency =
      same ? Duration{} : body_->latency_between(zone, body_->zone_of(to_host));
  const std::uint32_t slot = body_->begin(activity, now, host_end(from_host), host_end(to_host));
  body_->start_flow_of(slot, latency, same ? 0 : bytes, unpack_bytes);
}

void ResourceModel::fetch_object(std::uint64_t activity, Time now, std::uint32_t host,
                                 std::int64_t bytes) {
  const std::uint32_t zone = body_->zone_of(host);
  const std::uint32_t slot =
      body_->begin(activity, now, {Endpoint::Kind::kObjectStore, zone}, host_end(host));
  body_->wait_for(slot, body_->store_service(zone));
  body_->start_flow_of(slot, body_->latency_between(zone, zone), bytes, 0);
}

void ResourceModel::store_object(std::uint64_t activity, Time now, std::uint32_t host,
                                 std::int64_t bytes) {
  const std::uint32_t zone = body_->zone_of(host);
  const std::uint32_t slot =
      body_->begin(activity, now, host_end(host), {Endpoint::Kind::kObjectStore, zone});
  body_->wait_for(slot, body_->store_service(zone));
  body_->start_flow_of(slot, body_->latency_between(zone, zone), bytes, 0);
}

void ResourceModel::execute(std::uint64_t activity, Time now, std::uint32_t host,
                            Duration core_work, std::int32_t cores_millis_cap) {
  body_->execute(activity, now, host, core_work, cores_millis_cap);
}

void ResourceModel::cancel(std::uint64_t activity, Time now) { body_->cancel(activity, now); }
void ResourceModel::set_registry_speed(std::uint32_t zone, Time now, std::int32_t permille) {
  body_->set_registry_speed(zone, now, permille);
}
void ResourceModel::host_down(std::uint32_t host, Time now) { body_->host_down(host, now); }
void ResourceModel::host_up(std::uint32_t host, Time now) { body_->host_up(host, now); }
std::optional<Completion> ResourceModel::advance(Time until) { return body_->advance(until); }
std::size_t ResourceModel::pending() const { return body_->pending(); }

}  // namespace chalk::sim
