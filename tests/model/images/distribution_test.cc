#include "model/images/distribution.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "model/images/cache.h"
#include "tests/support/said.h"

namespace chalk::images {
namespace {

using test::said;
using test::tell;
using Nodes = std::vector<NodeId>;

Nodes ask(Distribution& who, std::uint64_t node, std::uint64_t image = 1) {
  return said<SourcesChosen>(tell(who, {}, SourceAsked{{node}, {image}})).at(0).sources;
}
void join(Distribution& who, std::uint64_t count, std::uint64_t zone = 1) {
  for (std::uint64_t node = 1; node <= count; ++node) tell(who, {}, PeerJoined{{node}, {zone}});
}

TEST(Distribution, OfTheRegistryNamesNoPeer) {
  Distribution who({Spreading::registry, 2});
  join(who, 3);
  tell(who, {}, CopyChanged{{1}, {1}, true});
  EXPECT_EQ(ask(who, 2), Nodes{});
  EXPECT_TRUE(who.state().swarms.empty());
}

TEST(Distribution, OfPeersNamesOnlyWhoHasItAll) {
  Distribution who({Spreading::peer, 2});
  join(who, 5);
  EXPECT_EQ(ask(who, 1), Nodes{});
  EXPECT_EQ(ask(who, 2), Nodes{}) << "1 has not got it yet";
  tell(who, {}, CopyChanged{{1}, {1}, true});
  EXPECT_EQ(ask(who, 3), Nodes{{1}});
  EXPECT_EQ(ask(who, 4), Nodes{{1}});
  EXPECT_EQ(ask(who, 5), Nodes{}) << "1 serves two already";
}

TEST(Distribution, OfATreeFillsItBreadthFirstAndNamesTheNextAbove) {
  Distribution who({Spreading::tree, 2});
  join(who, 7);
  EXPECT_EQ(ask(who, 1), Nodes{});
  EXPECT_EQ(ask(who, 2), Nodes{{1}});
  EXPECT_EQ(ask(who, 3), Nodes{{1}});
  EXPECT_EQ(ask(who, 4), (Nodes{{2}, {1}}));
  EXPECT_EQ(ask(who, 5), (Nodes{{3}, {1}}));
  EXPECT_EQ(ask(who, 6), (Nodes{{2}, {1}}));
  EXPECT_EQ(ask(who, 6), (Nodes{{2}, {1}})) << "asked again, it is not counted again";
  EXPECT_EQ(ask(who, 7), (Nodes{{3}, {1}}));
}

TEST(Distribution, NamesNoSourceThatWentAndNowGetsItFromHere) {
  Distribution who({Spreading::tree, 2});
  join(who, 2);
  ask(who, 1);
  EXPECT_EQ(ask(who, 2), Nodes{{1}});
  join(who, 1);  // it booted anew
  EXPECT_EQ(ask(who, 1), Nodes{{2}});
  EXPECT_EQ(ask(who, 2), Nodes{}) << "else each would wait for the other";
}

TEST(Distribution, TakesWhoHasItAllForARootAgain) {
  Distribution who({Spreading::tree, 2});
  join(who, 5);
  for (std::uint64_t node = 1; node <= 3; ++node) ask(who, node);
  tell(who, {}, CopyChanged{{2}, {1}, true});
  EXPECT_EQ(ask(who, 4), Nodes{{2}}) << "nobody stands above it";
}

// Its place among those that can serve was another before than after its child had it all.
TEST(Distribution, NamesNobodyThatWentAfterItHadServed) {
  Distribution who({Spreading::tree, 2});
  join(who, 4);
  tell(who, {}, CopyChanged{{1}, {1}, true});
  EXPECT_EQ(ask(who, 2), Nodes{{1}});
  tell(who, {}, CopyChanged{{2}, {1}, true});
  tell(who, {}, PeerGone{{1}});
  EXPECT_EQ(ask(who, 3), Nodes{{2}});
  EXPECT_EQ(ask(who, 4), Nodes{{2}});
}

TEST(Distribution, NamesNobodyOfAnotherZoneAndNobodyThatWent) {
  Distribution who({Spreading::tree, 2});
  join(who, 3);
  tell(who, {}, PeerJoined{{9}, {2}});
  ask(who, 1);
  EXPECT_EQ(ask(who, 9), Nodes{});
  tell(who, {}, PeerGone{{1}});
  EXPECT_EQ(ask(who, 2), Nodes{});
  tell(who, {}, CopyChanged{{2}, {1}, false});
  EXPECT_EQ(ask(who, 3), Nodes{}) << "2 threw it away";
  tell(who, {}, PeerGone{{2}});
  tell(who, {}, PeerGone{{3}});
  tell(who, {}, PeerGone{{9}});
  EXPECT_TRUE(who.state().swarms.empty());
}

TEST(Distribution, KeepsATreeOfAThousandTenDeep) {
  Distribution who({Spreading::tree, 2});
  join(who, 1000);
  std::uint32_t deepest = 0;
  for (std::uint64_t node = 1; node <= 1000; ++node) ask(who, node);
  for (const auto& [node, member] : who.state().swarms.begin()->second.members)
    deepest = std::max(deepest, member.depth);
  EXPECT_EQ(deepest, 9u);
}

// What each member serves is counted once, and open to others are those that can serve one more.
void expect_whole(const Distribution& who, Spreading spreading, std::uint32_t fan_out) {
  const DistributionState& state = who.state();
  std::map<NodeId, std::set<ImageId>> has;
  for (const auto& [key, swarm] : state.swarms) {
    RC_ASSERT(!swarm.members.empty());
    std::map<NodeId, std::uint32_t> children;
    for (const auto& [node, member] : swarm.members) {
      has[node].insert(key.first);
      RC_ASSERT(state.peers.find(node)->zone == key.second);
      RC_ASSERT(member.joined > 0 && member.joined <= state.joined);
      if (member.whole) RC_ASSERT(member.depth == 0 && member.parent_joined == 0);
      if (member.parent_joined == 0) continue;
      const auto parent = swarm.members.find(member.sources.front());
      const bool there =
          parent != swarm.members.end() && parent->second.joined == member.parent_joined;
      if (there) ++children[parent->first];
    }
    std::set<OpenPlace> open;
    for (const auto& [node, member] : swarm.members) {
      RC_ASSERT(member.children == children[node] && member.children <= fan_out);
      if (member.children == fan_out || (spreading == Spreading::peer && !member.whole)) continue;
      open.insert({member.depth, member.children, member.joined, node});
    }
    RC_ASSERT(swarm.open == open);
  }
  state.peers.for_each([&](NodeId node, const Peer& peer) { RC_ASSERT(peer.images == has[node]); });
}

// Whatever happens: sources are of the zone, present, others than who asks; the first one joined
// before and is assigned to at most fan_out that have not reported yet; nothing is left in the end.
RC_GTEST_PROP(Distribution, NamesOnlySourcesThatCanServe, ()) {
  const auto spreading = *rc::gen::element(Spreading::peer, Spreading::tree);
  const auto fan_out = *rc::gen::inRange(1u, 4u);
  Distribution who({spreading, fan_out});
  std::map<NodeId, ZoneId> zones;
  std::map<std::pair<NodeId, ImageId>, NodeId> first;  // of those who have not reported
  std::set<std::pair<NodeId, ImageId>> whole;
  for (std::uint64_t node = 1; node <= 12; ++node) {
    zones[{node}] = {node % 3 == 0 ? 2u : 1u};
    tell(who, {}, PeerJoined{{node}, zones[{node}]});
  }
  const auto settled = [&](NodeId node, ImageId image) { first.erase({node, image}); };
  // Whose source went leans on the next above, beyond the fan-out of that.
  const auto went = [&](NodeId node) {
    std::erase_if(first, [&](const auto& one) { return one.first.first == node; });
    for (auto& [who_asked, source] : first) {
      if (source == node) source = {};
    }
  };
  for (const int draw : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 100'000))) {
    const NodeId node{static_cast<std::uint64_t>(draw / 10 % 12) + 1};
    const ImageId image{static_cast<std::uint64_t>(draw / 120 % 2) + 1};
    switch (draw % 10) {
      case 0: {
        const ZoneId zone{static_cast<std::uint64_t>(draw / 240 % 2) + 1};
        tell(who, {}, PeerJoined{node, zone});
        zones[node] = zone;
        went(node);
        std::erase_if(whole, [&](const auto& one) { return one.first == node; });
        break;
      }
      case 1:
        tell(who, {}, PeerGone{node});
        zones.erase(node);
        went(node);
        std::erase_if(whole, [&](const auto& one) { return one.first == node; });
        break;
      case 2:
      case 3:
        tell(who, {}, CopyChanged{node, image, true});
        settled(node, image);
        if (zones.contains(node)) whole.insert({node, image});
        break;
      case 4:
        tell(who, {}, CopyChanged{node, image, false});
        settled(node, image);
        for (auto& [who_asked, source] : first) {
          if (who_asked.second == image && source == node) source = {};
        }
        whole.erase({node, image});
        break;
      default: {
        const Nodes sources = ask(who, node.value, image.value);
        for (const NodeId source : sources) {
          RC_ASSERT(source != node);
          RC_ASSERT(zones.at(source) == zones.at(node));
        }
        if (sources.empty() || whole.contains({node, image})) break;
        const auto& members = who.state().swarms.at({image, zones.at(node)}).members;
        RC_ASSERT(members.at(sources[0]).joined < members.at(node).joined);
        if (first.contains({node, image})) break;
        if (spreading == Spreading::peer) RC_ASSERT(whole.contains({sources[0], image}));
        first[{node, image}] = sources[0];
        RC_ASSERT(static_cast<std::uint32_t>(std::count_if(
                      first.begin(), first.end(), [&](const auto& one) {
                        return one.first.second == image && one.second == sources[0];
                      })) <= fan_out);
      }
    }
    expect_whole(who, spreading, fan_out);
  }
  for (std::uint64_t node = 1; node <= 12; ++node) tell(who, {}, PeerGone{{node}});
  RC_ASSERT(who.state().swarms.empty());
}

// A fleet of caches that pull from each other by what Distribution says. Each pull takes a second
// once its source has the image whole; nodes are lost at random, some answer never and some always
// badly. As long as the registry works every node that is left gets the image, and from it come no
// more copies than one and one for each that a bad peer sent there.
struct Fleet {
  static constexpr Duration kPatience = seconds(20);
  explicit Fleet(std::uint64_t nodes, std::uint32_t fan_out)
      : who({Spreading::tree, fan_out}) {
    CacheConfig config;
    config.peer_patience = kPatience;
    for (std::uint64_t node = 1; node <= nodes; ++node) {
      tell(who, {}, PeerJoined{{node}, {1}});
      caches.emplace(NodeId{node}, Cache(config));
    }
  }
  void want(NodeId node) {
    hear(node, tell(caches.at(node), now,
                    Wanted{{{1}, {{{1}, 100, 250}}}, {node.value}, ask(who, node.value)}));
  }
  void hear(NodeId node, const std::vector<CacheEffect>& effects) {
    for (const auto& pull : said<PullLayers>(effects)) {
      if (pull.source) {
        EXPECT_TRUE(asked.insert({node, pull.source}).second) << "each peer is tried once";
      } else {
        ++from_registry;
      }
      pulls[{node, pull.pull}] = pull.source;
    }
    for (const auto& wake : said<WakeAt>(effects)) wakes[node] = wake.at;
    for (const auto& ready : said<ImageReady>(effects)) {
      (void)ready;
      have.insert(node);
      tell(who, {}, CopyChanged{node, {1}, true});
    }
    EXPECT_TRUE(said<ImageUnavailable>(effects).empty());
  }
  void lose(NodeId node) {
    caches.erase(node);
    wakes.erase(node);
    have.erase(node);
    std::erase_if(pulls, [&](const auto& one) { return one.first.first == node; });
    tell(who, {}, PeerGone{node});
  }
  void second_passes() {
    now = now + seconds(1);
    const auto running = pulls;
    for (const auto& [pull, source] : running) {
      const auto [node, number] = pull;
      const bool gone = source && !caches.contains(source);
      if (source && !gone && (silent.contains(source) || !have.contains(source)) &&
          !lying.contains(source))
        continue;
      pulls.erase(pull);
      const bool good = !gone && !lying.contains(source);
      hear(node, tell(caches.at(node), now, PullFinished{number, good}));
    }
    const auto due = wakes;
    for (const auto& [node, at] : due) {
      if (at > now || !caches.contains(node)) continue;
      wakes.erase(node);
      hear(node, tell(caches.at(node), now, Woken{}));
    }
  }
  Time now;
  Distribution who;
  std::map<NodeId, Cache> caches;
  std::map<std::pair<NodeId, PullId>, NodeId> pulls;
  std::map<NodeId, Time> wakes;
  std::set<NodeId> have, silent, lying;
  std::set<std::pair<NodeId, NodeId>> asked;
  int from_registry = 0;
};

RC_GTEST_PROP(Distribution, LeadsToAnotherSourceWhenPeersAreLostOrFailInTheMiddle, ()) {
  const auto nodes = *rc::gen::inRange<std::uint64_t>(1, 40);
  Fleet fleet(nodes, *rc::gen::inRange(1u, 4u));
  for (std::uint64_t node = 1; node <= nodes; ++node) {
    const int kind = *rc::gen::inRange(0, 20);
    if (kind == 0) fleet.silent.insert({node});
    if (kind == 1) fleet.lying.insert({node});
  }
  for (std::uint64_t node = 1; node <= nodes; ++node) {
    fleet.want({node});
    if (*rc::gen::inRange(0, 8) == 0) fleet.second_passes();
  }
  for (int lost = *rc::gen::inRange(0, 4); lost > 0 && fleet.caches.size() > 1; --lost) {
    auto node = fleet.caches.begin();
    std::advance(node, *rc::gen::inRange<std::size_t>(0, fleet.caches.size()));
    fleet.lose(node->first);
    fleet.second_passes();
  }
  for (int turn = 0; turn < 1000 && fleet.have.size() != fleet.caches.size(); ++turn)
    fleet.second_passes();
  RC_ASSERT(fleet.have.size() == fleet.caches.size());
}

TEST(Distribution, TakesOneCopyFromTheRegistryWhereNothingFails) {
  Fleet fleet(100, 2);
  for (std::uint64_t node = 1; node <= 100; ++node) fleet.want({node});
  int turns = 0;
  for (; turns < 100 && fleet.have.size() != 100; ++turns) fleet.second_passes();
  EXPECT_EQ(fleet.from_registry, 1);
  EXPECT_LE(turns, 7 * 2) << "seven levels; two children are served at a time";
}

}  // namespace
}  // namespace chalk::images
