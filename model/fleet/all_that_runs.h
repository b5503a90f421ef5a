// What a pool costs for all that runs, and not only for what waits.
//
// What waits at one moment is little, and the cheapest node that holds it may be a poor one for what
// the fleet runs: where work wants much memory, each single ask still fits on the cheap node with
// little of it, and one after another is bought. So two pools are compared by what all would cost
// that runs on pools like them and fits on nodes of both, were it all on nodes of the one. Of those
// nodes one is half empty on average, so large ones are for who needs several of them.
//
// An estimate: it goes by volume, and a mix of two pools, each for its own kind of work, may be
// cheaper than either.
#pragma once
#include <cstdint>
#include <map>
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

struct Running {   // what an owner has on nodes of a pool
  TenantId owner;  // none: all of whom nothing waits
  PoolId pool;
  Amounts amounts;
  Resources largest;         // of each amount the most that one sandbox has
  std::uint32_t nodes = 0;
  std::uint32_t owners = 1;  // who have nodes of their own
  CHALK_FIELDS(Running, owner, pool, amounts, largest, nodes, owners)
};

struct Share {  // of what waits, that one owner would have on new nodes
  Amounts amounts;
  std::int64_t nodes = 0;
};
using Shares = std::map<TenantId, Share>;

// What runs in one could run in the other: told apart neither by name nor by GPUs.
bool alike(const Offer& a, const Offer& b);

class AllThatRuns {
 public:
  // What runs on other pools than those of the offers, which stays, does not count.
  AllThatRuns(const std::vector<Offer>& offers, const std::vector<Running>& running);
  void add(const Running& one);

  // Of two offers that are alike, whether the owners of those shares would have all of theirs for
  // less in `a`.
  bool cheaper(const Offer& a, const Shares& in_a, const Offer& b, const Shares& in_b) const;
  // Whether no other that more nodes can be bought of would hold all for less.
  bool cheapest(const Offer& offer) const;
  // Whether none would hold for less what runs on the offer's own nodes.
  bool cheapest_for_its_own(const Offer& offer) const;

 private:
  struct In {
    const Offer* pool = nullptr;
    Running running;
  };
  // Whether it could be in either.
  static bool could_be_in(const In& in, const Offer& a, const Offer& b);
  Wide price(const Offer& offer, const Offer& other, const Shares& shares) const;

  const std::vector<Offer>& offers_;
  std::map<TenantId, std::vector<In>> of_owners_;
};

}  // namespace chalk::fleet
