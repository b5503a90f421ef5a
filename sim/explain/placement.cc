// Why a sandbox went to its node: every node, the first filter that it fails or its rank in the
// order of model/scheduler/scheduler.h.
//
// A step of control may free room and then place several sandboxes. The scheduler as it stood
// before each placement is made of the one after the step: placements of this step are taken back,
// then made again one by one.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>

#include "model/scheduler/index.h"
#include "sim/explain/explain.h"

namespace chalk::sim {
namespace {

namespace sched = chalk::scheduler;

constexpr const char* kBestFit =
    "of the nodes where it fits, the least in this order: owned by the asker; in the zone with the "
    "fewest live sandboxes of its group; scarce GPUs, then the node with the fewest; holding the "
    "image; least residual of cpu and memory (a core as 4 GiB; with GPUs for shares only); lowest "
    "slot";

// The candidates are listed in the order of best_fit whatever the policy.
const char* rule_of(sched::Policy policy) {
  switch (policy) {
    case sched::Policy::best_fit: return kBestFit;
    case sched::Policy::least_allocated: return "least_allocated: the emptiest of a sample";
    case sched::Policy::first_fit: return "first_fit: the lowest slot where it fits";
    case sched::Policy::power_of_two: return "power_of_two: the emptier of two drawn at random";
    case sched::Policy::fgd: return "fgd: where fragmentation of GPUs grows least";
    case sched::Policy::frag_fit:
      return "frag_fit: where fragmentation of GPUs grows least; among equals the node with the "
             "fewest GPUs, then with the least free, then the least residual";
  }
  return "";
}

struct Candidate {
  std::uint32_t slot = 0;
  std::string fails;  // empty: it fits
  bool not_owned = false;
  std::int64_t in_zone = 0, gpu_left = 0, gpu_free = 0, gpus = 0;
  bool no_image = false;
  std::int64_t residual = 0;  // as far as it counts
  auto rank() const {
    return std::tuple(!fails.empty(), not_owned, in_zone, gpu_left, gpu_free, gpus, no_image,
                      residual, slot);
  }
};

class Candidates {
 public:
  Candidates(const sched::Scheduler& scheduler, const sched::PlaceAsked& asked)
      : config_(scheduler.config()), state_(scheduler.state()), asked_(asked) {}

  std::vector<Candidate> all() const {
    std::vector<Candidate> out;
    for (std::uint32_t slot = 0; slot < state_.infos.size(); ++slot) {
      if (state_.infos[slot].id) out.push_back(look(slot));
    }
    const auto avoided = [&](const Candidate& c) {
      const auto& avoid = asked_.avoid;
      return std::find(avoid.begin(), avoid.end(), state_.infos[c.slot].id) != avoid.end();
    };
    const bool elsewhere = std::any_of(out.begin(), out.end(), [&](const Candidate& c) {
      return c.fails.empty() && !avoided(c);
    });
    for (Candidate& c : out) {
      if (elsewhere && c.fails.empty() && avoided(c)) c.fails = "a start of it failed there";
    }
    std::sort(out.begin(), out.end(),
              [](const auto& a, const auto& b) { return a.rank() < b.rank(); });
    return out;
  }

 private:
  bool share() const { return asked_.ask.gpus == 1 && asked_.ask.gpu_millis < 1000; }

  Candidate look(std::uint32_t slot) const {
    const sched::NodeInfo& info = state_.infos[slot];
    const sched::Node& node = state_.nodes[slot];
    Candidate c;
    c.slot = slot;
    c.not_owned = info.owner != asked_.owner;
    c.in_zone = live_in(info.zone);
    c.gpu_free = node.gpu_free;
    c.gpus = node.gpus;
    c.residual = sched::residual_of(node, asked_.ask);
    c.no_image = asked_.image && !holds_image(info.id);
    const std::int64_t gpu = gpu_offered(info);
    if (share()) c.gpu_left = gpu_left(info);
    c.fails = failing(info, node, gpu);
    return c;
  }

  std::string failing(const sched::NodeInfo& info, const sched::Node& node,
                      std::int64_t gpu) const {
    const Resources& ask = asked_.ask;
    const std::int64_t gpu_needed = std::int64_t{ask.gpus} * ask.gpu_millis;
    if (asked_.pool ? info.pool != asked_.pool : info.dedicated) return "not its pool";
    if (info.owner && info.owner != asked_.owner) {
      return fmt::format("owned by {}", info.owner.value);
    }
    if (!info.usable) return "being wiped";
    if (asked_.own_only && !info.owner) return "kept for a guarantee whose tenant owns no node";
    if (info.cordoned) return "drained";
    const auto lacks = [](const char* what, std::int64_t needed, std::int64_t free) {
      return fmt::format("{}: {} needed, {} free", what, needed, free);
    };
    if (info.sandboxes_free <= 0) return lacks("sandboxes", 1, 0);
    if (gpu_needed > 0 && gpu < gpu_needed) return lacks("gpu thousandths", gpu_needed, gpu);
    if (node.cpu < ask.cpu_millicores) return lacks("millicores", ask.cpu_millicores, node.cpu);
    if (node.memory < ask.memory_bytes) return lacks("memory", ask.memory_bytes, node.memory);
    if (node.disk < ask.disk_bytes) return lacks("disk", ask.disk_bytes, node.disk);
    if (info.starts_free <= 0) return lacks("start slots", 1, 0);
    return "";
  }

  std::int64_t live_in(std::uint32_t zone) const {
    if (!config_.placing.spread_zones() || !asked_.group) return 0;
    const std::uint32_t group = state_.group_index.find(asked_.group.value);
    if (group == sched::kNone) return 0;
    return state_.group_zones[std::size_t{group} * config_.zones_max + zone];
  }

  bool holds_image(NodeId node) const {
    const std::uint32_t image = state_.image_index.find(asked_.image.value);
    if (image == sched::kNone) return false;
    const auto& nodes = state_.images[image].nodes;
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
  }

  const sched::GpuRow* row(const sched::NodeInfo& info) const {
    const Resources& ask = asked_.ask;
    const bool model = ask.gpu_models == 0 ||
                       (info.shape.gpu_model >= 0 && (ask.gpu_models >> info.shape.gpu_model & 1));
    return info.gpu_row == sched::kNone || !model ? nullptr : &state_.gpu_rows[info.gpu_row];
  }
  std::int64_t gpu_offered(const sched::NodeInfo& info) const {
    const sched::GpuRow* gpus = asked_.ask.gpus == 0 ? nullptr : row(info);
    if (gpus == nullptr) return 0;
    return share() ? *std::max_element(gpus->free.begin(), gpus->free.end())
                   : 1000 * std::count(gpus->free.begin(), gpus->free.end(), 1000);
  }
  std::int64_t gpu_left(const sched::NodeInfo& info) const {
    std::int64_t least = 0;
    if (const sched::GpuRow* gpus = row(info)) {
      for (const std::int16_t free : gpus->free) {
        if (free >= asked_.ask.gpu_millis && (least == 0 || free < least)) least = free;
      }
    }
    return least;
  }

  const sched::Config& config_;
  const sched::State& state_;
  const sched::PlaceAsked& asked_;
};

sched::PlaceAsked asked_of(const control::Control& control, SandboxId sandbox,
                           const sandbox::Record& record) {
  PoolId pool = record.pool;
  if (!pool) {
    const auto state = control.state();
    const auto dedicated = state.routing.dedicated_pools.find(record.tenant);
    if (dedicated != state.routing.dedicated_pools.end()) pool = dedicated->second;
  }
  return {sandbox,          control.tenancy().owner_key(record.tenant),
          record.resources, pool,
          record.image,     record.group,
          record.failed_on};
}

std::string ask_text(const sched::PlaceAsked& asked) {
  const Resources& r = asked.ask;
  std::string text = fmt::format("{} millicores, {} memory, {} disk", r.cpu_millicores,
                                 bytes_text(r.memory_bytes), bytes_text(r.disk_bytes));
  if (r.gpus > 0) text += fmt::format(", {} GPUs at {} thousandths", r.gpus, r.gpu_millis);
  return text;
}

void list_candidates(const sched::Scheduler& scheduler, const sched::PlaceAsked& asked,
                     Decision& decision) {
  const std::vector<Candidate> all = Candidates(scheduler, asked).all();
  const auto fit = static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& c) { return c.fails.empty(); }));
  decision.numbers = {{"asked", ask_text(asked)},
                      {"owner", std::to_string(asked.owner.value)},
                      {"group", std::to_string(asked.group.value)},
                      {"image", std::to_string(asked.image.value)},
                      {"nodes", std::to_string(all.size())},
                      {"nodes where it fits", std::to_string(fit)}};
  decision.columns = {"node",           "owned",           "live in zone", "GPU left",
                      "GPUs free",      "GPUs",            "has image",    "residual cores",
                      "free millicores", "free memory", "fails"};
  for (const Candidate& c : all) {
    if (decision.candidates.size() == kCandidatesMax) break;
    const sched::Node& node = scheduler.state().nodes[c.slot];
    decision.candidates.push_back(
        {std::to_string(scheduler.state().infos[c.slot].id.value), c.not_owned ? "no" : "yes",
         std::to_string(c.in_zone), std::to_string(c.gpu_left), std::to_string(c.gpu_free),
         std::to_string(c.gpus),
         !asked.image ? ""
         : c.no_image ? "no"
                      : "yes",
         fmt::format("{:.2f}", static_cast<double>(node.residual()) /
                                   static_cast<double>(sched::kBytesPerMillicore) * 1e-3),
         std::to_string(node.cpu), bytes_text(node.memory), c.fails});
  }
  decision.left_out = all.size() - decision.candidates.size();
}

const char* shortage_text(sched::Shortage why) {
  switch (why) {
    case sched::Shortage::no_node_in_pool: return "no node in the pool";
    case sched::Shortage::no_free_node_for_tenant:
      return "no node that the asker owns or may claim, usable and not drained";
    case sched::Shortage::cpu: return "cpu";
    case sched::Shortage::memory: return "memory";
    case sched::Shortage::disk: return "disk";
    case sched::Shortage::gpu: return "gpu";
    case sched::Shortage::start_slots:
      return "start slots: it would fit, but those nodes are busy starting others";
    case sched::Shortage::sandboxes: return "every node holds as many sandboxes as it may";
    case sched::Shortage::limit: return "a limit of the scheduler, or an ask that means nothing";
    case sched::Shortage::spared:
      return "it would fit, but those nodes are left to what may not be passed (it has waited too "
             "long, or asks for what its guarantee gives it)";
  }
  return "";
}

struct Placement {
  SandboxId sandbox;
  NodeId node;
};

// The orders to start that stand for a new placement, as they were given.
std::vector<Placement> placements_of(const control::Control& before, const control::Control& after,
                                     const std::vector<control::Effect>& effects) {
  std::vector<Placement> out;
  for (const control::Effect& effect : effects) {
    const auto* to = std::get_if<control::ToNode>(&effect);
    const auto* order = to == nullptr || !to->envelope.message
                            ? nullptr
                            : std::get_if<StartOrder>(&*to->envelope.message);
    if (order == nullptr) continue;
    const sandbox::Record* was = before.sandboxes().find(order->sandbox);
    const sandbox::Record* is = after.sandboxes().find(order->sandbox);
    // On the node that had just failed it is another placement.
    const bool placed_before = was != nullptr && is != nullptr && was->node == to->node &&
                               was->attempts == is->attempts;
    if (is != nullptr && is->node == to->node && !placed_before) {
      out.push_back({order->sandbox, to->node});
    }
  }
  return out;
}

bool owned(const sched::State& state, NodeId node) {
  for (const sched::NodeInfo& info : state.infos) {
    if (info.id == node) return static_cast<bool>(info.owner);
  }
  return false;
}

}  // namespace

std::vector<Decision> explain_placements(const control::Control& before,
                                         const control::Control& after, Time now,
                                         const control::Event& event,
                                         const std::vector<control::Effect>& effects) {
  std::vector<Decision> decisions;
  const std::vector<Placement> placements = placements_of(before, after, effects);
  sched::Scheduler scheduler(after.scheduler().config(), after.scheduler().state());
  std::vector<sched::Effect> said;
  for (auto one = placements.rbegin(); one != placements.rend(); ++one) {
    scheduler.step({}, sched::Released{one->sandbox}, said);
  }
  for (const Placement& one : placements) {
    if (!owned(before.scheduler().state(), one.node)) {
      scheduler.step({}, sched::NodeOwned{one.node, {}, true}, said);
    }
  }
  for (const Placement& one : placements) {
    Decision decision;
    decision.what = fmt::format("sandbox {} goes to node {}", one.sandbox.value, one.node.value);
    decision.where = "scheduler";
    decision.rule = rule_of(scheduler.config().placing.policy());
    const auto asked = asked_of(after, one.sandbox, *after.sandboxes().find(one.sandbox));
    list_candidates(scheduler, asked, decision);
    said.clear();
    scheduler.step({}, asked, said);
    const auto* placed = said.empty() ? nullptr : std::get_if<sched::Placed>(&said[0]);
    if (placed == nullptr || placed->node != one.node) {
      decision.note =
          "taken once more beside the machine it comes out otherwise: what the step freed or took "
          "before this placement cannot be told from outside";
    }
    decisions.push_back(std::move(decision));
  }
  // A request that was accepted and found no room.
  if (!std::holds_alternative<control::SandboxRequested>(event)) return decisions;
  for (const control::Effect& effect : effects) {
    const auto* accepted = std::get_if<sandbox::Accepted>(&effect);
    if (accepted == nullptr || accepted->repeated) continue;
    const sandbox::Record* record = after.sandboxes().find(accepted->sandbox);
    if (record == nullptr || record->phase != sandbox::Phase::accepted) continue;
    Decision decision;
    decision.what = fmt::format("sandbox {} waits", accepted->sandbox.value);
    decision.where = "scheduler";
    auto asked = asked_of(after, accepted->sandbox, *record);
    if (const auto* held = after.tenancy().state().held.find(accepted->sandbox)) {
      const tenancy::TryPlace attempt = after.tenancy().attempt(now, accepted->sandbox, *held);
      asked.own_only = attempt.own_only;
      asked.spare = attempt.spare;
    }
    list_candidates(scheduler, asked, decision);
    said.clear();
    scheduler.step({}, asked, said);
    const auto* no = said.empty() ? nullptr : std::get_if<sched::NotPlaced>(&said[0]);
    if (no != nullptr) {
      decision.rule = fmt::format("no node has room: {}", shortage_text(no->why));
      decision.numbers.emplace_back("needed", std::to_string(no->needed));
      decision.numbers.emplace_back("best available", std::to_string(no->best_available));
      decision.numbers.emplace_back("nodes considered", std::to_string(no->nodes_considered));
    } else {
      decision.rule = "others stand before it in line (fair share of tenants)";
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

}  // namespace chalk::sim
