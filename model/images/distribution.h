// Distribution: from whom each node gets an image that it lacks.
//
// In: nodes that are about to pull, what nodes report of their copies. Out: for each pull the peers
// to try, in order; after them comes the registry. Two ways beside the registry alone:
//   peer  a node of the zone that has the whole image, as Spegel does for Kubernetes
//   tree  a node of the zone that has it or is getting it: what has arrived is passed on while the
//         rest is under way (FaaSNet, ATC'21). Nodes join breadth first below the one that asked
//         first, and a node serves at most `fan_out` of them; who has all of it is a root again.
//         The second peer is the first one's own source, so that children of a lost node move up.
// Invariants: a source is in the asker's zone, was not seen to go, and joined before the asker, so
// that no two nodes wait for each other; a node has at most fan_out pulls assigned to it as their
// first source. Each event costs O(log n). A node's view may differ: it leaves a source that fails
// or is slow (cache.h).
#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/ids.h"
#include "model/core/machine.h"
#include "model/core/slot_map.h"

namespace chalk::images {

enum class Spreading : std::uint8_t { registry, peer, tree };

struct DistributionConfig {
  Spreading spreading = Spreading::registry;
  std::uint32_t fan_out = 2;  // pulls that one node serves at once
  CHALK_FIELDS(DistributionConfig, spreading, fan_out)
};

struct PeerJoined {
  NodeId node;
  ZoneId zone;
  CHALK_FIELDS(PeerJoined, node, zone)
};
struct PeerGone {
  NodeId node;
  CHALK_FIELDS(PeerGone, node)
};
struct SourceAsked {  // the node is told to have the image; asked again while it gets it: no matter
  NodeId node;
  ImageId image;
  CHALK_FIELDS(SourceAsked, node, image)
};
struct CopyChanged {  // all of the image is there, or is not any more, or does not come
  NodeId node;
  ImageId image;
  bool whole = false;
  CHALK_FIELDS(CopyChanged, node, image, whole)
};
using DistributionEvent = std::variant<PeerJoined, PeerGone, SourceAsked, CopyChanged>;

struct SourcesChosen {
  NodeId node;
  ImageId image;
  std::vector<NodeId> sources;
  CHALK_FIELDS(SourcesChosen, node, image, sources)
};
using DistributionEffect = std::variant<SourcesChosen>;

struct Member {  // a node that has an image or is getting it
  bool whole = false;
  std::uint64_t joined = 0;  // a counter
  std::uint32_t depth = 0;   // 0: from the registry, or whole
  std::uint32_t children = 0;
  std::uint64_t parent_joined = 0;  // of its first source, while it pulls; 0: the registry
  std::vector<NodeId> sources;
  CHALK_FIELDS(Member, whole, joined, depth, children, parent_joined, sources)
};
struct OpenPlace {  // a member that can serve one more
  std::uint32_t depth = 0;
  std::uint32_t children = 0;
  std::uint64_t joined = 0;
  NodeId node;
  auto operator<=>(const OpenPlace&) const = default;
  CHALK_FIELDS(OpenPlace, depth, children, joined, node)
};
struct Swarm {  // an image in a zone
  std::map<NodeId, Member> members;
  std::set<OpenPlace> open;
  CHALK_FIELDS(Swarm, members, open)
};
struct Peer {
  ZoneId zone;
  std::set<ImageId> images;
  CHALK_FIELDS(Peer, zone, images)
};
struct DistributionState {
  SlotMap<NodeId, Peer> peers;
  std::map<std::pair<ImageId, ZoneId>, Swarm> swarms;
  std::uint64_t joined = 0;
  CHALK_FIELDS(DistributionState, peers, swarms, joined)
};

class Distribution {
 public:
  using Config = DistributionConfig;
  using Event = DistributionEvent;
  using Effect = DistributionEffect;
  using State = DistributionState;
  using Effects = std::vector<Effect>;

  explicit Distribution(Config config, State state = {})
      : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  // It was told to have it, and has not said yet whether it does.
  bool is_getting(NodeId, ImageId) const;

 private:
  void on(const PeerJoined&, Effects&);
  void on(const PeerGone&, Effects&);
  void on(const SourceAsked&, Effects&);
  void on(const CopyChanged&, Effects&);

  void close(Swarm&, NodeId, const Member&);
  void open(Swarm&, NodeId, const Member&);
  void leave_parent(Swarm&, Member&);
  void remove(Peer&, NodeId, ImageId);

  Config config_;
  State state_;
};
static_assert(Machine<Distribution>);

}  // namespace chalk::images
