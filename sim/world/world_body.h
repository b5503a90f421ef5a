// The body of one run; private to sim/world. world.h says what it is for.
//
// world.cc has the loop and the road of calls, world_control.cc, world_node.cc what the machines
// order, world_pulls.cc how images travel, world_faults.cc what goes wrong.
#pragma once
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/core/slot_table.h"
#include "sim/check/truth.h"
#include "sim/world/world.h"

namespace chalk::sim {

// What a queue entry means. `index` and `detail` are given with each.
enum Kind : std::uint32_t {
  kControlWake,
  kGatewayWake,  // index: gateway
  kNodeWake,     // index: node
  kToControl,    // index: the node that sent it, detail: slot in control_mail_
  kToGateway,    // index: gateway, detail: slot in gateway_mail_
  kToNode,       // index: node, detail: slot in node_mail_
  kCallDone,     // detail: RequestId
  kJobDone,      // detail: slot in jobs_
  kBoot,         // index: node
  kAgentBack,    // index: node, detail: which agent
  kAskAgain,     // detail: AskId; its client has no answer yet
  kFaultBegins,  // detail: index of the fault
  kFaultEnds,
  kSample,
  kReclaimNoticed,  // index: node, detail: its epoch
  kReclaimed        // the same
};

// Lanes of the queue: streams whose times only grow.
enum Lane : int { kHeap = -1, kMessageLane = 0, kNodeWakeLane = 1, kSampleLane = 2, kCallLane = 3 };

using AskId = Id<struct AskTag>;

struct Call {
  Time arrived;
  Time dispatched = kNever;
  Duration service;
  std::uint32_t client = kNoClient;
  std::uint32_t gateway = 0;
  std::uint32_t caller = 0;  // index of a tenant
  GroupId group;
  functions::ReplicaSlot replica;
  SandboxId sandbox;  // the replica's
};

struct Ask {  // a bare sandbox that the workload asked for
  Time arrived;
  Duration service;
  std::uint32_t client = kNoClient;
  bool ran = false;
  bool answered = false;
  Time ran_since = kNever;  // for the first time
  SandboxAsk asked;
  Gang gang;
};

// Work of the world for one node that takes time.
struct Job {
  enum class What : std::uint8_t {
    start, pull, kill, scrub, exit, start_work, call, save, upload, shell
  };
  What what = What::start;
  std::uint32_t node = 0;
  std::uint32_t epoch = 0;
  std::uint32_t agent = 0;  // the process that waits for it
  SandboxId sandbox;
  Time ordered;  // start, exit, kill: which life of it; kNever: it had none
  images::PullId pull;
  // pull: which part of it is under way. A whole one, or in chunks; unpacking comes last.
  enum class Part : std::uint8_t { first, middle, last, whole, unpack };
  Part part = Part::unpack;
  std::uint32_t peer = 0;  // the node that sends it, from 1; 0: the registry
  ImageId image;
  std::int64_t bytes = 0;
  std::int64_t unpacked_bytes = 0;
  RequestId request;
  Duration then;  // start_work: how long `after` goes on after it
  What after = What::start;
  SnapshotId snapshot;  // save, upload
  bool good = true;
};

// What of an image is on a node that is getting it, for those who get it from there.
struct Copy {
  bool begun = false;  // its first chunk
  bool all = false;
  std::vector<std::uint64_t> waiting;  // slots of jobs
};

// Storage with reusable slots for what travels. What lies in a slot stays where it is until freed.
template <class T>
class Mail {
 public:
  std::uint64_t put(T&& item) {
    if (free_.empty()) {
      items_.push_back(std::move(item));
      return items_.size() - 1;
    }
    const std::uint64_t slot = free_.back();
    free_.pop_back();
    items_[slot] = std::move(item);
    return slot;
  }
  const T& operator[](std::uint64_t slot) const { return items_[slot]; }
  void free(std::uint64_t slot) { free_.push_back(slot); }
  T take(std::uint64_t slot) {
    free_.push_back(slot);
    return std::move(items_[slot]);
  }

 private:
  std::deque<T> items_;
  std::vector<std::uint64_t> free_;
};

class World {
 public:
  World(const Setup& setup, const RunOptions& options);
  virtual ~World() = default;
  Result run();

 private:
  friend class NodeArm;  // tests/conformance: obeys a node's orders and shows what answers them
  // ---- world.cc
  void deploy();
  void register_first_nodes();
  void loop();
  void take(const Scheduled& entry);
  void fetch_ahead();
  void arrive(const Arrival& arrival);
  void ask_control(AskId ask);
  std::uint32_t our_gpu_models(std::uint32_t theirs) const;
  void call_done(RequestId request);
  void finish_call(RequestId request, const char* refusal);
  void end_arrivals();
  bool done() const;
  std::size_t at_work() const;
  void step_control(const control::Event& event);
  void step_gateway(std::uint32_t gateway, const gateway::Event& event);
  virtual void step_node(std::uint32_t node, const node::Event& event);
  void sample();
  void tell_progress(bool last);
  Result result();

  // ---- gateway's orders
  void obey(std::uint32_t gateway, const functions::Dispatch&);
  void obey(std::uint32_t gateway, const functions::RefuseRequest&);
  void obey(std::uint32_t gateway, const functions::AbortReplica&);
  void obey(std::uint32_t gateway, const gateway::ToControl&);
  void obey(std::uint32_t gateway, const WakeAt&);

  // ---- world_control.cc: control's orders
  void obey(const control::ToNode&);
  void obey(const control::ToGateway&);
  void obey(const control::UnknownNode&);
  void obey(const fleet::WelcomeNode&);
  void obey(const fleet::BuyNode&);
  void obey(const fleet::ReleaseNode&);
  void obey(const fleet::CancelPurchase&);
  void take_away(std::uint32_t node);
  void obey(const sandbox::Accepted&);
  void obey(const sandbox::Refused&);
  void obey(const sandbox::Running&);
  void obey(const sandbox::Restarted&);
  void obey(const sandbox::Gone&);
  void obey(const WakeAt&);

  // ---- world_node.cc: nodes' orders
  void obey(std::uint32_t node, const node::Register&);
  void obey(std::uint32_t node, const node::ToControl&);
  void obey(std::uint32_t node, const node::StartSandbox&);
  void obey(std::uint32_t node, const node::KillSandbox&);
  void obey(std::uint32_t node, const node::Scrub&);
  void obey(std::uint32_t node, const node::SaveSnapshot&);
  void obey(std::uint32_t node, const node::MakeShell&);
  void obey(std::uint32_t node, const images::PullLayers&);
  void obey(std::uint32_t node, const images::CancelPull&);
  void obey(std::uint32_t node, const images::EvictLayers&);
  void obey_node_wake(std::uint32_t node, const WakeAt&);
  std::uint32_t add_node(std::uint32_t pool, std::uint32_t zone, std::uint64_t purchase);
  std::uint32_t take_host(std::uint32_t pool, std::uint32_t zone);
  void leave_host(std::uint32_t node);
  void boot(std::uint32_t node);
  void job_done(std::uint64_t slot, bool cut_off = false);
  Duration start_takes(const node::StartSandbox&);
  void work(Job&& job, Duration then, std::int64_t cpu_millicores);
  void start_done(const Job& job);
  void saved(const Job& job);
  bool fails(Fault::Kind kind, std::uint32_t node);
  void exited(const Job& job);
  void end_live(std::uint32_t node, SandboxId sandbox);

  // ---- world_pulls.cc
  void ask_peer(Job&& job, NodeId source);
  void offer(Job&& job);
  void transfer(Job&& job);
  void stop_fetching(std::uint32_t node, std::uint64_t slot);
  void stop_all_fetching(std::uint32_t node);
  void fetched(std::uint32_t node, std::uint64_t slot);
  void part_done(Job&& job);
  void stop_waiting(std::uint32_t node, ImageId image);
  void offer_waiting(std::uint32_t node, ImageId image);
  void settle_copies(std::uint32_t node);
  void stop_serving(std::uint32_t node);
  void break_off(Job&& job);
  void break_off(std::uint64_t slot);
  bool current(const Job& job) const;

  // ---- world_faults.cc
  struct Travel {  // what the network does with one message
    bool lost = false;
    bool twice = false;
    Duration later;
  };
  Travel travel(bool heartbeat);
  void post_control(control::Event&& event, bool heartbeat, std::uint32_t sender);
  bool asked_again(const Fault& fault) const;
  void fault_begins(std::size_t index);
  void fault_ends(std::size_t index);
  void set_registries();
  void crash(std::uint32_t node);
  void plan_reclaim(std::uint32_t node);
  void reclaim_noticed(std::uint32_t node);
  void reclaimed(std::uint32_t node);
  void agent_goes(std::uint32_t node);
  void agent_returns(std::uint32_t node);
  std::vector<std::uint32_t> struck(const Fault& fault);
  Job job_of(Job::What what, std::uint32_t node) const;
  std::int32_t permille_of(Fault::Kind kind, std::uint32_t node) const;
  const Fault* strikes(Fault::Kind kind, std::uint32_t pool, std::uint32_t zone);
  void journal(const control::Event& event);
  void restore_control();

  const Setup& setup_;
  const RunOptions& options_;
  std::unique_ptr<Source> source_;
  std::unique_ptr<LogWriter> log_;
  std::unique_ptr<ResourceModel> model_;
  std::optional<Machines> machines_;
  std::optional<Checker> checker_;
  Measure measure_;
  Queue queue_;
  Truth truth_;
  std::vector<TrueNode> nodes_;
  std::vector<std::vector<std::uint32_t>> spare_hosts_;  // by pool; no node that is up has them
  std::vector<std::uint32_t> last_host_;                 // by pool
  std::vector<std::uint32_t> zone_of_host_;
  std::vector<std::uint32_t> hosts_used_;                // by host: by how many nodes that are up
  std::vector<std::uint32_t> node_of_slot_;              // NodeId's slot -> world's node
  SlotTable<RequestId, Call> calls_;
  SlotTable<AskId, Ask> asks_;
  std::vector<std::pair<SandboxId, AskId>> ask_of_;  // by the slot of the SandboxId
  Mail<control::Event> control_mail_;
  Mail<gateway::Event> gateway_mail_;
  Mail<node::Event> node_mail_;
  Mail<Job> jobs_;
  std::map<std::pair<std::uint32_t, ImageId>, Copy> copies_;    // of nodes that are getting them
  std::map<std::uint32_t, std::set<std::uint64_t>> served_;     // jobs by the node that sends
  std::map<std::uint32_t, std::set<std::uint64_t>> fetching_;   // by the node that gets or waits
  std::vector<Time> gateway_wakes_;
  std::vector<std::uint32_t> gateway_of_;  // by function
  Time control_wake_ = kNever;
  Distribution start_;
  Distribution shell_start_;
  Distribution start_work_;
  struct StartOfGroup {
    bool has_init = false;
    Distribution init;
    std::int64_t snapshot_bytes = 0;
  };
  std::vector<StartOfGroup> start_of_group_;       // by function
  std::map<SnapshotId, MachineKind> saved_on_;  // of what was really saved: on which kind of machine
  std::vector<Distribution> boots_;
  Random random_;
  std::uint64_t gangs_ = 0;  // that arrived
  std::vector<bool> fault_active_;
  // Of start_failure on some nodes: on which. None: nothing was up.
  std::vector<std::optional<std::vector<std::uint32_t>>> fault_nodes_;
  int faults_active_ = 0;
  Duration latency_;  // of a message, one way; none while the world is being built
  bool control_down_ = false;
  std::uint32_t sender_ = 0;  // the node whose message control is stepping
  std::string control_checkpoint_;
  std::vector<std::pair<Time, std::string>> control_journal_;
  bool keep_journal_ = false;

  Time now_;
  bool accepting_ = true;
  Time arrivals_ended_ = kNever;
  std::uint64_t arrivals_ = 0;
  std::uint64_t next_checkpoint_ = 0;
  bool interrupted_ = false;
  bool step_is_order_ = false;  // the node is stepping an order of control
  std::uint64_t samples_ = 0;
  std::uint64_t turns_ = 0;
  std::uint64_t fetched_ = ~0ULL;  // sequence of the entry that fetch_ahead works on
  int fetch_stage_ = 0;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point told_;
  std::vector<control::Effect> control_effects_;
  std::vector<gateway::Effect> gateway_effects_;
  std::vector<node::Effect> node_effects_;
};

}  // namespace chalk::sim
