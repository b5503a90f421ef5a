// What nodes order of the world, and how nodes come to be.
#include <algorithm>

#include "sim/world/deploy.h"
#include "sim/world/world_body.h"

namespace chalk::sim {
namespace {
// To read a snapshot, or to write it.
Duration moved(const Setup& setup, std::int64_t bytes) {
  return from_nanos(static_cast<double>(bytes) * 1e9 / setup.snapshot_bytes_per_second);
}
}  // namespace

// A node that has been bought, or is there from the start; it exists for control once it registers.
std::uint32_t World::add_node(std::uint32_t pool, std::uint32_t zone, std::uint64_t purchase) {
  TrueNode node;
  node.pool = pool;
  node.zone = zone;
  node.purchase = purchase;
  nodes_.push_back(node);
  return static_cast<std::uint32_t>(nodes_.size() - 1);
}

// For a node that boots. Where nodes were bought more in one zone than in the others, its host may be
// of another one: then its way to the registry is a little longer. Where more of a pool are up than
// twice its most (control gave up all of them again and again), some share the pool's last.
std::uint32_t World::take_host(std::uint32_t pool, std::uint32_t zone) {
  std::vector<std::uint32_t>& spare = spare_hosts_[pool];
  if (spare.empty()) return last_host_[pool];
  auto at = std::find_if(spare.rbegin(), spare.rend(),
                         [&](std::uint32_t host) { return zone_of_host_[host] == zone; });
  if (at == spare.rend()) at = spare.rbegin();
  const std::uint32_t host = *at;
  spare.erase(std::next(at).base());
  return host;
}

// A node is down: what it had under way there is over, and takes nothing from the others any more.
void World::leave_host(std::uint32_t index) {
  const TrueNode& node = nodes_[index];
  stop_serving(index);
  stop_all_fetching(index);
  if (--hosts_used_[node.host] > 0) return;  // somebody else is there: what was begun goes on
  spare_hosts_[node.pool].push_back(node.host);
  if (!model_) return;
  model_->host_down(node.host, now_);
  model_->host_up(node.host, now_);
}

void World::boot(std::uint32_t index) {
  TrueNode& node = nodes_[index];
  if (node.up || node.released) return;
  const Pool& pool = setup_.pools[node.pool];
  node.up = true;
  node.host = take_host(node.pool, node.zone);
  ++hosts_used_[node.host];
  node.agent_up = true;
  node.exited.clear();
  node.up_since = now_;
  node.wake = kNever;
  // Where control had forgotten it, its machine counted on by itself: a boot comes after all of these.
  if (node.incarnation > 0) {
    node.incarnation = machines_->node(node.machine).state().registration.incarnation;
  }
  ++node.incarnation;
  ++node.epoch;
  node.id = {};
  NodeRegistration registration;
  registration.key = index + 1;
  registration.incarnation = node.incarnation;
  registration.purchase = node.purchase;
  registration.pool = PoolId{node.pool + 1};
  registration.zone = ZoneId{node.zone + 1};
  registration.shape = pool.shape;
  registration.kind = pool.kind;
  node.machine = machines_->create_node({node_config(setup_, pool), registration});
  measure_.node_up(now_, pool);
  if (node.purchase != 0 && node.epoch == 1) measure_.node_arrived(now_, pool);
  plan_reclaim(index);
  step_node(index, node::Booted{});
}

void World::obey_node_wake(std::uint32_t index, const WakeAt& wake) {
  TrueNode& node = nodes_[index];
  node.wake = std::max(now_, wake.at);  // what came due while its agent was away is due now
  queue_.push(kNodeWakeLane, node.wake, kNodeWake, index, node.epoch);
}

void World::obey(std::uint32_t, const node::Register& order) {
  post_control(order.registration, false, 0);
}

void World::obey(std::uint32_t index, const node::ToControl& message) {
  const bool heartbeat = !message.envelope.message.has_value();
  nodes_[index].says_id = message.node;
  nodes_[index].says_incarnation = message.envelope.incarnation;
  machines_->control().prefetch(message.node);
  post_control(control::FromNode{message.node, message.envelope}, heartbeat, index);
}

void World::obey(std::uint32_t index, const node::StartSandbox& start) {
  TrueNode& node = nodes_[index];
  const StartOrder& order = start.order;
  if (truth_.find(index, order.sandbox) != nullptr) return;  // under way: said twice
  LiveSandbox live;
  live.sandbox = order.sandbox;
  live.node = index;
  live.epoch = node.epoch;
  live.owner = order.owner;
  const sandbox::Record* record = machines_->control().sandboxes().find(order.sandbox);
  if (record != nullptr) live.tenant = record->tenant;
  live.group = order.group;
  live.resources = order.resources;
  live.gpu_mask = order.gpu_mask;
  live.lifetime = order.lifetime;
  live.ordered = now_;
  live.again = start.restarts > 0;
  live.mode = start.mode;
  truth_.add(live);
  node.live.push_back(order.sandbox);
  if (checker_) checker_->started(now_, node, live, setup_.pools[node.pool].shape);
  node.last_owner = order.owner;
  measure_.sandbox_started(now_, live, node, !live.again && !order.image.layers.empty(),
                           step_is_order_);

  if (start.mode == node::StartMode::restore && checker_) {
    const MachineKind made_on = saved_on_[order.restore.snapshot];
    checker_->restored(now_, live, made_on, setup_.pools[node.pool].kind);
  }
  Job job = job_of(Job::What::start, index);
  job.sandbox = order.sandbox;
  job.ordered = now_;
  if (fails(Fault::Kind::start_failure, index)) job.good = false;
  const bool restores = start.mode == node::StartMode::restore;
  if (restores && fails(Fault::Kind::restore_failure, index)) job.good = false;
  const Duration then = start_takes(start);
  if (start.mode == node::StartMode::cold) {
    return work(std::move(job), then, order.resources.cpu_millicores);
  }
  queue_.push(kHeap, now_ + then, kJobDone, 0, jobs_.put(std::move(job)));
}

// But for the work that contends for cores, see work().
Duration World::start_takes(const node::StartSandbox& start) {
  if (start.mode == node::StartMode::restore) {
    return setup_.restore + moved(setup_, start.order.restore.bytes);
  }
  const Duration made =
      (start.mode == node::StartMode::shell ? shell_start_ : start_).sample(random_.next());
  if (!start.order.group) return made;
  const StartOfGroup& group = start_of_group_[start.order.group.value - 1];
  return group.has_init ? made + group.init.sample(random_.next()) : made;
}

// A sandbox is made: work on cores that others use as well, and then what does not contend.
void World::work(Job&& job, Duration then, std::int64_t cpu_millicores) {
  if (setup_.start_core_seconds <= 0) {
    return queue_.push(kHeap, now_ + then, kJobDone, 0, jobs_.put(std::move(job)));
  }
  job.then = then;
  job.after = job.what;
  job.what = Job::What::start_work;
  const Duration work = setup_.start_core_spread > 0 ? start_work_.sample(random_.next())
                                                     : from_nanos(setup_.start_core_seconds * 1e9);
  const std::uint32_t host = nodes_[job.node].host;
  model_->execute(jobs_.put(std::move(job)), now_, host, work,
                  static_cast<std::int32_t>(
                      std::max<std::int64_t>({1, cpu_millicores, setup_.start_cpu_min})));
}

bool World::fails(Fault::Kind kind, std::uint32_t node) {
  const std::int32_t failing = permille_of(kind, node);
  return failing != 0 && random_.below(1000) < static_cast<std::uint64_t>(failing);
}

void World::obey(std::uint32_t index, const node::MakeShell&) {
  work(job_of(Job::What::shell, index), start_.sample(random_.next()), 0);
}

// Written out, and then brought to where the others fetch it from. (The way up is as fast as the way
// down, and is timed on that.)
void World::obey(std::uint32_t index, const node::SaveSnapshot& save) {
  Job job = job_of(Job::What::save, index);
  job.sandbox = save.sandbox;
  job.snapshot = save.snapshot;
  if (fails(Fault::Kind::save_failure, index)) job.good = false;
  const LiveSandbox* live = truth_.find(index, save.sandbox);
  if (live != nullptr) job.bytes = start_of_group_[live->group.value - 1].snapshot_bytes;
  const Duration takes = setup_.save + moved(setup_, job.bytes);
  queue_.push(kHeap, now_ + takes, kJobDone, 0, jobs_.put(std::move(job)));
}

Job World::job_of(Job::What what, std::uint32_t index) const {
  Job job;
  job.what = what;
  job.node = index;
  job.epoch = nodes_[index].epoch;
  job.agent = nodes_[index].agent;
  return job;
}

// `cut_off`: its host went down.
void World::job_done(std::uint64_t slot, bool cut_off) {
  Job job = jobs_.take(slot);
  if (job.peer != 0) served_[job.peer - 1].erase(slot);
  if (job.what == Job::What::pull) fetched(job.node, slot);
  if (job.what == Job::What::call) {
    if (cut_off) return;  // it breaks when its gateway learns of it
    if (setup_.dispatch_latency.nanos == 0) return call_done(job.request);
    return queue_.push(kHeap, now_ + setup_.dispatch_latency, kCallDone, 0, job.request.value);
  }
  // From before a crash: the node that asked for it is no more.
  if (!nodes_[job.node].up || nodes_[job.node].epoch != job.epoch) return;
  // Of an agent that is no more; what ends by itself ends also without it.
  if (nodes_[job.node].agent != job.agent && job.what != Job::What::exit) return;
  switch (job.what) {
    case Job::What::start: return start_done(job);
    case Job::What::start_work: {
      Job rest = job;
      rest.what = job.after;
      return queue_.push(kHeap, now_ + job.then, kJobDone, 0, jobs_.put(std::move(rest)));
    }
    case Job::What::pull: return part_done(std::move(job));
    case Job::What::kill: {
      const LiveSandbox* live = truth_.find(job.node, job.sandbox);
      // Its start failed before the kill was done, and it has been started here again since.
      if (live != nullptr && live->ordered != job.ordered) return;
      end_live(job.node, job.sandbox);
      return step_node(job.node, node::SandboxKilled{job.sandbox});
    }
    case Job::What::scrub:
      nodes_[job.node].last_owner = {};
      return step_node(job.node, node::ScrubFinished{});
    case Job::What::exit: return exited(job);
    case Job::What::shell: return step_node(job.node, node::ShellMade{job.good});
    case Job::What::save: {
      if (!model_ || !job.good) return saved(job);
      Job upload = job;
      upload.what = Job::What::upload;
      const TrueNode& node = nodes_[job.node];
      return model_->pull(jobs_.put(std::move(upload)), now_, node.host, node.zone, job.bytes, 0);
    }
    case Job::What::upload: return saved(job);
    case Job::What::call: return;
  }
}

void World::saved(const Job& job) {
  if (job.good) {
    saved_on_[job.snapshot] = setup_.pools[nodes_[job.node].pool].kind;
    measure_.snapshot_saved();
  }
  step_node(job.node, node::SnapshotSaved{job.sandbox, job.snapshot, job.good, job.bytes});
}

void World::start_done(const Job& job) {
  LiveSandbox* live = truth_.find(job.node, job.sandbox);
  // Killed while it started, and perhaps started here again since.
  if (live == nullptr || live->ordered != job.ordered) return;
  if (job.good) {
    live->running = now_;
    measure_.sandbox_running(now_);
    if (checker_) checker_->running(now_, *live);
    const auto place = SlotTable<SandboxId, int>::slot_of(job.sandbox);
    if (!live->group && place < ask_of_.size() && ask_of_[place].first == job.sandbox) {
      if (Ask* ask = asks_.find(ask_of_[place].second)) {
        if (!ask->ran) measure_.dispatched(now_, now_ - ask->arrived, true, ask->asked.tenant);
        ask->ran = true;
        // A start that its agent did not live to tell was none: the next one is the first again.
        if (!live->again) ask->ran_since = now_;
        live->first_running = ask->ran_since;
        if (ask->service.nanos > 0) {
          Job exit = job;
          exit.what = Job::What::exit;
          queue_.push(kHeap, now_ + ask->service, kJobDone, 0, jobs_.put(std::move(exit)));
        }
      }
    }
  } else {
    end_live(job.node, job.sandbox);
  }
  step_node(job.node, node::SandboxStarted{job.sandbox, job.good});
}

void World::obey(std::uint32_t index, const node::KillSandbox& kill) {
  LiveSandbox* live = truth_.find(index, kill.sandbox);
  if (live != nullptr) live->killed = true;
  Job job = job_of(Job::What::kill, index);
  job.sandbox = kill.sandbox;
  job.ordered = live != nullptr ? live->ordered : kNever;
  queue_.push(kCallLane, now_ + setup_.stop, kJobDone, 0, jobs_.put(Job(job)));
}

void World::exited(const Job& job) {
  const LiveSandbox* live = truth_.find(job.node, job.sandbox);
  if (live == nullptr || live->running == kNever || live->ordered != job.ordered) {
    return;  // it was stopped before
  }
  end_live(job.node, job.sandbox);
  if (!nodes_[job.node].agent_up) return nodes_[job.node].exited.push_back(job.sandbox);
  step_node(job.node, node::SandboxExited{job.sandbox});
}

void World::end_live(std::uint32_t index, SandboxId sandbox) {
  const LiveSandbox* live = truth_.find(index, sandbox);
  if (live == nullptr) return;
  measure_.sandbox_ended(now_, *live, nodes_[index]);
  if (checker_) checker_->ended(now_, nodes_[index], *live);
  truth_.remove(index, sandbox);
  auto& here = nodes_[index].live;
  here.erase(std::find(here.begin(), here.end(), sandbox));
}

void World::obey(std::uint32_t index, const node::Scrub&) {
  const Job job = job_of(Job::What::scrub, index);
  queue_.push(kHeap, now_ + setup_.scrub, kJobDone, 0, jobs_.put(Job(job)));
}

void World::obey(std::uint32_t, const images::EvictLayers&) {}  // removal takes no time that counts

}  // namespace chalk::sim
