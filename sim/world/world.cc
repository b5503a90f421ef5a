#include "sim/world/world.h"

#include <sys/resource.h>

#include <algorithm>

#include "sim/world/deploy.h"
#include "sim/world/world_body.h"

namespace chalk::sim {

Result run_world(const Setup& setup, const RunOptions& options) {
  return World(setup, options).run();
}

World::World(const Setup& setup, const RunOptions& options)
    : setup_(setup),
      options_(options),
      source_(setup.open_workload(options.seed)),
      start_(to_distribution(setup.start)),
      shell_start_(to_distribution(setup.shell_start)),
      start_work_(to_distribution({setup.start_core_spread > 0 ? Delay::Kind::lognormal
                                                               : Delay::Kind::constant,
                                   from_nanos(setup.start_core_seconds * 1e9),
                                   setup.start_core_spread})),
      random_(Random{options.seed, 0}.stream(0x776f726c64)),
      fault_active_(setup.faults.size()),
      fault_nodes_(setup.faults.size()) {
  for (const Pool& pool : setup.pools) boots_.push_back(to_distribution(pool.boot));
  for (const Fault& fault : setup.faults) {
    keep_journal_ = keep_journal_ || fault.kind == Fault::Kind::control_restart;
  }
  if (!options.log_path.empty()) {
    log_ = std::make_unique<LogWriter>(
        options.log_path,
        LogHeader{kLogicVersion, options.commit, setup.name, setup.scenario_hash, options.seed});
  }
  machines_.emplace(log_.get(), options.restore_each);
}

Result World::run() {
  started_ = told_ = std::chrono::steady_clock::now();
  deploy();
  loop();
  if (arrivals_ended_ == kNever) end_arrivals();
  machines_->checkpoint();
  if (checker_) {
    checker_->compare(now_, truth_, nodes_, machines_->control());
    const bool cut = interrupted_ || !setup_.run_until_done;
    checker_->at_end(now_, calls_.size() + asks_.size(), at_work(), cut);
  }
  if (log_) {
    log_->finished(machines_->events(), machines_->running_digest());
    log_->close();
  }
  tell_progress(true);
  return result();
}

void World::loop() {
  const bool sharp = !setup_.run_until_done && setup_.duration.nanos > 0;
  const Time end = sharp ? Time{setup_.duration.nanos} : kNever;
  while (true) {
    if ((++turns_ & 0xFFF) == 0) {
      tell_progress(false);
      if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed)) {
        interrupted_ = true;
        return;
      }
    }
    if (accepting_ && source_->exhausted()) end_arrivals();
    if (!accepting_ && done()) return;
    Time next = queue_.next();
    const Arrival* arrival = accepting_ ? source_->peek() : nullptr;
    const bool arrival_first = arrival != nullptr && arrival->at <= next;
    if (arrival_first) next = arrival->at;
    if (model_ && model_->pending() != 0) {
      if (const auto completion = model_->advance(std::min(next, end))) {
        now_ = std::max(now_, completion->at);
        job_done(completion->activity, completion->failed);
        continue;
      }
    }
    if (next == kNever) return;
    if (accepting_ && setup_.duration.nanos > 0 && next.nanos > setup_.duration.nanos) {
      now_ = Time{setup_.duration.nanos};
      end_arrivals();
      if (!setup_.run_until_done) return;
      continue;
    }
    if (next > end) {  // its workload ended before
      now_ = end;
      return;
    }
    if (!accepting_ && next > arrivals_ended_ + setup_.drain) return;
    now_ = next;
    if (arrival_first) {
      const Arrival one = *arrival;
      source_->pop();
      measure_.demanded(one);
      arrive(one);
      if (setup_.requests_max != 0 && ++arrivals_ >= setup_.requests_max) end_arrivals();
    } else {
      take(queue_.pop());
      fetch_ahead();
    }
    if (machines_->events() >= next_checkpoint_) {
      machines_->checkpoint();
      next_checkpoint_ = machines_->events() + setup_.checkpoint_every;
    }
  }
}

// What the next job needs lies all over a large fleet: each turn before it fetches one step
// further, from the job to its node and sandbox and on to the node's machine.
void World::fetch_ahead() {
  const Scheduled* next = queue_.soon_in_heap();
  if (next == nullptr || next->kind != kJobDone) return;
  if (next->sequence != fetched_) {
    fetched_ = next->sequence;
    fetch_stage_ = 0;
  }
  if (fetch_stage_ > 3) return;
  const Job& job = jobs_[next->detail];
  switch (fetch_stage_++) {
    case 0: return __builtin_prefetch(&job);
    case 1:
      truth_.prefetch(job.sandbox);
      machines_->control().prefetch(job.sandbox);
      return __builtin_prefetch(&nodes_[job.node]);
    case 2:
      machines_->control().prefetch_around(job.sandbox);
      return machines_->prefetch_node(nodes_[job.node].machine, 10);
    default: __builtin_prefetch(nodes_[job.node].live.data());
  }
}

bool World::done() const { return calls_.size() == 0 && asks_.size() == 0; }

void World::end_arrivals() {
  accepting_ = false;
  arrivals_ended_ = now_;
  measure_.end_window(now_);
  std::uint64_t turns = 0;
  for (const auto& group : machines_->control().autoscaler().state().groups) turns += group.turns;
  measure_.scaling_turned(turns);
}

void World::take(const Scheduled& entry) {
  switch (static_cast<Kind>(entry.kind)) {
    case kControlWake:
      if (entry.at != control_wake_) return;  // replaced by a later WakeAt
      if (control_down_) return;              // it wakes when it is restored
      control_wake_ = kNever;
      return step_control(Woken{});
    case kGatewayWake:
      if (entry.at != gateway_wakes_[entry.index]) return;
      gateway_wakes_[entry.index] = kNever;
      return step_gateway(entry.index, Woken{});
    case kNodeWake: {
      TrueNode& node = nodes_[entry.index];
      if (const Scheduled* next = queue_.soon(kNodeWakeLane, 6)) {
        machines_->prefetch_node(nodes_[next->index].machine, 5);
      }
      if (const Scheduled* later = queue_.soon(kNodeWakeLane, 12)) {
        __builtin_prefetch(&nodes_[later->index]);
        __builtin_prefetch(&nodes_[later->index].wake);
      }
      if (entry.at != node.wake || !node.up || node.epoch != entry.detail) return;
      if (!node.agent_up) return;  // it wakes when it is back
      node.wake = kNever;
      return step_node(entry.index, Woken{});
    }
    case kToControl: {
      sender_ = entry.index;
      const control::Event& event = control_mail_[entry.detail];
      if (control_down_ && std::holds_alternative<fleet::PurchaseFailed>(event)) {  // asked when it is back
        return queue_.push(kHeap, now_ + seconds(1), kToControl, entry.index, entry.detail);
      }
      if (!control_down_) step_control(event);
      return control_mail_.free(entry.detail);
    }
    case kToGateway:
      step_gateway(entry.index, gateway_mail_[entry.detail]);
      return gateway_mail_.free(entry.detail);
    case kToNode:
      if (nodes_[entry.index].up && nodes_[entry.index].agent_up) step_node(entry.index, node_mail_[entry.detail]);
      return node_mail_.free(entry.detail);
    case kCallDone: return call_done(RequestId{entry.detail});
    case kJobDone: return job_done(entry.detail);
    case kBoot: return boot(entry.index);
    case kAgentBack:
      if (nodes_[entry.index].agent == entry.detail) agent_returns(entry.index);
      return;
    case kAskAgain: {
      const Ask* ask = asks_.find(AskId{entry.detail});
      if (ask != nullptr && !ask->answered) ask_control(AskId{entry.detail});
      return;
    }
    case kFaultBegins: return fault_begins(entry.detail);
    case kFaultEnds: return fault_ends(entry.detail);
    case kSample: return sample();
    case kReclaimNoticed:
    case kReclaimed: {
      const TrueNode& node = nodes_[entry.index];
      if (!node.up || node.released || node.epoch != entry.detail) return;
      return entry.kind == kReclaimed ? reclaimed(entry.index) : reclaim_noticed(entry.index);
    }
  }
}

// ---- stepping

void World::step_control(const control::Event& event) {
  if (keep_journal_) journal(event);
  control_effects_.clear();
  machines_->step(now_, event, control_effects_);
  if (checker_) checker_->step(now_);
  for (const auto& effect : control_effects_) {
    std::visit([&](const auto& one) { obey(one); }, effect);
  }
  if (checker_ && options_.compare_each_step) {
    checker_->compare(now_, truth_, nodes_, machines_->control());
  }
}

void World::step_gateway(std::uint32_t gateway, const gateway::Event& event) {
  gateway_effects_.clear();
  machines_->step(now_, gateway, event, gateway_effects_);
  for (const auto& effect : gateway_effects_) {
    std::visit([&](const auto& one) { obey(gateway, one); }, effect);
  }
}

void World::step_node(std::uint32_t node, const node::Event& event) {
  node_effects_.clear();
  step_is_order_ = std::holds_alternative<node::FromControl>(event);
  machines_->step(now_, nodes_[node].machine, event, node_effects_);
  for (const auto& effect : node_effects_) {
    std::visit(
        [&](const auto& one) {
          if constexpr (std::same_as<std::remove_cvref_t<decltype(one)>, WakeAt>) {
            obey_node_wake(node, one);
          } else {
            obey(node, one);
          }
        },
        effect);
  }
}

// ---- calls and bare sandboxes

void World::arrive(const Arrival& arrival) {
  if (arrival.kind == ArrivalKind::request) {
    measure_.arrived();
    const GroupId group{arrival.function + 1};
    Call call;
    call.arrived = now_;
    call.service = arrival.service;
    call.client = arrival.client;
    call.gateway = gateway_of_[arrival.function];
    call.caller = arrival.caller != kNoClient
                      ? arrival.caller
                      : source_->catalogue().functions[arrival.function].tenant;
    call.group = group;
    const std::uint32_t gateway = call.gateway;
    const RequestId request = calls_.insert(call);
    step_gateway(gateway, functions::RequestArrived{request, group, TenantId{call.caller + 1ULL}});
    if (checker_ && checker_->counts_calls(group)) {
      const functions::Group& now =
          machines_->gateway(gateway).functions().state().groups[arrival.function];
      checker_->called(group, now.in_flight + now.queue.size());
    }
    return;
  }
  Ask ask;
  ask.arrived = now_;
  ask.service = arrival.service;
  ask.client = arrival.client;
  ask.asked = arrival.sandbox;
  if (ask.asked.gang != 0) ask.gang = {++gangs_, ask.asked.gang};
  // The members of a gang ask one by one, at one moment.
  for (std::uint32_t left = std::max(1u, ask.asked.gang); left > 0; --left) {
    measure_.arrived();
    ask_control(asks_.insert(ask));
  }
}

// A client whose request or answer may be lost names its request and asks until it is answered.
void World::ask_control(AskId id) {
  const Ask& ask = asks_.at(id);
  const SandboxAsk& asked = ask.asked;
  control::SandboxRequested event;
  event.gang = ask.gang;
  event.reply_to = id.value;
  event.tenant = TenantId{asked.tenant + 1ULL};
  event.resources = asked.resources;
  const Group& defaults = setup_.group_default;
  Resources& resources = event.resources;
  if (resources.cpu_millicores == 0) resources.cpu_millicores = defaults.cpu_millicores;
  if (resources.memory_bytes == 0) resources.memory_bytes = defaults.memory_bytes;
  if (resources.disk_bytes == 0) resources.disk_bytes = defaults.disk_bytes;
  if (resources.gpus > 0 && resources.gpu_millis == 0) resources.gpu_millis = 1000;
  resources.gpu_models = our_gpu_models(resources.gpu_models);
  const int image = image_of(setup_, source_->catalogue(), asked.image);
  if (image >= 0) event.image = ImageId{static_cast<std::uint64_t>(image) + 1};
  event.lifetime = asked.lifetime;
  event.restart = asked.restart;
  event.priority = static_cast<Priority>(asked.priority);
  if (!setup_.faults.empty()) {
    event.key = "ask-" + std::to_string(id.value);
    queue_.push(kHeap, now_ + seconds(5), kAskAgain, 0, id.value);
  }
  post_control(std::move(event), false, 0);
}

// The workload numbers GPU models in its own way.
std::uint32_t World::our_gpu_models(std::uint32_t theirs) const {
  std::uint32_t ours = 0;
  const auto& names = source_->catalogue().gpu_models;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if ((theirs >> i & 1) == 0) continue;
    const auto request = parse_gpu(names[i]);
    for (std::size_t o = 0; o < setup_.gpu_models.size(); ++o) {
      const auto offered = parse_gpu(setup_.gpu_models[o]);
      if (request && offered && request->model == offered->model) ours |= 1u << o;
    }
  }
  // A model that no pool has can never be placed; it must not turn into "any".
  return theirs != 0 && ours == 0 ? 1u << (kGpuModelsMax - 1) : ours;
}

void World::obey(std::uint32_t, const functions::Dispatch& dispatch) {
  Call& call = calls_.at(dispatch.request);
  call.dispatched = now_;
  call.replica = dispatch.replica;
  measure_.dispatched(now_, now_ - call.arrived, dispatch.cold, call.caller);
  const LiveSandbox* live = truth_.serving(dispatch.sandbox);
  if (checker_) checker_->dispatched(now_, call.group, live);
  if (live == nullptr) return;  // to a replica that is dead: until the gateway is told so
  call.sandbox = dispatch.sandbox;
  if (setup_.shared_execution) {
    Job job;
    job.what = Job::What::call;
    job.request = dispatch.request;
    const auto millis =
        static_cast<std::int32_t>(std::max<std::int64_t>(1, live->resources.cpu_millicores));
    const double work = static_cast<double>(call.service.nanos) * millis / 1000.0;
    return model_->execute(jobs_.put(Job(job)), now_, nodes_[live->node].host, from_nanos(work),
                           millis);
  }
  const Time end = now_ + setup_.dispatch_latency + call.service;
  queue_.push(kHeap, end, kCallDone, 0, dispatch.request.value);
}

void World::obey(std::uint32_t, const functions::RefuseRequest& refused) {
  finish_call(refused.request, functions::rule_name(refused.rule));
}

// The replica died under its calls. Rare, so it may look at all calls there are.
void World::obey(std::uint32_t gateway, const functions::AbortReplica& abort) {
  std::vector<RequestId> broken;
  calls_.for_each([&](RequestId id, const Call& call) {
    if (call.gateway == gateway && call.dispatched != kNever && call.replica == abort.replica) {
      broken.push_back(id);
    }
  });
  for (const RequestId request : broken) {
    measure_.call_broken(now_, "replica_lost");
    finish_call(request, nullptr);
  }
}

void World::call_done(RequestId request) {
  const Call* found = calls_.find(request);
  if (found == nullptr) return;  // its replica died before
  // Its replica died under it, which its gateway does not know yet: it breaks when that does.
  if (truth_.serving(found->sandbox) == nullptr) return;
  const Call call = *found;
  measure_.call_finished(now_, now_ - call.arrived, call.caller);
  calls_.erase(request);
  if (call.client != kNoClient) source_->finished(call.client, now_);
  step_gateway(call.gateway, 
               functions::RequestFinished{call.replica, TenantId{call.caller + 1ULL},
                                          now_ - call.dispatched});
}

// Without an answer of the workload: refused by a named rule, or broken with its replica.
void World::finish_call(RequestId request, const char* refusal) {
  const Call call = calls_.at(request);
  calls_.erase(request);
  if (refusal != nullptr) measure_.refused(refusal, call.caller);
  if (call.client != kNoClient) source_->finished(call.client, now_);
}

void World::obey(std::uint32_t gateway, const gateway::ToControl& message) {
  post_control(control::FromGateway{GatewayId{gateway + 1}, message.envelope}, false, 0);
}

void World::obey(std::uint32_t gateway, const WakeAt& wake) {
  gateway_wakes_[gateway] = std::max(now_, wake.at);
  queue_.push(kHeap, gateway_wakes_[gateway], kGatewayWake, gateway, 0);
}

void World::tell_progress(bool last) {
  if (!options_.progress) return;
  const auto wall = std::chrono::steady_clock::now();
  if (!last && wall - told_ < std::chrono::milliseconds(500)) return;
  told_ = wall;
  Progress progress;
  progress.simulated_seconds = static_cast<double>(now_.nanos) * 1e-9;
  progress.wall_seconds = std::chrono::duration<double>(wall - started_).count();
  progress.events = machines_->events();
  progress.requests = measure_.arrivals();
  if (setup_.requests_max != 0) {
    progress.share_done = static_cast<double>(arrivals_) / static_cast<double>(setup_.requests_max);
  } else if (setup_.duration.nanos != 0) {
    progress.share_done =
        static_cast<double>(now_.nanos) / static_cast<double>(setup_.duration.nanos);
  } else {
    progress.share_done = source_->progress();
  }
  progress.share_done = std::min(progress.share_done, 1.0);
  options_.progress(progress);
}

// Calls and sandboxes that are where they should be, and whose time is not over: none of them is
// stuck, however long they take.
std::size_t World::at_work() const {
  const auto due = [this](Time since, Duration takes) {
    return takes.nanos > 0 && since + takes <= now_;
  };
  std::size_t found = 0;
  calls_.for_each([&](RequestId, const Call& call) {
    found += call.dispatched != kNever && !due(call.dispatched, call.service) ? 1 : 0;
  });
  truth_.for_each([&](const LiveSandbox& live) {
    const auto place = SlotTable<SandboxId, Ask>::slot_of(live.sandbox);
    if (live.group || place >= ask_of_.size() || ask_of_[place].first != live.sandbox) return;
    if (live.running == kNever || live.killed || truth_.serving(live.sandbox) != &live) return;
    const Ask* ask = asks_.find(ask_of_[place].second);
    if (ask == nullptr || due(live.running, ask->service)) return;
    found += due(live.running, live.lifetime) ? 0 : 1;
  });
  return found;
}

Result World::result() {
  // Who is not done has waited, or been here, at least so long; leaving them out would praise an
  // overloaded fleet.
  calls_.for_each([&](RequestId, const Call& call) {
    measure_.unfinished(now_ - call.arrived, call.dispatched != kNever, call.caller);
  });
  asks_.for_each([&](AskId, const Ask& ask) {
    measure_.unfinished(now_ - ask.arrived, ask.ran, ask.asked.tenant);
  });
  Result result = measure_.result(now_);
  result.scenario = setup_.name;
  result.shows = setup_.shows;
  result.seed = options_.seed;
  result.commit = options_.commit;
  result.scenario_hash = setup_.scenario_hash;
  result.digest = machines_->running_digest();
  result.interrupted = interrupted_;
  result.simulated_seconds = static_cast<double>(now_.nanos) * 1e-9;
  result.wall_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  result.events = machines_->events();
  result.sandboxes_moved = machines_->control().sandboxes_moved();
  result.sandboxes_preempted = machines_->control().sandboxes_preempted();
  result.nodes_reclaimed = machines_->control().fleet().state().nodes_reclaimed;
  result.nodes_bought = machines_->control().fleet().state().purchases;
  result.purchases_failed = machines_->control().fleet().state().purchases_failed;
  if (result.wall_seconds > 0) {
    result.events_per_second = static_cast<double>(result.events) / result.wall_seconds;
    result.requests_per_second = static_cast<double>(measure_.arrivals()) / result.wall_seconds;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result.peak_memory_bytes = static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
  if (!interrupted_ && !done()) {
    result.notes.push_back("The run ended with " + std::to_string(calls_.size()) + " calls and " +
                           std::to_string(asks_.size()) + " sandboxes unfinished: " +
                           std::to_string(at_work()) + " of them were still at work.");
  }
  if (log_) result.no_log = log_->error();
  if (checker_) result.broken = checker_->broken();
  for (const std::string& text : setup_.assertions) {
    const auto condition = parse_condition(text);
    if (!condition) continue;  // the parser of scenarios lets none of these through
    const double value = lookup_metric(result, condition->metric).value_or(0);
    const bool measured = has_samples(result, condition->metric);
    result.assertions.push_back({text, value, measured && condition->holds(value), measured});
  }
  return result;
}

}  // namespace chalk::sim
