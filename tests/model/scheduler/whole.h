// Whether what a scheduler keeps is consistent: everything that its State holds twice, or derives
// from something else in it, is derived anew here. Where it chooses right by luck, this tells.
#pragma once
#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "model/scheduler/index.h"
#include "model/scheduler/trees.h"

namespace chalk::scheduler {

// What stands for the block that holds these nodes, in order.
inline Item sum_of(std::span<const Item> nodes, std::uint32_t block) {
  Item sum = nodes.front();
  sum.below = block;
  for (const Item& one : nodes) {
    sum.cpu = std::max(sum.cpu, one.cpu);
    sum.memory = std::max(sum.memory, one.memory);
    sum.disk = std::max(sum.disk, one.disk);
    sum.whole = std::max(sum.whole, one.whole);
    sum.gpu_most = std::max(sum.gpu_most, one.gpu_most);
  }
  return sum;
}

class Inspection {
 public:
  Inspection(const State& state, std::uint32_t zones_max) : state_(state), zones_max_(zones_max) {
    for (std::uint32_t slot = 0; slot < state.infos.size(); ++slot) look_at_node(slot);
    for (std::uint32_t at = 0; at < state.buckets.size(); ++at) look_at_bucket(at);
    look_at_what_is_counted();
    look_at_groups();
    look_at_images();
    look_at_nominations();
  }
  // The first thing that is wrong, or nothing.
  std::string fault;

 private:
  void expect(bool holds, const char* what, std::uint64_t where = 0) {
    if (!holds && fault.empty()) fault = std::string(what) + " of " + std::to_string(where);
  }

  void look_at_node(std::uint32_t slot) {
    const NodeInfo& info = state_.infos[slot];
    const Node& node = state_.nodes[slot];
    if (!info.id) {
      NodeInfo empty;
      empty.last = info.last;
      expect(info == empty && node == Node{}, "an empty slot has something", slot);
      return;
    }
    expect(info.last == info.id, "the newest node", slot);
    ++live_;
    ++pools_[info.pool];
    shared_ += info.dedicated ? 0 : 1;
    if (node.bucket >= state_.buckets.size()) return expect(false, "the bucket", slot);
    const Bucket& bucket = state_.buckets[node.bucket];
    expect(bucket.owner == info.owner && bucket.pool == info.pool && bucket.zone == info.zone &&
               bucket.dedicated == info.dedicated &&
               bucket.gpu_model == (info.shape.gpus > 0 ? info.shape.gpu_model : -1),
           "the kind of bucket", slot);
    const auto between = [](std::int64_t least, std::int64_t amount, std::int64_t most) {
      return least <= amount && amount <= most;
    };
    const NodeShape &shape = info.shape, &least = bucket.least, &most = bucket.most;
    expect(between(least.cpu_millicores, shape.cpu_millicores, most.cpu_millicores) &&
               between(least.memory_bytes, shape.memory_bytes, most.memory_bytes) &&
               between(least.disk_bytes, shape.disk_bytes, most.disk_bytes) &&
               between(least.gpus, shape.gpus, most.gpus),
           "the shapes of bucket", node.bucket);
    const bool considered = !info.cordoned && info.usable;
    const Listed listed = !considered || info.sandboxes_free == 0 ? Listed::no
                          : info.starts_free == 0                ? Listed::waiting
                                                                 : Listed::open;
    expect(info.listed == listed, "how it is listed", slot);
    Bucket& counted = counted_[node.bucket];
    ++counted.members;
    counted.considered += considered;
    counted.open += listed == Listed::open;
    counted.waiting += listed == Listed::waiting;
    (listed == Listed::open ? open_ : waiting_)[node.bucket].insert(
        listed == Listed::no ? 0 : slot + 1);
    look_at_gpus(slot, listed);
    look_at_reservations(slot);
  }

  void look_at_gpus(std::uint32_t slot, Listed listed) {
    const NodeInfo& info = state_.infos[slot];
    if (info.shape.gpus == 0) {
      return expect(info.gpu_row == kNone && state_.nodes[slot].gpu_free == 0, "no GPUs", slot);
    }
    expect(state_.nodes[slot].gpus == info.shape.gpus, "the number of GPUs", slot);
    const GpuRow& row = state_.gpu_rows[info.gpu_row];
    expect(rows_.insert(info.gpu_row).second && row.slot == slot, "the row", slot);
    std::int32_t whole = 0, most = 0, sum = 0;
    std::uint32_t shared = 0;
    std::set<std::int32_t> amounts{0};
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      expect(gpu < info.shape.gpus || row.free[gpu] == 0, "a GPU that it has not", slot);
      whole += row.free[gpu] == 1000;
      most = std::max<std::int32_t>(most, row.free[gpu]);
      sum += row.free[gpu];
      if (!amounts.insert(row.free[gpu]).second) continue;
      shared |= 1u << gpu;
      if (listed != Listed::open) continue;
      shares_[state_.nodes[slot].bucket].insert(info.gpu_row * kGpusPerNodeMax + gpu + 1);
    }
    expect(row.whole == whole && row.most == most && state_.nodes[slot].gpu_free == sum,
           "what is free on the GPUs", slot);
    expect(row.shared == (listed == Listed::open ? shared : 0), "which GPUs are listed", slot);
  }

  // What is free, reserved, and held by nominations is the whole node.
  void look_at_reservations(std::uint32_t slot) {
    const NodeInfo& info = state_.infos[slot];
    Node sum = state_.nodes[slot];
    std::int32_t starts = info.starts_free, sandboxes = info.sandboxes_free;
    std::array<std::int32_t, kGpusPerNodeMax> gpus{};
    if (info.gpu_row != kNone) {
      const GpuRow& row = state_.gpu_rows[info.gpu_row];
      std::copy(row.free.begin(), row.free.end(), gpus.begin());
    }
    std::uint32_t previous = 0;
    for (std::uint32_t at = info.first_reservation; at != 0; at = state_.links[at - 1].next) {
      const Reservation& held = state_.reservations[at - 1];
      expect(state_.links[at - 1].previous == previous && held.node == slot + 1,
             "the list of reservations", slot);
      if (++reserved_ > state_.reservations.size()) return expect(false, "a ring", slot);
      previous = at;
      sum.cpu += held.cpu;
      sum.memory += held.memory;
      sum.disk += held.disk;
      starts += held.starting;
      ++sandboxes;
      for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
        if (held.gpu_mask >> gpu & 1) gpus[gpu] += held.gpu_millis;
      }
      if (held.group != kNone) ++groups_[held.group][info.zone];
    }
    const auto owed = state_.nominations.find(slot);
    const std::vector<Nomination> none;
    for (const Nomination& one : owed == state_.nominations.end() ? none : owed->second) {
      sum.cpu += one.hold.cpu;
      sum.memory += one.hold.memory;
      sum.disk += one.hold.disk;
      starts += one.hold.start;
      sandboxes += one.hold.sandbox;
      for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) gpus[gpu] += one.hold.gpus[gpu];
    }
    expect(sum.cpu == info.shape.cpu_millicores && sum.memory == info.shape.memory_bytes &&
               sum.disk == info.shape.disk_bytes && starts == info.shape.start_slots &&
               sandboxes == info.shape.sandboxes_max,
           "the sum of amounts", slot);
    for (int gpu = 0; gpu < info.shape.gpus; ++gpu) {
      expect(gpus[gpu] == 1000, "the sum on a GPU", slot);
    }
  }

  void look_at_bucket(std::uint32_t at) {
    const Bucket& bucket = state_.buckets[at];
    const Bucket& counted = counted_[at];
    expect(bucket.members == counted.members && bucket.considered == counted.considered &&
               bucket.open == counted.open && bucket.waiting == counted.waiting,
           "the counts of bucket", at);
    if (bucket.members == 0) return expect(bucket == Bucket{}, "a vacant bucket has something", at);
    expect(kinds_.insert({bucket.owner, bucket.pool, bucket.zone, bucket.gpu_model,
                          bucket.dedicated}).second,
           "two buckets are alike", at);
    const std::uint32_t owner = state_.owner_index.find(bucket.owner.value);
    if (owner == kNone) return expect(false, "the owner of bucket", at);
    const auto& owned = state_.owners[owner].buckets;
    expect(std::count(owned.begin(), owned.end(), at) == 1, "the owner's list of bucket", at);
    owned_[owner] += 1;
    look_at_list(bucket.waiting_root, waiting_[at], at);
    look_at_shares(bucket.share_root, at);
    if (bucket.grid == kNone) {
      look_at_list(bucket.open_root, open_[at], at);
      return expect(bucket.gpu_model >= 0 || bucket.open < 256, "a grid is missing", at);
    }
    expect(bucket.open_root == 0 && bucket.gpu_model < 0 && bucket.open > 64, "a grid", at);
    expect(grids_.insert(bucket.grid).second, "two have the grid", bucket.grid);
    const Grid& grid = state_.grids[bucket.grid];
    std::map<std::uint32_t, std::set<std::uint32_t>> cells;
    std::map<std::uint32_t, std::int64_t> least;
    for (const std::uint32_t node : open_[at]) {
      if (node == 0) continue;
      const Node& one = state_.nodes[node - 1];
      const std::uint32_t cell =
          CpuScale::level(one.cpu) * kColumns + MemoryScale::level(one.memory);
      const bool first = cells[cell].empty();
      cells[cell].insert(node);
      least[cell] = first ? one.residual() : std::min(least[cell], one.residual());
    }
    for (std::uint32_t cell = 0; cell < kRows * kColumns; ++cell) {
      const std::uint32_t row = cell / kColumns;
      const bool used = cells.contains(cell);
      expect((grid.cells[row] >> cell % kColumns & 1) == used, "the bit of cell", cell);
      expect(grid.least[cell] == (used ? least[cell] : INT64_MAX), "the least of cell", cell);
      expect((grid.rows[row / 64] >> row % 64 & 1) == (grid.cells[row] != 0), "the bit of", row);
      look_at_list(grid.roots[cell], used ? cells[cell] : std::set<std::uint32_t>{}, at);
    }
  }

  // ---- lists and trees: in order, and each part knows the most below it

  struct Below {
    std::int64_t cpu = 0, memory = 0, disk = 0;
  };
  // What stands for a node in the lists.
  Item item_of(std::uint32_t node) {
    const Node& one = state_.nodes[node - 1];
    Item item{one.gpus > 0 ? one.scarcity() : one.residual(), one.cpu, one.memory, one.disk, node};
    if (one.gpus == 0) return item;
    const GpuRow& row = state_.gpu_rows[state_.infos[node - 1].gpu_row];
    item.whole = static_cast<std::int16_t>(row.whole);
    item.gpu_most = static_cast<std::int16_t>(row.most);
    return item;
  }
  // Returns how many levels are below the block, itself counted.
  int look_at_block(std::uint32_t at, std::vector<Item>& out) {
    if (at > state_.blocks.size() || !blocks_.insert(at).second) {
      expect(false, "two have the block, or none", at);
      return 0;
    }
    const Block& block = state_.blocks[at - 1];
    expect(block.count > 0 && block.count <= kBlockItems, "the number of items in block", at);
    int levels = 0;
    for (std::uint32_t i = 0; i < block.count && fault.empty(); ++i) {
      const Item& item = block.items[i];
      const std::size_t first = out.size();
      int below = 0;
      if (item.node == 0 || item.node > state_.nodes.size()) {
        expect(false, "the node of an item in block", at);
      } else if (item.below == 0) {
        out.push_back(item_of(item.node));
      } else {
        below = look_at_block(item.below, out);
      }
      expect(i == 0 || below == levels, "the levels below block", at);
      levels = below;
      if (first == out.size()) continue;
      expect(item == sum_of(std::span(out).subspan(first), item.below), "an item of block", at);
    }
    for (std::uint32_t i = block.count; i < kBlockItems; ++i) {
      expect(block.items[i] == Item{}, "what is left behind in block", at);
    }
    return levels + 1;
  }
  void look_at_list(std::uint32_t root, std::set<std::uint32_t> members, std::uint32_t at) {
    std::vector<Item> items;
    if (root != 0) {
      look_at_block(root, items);
      const Block& block = state_.blocks[root - 1];
      expect(block.count > 1 || block.items[0].below == 0, "a root with one block below in", at);
    }
    std::set<std::uint32_t> nodes;
    for (const Item& item : items) nodes.insert(item.node);
    members.erase(0);
    expect(nodes == members && items.size() == members.size(), "the list of bucket", at);
    expect(std::is_sorted(items.begin(), items.end(),
                          [](const Item& a, const Item& b) { return a.order() < b.order(); }),
           "the order in bucket", at);
  }

  Below share_tree(std::uint32_t at, std::vector<std::uint32_t>& out) {
    if (at == 0) return {};
    const GpuRow& row = state_.gpu_rows[(at - 1) / kGpusPerNodeMax];
    const Share& share = row.shares[(at - 1) % kGpusPerNodeMax];
    const Node& node = state_.nodes[row.slot];
    if (out.size() > state_.gpu_rows.size() * kGpusPerNodeMax) return {};
    for (const std::uint32_t child : {share.left, share.right}) {
      expect(child == 0 || treap::priority(child) < treap::priority(at), "the shape below", at);
    }
    const Below left = share_tree(share.left, out);
    out.push_back(at);
    const Below right = share_tree(share.right, out);
    const Below all{std::max({node.cpu, left.cpu, right.cpu}),
                    std::max({node.memory, left.memory, right.memory}),
                    std::max({node.disk, left.disk, right.disk})};
    expect(share.cpu_max == all.cpu && share.memory_max == all.memory && share.disk_max == all.disk,
           "the most below share", at);
    return all;
  }
  void look_at_shares(std::uint32_t root, std::uint32_t at) {
    std::vector<std::uint32_t> shares;
    share_tree(root, shares);
    expect(std::set(shares.begin(), shares.end()) == shares_[at] &&
               shares.size() == shares_[at].size(),
           "the shares of bucket", at);
    const auto key = [&](std::uint32_t share) {
      const GpuRow& row = state_.gpu_rows[(share - 1) / kGpusPerNodeMax];
      const Node& node = state_.nodes[row.slot];
      return std::tuple(row.free[(share - 1) % kGpusPerNodeMax], node.gpu_free, node.gpus,
                        node.residual(), row.slot);
    };
    expect(std::is_sorted(shares.begin(), shares.end(),
                          [&](auto a, auto b) { return key(a) < key(b); }),
           "the order of shares in bucket", at);
  }

  // ---- what is used is not vacant, and what is vacant is empty

  template <class T, class Used>
  void look_at_vacant(const std::vector<T>& items, const std::vector<std::uint32_t>& vacant,
                      Used&& used, const char* what) {
    const std::set<std::uint32_t> listed(vacant.begin(), vacant.end());
    expect(listed.size() == vacant.size(), what, listed.size());
    for (std::uint32_t at = 0; at < items.size(); ++at) {
      expect(listed.contains(at) == !used(at), what, at);
      if (listed.contains(at)) expect(items[at] == T{}, what, at);
    }
  }
  void look_at_what_is_counted() {
    expect(state_.live_nodes == live_ && state_.shared_pool_nodes == shared_, "the nodes");
    expect(state_.live_reservations == reserved_, "the reservations");
    expect(static_cast<std::uint64_t>(std::count_if(
               state_.reservations.begin(), state_.reservations.end(),
               [](const Reservation& one) { return one.node != 0; })) == reserved_,
           "reservations in no list");
    for (const Reservation& one : state_.reservations) {
      expect(one.node != 0 || one == Reservation{}, "a reservation of nothing has something");
    }
    expect(state_.pool_index.size() == state_.pools.size(), "the pools");
    for (std::uint32_t at = 0; at < state_.pools.size(); ++at) {
      const PoolNodes& pool = state_.pools[at];
      expect(pool.nodes == pools_[pool.id] && state_.pool_index.find(pool.id.value) == at,
             "the nodes of pool", at);
    }
    std::uint64_t owners = 0;
    for (std::uint32_t at = 0; at < state_.owners.size(); ++at) {
      expect(state_.owners[at].buckets.size() == owned_[at], "the buckets of owner", at);
      owners += owned_[at] > 0;
    }
    expect(state_.owner_index.size() == owners, "the owners");
    const auto has = [](const auto& in) { return [&](std::uint32_t at) { return in(at); }; };
    look_at_vacant(state_.gpu_rows, state_.vacant_gpu_rows,
                   has([&](std::uint32_t at) { return rows_.contains(at); }), "vacant rows");
    look_at_vacant(state_.buckets, state_.vacant_buckets,
                   has([&](std::uint32_t at) { return state_.buckets[at].members > 0; }),
                   "vacant buckets");
    look_at_vacant(state_.blocks, state_.vacant_blocks,
                   has([&](std::uint32_t at) { return blocks_.contains(at + 1); }),
                   "vacant blocks");
    look_at_vacant(state_.grids, state_.vacant_grids,
                   has([&](std::uint32_t at) { return grids_.contains(at); }), "vacant grids");
    look_at_vacant(state_.owners, state_.vacant_owners,
                   has([&](std::uint32_t at) { return owned_[at] > 0; }), "vacant owners");
    look_at_vacant(state_.groups, state_.vacant_groups,
                   has([&](std::uint32_t at) { return state_.groups[at].live > 0; }),
                   "vacant groups");
    look_at_vacant(state_.images, state_.vacant_images,
                   has([&](std::uint32_t at) { return !state_.images[at].nodes.empty(); }),
                   "vacant images");
  }

  void look_at_groups() {
    std::uint64_t live = 0;
    expect(state_.group_zones.size() == state_.groups.size() * zones_max_, "the zones of groups");
    for (std::uint32_t at = 0; at < state_.groups.size(); ++at) {
      std::uint32_t sum = 0;
      for (std::uint32_t zone = 0; zone < zones_max_; ++zone) {
        const std::uint32_t count = state_.group_zones[std::size_t{at} * zones_max_ + zone];
        expect(count == groups_[at][zone], "a zone of group", at);
        sum += count;
      }
      expect(state_.groups[at].live == sum, "the count of group", at);
      if (sum == 0) continue;
      ++live;
      expect(state_.group_index.find(state_.groups[at].id.value) == at, "the group", at);
    }
    expect(state_.group_index.size() == live, "the groups");
  }

  void look_at_images() {
    std::uint64_t known = 0;
    for (std::uint32_t at = 0; at < state_.images.size(); ++at) {
      const ImageNodes& image = state_.images[at];
      if (image.nodes.empty()) continue;
      ++known;
      expect(state_.image_index.find(image.id.value) == at, "the image", at);
      expect(std::adjacent_find(image.nodes.begin(), image.nodes.end(),
                                [](NodeId a, NodeId b) {
                                  return static_cast<std::uint32_t>(a.value) >=
                                         static_cast<std::uint32_t>(b.value);
                                }) == image.nodes.end(),
             "the nodes of image", at);
    }
    expect(state_.image_index.size() == known, "the images");
  }

  // None holds more than it asked for, and none misses what is free on its node.
  void look_at_nominations() {
    std::uint64_t nominated = 0;
    for (const auto& [slot, all] : state_.nominations) {
      expect(!all.empty(), "no nominations are listed", slot);
      nominated += all.size();
      for (const Nomination& one : all) {
        const auto place = static_cast<std::uint32_t>(one.sandbox.value) - 1;
        expect(one.slot == slot && state_.nominated.find(place) == slot,
               "where it is nominated", one.sandbox.value);
        look_at_nomination(one);
      }
    }
    expect(state_.nominated.size() == nominated, "nominations");
  }
  void look_at_nomination(const Nomination& one) {
    const Node& node = state_.nodes[one.slot];
    const NodeInfo& info = state_.infos[one.slot];
    const auto kept = [&](std::int64_t held, std::int64_t asked, std::int64_t free) {
      expect(held == asked || (held < asked && free == 0), "what is held for", one.sandbox.value);
      return held == asked;
    };
    bool whole = kept(one.hold.cpu, one.ask.cpu_millicores, node.cpu);
    whole &= kept(one.hold.memory, one.ask.memory_bytes, node.memory);
    whole &= kept(one.hold.disk, one.ask.disk_bytes, node.disk);
    whole &= kept(one.hold.sandbox, 1, info.sandboxes_free);
    whole &= kept(one.hold.start, 1, info.starts_free);
    for (int gpu = 0; gpu < kGpusPerNodeMax; ++gpu) {
      if ((one.gpu_mask >> gpu & 1) == 0) {
        expect(one.hold.gpus[gpu] == 0, "a GPU is held for", one.sandbox.value);
        continue;
      }
      whole &= kept(one.hold.gpus[gpu], one.ask.gpu_millis,
                    state_.gpu_rows[info.gpu_row].free[gpu]);
    }
    expect(!whole, "there is room, and yet waits", one.sandbox.value);
    expect(info.id && info.usable && !info.cordoned && info.owner == one.owner,
           "it waits for a node that is not for", one.sandbox.value);
  }

  const State& state_;
  const std::uint32_t zones_max_;
  std::uint64_t live_ = 0, shared_ = 0, reserved_ = 0;
  std::map<PoolId, std::uint32_t> pools_;
  std::map<std::uint32_t, Bucket> counted_;
  std::map<std::uint32_t, std::set<std::uint32_t>> open_, waiting_, shares_;
  std::map<std::uint32_t, std::map<std::uint32_t, std::uint32_t>> groups_;  // by group, zone
  std::map<std::uint32_t, std::size_t> owned_;
  std::set<std::uint32_t> rows_, grids_, blocks_;
  std::set<std::tuple<TenantId, PoolId, std::uint32_t, std::int32_t, bool>> kinds_;
};

inline std::string fault_of(const State& state, std::uint32_t zones_max) {
  return Inspection(state, zones_max).fault;
}

}  // namespace chalk::scheduler
