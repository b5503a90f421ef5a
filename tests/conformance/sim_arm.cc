// The simulated arm: the world's own interpreter of a node's orders, with its jobs, its queue, its
// SimGrid pulls and its faults. Only the machine is the test's: what the world would step it with is
// shown instead.
#include <deque>

#include "sim/world/world_body.h"
#include "tests/conformance/arm.h"

namespace chalk::sim {
namespace {

class Nothing : public Source {  // arrives
 public:
  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return nullptr; }
  void pop() override {}
  bool exhausted() const override { return true; }
  double progress() const override { return 1; }

 private:
  Catalogue catalogue_;
};

constexpr std::size_t kStartFails = 0, kPullFails = 1, kSlow = 2;  // among the faults

Setup one_node() {
  Setup setup;
  setup.name = "conformance";
  setup.zones.push_back({.name = "zone"});
  Pool pool;
  pool.name = "pool";
  pool.zones = {0};
  pool.nodes_min = pool.nodes_max = 1;
  pool.shape.cpu_millicores = 16'000;
  pool.shape.memory_bytes = 64LL << 30;
  pool.shape.disk_bytes = 64LL << 30;
  setup.pools.push_back(pool);
  setup.images.push_back({.name = "image", .layers = {{"layer", 50 << 20, 100 << 20}}});
  setup.start = {Delay::Kind::constant, milliseconds(300), 0};
  for (const auto kind : {Fault::Kind::start_failure, Fault::Kind::pull_failure,
                          Fault::Kind::slow_registry}) {
    Fault fault;
    fault.kind = kind;
    fault.from = Time{seconds(1'000'000'000).nanos};  // when the test says
    fault.permille = kind == Fault::Kind::slow_registry ? 1 : 1000;
    setup.faults.push_back(fault);
  }
  setup.open_workload = [](std::uint64_t) { return std::make_unique<Nothing>(); };
  return setup;
}

struct Kept {  // before the world, which refers to it
  Setup setup = one_node();
  RunOptions options;
  Kept() { options.check = false; }
};

}  // namespace

class NodeArm : private Kept, private World, public conformance::Arm {
 public:
  NodeArm() : World(setup, options) {
    deploy();
    shown_.clear();  // that it booted
  }

  StartOrder order(std::uint64_t number, conformance::Program program) override {
    StartOrder order;
    order.sandbox = {number};
    order.owner = {1};
    order.resources.cpu_millicores = 500;
    order.resources.memory_bytes = 512LL << 20;
    order.image.image = {1};
    order.image.layers = {{{1}, 50 << 20, 100 << 20}};
    programs_[order.sandbox] = program;
    return order;
  }

  void obey(const node::Effect& effect) override {
    if (const auto* start = std::get_if<node::StartSandbox>(&effect)) {
      const bool fails =
          programs_[start->order.sandbox] == conformance::Program::cannot_start;
      if (fails) fault_begins(kStartFails);
      World::obey(0, *start);
      if (fails) fault_ends(kStartFails);
    } else if (const auto* kill = std::get_if<node::KillSandbox>(&effect)) {
      World::obey(0, *kill);
    } else if (const auto* pull = std::get_if<images::PullLayers>(&effect)) {
      World::obey(0, *pull);
    } else if (const auto* cancel = std::get_if<images::CancelPull>(&effect)) {
      World::obey(0, *cancel);
    } else if (const auto* evict = std::get_if<images::EvictLayers>(&effect)) {
      World::obey(0, *evict);
    } else if (const auto* scrub = std::get_if<node::Scrub>(&effect)) {
      World::obey(0, *scrub);
    }
  }

  // The world's loop, without arrivals and checkpoints.
  std::optional<node::Event> next(Duration wait) override {
    const Time until = now_ + wait;
    while (shown_.empty()) {
      const Time first = std::min(queue_.next(), until);
      if (model_ && model_->pending() != 0) {
        if (const auto completion = model_->advance(first)) {
          now_ = std::max(now_, completion->at);
          job_done(completion->activity);
          continue;
        }
      }
      now_ = std::max(now_, first);
      if (queue_.next() > until) return std::nullopt;
      take(queue_.pop());
    }
    node::Event event = std::move(shown_.front());
    shown_.pop_front();
    return event;
  }
  Time now() override { return now_; }

  void break_registry(bool broken) override {
    if (broken) fault_begins(kPullFails);
    if (!broken) fault_ends(kPullFails);
  }
  void slow_registry(bool slow) override {
    if (slow) fault_begins(kSlow);
    if (!slow) fault_ends(kSlow);
  }
  void end(SandboxId sandbox) override {
    job_done(jobs_.put(exit_of(sandbox)));
  }
  // What nobody has read was in no log: a start is taken away, an end is found again.
  void agent_goes() override {
    World::agent_goes(0);
    for (const node::Event& event : std::exchange(shown_, {})) {
      if (const auto* started = std::get_if<node::SandboxStarted>(&event)) {
        end_live(0, started->sandbox);
      } else if (const auto* exited = std::get_if<node::SandboxExited>(&event)) {
        nodes_[0].exited.push_back(exited->sandbox);
      }
    }
  }
  void agent_returns(const node::State&) override { World::agent_returns(0); }

  std::set<SandboxId> living() override { return {nodes_[0].live.begin(), nodes_[0].live.end()}; }

 private:
  void step_node(std::uint32_t, const node::Event& event) override {
    shown_.push_back(event);
    const auto* started = std::get_if<node::SandboxStarted>(&event);
    if (started == nullptr || !started->good) return;
    if (programs_[started->sandbox] != conformance::Program::ends) return;
    queue_.push(kHeap, now_ + milliseconds(1), kJobDone, 0, jobs_.put(exit_of(started->sandbox)));
  }
  // As for a sandbox whose owner's work ends.
  Job exit_of(SandboxId sandbox) {
    Job exit = job_of(Job::What::exit, 0);
    exit.sandbox = sandbox;
    if (const LiveSandbox* live = truth_.find(0, sandbox)) exit.ordered = live->ordered;
    return exit;
  }

  std::deque<node::Event> shown_;
  std::map<SandboxId, conformance::Program> programs_;
};

}  // namespace chalk::sim

namespace chalk::conformance {

Made simulated_arm() { return {std::make_unique<sim::NodeArm>(), {}}; }

}  // namespace chalk::conformance
