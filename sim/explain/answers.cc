// Decisions whose numbers stand in the effect itself: refusals; and which replica or node takes what.
#include <fmt/format.h>

#include <algorithm>

#include "model/tenancy/tenancy.h"
#include "sim/explain/explain.h"

namespace chalk::sim {
namespace {

const char* refusal_text(sandbox::Refusal rule) {
  switch (rule) {
    case sandbox::Refusal::unknown_image: return "the image is not in the catalogue";
    case sandbox::Refusal::sandboxes_limit: return "as many sandboxes as control may have";
    case sandbox::Refusal::keys_limit: return "as many keys as control may remember";
    case sandbox::Refusal::lifetime_too_long: return "the lifetime is longer than allowed";
    case sandbox::Refusal::no_resources: return "it asks for nothing";
    case sandbox::Refusal::never_fits: return "no node of any pool that it may use is large enough";
    case sandbox::Refusal::gang_size: return "the gang has another size, or all of its members";
    case sandbox::Refusal::admission: return "";
  }
  return "";
}

const char* node_rule(NodeRefusal rule) {
  switch (rule) {
    case NodeRefusal::cpu: return "cpu";
    case NodeRefusal::memory: return "memory";
    case NodeRefusal::disk: return "disk";
    case NodeRefusal::gpu: return "gpu";
    case NodeRefusal::start_slots: return "start slots";
    case NodeRefusal::sandboxes: return "as many sandboxes as it may hold";
    case NodeRefusal::owner: return "it is another owner's, or not wiped yet";
    case NodeRefusal::draining: return "it is being drained";
    case NodeRefusal::duplicate: return "it has that sandbox already";
  }
  return "";
}

Decision refused(const sandbox::Refused& one) {
  Decision decision;
  decision.where = "tenancy";
  decision.what = one.group ? fmt::format("a replica of group {} is refused", one.group.value)
                            : "the request is refused";
  decision.rule = one.rule == sandbox::Refusal::admission
                      ? tenancy::rule_name(static_cast<tenancy::Rule>(one.admission_rule))
                      : refusal_text(one.rule);
  decision.numbers = {{"needed", std::to_string(one.needed)},
                      {"in use", std::to_string(one.in_use)},
                      {"limit", std::to_string(one.limit)}};
  return decision;
}

}  // namespace

std::vector<Decision> explain_answers(const std::vector<control::Effect>& effects) {
  std::vector<Decision> decisions;
  for (const control::Effect& effect : effects) {
    if (const auto* no = std::get_if<sandbox::Refused>(&effect)) decisions.push_back(refused(*no));
  }
  return decisions;
}

std::vector<Decision> explain_calls(const gateway::Gateway& before,
                                    const std::vector<gateway::Effect>& effects) {
  std::vector<Decision> decisions;
  const functions::State& state = before.functions().state();
  for (const gateway::Effect& effect : effects) {
    if (const auto* no = std::get_if<functions::RefuseRequest>(&effect)) {
      Decision decision;
      decision.where = "functions";
      decision.what =
          fmt::format("call {} to group {} is refused", no->request.value, no->group.value);
      decision.rule = functions::rule_name(no->rule);
      decision.numbers = {{"found", std::to_string(no->value)},
                          {"limit", std::to_string(no->limit)}};
      decisions.push_back(std::move(decision));
    }
    const auto* dispatch = std::get_if<functions::Dispatch>(&effect);
    if (dispatch == nullptr) continue;
    Decision decision;
    decision.where = "functions";
    decision.what = fmt::format("call {} goes to replica {}, sandbox {}", dispatch->request.value,
                                dispatch->replica.value, dispatch->sandbox.value);
    decision.rule = dispatch->cold ? "the replica has just started, and this call waited for it"
                                   : "of the replicas with a free slot the one used most recently, "
                                     "so that others fall idle";
    const functions::Replica* chosen = state.replicas.find(dispatch->replica);
    if (chosen != nullptr && chosen->group < state.groups.size()) {
      const functions::Group& group = state.groups[chosen->group];
      decision.numbers = {
          {"group", std::to_string(chosen->group + 1)},
          {"replicas ready", std::to_string(group.ready)},
          {"calls in service", std::to_string(group.in_flight)},
          {"calls waiting", std::to_string(group.queue.size())},
          {"calls at once of a replica", std::to_string(group.routing.concurrency)}};
      decision.columns = {"replica", "sandbox", "calls", "idle since, ns"};
      std::uint32_t at = group.first;  // the list stands in the order of use
      while (at != 0) {
        const functions::Replica& replica = state.replicas.in_slot(at - 1);
        if (decision.candidates.size() < kCandidatesMax) {
          decision.candidates.push_back(
              {std::to_string(state.replicas.id_at(at - 1).value),
               std::to_string(replica.sandbox.value), std::to_string(replica.in_flight),
               replica.in_flight == 0 ? std::to_string(replica.idle_since.nanos) : ""});
        } else {
          ++decision.left_out;
        }
        at = replica.next;
      }
      if (decision.candidates.empty()) {
        decision.note = "no replica had a free slot before this event: it made one";
      }
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

std::vector<Decision> explain_node(const node::Event& event,
                                   const std::vector<node::Effect>& effects) {
  std::vector<Decision> decisions;
  const auto* from = std::get_if<node::FromControl>(&event);
  const auto* order = from == nullptr || !from->envelope.message
                          ? nullptr
                          : std::get_if<StartOrder>(&*from->envelope.message);
  for (const node::Effect& effect : effects) {
    const auto* to = std::get_if<node::ToControl>(&effect);
    const auto* no = to == nullptr || !to->envelope.message
                         ? nullptr
                         : std::get_if<RefusedReport>(&*to->envelope.message);
    if (no == nullptr) continue;
    Decision decision;
    decision.where = "node";
    decision.what = fmt::format("sandbox {} is refused by the node", no->sandbox.value);
    decision.rule = fmt::format("the node checks every admission again: {}", node_rule(no->rule));
    if (order != nullptr) {
      decision.numbers = {{"millicores asked", std::to_string(order->resources.cpu_millicores)},
                          {"memory asked", bytes_text(order->resources.memory_bytes)}};
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

}  // namespace chalk::sim
