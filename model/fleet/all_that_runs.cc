#include "model/fleet/all_that_runs.h"

#include <algorithm>

namespace chalk::fleet {
namespace {

// What runs in one could run in the other: told apart neither by name nor by GPUs.
bool alike(const Offer& a, const Offer& b) {
  if (a.pool == b.pool) return true;
  if (a.reserved || b.reserved || (a.shape.gpus > 0) != (b.shape.gpus > 0)) return false;
  return a.shape.gpus == 0 || a.shape.gpu_model == b.shape.gpu_model;
}

Wide nodes_for_all_permille(const Amounts& amounts, const NodeShape& shape) {
  return nodes_permille(amounts, shape) + 500;
}

}  // namespace

AllThatRuns::AllThatRuns(const std::vector<Offer>& offers, const std::vector<Running>& running)
    : offers_(offers), of_all_(offers.size()) {
  for (const Offer& offer : offers) {
    const auto first = std::find_if(offers.begin(), offers.end(),
                                    [&](const Offer& other) { return alike(offer, other); });
    kinds_[offer.pool] = static_cast<std::size_t>(first - offers.begin());
  }
  for (const Running& one : running) add(one);
}

void AllThatRuns::add(const Running& one) {
  const auto kind = kinds_.find(one.pool);
  if (kind == kinds_.end()) return;
  of_owners_[{one.owner, kind->second}] += one.amounts;
  of_all_[kind->second] += one.amounts;
}

Wide AllThatRuns::price_with(const std::map<TenantId, Share>& shares, const Offer& offer) const {
  Wide permille = 0, held = 0;
  for (const auto& [owner, share] : shares) {
    Amounts all = share.amounts;
    const auto more = of_owners_.find({owner, kinds_.at(offer.pool)});
    if (more != of_owners_.end()) all += more->second;
    permille += std::max<Wide>(share.nodes * 1000, nodes_for_all_permille(all, offer.shape));
    held += weight(all);
  }
  return held == 0 ? 0 : permille * offer.price * 1'000 / held;
}

bool AllThatRuns::cheapest(const Offer& offer) const {
  const std::size_t kind = kinds_.at(offer.pool);
  const auto price = [&](const Offer& of) {
    return nodes_for_all_permille(of_all_[kind], of.shape) * of.price;
  };
  return std::none_of(offers_.begin(), offers_.end(), [&](const Offer& other) {
    return other.room != 0 && kinds_.at(other.pool) == kind && price(other) < price(offer);
  });
}

}  // namespace chalk::fleet
