// Snapshots: from which saved process a replica of a group can be started, instead of from nothing.
//
// In: which nodes there are, starts that are about to be ordered, what nodes say of saving and
// restoring. Out: for each start what it is restored from, or whether it is to be saved once it is
// ready and before it serves its first call, so that no snapshot has a caller's state in it.
// A snapshot is kept as one more layer beside those of the group's image, so nodes cache it, get it
// from their peers and evict it like any other.
// One that more than half of its uses (and two) failed to restore is no good and is dropped.
// Invariants: what is chosen for a node runs there (runs_on); at most one replica is being saved for
// nodes of one kind; a snapshot of another image than the group has now is never chosen.
#pragma once
#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/core/slot_map.h"
#include "model/protocol/protocol.h"

namespace chalk::images {

struct SnapshotsConfig {
  std::uint32_t per_group_max = 8;  // kinds of machines that it is kept for
  std::uint32_t failures_max = 3;   // of one kind: not saved, or no good, before no more are tried
  CHALK_FIELDS(SnapshotsConfig, per_group_max, failures_max)
};

struct MachineSeen {
  NodeId node;
  MachineKind kind;
  CHALK_FIELDS(MachineSeen, node, kind)
};
struct MachineGone {
  NodeId node;
  CHALK_FIELDS(MachineGone, node)
};
// A replica is about to be ordered. Answered at once by one StartChosen.
struct StartAsked {
  GroupId group;
  SandboxId sandbox;
  NodeId node;
  ImageId image;  // 0: none
  CHALK_FIELDS(StartAsked, group, sandbox, node, image)
};
struct SnapshotSaid {  // as a node reports; that it is saved, only who was to save it can say
  NodeId node;
  SnapshotId snapshot;
  SnapshotNews news{};
  std::int64_t bytes = 0;
  CHALK_FIELDS(SnapshotSaid, node, snapshot, news, bytes)
};
struct ReplicaLost {  // gone, or started elsewhere: it will not be saved
  SandboxId sandbox;
  CHALK_FIELDS(ReplicaLost, sandbox)
};
using SnapshotsEvent = std::variant<MachineSeen, MachineGone, StartAsked, SnapshotSaid,
                                    ReplicaLost>;

struct StartChosen {
  SandboxId sandbox;
  Restore restore;  // none: from nothing
  SnapshotId save;  // 0: not to be saved
  CHALK_FIELDS(StartChosen, sandbox, restore, save)
};
using SnapshotsEffect = std::variant<StartChosen>;

struct Snapshot {
  SnapshotId id;
  ImageId image;  // that the group had
  MachineKind made_on;
  std::int64_t bytes = 0;
  NodeId saver;
  SandboxId saving;  // 0: it is there
  std::uint32_t uses = 0;      // starts that were to be restored from it
  std::uint32_t failures = 0;  // and that did without, as far as they have said
  CHALK_FIELDS(Snapshot, id, image, made_on, bytes, saver, saving, uses, failures)
};
struct Failures {
  MachineKind kind;
  std::uint32_t count = 0;
  CHALK_FIELDS(Failures, kind, count)
};
struct GroupSnapshots {
  std::vector<Snapshot> snapshots;
  std::vector<Failures> failures;
  ImageId image;  // that it has: the failures are of it
  CHALK_FIELDS(GroupSnapshots, snapshots, failures, image)
};
struct SnapshotsState {
  SlotMap<NodeId, MachineKind> machines;
  std::map<GroupId, GroupSnapshots> groups;
  std::map<SnapshotId, GroupId> group_of;
  std::map<SandboxId, SnapshotId> saving;
  std::uint64_t last = 0;  // id
  CHALK_FIELDS(SnapshotsState, machines, groups, group_of, saving, last)
};

// The image that a node needs to restore: the group's layers and the snapshot as another.
ImageSpec restore_image(const ImageSpec& image, const Restore& restore);
ImageId restore_image_id(SnapshotId snapshot);

class Snapshots {
 public:
  using Config = SnapshotsConfig;
  using Event = SnapshotsEvent;
  using Effect = SnapshotsEffect;
  using State = SnapshotsState;
  using Effects = std::vector<Effect>;

  explicit Snapshots(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  bool saves(SandboxId sandbox) const { return state_.saving.contains(sandbox); }
  // Where it has snapshots: the image by which a node is known to hold the one most can use.
  ImageId usual_image(GroupId group) const;

 private:
  void on(const MachineSeen&, Effects&);
  void on(const MachineGone&, Effects&);
  void on(const StartAsked&, Effects&);
  void on(const SnapshotSaid&, Effects&);
  void on(const ReplicaLost&, Effects&);

  void drop(SnapshotId);
  bool may_save(const GroupSnapshots&, const MachineKind&) const;

  Config config_;
  State state_;
};
static_assert(Machine<Snapshots>);

}  // namespace chalk::images
