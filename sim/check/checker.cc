#include "sim/check/checker.h"

#include <algorithm>

#include "model/core/print.h"
#include "model/scheduler/index.h"

namespace chalk::sim {

namespace {
// So long after a change everybody who waits has been tried.
constexpr Duration kSettles = seconds(5);
}  // namespace

Checker::Checker(CheckLimits limits) : limits_(std::move(limits)) {
  for (const auto& [group, limit] : limits_.groups) {
    if (limit.slack_permille >= 0) most_open_.resize(group);
  }
}

void Checker::broke(Time now, int invariant, const std::string& what) {
  ++broken_count_;
  if (broken_.size() >= kBrokenMax) return;
  broken_.push_back("invariant " + std::to_string(invariant) + " at " +
                    std::to_string(now.nanos / 1'000'000) + " ms: " + what);
}

Checker::Use& Checker::use_of(std::uint32_t node) {
  if (use_.size() <= node) use_.resize(node + 1);
  return use_[node];
}

void Checker::apply(Use& use, const LiveSandbox& sandbox, int sign) {
  const Resources& r = sandbox.resources;
  use.cpu_millicores += sign * r.cpu_millicores;
  use.memory_bytes += sign * r.memory_bytes;
  use.disk_bytes += sign * r.disk_bytes;
  for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (sandbox.gpu_mask >> gpu & 1) use.gpu_millis[gpu] += sign * r.gpu_millis;
  }
  use.sandboxes += sign;
  if (sandbox.running == kNever) (sandbox.again ? use.restarting : use.starting) += sign;
}

void Checker::started(Time now, const TrueNode& node, const LiveSandbox& sandbox,
                      const NodeShape& shape) {
  Use& use = use_of(sandbox.node);
  const std::string where = "node " + std::to_string(sandbox.node) + ", sandbox " +
                            std::to_string(sandbox.sandbox.value) + ": ";
  if (node.last_owner && node.last_owner != sandbox.owner) {
    broke(now, 8,
          where + "of owner " + to_text(sandbox.owner) + " on a node last held by owner " +
              to_text(node.last_owner) + ", with no scrub between");
  }
  apply(use, sandbox, +1);
  const auto within = [&](const char* what, std::int64_t used, std::int64_t capacity) {
    if (used > capacity) {
      broke(now, 1,
            where + std::to_string(used) + " " + what + " in use of " + std::to_string(capacity));
    }
  };
  within("millicores", use.cpu_millicores, shape.cpu_millicores);
  within("bytes of memory", use.memory_bytes, shape.memory_bytes);
  within("bytes of disk", use.disk_bytes, shape.disk_bytes);
  within("concurrent starts", use.starting, shape.start_slots);
  within("concurrent restarts", use.restarting, shape.start_slots);
  within("sandboxes", use.sandboxes, shape.sandboxes_max);
  for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
    if (sandbox.gpu_mask >> gpu & 1) {
      within("thousandths of one GPU", use.gpu_millis[gpu], gpu < shape.gpus ? 1000 : 0);
    }
  }
}

void Checker::running(Time, const LiveSandbox& sandbox) {
  Use& use = use_of(sandbox.node);
  --(sandbox.again ? use.restarting : use.starting);
}

void Checker::restored(Time now, const LiveSandbox& sandbox, const MachineKind& made_on,
                       const MachineKind& here) {
  if (made_on.runtime == here.runtime && (made_on.cpu_features & ~here.cpu_features) == 0) return;
  broke(now, 8,
        "node " + std::to_string(sandbox.node) + ", sandbox " + to_text(sandbox.sandbox) +
            ": of a snapshot made by runtime " + std::to_string(made_on.runtime) +
            " with features " + std::to_string(made_on.cpu_features) + ", on runtime " +
            std::to_string(here.runtime) + " with features " + std::to_string(here.cpu_features));
}

void Checker::ended(Time now, const TrueNode&, const LiveSandbox& sandbox) {
  apply(use_of(sandbox.node), sandbox, -1);
  if (sandbox.lifetime.nanos == 0 || sandbox.running == kNever) return;
  const Duration ran = now - std::min(sandbox.running, sandbox.first_running);
  if (ran > sandbox.lifetime + limits_.stop) {
    broke(now, 4,
          "sandbox " + std::to_string(sandbox.sandbox.value) + " ran " + std::to_string(ran.nanos) +
              " ns, its lifetime is " + std::to_string(sandbox.lifetime.nanos) + " ns");
  }
}

void Checker::dispatched(Time now, GroupId group, const LiveSandbox* replica) {
  if (replica != nullptr && replica->group != group) {
    broke(now, 2,
          "a call to group " + to_text(group) + " went to sandbox " + to_text(replica->sandbox) +
              " of group " + to_text(replica->group));
  }
}

void Checker::accepted(Time now, std::uint64_t request, SandboxId sandbox) {
  const std::size_t slot = request & 0xFFFFFFFF;
  if (accepted_.size() <= slot) accepted_.resize(slot + 1);
  auto& known = accepted_[slot];
  if (request > known.first) known = {request, sandbox};  // a later request has the slot now
  if (request == known.first && !known.second) known.second = sandbox;
  if (request != known.first || known.second == sandbox) return;
  broke(now, 3,
        "request " + std::to_string(request) + " got sandbox " + to_text(sandbox) +
            " after sandbox " + to_text(known.second));
}

void Checker::refused(std::uint64_t request) {
  const std::size_t slot = request & 0xFFFFFFFF;
  if (slot < accepted_.size() && accepted_[slot].first == request) accepted_[slot].second = {};
}

void Checker::compare_replicas(Time now, GroupId group, std::uint32_t live, std::uint32_t wanted,
                               const autoscaler::Group& known) {
  const auto found = limits_.groups.find(group.value);
  if (found == limits_.groups.end()) return;
  const CheckLimits::Replicas& limit = found->second;
  const std::string name = "group " + to_text(group);
  if (std::max(live, wanted) > limit.max) {
    broke(now, 2,
          name + " has " + std::to_string(wanted) + " replicas ordered or running and " +
              std::to_string(live) + " live, its limit is " + std::to_string(limit.max));
  }
  if (limit.slack_permille < 0) return;
  const std::uint32_t most = most_open_[group.value - 1];
  // What the most calls that were ever open at once need, z deviations above, and rounding.
  std::uint32_t root = 0;
  while (root * root < most) ++root;
  const std::int64_t calls = most + (root * limit.slack_permille + 999) / 1000;
  const std::int64_t enough = std::max<std::int64_t>(limit.min, calls / limit.concurrency + 1);
  // Those that the gateway has been asked to drain are surplus on their way out, if it lets them go.
  Declined& declined = declined_[group];
  if (known.stopping + known.starting != 0) declined.since = now;
  if (known.stopping != 0) declined.replicas = std::max(declined.replicas, known.stopping);
  else if (now - declined.since > limits_.look) declined.replicas = 0;
  const std::uint32_t stopping = declined.replicas;
  if (wanted > enough + stopping) {
    broke(now, 6,
          name + " has " + std::to_string(wanted - stopping) + " replicas ordered or running, " +
              std::to_string(most) + " calls at once never needed more than " +
              std::to_string(enough));
  }
}

void Checker::step(Time now) {
  if (now < last_) broke(now, 0, "time went back from " + std::to_string(last_.nanos) + " ns");
  last_ = now;
}

void Checker::compare(Time now, const Truth& truth, const std::vector<TrueNode>& nodes,
                      const control::Control& control) {
  std::map<std::uint64_t, std::uint32_t> live_of_group;
  truth.for_each([&](const LiveSandbox& live) {
    const TrueNode& node = nodes[live.node];
    const bool known_node = control.fleet().known(node.says_id, node.says_incarnation);
    const sandbox::Record* record = control.sandboxes().find(live.sandbox);
    const bool known = known_node && record != nullptr && record->node == node.says_id;
    if (known && !record->stop_asked && live.group) ++live_of_group[live.group.value];
    if (!known && !live.killed && now - live.ordered > limits_.orphan_bound) {
      broke(now, 3,
            "sandbox " + to_text(live.sandbox) + " lives on node " + std::to_string(live.node) +
                " since " + std::to_string(live.ordered.nanos) + " ns and control does not know " +
                (known_node ? "it" : "that boot of the node") + " (incarnation " +
                std::to_string(node.says_incarnation) + ", id " + to_text(node.says_id) + ")");
    }
    if (live.lifetime.nanos != 0 && live.running != kNever &&
        now - std::min(live.running, live.first_running) > live.lifetime + limits_.stop) {
      broke(now, 4, "sandbox " + to_text(live.sandbox) + " still runs after its lifetime");
    }
  });
  compare_nominations(now, control);
  compare_gangs(now, control);
  compare_waiting(now, control);
  // A quota is what the live records of a tenant ask for, no more and no less.
  std::map<TenantId, tenancy::Amounts> asked;
  std::map<std::uint64_t, std::uint32_t> wanted_of_group;
  for (const auto& [tenant, one] : control.tenancy().state().tenants) asked[tenant] = {};
  control.sandboxes().state().sandboxes.for_each([&](SandboxId, const sandbox::Record& record) {
    asked[record.tenant].add(tenancy::amounts_of(record.resources), +1);
    if (record.group && !record.stop_asked) ++wanted_of_group[record.group.value];
  });
  for (const auto& [group, wanted] : wanted_of_group) {
    compare_replicas(now, GroupId{group}, live_of_group[group], wanted,
                     control.autoscaler().state().groups[group - 1]);
  }
  for (const auto& [tenant, amounts] : asked) {
    const tenancy::Amounts counted = control.tenancy().in_use(tenant);
    if (counted != amounts) {
      broke(now, 7,
            "tenant " + to_text(tenant) + " is counted with " + to_text(counted) +
                ", its sandboxes ask for " + to_text(amounts));
    }
  }
}

// What a nominated sandbox misses of its node is held there by what makes way for it.
void Checker::compare_nominations(Time now, const control::Control& control) {
  const scheduler::State& state = control.scheduler().state();
  std::map<std::uint32_t, scheduler::Room> rooms;  // by node slot: on its way, less what is owed
  for (const auto& [slot, all] : state.nominations) {
    for (const scheduler::Nomination& one : all) rooms[slot].owe(one);
  }
  for (auto& [slot, room] : rooms) {
    const NodeId node = state.infos[slot].id;
    control.sandboxes().for_each_on(node, [&](SandboxId id, const sandbox::Record& record) {
      if (record.preempted) {
        room.add(state.reservations[SlotTable<SandboxId, int>::slot_of(id)], +1);
      }
    });
    if (room.cpu < 0 || room.memory < 0 || room.disk < 0 || room.sandboxes < 0) {
      broke(now, 13,
            "node " + to_text(node) + " owes what waits for it " + std::to_string(-room.cpu) +
                " millicores and " + std::to_string(-room.memory) +
                " bytes more than is on its way");
    }
  }
}

// Where nothing of a gang is on its way out, all that lives of it has a node, or nothing has.
void Checker::compare_gangs(Time now, const control::Control& control) {
  for (const auto& [key, gang] : control.sandboxes().state().gangs) {
    std::size_t placed = 0, leaving = 0;
    for (const SandboxId id : gang.members) {
      const sandbox::Phase phase = control.sandboxes().find(id)->phase;
      placed += phase != sandbox::Phase::accepted;
      leaving += phase == sandbox::Phase::ending;
    }
    if (leaving != 0 || placed == 0) continue;
    if (placed != gang.members.size() || gang.came != gang.size) {
      broke(now, 14,
            "gang " + std::to_string(key.id) + " of tenant " + to_text(key.tenant) + " has " +
                std::to_string(placed) + " sandboxes on nodes, of " +
                std::to_string(gang.members.size()) + " that live and " +
                std::to_string(gang.size) + " that it should have");
    }
  }
}

// Who stands first in its own line does not wait beside a node that is idle, fits it, and is of use
// to nobody else that waits.
void Checker::compare_waiting(Time now, const control::Control& control) {
  const tenancy::State& tenancy = control.tenancy().state();
  const scheduler::State& placed = control.scheduler().state();
  if (tenancy.pending_count == 0 || control.tenancy().config().order == tenancy::Order::quotas) {
    return;  // beyond its guarantee one waits for ever there
  }
  std::vector<std::uint32_t> idle;
  control.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node& node) {
    const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(id);
    if (node.busy || now < node.idle_since + kSettles || slot >= placed.infos.size()) return;
    const scheduler::NodeInfo& info = placed.infos[slot];
    if (info.id == id && info.listed == scheduler::Listed::open && info.first_reservation == 0) {
      idle.push_back(slot);
    }
  });
  for (const auto& [slot, all] : placed.nominations) std::erase(idle, slot);
  if (idle.empty()) return;
  struct Waits {
    TenantId tenant;
    std::vector<Wish> wish;
  };
  std::vector<Waits> all;
  tenancy.held.for_each([&](SandboxId, const tenancy::Held& held) {
    if (held.phase == tenancy::Phase::placed) return;
    all.push_back({held.tenant, {{held.resources, held.pool}}});
  });
  for (const auto& [id, tenant] : tenancy.tenants) {
    if (tenant.waiting.empty()) continue;
    const SandboxId head = tenant.waiting.begin()->second;
    const tenancy::Held& held = *tenancy.held.find(head);
    if (held.gang || now < held.since + kSettles) continue;
    const tenancy::TryPlace attempt = control.tenancy().attempt(now, head, held);
    for (const std::uint32_t slot : idle) {
      const TenantId owner = placed.infos[slot].owner;
      if ((owner || attempt.own_only) && owner != attempt.owner_key) continue;
      if (!scheduler::could_hold({{held.resources, held.pool}}, placed.infos[slot])) continue;
      const bool wanted = std::any_of(all.begin(), all.end(), [&](const Waits& one) {
        return one.tenant != id && scheduler::could_hold(one.wish, placed.infos[slot]);
      });
      if (wanted) continue;
      broke(now, 9,
            "sandbox " + to_text(head) + " of tenant " + to_text(id) + " waits since " +
                std::to_string(held.since.nanos / 1'000'000) + " ms beside node " +
                to_text(placed.infos[slot].id) +
                ", which is idle, fits it and is of use to nobody else that waits");
      break;
    }
  }
}

void Checker::at_end(Time now, std::size_t unfinished, std::size_t at_work, bool cut) {
  if (!cut && unfinished > at_work) {
    broke(now, 9,
          std::to_string(unfinished - at_work) +
              " calls or sandboxes were neither finished nor refused, nor still at work");
  }
}

}  // namespace chalk::sim
