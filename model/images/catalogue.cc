#include "model/images/catalogue.h"

namespace chalk::images {

void Catalogue::step(Time, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(one, effects); }, event);
}

const ImageSpec* Catalogue::spec(ImageId image) const {
  if (!image || image.value > state_.images.size()) return nullptr;
  const Entry& entry = state_.images[image.value - 1];
  return entry.spec.image ? &entry.spec : nullptr;
}

void Catalogue::on(const ImageAdded& added, Effects&) {
  const ImageId id = added.image.image;
  if (!id || id.value > config_.images_max) return;
  if (added.image.layers.size() > config_.layers_per_image_max) return;
  if (state_.images.size() < id.value) state_.images.resize(id.value);
  // An image is named by its content, so a second description of it can only be the same.
  if (!state_.images[id.value - 1].spec.image) state_.images[id.value - 1].spec = added.image;
}

void Catalogue::on(const ImageCached& report, Effects&) {
  if (spec(report.image) == nullptr) return;
  std::set<NodeId>& nodes = state_.images[report.image.value - 1].nodes;
  std::set<ImageId>* here = state_.on_node.find(report.node);
  if (here == nullptr) here = &state_.on_node.put(report.node, {});
  if (report.cached) {
    nodes.insert(report.node);
    here->insert(report.image);
  } else {
    nodes.erase(report.node);
    here->erase(report.image);
  }
}

void Catalogue::on(const NodeSeen& seen, Effects& effects) {
  state_.on_node.put(seen.node, {});
  for (const ImageId image : state_.everywhere) effects.push_back(WarmNode{seen.node, image});
}

void Catalogue::on(const NodeGone& gone, Effects&) {
  const std::set<ImageId>* here = state_.on_node.find(gone.node);
  if (here == nullptr) return;
  for (const ImageId image : *here) state_.images[image.value - 1].nodes.erase(gone.node);
  state_.on_node.erase(gone.node);
}

void Catalogue::on(const WarmAsked& asked, Effects& effects) {
  if (spec(asked.image) == nullptr) return;
  Entry& entry = state_.images[asked.image.value - 1];
  entry.everywhere = asked.everywhere;
  if (!asked.everywhere) {
    state_.everywhere.erase(asked.image);
    return;
  }
  state_.everywhere.insert(asked.image);
  state_.on_node.for_each([&](NodeId node, const std::set<ImageId>&) {
    if (!entry.nodes.contains(node)) effects.push_back(WarmNode{node, asked.image});
  });
}

}  // namespace chalk::images
