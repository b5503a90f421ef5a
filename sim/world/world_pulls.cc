// How images come to nodes: from the registry, or from peers that have them or are getting them.
//
// A pull from a peer that is still getting the image is timed as store and forward in chunks:
// it begins when the peer has its first chunk, and its last chunk leaves when the peer has all. In
// between its bytes flow at what the links allow, so a node whose source is slower may take bytes
// of the middle before that source has them; it never has them all earlier.
#include <algorithm>
#include <utility>

#include "sim/world/world_body.h"

namespace chalk::sim {
namespace {
constexpr Duration kBrokenAfter = seconds(1);  // a peer that is gone is noticed so much later
}

void World::obey(std::uint32_t index, const images::PullLayers& pull) {
  Job job = job_of(Job::What::pull, index);
  job.pull = pull.pull;
  job.image = pull.image;
  job.bytes = pull.bytes;
  job.unpacked_bytes = pull.unpacked_bytes;
  if (fails(Fault::Kind::pull_failure, index)) job.good = false;
  // What is pre-warmed is on a node from its first moment: it came with the machine's disk.
  const std::size_t image = pull.image.value - 1;
  const bool on_disk = image < setup_.images.size() && setup_.images[image].prewarmed;
  if (on_disk || !model_) {
    if (!on_disk) measure_.pulled(pull.bytes);
    return queue_.push(kHeap, now_, kJobDone, 0, jobs_.put(std::move(job)));
  }
  if (setup_.distribution == images::Spreading::registry) {
    measure_.pulled(pull.bytes);
    const TrueNode& node = nodes_[index];
    const std::uint64_t slot = jobs_.put(std::move(job));
    fetching_[index].insert(slot);
    return model_->pull(slot, now_, node.host, node.zone, pull.bytes, pull.unpacked_bytes);
  }
  copies_.try_emplace({index, pull.image});  // perhaps somebody waits for it already
  if (pull.source) {
    measure_.pulled_from_peer(pull.bytes);
    return ask_peer(std::move(job), pull.source);
  }
  measure_.pulled(pull.bytes);
  job.part = Job::Part::first;
  transfer(std::move(job));
}

// What flows to the node stops, and who would have got it from there learns that it does not come.
// One that failed and has not said so yet still does: the machine does not know it any more.
void World::obey(std::uint32_t index, const images::CancelPull& cancel) {
  const auto fetching = fetching_.find(index);
  if (fetching != fetching_.end()) {
    const auto& slots = fetching->second;
    const auto slot = std::find_if(slots.begin(), slots.end(), [&](std::uint64_t one) {
      return jobs_[one].pull == cancel.pull && current(jobs_[one]);
    });
    if (slot != slots.end()) stop_fetching(index, *slot);
  }
  settle_copies(index);
}

void World::stop_fetching(std::uint32_t index, std::uint64_t slot) {
  const Job job = jobs_.take(slot);
  fetched(index, slot);
  model_->cancel(slot, now_);
  const auto ours = copies_.find({index, job.image});
  if (ours != copies_.end()) ours->second.begun = ours->second.all = false;
  if (job.peer == 0) return;
  served_[job.peer - 1].erase(slot);
  const auto copy = copies_.find({job.peer - 1, job.image});
  if (copy != copies_.end()) std::erase(copy->second.waiting, slot);
}

// Nobody is left who would take it.
void World::stop_all_fetching(std::uint32_t index) {
  const auto fetching = fetching_.find(index);
  if (fetching == fetching_.end()) return;
  const std::set<std::uint64_t> slots = fetching->second;
  for (const std::uint64_t slot : slots) stop_fetching(index, slot);
}

// It is there, or will not be.
void World::fetched(std::uint32_t node, std::uint64_t slot) {
  const auto fetching = fetching_.find(node);
  if (fetching == fetching_.end()) return;
  fetching->second.erase(slot);
  if (fetching->second.empty()) fetching_.erase(fetching);
}

void World::ask_peer(Job&& job, NodeId source) {
  const auto slot = SlotTable<NodeId, int>::slot_of(source);
  if (slot >= node_of_slot_.size()) return break_off(std::move(job));
  const std::uint32_t peer = node_of_slot_[slot];
  const TrueNode& node = nodes_[peer];
  if (!node.up || !node.agent_up || node.id != source) return break_off(std::move(job));
  job.peer = peer + 1;
  job.part = Job::Part::first;
  offer(std::move(job));
}

// The next part of a pull from a peer, now if the peer has it, else when it does.
void World::offer(Job&& job) {
  const std::uint32_t peer = job.peer - 1;
  const auto& known = machines_->node(nodes_[peer].machine).cache().state().images;
  const auto image = known.find(job.image);
  if (image == known.end()) return break_off(std::move(job));  // evicted, or never to come
  const auto copy = copies_.find({peer, job.image});
  const bool whole = image->second.missing == 0 || (copy != copies_.end() && copy->second.all);
  if (whole && job.part == Job::Part::first) job.part = Job::Part::whole;
  const bool begun = copy != copies_.end() && copy->second.begun;
  const bool ready = job.part == Job::Part::first
                         ? begun && setup_.distribution == images::Spreading::tree
                         : whole;
  if (ready || whole) return transfer(std::move(job));
  auto& waiting = copies_[{peer, job.image}].waiting;
  const std::uint32_t node = job.node;
  waiting.push_back(jobs_.put(std::move(job)));
  fetching_[node].insert(waiting.back());
}

void World::transfer(Job&& job) {
  const std::int64_t first = std::min(setup_.image_chunk, job.bytes);
  const std::int64_t last = std::min(setup_.image_chunk, job.bytes - first);
  std::int64_t bytes = 0;
  switch (job.part) {
    case Job::Part::first: bytes = first; break;
    case Job::Part::middle: bytes = job.bytes - first - (job.peer != 0 ? last : 0); break;
    case Job::Part::last: bytes = last; break;
    case Job::Part::whole: bytes = job.bytes; break;
    case Job::Part::unpack: break;
  }
  const TrueNode& node = nodes_[job.node];
  const std::uint32_t peer = job.peer;
  const bool unpack = job.part == Job::Part::unpack;
  const std::int64_t unpacked = unpack ? job.unpacked_bytes : 0;
  const std::uint32_t to = job.node;
  const std::uint64_t slot = jobs_.put(std::move(job));
  fetching_[to].insert(slot);
  if (unpack) return model_->transfer(slot, now_, node.host, node.host, 0, unpacked);
  if (peer == 0) return model_->pull(slot, now_, node.host, node.zone, bytes, 0);
  served_[peer - 1].insert(slot);
  model_->transfer(slot, now_, nodes_[peer - 1].host, node.host, bytes);
}

// A part is here; what it makes possible for others is offered to them.
void World::part_done(Job&& job) {
  const auto copy = copies_.find({job.node, job.image});
  switch (job.part) {
    case Job::Part::first:
      if (copy != copies_.end()) copy->second.begun = true;
      job.part = Job::Part::middle;
      offer_waiting(job.node, job.image);
      return transfer(std::move(job));
    case Job::Part::middle:
      if (job.peer != 0) {
        job.part = Job::Part::last;
        return offer(std::move(job));
      }
      [[fallthrough]];
    case Job::Part::last:
    case Job::Part::whole:
      // One that fails by a fault of the scenario is found to be bad now, and is not passed on.
      if (job.good && copy != copies_.end()) {
        copy->second.begun = copy->second.all = true;
        offer_waiting(job.node, job.image);
      }
      job.part = Job::Part::unpack;
      return transfer(std::move(job));
    case Job::Part::unpack: break;
  }
  if (!job.good && copy != copies_.end()) copy->second.begun = false;
  const std::uint32_t node = job.node;
  step_node(node, images::PullFinished{job.pull, job.good});
  if (!job.good) stop_waiting(node, job.image);
  settle_copies(node);
}

// After a pull that failed. Where the node goes on with its next source at once, who waits for it
// goes on waiting: to leave would move all below it up and start them anew. Else they learn that it
// does not come.
void World::stop_waiting(std::uint32_t node, ImageId image) {
  const auto copy = copies_.find({node, image});
  if (copy == copies_.end()) return;
  const auto& pulls = machines_->node(nodes_[node].machine).cache().state().pulls;
  for (const auto& [number, pull] : pulls) {
    if (pull.image == image && pull.running) return;
  }
  const std::vector<std::uint64_t> waiting = std::exchange(copy->second.waiting, {});
  for (const std::uint64_t slot : waiting) break_off(slot);
}

void World::offer_waiting(std::uint32_t node, ImageId image) {
  const auto copy = copies_.find({node, image});
  if (copy == copies_.end()) return;
  const std::vector<std::uint64_t> waiting = std::move(copy->second.waiting);
  copy->second.waiting.clear();
  for (const std::uint64_t slot : waiting) {
    Job job = jobs_.take(slot);
    fetched(job.node, slot);
    if (current(job)) offer(std::move(job));
  }
}

// What a node's copies are after one of its pulls has ended: whole, on their way, or not to come.
void World::settle_copies(std::uint32_t node) {
  std::vector<ImageId> over;
  const auto& known = machines_->node(nodes_[node].machine).cache().state().images;
  for (auto at = copies_.lower_bound({node, ImageId{}});
       at != copies_.end() && at->first.first == node; ++at) {
    const auto image = known.find(at->first.second);
    if (image == known.end() || image->second.missing == 0) over.push_back(at->first.second);
  }
  for (const ImageId image : over) {
    offer_waiting(node, image);
    copies_.erase({node, image});
  }
}

// Who was getting something from this node, or waits for it, notices after a while.
void World::stop_serving(std::uint32_t node) {
  std::vector<std::uint64_t> broken;
  const auto served = served_.find(node);
  if (served != served_.end()) {
    for (const std::uint64_t slot : served->second) {
      model_->cancel(slot, now_);
      broken.push_back(slot);
    }
    served_.erase(served);
  }
  auto at = copies_.lower_bound({node, ImageId{}});
  while (at != copies_.end() && at->first.first == node) {
    broken.insert(broken.end(), at->second.waiting.begin(), at->second.waiting.end());
    at = copies_.erase(at);
  }
  for (const std::uint64_t slot : broken) break_off(slot);
}

void World::break_off(std::uint64_t slot) {
  Job job = jobs_.take(slot);
  fetched(job.node, slot);
  break_off(std::move(job));
}

void World::break_off(Job&& job) {
  job.good = false;
  job.peer = 0;
  job.part = Job::Part::unpack;
  queue_.push(kHeap, now_ + kBrokenAfter, kJobDone, 0, jobs_.put(std::move(job)));
}

// Whether who asked for it is still there to get it.
bool World::current(const Job& job) const {
  const TrueNode& node = nodes_[job.node];
  return node.up && node.epoch == job.epoch && node.agent == job.agent;
}

}  // namespace chalk::sim
