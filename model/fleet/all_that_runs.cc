#include "model/fleet/all_that_runs.h"

#include <algorithm>

namespace chalk::fleet {
namespace {

struct Sum {
  Amounts amounts;
  std::int64_t owners = 0, nodes = 0;

  void add(const Running& one) {
    amounts += one.amounts;
    owners += one.owners;
    nodes += one.nodes;
  }
  Wide permille_in(const Offer& offer) const {
    return nodes_permille(amounts, offer.shape) + 500 * std::max<Wide>(owners, 1);
  }
  Wide price_in(const Offer& offer) const { return permille_in(offer) * offer.price; }
  // Where it is now the nodes may be fuller than that.
  Wide price_where_it_is(const Offer& offer) const {
    return std::min<Wide>(permille_in(offer), nodes * 1000) * offer.price;
  }
};

}  // namespace

bool alike(const Offer& a, const Offer& b) {
  if (a.pool == b.pool) return true;
  if (a.reserved || b.reserved || (a.shape.gpus > 0) != (b.shape.gpus > 0)) return false;
  return a.shape.gpus == 0 || a.shape.gpu_model == b.shape.gpu_model;
}

AllThatRuns::AllThatRuns(const std::vector<Offer>& offers, const std::vector<Running>& running)
    : offers_(offers) {
  for (const Offer& offer : offers) in_pools_[offer.pool];
  for (const Running& one : running) add(one);
}

void AllThatRuns::add(const Running& one) {
  const auto pool = in_pools_.find(one.pool);
  if (pool == in_pools_.end()) return;
  pool->second.push_back(one);
  of_owners_[one.owner].push_back(one);
}

// For each weight, of what fits in both.
Wide AllThatRuns::price(const Offer& offer, const Offer& other, const Shares& shares) const {
  Wide permille = 0, held = 0;
  for (const auto& [owner, share] : shares) {
    Amounts all = share.amounts;
    bool more = false;
    const auto running = of_owners_.find(owner);
    if (running != of_owners_.end()) {
      for (const Running& one : running->second) {
        const bool counts = std::any_of(offers_.begin(), offers_.end(), [&](const Offer& in) {
          return in.pool == one.pool && alike(in, offer);
        });
        if (!counts || !fits(offer.shape, one.largest) || !fits(other.shape, one.largest)) continue;
        all += one.amounts;
        more = true;
      }
    }
    permille += std::max<Wide>(share.nodes * 1000, nodes_permille(all, offer.shape) + (more ? 500 : 0));
    held += weight(all);
  }
  return held == 0 ? 0 : permille * offer.price * 1'000 / held;
}

bool AllThatRuns::cheaper(const Offer& a, const Shares& in_a, const Offer& b,
                          const Shares& in_b) const {
  return price(a, b, in_a) < price(b, a, in_b);
}

bool AllThatRuns::cheapest(const Offer& offer) const {
  return std::none_of(offers_.begin(), offers_.end(), [&](const Offer& other) {
    if (other.room == 0 || !alike(offer, other)) return false;
    Sum all;
    for (const Offer& in : offers_) {
      if (!alike(in, offer)) continue;
      for (const Running& one : in_pools_.at(in.pool)) {
        if (fits(offer.shape, one.largest) && fits(other.shape, one.largest)) all.add(one);
      }
    }
    return all.price_in(other) < all.price_in(offer);
  });
}

bool AllThatRuns::cheapest_for_its_own(const Offer& offer) const {
  const std::vector<Running>& own = in_pools_.at(offer.pool);
  Sum all;
  for (const Running& one : own) all.add(one);
  return own.empty() || std::none_of(offers_.begin(), offers_.end(), [&](const Offer& other) {
    const bool holds = std::all_of(own.begin(), own.end(), [&](const Running& one) {
      return fits(other.shape, one.largest);
    });
    return other.room != 0 && alike(offer, other) && holds &&
           all.price_in(other) < all.price_where_it_is(offer);
  });
}

}  // namespace chalk::fleet
