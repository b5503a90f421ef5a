// Catalogue: what each image is made of, which node has it, and which nodes should have it.
//
// In: images, reports of nodes, orders to pre-warm. Out: nodes to warm.
// Invariant: what it says a node has is what that node last reported.
#pragma once
#include <cstdint>
#include <set>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/core/slot_map.h"
#include "model/protocol/protocol.h"

namespace chalk::images {

struct CatalogueConfig {
  std::uint32_t images_max = 1'000'000;
  std::uint32_t layers_per_image_max = 256;
  CHALK_FIELDS(CatalogueConfig, images_max, layers_per_image_max)
};

struct ImageAdded {
  ImageSpec image;
  CHALK_FIELDS(ImageAdded, image)
};
struct ImageCached {
  NodeId node;
  ImageId image;
  bool cached = false;
  CHALK_FIELDS(ImageCached, node, image, cached)
};
struct NodeSeen {  // it joined: what is wanted everywhere is wanted there too
  NodeId node;
  CHALK_FIELDS(NodeSeen, node)
};
struct NodeGone {
  NodeId node;
  CHALK_FIELDS(NodeGone, node)
};
struct WarmAsked {
  ImageId image;
  bool everywhere = true;  // on every node, also those that join later; false: no longer
  CHALK_FIELDS(WarmAsked, image, everywhere)
};
using CatalogueEvent = std::variant<ImageAdded, ImageCached, NodeSeen, NodeGone, WarmAsked>;

struct WarmNode {
  NodeId node;
  ImageId image;
  CHALK_FIELDS(WarmNode, node, image)
};
using CatalogueEffect = std::variant<WarmNode>;

struct Entry {
  ImageSpec spec;
  std::set<NodeId> nodes;
  bool everywhere = false;
  CHALK_FIELDS(Entry, spec, nodes, everywhere)
};
struct CatalogueState {
  std::vector<Entry> images;  // by image - 1; spec.image 0 marks a hole
  SlotMap<NodeId, std::set<ImageId>> on_node;
  std::set<ImageId> everywhere;
  CHALK_FIELDS(CatalogueState, images, on_node, everywhere)
};

class Catalogue {
 public:
  using Config = CatalogueConfig;
  using Event = CatalogueEvent;
  using Effect = CatalogueEffect;
  using State = CatalogueState;
  using Effects = std::vector<Effect>;

  explicit Catalogue(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  const ImageSpec* spec(ImageId image) const;

 private:
  void on(const ImageAdded&, Effects&);
  void on(const ImageCached&, Effects&);
  void on(const NodeSeen&, Effects&);
  void on(const NodeGone&, Effects&);
  void on(const WarmAsked&, Effects&);

  Config config_;
  State state_;
};
static_assert(Machine<Catalogue>);

}  // namespace chalk::images
