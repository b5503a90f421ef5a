#include "model/images/distribution.h"

namespace chalk::images {

void Distribution::step(Time, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(one, effects); }, event);
}

void Distribution::on(const PeerJoined& joined, Effects& effects) {
  on(PeerGone{joined.node}, effects);  // joined again: what it had is not known
  state_.peers.put(joined.node, {joined.zone, {}});
}

void Distribution::on(const PeerGone& gone, Effects&) {
  Peer* peer = state_.peers.find(gone.node);
  if (peer == nullptr) return;
  const std::set<ImageId> images = peer->images;
  for (const ImageId image : images) remove(*peer, gone.node, image);
  state_.peers.erase(gone.node);
}

void Distribution::on(const SourceAsked& asked, Effects& effects) {
  Peer* peer = state_.peers.find(asked.node);
  if (peer == nullptr || config_.spreading == Spreading::registry) {
    effects.push_back(SourcesChosen{asked.node, asked.image, {}});
    return;
  }
  Swarm& swarm = state_.swarms[{asked.image, peer->zone}];
  const auto known = swarm.members.find(asked.node);
  if (known != swarm.members.end()) {
    std::vector<NodeId> sources = known->second.sources;
    // One that was gone and is back may by now get it from here: no source is younger than its child.
    std::erase_if(sources, [&](NodeId node) {
      const auto source = swarm.members.find(node);
      return source == swarm.members.end() || source->second.joined > known->second.joined;
    });
    effects.push_back(SourcesChosen{asked.node, asked.image, std::move(sources)});
    return;
  }
  Member member;
  member.joined = ++state_.joined;
  if (!swarm.open.empty()) {
    const NodeId source = swarm.open.begin()->node;
    Member& parent = swarm.members.at(source);
    close(swarm, source, parent);
    ++parent.children;
    open(swarm, source, parent);
    member.depth = parent.depth + 1;
    member.parent_joined = parent.joined;
    member.sources.push_back(source);
    if (parent.parent_joined != 0) {
      const auto above = swarm.members.find(parent.sources.front());
      const bool same =
          above != swarm.members.end() && above->second.joined == parent.parent_joined;
      if (same) member.sources.push_back(above->first);
    }
  }
  effects.push_back(SourcesChosen{asked.node, asked.image, member.sources});
  peer->images.insert(asked.image);
  open(swarm, asked.node, member);
  swarm.members.emplace(asked.node, std::move(member));
}

void Distribution::on(const CopyChanged& changed, Effects&) {
  Peer* peer = state_.peers.find(changed.node);
  if (peer == nullptr || config_.spreading == Spreading::registry) return;
  if (!changed.whole) return remove(*peer, changed.node, changed.image);
  Swarm& swarm = state_.swarms[{changed.image, peer->zone}];
  const auto [found, fresh] = swarm.members.try_emplace(changed.node);
  Member& member = found->second;
  if (fresh) {  // it came without being asked for here
    member.joined = ++state_.joined;
    peer->images.insert(changed.image);
  }
  close(swarm, changed.node, member);
  leave_parent(swarm, member);
  member.whole = true;
  member.depth = 0;
  open(swarm, changed.node, member);
}

bool Distribution::is_getting(NodeId node, ImageId image) const {
  const Peer* peer = state_.peers.find(node);
  if (peer == nullptr || !peer->images.contains(image)) return false;
  return !state_.swarms.at({image, peer->zone}).members.at(node).whole;
}

void Distribution::remove(Peer& peer, NodeId node, ImageId image) {
  const auto place = state_.swarms.find({image, peer.zone});
  if (place == state_.swarms.end()) return;
  Swarm& swarm = place->second;
  const auto found = swarm.members.find(node);
  if (found == swarm.members.end()) return;
  peer.images.erase(image);
  close(swarm, node, found->second);
  leave_parent(swarm, found->second);
  swarm.members.erase(found);
  if (swarm.members.empty()) state_.swarms.erase(place);
}

void Distribution::open(Swarm& swarm, NodeId node, const Member& member) {
  if (config_.spreading == Spreading::peer && !member.whole) return;
  if (member.children >= config_.fan_out) return;
  swarm.open.insert({member.depth, member.children, member.joined, node});
}

void Distribution::close(Swarm& swarm, NodeId node, const Member& member) {
  swarm.open.erase({member.depth, member.children, member.joined, node});
}

// Its first source can serve somebody else.
void Distribution::leave_parent(Swarm& swarm, Member& member) {
  if (member.parent_joined == 0) return;
  const NodeId source = member.sources.front();
  const auto parent = swarm.members.find(source);
  if (parent != swarm.members.end() && parent->second.joined == member.parent_joined) {
    close(swarm, source, parent->second);
    --parent->second.children;
    open(swarm, source, parent->second);
  }
  member.parent_joined = 0;
}

}  // namespace chalk::images
