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
  for (const Running& one : running) add(one);
}

void AllThatRuns::add(const Running& one) {
  const auto pool = std::find_if(offers_.begin(), offers_.end(),
                                 [&](const Offer& offer) { return offer.pool == one.pool; });
  if (pool != offers_.end()) of_owners_[one.owner].push_back({&*pool, one});
}

bool AllThatRuns::could_be_in(const In& in, const Offer& a, const Offer& b) {
  return alike(*in.pool, a) && fits(a.shape, in.running.largest) &&
         fits(b.shape, in.running.largest);
}

// For each weight, of what fits in both.
Wide AllThatRuns::price(const Offer& offer, const Offer& other, const Shares& shares) const {
  Wide permille = 0, held = 0;
  for (const auto& [owner, share] : shares) {
    Amounts all = share.amounts;
    Wide half = 0;
    if (const auto found = of_owners_.find(owner); found != of_owners_.end()) {
      for (const In& in : found->second) {
        if (!could_be_in(in, offer, other)) continue;
        all += in.running.amounts;
        half = 500;
      }
    }
    permille += std::max<Wide>(share.nodes * 1000, nodes_permille(all, offer.shape) + half);
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
    for (const auto& [owner, running] : of_owners_) {
      for (const In& in : running) {
        if (could_be_in(in, offer, other)) all.add(in.running);
      }
    }
    return all.price_in(other) < all.price_in(offer);
  });
}

bool AllThatRuns::cheapest_for_its_own(const Offer& offer) const {
  Sum all;
  std::vector<Resources> largest;
  for (const auto& [owner, running] : of_owners_) {
    for (const In& in : running) {
      if (in.pool->pool != offer.pool) continue;
      all.add(in.running);
      largest.push_back(in.running.largest);
    }
  }
  return largest.empty() || std::none_of(offers_.begin(), offers_.end(), [&](const Offer& other) {
    const bool holds = std::all_of(largest.begin(), largest.end(), [&](const Resources& one) {
      return fits(other.shape, one);
    });
    return other.room != 0 && alike(offer, other) && holds &&
           all.price_in(other) < all.price_where_it_is(offer);
  });
}

}  // namespace chalk::fleet
