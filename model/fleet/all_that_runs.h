// What a pool costs for all that runs, and not only for what waits.
//
// What waits at one moment is little, and the cheapest node that holds it may be a poor one for what
// the fleet runs: where work wants much memory, each single ask still fits on the cheap node with
// little of it, and one after another is bought. So pools are compared by what all would cost that
// runs on pools like them, were it all on nodes of the one. Of those nodes one is half empty on
// average, so large ones are for who needs several of them.
//
// An estimate: it goes by volume, and a mix of two pools, each for its own kind of work, may be
// cheaper than either.
#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "model/core/ids.h"
#include "model/core/resources.h"
#include "model/fleet/amounts.h"

namespace chalk::fleet {

struct Offer {  // a pool that more nodes can be bought of
  PoolId pool;
  NodeShape shape;
  std::int64_t price = 0;  // of a node
  bool reserved = false;
  std::uint32_t ready = 0;  // nodes that are empty, or on their way
  std::uint32_t room = 0;   // nodes that may still be bought
};

struct Running {    // what an owner has on nodes of a pool
  TenantId owner;  // none: all of whom nothing waits
  PoolId pool;
  Amounts amounts;
  CHALK_FIELDS(Running, owner, pool, amounts)
};

struct Share {  // of what waits, that one owner would have on new nodes
  Amounts amounts;
  std::int64_t nodes = 0;
};

class AllThatRuns {
 public:
  // What runs on other pools than those of the offers, which stay, does not count.
  AllThatRuns(const std::vector<Offer>& offers, const std::vector<Running>& running);
  void add(const Running& one);

  // The price for each weight of `shares` and all else that their owners run.
  Wide price_with(const std::map<TenantId, Share>& shares, const Offer& offer) const;
  // Whether no other pool that more nodes can be bought of holds all of it for less.
  bool cheapest(const Offer& offer) const;

 private:
  const std::vector<Offer>& offers_;
  std::map<PoolId, std::size_t> kinds_;  // of each pool the first offer that is like it
  std::map<std::pair<TenantId, std::size_t>, Amounts> of_owners_;  // by kind
  std::vector<Amounts> of_all_;                                    // by kind
};

}  // namespace chalk::fleet
