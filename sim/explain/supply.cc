// Why nodes were bought and given back: the rule of the policy, and the pools that it chose among.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "sim/explain/explain.h"

namespace chalk::sim {
namespace {

using fleet::BuyNode;
using fleet::Policy;

const char* rule_of(Policy policy) {
  switch (policy) {
    case Policy::idle:
      return "idle: what waits, in the first elastic pool that fits it, and the buffer need more nodes "
             "than are free or booting";
    case Policy::cluster_autoscaler:
      return "cluster_autoscaler: what waits, packed onto what is free or boots, needs more; of the "
             "pool with the least waste";
    case Policy::karpenter:
      return "karpenter: what waits, packed onto what is free or boots, needs more; of the pool that "
             "is cheapest for what its new nodes hold";
    case Policy::newsvendor:
      return "newsvendor: what waits, packed onto what is free or boots, needs more, of the pool that "
             "is cheapest for all that its owners run; or at least half a node less room is free, "
             "on busy nodes too, than is kept";
  }
  return "";
}

// Each elastic pool as it was before the event, the chosen one first.
void list_pools(const control::Control& before, Time now, PoolId chosen, Decision& decision) {
  const fleet::State& state = before.fleet().state();
  const std::vector<fleet::Offer> offers = before.fleet().offers(now);
  const std::vector<fleet::Waiting> waiting = before.waiting_seen().waiting;
  decision.columns = {"pool",     "price",        "nodes",     "busy",     "idle", "booting",
                      "may come", "for all that waits", "at the price", "room kept", "room free"};
  for (std::size_t i = 0; i < offers.size(); ++i) {
    const fleet::PoolState& pool = state.pools[i];
    if (!pool.policy.elastic) continue;
    fleet::Offer anew = offers[i];
    anew.ready = 0;
    anew.room = pool.policy.nodes_max;
    const std::uint32_t alone =
        fleet::nodes_needed(waiting, {anew}, fleet::Expander::cheapest)[0].buy;
    const auto price = [&](double nodes) {
      return fmt::format("{:.4g}", nodes * static_cast<double>(pool.policy.price_micros) * 1e-6);
    };
    const bool first = offers[i].pool == chosen;
    decision.candidates.insert(
        first ? decision.candidates.begin() : decision.candidates.end(),
        {std::to_string(offers[i].pool.value), price(1), std::to_string(pool.nodes),
         std::to_string(pool.busy), std::to_string(pool.idle.size()),
         std::to_string(pool.booting.size()), std::to_string(offers[i].room),
         std::to_string(alone), price(alone), std::to_string(pool.room.least),
         std::to_string(pool.free)});
  }
  if (decision.candidates.size() > kCandidatesMax) {
    decision.left_out = decision.candidates.size() - kCandidatesMax;
    decision.candidates.resize(kCandidatesMax);
  }
  decision.note =
      "the bought one first; price: of a node and hour; for all that waits: nodes of that pool, were "
      "all of it that may use the pool on new ones; room: in thousandths of a node, at the pool's "
      "last look";
}

Decision bought(const control::Control& before, Time now, const std::vector<BuyNode>& nodes,
                const std::string& in_place_of) {
  const BuyNode& last = nodes.back();
  Decision decision;
  decision.where = "fleet";
  decision.what = fmt::format("{} node{} of pool {} {} bought, zone{}", nodes.size(),
                              nodes.size() == 1 ? "" : "s", last.pool.value,
                              nodes.size() == 1 ? "is" : "are", nodes.size() == 1 ? "" : "s");
  for (const BuyNode& one : nodes) decision.what += fmt::format(" {}", one.zone.value);
  decision.rule = in_place_of.empty() ? rule_of(before.fleet().config().rules.policy)
                                      : "it takes the place of node " + in_place_of;
  decision.numbers = {{"needed for what waits", std::to_string(last.needed)},
                      {"buffer", std::to_string(last.buffer)},
                      {"free", std::to_string(last.free)},
                      {"booting, with these", std::to_string(last.booting)},
                      {"room kept, thousandths of a node", std::to_string(last.room_kept)},
                      {"room free, thousandths of a node", std::to_string(last.room_free)}};
  list_pools(before, now, last.pool, decision);
  return decision;
}

Decision released(const fleet::ReleaseNode& one) {
  Decision decision;
  decision.where = "fleet";
  decision.what = fmt::format("node {} is given back", one.node.value);
  decision.rule =
      "idle for idle_before_release, or fleet.unneeded where fleet.policy is not idle, and more "
      "than the pool's least, its buffer and the room that is kept";
  decision.numbers = {{"idle", duration_text(one.idle)}};
  return decision;
}

}  // namespace

std::vector<Decision> explain_supply(const control::Control& before, const control::Control& after,
                                     Time now, const std::vector<control::Effect>& effects) {
  std::map<std::pair<PoolId, std::string>, std::vector<BuyNode>> purchases;
  std::vector<Decision> releases;
  for (const control::Effect& effect : effects) {
    if (const auto* buy = std::get_if<BuyNode>(&effect)) {
      const auto& replaces = after.fleet().state().replaces;
      const auto found = replaces.find(buy->purchase);
      purchases[{buy->pool, found == replaces.end() ? "" : std::to_string(found->second.value)}]
          .push_back(*buy);
    }
    if (const auto* release = std::get_if<fleet::ReleaseNode>(&effect)) {
      releases.push_back(released(*release));
    }
  }
  std::vector<Decision> decisions;
  for (const auto& [of, nodes] : purchases) {
    decisions.push_back(bought(before, now, nodes, of.second));
  }
  decisions.insert(decisions.end(), releases.begin(), releases.end());
  return decisions;
}

}  // namespace chalk::sim
