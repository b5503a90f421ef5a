// What the scheduler remembers: nodes with what is free on them, reservations, and the index.
//
// Everything is flat arrays addressed by slot, so a fork is a handful of array copies. The index is
// part of State: a copy goes on exactly as the original would.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "model/core/changes.h"
#include "model/core/fields.h"
#include "model/core/ids.h"
#include "model/core/resources.h"
#include "model/scheduler/blocks.h"
#include "model/scheduler/key_index.h"
#include "model/scheduler/mix.h"

namespace chalk::scheduler {

// The exchange rate of the residual: one core weighs as much as 4 GiB. One rate for all nodes makes
// the order of nodes by residual the same for every ask, so one index serves all shapes.
inline constexpr std::int64_t kBytesPerMillicore = std::int64_t{1} << 22;
// Bounds on what a node may be, so that sums stay within 63 bits.
inline constexpr std::int64_t kCpuMillicoresMax = std::int64_t{1} << 40;
inline constexpr std::int64_t kBytesMax = std::int64_t{1} << 60;

// What is free on a node.
struct Node {
  std::int64_t cpu = 0, memory = 0, disk = 0;
  std::uint32_t bucket = kNone;
  std::int16_t gpu_free = 0;  // thousandths, over all its GPUs
  std::int16_t gpus = 0;      // that it has
  CHALK_FIELDS(Node, cpu, memory, disk, bucket, gpu_free, gpus)
  std::int64_t residual() const { return cpu * kBytesPerMillicore + memory; }
  // GPU thousandths free, and then how many GPUs it has: among equals the small node goes first, so
  // that the large ones stay whole for who wants many at once.
  std::int64_t scarcity() const { return std::int64_t{gpu_free} << 16 | gpus; }
};

enum class Listed : std::uint8_t { no, open, waiting };  // waiting: no start slot is free

struct NodeInfo {
  NodeId id;    // none: the slot is empty
  NodeId last;  // the newest that was in the slot; ids at or before it never come back
  PoolId pool;
  TenantId owner;
  NodeShape shape;
  std::uint32_t zone = 0;  // index into State::zones
  std::uint32_t gpu_row = kNone;
  std::uint32_t first_reservation = 0;  // slot + 1
  std::int32_t starts_free = 0;
  std::int32_t sandboxes_free = 0;
  bool dedicated = false;
  bool cordoned = false;
  bool usable = true;
  Listed listed = Listed::no;
  CHALK_FIELDS(NodeInfo, id, last, pool, owner, shape, zone, gpu_row, first_reservation,
               starts_free, sandboxes_free, dedicated, cordoned, usable, listed)
};

// One distinct amount of free thousandths on a node, an element of its bucket's tree of shares.
struct Share {
  std::uint32_t left = 0, right = 0;  // row * kGpusPerNodeMax + gpu + 1
  std::int64_t cpu_max = 0, memory_max = 0, disk_max = 0;
  CHALK_FIELDS(Share, left, right, cpu_max, memory_max, disk_max)
};

// The GPUs of a node that has any.
struct GpuRow {
  std::uint32_t slot = 0;
  std::uint32_t shared = 0;          // mask of the GPUs that stand for a Share
  std::int32_t whole = 0, most = 0;  // wholly free GPUs; most thousandths free on one
  std::array<std::int16_t, kGpusPerNodeMax> free{};
  std::array<Share, kGpusPerNodeMax> shares{};
  CHALK_FIELDS(GpuRow, slot, shared, whole, most, free, shares)
};

// The open nodes of a large bucket, in cells by quantised free cpu (rows) and memory (columns).
inline constexpr std::uint32_t kRows = 128, kColumns = 64;
struct Grid {
  std::vector<std::uint32_t> roots;          // by cell, row * kColumns + column: its list
  std::vector<std::int64_t> least;           // the least residual in it
  std::array<std::uint64_t, kRows> cells{};  // of a row, which cells have any
  std::array<std::uint64_t, 2> rows{};       // which rows have
  CHALK_FIELDS(Grid, roots, least, cells, rows)
};

// Nodes that are alike in all but amounts: same owner, pool, zone and GPU model.
struct Bucket {
  TenantId owner;
  PoolId pool;
  std::uint32_t zone = 0;
  std::int32_t gpu_model = -1;  // -1: no GPUs
  bool dedicated = false;
  std::uint32_t members = 0;     // 0: the bucket is vacant
  NodeShape least, most;         // of each amount, of all that were members since it was vacant
  std::uint32_t considered = 0;  // members that are usable and not cordoned
  std::uint32_t open = 0, waiting = 0;
  std::uint32_t open_root = 0, waiting_root = 0;  // lists of nodes
  std::uint32_t share_root = 0;                   // a tree of shares
  std::uint32_t grid = kNone;  // instead of open_root when there are many open nodes
  CHALK_FIELDS(Bucket, owner, pool, zone, gpu_model, dedicated, members, least, most, considered,
               open, waiting, open_root, waiting_root, share_root, grid)
};

struct Owner {
  TenantId id;
  std::vector<std::uint32_t> buckets;
  CHALK_FIELDS(Owner, id, buckets)
};

struct Reservation {
  std::uint32_t generation = 0;
  std::uint32_t node = 0;  // slot + 1; 0: none
  std::int64_t cpu = 0, memory = 0, disk = 0;
  std::uint32_t gpu_mask = 0;
  std::int32_t gpu_millis = 0;
  std::uint32_t group = kNone;  // index into State::groups
  bool starting = false;
  CHALK_FIELDS(Reservation, generation, node, cpu, memory, disk, gpu_mask, gpu_millis, group,
               starting)
};
// The list of a node's reservations, apart from them because it is touched at neighbours. Slot + 1.
struct ReservationLink {
  std::uint32_t next = 0, previous = 0;
  CHALK_FIELDS(ReservationLink, next, previous)
};

// What a nominated sandbox holds of its node so far.
struct Hold {
  std::int64_t cpu = 0, memory = 0, disk = 0;
  std::array<std::int16_t, kGpusPerNodeMax> gpus{};  // thousandths
  bool sandbox = false, start = false;  // whether it has a place and a start slot
  CHALK_FIELDS(Hold, cpu, memory, disk, gpus, sandbox, start)
};

struct Nomination {
  SandboxId sandbox;
  TenantId owner;
  GroupId group;
  Resources ask;
  std::uint32_t slot = 0;  // of the node
  std::uint32_t gpu_mask = 0;
  Hold hold;
  CHALK_FIELDS(Nomination, sandbox, owner, group, ask, slot, gpu_mask, hold)
};

struct Group {
  GroupId id;
  std::uint32_t live = 0;  // 0: vacant
  CHALK_FIELDS(Group, id, live)
};
// Nodes that hold an image, ordered by slot. An entry of a node that left stays until its slot is
// reported again; ids, which never come back, tell it apart.
struct ImageNodes {
  ImageId id;
  std::vector<NodeId> nodes;
  CHALK_FIELDS(ImageNodes, id, nodes)
};
struct PoolNodes {
  PoolId id;
  std::uint32_t nodes = 0;
  CHALK_FIELDS(PoolNodes, id, nodes)
};

// Events that changed nothing, by reason.
struct Ignored {
  std::uint64_t duplicate_asks = 0;
  std::uint64_t unknown_sandboxes = 0;
  std::uint64_t unknown_nodes = 0;
  std::uint64_t duplicate_nodes = 0;
  std::uint64_t nodes_over_limit = 0;
  std::uint64_t malformed_nodes = 0;
  std::uint64_t repeated_starts = 0;
  CHALK_FIELDS(Ignored, duplicate_asks, unknown_sandboxes, unknown_nodes, duplicate_nodes,
               nodes_over_limit, malformed_nodes, repeated_starts)
};

struct State {
  std::vector<Node> nodes;  // nodes and infos by node slot
  std::vector<NodeInfo> infos;
  std::vector<Reservation> reservations;  // reservations and links by sandbox slot
  std::vector<ReservationLink> links;
  std::vector<ZoneId> zones;
  std::vector<GpuRow> gpu_rows;
  std::vector<Block> blocks;
  std::vector<Bucket> buckets;
  std::vector<Grid> grids;
  std::vector<Owner> owners;
  std::vector<Group> groups;
  std::vector<std::uint32_t> group_zones;  // live sandboxes: group index * zones_max + zone index
  std::vector<ImageNodes> images;
  std::vector<PoolNodes> pools;
  KeyIndex owner_index, group_index, image_index, pool_index;
  std::vector<std::uint32_t> vacant_gpu_rows, vacant_blocks, vacant_buckets, vacant_grids,
      vacant_owners, vacant_groups, vacant_images;
  std::uint64_t live_nodes = 0, shared_pool_nodes = 0, live_reservations = 0;
  Ignored ignored;
  std::uint32_t next_start = 0;  // least_allocated: the slot where the next scan begins
  Mix mix;                       // fgd
  std::map<std::uint32_t, std::vector<Nomination>> nominations;  // by node slot; the oldest first
  KeyIndex nominated;  // by sandbox slot, the slot of the node
  Changes changes;     // nodes by slot, of which something else is free or asked for
  CHALK_FIELDS(State, nodes, infos, reservations, links, zones, gpu_rows, blocks, buckets, grids,
               owners, groups, group_zones, images, pools, owner_index, group_index, image_index,
               pool_index, vacant_gpu_rows, vacant_blocks, vacant_buckets, vacant_grids,
               vacant_owners, vacant_groups, vacant_images, live_nodes, shared_pool_nodes,
               live_reservations, ignored, next_start, mix, nominations, nominated, changes)
};

// An index of `items` that is not in use: a vacant one, or a new one at the end.
template <class T>
std::uint32_t take_index(std::vector<T>& items, std::vector<std::uint32_t>& vacant) {
  if (vacant.empty()) {
    items.emplace_back();
    return static_cast<std::uint32_t>(items.size() - 1);
  }
  const std::uint32_t index = vacant.back();
  vacant.pop_back();
  return index;
}

}  // namespace chalk::scheduler
