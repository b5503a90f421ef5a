#include "model/images/snapshots.h"

#include <algorithm>
#include <bit>

namespace chalk::images {
namespace {

// Far above what images and layers are numbered with from outside.
constexpr std::uint64_t kSnapshotIds = 1ULL << 62;
// A pebibyte; a node that reports more is not believed.
constexpr std::int64_t kSnapshotBytesMax = 1LL << 50;

// The fewer features the machine had, the more others can use what was saved on it. Of two alike
// the older stands first in its group, and stays the best.
bool more_usable(const Snapshot& one, const Snapshot& other) {
  return std::popcount(one.made_on.cpu_features) < std::popcount(other.made_on.cpu_features);
}

auto find(std::vector<Snapshot>& all, SnapshotId id) {
  return std::find_if(all.begin(), all.end(), [&](const Snapshot& one) { return one.id == id; });
}
template <class All>
auto failures_of(All& failures, const MachineKind& kind) {
  return std::find_if(failures.begin(), failures.end(),
                      [&](const Failures& one) { return one.kind == kind; });
}

}  // namespace

ImageId restore_image_id(SnapshotId snapshot) { return {kSnapshotIds + snapshot.value}; }

ImageSpec restore_image(const ImageSpec& image, const Restore& restore) {
  ImageSpec made = image;
  made.image = restore_image_id(restore.snapshot);
  const LayerId layer{kSnapshotIds + restore.snapshot.value};
  made.layers.push_back({layer, restore.bytes, restore.bytes});
  return made;
}

void Snapshots::step(Time, const Event& event, Effects& effects) {
  std::visit([&](const auto& one) { on(one, effects); }, event);
}

void Snapshots::on(const MachineSeen& seen, Effects&) { state_.machines.put(seen.node, seen.kind); }

void Snapshots::on(const MachineGone& gone, Effects&) { state_.machines.erase(gone.node); }

void Snapshots::on(const StartAsked& asked, Effects& effects) {
  StartChosen chosen;
  chosen.sandbox = asked.sandbox;
  const MachineKind* here = state_.machines.find(asked.node);
  if (here == nullptr || !*here || !asked.group) return effects.push_back(chosen);
  GroupSnapshots& group = state_.groups[asked.group];
  // Deployed anew with another image: nothing that was saved is of use, and that it failed tells
  // nothing of the next.
  std::vector<SnapshotId> stale;
  for (const Snapshot& one : group.snapshots) {
    if (one.image != asked.image) stale.push_back(one.id);
  }
  for (const SnapshotId one : stale) drop(one);
  if (group.image != asked.image) group.failures.clear();
  group.image = asked.image;
  Snapshot* best = nullptr;
  bool coming = false;
  for (Snapshot& one : group.snapshots) {
    if (!runs_on(one.made_on, *here)) continue;
    if (one.saving) {
      coming = true;
    } else if (best == nullptr || more_usable(one, *best)) {
      best = &one;
    }
  }
  if (best != nullptr) {
    ++best->uses;
    chosen.restore = {best->id, best->made_on, best->bytes};
  } else if (!coming && may_save(group, *here)) {
    chosen.save = SnapshotId{++state_.last};
    group.snapshots.push_back({.id = chosen.save,
                               .image = asked.image,
                               .made_on = *here,
                               .saver = asked.node,
                               .saving = asked.sandbox});
    state_.group_of[chosen.save] = asked.group;
    state_.saving[asked.sandbox] = chosen.save;
  }
  effects.push_back(chosen);
}

bool Snapshots::may_save(const GroupSnapshots& group, const MachineKind& kind) const {
  if (group.snapshots.size() >= config_.per_group_max) return false;
  const auto known = failures_of(group.failures, kind);
  if (known == group.failures.end()) return group.failures.size() < config_.per_group_max;
  return known->count < config_.failures_max;
}

void Snapshots::on(const SnapshotSaid& said, Effects&) {
  const auto of = state_.group_of.find(said.snapshot);
  if (of == state_.group_of.end()) return;  // dropped meanwhile
  GroupSnapshots& group = state_.groups[of->second];
  const auto found = find(group.snapshots, said.snapshot);
  const bool of_saving =
      said.news == SnapshotNews::saved || said.news == SnapshotNews::not_saved;
  if (of_saving && (!found->saving || found->saver != said.node)) return;  // twice, or a stranger
  const bool possible = said.bytes >= 0 && said.bytes <= kSnapshotBytesMax;
  if (said.news == SnapshotNews::saved && possible) {
    state_.saving.erase(found->saving);
    found->saving = {};
    found->bytes = said.bytes;
    return;
  }
  if (!of_saving && 2 * ++found->failures <= found->uses + 2) return;
  const MachineKind kind = found->made_on;
  drop(said.snapshot);
  const auto known = failures_of(group.failures, kind);
  if (known != group.failures.end()) {
    ++known->count;
  } else if (group.failures.size() < config_.per_group_max) {
    group.failures.push_back({kind, 1});
  }
}

void Snapshots::on(const ReplicaLost& lost, Effects&) {
  const auto found = state_.saving.find(lost.sandbox);
  if (found != state_.saving.end()) drop(found->second);
}

void Snapshots::drop(SnapshotId snapshot) {
  const auto of = state_.group_of.find(snapshot);
  auto& all = state_.groups[of->second].snapshots;
  const auto found = find(all, snapshot);
  if (found->saving) state_.saving.erase(found->saving);
  all.erase(found);
  state_.group_of.erase(of);
}

ImageId Snapshots::usual_image(GroupId group) const {
  const auto of = state_.groups.find(group);
  if (of == state_.groups.end()) return {};
  const Snapshot* best = nullptr;
  for (const Snapshot& one : of->second.snapshots) {
    if (!one.saving && (best == nullptr || more_usable(one, *best))) best = &one;
  }
  return best == nullptr ? ImageId{} : restore_image_id(best->id);
}

}  // namespace chalk::images
